//! Volumes that are made from something: from what, where that is, and what must wait until they hold it themselves.

use std::sync::Arc;

use crate::api::names;
use crate::api::volume::Source;
use crate::controller::backend::Controller;
use crate::controller::entry::{PoolEntry, SnapshotEntry, VolumeEntry, VolumeKind};
use crate::controller::snapshots::no_snapshot;
use crate::csi::backend::{Error, Origin, Result, VolumeWish};
use crate::ids::VgName;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::images::IN_SYNC_MIN;

/// What a volume is to be made from. It is in the same pool.
pub(super) struct Original {
    /// As the volume's object names it.
    pub source: Source,
    /// Where it is, or why no volume can be made from it now.
    place: Result<Place>,
}

/// Where a volume is to be made.
pub(super) struct Place {
    pub node: String,
    pub pool: VgName,
    /// It is to be this.
    pub image: Option<Image>,
}

/// The image of a snapshot, or images of a volume, that are to be a volume themselves.
pub(super) struct Image {
    pub size: Bytes,
    pub region_size: Bytes,
    /// Most images that the volume can have at first.
    images: usize,
}

impl Controller {
    /// What a volume is to be made from.
    pub(super) async fn original(&self, origin: &Origin) -> Original {
        match origin {
            Origin::Images(id) => {
                Original { source: Source::Images(id.clone()), place: self.place_of_images(id).await }
            }
            Origin::Image(id) => {
                Original { source: Source::Detached(id.clone()), place: self.place_of_image(id).await }
            }
            Origin::Snapshot(id) => {
                let place = self.snapshot(id).await.and_then(|snapshot| self.place_of(&snapshot));
                Original { source: Source::Snapshot(id.clone()), place }
            }
            Origin::Volume(id) => {
                Original { source: Source::Volume(id.clone()), place: self.place_of_volume(id).await }
            }
        }
    }

    /// Where a snapshot is that can be read.
    fn place_of(&self, snapshot: &SnapshotEntry) -> Result<Place> {
        let SnapshotEntry { id, node, pool, .. } = snapshot;
        if snapshot.delete {
            return Err(no_snapshot(id));
        }
        if !snapshot.ready {
            return Err(Error::precondition(format!("snapshot {id} is not ready yet")));
        }
        self.check_not_needed(&[Source::Detached(id.clone())])?;
        Ok(Place { node: node.clone(), pool: pool.clone(), image: None })
    }

    /// A volume that another one can be made from.
    async fn original_volume(&self, id: &str) -> Result<Arc<VolumeEntry>> {
        let volume = self.known(&self.cache.volumes, &self.cluster.volumes, id).await?;
        let missing = || Error::not_found(format!("there is no volume {id:?}"));
        let volume = volume.filter(|volume| !volume.delete).ok_or_else(missing)?;
        volume.check_filled()?;
        Ok(volume)
    }

    async fn place_of_volume(&self, id: &str) -> Result<Place> {
        let volume = self.original_volume(id).await?;
        Ok(Place { node: volume.node.clone(), pool: volume.pool.clone(), image: None })
    }

    /// Where a volume is some of whose images are to be taken.
    async fn place_of_images(&self, id: &str) -> Result<Place> {
        let volume = self.original_volume(id).await?;
        let (node, pool, size) = (volume.node.clone(), volume.pool.clone(), volume.told().size);
        match volume.kind {
            VolumeKind::Mirror { images, region_size, .. } => {
                let images = images.saturating_sub(IN_SYNC_MIN);
                Ok(Place { node, pool, image: Some(Image { size, region_size, images }) })
            }
            VolumeKind::View(_) => {
                Err(Error::invalid(format!("volume {id} shows a snapshot and has no images of its own")))
            }
        }
    }

    /// Where a snapshot is whose image is to be taken: nobody else may need it.
    async fn place_of_image(&self, id: &str) -> Result<Place> {
        let snapshot = self.snapshot(id).await?;
        let place = self.place_of(&snapshot)?;
        if let Some(group) = &snapshot.group {
            let message = format!(
                "snapshot {id} is one of group {}, of which none can be taken away: make the volume of a snapshot by itself",
                names::of(&group.name)
            );
            return Err(Error::invalid(message));
        }
        self.check_not_read(id)?;
        let volume = self.known(&self.cache.volumes, &self.cluster.volumes, &snapshot.volume).await?;
        let (size, kind) = (snapshot.size, volume.map(|volume| volume.kind.clone()));
        match (size, kind) {
            (Some(size), Some(VolumeKind::Mirror { images, region_size, .. })) => {
                Ok(Place { image: Some(Image { size, region_size, images }), ..place })
            }
            _ => {
                let message = format!(
                    "the object of volume {}, which snapshot {id} is of, is not there",
                    snapshot.volume
                );
                Err(Error::new(Class::Transient, message))
            }
        }
    }

    /// Refuses for now to take away what a volume is filled from, or will be itself.
    pub(super) fn check_not_needed(&self, sources: &[Source]) -> Result<()> {
        let needed = |volume: &VolumeEntry| volume.needs().is_some_and(|source| sources.contains(source));
        let Some(volume) = self.cache.volumes.first(needed) else { return Ok(()) };
        let Some(source) = volume.needs() else { return Ok(()) };
        let far = volume.filled.map_or_else(String::new, |filled| format!(", {filled} so far"));
        let what = match source {
            Source::Detached(id) => format!("snapshot {id} is becoming volume {}", volume.id),
            Source::Images(id) => format!("images of volume {id} are becoming volume {}", volume.id),
            Source::Snapshot(_) | Source::Volume(_) => {
                format!("{} is being copied into volume {}{far}", named(source), volume.id)
            }
        };
        Err(Error::new(Class::InProgress, format!("{what}: try again later")))
    }
}

impl Original {
    /// Where a volume can be made from it, as is wished.
    pub(super) fn check(&self, wish: &VolumeWish) -> Result<&Place> {
        let place = self.place.as_ref().map_err(Error::clone)?;
        if let Some(pool) = wish.pool.as_ref().filter(|pool| **pool != place.pool) {
            let message = format!("{} is in pool {}, not {pool}", named(&self.source), place.pool);
            return Err(Error::invalid(message));
        }
        wish.nodes.check(&place.node)?;
        if let Some(image) = &place.image {
            image.check(wish, &named(&self.source))?;
        }
        Ok(place)
    }
}

impl Place {
    /// Whether it is in this pool.
    pub(super) fn is_in(&self, pool: &PoolEntry) -> bool {
        pool.node == self.node && pool.pool == self.pool
    }
}

impl Image {
    /// As the engine would refuse: see [`crate::engine::Engine::detach_snapshot`] and [`crate::engine::Engine::detach_images`].
    fn check(&self, wish: &VolumeWish, what: &str) -> Result<()> {
        let Self { size: has, images, .. } = self;
        let spec = &wish.spec;
        let message = if spec.size > *has {
            format!(
                "a volume of at least {} cannot be made of {what}, which has {has}: it can grow afterwards",
                spec.size
            )
        } else if let Some(limit) = spec.limit.filter(|limit| limit < has) {
            format!("a volume of at most {limit} cannot be made of {what}, which has {has}")
        } else if spec.images > *images {
            format!(
                "a volume made of {what} cannot have {} images at first, but {images} at most: more can be added afterwards",
                spec.images
            )
        } else {
            return Ok(());
        };
        Err(Error::new(Class::OutOfRange, message))
    }
}

fn named(source: &Source) -> String {
    match source {
        Source::Snapshot(id) | Source::Detached(id) => format!("snapshot {id}"),
        Source::Volume(id) => format!("volume {id}"),
        Source::Images(id) => format!("images of volume {id}"),
    }
}
