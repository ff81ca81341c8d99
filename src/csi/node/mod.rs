//! The Node service: volumes as pods see them. What to mount where is decided in [`stage`] and [`publish`], from the
//! kernel's mount table alone.

pub mod linux;
pub mod mounts;
pub mod paths;
pub mod publish;
pub mod stage;
pub mod stats;

use std::path::PathBuf;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::csi::backend::{Devices, Error, KnownVolume, OpenVolume, Result};
use crate::csi::calls::{self, Calls};
use crate::csi::capability::Capability;
use crate::csi::limits;
use crate::csi::node::mounts::Mounts;
use crate::csi::node::publish::Publish;
use crate::csi::node::stage::{Plan, Stage};
use crate::csi::params::Format;
use crate::csi::proto::node_server::Node;
use crate::csi::proto::node_service_capability::rpc::Type as Rpc;
use crate::csi::proto::node_service_capability::{self, Type};
use crate::csi::proto::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability,
    NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse,
};
use crate::csi::topology;
use crate::report::Class;

/// What the Node service can.
const CAPABILITIES: [Rpc; 4] =
    [Rpc::StageUnstageVolume, Rpc::GetVolumeStats, Rpc::ExpandVolume, Rpc::SingleNodeMultiWriter];

/// The Node service over a node's devices and mounts.
#[derive(Debug)]
pub struct NodeService<D, M> {
    devices: Arc<D>,
    mounts: Arc<M>,
    node: String,
    calls: Arc<Calls>,
}

impl<D: Devices, M: Mounts> NodeService<D, M> {
    /// On the node of this name, with the calls it shares with the other services.
    #[must_use]
    pub fn new(devices: Arc<D>, mounts: Arc<M>, node: String, calls: Arc<Calls>) -> Self {
        Self { devices, mounts, node, calls }
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result,
        Err(panic) => Err(Error::new(Class::Internal, format!("a blocking call stopped: {panic}"))),
    }
}

/// The device of a volume that is known and active; it is not activated for this.
///
/// # Errors
/// The device node could not be looked at.
pub fn active(mounts: &dyn Mounts, volume: &KnownVolume) -> Result<Option<OpenVolume>> {
    let Some(device) = volume.device.clone() else { return Ok(None) };
    let view = volume.view;
    let devno = mounts.devno(&device)?;
    Ok(devno.map(|devno| OpenVolume {
        device,
        devno,
        read_only: view,
        view,
        formatting: false,
        clone: false,
    }))
}

/// The volume of an id, or `NotFound`.
async fn existing<D: Devices>(devices: &D, id: &str) -> Result<KnownVolume> {
    devices.find(id).await?.ok_or_else(|| Error::not_found(format!("there is no volume {id:?}")))
}

async fn stage<D: Devices>(
    devices: &D,
    mounts: Arc<impl Mounts>,
    request: NodeStageVolumeRequest,
) -> Result<()> {
    limits::required("volume_id", &request.volume_id)?;
    let staging = paths::read("staging_target_path", &request.staging_target_path)?;
    let capability = Capability::read_one(request.volume_capability.as_ref())?;
    let format = Format::from_context(limits::map("volume_context", &request.volume_context)?)?;
    let volume = devices.open(&request.volume_id).await?;
    let (plan, staged) = {
        let (mounts, volume) = (Arc::clone(&mounts), volume.clone());
        blocking(move || {
            let staging = paths::real(&staging)?;
            let request = Stage { staging: staging.clone(), capability, format };
            Ok((stage::plan(&*mounts, &volume, &request)?, staging))
        })
        .await?
    };
    match plan {
        Plan::Done => blocking(move || stage::follow(&*mounts, &volume, &staged)).await,
        Plan::Node { file } => {
            // Whoever has the raw device may write anything: from now on it is data.
            if volume.formatting {
                devices.note_format(&request.volume_id, false).await?;
            }
            blocking(move || mounts.bind(&volume.device, &file)).await
        }
        Plan::Mount { mount, format } => {
            if let Some(make) = format {
                devices.note_format(&request.volume_id, true).await?;
                let (mounts, device) = (Arc::clone(&mounts), volume.device.clone());
                blocking(move || stage::format(&*mounts, &device, &make)).await?;
                devices.note_format(&request.volume_id, false).await?;
            }
            blocking(move || {
                mounts.mount(&volume.device, &mount.staging, mount.fs, &mount.options)?;
                stage::follow(&*mounts, &volume, &staged)
            })
            .await
        }
    }
}

async fn publish<D: Devices>(
    devices: &D,
    mounts: Arc<impl Mounts>,
    request: NodePublishVolumeRequest,
) -> Result<()> {
    limits::required("volume_id", &request.volume_id)?;
    let target = paths::read("target_path", &request.target_path)?;
    let capability = Capability::read_one(request.volume_capability.as_ref())?;
    let read_only = request.readonly;
    let volume = devices.open(&request.volume_id).await?;
    if request.staging_target_path.is_empty() {
        return Err(Error::precondition(
            "staging_target_path is missing: a volume is staged before it is published",
        ));
    }
    let staging = paths::read("staging_target_path", &request.staging_target_path)?;
    blocking(move || {
        let (staging, target) = (paths::real(&staging)?, paths::real(&target)?);
        publish::publish(&*mounts, &volume, &Publish { staging, target, capability, read_only })
    })
    .await
}

async fn unstage<D: Devices>(
    devices: &D,
    mounts: Arc<impl Mounts>,
    request: NodeUnstageVolumeRequest,
) -> Result<()> {
    limits::required("volume_id", &request.volume_id)?;
    let staging = paths::read("staging_target_path", &request.staging_target_path)?;
    let volume = devices.find(&request.volume_id).await?;
    blocking(move || {
        let device = volume.map(|volume| active(&*mounts, &volume)).transpose()?.flatten();
        stage::unstage(&*mounts, device.as_ref(), &paths::real(&staging)?)
    })
    .await
}

async fn unpublish<D: Devices>(
    devices: &D,
    mounts: Arc<impl Mounts>,
    request: NodeUnpublishVolumeRequest,
) -> Result<()> {
    limits::required("volume_id", &request.volume_id)?;
    let target = paths::read("target_path", &request.target_path)?;
    let volume = devices.find(&request.volume_id).await?;
    blocking(move || {
        let device = volume.map(|volume| active(&*mounts, &volume)).transpose()?.flatten();
        publish::unpublish(&*mounts, device.as_ref(), &paths::real(&target)?)
    })
    .await
}

async fn expand<D: Devices>(
    devices: &D,
    mounts: Arc<impl Mounts>,
    request: NodeExpandVolumeRequest,
) -> Result<NodeExpandVolumeResponse> {
    limits::required("volume_id", &request.volume_id)?;
    limits::path("volume_path", &request.volume_path)?;
    if let Some(capability) = &request.volume_capability {
        Capability::read(capability)?;
    }
    let volume = existing(devices, &request.volume_id).await?;
    blocking(move || stats::expand(&*mounts, &volume, &PathBuf::from(request.volume_path))).await
}

async fn volume_stats<D: Devices>(
    devices: &D,
    mounts: Arc<impl Mounts>,
    request: NodeGetVolumeStatsRequest,
) -> Result<NodeGetVolumeStatsResponse> {
    limits::required("volume_id", &request.volume_id)?;
    limits::path("volume_path", &request.volume_path)?;
    let volume = existing(devices, &request.volume_id).await?;
    blocking(move || stats::stats(&*mounts, &volume, &PathBuf::from(request.volume_path))).await
}

#[tonic::async_trait]
impl<D: Devices, M: Mounts> Node for NodeService<D, M> {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> std::result::Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let (devices, mounts) = (Arc::clone(&self.devices), Arc::clone(&self.mounts));
        let keys = [calls::volume(&request.volume_id)];
        let work =
            async move { stage(&*devices, mounts, request).await.map(|()| NodeStageVolumeResponse {}) };
        self.calls.change("NodeStageVolume", &keys, work).await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> std::result::Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        let (devices, mounts) = (Arc::clone(&self.devices), Arc::clone(&self.mounts));
        let keys = [calls::volume(&request.volume_id)];
        let work =
            async move { unstage(&*devices, mounts, request).await.map(|()| NodeUnstageVolumeResponse {}) };
        self.calls.change("NodeUnstageVolume", &keys, work).await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> std::result::Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let (devices, mounts) = (Arc::clone(&self.devices), Arc::clone(&self.mounts));
        let keys = [calls::volume(&request.volume_id)];
        let work =
            async move { publish(&*devices, mounts, request).await.map(|()| NodePublishVolumeResponse {}) };
        self.calls.change("NodePublishVolume", &keys, work).await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> std::result::Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let (devices, mounts) = (Arc::clone(&self.devices), Arc::clone(&self.mounts));
        let keys = [calls::volume(&request.volume_id)];
        let work = async move {
            unpublish(&*devices, mounts, request).await.map(|()| NodeUnpublishVolumeResponse {})
        };
        self.calls.change("NodeUnpublishVolume", &keys, work).await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> std::result::Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let work = volume_stats(&*self.devices, Arc::clone(&self.mounts), request.into_inner());
        self.calls.look("NodeGetVolumeStats", work).await
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> std::result::Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let (devices, mounts) = (Arc::clone(&self.devices), Arc::clone(&self.mounts));
        let keys = [calls::volume(&request.volume_id)];
        let work = async move { expand(&*devices, mounts, request).await };
        self.calls.change("NodeExpandVolume", &keys, work).await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> std::result::Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capability = |rpc: Rpc| NodeServiceCapability {
            r#type: Some(Type::Rpc(node_service_capability::Rpc { r#type: rpc.into() })),
        };
        let capabilities = CAPABILITIES.map(capability).to_vec();
        self.calls
            .look("NodeGetCapabilities", async { Ok(NodeGetCapabilitiesResponse { capabilities }) })
            .await
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> std::result::Result<Response<NodeGetInfoResponse>, Status> {
        let info = NodeGetInfoResponse {
            node_id: self.node.clone(),
            // No limit: device-mapper has none that matters.
            max_volumes_per_node: 0,
            accessible_topology: Some(topology::of(&self.node)),
        };
        self.calls.look("NodeGetInfo", async { Ok(info) }).await
    }
}
