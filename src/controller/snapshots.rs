//! Snapshots as objects.

use std::sync::Arc;

use crate::api::snapshot::SnapshotPhase;
use crate::api::volume::Source;
use crate::api::{MirrorSnapshot, MirrorSnapshotSpec, names};
use crate::controller::backend::{Controller, Making};
use crate::controller::entry::{SnapshotEntry, VolumeEntry, VolumeKind};
use crate::controller::volumes::reference;
use crate::controller::wait::Patience;
use crate::csi::backend::{Error, Result, Snapshot, SnapshotWish};
use crate::report::Class;
use crate::volume::key;
use crate::volume::spec::SnapshotPolicy;

/// The error that there is no snapshot of this id.
pub(super) fn no_snapshot(id: &str) -> Error {
    Error::not_found(format!("there is no snapshot {id:?}"))
}

impl Controller {
    /// The snapshot of this id, made or not.
    ///
    /// # Errors
    /// There is none (`NotFound`, which tells the volume that it has become).
    pub(super) async fn snapshot(&self, id: &str) -> Result<Arc<SnapshotEntry>> {
        let known = self.known(&self.cache.snapshots, &self.cluster.snapshots, id).await?;
        let known = known.ok_or_else(|| no_snapshot(id))?;
        match &known.detached_to {
            None => Ok(known),
            Some(volume) => {
                Err(Error::not_found(format!("there is no snapshot {id:?}: it is volume {volume} now")))
            }
        }
    }

    /// Has an image split off.
    pub(super) async fn make_snapshot(&self, wish: &SnapshotWish, patience: &Patience) -> Result<Snapshot> {
        let (name, what) = (names::of(&wish.name), format!("snapshot {:?}", wish.name));
        let volume = self.known(&self.cache.volumes, &self.cluster.volumes, &wish.volume).await?;
        let volume =
            volume.ok_or_else(|| Error::not_found(format!("there is no volume {:?}", wish.volume)))?;
        let plan = || {
            wish.nodes.check(&volume.node)?;
            let min_in_sync = check_can_be_split(&volume, wish.min_in_sync, wish.policy)?;
            let spec = MirrorSnapshotSpec {
                policy: (wish.policy != SnapshotPolicy::Borrow).then(|| wish.policy.into()),
                volume_snapshot: wish.volume_snapshot.as_ref().map(reference),
                ..spec_of(&volume, &wish.name, min_in_sync)
            };
            Ok(MirrorSnapshot::new(&name, spec))
        };
        let same = |entry: &SnapshotEntry| {
            if entry.name.as_deref() != Some(wish.name.as_str())
                || entry.volume != wish.volume
                || entry.group.is_some()
            {
                let message = format!("{what} exists, of volume {}", entry.volume);
                return Err(Error::new(Class::Exists, message));
            }
            if let Some(volume) = &entry.detached_to {
                let message = format!("{what} has been, and is volume {volume} now");
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

    /// Has an image merged back. That its merge has begun is enough: it is no snapshot any more. Of one that was detached
    /// nothing is left but the object.
    pub(super) async fn drop_snapshot(&self, id: &str, patience: &Patience) -> Result<()> {
        let free = |entry: &SnapshotEntry| match &entry.group {
            None if entry.detached_to.is_some() => Ok(()),
            None => self.check_not_read(id),
            Some(group) => {
                let group = names::of(&group.name);
                let message =
                    format!("snapshot {id} is one of group {group}: delete that, with all its snapshots");
                Err(Error::invalid(message))
            }
        };
        let what = format!("snapshot {id}");
        let merging = |entry: &SnapshotEntry| entry.phase == SnapshotPhase::Merging;
        let parts = (&self.cache.snapshots, &self.cluster.snapshots);
        self.deleted(parts, (&what, id), free, merging, patience).await
    }

    /// Refuses to take away what a view shows, a clone is filled from, or is becoming a volume.
    pub(super) fn check_not_read(&self, id: &str) -> Result<()> {
        match self.cache.volumes.first(|view| view.shows(id) && !view.delete) {
            None => {
                self.check_not_needed(&[Source::Snapshot(id.to_owned()), Source::Detached(id.to_owned())])
            }
            Some(view) => {
                let message = format!("snapshot {id} is shown by volume {}: delete that first", view.id);
                Err(Error::precondition(message))
            }
        }
    }
}

/// What the object of a snapshot of this volume says; of no group, for nobody.
pub(super) fn spec_of(volume: &VolumeEntry, name: &str, min_in_sync: u8) -> MirrorSnapshotSpec {
    MirrorSnapshotSpec {
        node: volume.node.clone(),
        pool: volume.pool.clone(),
        volume: volume.id.clone(),
        key: key::of(name),
        name: Some(name.to_owned()),
        min_in_sync,
        policy: None,
        group: None,
        volume_snapshot: None,
        delete: false,
    }
}

/// Refuses at once what the node could only refuse; `min_in_sync` as the object has it.
pub(super) fn check_can_be_split(
    volume: &VolumeEntry,
    min_in_sync: usize,
    policy: SnapshotPolicy,
) -> Result<u8> {
    let borrowed = usize::from(policy == SnapshotPolicy::Borrow);
    if volume.delete {
        return Err(Error::precondition(format!("volume {} is being deleted", volume.id)));
    }
    volume.check_filled()?;
    match volume.kind {
        VolumeKind::View(_) => {
            let message = format!("volume {} shows a snapshot and cannot have its own", volume.id);
            Err(Error::precondition(message))
        }
        VolumeKind::Mirror { images, .. } if min_in_sync + borrowed > images => {
            let message = format!(
                "a snapshot of volume {} must leave {} images in sync, and it has {images} in all",
                volume.id, min_in_sync
            );
            // As the node would: no lack of room, see `crate::volume::split`.
            Err(Error::precondition(message))
        }
        VolumeKind::Mirror { .. } => u8::try_from(min_in_sync)
            .map_err(|_| Error::invalid(format!("{min_in_sync} images in sync are too many"))),
    }
}
