//! The smallest idempotent effects, and what a state machine can answer.

use std::ops::Range;

use crate::host::TargetLine;
use crate::raid::{CloneTable, RaidTable};
use crate::report::Class;
use crate::units::{Bytes, Sectors};
use crate::volume::tags::Grown;

/// What a state machine wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Do this, then look again.
    Do(Step),
    /// Read the rmetas, then ask again.
    ReadMetas,
    /// Nothing can be done until the kernel has got on with something: look again later.
    Wait(Waiting),
    /// It is as it should be.
    Done,
    /// It cannot be done; nothing was changed by this answer.
    Refuse(Refusal),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A resync, recovery or check of the array.
    Sync,
    /// Somebody who has the device of a split image open.
    Closed,
    /// Others, which may want the group's lock before more is copied.
    Turn,
    /// A clone that is being filled.
    Filled,
}

/// Why something is not done, for the caller to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub class: Class,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn because(class: Class, message: impl Into<String>) -> Next {
        Next::Refuse(Self { class, message: message.into() })
    }
}

/// Which half of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The data, `_rimage_N`.
    Image,
    /// Its metadata, `_rmeta_N`.
    Meta,
}

/// The smallest idempotent effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Commit a change of the metadata.
    Commit(Edit),
    /// Copy ranges of the volume from one slot's image to others, while the array is not active.
    Equalise {
        /// The slot to copy from.
        from: usize,
        /// The slots to copy to.
        to: Vec<usize>,
        /// What to copy.
        ranges: Vec<Range<Bytes>>,
    },
    /// Copy ranges of the volume from a split image into the running array.
    CopyBack {
        /// The slot whose image is copied.
        from: usize,
        /// What to copy.
        ranges: Vec<Range<Bytes>>,
    },
    /// Make the linear device of half a leg.
    MakeLeg {
        /// Its slot.
        slot: usize,
        /// Which half.
        part: Part,
    },
    /// Remove the linear device of half a leg.
    DropLeg {
        /// Its slot.
        slot: usize,
        /// Which half.
        part: Part,
    },
    /// Let I/O to the linear device of half a leg go on that another tool has left held back, with the table it runs.
    ResumeLeg {
        /// Its slot.
        slot: usize,
        /// Which half.
        part: Part,
    },
    /// Let nobody open the device of a split image for writing any more.
    Protect {
        /// Its slot.
        slot: usize,
    },
    /// Give the linear device of half a leg the table that the metadata asks for.
    ReloadLeg {
        /// Its slot.
        slot: usize,
        /// Which half.
        part: Part,
    },
    /// Make the array's device and start it.
    MakeTop(RaidTable),
    /// Have the kernel compare all attached images, and make them equal where they differ; note that it was told to.
    Scrub,
    /// Note that the array is as good as one that we started.
    Adopt,
    /// Stop the array and remove its device.
    DropTop,
    /// Drop a table that an interrupted swap left in the inactive slot.
    ClearTop,
    /// Let I/O go on that an interrupted step left held back.
    ResumeTop,
    /// Suspend, load, resume: in this order, so that the new table reads superblocks that nobody writes any more.
    Swap {
        /// The table to swap in.
        table: RaidTable,
        /// A slot that comes back by its marks: what must hold between suspend and load.
        returning: Option<Returning>,
    },
    /// Suspend and resume once more, which makes it durable which slots are missing.
    Pin,
    /// Make the device that a clone is filled from: read-only, with this table.
    MakeOrigin(Vec<TargetLine>),
    /// Remove the device that a clone was filled from.
    DropOrigin,
    /// Make the device of a clone that is being filled, which refuses discards.
    MakeOwn(CloneTable),
    /// Remove it; the array below stays.
    DropOwn,
    /// Let I/O to it go on, with the table that waits if one does.
    ResumeOwn,
    /// Have it refuse discards.
    RefuseDiscards,
    /// Have it copy what nobody has asked for yet, or not.
    Copy(bool),
    /// Have it copy for a moment, to keep to a rate.
    CopyBriefly,
    /// Write through to the disks what it holds, and record that it does.
    FlushOwn,
    /// Let the array take the clone's place: suspend both, load the array's table, resume.
    HandOver(RaidTable),
    /// Remove the array that ran below the clone.
    DropBelow,
}

/// A slot that a swap brings back by its marks alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returning {
    /// The slot.
    pub slot: usize,
    /// Its superblock's event count noted when the split was pinned.
    pub events: Option<u64>,
}

/// A change of a volume's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The new volume is ready for use.
    Created,
    /// An image becomes a snapshot; pending.
    Split {
        /// Its slot.
        slot: usize,
        /// The snapshot's name.
        name: String,
        /// When it was cut, nanoseconds since 1970.
        cut: u64,
        /// In-sync images that must stay attached.
        min_in_sync: usize,
        /// The clone that it is for, and for nothing else.
        lent: Option<String>,
    },
    /// The split is pinned on disk.
    Pinned {
        /// Its slot.
        slot: usize,
        /// Event count of its superblock.
        events: u64,
    },
    /// A split is one of a group's; in one commit with it.
    Join {
        /// Its slot.
        slot: usize,
        /// The group's name.
        group: String,
        /// How many splits the group has.
        members: usize,
    },
    /// A split of a group that was never whole is given up: its image is attached again, and comes back by its marks; pending.
    GiveUp {
        /// Its slot.
        slot: usize,
        /// Event count of its superblock.
        events: u64,
    },
    /// The split never happened: the image has been attached all the time.
    Unsplit {
        /// Its slot.
        slot: usize,
    },
    /// The image is attached again; pending.
    Merge {
        /// Its slot.
        slot: usize,
        /// It must be copied in full.
        rebuild: bool,
    },
    /// An attached image must be copied in full, because its content is in doubt.
    Rebuild {
        /// Their slots.
        slots: Vec<usize>,
    },
    /// Splits may only be merged in full, because their marks are in doubt.
    FullMerge {
        /// Their slots, and why.
        slots: Vec<usize>,
        /// Why.
        why: String,
    },
    /// The volume is to hold what a snapshot holds, and nobody may use it before it does.
    RollBack {
        /// The snapshot's key.
        key: String,
        /// The name of the request for it.
        request: Option<String>,
    },
    /// The volume holds what the snapshot holds.
    RolledBack,
    /// A table is about to be swapped or dropped.
    Pending,
    /// The table swap is pinned on disk.
    SwapPinned,
    /// The image is known to be equal again.
    Merged {
        /// Its slot.
        slot: usize,
    },
    /// The clone's array holds everything: it is the volume from now on; pending.
    Filled,
    /// An image that waits to leave comes back, to be another snapshot; pending.
    GrowAgain {
        /// Its slot.
        slot: usize,
        /// What it will be.
        grown: Grown,
    },
    /// Images are to leave for good; pending when they are in the array.
    Leave {
        /// Their slots.
        slots: Vec<usize>,
        /// The name of the volume that they become together; their extents become free when there is none.
        becomes: Option<String>,
    },
    /// What was leaving, behind all that stay, has left: its extents are free. The swap is pinned.
    Left,
    /// What was made of a snapshot's image runs as an array of its own.
    Adopted,
    /// How fast the array recovers, which images it reads from, and how large its regions are.
    Tune {
        /// KiB/s per image that recovery is never throttled below; the kernel's when `None`.
        min_recovery_rate: Option<u64>,
        /// KiB/s per image that recovery is throttled to; the kernel's when `None`.
        max_recovery_rate: Option<u64>,
        /// Slots whose images reads avoid.
        write_mostly: Vec<usize>,
        /// Granularity of the bitmap.
        region_size: Sectors,
    },
    /// Power was lost before a swap was pinned: see [`super::bring_up`].
    SwapLost {
        /// The slot whose image is good.
        source: usize,
    },
}
