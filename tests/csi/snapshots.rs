//! Snapshots by request.

use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_content_source::{SnapshotSource, Type as Source};
use splitmirror::csi::proto::{
    CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest,
    GetSnapshotRequest, ListSnapshotsRequest, TopologyRequirement, VolumeContentSource,
};
use splitmirror::csi::topology;
use tonic::Code;

use crate::harness::{Driver, NODE, code, mount, range, snapshot_request, volume_request};

fn delete(snapshot_id: &str) -> DeleteSnapshotRequest {
    DeleteSnapshotRequest { snapshot_id: snapshot_id.to_owned(), ..DeleteSnapshotRequest::default() }
}

#[tokio::test]
async fn a_snapshot_becomes_a_volume_where_its_class_says_so() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await;
    let snapshot = driver.snapshot("snap-1", &volume.volume_id).await;
    let source = Source::Snapshot(SnapshotSource { snapshot_id: snapshot.snapshot_id.clone() });
    let source = Some(VolumeContentSource { r#type: Some(source) });
    let mut request =
        CreateVolumeRequest { volume_content_source: source.clone(), ..volume_request("pvc-2") };
    request.parameters.insert("splitmirror.io/restore".into(), "detach".into());
    let too_large = CreateVolumeRequest { capacity_range: range(1 << 40, 0), ..request.clone() };
    assert_eq!(code(&driver.controller.create_volume(too_large).await), Code::OutOfRange);
    for _ in 0..2 {
        let made = driver.controller.create_volume(request.clone()).await.expect("a snapshot");
        assert_eq!(made.into_inner().volume.expect("told").content_source, source);
    }
    let gone =
        GetSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), ..GetSnapshotRequest::default() };
    assert_eq!(code(&driver.controller.get_snapshot(gone).await), Code::NotFound);
    driver
        .controller
        .delete_snapshot(delete(&snapshot.snapshot_id))
        .await
        .expect("it is gone, and the volume stays");
    let other = CreateVolumeRequest { name: "pvc-3".into(), ..request };
    assert_eq!(code(&driver.controller.create_volume(other).await), Code::NotFound);
}

#[tokio::test]
async fn a_snapshot_asked_for_twice_is_one_snapshot() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await;
    let first = driver.snapshot("snap-1", &volume.volume_id).await;
    assert!(first.ready_to_use);
    assert_eq!((first.size_bytes, &first.source_volume_id), (volume.capacity_bytes, &volume.volume_id));
    assert_eq!(first.accessible_topology, [topology::of(NODE)], "it is where its volume is");
    assert!(first.creation_time.is_some_and(|time| time.seconds > 0));
    let mut driver = driver.restart().await;
    assert_eq!(first, driver.snapshot("snap-1", &volume.volume_id).await);
}

#[tokio::test]
async fn each_bad_request_for_a_snapshot_has_its_code() {
    let mut driver = Driver::start().await;
    let (first, second) = (driver.volume("pvc-1").await.volume_id, driver.volume("pvc-2").await.volume_id);
    driver.snapshot("taken", &first).await;
    let elsewhere = CreateSnapshotRequest {
        accessibility_requirements: Some(TopologyRequirement {
            requisite: vec![topology::of("node-b")],
            preferred: Vec::new(),
        }),
        ..snapshot_request("snap", &second)
    };
    let parameter = |key: &str, value: &str| CreateSnapshotRequest {
        parameters: [(key.to_owned(), value.to_owned())].into(),
        ..snapshot_request("snap", &second)
    };
    for (why, request, expected) in [
        ("no name", snapshot_request("", &first), Code::InvalidArgument),
        ("no source", snapshot_request("snap", ""), Code::InvalidArgument),
        ("a source that is not", snapshot_request("snap", "no-such"), Code::NotFound),
        ("a source that cannot be", snapshot_request("snap", "a/b@c"), Code::NotFound),
        ("the name of another", snapshot_request("taken", &second), Code::AlreadyExists),
        ("an unknown parameter", parameter("splitmirror.io/min", "1"), Code::InvalidArgument),
        ("none in sync", parameter("splitmirror.io/minInSync", "0"), Code::InvalidArgument),
        ("another node", elsewhere, Code::ResourceExhausted),
        ("all in sync", parameter("splitmirror.io/minInSync", "3"), Code::FailedPrecondition),
    ] {
        let answer = driver.controller.create_snapshot(request).await;
        assert_eq!(code(&answer), expected, "{why}: {answer:?}");
    }
}

#[tokio::test]
async fn no_more_images_are_split_than_can_be_spared() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await.volume_id;
    driver.snapshot("snap-1", &volume).await;
    driver.snapshot("snap-2", &volume).await;
    let answer = driver.controller.create_snapshot(snapshot_request("snap-3", &volume)).await;
    assert_eq!(code(&answer), Code::FailedPrecondition);
}

#[tokio::test]
async fn deleting_can_be_repeated_but_not_while_a_view_shows_it() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await.volume_id;
    let snapshot = driver.snapshot("snap-1", &volume).await.snapshot_id;
    let source = Source::Snapshot(SnapshotSource { snapshot_id: snapshot.clone() });
    let view = CreateVolumeRequest {
        volume_capabilities: vec![mount(Mode::MultiNodeReaderOnly, "")],
        volume_content_source: Some(VolumeContentSource { r#type: Some(source) }),
        ..volume_request("view")
    };
    let view =
        driver.controller.create_volume(view).await.expect("a reader").into_inner().volume.expect("told");
    let nested = driver.controller.create_snapshot(snapshot_request("nested", &view.volume_id)).await;
    assert_eq!(code(&nested), Code::FailedPrecondition);
    assert_eq!(code(&driver.controller.delete_snapshot(delete(&snapshot)).await), Code::FailedPrecondition);
    let gone = DeleteVolumeRequest { volume_id: view.volume_id, ..DeleteVolumeRequest::default() };
    driver.controller.delete_volume(gone).await.expect("nobody uses it");
    for id in [&*snapshot, &*snapshot, "reallyfakesnapshotid", "a@b@c"] {
        assert_eq!(code(&driver.controller.delete_snapshot(delete(id)).await), Code::Ok, "{id}");
    }
    assert_eq!(code(&driver.controller.delete_snapshot(delete("")).await), Code::InvalidArgument);
}

#[tokio::test]
async fn snapshots_are_listed_by_id_by_volume_and_in_pages() {
    let mut driver = Driver::start().await;
    let (first, second) = (driver.volume("pvc-1").await.volume_id, driver.volume("pvc-2").await.volume_id);
    let target = driver.snapshot("a", &first).await.snapshot_id;
    driver.snapshot("b", &first).await;
    driver.snapshot("c", &second).await;
    let all = ListSnapshotsRequest::default();
    let by_id = |id: &str| ListSnapshotsRequest { snapshot_id: id.to_owned(), ..all.clone() };
    let by_volume = |id: &str| ListSnapshotsRequest { source_volume_id: id.to_owned(), ..all.clone() };
    for (request, expected) in [
        (all.clone(), 3),
        (by_id(&target), 1),
        (by_id("none-exist-id"), 0),
        (by_volume(&first), 2),
        (by_volume("no-such"), 0),
        (ListSnapshotsRequest { source_volume_id: second.clone(), ..by_id(&target) }, 0),
    ] {
        let answer = driver.controller.list_snapshots(request).await.expect("always").into_inner();
        assert_eq!((answer.entries.len(), &*answer.next_token), (expected, ""));
    }
    let page = ListSnapshotsRequest { max_entries: 2, ..all.clone() };
    let page = driver.controller.list_snapshots(page).await.expect("always").into_inner();
    assert_eq!(page.entries.len(), 2);
    let rest = ListSnapshotsRequest { starting_token: page.next_token, ..all.clone() };
    let rest = driver.controller.list_snapshots(rest).await.expect("a token of ours").into_inner();
    assert_eq!((rest.entries.len(), &*rest.next_token), (1, ""));
    let foreign = ListSnapshotsRequest { starting_token: "x".into(), ..all };
    assert_eq!(code(&driver.controller.list_snapshots(foreign).await), Code::Aborted);
}

#[tokio::test]
async fn a_single_snapshot_is_found_by_its_id() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await.volume_id;
    let snapshot = driver.snapshot("snap-1", &volume).await;
    let get = |id: &str| GetSnapshotRequest { snapshot_id: id.to_owned(), ..GetSnapshotRequest::default() };
    let found = driver.controller.get_snapshot(get(&snapshot.snapshot_id)).await.expect("there").into_inner();
    assert_eq!(found.snapshot, Some(snapshot));
    assert_eq!(code(&driver.controller.get_snapshot(get("no")).await), Code::NotFound);
    assert_eq!(code(&driver.controller.get_snapshot(get("")).await), Code::InvalidArgument);
}
