//! A machine with an agent on it, and a test that plays the controller.
//!
//! What survives a life of the agent is the [`Machine`] and the API server. Each life has a runtime of its own, whose time
//! passes only when nothing else does; when it ends all tasks are gone at once, as in a process that is killed.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use splitmirror::csi::proto::node_client::NodeClient;
use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_capability::{AccessMode, AccessType, BlockVolume};
use splitmirror::csi::proto::{NodeStageVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability};
use splitmirror::engine::{Engine, Settings, pool};
use splitmirror::host::sim::SimHost;
use splitmirror::ids::VgName;
use splitmirror::node::{self, BlocksConfig, Config};
use splitmirror::units::Bytes;
use splitmirror::volume::info::VolumeInfo;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Uri};

use crate::api::ApiServer;
use crate::kernel::Kernel;

/// The node's name.
pub const NODE: &str = "node-a";
/// The controller's user.
pub const CONTROLLER: &str = "system:serviceaccount:ns:controller";
/// The group's name.
pub const VG: &str = "vg";

/// A machine, and the API server of its cluster.
pub struct Machine {
    pub host: SimHost,
    pub kernel: Kernel,
    pub server: ApiServer,
    pub dir: TempDir,
    /// Who the agent is.
    pub identity: String,
    /// The agent tells the controller the blocks of snapshots.
    pub tells_blocks: bool,
}

impl Machine {
    /// With four disks of 16 MiB, of which the file means three for a pool.
    pub fn new() -> Self {
        let host = SimHost::new(1);
        host.sync_speed(16_384);
        let disks: Vec<PathBuf> = (0..4).map(|_| host.add_disk(Bytes::mib(16))).collect();
        let dir = tempfile::tempdir().expect("a place for files");
        let machine = Self {
            host,
            kernel: Kernel::default(),
            server: ApiServer::default(),
            dir,
            identity: "boot-1".into(),
            tells_blocks: false,
        };
        machine.write_pools(&json!([{"volumeGroup": VG, "devices": disks[..3]}]));
        machine
    }

    /// The same, with the pool made already: extents are small.
    pub fn with_pool() -> Self {
        let machine = Self::new();
        let options = pool::Options { extent_size: Bytes::kib(512), ..pool::Options::default() };
        let disks: Vec<PathBuf> = ["/dev/sda", "/dev/sdb", "/dev/sdc"].map(PathBuf::from).to_vec();
        pool::create(&machine.host, &vg(), &disks, &options).expect("blank disks");
        machine
    }

    /// The same, of all four disks.
    pub fn with_wide_pool() -> Self {
        let machine = Self::with_pool();
        let options = pool::Options::default();
        pool::extend(&machine.host, &vg(), &["/dev/sdd".into()], &options).expect("a blank disk");
        let disks = ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"];
        machine.write_pools(&json!([{"volumeGroup": VG, "devices": disks}]));
        machine
    }

    /// Writes the file of pools.
    pub fn write_pools(&self, pools: &Value) {
        std::fs::write(self.dir.path().join("pools.json"), pools.to_string()).expect("room");
    }

    /// A life of the agent, in which `story` happens. It is killed at the end.
    pub fn life<T>(&self, story: impl AsyncFnOnce(&Agent<'_>) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("threads");
        runtime.block_on(async {
            let agent = self.agent();
            story(&agent).await
        })
    }

    /// As another process would find the machine after the agent was killed.
    pub fn killed(&self) {
        self.host.restart_process();
        drop(std::fs::remove_file(self.socket()));
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("csi.sock")
    }

    /// Starts an agent.
    pub fn agent(&self) -> Agent<'_> {
        let config = Config {
            node: NODE.to_owned(),
            identity: self.identity.clone(),
            endpoint: self.socket().display().to_string().parse().expect("absolute"),
            pools: Some(self.dir.path().join("pools.json")),
            settings: Settings::default(),
            metrics: None,
            blocks: self.tells_blocks.then(|| BlocksConfig {
                address: "127.0.0.1:0".parse().expect("an address"),
                controller: CONTROLLER.to_owned(),
            }),
        };
        let stop = CancellationToken::new();
        let kernel = self.kernel.clone();
        let served = node::serve(config, self.host.clone(), kernel, self.server.client(), stop.clone());
        Agent { machine: self, stop, served: tokio::spawn(served) }
    }

    /// From now on time passes on the machine as it does for the agent, not only when the agent asks it something.
    pub fn let_time_pass(&self) {
        const TICK: Duration = Duration::from_millis(50);
        let host = self.host.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                host.sleep(TICK);
            }
        });
    }

    /// The volumes on the disks, as a process of their own would see them.
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        let machine = self.host.fork();
        machine.restart_process();
        let engine = Engine::open(machine, vg(), Settings::default()).expect("a pool");
        engine.volumes().expect("a pool")
    }

    /// An engine while no agent is alive, as an administrator's tool.
    pub fn engine(&self) -> Engine<SimHost> {
        Engine::open(self.host.clone(), vg(), Settings::default()).expect("a pool")
    }

    /// The controller asks for a volume of 2 MiB with three images.
    pub fn ask_for_volume(&self, name: &str) {
        self.server.put("mirrorvolumes", &volume(name, 3));
    }

    /// The controller asks for a snapshot.
    pub fn ask_for_snapshot(&self, volume: &str, name: &str) {
        self.server.put("mirrorsnapshots", &snapshot(volume, name));
    }

    /// The controller asks for something to be deleted.
    pub fn ask_to_delete(&self, resource: &str, name: &str) {
        self.server.merge(resource, name, &json!({"spec": {"delete": true}}));
    }

    /// A volume's device, as its node tells: an engine would ask for the lock that the agent may hold.
    pub fn device(&self, name: &str) -> PathBuf {
        let volume = self.server.get("mirrorvolumes", name).expect("an object");
        volume["status"]["device"].as_str().expect("it is active").into()
    }

    /// No array has failed, nothing would have hung.
    pub fn check(&self) {
        assert_eq!(self.host.violations(), Vec::<String>::new());
    }
}

/// A running agent.
pub struct Agent<'a> {
    pub machine: &'a Machine,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Result<(), node::Error>>,
}

impl Agent<'_> {
    /// Stops it in an orderly way.
    pub async fn stop(self) {
        self.stop.cancel();
        self.served.await.expect("no panic").expect("it served");
    }

    /// Waits for a phase of an object.
    pub async fn phase(&self, resource: &str, name: &str, phase: &str) -> Value {
        let what = format!("{phase} {resource}/{name}");
        let is_it = |object: &Value| object["status"]["phase"] == phase;
        self.machine.server.until(&what, |server| server.get(resource, name).filter(is_it)).await
    }

    /// Waits until a condition of an object is so; its message.
    pub async fn condition(
        &self,
        resource: &str,
        name: &str,
        of: &str,
        status: &str,
        reason: &str,
    ) -> String {
        let what = format!("{of}={status} {reason} of {resource}/{name}");
        let found = |server: &ApiServer| {
            let object = server.get(resource, name)?;
            let conditions = object["status"]["conditions"].as_array()?.clone();
            let is_it = |c: &&Value| c["type"] == of && c["status"] == status && c["reason"] == reason;
            conditions.iter().find(is_it).and_then(|c| c["message"].as_str().map(str::to_owned))
        };
        self.machine.server.until(&what, found).await
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, resource: &str, name: &str) {
        let what = format!("end of {resource}/{name}");
        self.machine.server.until(&what, |server| server.get(resource, name).is_none().then_some(())).await;
    }

    /// Waits until an event of this reason is told; it.
    pub async fn event(&self, reason: &str) -> Value {
        let is_it = |event: &Value| event["reason"] == reason;
        self.machine.server.until(reason, |server| server.list("events").into_iter().find(is_it)).await
    }

    /// Lets time pass until nothing is left to do.
    pub async fn rest(&self) {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    /// A client of its socket.
    pub async fn node(&self) -> NodeClient<Channel> {
        let path = self.machine.socket();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
        loop {
            if let Ok(channel) = endpoint.connect_with_connector(connector.clone()).await {
                return NodeClient::new(channel);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// kubelet stages a volume as a raw block device.
    pub async fn stage(&self, id: &str) -> Result<(), tonic::Status> {
        let request = NodeStageVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.staging(id),
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Block(BlockVolume {})),
                access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            }),
            ..NodeStageVolumeRequest::default()
        };
        self.node().await.node_stage_volume(request).await.map(drop)
    }

    /// kubelet unstages it.
    pub async fn unstage(&self, id: &str) {
        let request =
            NodeUnstageVolumeRequest { volume_id: id.to_owned(), staging_target_path: self.staging(id) };
        self.node().await.node_unstage_volume(request).await.expect("it can be repeated");
    }

    fn staging(&self, id: &str) -> String {
        let path = self.machine.dir.path().join("staging").join(id);
        std::fs::create_dir_all(&path).expect("room");
        path.canonicalize().expect("it exists").to_str().expect("plain").to_owned()
    }
}

/// The pool's name.
pub fn vg() -> VgName {
    VG.parse().expect("legal")
}

/// What the controller writes for a volume of 2 MiB.
pub fn volume(name: &str, images: u8) -> Value {
    json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorVolume", "metadata": {"name": name},
        "spec": {
            "node": NODE, "pool": VG, "lv": name, "name": name, "size": "2Mi", "images": images, "regionSize": "8Ki",
            "claim": {"namespace": "db", "name": "data"},
        },
    })
}

/// What the controller writes for a volume that shows a snapshot.
pub fn view(name: &str, snapshot: &str) -> Value {
    json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorVolume", "metadata": {"name": name},
        "spec": {"node": NODE, "pool": VG, "name": name, "size": "2Mi", "source": {"snapshot": snapshot}},
    })
}

/// What the controller writes for a snapshot.
pub fn snapshot(volume: &str, name: &str) -> Value {
    json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorSnapshot", "metadata": {"name": name},
        "spec": {
            "node": NODE, "pool": VG, "volume": volume, "key": name, "name": name, "minInSync": 1,
            "volumeSnapshot": {"namespace": "db", "name": "nightly"},
        },
    })
}
