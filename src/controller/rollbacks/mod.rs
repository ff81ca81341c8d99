//! VolumeRollbacks: handed to the nodes as orders in MirrorVolumes, one at a time for each volume, and told what becomes of
//! them. What to do is decided by [`judge`]; what a user has named is found by [`target`].
//!
//! Several controllers may do this at once: an order is only put in the place of another one by a patch of the version that
//! was looked at.

mod judge;
mod target;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::rollback::{RollbackOrder, RollbackPhase};
use crate::api::{Reference, VolumeRollback, watch};
use crate::controller::cache::Cache;
use crate::controller::cluster::Cluster;
use crate::controller::rollbacks::judge::{Facts, Next};
use crate::csi::backend::Result;

/// How often what is not watched is looked at while a rollback waits for it: claims, VolumeSnapshots, the time.
const AGAIN: Duration = Duration::from_secs(5);
/// How long the API server may take.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Takes all rollbacks further whenever something has changed, until `stop` is cancelled.
pub async fn run(cache: Arc<Cache>, cluster: Cluster, stop: CancellationToken) {
    let mut volumes = cache.volumes.changes();
    let events = watch::objects::<VolumeRollback>(&cluster.client, watcher::Config::default());
    let mut events = pin!(events);
    let mut rollbacks = Rollbacks { cache, cluster, known: BTreeMap::new(), listing: None, listed: false };
    loop {
        let waits = rollbacks.known.values().any(|rollback| !is_over(rollback));
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => match event {
                Some(event) => rollbacks.told(event),
                None => return,
            },
            _ = volumes.changed() => {}
            () = tokio::time::sleep(AGAIN), if waits => {}
        }
        if rollbacks.listed {
            rollbacks.take_further().await;
        }
    }
}

/// Namespace and name.
type Key = (String, String);

struct Rollbacks {
    cache: Arc<Cache>,
    cluster: Cluster,
    known: BTreeMap<Key, VolumeRollback>,
    /// Those of the list that is being read.
    listing: Option<BTreeMap<Key, VolumeRollback>>,
    listed: bool,
}

/// Whether nothing more will become of it.
fn is_over(rollback: &VolumeRollback) -> bool {
    let phase = rollback.status.as_ref().map(|status| status.phase);
    matches!(phase, Some(RollbackPhase::Done | RollbackPhase::Failed))
}

impl Rollbacks {
    fn told(&mut self, event: Event<VolumeRollback>) {
        let key = |object: &VolumeRollback| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                drop(self.listing.get_or_insert_default().insert(key(&object), object))
            }
            Event::InitDone => {
                self.known = self.listing.take().unwrap_or_default();
                self.listed = true;
            }
            Event::Apply(object) => drop(self.known.insert(key(&object), object)),
            Event::Delete(object) => drop(self.known.remove(&key(&object))),
        }
    }

    /// The oldest first. Trouble with one keeps nobody from the others.
    async fn take_further(&self) {
        let mut open: Vec<&VolumeRollback> = self.known.values().filter(|known| !is_over(known)).collect();
        open.sort_by_key(|rollback| rollback.metadata.creation_timestamp.clone().map(|time| time.0));
        for rollback in open {
            if let Err(error) = self.take_one_further(rollback).await {
                let name = rollback.name_any();
                tracing::warn!(
                    name,
                    error.class = error.class.as_str(),
                    "a rollback does not go on: {error}"
                );
            }
        }
        for volume in self.cache.volumes.picked(|volume| volume.ordered.is_some()) {
            if let Err(error) = self.take_back(&volume.id).await {
                tracing::warn!(volume = volume.id, "an order for a rollback stays: {error}");
            }
        }
    }

    async fn take_one_further(&self, rollback: &VolumeRollback) -> Result<()> {
        let until = Instant::now() + LOOK_MAX;
        let target = target::of(&self.cluster, rollback, until).await?;
        let told = rollback.status.as_ref().and_then(|status| status.volume.clone());
        let name = told.or_else(|| target.as_ref().ok().map(|target| target.volume.clone()));
        let volume = match &name {
            Some(name) => self.cluster.get(&self.cluster.volumes, name, until).await?,
            None => None,
        };
        let order = volume.as_ref().and_then(|volume| volume.spec.rollback.as_deref());
        let other = match order.filter(|order| Some(&order.request) != rollback.metadata.uid.as_ref()) {
            Some(order) => self.find(order, until).await?.filter(|other| !is_over(other)),
            None => None,
        };
        let now = Time(Timestamp::now());
        let facts = Facts {
            rollback,
            target: target.as_ref(),
            volume: volume.as_ref(),
            other: other.as_ref(),
            now: &now,
        };
        match judge::judge(&facts) {
            Next::Order(order) => {
                let Some(volume) = &volume else { return Ok(()) };
                let spec = json!({"rollback": order});
                self.cluster.change_this(&self.cluster.volumes, volume, &spec, until).await
            }
            Next::Tell(status) if rollback.status.as_ref() == Some(&status) => Ok(()),
            Next::Tell(status) => {
                let namespace = rollback.namespace().unwrap_or_default();
                self.cluster.tell(&self.api(&namespace), rollback, &status, until).await
            }
        }
    }

    fn api(&self, namespace: &str) -> Api<VolumeRollback> {
        Api::namespaced(self.cluster.client.clone(), namespace)
    }

    /// The VolumeRollback of an order, as the API server has it now; `None` when it is gone.
    async fn find(&self, order: &RollbackOrder, until: Instant) -> Result<Option<VolumeRollback>> {
        let Reference { namespace, name } = &order.rollback;
        let found = self.cluster.get(&self.api(namespace), name, until).await?;
        Ok(found.filter(|found| found.uid().as_ref() == Some(&order.request)))
    }

    /// Takes an order back whose VolumeRollback was deleted. What has begun on the node is seen through all the same.
    async fn take_back(&self, volume: &str) -> Result<()> {
        let until = Instant::now() + LOOK_MAX;
        let Some(entry) = self.cache.volumes.get(volume) else { return Ok(()) };
        let Some(order) = &entry.ordered else { return Ok(()) };
        let Reference { namespace, name } = &order.rollback;
        let known = self.known.get(&(namespace.clone(), name.clone()));
        if known.is_some_and(|known| known.uid().as_ref() == Some(&order.request)) {
            return Ok(());
        }
        let Some(object) = self.cluster.get(&self.cluster.volumes, volume, until).await? else {
            return Ok(());
        };
        let Some(order) = &object.spec.rollback else { return Ok(()) };
        if self.find(order, until).await?.is_some() {
            return Ok(());
        }
        let none = json!({"rollback": null});
        self.cluster.change_this(&self.cluster.volumes, &object, &none, until).await
    }
}
