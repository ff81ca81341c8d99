//! The GroupController service: snapshots of several volumes at one instant.
//!
//! Sources: CSI specification, "Group Controller Service RPC".

use std::collections::BTreeSet;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::csi::backend::{Deadline, Error, Group, GroupWish, Groups, Kind, Result};
use crate::csi::calls::{self, Calls};
use crate::csi::controller::snapshots::{answer, find, timestamp};
use crate::csi::params::GroupParams;
use crate::csi::proto::group_controller_server::GroupController;
use crate::csi::proto::group_controller_service_capability::rpc::Type as Rpc;
use crate::csi::proto::group_controller_service_capability::{self, Type};
use crate::csi::proto::{
    CreateVolumeGroupSnapshotRequest, CreateVolumeGroupSnapshotResponse, DeleteVolumeGroupSnapshotRequest,
    DeleteVolumeGroupSnapshotResponse, GetVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotResponse,
    GroupControllerGetCapabilitiesRequest, GroupControllerGetCapabilitiesResponse,
    GroupControllerServiceCapability, VolumeGroupSnapshot,
};
use crate::csi::{deadline, limits};

/// The GroupController service over a backend.
#[derive(Debug)]
pub struct GroupControllerService<B> {
    backend: Arc<B>,
    calls: Arc<Calls>,
}

impl<B: Groups> GroupControllerService<B> {
    /// Over this backend, with the calls it shares with the other services.
    #[must_use]
    pub fn new(backend: Arc<B>, calls: Arc<Calls>) -> Self {
        Self { backend, calls }
    }
}

#[tonic::async_trait]
impl<B: Groups> GroupController for GroupControllerService<B> {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> std::result::Result<Response<GroupControllerGetCapabilitiesResponse>, Status> {
        let rpc = group_controller_service_capability::Rpc {
            r#type: Rpc::CreateDeleteGetVolumeGroupSnapshot.into(),
        };
        let capabilities = vec![GroupControllerServiceCapability { r#type: Some(Type::Rpc(rpc)) }];
        let work = async { Ok(GroupControllerGetCapabilitiesResponse { capabilities }) };
        self.calls.look("GroupControllerGetCapabilities", work).await
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> std::result::Result<Response<CreateVolumeGroupSnapshotResponse>, Status> {
        let (deadline, request) = (deadline::of(request.metadata()), request.into_inner());
        let backend = Arc::clone(&self.backend);
        let mut keys = vec![calls::group_name(&request.name)];
        keys.extend(request.source_volume_ids.iter().map(|id| calls::volume(id)));
        let work = async move { create(&*backend, &request, deadline).await };
        self.calls.change("CreateVolumeGroupSnapshot", &keys, work).await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> std::result::Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let (deadline, request) = (deadline::of(request.metadata()), request.into_inner());
        let backend = Arc::clone(&self.backend);
        let mut keys = vec![calls::group(&request.group_snapshot_id)];
        keys.extend(request.snapshot_ids.iter().map(|id| calls::snapshot(id)));
        let work = async move { delete(&*backend, &request, deadline).await };
        self.calls.change("DeleteVolumeGroupSnapshot", &keys, work).await
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> std::result::Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.calls.look("GetVolumeGroupSnapshot", get(&*self.backend, &request)).await
    }
}

async fn create<B: Groups>(
    backend: &B,
    request: &CreateVolumeGroupSnapshotRequest,
    deadline: Deadline,
) -> Result<CreateVolumeGroupSnapshotResponse> {
    let name = limits::name("name", &request.name)?;
    let params = GroupParams::read(&request.parameters)?;
    let mut volumes = BTreeSet::new();
    for id in &request.source_volume_ids {
        let id = limits::required("an id of source_volume_ids", id)?;
        let volume = backend.get_volume(id).await?;
        let volume = volume.ok_or_else(|| Error::not_found(format!("there is no volume {id:?}")))?;
        if let Kind::View { snapshot } = volume.kind {
            return Err(Error::precondition(format!(
                "volume {id} shows snapshot {snapshot} and cannot have snapshots of its own"
            )));
        }
        volumes.insert(volume.id);
    }
    if volumes.is_empty() {
        return Err(Error::invalid("source_volume_ids is empty"));
    }
    let wish = GroupWish {
        name: name.to_owned(),
        volumes,
        min_in_sync: params.min_in_sync,
        volume_group_snapshot: params.volume_group_snapshot,
    };
    let group = backend.create_group(&wish, deadline).await?;
    Ok(CreateVolumeGroupSnapshotResponse { group_snapshot: Some(told(&group)) })
}

async fn delete<B: Groups>(
    backend: &B,
    request: &DeleteVolumeGroupSnapshotRequest,
    deadline: Deadline,
) -> Result<DeleteVolumeGroupSnapshotResponse> {
    let id = limits::required("group_snapshot_id", &request.group_snapshot_id)?;
    if let Some(group) = backend.get_group(id, &request.snapshot_ids).await? {
        check_members(backend, &group, &request.snapshot_ids).await?;
    }
    backend.delete_group(id, &request.snapshot_ids, deadline).await?;
    Ok(DeleteVolumeGroupSnapshotResponse {})
}

async fn get<B: Groups>(
    backend: &B,
    request: &GetVolumeGroupSnapshotRequest,
) -> Result<GetVolumeGroupSnapshotResponse> {
    let id = limits::required("group_snapshot_id", &request.group_snapshot_id)?;
    let group = backend.get_group(id, &request.snapshot_ids).await?;
    let group = group.ok_or_else(|| Error::not_found(format!("there is no group snapshot {id:?}")))?;
    check_members(backend, &group, &request.snapshot_ids).await?;
    Ok(GetVolumeGroupSnapshotResponse { group_snapshot: Some(told(&group)) })
}

/// Who names other snapshots than the group has means another group. One that does not exist any more may be named.
async fn check_members<B: Groups>(backend: &B, group: &Group, named: &[String]) -> Result<()> {
    let members: BTreeSet<&str> = group.snapshots.iter().map(|snapshot| snapshot.id.as_str()).collect();
    if let Some(missing) = members.iter().find(|id| !named.iter().any(|name| name == *id)) {
        let message = format!("snapshot {missing} is one of group {} and is not in snapshot_ids", group.id);
        return Err(Error::invalid(message));
    }
    for id in named.iter().filter(|id| !members.contains(id.as_str())) {
        if find(backend, id).await?.is_some() {
            return Err(Error::invalid(format!("snapshot {id} is not one of group {}", group.id)));
        }
    }
    Ok(())
}

fn told(group: &Group) -> VolumeGroupSnapshot {
    VolumeGroupSnapshot {
        group_snapshot_id: group.id.clone(),
        snapshots: group.snapshots.iter().map(answer).collect(),
        creation_time: Some(timestamp(group.cut_unix_nanos)),
        ready_to_use: group.ready,
    }
}
