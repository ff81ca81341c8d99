//! What is observed of one volume: its metadata, its devices in the kernel and, when asked for, what its rmeta
//! devices say on disk.

use crate::host::{DevNo, DmInfo, TargetLine};
use crate::ids::LvName;
use crate::lvm2::model::{LogicalVolume, Raid1};
use crate::raid::{self, CloneStatus, CloneTable, LegMeta, RaidStatus, RaidTable};
use crate::units::{Bytes, Sectors};
use crate::volume::key;
use crate::volume::tags::{ImageTags, VolumeTags};

/// A volume as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its top LV.
    pub lv: LogicalVolume,
    /// The top LV's raid1 segment.
    pub raid: Raid1,
    /// The top LV's tags.
    pub tags: VolumeTags,
    /// Its length by the metadata.
    pub len: Sectors,
    /// Its slots, in order.
    pub slots: Vec<SlotSeen>,
    /// The array in the kernel.
    pub top: Option<TopSeen>,
    /// The array's device is, or will be, below the volume's own: see [`super::clone`].
    pub layered: bool,
    /// What is above the array of a clone, or is left of it.
    pub upper: Option<UpperSeen>,
    /// The array was started by this program since the machine started, or has been compared since.
    pub started_by_us: bool,
    /// What the rmeta of each slot says on disk; `None` until read, and inside for a disk that is not there.
    pub metas: Option<Vec<Option<LegMeta>>>,
}

/// One slot as it was seen.
#[derive(Clone, Debug)]
pub struct SlotSeen {
    /// Its image LV.
    pub image: LogicalVolume,
    /// Its metadata LV.
    pub meta: LogicalVolume,
    /// How much the metadata LV has room for.
    pub meta_len: Bytes,
    /// The image's tags.
    pub tags: ImageTags,
    /// All its disks are there.
    pub present: bool,
    /// Its disk seeks.
    pub rotational: bool,
    /// Its disk's node.
    pub device: String,
    /// The image's device in the kernel.
    pub image_dev: Option<LegDev>,
    /// The metadata's device in the kernel.
    pub meta_dev: Option<LegDev>,
}

/// The linear device of an image or of its metadata.
#[derive(Clone, Debug)]
pub struct LegDev {
    /// What the kernel says of it.
    pub info: DmInfo,
    /// The table it runs.
    pub table: Vec<TargetLine>,
    /// The table the metadata asks for.
    pub wanted: Vec<TargetLine>,
    /// Its uuid is that of the other kind of LV, hidden or visible; the uuid of a device cannot be changed.
    pub other_uuid: bool,
}

/// The array's device.
#[derive(Clone, Debug)]
pub struct TopSeen {
    /// What the kernel says of it.
    pub info: DmInfo,
    /// The raid table it runs; `None` when it runs none.
    pub table: Option<RaidTable>,
    /// Its status; `None` when it runs no table.
    pub status: Option<RaidStatus>,
}

/// What is above the array of a clone while that is filled, or is left of it.
#[derive(Clone, Debug)]
pub struct UpperSeen {
    /// The volume's own device.
    pub own: Option<OwnSeen>,
    /// The device that it is filled from.
    pub origin: Option<DmInfo>,
    /// The table which that shall have; empty while the image has no device.
    pub origin_table: Vec<TargetLine>,
    /// The device of what records how far it is.
    pub record: Option<DevNo>,
    /// There is an array below the volume's own device.
    pub below: bool,
}

/// The own device of a clone.
#[derive(Clone, Debug)]
pub struct OwnSeen {
    /// What the kernel says of it.
    pub info: DmInfo,
    /// What it runs.
    pub runs: Runs,
    /// How far it is; `None` when it is no clone, or has failed.
    pub status: Option<CloneStatus>,
    /// It takes discards.
    pub discards: bool,
}

/// What a volume's own device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// No table.
    Nothing,
    /// It is filled.
    Clone(CloneTable),
    /// Its array, or what another tool has loaded.
    Raid,
}

impl LegDev {
    /// It is shorter than the metadata asks for.
    #[must_use]
    pub fn is_outgrown(&self) -> bool {
        let len = |table: &[TargetLine]| table.iter().map(|line| line.len).sum::<Sectors>();
        len(&self.table) < len(&self.wanted)
    }
}

impl SlotSeen {
    /// The metadata says that this image is split off.
    #[must_use]
    pub fn is_split(&self) -> bool {
        self.image.is_tracked_image()
    }

    /// It leaves the volume for good. To LVM2 it is split off.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.is_split() && self.tags.leaving
    }

    /// It was split off by us, and that was not yet seen to be pinned on disk.
    #[must_use]
    pub fn is_unpinned(&self) -> bool {
        self.is_split() && self.tags.snapshot.is_some() && self.tags.events.is_none()
    }

    /// There is no image in the slot, and there is to be one when the group has room.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.tags.lost && !self.present
    }

    /// The metadata says that it takes part in the array, if its disk is there.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        !self.is_split() && self.present
    }

    /// It must be copied up in full the next time a table attaches it.
    #[must_use]
    pub fn is_rebuild(&self) -> bool {
        self.image.has("REBUILD")
    }

    /// LVM2 marks images that reads should avoid.
    #[must_use]
    pub fn is_write_mostly(&self) -> bool {
        self.image.has("WRITEMOSTLY")
    }
}

impl Seen {
    /// The key of the snapshot in a slot: from its name, or from the slot when another tool split it.
    #[must_use]
    pub fn snapshot_key(&self, slot: usize) -> Option<LvName> {
        let seen = &self.slots[slot];
        if !seen.is_split() || seen.is_leaving() {
            return None;
        }
        Some(seen.tags.snapshot.as_deref().map_or_else(|| key::foreign(slot), key::of))
    }

    /// The slot whose image is the snapshot with this key.
    #[must_use]
    pub fn slot_of(&self, snapshot: &LvName) -> Option<usize> {
        (0..self.slots.len()).find(|slot| self.snapshot_key(*slot).as_ref() == Some(snapshot))
    }

    /// Slots whose images are split off, and stay.
    pub fn split_slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots.len()).filter(|slot| self.slots[*slot].is_split() && !self.slots[*slot].is_leaving())
    }

    /// Slots whose images leave for good.
    pub fn leaving_slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots.len()).filter(|slot| self.slots[*slot].is_leaving())
    }

    /// How many slots there are without those that leave and have none behind them that stays.
    #[must_use]
    pub fn staying(&self) -> usize {
        self.slots.iter().rposition(|slot| !slot.is_leaving()).map_or(0, |last| last + 1)
    }

    /// Slots whose images are the volume's own: not added for a snapshot, and not leaving.
    pub fn own_slots(&self) -> impl Iterator<Item = usize> + '_ {
        let is_own = |of: &SlotSeen| of.tags.grown.is_none() && !of.is_leaving();
        (0..self.slots.len()).filter(move |slot| is_own(&self.slots[*slot]))
    }

    /// How many images are the volume's own.
    #[must_use]
    pub fn images(&self) -> usize {
        self.own_slots().count()
    }

    /// How many images its snapshots need attached and in sync.
    #[must_use]
    pub fn min_in_sync(&self) -> usize {
        self.split_slots().filter_map(|slot| self.slots[slot].tags.min_in_sync).max().unwrap_or_default()
    }

    /// Whether every metadata LV has room for the bitmap of an array of this length, with regions of this size.
    #[must_use]
    pub fn has_room_for_bitmap(&self, len: Sectors, region: Sectors) -> bool {
        self.slots.iter().all(|slot| raid::rmeta_len(len, region) <= slot.meta_len)
    }

    /// Whether the image in a slot waits to leave until those behind it do: its slot is kept, and empty.
    #[must_use]
    pub fn is_parked(&self, slot: usize) -> bool {
        self.slots[slot].is_leaving() && slot < self.staying()
    }

    /// The slot whose image was added for the snapshot with this key, which is not cut yet.
    #[must_use]
    pub fn growing(&self, snapshot: &LvName) -> Option<usize> {
        let is_for = |of: &SlotSeen| of.tags.grown.as_deref().is_some_and(|for_| key::of(for_) == *snapshot);
        self.slots.iter().position(|of| !of.is_split() && is_for(of))
    }

    /// The name of the volume that the images which leave become.
    #[must_use]
    pub fn becomes(&self) -> Option<&str> {
        self.leaving_slots().find_map(|slot| self.slots[slot].tags.becomes.as_deref())
    }

    /// Slots that have no image.
    pub fn lost_slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots.len()).filter(|slot| self.slots[*slot].is_lost())
    }

    /// Slots that the metadata attaches and whose disks are there.
    pub fn attached_slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots.len()).filter(|slot| self.slots[*slot].is_attached())
    }

    /// Attached slots, but those whose images were added for a snapshot and are kept for it.
    pub fn spare_slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.attached_slots().filter(|slot| self.slots[*slot].tags.grown.is_none())
    }

    /// The live table and status, when the array runs undisturbed.
    #[must_use]
    pub fn running(&self) -> Option<(&RaidTable, &RaidStatus)> {
        let top = self.top.as_ref().filter(|top| !top.info.suspended && !top.info.inactive_table)?;
        top.table.as_ref().zip(top.status.as_ref())
    }

    /// What the rmetas of some slots say, when they were read and are all there.
    #[must_use]
    pub fn metas_of(&self, slots: impl Iterator<Item = usize>) -> Option<Vec<(usize, &LegMeta)>> {
        let metas = self.metas.as_ref()?;
        slots.map(|slot| metas[slot].as_ref().map(|meta| (slot, meta))).collect()
    }
}
