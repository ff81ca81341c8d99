//! Snapshots as objects.

use crate::api::snapshot::SnapshotPhase;
use crate::api::{MirrorSnapshot, MirrorSnapshotSpec, names};
use crate::controller::backend::{Controller, Making};
use crate::controller::entry::{SnapshotEntry, VolumeEntry, VolumeKind};
use crate::controller::volumes::reference;
use crate::controller::wait::Patience;
use crate::csi::backend::{Error, Result, Snapshot, SnapshotWish};
use crate::report::Class;
use crate::volume::key;

impl Controller {
    /// Has an image split off.
    pub(super) async fn make_snapshot(&self, wish: &SnapshotWish, patience: &Patience) -> Result<Snapshot> {
        let (name, what) = (names::of(&wish.name), format!("snapshot {:?}", wish.name));
        let volume = self.known(&self.cache.volumes, &self.cluster.volumes, &wish.volume).await?;
        let volume =
            volume.ok_or_else(|| Error::not_found(format!("there is no volume {:?}", wish.volume)))?;
        let plan = || {
            check_can_be_split(&volume, wish)?;
            let min_in_sync = u8::try_from(wish.min_in_sync)
                .map_err(|_| Error::invalid(format!("{} images in sync are too many", wish.min_in_sync)))?;
            let spec = MirrorSnapshotSpec {
                node: volume.node.clone(),
                pool: volume.pool.clone(),
                volume: volume.id.clone(),
                key: key::of(&wish.name),
                name: Some(wish.name.clone()),
                min_in_sync,
                volume_snapshot: wish.volume_snapshot.as_ref().map(reference),
                delete: false,
            };
            Ok(MirrorSnapshot::new(&name, spec))
        };
        let same = |entry: &SnapshotEntry| {
            if entry.name.as_deref() != Some(wish.name.as_str()) || entry.volume != wish.volume {
                let message = format!("{what} exists, of volume {}", entry.volume);
                return Err(Error::new(Class::Exists, message));
            }
            wish.nodes.check(&entry.node)
        };
        let making = Making { what: &what, name: &name, plan: &plan };
        let made =
            self.made((&self.cache.snapshots, &self.cluster.snapshots), making, same, patience).await?;
        made.told().ok_or_else(|| {
            Error::new(Class::InProgress, format!("{what} is being merged on node {}: try again", made.node))
        })
    }

    /// Has an image merged back. That its merge has begun is enough: it is no snapshot any more.
    pub(super) async fn drop_snapshot(&self, id: &str, patience: &Patience) -> Result<()> {
        let free = |_: &SnapshotEntry| match self.cache.volumes.first(|view| view.shows(id) && !view.delete) {
            None => Ok(()),
            Some(view) => {
                let message = format!("snapshot {id} is shown by volume {}: delete that first", view.id);
                Err(Error::precondition(message))
            }
        };
        let what = format!("snapshot {id}");
        let merging = |entry: &SnapshotEntry| entry.phase == SnapshotPhase::Merging;
        let parts = (&self.cache.snapshots, &self.cluster.snapshots);
        self.deleted(parts, (&what, id), free, merging, patience).await
    }
}

/// Refuses at once what the node could only refuse.
fn check_can_be_split(volume: &VolumeEntry, wish: &SnapshotWish) -> Result<()> {
    wish.nodes.check(&volume.node)?;
    if volume.delete {
        return Err(Error::precondition(format!("volume {} is being deleted", volume.id)));
    }
    match volume.kind {
        VolumeKind::View(_) => {
            let message = format!("volume {} shows a snapshot and cannot have its own", volume.id);
            Err(Error::precondition(message))
        }
        VolumeKind::Mirror { images, .. } if wish.min_in_sync >= images => {
            let message = format!(
                "a snapshot of volume {} must leave {} images in sync, and it has {images} in all",
                volume.id, wish.min_in_sync
            );
            // As the node would: no lack of room, see `crate::volume::split`.
            Err(Error::precondition(message))
        }
        VolumeKind::Mirror { .. } => Ok(()),
    }
}
