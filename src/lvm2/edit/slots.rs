//! What the metadata says of one slot: split off, back again, to be rebuilt.

use super::{EditError, Result, find_lv, find_lv_mut, find_raid1, find_slot};
use crate::ids::LvName;
use crate::lvm2::model::{LogicalVolume, VolumeGroup};

/// Splits an image off, tracked: visible and not writable, which is all that LVM2 writes for it. The metadata LV
/// and the list of images stay as they are.
///
/// # Errors
/// There is no such slot, it is split off already or to be rebuilt, or it is the last in the array. What the kernel
/// says of the images is for the caller to look at.
pub fn mark_split(vg: &VolumeGroup, lv: &LvName, slot: usize) -> Result<VolumeGroup> {
    let image = find_slot(vg, lv, slot)?.image.clone();
    if find_lv(vg, &image)?.is_tracked_image() {
        return Err(EditError::Tracked { lv: lv.clone(), slot });
    }
    if find_lv(vg, &image)?.has("REBUILD") {
        return Err(EditError::Rebuilding { lv: lv.clone(), slot });
    }
    let raid = find_raid1(vg, lv)?;
    let others = raid.slots.iter().enumerate().filter(|(index, _)| *index != slot);
    let is_whole = |image: &LogicalVolume| !image.is_tracked_image() && !image.has("REBUILD");
    let mut whole = others.filter(|(_, slot)| vg.lv(&slot.image).is_some_and(is_whole));
    if whole.next().is_none() {
        return Err(EditError::LastImage { lv: lv.clone(), slot });
    }
    let mut vg = vg.clone();
    let image = find_lv_mut(&mut vg, &image)?;
    image.set("WRITE", false);
    image.set("VISIBLE", true);
    Ok(vg)
}

/// Takes an image back: hidden, and writable if the LV is. The kernel copies what has changed since.
///
/// # Errors
/// There is no such slot, or it is not split off.
pub fn mark_merged(vg: &VolumeGroup, lv: &LvName, slot: usize) -> Result<VolumeGroup> {
    let image = find_slot(vg, lv, slot)?.image.clone();
    if !find_lv(vg, &image)?.is_tracked_image() {
        return Err(EditError::NotTracked { lv: lv.clone(), slot });
    }
    let writable = find_lv(vg, lv)?.has("WRITE");
    let mut vg = vg.clone();
    let image = find_lv_mut(&mut vg, &image)?;
    image.set("VISIBLE", false);
    image.set("WRITE", writable);
    Ok(vg)
}

/// Says whether a slot has to be copied up in full when the array starts next.
///
/// # Errors
/// There is no such slot.
pub fn set_rebuild(vg: &VolumeGroup, lv: &LvName, slot: usize, rebuild: bool) -> Result<VolumeGroup> {
    let slot = find_slot(vg, lv, slot)?.clone();
    let mut vg = vg.clone();
    for name in [&slot.meta, &slot.image] {
        let sub: &mut LogicalVolume = find_lv_mut(&mut vg, name)?;
        if sub.has("REBUILD") != rebuild {
            sub.set("REBUILD", rebuild);
        }
    }
    Ok(vg)
}
