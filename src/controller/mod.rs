//! The controller: CSI's Controller service for all nodes of a cluster, beside the sidecars.
//!
//! ```text
//! sidecars ─► csi ─► backend ─► placement            MirrorVolume, MirrorSnapshot ─► node agents
//!                       │  └──► cluster: create, patch ──►│
//!                       └─────► wait ◄─ shelf ◄── watch ──┘◄─ status
//!                               gone: objects of nodes that do not exist any more
//! backups ─► csi-snapshot-metadata ─► csi ─► blocks ── TLS ─────────────────────────► node agents
//! users ─► VolumeRollback ─► rollbacks ─► MirrorVolume
//! ```
//!
//! Nothing is kept but the objects, so there may be several controllers, and each may be killed at any moment.

pub mod backend;
mod blocks;
pub mod cache;
mod clones;
pub mod cluster;
pub mod entry;
mod gone;
mod groups;
mod observer;
pub mod placement;
mod rollbacks;
pub mod shelf;
mod snapshots;
mod volumes;
pub mod wait;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::controller::backend::Controller;
use crate::controller::blocks::Agents;
use crate::controller::cache::Cache;
use crate::controller::cluster::Cluster;
use crate::csi::calls::Calls;
use crate::csi::server::{Endpoint, Services};
use crate::metrics::{Operations, Requests};
use crate::serve::{Error, Sockets};

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The CSI socket.
    pub endpoint: Endpoint,
    /// Where metrics are shown, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// How long a call waits for a node.
    pub timeout: Duration,
    /// The file with the token that agents are asked with; without one the blocks of snapshots are not served.
    pub agent_token: Option<PathBuf>,
}

/// Serves until `stop` is cancelled. Until all objects are known, callers are told to wait, and calls do.
///
/// # Errors
/// It could not start, or a server failed.
pub async fn serve(config: Config, client: Client, stop: CancellationToken) -> Result<(), Error> {
    let Config { endpoint, metrics, timeout, agent_token } = config;
    let mut sockets = Sockets::bind(endpoint, metrics).await?;
    let (operations, requests, tasks) = (Operations::default(), Requests::default(), TaskTracker::new());
    let cache = Cache::watching(&client, &tasks, &stop);
    let observer = observer::Observer {
        cache: Arc::clone(&cache),
        operations: operations.clone(),
        requests: requests.clone(),
        tasks: tasks.clone(),
        expected: tasks.len(),
    };
    sockets.show(observer, &stop);
    let cluster = Cluster::new(&client, requests);
    let recorder = Recorder::new(client, Reporter::from(api::CONTROLLER));
    let ready = Arc::new(AtomicBool::new(false));
    tasks.spawn(begin(Arc::clone(&cache), cluster.clone(), recorder, Arc::clone(&ready), stop.clone()));
    let controller = Controller::new(cache, cluster, timeout, stop.clone());
    let controller = Arc::new(controller);
    let services = Services::new(Calls::new(operations))
        .ready_when(ready)
        .controller(Arc::clone(&controller))
        .groups(Arc::clone(&controller));
    let services = match agent_token {
        Some(token) => services.snapshot_metadata(Arc::new(Agents::new(controller, token))),
        None => services,
    };
    let served = sockets.serve(services, &stop).await;
    tasks.close();
    tasks.wait().await;
    tracing::info!("stopped");
    served
}

/// What begins when all objects are known.
async fn begin(
    cache: Arc<Cache>,
    cluster: Cluster,
    recorder: Recorder,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = cache.listed() => {}
        () = stop.cancelled() => return,
    }
    let (volumes, snapshots) = (cache.volumes.len(), cache.snapshots.len());
    tracing::info!(volumes, snapshots, "all objects are known");
    ready.store(true, Ordering::Relaxed);
    let rollbacks = rollbacks::run(Arc::clone(&cache), cluster.clone(), stop.clone());
    tokio::join!(gone::run(cache, cluster, recorder, stop), rollbacks);
}
