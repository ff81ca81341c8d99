//! May this leg be trusted, merged by marks, or must it be copied whole? What the kernel does not ask, asked here.
//!
//! dm-raid takes a returning leg for equal unless the *freshest* superblock says that the slot *the leg remembers*
//! had failed. It compares no event counters, and when the bitmap is out of date it copies nothing at all. So
//! every table that brings a leg back is preceded by a look at what is on the disks:
//!
//! * [`split_is_pinned`]: after a split, is the absence of the leg durable?
//! * [`merge_is_pinned`]: after a merge, is it durable that the leg is back?
//! * [`may_merge`]: with the array suspended, will the kernel copy all that was marked?
//! * [`at_activation`]: before an array is assembled, of which nobody knows how it was stopped.
//!
//! Invariants: [`Merge::Full`] is always right and only costs time, so every doubt ends there. The functions say what
//! is wrong by name, and nothing is decided from fewer legs than were given.
//!
//! Sources: `drivers/md/dm-raid.c`, `super_load`, `super_init_validation`, `super_validate`, `super_sync`;
//! `md-bitmap.c`, `md_bitmap_read_sb`, `md_bitmap_load`, `md_bitmap_init_from_disk`; `md.c`, `md_update_sb` (the
//! bitmap's header goes to all legs first, then the superblocks, all of them before the next update begins);
//! experiments with 6.1 and 7.2.

use crate::raid::leg::LegMeta;
use crate::raid::superblock::{MAX_SECTOR, Superblock};
use crate::report::Class;
use crate::units::Sectors;

mod activation;
mod judge;

pub use activation::{Activation, Equalize, LastStop, LegRole, Plan, Refusal, Verdict, at_activation};

/// How a leg may come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The kernel will copy what is marked, and that is all that differs.
    Tracked,
    /// The whole leg must be copied: before the table is loaded it gets [`Superblock::for_full_copy`].
    Full(Why),
}

/// Why a leg cannot be trusted, or merged by marks.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Why {
    /// There is no leg to compare with.
    #[error("no leg is left in the array to compare with")]
    NoSurvivor,
    /// A leg was never started, or was wiped.
    #[error("slot {0} has no superblock")]
    NoSuperblock(usize),
    /// A leg has no bitmap.
    #[error("slot {0} has no bitmap")]
    NoBitmap(usize),
    /// A leg of the array does not know that the slot was missing: the kernel would take the returning leg for equal.
    #[error("slot {survivor} does not know that slot {slot} was missing")]
    NotKnownMissing {
        /// The leg that should know.
        survivor: usize,
        /// The slot it should know of.
        slot: usize,
    },
    /// The returning leg is no older than the array: the kernel might take *its* view for the truth.
    #[error("slot {survivor} is at event {events}, no later than the leg's {leg}")]
    NotOlder {
        /// A leg of the array.
        survivor: usize,
        /// Its event counter.
        events: u64,
        /// The returning leg's.
        leg: u64,
    },
    /// The kernel takes a bitmap older than the superblock for stale, and then copies nothing.
    #[error("the bitmap of slot {survivor} is of event {bitmap}, the array is at {array}")]
    BitmapBehind {
        /// The leg that has it.
        survivor: usize,
        /// The bitmap's event counter.
        bitmap: u64,
        /// The array's.
        array: u64,
    },
    /// A bitmap says of itself that it is out of date, or that it could not be written.
    #[error("the bitmap of slot {survivor} is in state {state:#x}")]
    BitmapState {
        /// The leg that has it.
        survivor: usize,
        /// Its state.
        state: u32,
    },
    /// Bits were cleared since the leg left: the kernel keeps none of the marks.
    #[error("the bitmap of slot {survivor} was cleared at event {cleared}, the array is at {array}")]
    MarksCleared {
        /// The leg that has it.
        survivor: usize,
        /// When it was cleared.
        cleared: u64,
        /// Where the array is.
        array: u64,
    },
    /// A leg last ran in another slot: it would be looked up under the wrong number.
    #[error("the leg in slot {slot} last ran in slot {ran_in}")]
    OtherSlot {
        /// Where it is now.
        slot: usize,
        /// Where it ran.
        ran_in: u32,
    },
    /// The leg is not of an array of this size.
    #[error("the leg is of {leg} sectors of an array of {leg_array}, slot {survivor} of {own} of {array}",
        leg = .leg.0.0, leg_array = .leg.1.0, own = .own.0.0, array = .own.1.0)]
    OtherSize {
        /// The leg's own length, and its array's.
        leg: (Sectors, Sectors),
        /// A leg of the array.
        survivor: usize,
        /// Its own length, and its array's.
        own: (Sectors, Sectors),
    },
    /// The leg was not whole when it left: what was never copied is not marked either.
    #[error("slot {slot} is good up to sector {} only", .upto.0)]
    NotWhole {
        /// The leg.
        slot: usize,
        /// How much of it is good.
        upto: Sectors,
    },
    /// The array itself was not in sync.
    #[error("the array is in sync up to sector {} only", .upto.0)]
    ArrayNotInSync {
        /// How much of it is.
        upto: Sectors,
    },
    /// Nobody noted what the leg's event counter was when it left, so nobody knows who used it since.
    #[error("the leg's event counter was not recorded when it left")]
    Unrecorded,
    /// The leg's event counter moved while it was out: it was assembled somewhere.
    #[error("the leg left at event {recorded} and is at {found} now: it was used elsewhere")]
    UsedElsewhere {
        /// What was noted.
        recorded: u64,
        /// What is there.
        found: u64,
    },
    /// The leg is of an older history than the array, which does not know that it was missing.
    #[error("slot {slot} is {by} events behind, more than a power cut explains")]
    Behind {
        /// The leg.
        slot: usize,
        /// How far.
        by: u64,
    },
    /// Another leg of the array says that it had failed.
    #[error("slot {slot} had failed, says slot {by}")]
    Disowned {
        /// The leg.
        slot: usize,
        /// Who says so.
        by: usize,
    },
    /// It was decided before that the leg is copied in full.
    #[error("a full copy had been decided on")]
    ToBeCopied,
    /// The machine stopped while one table took over from another: marks may have been lost.
    #[error("the machine stopped while a table was being swapped: marks may be lost")]
    MidSwap,
}

/// Why a split or a merge is not safe yet.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("what was done to slot {slot} is not durable")]
pub struct NotPinned {
    /// The slot that was split off, or merged.
    pub slot: usize,
    /// What is missing.
    #[source]
    pub why: Why,
}

impl NotPinned {
    /// What the caller can do: suspend and resume once more, then look again.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Transient
    }
}

/// After the suspend and resume that follow a split: is it durable that `slot` is empty, so that neither a power cut
/// nor a stock `lvconvert --merge` can make the kernel take the stale leg for equal?
///
/// Answers with the split leg's event counter, to be recorded: it must not move until the merge.
///
/// Guards against: dm-raid writes nothing when a table with an empty slot is loaded or resumed, so a busy array may
/// run for hours with superblocks that say all legs are there.
///
/// # Errors
/// What is missing.
pub fn split_is_pinned(
    survivors: &[(usize, &LegMeta)],
    slot: usize,
    split: &LegMeta,
) -> Result<u64, NotPinned> {
    let refuse = |why| NotPinned { slot, why };
    marks_hold(survivors, slot, split, 0).map_err(refuse)?;
    split.superblock.as_ref().map(|sb| sb.events).ok_or(refuse(Why::NoSuperblock(slot)))
}

/// After a merge, the suspend and resume that follow it, and its end: is it durable that the leg in `slot` is whole and
/// part of the array? Only then may the mark of the merge go from the metadata.
///
/// Guards against: a power cut among the superblocks of one update. By the survivors' word the leg is still missing, by
/// its own it is not.
///
/// # Errors
/// What is missing.
pub fn merge_is_pinned(survivors: &[(usize, &LegMeta)], slot: usize, leg: &LegMeta) -> Result<(), NotPinned> {
    let refuse = |why| NotPinned { slot, why };
    let own = leg.superblock.as_ref().ok_or(refuse(Why::NoSuperblock(slot)))?;
    in_its_slot(slot, own).map_err(refuse)?;
    if own.disk_recovery_offset != MAX_SECTOR {
        return Err(refuse(Why::NotWhole { slot, upto: own.disk_recovery_offset }));
    }
    for &(survivor, leg) in survivors {
        let other = leg.superblock.as_ref().ok_or(refuse(Why::NoSuperblock(survivor)))?;
        if other.failed(slot) {
            return Err(refuse(Why::Disowned { slot, by: survivor }));
        }
        // One apart is an update that is under way.
        if other.events.abs_diff(own.events) > 1 {
            return Err(refuse(Why::Behind { slot, by: other.events.abs_diff(own.events) }));
        }
    }
    if survivors.is_empty() { Err(refuse(Why::NoSurvivor)) } else { Ok(()) }
}

/// With the array suspended, before the table is loaded that brings `returning` back into `slot`: will the kernel copy
/// all that differs? `recorded_events` is what [`split_is_pinned`] answered.
///
/// Guards against, for every survivor (the numbers are the order of the checks):
/// 1. the slot not known missing: the kernel trusts the leg and copies nothing;
/// 2. an older or equal event counter: the kernel takes the returning leg for the freshest, the first of equals wins;
/// 3. a bitmap older than the superblock, or stale: filled with ones, none of which are copied;
/// 4. bits cleared at the present event: the marks are read and not one is copied;
/// 5. another slot number or size: the leg is looked up under the number it remembers;
/// 6. a leg that was not whole when it left: its tail is neither good nor marked;
/// 7. a leg used elsewhere since, or of which nobody knows.
#[must_use]
pub fn may_merge(
    survivors: &[(usize, &LegMeta)],
    slot: usize,
    returning: &LegMeta,
    recorded_events: Option<u64>,
) -> Merge {
    merge_by(survivors, slot, returning, recorded_events, 0)
}

/// [`may_merge`] of an array that is known to be at event `at_least`, whatever the survivors say.
fn merge_by(
    survivors: &[(usize, &LegMeta)],
    slot: usize,
    returning: &LegMeta,
    recorded: Option<u64>,
    at_least: u64,
) -> Merge {
    let unmoved = || match (recorded, &returning.superblock) {
        (None, _) => Err(Why::Unrecorded),
        (Some(recorded), Some(sb)) if sb.events != recorded => {
            Err(Why::UsedElsewhere { recorded, found: sb.events })
        }
        (Some(_), _) => Ok(()),
    };
    match marks_hold(survivors, slot, returning, at_least).and_then(|()| unmoved()) {
        Ok(()) => Merge::Tracked,
        Err(why) => Merge::Full(why),
    }
}

/// Invariants 1 to 6 of [`may_merge`].
fn marks_hold(survivors: &[(usize, &LegMeta)], slot: usize, leg: &LegMeta, at_least: u64) -> Result<(), Why> {
    let left = leg.superblock.as_ref().ok_or(Why::NoSuperblock(slot))?;
    in_its_slot(slot, left)?;
    if left.disk_recovery_offset != MAX_SECTOR {
        return Err(Why::NotWhole { slot, upto: left.disk_recovery_offset });
    }
    let events = survivors.iter().filter_map(|(_, leg)| Some(leg.superblock.as_ref()?.events));
    // What the kernel will compare each bitmap with: the freshest superblock's counter.
    let array = events.max().ok_or(Why::NoSurvivor)?.max(at_least);
    for &(survivor, leg) in survivors {
        let own = leg.superblock.as_ref().ok_or(Why::NoSuperblock(survivor))?;
        in_its_slot(survivor, own)?;
        if !own.failed(slot) {
            return Err(Why::NotKnownMissing { survivor, slot });
        }
        if own.events <= left.events {
            return Err(Why::NotOlder { survivor, events: own.events, leg: left.events });
        }
        if own.disk_recovery_offset != MAX_SECTOR {
            return Err(Why::NotWhole { slot: survivor, upto: own.disk_recovery_offset });
        }
        if own.array_resync_offset != MAX_SECTOR {
            return Err(Why::ArrayNotInSync { upto: own.array_resync_offset });
        }
        let sizes = |sb: &Superblock| (sb.sectors, sb.array_sectors);
        if sizes(own) != sizes(left) {
            return Err(Why::OtherSize { leg: sizes(left), survivor, own: sizes(own) });
        }
        let bitmap = &leg.bitmap.as_ref().ok_or(Why::NoBitmap(survivor))?.header;
        if bitmap.events < array {
            return Err(Why::BitmapBehind { survivor, bitmap: bitmap.events, array });
        }
        if bitmap.state != 0 {
            return Err(Why::BitmapState { survivor, state: bitmap.state });
        }
        if bitmap.events_cleared >= own.events {
            return Err(Why::MarksCleared { survivor, cleared: bitmap.events_cleared, array: own.events });
        }
    }
    Ok(())
}

fn in_its_slot(slot: usize, superblock: &Superblock) -> Result<(), Why> {
    let ran_in = superblock.array_position;
    if usize::try_from(ran_in) == Ok(slot) { Ok(()) } else { Err(Why::OtherSlot { slot, ran_in }) }
}

#[cfg(test)]
mod tests;
