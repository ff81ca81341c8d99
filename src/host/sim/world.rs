//! The machine: disks, device-mapper devices, time, and the way of a request from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::clone::Clone as CloneTarget;
use super::disk::{Disk, SECTOR, index, wide};
use super::dm::{Device, Kind};
use super::errno::{EAGAIN, EIO, ENOENT, ENXIO, EROFS, Errno};
use super::fault::{Call, Cut, Fault, Stop};
use super::md::Array;
use super::rng::Rng;
use super::writer::Writer;
use crate::host::{DevNo, Probe};

/// Major number of device-mapper.
pub(super) const DM_MAJOR: u32 = 253;
/// Longest stretch of time in which the machine does nothing by itself.
const SLICE_NANOS: u64 = 50_000_000;
/// What a request to a disk's rubbish is told apart by.
const SIXTEENTHS: u64 = 16;

/// A disk in its slot.
#[derive(Clone)]
pub(super) struct DiskSlot {
    pub(super) path: PathBuf,
    pub(super) disk: Disk,
    pub(super) rotational: bool,
    /// Every access fails.
    pub(super) broken: bool,
}

/// Where a part of a request ends up.
enum Place {
    Disk(DevNo, u64),
    Array(u64, u64),
    Clone(u64, u64),
    Zero,
}

/// Calls, requests, and the fault that waits for them.
#[derive(Clone, Default)]
pub(super) struct Counting {
    pub(super) armed: Option<Fault>,
    pub(super) calls: u64,
    /// Number of the call that runs now, if it counts.
    pub(super) current: Option<u64>,
    pub(super) requests: u64,
    pub(super) trace: Vec<Call>,
}

/// The machine.
#[derive(Clone)]
pub(super) struct World {
    pub(super) disks: BTreeMap<DevNo, DiskSlot>,
    pub(super) dm: BTreeMap<u32, Device>,
    pub(super) arrays: BTreeMap<u64, Array>,
    pub(super) clones: BTreeMap<u64, CloneTarget>,
    pub(super) next_array: u64,
    pub(super) clock_nanos: u64,
    /// What was noted since the start of the machine.
    pub(super) notes: std::collections::BTreeSet<String>,
    pub(super) sync_sectors_per_second: u64,
    pub(super) rng: Rng,
    /// Identifiers come from here, so that they do not depend on what else happens.
    pub(super) identifiers: Rng,
    pub(super) counting: Counting,
    pub(super) stopped: Option<Stop>,
    pub(super) writer: Writer,
    pub(super) sectors_written: BTreeMap<DevNo, u64>,
    /// Names of the locks that this process holds, and that another one holds.
    pub(super) own_locks: BTreeSet<String>,
    pub(super) foreign_locks: BTreeSet<String>,
    /// Bumped when the process dies: what it held means nothing any more.
    pub(super) process: u64,
    /// What would have hung a real machine, or should never happen.
    pub(super) violations: Vec<String>,
}

impl World {
    /// Begins a call. Returns its number if it counts.
    pub(super) fn begin(&mut self, call: &'static str, subject: &str, counts: bool) {
        self.counting.current = counts.then_some(self.counting.calls);
        self.counting.requests = 0;
        if counts {
            self.counting.calls += 1;
            self.counting.trace.push(Call { call, subject: subject.to_owned(), requests: 0 });
        }
    }

    /// The fault that this call was to meet.
    pub(super) fn fault_now(&self) -> Option<Fault> {
        self.counting.armed.filter(|fault| Some(fault.call()) == self.counting.current)
    }

    /// Counts a request to a disk. Returns how many sixteenths of it get there and whether it is torn, if power is lost
    /// in it.
    fn request(&mut self) -> Option<(u64, bool)> {
        let number = self.counting.requests;
        self.counting.requests += 1;
        if let (Some(_), Some(call)) = (self.counting.current, self.counting.trace.last_mut()) {
            call.requests += 1;
        }
        match self.fault_now() {
            Some(Fault::PowerCut { at: Cut::Inside { request, sixteenths, torn }, .. })
                if request == number =>
            {
                Some((sixteenths.min(SIXTEENTHS), torn))
            }
            _ => None,
        }
    }

    /// Runs one part of a request on a disk, or the part of it that gets there.
    fn on_disk(
        &mut self,
        dev: DevNo,
        sector: u64,
        count: u64,
        tearable: bool,
        mut work: impl FnMut(&mut Disk, u64, bool),
    ) -> Result<(), Errno> {
        let cut = self.request();
        let slot = self.disks.get_mut(&dev).ok_or(ENXIO)?;
        if slot.broken || sector + count > slot.disk.sectors() {
            return Err(EIO);
        }
        if self.stopped == Some(Stop::PowerCut) {
            return Ok(());
        }
        match cut {
            None => work(&mut slot.disk, count, false),
            Some((sixteenths, torn)) => {
                let whole = count * sixteenths / SIXTEENTHS;
                work(&mut slot.disk, whole, torn && tearable && whole < count);
                self.stopped = Some(Stop::PowerCut);
            }
        }
        *self.sectors_written.entry(dev).or_default() += count;
        Ok(())
    }

    /// Follows the tables down to disks and arrays.
    fn resolve(&self, dev: DevNo, sector: u64, count: u64, write: bool) -> Result<Vec<(Place, u64)>, Errno> {
        if self.disks.contains_key(&dev) {
            return Ok(vec![(Place::Disk(dev, sector), count)]);
        }
        let device = self.dm.get(&dev.minor).filter(|_| dev.major == DM_MAJOR).ok_or(ENXIO)?;
        if device.suspended {
            return Err(EAGAIN);
        }
        if write && (device.read_only || device.protected) {
            return Err(EROFS);
        }
        let mut places = Vec::new();
        let (mut at, end) = (sector, sector + count);
        for target in &device.live.as_ref().ok_or(EIO)?.targets {
            let (start, stop) = (at.max(target.start), end.min(target.start + target.len));
            if start >= stop || start != at {
                continue;
            }
            match target.kind {
                Kind::Error => return Err(EIO),
                Kind::Linear { dev, first } => {
                    places.append(&mut self.resolve(
                        dev,
                        first + start - target.start,
                        stop - start,
                        write,
                    )?);
                }
                Kind::Raid(id) => places.push((Place::Array(id, start - target.start), stop - start)),
                Kind::Clone(id) => places.push((Place::Clone(id, start - target.start), stop - start)),
                Kind::Zero => places.push((Place::Zero, stop - start)),
            }
            at = stop;
        }
        if at == end { Ok(places) } else { Err(EIO) }
    }

    /// Reads sectors of a disk or a device.
    pub(super) fn read(&self, dev: DevNo, sector: u64, count: u64) -> Result<Vec<u8>, Errno> {
        let mut data = Vec::new();
        for (place, count) in self.resolve(dev, sector, count, false)? {
            match place {
                Place::Disk(dev, sector) => {
                    let slot = &self.disks[&dev];
                    if slot.broken || sector + count > slot.disk.sectors() {
                        return Err(EIO);
                    }
                    data.extend(slot.disk.read(sector, count));
                }
                Place::Array(id, sector) => {
                    data.extend(self.arrays.get(&id).ok_or(EIO)?.read(self, sector, count)?);
                }
                Place::Clone(id, sector) => {
                    data.extend(self.clones.get(&id).ok_or(EIO)?.read(self, sector, count)?);
                }
                Place::Zero => data.extend(vec![0; index(count) * SECTOR]),
            }
        }
        Ok(data)
    }

    fn note_blocked(
        &mut self,
        what: &str,
        dev: DevNo,
        result: Result<Vec<(Place, u64)>, Errno>,
    ) -> Result<Vec<(Place, u64)>, Errno> {
        if result.as_ref().is_err_and(|errno| *errno == EAGAIN) {
            self.violations
                .push(format!("{what} {dev}, which is suspended or lies on what is: this would hang"));
        }
        result
    }

    /// Disks count for themselves.
    fn count_written(&mut self, dev: DevNo, sectors: u64) {
        if dev.major == DM_MAJOR {
            *self.sectors_written.entry(dev).or_default() += sectors;
        }
    }

    /// Writes sectors of a disk or a device.
    pub(super) fn write(
        &mut self,
        dev: DevNo,
        sector: u64,
        data: &[u8],
        tearable: bool,
    ) -> Result<(), Errno> {
        let places = self.resolve(dev, sector, wide(data.len() / SECTOR), true);
        let places = self.note_blocked("write to", dev, places)?;
        self.count_written(dev, wide(data.len() / SECTOR));
        let mut rest = data;
        for (place, count) in places {
            let (part, tail) = rest.split_at(index(count) * SECTOR);
            rest = tail;
            match place {
                Place::Disk(dev, sector) => {
                    self.on_disk(dev, sector, count, tearable, |disk, whole, torn| {
                        let len = index(whole) * SECTOR + if torn { SECTOR / 2 } else { 0 };
                        disk.write(sector, &part[..len]);
                    })?
                }
                Place::Array(id, sector) => {
                    self.with_array(id, |array, world| array.write(world, sector, part))?
                }
                Place::Clone(id, sector) => {
                    self.with_clone(id, |clone, world| clone.write(world, sector, part))?
                }
                Place::Zero => {}
            }
        }
        Ok(())
    }

    /// Makes sectors read as zeroes.
    pub(super) fn zero(&mut self, dev: DevNo, sector: u64, count: u64) -> Result<(), Errno> {
        let places = self.resolve(dev, sector, count, true);
        self.count_written(dev, count);
        for (place, count) in self.note_blocked("write to", dev, places)? {
            match place {
                Place::Disk(dev, sector) => {
                    self.on_disk(dev, sector, count, false, |disk, whole, _| disk.zero(sector, whole))?;
                }
                Place::Array(id, sector) => {
                    let zeroes = vec![0; index(count) * SECTOR];
                    self.with_array(id, |array, world| array.write(world, sector, &zeroes))?;
                }
                Place::Clone(id, sector) => {
                    let zeroes = vec![0; index(count) * SECTOR];
                    self.with_clone(id, |clone, world| clone.write(world, sector, &zeroes))?;
                }
                Place::Zero => {}
            }
        }
        Ok(())
    }

    /// Copies sectors from one device to the same place on another, as the sync thread does.
    pub(super) fn copy(&mut self, from: DevNo, to: DevNo, sector: u64, count: u64) -> Result<(), Errno> {
        let places = self.resolve(to, sector, count, true);
        let mut done = 0;
        for (place, count) in self.note_blocked("copy to", to, places)? {
            let Place::Disk(dev, target) = place else { return Err(EIO) };
            let mut at = 0;
            for (place, count) in self.resolve(from, sector + done, count, false)? {
                let Place::Disk(origin, source) = place else { return Err(EIO) };
                let slot = self.disks.get(&origin).filter(|slot| !slot.broken).ok_or(EIO)?;
                let origin = slot.disk.clone();
                self.on_disk(dev, target + at, count, false, |disk, whole, _| {
                    disk.copy_from(target + at, &origin, source, whole);
                })?;
                at += count;
            }
            done += count;
        }
        self.count_written(to, count);
        Ok(())
    }

    /// Sectors in which two devices differ; the first few of them.
    pub(super) fn differences(&self, one: DevNo, other: DevNo, sector: u64, count: u64) -> Vec<u64> {
        let (Ok(ours), Ok(theirs)) =
            (self.resolve(one, sector, count, false), self.resolve(other, sector, count, false))
        else {
            return vec![sector];
        };
        if let ([(Place::Disk(a, at), _)], [(Place::Disk(b, bt), _)]) = (ours.as_slice(), theirs.as_slice()) {
            let found = self.disks[a].disk.differences(*at, &self.disks[b].disk, *bt, count);
            return found.into_iter().map(|s| s + sector).collect();
        }
        let (ours, theirs) = (self.read(one, sector, count), self.read(other, sector, count));
        match (ours, theirs) {
            (Ok(a), Ok(b)) => (0..)
                .zip(a.chunks(SECTOR).zip(b.chunks(SECTOR)))
                .filter(|(_, (a, b))| a != b)
                .map(|(s, _)| s + sector)
                .collect(),
            _ => vec![sector],
        }
    }

    /// Does something with an array, which is out of reach of the rest of the machine meanwhile.
    pub(super) fn with_array<T>(&mut self, id: u64, work: impl FnOnce(&mut Array, &mut Self) -> T) -> T {
        let mut array = self.arrays.remove(&id).expect("tables and arrays are made and dropped together");
        let result = work(&mut array, self);
        self.arrays.insert(id, array);
        result
    }

    /// The same with a clone.
    pub(super) fn with_clone<T>(
        &mut self,
        id: u64,
        work: impl FnOnce(&mut CloneTarget, &mut Self) -> T,
    ) -> T {
        let mut clone = self.clones.remove(&id).expect("tables and clones are made and dropped together");
        let result = work(&mut clone, self);
        self.clones.insert(id, clone);
        result
    }

    /// Size of a disk or a device.
    pub(super) fn size(&self, dev: DevNo) -> Option<u64> {
        match self.disks.get(&dev) {
            Some(slot) => Some(slot.disk.sectors()),
            None if dev.major == DM_MAJOR => self.dm.get(&dev.minor).map(Device::sectors),
            None => None,
        }
    }

    /// A device by `major:minor`, or by one of its paths.
    pub(super) fn lookup(&self, name: &str) -> Result<DevNo, Errno> {
        let dm = |minor| DevNo { major: DM_MAJOR, minor };
        let dev = if let Some((major, minor)) = name.split_once(':') {
            let number = |text: &str| text.parse().map_err(|_| ENOENT);
            DevNo { major: number(major)?, minor: number(minor)? }
        } else if let Some(minor) = name.strip_prefix("/dev/dm-") {
            dm(minor.parse().map_err(|_| ENOENT)?)
        } else if let Some(name) = name.strip_prefix("/dev/mapper/") {
            dm(self.minor(name).ok_or(ENOENT)?)
        } else {
            *self.disks.iter().find(|(_, slot)| slot.path == Path::new(name)).ok_or(ENOENT)?.0
        };
        self.size(dev).map(|_| dev).ok_or(ENOENT)
    }

    /// The node of a disk or a device.
    pub(super) fn node(&self, dev: DevNo) -> Result<PathBuf, Errno> {
        match self.disks.get(&dev) {
            Some(slot) => Ok(slot.path.clone()),
            None if self.size(dev).is_some() => Ok(PathBuf::from(format!("/dev/dm-{}", dev.minor))),
            None => Err(ENOENT),
        }
    }

    /// Who uses a disk, and what is on it. The rubbish of a new disk counts as nothing.
    pub(super) fn probe(&self, dev: DevNo) -> Result<Probe, Errno> {
        let user = self.dm.values().find(|device| device.uses(dev));
        let head = self.read(dev, 0, 8)?;
        let label = head.chunks(SECTOR).take(4).any(|sector| sector.starts_with(b"LABELONE"));
        let ext4 = head[1080..1082] == [0x53, 0xef];
        let found = [(label, "LVM2_member"), (ext4, "ext4")];
        let signatures =
            found.iter().filter(|(found, _)| *found).map(|(_, name)| (*name).to_owned()).collect();
        Ok(Probe { in_use: user.map(|device| device.name().to_owned()), signatures })
    }

    /// One of an array's legs is suspended: all that the array wants to write waits until it is resumed.
    pub(super) fn leg_suspended(&self, id: u64) -> bool {
        let suspended =
            |dev: DevNo| dev.major == DM_MAJOR && self.dm.get(&dev.minor).is_some_and(|on| on.suspended);
        self.arrays.get(&id).is_some_and(|array| array.devices().any(suspended))
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, nanos: u64) {
        let end = self.clock_nanos + nanos;
        while self.clock_nanos < end && self.stopped.is_none() {
            let slice = SLICE_NANOS.min(end - self.clock_nanos);
            self.clock_nanos += slice;
            self.write_in_background();
            let live: Vec<u64> = self.dm.values().flat_map(Device::live_arrays).collect();
            for id in live.into_iter().filter(|id| !self.leg_suspended(*id)).collect::<Vec<_>>() {
                self.with_array(id, |array, world| array.tick(world, slice));
            }
            let running = self.dm.iter().filter(|(minor, _)| !self.blocked(**minor));
            let clones: Vec<u64> = running.flat_map(|(_, device)| device.live_clones()).collect();
            for id in clones {
                self.with_clone(id, |clone, world| clone.tick(world, slice));
            }
        }
        self.clock_nanos = end.max(self.clock_nanos);
    }
}
