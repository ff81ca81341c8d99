//! The objects that a status is put together from, and the watches that they come from.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::ListParams;
use kube::runtime::reflector::{Lookup, Store};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::api::external::{self, VolumeSnapshot, VolumeSnapshotContent};
use crate::api::{MirrorSnapshot, MirrorVolume};

/// All objects at one time.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Claims of the namespaces that are shown.
    pub claims: Vec<PersistentVolumeClaim>,
    /// All persistent volumes.
    pub persistent_volumes: Vec<PersistentVolume>,
    /// VolumeSnapshots of the namespaces that are shown.
    pub snapshots: Vec<VolumeSnapshot>,
    /// All contents.
    pub contents: Vec<VolumeSnapshotContent>,
    /// All MirrorVolumes.
    pub mirror_volumes: Vec<MirrorVolume>,
    /// All MirrorSnapshots.
    pub mirror_snapshots: Vec<MirrorSnapshot>,
}

/// Changes that come so soon after one another are shown together.
const REST: Duration = Duration::from_millis(200);

/// A cluster's objects, kept up to date.
pub struct Watched {
    claims: Store<PersistentVolumeClaim>,
    persistent_volumes: Store<PersistentVolume>,
    snapshots: Option<Store<VolumeSnapshot>>,
    contents: Option<Store<VolumeSnapshotContent>>,
    mirror_volumes: Store<MirrorVolume>,
    mirror_snapshots: Store<MirrorSnapshot>,
    changed: mpsc::UnboundedReceiver<watcher::Result<()>>,
}

impl Watched {
    /// Begins to watch: claims and VolumeSnapshots of one namespace, or of all. A cluster may have no snapshots.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub async fn begin(client: &Client, namespace: Option<&str>) -> kube::Result<Self> {
        let (tell, changed) = mpsc::unbounded_channel();
        let of_snapshots = external::volume_snapshots();
        let of_contents = external::contents();
        let (claims, snapshots) = match namespace {
            Some(namespace) => (
                Api::namespaced(client.clone(), namespace),
                Api::namespaced_with(client.clone(), namespace, &of_snapshots),
            ),
            None => (Api::all(client.clone()), Api::all_with(client.clone(), &of_snapshots)),
        };
        let contents: Api<VolumeSnapshotContent> = Api::all_with(client.clone(), &of_contents);
        let has_snapshots = match contents.list_metadata(&ListParams::default().limit(1)).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => return Err(error),
        };
        Ok(Self {
            claims: kept(claims, (), &tell),
            persistent_volumes: kept(Api::all(client.clone()), (), &tell),
            snapshots: has_snapshots.then(|| kept(snapshots, of_snapshots, &tell)),
            contents: has_snapshots.then(|| kept(contents, of_contents, &tell)),
            mirror_volumes: kept(Api::all(client.clone()), (), &tell),
            mirror_snapshots: kept(Api::all(client.clone()), (), &tell),
            changed,
        })
    }

    /// The objects when something has changed, the first time when all are known; `None` when nothing is watched any more.
    ///
    /// # Errors
    /// A watch failed. It is taken up again: this may be called once more.
    pub async fn next(&mut self) -> watcher::Result<Option<Objects>> {
        loop {
            let Some(change) = self.changed.recv().await else { return Ok(None) };
            change?;
            if self.is_ready() {
                break;
            }
        }
        tokio::time::sleep(REST).await;
        while let Ok(change) = self.changed.try_recv() {
            change?;
        }
        Ok(Some(Objects {
            claims: all(&self.claims),
            persistent_volumes: all(&self.persistent_volumes),
            snapshots: self.snapshots.as_ref().map(all).unwrap_or_default(),
            contents: self.contents.as_ref().map(all).unwrap_or_default(),
            mirror_volumes: all(&self.mirror_volumes),
            mirror_snapshots: all(&self.mirror_snapshots),
        }))
    }

    fn is_ready(&self) -> bool {
        ready(&self.claims)
            && ready(&self.persistent_volumes)
            && self.snapshots.as_ref().is_none_or(ready)
            && self.contents.as_ref().is_none_or(ready)
            && ready(&self.mirror_volumes)
            && ready(&self.mirror_snapshots)
    }
}

fn ready<K>(store: &Store<K>) -> bool
where
    K: Lookup<DynamicType: Eq + Hash + Clone> + Clone + 'static,
{
    matches!(store.wait_until_ready().now_or_never(), Some(Ok(())))
}

fn all<K>(store: &Store<K>) -> Vec<K>
where
    K: Lookup<DynamicType: Eq + Hash + Clone> + Clone + 'static,
{
    store.state().iter().map(|object| (**object).clone()).collect()
}

/// A store that a task keeps; each change is told.
fn kept<K>(api: Api<K>, kind: K::DynamicType, tell: &mpsc::UnboundedSender<watcher::Result<()>>) -> Store<K>
where
    K: Resource<DynamicType: Eq + Hash + Clone + Debug + Unpin + Send + Sync + 'static>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let writer = reflector::store::Writer::<K>::new(kind);
    let (store, tell) = (writer.as_reader(), tell.clone());
    tokio::spawn(async move {
        let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events.reflect(writer));
        while let Some(event) = events.next().await {
            if tell.send(event.map(drop)).is_err() {
                return;
            }
        }
    });
    store
}
