//! Volumes as pods see them.

use splitmirror::csi::capability::FsType;
use splitmirror::csi::node::mounts::{Content, Mounts as _};
use splitmirror::csi::proto::volume_capability::AccessType;
use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_content_source::{SnapshotSource, Type as Source};
use splitmirror::csi::proto::volume_usage::Unit;
use splitmirror::csi::proto::{
    CreateVolumeRequest, NodeExpandVolumeRequest, NodeGetInfoRequest, NodeGetVolumeStatsRequest,
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
    VolumeCapability, VolumeContentSource,
};
use splitmirror::csi::topology;
use tonic::Code;

use crate::harness::{Driver, NODE, block, code, mount, volume_request};

pub fn writer() -> VolumeCapability {
    mount(Mode::SingleNodeWriter, "")
}

pub fn stage(driver: &Driver, volume_id: &str, capability: VolumeCapability) -> NodeStageVolumeRequest {
    NodeStageVolumeRequest {
        volume_id: volume_id.to_owned(),
        staging_target_path: driver.text("staging"),
        volume_capability: Some(capability),
        ..NodeStageVolumeRequest::default()
    }
}

pub fn publish(
    driver: &Driver,
    volume_id: &str,
    target: &str,
    capability: VolumeCapability,
) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        staging_target_path: driver.text("staging"),
        target_path: driver.text(target),
        volume_capability: Some(capability),
        ..NodePublishVolumeRequest::default()
    }
}

pub fn unpublish(driver: &Driver, volume_id: &str, target: &str) -> NodeUnpublishVolumeRequest {
    NodeUnpublishVolumeRequest { volume_id: volume_id.to_owned(), target_path: driver.text(target) }
}

pub fn unstage(driver: &Driver, volume_id: &str) -> NodeUnstageVolumeRequest {
    NodeUnstageVolumeRequest { volume_id: volume_id.to_owned(), staging_target_path: driver.text("staging") }
}

#[tokio::test]
async fn a_node_tells_its_name_and_topology() {
    let mut driver = Driver::start().await;
    let info = driver.node.node_get_info(NodeGetInfoRequest {}).await.expect("always").into_inner();
    assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), (NODE, 0));
    assert_eq!(info.accessible_topology, Some(topology::of(NODE)));
}

#[tokio::test]
async fn a_file_system_lives_through_restarts_and_repeated_calls() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    for round in 0..3 {
        let (staged, published) = (stage(&driver, &id, writer()), publish(&driver, &id, "target", writer()));
        driver.node.node_stage_volume(staged).await.expect("stage");
        driver.node.node_publish_volume(published).await.expect("publish");
        let log = driver.machine.kernel.log();
        let expected: &[&str] = if round == 0 { &["mkfs.ext4 ", "mount ext4 ", "bind"] } else { &[] };
        assert_eq!(log, expected, "round {round}");
        driver = driver.restart().await;
    }
    for _ in 0..2 {
        let (gone, cleared) = (unpublish(&driver, &id, "target"), unstage(&driver, &id));
        driver.node.node_unpublish_volume(gone).await.expect("unpublish");
        assert!(!driver.path("target").exists(), "the target is removed");
        driver.node.node_unstage_volume(cleared).await.expect("unstage");
        assert!(driver.path("staging").is_dir(), "the staging directory is the caller's");
        driver = driver.restart().await;
    }
    assert_eq!(driver.machine.kernel.mounted(), []);
    let again = stage(&driver, &id, writer());
    driver.machine.kernel.log();
    driver.node.node_stage_volume(again).await.expect("stage");
    assert_eq!(
        driver.machine.kernel.log(),
        ["fsck.ext4", "mount ext4 "],
        "what is there is not formatted again"
    );
}

#[tokio::test]
async fn the_storage_class_says_how_a_volume_is_formatted_and_mounted() {
    let mut driver = Driver::start().await;
    let mut request = volume_request("pvc-1");
    request.parameters.insert("csi.storage.k8s.io/fstype".into(), "xfs".into());
    request.parameters.insert("splitmirror.io/mkfsOptions".into(), "-i  size=1024 -K".into());
    let volume =
        driver.controller.create_volume(request).await.expect("fits").into_inner().volume.expect("told");
    let mut capability = writer();
    if let Some(AccessType::Mount(mount)) = &mut capability.access_type {
        mount.mount_flags = vec!["noatime".into(), "discard".into()];
    }
    let mut staged = stage(&driver, &volume.volume_id, capability);
    staged.volume_context = volume.volume_context;
    driver.node.node_stage_volume(staged).await.expect("stage");
    assert_eq!(driver.machine.kernel.log(), ["mkfs.xfs -i size=1024 -K", "mount xfs noatime,discard"]);
}

#[tokio::test]
async fn a_format_that_was_cut_off_is_made_again_and_data_never_is() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    let device = driver.machine.volumes.device(&id);
    driver.machine.kernel.cut_next_format();
    let staged = stage(&driver, &id, writer());
    assert_eq!(code(&driver.node.node_stage_volume(staged.clone()).await), Code::Internal);
    let mut driver = driver.restart().await;
    driver.node.node_stage_volume(staged.clone()).await.expect("nobody has used it yet");
    assert_eq!(driver.machine.kernel.log(), ["mkfs.ext4 ", "mount ext4 "]);
    let cleared = unstage(&driver, &id);
    driver.node.node_unstage_volume(cleared).await.expect("unstage");
    let damaged = Content::Other("what is left of a file system".into());
    driver.machine.kernel.write(&device, damaged.clone());
    assert_eq!(code(&driver.node.node_stage_volume(staged).await), Code::FailedPrecondition);
    assert_eq!(driver.machine.kernel.content(&device), Ok(damaged), "it was mounted before: it is data");
}

#[tokio::test]
async fn what_was_given_out_as_a_raw_device_is_data() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    driver.machine.kernel.cut_next_format();
    let staged = stage(&driver, &id, writer());
    assert_eq!(code(&driver.node.node_stage_volume(staged.clone()).await), Code::Internal);
    let (raw, cleared) = (stage(&driver, &id, block(Mode::SingleNodeWriter)), unstage(&driver, &id));
    driver.node.node_stage_volume(raw).await.expect("stage");
    driver.node.node_unstage_volume(cleared).await.expect("unstage");
    assert_eq!(code(&driver.node.node_stage_volume(staged).await), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_raw_block_volume_is_a_node_on_a_file() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    let writer = || block(Mode::SingleNodeWriter);
    for _ in 0..2 {
        let (staged, published) = (stage(&driver, &id, writer()), publish(&driver, &id, "target", writer()));
        driver.node.node_stage_volume(staged).await.expect("stage");
        driver.node.node_publish_volume(published).await.expect("publish");
        driver = driver.restart().await;
    }
    assert_eq!(driver.machine.kernel.log(), ["bind", "bind"]);
    assert!(driver.path("target").is_file());
    let stats = NodeGetVolumeStatsRequest {
        volume_id: id.clone(),
        volume_path: driver.text("target"),
        ..NodeGetVolumeStatsRequest::default()
    };
    let usage = driver.node.node_get_volume_stats(stats).await.expect("published").into_inner().usage;
    assert_eq!(usage.iter().map(|usage| usage.total).collect::<Vec<_>>(), [64 << 20]);
    for _ in 0..2 {
        let (gone, cleared) = (unpublish(&driver, &id, "target"), unstage(&driver, &id));
        driver.node.node_unpublish_volume(gone).await.expect("unpublish");
        driver.node.node_unstage_volume(cleared).await.expect("unstage");
    }
    assert!(!driver.path("target").exists());
    assert_eq!(std::fs::read_dir(driver.path("staging")).expect("there").count(), 0, "it is left empty");
}

#[tokio::test]
async fn a_view_is_mounted_without_recovery_and_read_only() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await.volume_id;
    let snapshot = driver.snapshot("snap-1", &volume).await.snapshot_id;
    let reader = || mount(Mode::MultiNodeReaderOnly, "");
    let source = Source::Snapshot(SnapshotSource { snapshot_id: snapshot });
    let request = CreateVolumeRequest {
        volume_capabilities: vec![reader()],
        volume_content_source: Some(VolumeContentSource { r#type: Some(source) }),
        ..volume_request("view")
    };
    let view =
        driver.controller.create_volume(request).await.expect("a reader").into_inner().volume.expect("told");
    let device = driver.machine.volumes.device(&view.volume_id);
    for (content, expected) in [
        (Content::FileSystem(FsType::Ext4), Some("mount ext4 ro,noload")),
        (Content::FileSystem(FsType::Xfs), Some("mount xfs ro,nouuid,norecovery")),
        (Content::FileSystem(FsType::Btrfs), None),
        (Content::Blank, None),
    ] {
        driver.machine.kernel.write(&device, content.clone());
        let staged = stage(&driver, &view.volume_id, reader());
        let answer = driver.node.node_stage_volume(staged).await;
        assert_eq!(code(&answer), if expected.is_some() { Code::Ok } else { Code::FailedPrecondition });
        assert_eq!(driver.machine.kernel.log(), expected.into_iter().collect::<Vec<_>>(), "{content:?}");
        if expected.is_some() {
            let published = publish(&driver, &view.volume_id, "target", reader());
            driver.node.node_publish_volume(published).await.expect("publish");
            assert!(driver.machine.kernel.mounted().iter().all(|(_, read_only)| *read_only));
            let (gone, cleared) =
                (unpublish(&driver, &view.volume_id, "target"), unstage(&driver, &view.volume_id));
            driver.node.node_unpublish_volume(gone).await.expect("unpublish");
            driver.node.node_unstage_volume(cleared).await.expect("unstage");
            driver.machine.kernel.log();
        }
    }
}

#[tokio::test]
async fn a_read_only_publish_leaves_the_others_writable() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    let staged = stage(&driver, &id, writer());
    driver.node.node_stage_volume(staged).await.expect("stage");
    let mut read_only = publish(&driver, &id, "reader", writer());
    read_only.readonly = true;
    for _ in 0..2 {
        driver.node.node_publish_volume(read_only.clone()).await.expect("publish");
    }
    let writable = publish(&driver, &id, "writer", writer());
    driver.node.node_publish_volume(writable).await.expect("several writers on one node are allowed");
    let expected = [("staging", false), ("reader", true), ("writer", false)];
    let expected = expected.map(|(name, read_only)| (driver.path(name), read_only));
    assert_eq!(driver.machine.kernel.mounted(), expected);
    read_only.readonly = false;
    let answer = driver.node.node_publish_volume(read_only).await;
    assert_eq!(code(&answer), Code::AlreadyExists, "the same target, but writable");
}

#[tokio::test]
async fn a_read_only_publish_that_was_cut_off_is_completed() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    let staged = stage(&driver, &id, writer());
    driver.node.node_stage_volume(staged).await.expect("stage");
    // What a crash between the bind mount and its remount leaves.
    std::fs::create_dir(driver.path("reader")).expect("fresh");
    driver.machine.kernel.bind(&driver.path("staging"), &driver.path("reader")).expect("it is mounted");
    let read_only = NodePublishVolumeRequest { readonly: true, ..publish(&driver, &id, "reader", writer()) };
    driver.node.node_publish_volume(read_only).await.expect("publish");
    let expected =
        [("staging", false), ("reader", true)].map(|(name, read_only)| (driver.path(name), read_only));
    assert_eq!(driver.machine.kernel.mounted(), expected);
}

#[tokio::test]
async fn stats_and_growth_need_the_path_where_it_is_published() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    let (staged, published) = (stage(&driver, &id, writer()), publish(&driver, &id, "target", writer()));
    driver.node.node_stage_volume(staged).await.expect("stage");
    driver.node.node_publish_volume(published).await.expect("publish");
    driver.machine.kernel.log();
    let target = driver.text("target");
    for (volume_id, volume_path, expected) in [
        (&*id, &*target, Code::Ok),
        ("", "some/path", Code::InvalidArgument),
        (&*id, "", Code::InvalidArgument),
        ("no-such", "some/path", Code::NotFound),
        (&*id, "some/path", Code::NotFound),
        (&*id, "/", Code::NotFound),
    ] {
        let (volume_id, volume_path) = (volume_id.to_owned(), volume_path.to_owned());
        let stats = NodeGetVolumeStatsRequest {
            volume_id: volume_id.clone(),
            volume_path: volume_path.clone(),
            ..NodeGetVolumeStatsRequest::default()
        };
        let answer = driver.node.node_get_volume_stats(stats).await;
        assert_eq!(code(&answer), expected, "{volume_path}");
        if let Ok(answer) = answer {
            let units: Vec<_> = answer.into_inner().usage.iter().map(|usage| usage.unit()).collect();
            assert_eq!(units, [Unit::Bytes, Unit::Inodes]);
        }
        let expand = NodeExpandVolumeRequest { volume_id, volume_path, ..NodeExpandVolumeRequest::default() };
        assert_eq!(code(&driver.node.node_expand_volume(expand).await), expected);
    }
    assert_eq!(driver.machine.kernel.log(), ["grow ext4"]);
}
