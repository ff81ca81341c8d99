//! What front ends ask for.

use std::collections::BTreeSet;

use crate::ids::LvName;
use crate::units::Bytes;

/// Fewest images of a volume: one is no mirror, but can become one.
pub const IMAGES_MIN: usize = 1;
/// Images of a volume when nothing is said.
pub const IMAGES_DEFAULT: usize = 2;
/// Most images of a volume; the kernel allows more, but nobody has so many disks to spare.
pub const IMAGES_MAX: usize = 10;

/// Largest size of a volume: more than any disk has, and little enough to reckon with.
pub const SIZE_MAX: Bytes = Bytes(1 << 60);

/// A new volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// The name it is asked for by: any text of up to 128 bytes.
    pub name: String,
    /// At least this size; rounded up to whole extents.
    pub size: Bytes,
    /// At most this size, after rounding.
    pub limit: Option<Bytes>,
    /// Number of images, each on a disk of its own.
    pub images: usize,
    /// The bitmap's granularity; a power of two.
    pub region_size: Bytes,
    /// KiB/s per image that recovery is never throttled below.
    pub min_recovery_rate: Option<u64>,
    /// KiB/s per image that recovery is throttled to.
    pub max_recovery_rate: Option<u64>,
}

/// What a new volume is to hold from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What the snapshot of this id holds.
    Snapshot(String),
    /// What this volume holds now.
    Volume(LvName),
    /// The image of the snapshot of this id itself, which is none then.
    Image(String),
    /// The last images of this volume themselves, which are none of it then.
    Images(LvName),
}

/// A volume is to hold again what a snapshot of it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackSpec {
    /// The snapshot's id.
    pub snapshot: String,
    /// Who asks: a request of this name is carried out once, however often it is repeated.
    pub request: Option<String>,
}

/// A new snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// The name it is asked for by: any text of up to 128 bytes.
    pub name: String,
    /// The volume to split.
    pub volume: LvName,
    /// In-sync images that the split must leave attached.
    pub min_in_sync: usize,
    /// Which image it becomes.
    pub policy: SnapshotPolicy,
}

/// Which image a snapshot becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotPolicy {
    /// One that the volume has: merged again when the snapshot is deleted.
    #[default]
    Borrow,
    /// One that is added for it and copied first: removed when the snapshot is deleted.
    Grow,
}

/// Snapshots of several volumes of one pool, to be cut at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSpec {
    /// The name it is asked for by: any text of up to 128 bytes. Each of its snapshots has it too.
    pub name: String,
    /// The volumes to split.
    pub volumes: BTreeSet<LvName>,
    /// In-sync images that each split must leave attached.
    pub min_in_sync: usize,
}
