//! What may be done with each leg before an array is assembled of which nobody knows how it was stopped.

use std::collections::BTreeMap;
use std::ops::Range;

use super::judge::Judge;
use super::{Merge, Why};
use crate::raid::leg::LegMeta;
use crate::report::Class;
use crate::units::{Bytes, Sectors};

/// What the volume group's metadata says of a leg. A leg whose disk is away is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegRole {
    /// Part of the array.
    Attached,
    /// Split off: its slot stays empty. With the event counter noted when the split was pinned.
    Split {
        /// What [`super::split_is_pinned`] answered; `None` when it was never asked.
        recorded_events: Option<u64>,
    },
    /// A merge had begun, or the leg is new: part of the array, but it was not seen whole yet.
    Returning {
        /// Its event counter when the merge began: for a merge by marks what [`super::split_is_pinned`] answered, 0
        /// for a full copy or a new leg. `None` when nobody noted it.
        events_before: Option<u64>,
        /// It was to be copied in full.
        in_full: bool,
    },
}

/// How the array was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStop {
    /// It was taken down in order: all its writes had ended.
    Clean,
    /// Not known: as if the power was cut.
    Unclean,
    /// As [`LastStop::Unclean`], and a table swap had begun whose pin cycle was not seen through.
    ///
    /// Guards against: the old table is destroyed *after* the new one is resumed, and then writes the first page of
    /// the bitmap from its own memory. Bits that the new one has set in between are lost on disk until it writes the
    /// page again, and nothing on disk says so.
    ///
    /// To be said while a split is pending, unless [`super::split_is_pinned`] is content with what is on the disks. A
    /// merge need not be said: [`LegRole::Returning`] is enough.
    MidSwap,
}

/// What to do with a leg that the table will name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is equal to the others; with [`Plan::equalize`] first, if there is one.
    Trust,
    /// It was being copied in full; the kernel goes on from where it was.
    Resume,
    /// It was out; the kernel copies what is marked.
    ByMarks,
    /// It must be copied in full: before the table is loaded it gets [`crate::raid::Superblock::for_full_copy`].
    Rebuild(Why),
}

/// What must be copied between trusted legs before they are used: after a power cut they may differ in what was being
/// written, which is marked.
///
/// Guards against: dm-raid clears such marks some seconds after activation without having copied anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equalize {
    /// The slot to copy from.
    pub from: usize,
    /// The slots to copy to.
    pub to: Vec<usize>,
    /// What to copy: ascending, apart from one another.
    pub ranges: Vec<Range<Bytes>>,
}

/// How the array can be assembled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The legs that the table names.
    pub legs: BTreeMap<usize, Verdict>,
    /// How each leg that stays out may come back, once the array runs by this plan. Those that need a full copy had
    /// better get [`crate::raid::Superblock::for_full_copy`] now: then LVM2's own merge is right too.
    pub splits: BTreeMap<usize, Merge>,
    /// What to copy first.
    pub equalize: Option<Equalize>,
}

impl Plan {
    /// The slots that need [`crate::raid::Superblock::for_full_copy`] before the table is loaded. Then, and not before, the
    /// metadata says of them [`LegRole::Returning`] with a counter of 0.
    #[must_use]
    pub fn rebuild(&self) -> Vec<usize> {
        let rebuilt = self.legs.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Rebuild(_)));
        rebuilt.map(|(slot, _)| *slot).collect()
    }
}

/// Whether and how an array can be assembled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activation {
    /// No leg was ever started: a new array.
    Fresh,
    /// So.
    Assemble(Plan),
    /// Not without a person who looks first.
    Corrupt(Refusal),
}

/// Why an array cannot be assembled.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// No leg of the array is there.
    #[error("no leg of the array is there")]
    NoLeg,
    /// The attached legs have no superblock although a leg that left the array has one.
    #[error("no leg of the array has a superblock, but slot {0}, which had left it, has one")]
    Wiped(usize),
    /// The superblocks are of an array of another length.
    #[error("slot {slot} is of an array of {} sectors, not {}", .found.0, .wanted.0)]
    Length {
        /// The leg.
        slot: usize,
        /// What its superblock says.
        found: Sectors,
        /// What the volume group's metadata says.
        wanted: Sectors,
    },
    /// No leg is whole.
    #[error("no leg is whole: there is none to copy from")]
    NoSource,
    /// Each leg says that the others had failed: both ran alone, and either may have what the other lacks.
    #[error("slot {0} ran without the legs that ran without it: either may hold what the other lacks")]
    Diverged(usize),
}

impl Refusal {
    /// What the caller can do: nothing, until a person has looked.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Corrupt
    }
}

/// Before an array of this length is assembled: which legs may be trusted, which are copied, and what becomes of the
/// splits.
///
/// The windows of a power cut, and what is answered:
///
/// | on the disks | answer |
/// |---|---|
/// | nothing on any leg | [`Activation::Fresh`] |
/// | a leg without superblock among others | rebuild: a new leg whose array was not started with it yet |
/// | superblocks one event apart | trust: an update goes to one leg after another, and none begins before the last has ended everywhere. The later may be the *older* state, since the counter steps back by one when a healthy array falls idle |
/// | a leg two events or more behind, not known missing | rebuild: another history, such as an old copy put back |
/// | a leg known missing, everything else in order | by marks, as after a passing fault |
/// | a leg good up to some sector, not known missing | resume: a full copy was under way |
/// | a leg good up to some sector, known missing | rebuild: the kernel would copy the marks only |
/// | merge begun, survivors updated, the leg not: its counter is still the recorded one | rebuild: the kernel would trust it |
/// | merge begun, no superblock written since | rebuild, unless the stop was clean: marks made since the swap may be lost |
/// | merge begun, the leg's counter has moved to the array's | trust, or resume if it is not whole |
/// | split never pinned | no counter was recorded: in full |
/// | two legs that each say the other failed | refused |
///
/// Guards against: `super_init_validation` looks at no counter, only at the failed slots of the freshest leg.
#[must_use]
pub fn at_activation(legs: &[(usize, LegRole, &LegMeta)], array: Sectors, last_stop: LastStop) -> Activation {
    match Judge::new(legs, array, last_stop) {
        Ok(None) => Activation::Fresh,
        Ok(Some(judge)) => Activation::Assemble(judge.plan(legs)),
        Err(refusal) => Activation::Corrupt(refusal),
    }
}
