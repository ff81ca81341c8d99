//! Standalone: all CSI services for one volume group, without Kubernetes.
//!
//! ```text
//! start:  sockets ─ engine opened ─ recover ─ serve
//! run:    csi ─ backend ─┐
//!         background ────┼─ engine      /metrics ─ observer ─ engine
//! stop:   no new calls ─ calls that run end ─ background ends
//! ```
//!
//! Nothing is kept but what is in the volume group: killed at any point, or started on another machine with the same
//! disks, it goes on where it was.

mod backend;
mod observer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use backend::OnePool;

use crate::csi::backend as ports;
use crate::csi::calls::Calls;
use crate::csi::node::mounts::Mounts;
use crate::csi::server::{Endpoint, Services};
use crate::engine::{self, Engine, Settings};
use crate::host::Host;
use crate::ids::VgName;
use crate::metrics::Operations;
use crate::pool::{Pool, background};
use crate::report::Class;
use crate::serve::{self, Sockets};

/// How long the background work may take to end: it may wait for the volume group's lock, which an admin's tool has.
const LAST_ROUND: Duration = Duration::from_secs(4);

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The volume group.
    pub pool: VgName,
    /// Of the engine.
    pub settings: Settings,
    /// The CSI socket.
    pub endpoint: Endpoint,
    /// The node's name.
    pub node: String,
    /// Where metrics are shown, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// Why it stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pool cannot be used.
    #[error("open pool {pool}")]
    Open {
        /// The pool.
        pool: VgName,
        /// Why.
        source: engine::Error,
    },
    /// The pool cannot be brought to where work can go on.
    #[error("recover pool {pool}")]
    Recover {
        /// The pool.
        pool: VgName,
        /// Why.
        source: ports::Error,
    },
    /// The process.
    #[error(transparent)]
    Serve(#[from] serve::Error),
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Open { source, .. } => source.class(),
            Self::Recover { source, .. } => source.class,
            Self::Serve(error) => error.class(),
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start, or a server failed.
pub async fn run<H: Host + 'static>(config: Config, host: H, mounts: impl Mounts) -> Result<(), Error> {
    serve::until_signal(|stop| serve(config, host, mounts, stop)).await
}

/// Serves until `stop` is cancelled.
///
/// # Errors
/// It could not start, or a server failed.
pub async fn serve<H: Host + 'static>(
    config: Config,
    host: H,
    mounts: impl Mounts,
    stop: CancellationToken,
) -> Result<(), Error> {
    let Config { pool: name, settings, endpoint, node, metrics } = config;
    let mut sockets = Sockets::bind(endpoint, metrics).await?;
    let opened = tokio::task::spawn_blocking({
        let name = name.clone();
        move || Engine::open(host, name, settings)
    });
    let engine = serve::joined(opened.await)?.map_err(|source| Error::Open { pool: name.clone(), source })?;
    let mounts = Arc::new(mounts);
    let pool = Arc::new(Pool::new(engine, Arc::clone(&mounts)));
    let unable = pool.recover().await.map_err(|source| Error::Recover { pool: name.clone(), source })?;
    tracing::info!(pool = %name, node, unable, "the pool is recovered");

    let operations = Operations::default();
    let background = tokio::spawn(background::run(Arc::clone(&pool), stop.clone()));
    sockets.show(observer::Observer::new(Arc::clone(&pool), operations.clone()), &stop);
    let volumes = Arc::new(OnePool::new(node.clone(), pool));
    let services = Services::new(Calls::new(operations))
        .controller(Arc::clone(&volumes))
        .snapshot_metadata(Arc::clone(&volumes))
        .groups(Arc::clone(&volumes))
        .node(volumes, mounts, node);
    let served = sockets.serve(services, &stop).await;
    match tokio::time::timeout(LAST_ROUND, background).await {
        Ok(joined) => serve::joined(joined)?,
        Err(_) => tracing::warn!("merges are still being taken further: they are left to the next start"),
    }
    tracing::info!("stopped");
    Ok(served?)
}
