//! Changes of a volume's metadata, as pure functions from one volume group to the next.
//!
//! Every edit holds all its marks in one commit, so that a crash leaves all of them or none.

use crate::ids::{LvName, LvmUuid};
use crate::lvm2::edit::{self, EditError};
use crate::lvm2::model::{LogicalVolume, VolumeGroup};
use crate::volume::seen::{Seen, SlotSeen};
use crate::volume::step::Edit;
use crate::volume::tags::{self, Grown, ImageTags, Membership, VolumeTags};

/// The flag of an LV that LVM2 does not activate unless it is told to ignore it.
pub const ACTIVATION_SKIP: &str = "ACTIVATION_SKIP";
/// The flag of an LV that a host's boot leaves alone: an activation that nobody watches could lose marks.
pub const NO_AUTOACTIVATE: &str = "NOAUTOACTIVATE";

/// The volume group after `edit` of the volume `seen`.
///
/// # Errors
/// The metadata does not hold what the edit needs; nothing is half done.
pub fn apply(vg: &VolumeGroup, seen: &Seen, edit: &Edit) -> Result<VolumeGroup, EditError> {
    let lv = &seen.lv.name;
    match edit {
        Edit::Created => {
            let mut vg = vg.clone();
            // What is not filled must not be activated by anyone else, nor what records how far it is.
            let own = seen.tags.filling || seen.tags.record.is_some();
            if let Some(top) = vg.lv_mut(lv).filter(|_| !own) {
                top.flags.retain(|flag| flag != ACTIVATION_SKIP);
            }
            Ok(with_volume_tags(&vg, seen, |tags| tags.creating = false))
        }
        Edit::Filled => {
            let mut vg = vg.clone();
            if let Some(top) = vg.lv_mut(lv) {
                top.flags.retain(|flag| flag != ACTIVATION_SKIP);
            }
            Ok(with_volume_tags(&vg, seen, |tags| (tags.filling, tags.pending) = (false, true)))
        }
        Edit::Split { slot, name, cut, min_in_sync, lent } => {
            let vg = edit::mark_split(vg, lv, *slot)?;
            let vg = with_image_tags(&vg, seen, *slot, |tags| {
                let (snapshot, cut, lent) = (Some(name.clone()), Some(*cut), lent.clone());
                let min_in_sync = Some(*min_in_sync).filter(|images| *images > 1);
                *tags = ImageTags { snapshot, cut, min_in_sync, lent, ..tags.afresh() };
            });
            Ok(with_volume_tags(&vg, seen, |tags| tags.pending = true))
        }
        Edit::Pinned { slot, events } => {
            let vg = with_image_tags(vg, seen, *slot, |tags| tags.events = Some(*events));
            Ok(with_volume_tags(&vg, seen, |tags| tags.pending = false))
        }
        Edit::Join { slot, group, members } => Ok(with_image_tags(vg, seen, *slot, |tags| {
            tags.group = Some(Membership { group: group.clone(), members: *members });
        })),
        Edit::GiveUp { slot, events } => {
            let vg = with_image_tags(vg, seen, *slot, |tags| tags.events = Some(*events));
            attach(&vg, seen, *slot, false)
        }
        Edit::Unsplit { slot } => {
            let vg = edit::mark_merged(vg, lv, *slot)?;
            let vg = with_image_tags(&vg, seen, *slot, |tags| *tags = tags.afresh());
            Ok(with_volume_tags(&vg, seen, |tags| tags.pending = false))
        }
        Edit::Merge { slot, rebuild } => {
            let vg = attach(vg, seen, *slot, *rebuild)?;
            Ok(with_volume_tags(&vg, seen, |tags| tags.pending = true))
        }
        Edit::Rebuild { slots } => slots.iter().try_fold(vg.clone(), |vg, slot| rebuild(&vg, seen, *slot)),
        Edit::FullMerge { slots, why } => Ok(slots.iter().fold(vg.clone(), |vg, slot| {
            with_image_tags(&vg, seen, *slot, |tags| tags.full = Some(why.clone()))
        })),
        Edit::RollBack { key, request } => Ok(with_volume_tags(vg, seen, |tags| {
            tags.rollback = Some(key.clone());
            tags.rollback_for.clone_from(request);
        })),
        Edit::RolledBack => Ok(with_volume_tags(vg, seen, |tags| {
            tags.rollback = None;
            tags.rolled_back_for = tags.rollback_for.take().or(tags.rolled_back_for.take());
        })),
        Edit::Pending => Ok(with_volume_tags(vg, seen, |tags| tags.pending = true)),
        Edit::SwapPinned => Ok(with_volume_tags(vg, seen, |tags| tags.pending = false)),
        Edit::Merged { slot } => {
            let vg = edit::set_rebuild(vg, lv, *slot, false)?;
            Ok(with_image_tags(&vg, seen, *slot, |tags| *tags = tags.afresh()))
        }
        Edit::SwapLost { source } => swap_lost(vg, seen, *source),
        Edit::GrowAgain { slot, grown } => {
            let vg = attach(vg, seen, *slot, true)?;
            let vg = with_image_tags(&vg, seen, *slot, |tags| tags.grow(grown));
            Ok(with_volume_tags(&vg, seen, |tags| tags.pending = true))
        }
        Edit::Leave { slots, becomes } => {
            let out = |slot: usize| seen.slots[slot].is_split();
            let vg = slots.iter().try_fold(vg.clone(), |vg, slot| {
                let vg = if out(*slot) { vg } else { edit::mark_split(&vg, lv, *slot)? };
                Ok(with_image_tags(&vg, seen, *slot, |tags| {
                    *tags = ImageTags { leaving: true, becomes: becomes.clone(), ..ImageTags::default() };
                }))
            })?;
            let swaps = slots.iter().any(|slot| !out(*slot));
            Ok(with_volume_tags(&vg, seen, |tags| tags.pending |= swaps))
        }
        Edit::Adopted => Ok(with_volume_tags(vg, seen, |tags| tags.adopting = false)),
        Edit::Left => {
            let vg = edit::remove_legs(vg, lv, seen.staying())?;
            Ok(with_volume_tags(&vg, seen, |tags| tags.pending = false))
        }
        Edit::Tune { min_recovery_rate, max_recovery_rate, write_mostly, region_size } => {
            let vg = edit::set_rates(vg, lv, *min_recovery_rate, *max_recovery_rate)?;
            let vg = edit::set_region_size(&vg, lv, *region_size)?;
            edit::set_write_mostly(&vg, lv, write_mostly)
        }
    }
}

/// The volume group after edits of several volumes, which count together.
///
/// # Errors
/// The metadata does not hold what an edit needs; nothing is half done.
pub fn apply_all<'a>(
    vg: &VolumeGroup,
    edits: impl IntoIterator<Item = (&'a Seen, &'a Edit)>,
) -> Result<VolumeGroup, EditError> {
    edits.into_iter().try_fold(vg.clone(), |vg, (seen, edit)| apply(&vg, seen, edit))
}

/// New images, which the metadata has already, are to be copied up, for the volume or for a snapshot; pending.
#[must_use]
pub fn added(vg: &VolumeGroup, seen: &Seen, grown: Option<&Grown>) -> VolumeGroup {
    let mut tags = ImageTags { merging: true, ..ImageTags::default() };
    if let Some(grown) = grown {
        tags.grow(grown);
    }
    let mut vg = vg.clone();
    let slots = vg.lv(&seen.lv.name).and_then(LogicalVolume::raid1).map(|raid| raid.slots.clone());
    for names in slots.into_iter().flatten().skip(seen.slots.len()) {
        if let Some(image) = vg.lv_mut(&names.image) {
            image.tags.extend(tags.render());
        }
    }
    // As beside any full copy: see `require_full_copy`.
    let vg = doubt_splits(&vg, seen, "an image was added meanwhile", None);
    with_volume_tags(&vg, seen, |tags| tags.pending = true)
}

/// What a snapshot's image becomes.
#[derive(Clone, Debug)]
pub struct Detached {
    /// The new volume's LV.
    pub lv: edit::DetachedLv,
    /// Identifiers of the LVs in slots that have no image until there are some: see [`edit::detach_leg`].
    pub lost: Vec<[LvmUuid; 2]>,
    /// The name it is asked for by.
    pub name: String,
    /// The snapshot's id.
    pub source: String,
    /// KiB/s per image that recovery is never throttled below.
    pub min_recovery_rate: Option<u64>,
    /// KiB/s per image that recovery is throttled to.
    pub max_recovery_rate: Option<u64>,
}

/// The image of a snapshot becomes a volume; the slot that it leaves is empty until it gets another image. All in one
/// commit: an image is never part of two volumes, nor of none.
///
/// # Errors
/// The metadata does not hold what the edit needs.
pub fn detach(vg: &VolumeGroup, seen: &Seen, slot: usize, new: Detached) -> Result<VolumeGroup, EditError> {
    let snapshot = seen.slots[slot].tags.snapshot.clone();
    let vg = with_image_tags(vg, seen, slot, |tags| *tags = ImageTags::default());
    let lv = new.lv.name.clone();
    let tags = VolumeTags {
        name: Some(new.name),
        clone: Some(new.source),
        detached: true,
        snapshot,
        adopting: true,
        ..VolumeTags::default()
    };
    let flags = vec![NO_AUTOACTIVATE.to_owned()];
    let detached = edit::DetachedLv { tags: tags.render(), flags, ..new.lv };
    let mut vg = edit::detach_leg(&vg, &seen.lv.name, slot, detached, new.lost)?;
    vg = edit::set_rates(&vg, &lv, new.min_recovery_rate, new.max_recovery_rate)?;
    let origin = std::iter::once(seen.lv.name.image(slot));
    let others = vg.lv(&lv).and_then(LogicalVolume::raid1).map(|raid| raid.slots.clone()).unwrap_or_default();
    for image in origin.chain(others.into_iter().skip(1).map(|slot| slot.image)) {
        if let Some(image) = vg.lv_mut(&image) {
            image.tags = ImageTags { lost: true, ..ImageTags::default() }.render();
        }
    }
    Ok(vg)
}

/// The images that leave become a volume of their own. All in one commit, as in [`detach`]. `pending` ends with it: until then a
/// power cut puts in doubt that they are equal, and all but the first are copied from that.
///
/// # Errors
/// The metadata does not hold what the edit needs.
pub fn part(
    vg: &VolumeGroup,
    seen: &Seen,
    name: &str,
    new: edit::DetachedLv,
) -> Result<VolumeGroup, EditError> {
    let lv = new.name.clone();
    let tags = VolumeTags {
        name: Some(name.to_owned()),
        clone: Some(seen.lv.name.to_string()),
        detached: true,
        adopting: true,
        ..VolumeTags::default()
    };
    let flags = vec![NO_AUTOACTIVATE.to_owned()];
    // Behind any that only waits to leave.
    let stays = |of: &SlotSeen| of.tags.becomes.as_deref() != Some(name);
    let first = seen.slots.iter().rposition(stays).map_or(0, |last| last + 1);
    let parted = edit::DetachedLv { tags: tags.render(), flags, ..new };
    let mut vg = edit::part_legs(vg, &seen.lv.name, first, parted)?;
    for (slot, of) in seen.slots[first..].iter().enumerate() {
        let in_doubt = slot > 0 && of.tags.full.is_some();
        if in_doubt {
            vg = edit::set_rebuild(&vg, &lv, slot, true)?;
        }
        if let Some(image) = vg.lv_mut(&lv.image(slot)) {
            image.tags.retain(|tag| !tags::is_ours(tag));
            image.tags.extend(ImageTags { merging: in_doubt, ..ImageTags::default() }.render());
        }
    }
    Ok(with_volume_tags(&vg, seen, |tags| tags.pending = false))
}

/// Slots that had no image have one each, which the metadata has already: they are to be copied up.
#[must_use]
pub fn filled(vg: &VolumeGroup, seen: &Seen, slots: impl Iterator<Item = usize>) -> VolumeGroup {
    let vg = slots.fold(vg.clone(), |vg, slot| {
        with_image_tags(&vg, seen, slot, |tags| *tags = ImageTags { merging: true, ..ImageTags::default() })
    });
    // As beside any full copy: see `require_full_copy`.
    doubt_splits(&vg, seen, "an image was added meanwhile", None)
}

/// Nothing on disk says which writes the kernel had begun to mark when the power went: a split of ours that was not
/// pinned has failed and goes back in full, every other split may only be merged in full, and every attached image
/// but one is copied up in full. A slot without an image stays as it is.
fn swap_lost(vg: &VolumeGroup, seen: &Seen, source: usize) -> Result<VolumeGroup, EditError> {
    let mut vg = vg.clone();
    let goes = |of: &SlotSeen| of.is_leaving() && of.tags.becomes.is_none();
    let in_doubt = |(slot, of): &(usize, &SlotSeen)| *slot != source && !goes(of) && !of.is_lost();
    for (slot, of) in seen.slots.iter().enumerate().filter(in_doubt) {
        vg = if of.is_split() && !of.is_unpinned() {
            with_image_tags(&vg, seen, slot, |tags| {
                tags.full = Some("power was lost during a table swap".into())
            })
        } else if of.is_split() {
            attach(&vg, seen, slot, true)?
        } else {
            rebuild(&vg, seen, slot)?
        };
    }
    Ok(with_volume_tags(&vg, seen, |tags| tags.pending = false))
}

fn attach(vg: &VolumeGroup, seen: &Seen, slot: usize, full: bool) -> Result<VolumeGroup, EditError> {
    let vg = edit::mark_merged(vg, &seen.lv.name, slot)?;
    let vg = if full { require_full_copy(&vg, seen, slot)? } else { vg };
    Ok(with_image_tags(&vg, seen, slot, |tags| {
        *tags = ImageTags { merging: true, events: tags.events, ..tags.afresh() };
    }))
}

fn rebuild(vg: &VolumeGroup, seen: &Seen, slot: usize) -> Result<VolumeGroup, EditError> {
    let vg = require_full_copy(vg, seen, slot)?;
    // What another tool has merged is one of the volume's images from now on.
    let keeps = |tags: &ImageTags| if tags.snapshot.is_some() { ImageTags::default() } else { tags.afresh() };
    Ok(with_image_tags(&vg, seen, slot, |tags| *tags = ImageTags { merging: true, ..keeps(tags) }))
}

/// Marks an image for a full copy, and with it every other split: the kernel begins a full copy by writing a bitmap without
/// bits before it reads the one on disk (`raid_preresume`, `rs_update_sbs`; seen on 6.1 and 7.2). Both in one commit, since any tool
/// that starts the array from this metadata asks the kernel for that copy.
fn require_full_copy(vg: &VolumeGroup, seen: &Seen, slot: usize) -> Result<VolumeGroup, EditError> {
    let vg = edit::set_rebuild(vg, &seen.lv.name, slot, true)?;
    Ok(doubt_splits(&vg, seen, &format!("image {slot} was copied in full meanwhile"), Some(slot)))
}

/// Every split but one may only be merged in full.
fn doubt_splits(vg: &VolumeGroup, seen: &Seen, why: &str, but: Option<usize>) -> VolumeGroup {
    let others = (0..seen.slots.len()).filter(|other| Some(*other) != but);
    others.fold(vg.clone(), |vg, other| {
        let tracked = vg.lv(&seen.slots[other].image.name).is_some_and(|image| image.is_tracked_image());
        if !tracked {
            return vg;
        }
        with_image_tags(&vg, seen, other, |tags| {
            tags.full.get_or_insert_with(|| why.to_owned());
        })
    })
}

/// Replaces our tags of the top LV; those of others stay.
pub(crate) fn with_volume_tags(
    vg: &VolumeGroup,
    seen: &Seen,
    change: impl FnOnce(&mut VolumeTags),
) -> VolumeGroup {
    let mut vg = vg.clone();
    if let Some(lv) = vg.lv_mut(&seen.lv.name) {
        let mut ours = VolumeTags::of(lv);
        change(&mut ours);
        lv.tags.retain(|tag| !tags::is_ours(tag));
        lv.tags.extend(ours.render());
    }
    vg
}

/// Replaces our tags of an image; those of others stay.
pub(crate) fn with_image_tags(
    vg: &VolumeGroup,
    seen: &Seen,
    slot: usize,
    change: impl FnOnce(&mut ImageTags),
) -> VolumeGroup {
    let name: &LvName = &seen.slots[slot].image.name;
    let mut vg = vg.clone();
    if let Some(lv) = vg.lv_mut(name) {
        let mut ours = ImageTags::of(lv);
        change(&mut ours);
        lv.tags.retain(|tag| !tags::is_ours(tag));
        lv.tags.extend(ours.render());
    }
    vg
}
