//! Objects of others, as much of them as is read here.

use kube::core::{ApiResource, Object};
use serde::{Deserialize, Serialize};

/// A `VolumeSnapshot`.
pub type VolumeSnapshot = Object<VolumeSnapshotSpec, VolumeSnapshotStatus>;

/// What a `VolumeSnapshot` is of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VolumeSnapshotSpec {
    /// From where.
    #[serde(default)]
    pub source: SnapshotSource,
}

/// From where a `VolumeSnapshot` is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSource {
    /// The claim.
    pub persistent_volume_claim_name: Option<String>,
}

/// What came of a `VolumeSnapshot`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotStatus {
    /// The content that it is bound to.
    pub bound_volume_snapshot_content_name: Option<String>,
    /// It can be used.
    pub ready_to_use: Option<bool>,
    /// Why it cannot.
    pub error: Option<SnapshotError>,
}

/// Why a `VolumeSnapshot` cannot be used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SnapshotError {
    /// For people.
    pub message: Option<String>,
}

/// A `VolumeSnapshotContent`.
pub type VolumeSnapshotContent = Object<ContentSpec, ContentStatus>;

/// Whose a `VolumeSnapshotContent` is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentSpec {
    /// The driver.
    pub driver: String,
    /// The `VolumeSnapshot` that it is bound to.
    #[serde(default)]
    pub volume_snapshot_ref: SnapshotReference,
}

/// A `VolumeSnapshot` that a content is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReference {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its uid, once it is bound.
    pub uid: Option<String>,
}

/// What a `VolumeSnapshotContent` is about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentStatus {
    /// The CSI id.
    pub snapshot_handle: Option<String>,
}

/// The resource of `VolumeSnapshot`s.
#[must_use]
pub fn volume_snapshots() -> ApiResource {
    of_snapshots("VolumeSnapshot", "volumesnapshots")
}

/// The resource of `VolumeSnapshotContent`s.
#[must_use]
pub fn contents() -> ApiResource {
    of_snapshots("VolumeSnapshotContent", "volumesnapshotcontents")
}

fn of_snapshots(kind: &str, plural: &str) -> ApiResource {
    let (group, version) = ("snapshot.storage.k8s.io", "v1");
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
