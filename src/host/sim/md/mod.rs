//! dm-raid's raid1 as the kernel does it: what its constructor trusts, what it writes to rmeta devices and when.
//!
//! One [`Array`] is one *instance*: each table load makes a new one, which lives beside the one it replaces until the
//! resume has swapped them. The rules here are those of Linux 6.1 (`drivers/md/{dm-raid,md,md-bitmap,raid1}.c`), traps
//! included; the tests beside this file show each trap.
//!
//! Not modelled: reshape, other levels, bad blocks, write-behind, bitmaps of more than one page.

mod bitmap;
mod construct;
mod format;
mod io;
mod params;
mod status;
mod sync;
mod update;

use super::world::World;
use crate::host::DevNo;
use bitmap::Bitmap;
pub(super) use format::{Header, Super};
use params::Params;
use sync::Sync;

/// Nanoseconds after the last write until a busy array counts as clean.
const SAFEMODE_NANOS: u64 = 200_000_000;
/// Nanoseconds between two passes of the bitmap's daemon.
const DAEMON_NANOS: u64 = 5_000_000_000;

/// One leg of an instance.
#[derive(Clone, Debug)]
struct Leg {
    meta: DevNo,
    data: DevNo,
    in_sync: bool,
    faulty: bool,
    /// Its superblock was read; otherwise the array runs without it.
    member: bool,
    /// Sectors of it that are known to be good, from the start; all ones when all are.
    recovery_offset: u64,
    /// It comes back after an absence: what the bitmap marks is enough.
    by_bitmap: bool,
    /// `failed_devices` as its superblock in memory has it: bits are added, never taken away.
    failed: u64,
}

/// One instance of a raid1 array.
#[derive(Clone, Debug)]
pub(super) struct Array {
    params: Params,
    legs: Vec<Option<Leg>>,
    /// Size the table asks for.
    len: u64,
    /// Size the array has.
    sectors: u64,
    events: u64,
    /// All ones when the array is in sync.
    recovery_cp: u64,
    bitmap: Bitmap,
    update_at_resume: bool,
    /// No write is pending and the superblocks say so.
    clean: bool,
    read_only: bool,
    can_decrease: bool,
    change_devices: bool,
    change_clean: bool,
    suspended: bool,
    /// Its sync thread ran, or was about to, when it was suspended.
    disturbed: bool,
    preresumed: bool,
    resumed: bool,
    frozen: bool,
    sync_needed: bool,
    full_sync: bool,
    sync: Option<Sync>,
    /// The last thing the sync thread did was a recovery.
    did_recover: bool,
    requested: Option<sync::Kind>,
    mismatches: u64,
    last_write: Option<u64>,
    daemon_at: u64,
}

impl Array {
    fn present(&self) -> impl Iterator<Item = (usize, &Leg)> {
        self.legs.iter().enumerate().filter_map(|(slot, leg)| leg.as_ref().map(|leg| (slot, leg)))
    }

    /// Slots whose leg takes writes.
    fn writable(&self) -> Vec<usize> {
        self.present().filter(|(_, leg)| leg.member && !leg.faulty).map(|(slot, _)| slot).collect()
    }

    fn leg(&self, slot: usize) -> &Leg {
        self.legs[slot].as_ref().expect("only slots with a leg are asked for")
    }

    fn leg_mut(&mut self, slot: usize) -> &mut Leg {
        self.legs[slot].as_mut().expect("only slots with a leg are asked for")
    }

    /// Number of slots without a leg that is in sync.
    fn degraded(&self) -> usize {
        self.legs.len() - self.in_sync_legs().count()
    }

    fn in_sync_legs(&self) -> impl Iterator<Item = usize> {
        self.present().filter(|(_, leg)| leg.member && leg.in_sync && !leg.faulty).map(|(slot, _)| slot)
    }

    /// A slot is empty, or its leg does not take writes.
    fn missing(&self) -> bool {
        self.writable().len() < self.legs.len()
    }

    /// Devices it holds open.
    pub(super) fn devices(&self) -> impl Iterator<Item = DevNo> {
        self.present().flat_map(|(_, leg)| [leg.meta, leg.data])
    }

    /// First half of a resume: superblocks of a new array, then the bitmap's bits, then other regions and growth.
    pub(super) fn preresume(&mut self, world: &mut World) {
        if std::mem::replace(&mut self.preresumed, true) {
            return;
        }
        if self.update_at_resume {
            self.update_superblocks(world, true);
        }
        self.load_bitmap(world);
        if self.bitmap.region() != self.params.region {
            self.bitmap.resize(self.params.region, self.sectors);
            self.write_bitmap(world);
        }
        if self.len > self.sectors {
            let nosync = self.params.nosync;
            if !nosync && self.recovery_cp == format::MAX {
                self.recovery_cp = self.sectors;
            }
            self.sectors = self.len;
            self.bitmap.grow(self.len, nosync);
            self.write_bitmap(world);
        }
    }

    /// Second half: I/O goes on.
    pub(super) fn resume(&mut self, world: &mut World) {
        if std::mem::replace(&mut self.resumed, true) {
            self.revive_faulty_legs(world);
        }
        if std::mem::replace(&mut self.suspended, false) {
            self.disturbed = false;
            self.frozen = false;
            self.read_only = false;
            self.clean = false; // counts as written to already, which nothing on disk says
            self.sync_needed = true;
            self.daemon_at = world.clock_nanos + DAEMON_NANOS;
        }
    }

    /// After the last request has ended: everything that can be flushed is.
    pub(super) fn suspend(&mut self, world: &mut World) {
        if std::mem::replace(&mut self.suspended, true) {
            return;
        }
        self.disturbed = !self.at_rest();
        if !self.frozen {
            self.stop_writes(world);
        }
    }

    fn stop_writes(&mut self, world: &mut World) {
        self.frozen = true;
        self.interrupt_sync();
        self.last_write = None;
        for _ in 0..3 {
            self.run_daemon(world);
        }
        self.bitmap.update_header(self.events, self.sectors);
        self.write_bitmap(world);
        if !self.read_only && (!self.clean || self.change_devices || self.change_clean) {
            self.clean = true;
            self.update_superblocks(world, true);
        }
    }

    /// The instance goes away. Its page of the bitmap is written once more, as it sees it: also when it never ran, and
    /// then the page in its memory has no bits, whatever was on disk.
    pub(super) fn destroy(mut self, world: &mut World) {
        if self.disturbed {
            let violation =
                "an array is dropped whose sync thread runs or is about to: kernels before 6.9 hang";
            world.violations.push(violation.to_owned());
        }
        self.stop_writes(world);
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, world: &mut World, nanos: u64) {
        if self.suspended || self.read_only {
            return;
        }
        if self.change_devices || self.change_clean {
            self.update_superblocks(world, false);
        }
        let quiet = self.last_write.is_some_and(|at| world.clock_nanos >= at + SAFEMODE_NANOS);
        if quiet && !self.clean && self.sync.is_none() && self.recovery_cp == format::MAX {
            self.last_write = None;
            self.clean = true;
            self.change_clean = true;
            self.update_superblocks(world, false);
        }
        if world.clock_nanos >= self.daemon_at {
            self.daemon_at = world.clock_nanos + DAEMON_NANOS;
            self.run_daemon(world);
        }
        self.check_recovery(world);
        self.run_sync(world, nanos);
    }

    fn run_daemon(&mut self, world: &mut World) {
        if self.bitmap.daemon_pass() {
            self.write_bitmap(world);
        }
    }
}
