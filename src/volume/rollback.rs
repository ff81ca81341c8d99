//! Back to a snapshot, in place: what the volume has changed since is copied from the image into the array. The
//! snapshot stays.
//!
//! ```text
//! settled, volume not in use, snapshot ready
//!   -> commit the snapshot's key on the volume: nobody may use the volume from now on
//!   -> read the rmetas: copy the marked regions from the image to the array, a turn at a time
//!   -> commit without the key
//! ```
//!
//! The bitmap marks every region that the array has written since its oldest outstanding split, so the rest is what the
//! snapshot holds. Marks stay while a slot is empty, also those of what is copied here; so a crash at any point only
//! means that the same regions are copied again. A split whose marks are in doubt is copied in full.

use std::ops::Range;

use crate::raid::Bitmap;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::info::Progress;
use crate::volume::key;
use crate::volume::ranges::{after, first, sum};
use crate::volume::seen::Seen;
use crate::volume::split::settled;
use crate::volume::step::{Edit, Next, Refusal, Step, Waiting};

/// Copied before others may have the group's lock: short enough not to keep an admin's `lvs` waiting.
const TURN: Bytes = Bytes::mib(64);

/// How far the copy is: it leaves no trace to observe, and forgetting it only copies again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memo {
    /// All that is marked before this place has been copied.
    pub at: Bytes,
    /// A turn was just taken.
    pub turn_taken: bool,
}

/// Whether this request has been carried out. What was written since then must not be lost to a repetition of it.
#[must_use]
pub fn was_done(seen: &Seen, request: Option<&str>) -> bool {
    request.is_some() && seen.tags.rolled_back_for.as_deref() == request
}

/// What next, to begin a rollback to the image of `slot` by a request that was not carried out yet. The volume has been
/// brought up.
#[must_use]
pub fn begin(seen: &Seen, slot: usize, request: Option<&str>) -> Next {
    let Some(key) = seen.snapshot_key(slot) else {
        return Refusal::because(
            Class::NotFound,
            format!("volume {}: image {slot} is no snapshot", seen.lv.name),
        );
    };
    if let Some(other) = &seen.tags.rollback {
        if *other == key.as_str() && seen.tags.rollback_for.as_deref() == request {
            return Next::Done;
        }
        return Refusal::because(Class::Precondition, under_way(seen, other));
    }
    if seen.running().is_none() {
        return Refusal::because(Class::Precondition, format!("volume {} is not active", seen.lv.name));
    }
    if let Some(not_yet) = settled(seen) {
        return not_yet;
    }
    let of = &seen.slots[slot];
    if !of.present || of.is_unpinned() {
        let message = format!("snapshot {} is not ready", key::snapshot_id(&seen.lv.name, &key));
        return Refusal::because(Class::Precondition, message);
    }
    if let Some(refusal) = in_use(seen) {
        return refusal;
    }
    Next::Do(Step::Commit(Edit::RollBack { key: key.to_string(), request: request.map(str::to_owned) }))
}

/// What next, to finish a rollback that has begun.
#[must_use]
pub fn finish(seen: &Seen, memo: &Memo) -> Next {
    let Some(key) = &seen.tags.rollback else { return Next::Done };
    let slot = key.parse().ok().and_then(|key| seen.slot_of(&key));
    let Some(slot) = slot.filter(|slot| seen.slots[*slot].present) else {
        let message = format!(
            "volume {} was being rolled back to snapshot {key}, which is not there any more: it may hold parts of both",
            seen.lv.name
        );
        return Refusal::because(Class::Corrupt, message);
    };
    if seen.running().is_none() {
        return Refusal::because(Class::Precondition, format!("volume {} is not active", seen.lv.name));
    }
    if let Some(refusal) = in_use(seen) {
        return refusal;
    }
    if memo.turn_taken {
        return Next::Wait(Waiting::Turn);
    }
    let Some(ranges) = to_copy(seen, slot) else { return Next::ReadMetas };
    let turn = first(&after(&ranges, memo.at), TURN);
    if turn.is_empty() {
        return Next::Do(Step::Commit(Edit::RolledBack));
    }
    Next::Do(Step::CopyBack { from: slot, ranges: turn })
}

/// How far it is. `None` while the rmetas are not read, or when nothing is rolled back.
#[must_use]
pub fn progress(seen: &Seen, memo: &Memo) -> Option<Progress> {
    let slot = seen.slot_of(&seen.tags.rollback.as_ref()?.parse().ok()?)?;
    let ranges = to_copy(seen, slot)?;
    let total = sum(&ranges);
    Some(Progress { done: total - sum(&after(&ranges, memo.at)), total })
}

/// Refuses what must not be done with a volume that may hold parts of two states.
#[must_use]
pub fn refusal(seen: &Seen) -> Option<Refusal> {
    let key = seen.tags.rollback.as_ref()?;
    Some(Refusal { class: Class::Precondition, message: under_way(seen, key) })
}

fn under_way(seen: &Seen, key: &str) -> String {
    format!(
        "volume {} is being rolled back to snapshot {}@{key}: wait until that is done",
        seen.lv.name, seen.lv.name
    )
}

fn in_use(seen: &Seen) -> Option<Next> {
    let open = seen.top.as_ref().is_some_and(|top| top.info.open_count > 0);
    open.then(|| {
        Refusal::because(Class::Precondition, format!("volume {} is in use: unmount it first", seen.lv.name))
    })
}

/// What the image and the array may hold differently: all that any attached leg marks, or everything when marks are in
/// doubt. `None` while the rmetas are not read.
fn to_copy(seen: &Seen, slot: usize) -> Option<Vec<Range<Bytes>>> {
    let everything = vec![Bytes::ZERO..seen.len.bytes()];
    let tags = &seen.slots[slot].tags;
    if tags.full.is_some() || tags.events.is_none() {
        return Some(everything);
    }
    let metas = seen.metas.as_ref()?;
    let bitmaps =
        seen.attached_slots().map(|slot| metas[slot].as_ref().and_then(|meta| meta.bitmap.as_ref()));
    let Some(bitmaps) = bitmaps.collect::<Option<Vec<_>>>() else { return Some(everything) };
    match Bitmap::union(bitmaps) {
        Ok(Some(marked)) => Some(marked.marked_ranges()),
        Ok(None) | Err(_) => Some(everything),
    }
}
