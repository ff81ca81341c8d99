//! `MirrorSnapshot`: a tracked split of one image of a volume.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::quantity::Size;
use crate::api::{Reference, schema};
use crate::ids::{LvName, VgName};
use crate::volume::spec;

/// What a snapshot should be. Nothing of it changes but `delete`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "splitmirror.io",
    version = "v1alpha1",
    kind = "MirrorSnapshot",
    plural = "mirrorsnapshots",
    shortname = "sms",
    category = "splitmirror",
    selectable = ".spec.node",
    status = "MirrorSnapshotStatus",
    derive = "PartialEq",
    doc = "A snapshot: an image split off its volume. Deleting this object merges nothing: its node makes it again.",
    printcolumn(name = "Volume", type_ = "string", json_path = ".spec.volume"),
    printcolumn(name = "Slot", type_ = "integer", json_path = ".status.slot"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Changed", type_ = "string", json_path = ".status.changed"),
    printcolumn(name = "Merge", type_ = "integer", json_path = ".status.mergePercent"),
    printcolumn(name = "Cut", type_ = "date", json_path = ".status.cutTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Node", type_ = "string", priority = 1, json_path = ".spec.node"),
    printcolumn(name = "Size", type_ = "string", priority = 1, json_path = ".status.size"),
    printcolumn(name = "Detached-To", type_ = "string", priority = 1, json_path = ".status.detachedTo"),
    printcolumn(name = "Shown-By", type_ = "string", priority = 1, json_path = ".status.consumers[*]"),
    printcolumn(name = "Group", type_ = "string", priority = 1, json_path = ".spec.group.name"),
    printcolumn(
        name = "Namespace",
        type_ = "string",
        priority = 1,
        json_path = ".spec.volumeSnapshot.namespace"
    ),
    printcolumn(
        name = "VolumeSnapshot",
        type_ = "string",
        priority = 1,
        json_path = ".spec.volumeSnapshot.name"
    )
)]
#[x_kube(
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)")
        .message("name is immutable")
)]
#[x_kube(
    validation = Rule::new("has(self.policy) == has(oldSelf.policy) && (!has(self.policy) || self.policy == oldSelf.policy)")
        .message("policy is immutable")
)]
#[x_kube(
    validation = Rule::new("!has(self.group) || !has(self.policy) || self.policy == 'borrow'")
        .message("the snapshots of a group borrow images of their volumes")
)]
#[x_kube(
    validation = Rule::new("has(self.group) == has(oldSelf.group) && (!has(self.group) || self.group == oldSelf.group)")
        .message("group is immutable")
)]
#[x_kube(
    validation = Rule::new("!has(oldSelf.delete) || !oldSelf.delete || (has(self.delete) && self.delete)")
        .message("delete is never taken back: the image may be merging already")
)]
pub struct MirrorSnapshotSpec {
    /// The node whose disks it is on.
    #[schemars(schema_with = "schema::node")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("node is immutable"))]
    pub node: String,
    /// The LVM2 volume group that it is in.
    #[schemars(schema_with = "schema::lvm_name")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("pool is immutable"))]
    pub pool: VgName,
    /// The MirrorVolume that it is of.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("volume is immutable"))]
    pub volume: String,
    /// What it is called on the disks, after the volume's LV and `@`.
    #[schemars(schema_with = "schema::lvm_name")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("key is immutable"))]
    pub key: LvName,
    /// The CSI name that it was asked for by. None: another tool split the image off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub name: Option<String>,
    /// Images in sync that the split must leave, else it is refused.
    #[schemars(range(min = 1, max = 9))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("minInSync is immutable"))]
    pub min_in_sync: u8,
    /// Which image it becomes. None: `borrow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<SnapshotPolicy>,
    /// The group it is one of: its node cuts all of them at one instant when each has its object, and merges all when `delete` is
    /// set in each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<SnapshotGroup>,
    /// The VolumeSnapshot that it is for: events about it are shown there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot: Option<Reference>,
    /// It is to be deleted: its image is merged back, or removed when it was added for it. Deleting this object alone merges nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

/// Which image a snapshot becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SnapshotPolicy {
    /// One that the volume has: merged again when the snapshot is deleted.
    Borrow,
    /// One that is added for it and copied first: removed when the snapshot is deleted.
    Grow,
}

impl From<spec::SnapshotPolicy> for SnapshotPolicy {
    fn from(policy: spec::SnapshotPolicy) -> Self {
        match policy {
            spec::SnapshotPolicy::Borrow => Self::Borrow,
            spec::SnapshotPolicy::Grow => Self::Grow,
        }
    }
}

impl From<SnapshotPolicy> for spec::SnapshotPolicy {
    fn from(policy: SnapshotPolicy) -> Self {
        match policy {
            SnapshotPolicy::Borrow => Self::Borrow,
            SnapshotPolicy::Grow => Self::Grow,
        }
    }
}

/// Snapshots of several volumes of one pool, cut at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotGroup {
    /// The CSI name that it was asked for by; the snapshots have it too.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The MirrorVolumes that it is of.
    #[schemars(schema_with = "schema::members")]
    pub volumes: Vec<String>,
}

/// What its node says of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.detachedTo) == (self.phase == 'Detached')")
        .message("what is detached has become a volume, and nothing else has")
)]
pub struct MirrorSnapshotStatus {
    /// The generation of the object that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// In one word.
    #[x_kube(validation = Rule::new("oldSelf != 'Merging' || self in ['Merging', 'Failed']").message("an image that is merging is no snapshot any more"))]
    #[x_kube(validation = Rule::new("oldSelf != 'Detached' || self == 'Detached'").message("an image that has become a volume is no snapshot any more"))]
    pub phase: SnapshotPhase,
    /// Ready: it can be read. Deleted: False while that is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The slot whose image it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
    /// The instant that it holds. None: another tool split the image off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a cut does not change"))]
    pub cut_time: Option<MicroTime>,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// What the volume has changed since its oldest outstanding split: the merge copies at most so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Size>,
    /// How far its merge is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub merge_percent: Option<u8>,
    /// The MirrorVolume that its image has become, since it is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("what has become of it does not change"))]
    pub detached_to: Option<String>,
    /// The MirrorVolumes that show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::names")]
    pub consumers: Vec<String>,
}

/// A snapshot in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotPhase {
    /// Its image is not split off yet.
    #[default]
    Pending,
    /// It can be read.
    Ready,
    /// Its image is being merged back.
    Merging,
    /// Its image has become a volume of its own, and it is a snapshot no more. Deleting it removes nothing else.
    Detached,
    /// It cannot be made.
    Failed,
}
