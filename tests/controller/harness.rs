//! A cluster, and the lives of a controller in it.
//!
//! What survives a life is the API server. Each life has a runtime of its own, whose time passes only when nothing else
//! does; when it ends all tasks are gone at once, as in a process that is killed.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use splitmirror::controller::{self, Config};
use splitmirror::csi::proto::controller_client::ControllerClient;
use splitmirror::csi::proto::group_controller_client::GroupControllerClient;
use splitmirror::csi::proto::identity_client::IdentityClient;
use splitmirror::csi::proto::snapshot_metadata_client::SnapshotMetadataClient;
use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_capability::{AccessMode, AccessType, BlockVolume};
use splitmirror::csi::proto::volume_content_source::{SnapshotSource, Type as Source};
use splitmirror::csi::proto::{
    CapacityRange, ControllerExpandVolumeRequest, CreateSnapshotRequest, CreateVolumeRequest,
    DeleteSnapshotRequest, DeleteVolumeRequest, GetCapacityRequest, Snapshot, Topology, TopologyRequirement,
    Volume, VolumeCapability, VolumeContentSource,
};
use splitmirror::csi::topology::NODE_KEY;
use splitmirror::serve;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Uri};
use tonic::{Code, Status};

use crate::api::ApiServer;
use crate::nodes::Nodes;

/// How long a call waits for a node.
pub const TIMEOUT: Duration = Duration::from_secs(110);

/// What survives a controller.
pub struct Cluster {
    pub server: ApiServer,
    pub nodes: Nodes,
    dir: TempDir,
}

impl Cluster {
    /// With nodes `a`, `b` and `c`, each with a pool `fast` of three disks, `b` with the most room.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a place for files");
        let cluster = Self { server: ApiServer::default(), nodes: Nodes::default(), dir };
        for (node, room) in [("a", "100Gi"), ("b", "200Gi"), ("c", "50Gi")] {
            cluster.node(node);
            cluster.pool(node, "fast", room);
        }
        cluster
    }

    /// A Node object.
    pub fn node(&self, name: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.server.put("nodes", &node);
    }

    /// A pool with so much room for two and three images.
    pub fn pool(&self, node: &str, group: &str, room: &str) {
        let capacity = |images: u8| json!({"images": images, "available": room, "largest": room});
        let pool = json!({
            "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorPool",
            "metadata": {"name": format!("{node}.{group}")},
            "spec": {"node": node, "volumeGroup": group},
            "status": {
                "diskCount": 3, "capacity": [capacity(2), capacity(3)],
                "conditions": [{"type": "Ready", "status": "True", "reason": "Open", "message": "",
                                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        });
        self.server.put("mirrorpools", &pool);
    }

    /// A life of the controller, in which `story` happens. It is killed at the end.
    pub fn life<T>(&self, story: impl AsyncFnOnce(&mut Driver<'_>) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("threads");
        runtime.block_on(async {
            tokio::spawn(self.nodes.clone().play(self.server.clone()));
            let mut driver = self.replica("csi.sock").await;
            story(&mut driver).await
        })
    }

    /// One more controller, on a socket of its own. It knows all objects.
    pub async fn replica(&self, socket: &str) -> Driver<'_> {
        let mut driver = self.started(socket).await;
        driver.controller.get_capacity(GetCapacityRequest::default()).await.expect("all objects are known");
        driver
    }

    /// The same, at its start.
    pub async fn started(&self, socket: &str) -> Driver<'_> {
        let path = self.dir.path().join(socket);
        // A process that is killed leaves its socket.
        drop(std::fs::remove_file(&path));
        let endpoint = path.display().to_string().parse().expect("absolute");
        let config = Config { endpoint, metrics: None, timeout: TIMEOUT, agent_token: Some(self.token()) };
        let stop = CancellationToken::new();
        let served = tokio::spawn(controller::serve(config, self.server.client(), stop.clone()));
        let channel = connect(path).await;
        let (identity, groups) =
            (IdentityClient::new(channel.clone()), GroupControllerClient::new(channel.clone()));
        let metadata = SnapshotMetadataClient::new(channel.clone());
        let controller = ControllerClient::new(channel);
        Driver { cluster: self, identity, controller, groups, metadata, stop, served }
    }

    /// The file with the token that agents are asked with.
    pub fn token(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    /// An object.
    pub fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.server.get(resource, name)
    }

    /// What the controller has written since the log was cleared, a line each.
    pub fn writes(&self) -> Vec<String> {
        self.server.writes().iter().map(|request| request.line()).collect()
    }
}

/// A running controller, and a client of it.
pub struct Driver<'a> {
    pub cluster: &'a Cluster,
    pub identity: IdentityClient<Channel>,
    pub controller: ControllerClient<Channel>,
    pub groups: GroupControllerClient<Channel>,
    pub metadata: SnapshotMetadataClient<Channel>,
    stop: CancellationToken,
    served: JoinHandle<Result<(), serve::Error>>,
}

impl Driver<'_> {
    /// Stops it in an orderly way.
    pub async fn stop(self) {
        let Self { identity, controller, groups, metadata, stop, served, .. } = self;
        drop((identity, controller, groups, metadata));
        stop.cancel();
        served.await.expect("no panic").expect("it serves");
    }

    /// Tells it to stop, and goes on.
    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    pub async fn create(&mut self, request: CreateVolumeRequest) -> Result<Volume, Status> {
        let created = self.controller.create_volume(request).await?;
        Ok(created.into_inner().volume.expect("it is told"))
    }

    /// A volume of 64 MiB with three images.
    pub async fn volume(&mut self, name: &str) -> Volume {
        self.create(volume(name)).await.expect("there is room")
    }

    pub async fn delete(&mut self, id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: id.to_owned(), ..DeleteVolumeRequest::default() };
        self.controller.delete_volume(request).await.map(drop)
    }

    pub async fn split(&mut self, request: CreateSnapshotRequest) -> Result<Snapshot, Status> {
        let created = self.controller.create_snapshot(request).await?;
        Ok(created.into_inner().snapshot.expect("it is told"))
    }

    /// A snapshot.
    pub async fn snapshot(&mut self, name: &str, volume: &str) -> Snapshot {
        self.split(snapshot(name, volume)).await.expect("an image can be spared")
    }

    pub async fn merge(&mut self, id: &str) -> Result<(), Status> {
        let request =
            DeleteSnapshotRequest { snapshot_id: id.to_owned(), ..DeleteSnapshotRequest::default() };
        self.controller.delete_snapshot(request).await.map(drop)
    }

    pub async fn expand(&mut self, id: &str, required: i64, limit: i64) -> Result<i64, Status> {
        let request = ControllerExpandVolumeRequest {
            volume_id: id.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: required, limit_bytes: limit }),
            ..ControllerExpandVolumeRequest::default()
        };
        Ok(self.controller.controller_expand_volume(request).await?.into_inner().capacity_bytes)
    }
}

async fn connect(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            // The task that makes the socket may not have run yet.
            loop {
                match UnixStream::connect(&path).await {
                    Ok(stream) => return Ok::<_, std::io::Error>(TokioIo::new(stream)),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }
    });
    tonic::transport::Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// A request for 64 MiB with three images.
pub fn volume(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 64 << 20, limit_bytes: 0 }),
        volume_capabilities: vec![block(Mode::SingleNodeWriter)],
        parameters: [("splitmirror.io/images".to_owned(), "3".to_owned())].into(),
        ..CreateVolumeRequest::default()
    }
}

/// The same, on one of these nodes, the first most of all.
pub fn volume_on(name: &str, nodes: &[&str]) -> CreateVolumeRequest {
    CreateVolumeRequest { accessibility_requirements: Some(on(nodes)), ..volume(name) }
}

/// A request for a view of a snapshot.
pub fn view(name: &str, snapshot: &str) -> CreateVolumeRequest {
    let source = Source::Snapshot(SnapshotSource { snapshot_id: snapshot.to_owned() });
    CreateVolumeRequest {
        name: name.to_owned(),
        volume_capabilities: vec![block(Mode::MultiNodeReaderOnly)],
        volume_content_source: Some(VolumeContentSource { r#type: Some(source) }),
        ..CreateVolumeRequest::default()
    }
}

/// A request for a snapshot.
pub fn snapshot(name: &str, volume: &str) -> CreateSnapshotRequest {
    CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume.to_owned(),
        ..CreateSnapshotRequest::default()
    }
}

/// On one of these nodes.
pub fn on(nodes: &[&str]) -> TopologyRequirement {
    let topologies: Vec<Topology> = nodes.iter().map(|node| topology(node)).collect();
    TopologyRequirement { requisite: topologies.clone(), preferred: topologies }
}

pub fn topology(node: &str) -> Topology {
    Topology { segments: [(NODE_KEY.to_owned(), node.to_owned())].into() }
}

fn block(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Block(BlockVolume {})),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// Fails unless a call was refused with this code, and a message that says this.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, says: &str) {
    let status = result.expect_err("it is refused");
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(says), "{says:?} is not in {:?}", status.message());
}
