//! The end of a snapshot: its image goes back into its slot, and only what the array wrote meanwhile is copied.
//!
//! ```text
//! settled, image not in use
//!   -> commit the image as attached, `merging`, `pending` (and REBUILD when its marks are in doubt)
//!   -> devices writable
//!   -> swap: suspend, check the invariants on disk, load with the slot filled, resume
//!        an invariant does not hold -> nothing was loaded; commit REBUILD, swap with `rebuild N`
//!   -> pin, commit not `pending`
//!   -> wait until the slot is in sync
//!        fewer sectors were copied than were marked -> commit REBUILD, swap with `rebuild N`
//!   -> commit not `merging`
//! ```
//!
//! An image that was added for the snapshot only is not merged: it leaves, see [`super::images`].

use crate::raid::{self, Health, RaidTable};
use crate::report::Class;
use crate::volume::bring_up::attached_devices;
use crate::volume::seen::Seen;
use crate::volume::split::settled;
use crate::volume::step::{Edit, Next, Refusal, Returning, Step, Waiting};
use crate::volume::{rollback, tables};

/// What was seen in this run and leaves no trace to observe.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    /// The swap was pinned.
    pub pinned: bool,
    /// An invariant did not hold when the swap was tried, or less was copied than was marked.
    pub in_doubt: bool,
}

/// What next, to begin merging the image of `slot`. The volume has been brought up, and no view shows it.
#[must_use]
pub fn begin(seen: &Seen, slot: usize) -> Next {
    if !seen.slots[slot].is_split() || seen.slots[slot].is_leaving() {
        return Next::Done;
    }
    if seen.running().is_none() {
        return Refusal::because(Class::Precondition, format!("volume {} is not active", seen.lv.name));
    }
    if let Some(not_yet) = settled(seen) {
        return not_yet;
    }
    let rolls_back_to = seen.tags.rollback.as_deref();
    if seen.snapshot_key(slot).is_some_and(|key| rolls_back_to == Some(key.as_str()))
        && let Some(refusal) = rollback::refusal(seen)
    {
        return Next::Refuse(refusal);
    }
    let of = &seen.slots[slot];
    if of.image_dev.as_ref().is_some_and(|dev| dev.info.open_count > 0) {
        let message = format!("snapshot {} of {} is in use: unmount it first", of.image.name, seen.lv.name);
        return Refusal::because(Class::Precondition, message);
    }
    if of.tags.grown.is_some() {
        return Next::Do(Step::Commit(Edit::Leave { slots: vec![slot] }));
    }
    // Without an event count nobody can say who assembled this image since it was split.
    let rebuild = of.tags.full.is_some() || of.tags.events.is_none();
    Next::Do(Step::Commit(Edit::Merge { slot, rebuild }))
}

/// What next, to finish a merge that has begun: until the array runs with the image, and then until it is equal.
#[must_use]
pub fn finish(seen: &Seen, slot: usize, memo: &Memo) -> Next {
    let of = &seen.slots[slot];
    if !of.tags.merging {
        return Next::Done;
    }
    let Some((table, status)) = seen.running() else {
        return Refusal::because(Class::Precondition, format!("volume {} is not active", seen.lv.name));
    };
    if memo.in_doubt && !of.is_rebuild() {
        return Next::Do(Step::Commit(Edit::Rebuild { slots: vec![slot] }));
    }
    let attached = table.has_leg(slot);
    if !attached || (of.is_rebuild() && !table.rebuild.contains(&slot)) {
        // Kernels before 6.9 hang when a table goes away while its sync thread is about to start.
        if !status.is_settled() {
            return Next::Wait(Waiting::Sync);
        }
        // With it all others that are to be copied in full and have no leg in the table: the kernel refuses one with as many empty
        // slots as the array had slots before (`validate_raid_redundancy`), which several new images would make.
        let missing = |other: usize| seen.slots[other].is_rebuild() && !table.has_leg(other);
        let rebuild: Vec<usize> = match of.is_rebuild() {
            true => seen.attached_slots().filter(|other| *other == slot || missing(*other)).collect(),
            false => Vec::new(),
        };
        for joining in rebuild.iter().copied().chain([slot]) {
            if let Some(next) = attached_devices(seen, joining) {
                return next;
            }
        }
        if !seen.tags.pending {
            return Next::Do(Step::Commit(Edit::Pending));
        }
        let returning = rebuild.is_empty().then_some(Returning { slot, events: of.tags.events });
        let joins = rebuild.clone();
        let with = |other: usize| other == slot || joins.contains(&other) || table.has_leg(other);
        return match tables::table(seen, with, rebuild) {
            Some(table) => Next::Do(Step::Swap { table, returning }),
            None => {
                Refusal::because(Class::Internal, format!("volume {}: a leg has no device", seen.lv.name))
            }
        };
    }
    if seen.tags.pending {
        return Next::Do(if memo.pinned { Step::Commit(Edit::SwapPinned) } else { Step::Pin });
    }
    match status.health.get(slot) {
        Some(Health::InSync) if status.is_settled() => durable(seen, table, slot, memo),
        Some(Health::Dead) => {
            let message =
                format!("volume {}: image {slot} on {} has failed during its merge", seen.lv.name, of.device);
            Refusal::because(Class::Precondition, message)
        }
        _ => Next::Wait(Waiting::Sync),
    }
}

/// The mark of the merge goes when every superblock on disk says that the image is back.
fn durable(seen: &Seen, table: &RaidTable, slot: usize, memo: &Memo) -> Next {
    let others = (0..seen.slots.len()).filter(|other| *other != slot && table.has_leg(*other));
    let (Some(others), Some(own)) = (seen.metas_of(others), seen.metas_of(std::iter::once(slot))) else {
        return Next::ReadMetas;
    };
    match raid::merge_is_pinned(&others, slot, own[0].1) {
        Ok(()) => Next::Do(Step::Commit(Edit::Merged { slot })),
        Err(_) if !memo.pinned => Next::Do(Step::Pin),
        Err(_) => Next::Wait(Waiting::Sync),
    }
}

/// A slot whose image another tool attached again, or that an array started without: what it holds is in doubt.
#[must_use]
pub fn stray(seen: &Seen) -> Option<Edit> {
    let (table, _) = seen.running()?;
    let slots: Vec<usize> = seen
        .attached_slots()
        .filter(|slot| {
            let tags = &seen.slots[*slot].tags;
            !tags.merging && (tags.snapshot.is_some() || tags.leaving || !table.has_leg(*slot))
        })
        .collect();
    (!slots.is_empty()).then_some(Edit::Rebuild { slots })
}
