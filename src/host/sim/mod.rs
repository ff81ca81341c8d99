//! A machine in memory: disks, device-mapper with dm-raid's raid1, locks, a clock, and faults.
//!
//! The engine runs on it unchanged. Between any two of its calls applications write to the volumes, and power can be
//! lost before, after and inside every call. What the simulated kernel does to superblocks and bitmaps follows the
//! real one, its traps included (the module `md` says which); a design that relies on luck fails here.
//!
//! ```text
//! SimHost (cheap to clone) ── one lock ── World: disks · dm devices · arrays · clock · writers · locks
//!        │ every call: time passes, applications write, then the call, or the fault that waits for it
//! ```
//!
//! A machine that stops unwinds through the caller with a [`Stop`]; [`run`] catches that. During the unwinding, and
//! until [`SimHost::reboot`] or [`SimHost::restart_process`], every call fails and changes nothing.

mod clone;
mod disk;
mod dm;
mod errno;
mod fault;
mod md;
pub mod md_view;
mod port;
mod rng;
#[cfg(test)]
mod tests;
mod world;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use fault::{Call, Cut, Fault, Stop, run};
pub use writer::{Journal, Write};

use crate::host::DevNo;
use crate::units::{Bytes, Sectors};
use disk::Disk;
use rng::Rng;
use world::{Counting, DM_MAJOR, DiskSlot, World};
use writer::{Writer, sector_of};

/// A point in time to start from: some second of 2023.
const EPOCH_NANOS: u64 = 1_700_000_000_000_000_000;
/// How fast the sync thread copies: slow enough that its work is seen.
const SYNC_SECTORS_PER_SECOND: u64 = 65_536;
/// Major number of SCSI disks.
const SD_MAJOR: u32 = 8;

/// The machine; clones are the same machine.
#[derive(Clone)]
pub struct SimHost {
    world: Arc<Mutex<World>>,
}

impl SimHost {
    /// A machine with no disks. The seed decides all that is left to chance.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = World {
            disks: BTreeMap::new(),
            dm: BTreeMap::new(),
            arrays: BTreeMap::new(),
            clones: BTreeMap::new(),
            next_array: 0,
            clock_nanos: EPOCH_NANOS,
            notes: std::collections::BTreeSet::new(),
            sync_sectors_per_second: SYNC_SECTORS_PER_SECOND,
            rng: Rng::new(seed),
            identifiers: Rng::new(!seed),
            counting: Counting::default(),
            stopped: None,
            writer: Writer::default(),
            sectors_written: BTreeMap::new(),
            own_locks: BTreeSet::new(),
            foreign_locks: BTreeSet::new(),
            process: 0,
            violations: Vec::new(),
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another machine, as this one is now.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { world: Arc::new(Mutex::new(self.world().clone())) }
    }

    /// Makes chance go another way from here on.
    pub fn reseed(&self, seed: u64) {
        self.world().rng = Rng::new(seed);
    }

    /// Adds a disk, full of rubbish. Returns its path: `/dev/sda`, `/dev/sdb`, …
    ///
    /// # Panics
    /// When there are more disks than letters.
    #[must_use]
    pub fn add_disk(&self, size: Bytes) -> PathBuf {
        let mut world = self.world();
        let number = world.disks.len();
        let letter = char::from(*b"abcdefghijklmnopqrstuvwxyz".get(number).expect("few disks"));
        let path = PathBuf::from(format!("/dev/sd{letter}"));
        let number = u32::try_from(number).expect("few disks");
        let rubbish = 0xa0 + u8::try_from(number).expect("few disks");
        let disk = Disk::new(size.sectors_floor().0, rubbish);
        let slot = DiskSlot { path: path.clone(), disk, rotational: false, broken: false };
        world.disks.insert(DevNo { major: SD_MAJOR, minor: number * 16 }, slot);
        path
    }

    /// Makes a disk one that seeks.
    ///
    /// # Panics
    /// When there is no such disk.
    pub fn rotate(&self, path: &Path) {
        self.world().disks.values_mut().find(|slot| slot.path == path).expect("a disk").rotational = true;
    }

    /// Makes every access to a disk fail, or work again.
    ///
    /// # Panics
    /// When there is no such disk.
    pub fn break_disk(&self, path: &Path, broken: bool) {
        self.world().disks.values_mut().find(|slot| slot.path == path).expect("a disk").broken = broken;
    }

    /// Reads a disk or a device without the machine noticing.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn peek(&self, device: &str, sector: Sectors, count: Sectors) -> Vec<u8> {
        let world = self.world();
        let dev = world.lookup(device).expect("a device");
        world.read(dev, sector.0, count.0).expect("readable")
    }

    /// Writes a disk or a device as another tool, without the machine noticing.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn poke(&self, device: &str, sector: Sectors, data: &[u8]) {
        let mut world = self.world();
        let dev = world.lookup(device).expect("a device");
        world.begin("poke", device, false);
        world.write(dev, sector.0, data, false).expect("writable");
    }

    /// The first few sectors, counted from the starts given, in which two stretches of disks or devices differ.
    ///
    /// # Panics
    /// When there is no such device.
    #[must_use]
    pub fn differences(&self, one: (&str, Sectors), other: (&str, Sectors), count: Sectors) -> Vec<u64> {
        let world = self.world();
        let (a, b) = (world.lookup(one.0).expect("a device"), world.lookup(other.0).expect("a device"));
        match (world.disks.get(&a), world.disks.get(&b)) {
            (Some(a), Some(b)) => a.disk.differences(one.1.0, &b.disk, other.1.0, count.0),
            _ => {
                let read = |dev, at: Sectors| world.read(dev, at.0, count.0).expect("readable");
                let (a, b) = (read(a, one.1), read(b, other.1));
                let pairs = a.chunks(disk::SECTOR).zip(b.chunks(disk::SECTOR));
                (0..).zip(pairs).filter(|(_, (a, b))| a != b).map(|(sector, _)| sector).collect()
            }
        }
    }

    /// The first few sectors in which a stretch of a disk differs from the same stretch on another machine.
    ///
    /// # Panics
    /// When there is no such disk, or both are the same machine.
    #[must_use]
    pub fn differs_from(&self, other: &Self, disk: &str, start: Sectors, count: Sectors) -> Vec<u64> {
        assert!(!Arc::ptr_eq(&self.world, &other.world), "a machine does not differ from itself");
        let (ours, theirs) = (self.world(), other.world());
        let dev = ours.lookup(disk).expect("a disk");
        ours.disks[&dev].disk.differences(start.0, &theirs.disks[&dev].disk, start.0, count.0)
    }

    /// What a sector holds whose every word is `value`.
    #[must_use]
    pub fn sector_of(value: u64) -> Vec<u8> {
        sector_of(value)
    }

    /// Writes one sector through a device, as an application.
    ///
    /// # Errors
    /// The write failed; `WouldBlock` while the device is suspended.
    pub fn write_volume(&self, name: &str, sector: Sectors, value: u64) -> std::io::Result<()> {
        let mut world = self.world();
        world.begin("application write", name, false);
        let write = Write { sector: sector.0, value };
        world.application_write(name, write).map_err(std::io::Error::from_raw_os_error)
    }

    /// From now on, until [`Self::rest`], an application writes to this device between any two calls, and twenty
    /// times a second while time passes.
    pub fn keep_busy(&self, name: &str, sectors: Sectors, writes: u64) {
        self.world().writer.keep_busy(name, sectors.0, writes);
    }

    /// Ends what [`Self::keep_busy`] began.
    pub fn rest(&self, name: &str) {
        self.world().writer.rest(name);
    }

    /// What applications know of a volume.
    #[must_use]
    pub fn journal(&self, name: &str) -> Journal {
        self.world().writer.journal(name).clone()
    }

    /// Writes the pending write into the journal, or drops it, when the test has seen which it is.
    pub fn settle(&self, name: &str, written: bool) {
        let mut world = self.world();
        let journal = world.writer.journal(name);
        if let Some(write) = journal.pending.take().filter(|_| written) {
            journal.acknowledged.push(write);
        }
    }

    /// Forgets all acknowledged writes but the first `kept`: the volume was put back to that moment.
    pub fn rewind(&self, name: &str, kept: usize) {
        self.world().writer.journal(name).acknowledged.truncate(kept);
    }

    /// Forgets a volume that is gone.
    pub fn forget(&self, name: &str) {
        self.world().writer.drop_journal(name);
    }

    /// Opens a device as a mount does, or closes it.
    ///
    /// # Panics
    /// When there is no such device.
    pub fn hold(&self, name: &str, open: bool) {
        let mut world = self.world();
        let minor = world.minor(name).expect("a device");
        let device = world.dm.get_mut(&minor).expect("just found");
        device.holders = if open { device.holders + 1 } else { device.holders.saturating_sub(1) };
    }

    /// Lets another process take LVM2's lock on a group (or `P_global`), or let it go.
    pub fn lock_elsewhere(&self, lock: &str, held: bool) {
        let mut world = self.world();
        if held {
            world.foreign_locks.insert(lock.to_owned());
        } else {
            world.foreign_locks.remove(lock);
        }
    }

    /// Arms a fault; calls are counted from here.
    pub fn arm(&self, fault: Option<Fault>) {
        self.world().counting = Counting { armed: fault, ..Counting::default() };
    }

    /// The calls that counted since [`Self::arm`].
    #[must_use]
    pub fn trace(&self) -> Vec<Call> {
        self.world().counting.trace.clone()
    }

    /// Boots the machine after a power cut, or pulls its plug now and boots it: the disks are what they were, the
    /// kernel knows nothing.
    pub fn reboot(&self) {
        let mut world = self.world();
        world.dm.clear();
        world.arrays.clear();
        world.clones.clear();
        world.sectors_written.clear();
        world.foreign_locks.clear();
        world.notes.clear();
        world.restart();
        world.clock_nanos += 60_000_000_000;
    }

    /// Starts another process after one was killed: the kernel is what it was, the locks are free.
    pub fn restart_process(&self) {
        self.world().restart();
    }

    /// Lets time pass.
    pub fn sleep(&self, time: std::time::Duration) {
        let mut world = self.world();
        world.begin("sleep", "", false);
        world.advance(u64::try_from(time.as_nanos()).expect("a short sleep"));
    }

    /// How fast the sync thread copies.
    pub fn sync_speed(&self, sectors_per_second: u64) {
        self.world().sync_sectors_per_second = sectors_per_second;
    }

    /// No array is being synced, recovered or compared.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        let world = self.world();
        world.dm.values().flat_map(dm::Device::live_arrays).all(|id| world.arrays[&id].at_rest())
    }

    /// Names of all device-mapper devices.
    #[must_use]
    pub fn devices(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.world().dm.values().map(|device| device.name().to_owned()).collect();
        names.sort();
        names
    }

    /// What would have hung a real machine, or should never happen, since it was first switched on.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.world().violations.clone()
    }
}

impl World {
    fn restart(&mut self) {
        self.own_locks.clear();
        self.process += 1;
        self.counting = Counting::default();
        self.stopped = None;
    }
}

/// The number of a device-mapper device.
#[must_use]
pub fn dm_number(minor: u32) -> DevNo {
    DevNo { major: DM_MAJOR, minor }
}
