//! Reads and writes of the array's own data.

use super::super::disk::{SECTOR, index, wide};
use super::super::errno::{EIO, Errno};
use super::super::world::World;
use super::Array;

impl Array {
    /// Reads from the first leg in sync.
    pub(in crate::host::sim) fn read(
        &self,
        world: &World,
        sector: u64,
        count: u64,
    ) -> Result<Vec<u8>, Errno> {
        let slot = self.in_sync_legs().next().ok_or(EIO)?;
        world.read(self.leg(slot).data, sector, count)
    }

    /// Writes to all legs: superblocks say "dirty" first, then the bit is on disk, then the data goes out.
    pub(in crate::host::sim) fn write(
        &mut self,
        world: &mut World,
        sector: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        let count = wide(data.len() / SECTOR);
        if count == 0 {
            return Ok(());
        }
        if self.clean {
            self.clean = false;
            self.change_clean = true;
            self.update_superblocks(world, false);
        }
        let regions =
            index(sector / self.bitmap.region())..=index((sector + count - 1) / self.bitmap.region());
        let mut mark = false;
        for region in regions.clone() {
            mark |= self.bitmap.start_write(region);
        }
        if mark {
            self.write_bitmap(world);
        }
        let mut written = 0;
        let writable = self.writable();
        for choice in world.rng.order(writable.len()) {
            let slot = writable[choice];
            match world.write(self.leg(slot).data, sector, data, false) {
                Ok(()) => written += 1,
                Err(_) => self.fail(slot),
            }
        }
        if self.change_devices {
            self.update_superblocks(world, false);
        }
        let whole = written == self.legs.len();
        let degraded = self.degraded() > 0;
        for region in regions {
            self.bitmap.end_write(region, whole, degraded, self.events);
        }
        self.last_write = Some(world.clock_nanos);
        if written == 0 { Err(EIO) } else { Ok(()) }
    }
}
