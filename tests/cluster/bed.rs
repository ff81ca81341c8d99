//! The test bed that scenarios run in: what it is, and what may be done to it.
//!
//! ```text
//! bed.node(2).power_cut()?;  bed.node(2).boot()?;          // as if its power went, and came back
//! bed.node(2).cut()?;        bed.node(2).heal()?;          // off the cluster's network
//! bed.node(2).run(&["dmsetup", "table"])?;                 // in its guest, whatever became of its pods and network
//! bed.stop_api()?;           bed.start_api()?;             // the API server
//! bed.wipe_etcd()?;                                        // every object is gone
//! ```

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Outcome;
use crate::kubectl::Kubectl;
use crate::node::Node;

/// A shell and the usual tools.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// The same, and SQLite.
pub const DATABASE: &str = "localhost/database:1";

/// What a bed says of itself.
#[derive(Deserialize)]
struct Description {
    clients: PathBuf,
    socket: PathBuf,
    nodes: Vec<NodeDescription>,
    images: Vec<String>,
    values: PathBuf,
}

#[derive(Deserialize)]
struct NodeDescription {
    name: String,
    address: String,
    orders: String,
    disks: Vec<String>,
}

/// A bed.
pub struct Bed {
    kubectl: Kubectl,
    requests: Requests,
    nodes: Vec<Node>,
    images: Vec<String>,
    values: PathBuf,
}

/// Where the bed takes requests.
#[derive(Clone)]
pub struct Requests {
    socket: PathBuf,
}

impl Bed {
    /// The one that the environment names.
    pub fn open() -> Outcome<Self> {
        let file = std::env::var("SPLITMIRROR_BED").map_err(|_| "SPLITMIRROR_BED is not set")?;
        let text = std::fs::read(&file).map_err(|error| format!("reading {file}: {error}"))?;
        let bed: Description = serde_json::from_slice(&text).map_err(|error| format!("{file}: {error}"))?;
        let requests = Requests { socket: bed.socket };
        let nodes = (1..)
            .zip(bed.nodes)
            .map(|(number, node)| {
                Node::new(number, node.name, node.address, node.orders, node.disks, requests.clone())
            })
            .collect();
        Ok(Self {
            kubectl: Kubectl::new(&bed.clients),
            requests,
            nodes,
            images: bed.images,
            values: bed.values,
        })
    }

    /// `kubectl`, as an administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node, counted from 1.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// The image of this name, with the version that the nodes have: `csi-provisioner`, `splitmirror`.
    pub fn image(&self, name: &str) -> Outcome<&str> {
        let named = |image: &&String| {
            let rest = image.rsplit('/').next().and_then(|last| last.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with(':'))
        };
        let image = self.images.iter().find(named);
        image.map(String::as_str).ok_or_else(|| format!("no node has an image {name}: {:?}", self.images))
    }

    /// What the project's chart must be told here: which images there are, and the nodes' disks.
    pub fn values(&self) -> &Path {
        &self.values
    }

    /// Kills the API server; etcd and the controllers go on.
    pub fn stop_api(&self) -> Outcome {
        self.requests.ask(&json!({ "do": "stop-api" }))
    }

    /// Starts the API server and waits until it is ready.
    pub fn start_api(&self) -> Outcome {
        self.requests.ask(&json!({ "do": "start-api" }))
    }

    /// Throws away every object; the cluster starts anew, with the nodes and the snapshot controller.
    pub fn wipe_etcd(&self) -> Outcome {
        self.requests.ask(&json!({ "do": "wipe-etcd" }))
    }

    /// Undoes whatever was done: all nodes run and are Ready, the API server is there.
    pub fn restore(&self) -> Outcome {
        self.requests.ask(&json!({ "do": "restore" }))
    }
}

impl Requests {
    /// Has the bed do something, and waits until it is done.
    pub fn ask(&self, request: &Value) -> Outcome {
        #[derive(Deserialize)]
        struct Reply {
            error: Option<String>,
        }
        let failed = |error: std::io::Error| format!("asking the bed for {request}: {error}");
        let mut connection = UnixStream::connect(&self.socket).map_err(failed)?;
        connection.write_all(format!("{request}\n").as_bytes()).map_err(failed)?;
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line).map_err(failed)?;
        let reply: Reply = serde_json::from_str(&line).map_err(|error| format!("{error} in `{line}`"))?;
        reply.error.map_or(Ok(()), |error| Err(format!("{request}: {error}")))
    }
}

/// Asks again and again until there is an answer. For what cannot be watched; objects can ([`Kubectl::wait`]).
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let deadline = Instant::now() + patience;
    loop {
        let seen = look();
        if let Ok(Some(answer)) = seen {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            let last = seen.err().map(|error| format!("; at last: {error}")).unwrap_or_default();
            return Err(format!("not within {patience:?}: {what}{last}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
