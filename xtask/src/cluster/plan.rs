//! Names and addresses in the test bed. All of it lives in a network namespace of its own, so nothing here can be in the
//! way of the machine's networks or of another bed.
//!
//! ```text
//!   control plane 10.77.0.1, service 10.96.0.1 ── bridge nodes  ── tapN ── vec0 of nodeN, 10.77.0.(10+N), pods 10.88.N.0/24
//!   whoever gives orders to nodes    10.78.0.1 ── bridge orders ── ordN ── vec1 of nodeN, 10.78.0.(10+N)
//! ```
//!
//! The second network is for the tests alone: a node that is cut from the first can still be looked into.

use serde::{Deserialize, Serialize};

/// The control plane, as nodes reach it.
pub const CONTROL_PLANE: &str = "10.77.0.1";

/// Who gives orders to nodes.
pub const ORDERS: &str = "10.78.0.1";

/// Cluster addresses of services. There is no kube-proxy: only [`SERVICE`] answers.
pub const SERVICES: &str = "10.96.0.0/16";

/// The API server as pods reach it, the first address of [`SERVICES`].
pub const SERVICE: &str = "10.96.0.1";

/// Bridge of the nodes.
pub const BRIDGE: &str = "nodes";

/// Bridge of the orders.
pub const ORDERS_BRIDGE: &str = "orders";

/// Where a node takes orders.
pub const ORDERS_PORT: u16 = 7000;

/// Disks of a node, besides its root.
pub const DISKS: usize = 4;

/// Of each disk.
pub const DISK_BYTES: u64 = 1 << 30;

/// Memory of a node.
pub const MEM_MIB: u32 = 1024;

/// A node by its number, from 1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeId(pub u8);

impl NodeId {
    /// The first `count` nodes.
    pub fn first(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    /// Its name in the cluster and its host name.
    pub fn name(self) -> String {
        format!("node{}", self.0)
    }

    /// Its address in the cluster.
    pub fn address(self) -> String {
        format!("10.77.0.{}", 10 + self.0)
    }

    /// Where it takes orders.
    pub fn orders(self) -> String {
        format!("10.78.0.{}", 10 + self.0)
    }

    /// Its pods.
    pub fn pods(self) -> String {
        format!("10.88.{}.0/24", self.0)
    }

    /// Its tap device in the cluster.
    pub fn tap(self) -> String {
        format!("tap{}", self.0)
    }

    /// Its tap device for orders.
    pub fn orders_tap(self) -> String {
        format!("ord{}", self.0)
    }
}
