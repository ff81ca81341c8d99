//! Groups of snapshots: an object for each volume, cut and merged together by their node.

use serde_json::json;
use splitmirror::csi::proto::{
    CreateVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotRequest,
    VolumeGroupSnapshot,
};
use splitmirror::report::Class;
use tonic::{Code, Status};

use crate::crashes::killed_at_each_request;
use crate::detached::detached;
use crate::harness::{Cluster, Driver, refused, snapshot, view, volume_on};
use crate::nodes::Act;

async fn create(
    driver: &mut Driver<'_>,
    name: &str,
    volumes: &[&str],
) -> Result<VolumeGroupSnapshot, Status> {
    let request = CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: volumes.iter().map(|id| (*id).to_owned()).collect(),
        ..CreateVolumeGroupSnapshotRequest::default()
    };
    let made = driver.groups.create_volume_group_snapshot(request).await?;
    Ok(made.into_inner().group_snapshot.expect("it is told"))
}

fn ids(group: &VolumeGroupSnapshot) -> Vec<String> {
    group.snapshots.iter().map(|snapshot| snapshot.snapshot_id.clone()).collect()
}

async fn delete(driver: &mut Driver<'_>, id: &str, snapshots: &[String]) -> Result<(), Status> {
    let request = DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids: snapshots.to_vec(),
        ..DeleteVolumeGroupSnapshotRequest::default()
    };
    driver.groups.delete_volume_group_snapshot(request).await.map(drop)
}

#[test]
fn each_volume_gets_a_snapshot_object_that_names_them_all() {
    let cluster = Cluster::new();
    let snapshots = cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.volume("pvc-2").await;
        cluster.server.clear_log();
        let group = create(driver, "group-1", &["pvc-1", "pvc-2"]).await.expect("images can be spared");
        assert!(group.ready_to_use && group.creation_time.is_some());
        assert_eq!(group.group_snapshot_id, "group-1");
        assert!(group.snapshots.iter().all(|snapshot| snapshot.group_snapshot_id == "group-1"));
        let get = GetVolumeGroupSnapshotRequest {
            group_snapshot_id: "group-1".into(),
            snapshot_ids: ids(&group),
            ..Default::default()
        };
        let got = driver.groups.get_volume_group_snapshot(get).await.expect("there").into_inner();
        assert_eq!(got.group_snapshot.as_ref(), Some(&group));
        assert_eq!(create(driver, "group-1", &["pvc-2", "pvc-1"]).await.expect("the same"), group);
        ids(&group)
    });
    assert_eq!(cluster.writes(), ["POST mirrorsnapshots", "POST mirrorsnapshots"]);
    for (id, volume) in snapshots.iter().zip(["pvc-1", "pvc-2"]) {
        let object = cluster.get("mirrorsnapshots", id).expect("it is there");
        let spec = json!({
            "node": "b", "pool": "fast", "volume": volume, "name": "group-1", "key": "group-1", "minInSync": 1,
            "group": {"name": "group-1", "volumes": ["pvc-1", "pvc-2"]},
        });
        assert_eq!(object["spec"], spec);
    }
}

#[test]
fn all_members_are_deleted_together_and_none_alone() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.volume("pvc-2").await;
        let group = create(driver, "group-1", &["pvc-1", "pvc-2"]).await.expect("made");
        let snapshots = ids(&group);
        refused(driver.merge(&snapshots[0]).await, Code::InvalidArgument, "is one of group group-1");
        let own = driver.create(detached("own", &snapshots[0])).await;
        refused(own, Code::InvalidArgument, "is one of group group-1, of which none can be taken away");
        driver.create(view("look", &snapshots[1])).await.expect("a view takes no room");
        cluster.server.clear_log();
        refused(
            delete(driver, "group-1", &snapshots).await,
            Code::FailedPrecondition,
            "shown by volume look",
        );
        assert_eq!(cluster.writes(), [""; 0], "no member is doomed while one must stay");
        driver.delete("look").await.expect("nobody uses it");
        delete(driver, "group-1", &snapshots).await.expect("free");
        assert!(cluster.server.list("mirrorsnapshots").is_empty());
        delete(driver, "group-1", &snapshots).await.expect("it can be repeated");
    });
}

#[test]
fn what_has_no_instant_in_common_is_refused_without_an_object() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.create(volume_on("pvc-1", &["a"])).await.expect("room");
        driver.create(volume_on("pvc-2", &["b"])).await.expect("room");
        cluster.server.clear_log();
        let apart = create(driver, "group-1", &["pvc-1", "pvc-2"]).await;
        refused(apart, Code::FailedPrecondition, "of one pool: pvc-1 is in pool fast of node a, and pvc-2");
        refused(create(driver, "group-1", &["pvc-1", "no"]).await, Code::NotFound, "no volume \"no\"");
        assert_eq!(cluster.writes(), [""; 0]);
        create(driver, "group-1", &["pvc-1"]).await.expect("one is a group too");
        let other = create(driver, "group-1", &["pvc-2"]).await;
        refused(other, Code::AlreadyExists, "exists, of volume pvc-1");
        driver.split(snapshot("group-1", "pvc-1")).await.expect("names of groups are their own");
    });
}

#[test]
fn what_is_refused_to_one_member_leaves_nothing_of_the_others() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.volume("pvc-2").await;
        cluster.nodes.act(Act::Ignore);
        let first = splitmirror::api::names::member("group-1", "pvc-1");
        cluster.nodes.act_on(&first, Act::Refuse(Class::Precondition));
        let made = create(driver, "group-1", &["pvc-1", "pvc-2"]).await;
        refused(made, Code::FailedPrecondition, "as the script says");
        cluster.nodes.act(Act::Obey);
        let gone = |server: &crate::api::ApiServer| server.list("mirrorsnapshots").is_empty().then_some(());
        cluster.server.until("the removal of both", gone).await;
    });
}

#[test]
fn a_group_is_made_and_deleted_once_wherever_the_controller_dies() {
    killed_at_each_request(
        async |driver| {
            driver.volume("pvc-1").await;
            driver.volume("pvc-2").await;
        },
        async |driver| drop(create(driver, "group-1", &["pvc-1", "pvc-2"]).await.expect("made")),
        |cluster| assert_eq!(cluster.server.list("mirrorsnapshots").len(), 2),
    );
    killed_at_each_request(
        async |driver| {
            driver.volume("pvc-1").await;
            driver.volume("pvc-2").await;
            create(driver, "group-1", &["pvc-1", "pvc-2"]).await.expect("made");
        },
        async |driver| {
            let named = ["pvc-1", "pvc-2"].map(|volume| splitmirror::api::names::member("group-1", volume));
            delete(driver, "group-1", &named).await.expect("free");
        },
        |cluster| assert!(cluster.server.list("mirrorsnapshots").is_empty()),
    );
}
