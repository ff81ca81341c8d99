//! What has changed between two snapshots, and what of one holds anything, told a part at a time.

use std::ops::Range;

use crate::engine::snapshots::parse_snapshot_id;
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::lvm2::model::LogicalVolume;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::changes::{BLOCK, Blocks, candidates, differing, everything, holding};
use crate::volume::ranges::{after, first, push};

/// Read of each image before others may have the group's lock.
const TURN: Bytes = Bytes::mib(64);
/// Read at once.
const PIECE: Bytes = Bytes::mib(1);

impl<H: Host> Engine<H> {
    /// The blocks of a snapshot, from a place on, that differ from those of another snapshot of the same volume, or without
    /// one: that hold anything but zeroes, which a new volume is full of. Never less than the truth, and no more than blocks
    /// of [`BLOCK`].
    ///
    /// Cost: both images are read where they can differ; see [`crate::volume::changes`].
    ///
    /// # Errors
    /// There is no such snapshot (`NotFound`), it is not ready or its disk is away (`Precondition`), the two are not of one
    /// volume (`Invalid`), the place is beyond the end (`OutOfRange`).
    pub fn blocks(&self, snapshot: &str, base: Option<&str>, from: Bytes) -> Result<Blocks> {
        let (volume, target) = parse_snapshot_id(snapshot)?;
        let base = base.map(|id| parse_snapshot_id(id).map(|parsed| (id, parsed))).transpose()?;
        if let Some((id, _)) = base.as_ref().filter(|(_, (of, _))| *of != volume) {
            let message = format!("snapshots {id} and {snapshot} are not of one volume");
            return Err(Error::refused(Class::Invalid, message));
        }
        self.session(|session| {
            if !session.is_volume(&volume) {
                return Err(session.no_snapshot(snapshot));
            }
            let seen = session.look_deep(&volume)?;
            let slot = session.readable_slot(&seen, snapshot, &target)?;
            let base =
                base.as_ref().map(|(id, (_, key))| session.readable_slot(&seen, id, key)).transpose()?;
            let size = seen.len.bytes();
            if from > size {
                let message = format!("snapshot {snapshot} ends at byte {size}, before byte {from}");
                return Err(Error::refused(Class::OutOfRange, message));
            }
            let all = base.map_or_else(|| everything(&seen), |base| candidates(&seen, base, slot));
            let from = Bytes(from.0 / BLOCK.0 * BLOCK.0);
            let rest = after(&all, from);
            let turn = first(&rest, TURN);
            let next = turn
                .last()
                .map(|last| last.end)
                .filter(|end| rest.last().is_some_and(|last| last.end > *end));
            let image = |slot: usize| &seen.slots[slot].image;
            let ranges = session.compared(image(slot), base.map(image), &turn)?;
            Ok(Blocks { size, ranges, next })
        })
    }
}

impl<H: Host> Session<'_, H> {
    /// The blocks of an image within `turn` that differ from another image's, or hold something.
    fn compared(
        &self,
        image: &LogicalVolume,
        base: Option<&LogicalVolume>,
        turn: &[Range<Bytes>],
    ) -> Result<Vec<Range<Bytes>>> {
        let mut ranges = Vec::new();
        for range in turn {
            let mut at = range.start;
            while at < range.end {
                let len = PIECE.min(range.end - at);
                let piece = self.group.read_lv(self.host, image, at, len)?;
                let found = match base {
                    Some(base) => differing(at, &self.group.read_lv(self.host, base, at, len)?, &piece),
                    None => holding(at, &piece),
                };
                found.into_iter().for_each(|range| push(&mut ranges, range));
                at += len;
            }
        }
        Ok(ranges)
    }
}
