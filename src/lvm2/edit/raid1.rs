//! raid1 LVs and the extents they are made of.

use super::{
    EditError, Result, append_runs, find_lv, find_lv_mut, find_raid1, first_tracked, linear_segments,
    require_free, require_free_name, tags::require_tags, words,
};
use crate::ids::{LvName, LvmUuid};
use crate::lvm2::check::{IMAGES_MAX, REGIONS_MAX, is_named_by_another};
use crate::lvm2::model::{LogicalVolume, Raid1, Run, Segment, SegmentKind, Slot, VolumeGroup};
use crate::units::{Bytes, Extents, Sectors};

/// Where the bits of the bitmap start on a metadata LV: after dm-raid's superblock (4 KiB) and the bitmap's own
/// (256 bytes; the kernel's `drivers/md/md-bitmap.h`).
const BITMAP_START: Bytes = Bytes(4096 + 256);

/// What a new raid1 LV shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRaid1 {
    /// Its name.
    pub name: LvName,
    /// Its identifier.
    pub id: LvmUuid,
    /// The bitmap's granularity: a power of two.
    pub region_size: Sectors,
    /// Recovery is never throttled below this many KiB/s.
    pub min_recovery_rate: Option<u64>,
    /// Recovery is throttled to this many KiB/s.
    pub max_recovery_rate: Option<u64>,
    /// Its images, two or more, each on PVs of its own.
    pub legs: Vec<NewLeg>,
    /// Tags of the LV.
    pub tags: Vec<String>,
    /// Compatible flags of the LV, such as `NOAUTOACTIVATE`.
    pub flags: Vec<String>,
    /// When and on which host: seconds since 1970, the host's name.
    pub created: (u64, String),
}

/// An image and its metadata LV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLeg {
    /// Identifier of the metadata LV.
    pub meta_id: LvmUuid,
    /// Identifier of the image.
    pub image_id: LvmUuid,
    /// Extents of the metadata LV.
    pub meta: Vec<Run>,
    /// Extents of the image.
    pub image: Vec<Run>,
}

/// An LV that only holds extents.
#[derive(Clone, Debug, PartialEq)]
pub struct NewReserve {
    /// Its name.
    pub name: LvName,
    /// Its identifier.
    pub id: LvmUuid,
    /// Its extents.
    pub runs: Vec<Run>,
    /// Tags.
    pub tags: Vec<String>,
    /// When and on which host.
    pub created: (u64, String),
}

/// Adds a raid1 LV with its sub-LVs.
///
/// # Errors
/// Names, ids or extents are taken; the legs do not make a mirror; a number or a tag is not possible.
pub fn add_raid1(vg: &VolumeGroup, new: NewRaid1) -> Result<VolumeGroup> {
    let name = &new.name;
    if name.is_reserved() {
        return Err(EditError::NameReserved(name.clone()));
    }
    require_tags(&new.tags)?;
    require_rate("the lowest recovery rate", new.min_recovery_rate)?;
    require_rate("the highest recovery rate", new.max_recovery_rate)?;
    let size = require_legs(name, &new.legs)?;
    let runs: Vec<&Run> = new.legs.iter().flat_map(|leg| leg.meta.iter().chain(&leg.image)).collect();
    require_free(vg, &runs)?;
    let regions = require_regions(size.sectors(vg.extent_size), new.region_size)?;
    let meta = new.legs.first().map(|leg| count(&leg.meta)).unwrap_or_default();
    require_bitmap(name, meta.bytes(vg.extent_size), regions)?;

    let mut vg = vg.clone();
    let slots =
        (0..new.legs.len()).map(|slot| Slot { meta: name.meta(slot), image: name.image(slot) }).collect();
    let raid = Raid1 {
        region_size: new.region_size,
        min_recovery_rate: new.min_recovery_rate,
        max_recovery_rate: new.max_recovery_rate,
        write_behind: None,
        slots,
    };
    let top = Segment {
        start: Extents::ZERO,
        count: size,
        tags: Vec::new(),
        kind: SegmentKind::Raid1(raid),
        extra: Vec::new(),
    };
    push_lv(
        &mut vg,
        LogicalVolume {
            name: name.clone(),
            id: new.id,
            status: words(&["READ", "WRITE", "VISIBLE"]),
            flags: new.flags,
            tags: new.tags,
            created: Some(new.created.clone()),
            segments: vec![top],
            extra: Vec::new(),
        },
    )?;
    for (leg, slot) in new.legs.into_iter().zip(0..) {
        let subs = [(name.image(slot), leg.image_id, leg.image), (name.meta(slot), leg.meta_id, leg.meta)];
        for (name, id, runs) in subs {
            push_lv(&mut vg, sub_lv(name, id, &runs, &new.created))?;
        }
    }
    Ok(vg)
}

/// Adds a visible linear LV that owns extents until they are zeroed.
///
/// # Errors
/// Name, id or extents are taken, or there are no extents.
pub fn reserve(vg: &VolumeGroup, new: NewReserve) -> Result<VolumeGroup> {
    if new.name.is_reserved() {
        return Err(EditError::NameReserved(new.name));
    }
    require_tags(&new.tags)?;
    if new.runs.is_empty() {
        return Err(EditError::Number { what: "the number of extents", value: 0 });
    }
    require_free(vg, &new.runs.iter().collect::<Vec<_>>())?;
    let mut vg = vg.clone();
    push_lv(
        &mut vg,
        LogicalVolume {
            name: new.name,
            id: new.id,
            status: words(&["READ", "WRITE", "VISIBLE"]),
            flags: Vec::new(),
            tags: new.tags,
            created: Some(new.created),
            segments: linear_segments(&new.runs),
            extra: Vec::new(),
        },
    )?;
    Ok(vg)
}

/// Removes a raid1 LV with its sub-LVs, or a linear LV.
///
/// # Errors
/// There is no such LV, it is part of another, an image of it is split off, or it is of a kind that is not ours.
pub fn remove_lv(vg: &VolumeGroup, name: &LvName) -> Result<VolumeGroup> {
    let lv = find_lv(vg, name)?;
    if vg.raid1_above(name).is_some() || is_named_by_another(vg, name) {
        return Err(EditError::NotOurs { lv: name.clone(), why: "part of another LV" });
    }
    let mut names = vec![name];
    match lv.raid1() {
        Some(raid) => {
            if let Some(slot) = first_tracked(vg, raid) {
                return Err(EditError::Tracked { lv: name.clone(), slot });
            }
            names.extend(raid.slots.iter().flat_map(|slot| [&slot.meta, &slot.image]));
        }
        None => {
            let is_plain =
                |segment: &Segment| matches!(segment.kind, SegmentKind::Linear { .. } | SegmentKind::Error);
            if !lv.segments.iter().all(is_plain) {
                return Err(EditError::NotOurs { lv: name.clone(), why: "neither a raid1 nor a linear LV" });
            }
        }
    }
    let mut after = vg.clone();
    after.lvs.retain(|lv| !names.contains(&&lv.name));
    Ok(after)
}

/// Lengthens a raid1 LV by extents that `reserve` holds; the reserve goes, and what of it is not used becomes free.
///
/// # Errors
/// There are no such LVs, an image is split off, the runs are not the reserve's, or the images would differ in
/// length or share a PV.
pub fn grow_raid1(
    vg: &VolumeGroup,
    name: &LvName,
    reserve: &LvName,
    per_slot: &[Vec<Run>],
) -> Result<VolumeGroup> {
    let raid = find_raid1(vg, name)?;
    if let Some(slot) = first_tracked(vg, raid) {
        return Err(EditError::Tracked { lv: name.clone(), slot });
    }
    let legs = |why| EditError::Legs { lv: name.clone(), why };
    if per_slot.len() != raid.slots.len() {
        return Err(legs("there is not one list of extents for each slot"));
    }
    let held = vg.runs(find_lv(vg, reserve)?);
    let foreign = per_slot.iter().flatten().find(|run| !is_covered(run, &held));
    if let Some(run) = foreign {
        return Err(EditError::Run { run: run.clone(), why: "it is not in the reserve" });
    }
    let mut after = remove_lv(vg, reserve)?;
    require_free(&after, &per_slot.iter().flatten().collect::<Vec<_>>())?;
    let more = count(per_slot.first().map(Vec::as_slice).unwrap_or_default());
    if more.0 == 0 || per_slot.iter().any(|runs| count(runs) != more) {
        return Err(legs("the images would not be of one length"));
    }
    let size = find_lv(vg, name)?.extents() + more;
    let regions = require_regions(size.sectors(vg.extent_size), raid.region_size)?;
    for (slot, runs) in raid.slots.iter().zip(per_slot) {
        require_bitmap(name, find_lv(vg, &slot.meta)?.extents().bytes(vg.extent_size), regions)?;
        let image = find_lv_mut(&mut after, &slot.image)?;
        let is_linear = |segment: &Segment| matches!(segment.kind, SegmentKind::Linear { .. });
        if !image.segments.iter().all(is_linear) {
            return Err(EditError::NotOurs { lv: slot.image.clone(), why: "not linear" });
        }
        append_runs(&mut image.segments, runs);
    }
    let images = raid.slots.iter().map(|slot| find_lv(&after, &slot.image).map(|image| after.runs(image)));
    require_own_disks(name, &images.collect::<Result<Vec<_>>>()?)?;
    if let Some(segment) = find_lv_mut(&mut after, name)?.segments.first_mut() {
        segment.count = size;
    }
    Ok(after)
}

/// A hidden LV of a leg.
pub(super) fn sub_lv(name: LvName, id: LvmUuid, runs: &[Run], created: &(u64, String)) -> LogicalVolume {
    LogicalVolume {
        name,
        id,
        status: words(&["READ", "WRITE"]),
        flags: Vec::new(),
        tags: Vec::new(),
        created: Some(created.clone()),
        segments: linear_segments(runs),
        extra: Vec::new(),
    }
}

/// A rate that the kernel takes.
pub(super) fn require_rate(what: &'static str, rate: Option<u64>) -> Result<()> {
    match rate.filter(|rate| i32::try_from(*rate).is_err()) {
        Some(value) => Err(EditError::Number { what, value }),
        None => Ok(()),
    }
}

/// Adds an LV whose name and id are free.
pub(super) fn push_lv(vg: &mut VolumeGroup, lv: LogicalVolume) -> Result<()> {
    require_free_name(vg, &lv.name, &lv.id)?;
    vg.lvs.push(lv);
    Ok(())
}

/// Legs of one size, each on PVs of its own. Gives the size of the images.
fn require_legs(name: &LvName, legs: &[NewLeg]) -> Result<Extents> {
    let fail = |why| Err(EditError::Legs { lv: name.clone(), why });
    if !(1..=IMAGES_MAX).contains(&legs.len()) {
        return fail("a mirror has 1 to 64 images");
    }
    let sizes = |leg: &NewLeg| (count(&leg.meta), count(&leg.image));
    let first = legs.first().map(sizes).unwrap_or_default();
    if first.0.0 == 0 || first.1.0 == 0 {
        return fail("a leg is empty");
    }
    if legs.iter().any(|leg| sizes(leg) != first) {
        return fail("the legs are not of one size");
    }
    if legs.iter().any(|leg| leg.meta.iter().any(|meta| leg.image.iter().all(|image| image.pv != meta.pv))) {
        return fail("a metadata LV is not on the PV of its image");
    }
    let runs: Vec<Vec<Run>> = legs.iter().map(|leg| leg.image.clone()).collect();
    require_own_disks(name, &runs)?;
    Ok(first.1)
}

/// No PV carries two images of one LV.
pub(super) fn require_own_disks(name: &LvName, images: &[Vec<Run>]) -> Result<()> {
    let shared = images.iter().enumerate().any(|(index, image)| {
        let before = images.iter().take(index).flatten();
        before.into_iter().any(|run| image.iter().any(|other| other.pv == run.pv))
    });
    if shared {
        return Err(EditError::Legs { lv: name.clone(), why: "two images would be on one PV" });
    }
    Ok(())
}

/// A bitmap of this granularity exists, and the kernel takes as many bits. Gives their number.
pub(super) fn require_regions(size: Sectors, region_size: Sectors) -> Result<u64> {
    let value = region_size.0;
    let impossible = EditError::Number { what: "the region size in sectors", value };
    if !value.is_power_of_two() || u32::try_from(value).is_err() {
        return Err(impossible);
    }
    let regions = size.0.div_ceil(value);
    if regions > REGIONS_MAX { Err(impossible) } else { Ok(regions) }
}

/// Superblock, the bitmap's own superblock and the bitmap fit on the metadata LV.
pub(super) fn require_bitmap(name: &LvName, meta: Bytes, regions: u64) -> Result<()> {
    if meta < BITMAP_START + Bytes(regions.div_ceil(8)) {
        return Err(EditError::Legs { lv: name.clone(), why: "the metadata LV is too small for the bitmap" });
    }
    Ok(())
}

fn count(runs: &[Run]) -> Extents {
    Extents(runs.iter().fold(0, |sum, run| sum.saturating_add(run.count.0)))
}

/// Whether runs that may touch each other hold all of `run`.
pub(super) fn is_covered(run: &Run, by: &[Run]) -> bool {
    let mut held: Vec<&Run> = by.iter().filter(|held| held.pv == run.pv).collect();
    held.sort_by_key(|held| held.first);
    let mut next = run.first;
    for held in held {
        if held.first <= next && next < held.end() {
            next = held.end();
        }
    }
    next >= run.end()
}
