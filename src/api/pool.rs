//! `MirrorPool`: one volume group on one node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::quantity::Size;
use crate::api::schema;
use crate::ids::VgName;

/// What a pool is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "splitmirror.io",
    version = "v1alpha1",
    kind = "MirrorPool",
    plural = "mirrorpools",
    shortname = "smp",
    category = "splitmirror",
    selectable = ".spec.node",
    status = "MirrorPoolStatus",
    derive = "PartialEq",
    doc = "A pool: an LVM2 volume group on the disks of one node.",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "VG", type_ = "string", json_path = ".spec.volumeGroup"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Free", type_ = "string", json_path = ".status.free"),
    printcolumn(name = "Disks", type_ = "integer", json_path = ".status.diskCount"),
    printcolumn(name = "Missing", type_ = "integer", json_path = ".status.missingDisks"),
    printcolumn(name = "Volumes", type_ = "integer", json_path = ".status.volumes"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[x_kube(
    validation = Rule::new("has(self.extentSize) == has(oldSelf.extentSize) && (!has(self.extentSize) || self.extentSize == oldSelf.extentSize)")
        .message("extentSize is immutable")
)]
#[x_kube(
    validation = Rule::new("!has(self.wipe) || (has(self.devices) && self.wipe.all(d, d in self.devices))")
        .message("only disks that are named in devices can be wiped")
)]
pub struct MirrorPoolSpec {
    /// The node whose disks it is on.
    #[schemars(schema_with = "schema::node")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("node is immutable"))]
    pub node: String,
    /// The LVM2 volume group. One that exists is used as it is.
    #[schemars(schema_with = "schema::lvm_name")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("volumeGroup is immutable"))]
    pub volume_group: VgName,
    /// Its disks, best by /dev/disk/by-id. The group is made of them when it is missing, and extended by those that are
    /// not yet in it. None: the group must exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::devices")]
    pub devices: Vec<String>,
    /// Size of an extent of a group that is made. Default: 4Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::extent_size")]
    pub extent_size: Option<Size>,
    /// Disks whose old contents may be lost. Any other disk that is not blank is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::devices")]
    pub wipe: Vec<String>,
}

/// What its node says of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorPoolStatus {
    /// The generation of the object that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: it can be used. Degraded: a disk is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// LVM2's identifier of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Size of an extent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extent_size: Option<Size>,
    /// Space for extents on all its disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Space in free extents on all its disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<Size>,
    /// Number of volumes.
    #[serde(default)]
    pub volumes: u32,
    /// Number of disks, missing ones included.
    #[serde(default)]
    pub disk_count: u32,
    /// Number of disks that are not there.
    #[serde(default)]
    pub missing_disks: u32,
    /// Its disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".to_owned()]))]
    pub disks: Vec<PoolDisk>,
    /// What fits, by number of images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["images".to_owned()]))]
    pub capacity: Vec<PoolCapacity>,
    /// Where the node's agent tells the controller the blocks of snapshots; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<PoolAgent>,
}

/// Where an agent is, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolAgent {
    /// Its IP address and port.
    #[schemars(length(min = 1, max = 64))]
    pub address: String,
    /// Its certificate, as PEM: made when it was started, and signed by itself.
    #[schemars(length(min = 1, max = 8192))]
    pub certificate: String,
}

/// One disk of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolDisk {
    /// LVM2's identifier of it.
    pub id: String,
    /// Its device node, or where it was last seen when it is missing.
    pub device: String,
    /// Space for extents.
    pub size: Size,
    /// Space in free extents.
    pub free: Size,
    /// It is not there.
    #[serde(default)]
    pub missing: bool,
}

/// What fits of volumes with so many images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolCapacity {
    /// Number of images.
    pub images: u8,
    /// Sum of the volumes that would fit.
    pub available: Size,
    /// The largest single volume that fits.
    pub largest: Size,
}
