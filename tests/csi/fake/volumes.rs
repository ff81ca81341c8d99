//! Volumes in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use splitmirror::csi::backend::{
    Backend, BlocksWish, Capacity, CapacityWish, ChangedBlocks, Deadline, Devices, Error, Group, GroupWish,
    Groups, Kind, KnownVolume, Nodes, OpenVolume, Origin, Part, Parts, Result, Snapshot, SnapshotWish,
    ViewWish, Volume, VolumeWish,
};
use splitmirror::host::DevNo;
use splitmirror::report::Class;
use splitmirror::units::{Bytes, Sectors};
use splitmirror::volume::spec::{SnapshotPolicy, VolumeSpec};
use splitmirror::volume::tune::Change;

use crate::harness::NODE;

const EXTENT: Sectors = Sectors(8192);
/// Space on each of three disks.
pub const DISK: Bytes = Bytes::gib(10);

/// The only pool.
const POOL: &str = "vg";

#[derive(Default)]
struct State {
    /// Name and volume by id.
    volumes: BTreeMap<String, (String, Volume)>,
    /// Name and snapshot by id.
    snapshots: BTreeMap<String, (String, Snapshot)>,
    /// Minor number of the device of each id.
    minors: HashMap<String, u32>,
    made: u32,
    /// Volumes of which it is noted that a file system is being made on them.
    formatting: BTreeSet<String>,
    /// The last volume that was asked for, and when its caller hangs up.
    asked: Option<(VolumeWish, Deadline)>,
}

/// Keeps volumes in memory.
#[derive(Default)]
pub struct Volumes(Mutex<State>);

impl Volumes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// The last volume that was asked for, and when its caller hangs up.
    pub fn asked(&self) -> Option<(VolumeWish, Deadline)> {
        self.state().asked.clone()
    }

    /// The device of a volume, as the fake mounts know it.
    pub fn device(&self, id: &str) -> PathBuf {
        self.state().device(id)
    }
}

impl State {
    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        let id = format!("{prefix}{}", self.made);
        self.minors.insert(id.clone(), self.made);
        id
    }

    fn named(&self, name: &str) -> Option<&Volume> {
        self.volumes.values().find(|(of, _)| of == name).map(|(_, volume)| volume)
    }

    fn free(&self) -> Bytes {
        let mirrors = self.volumes.values().filter(|(_, volume)| images(volume).is_some());
        DISK - mirrors.map(|(_, volume)| volume.size).sum()
    }

    /// A snapshot becomes a volume.
    fn detach(&mut self, spec: &VolumeSpec, snapshot: &str) -> Result<Volume> {
        if let Some(found) = self.named(&spec.name) {
            return Ok(found.clone());
        }
        let found = self.snapshots.get(snapshot).ok_or_else(|| Error::not_found("no snapshot"))?;
        let size = found.1.size;
        if spec.size > size {
            return Err(Error::new(Class::OutOfRange, "the snapshot is smaller"));
        }
        self.snapshots.remove(snapshot);
        let id = self.id("vol-");
        let kind = Kind::Mirror { images: spec.images };
        let volume = Volume { id: id.clone(), node: NODE.to_owned(), size, kind };
        self.volumes.insert(id, (spec.name.clone(), volume.clone()));
        Ok(volume)
    }

    fn view_of(&self, snapshot: &str) -> Option<&Volume> {
        let shows =
            |volume: &&Volume| matches!(&volume.kind, Kind::View { snapshot: shown } if shown == snapshot);
        self.volumes.values().map(|(_, volume)| volume).find(shows)
    }

    fn device(&self, id: &str) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.minors[id]))
    }
}

fn images(volume: &Volume) -> Option<usize> {
    match volume.kind {
        Kind::Mirror { images } => Some(images),
        Kind::View { .. } => None,
    }
}

fn exists(what: &str) -> Error {
    Error::new(Class::Exists, format!("{what} exists and is another one"))
}

/// Every second one of the first so many blocks of each part of a snapshot differs, or holds something.
pub const CHANGED: u64 = 5;
/// The length of a part.
pub const PART: Bytes = Bytes::mib(16);

/// The parts of a snapshot.
pub struct Told(VecDeque<Part>);

impl Parts for Told {
    async fn next(&mut self) -> Result<Option<Part>> {
        Ok(self.0.pop_front())
    }
}

impl ChangedBlocks for Volumes {
    type Parts = Told;

    async fn blocks(&self, wish: &BlocksWish, _: Deadline) -> Result<Told> {
        let BlocksWish { snapshot, base, from } = wish;
        let state = self.state();
        let find = |id: &String| {
            let found = state.snapshots.get(id).ok_or_else(|| Error::not_found(format!("no snapshot {id}")));
            found.map(|(_, snapshot)| snapshot)
        };
        let (target, base) = (find(snapshot)?, base.as_ref().map(find).transpose()?);
        if base.is_some_and(|base| base.volume != target.volume) {
            return Err(Error::invalid("not of one volume"));
        }
        if *from > target.size {
            return Err(Error::new(Class::OutOfRange, "beyond the end"));
        }
        let (size, block) = (target.size, Bytes::kib(4));
        let part = |n: u64| {
            let start = PART * n;
            let ranges = (0..CHANGED).map(|n| start + block * (2 * n)..start + block * (2 * n + 1));
            Part { size, ranges: ranges.filter(|range| range.end > *from).collect() }
        };
        let first = from.0 / PART.0;
        Ok(Told((first..size.0.div_ceil(PART.0).max(first + 1)).map(part).collect()))
    }
}

impl Backend for Volumes {
    async fn create_volume(&self, wish: &VolumeWish, deadline: Deadline) -> Result<Volume> {
        let mut state = self.state();
        state.asked = Some((wish.clone(), deadline));
        let spec = &wish.spec;
        if let Some(Origin::Image(snapshot)) = &wish.origin {
            return state.detach(spec, snapshot);
        }
        if wish.pool.as_ref().is_some_and(|pool| pool.as_str() != POOL) {
            return Err(Error::invalid("no such pool"));
        }
        wish.nodes.check(NODE)?;
        let size = spec.size.extents_ceil(EXTENT).bytes(EXTENT);
        if spec.limit.is_some_and(|limit| size > limit) {
            return Err(Error::new(Class::OutOfRange, "rounded up to extents it is too large"));
        }
        if let Some(found) = state.named(&spec.name) {
            let same = found.size == size && images(found) == Some(spec.images);
            return if same { Ok(found.clone()) } else { Err(exists(&spec.name)) };
        }
        if size > state.free() || spec.images > 3 {
            return Err(Error::new(Class::Exhausted, "no space"));
        }
        let id = state.id("vol-");
        let kind = Kind::Mirror { images: spec.images };
        let volume = Volume { id: id.clone(), node: NODE.to_owned(), size, kind };
        state.volumes.insert(id, (spec.name.clone(), volume.clone()));
        Ok(volume)
    }

    async fn create_view(&self, wish: &ViewWish, _: Deadline) -> Result<Volume> {
        let mut state = self.state();
        wish.nodes.check(NODE)?;
        let kind = Kind::View { snapshot: wish.snapshot.clone() };
        if let Some(found) = state.named(&wish.name) {
            return if found.kind == kind { Ok(found.clone()) } else { Err(exists(&wish.name)) };
        }
        let (_, snapshot) =
            state.snapshots.get(&wish.snapshot).ok_or_else(|| Error::not_found("no snapshot"))?;
        let size = snapshot.size;
        let id = state.id("view-");
        let view = Volume { id: id.clone(), node: NODE.to_owned(), size, kind };
        state.volumes.insert(id, (wish.name.clone(), view.clone()));
        Ok(view)
    }

    async fn delete_volume(&self, id: &str, _: Deadline) -> Result<()> {
        let mut state = self.state();
        if state.snapshots.values().any(|(_, snapshot)| snapshot.volume == id) {
            return Err(Error::precondition("it has snapshots"));
        }
        state.volumes.remove(id);
        Ok(())
    }

    async fn get_volume(&self, id: &str) -> Result<Option<Volume>> {
        Ok(self.state().volumes.get(id).map(|(_, volume)| volume.clone()))
    }

    async fn list_volumes(&self) -> Result<Vec<Volume>> {
        Ok(self.state().volumes.values().map(|(_, volume)| volume.clone()).collect())
    }

    async fn expand_volume(&self, id: &str, min: Bytes, limit: Option<Bytes>, _: Deadline) -> Result<Bytes> {
        let mut state = self.state();
        if state.snapshots.values().any(|(_, snapshot)| snapshot.volume == id) {
            return Err(Error::precondition("not while a split is outstanding"));
        }
        let free = state.free();
        let (_, volume) = state.volumes.get_mut(id).ok_or_else(|| Error::not_found("no volume"))?;
        let size = min.extents_ceil(EXTENT).bytes(EXTENT).max(volume.size);
        if limit.is_some_and(|limit| size > limit) {
            return Err(Error::new(Class::OutOfRange, "too large"));
        }
        if size - volume.size > free {
            return Err(Error::new(Class::Exhausted, "no space"));
        }
        volume.size = size;
        Ok(size)
    }

    async fn modify_volume(&self, id: &str, change: &Change, _: Deadline) -> Result<()> {
        let mut state = self.state();
        let split = state.snapshots.values().filter(|(_, snapshot)| snapshot.volume == id).count();
        let (_, volume) = state.volumes.get_mut(id).ok_or_else(|| Error::not_found("no volume"))?;
        if let Some(images) = change.images {
            if images > 3 {
                return Err(Error::new(Class::Exhausted, "no space"));
            }
            if images < split + 2 {
                return Err(Error::precondition("too few would stay"));
            }
            volume.kind = Kind::Mirror { images };
        }
        if change.region_size.is_some() && split > 0 {
            return Err(Error::precondition("snapshots depend on the regions that it has"));
        }
        Ok(())
    }

    async fn create_snapshot(&self, wish: &SnapshotWish, _: Deadline) -> Result<Snapshot> {
        let mut state = self.state();
        wish.nodes.check(NODE)?;
        if let Some((_, found)) = state.snapshots.values().find(|(name, _)| *name == wish.name) {
            return if found.volume == wish.volume { Ok(found.clone()) } else { Err(exists(&wish.name)) };
        }
        let split = state.snapshots.values().filter(|(_, snapshot)| snapshot.volume == wish.volume).count();
        let (_, volume) = state.volumes.get(&wish.volume).ok_or_else(|| Error::not_found("no volume"))?;
        let borrowed = usize::from(wish.policy == SnapshotPolicy::Borrow);
        if images(volume).expect("no view is split") - split < wish.min_in_sync + borrowed {
            return Err(Error::new(Class::Precondition, "no image can be spared"));
        }
        let size = volume.size;
        let id = state.id(&format!("{}@k", wish.volume));
        let snapshot = Snapshot {
            id: id.clone(),
            volume: wish.volume.clone(),
            node: NODE.to_owned(),
            size,
            cut_unix_nanos: Some(1_700_000_000_000_000_000),
            ready: true,
            group: None,
        };
        state.snapshots.insert(id, (wish.name.clone(), snapshot.clone()));
        Ok(snapshot)
    }

    async fn delete_snapshot(&self, id: &str, _: Deadline) -> Result<()> {
        let mut state = self.state();
        if state.view_of(id).is_some() {
            return Err(Error::precondition("a view shows it"));
        }
        if state.snapshots.get(id).is_some_and(|(_, snapshot)| snapshot.group.is_some()) {
            return Err(Error::invalid("it is one of a group"));
        }
        state.snapshots.remove(id);
        Ok(())
    }

    async fn get_snapshot(&self, id: &str) -> Result<Snapshot> {
        let snapshot = self.state().snapshots.get(id).map(|(_, snapshot)| snapshot.clone());
        snapshot.ok_or_else(|| Error::not_found(format!("there is no snapshot {id:?}")))
    }

    async fn list_snapshots(&self) -> Result<Vec<Snapshot>> {
        Ok(self.state().snapshots.values().map(|(_, snapshot)| snapshot.clone()).collect())
    }

    async fn capacity(&self, wish: &CapacityWish) -> Result<Capacity> {
        let elsewhere = wish.node.as_ref().is_some_and(|node| node != NODE)
            || wish.pool.as_ref().is_some_and(|pool| pool.as_str() != POOL);
        let fits = if elsewhere || wish.images > 3 { Bytes::ZERO } else { self.state().free() };
        Ok(Capacity { available: fits, largest: fits })
    }
}

impl Groups for Volumes {
    async fn create_group(&self, wish: &GroupWish, deadline: Deadline) -> Result<Group> {
        let id = format!("group-{}", wish.name);
        if let Some(found) = self.get_group(&id, &[]).await? {
            let volumes = found.snapshots.iter().map(|snapshot| snapshot.volume.clone()).collect();
            return if wish.volumes == volumes { Ok(found) } else { Err(exists(&wish.name)) };
        }
        for volume in &wish.volumes {
            let wish = SnapshotWish {
                name: format!("{} of {volume}", wish.name),
                volume: volume.clone(),
                min_in_sync: wish.min_in_sync,
                policy: SnapshotPolicy::Borrow,
                nodes: Nodes::default(),
                volume_snapshot: wish.volume_group_snapshot.clone(),
            };
            let snapshot = self.create_snapshot(&wish, deadline).await?;
            let mut state = self.state();
            let (_, snapshot) = state.snapshots.get_mut(&snapshot.id).expect("just made");
            snapshot.group = Some(id.clone());
        }
        Ok(self.get_group(&id, &[]).await?.expect("just made"))
    }

    async fn delete_group(&self, id: &str, _: &[String], _: Deadline) -> Result<()> {
        self.state().snapshots.retain(|_, (_, snapshot)| snapshot.group.as_deref() != Some(id));
        Ok(())
    }

    async fn get_group(&self, id: &str, _: &[String]) -> Result<Option<Group>> {
        let mut snapshots = self.list_snapshots().await?;
        snapshots.retain(|snapshot| snapshot.group.as_deref() == Some(id));
        let first = snapshots.first().map(|snapshot| snapshot.cut_unix_nanos);
        Ok(first.map(|cut_unix_nanos| Group { id: id.to_owned(), cut_unix_nanos, ready: true, snapshots }))
    }
}

impl Devices for Volumes {
    async fn find(&self, id: &str) -> Result<Option<KnownVolume>> {
        let state = self.state();
        let known = |(_, volume): &(String, Volume)| KnownVolume {
            id: id.to_owned(),
            device: Some(state.device(id)),
            view: images(volume).is_none(),
        };
        Ok(state.volumes.get(id).map(known))
    }

    async fn open(&self, id: &str) -> Result<OpenVolume> {
        let state = self.state();
        let (_, volume) =
            state.volumes.get(id).ok_or_else(|| Error::not_found(format!("there is no volume {id:?}")))?;
        let view = images(volume).is_none();
        let device = state.device(id);
        let devno = DevNo { major: 253, minor: state.minors[id] };
        let formatting = state.formatting.contains(id);
        Ok(OpenVolume { device, devno, read_only: view, view, formatting, clone: false })
    }

    async fn note_format(&self, id: &str, under_way: bool) -> Result<()> {
        let formatting = &mut self.state().formatting;
        if under_way {
            formatting.insert(id.to_owned());
        } else {
            formatting.remove(id);
        }
        Ok(())
    }
}
