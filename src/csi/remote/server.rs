//! The agent's end: TLS, the token, and the service behind them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::csi::backend::{ChangedBlocks, Result as BackendResult};
use crate::csi::calls::Calls;
use crate::csi::proto::snapshot_metadata_server::{SnapshotMetadata, SnapshotMetadataServer};
use crate::csi::proto::{
    GetMetadataAllocatedRequest, GetMetadataAllocatedResponse, GetMetadataDeltaRequest,
    GetMetadataDeltaResponse,
};
use crate::csi::remote::identity::Identity;
use crate::csi::remote::{ALIVE_EVERY, ALIVE_MAX, AgentAddress, GREETING_MAX, TOKEN_FIELD, TOKEN_KIND};
use crate::csi::snapshot_metadata::SnapshotMetadataService;
use crate::report::Class;

/// Calls at a time on one connection: the controller makes one for each.
const CALLS_MAX: u32 = 2;
/// Most bytes in the fields of a request: a token has one or two KiB.
const FIELDS_MAX: u32 = 16 << 10;

/// Why blocks are not told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port.
    #[error("listen on {address} for the controller")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The certificate.
    #[error("make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// The server stopped.
    #[error("serve the controller")]
    Serve(#[source] tonic::transport::Error),
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Listen { .. } | Self::Serve(_) => Class::Transient,
            Self::Certificate(_) => Class::Internal,
        }
    }
}

/// What is thought of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the controller's.
    Admitted,
    /// It is somebody else's.
    SomebodyElse,
    /// It is nobody's, or not made for this.
    Nobody,
}

/// Who says whose token it is.
pub trait Doorkeeper: Send + Sync + 'static {
    /// What is thought of a token. An error: nobody knows.
    fn admit(&self, token: &str) -> impl Future<Output = BackendResult<Admission>> + Send;
}

/// A port that is listened on, and how whoever serves there is known.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    identity: Identity,
}

impl Listener {
    /// Listens on an address, with a new certificate; port 0 is any free one.
    ///
    /// # Errors
    /// The kernel refused, or there is no randomness.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address, source };
        let identity = Identity::new().map_err(Error::Certificate)?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, identity })
    }

    /// What the controller must be told.
    #[must_use]
    pub fn address(&self) -> AgentAddress {
        AgentAddress { address: self.address, certificate: self.identity.certificate.clone() }
    }
}

/// Tells the controller the blocks of snapshots until `stop` is cancelled. Streams that run then are cut: they can be taken up
/// again anywhere.
///
/// # Errors
/// The server failed.
pub async fn serve<B: ChangedBlocks>(
    listener: Listener,
    backend: Arc<B>,
    calls: Arc<Calls>,
    door: impl Doorkeeper,
    stop: CancellationToken,
) -> Result<(), Error> {
    let Listener { listener, address, identity } = listener;
    tracing::info!(%address, "serving the controller");
    let service = Guarded { service: SnapshotMetadataService::new(backend, calls), door };
    let tls = ServerTlsConfig::new().identity(identity.tls()).timeout(GREETING_MAX);
    let serving = Server::builder()
        .tls_config(tls)
        .map_err(Error::Serve)?
        .max_concurrent_streams(CALLS_MAX)
        .http2_max_header_list_size(FIELDS_MAX)
        .http2_keepalive_interval(Some(ALIVE_EVERY))
        .http2_keepalive_timeout(Some(ALIVE_MAX))
        .add_service(SnapshotMetadataServer::new(service))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::select! {
        served = serving => served.map_err(Error::Serve),
        () = stop.cancelled() => Ok(()),
    }
}

/// A service behind a door.
struct Guarded<S, D> {
    service: S,
    door: D,
}

impl<S, D: Doorkeeper> Guarded<S, D> {
    /// Lets the controller in. Whoever else asks learns nothing but that.
    async fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let field = metadata.get(TOKEN_FIELD).and_then(|value| value.to_str().ok());
        let admission = match field.and_then(|field| field.strip_prefix(TOKEN_KIND)) {
            None => Admission::Nobody,
            Some(token) => self.door.admit(token).await.map_err(|error| {
                tracing::warn!(error.class = error.class.as_str(), "a caller cannot be known: {error}");
                Status::unavailable("whose token it is cannot be known now: try again")
            })?,
        };
        match admission {
            Admission::Admitted => Ok(()),
            Admission::SomebodyElse => {
                tracing::warn!("somebody other than the controller asked for blocks, and was refused");
                Err(Status::permission_denied("only the controller is told"))
            }
            Admission::Nobody => {
                tracing::warn!(
                    "somebody without a token of the controller asked for blocks, and was refused"
                );
                Err(Status::unauthenticated("a token of the controller is needed"))
            }
        }
    }
}

#[tonic::async_trait]
impl<S: SnapshotMetadata, D: Doorkeeper> SnapshotMetadata for Guarded<S, D> {
    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Result<Response<BoxStream<GetMetadataAllocatedResponse>>, Status> {
        self.admit(request.metadata()).await?;
        self.service.get_metadata_allocated(request).await
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Result<Response<BoxStream<GetMetadataDeltaResponse>>, Status> {
        self.admit(request.metadata()).await?;
        self.service.get_metadata_delta(request).await
    }
}
