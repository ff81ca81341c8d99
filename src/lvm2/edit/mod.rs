//! Changes to a volume group: each takes a group and gives a new one, or says why not.
//!
//! Invariants: what comes out of an edit of a sound group is sound (property tests hold every edit against
//! [`super::check`]); an edit never hands out an extent that is taken; none touches `seqno`, which is the commit's.
//!
//! Edits combine: several in a row are one version when they are committed together.

mod disks;
mod group;
mod legs;
mod raid1;
mod slots;
mod tags;
#[cfg(test)]
mod tests;

pub use disks::{NewPv, add_pv, mark_present, remove_pv};
pub use group::{NewGroup, create_vg};
pub use legs::{
    DetachedLv, Filling, add_legs, detach_leg, fill_legs, part_legs, remove_legs, set_rates, set_region_size,
    set_write_mostly,
};
pub use raid1::{NewLeg, NewRaid1, NewReserve, add_raid1, grow_raid1, remove_lv, reserve};
pub use slots::{mark_merged, mark_split, set_rebuild};
pub use tags::{add_tags, remove_tags};

use crate::ids::{LvName, LvmUuid};
use crate::lvm2::model::{LogicalVolume, Raid1, Run, Segment, SegmentKind, Slot, VolumeGroup};
use crate::report::Class;
use crate::units::Extents;

/// Why an edit is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no LV of this name.
    #[error("there is no LV {0}")]
    NoLv(LvName),
    /// The name is taken.
    #[error("there is an LV {0} already")]
    NameTaken(LvName),
    /// The identifier is taken.
    #[error("the id {0} is taken")]
    IdTaken(LvmUuid),
    /// LVM2 keeps the name for itself.
    #[error("LVM2 keeps the name {0} for itself")]
    NameReserved(LvName),
    /// It is not a raid1 LV.
    #[error("LV {0} is not a raid1 LV")]
    NotRaid1(LvName),
    /// It is of a kind that this program does not change.
    #[error("LV {lv} is {why}; it is left to LVM2's own tools")]
    NotOurs {
        /// The LV.
        lv: LvName,
        /// What it is.
        why: &'static str,
    },
    /// It has no such slot.
    #[error("LV {lv} has no slot {slot}")]
    NoSlot {
        /// The LV.
        lv: LvName,
        /// The slot.
        slot: usize,
    },
    /// An image is split off.
    #[error("slot {slot} of LV {lv} is split off")]
    Tracked {
        /// The LV.
        lv: LvName,
        /// The slot.
        slot: usize,
    },
    /// The image is not split off.
    #[error("slot {slot} of LV {lv} is not split off")]
    NotTracked {
        /// The LV.
        lv: LvName,
        /// The slot.
        slot: usize,
    },
    /// The image is not whole.
    #[error("slot {slot} of LV {lv} is to be rebuilt")]
    Rebuilding {
        /// The LV.
        lv: LvName,
        /// The slot.
        slot: usize,
    },
    /// It would leave no image in the array.
    #[error("slot {slot} is the last image of LV {lv}")]
    LastImage {
        /// The LV.
        lv: LvName,
        /// The slot.
        slot: usize,
    },
    /// Extents that are not there, not free, or not allocatable.
    #[error("{run} cannot be used: {why}")]
    Run {
        /// The extents.
        run: Run,
        /// Why not.
        why: &'static str,
    },
    /// The legs do not make a mirror.
    #[error("LV {lv} cannot be made of these legs: {why}")]
    Legs {
        /// The LV.
        lv: LvName,
        /// Why not.
        why: &'static str,
    },
    /// The region size, or a rate, is none.
    #[error("{what} cannot be {value}")]
    Number {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// LVM2 does not take the tag.
    #[error("{0:?} is not a tag that LVM2 takes")]
    Tag(String),
    /// There is no PV of this name.
    #[error("there is no PV {0}")]
    NoPv(String),
    /// The PV is in the group already.
    #[error("PV {0} is in the group already")]
    PvTaken(LvmUuid),
    /// Extents of the PV are in use.
    #[error("PV {pv} holds extents of LV {lv}")]
    PvInUse {
        /// The PV.
        pv: String,
        /// An LV on it.
        lv: LvName,
    },
    /// It is the only PV.
    #[error("PV {0} is the last of its group")]
    LastPv(String),
    /// The device is too small for one extent.
    #[error("the device of PV {0} is too small for one extent")]
    TooSmall(LvmUuid),
}

impl EditError {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NoLv(_) | Self::NoPv(_) | Self::NoSlot { .. } => Class::NotFound,
            Self::NameTaken(_) | Self::IdTaken(_) | Self::PvTaken(_) => Class::Exists,
            Self::NameReserved(_) | Self::Number { .. } | Self::Tag(_) | Self::TooSmall(_) => Class::Invalid,
            Self::NotRaid1(_)
            | Self::NotOurs { .. }
            | Self::Tracked { .. }
            | Self::NotTracked { .. }
            | Self::Rebuilding { .. }
            | Self::PvInUse { .. }
            | Self::LastPv(_)
            | Self::LastImage { .. } => Class::Precondition,
            // What was chosen is not possible: the choice was made on another version, or is wrong.
            Self::Run { .. } | Self::Legs { .. } => Class::Internal,
        }
    }
}

/// What an edit gives.
pub type Result<T, E = EditError> = std::result::Result<T, E>;

/// The LV of this name.
fn find_lv<'a>(vg: &'a VolumeGroup, name: &LvName) -> Result<&'a LogicalVolume> {
    vg.lv(name).ok_or_else(|| EditError::NoLv(name.clone()))
}

/// The LV of this name, to change.
fn find_lv_mut<'a>(vg: &'a mut VolumeGroup, name: &LvName) -> Result<&'a mut LogicalVolume> {
    vg.lv_mut(name).ok_or_else(|| EditError::NoLv(name.clone()))
}

/// The raid1 segment of the LV of this name.
fn find_raid1<'a>(vg: &'a VolumeGroup, name: &LvName) -> Result<&'a Raid1> {
    find_lv(vg, name)?.raid1().ok_or_else(|| EditError::NotRaid1(name.clone()))
}

/// A slot of the LV of this name.
fn find_slot<'a>(vg: &'a VolumeGroup, name: &LvName, slot: usize) -> Result<&'a Slot> {
    let no_slot = || EditError::NoSlot { lv: name.clone(), slot };
    find_raid1(vg, name)?.slots.get(slot).ok_or_else(no_slot)
}

/// The first slot whose image is split off.
fn first_tracked(vg: &VolumeGroup, raid: &Raid1) -> Option<usize> {
    let is_tracked = |slot: &Slot| vg.lv(&slot.image).is_some_and(LogicalVolume::is_tracked_image);
    raid.slots.iter().position(is_tracked)
}

/// A name and an id that an LV may have.
fn require_free_name(vg: &VolumeGroup, name: &LvName, id: &LvmUuid) -> Result<()> {
    if vg.lv(name).is_some() || is_historical(vg, name) {
        return Err(EditError::NameTaken(name.clone()));
    }
    if vg.lvs.iter().any(|lv| &lv.id == id) {
        return Err(EditError::IdTaken(*id));
    }
    Ok(())
}

/// LVM2 remembers removed thin LVs by name, and lets no new one have it.
fn is_historical(vg: &VolumeGroup, name: &LvName) -> bool {
    use crate::lvm2::text::Node;
    vg.extra.iter().any(|node| match node {
        Node::Section { name: section, nodes } if section == "historical_logical_volumes" => {
            nodes.iter().any(|node| match node {
                Node::Section { nodes, .. } => nodes.iter().any(|node| {
                    node.value_of("name").and_then(|value| value.as_text()) == Some(name.as_str())
                }),
                Node::Value { .. } | Node::Comment(_) => false,
            })
        }
        Node::Section { .. } | Node::Value { .. } | Node::Comment(_) => false,
    })
}

/// Extents that exist, are free, and are named once among `runs`.
fn require_free(vg: &VolumeGroup, runs: &[&Run]) -> Result<()> {
    let taken = vg.allocations();
    for (index, run) in runs.iter().enumerate() {
        let fail = |why| Err(EditError::Run { run: (*run).clone(), why });
        let Some(pv) = vg.pv(&run.pv) else { return fail("there is no such PV") };
        if run.count.0 == 0 {
            return fail("it is empty");
        }
        if run.first.0.checked_add(run.count.0).is_none_or(|end| end > pv.pe_count.0) {
            return fail("it ends after the PV");
        }
        if !pv.is_allocatable() {
            return fail("the PV is not allocatable");
        }
        if taken.iter().any(|allocation| allocation.run.overlaps(run)) {
            return fail("an LV has part of it");
        }
        if runs.iter().take(index).any(|other| other.overlaps(run)) {
            return fail("part of it is chosen twice");
        }
    }
    Ok(())
}

/// Linear segments made of runs; runs that follow each other on a PV become one segment.
fn linear_segments(runs: &[Run]) -> Vec<Segment> {
    let mut segments = Vec::new();
    append_runs(&mut segments, runs);
    segments
}

/// Appends runs to linear segments; what follows on without a gap lengthens the last one.
fn append_runs(segments: &mut Vec<Segment>, runs: &[Run]) {
    for run in runs {
        let start = segments.last().map_or(Extents::ZERO, |last| last.start + last.count);
        match segments.last_mut() {
            Some(Segment { kind: SegmentKind::Linear { pv, first }, count, tags, extra, .. })
                if *pv == run.pv && *first + *count == run.first && tags.is_empty() && extra.is_empty() =>
            {
                *count += run.count;
            }
            _ => segments.push(Segment {
                start,
                count: run.count,
                tags: Vec::new(),
                kind: SegmentKind::Linear { pv: run.pv.clone(), first: run.first },
                extra: Vec::new(),
            }),
        }
    }
}

/// Status words.
fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
