//! The typed model of a volume group.
//!
//! What this project understands is typed; everything else in the text is kept as it was in `extra`, in place
//! enough to mean the same after a rewrite, so that a foreign LV (thin, cache, a segment type of tomorrow)
//! survives our writing the group. Edits live in [`super::edit`], the independent checker in [`super::check`].
//!
//! Sources: LVM2 `lib/format_text/{export,import_vsn1,flags,tags}.c`, `lib/raid/raid.c`.

use crate::ids::{LvName, LvmUuid, VgName};
use crate::lvm2::text::Node;
use crate::lvm2::words;
use crate::units::{Extents, Sectors};

/// A volume group as one version of its metadata tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeGroup {
    /// Its name.
    pub name: VgName,
    /// Its identifier.
    pub id: LvmUuid,
    /// Version of this metadata: each commit adds one.
    pub seqno: u64,
    /// Status words, such as `RESIZEABLE`, `READ`, `WRITE`.
    pub status: Vec<String>,
    /// Compatible flags, such as `NOAUTOACTIVATE`.
    pub flags: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// The one host that may use the group, if it says so.
    pub system_id: Option<String>,
    /// `sanlock`, `dlm`… when the group is shared through lvmlockd.
    pub lock_type: Option<String>,
    /// Size of one extent.
    pub extent_size: Sectors,
    /// Its disks, in the order of the text.
    pub pvs: Vec<PhysicalVolume>,
    /// Its logical volumes, sub-LVs included, in the order of the text.
    pub lvs: Vec<LogicalVolume>,
    /// Entries of the group's own section that are kept but not understood (`max_lv`, `alloc`, …).
    pub extra: Vec<Node>,
    /// Entries beside the group's section (`contents`, `version`, …) that a rewrite keeps.
    pub trailer: Vec<Node>,
}

/// A disk of a volume group.
#[derive(Clone, Debug, PartialEq)]
pub struct PhysicalVolume {
    /// Its name inside the metadata: `pv0`.
    pub name: String,
    /// Its identifier, also in its label.
    pub id: LvmUuid,
    /// Where it was last seen: a hint only.
    pub device: String,
    /// Status words: `ALLOCATABLE`, `MISSING`.
    pub status: Vec<String>,
    /// Compatible flags.
    pub flags: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Size of the device.
    pub dev_size: Sectors,
    /// Where extent 0 starts.
    pub pe_start: Sectors,
    /// Number of extents.
    pub pe_count: Extents,
    /// Entries kept but not understood.
    pub extra: Vec<Node>,
}

/// A logical volume or sub-LV.
#[derive(Clone, Debug, PartialEq)]
pub struct LogicalVolume {
    /// Its name.
    pub name: LvName,
    /// Its identifier.
    pub id: LvmUuid,
    /// Status words: `READ`, `WRITE`, `VISIBLE`, `REBUILD`, `WRITEMOSTLY`, …
    pub status: Vec<String>,
    /// Compatible flags: `ACTIVATION_SKIP`, `NOAUTOACTIVATE`, …
    pub flags: Vec<String>,
    /// Tags: what LVM2 has no field for is kept here.
    pub tags: Vec<String>,
    /// When and on which host it was made; LVM2 writes both or none.
    pub created: Option<(u64, String)>,
    /// Its segments, in order and without gaps.
    pub segments: Vec<Segment>,
    /// Entries kept but not understood.
    pub extra: Vec<Node>,
}

/// A run of extents of an LV that is mapped in one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Its first extent within the LV.
    pub start: Extents,
    /// Its length.
    pub count: Extents,
    /// Tags.
    pub tags: Vec<String>,
    /// How it is mapped.
    pub kind: SegmentKind,
    /// Entries kept but not understood.
    pub extra: Vec<Node>,
}

/// How a segment is mapped.
#[derive(Clone, Debug, PartialEq)]
pub enum SegmentKind {
    /// `striped` with one stripe: extents of one PV in a row.
    Linear {
        /// The PV's name inside the metadata.
        pv: String,
        /// The first extent on it.
        first: Extents,
    },
    /// `raid1`.
    Raid1(Raid1),
    /// `error`: every access fails.
    Error,
    /// Anything else: kept as it is, with all of its entries in [`Segment::extra`].
    Other {
        /// The type's full word, flags included.
        name: String,
    },
}

/// A raid1 segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Raid1 {
    /// The bitmap's granularity.
    pub region_size: Sectors,
    /// Recovery is never throttled below this many KiB/s per image.
    pub min_recovery_rate: Option<u64>,
    /// Recovery is throttled to this many KiB/s per image.
    pub max_recovery_rate: Option<u64>,
    /// Outstanding writes allowed to write-mostly images.
    pub write_behind: Option<u64>,
    /// The slots, in order.
    pub slots: Vec<Slot>,
}

/// One slot of a raid1 segment: the names of its two sub-LVs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The metadata LV, `lv_rmeta_N`.
    pub meta: LvName,
    /// The data LV, `lv_rimage_N`.
    pub image: LvName,
}

/// Extents of one PV in a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The PV's name inside the metadata.
    pub pv: String,
    /// The first extent on it.
    pub first: Extents,
    /// How many.
    pub count: Extents,
}

impl Run {
    /// The first extent after it.
    #[must_use]
    pub fn end(&self) -> Extents {
        Extents(self.first.0.saturating_add(self.count.0))
    }

    /// Whether the two share an extent.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.pv == other.pv && self.first < other.end() && other.first < self.end()
    }

    /// Whether all of `other` lies in it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.pv == other.pv && self.first <= other.first && other.end() <= self.end()
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "extents {} to {} of {}", self.first.0, self.end().0.saturating_sub(1), self.pv)
    }
}

impl VolumeGroup {
    /// Whether it belongs to one host, or to those under one lock manager.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.system_id.as_deref().is_some_and(|id| !id.is_empty())
            || self.lock_type.as_deref().is_some_and(|kind| !matches!(kind, "" | "none"))
    }

    /// The LV of this name.
    #[must_use]
    pub fn lv(&self, name: &LvName) -> Option<&LogicalVolume> {
        self.lvs.iter().find(|lv| &lv.name == name)
    }

    /// The LV of this name, to change.
    #[must_use]
    pub fn lv_mut(&mut self, name: &LvName) -> Option<&mut LogicalVolume> {
        self.lvs.iter_mut().find(|lv| &lv.name == name)
    }

    /// The PV with this name inside the metadata.
    #[must_use]
    pub fn pv(&self, name: &str) -> Option<&PhysicalVolume> {
        self.pvs.iter().find(|pv| pv.name == name)
    }

    /// The PV with this identifier.
    #[must_use]
    pub fn pv_by_id(&self, id: &LvmUuid) -> Option<&PhysicalVolume> {
        self.pvs.iter().find(|pv| &pv.id == id)
    }

    /// The raid1 LV that this LV is an image or a metadata LV of, and in which slot.
    #[must_use]
    pub fn raid1_above(&self, sub: &LvName) -> Option<(&LogicalVolume, usize)> {
        self.lvs.iter().find_map(|lv| {
            let slot = lv.raid1()?.slots.iter().position(|slot| &slot.image == sub || &slot.meta == sub)?;
            Some((lv, slot))
        })
    }
}

impl PhysicalVolume {
    /// Whether it was away when the group was last changed: what it holds may be old. LVM2 notes this among the
    /// flags; older versions noted it in the status.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.status.iter().chain(&self.flags).any(|word| word == "MISSING")
    }

    /// Whether new extents may be taken from it.
    #[must_use]
    pub fn is_allocatable(&self) -> bool {
        !self.is_missing() && self.status.iter().any(|word| word == "ALLOCATABLE")
    }
}

impl LogicalVolume {
    /// Whether the status holds this word.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.status.iter().any(|s| s == word)
    }

    /// Adds or removes a status word.
    pub fn set(&mut self, word: &str, on: bool) {
        self.status.retain(|s| s != word);
        if on {
            self.status.push(word.to_owned());
        }
        words::sort(&mut self.status, &words::LV);
    }

    /// Whether this is the image of an outstanding tracked split: visible and not writable, as LVM2 marks it.
    #[must_use]
    pub fn is_tracked_image(&self) -> bool {
        self.has("VISIBLE") && !self.has("WRITE")
    }

    /// Its raid1 segment, when it is a plain raid1 LV.
    #[must_use]
    pub fn raid1(&self) -> Option<&Raid1> {
        match self.segments.as_slice() {
            [Segment { kind: SegmentKind::Raid1(raid), .. }] => Some(raid),
            _ => None,
        }
    }

    /// Its length.
    #[must_use]
    pub fn extents(&self) -> Extents {
        Extents(self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.count.0)))
    }
}
