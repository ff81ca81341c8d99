//! All objects that the controller knows, and the watches that keep them.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::client;
use crate::controller::entry::{Entry, NodeEntry, PoolEntry, SnapshotEntry, VolumeEntry};
use crate::controller::shelf::Shelf;

/// What is known.
#[derive(Debug, Default)]
pub struct Cache {
    /// Volumes and views.
    pub volumes: Shelf<VolumeEntry>,
    /// Snapshots.
    pub snapshots: Shelf<SnapshotEntry>,
    /// Pools.
    pub pools: Shelf<PoolEntry>,
    /// Nodes of the cluster.
    pub nodes: Shelf<NodeEntry>,
}

impl Cache {
    /// Begins to watch, until `stop` is cancelled.
    #[must_use]
    pub fn watching(client: &Client, tasks: &TaskTracker, stop: &CancellationToken) -> Arc<Self> {
        let cache = Arc::new(Self::default());
        let watched = Watched { client, cache: &cache, tasks, stop };
        watched.objects(|cache| &cache.volumes);
        watched.objects(|cache| &cache.snapshots);
        watched.objects(|cache| &cache.pools);
        // Of Nodes only that they exist.
        let nodes = Api::<PartialObjectMeta<Node>>::all(client.clone());
        let nodes = watcher::watcher(nodes, watcher::Config::default());
        watched.stream("Node", nodes, |cache| &cache.nodes);
        cache
    }

    /// Done when there is a list of each kind.
    pub async fn listed(&self) {
        self.volumes.listed().await;
        self.snapshots.listed().await;
        self.pools.listed().await;
        self.nodes.listed().await;
    }
}

struct Watched<'a> {
    client: &'a Client,
    cache: &'a Arc<Cache>,
    tasks: &'a TaskTracker,
    stop: &'a CancellationToken,
}

impl Watched<'_> {
    /// Watches a kind of ours. An object that cannot be read is told of and left out: it must not blind us for the others.
    fn objects<E: Entry>(&self, shelf: fn(&Cache) -> &Shelf<E>)
    where
        E::Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let api = Api::<DeserializeGuard<E::Object>>::all(self.client.clone());
        let objects = watcher::watcher(api, watcher::Config::default())
            .filter_map(async |event| event.map(readable).transpose());
        self.stream(&E::Object::kind(&()), objects, shelf);
    }

    fn stream<E: Entry>(
        &self,
        kind: &str,
        events: impl futures::Stream<Item = watcher::Result<Event<E::Object>>> + Send + 'static,
        shelf: fn(&Cache) -> &Shelf<E>,
    ) {
        let (cache, stop, kind) = (Arc::clone(self.cache), self.stop.clone(), kind.to_owned());
        self.tasks.spawn(async move {
            let mut events = std::pin::pin!(events.default_backoff().take_until(stop.cancelled()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => shelf(&cache).told(event),
                    Err(error) => {
                        tracing::warn!(kind, "the watch is interrupted: {}", client::told_of_watch(&error));
                    }
                }
            }
        });
    }
}

/// What can be read of an event; none of an object that cannot.
fn readable<K: Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let read = |DeserializeGuard(object): DeserializeGuard<K>| match object {
        Ok(object) => Some(object),
        Err(bad) => {
            let name = bad.metadata.name.as_deref().unwrap_or_default();
            tracing::error!(kind = %K::kind(&()), name, "an object cannot be read: {}", bad.error);
            None
        }
    };
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(read(object)?),
        Event::InitApply(object) => Event::InitApply(read(object)?),
        Event::Delete(object) => Event::Delete(read(object)?),
    })
}
