//! A raid1 LV's images: more of them, fewer, and how they are copied and read.

use super::raid1::{
    NewLeg, is_covered, push_lv, remove_lv, require_bitmap, require_own_disks, require_rate, require_regions,
    sub_lv,
};
use super::{EditError, Result, find_lv, find_lv_mut, find_raid1, require_free};
use crate::ids::{LvName, LvmUuid};
use crate::lvm2::check::IMAGES_MAX;
use crate::lvm2::model::{LogicalVolume, Raid1, Run, Segment, SegmentKind, Slot, VolumeGroup};
use crate::units::{Extents, Sectors};

/// Adds images, in slots behind the others, made of extents that `reserve` holds. They are marked for a full copy, as LVM2
/// marks them. The reserve goes, and what of it is not used becomes free.
///
/// # Errors
/// There are no such LVs, the extents are not the reserve's, ids are taken, or the legs do not go with the others: in
/// size, or because they share a PV.
pub fn add_legs(
    vg: &VolumeGroup,
    name: &LvName,
    reserve: &LvName,
    legs: Vec<NewLeg>,
    created: &(u64, String),
) -> Result<VolumeGroup> {
    let fail = |why| EditError::Legs { lv: name.clone(), why };
    let raid = find_raid1(vg, name)?;
    let first = raid.slots.len();
    if legs.is_empty() || first + legs.len() > IMAGES_MAX {
        return Err(fail("a mirror has at most 64 images"));
    }
    let runs: Vec<&Run> = legs.iter().flat_map(|leg| leg.meta.iter().chain(&leg.image)).collect();
    let mut after = free_reserve(vg, reserve, &runs)?;
    let top = find_lv(vg, name)?;
    let regions = require_regions(top.extents().sectors(vg.extent_size), raid.region_size)?;
    let meta =
        raid.slots.first().map(|slot| find_lv(vg, &slot.meta)).transpose()?.map(LogicalVolume::extents);
    for (leg, slot) in legs.into_iter().zip(first..) {
        let subs = [(name.image(slot), leg.image_id, leg.image), (name.meta(slot), leg.meta_id, leg.meta)];
        for (name, id, runs) in subs {
            let mut sub = sub_lv(name, id, &runs, created);
            sub.set("REBUILD", true);
            push_lv(&mut after, sub)?;
        }
        let (image, own) = (find_lv(&after, &name.image(slot))?, find_lv(&after, &name.meta(slot))?);
        if image.extents() != top.extents() || Some(own.extents()) != meta {
            return Err(fail("the legs are not of one size"));
        }
        if own.segments.is_empty() || image.segments.is_empty() {
            return Err(fail("a leg is empty"));
        }
        require_bitmap(name, own.extents().bytes(vg.extent_size), regions)?;
        find_raid1_mut(&mut after, name)?.slots.push(Slot { meta: name.meta(slot), image: name.image(slot) });
    }
    let slots = &find_raid1(&after, name)?.slots;
    let images = slots.iter().map(|slot| find_lv(&after, &slot.image).map(|image| after.runs(image)));
    require_own_disks(name, &images.collect::<Result<Vec<_>>>()?)?;
    Ok(after)
}

/// Takes the last images away, so that `left` slots stay. Others keep their slots. The images must be split off, so that no
/// tool lets an array write to them.
///
/// # Errors
/// There is no such LV, none that is whole would stay in the array, or one that goes is still part of the array.
pub fn remove_legs(vg: &VolumeGroup, name: &LvName, left: usize) -> Result<VolumeGroup> {
    let gone = require_gone(vg, name, left)?;
    let gone: Vec<&LvName> = gone.iter().flat_map(|slot| [&slot.meta, &slot.image]).collect();
    let mut after = vg.clone();
    after.lvs.retain(|lv| !gone.contains(&&lv.name));
    find_raid1_mut(&mut after, name)?.slots.truncate(left);
    Ok(after)
}

/// The slots that go when `left` stay.
fn require_gone<'a>(vg: &'a VolumeGroup, name: &LvName, left: usize) -> Result<&'a [Slot]> {
    let slots = &find_raid1(vg, name)?.slots;
    let (stay, go) = slots.split_at_checked(left).unwrap_or((slots, &[]));
    for (slot, names) in (left..).zip(go) {
        if !find_lv(vg, &names.image)?.is_tracked_image() {
            return Err(EditError::NotTracked { lv: name.clone(), slot });
        }
    }
    let is_whole = |slot: &Slot| {
        let image = vg.lv(&slot.image);
        image.is_some_and(|image| !image.is_tracked_image() && !image.has("REBUILD"))
    };
    if !stay.iter().any(is_whole) {
        return Err(EditError::LastImage { lv: name.clone(), slot: left });
    }
    Ok(go)
}

/// An LV that split images become.
#[derive(Clone, Debug)]
pub struct DetachedLv {
    /// Its name.
    pub name: LvName,
    /// Its identifier.
    pub id: LvmUuid,
    /// Tags of the LV.
    pub tags: Vec<String>,
    /// Compatible flags of the LV.
    pub flags: Vec<String>,
    /// When and on which host.
    pub created: (u64, String),
}

/// Makes a raid1 LV of the last images and their metadata LVs, in their order, so that `left` slots stay. They must be split
/// off.
///
/// # Errors
/// As [`remove_legs`], fewer than two images would go, or names and ids are taken.
pub fn part_legs(vg: &VolumeGroup, name: &LvName, left: usize, new: DetachedLv) -> Result<VolumeGroup> {
    let gone = require_gone(vg, name, left)?;
    if gone.len() < 2 {
        return Err(EditError::Legs { lv: name.clone(), why: "a mirror has 2 to 64 images" });
    }
    let (size, raid) = (find_lv(vg, name)?.extents(), find_raid1(vg, name)?);
    let raid = Raid1 { slots: slots_of(&new.name, gone.len()), ..raid.clone() };
    let mut after = vg.clone();
    for (old, slot) in gone.iter().zip(&raid.slots) {
        attach_as(&mut after, &old.image, &slot.image)?;
        attach_as(&mut after, &old.meta, &slot.meta)?;
    }
    find_raid1_mut(&mut after, name)?.slots.truncate(left);
    push_raid1(&mut after, new, size, raid)?;
    Ok(after)
}

/// Makes a raid1 LV of a split image and its metadata LV, in slot 0 of it. The slot that they leave, and all further slots of
/// the new LV, have images of which every access fails, as LVM2 has them in place of those of a disk that was given up. `lost` are
/// the identifiers of those images and metadata LVs: of the slot that is left first, then of each further slot.
///
/// # Errors
/// There is no such slot, its image is not split off, or names and ids are taken.
pub fn detach_leg(
    vg: &VolumeGroup,
    name: &LvName,
    slot: usize,
    new: DetachedLv,
    lost: Vec<[LvmUuid; 2]>,
) -> Result<VolumeGroup> {
    let old = super::find_slot(vg, name, slot)?.clone();
    if !find_lv(vg, &old.image)?.is_tracked_image() {
        return Err(EditError::NotTracked { lv: name.clone(), slot });
    }
    let (size, meta) = (find_lv(vg, name)?.extents(), find_lv(vg, &old.meta)?.extents());
    let raid = Raid1 { slots: slots_of(&new.name, lost.len()), ..find_raid1(vg, name)?.clone() };
    let mut after = vg.clone();
    attach_as(&mut after, &old.image, &new.name.image(0))?;
    attach_as(&mut after, &old.meta, &new.name.meta(0))?;
    let empty = std::iter::once(&old).chain(raid.slots.iter().skip(1));
    for (names, [image_id, meta_id]) in empty.zip(lost) {
        for (name, id, count) in [(&names.image, image_id, size), (&names.meta, meta_id, meta)] {
            let mut sub = sub_lv(name.clone(), id, &[], &new.created);
            sub.segments = vec![segment(count, SegmentKind::Error)];
            push_lv(&mut after, sub)?;
        }
    }
    push_raid1(&mut after, new, size, raid)?;
    Ok(after)
}

/// The slots of an LV of so many images.
fn slots_of(name: &LvName, images: usize) -> Vec<Slot> {
    (0..images).map(|slot| Slot { meta: name.meta(slot), image: name.image(slot) }).collect()
}

/// A split image, or its metadata LV, becomes part of another array under another name.
fn attach_as(vg: &mut VolumeGroup, from: &LvName, to: &LvName) -> Result<()> {
    if vg.lv(to).is_some() {
        return Err(EditError::NameTaken(to.clone()));
    }
    let sub = find_lv_mut(vg, from)?;
    sub.name = to.clone();
    sub.set("VISIBLE", false);
    sub.set("WRITE", true);
    sub.set("WRITEMOSTLY", false);
    Ok(())
}

fn push_raid1(vg: &mut VolumeGroup, new: DetachedLv, size: Extents, raid: Raid1) -> Result<()> {
    if new.name.is_reserved() {
        return Err(EditError::NameReserved(new.name));
    }
    super::tags::require_tags(&new.tags)?;
    let top = LogicalVolume {
        name: new.name,
        id: new.id,
        status: super::words(&["READ", "WRITE", "VISIBLE"]),
        flags: new.flags,
        tags: new.tags,
        created: Some(new.created),
        segments: vec![segment(size, SegmentKind::Raid1(raid))],
        extra: Vec::new(),
    };
    push_lv(vg, top)
}

/// An image for a slot that has none.
#[derive(Clone, Debug)]
pub struct Filling {
    /// The slot.
    pub slot: usize,
    /// Extents of the metadata LV.
    pub meta: Vec<Run>,
    /// Extents of the image.
    pub image: Vec<Run>,
}

/// Gives slots whose images are not there others, of extents that `reserve` holds. They are marked for a full copy. The
/// reserve goes.
///
/// # Errors
/// There are no such LVs, there is an image, the extents are not the reserve's, or the legs do not go with the others.
pub fn fill_legs(vg: &VolumeGroup, name: &LvName, reserve: &LvName, legs: &[Filling]) -> Result<VolumeGroup> {
    let fail = |why| EditError::Legs { lv: name.clone(), why };
    let runs: Vec<&Run> = legs.iter().flat_map(|leg| leg.meta.iter().chain(&leg.image)).collect();
    let mut after = free_reserve(vg, reserve, &runs)?;
    for leg in legs {
        let names = super::find_slot(vg, name, leg.slot)?;
        for (sub, runs) in [(&names.meta, &leg.meta), (&names.image, &leg.image)] {
            let sub = find_lv_mut(&mut after, sub)?;
            let size = sub.extents();
            if !sub.segments.iter().all(|segment| matches!(segment.kind, SegmentKind::Error)) {
                return Err(fail("there is an image in the slot"));
            }
            sub.segments = super::linear_segments(runs);
            if sub.extents() != size {
                return Err(fail("the legs are not of one size"));
            }
            sub.set("REBUILD", true);
        }
    }
    let slots = &find_raid1(&after, name)?.slots;
    let images = slots.iter().map(|slot| find_lv(&after, &slot.image).map(|image| after.runs(image)));
    require_own_disks(name, &images.collect::<Result<Vec<_>>>()?)?;
    Ok(after)
}

/// Frees a reserve, whose extents these are to be taken from.
fn free_reserve(vg: &VolumeGroup, reserve: &LvName, runs: &[&Run]) -> Result<VolumeGroup> {
    let held = vg.runs(find_lv(vg, reserve)?);
    if let Some(run) = runs.iter().find(|run| !is_covered(run, &held)) {
        return Err(EditError::Run { run: (*run).clone(), why: "it is not in the reserve" });
    }
    let after = remove_lv(vg, reserve)?;
    require_free(&after, runs)?;
    Ok(after)
}

fn segment(count: Extents, kind: SegmentKind) -> Segment {
    Segment { start: Extents::ZERO, count, tags: Vec::new(), kind, extra: Vec::new() }
}

/// How fast recovery is throttled: in KiB/s per image; `None` leaves it to the kernel.
///
/// # Errors
/// There is no such LV, or a rate is none that the kernel takes.
pub fn set_rates(
    vg: &VolumeGroup,
    name: &LvName,
    min_recovery_rate: Option<u64>,
    max_recovery_rate: Option<u64>,
) -> Result<VolumeGroup> {
    require_rate("the lowest recovery rate", min_recovery_rate)?;
    require_rate("the highest recovery rate", max_recovery_rate)?;
    let mut vg = vg.clone();
    let raid = find_raid1_mut(&mut vg, name)?;
    raid.min_recovery_rate = min_recovery_rate;
    raid.max_recovery_rate = max_recovery_rate;
    Ok(vg)
}

/// Sets the granularity of the bitmap.
///
/// # Errors
/// There is no such LV, the kernel makes no such bitmap, or the metadata LVs have no room for it.
pub fn set_region_size(vg: &VolumeGroup, name: &LvName, region_size: Sectors) -> Result<VolumeGroup> {
    let regions = require_regions(find_lv(vg, name)?.extents().sectors(vg.extent_size), region_size)?;
    for slot in &find_raid1(vg, name)?.slots {
        require_bitmap(name, find_lv(vg, &slot.meta)?.extents().bytes(vg.extent_size), regions)?;
    }
    let mut vg = vg.clone();
    find_raid1_mut(&mut vg, name)?.region_size = region_size;
    Ok(vg)
}

/// Says which images reads avoid; all others are read from.
///
/// # Errors
/// There is no such LV, or it has no such slot.
pub fn set_write_mostly(vg: &VolumeGroup, name: &LvName, write_mostly: &[usize]) -> Result<VolumeGroup> {
    let slots = find_raid1(vg, name)?.slots.clone();
    if let Some(slot) = write_mostly.iter().find(|slot| **slot >= slots.len()) {
        return Err(EditError::NoSlot { lv: name.clone(), slot: *slot });
    }
    let mut vg = vg.clone();
    for (slot, names) in slots.iter().enumerate() {
        let image = find_lv_mut(&mut vg, &names.image)?;
        if image.has("WRITEMOSTLY") != write_mostly.contains(&slot) {
            image.set("WRITEMOSTLY", write_mostly.contains(&slot));
        }
    }
    Ok(vg)
}

/// The raid1 segment of the LV of this name, to change.
fn find_raid1_mut<'a>(vg: &'a mut VolumeGroup, name: &LvName) -> Result<&'a mut Raid1> {
    let segments = &mut find_lv_mut(vg, name)?.segments;
    match segments.as_mut_slice() {
        [segment] => match &mut segment.kind {
            SegmentKind::Raid1(raid) => Ok(raid),
            SegmentKind::Linear { .. } | SegmentKind::Error | SegmentKind::Other { .. } => {
                Err(EditError::NotRaid1(name.clone()))
            }
        },
        _ => Err(EditError::NotRaid1(name.clone())),
    }
}
