//! Which blocks differ between two snapshots of a volume, and which of one hold anything.
//!
//! ```text
//! older split      newer split
//!     │   writes       │   writes
//! ────┴────────────────┴──────────►   array: bits of its bitmap are set, and stay while a slot is empty
//!                      └► the newer image's rmeta keeps the bitmap as it was at its split
//! ```
//!
//! So two images can differ only where the newer one's own bitmap is marked. It may mark more (a write that changed nothing,
//! marks since a still older split), so what is marked is compared: the images are local and do not change. Where marks are
//! in doubt everything is compared, which only costs time.

use std::ops::Range;

use crate::units::Bytes;
use crate::volume::ranges::push;
use crate::volume::seen::Seen;

/// Blocks are compared in this size: what file systems write.
pub const BLOCK: Bytes = Bytes::kib(4);

/// Blocks of a part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The snapshot's size.
    pub size: Bytes,
    /// In order, none touching another.
    pub ranges: Vec<Range<Bytes>>,
    /// Where the next part begins; `None`: this was the last one.
    pub next: Option<Bytes>,
}

/// Where the images of two split slots can differ; the rmetas have been read.
#[must_use]
pub fn candidates(seen: &Seen, one: usize, other: usize) -> Vec<Range<Bytes>> {
    if one == other {
        return Vec::new();
    }
    marked(seen, one, other).unwrap_or_else(|| everything(seen))
}

/// The whole volume.
#[must_use]
pub fn everything(seen: &Seen) -> Vec<Range<Bytes>> {
    vec![Bytes::ZERO..seen.len.bytes()]
}

/// What the newer image's rmeta marks. `None` when that cannot be relied on: another tool has split one of them, power was
/// lost at the wrong moment, or somebody has assembled the newer image since.
fn marked(seen: &Seen, one: usize, other: usize) -> Option<Vec<Range<Bytes>>> {
    let cut = |slot: usize| {
        let tags = &seen.slots[slot].tags;
        tags.cut.filter(|_| tags.full.is_none() && tags.events.is_some())
    };
    let (one_cut, other_cut) = (cut(one)?, cut(other)?);
    let newer = match one_cut.cmp(&other_cut) {
        std::cmp::Ordering::Less => other,
        std::cmp::Ordering::Greater => one,
        std::cmp::Ordering::Equal => return None,
    };
    let meta = seen.metas.as_ref()?[newer].as_ref()?;
    let untouched = meta.superblock.as_ref()?.events == seen.slots[newer].tags.events?;
    meta.bitmap.as_ref().filter(|_| untouched).map(|bitmap| bitmap.marked_ranges())
}

/// The blocks, of two pieces of the same place, that are not the same.
#[must_use]
pub fn differing(at: Bytes, one: &[u8], other: &[u8]) -> Vec<Range<Bytes>> {
    let blocks = one.chunks(block()).zip(other.chunks(block()));
    picked(at, blocks.map(|(one, other)| (one.len(), one != other)))
}

/// The blocks of a piece that hold something other than zeroes.
#[must_use]
pub fn holding(at: Bytes, piece: &[u8]) -> Vec<Range<Bytes>> {
    let blocks = piece.chunks(block());
    picked(at, blocks.map(|block| (block.len(), block.iter().any(|byte| *byte != 0))))
}

fn block() -> usize {
    usize::try_from(BLOCK.0).expect("a block fits memory")
}

fn picked(at: Bytes, blocks: impl Iterator<Item = (usize, bool)>) -> Vec<Range<Bytes>> {
    let mut ranges = Vec::new();
    let mut start = at;
    for (len, is_picked) in blocks {
        let end = start + Bytes(u64::try_from(len).expect("a length fits 64 bits"));
        if is_picked {
            push(&mut ranges, start..end);
        }
        start = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kib(ranges: &[(u64, u64)]) -> Vec<Range<Bytes>> {
        ranges.iter().map(|(from, to)| Bytes::kib(*from)..Bytes::kib(*to)).collect()
    }

    #[test]
    fn blocks_that_differ_are_told_and_neighbours_joined() {
        let old = vec![7; 5 * 4096 + 512];
        let mut new = old.clone();
        for place in [4096, 8191 + 4096, 5 * 4096 + 511] {
            new[place] = 8;
        }
        let mut expected = kib(&[(104, 112)]);
        expected.push(Bytes::kib(120)..Bytes::kib(120) + Bytes(512));
        assert_eq!(differing(Bytes::kib(100), &old, &new), expected);
        assert_eq!(differing(Bytes::ZERO, &old, &old), []);
    }

    #[test]
    fn blocks_of_zeroes_hold_nothing() {
        let mut piece = vec![0; 3 * 4096];
        assert_eq!(holding(Bytes::ZERO, &piece), []);
        piece[4096] = 1;
        assert_eq!(holding(Bytes::ZERO, &piece), kib(&[(4, 8)]));
    }
}
