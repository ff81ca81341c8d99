//! What an instance writes to its rmeta devices.

use super::super::world::World;
use super::Array;
use super::format::{BITMAP_SECTOR, MAX, Super};
use super::sync::Kind;

impl Array {
    /// Counts an event and writes all superblocks, the bitmap's first, in no order that can be relied on.
    pub(super) fn update_superblocks(&mut self, world: &mut World, force: bool) {
        if let Some(sync) = self.sync.as_ref().filter(|sync| sync.kind() == Kind::Recover) {
            let completed = sync.completed();
            for leg in self.legs.iter_mut().flatten().filter(|leg| leg.member && !leg.faulty && !leg.in_sync)
            {
                leg.recovery_offset = leg.recovery_offset.max(completed);
            }
        }
        let devices = std::mem::take(&mut self.change_devices) || force;
        let only_clean = std::mem::take(&mut self.change_clean) && !devices && self.degraded() == 0;
        let back =
            only_clean && self.clean && self.recovery_cp == MAX && self.can_decrease && self.events != 1;
        if back {
            self.events -= 1;
            self.can_decrease = false;
        } else {
            self.events += 1;
            self.can_decrease = only_clean;
        }
        self.bitmap.update_header(self.events, self.sectors);
        self.write_bitmap(world);
        let missing: u64 = (0..self.legs.len())
            .filter(|slot| self.legs[*slot].as_ref().is_none_or(|leg| leg.faulty))
            .map(|slot| 1 << slot)
            .sum();
        let writable = self.writable();
        for choice in world.rng.order(writable.len()) {
            let slot = writable[choice];
            self.leg_mut(slot).failed |= missing;
            let page = self.superblock(slot).render();
            let meta = self.leg(slot).meta;
            if world.write(meta, 0, &page, false).is_err() {
                self.fail(slot);
            }
        }
    }

    fn superblock(&self, slot: usize) -> Super {
        let leg = self.leg(slot);
        let count = |n: usize| u32::try_from(n).expect("few slots");
        Super {
            devices: count(self.legs.len()),
            position: count(slot),
            events: self.events,
            failed: leg.failed,
            recovery_offset: leg.recovery_offset,
            resync_offset: self.recovery_cp,
            array_sectors: self.sectors,
            sectors: self.sectors,
        }
    }

    /// Writes the page of the bitmap to all legs.
    pub(super) fn write_bitmap(&mut self, world: &mut World) {
        let page = self.bitmap.page();
        let writable = self.writable();
        for choice in world.rng.order(writable.len()) {
            let slot = writable[choice];
            let meta = self.leg(slot).meta;
            if world.write(meta, BITMAP_SECTOR, &page, false).is_err() {
                self.fail(slot);
            }
        }
    }

    /// A leg has failed to write. The last good one is kept whatever it does.
    pub(super) fn fail(&mut self, slot: usize) {
        let last = self.in_sync_legs().eq([slot]);
        if !last {
            let leg = self.leg_mut(slot);
            (leg.faulty, leg.in_sync) = (true, false);
            self.change_devices = true;
        }
    }
}
