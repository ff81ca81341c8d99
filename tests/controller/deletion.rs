//! What is deleted, what is refused, what waits.

use serde_json::json;
use splitmirror::report::Class;
use tonic::Code;

use crate::harness::{Cluster, refused, view};
use crate::nodes::Act;

#[test]
fn a_volume_is_deleted_when_its_node_has_removed_it() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.server.clear_log();
        driver.delete("pvc-1").await.expect("nobody uses it");
        assert_eq!(cluster.get("mirrorvolumes", "pvc-1"), None);
        assert_eq!(cluster.writes(), ["PATCH mirrorvolumes/pvc-1"]);
        driver.delete("pvc-1").await.expect("it is gone already");
    });
}

#[test]
fn what_the_cache_does_not_know_the_api_server_is_asked_for() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.delete("unknown").await.expect("there is none");
        driver.merge("unknown").await.expect("there is none");
        driver.delete("no/name").await.expect("there can be none");
        let lines: Vec<String> = cluster.server.requests().iter().map(|request| request.line()).collect();
        let asked = |line: &str| lines.iter().any(|asked| asked == line);
        assert!(asked("GET mirrorvolumes/unknown") && asked("GET mirrorsnapshots/unknown"), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("no/name")), "{lines:?}");
        cluster.server.hold_watches(&["mirrorvolumes"]);
        driver.cluster.nodes.act(Act::Obey);
        cluster.server.put("mirrorvolumes", &other_controllers("pvc-1"));
        cluster
            .server
            .until("the volume", |server| {
                server.get("mirrorvolumes", "pvc-1")?["status"]["size"].as_str().map(drop)
            })
            .await;
        let (deleted, ()) = tokio::join!(driver.delete("pvc-1"), async {
            let doomed =
                |server: &crate::api::ApiServer| server.get("mirrorvolumes", "pvc-1").is_none().then_some(());
            cluster.server.until("the removal", doomed).await;
            cluster.server.hold_watches(&[]);
        });
        deleted.expect("another controller made it a moment ago");
    });
}

fn other_controllers(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorVolume", "metadata": {"name": name},
        "spec": {"node": "a", "pool": "fast", "lv": name, "name": name, "size": "64Mi", "images": 3,
                 "regionSize": "2Mi"},
    })
}

#[test]
fn a_volume_in_use_is_not_even_asked_to_be_deleted() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.server.merge("mirrorvolumes", "pvc-1", &json!({"status": {"staged": true}}));
        driver.volume("pvc-2").await; // What was told before it is known then.
        refused(driver.delete("pvc-1").await, Code::FailedPrecondition, "in use on node b: unmount it first");
        assert_eq!(cluster.get("mirrorvolumes", "pvc-1").expect("it stays")["spec"]["delete"], json!(null));
        cluster.server.merge("mirrorvolumes", "pvc-1", &json!({"status": {"staged": false}}));
        driver.volume("pvc-3").await;
        driver.delete("pvc-1").await.expect("nobody uses it any more");
    });
}

#[test]
fn a_nodes_refusal_to_delete_is_answered_and_taken_back_when_it_is_over() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.nodes.act(Act::Refuse(Class::Precondition));
        refused(driver.delete("pvc-1").await, Code::FailedPrecondition, "as the script says");
        cluster.server.clear_log();
        refused(driver.delete("pvc-1").await, Code::FailedPrecondition, "as the script says");
        assert_eq!(cluster.writes(), [""; 0], "it is asked for already");
        cluster.nodes.act(Act::Obey);
        driver.delete("pvc-1").await.expect("it is free");
    });
}

#[test]
fn a_silent_node_is_waited_for() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.snapshot("s", "pvc-1").await;
        cluster.nodes.act(Act::Ignore);
        refused(driver.merge("s").await, Code::Aborted, "snapshot s is being deleted on node b: try again");
        refused(
            driver.delete("pvc-1").await,
            Code::Aborted,
            "volume pvc-1 is being deleted on node b: try again",
        );
        cluster.nodes.act(Act::Obey);
        driver.merge("s").await.expect("the node is back");
        driver.delete("pvc-1").await.expect("the node is back");
    });
    assert!(cluster.server.list("mirrorvolumes").is_empty());
}

#[test]
fn a_volume_with_a_snapshot_and_a_snapshot_with_a_view_stay() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.snapshot("s", "pvc-1").await;
        driver.create(view("pvc-2", "s")).await.expect("a view takes no room");
        refused(driver.delete("pvc-1").await, Code::FailedPrecondition, "has snapshot s: delete that first");
        refused(
            driver.merge("s").await,
            Code::FailedPrecondition,
            "is shown by volume pvc-2: delete that first",
        );
        for (resource, name) in [("mirrorvolumes", "pvc-1"), ("mirrorsnapshots", "s")] {
            assert_eq!(cluster.get(resource, name).expect("it stays")["spec"]["delete"], json!(null));
        }
        driver.delete("pvc-2").await.expect("nobody uses it");
        driver.merge("s").await.expect("no view shows it");
        driver.delete("pvc-1").await.expect("no snapshot is left");
    });
}

#[test]
fn a_snapshot_is_gone_when_its_merge_has_begun() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.snapshot("s", "pvc-1").await;
        cluster.nodes.act(Act::MergeSlowly);
        driver.merge("s").await.expect("the merge has begun");
        assert!(cluster.get("mirrorsnapshots", "s").is_some(), "it still merges");
        refused(driver.create(view("pvc-2", "s")).await, Code::NotFound, "no snapshot \"s\"");
        refused(
            driver.split(crate::harness::snapshot("s", "pvc-1")).await,
            Code::Aborted,
            "is still being removed on node b",
        );
        cluster.nodes.act(Act::Obey);
        driver.snapshot("s", "pvc-1").await;
    });
}
