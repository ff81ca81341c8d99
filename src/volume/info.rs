//! What front ends show of volumes, slots, snapshots and pools. Plain values, serialised as they are for `-o json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{LvName, VgName};
use crate::units::Bytes;

/// State of one slot of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotState {
    /// Attached, and equal to the others.
    InSync,
    /// Its image is a snapshot; the bitmap marks what the array writes meanwhile.
    Split,
    /// It came back from a split and is copied up, marked regions only.
    Merging,
    /// It is copied up in full, or by an initial sync.
    Rebuilding,
    /// The kernel has given it up after an error.
    Failed,
    /// Its disk is not there.
    Missing,
    /// The volume is not active: nothing is known of it.
    Inactive,
}

/// One slot of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotInfo {
    /// Its number.
    pub index: usize,
    /// Its state.
    pub state: SlotState,
    /// The disk it lies on.
    pub device: String,
    /// Reads prefer other slots.
    pub write_mostly: bool,
    /// Its disk seeks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rotational: bool,
    /// The snapshot that its image was added for, and goes with. Before it is cut that is not among the volume's snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grown: Option<String>,
    /// The snapshot its image is, when it is split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The clone that its image is split off for, which is no snapshot to anybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lent: Option<String>,
    /// It has no image: it gets one when a disk has room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeInfo {
    /// Its CSI id: the LV's name.
    pub id: LvName,
    /// The name it was asked for by; absent when another tool made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its pool.
    pub pool: VgName,
    /// Its size.
    pub size: Bytes,
    /// The bitmap's granularity.
    pub region_size: Bytes,
    /// KiB/s per image that recovery is never throttled below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_recovery_rate: Option<u64>,
    /// KiB/s per image that recovery is throttled to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_recovery_rate: Option<u64>,
    /// Its device node, when it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its slots, in order.
    pub slots: Vec<SlotInfo>,
    /// How far attached images are equal, 0 to 100.
    pub sync_percent: f64,
    /// What the resync that is running has still to copy, exact to the region; zero when none is.
    pub to_resync: Bytes,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// It is being rolled back, and nobody can use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackInfo>,
    /// The last named request for a rollback that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_for: Option<String>,
    /// It is still being made, and holds no data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub creating: bool,
    /// The id of the snapshot that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_of: Option<String>,
    /// It is the image of that snapshot itself, which is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached: Option<Detached>,
    /// How far it is filled from that; absent when it holds everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filling: Option<Progress>,
    /// Why it is not as it should be; empty when all is well.
    pub problems: Vec<String>,
}

impl VolumeInfo {
    /// The slots of its own images: not of those that were added for snapshots.
    pub fn own_slots(&self) -> impl Iterator<Item = &SlotInfo> {
        self.slots.iter().filter(|slot| slot.grown.is_none())
    }

    /// How many images are its own.
    #[must_use]
    pub fn images(&self) -> usize {
        self.own_slots().count()
    }
}

/// What a volume was while it was a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detached {
    /// The name it was asked for by; absent when another tool split the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// How far it is what is being copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Copied; of a clone, held by its array.
    pub done: Bytes,
    /// To be copied altogether; of a clone, its size.
    pub total: Bytes,
}

/// How far a volume is that is made to hold what a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackInfo {
    /// The snapshot's id.
    pub snapshot: String,
    /// The request for it, when that has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Copied so far, by this process.
    pub copied: Bytes,
    /// To be copied altogether.
    pub total: Bytes,
}

/// A snapshot: a tracked split of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotInfo {
    /// Its CSI id: `volume@key`.
    pub id: String,
    /// The name it was asked for by; absent when another tool split the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The volume it is of.
    pub volume: LvName,
    /// The slot whose image it is.
    pub slot: usize,
    /// When it was cut, nanoseconds since 1970; absent when another tool split the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_unix_nanos: Option<u64>,
    /// Its size.
    pub size: Bytes,
    /// In-sync images that must stay attached while it lasts.
    pub min_in_sync: usize,
    /// Usable: the split is pinned on disk.
    pub ready: bool,
    /// What the volume has changed since its oldest outstanding split: the merge copies at most this much.
    pub changed: Bytes,
    /// The merge will copy the whole image, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_merge: Option<String>,
    /// The group it is one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<MemberOf>,
    /// Ids of the read-only volumes that show it.
    pub views: Vec<String>,
    /// Its device node, when it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// That a snapshot was cut at one instant with snapshots of other volumes, and is deleted with them only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberOf {
    /// The group's CSI id.
    pub id: String,
    /// How many snapshots it has.
    pub members: usize,
}

/// Snapshots of several volumes, cut at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupInfo {
    /// Its CSI id: the key of its name.
    pub id: String,
    /// When it was cut, nanoseconds since 1970.
    pub cut_unix_nanos: Option<u64>,
    /// All its snapshots are there and usable.
    pub ready: bool,
    /// Its snapshots, in the order of their ids.
    pub snapshots: Vec<SnapshotInfo>,
}

/// The groups that these snapshots are of, in the order of their ids.
#[must_use]
pub fn groups(snapshots: impl IntoIterator<Item = SnapshotInfo>) -> Vec<GroupInfo> {
    let mut groups: BTreeMap<String, Vec<SnapshotInfo>> = BTreeMap::new();
    for snapshot in snapshots {
        if let Some(group) = &snapshot.group {
            groups.entry(group.id.clone()).or_default().push(snapshot);
        }
    }
    let group = |(id, mut snapshots): (String, Vec<SnapshotInfo>)| {
        snapshots.sort_by(|a, b| a.id.cmp(&b.id));
        let of_whole = |snapshot: &SnapshotInfo| {
            let members = snapshot.group.as_ref().map(|group| group.members);
            snapshot.ready && members == Some(snapshots.len())
        };
        GroupInfo {
            cut_unix_nanos: snapshots.iter().find_map(|snapshot| snapshot.cut_unix_nanos),
            ready: snapshots.iter().all(of_whole),
            id,
            snapshots,
        }
    };
    groups.into_iter().map(group).collect()
}

/// A read-only volume that shows a snapshot's image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewInfo {
    /// Its CSI id.
    pub id: String,
    /// The name it was asked for by.
    pub name: String,
    /// The snapshot it shows.
    pub snapshot: String,
    /// Its size.
    pub size: Bytes,
    /// The image's device node, when it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// One disk of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskInfo {
    /// Its device node, or where it was last seen when it is missing.
    pub device: String,
    /// LVM2's identifier of it.
    pub id: String,
    /// Space for extents.
    pub size: Bytes,
    /// Space in free extents.
    pub free: Bytes,
    /// It is not there.
    pub missing: bool,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolInfo {
    /// The volume group's name.
    pub name: VgName,
    /// Its identifier.
    pub id: String,
    /// Version of its metadata.
    pub seqno: u64,
    /// Size of one extent.
    pub extent_size: Bytes,
    /// Its disks.
    pub disks: Vec<DiskInfo>,
    /// How many volumes it holds.
    pub volumes: usize,
    /// Largest volume that fits now, by number of images (2 up to the number of disks).
    pub largest: Vec<Largest>,
    /// Why it cannot be used, or is not as it should be; empty when all is well.
    pub problems: Vec<String>,
}

/// The largest volume of so many images that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Largest {
    /// Number of images.
    pub images: usize,
    /// Its size.
    pub size: Bytes,
    /// What all such volumes that fit would hold together.
    pub available: Bytes,
}

/// What a volume or view is called. Costs less to find out than all about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameInfo {
    /// Its id: the LV's name, or the view's key.
    pub key: LvName,
    /// The name it was asked for by; absent when another tool made it.
    pub name: Option<String>,
    /// It shows a snapshot.
    pub view: bool,
}
