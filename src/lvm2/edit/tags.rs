//! Tags: where all is kept that LVM2 has no field for.

use super::{EditError, Result, find_lv_mut};
use crate::ids::LvName;
use crate::lvm2::check::is_tag;
use crate::lvm2::model::VolumeGroup;

/// Adds tags to an LV; one that is there already stays as it is.
///
/// # Errors
/// There is no such LV, or LVM2 takes no such tag.
pub fn add_tags(vg: &VolumeGroup, lv: &LvName, tags: &[String]) -> Result<VolumeGroup> {
    require_tags(tags)?;
    let mut vg = vg.clone();
    let lv = find_lv_mut(&mut vg, lv)?;
    for tag in tags {
        if !lv.tags.contains(tag) {
            lv.tags.push(tag.clone());
        }
    }
    Ok(vg)
}

/// Removes the tags of an LV that `remove` picks.
///
/// # Errors
/// There is no such LV.
pub fn remove_tags(vg: &VolumeGroup, lv: &LvName, remove: impl Fn(&str) -> bool) -> Result<VolumeGroup> {
    let mut vg = vg.clone();
    find_lv_mut(&mut vg, lv)?.tags.retain(|tag| !remove(tag));
    Ok(vg)
}

/// Only texts that LVM2 takes.
pub(super) fn require_tags(tags: &[String]) -> Result<()> {
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(tag) => Err(EditError::Tag(tag.clone())),
        None => Ok(()),
    }
}
