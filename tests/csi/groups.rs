//! Group snapshots by request.

use splitmirror::csi::proto::plugin_capability::Type;
use splitmirror::csi::proto::plugin_capability::service::Type as Service;
use splitmirror::csi::proto::{
    CreateVolumeGroupSnapshotRequest, DeleteSnapshotRequest, DeleteVolumeGroupSnapshotRequest,
    GetPluginCapabilitiesRequest, GetVolumeGroupSnapshotRequest, GroupControllerGetCapabilitiesRequest,
    ListSnapshotsRequest, VolumeGroupSnapshot,
};
use tonic::Code;

use crate::harness::{Driver, code};

fn create(name: &str, volumes: &[&str]) -> CreateVolumeGroupSnapshotRequest {
    CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: volumes.iter().map(|id| (*id).to_owned()).collect(),
        ..CreateVolumeGroupSnapshotRequest::default()
    }
}

fn delete(id: &str, snapshots: &[String]) -> DeleteVolumeGroupSnapshotRequest {
    DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids: snapshots.to_vec(),
        ..DeleteVolumeGroupSnapshotRequest::default()
    }
}

fn get(id: &str, snapshots: &[String]) -> GetVolumeGroupSnapshotRequest {
    GetVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids: snapshots.to_vec(),
        ..GetVolumeGroupSnapshotRequest::default()
    }
}

fn members(group: &VolumeGroupSnapshot) -> Vec<String> {
    group.snapshots.iter().map(|snapshot| snapshot.snapshot_id.clone()).collect()
}

async fn group(driver: &mut Driver, name: &str, volumes: &[&str]) -> VolumeGroupSnapshot {
    let made = driver.groups.create_volume_group_snapshot(create(name, volumes)).await;
    made.expect("images can be spared").into_inner().group_snapshot.expect("told")
}

#[tokio::test]
async fn callers_are_told_of_the_service() {
    let mut driver = Driver::start().await;
    let told = driver.identity.get_plugin_capabilities(GetPluginCapabilitiesRequest::default()).await;
    let told = told.expect("always").into_inner().capabilities;
    let is_group = |r#type: &Option<Type>| matches!(r#type, Some(Type::Service(service)) if service.r#type() == Service::GroupControllerService);
    assert!(told.iter().any(|capability| is_group(&capability.r#type)));
    let can = driver.groups.group_controller_get_capabilities(GroupControllerGetCapabilitiesRequest {}).await;
    assert_eq!(can.expect("always").into_inner().capabilities.len(), 1);
}

#[tokio::test]
async fn a_group_asked_for_twice_is_one_group_and_its_snapshots_tell_it() {
    let mut driver = Driver::start().await;
    let (a, b) = (driver.volume("pvc-1").await.volume_id, driver.volume("pvc-2").await.volume_id);
    let first = group(&mut driver, "nightly", &[&a, &b]).await;
    assert!(first.ready_to_use && first.creation_time.is_some());
    assert_eq!(first.snapshots.len(), 2);
    let id = first.group_snapshot_id.clone();
    assert!(first.snapshots.iter().all(|snapshot| snapshot.group_snapshot_id == id));
    let mut driver = driver.restart().await;
    // A volume that is named twice is one member.
    assert_eq!(first, group(&mut driver, "nightly", &[&b, &a, &b]).await);
    let got = driver.groups.get_volume_group_snapshot(get(&id, &members(&first))).await;
    assert_eq!(got.expect("there").into_inner().group_snapshot, Some(first.clone()));
    let all = driver.controller.list_snapshots(ListSnapshotsRequest::default()).await.expect("always");
    let of_group = |snapshot: Option<&splitmirror::csi::proto::Snapshot>| {
        snapshot.is_some_and(|snapshot| snapshot.group_snapshot_id == id)
    };
    assert!(all.into_inner().entries.iter().all(|entry| of_group(entry.snapshot.as_ref())));
}

#[tokio::test]
async fn a_member_is_deleted_with_its_group_only() {
    let mut driver = Driver::start().await;
    let (a, b) = (driver.volume("pvc-1").await.volume_id, driver.volume("pvc-2").await.volume_id);
    let made = group(&mut driver, "nightly", &[&a, &b]).await;
    let (id, snapshots) = (made.group_snapshot_id.clone(), members(&made));
    let alone = DeleteSnapshotRequest { snapshot_id: snapshots[0].clone(), ..Default::default() };
    assert_eq!(code(&driver.controller.delete_snapshot(alone).await), Code::InvalidArgument);
    let stray = driver.snapshot("stray", &a).await.snapshot_id;
    let wrong = [snapshots.clone(), vec![stray]].concat();
    for (why, named) in [("too few", &snapshots[..1]), ("another one", &wrong[..])] {
        let answer = driver.groups.delete_volume_group_snapshot(delete(&id, named)).await;
        assert_eq!(code(&answer), Code::InvalidArgument, "{why}");
        let answer = driver.groups.get_volume_group_snapshot(get(&id, named)).await;
        assert_eq!(code(&answer), Code::InvalidArgument, "{why}");
    }
    for id in [&*id, &*id, "no-such"] {
        let answer = driver.groups.delete_volume_group_snapshot(delete(id, &snapshots)).await;
        assert_eq!(code(&answer), Code::Ok, "{id}");
    }
    assert_eq!(
        code(&driver.groups.delete_volume_group_snapshot(delete("", &snapshots)).await),
        Code::InvalidArgument
    );
    let answer = driver.groups.get_volume_group_snapshot(get(&id, &snapshots)).await;
    assert_eq!(code(&answer), Code::NotFound);
    assert_eq!(code(&driver.groups.get_volume_group_snapshot(get("", &[])).await), Code::InvalidArgument);
}

#[tokio::test]
async fn each_bad_request_for_a_group_has_its_code() {
    let mut driver = Driver::start().await;
    let (a, b) = (driver.volume("pvc-1").await.volume_id, driver.volume("pvc-2").await.volume_id);
    group(&mut driver, "taken", &[&a]).await;
    let parameter = |key: &str, value: &str| CreateVolumeGroupSnapshotRequest {
        parameters: [(key.to_owned(), value.to_owned())].into(),
        ..create("group", &[&b])
    };
    for (why, request, expected) in [
        ("no name", create("", &[&a]), Code::InvalidArgument),
        ("no volumes", create("group", &[]), Code::InvalidArgument),
        ("an id that is empty", create("group", &[&a, ""]), Code::InvalidArgument),
        ("a volume that is not", create("group", &[&a, "no-such"]), Code::NotFound),
        ("the name of another", create("taken", &[&a, &b]), Code::AlreadyExists),
        ("an unknown parameter", parameter("splitmirror.io/min", "1"), Code::InvalidArgument),
        ("all in sync", parameter("splitmirror.io/minInSync", "3"), Code::FailedPrecondition),
    ] {
        let answer = driver.groups.create_volume_group_snapshot(request).await;
        assert_eq!(code(&answer), expected, "{why}: {answer:?}");
    }
}
