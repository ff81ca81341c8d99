//! The custom resources: what `kubectl get splitmirror` shows, and how controller and node agents talk to each other, but for the
//! blocks of snapshots: those would be far too many.
//!
//! ```text
//!            spec                               status
//! controller ────► MirrorVolume, MirrorSnapshot ◄──── the agent of spec.node
//! users      ────► MirrorPool                   ◄──── the agent of spec.node
//! users      ────► VolumeRollback               ◄──── controller
//! ```
//!
//! They are bookkeeping: the truth is on the disks. An object that is gone is made again from them by its node; data is
//! destroyed only after `spec.delete` was set.
//!
//! Invariants:
//! - One writer per field. Who writes applies server-side as [`CONTROLLER`] or [`NODE`], and only what has changed.
//! - The schema admits only what these types can read: one bad object would blind every reader of its list.
//! - What was decided once (node, pool, names, images) is immutable; `delete` is never taken back.
//!
//! **Sources**: Kubernetes API conventions; CustomResourceDefinition `apiextensions.k8s.io/v1`.

#![allow(
    clippy::duplicated_attributes,
    reason = "each printed column has a name, a type and a path of its own"
)]

pub mod client;
pub mod conditions;
pub mod crd;
pub mod external;
pub mod names;
pub mod pool;
pub mod quantity;
pub mod rollback;
mod schema;
pub mod snapshot;
pub mod subject;
pub mod volume;
pub mod watch;

#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use pool::{MirrorPool, MirrorPoolSpec, MirrorPoolStatus};
pub use quantity::{Percent, Size};
pub use rollback::{VolumeRollback, VolumeRollbackSpec, VolumeRollbackStatus};
pub use snapshot::{MirrorSnapshot, MirrorSnapshotSpec, MirrorSnapshotStatus};
pub use volume::{MirrorVolume, MirrorVolumeSpec, MirrorVolumeStatus};

/// The group of all our resources.
pub const GROUP: &str = "splitmirror.io";
/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// Field manager of the controller.
pub const CONTROLLER: &str = "splitmirror-controller";
/// Field manager of the node agents.
pub const NODE: &str = "splitmirror-node";

/// Selects a node's objects in lists and watches: `spec.node=NAME`.
pub const NODE_FIELD: &str = "spec.node";

/// A namespaced object that a user looks at: a PersistentVolumeClaim or a VolumeSnapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reference {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
