//! A server on a socket of its own, and clients of it.

use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use splitmirror::csi::calls::Calls;
use splitmirror::csi::proto::controller_client::ControllerClient;
use splitmirror::csi::proto::group_controller_client::GroupControllerClient;
use splitmirror::csi::proto::identity_client::IdentityClient;
use splitmirror::csi::proto::node_client::NodeClient;
use splitmirror::csi::proto::snapshot_metadata_client::SnapshotMetadataClient;
use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use splitmirror::csi::proto::{
    CapacityRange, CreateSnapshotRequest, CreateVolumeRequest, Snapshot, Volume, VolumeCapability,
};
use splitmirror::csi::server::{self, Endpoint, Services, Socket};
use splitmirror::metrics::Operations;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Uri};
use tonic::{Code, Response, Status};

use crate::fake::{Kernel, Volumes};

/// The node's name.
pub const NODE: &str = "node-a";

/// What survives when the process is killed: volumes, the kernel's mounts, files.
pub struct Machine {
    pub volumes: Arc<Volumes>,
    pub kernel: Arc<Kernel>,
    pub dir: TempDir,
}

/// A running server, and clients of it.
pub struct Driver {
    pub machine: Machine,
    pub identity: IdentityClient<Channel>,
    pub controller: ControllerClient<Channel>,
    pub groups: GroupControllerClient<Channel>,
    pub node: NodeClient<Channel>,
    pub metadata: SnapshotMetadataClient<Channel>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Driver {
    /// On a fresh machine.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a place for files");
        Self::on(Machine { volumes: Arc::default(), kernel: Arc::default(), dir }).await
    }

    async fn on(machine: Machine) -> Self {
        let path = machine.dir.path().join("csi.sock");
        let endpoint: Endpoint = format!("unix://{}", path.display()).parse().expect("absolute");
        let socket = Socket::bind(&endpoint).expect("nobody else has it");
        let (volumes, kernel) = (&machine.volumes, &machine.kernel);
        let services = Services::new(Calls::new(Operations::default()))
            .controller(Arc::clone(volumes))
            .snapshot_metadata(Arc::clone(volumes))
            .groups(Arc::clone(volumes))
            .node(Arc::clone(volumes), Arc::clone(kernel), NODE.to_owned());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let served = tokio::spawn(async move {
            server::serve(socket, services, stopped).await.expect("it serves");
        });
        let channel = connect(path).await;
        Self {
            machine,
            identity: IdentityClient::new(channel.clone()),
            controller: ControllerClient::new(channel.clone()),
            groups: GroupControllerClient::new(channel.clone()),
            node: NodeClient::new(channel.clone()),
            metadata: SnapshotMetadataClient::new(channel),
            stop,
            served,
        }
    }

    /// Stops the server and starts a new one on the same machine.
    pub async fn restart(self) -> Self {
        let Self { machine, identity, controller, groups, node, metadata, stop, served } = self;
        drop((identity, controller, groups, node, metadata));
        stop.cancel();
        served.await.expect("it stopped");
        Self::on(machine).await
    }

    /// A path below the test's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.machine.dir.path().canonicalize().expect("it exists").join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("plain").to_owned()
    }

    /// Makes a volume of 64 MiB with three images.
    pub async fn volume(&mut self, name: &str) -> Volume {
        let created = self.controller.create_volume(volume_request(name)).await.expect("there is space");
        created.into_inner().volume.expect("it is told")
    }

    /// Takes a snapshot.
    pub async fn snapshot(&mut self, name: &str, volume: &str) -> Snapshot {
        let request = snapshot_request(name, volume);
        let created = self.controller.create_snapshot(request).await.expect("an image can be spared");
        created.into_inner().snapshot.expect("it is told")
    }
}

async fn connect(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    tonic::transport::Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .expect("it listens")
}

/// A request for 64 MiB with three images.
pub fn volume_request(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: range(64 << 20, 0),
        volume_capabilities: vec![mount(Mode::SingleNodeWriter, "")],
        parameters: [("splitmirror.io/images".to_owned(), "3".to_owned())].into(),
        ..CreateVolumeRequest::default()
    }
}

/// A request for a snapshot.
pub fn snapshot_request(name: &str, volume: &str) -> CreateSnapshotRequest {
    CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume.to_owned(),
        ..CreateSnapshotRequest::default()
    }
}

/// Least and most bytes.
pub fn range(required_bytes: i64, limit_bytes: i64) -> Option<CapacityRange> {
    Some(CapacityRange { required_bytes, limit_bytes })
}

/// Use as a file system.
pub fn mount(mode: Mode, fs_type: &str) -> VolumeCapability {
    let mount = MountVolume { fs_type: fs_type.to_owned(), ..MountVolume::default() };
    VolumeCapability {
        access_type: Some(AccessType::Mount(mount)),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// Use as a block device.
pub fn block(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Block(BlockVolume {})),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// The code of an answer.
pub fn code<T>(answer: &Result<Response<T>, Status>) -> Code {
    answer.as_ref().map_or_else(Status::code, |_| Code::Ok)
}
