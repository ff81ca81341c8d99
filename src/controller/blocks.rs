//! The blocks of snapshots, which their nodes' agents tell.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::api::pool::PoolAgent;
use crate::controller::backend::Controller;
use crate::controller::entry::SnapshotEntry;
use crate::controller::snapshots::no_snapshot;
use crate::csi::backend::{BlocksWish, ChangedBlocks, Deadline, Error, Result};
use crate::csi::remote::{AgentAddress, Remote, RemoteParts};
use crate::report::Class;

/// The agents, each found by the objects of its node.
pub(super) struct Agents {
    controller: Arc<Controller>,
    token: PathBuf,
}

impl Agents {
    /// To be asked with the token in a file, which is replaced from time to time.
    pub(super) fn new(controller: Arc<Controller>, token: PathBuf) -> Self {
        Self { controller, token }
    }

    async fn snapshot(&self, id: &str) -> Result<Arc<SnapshotEntry>> {
        let known = self.controller.snapshot(id).await?;
        if known.told().is_some() { Ok(known) } else { Err(no_snapshot(id)) }
    }

    /// The agent that can read a snapshot.
    fn agent_of(&self, snapshot: &SnapshotEntry) -> Result<AgentAddress> {
        let SnapshotEntry { node, pool, .. } = snapshot;
        let entry = self.controller.cache.pools.first(|entry| entry.node == *node && entry.pool == *pool);
        let agent = entry.and_then(|entry| entry.agent.clone());
        let PoolAgent { address, certificate } = agent.ok_or_else(|| {
            let message = format!("the agent on node {node} does not tell the blocks of snapshots (yet)");
            Error::precondition(message)
        })?;
        let address: SocketAddr = address.parse().map_err(|_| {
            let message = format!("the agent on node {node} says that it is at {address:?}");
            Error::new(Class::Internal, message)
        })?;
        Ok(AgentAddress { address, certificate })
    }

    /// The token, as it is now.
    fn token(&self) -> Result<String> {
        std::fs::read_to_string(&self.token).map_err(|error| {
            let message = format!("read the token for agents in {}: {error}", self.token.display());
            Error::new(Class::Transient, message)
        })
    }
}

impl ChangedBlocks for Agents {
    type Parts = RemoteParts;

    async fn blocks(&self, wish: &BlocksWish, deadline: Deadline) -> Result<RemoteParts> {
        self.controller.look().await?;
        let snapshot = self.snapshot(&wish.snapshot).await?;
        if let Some(base) = &wish.base
            && self.snapshot(base).await?.volume != snapshot.volume
        {
            let message = format!("snapshots {base} and {} are not of one volume", wish.snapshot);
            return Err(Error::invalid(message));
        }
        let agent = self.agent_of(&snapshot)?;
        // A connection for each call: they are rare, and long.
        Remote::connect(&snapshot.node, &agent, &self.token()?).await?.blocks(wish, deadline).await
    }
}
