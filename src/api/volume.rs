//! `MirrorVolume`: a mirrored volume, or a read-only one that shows a snapshot.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::quantity::{Percent, Size};
use crate::api::rollback::{RollbackOrder, RollbackTold};
use crate::api::{Reference, schema};
use crate::ids::{LvName, VgName};
use crate::volume::info;

/// What a volume should be.
///
/// With `lv`, `images` and `regionSize` it is a mirrored volume, and with a `source` too a clone, or what has become of a snapshot.
/// With a `source` alone it is a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "splitmirror.io",
    version = "v1alpha1",
    kind = "MirrorVolume",
    plural = "mirrorvolumes",
    shortname = "smv",
    category = "splitmirror",
    selectable = ".spec.node",
    status = "MirrorVolumeStatus",
    derive = "PartialEq",
    doc = "A volume: a raid1 array over disks of one node. Deleting this object deletes no data: its node makes it again.",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Images", type_ = "integer", json_path = ".spec.images"),
    printcolumn(name = "In-Sync", type_ = "integer", json_path = ".status.inSync"),
    printcolumn(name = "Split", type_ = "integer", json_path = ".status.split"),
    printcolumn(name = "Sync", type_ = "string", json_path = ".status.sync"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Filled", type_ = "string", priority = 1, json_path = ".status.filled"),
    printcolumn(name = "Device", type_ = "string", priority = 1, json_path = ".status.device"),
    printcolumn(name = "Namespace", type_ = "string", priority = 1, json_path = ".spec.claim.namespace"),
    printcolumn(name = "Claim", type_ = "string", priority = 1, json_path = ".spec.claim.name"),
    printcolumn(name = "LV", type_ = "string", priority = 1, json_path = ".spec.lv"),
    validation = Rule::new("quantity(self.spec.size).compareTo(quantity(oldSelf.spec.size)) >= 0 || (has(self.status) && has(self.status.size) && quantity(self.spec.size).compareTo(quantity(self.status.size)) >= 0)")
        .message("spec.size may not be less than it was, nor than what the volume has")
)]
#[x_kube(
    validation = Rule::new("has(self.images) == has(self.lv) && has(self.regionSize) == has(self.lv)")
        .message("a mirrored volume has lv, images and regionSize, a view none of them")
)]
#[x_kube(
    validation = Rule::new("has(self.lv) || (has(self.source) && has(self.source.snapshot))")
        .message("a volume without lv shows a snapshot: it has that as its source")
)]
#[x_kube(
    validation = Rule::new("!has(self.source) || [has(self.source.snapshot), has(self.source.volume), has(self.source.detached), has(self.source.images)].exists_one(is, is)")
        .message("source is one of a snapshot, a volume, a detached snapshot and the images of a volume")
)]
#[x_kube(
    validation = Rule::new("!has(self.limit) || quantity(self.limit).compareTo(quantity(self.size)) >= 0")
        .message("limit is less than size")
)]
#[x_kube(
    validation = Rule::new("!has(self.minRecoveryRate) || !has(self.maxRecoveryRate) || self.minRecoveryRate <= self.maxRecoveryRate")
        .message("minRecoveryRate is more than maxRecoveryRate")
)]
#[x_kube(
    validation = Rule::new("has(self.lv) == has(oldSelf.lv) && (!has(self.lv) || self.lv == oldSelf.lv)")
        .message("lv is immutable")
)]
#[x_kube(
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)")
        .message("name is immutable")
)]
#[x_kube(
    validation = Rule::new("has(self.images) == has(oldSelf.images)").message("images is changed, not taken away")
)]
#[x_kube(
    validation = Rule::new("has(self.lv) || !has(self.writeMostly)").message("a view has no images of its own")
)]
#[x_kube(
    validation = Rule::new("has(self.regionSize) == has(oldSelf.regionSize)").message("regionSize is changed, not taken away")
)]
#[x_kube(
    validation = Rule::new("has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)")
        .message("source is immutable")
)]
#[x_kube(
    validation = Rule::new("!has(oldSelf.delete) || !oldSelf.delete || (has(self.delete) && self.delete)")
        .message("delete is never taken back: the volume may be gone already")
)]
pub struct MirrorVolumeSpec {
    /// The node whose disks it is on.
    #[schemars(schema_with = "schema::node")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("node is immutable"))]
    pub node: String,
    /// The LVM2 volume group that it is in.
    #[schemars(schema_with = "schema::lvm_name")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("pool is immutable"))]
    pub pool: VgName,
    /// The LV that it is. None of a view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::lvm_name")]
    pub lv: Option<LvName>,
    /// The CSI name that it was asked for by. None: another tool made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub name: Option<String>,
    /// At least this large. More makes it grow; less is possible only down to what it has.
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('1Ei')) <= 0").message("size is more than 1Ei"))]
    pub size: Size,
    /// At most this large, after rounding up to whole extents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Size>,
    /// Copies of the data, each on a disk of its own. More are copied in the background, the last are the first to leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub images: Option<u8>,
    /// Granularity of the bitmap that tracks changes: a power of two from 4Ki to 1Gi. Changed while there is no snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::region_size")]
    pub region_size: Option<Size>,
    /// KiB/s per disk that a resync is never throttled below. Default: the kernel's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub min_recovery_rate: Option<u64>,
    /// KiB/s per disk that a resync is throttled to. Default: the kernel's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_recovery_rate: Option<u64>,
    /// Which images are read from only when no other can be. Default: whatever is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_mostly: Option<WriteMostly>,
    /// What it shows or, with lv, what it is made from: then it can be written to, and is filled in the background or, of a
    /// snapshot that is detached or of images of a volume, is these themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::source")]
    pub source: Option<Source>,
    /// The PersistentVolumeClaim that it is for: events about it are shown there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Reference>,
    /// It is to be put back to a snapshot of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Box<RollbackOrder>>,
    /// It is to be deleted with all its data. Deleting this object alone deletes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

/// Which images reads avoid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WriteMostly {
    /// None.
    None,
    /// Those on disks that seek, if not all are.
    Rotational,
}

/// What a volume holds from the start. Written as an object with one field, whose name says what kind of source it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// What this MirrorSnapshot holds.
    Snapshot(String),
    /// What this MirrorVolume held when the volume was made.
    Volume(String),
    /// The image of this MirrorSnapshot itself: it is a snapshot no more.
    Detached(String),
    /// The last images of this MirrorVolume themselves, as many as the volume has.
    Images(String),
}

/// What its node says of a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorVolumeStatus {
    /// The generation of the object that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// In one word.
    #[x_kube(validation = Rule::new("oldSelf != 'Deleting' || self in ['Deleting', 'Failed']").message("a volume that is being deleted does not come back"))]
    pub phase: VolumePhase,
    /// Ready: it can be used. Degraded: fewer images are in sync than there should be. Resized, Modified, Deleted:
    /// False while what was asked for is not done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Its device node, while it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Number of images that are attached and equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sync: Option<u8>,
    /// Number of images that are split off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<u8>,
    /// How far the attached images are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<Percent>,
    /// How far it holds itself what it is made from, while it is being filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled: Option<Percent>,
    /// It is staged or published on its node: somebody may be using it.
    #[serde(default)]
    pub staged: bool,
    /// The rollback that was asked for last, or is under way: meanwhile the volume cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Box<RollbackTold>>,
    /// Its image slots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["index".to_owned()]))]
    pub slots: Vec<Slot>,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A volume in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumePhase {
    /// It is not made yet.
    #[default]
    Pending,
    /// It can be used, and has all its images but those that are split off.
    Ready,
    /// It can be used, and is being filled from its source, which it depends on until then.
    Filling,
    /// It can be used, and has lost redundancy.
    Degraded,
    /// It is being put back to a snapshot, and cannot be used meanwhile.
    RollingBack,
    /// It cannot be made or used.
    Failed,
    /// It is being deleted.
    Deleting,
}

/// One image slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// Its number. Slots are never renumbered.
    pub index: u8,
    /// What its image does.
    pub state: SlotState,
    /// The disk that it is on.
    pub device: String,
    /// Its image is there for a snapshot only, and goes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grown: bool,
    /// Reads prefer other slots.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write_mostly: bool,
    /// The MirrorSnapshot that its image is, when it is split off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The MirrorVolume that its image is split off for, until that is filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lent_to: Option<String>,
    /// How far it is copied, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub percent: Option<u8>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the image of a slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SlotState {
    /// Attached, and equal to the others.
    InSync,
    /// It is a snapshot.
    Split,
    /// Back from a split; marked regions are copied.
    Merging,
    /// All of it is copied.
    Rebuilding,
    /// The kernel has given it up after an error.
    Failed,
    /// Its disk is not there.
    Missing,
    /// The volume is not active.
    Inactive,
}

impl From<info::SlotState> for SlotState {
    fn from(state: info::SlotState) -> Self {
        match state {
            info::SlotState::InSync => Self::InSync,
            info::SlotState::Split => Self::Split,
            info::SlotState::Merging => Self::Merging,
            info::SlotState::Rebuilding => Self::Rebuilding,
            info::SlotState::Failed => Self::Failed,
            info::SlotState::Missing => Self::Missing,
            info::SlotState::Inactive => Self::Inactive,
        }
    }
}
