//! The bytes of an rmeta device as the kernel writes them, written down a second time on purpose: what the product
//! reads and what the simulated kernel writes must not come from one and the same code.
//!
//! | where | what |
//! |---|---|
//! | byte 0, one sector | superblock of dm-raid |
//! | byte 4096, 256 bytes | superblock of the bitmap |
//! | byte 4352 on | the bits, lowest first |
//!
//! Sources: Linux 6.1 `drivers/md/dm-raid.c` (`struct dm_raid_superblock`), `drivers/md/md-bitmap.h`
//! (`bitmap_super_t`).

use super::super::disk::SECTOR;

/// All ones: "not recovering", "in sync".
pub(super) const MAX: u64 = u64::MAX;
/// Sector of an rmeta device at which the bitmap starts.
pub(super) const BITMAP_SECTOR: u64 = 8;
/// Bytes of the bitmap's own superblock.
pub(super) const HEADER: usize = 256;

const MAGIC: u32 = 0x6452_6d44;
const BITMAP_MAGIC: u32 = 0x6d74_6962;
const EXTENDED: u32 = 1;

fn put4(page: &mut [u8], at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put8(page: &mut [u8], at: usize, value: u64) {
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get4(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(page[at..at + 4].try_into().expect("four bytes"))
}

fn get8(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"))
}

/// What the kernel keeps of a leg in its superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host::sim) struct Super {
    pub(in crate::host::sim) devices: u32,
    pub(in crate::host::sim) position: u32,
    pub(in crate::host::sim) events: u64,
    pub(in crate::host::sim) failed: u64,
    pub(in crate::host::sim) recovery_offset: u64,
    pub(in crate::host::sim) resync_offset: u64,
    pub(in crate::host::sim) array_sectors: u64,
    pub(in crate::host::sim) sectors: u64,
}

impl Super {
    /// `None`: there is none.
    pub(in crate::host::sim) fn parse(page: &[u8]) -> Option<Self> {
        (get4(page, 0) == MAGIC).then(|| Self {
            devices: get4(page, 8),
            position: get4(page, 12),
            events: get8(page, 16),
            failed: get8(page, 24),
            recovery_offset: get8(page, 32),
            resync_offset: get8(page, 40),
            array_sectors: get8(page, 88),
            sectors: get8(page, 112),
        })
    }

    pub(super) fn render(&self) -> Vec<u8> {
        let mut page = vec![0; SECTOR];
        for (at, value) in [
            (0, MAGIC),
            (4, EXTENDED),
            (8, self.devices),
            (12, self.position),
            (48, 1), // level
            (72, 1), // new level
        ] {
            put4(&mut page, at, value);
        }
        for (at, value) in [
            (16, self.events),
            (24, self.failed),
            (32, self.recovery_offset),
            (40, self.resync_offset),
            (64, MAX), // no reshape
            (88, self.array_sectors),
            (112, self.sectors),
        ] {
            put8(&mut page, at, value);
        }
        page
    }
}

/// The bitmap's superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host::sim) struct Header {
    pub(in crate::host::sim) events: u64,
    pub(in crate::host::sim) events_cleared: u64,
    pub(in crate::host::sim) sync_sectors: u64,
    pub(in crate::host::sim) state: u32,
    pub(in crate::host::sim) chunk_bytes: u32,
}

impl Header {
    /// `None`: the kernel calls it invalid.
    pub(in crate::host::sim) fn parse(page: &[u8]) -> Option<Self> {
        let header = Self {
            events: get8(page, 24),
            events_cleared: get8(page, 32),
            sync_sectors: get8(page, 40),
            state: get4(page, 48),
            chunk_bytes: get4(page, 52),
        };
        let valid = get4(page, 0) == BITMAP_MAGIC
            && (3..=5).contains(&get4(page, 4))
            && header.chunk_bytes >= 512
            && header.chunk_bytes.is_power_of_two()
            && get4(page, 56) >= 1
            && page[8..24].iter().all(|b| *b == 0);
        valid.then_some(header)
    }

    pub(super) fn render(&self) -> [u8; HEADER] {
        let mut page = [0; HEADER];
        for (at, value) in [
            (0, BITMAP_MAGIC),
            (4, 4),
            (48, self.state),
            (52, self.chunk_bytes),
            (56, 5), // seconds that the daemon sleeps
        ] {
            put4(&mut page, at, value);
        }
        for (at, value) in [(24, self.events), (32, self.events_cleared), (40, self.sync_sectors)] {
            put8(&mut page, at, value);
        }
        page
    }
}
