//! The agent of a node: CSI's Node service for kubelet, and what the custom resources ask for, done on the node's disks.
//!
//! ```text
//! start:  sockets ─ pools opened, recovered, volumes active ─ CSI served ─ lease ─ objects watched
//! run:    kubelet ─ csi ─ pools ──────────────┐
//!         API server ─ watch ─ agenda ─ agent ┴─ engines          /metrics ─ observer ─ engines
//!         controller ─ TLS ─ door ─ pools ─ engines
//!                                └─► work on disks, status, events
//! stop:   no new calls ─ calls, work and writes that run end ─ lease let go
//! ```
//!
//! What to do is decided by values that do nothing ([`decide`], [`agenda`], [`pace`], [`tell`]); [`agent`] does it.
//!
//! Invariants:
//! - The disks are the truth. Volumes are staged and published while the API server is away ([`pools`]).
//! - Data is destroyed only where `spec.delete` is set; what is on the disks and has no object gets one ([`decide`]).
//! - One agent writes to a node's objects ([`claim`]).
//! - A status is written when it has changed, and never twice ([`shelf`], [`pace`]).

pub mod agenda;
pub mod agent;
pub mod claim;
pub mod decide;
mod door;
pub mod file;
pub mod look;
pub mod notice;
mod observer;
pub mod open;
pub mod pace;
pub mod pools;
pub mod records;
pub mod shelf;
pub mod tell;
pub mod wish;
pub mod work;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::pool::PoolAgent;
use crate::csi::calls::Calls;
use crate::csi::node::mounts::Mounts;
use crate::csi::remote::{self, AgentAddress, Listener};
use crate::csi::server::{Endpoint, Services};
use crate::engine::{self, Settings};
use crate::host::Host;
use crate::ids::VgName;
use crate::metrics::Operations;
use crate::node::agenda::Agenda;
use crate::node::agent::{PULSE, Shared};
use crate::node::claim::Claim;
use crate::node::notice::NoticedMounts;
use crate::node::pools::Pools;
use crate::node::wish::PoolWish;
use crate::report::{self, Class};
use crate::serve::{self, Sockets};

/// How long work and writes that run may take to end after the last call. What is cut short then is what a crash is: the
/// next start finishes or undoes it.
const LAST_WORK: Duration = Duration::from_secs(4);

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// Who this is: other than on another machine of that name, and the same after a restart.
    pub identity: String,
    /// The CSI socket.
    pub endpoint: Endpoint,
    /// The file of pools, if there is one.
    pub pools: Option<PathBuf>,
    /// Of the engines.
    pub settings: Settings,
    /// Where metrics are shown, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Where the controller is told the blocks of snapshots, if it is.
    pub blocks: Option<BlocksConfig>,
}

/// Where the controller is told the blocks of snapshots.
#[derive(Clone, Debug)]
pub struct BlocksConfig {
    /// Where to listen; the controller connects there.
    pub address: SocketAddr,
    /// The controller's user: `system:serviceaccount:NAMESPACE:NAME`.
    pub controller: String,
}

/// Why it stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of pools.
    #[error("know the pools")]
    Pools(#[source] file::Error),
    /// What the controller is told.
    #[error("tell the blocks of snapshots")]
    Blocks(#[source] remote::Error),
    /// The process and its sockets.
    #[error(transparent)]
    Serve(#[from] serve::Error),
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Pools(error) => error.class(),
            Self::Blocks(error) => error.class(),
            Self::Serve(error) => error.class(),
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start, or a server failed.
pub async fn run<H: Host + Clone + 'static>(
    config: Config,
    host: H,
    mounts: impl Mounts,
    client: Client,
) -> Result<(), Error> {
    serve::until_signal(|stop| serve(config, host, mounts, client, stop)).await
}

/// Serves until `stop` is cancelled.
///
/// # Errors
/// It could not start, or a server failed.
pub async fn serve<H: Host + Clone + 'static>(
    config: Config,
    host: H,
    mounts: impl Mounts,
    client: Client,
    stop: CancellationToken,
) -> Result<(), Error> {
    let Config { node, identity, endpoint, pools, settings, metrics, blocks } = config;
    let file =
        pools.map(|path| file::read(&path, &node)).transpose().map_err(Error::Pools)?.unwrap_or_default();
    let mut sockets = Sockets::bind(endpoint, metrics).await?;
    let blocks = match blocks {
        None => None,
        Some(of) => Some((Listener::bind(of.address).await.map_err(Error::Blocks)?, of.controller)),
    };
    let agent = blocks.as_ref().map(|(listener, _)| told(listener.address()));
    let mounted = Arc::new(Notify::new());
    let shared = Arc::new(Shared {
        opening: tokio::sync::Mutex::default(),
        pools: Arc::new(Pools::new(node.clone())),
        mounts: Arc::new(NoticedMounts::new(mounts, Arc::clone(&mounted))),
        node: node.clone(),
        host,
        settings,
        operations: Operations::default(),
        mounted,
        background: Mutex::default(),
        alive: Mutex::new(Instant::now()),
    });
    sockets.show(observer::Observer::new(Arc::clone(&shared)), &stop);
    let ours = volume_groups(&shared).await;
    let others = ours.iter().filter(|vg| !file.iter().any(|wish| wish.volume_group == **vg));
    let wishes: Vec<PoolWish> = file.iter().cloned().chain(others.cloned().map(PoolWish::existing)).collect();
    open_pools(&shared, &wishes, &stop).await;

    let claim = Claim::new(client.clone(), &node, identity);
    let agenda = {
        let node = node.clone();
        move || Agenda::new(node.clone(), file.clone(), ours.clone(), agent.clone())
    };
    let calls = Calls::new(shared.operations.clone());
    let telling = blocks.map(|(listener, controller)| {
        let door = door::Door::new(client.clone(), controller);
        let (pools, calls) = (Arc::clone(&shared.pools), Arc::clone(&calls));
        tokio::spawn(remote::serve(listener, pools, calls, door, stop.clone()))
    });
    let reconciled = reconcile(Arc::clone(&shared), client, claim, agenda, wishes, stop.clone());
    let reconciled = tokio::spawn(reconciled);
    let services = Services::new(calls);
    let services = services.node(Arc::clone(&shared.pools), Arc::clone(&shared.mounts), node);
    let served = sockets.serve(services, &stop).await;
    let ended = async {
        let reconciled = reconciled.await;
        shared.background_ended().await;
        reconciled
    };
    match tokio::time::timeout(LAST_WORK, ended).await {
        Ok(reconciled) => serve::joined(reconciled)?,
        Err(_) => tracing::warn!("work still runs: it is left to the next start"),
    }
    if let Some(telling) = telling {
        serve::joined(telling.await)?.map_err(Error::Blocks)?;
    }
    tracing::info!("stopped");
    Ok(served?)
}

/// What the controller is told in the objects.
fn told(agent: AgentAddress) -> PoolAgent {
    PoolAgent { address: agent.address.to_string(), certificate: agent.certificate }
}

/// Groups on the disks that hold volumes of ours, whoever names them.
async fn volume_groups<H: Host + Clone + 'static, M: Mounts>(shared: &Shared<H, M>) -> BTreeSet<VgName> {
    let host = shared.host.clone();
    let why = match tokio::task::spawn_blocking(move || engine::pool::ours(&host)).await {
        Ok(Ok(ours)) => return ours.into_iter().collect(),
        Ok(Err(error)) => report::chain(&error),
        Err(panic) => panic.to_string(),
    };
    tracing::error!("the disks cannot be searched for volume groups: {why}");
    BTreeSet::new()
}

/// Opens those pools that are not open, whatever the API server says. One that cannot be opened is tried again later.
async fn open_pools<H: Host + Clone + 'static, M: Mounts>(
    shared: &Shared<H, M>,
    wishes: &[PoolWish],
    stop: &CancellationToken,
) {
    for wish in wishes {
        let pool = &wish.volume_group;
        if shared.pools.get(pool).is_none()
            && let Err(error) = shared.open(wish, stop).await
        {
            tracing::error!(%pool, error.class = error.class.as_str(), "the pool is not as it should be: {error}");
        }
    }
}

/// Reconciles while the lease is held, and goes back to waiting for it when it is lost. Pools that are not open are tried
/// meanwhile.
async fn reconcile<H: Host + Clone + 'static, M: Mounts>(
    shared: Arc<Shared<H, M>>,
    client: Client,
    claim: Claim,
    agenda: impl Fn() -> Agenda,
    wishes: Vec<PoolWish>,
    stop: CancellationToken,
) {
    loop {
        let held = async {
            let mut acquired = std::pin::pin!(claim.acquire());
            while tokio::time::timeout(PULSE, &mut acquired).await.is_err() {
                shared.beat();
                open_pools(&shared, &wishes, &stop).await;
            }
        };
        tokio::select! { () = stop.cancelled() => return, () = held => {} }
        tracing::info!(node = shared.node, "this agent looks after the node's objects");
        let lost = stop.child_token();
        let mut run = std::pin::pin!(agent::run(
            Arc::clone(&shared),
            client.clone(),
            agenda(),
            lost.clone(),
            stop.clone()
        ));
        tokio::select! {
            () = &mut run => {
                claim.release().await;
                return;
            }
            () = claim.keep() => lost.cancel(),
        }
        run.await;
    }
}
