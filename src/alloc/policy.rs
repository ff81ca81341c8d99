//! Where new legs go, and how much could.

use crate::alloc::free::FreeMap;
use crate::ids::LvName;
use crate::lvm2::model::{Run, VolumeGroup};
use crate::raid::rmeta_len;
use crate::report::Class;
use crate::units::{Extents, Sectors};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many legs, each on a disk of its own.
    pub images: usize,
    /// Extents of each leg's metadata LV; see [`meta_extents`].
    pub meta: Extents,
    /// Extents of each leg's image.
    pub data: Extents,
}

/// Where one leg goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegExtents {
    /// The disk.
    pub pv: String,
    /// The metadata LV's extents.
    pub meta: Vec<Run>,
    /// The image's extents.
    pub image: Vec<Run>,
}

/// Why there is no room.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AllocError {
    /// Nothing was asked for.
    #[error("a volume needs at least one image and one extent; asked for {images} images of {} extents", .data.0)]
    Nothing {
        /// Images asked for.
        images: usize,
        /// Extents asked for.
        data: Extents,
    },
    /// Too few disks have room for a leg.
    #[error(
        "no room for {images} images of {} extents on disks of their own: {disks} of {of} disks have room, the \
         largest possible volume of so many images has {} extents", .data.0, .largest.0
    )]
    NoRoom {
        /// Images asked for.
        images: usize,
        /// Extents asked for, for each image.
        data: Extents,
        /// Disks that have room for a leg of that size.
        disks: usize,
        /// Disks in the group.
        of: usize,
        /// The largest volume of that many images that there is room for.
        largest: Extents,
    },
    /// A disk has too little room behind an image that is to grow.
    #[error(
        "no room to grow image {slot} by {} extents: its disk {pv} has {} free; all images could grow by {}",
        .by.0, .free.0, .largest.0
    )]
    NoRoomToGrow {
        /// The image's slot.
        slot: usize,
        /// Its disk.
        pv: String,
        /// Extents asked for.
        by: Extents,
        /// Extents free on that disk.
        free: Extents,
        /// What every image of the volume could grow by.
        largest: Extents,
    },
    /// There is no such raid1 LV.
    #[error("{0} is not a raid1 volume of this group")]
    NotRaid1(LvName),
    /// An image has no extents to grow behind: its disk is lost, or the metadata contradicts itself.
    #[error("image {slot} of {lv} lies on no disk")]
    Homeless {
        /// The volume.
        lv: LvName,
        /// The image's slot.
        slot: usize,
    },
}

impl AllocError {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Nothing { .. } => Class::Invalid,
            Self::NoRoom { .. } | Self::NoRoomToGrow { .. } => Class::Exhausted,
            Self::NotRaid1(_) => Class::NotFound,
            Self::Homeless { .. } => Class::Precondition,
        }
    }
}

/// Places the legs of a new volume, or new legs for one: each on a disk of its own, those with most room first.
///
/// # Errors
/// Too few disks have room.
pub fn allocate(vg: &VolumeGroup, request: &Request) -> Result<Vec<LegExtents>, AllocError> {
    allocate_beside(vg, request, &[])
}

/// As [`allocate`], but on none of the disks named: those that the volume's other legs are on.
///
/// # Errors
/// Too few disks have room.
pub fn allocate_beside(
    vg: &VolumeGroup,
    request: &Request,
    taken: &[String],
) -> Result<Vec<LegExtents>, AllocError> {
    let &Request { images, meta, data } = request;
    if images == 0 || data == Extents::ZERO {
        return Err(AllocError::Nothing { images, data });
    }
    let mut free = FreeMap::of(vg);
    let fits: Vec<String> = free
        .most_room_first()
        .into_iter()
        .filter(|(pv, room)| *room >= meta + data && !taken.iter().any(|t| t == pv))
        .map(|(pv, _)| pv.to_owned())
        .collect();
    let place = |pv: &String| {
        let (meta, image) = free.take_leg(pv, meta, data)?;
        Some(LegExtents { pv: pv.clone(), meta, image })
    };
    let legs: Vec<LegExtents> = fits.iter().take(images).filter_map(place).collect();
    if legs.len() < images {
        let largest = largest_beside(vg, images, meta, taken);
        return Err(AllocError::NoRoom { images, data, disks: fits.len(), of: vg.pvs.len(), largest });
    }
    Ok(legs)
}

/// Extents for every image of a volume to grow by, in slot order: each on its image's own disk, directly behind it
/// as far as those are free.
///
/// # Errors
/// No such raid1 volume, or a disk has too little room.
pub fn grow(vg: &VolumeGroup, lv: &LvName, by: Extents) -> Result<Vec<Vec<Run>>, AllocError> {
    let raid = vg.lv(lv).and_then(|top| top.raid1()).ok_or_else(|| AllocError::NotRaid1(lv.clone()))?;
    let mut free = FreeMap::of(vg);
    let mut tails = Vec::with_capacity(raid.slots.len());
    for (slot, names) in raid.slots.iter().enumerate() {
        let runs = vg.lv(&names.image).map(|image| vg.runs(image)).unwrap_or_default();
        tails.push(runs.into_iter().last().ok_or_else(|| AllocError::Homeless { lv: lv.clone(), slot })?);
    }
    let largest = tails.iter().map(|tail| free.free_on(&tail.pv)).min().unwrap_or_default();
    let mut grown = Vec::with_capacity(tails.len());
    for (slot, tail) in tails.iter().enumerate() {
        let room = free.free_on(&tail.pv);
        let runs = free.take(&tail.pv, by, Some(tail.end())).ok_or_else(|| AllocError::NoRoomToGrow {
            slot,
            pv: tail.pv.clone(),
            by,
            free: room,
            largest,
        })?;
        grown.push(runs);
    }
    Ok(grown)
}

/// The largest image size for which [`allocate`] succeeds: with fragments allowed, what the last of the roomiest
/// `images` disks has beside the metadata.
#[must_use]
pub fn largest(vg: &VolumeGroup, images: usize, meta: Extents) -> Extents {
    largest_beside(vg, images, meta, &[])
}

/// As [`largest`], but for [`allocate_beside`].
#[must_use]
pub fn largest_beside(vg: &VolumeGroup, images: usize, meta: Extents, taken: &[String]) -> Extents {
    let free = FreeMap::of(vg);
    let mut rooms = free.most_room_first().into_iter().filter(|(pv, _)| !taken.iter().any(|t| t == pv));
    let last = images.checked_sub(1).and_then(|index| rooms.nth(index));
    last.and_then(|(_, room)| room.checked_sub(meta)).unwrap_or_default()
}

/// How much data new volumes of so many images could hold together: never more than can really be placed.
///
/// With no metadata to place, volumes of `images` legs fill `t` extents exactly when the disks, none counted for more
/// than `t`, hold `images × t` together (wrap-around: lay the disks end to end and fold at every `t`; a fold never
/// meets the same disk twice). That takes no more volumes than there are disks, so each disk sets that many
/// metadata LVs aside; a single largest volume, which sets one aside, may hold more.
#[must_use]
pub fn capacity(vg: &VolumeGroup, images: usize, meta: Extents) -> Extents {
    let Ok(legs) = u64::try_from(images) else { return Extents::ZERO };
    if legs == 0 {
        return Extents::ZERO;
    }
    let free = FreeMap::of(vg);
    let rooms: Vec<u64> =
        free.most_room_first().into_iter().map(|(_, room)| room.0).filter(|r| *r > 0).collect();
    let aside = meta.0.saturating_mul(u64::try_from(rooms.len()).unwrap_or(u64::MAX));
    let rooms: Vec<u64> = rooms.into_iter().map(|room| room.saturating_sub(aside)).collect();
    let holds = |t: u64| rooms.iter().map(|room| room.min(&t)).sum::<u64>() / legs >= t;
    let (mut low, mut high) = (0, rooms.iter().sum::<u64>() / legs);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Extents(low).max(largest(vg, images, meta))
}

/// Extents of a metadata LV for an array of this length.
#[must_use]
pub fn meta_extents(array: Sectors, region: Sectors, extent_size: Sectors) -> Extents {
    rmeta_len(array, region).extents_ceil(extent_size)
}
