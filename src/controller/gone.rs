//! Objects whose node is gone for good: nobody could ever delete what they are about, so they would stay for ever.
//!
//! Gone is a node whose Node object does not exist. What lies on its disks stays there: when the node comes back, its agent
//! finds it and makes the object again. While the Node object exists a deletion waits, however silent the node is.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{MirrorSnapshot, MirrorVolume, client, subject};
use crate::controller::cache::Cache;
use crate::controller::cluster::{Cluster, Object};
use crate::controller::entry::Order;
use crate::controller::shelf::Shelf;
use crate::csi::backend::Result;
use k8s_openapi::api::core::v1::ObjectReference;

/// How soon it is tried again when the API server did not answer.
const AGAIN: Duration = Duration::from_secs(30);

/// Looks for such objects whenever something may have made one, until `stop` is cancelled.
pub async fn run(cache: Arc<Cache>, cluster: Cluster, recorder: Recorder, stop: CancellationToken) {
    let sweeper = Sweeper { cache, cluster, recorder };
    let (mut volumes, mut snapshots, mut nodes) =
        (sweeper.cache.volumes.changes(), sweeper.cache.snapshots.changes(), sweeper.cache.nodes.changes());
    loop {
        let swept = sweeper.sweep().await;
        if let Err(error) = &swept {
            tracing::warn!(error.class = error.class.as_str(), "objects of a lost node stay: {error}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = volumes.changed() => {}
            _ = snapshots.changed() => {}
            _ = nodes.changed() => {}
            () = tokio::time::sleep(AGAIN), if swept.is_err() => {}
        }
    }
}

/// Whether a node is gone for good.
pub(super) async fn is_gone(cache: &Cache, cluster: &Cluster, node: &str, until: Instant) -> Result<bool> {
    Ok(cache.nodes.get(node).is_none() && !cluster.has_node(node, until).await?)
}

struct Sweeper {
    cache: Arc<Cache>,
    cluster: Cluster,
    recorder: Recorder,
}

impl Sweeper {
    async fn sweep(&self) -> Result<()> {
        self.sweep_kind(&self.cache.volumes, &self.cluster.volumes, |volume: &MirrorVolume| {
            (volume.spec.delete, subject::of_volume(volume))
        })
        .await?;
        self.sweep_kind(&self.cache.snapshots, &self.cluster.snapshots, |snapshot: &MirrorSnapshot| {
            (snapshot.spec.delete, subject::of_snapshot(snapshot))
        })
        .await
    }

    async fn sweep_kind<E>(
        &self,
        shelf: &Shelf<E>,
        api: &Api<E::Object>,
        read: impl Fn(&E::Object) -> (bool, ObjectReference),
    ) -> Result<()>
    where
        E: Order<Object: Object>,
    {
        for name in shelf.doomed() {
            let Some(entry) = shelf.get(&name) else { continue };
            let until = Instant::now() + AGAIN;
            if !is_gone(&self.cache, &self.cluster, entry.node(), until).await? {
                continue;
            }
            let Some(object) = self.cluster.get(api, &name, until).await? else { continue };
            let (delete, about) = read(&object);
            if !delete || E::of(&object).node() != entry.node() {
                continue;
            }
            self.tell(&name, entry.node(), &about).await;
            self.cluster.remove(api, &object, until).await?;
            tracing::warn!(object = name, node = entry.node(), "the object of a lost node is removed");
        }
        Ok(())
    }

    async fn tell(&self, name: &str, node: &str, about: &ObjectReference) {
        let note = format!(
            "node {node} is gone: the object {name} is removed; what it was about stays on that node's disks, and \
             comes back with them"
        );
        let event = Event {
            type_: EventType::Warning,
            reason: "NodeGone".to_owned(),
            note: Some(note),
            action: "Delete".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::warn!(object = name, "an event could not be made: {}", client::told(&error));
        }
    }
}
