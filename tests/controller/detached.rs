//! Snapshots, and images of volumes, that become volumes: where that is, what else is refused then, and what is left of the snapshot.

use serde_json::json;
use splitmirror::csi::proto::volume_content_source::{Type as Source, VolumeSource};
use splitmirror::csi::proto::{
    CapacityRange, CreateVolumeRequest, GetMetadataDeltaRequest, GetSnapshotRequest, ListSnapshotsRequest,
    VolumeContentSource,
};
use splitmirror::report::Class;
use tonic::Code;

use crate::harness::{Cluster, Driver, on, refused, snapshot, topology, view, volume, volume_on};
use crate::nodes::Act;

/// A request for a volume of two images that is the image of a snapshot itself.
pub fn detached(name: &str, snapshot: &str) -> CreateVolumeRequest {
    let parameters = [("splitmirror.io/images", "2"), ("splitmirror.io/restore", "detach")];
    CreateVolumeRequest {
        volume_content_source: view(name, snapshot).volume_content_source,
        parameters: parameters.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..volume(name)
    }
}

/// The same, of so many MiB.
fn sized(name: &str, snapshot: &str, required: i64, limit: i64) -> CreateVolumeRequest {
    let range = CapacityRange { required_bytes: required << 20, limit_bytes: limit << 20 };
    CreateVolumeRequest { capacity_range: Some(range), ..detached(name, snapshot) }
}

/// A volume of 128 MiB with regions of its own, and a snapshot.
async fn split(driver: &mut Driver<'_>) {
    let mut request = volume_on("pvc-1", &["a"]);
    request.capacity_range.as_mut().expect("there").required_bytes = 128 << 20;
    request.parameters.insert("splitmirror.io/regionSize".to_owned(), "8Mi".to_owned());
    driver.create(request).await.expect("there is room");
    driver.snapshot("s", "pvc-1").await;
}

/// Waits until the controller knows what has become of a snapshot.
pub async fn known(driver: &mut Driver<'_>) {
    let list = ListSnapshotsRequest::default();
    while !driver
        .controller
        .list_snapshots(list.clone())
        .await
        .expect("it is known")
        .into_inner()
        .entries
        .is_empty()
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[test]
fn a_snapshot_becomes_a_volume_as_it_is_however_often_that_is_asked() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        split(driver).await;
        cluster.server.clear_log();
        let request = detached("pvc-2", "s");
        let made = driver.create(request.clone()).await.expect("there is room");
        // As large as it is, though less was asked for.
        assert_eq!((made.capacity_bytes, &made.accessible_topology[..]), (128 << 20, &[topology("a")][..]));
        assert_eq!(made.content_source, request.volume_content_source);
        assert_eq!(driver.create(request.clone()).await.expect("the same"), made);
        assert_eq!(cluster.writes(), ["POST mirrorvolumes"]);

        // Not even the object of the snapshot is needed for that, nor the volume that it was of.
        known(driver).await;
        driver.merge("s").await.expect("it has no image any more");
        driver.delete("pvc-1").await.expect("it has no snapshot any more");
        assert_eq!(cluster.get("mirrorsnapshots", "s"), None);
        assert_eq!(driver.create(request).await.expect("the same"), made);
        refused(driver.create(detached("pvc-3", "s")).await, Code::NotFound, "no snapshot \"s\"");
        driver.merge("s").await.expect("it is gone");
    });
    let spec = cluster.get("mirrorvolumes", "pvc-2").expect("it is there")["spec"].clone();
    let expected = json!({
        "node": "a", "pool": "fast", "lv": "pvc-2", "name": "pvc-2", "size": "128Mi", "images": 2, "regionSize": "8Mi",
        "source": {"detached": "s"},
    });
    assert_eq!(spec, expected);
}

#[test]
fn what_is_no_snapshot_any_more_is_not_listed_and_whoever_asks_is_told_what_it_is() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        split(driver).await;
        driver.create(detached("pvc-2", "s")).await.expect("there is room");
        known(driver).await;
        cluster.server.clear_log();
        let told = "no snapshot \"s\": it is volume pvc-2 now";
        let get = GetSnapshotRequest { snapshot_id: "s".into(), ..GetSnapshotRequest::default() };
        refused(driver.controller.get_snapshot(get).await, Code::NotFound, told);
        let list = ListSnapshotsRequest { snapshot_id: "s".into(), ..ListSnapshotsRequest::default() };
        assert_eq!(driver.controller.list_snapshots(list).await.expect("known").into_inner().entries, []);
        refused(driver.create(view("pvc-3", "s")).await, Code::NotFound, told);
        let clone = CreateVolumeRequest {
            volume_content_source: view("pvc-3", "s").volume_content_source,
            ..volume("pvc-3")
        };
        refused(driver.create(clone).await, Code::NotFound, told);
        refused(driver.create(detached("pvc-3", "s")).await, Code::NotFound, told);
        let delta = GetMetadataDeltaRequest {
            base_snapshot_id: "s".into(),
            target_snapshot_id: "s".into(),
            ..GetMetadataDeltaRequest::default()
        };
        refused(driver.metadata.get_metadata_delta(delta).await, Code::NotFound, told);
        let again = driver.split(snapshot("s", "pvc-1")).await;
        refused(again, Code::AlreadyExists, "has been, and is volume pvc-2 now");
        assert_eq!(cluster.writes(), [""; 0]);
        driver.snapshot("t", "pvc-1").await;
    });
}

#[test]
fn what_cannot_be_detached_as_asked_is_refused_without_an_object() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        split(driver).await;
        cluster.server.clear_log();
        refused(driver.create(detached("pvc-2", "t")).await, Code::NotFound, "no snapshot \"t\"");
        let large = driver.create(sized("pvc-2", "s", 256, 0)).await;
        refused(large, Code::OutOfRange, "has 128MiB: it can grow afterwards");
        let small = driver.create(sized("pvc-2", "s", 16, 64)).await;
        refused(small, Code::OutOfRange, "at most 64MiB cannot be made of snapshot s, which has 128MiB");
        let mut many = detached("pvc-2", "s");
        many.parameters.insert("splitmirror.io/images".to_owned(), "4".to_owned());
        refused(driver.create(many).await, Code::OutOfRange, "cannot have 4 images at first, but 3 at most");
        let mut other_pool = detached("pvc-2", "s");
        other_pool.parameters.insert("splitmirror.io/pool".to_owned(), "slow".to_owned());
        refused(driver.create(other_pool).await, Code::InvalidArgument, "is in pool fast, not slow");
        let elsewhere =
            CreateVolumeRequest { accessibility_requirements: Some(on(&["b"])), ..detached("pvc-2", "s") };
        refused(driver.create(elsewhere).await, Code::ResourceExhausted, "is on node \"a\"");
        refused(driver.create(detached("pvc-1", "s")).await, Code::AlreadyExists, "exists and");
        let unready = json!({"status": {"conditions": []}});
        cluster.server.merge("mirrorsnapshots", "s", &unready);
        driver.volume("pvc-9").await; // What was told before it is known then.
        refused(driver.create(detached("pvc-2", "s")).await, Code::FailedPrecondition, "s is not ready yet");
    });
    assert_eq!(cluster.writes(), ["POST mirrorvolumes"], "pvc-9");
}

#[test]
fn a_snapshot_that_others_need_is_not_detached() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        split(driver).await;
        driver.create(view("pvc-2", "s")).await.expect("a view takes no room");
        let shown = driver.create(detached("pvc-3", "s")).await;
        refused(shown, Code::FailedPrecondition, "shown by volume pvc-2: delete that first");
        driver.delete("pvc-2").await.expect("nobody uses it");

        let mut clone = detached("pvc-4", "s");
        clone.parameters.remove("splitmirror.io/restore");
        clone.capacity_range = None;
        driver.create(clone).await.expect("there is room");
        cluster.server.merge("mirrorvolumes", "pvc-4", &json!({"status": {"filled": "40%"}}));
        driver.volume("pvc-9").await; // What was told before it is known then.
        let copied = driver.create(detached("pvc-3", "s")).await;
        refused(copied, Code::Aborted, "snapshot s is being copied into volume pvc-4, 40% so far");
        assert_eq!(cluster.get("mirrorvolumes", "pvc-3"), None);
    });
}

#[test]
fn nobody_else_gets_a_snapshot_that_is_becoming_a_volume() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        split(driver).await;
        cluster.nodes.act(Act::Ignore);
        refused(driver.create(detached("pvc-2", "s")).await, Code::Aborted, "is being made on node a");
        cluster.server.clear_log();
        let becoming = "snapshot s is becoming volume pvc-2: try again later";
        refused(driver.create(detached("pvc-3", "s")).await, Code::Aborted, becoming);
        refused(driver.create(view("pvc-3", "s")).await, Code::Aborted, becoming);
        refused(driver.merge("s").await, Code::Aborted, becoming);
        assert_eq!(cluster.writes(), [""; 0]);
        cluster.nodes.act(Act::Obey);
        driver.create(detached("pvc-2", "s")).await.expect("it goes on");
    });
}

#[test]
fn a_detachment_that_its_node_refuses_leaves_the_snapshot_as_it_was() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        split(driver).await;
        cluster.nodes.act_on("pvc-2", Act::Refuse(Class::Exhausted));
        let no_room = driver.create(detached("pvc-2", "s")).await;
        refused(no_room, Code::ResourceExhausted, "as the script says");
        let gone =
            |server: &crate::api::ApiServer| server.get("mirrorvolumes", "pvc-2").is_none().then_some(());
        cluster.server.until("the removal", gone).await;
        driver.create(view("pvc-3", "s")).await.expect("it is a snapshot still");
    });
}

/// A request for a volume of two images that are the last of another's themselves.
fn images_of(name: &str, volume_id: &str) -> CreateVolumeRequest {
    let source = Source::Volume(VolumeSource { volume_id: volume_id.to_owned() });
    CreateVolumeRequest {
        volume_content_source: Some(VolumeContentSource { r#type: Some(source) }),
        ..detached(name, "")
    }
}

#[test]
fn images_of_a_volume_become_a_volume_where_they_are_if_enough_can_stay() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        let mut request = volume_on("pvc-1", &["a"]);
        request.capacity_range.as_mut().expect("there").required_bytes = 128 << 20;
        request.parameters.insert("splitmirror.io/regionSize".to_owned(), "8Mi".to_owned());
        driver.create(request).await.expect("there is room");
        cluster.server.clear_log();
        let few = driver.create(images_of("pvc-2", "pvc-1")).await;
        refused(few, Code::OutOfRange, "images of volume pvc-1 cannot have 2 images at first, but 1 at most");
        refused(driver.create(images_of("pvc-2", "pvc-9")).await, Code::NotFound, "pvc-9");
        assert_eq!(cluster.writes(), [""; 0]);

        cluster.server.merge("mirrorvolumes", "pvc-1", &json!({"spec": {"images": 4}}));
        let made = loop {
            match driver.create(images_of("pvc-2", "pvc-1")).await {
                Ok(made) => break made,
                // The controller has not heard of it yet.
                Err(status) if status.code() == Code::OutOfRange => {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                Err(status) => panic!("{status:?}"),
            }
        };
        assert_eq!((made.capacity_bytes, &made.accessible_topology[..]), (128 << 20, &[topology("a")][..]));
        assert_eq!(driver.create(images_of("pvc-2", "pvc-1")).await.expect("the same"), made);
        cluster.nodes.act(Act::Ignore);
        refused(driver.create(images_of("pvc-3", "pvc-1")).await, Code::Aborted, "is being made on node a");
        let becoming = "images of volume pvc-1 are becoming volume pvc-3: try again later";
        refused(driver.delete("pvc-1").await, Code::Aborted, becoming);
    });
    let spec = cluster.get("mirrorvolumes", "pvc-2").expect("it is there")["spec"].clone();
    assert_eq!((&spec["source"], &spec["regionSize"]), (&json!({"images": "pvc-1"}), &json!("8Mi")));
}
