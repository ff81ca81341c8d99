//! VolumeRollbacks: what a user names, what the nodes are asked for, what is told.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Cluster, Driver};
use crate::nodes::Act;

const NAMESPACE: &str = "db";

/// A claim that is bound to a volume of ours, and a VolumeSnapshot of it, both made through the driver.
async fn claim(driver: &mut Driver<'_>, number: u8) {
    let (volume, snapshot) = (format!("pvc-{number}"), format!("snap-{number}"));
    driver.volume(&volume).await;
    driver.snapshot(&snapshot, &volume).await;
    let server = &driver.cluster.server;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": format!("claim-{number}"), "namespace": NAMESPACE}, "spec": {"volumeName": volume},
    });
    let uid = server.put("persistentvolumeclaims", &claim)["metadata"]["uid"].clone();
    let driver = "splitmirror.io";
    let bound = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume},
        "spec": {"csi": {"driver": driver, "volumeHandle": volume}, "claimRef": {"uid": uid}},
    });
    server.put("persistentvolumes", &bound);
    let (api_version, content) = ("snapshot.storage.k8s.io/v1", format!("content-{number}"));
    let taken = json!({
        "apiVersion": api_version, "kind": "VolumeSnapshot",
        "metadata": {"name": format!("nightly-{number}"), "namespace": NAMESPACE},
        "spec": {"source": {"persistentVolumeClaimName": format!("claim-{number}")}},
        "status": {"boundVolumeSnapshotContentName": content, "readyToUse": true},
    });
    let uid = server.put("volumesnapshots", &taken)["metadata"]["uid"].clone();
    let content = json!({
        "apiVersion": api_version, "kind": "VolumeSnapshotContent", "metadata": {"name": content},
        "spec": {"driver": driver, "volumeSnapshotRef": {"uid": uid}}, "status": {"snapshotHandle": snapshot},
    });
    server.put("volumesnapshotcontents", &content);
}

/// A user asks for a claim to be put back, so long ago.
fn ask(cluster: &Cluster, name: &str, claim: &str, snapshot: &str, ago: Duration) -> String {
    let created = Timestamp::now().checked_sub(ago).expect("in range");
    let object = json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "VolumeRollback",
        "metadata": {"name": name, "namespace": NAMESPACE, "creationTimestamp": created.to_string()},
        "spec": {"claim": claim, "snapshot": snapshot},
    });
    let made = cluster.server.put("volumerollbacks", &object);
    made["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// Waits until a rollback is in a phase; why it is so.
async fn told(cluster: &Cluster, name: &str, phase: &str) -> String {
    let what = format!("{name} {phase}");
    let is_so = |object: &Value| object["status"]["phase"] == phase;
    let ready = |server: &crate::api::ApiServer| server.get("volumerollbacks", name).filter(is_so);
    let object = cluster.server.until(&what, ready).await;
    object["status"]["conditions"][0]["message"].as_str().expect("a condition").to_owned()
}

fn order(cluster: &Cluster, volume: &str) -> Value {
    cluster.get("mirrorvolumes", volume).expect("a volume")["spec"]["rollback"].clone()
}

const NOW: Duration = Duration::ZERO;

/// A rollback of a new claim whose node does nothing.
async fn ask_a_silent_node(driver: &mut Driver<'_>) {
    claim(driver, 1).await;
    let cluster = driver.cluster;
    cluster.nodes.act(Act::Ignore);
    ask(cluster, "back", "claim-1", "nightly-1", NOW);
    told(cluster, "back", "Pending").await;
}

#[test]
fn a_claim_is_put_back_by_its_node_and_that_is_told() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        claim(driver, 1).await;
        cluster.server.clear_log();
        let uid = ask(&cluster, "back", "claim-1", "nightly-1", NOW);
        told(&cluster, "back", "Done").await;
        let order = order(&cluster, "pvc-1");
        assert_eq!((&order["snapshot"], &order["request"]), (&"snap-1".into(), &uid.into()));
        let status = cluster.get("volumerollbacks", "back").expect("there")["status"].clone();
        assert_eq!((&status["volume"], &status["copied"]), (&"pvc-1".into(), &"4Mi".into()));
        assert_eq!(status["conditions"][0]["status"], "True");
        let writes = cluster.writes();
        assert_eq!(writes[0], "PATCH mirrorvolumes/pvc-1", "{writes:?}");
    });
}

#[test]
fn it_goes_on_where_the_last_controller_was_killed() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        ask_a_silent_node(driver).await;
    });
    let ordered = order(&cluster, "pvc-1");
    cluster.nodes.act(Act::Obey);
    cluster.life(async |_| {
        told(&cluster, "back", "Done").await;
    });
    assert_eq!(order(&cluster, "pvc-1"), ordered, "it was asked for once");
}

#[test]
fn one_rollback_of_a_volume_waits_for_the_other() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        claim(driver, 1).await;
        cluster.nodes.act(Act::Ignore);
        let first = ask(&cluster, "first", "claim-1", "nightly-1", Duration::from_secs(2));
        told(&cluster, "first", "Pending").await;
        ask(&cluster, "second", "claim-1", "nightly-1", Duration::from_secs(1));
        let why = told(&cluster, "second", "Pending").await;
        assert_eq!(why, "VolumeRollback first of the same claim is not over");
        assert_eq!(order(&cluster, "pvc-1")["request"], first);
        cluster.nodes.act(Act::Obey);
        told(&cluster, "first", "Done").await;
        told(&cluster, "second", "Done").await;
    });
}

#[test]
fn what_is_deleted_before_its_node_has_begun_is_taken_back() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        ask_a_silent_node(driver).await;
        cluster.server.remove("volumerollbacks", "back");
        cluster.server.until("no order", |_| order(&cluster, "pvc-1").is_null().then_some(())).await;
    });
}

#[test]
fn what_cannot_be_is_told_and_asks_no_node() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        claim(driver, 1).await;
        claim(driver, 2).await;
        let (late, pvc, other) = (Duration::from_secs(301), "persistentvolumes", "volumesnapshotcontents");
        for (name, claim, snapshot, ago, phase, why) in [
            ("a", "claim-9", "nightly-1", NOW, "Pending", "there is no claim claim-9"),
            ("b", "claim-1", "nightly-9", NOW, "Pending", "there is no VolumeSnapshot nightly-9"),
            (
                "c",
                "claim-9",
                "nightly-1",
                late,
                "Failed",
                "it was not begun in time: there is no claim claim-9",
            ),
            ("d", "claim-1", "nightly-1", late, "Failed", "it was not begun in time: nobody came to it"),
            ("e", "claim-1", "nightly-2", NOW, "Failed", "VolumeSnapshot nightly-2 is not of claim claim-1"),
        ] {
            ask(&cluster, name, claim, snapshot, ago);
            assert_eq!(told(&cluster, name, phase).await, why);
        }
        let detached = json!({"status": {"phase": "Detached", "detachedTo": "pvc-9"}});
        cluster.server.merge("mirrorsnapshots", "snap-2", &detached);
        ask(&cluster, "i", "claim-2", "nightly-2", NOW);
        let why = "VolumeSnapshot nightly-2 is no snapshot any more: it is volume pvc-9 now";
        assert_eq!(told(&cluster, "i", "Failed").await, why);
        // A volume whose claim is another one by now, and a snapshot that was bound to another object.
        cluster.server.merge(pvc, "pvc-1", &json!({"spec": {"claimRef": {"uid": "of-another"}}}));
        ask(&cluster, "f", "claim-1", "nightly-1", NOW);
        assert_eq!(told(&cluster, "f", "Pending").await, "claim claim-1 is not bound to a volume");
        cluster.server.merge(
            other,
            "content-2",
            &json!({"spec": {"volumeSnapshotRef": {"uid": "of-another"}}}),
        );
        ask(&cluster, "g", "claim-2", "nightly-2", NOW);
        assert_eq!(told(&cluster, "g", "Pending").await, "VolumeSnapshot nightly-2 is not ready");
        cluster.server.merge(pvc, "pvc-2", &json!({"spec": {"csi": {"driver": "another.example"}}}));
        ask(&cluster, "h", "claim-2", "nightly-2", NOW);
        assert_eq!(told(&cluster, "h", "Failed").await, "claim claim-2 is not a volume of splitmirror.io");
        assert!(order(&cluster, "pvc-1").is_null() && order(&cluster, "pvc-2").is_null());
    });
}
