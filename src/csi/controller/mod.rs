//! The Controller service: volumes and snapshots by request. [`volumes`] and [`snapshots`] check the requests and
//! word the answers; what happens on disks is the [`Backend`]'s.

pub mod snapshots;
pub mod volumes;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::csi::backend::Backend;
use crate::csi::calls::{self, Calls};
use crate::csi::deadline;
use crate::csi::proto::controller_server::Controller;
use crate::csi::proto::controller_service_capability::rpc::Type as Rpc;
use crate::csi::proto::controller_service_capability::{self, Type};
use crate::csi::proto::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, ControllerGetVolumeRequest, ControllerGetVolumeResponse,
    ControllerModifyVolumeRequest, ControllerModifyVolumeResponse, ControllerServiceCapability,
    CreateSnapshotRequest, CreateSnapshotResponse, CreateVolumeRequest, CreateVolumeResponse,
    DeleteSnapshotRequest, DeleteSnapshotResponse, DeleteVolumeRequest, DeleteVolumeResponse,
    GetCapacityRequest, GetCapacityResponse, GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest,
    ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse,
};

/// What the Controller service can.
const CAPABILITIES: [Rpc; 11] = [
    Rpc::CreateDeleteVolume,
    Rpc::ListVolumes,
    Rpc::GetCapacity,
    Rpc::CreateDeleteSnapshot,
    Rpc::ListSnapshots,
    Rpc::GetSnapshot,
    Rpc::ExpandVolume,
    Rpc::CloneVolume,
    Rpc::SingleNodeMultiWriter,
    Rpc::GetVolume,
    Rpc::ModifyVolume,
];

/// The Controller service over a backend.
#[derive(Debug)]
pub struct ControllerService<B> {
    backend: Arc<B>,
    calls: Arc<Calls>,
}

impl<B: Backend> ControllerService<B> {
    /// Over this backend, with the calls it shares with the other services.
    #[must_use]
    pub fn new(backend: Arc<B>, calls: Arc<Calls>) -> Self {
        Self { backend, calls }
    }
}

#[tonic::async_trait]
impl<B: Backend> Controller for ControllerService<B> {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let (deadline, request) = (deadline::of(request.metadata()), request.into_inner());
        let backend = Arc::clone(&self.backend);
        let mut keys = vec![calls::volume_name(&request.name)];
        keys.extend(volumes::source_snapshot(&request).map(calls::snapshot));
        keys.extend(volumes::source_volume(&request).map(calls::volume));
        let work = async move { volumes::create(&*backend, &request, deadline).await };
        self.calls.change("CreateVolume", &keys, work).await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let (deadline, request) = (deadline::of(request.metadata()), request.into_inner());
        let backend = Arc::clone(&self.backend);
        let keys = [calls::volume(&request.volume_id)];
        let work = async move { volumes::delete(&*backend, &request, deadline).await };
        self.calls.change("DeleteVolume", &keys, work).await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        self.calls.look("ValidateVolumeCapabilities", volumes::validate(&*self.backend, request)).await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        self.calls.look("ListVolumes", volumes::list(&*self.backend, &request)).await
    }

    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        let request = request.into_inner();
        self.calls.look("ControllerGetVolume", volumes::get(&*self.backend, &request)).await
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let request = request.into_inner();
        self.calls.look("GetCapacity", volumes::capacity(&*self.backend, &request)).await
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capability = |rpc: Rpc| ControllerServiceCapability {
            r#type: Some(Type::Rpc(controller_service_capability::Rpc { r#type: rpc.into() })),
        };
        let capabilities = CAPABILITIES.into_iter().map(capability).collect();
        let work = async { Ok(ControllerGetCapabilitiesResponse { capabilities }) };
        self.calls.look("ControllerGetCapabilities", work).await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let (deadline, request) = (deadline::of(request.metadata()), request.into_inner());
        let backend = Arc::clone(&self.backend);
        let keys = [calls::volume(&request.volume_id)];
        let work = async move { volumes::expand(&*backend, &request, deadline).await };
        self.calls.change("ControllerExpandVolume", &keys, work).await
    }

    async fn controller_modify_volume(
        &self,
        request: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        let (deadline, request) = (deadline::of(request.metadata()), request.into_inner());
        let backend = Arc::clone(&self.backend);
        let keys = [calls::volume(&request.volume_id)];
        let work = async move { volumes::modify(&*backend, &request, deadline).await };
        self.calls.change("ControllerModifyVolume", &keys, work).await
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let (deadline, request) = (deadline::of(request.metadata()), request.into_inner());
        let backend = Arc::clone(&self.backend);
        let keys = [calls::snapshot_name(&request.name), calls::volume(&request.source_volume_id)];
        let work = async move { snapshots::create(&*backend, &request, deadline).await };
        self.calls.change("CreateSnapshot", &keys, work).await
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let (deadline, request) = (deadline::of(request.metadata()), request.into_inner());
        let backend = Arc::clone(&self.backend);
        let keys = [calls::snapshot(&request.snapshot_id)];
        let work = async move { snapshots::delete(&*backend, &request, deadline).await };
        self.calls.change("DeleteSnapshot", &keys, work).await
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        self.calls.look("ListSnapshots", snapshots::list(&*self.backend, &request)).await
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.calls.look("GetSnapshot", snapshots::get(&*self.backend, &request)).await
    }
}
