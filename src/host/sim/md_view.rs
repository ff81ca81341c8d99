//! What an rmeta device says, for tests that look at the disk behind the product's back.

use super::disk::wide;
use super::md::{Header, Super};

/// The superblocks and the marks of one leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rmeta {
    /// Its slot when it was last written.
    pub position: u32,
    /// Its event counter.
    pub events: u64,
    /// Slots that it says are missing.
    pub failed: u64,
    /// All ones: in sync.
    pub recovery_offset: u64,
    /// The bitmap's event counter.
    pub bitmap_events: u64,
    /// The bitmap is good for legs that left after this event.
    pub events_cleared: u64,
    /// Regions that are marked.
    pub marked: Vec<u64>,
}

/// Reads the first sectors of an rmeta device.
///
/// # Panics
/// When there are no superblocks.
#[must_use]
pub fn rmeta(data: &[u8]) -> Rmeta {
    let sb = Super::parse(data).expect("a superblock");
    let header = Header::parse(&data[4096..]).expect("a bitmap");
    let regions = sb.array_sectors.div_ceil(u64::from(header.chunk_bytes) / 512);
    let bits =
        (0_u64..).zip(data[4352..].iter().flat_map(|byte| (0..8).map(move |bit| byte & (1 << bit) != 0)));
    let marked = bits.take_while(|(n, _)| *n < regions).filter(|(_, on)| *on).map(|(n, _)| n).collect();
    debug_assert!(wide(data.len()) * 8 >= regions);
    Rmeta {
        position: sb.position,
        events: sb.events,
        failed: sb.failed,
        recovery_offset: sb.recovery_offset,
        bitmap_events: header.events,
        events_cleared: header.events_cleared,
        marked,
    }
}
