//! Snapshots by request.

use prost_types::Timestamp;

use crate::csi::backend::{Backend, Deadline, Error, Kind, Result, Snapshot, SnapshotWish};
use crate::csi::controller::volumes::signed;
use crate::csi::page::page;
use crate::csi::params::SnapshotParams;
use crate::csi::proto::{
    CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest, ListSnapshotsResponse,
    Snapshot as ProtoSnapshot, list_snapshots_response,
};
use crate::csi::{limits, topology};
use crate::report::Class;

/// CreateSnapshot.
///
/// # Errors
/// As the specification's table for this call.
pub async fn create<B: Backend>(
    backend: &B,
    request: &CreateSnapshotRequest,
    deadline: Deadline,
) -> Result<CreateSnapshotResponse> {
    let name = limits::name("name", &request.name)?;
    let source = limits::required("source_volume_id", &request.source_volume_id)?;
    let params = SnapshotParams::read(&request.parameters)?;
    let volume = backend.get_volume(source).await?;
    let volume = volume.ok_or_else(|| Error::not_found(format!("there is no volume {source:?}")))?;
    if let Kind::View { snapshot } = volume.kind {
        return Err(Error::precondition(format!(
            "volume {source} shows snapshot {snapshot} and cannot have snapshots of its own"
        )));
    }
    let wish = SnapshotWish {
        name: name.to_owned(),
        volume: volume.id,
        min_in_sync: params.min_in_sync,
        policy: params.policy,
        nodes: topology::nodes(request.accessibility_requirements.as_ref()),
        volume_snapshot: params.volume_snapshot,
    };
    let snapshot = backend.create_snapshot(&wish, deadline).await?;
    Ok(CreateSnapshotResponse { snapshot: Some(answer(&snapshot)) })
}

/// DeleteSnapshot.
///
/// # Errors
/// A view shows it.
pub async fn delete<B: Backend>(
    backend: &B,
    request: &DeleteSnapshotRequest,
    deadline: Deadline,
) -> Result<DeleteSnapshotResponse> {
    backend.delete_snapshot(limits::required("snapshot_id", &request.snapshot_id)?, deadline).await?;
    Ok(DeleteSnapshotResponse {})
}

/// ListSnapshots.
///
/// # Errors
/// A token that was not given out.
pub async fn list<B: Backend>(backend: &B, request: &ListSnapshotsRequest) -> Result<ListSnapshotsResponse> {
    let mut snapshots = if request.snapshot_id.is_empty() {
        backend.list_snapshots().await?
    } else {
        find(backend, &request.snapshot_id).await?.into_iter().collect()
    };
    if !request.source_volume_id.is_empty() {
        snapshots.retain(|snapshot| snapshot.volume == request.source_volume_id);
    }
    let (snapshots, next_token) =
        page(snapshots, |snapshot| &snapshot.id, request.max_entries, &request.starting_token)?;
    let entry = |snapshot| list_snapshots_response::Entry { snapshot: Some(answer(snapshot)) };
    Ok(ListSnapshotsResponse { entries: snapshots.iter().map(entry).collect(), next_token })
}

/// GetSnapshot.
///
/// # Errors
/// There is none of this id.
pub async fn get<B: Backend>(backend: &B, request: &GetSnapshotRequest) -> Result<GetSnapshotResponse> {
    let id = limits::required("snapshot_id", &request.snapshot_id)?;
    Ok(GetSnapshotResponse { snapshot: Some(answer(&backend.get_snapshot(id).await?)) })
}

/// The snapshot of an id, if there is one.
///
/// # Errors
/// Nobody knows.
pub(in crate::csi) async fn find<B: Backend>(backend: &B, id: &str) -> Result<Option<Snapshot>> {
    match backend.get_snapshot(id).await {
        Err(error) if error.class == Class::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// A snapshot, as callers are told of it.
pub(in crate::csi) fn answer(snapshot: &Snapshot) -> ProtoSnapshot {
    ProtoSnapshot {
        size_bytes: signed(snapshot.size),
        snapshot_id: snapshot.id.clone(),
        source_volume_id: snapshot.volume.clone(),
        creation_time: Some(timestamp(snapshot.cut_unix_nanos)),
        ready_to_use: snapshot.ready,
        group_snapshot_id: snapshot.group.clone().unwrap_or_default(),
        accessible_topology: vec![topology::of(&snapshot.node)],
    }
}

/// When the split was made. The field must be there; for a split that another tool made nobody knows the time, and it
/// is 1970.
pub(in crate::csi) fn timestamp(nanos: Option<u64>) -> Timestamp {
    const SECOND: u64 = 1_000_000_000;
    let nanos = nanos.unwrap_or(0);
    Timestamp {
        seconds: i64::try_from(nanos / SECOND).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos % SECOND).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_is_told_to_the_nanosecond() {
        assert_eq!(
            timestamp(Some(1_700_000_000_000_000_001)),
            Timestamp { seconds: 1_700_000_000, nanos: 1 }
        );
        assert_eq!(timestamp(None), Timestamp::default());
    }
}
