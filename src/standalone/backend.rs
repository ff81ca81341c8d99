//! The ports of the CSI services over one pool.

use std::sync::Arc;

use crate::csi::backend::{
    Backend, BlocksWish, Capacity, CapacityWish, ChangedBlocks, Deadline, Devices, Error, Group, GroupWish,
    Groups, Kind, KnownVolume, OpenVolume, Origin, Result, Snapshot, SnapshotWish, ViewWish, Volume,
    VolumeWish,
};
use crate::csi::node::mounts::Mounts;
use crate::engine::Engine;
use crate::host::Host;
use crate::ids::VgName;
use crate::pool::blocks::Reading;
use crate::pool::{self, Found, Pool};
use crate::units::Bytes;
use crate::volume::info::{GroupInfo, SnapshotInfo, ViewInfo, VolumeInfo};
use crate::volume::spec::{GroupSpec, SnapshotSpec};
use crate::volume::tune::Change;

/// One pool on one node.
pub struct OnePool<H, M> {
    node: String,
    pool: Arc<Pool<H, M>>,
}

impl<H: Host + 'static, M: Mounts> OnePool<H, M> {
    /// A pool, on the node of this name.
    #[must_use]
    pub fn new(node: String, pool: Arc<Pool<H, M>>) -> Self {
        Self { node, pool }
    }

    fn mirror(&self, volume: VolumeInfo) -> Volume {
        let kind = Kind::Mirror { images: volume.images() };
        Volume { id: volume.id.into(), node: self.node.clone(), size: volume.size, kind }
    }

    fn view(&self, view: ViewInfo) -> Volume {
        let kind = Kind::View { snapshot: view.snapshot };
        Volume { id: view.id, node: self.node.clone(), size: view.size, kind }
    }

    fn snapshot(&self, snapshot: SnapshotInfo) -> Snapshot {
        Snapshot {
            id: snapshot.id,
            volume: snapshot.volume.into(),
            node: self.node.clone(),
            size: snapshot.size,
            cut_unix_nanos: snapshot.cut_unix_nanos,
            ready: snapshot.ready,
            group: snapshot.group.map(|group| group.id),
        }
    }

    fn group(&self, group: GroupInfo) -> Group {
        Group {
            id: group.id,
            cut_unix_nanos: group.cut_unix_nanos,
            ready: group.ready,
            snapshots: group.snapshots.into_iter().map(|snapshot| self.snapshot(snapshot)).collect(),
        }
    }

    fn check_pool(&self, pool: Option<&VgName>) -> Result<()> {
        let own = self.pool.engine().pool();
        match pool {
            Some(pool) if pool != own => {
                Err(Error::invalid(format!("pool {pool} is not served here, only {own} is")))
            }
            _ => Ok(()),
        }
    }
}

impl<H: Host + 'static, M: Mounts> Backend for OnePool<H, M> {
    async fn create_volume(&self, wish: &VolumeWish, _: Deadline) -> Result<Volume> {
        self.check_pool(wish.pool.as_ref())?;
        wish.nodes.check(&self.node)?;
        let spec = wish.spec.clone();
        let origin = wish.origin.clone();
        let source = match &origin {
            Some(Origin::Volume(id) | Origin::Images(id)) => Some(pool::lv(id)?),
            Some(Origin::Snapshot(_) | Origin::Image(_)) | None => None,
        };
        let make = move |engine: &Engine<H>| match (origin, source) {
            (Some(Origin::Snapshot(snapshot)), _) => engine.create_clone(&spec, &snapshot),
            (Some(Origin::Image(snapshot)), _) => engine.detach_snapshot(&spec, &snapshot),
            (Some(Origin::Images(_)), Some(source)) => engine.detach_images(&spec, &source),
            (_, Some(source)) => engine.clone_volume(&spec, &source, 1),
            (_, None) => engine.create_volume(&spec),
        };
        let volume = self.pool.change(make).await?;
        Ok(self.mirror(volume))
    }

    async fn create_view(&self, wish: &ViewWish, _: Deadline) -> Result<Volume> {
        self.check_pool(wish.pool.as_ref())?;
        wish.nodes.check(&self.node)?;
        let (name, snapshot) = (wish.name.clone(), wish.snapshot.clone());
        let view = self.pool.change(move |engine| engine.create_view(&name, &snapshot)).await?;
        Ok(self.view(view))
    }

    async fn delete_volume(&self, id: &str, _: Deadline) -> Result<()> {
        self.pool.delete_volume(id).await
    }

    async fn get_volume(&self, id: &str) -> Result<Option<Volume>> {
        Ok(self.pool.find(id).await?.map(|found| match found {
            Found::Mirror(volume) => self.mirror(*volume),
            Found::View(view) => self.view(view),
        }))
    }

    async fn list_volumes(&self) -> Result<Vec<Volume>> {
        let (mirrors, views) = self.pool.run(|engine| Ok((engine.volumes()?, engine.views()?))).await?;
        let mirrors = mirrors.into_iter().map(|volume| self.mirror(volume));
        Ok(mirrors.chain(views.into_iter().map(|view| self.view(view))).collect())
    }

    async fn expand_volume(&self, id: &str, min: Bytes, limit: Option<Bytes>, _: Deadline) -> Result<Bytes> {
        let id = pool::lv(id)?;
        self.pool.change(move |engine| engine.expand_volume(&id, min, limit)).await
    }

    async fn modify_volume(&self, id: &str, change: &Change, _: Deadline) -> Result<()> {
        let (id, change) = (pool::lv(id)?, change.clone());
        self.pool.change(move |engine| engine.modify_volume(&id, &change)).await.map(drop)
    }

    async fn create_snapshot(&self, wish: &SnapshotWish, _: Deadline) -> Result<Snapshot> {
        wish.nodes.check(&self.node)?;
        let spec = SnapshotSpec {
            name: wish.name.clone(),
            volume: pool::lv(&wish.volume)?,
            min_in_sync: wish.min_in_sync,
            policy: wish.policy,
        };
        let snapshot = self.pool.change(move |engine| engine.create_snapshot(&spec)).await?;
        Ok(self.snapshot(snapshot))
    }

    async fn delete_snapshot(&self, id: &str, _: Deadline) -> Result<()> {
        let id = id.to_owned();
        self.pool.change(move |engine| engine.delete_snapshot(&id)).await
    }

    async fn get_snapshot(&self, id: &str) -> Result<Snapshot> {
        let id = id.to_owned();
        let snapshot = self.pool.run(move |engine| engine.snapshot(&id)).await?;
        Ok(self.snapshot(snapshot))
    }

    async fn list_snapshots(&self) -> Result<Vec<Snapshot>> {
        let snapshots = self.pool.run(|engine| engine.snapshots()).await?;
        Ok(snapshots.into_iter().map(|snapshot| self.snapshot(snapshot)).collect())
    }

    async fn capacity(&self, wish: &CapacityWish) -> Result<Capacity> {
        let elsewhere = wish.node.as_ref().is_some_and(|node| *node != self.node)
            || wish.pool.as_ref().is_some_and(|pool| pool != self.pool.engine().pool());
        if elsewhere {
            return Ok(Capacity { available: Bytes::ZERO, largest: Bytes::ZERO });
        }
        let images = wish.images;
        let capacity = self.pool.run(move |engine| engine.capacity(images)).await?;
        Ok(Capacity { available: capacity.available, largest: capacity.largest })
    }
}

impl<H: Host + 'static, M: Mounts> ChangedBlocks for OnePool<H, M> {
    type Parts = Reading<H, M>;

    async fn blocks(&self, wish: &BlocksWish, _: Deadline) -> Result<Self::Parts> {
        Ok(Reading::new(Arc::clone(&self.pool), wish.clone()))
    }
}

impl<H: Host + 'static, M: Mounts> Groups for OnePool<H, M> {
    async fn create_group(&self, wish: &GroupWish, _: Deadline) -> Result<Group> {
        let spec = GroupSpec {
            name: wish.name.clone(),
            volumes: wish.volumes.iter().map(|id| pool::lv(id)).collect::<Result<_>>()?,
            min_in_sync: wish.min_in_sync,
        };
        let group = self.pool.change(move |engine| engine.create_group_snapshot(&spec)).await?;
        Ok(self.group(group))
    }

    async fn delete_group(&self, id: &str, _: &[String], _: Deadline) -> Result<()> {
        let id = id.to_owned();
        self.pool.change(move |engine| engine.delete_group_snapshot(&id)).await
    }

    async fn get_group(&self, id: &str, _: &[String]) -> Result<Option<Group>> {
        let groups = self.pool.run(|engine| engine.group_snapshots()).await?;
        Ok(groups.into_iter().find(|group| group.id == id).map(|group| self.group(group)))
    }
}

impl<H: Host + 'static, M: Mounts> Devices for OnePool<H, M> {
    async fn find(&self, id: &str) -> Result<Option<KnownVolume>> {
        Ok(self.pool.find(id).await?.map(|found| found.known()))
    }

    async fn open(&self, id: &str) -> Result<OpenVolume> {
        self.pool.open(id).await
    }

    async fn note_format(&self, id: &str, under_way: bool) -> Result<()> {
        self.pool.note_format(id, under_way).await
    }
}
