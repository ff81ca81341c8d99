//! The write-intent bitmap that md keeps at byte 4096 of each metadata LV: one bit for each region of the array.
//!
//! A bit is on disk before the write it covers is issued, and goes some seconds after it; while a slot is empty or
//! behind it stays. So while a split is outstanding the bits are what was written since.
//!
//! All integers little-endian, offsets from byte 4096:
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | u32 | magic 0x6d746962 |
//! | 4 | u32 | version: 4 |
//! | 8 | 16 bytes | uuid: zero under dm-raid |
//! | 24 | u64 | events of the array when this was written |
//! | 32 | u64 | events when a bit was last cleared with no slot missing |
//! | 40 | u64 | sectors covered; not made smaller when the array is |
//! | 48 | u32 | state: 2 = out of date, 4 = a write failed |
//! | 52 | u32 | bytes of a region |
//! | 56 | u32 | seconds between two passes of the daemon |
//! | 60 | u32 | outstanding writes allowed to write-mostly legs |
//! | 64, 68 | u32 | sectors reserved; nodes of a cluster |
//! | 256 | bits | bit i is byte i/8, value 1 << (i%8); those past the last region may be set |
//!
//! Source: `drivers/md/md-bitmap.h`, `struct bitmap_super_s`; `md-bitmap.c`, `md_bitmap_read_sb`,
//! `md_bitmap_init_from_disk`, `file_page_index`.

use std::ops::Range;

use crate::report::Class;
use crate::units::{Bytes, SECTOR_BYTES, Sectors};

mod region;

pub use region::{
    RegionSizeError, check_region_size, default_region_size, least_region_size, regions, rmeta_len,
};

/// Where the bitmap starts on a metadata LV.
pub const BITMAP_OFFSET: Bytes = Bytes(4096);

/// Bytes of the header before the first bit.
const HEADER: usize = 256;
const START: usize = 4096;
const PAGE: usize = 4096;
const MAGIC: u32 = 0x6d74_6962;
/// `BITMAP_MAJOR_HI`: little-endian bits; dm-raid never wrote another.
const VERSION: u32 = 4;
/// `BITMAP_STALE`.
pub const STATE_STALE: u32 = 2;
/// `BITMAP_WRITE_ERROR`.
pub const STATE_WRITE_ERROR: u32 = 4;

/// What precedes the bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapHeader {
    /// Zero under dm-raid.
    pub uuid: [u8; 16],
    /// Events of the array when this was written.
    pub events: u64,
    /// Events of the array when a bit was last cleared with no slot missing.
    pub events_cleared: u64,
    /// Length covered; may be more than the array.
    pub sync_size: Sectors,
    /// [`STATE_STALE`], [`STATE_WRITE_ERROR`]; 0 on a healthy array.
    pub state: u32,
    /// Length of a region.
    pub chunk: Bytes,
    /// Seconds between two passes of the daemon that clears bits.
    pub daemon_sleep: u32,
    /// Outstanding writes allowed to write-mostly legs.
    pub write_behind: u32,
    /// Space reserved for the bitmap, in sectors.
    pub sectors_reserved: u32,
    /// Nodes of a cluster: 0.
    pub nodes: u32,
}

/// A bitmap: which regions are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// What precedes the bits.
    pub header: BitmapHeader,
    array: Sectors,
    regions: u64,
    /// Bits past the last region are 0 here.
    bits: Vec<u8>,
}

/// Why bytes with the bitmap's magic are not a bitmap of this array.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BitmapError {
    /// The bytes end before the last region's bit.
    #[error("{have} bytes are too few: the bitmap needs {need}")]
    Short {
        /// Bytes given.
        have: usize,
        /// Bytes needed, in whole pages: see [`rmeta_len`].
        need: Bytes,
    },
    /// A version this program does not know.
    #[error("the bitmap is of version {0}, not {VERSION}")]
    Version(u32),
    /// The kernel refuses such a region size too.
    #[error("regions of {0} bytes: must be a power of two from 512")]
    Chunk(u64),
    /// Two bitmaps are not of the same array.
    #[error("the bitmaps are not of one array: {ours} regions of {our_chunk}, and {theirs} of {their_chunk}")]
    Geometry {
        /// Regions of the first.
        ours: u64,
        /// Their size.
        our_chunk: Bytes,
        /// Regions of the other.
        theirs: u64,
        /// Their size.
        their_chunk: Bytes,
    },
}

impl BitmapError {
    /// What the caller can do: look, and change nothing.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Corrupt
    }
}

impl BitmapHeader {
    /// The header of a new array, as the kernel writes it when it starts the array for the first time.
    #[must_use]
    pub fn new(array: Sectors, chunk: Bytes) -> Self {
        Self {
            uuid: [0; 16],
            events: 0,
            events_cleared: 0,
            sync_size: array,
            state: 0,
            chunk,
            daemon_sleep: 5,
            write_behind: 0,
            sectors_reserved: 0,
            nodes: 0,
        }
    }

    fn parse(bytes: &[u8; HEADER]) -> Result<Option<Self>, BitmapError> {
        let word =
            |offset: usize| u32::from_le_bytes(*bytes[offset..].first_chunk().expect("within the header"));
        let long =
            |offset: usize| u64::from_le_bytes(*bytes[offset..].first_chunk().expect("within the header"));
        if word(0) != MAGIC {
            return Ok(None);
        }
        if word(4) != VERSION {
            return Err(BitmapError::Version(word(4)));
        }
        let chunk = u64::from(word(52));
        if chunk < SECTOR_BYTES || !chunk.is_power_of_two() {
            return Err(BitmapError::Chunk(chunk));
        }
        Ok(Some(Self {
            uuid: *bytes[8..].first_chunk().expect("within the header"),
            events: long(24),
            events_cleared: long(32),
            sync_size: Sectors(long(40)),
            state: word(48),
            chunk: Bytes(chunk),
            daemon_sleep: word(56),
            write_behind: word(60),
            sectors_reserved: word(64),
            nodes: word(68),
        }))
    }

    fn render(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(8, &self.uuid);
        for (offset, value) in [
            (0, MAGIC),
            (4, VERSION),
            (48, self.state),
            (52, u32::try_from(self.chunk.0).unwrap_or(0)),
            (56, self.daemon_sleep),
            (60, self.write_behind),
            (64, self.sectors_reserved),
            (68, self.nodes),
        ] {
            put(offset, &value.to_le_bytes());
        }
        for (offset, value) in [(24, self.events), (32, self.events_cleared), (40, self.sync_size.0)] {
            put(offset, &value.to_le_bytes());
        }
        bytes
    }
}

impl Bitmap {
    /// A bitmap with no region marked.
    #[must_use]
    pub fn new(header: BitmapHeader, array: Sectors) -> Self {
        let regions = regions(array, header.chunk);
        let bytes =
            usize::try_from(regions.div_ceil(8)).expect("no more than 2^21 regions fit a metadata LV");
        Self { header, array, regions, bits: vec![0; bytes] }
    }

    /// Reads the bitmap of an array of this length from the bytes of a metadata LV, from byte 0 on; `None` when
    /// there is no magic. The number of regions follows from the array, not from the header, which keeps a larger
    /// size after the array was made smaller.
    ///
    /// # Errors
    /// An unknown version, an impossible region size, or too few bytes: read [`rmeta_len`] of them.
    pub fn parse(rmeta: &[u8], array: Sectors) -> Result<Option<Self>, BitmapError> {
        let short = |need| BitmapError::Short { have: rmeta.len(), need };
        // The first page of it.
        let head =
            rmeta.get(START..).and_then(<[u8]>::first_chunk).ok_or(short(BITMAP_OFFSET + Bytes(4096)))?;
        let Some(header) = BitmapHeader::parse(head)? else {
            return Ok(None);
        };
        let count = regions(array, header.chunk);
        let short = short(rmeta_len(array, header.chunk.sectors_floor()));
        let len = usize::try_from(count.div_ceil(8)).unwrap_or(usize::MAX);
        let bits = rmeta[START + HEADER..].get(..len).ok_or(short)?;
        let mut bitmap = Self { header, array, regions: count, bits: bits.to_vec() };
        bitmap.mask_tail();
        Ok(Some(bitmap))
    }

    /// The bytes from 4096 on, to the end of the last page; bits past the last region are 1, as the kernel leaves
    /// them.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = self.header.render().to_vec();
        bytes.extend(&self.bits);
        let tail = self.regions % 8;
        if let Some(last) = bytes.last_mut().filter(|_| tail != 0) {
            *last |= 0xff << tail;
        }
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0xff);
        bytes
    }

    /// How many regions the array has.
    #[must_use]
    pub fn regions(&self) -> u64 {
        self.regions
    }

    /// The array's length.
    #[must_use]
    pub fn array(&self) -> Sectors {
        self.array
    }

    /// Whether a region is marked.
    #[must_use]
    pub fn is_marked(&self, region: u64) -> bool {
        place(region).is_some_and(|(byte, bit)| self.bits.get(byte).is_some_and(|b| b & bit != 0))
    }

    /// Marks a region. One past the end is ignored.
    pub fn mark(&mut self, region: u64) {
        if region >= self.regions {
            return;
        }
        if let Some((byte, bit)) = place(region).and_then(|(at, bit)| Some((self.bits.get_mut(at)?, bit))) {
            *byte |= bit;
        }
    }

    /// Unmarks a region.
    pub fn clear(&mut self, region: u64) {
        if let Some((byte, bit)) = place(region).and_then(|(at, bit)| Some((self.bits.get_mut(at)?, bit))) {
            *byte &= !bit;
        }
    }

    /// Marks every region.
    pub fn mark_all(&mut self) {
        self.bits.fill(0xff);
        self.mask_tail();
    }

    /// The marked regions, ascending.
    pub fn marked(&self) -> impl Iterator<Item = u64> + '_ {
        (0_u64..).zip(&self.bits).filter(|(_, byte)| **byte != 0).flat_map(|(index, byte)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| index * 8 + bit)
        })
    }

    /// How many regions are marked.
    #[must_use]
    pub fn marked_count(&self) -> u64 {
        self.bits.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// The marked bytes of the array: ascending, neighbours joined, the last one ending with the array.
    #[must_use]
    pub fn marked_ranges(&self) -> Vec<Range<Bytes>> {
        let mut ranges: Vec<Range<Bytes>> = Vec::new();
        for region in self.marked() {
            let range = self.range(region);
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// How many bytes of the array are marked, to the byte: the last region may be a short one.
    #[must_use]
    pub fn marked_bytes(&self) -> Bytes {
        self.marked_ranges().iter().map(|range| range.end - range.start).sum()
    }

    /// Marks here what is marked there.
    ///
    /// # Errors
    /// When the two are not of arrays of one shape.
    pub fn add(&mut self, other: &Self) -> Result<(), BitmapError> {
        if (self.array, self.header.chunk) != (other.array, other.header.chunk) {
            return Err(BitmapError::Geometry {
                ours: self.regions,
                our_chunk: self.header.chunk,
                theirs: other.regions,
                their_chunk: other.header.chunk,
            });
        }
        for (ours, theirs) in self.bits.iter_mut().zip(&other.bits) {
            *ours |= theirs;
        }
        Ok(())
    }

    /// What is marked in any of several legs' bitmaps, under the first one's header; `None` of none.
    ///
    /// # Errors
    /// When they are not of arrays of one shape.
    pub fn union<'a>(bitmaps: impl IntoIterator<Item = &'a Self>) -> Result<Option<Self>, BitmapError> {
        let mut bitmaps = bitmaps.into_iter();
        let Some(mut union) = bitmaps.next().cloned() else {
            return Ok(None);
        };
        for bitmap in bitmaps {
            union.add(bitmap)?;
        }
        Ok(Some(union))
    }

    fn range(&self, region: u64) -> Range<Bytes> {
        let start = self.header.chunk * region;
        start..(start + self.header.chunk).min(self.array.bytes())
    }

    fn mask_tail(&mut self) {
        let tail = self.regions % 8;
        if let Some(last) = self.bits.last_mut().filter(|_| tail != 0) {
            *last &= !(0xff << tail);
        }
    }
}

/// The byte and the bit in it that stand for a region.
fn place(region: u64) -> Option<(usize, u8)> {
    Some((usize::try_from(region / 8).ok()?, 1 << (region % 8)))
}

#[cfg(test)]
mod tests;
