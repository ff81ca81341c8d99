//! All objects that the controller knows, and the watches that keep them.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::watch;
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
        watched.stream(watch::steady("Node".to_owned(), nodes), |cache| &cache.nodes);
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
    /// Watches a kind of ours.
    fn objects<E: Entry>(&self, shelf: fn(&Cache) -> &Shelf<E>)
    where
        E::Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.stream(watch::objects(self.client, watcher::Config::default()), shelf);
    }

    fn stream<E: Entry>(
        &self,
        events: impl futures::Stream<Item = Event<E::Object>> + Send + 'static,
        shelf: fn(&Cache) -> &Shelf<E>,
    ) {
        let (cache, stop) = (Arc::clone(self.cache), self.stop.clone());
        self.tasks.spawn(async move {
            let mut events = std::pin::pin!(events.take_until(stop.cancelled()));
            while let Some(event) = events.next().await {
                shelf(&cache).told(event);
            }
        });
    }
}
