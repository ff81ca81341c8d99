//! The contract between xtask and who uses the bed: `tests/cluster`, the demo, `cargo xtask cluster run`.
//!
//! # The description
//!
//! The bed is held by a process of its own, in a network namespace of its own. When it is up there is a JSON file, a
//! [`Description`]; the environment of what runs in the bed has its path:
//!
//! | variable | value |
//! |---|---|
//! | `SPLITMIRROR_BED` | the description's path |
//! | `KUBECONFIG` | an administrator's |
//! | `KUBECACHEDIR` | a directory of the bed's own |
//! | `PATH` | `kubectl` and `helm` first |
//!
//! What is started so is in the bed's network namespace: it reaches the API server, the nodes and the pods, and nothing else.
//!
//! # Requests
//!
//! One a connection, on the Unix socket that the description names: a [`Request`] as a line of JSON; a [`Reply`] as another.
//! They are carried out one after the other.
//!
//! ```text
//! {"do":"power-cut","node":1}   kill node 1 as a power cut would
//! {"do":"boot","node":1}        boot it with what is on its disks (the reply does not wait for the kubelet)
//! {"do":"cut","node":1}         take it off the cluster's network; orders still reach it
//! {"do":"heal","node":1}        put it back
//! {"do":"stop-api"}             kill the API server
//! {"do":"start-api"}            start it on the same etcd, and wait until it is ready
//! {"do":"wipe-etcd"}            kill the control plane, throw away all objects, start it with none of them
//! {"do":"restore"}              whatever was done: all nodes run, all are Ready, the API server is there
//! {"do":"import","file":"/…"}   put an image's archive into all nodes; it is where the project's own was when they booted
//! {"do":"console"}              what the guests' consoles have said since the last time
//! {"do":"down"}                 end the bed
//! ```
//!
//! # Orders to a node
//!
//! See [`super::orders`]: any command, in the node's guest, at the address that the description gives for it.
//!
//! # Test binaries
//!
//! `BINARY --list` on the host prints one scenario per line: a name and perhaps `timeout=SECONDS` ([`crate::contract`] has the
//! rest). `BINARY --cluster NAME…` in the bed runs them in this order and prints `@@RUN`, `@@PASS`, `@@FAIL`, `@@SKIP` as in
//! [`crate::contract`]. `SPLITMIRROR_BIN` is the program of the same build, and its directory has all others. **Each restores the bed before it starts**, and uses a namespace of its own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Names the description.
pub const VARIABLE: &str = "SPLITMIRROR_BED";

/// What a bed is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Description {
    /// Who holds it.
    pub pid: u32,
    /// An administrator's.
    pub kubeconfig: PathBuf,
    /// The directory of `kubectl` and `helm`.
    pub clients: PathBuf,
    /// For `KUBECACHEDIR`.
    pub kubectl_cache: PathBuf,
    /// Takes requests.
    pub socket: PathBuf,
    /// The nodes' kernel, for example `uml-7.2`.
    pub kernel: String,
    /// All nodes.
    pub nodes: Vec<NodeDescription>,
    /// Container images that every node has.
    pub images: Vec<String>,
    /// What the project's chart must be told here: a file for `helm --values`.
    pub values: PathBuf,
    /// Logs of the control plane.
    pub logs: PathBuf,
}

/// A node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NodeDescription {
    /// In the cluster.
    pub name: String,
    /// In the cluster.
    pub address: String,
    /// Address and port that take orders.
    pub orders: String,
    /// Blank disks, as they are called in the guest.
    pub disks: Vec<String>,
}

/// What may be asked of a bed. Nodes are counted from 1.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Kill a node.
    PowerCut {
        /// Which.
        node: u8,
    },
    /// Boot a node.
    Boot {
        /// Which.
        node: u8,
    },
    /// Take a node off the network.
    Cut {
        /// Which.
        node: u8,
    },
    /// Put a node back.
    Heal {
        /// Which.
        node: u8,
    },
    /// Kill the API server.
    StopApi,
    /// Start the API server.
    StartApi,
    /// Throw away all objects.
    WipeEtcd,
    /// Make everything well.
    Restore,
    /// Put an image into all nodes.
    Import {
        /// An OCI archive that the nodes see.
        file: PathBuf,
    },
    /// Say what the consoles said.
    Console,
    /// End.
    Down,
}

/// The answer to a request.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Reply {
    /// Why it was not done.
    pub error: Option<String>,
    /// To [`Request::Console`]: its lines.
    #[serde(default)]
    pub lines: Vec<String>,
    /// To [`Request::Console`]: those that tell of a fault in a guest kernel.
    #[serde(default)]
    pub trouble: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_contract_says() {
        let read = |text: &str| serde_json::from_str::<Request>(text).unwrap();
        assert_eq!(read(r#"{"do":"power-cut","node":1}"#), Request::PowerCut { node: 1 });
        assert_eq!(read(r#"{"do":"stop-api"}"#), Request::StopApi);
        assert_eq!(read(r#"{"do":"wipe-etcd"}"#), Request::WipeEtcd);
        assert!(serde_json::from_str::<Request>(r#"{"do":"power-cut"}"#).is_err());
    }
}
