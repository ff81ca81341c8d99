//! The end state: whatever happened, this must hold when the engine is content.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use splitmirror::engine::group::Group;
use splitmirror::engine::{Engine, Settings};
use splitmirror::host::sim::SimHost;
use splitmirror::host::{DeviceMapper, TargetLine};
use splitmirror::ids::{DmId, HiddenUuid};
use splitmirror::lvm2::check::{Severity, check as check_metadata};
use splitmirror::lvm2::model::LogicalVolume;
use splitmirror::raid::RaidStatus;
use splitmirror::report::chain;
use splitmirror::units::{Bytes, Extents, Sectors};
use splitmirror::volume::changes::BLOCK;
use splitmirror::volume::info::{GroupInfo, SlotState, SnapshotInfo, VolumeInfo};

use crate::machine::{Machine, Process, pieces, snapshot_id, top, vg};

/// Checks everything. Panics with `context` in its message.
pub fn check(machine: &mut Machine, process: &mut Process, context: &str) {
    if let Err(wrong) = Checker::new(machine).and_then(|mut checker| checker.all(process)) {
        panic!("{context}: {wrong}");
    }
}

/// Checks that of each group all snapshots can be used, or none: also before what failed is repeated. Panics with `context`
/// in its message.
pub fn all_or_none(process: &mut Process, context: &str) {
    let groups = process.engine().and_then(Engine::group_snapshots);
    for group in groups.unwrap_or_else(|error| panic!("{context}: groups: {}", chain(&error))) {
        let usable = group.snapshots.iter().any(|snapshot| snapshot.ready);
        assert_eq!(usable, group.ready, "{context}: {group:?}");
    }
}

type Check = Result<(), String>;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should: &T) -> Check {
    if is == should { Ok(()) } else { Err(format!("{what}: {is:?} instead of {should:?}")) }
}

/// Whether it waits to leave, behind others that were added for snapshots.
fn is_parked(image: &LogicalVolume) -> bool {
    image.tags.iter().any(|tag| tag == "splitmirror.io/leaving")
}

struct Checker<'a> {
    machine: &'a mut Machine,
    host: SimHost,
    group: Group,
}

impl<'a> Checker<'a> {
    fn new(machine: &'a mut Machine) -> Result<Self, String> {
        let host = machine.host.clone();
        let group = Group::read(&host, &vg(), &Settings::default(), None).map_err(|error| chain(&error))?;
        Ok(Self { machine, host, group })
    }

    fn all(&mut self, process: &mut Process) -> Check {
        same("violations", &self.host.violations(), &Vec::new())?;
        self.metadata()?;
        self.listings(process)?;
        self.devices()?;
        let names: Vec<String> = self.machine.volumes.keys().cloned().collect();
        for name in names {
            self.legs(&name).map_err(|wrong| format!("volume {name}: {wrong}"))?;
            self.snapshots(&name)?;
            self.changes(&name, process)?;
        }
        self.groups(process)?;
        self.extents()
    }

    fn metadata(&self) -> Check {
        let findings = check_metadata(self.group.vg());
        if let Some(finding) = findings.iter().find(|finding| finding.severity == Severity::Error) {
            return Err(format!("metadata: {finding:?}"));
        }
        same("faults", &format!("{:?}", self.group.faults()), &"[]".to_owned())?;
        let disks: BTreeSet<String> = self
            .group
            .vg()
            .pvs
            .iter()
            .filter_map(|pv| Some(self.group.device(&pv.name)?.path.display().to_string()))
            .collect();
        let should = self.machine.pool.iter().map(|path| path.display().to_string()).collect();
        same("disks of the pool", &disks, &should)
    }

    /// What the engine shows is what the test knows.
    fn listings(&self, process: &mut Process) -> Check {
        let engine = process.engine().map_err(|error| chain(&error))?;
        let volumes = engine.volumes().map_err(|error| chain(&error))?;
        let names =
            |volumes: &[VolumeInfo]| volumes.iter().map(|v| v.id.to_string()).collect::<BTreeSet<_>>();
        same("volumes", &names(&volumes), &self.machine.volumes.keys().cloned().collect())?;
        for volume in &volumes {
            let known = &self.machine.volumes[volume.id.as_str()];
            same("size", &volume.size, &known.size)?;
            let split = volume.slots.iter().filter(|slot| slot.state == SlotState::Split).count();
            let weak = !known.active || (known.attached() == 1 && known.images > 1);
            same(&format!("has problems: {:?}", volume.problems), &!volume.problems.is_empty(), &weak)?;
            let in_sync = volume.slots.iter().filter(|slot| slot.state == SlotState::InSync).count();
            same("split slots", &split, &known.snapshots.len())?;
            same("images", &volume.images(), &known.images)?;
            let attached = known.attached();
            same(
                &format!("slots in sync of {:?}", volume.slots),
                &in_sync,
                &if known.active { attached } else { 0 },
            )?;
        }
        let snapshots = engine.snapshots().map_err(|error| chain(&error))?;
        let ids =
            |snapshots: &[SnapshotInfo]| snapshots.iter().map(|s| s.id.clone()).collect::<BTreeSet<_>>();
        let known = self.machine.volumes.iter();
        let known = known.flat_map(|(name, v)| v.snapshots.keys().map(|s| snapshot_id(name, s))).collect();
        same("snapshots", &ids(&snapshots), &known)?;
        if let Some(snapshot) = snapshots.iter().find(|snapshot| !snapshot.ready) {
            return Err(format!("not ready: {snapshot:?}"));
        }
        let views = engine.views().map_err(|error| chain(&error))?;
        let views: BTreeMap<String, String> =
            views.into_iter().map(|view| (view.name, view.snapshot)).collect();
        same("views", &views, &self.machine.views)
    }

    fn sub_lvs(&self, volume: &str) -> Vec<(&LogicalVolume, &LogicalVolume)> {
        let name = volume.parse().expect("legal");
        let raid = self.group.vg().lv(&name).and_then(|lv| lv.raid1()).expect("listed");
        let lv = |name| self.group.vg().lv(name).expect("checked");
        raid.slots.iter().map(|slot| (lv(&slot.image), lv(&slot.meta))).collect()
    }

    fn id(&self, lv: &LogicalVolume, visible: bool) -> DmId {
        let vg = self.group.vg();
        if visible {
            DmId::visible(&vg.name, &vg.id, &lv.name, &lv.id)
        } else {
            DmId::hidden(&vg.name, &vg.id, &lv.name, &lv.id, HiddenUuid::Bare)
        }
    }

    /// Exactly the devices that the metadata asks for, none of them suspended. The rmeta of a split image has one until the
    /// array is stopped, and none after a start.
    fn devices(&self) -> Check {
        let mut should = BTreeSet::new();
        let is: BTreeSet<String> = self.host.devices().into_iter().collect();
        for (name, volume) in self.machine.volumes.iter().filter(|(_, volume)| volume.active) {
            should.insert(top(name));
            for (image, meta) in self.sub_lvs(name) {
                if is_parked(image) {
                    continue;
                }
                should.insert(self.id(image, image.is_tracked_image()).name);
                let meta = self.id(meta, false).name;
                if !image.is_tracked_image() || is.contains(&meta) {
                    should.insert(meta);
                }
            }
            let status: Vec<TargetLine> = self.host.dm_status(&top(name)).map_err(|error| chain(&error))?;
            let status = RaidStatus::parse(&status[0].params).map_err(|error| chain(&error))?;
            same(&format!("{name} settled: {status:?}"), &status.is_settled(), &true)?;
            same("slots in the kernel", &status.health.len(), &volume.slots())?;
        }
        same("devices", &is, &should)?;
        for name in should {
            let info = self.host.dm_info(&name).map_err(|error| chain(&error))?.ok_or("gone")?;
            let wrong = info.suspended || info.inactive_table || !info.live_table;
            same(&format!("{name} is disturbed"), &wrong, &false)?;
        }
        Ok(())
    }

    /// All attached legs are equal and hold everything that was acknowledged.
    fn legs(&self, name: &str) -> Check {
        let subs = self.sub_lvs(name);
        let images: Vec<&LogicalVolume> =
            subs.iter().filter(|(image, _)| !image.is_tracked_image()).map(|(image, _)| *image).collect();
        for other in &images[1..] {
            for at in (0..self.machine.volumes[name].size.sectors_floor().0).step_by(1024) {
                let (a, b) = (self.place(images[0], at), self.place(other, at));
                let differ = self.host.differences((&a.0, a.1), (&b.0, b.1), Sectors(1024));
                if !differ.is_empty() {
                    let (one, two) = (images[0].name.as_str(), other.name.as_str());
                    let sectors: Vec<u64> = differ.iter().map(|sector| sector + at).collect();
                    return Err(format!("{one} and {two} differ in {sectors:?}"));
                }
            }
        }
        let history = self.machine.history(name);
        self.base(name, images[0], &history.sectors())?;
        let contents = self.contents(images[0], &history.sectors())?;
        let moments = history.moments(&contents)?;
        same("acknowledged writes on the legs", moments.end(), &history.len())
    }

    /// All bytes of an image. Joined as runs, for byte by byte takes a third of all tests' time.
    fn bytes(&self, image: &LogicalVolume) -> Vec<u8> {
        let pieces = pieces(&self.group, image);
        let runs = pieces.iter().map(|(disk, start, len)| self.host.peek(disk, *start, *len));
        runs.collect::<Vec<_>>().concat()
    }

    /// What nobody has written to a clone is what it was made from.
    fn base(&self, name: &str, image: &LogicalVolume, written: &[u64]) -> Check {
        let Some(base) = &self.machine.volumes[name].base else { return Ok(()) };
        let is = self.bytes(image);
        let written: BTreeSet<u64> = written.iter().copied().collect();
        let sectors = (0..).zip(is.chunks(512).zip(base.chunks(512)));
        let differ = sectors.filter(|(sector, (is, base))| is != base && !written.contains(sector));
        let wrong: Vec<u64> = differ.map(|(sector, _)| sector).take(8).collect();
        same("sectors that are not what the clone was made from", &wrong, &Vec::new())
    }

    /// Disk and sector of a sector of an LV.
    fn place(&self, lv: &LogicalVolume, mut sector: u64) -> (String, Sectors) {
        for (disk, start, len) in pieces(&self.group, lv) {
            if sector < len.0 {
                return (disk, Sectors(start.0 + sector));
            }
            sector -= len.0;
        }
        panic!("{} is shorter than that", lv.name);
    }

    fn contents(&self, image: &LogicalVolume, sectors: &[u64]) -> Result<BTreeMap<u64, u64>, String> {
        let read = |sector: &u64| {
            let (disk, at) = self.place(image, *sector);
            let bytes = self.host.peek(&disk, at, Sectors(1));
            let value = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            let whole = bytes == SimHost::sector_of(value);
            if whole {
                Ok((*sector, value))
            } else {
                Err(format!("sector {sector} of {} is rubbish", image.name))
            }
        };
        sectors.iter().map(read).collect()
    }

    /// Snapshots are what the volume was at their cut, and stay so.
    fn snapshots(&mut self, name: &str) -> Check {
        let history = self.machine.history(name);
        let snapshots: Vec<String> = self.machine.volumes[name].snapshots.keys().cloned().collect();
        for snapshot in snapshots {
            let tag = format!("splitmirror.io/snapshot={snapshot}");
            let subs = self.sub_lvs(name);
            let found = subs.iter().find(|(image, _)| image.tags.contains(&tag));
            let image = found.ok_or_else(|| format!("no image is tagged {tag}"))?.0;
            let of = format!("snapshot {snapshot} of {name}");
            let contents =
                self.contents(image, &history.sectors()).map_err(|wrong| format!("{of}: {wrong}"))?;
            let moments =
                history.moments(&contents).map_err(|wrong| format!("{of} is no moment: {wrong}"))?;
            let pieces = pieces(&self.group, image);
            let known = &self.machine.volumes[name].snapshots[&snapshot];
            let (first, last) =
                (*moments.start().max(known.cut.start()), *moments.end().min(known.cut.end()));
            if first > last {
                return Err(format!("{of} is from {moments:?}, not from {:?}", known.cut));
            }
            for (disk, start, len) in &pieces {
                let golden = known.golden.as_ref();
                let changed =
                    golden.map_or(Vec::new(), |golden| self.host.differs_from(golden, disk, *start, *len));
                same(&format!("{of} has changed"), &changed, &Vec::new())?;
            }
            let known = self.machine.volumes.get_mut(name).and_then(|v| v.snapshots.get_mut(&snapshot));
            let known = known.expect("just seen");
            known.cut = first..=last;
            if known.golden.is_none() {
                known.golden = Some(self.host.fork());
            }
        }
        Ok(())
    }

    /// Every snapshot of a volume, in slices of a block.
    fn blocks(&self, name: &str) -> Vec<(String, Vec<Vec<u8>>)> {
        let subs = self.sub_lvs(name);
        let block = usize::try_from(BLOCK.0).expect("small");
        let read = |snapshot: &String| {
            let tag = format!("splitmirror.io/snapshot={snapshot}");
            let (image, _) = subs.iter().find(|(image, _)| image.tags.contains(&tag)).expect("checked");
            (snapshot_id(name, snapshot), self.bytes(image).chunks(block).map(<[u8]>::to_vec).collect())
        };
        self.machine.volumes[name].snapshots.keys().map(read).collect()
    }

    /// The engine tells exactly the blocks that differ between any two snapshots, or that hold anything.
    fn changes(&self, name: &str, process: &mut Process) -> Check {
        let engine = process.engine().map_err(|error| chain(&error))?;
        let told = |id: &str, base: Option<&str>| -> Result<BTreeSet<u64>, String> {
            let (mut told, mut from) = (BTreeSet::new(), Some(Bytes::ZERO));
            while let Some(at) = from {
                let part = engine.blocks(id, base, at).map_err(|error| chain(&error))?;
                let starts =
                    part.ranges.iter().flat_map(|range| range.start.0 / BLOCK.0..range.end.0 / BLOCK.0);
                told.extend(starts);
                from = part.next;
            }
            Ok(told)
        };
        let zeroes = vec![0; usize::try_from(BLOCK.0).expect("small")];
        let snapshots = self.blocks(name);
        for (id, blocks) in &snapshots {
            let holding =
                (0..).zip(blocks).filter(|(_, block)| **block != zeroes).map(|(at, _)| at).collect();
            same(&format!("blocks of {id}"), &told(id, None)?, &holding)?;
            for (base, others) in &snapshots {
                let pairs = (0..).zip(blocks.iter().zip(others));
                let differ = pairs.filter(|(_, (one, other))| one != other).map(|(at, _)| at).collect();
                same(&format!("blocks of {id} since {base}"), &told(id, Some(base))?, &differ)?;
            }
        }
        Ok(())
    }

    /// The snapshots of a group are from one instant: there is a time at which all volumes held what they show.
    fn groups(&self, process: &mut Process) -> Check {
        let listed = process.engine().and_then(Engine::group_snapshots).map_err(|error| chain(&error))?;
        let volumes_of = |group: &GroupInfo| group.snapshots.iter().map(|s| s.volume.to_string()).collect();
        let is = listed.iter().map(|group| (group.id.clone(), volumes_of(group))).collect();
        same("groups", &is, &self.machine.groups)?;
        for (group, volumes) in &self.machine.groups {
            let times: Vec<Range<u64>> = volumes
                .iter()
                .map(|name| {
                    self.machine.history(name).times(&self.machine.volumes[name].snapshots[group].cut)
                })
                .collect();
            let latest = times.iter().map(|time| time.start).max();
            if latest >= times.iter().map(|time| time.end).min() {
                return Err(format!("group {group} of {volumes:?} is from no instant, but from {times:?}"));
            }
        }
        Ok(())
    }

    /// Every extent belongs to a volume that is known, and to nothing else.
    fn extents(&self) -> Check {
        let vg = self.group.vg();
        let used: Extents = vg.lvs.iter().filter(|lv| lv.raid1().is_none()).map(LogicalVolume::extents).sum();
        let should = self.machine.volumes.iter().map(|(name, volume)| {
            let data = volume.size.extents_ceil(vg.extent_size);
            let metas: Extents = self.sub_lvs(name).iter().map(|(_, meta)| meta.extents()).sum();
            data * u64::try_from(volume.slots()).expect("few slots") + metas
        });
        same("extents in use", &used, &should.sum())?;
        let lvs: usize = self.machine.volumes.values().map(|volume| 1 + 2 * volume.slots()).sum();
        same("number of LVs", &vg.lvs.len(), &lvs)
    }
}
