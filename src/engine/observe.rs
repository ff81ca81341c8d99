//! Looks at a volume: one pass over its devices, and its rmetas when they are asked for.
//!
//! Cost: one ioctl a device, two for the array; no disk I/O. Reading the
//! rmetas is one direct read a slot.

use std::ops::Range;

use crate::engine::group::Group;
use crate::engine::{Error, Result, Settings};
use crate::host::{DevNo, DmInfo, Host, TargetLine};
use crate::ids::{DmId, LvName};
use crate::lvm2::check;
use crate::lvm2::model::LogicalVolume;
use crate::raid::{
    self, Bitmap, BitmapError, CloneStatus, CloneTable, LegError, LegMeta, RaidStatus, RaidTable,
};
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::seen::{LegDev, OwnSeen, Runs, Seen, SlotSeen, TopSeen, UpperSeen};
use crate::volume::tags::{ImageTags, VolumeTags};
use crate::volume::{clone, key};

/// The device-mapper identity of a volume's own device.
pub fn top_id(group: &Group, lv: &LogicalVolume) -> DmId {
    DmId::visible(&group.vg().name, &group.vg().id, &lv.name, &lv.id)
}

/// The device-mapper identity of the array of a clone that is being filled: LVM2's name for a layer, so that its tools
/// remove it with the LV.
pub fn below_id(group: &Group, lv: &LogicalVolume) -> DmId {
    DmId::layer(&group.vg().name, &group.vg().id, &lv.name, &lv.id, "real")
}

/// The device-mapper identity of what a clone is filled from. LVM2 leaves devices with such a uuid alone.
pub fn origin_id(group: &Group, lv: &LogicalVolume) -> DmId {
    DmId::layer(&group.vg().name, &group.vg().id, &lv.name, &lv.id, "origin")
}

/// The device-mapper identity of a volume's array, as far as the metadata tells.
pub fn array_id(group: &Group, lv: &LogicalVolume) -> DmId {
    if VolumeTags::of(lv).filling { below_id(group, lv) } else { top_id(group, lv) }
}

/// The device-mapper identity of an image or rmeta: public while an image is a snapshot, hidden else.
pub fn sub_id(group: &Group, lv: &LogicalVolume, settings: &Settings) -> DmId {
    if lv.is_tracked_image() {
        DmId::visible(&group.vg().name, &group.vg().id, &lv.name, &lv.id)
    } else {
        DmId::hidden(&group.vg().name, &group.vg().id, &lv.name, &lv.id, settings.hidden_uuid)
    }
}

/// Looks at the volume of this name.
///
/// # Errors
/// There is none, it is not raid1, it is part of something else, a device of its name belongs to something else, or
/// the machine failed.
pub fn observe<H: Host>(host: &H, group: &Group, settings: &Settings, name: &LvName) -> Result<Seen> {
    let mut seen = from_metadata(group, name)?;
    if let Some(user) = check::user_of(group.vg(), name) {
        let message = format!(
            "volume {name} is not a plain raid1 LV any more: LV {} is made on it; remove that first, lvs -a -o+origin \
             shows how",
            user.name
        );
        return Err(Error::refused(Class::Precondition, message));
    }
    for slot in &mut seen.slots {
        slot.image_dev = look_at_leg(host, group, settings, &slot.image)?;
        slot.meta_dev = look_at_leg(host, group, settings, &slot.meta)?;
    }
    if seen.tags.filling || seen.tags.pending {
        let own = look_at_own(host, &top_id(group, &seen.lv))?;
        let below = host.dm_info(&below_id(group, &seen.lv).name)?.is_some();
        let origin = host.dm_info(&origin_id(group, &seen.lv).name)?;
        let has_array = own.as_ref().is_some_and(|own| own.runs == Runs::Raid);
        seen.layered = seen.tags.filling || (below && !has_array);
        if seen.tags.filling || below || origin.is_some() {
            let record = record_of(host, group, name)?;
            let origin_table = origin_table(host, group, settings, &seen)?;
            seen.upper = Some(UpperSeen { own, origin, origin_table, record, below });
        }
    }
    let top = if seen.layered { below_id(group, &seen.lv) } else { top_id(group, &seen.lv) };
    seen.top = look_at_top(host, &top)?;
    seen.started_by_us = host.is_noted(&top.uuid)?;
    Ok(seen)
}

/// The device that records how far a clone is.
fn record_of<H: Host>(host: &H, group: &Group, clone: &LvName) -> Result<Option<DevNo>> {
    let Some(lv) = group.vg().lv(&clone.record()) else { return Ok(None) };
    let info = host.dm_info(&top_id(group, lv).name)?;
    Ok(info.filter(|info| info.live_table && !info.suspended).map(|info| info.devno))
}

/// The table of what a clone is filled from; empty while the snapshot's image has no device.
fn origin_table<H: Host>(
    host: &H,
    group: &Group,
    settings: &Settings,
    seen: &Seen,
) -> Result<Vec<TargetLine>> {
    let source = seen.tags.clone.as_deref().and_then(key::parse_snapshot_id);
    let Some((volume, snapshot)) = source.filter(|(volume, _)| group.vg().lv(volume).is_some()) else {
        return Ok(Vec::new());
    };
    let of = from_metadata(group, &volume)?;
    let Some(slot) = of.slot_of(&snapshot).filter(|slot| of.slots[*slot].present) else {
        return Ok(Vec::new());
    };
    let image = host.dm_info(&sub_id(group, &of.slots[slot].image, settings).name)?;
    let image = image.filter(|info| info.live_table && !info.suspended && info.read_only);
    Ok(image.map_or_else(Vec::new, |info| clone::origin_table(info.devno, of.len, seen.len)))
}

fn look_at_own<H: Host>(host: &H, id: &DmId) -> Result<Option<OwnSeen>> {
    let Some((info, table)) = host.dm_look(&id.name)? else { return Ok(None) };
    check_owner(id, &info.uuid)?;
    let plain = |info: DmInfo, runs| OwnSeen { info, runs, status: None, discards: false };
    if !info.live_table {
        return Ok(Some(plain(info, Runs::Nothing)));
    }
    let [line] = table.as_slice() else { return Ok(Some(plain(info, Runs::Raid))) };
    let Ok(table) = CloneTable::parse(line) else { return Ok(Some(plain(info, Runs::Raid))) };
    let status = host.dm_status(&id.name)?;
    let status = status.first().and_then(|line| CloneStatus::parse(&line.params));
    let discards = host.dm_discards(info.devno)?;
    Ok(Some(OwnSeen { info, runs: Runs::Clone(table), status, discards }))
}

/// What the metadata alone says of a volume.
///
/// # Errors
/// There is none, or it is not raid1.
pub fn from_metadata(group: &Group, name: &LvName) -> Result<Seen> {
    let missing =
        || Error::refused(Class::NotFound, format!("there is no volume {name} in {}", group.vg().name));
    let lv = group.vg().lv(name).ok_or_else(missing)?.clone();
    let raid = lv.raid1().ok_or_else(missing)?.clone();
    let slots = raid
        .slots
        .iter()
        .map(|slot| {
            let sub = |name: &LvName| group.vg().lv(name).cloned().ok_or_else(missing);
            Ok(slot_of(group, sub(&slot.image)?, sub(&slot.meta)?))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Seen {
        tags: VolumeTags::of(&lv),
        len: lv.extents().sectors(group.vg().extent_size),
        top: None,
        layered: false,
        upper: None,
        started_by_us: false,
        metas: None,
        lv,
        raid,
        slots,
    })
}

fn slot_of(group: &Group, image: LogicalVolume, meta: LogicalVolume) -> SlotSeen {
    let first = group.pieces_of(&image).into_iter().next();
    let disk = first.as_ref().and_then(|piece| group.device(&piece.pv));
    let device = match (&first, disk) {
        (_, Some(disk)) => disk.path.display().to_string(),
        (Some(piece), None) => group.vg().pv(&piece.pv).map_or_else(String::new, |pv| pv.device.clone()),
        (None, None) => String::new(),
    };
    SlotSeen {
        tags: ImageTags::of(&image),
        present: group.is_present(&image) && group.is_present(&meta),
        rotational: disk.is_some_and(|disk| disk.rotational),
        device,
        meta_len: meta.extents().bytes(group.vg().extent_size),
        image_dev: None,
        meta_dev: None,
        image,
        meta,
    }
}

fn look_at_leg<H: Host>(
    host: &H,
    group: &Group,
    settings: &Settings,
    lv: &LogicalVolume,
) -> Result<Option<LegDev>> {
    let id = sub_id(group, lv, settings);
    let Some((info, table)) = host.dm_look(&id.name)? else { return Ok(None) };
    check_owner(&id, &info.uuid)?;
    let other_uuid = info.uuid != id.uuid;
    Ok(Some(LegDev { info, table, wanted: group.linear_table(lv).unwrap_or_default(), other_uuid }))
}

fn look_at_top<H: Host>(host: &H, id: &DmId) -> Result<Option<TopSeen>> {
    let Some((info, table)) = host.dm_look(&id.name)? else { return Ok(None) };
    check_owner(id, &info.uuid)?;
    if !info.live_table {
        return Ok(Some(TopSeen { info, table: None, status: None }));
    }
    let foreign = |what: String| {
        Error::refused(
            Class::Precondition,
            format!(
                "device {} does not run as raid1: {what}; deactivate it with lvchange -an first",
                id.name
            ),
        )
    };
    let one = |mut lines: Vec<_>| if lines.len() == 1 { lines.pop() } else { None };
    let table = one(table).ok_or_else(|| foreign("its table has several lines".into()))?;
    let table = RaidTable::parse(&table).map_err(|error| foreign(error.to_string()))?;
    let status =
        one(host.dm_status(&id.name)?).ok_or_else(|| foreign("its status has several lines".into()))?;
    let status = RaidStatus::parse(&status.params).map_err(|error| foreign(error.to_string()))?;
    Ok(Some(TopSeen { info, table: Some(table), status: Some(status) }))
}

/// A device with our name must carry our uuid, in either of the forms that versions of LVM2 give it.
fn check_owner(id: &DmId, uuid: &str) -> Result<()> {
    let plain = |uuid: &str| uuid.strip_suffix("-real").unwrap_or(uuid).to_owned();
    if plain(uuid) == plain(&id.uuid) {
        return Ok(());
    }
    Err(Error::refused(
        Class::Precondition,
        format!("device {} exists but belongs to something else (uuid {uuid:?}); remove it first", id.name),
    ))
}

/// What the rmeta of each slot says on disk; `None` for a disk that is not there.
///
/// # Errors
/// A read failed, or an rmeta holds a superblock that contradicts itself.
pub fn read_metas<H: Host>(host: &H, group: &Group, seen: &Seen) -> Result<Vec<Option<LegMeta>>> {
    seen.slots.iter().map(|slot| read_meta(host, group, seen, slot)).collect()
}

/// What one slot's rmeta says on disk.
pub fn read_meta<H: Host>(host: &H, group: &Group, seen: &Seen, slot: &SlotSeen) -> Result<Option<LegMeta>> {
    if !slot.present {
        return Ok(None);
    }
    let parse = |len| {
        let bytes = group.read_lv(host, &slot.meta, Bytes::ZERO, len)?;
        Ok::<_, Error>(LegMeta::parse(&bytes, seen.len))
    };
    let meta = match parse(raid::rmeta_len(seen.len, seen.raid.region_size))? {
        // Its regions are smaller than those that the metadata has got since.
        Err(LegError::Bitmap(BitmapError::Short { need, .. })) if need <= slot.meta_len => parse(need)?,
        meta => meta,
    };
    Ok(Some(meta.map_err(|error| {
        Error::refused(Class::Corrupt, format!("{} on {} is damaged: {error}", slot.meta.name, slot.device))
    })?))
}

/// What the bitmaps of these legs mark together. Bitmaps of different shapes say nothing together: nothing then.
pub fn union_marked<'a>(metas: impl Iterator<Item = &'a LegMeta>) -> Vec<Range<Bytes>> {
    let union = Bitmap::union(metas.filter_map(|meta| meta.bitmap.as_ref()));
    union.ok().flatten().map(|bitmap| bitmap.marked_ranges()).unwrap_or_default()
}
