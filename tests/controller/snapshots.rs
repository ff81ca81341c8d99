//! Splits, and their refusals.

use serde_json::json;
use splitmirror::report::Class;
use tonic::Code;

use crate::harness::{Cluster, on, refused, snapshot, topology, view};
use crate::nodes::Act;

#[test]
fn a_snapshot_is_made_by_its_volumes_node_and_told() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.server.clear_log();
        let mut request = snapshot("snapshot-1", "pvc-1");
        let parameters = [
            ("splitmirror.io/minInSync", "2"),
            ("csi.storage.k8s.io/volumesnapshot/name", "nightly"),
            ("csi.storage.k8s.io/volumesnapshot/namespace", "db"),
        ];
        request.parameters.extend(parameters.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let made = driver.split(request).await.expect("an image can be spared");
        assert_eq!((made.snapshot_id.as_str(), made.source_volume_id.as_str()), ("snapshot-1", "pvc-1"));
        assert_eq!((made.size_bytes, made.ready_to_use), (64 << 20, true));
        let cut = made.creation_time.expect("it is told");
        assert_eq!((cut.seconds, cut.nanos), (1_772_366_400, 1_000));
        assert_eq!(made.accessible_topology, [topology("b")]);
    });
    let object = cluster.get("mirrorsnapshots", "snapshot-1").expect("it is there");
    assert!(
        object["spec"]["key"].as_str().expect("a key").starts_with("v-"),
        "LVM2 keeps names like snapshot…"
    );
    let spec = json!({
        "node": "b", "pool": "fast", "volume": "pvc-1", "name": "snapshot-1", "minInSync": 2,
        "key": object["spec"]["key"], "volumeSnapshot": {"namespace": "db", "name": "nightly"},
    });
    assert_eq!(object["spec"], spec);
    assert_eq!(cluster.writes(), ["POST mirrorsnapshots"]);
}

#[test]
fn a_snapshot_for_which_an_image_is_added_leaves_all_of_the_volume() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        let grown = |min_in_sync: &str| {
            let mut request = snapshot("snapshot-1", "pvc-1");
            let parameters =
                [("splitmirror.io/minInSync", min_in_sync), ("splitmirror.io/snapshotPolicy", "grow")];
            request.parameters.extend(parameters.map(|(key, value)| (key.to_owned(), value.to_owned())));
            request
        };
        refused(driver.split(grown("4")).await, Code::FailedPrecondition, "leave 4 images in sync");
        driver.split(grown("3")).await.expect("its images are three");
    });
    let object = cluster.get("mirrorsnapshots", "snapshot-1").expect("it is there");
    assert_eq!((&object["spec"]["policy"], &object["spec"]["minInSync"]), (&"grow".into(), &3.into()));
}

#[test]
fn a_name_is_one_volumes_only() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.volume("pvc-2").await;
        let first = driver.snapshot("s", "pvc-1").await;
        assert_eq!(driver.snapshot("s", "pvc-1").await, first);
        refused(driver.split(snapshot("s", "pvc-2")).await, Code::AlreadyExists, "exists, of volume pvc-1");
    });
}

#[test]
fn what_a_node_refuses_is_answered_and_nothing_of_it_stays() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.nodes.act(Act::Refuse(Class::Exhausted));
        refused(driver.split(snapshot("s", "pvc-1")).await, Code::ResourceExhausted, "as the script says");
        let gone =
            |server: &crate::api::ApiServer| server.get("mirrorsnapshots", "s").is_none().then_some(());
        cluster.server.until("the removal", gone).await;
        cluster.nodes.act(Act::Obey);
        driver.snapshot("s", "pvc-1").await;
    });
}

#[test]
fn what_no_node_could_do_is_refused_without_an_object() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.snapshot("s", "pvc-1").await;
        driver.create(view("pvc-2", "s")).await.expect("a view takes no room");
        cluster.server.clear_log();
        refused(driver.split(snapshot("t", "pvc-9")).await, Code::NotFound, "no volume \"pvc-9\"");
        refused(driver.split(snapshot("t", "pvc-2")).await, Code::FailedPrecondition, "shows snapshot s");
        let mut strict = snapshot("t", "pvc-1");
        strict.parameters.insert("splitmirror.io/minInSync".to_owned(), "3".to_owned());
        refused(
            driver.split(strict).await,
            Code::FailedPrecondition,
            "leave 3 images in sync, and it has 3 in all",
        );
        let mut elsewhere = snapshot("t", "pvc-1");
        elsewhere.accessibility_requirements = Some(on(&["a"]));
        refused(driver.split(elsewhere).await, Code::ResourceExhausted, "is on node \"b\"");
    });
    assert_eq!(cluster.writes(), [""; 0]);
}

#[test]
fn a_volume_that_is_being_deleted_is_not_split() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.nodes.act(Act::Ignore);
        refused(driver.delete("pvc-1").await, Code::Aborted, "is being deleted");
        refused(
            driver.split(snapshot("s", "pvc-1")).await,
            Code::FailedPrecondition,
            "pvc-1 is being deleted",
        );
    });
}
