//! What a node refuses, and leaves as it is.

use std::os::unix::fs::symlink;
use std::path::Path;

use splitmirror::csi::capability::FsType;
use splitmirror::csi::node::mounts::{Content, Mounts as _};
use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::{NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest};
use tonic::Code;

use crate::harness::{Driver, block, code, mount};
use crate::node::{publish, stage, unpublish, unstage, writer};

#[tokio::test]
async fn only_what_is_blank_is_formatted() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    let device = driver.machine.volumes.device(&id);
    for (content, fs) in [
        (Content::Other("an LVM2 physical volume".into()), ""),
        (Content::Other("swap".into()), "ext4"),
        (Content::FileSystem(FsType::Xfs), "ext4"),
    ] {
        driver.machine.kernel.write(&device, content.clone());
        let request = stage(&driver, &id, mount(Mode::SingleNodeWriter, fs));
        let answer = driver.node.node_stage_volume(request).await;
        assert_eq!(code(&answer), Code::FailedPrecondition, "{content:?}");
        assert_eq!(driver.machine.kernel.content(&device), Ok(content));
        assert!(driver.machine.kernel.log().is_empty());
    }
    driver.machine.kernel.write(&device, Content::Blank);
    let request = stage(&driver, &id, mount(Mode::SingleNodeReaderOnly, ""));
    assert_eq!(code(&driver.node.node_stage_volume(request).await), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_single_writer_has_one_target() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    for capability in [mount(Mode::SingleNodeSingleWriter, ""), block(Mode::SingleNodeSingleWriter)] {
        let staged = stage(&driver, &id, capability.clone());
        driver.node.node_stage_volume(staged).await.expect("stage");
        for (target, expected) in
            [("target", Code::Ok), ("other_target", Code::FailedPrecondition), ("target", Code::Ok)]
        {
            let request = publish(&driver, &id, target, capability.clone());
            assert_eq!(code(&driver.node.node_publish_volume(request).await), expected, "{target}");
        }
        assert!(!driver.path("other_target").exists());
        let (gone, cleared) = (unpublish(&driver, &id, "target"), unstage(&driver, &id));
        driver.node.node_unpublish_volume(gone).await.expect("unpublish");
        driver.node.node_unstage_volume(cleared).await.expect("unstage");
    }
}

#[tokio::test]
async fn each_bad_request_to_a_node_has_its_code() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    let staging = |path: &str| NodeStageVolumeRequest {
        staging_target_path: path.to_owned(),
        ..stage(&driver, &id, writer())
    };
    let target = |path: &str| NodePublishVolumeRequest {
        target_path: path.to_owned(),
        ..publish(&driver, &id, "target", writer())
    };
    let link = driver.path("link");
    symlink("/etc", &link).expect("fresh");
    let link = link.to_str().expect("plain");
    let stages = [
        (stage(&driver, "", writer()), Code::InvalidArgument),
        (stage(&driver, "no-such", writer()), Code::NotFound),
        (staging(""), Code::InvalidArgument),
        (staging("relative/path"), Code::InvalidArgument),
        (staging(&driver.text("a/../b")), Code::InvalidArgument),
        (staging(link), Code::InvalidArgument),
        (
            NodeStageVolumeRequest { volume_capability: None, ..stage(&driver, &id, writer()) },
            Code::InvalidArgument,
        ),
    ];
    let unstaged = publish(&driver, &id, "target", writer());
    let publishes = [
        (publish(&driver, "", "target", writer()), Code::InvalidArgument),
        (publish(&driver, "no-such", "target", writer()), Code::NotFound),
        (target(""), Code::InvalidArgument),
        (target("relative/path"), Code::InvalidArgument),
        (target(&driver.text("a/../b")), Code::InvalidArgument),
        (target(link), Code::InvalidArgument),
        (target(&driver.text("staging")), Code::InvalidArgument),
        (
            NodePublishVolumeRequest { volume_capability: None, ..publish(&driver, &id, "target", writer()) },
            Code::InvalidArgument,
        ),
        (
            NodePublishVolumeRequest {
                staging_target_path: String::new(),
                ..publish(&driver, &id, "t", writer())
            },
            Code::FailedPrecondition,
        ),
        (publish(&driver, &id, "target", block(Mode::SingleNodeWriter)), Code::FailedPrecondition),
    ];
    let good = stage(&driver, &id, writer());
    let unlinked = NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: link.to_owned() };
    for (request, expected) in stages {
        let answer = driver.node.node_stage_volume(request.clone()).await;
        assert_eq!(code(&answer), expected, "{request:?}: {answer:?}");
    }
    assert_eq!(code(&driver.node.node_publish_volume(unstaged).await), Code::FailedPrecondition);
    driver.node.node_stage_volume(good).await.expect("stage");
    for (request, expected) in publishes {
        let answer = driver.node.node_publish_volume(request.clone()).await;
        assert_eq!(code(&answer), expected, "{request:?}: {answer:?}");
    }
    assert_eq!(code(&driver.node.node_unpublish_volume(unlinked).await), Code::InvalidArgument);
    assert!(Path::new(link).is_symlink());
    assert_eq!(driver.machine.kernel.mounted(), [(driver.path("staging"), false)]);
}

#[tokio::test]
async fn what_others_have_mounted_is_left_alone() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    driver.machine.kernel.occupy(&driver.path("staging"));
    let staged = stage(&driver, &id, writer());
    assert_eq!(code(&driver.node.node_stage_volume(staged.clone()).await), Code::FailedPrecondition);
    let cleared = unstage(&driver, &id);
    assert_eq!(code(&driver.node.node_unstage_volume(cleared).await), Code::FailedPrecondition);
    driver.machine.kernel.unmount(&driver.path("staging")).expect("it is mounted");
    driver.node.node_stage_volume(staged).await.expect("stage");
    driver.machine.kernel.occupy(&driver.path("target"));
    let published = publish(&driver, &id, "target", writer());
    assert_eq!(code(&driver.node.node_publish_volume(published).await), Code::FailedPrecondition);
    let gone = unpublish(&driver, &id, "target");
    assert_eq!(code(&driver.node.node_unpublish_volume(gone).await), Code::FailedPrecondition);
    assert_eq!(driver.machine.kernel.mounted().len(), 2);
}

#[tokio::test]
async fn staging_again_in_another_way_is_refused() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    let staged = stage(&driver, &id, writer());
    driver.node.node_stage_volume(staged).await.expect("stage");
    for other in [block(Mode::SingleNodeWriter), mount(Mode::SingleNodeWriter, "xfs")] {
        let request = stage(&driver, &id, other);
        assert_eq!(code(&driver.node.node_stage_volume(request).await), Code::AlreadyExists);
    }
}
