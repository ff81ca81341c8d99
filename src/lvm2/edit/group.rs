//! A new group.

use super::{NewPv, Result, add_pv, words};
use crate::ids::{LvmUuid, VgName};
use crate::lvm2::edit::EditError;
use crate::lvm2::model::VolumeGroup;
use crate::lvm2::text::{Node, Value};
use crate::units::Sectors;

/// What a new group shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewGroup {
    /// Its name.
    pub name: VgName,
    /// Its identifier.
    pub id: LvmUuid,
    /// Size of its extents; LVM2's own default is 8192 sectors.
    pub extent_size: Sectors,
    /// The host it belongs to, if it shall be of one.
    pub system_id: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Compatible flags, such as `NOAUTOACTIVATE`.
    pub flags: Vec<String>,
    /// Its PVs.
    pub pvs: Vec<NewPv>,
}

/// Makes a group of its PVs, without an LV. It is of version 0 until it is committed.
///
/// # Errors
/// The extent size is no power of two, a tag is none, or a device is too small.
pub fn create_vg(new: NewGroup) -> Result<VolumeGroup> {
    if !new.extent_size.0.is_power_of_two() {
        return Err(EditError::Number { what: "the extent size in sectors", value: new.extent_size.0 });
    }
    super::tags::require_tags(&new.tags)?;
    let number = |name: &str| Node::value(name, Value::Int(0));
    let mut vg = VolumeGroup {
        name: new.name,
        id: new.id,
        seqno: 0,
        status: words(&["RESIZEABLE", "READ", "WRITE"]),
        flags: new.flags,
        tags: new.tags,
        system_id: new.system_id,
        lock_type: None,
        extent_size: new.extent_size,
        pvs: Vec::new(),
        lvs: Vec::new(),
        extra: vec![number("max_lv"), number("max_pv"), number("metadata_copies")],
        trailer: Vec::new(),
    };
    for pv in new.pvs {
        vg = add_pv(&vg, pv)?;
    }
    Ok(vg)
}
