//! A machine with a pool, and what the test knows of its volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use splitmirror::engine::group::Group;
use splitmirror::engine::{Engine, Settings, pool};
use splitmirror::host::sim::{SimHost, Stop, Write};
use splitmirror::host::{DeviceMapper as _, Entropy};
use splitmirror::ids::{LvName, VgName};
use splitmirror::lvm2::model::{LogicalVolume, SegmentKind};
use splitmirror::raid::RaidTable;
use splitmirror::report::{Class, chain};
use splitmirror::units::{Bytes, Sectors};
use splitmirror::volume::spec::{GroupSpec, SnapshotPolicy, SnapshotSpec, VolumeSpec};
use splitmirror::volume::tune::Change;

use crate::history::History;

/// Size of an extent: the smallest that a pool may have.
pub const EXTENT: Bytes = Bytes::kib(512);
/// Size of a volume.
pub const SIZE: Bytes = Bytes::mib(2);
/// What a volume is expanded to.
pub const LARGER: Bytes = Bytes::mib(3);
/// Size of a region: a volume has so many that a mark that is lost is not made again by chance.
pub const REGION: Bytes = Bytes::kib(8);

type EngineResult<T> = splitmirror::engine::Result<T>;

/// What the test knows of a snapshot.
#[derive(Clone)]
pub struct Snapshot {
    /// Moments of the volume's history at which it can have been cut.
    pub cut: RangeInclusive<usize>,
    /// The machine when the snapshot was first seen ready: it must not change any more.
    pub golden: Option<SimHost>,
    /// How many images it needs attached.
    pub min_in_sync: usize,
}

/// What the test knows of a volume.
#[derive(Clone)]
pub struct Volume {
    /// Its images.
    pub images: usize,
    /// Its size.
    pub size: Bytes,
    /// It was activated.
    pub active: bool,
    /// Its snapshots, by name.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Slots behind those of its own images, and the snapshots that they were added for; none in one that is kept empty.
    pub grown: Vec<Option<String>>,
    /// Writes of which power cuts left open whether they were done.
    pub uncertain: Vec<(usize, Write)>,
    /// What a clone held at first.
    pub base: Option<Arc<Vec<u8>>>,
    /// The id of the snapshot whose image it was.
    pub image_of: Option<String>,
}

impl Volume {
    /// How many slots it has.
    pub fn slots(&self) -> usize {
        self.images + self.grown.len()
    }

    /// How many images are attached.
    pub fn attached(&self) -> usize {
        self.images + self.grown.iter().flatten().count() - self.snapshots.len()
    }

    /// How many images must stay attached for its snapshots.
    pub fn must_stay(&self) -> usize {
        self.snapshots.values().map(|snapshot| snapshot.min_in_sync).max().unwrap_or_default()
    }

    /// A snapshot is gone: its image is merged, or has left with all empty slots at the end.
    pub fn merged(&mut self, snapshot: &str) {
        self.snapshots.remove(snapshot);
        for grown in &mut self.grown {
            grown.take_if(|of| of == snapshot);
        }
        self.grown.truncate(self.grown.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
    }
}

/// A machine, and what the test knows of it.
#[derive(Clone)]
pub struct Machine {
    /// The machine.
    pub host: SimHost,
    /// All its disks.
    pub disks: Vec<PathBuf>,
    /// Those in the pool; none when there is no pool.
    pub pool: Vec<PathBuf>,
    /// Its volumes, by name.
    pub volumes: BTreeMap<String, Volume>,
    /// Its views, by name, and the snapshots' ids.
    pub views: BTreeMap<String, String>,
    /// Its group snapshots, by name, and their volumes. Each member has the group's name.
    pub groups: BTreeMap<String, Vec<String>>,
}

/// The pool's name.
pub fn vg() -> VgName {
    "vg".parse().expect("legal")
}

/// The name of a volume's device.
pub fn top(volume: &str) -> String {
    format!("vg-{volume}")
}

/// The name of a volume as an LV.
pub fn lv(volume: &str) -> LvName {
    volume.parse().expect("legal")
}

/// A snapshot's id.
pub fn snapshot_id(volume: &str, snapshot: &str) -> String {
    format!("{volume}@{snapshot}")
}

/// How a pool is made.
pub fn options() -> pool::Options {
    pool::Options { extent_size: EXTENT, ..pool::Options::default() }
}

/// An ordinary volume.
pub fn volume_spec(name: &str, images: usize) -> VolumeSpec {
    VolumeSpec {
        name: name.to_owned(),
        size: SIZE,
        limit: None,
        images,
        region_size: REGION,
        min_recovery_rate: None,
        max_recovery_rate: None,
    }
}

/// A clone.
pub fn clone_spec(size: Bytes) -> VolumeSpec {
    VolumeSpec { size, ..volume_spec("c", 2) }
}

/// An ordinary snapshot.
pub fn snapshot_spec(volume: &str, name: &str) -> SnapshotSpec {
    SnapshotSpec { name: name.to_owned(), volume: lv(volume), min_in_sync: 1, policy: SnapshotPolicy::Borrow }
}

/// A snapshot for which an image is added.
pub fn grown_spec(volume: &str, name: &str) -> SnapshotSpec {
    SnapshotSpec { policy: SnapshotPolicy::Grow, ..snapshot_spec(volume, name) }
}

/// An ordinary group snapshot.
pub fn group_spec(name: &str, volumes: &[&str]) -> GroupSpec {
    GroupSpec {
        name: name.to_owned(),
        volumes: volumes.iter().map(|volume| lv(volume)).collect(),
        min_in_sync: 1,
    }
}

/// A process: it opens the group when it first needs it, and keeps the engine.
pub struct Process {
    /// The machine it runs on.
    pub host: SimHost,
    engine: Option<Engine<SimHost>>,
}

impl Process {
    /// A new process.
    pub fn new(host: &SimHost) -> Self {
        Self { host: host.clone(), engine: None }
    }

    /// Its engine.
    pub fn engine(&mut self) -> EngineResult<&Engine<SimHost>> {
        if self.engine.is_none() {
            self.engine = Some(Engine::open(self.host.clone(), vg(), Settings::default())?);
        }
        Ok(self.engine.as_ref().expect("just opened"))
    }

    /// Repeats an operation while it is in progress, as CSI does.
    pub fn insist(&mut self, work: impl Fn(&mut Self) -> EngineResult<()>) -> EngineResult<()> {
        for _ in 0..20 {
            match work(self) {
                Err(error) if matches!(error.class(), Class::InProgress) => {
                    self.engine()?.advance()?;
                    self.host.pause(Duration::from_millis(500));
                }
                other => return other,
            }
        }
        panic!("still in progress after many repetitions");
    }

    /// Lets the engine and the kernel finish what runs in the background.
    pub fn finish(&mut self) -> EngineResult<()> {
        for _ in 0..200 {
            let more = self.engine()?.advance()?;
            if !more && self.host.at_rest() {
                return Ok(());
            }
            self.host.pause(Duration::from_millis(100));
        }
        panic!(
            "the engine still has something to do: {:?}",
            self.engine()?.volumes().map_err(|error| chain(&error))
        );
    }
}

impl Machine {
    /// A machine with four disks and no pool.
    pub fn bare() -> Self {
        let host = SimHost::new(1);
        host.sync_speed(16_384);
        let disks = (0..4).map(|_| host.add_disk(Bytes::mib(16))).collect();
        Self {
            host,
            disks,
            pool: Vec::new(),
            volumes: BTreeMap::new(),
            views: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// The same with a pool on the first three.
    pub fn with_pool() -> Self {
        let mut machine = Self::bare();
        machine.pool = machine.disks[..3].to_vec();
        pool::create(&machine.host, &vg(), &machine.pool, &options()).expect("a pool");
        machine
    }

    /// The same with a busy volume `a`.
    pub fn with_volume(images: usize) -> Self {
        let mut machine = Self::with_pool();
        machine.create("a", images);
        machine.host.sleep(Duration::from_secs(2));
        machine
    }

    /// The same with another busy volume `b`.
    pub fn with_two_volumes(images: usize) -> Self {
        let mut machine = Self::with_pool();
        machine.create("a", images);
        machine.create("b", 2);
        machine.host.sleep(Duration::from_secs(2));
        machine
    }

    /// The same, of images whose first one lies on a disk that seeks: it is the one that is split off first.
    pub fn with_slow_first_image(images: usize) -> Self {
        let machine = Self::with_volume(images);
        machine.slow_first_image();
        machine
    }

    /// The first image lies on a disk that seeks.
    pub fn slow_first_image(&self) {
        let volumes = self.process().engine().expect("open").volumes().expect("listed");
        self.host.rotate(volumes[0].slots[0].device.as_ref());
    }

    /// A busy volume `a` in a pool of all disks.
    pub fn with_wide_volume(images: usize) -> Self {
        let mut machine = Self::with_pool();
        machine.pool = machine.disks.clone();
        pool::extend(&machine.host, &vg(), &machine.disks[3..], &options()).expect("extended");
        machine.create("a", images);
        machine.host.sleep(Duration::from_secs(2));
        machine
    }

    /// A busy volume `a` in a pool of five disks.
    pub fn with_five_disks(images: usize) -> Self {
        let mut machine = Self::with_wide_volume(images);
        machine.disks.push(machine.host.add_disk(Bytes::mib(16)));
        machine.pool = machine.disks.clone();
        pool::extend(&machine.host, &vg(), &machine.disks[4..], &options()).expect("extended");
        machine
    }

    /// `a` gets more images, or fewer.
    pub fn set_images(&mut self, images: usize) {
        let change = Change { images: Some(images), ..Change::default() };
        let mut process = self.process();
        process.engine().expect("open").modify_volume(&lv("a"), &change).expect("changed");
        process.finish().expect("copied");
        self.volumes.get_mut("a").expect("a volume").images = images;
    }

    /// The raid table that a volume's array runs.
    pub fn table(&self, volume: &str) -> RaidTable {
        let lines = self.host.dm_look(&top(volume)).expect("looked").expect("an array").1;
        RaidTable::parse(&lines[0]).expect("a raid table")
    }

    /// Another machine, as this one is now.
    pub fn fork(&self, seed: u64) -> Self {
        let machine = Self { host: self.host.fork(), ..self.clone() };
        machine.host.reseed(seed);
        machine
    }

    /// A new process on it.
    pub fn process(&self) -> Process {
        Process::new(&self.host)
    }

    /// Makes a volume and puts load on it.
    pub fn create(&mut self, name: &str, images: usize) {
        self.process().engine().expect("open").create_volume(&volume_spec(name, images)).expect("created");
        self.created(name, images);
    }

    /// A volume was made.
    pub fn created(&mut self, name: &str, images: usize) {
        let volume = Volume {
            images,
            size: SIZE,
            active: true,
            snapshots: BTreeMap::new(),
            grown: Vec::new(),
            uncertain: Vec::new(),
            base: None,
            image_of: None,
        };
        self.volumes.insert(name.to_owned(), volume);
        self.host.keep_busy(&top(name), SIZE.sectors_floor(), 1);
    }

    /// A clone was made of a volume as it was some time since `begun`, or of a snapshot of it. It holds that already, though it
    /// is not filled; from now on there is load on it.
    pub fn cloned(&mut self, name: &str, size: Bytes, source: &str, snapshot: Option<&str>, begun: usize) {
        let len = size.sectors_floor();
        let base = self.host.peek(&format!("/dev/mapper/{}", top(name)), Sectors(0), len);
        let value =
            |sector: u64| u64::from_le_bytes(base[sector_at(sector)][..8].try_into().expect("eight bytes"));
        let history = self.history(source);
        let written: BTreeSet<u64> = history.sectors().into_iter().collect();
        let contents = written.iter().map(|sector| (*sector, value(*sector))).collect();
        let moments = history.moments(&contents).expect("a clone holds what its source held");
        let since = match snapshot {
            Some(snapshot) => self.volumes[source].snapshots[snapshot].cut.clone(),
            None => begun..=history.len(),
        };
        assert!(
            moments.start() <= since.end() && since.start() <= moments.end(),
            "{moments:?}, not {since:?}"
        );
        let blank = (0..len.0).filter(|sector| !written.contains(sector));
        assert!(blank.into_iter().all(|sector| base[sector_at(sector)] == [0; 512]), "the rest is blank");
        self.created(name, 2);
        let volume = self.volumes.get_mut(name).expect("just made");
        (volume.size, volume.base) = (size, Some(Arc::new(base)));
        self.host.keep_busy(&top(name), len, 1);
    }

    /// Makes a clone of a snapshot of `a`, and lets it begin to fill.
    pub fn with_clone(mut self, size: Bytes) -> Self {
        self.split("a", "one");
        self.host.sleep(Duration::from_secs(1));
        let mut process = self.process();
        process
            .engine()
            .expect("open")
            .create_clone(&clone_spec(size), &snapshot_id("a", "one"))
            .expect("cloned");
        self.cloned("c", size, "a", Some("one"), 0);
        self.host.sync_speed(4096);
        process.engine().expect("open").advance().expect("advanced");
        self.host.sleep(Duration::from_millis(250));
        self
    }

    /// Makes a snapshot.
    pub fn split(&mut self, volume: &str, name: &str) {
        let begun = self.host.journal(&top(volume)).acknowledged.len();
        self.process().engine().expect("open").create_snapshot(&snapshot_spec(volume, name)).expect("split");
        self.snapped(volume, name, begun);
    }

    /// A snapshot was made, some time since `begun`.
    pub fn snapped(&mut self, volume: &str, name: &str, begun: usize) {
        let now = self.host.journal(&top(volume)).acknowledged.len();
        let volume = self.volumes.get_mut(volume).expect("a volume");
        volume.snapshots.insert(name.to_owned(), Snapshot { cut: begun..=now, golden: None, min_in_sync: 1 });
    }

    /// A snapshot needs so many images attached as long as it lasts.
    pub fn needs(&mut self, volume: &str, name: &str, min_in_sync: usize) {
        let snapshots = &mut self.volumes.get_mut(volume).expect("a volume").snapshots;
        snapshots.get_mut(name).expect("a snapshot").min_in_sync = min_in_sync;
    }

    /// Makes a snapshot of an image that is added for it.
    pub fn grow(&mut self, volume: &str, name: &str) {
        let begun = self.host.journal(&top(volume)).acknowledged.len();
        let grow =
            |process: &mut Process| process.engine()?.create_snapshot(&grown_spec(volume, name)).map(drop);
        self.process().insist(grow).expect("grown");
        self.grown(volume, name, begun);
    }

    /// Such a snapshot was made, some time since `begun`.
    pub fn grown(&mut self, volume: &str, name: &str, begun: usize) {
        self.snapped(volume, name, begun);
        let grown = &mut self.volumes.get_mut(volume).expect("a volume").grown;
        match grown.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(name.to_owned()),
            None => grown.push(Some(name.to_owned())),
        }
    }

    /// A group snapshot was made, some time since so many writes to each of its volumes.
    pub fn snapped_together(&mut self, name: &str, volumes: &[&str], begun: usize) {
        for volume in volumes {
            self.snapped(volume, name, begun);
        }
        self.groups.insert(name.to_owned(), volumes.iter().map(|volume| (*volume).to_owned()).collect());
    }

    /// A group snapshot is gone.
    pub fn merged_together(&mut self, name: &str) {
        for volume in self.groups.remove(name).unwrap_or_default() {
            self.volumes.get_mut(&volume).expect("a volume").merged(name);
        }
    }

    /// A volume holds what a snapshot of it holds.
    pub fn rolled_back(&mut self, volume: &str, snapshot: &str) {
        let group = Group::read(&self.host, &vg(), &Settings::default(), None).expect("a group");
        let lvs = &group.vg().lvs;
        let tag = format!("splitmirror.io/snapshot={snapshot}");
        let image = lvs.iter().find(|lv| lv.tags.contains(&tag)).expect("the snapshot is still there");
        let attached = lvs
            .iter()
            .find(|lv| lv.name.as_str().starts_with(&format!("{volume}_rimage_")) && !lv.is_tracked_image());
        let legs = pieces(&group, image).into_iter().zip(pieces(&group, attached.expect("a leg")));
        for ((disk, start, len), (other, other_start, other_len)) in legs {
            assert_eq!(len, other_len, "legs are cut alike");
            let differ = self.host.differences((&disk, start), (&other, other_start), len);
            assert!(differ.is_empty(), "snapshot {snapshot} and volume {volume} differ in {differ:?}");
        }
        let cut = *self.volumes[volume].snapshots[snapshot].cut.end();
        self.host.rewind(&top(volume), cut);
    }

    /// A snapshot of a volume has become a volume, whose first image is what the snapshot was.
    pub fn detached(&mut self, name: &str, images: usize, source: &str, snapshot: &str) {
        let known = self.volumes[source].snapshots.get(snapshot);
        let group = Group::read(&self.host, &vg(), &Settings::default(), None).expect("a group");
        let image = group.vg().lv(&lv(name).image(0)).expect("it has images");
        for (disk, start, len) in pieces(&group, image) {
            let golden = known.as_ref().and_then(|snapshot| snapshot.golden.as_ref());
            let differ =
                golden.map_or_else(Vec::new, |golden| self.host.differs_from(golden, &disk, start, len));
            assert!(differ.is_empty(), "volume {name} is not what snapshot {snapshot} was: {differ:?}");
        }
        self.cloned(name, self.volumes[source].size, source, Some(snapshot), 0);
        self.volumes.get_mut(source).expect("a volume").snapshots.remove(snapshot);
        let new = self.volumes.get_mut(name).expect("just made");
        (new.images, new.image_of) = (images, Some(snapshot_id(source, snapshot)));
    }

    /// Images of a volume have become a volume, some time since `begun`.
    pub fn parted(&mut self, name: &str, images: usize, source: &str, begun: usize) {
        self.cloned(name, self.volumes[source].size, source, None, begun);
        let new = self.volumes.get_mut(name).expect("just made");
        (new.images, new.image_of) = (images, Some(source.to_owned()));
        self.volumes.get_mut(source).expect("a volume").images -= images;
    }

    /// A volume is gone.
    pub fn gone(&mut self, volume: &str) {
        self.volumes.remove(volume);
        self.host.forget(&top(volume));
    }

    /// All applications pause.
    pub fn rest(&self) {
        self.volumes.keys().for_each(|name| self.host.rest(&top(name)));
    }

    /// Deletes all views and snapshots: what a merge must copy is known to be marked only when it was copied.
    pub fn merge_all(&mut self, process: &mut Process) -> EngineResult<()> {
        for view in std::mem::take(&mut self.views).into_keys() {
            process.engine()?.delete_volume(&view)?;
        }
        for group in self.groups.keys().cloned().collect::<Vec<_>>() {
            process.engine()?.delete_group_snapshot(&group)?;
            process.finish()?;
            self.merged_together(&group);
        }
        for (name, volume) in &mut self.volumes {
            for snapshot in volume.snapshots.keys().cloned().collect::<Vec<_>>() {
                process.engine()?.delete_snapshot(&snapshot_id(name, &snapshot))?;
                process.finish()?;
                volume.merged(&snapshot);
            }
        }
        Ok(())
    }

    /// Starts the machine or the process again after it stopped.
    pub fn start_again(&mut self, stop: Stop) {
        if stop == Stop::Killed {
            return self.host.restart_process();
        }
        for (name, volume) in &mut self.volumes {
            let journal = self.host.journal(&top(name));
            volume.uncertain.extend(journal.pending.map(|write| (journal.acknowledged.len(), write)));
            self.host.settle(&top(name), false);
        }
        self.host.reboot();
    }

    /// What the applications wrote to a volume.
    pub fn history(&self, volume: &str) -> History {
        let of = &self.volumes[volume];
        let history = History::new(&self.host.journal(&top(volume)), &of.uncertain);
        let Some(base) = &of.base else { return history };
        history.starting_from(|sector| {
            u64::from_le_bytes(base[sector_at(sector)][..8].try_into().expect("eight bytes"))
        })
    }
}

/// Where a sector is among bytes.
pub fn sector_at(sector: u64) -> std::ops::Range<usize> {
    let at = usize::try_from(sector).expect("a small volume") * 512;
    at..at + 512
}

/// Where an LV of linear segments lies: disk, first sector, sectors.
pub fn pieces(group: &Group, lv: &LogicalVolume) -> Vec<(String, Sectors, Sectors)> {
    let extent = group.vg().extent_size;
    let piece = |kind: &SegmentKind, count: Sectors| {
        let SegmentKind::Linear { pv, first } = kind else { panic!("{} is not linear", lv.name) };
        let start = group.vg().pv(pv).expect("a PV").pe_start + first.sectors(extent);
        (group.device(pv).expect("a disk").path.display().to_string(), start, count)
    };
    lv.segments.iter().map(|segment| piece(&segment.kind, segment.count.sectors(extent))).collect()
}
