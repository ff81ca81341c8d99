//! The socket: one gRPC server with all services, stopped without cutting a call short.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::transport::Server;

use crate::csi::backend::{Backend, ChangedBlocks, Devices, Groups};
use crate::csi::calls::Calls;
use crate::csi::controller::ControllerService;
use crate::csi::groups::GroupControllerService;
use crate::csi::identity::IdentityService;
use crate::csi::node::NodeService;
use crate::csi::node::mounts::Mounts;
use crate::csi::proto::controller_server::ControllerServer;
use crate::csi::proto::group_controller_server::GroupControllerServer;
use crate::csi::proto::identity_server::IdentityServer;
use crate::csi::proto::node_server::NodeServer;
use crate::csi::proto::plugin_capability::service::Type as Service;
use crate::csi::proto::snapshot_metadata_server::SnapshotMetadataServer;
use crate::csi::snapshot_metadata::SnapshotMetadataService;
use crate::report::Class;

/// How long answers may take to reach callers that do not hang up by themselves.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Who may use the socket: owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Why the server could not be started, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is not one that can be served.
    #[error("endpoint {endpoint:?} is not a unix socket with an absolute path, such as unix:///run/csi.sock")]
    Endpoint {
        /// As it was given.
        endpoint: String,
    },
    /// Another process serves there.
    #[error("{} is in use: another process answers on it", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// A file of another kind is there.
    #[error("{} exists and is not a socket: it is left as it is", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("{what} {}", path.display())]
    Socket {
        /// What was tried.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The server stopped.
    #[error("serve gRPC")]
    Serve(#[source] tonic::transport::Error),
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Endpoint { .. } => Class::Invalid,
            Self::InUse { .. } | Self::NotASocket { .. } => Class::Precondition,
            Self::Socket { .. } | Self::Serve(_) => Class::Transient,
        }
    }
}

/// Where to serve: the path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

impl FromStr for Endpoint {
    type Err = Error;

    /// Reads `unix:///path`, `unix:/path` or `/path`.
    fn from_str(endpoint: &str) -> Result<Self, Error> {
        let path = endpoint.strip_prefix("unix:").unwrap_or(endpoint);
        let path = path.strip_prefix("//").unwrap_or(path);
        if Path::new(path).is_absolute() && Path::new(path).file_name().is_some() {
            Ok(Self(PathBuf::from(path)))
        } else {
            Err(Error::Endpoint { endpoint: endpoint.to_owned() })
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

/// A socket that is listened on. Dropping it removes the socket.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: Remove,
}

#[derive(Debug)]
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("the socket {} was not removed: {error}", self.0.display());
        }
    }
}

impl Socket {
    /// Listens on the endpoint. What an earlier process left there is removed when nobody answers on it.
    ///
    /// # Errors
    /// Another process serves there, something else is there, or the kernel refused.
    pub fn bind(Endpoint(path): &Endpoint) -> Result<Self, Error> {
        let failed = |what| move |source| Error::Socket { what, path: path.clone(), source };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at")(error)),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(Error::NotASocket { path: path.clone() });
            }
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(Error::InUse { path: path.clone() }),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(failed("remove the stale socket"))?;
                }
                Err(error) => return Err(failed("connect to")(error)),
            },
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
        let socket = Self { listener, path: Remove(path.clone()) };
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).map_err(failed("set the mode of"))?;
        Ok(socket)
    }
}

/// The services on one socket: Identity always, the others as they are added.
#[derive(Debug)]
pub struct Services {
    routes: RoutesBuilder,
    told: Vec<Service>,
    ready: Arc<AtomicBool>,
    calls: Arc<Calls>,
}

impl Services {
    /// Identity alone; the services share these calls.
    #[must_use]
    pub fn new(calls: Arc<Calls>) -> Self {
        Self { routes: RoutesBuilder::default(), told: Vec::new(), ready: Arc::new(true.into()), calls }
    }

    /// Callers are told to wait until `ready` is set. For what takes long: a sidecar gives up a socket on which nobody
    /// answers within a second.
    #[must_use]
    pub fn ready_when(self, ready: Arc<AtomicBool>) -> Self {
        Self { ready, ..self }
    }

    /// And Controller.
    #[must_use]
    pub fn controller<B: Backend>(mut self, backend: Arc<B>) -> Self {
        let service = ControllerService::new(backend, Arc::clone(&self.calls));
        self.routes.add_service(ControllerServer::new(service));
        self.told.push(Service::ControllerService);
        self
    }

    /// And SnapshotMetadata.
    #[must_use]
    pub fn snapshot_metadata<B: ChangedBlocks>(mut self, backend: Arc<B>) -> Self {
        let service = SnapshotMetadataService::new(backend, Arc::clone(&self.calls));
        self.routes.add_service(SnapshotMetadataServer::new(service));
        self.told.push(Service::SnapshotMetadataService);
        self
    }

    /// And GroupController.
    #[must_use]
    pub fn groups<B: Groups>(mut self, backend: Arc<B>) -> Self {
        let service = GroupControllerService::new(backend, Arc::clone(&self.calls));
        self.routes.add_service(GroupControllerServer::new(service));
        self.told.push(Service::GroupControllerService);
        self
    }

    /// And Node, on the node of this name.
    #[must_use]
    pub fn node<D: Devices, M: Mounts>(mut self, devices: Arc<D>, mounts: Arc<M>, node: String) -> Self {
        let service = NodeService::new(devices, mounts, node, Arc::clone(&self.calls));
        self.routes.add_service(NodeServer::new(service));
        self
    }
}

/// Serves until `stop` is cancelled and all calls that run then have ended. Callers that keep their connections open
/// do not keep it from ending.
///
/// # Errors
/// The server failed.
pub async fn serve(socket: Socket, services: Services, stop: CancellationToken) -> Result<(), Error> {
    let Services { mut routes, told, ready, calls } = services;
    routes.add_service(IdentityServer::new(IdentityService::new(told, ready, Arc::clone(&calls))));
    let Socket { listener, path } = socket;
    let waited = Arc::clone(&calls);
    let serving = Server::builder()
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
    let ended = async {
        stop.cancelled().await;
        // The path goes first, so that nobody new connects; connections that are open are told to go.
        drop(path);
        waited.drained().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    let served = tokio::select! {
        served = serving => served.map_err(Error::Serve),
        () = ended => Ok(()),
    };
    // Those whose callers have hung up.
    calls.drained().await;
    served
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(dir: &tempfile::TempDir) -> Endpoint {
        Endpoint(dir.path().join("csi.sock"))
    }

    #[test]
    fn endpoints_are_unix_sockets() {
        for text in ["unix:///run/csi.sock", "unix:/run/csi.sock", "/run/csi.sock"] {
            assert_eq!(text.parse::<Endpoint>().ok(), Some(Endpoint("/run/csi.sock".into())), "{text}");
        }
        for text in ["", "unix://", "unix:///", "csi.sock", "unix://csi.sock", "tcp://127.0.0.1:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_socket_in_use_is_refused_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().expect("a place for files");
        let endpoint = endpoint(&dir);
        let first = Socket::bind(&endpoint).expect("free");
        let mode = fs::metadata(&endpoint.0).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert!(matches!(Socket::bind(&endpoint), Err(Error::InUse { .. })));
        drop(first);
        assert!(!endpoint.0.exists());
        drop(std::os::unix::net::UnixListener::bind(&endpoint.0).expect("free again"));
        assert!(endpoint.0.exists(), "a listener that was killed leaves its socket");
        Socket::bind(&endpoint).expect("stale");
    }

    #[tokio::test]
    async fn another_file_at_the_path_is_left_alone() {
        let dir = tempfile::tempdir().expect("a place for files");
        let endpoint = endpoint(&dir);
        fs::write(&endpoint.0, "data").expect("fresh");
        assert!(matches!(Socket::bind(&endpoint), Err(Error::NotASocket { .. })));
        assert!(endpoint.0.is_file());
    }
}
