//! PVs that join and leave.

use super::{EditError, Result, words};
use crate::ids::LvmUuid;
use crate::lvm2::label::{DATA_START, Label};
use crate::lvm2::model::{PhysicalVolume, VolumeGroup};
use crate::units::{Extents, Sectors};

/// A PV that shall join a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPv {
    /// Its identifier, as in its label.
    pub id: LvmUuid,
    /// Where it is now: a hint.
    pub device: String,
    /// Size of its device.
    pub size: Sectors,
    /// Where extent 0 shall be.
    pub data_start: Sectors,
    /// Tags.
    pub tags: Vec<String>,
}

impl NewPv {
    /// A PV with this label.
    #[must_use]
    pub fn of(label: &Label, device: &str) -> Self {
        let data = label.data.first().map_or(DATA_START, |area| area.offset);
        Self {
            id: label.pv,
            device: device.to_owned(),
            size: label.device_size.sectors_floor(),
            data_start: data.sectors_floor(),
            tags: Vec::new(),
        }
    }
}

/// Adds a PV, under the first name of `pv0`, `pv1`, … that is free.
///
/// # Errors
/// It is in the group already, is too small, or a tag is none.
pub fn add_pv(vg: &VolumeGroup, new: NewPv) -> Result<VolumeGroup> {
    if vg.pv_by_id(&new.id).is_some() {
        return Err(EditError::PvTaken(new.id));
    }
    super::tags::require_tags(&new.tags)?;
    let room = new.size.checked_sub(new.data_start).unwrap_or_default();
    let pe_count = Extents(room.0.checked_div(vg.extent_size.0).unwrap_or(0));
    if pe_count.0 == 0 {
        return Err(EditError::TooSmall(new.id));
    }
    let mut vg = vg.clone();
    let mut names = (0..).map(|n: usize| format!("pv{n}"));
    let name = names.find(|name| vg.pv(name).is_none()).expect("there are more names than PVs");
    vg.pvs.push(PhysicalVolume {
        name,
        id: new.id,
        device: new.device,
        status: words(&["ALLOCATABLE"]),
        flags: Vec::new(),
        tags: new.tags,
        dev_size: new.size,
        pe_start: new.data_start,
        pe_count,
        extra: Vec::new(),
    });
    Ok(vg)
}

/// Takes a PV out of the group.
///
/// # Errors
/// There is no such PV, it is the last, or an LV has extents on it.
pub fn remove_pv(vg: &VolumeGroup, name: &str) -> Result<VolumeGroup> {
    if vg.pv(name).is_none() {
        return Err(EditError::NoPv(name.to_owned()));
    }
    if vg.pvs.len() == 1 {
        return Err(EditError::LastPv(name.to_owned()));
    }
    if let Some(user) = vg.allocations().into_iter().find(|allocation| allocation.run.pv == name) {
        return Err(EditError::PvInUse { pv: name.to_owned(), lv: user.lv.clone() });
    }
    let mut vg = vg.clone();
    vg.pvs.retain(|pv| pv.name != name);
    Ok(vg)
}

/// Believes a PV again that was missing. What is on it may be old: images there have to be rebuilt, or the kernel
/// has to know that they are.
///
/// # Errors
/// There is no such PV.
pub fn mark_present(vg: &VolumeGroup, name: &str) -> Result<VolumeGroup> {
    let mut vg = vg.clone();
    let pv = vg.pvs.iter_mut().find(|pv| pv.name == name).ok_or_else(|| EditError::NoPv(name.to_owned()))?;
    pv.status.retain(|word| word != "MISSING");
    pv.flags.retain(|word| word != "MISSING");
    Ok(vg)
}
