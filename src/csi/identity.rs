//! The Identity service: who we are and what we can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::{Request, Response, Status};

use crate::csi::DRIVER;
use crate::csi::calls::Calls;
use crate::csi::proto::identity_server::Identity;
use crate::csi::proto::plugin_capability::service::Type as Service;
use crate::csi::proto::plugin_capability::volume_expansion::Type as Expansion;
use crate::csi::proto::plugin_capability::{self, Type};
use crate::csi::proto::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
};

/// The Identity service.
#[derive(Debug)]
pub struct IdentityService {
    /// The services that are served beside it.
    services: Vec<Service>,
    ready: Arc<AtomicBool>,
    calls: Arc<Calls>,
}

impl IdentityService {
    /// With the calls it shares with the other services, some of which callers are told of. Until `ready` is set, callers are
    /// told to wait.
    #[must_use]
    pub fn new(services: Vec<Service>, ready: Arc<AtomicBool>, calls: Arc<Calls>) -> Self {
        Self { services, ready, calls }
    }
}

fn service(service: Service) -> PluginCapability {
    PluginCapability { r#type: Some(Type::Service(plugin_capability::Service { r#type: service.into() })) }
}

fn expansion(expansion: Expansion) -> PluginCapability {
    let expansion = plugin_capability::VolumeExpansion { r#type: expansion.into() };
    PluginCapability { r#type: Some(Type::VolumeExpansion(expansion)) }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let info = GetPluginInfoResponse {
            name: DRIVER.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: Default::default(),
        };
        self.calls.look("GetPluginInfo", async { Ok(info) }).await
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let mut capabilities =
            vec![service(Service::VolumeAccessibilityConstraints), expansion(Expansion::Online)];
        capabilities.extend(self.services.iter().copied().map(service));
        self.calls
            .look("GetPluginCapabilities", async { Ok(GetPluginCapabilitiesResponse { capabilities }) })
            .await
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let ready = self.ready.load(Ordering::Relaxed);
        self.calls.look("Probe", async { Ok(ProbeResponse { ready: Some(ready) }) }).await
    }
}
