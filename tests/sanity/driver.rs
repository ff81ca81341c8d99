//! A client of the driver that says what it wants in one line.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use splitmirror::csi::proto::controller_client::ControllerClient;
use splitmirror::csi::proto::group_controller_client::GroupControllerClient;
use splitmirror::csi::proto::node_client::NodeClient;
use splitmirror::csi::proto::snapshot_metadata_client::SnapshotMetadataClient;
use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use splitmirror::csi::proto::volume_content_source::{SnapshotSource, Type as Source};
use splitmirror::csi::proto::{
    CapacityRange, ControllerExpandVolumeRequest, CreateSnapshotRequest, CreateVolumeGroupSnapshotRequest,
    CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeGroupSnapshotRequest, DeleteVolumeRequest,
    GetMetadataDeltaRequest, NodeExpandVolumeRequest, NodeGetInfoRequest, NodeGetVolumeStatsRequest,
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
    Snapshot, Volume, VolumeCapability, VolumeContentSource, VolumeGroupSnapshot,
};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};

use crate::guest::{Standalone, path};

/// How long what is under way may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client.
pub struct Driver {
    runtime: Runtime,
    controller: ControllerClient<Channel>,
    groups: GroupControllerClient<Channel>,
    node: NodeClient<Channel>,
    metadata: SnapshotMetadataClient<Channel>,
}

/// An answer, or the code and message of a refusal.
pub type Answer<T> = Result<T, Status>;

/// Use as a file system of this type.
pub fn mount(fs_type: &str, mode: Mode) -> VolumeCapability {
    let mount = MountVolume { fs_type: fs_type.to_owned(), ..MountVolume::default() };
    capability(AccessType::Mount(mount), mode)
}

/// Use as a block device.
pub fn block(mode: Mode) -> VolumeCapability {
    capability(AccessType::Block(BlockVolume {}), mode)
}

fn capability(access: AccessType, mode: Mode) -> VolumeCapability {
    VolumeCapability { access_type: Some(access), access_mode: Some(AccessMode { mode: mode.into() }) }
}

/// A request for a volume of three images.
pub fn request(name: &str, mib: i64, capability: &VolumeCapability) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: mib << 20, limit_bytes: 0 }),
        volume_capabilities: vec![capability.clone()],
        parameters: [("splitmirror.io/images".to_owned(), "3".to_owned())].into(),
        ..CreateVolumeRequest::default()
    }
}

/// The staging path of a volume.
fn staging(volume: &str) -> String {
    text(&path(&format!("staging-{volume}")))
}

/// A target path.
pub fn target(name: &str) -> PathBuf {
    path(&format!("target-{name}"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Driver {
    /// Connects to the driver that runs, and waits until it serves: it has recovered its pool then.
    pub fn connect() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let connector = tower::service_fn(|_: Uri| async {
            UnixStream::connect(Standalone::socket()).await.map(TokioIo::new)
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = runtime.block_on(endpoint.connect_with_connector(connector));
        let channel = channel.map_err(|error| format!("connect: {error}"))?;
        let (controller, groups) =
            (ControllerClient::new(channel.clone()), GroupControllerClient::new(channel.clone()));
        let (mut node, metadata) = (NodeClient::new(channel.clone()), SnapshotMetadataClient::new(channel));
        runtime.block_on(node.node_get_info(NodeGetInfoRequest {})).map_err(said)?;
        Ok(Self { runtime, controller, groups, node, metadata })
    }

    /// CreateVolume.
    pub fn create(&mut self, request: CreateVolumeRequest) -> Answer<Volume> {
        let answer = self.runtime.block_on(self.controller.create_volume(request))?;
        answer.into_inner().volume.ok_or_else(|| Status::internal("no volume in the answer"))
    }

    /// CreateVolume that shows a snapshot.
    pub fn view(&mut self, name: &str, snapshot: &str, capability: &VolumeCapability) -> Answer<Volume> {
        let source = Source::Snapshot(SnapshotSource { snapshot_id: snapshot.to_owned() });
        self.create(CreateVolumeRequest {
            capacity_range: None,
            volume_content_source: Some(VolumeContentSource { r#type: Some(source) }),
            ..request(name, 0, capability)
        })
    }

    /// CreateVolume that holds what a snapshot or a volume holds.
    pub fn clone_of(&mut self, source: Source, request: CreateVolumeRequest) -> Answer<Volume> {
        let volume_content_source = Some(VolumeContentSource { r#type: Some(source) });
        self.create(CreateVolumeRequest { volume_content_source, ..request })
    }

    /// DeleteVolume.
    pub fn delete(&mut self, volume: &str) -> Answer<()> {
        let request = DeleteVolumeRequest { volume_id: volume.to_owned(), ..DeleteVolumeRequest::default() };
        self.runtime.block_on(self.controller.delete_volume(request)).map(drop)
    }

    /// ControllerExpandVolume; the new size in MiB.
    pub fn expand(&mut self, volume: &str, mib: i64) -> Answer<i64> {
        let request = ControllerExpandVolumeRequest {
            volume_id: volume.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: mib << 20, limit_bytes: 0 }),
            ..ControllerExpandVolumeRequest::default()
        };
        let answer = self.runtime.block_on(self.controller.controller_expand_volume(request));
        answer.map(|answer| answer.into_inner().capacity_bytes >> 20)
    }

    /// CreateSnapshot.
    pub fn snapshot(&mut self, name: &str, volume: &str) -> Answer<Snapshot> {
        self.snapshot_with(name, volume, &[])
    }

    /// CreateSnapshot with parameters.
    pub fn snapshot_with(
        &mut self,
        name: &str,
        volume: &str,
        parameters: &[(&str, &str)],
    ) -> Answer<Snapshot> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let request = CreateSnapshotRequest {
            name: name.to_owned(),
            source_volume_id: volume.to_owned(),
            parameters: parameters.iter().map(own).collect(),
            ..CreateSnapshotRequest::default()
        };
        let answer = self.runtime.block_on(self.controller.create_snapshot(request))?;
        answer.into_inner().snapshot.ok_or_else(|| Status::internal("no snapshot in the answer"))
    }

    /// DeleteSnapshot.
    pub fn delete_snapshot(&mut self, snapshot: &str) -> Answer<()> {
        let request =
            DeleteSnapshotRequest { snapshot_id: snapshot.to_owned(), ..DeleteSnapshotRequest::default() };
        self.runtime.block_on(self.controller.delete_snapshot(request)).map(drop)
    }

    /// GetMetadataDelta from a place on: offset and length of each range.
    pub fn changed(&mut self, base: &str, target: &str, from: i64) -> Answer<Vec<(i64, i64)>> {
        let request = GetMetadataDeltaRequest {
            base_snapshot_id: base.to_owned(),
            target_snapshot_id: target.to_owned(),
            starting_offset: from,
            ..GetMetadataDeltaRequest::default()
        };
        self.runtime.block_on(async {
            let mut stream = self.metadata.get_metadata_delta(request).await?.into_inner();
            let mut ranges = Vec::new();
            while let Some(message) = stream.message().await? {
                ranges
                    .extend(message.block_metadata.iter().map(|range| (range.byte_offset, range.size_bytes)));
            }
            Ok(ranges)
        })
    }

    /// CreateVolumeGroupSnapshot.
    pub fn group(&mut self, name: &str, volumes: &[String]) -> Answer<VolumeGroupSnapshot> {
        let request = CreateVolumeGroupSnapshotRequest {
            name: name.to_owned(),
            source_volume_ids: volumes.to_vec(),
            ..CreateVolumeGroupSnapshotRequest::default()
        };
        let answer = self.runtime.block_on(self.groups.create_volume_group_snapshot(request))?;
        answer.into_inner().group_snapshot.ok_or_else(|| Status::internal("no group in the answer"))
    }

    /// DeleteVolumeGroupSnapshot.
    pub fn delete_group(&mut self, group: &str, snapshots: &[String]) -> Answer<()> {
        let request = DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: group.to_owned(),
            snapshot_ids: snapshots.to_vec(),
            ..DeleteVolumeGroupSnapshotRequest::default()
        };
        self.runtime.block_on(self.groups.delete_volume_group_snapshot(request)).map(drop)
    }

    /// NodeStageVolume.
    pub fn stage(&mut self, volume: &Volume, capability: &VolumeCapability) -> Answer<()> {
        let request = NodeStageVolumeRequest {
            volume_id: volume.volume_id.clone(),
            staging_target_path: staging(&volume.volume_id),
            volume_capability: Some(capability.clone()),
            volume_context: volume.volume_context.clone(),
            ..NodeStageVolumeRequest::default()
        };
        self.runtime.block_on(self.node.node_stage_volume(request)).map(drop)
    }

    /// NodePublishVolume at a path.
    pub fn publish_at(&mut self, volume: &Volume, capability: &VolumeCapability, at: &str) -> Answer<()> {
        let request = NodePublishVolumeRequest {
            volume_id: volume.volume_id.clone(),
            staging_target_path: staging(&volume.volume_id),
            target_path: at.to_owned(),
            volume_capability: Some(capability.clone()),
            ..NodePublishVolumeRequest::default()
        };
        self.runtime.block_on(self.node.node_publish_volume(request)).map(drop)
    }

    /// Stages and publishes; where it is then.
    pub fn open(&mut self, volume: &Volume, capability: &VolumeCapability) -> Answer<PathBuf> {
        let at = target(&volume.volume_id);
        self.stage(volume, capability)?;
        self.publish_at(volume, capability, &text(&at))?;
        Ok(at)
    }

    /// Unpublishes and unstages.
    pub fn close(&mut self, volume: &str) -> Answer<()> {
        let request =
            NodeUnpublishVolumeRequest { volume_id: volume.to_owned(), target_path: text(&target(volume)) };
        self.runtime.block_on(self.node.node_unpublish_volume(request))?;
        let request =
            NodeUnstageVolumeRequest { volume_id: volume.to_owned(), staging_target_path: staging(volume) };
        self.runtime.block_on(self.node.node_unstage_volume(request)).map(drop)
    }

    /// NodeExpandVolume.
    pub fn node_expand(&mut self, volume: &str) -> Answer<()> {
        let request = NodeExpandVolumeRequest {
            volume_id: volume.to_owned(),
            volume_path: text(&target(volume)),
            ..NodeExpandVolumeRequest::default()
        };
        self.runtime.block_on(self.node.node_expand_volume(request)).map(drop)
    }

    /// NodeGetVolumeStats: bytes in all.
    pub fn total(&mut self, volume: &str) -> Answer<i64> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume.to_owned(),
            volume_path: text(&target(volume)),
            ..NodeGetVolumeStatsRequest::default()
        };
        let answer =
            self.runtime.block_on(self.node.node_get_volume_stats(request)).map(Response::into_inner)?;
        answer
            .usage
            .first()
            .map(|usage| usage.total)
            .ok_or_else(|| Status::internal("no usage in the answer"))
    }
}

/// Repeats a call that is told to come again later, such as while a merge runs.
pub fn patiently<T>(mut call: impl FnMut() -> Answer<T>) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call() {
            Ok(done) => return Ok(done),
            Err(status) if status.code() == Code::Aborted && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(status) => return Err(said(status)),
        }
    }
}

/// A refusal, for a person.
pub fn said(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// The call must be refused with this code.
pub fn refused<T>(what: &str, answer: Answer<T>, code: Code) -> Result<(), String> {
    match answer {
        Err(status) if status.code() == code => Ok(()),
        Err(status) => Err(format!("{what}: expected {code:?}, got {}", said(status))),
        Ok(_) => Err(format!("{what}: expected {code:?}, but it was done")),
    }
}
