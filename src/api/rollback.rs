//! `VolumeRollback`: a user asks for a claim to be put back to a snapshot of it, in place.
//!
//! ```text
//! user ─ VolumeRollback ─► controller ─ MirrorVolume.spec.rollback ─► node
//!                 status ◄─ controller ◄─ MirrorVolume.status.rollback ◄─┘
//! ```
//!
//! It is carried out once, and is begun within [`PATIENCE`] of its creation or never: a claim must not be put back months
//! later, when somebody stops a pod and has long forgotten that this object exists.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::quantity::Size;
use crate::api::{Reference, schema};

/// How long a rollback waits for the claim to be free.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What is to be put back, and to what. Nothing of it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "splitmirror.io",
    version = "v1alpha1",
    kind = "VolumeRollback",
    plural = "volumerollbacks",
    shortname = "svr",
    category = "splitmirror",
    namespaced,
    status = "VolumeRollbackStatus",
    derive = "PartialEq",
    doc = "Puts a claim back to a snapshot of it, in place: what was written since is lost, and the snapshot stays. Stop all pods that use the claim first: it is begun within five minutes of its creation or never. Carried out once.",
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.claim"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".spec.snapshot"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Copied", type_ = "string", json_path = ".status.copied"),
    printcolumn(name = "Total", type_ = "string", json_path = ".status.total"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Volume", type_ = "string", priority = 1, json_path = ".status.volume"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type=='Complete')].message"
    )
)]
pub struct VolumeRollbackSpec {
    /// The PersistentVolumeClaim, of the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("claim is immutable: make another VolumeRollback"))]
    pub claim: String,
    /// The VolumeSnapshot of it, of the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("snapshot is immutable: make another VolumeRollback"))]
    pub snapshot: String,
}

/// What the controller says of a rollback.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRollbackStatus {
    /// In one word.
    #[x_kube(validation = Rule::new("!(oldSelf in ['Done', 'Failed']) || self == oldSelf").message("a rollback is carried out once"))]
    pub phase: RollbackPhase,
    /// Complete: it is done. `False`: why it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The MirrorVolume that the claim is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Copied back so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<Size>,
    /// To be copied back: what the volume has changed since its oldest outstanding split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Size>,
}

/// A rollback in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RollbackPhase {
    /// It has not begun: nothing is changed.
    #[default]
    Pending,
    /// What has changed is being copied back; nobody can use the claim.
    Copying,
    /// The claim holds what the snapshot holds.
    Done,
    /// It was not begun, and will not be: nothing is changed.
    Failed,
}

/// What a MirrorVolume's node is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackOrder {
    /// The MirrorSnapshot to go back to.
    #[schemars(length(min = 1, max = 253))]
    pub snapshot: String,
    /// The VolumeRollback.
    pub rollback: Reference,
    /// Its uid: it is carried out once.
    #[schemars(length(min = 1, max = 128))]
    pub request: String,
    /// It is begun before this time or never.
    pub before: Time,
}

/// What a MirrorVolume's node says of the rollback that was asked for last, or that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackTold {
    /// Whose it is: the uid of the VolumeRollback.
    pub request: String,
    /// In one word.
    pub phase: RollbackPhase,
    /// Why it is so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Copied so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<Size>,
    /// To be copied altogether.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Size>,
}
