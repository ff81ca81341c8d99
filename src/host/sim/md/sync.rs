//! The sync thread: initial sync, recovery of a leg, check and repair.

use super::super::disk::{index, wide};
use super::super::errno::{EBUSY, EINVAL, Errno};
use super::super::world::World;
use super::format::MAX;
use super::{Array, Leg};

/// What the sync thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Makes all legs as the first one, from where it was stopped.
    Resync,
    /// Brings legs that are not in sync up to date.
    Recover,
    /// Counts differences.
    Check,
    /// Removes them.
    Repair,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Resync => "resync",
            Self::Recover => "recover",
            Self::Check => "check",
            Self::Repair => "repair",
        }
    }
}

/// A run of the sync thread.
#[derive(Clone, Debug)]
pub(super) struct Sync {
    kind: Kind,
    position: u64,
    completed: u64,
    /// Sectors that may be copied now.
    budget: u64,
}

impl Sync {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn completed(&self) -> u64 {
        self.completed
    }
}

impl Array {
    /// Whether the sync thread runs.
    pub(super) fn syncing(&self) -> Option<&Sync> {
        self.sync.as_ref()
    }

    /// Nothing is copied or compared, and nothing will be.
    pub(in crate::host::sim) fn at_rest(&self) -> bool {
        self.sync.is_none() && !self.sync_needed
    }

    fn behind(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter().flatten().filter(|leg| leg.member && !leg.faulty && !leg.in_sync)
    }

    /// Starts the sync thread if there is something to do for it.
    pub(super) fn check_recovery(&mut self, world: &mut World) {
        if self.sync.is_some() || self.frozen || !std::mem::take(&mut self.sync_needed) {
            return;
        }
        let (kind, position) = if let Some(offset) = self.behind().map(|leg| leg.recovery_offset).min() {
            self.bitmap.write_all();
            (Kind::Recover, offset)
        } else if self.recovery_cp < MAX {
            (Kind::Resync, self.recovery_cp)
        } else if let Some(kind) = self.requested.take() {
            self.mismatches = 0;
            (kind, 0)
        } else {
            return;
        };
        self.did_recover = kind == Kind::Recover;
        self.sync = Some(Sync { kind, position, completed: position, budget: 0 });
        if kind == Kind::Recover {
            self.update_superblocks(world, true);
        }
    }

    /// Copies as much as the time allows.
    pub(super) fn run_sync(&mut self, world: &mut World, nanos: u64) {
        let rate = self.params.max_recovery_rate.map_or(world.sync_sectors_per_second, |kib| {
            world.sync_sectors_per_second.min(kib.saturating_mul(2))
        });
        let Some(mut sync) = self.sync.take() else { return };
        sync.budget += rate.saturating_mul(nanos) / 1_000_000_000;
        let region = self.bitmap.region();
        while sync.position < self.sectors {
            let number = index(sync.position / region);
            let end = ((wide(number) + 1) * region).min(self.sectors);
            let requested = matches!(sync.kind, Kind::Check | Kind::Repair);
            if !self.bitmap.start_sync(number, false) && !self.full_sync && !requested {
                sync.position = end;
                continue;
            }
            let count = (end - sync.position).min(sync.budget);
            if count == 0 {
                break;
            }
            sync.budget -= count;
            let claim = !self.missing();
            self.bitmap.start_sync(number, claim);
            self.copy(world, sync.kind, sync.position, count);
            sync.position += count;
            if sync.position - sync.completed > self.sectors >> 4 {
                sync.completed = sync.position;
                if sync.kind == Kind::Resync {
                    self.recovery_cp = sync.position;
                }
                self.change_clean = true;
                self.sync = Some(sync.clone());
                self.update_superblocks(world, false);
            }
        }
        if sync.position < self.sectors {
            self.sync = Some(sync);
        } else {
            self.finish(world, sync.kind);
        }
    }

    fn copy(&mut self, world: &mut World, kind: Kind, sector: u64, count: u64) {
        let Some(source) = self.in_sync_legs().next() else { return };
        let from = self.leg(source).data;
        for slot in self.writable() {
            let leg = self.leg(slot);
            if slot == source || (kind == Kind::Recover && leg.in_sync) {
                continue;
            }
            let to = leg.data;
            if matches!(kind, Kind::Check | Kind::Repair) {
                let differ = world.differences(from, to, sector, count);
                self.mismatches += wide(differ.len());
                if kind == Kind::Check || differ.is_empty() {
                    continue;
                }
            }
            if world.copy(from, to, sector, count).is_err() {
                self.fail(slot);
            }
        }
    }

    fn finish(&mut self, world: &mut World, kind: Kind) {
        self.sync = None;
        self.full_sync = false;
        match kind {
            Kind::Recover => {
                for leg in self.legs.iter_mut().flatten().filter(|leg| leg.member && !leg.faulty) {
                    (leg.recovery_offset, leg.in_sync) = (MAX, true);
                }
            }
            Kind::Resync => self.recovery_cp = MAX,
            Kind::Check | Kind::Repair => {}
        }
        self.bitmap.end_sync(MAX);
        self.sync_needed = true;
        self.update_superblocks(world, true);
    }

    /// The sync thread is stopped where it is.
    pub(super) fn interrupt_sync(&mut self) {
        let Some(sync) = self.sync.take() else { return };
        match sync.kind {
            Kind::Recover => {
                for leg in
                    self.legs.iter_mut().flatten().filter(|leg| leg.member && !leg.faulty && !leg.in_sync)
                {
                    leg.recovery_offset = leg.recovery_offset.max(sync.position);
                }
                self.change_devices = true;
            }
            Kind::Resync => {
                self.recovery_cp = sync.position;
                self.change_devices = true;
            }
            Kind::Check | Kind::Repair => {}
        }
        self.bitmap.end_sync(sync.position);
        self.sync_needed = true;
    }

    /// A message to the target.
    pub(in crate::host::sim) fn message(&mut self, message: &str) -> Result<(), Errno> {
        let busy = self.sync.is_some();
        self.frozen = message == "frozen";
        match message {
            "frozen" | "idle" => self.interrupt_sync(),
            _ if busy => return Err(EBUSY),
            "resync" | "recover" => {}
            "check" => self.requested = Some(Kind::Check),
            "repair" => self.requested = Some(Kind::Repair),
            _ => return Err(EINVAL),
        }
        self.sync_needed = true;
        Ok(())
    }

    /// A later resume: legs that had failed and can be read again come back.
    pub(super) fn revive_faulty_legs(&mut self, world: &World) {
        let mut revived = 0;
        for slot in 0..self.legs.len() {
            let Some(leg) = self.legs[slot].as_mut().filter(|leg| leg.faulty) else { continue };
            if world.read(leg.meta, 0, 1).is_err() {
                continue;
            }
            leg.by_bitmap = !leg.member;
            (leg.faulty, leg.in_sync, leg.member, leg.recovery_offset) = (false, false, true, 0);
            self.full_sync |= !leg.by_bitmap;
            revived |= 1 << slot;
        }
        for leg in self.legs.iter_mut().flatten() {
            leg.failed &= !revived;
        }
    }
}
