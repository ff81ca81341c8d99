//! Nodes that do not exist any more.

use serde_json::json;
use tonic::Code;

use crate::harness::{Cluster, refused, volume_on};
use crate::nodes::Act;

const UID: &str = "0b5c92f0-1f3e-4f0e-9c55-0d6a3f1f8a11";

#[test]
fn a_deletion_on_a_node_that_is_gone_ends_with_an_event() {
    let cluster = Cluster::new();
    let name = format!("pvc-{UID}");
    cluster.life(async |driver| {
        let mut request = volume_on(&name, &["a"]);
        let metadata = [("csi.storage.k8s.io/pvc/name", "data"), ("csi.storage.k8s.io/pvc/namespace", "db")];
        request.parameters.extend(metadata.map(|(key, value)| (key.to_owned(), value.to_owned())));
        driver.create(request).await.expect("there is room");
        cluster.nodes.act(Act::Ignore);
        refused(driver.delete(&name).await, Code::Aborted, "is being deleted on node a");
        cluster.server.remove("nodes", "a");
        driver.delete(&name).await.expect("nobody else could delete it");
        assert_eq!(cluster.get("mirrorvolumes", &name), None);
    });
    let events = cluster.server.list("events");
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&event["reason"], &event["type"]), (&json!("NodeGone"), &json!("Warning")));
    assert_eq!(event["regarding"]["kind"], "PersistentVolumeClaim");
    assert_eq!((&event["regarding"]["uid"], &event["metadata"]["namespace"]), (&json!(UID), &json!("db")));
    assert!(event["note"].as_str().expect("text").contains("node a is gone"), "{event}");
}

#[test]
fn what_a_node_was_making_when_it_went_is_made_on_another_one() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        cluster.nodes.act(Act::Ignore);
        refused(driver.create(volume_on("pvc-1", &["a"])).await, Code::Aborted, "is being made on node a");
        cluster.server.remove("nodes", "a");
        // What was told before it is known then.
        refused(driver.create(volume_on("pvc-2", &["b"])).await, Code::Aborted, "is being made");
        refused(driver.create(volume_on("pvc-1", &["b"])).await, Code::Aborted, "is being made on node b");
        cluster.nodes.act(Act::Obey);
        driver.create(volume_on("pvc-1", &["b"])).await.expect("there is room");
        assert_eq!(cluster.get("mirrorvolumes", "pvc-1").expect("it is there")["spec"]["node"], "b");
    });
}

#[test]
fn what_was_to_be_deleted_when_the_controller_was_away_is_found_at_its_start() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.create(volume_on("pvc-1", &["a"])).await.expect("there is room");
        driver.snapshot("s", "pvc-1").await;
    });
    cluster.nodes.act(Act::Ignore);
    cluster.server.remove("nodes", "a");
    for (resource, name) in [("mirrorvolumes", "pvc-1"), ("mirrorsnapshots", "s")] {
        cluster.server.merge(resource, name, &json!({"spec": {"delete": true}}));
    }
    cluster.life(async |_| {
        for (resource, name) in [("mirrorvolumes", "pvc-1"), ("mirrorsnapshots", "s")] {
            let gone = |server: &crate::api::ApiServer| server.get(resource, name).is_none().then_some(());
            cluster.server.until("the removal", gone).await;
        }
    });
}

#[test]
fn what_nobody_wants_deleted_stays_and_what_a_living_node_has_too() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.create(volume_on("pvc-1", &["a"])).await.expect("there is room");
        driver.create(volume_on("pvc-2", &["b"])).await.expect("there is room");
        driver.create(volume_on("pvc-3", &["a"])).await.expect("there is room");
        cluster.nodes.act(Act::Ignore);
        refused(driver.delete("pvc-2").await, Code::Aborted, "is being deleted on node b");
        cluster.server.remove("nodes", "a");
        driver.delete("pvc-3").await.expect("nobody else could delete it");
        assert!(cluster.get("mirrorvolumes", "pvc-1").is_some(), "nobody asked for it");
        assert!(cluster.get("mirrorvolumes", "pvc-2").is_some(), "its node may come back");
    });
}

#[test]
fn a_node_that_only_the_watch_has_missed_is_not_gone() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.create(volume_on("pvc-1", &["a"])).await.expect("there is room");
        cluster.nodes.act(Act::Ignore);
        cluster.server.remove("nodes", "a");
        // What was told before it is known then.
        refused(driver.create(volume_on("pvc-2", &["b"])).await, Code::Aborted, "is being made");
        cluster.server.hold_watches(&["nodes"]);
        cluster.node("a");
        refused(driver.delete("pvc-1").await, Code::Aborted, "is being deleted on node a");
        assert!(cluster.get("mirrorvolumes", "pvc-1").is_some());
    });
}
