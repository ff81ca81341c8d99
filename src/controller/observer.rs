//! What `/metrics` and `/healthz` show.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::controller::cache::Cache;
use crate::http::Source;
use crate::metrics::{self, Objects, Operations, Requests};

/// Looks at the cache when it is asked.
pub struct Observer {
    /// What is known.
    pub cache: Arc<Cache>,
    /// Calls that have ended.
    pub operations: Operations,
    /// Requests to the API server.
    pub requests: Requests,
    /// What must go on.
    pub tasks: TaskTracker,
    /// How many that are.
    pub expected: usize,
}

impl Source for Observer {
    fn metrics(&self) -> String {
        let Cache { volumes, snapshots, pools, nodes } = &*self.cache;
        let objects = [
            Objects { kind: "MirrorVolume", count: volumes.len(), lists: volumes.lists() },
            Objects { kind: "MirrorSnapshot", count: snapshots.len(), lists: snapshots.lists() },
            Objects { kind: "MirrorPool", count: pools.len(), lists: pools.lists() },
            Objects { kind: "Node", count: nodes.len(), lists: nodes.lists() },
        ];
        metrics::render_controller(&self.operations, &self.requests, &objects)
    }

    /// An API server that does not answer is no reason to start this process again; a watch that has ended is.
    fn health(&self) -> Result<(), String> {
        let running = self.tasks.len();
        if running >= self.expected {
            return Ok(());
        }
        Err(format!("{} of {} tasks have stopped", self.expected - running, self.expected))
    }
}
