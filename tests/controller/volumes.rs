//! Volumes and views from the call to the answer.

use serde_json::json;
use splitmirror::csi::proto::CreateVolumeRequest;
use splitmirror::report::Class;
use tonic::Code;

use crate::harness::{Cluster, on, refused, topology, view, volume, volume_on};
use crate::nodes::Act;

#[test]
fn a_volume_is_placed_made_by_its_node_and_told() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        let mut request = volume_on("pvc-1", &["a", "c"]);
        let metadata = [("csi.storage.k8s.io/pvc/name", "data"), ("csi.storage.k8s.io/pvc/namespace", "db")];
        request.parameters.extend(metadata.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let volume = driver.create(request).await.expect("there is room");
        assert_eq!((volume.volume_id.as_str(), volume.capacity_bytes), ("pvc-1", 64 << 20));
        assert_eq!(volume.accessible_topology, [topology("a")]);
    });
    let object = cluster.get("mirrorvolumes", "pvc-1").expect("it is there");
    let spec = json!({
        "node": "a", "pool": "fast", "lv": "pvc-1", "name": "pvc-1", "size": "64Mi", "images": 3,
        "regionSize": "2Mi", "claim": {"namespace": "db", "name": "data"},
    });
    assert_eq!(object["spec"], spec);
    assert_eq!(cluster.writes(), ["POST mirrorvolumes"], "one write of the controller for each volume");
}

#[test]
fn a_volume_asked_for_again_is_the_same_one() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        let first = driver.volume("pvc-1").await;
        assert_eq!(driver.volume("pvc-1").await, first);
        let other = |change: fn(&mut CreateVolumeRequest)| {
            let mut request = volume("pvc-1");
            change(&mut request);
            request
        };
        let images = other(|request| {
            request.parameters.insert("splitmirror.io/images".to_owned(), "2".to_owned());
        });
        refused(driver.create(images).await, Code::AlreadyExists, "\"pvc-1\" exists and has other images");
        let size = other(|request| request.capacity_range.as_mut().expect("there").required_bytes = 1 << 30);
        refused(driver.create(size).await, Code::AlreadyExists, "exists and has 64MiB");
        let pool = other(|request| {
            request.parameters.insert("splitmirror.io/pool".to_owned(), "slow".to_owned());
        });
        refused(driver.create(pool).await, Code::AlreadyExists, "is in pool fast");
        let elsewhere = volume_on("pvc-1", &["c"]);
        refused(driver.create(elsewhere).await, Code::ResourceExhausted, "is on node \"b\"");
    });
}

#[test]
fn a_name_that_is_no_object_name_is_hashed_and_found_again() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        let volume = driver.volume("Odd name/1").await;
        assert!(volume.volume_id.starts_with("v-"), "{}", volume.volume_id);
        assert_eq!(driver.volume("Odd name/1").await, volume);
        let spec = cluster.get("mirrorvolumes", &volume.volume_id).expect("it is there")["spec"].clone();
        assert_eq!((&spec["name"], &spec["lv"]), (&json!("Odd name/1"), &json!(volume.volume_id)));
    });
}

#[test]
fn what_a_node_refuses_is_answered_and_nothing_of_it_stays() {
    let cluster = Cluster::new();
    cluster.nodes.act(Act::Refuse(Class::Exhausted));
    cluster.life(async |driver| {
        let first = driver.create(volume_on("pvc-1", &["a"])).await;
        refused(first, Code::ResourceExhausted, "as the script says");
        let gone =
            |server: &crate::api::ApiServer| server.get("mirrorvolumes", "pvc-1").is_none().then_some(());
        cluster.server.until("the removal", gone).await;
        cluster.nodes.act(Act::Obey);
        // The pod was scheduled to another node.
        let second = driver.create(volume_on("pvc-1", &["c"])).await.expect("there is room");
        assert_eq!(second.accessible_topology, [topology("c")]);
    });
}

#[test]
fn a_try_on_another_node_waits_until_the_refused_one_is_gone() {
    let cluster = Cluster::new();
    cluster.nodes.act(Act::Refuse(Class::Exhausted));
    cluster.life(async |driver| {
        refused(
            driver.create(volume_on("pvc-1", &["a"])).await,
            Code::ResourceExhausted,
            "as the script says",
        );
        cluster.nodes.act(Act::Ignore);
        cluster.server.put("mirrorvolumes", &doomed("pvc-1"));
        let second = driver.create(volume_on("pvc-1", &["c"])).await;
        refused(second, Code::Aborted, "is still being removed on node a");
        cluster.nodes.act(Act::Obey);
        let third = driver.create(volume_on("pvc-1", &["c"])).await.expect("its place is free");
        assert_eq!(third.accessible_topology, [topology("c")]);
    });
}

fn doomed(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorVolume", "metadata": {"name": name},
        "spec": {"node": "a", "pool": "fast", "lv": name, "name": name, "size": "64Mi", "images": 3,
                 "regionSize": "2Mi", "delete": true},
    })
}

#[test]
fn a_volume_that_fits_nowhere_is_refused_without_an_object() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        let mut large = volume_on("pvc-1", &["a", "c"]);
        large.capacity_range.as_mut().expect("there").required_bytes = 1 << 40;
        refused(driver.create(large).await, Code::ResourceExhausted, "node a: pool fast has room for 100GiB");
        let nowhere = volume_on("pvc-1", &["d"]);
        refused(driver.create(nowhere).await, Code::ResourceExhausted, "node d has no pool");
    });
    assert_eq!(cluster.writes(), [""; 0]);
}

#[test]
fn a_silent_node_is_waited_for_and_the_call_is_taken_up_again() {
    let cluster = Cluster::new();
    cluster.nodes.act(Act::Ignore);
    cluster.life(async |driver| {
        let before = tokio::time::Instant::now();
        refused(driver.create(volume("pvc-1")).await, Code::Aborted, "is being made on node b: try again");
        assert_eq!(before.elapsed().as_secs(), 109, "just before the caller hangs up");
        cluster.nodes.act(Act::Obey);
        driver.volume("pvc-1").await;
    });
    assert_eq!(cluster.writes(), ["POST mirrorvolumes"]);
}

#[test]
fn a_passing_trouble_of_a_node_is_no_answer() {
    let cluster = Cluster::new();
    cluster.nodes.act(Act::Refuse(Class::Transient));
    cluster.life(async |driver| {
        let request = volume("pvc-1");
        let (created, ()) = tokio::join!(driver.create(request), async {
            let told = |server: &crate::api::ApiServer| {
                let object = server.get("mirrorvolumes", "pvc-1")?;
                object["status"]["conditions"][0]["reason"].is_string().then_some(())
            };
            cluster.server.until("the trouble", told).await;
            cluster.nodes.act(Act::Obey);
        });
        created.expect("the node got over it");
    });
}

#[test]
fn a_volume_that_was_made_is_not_given_up_for_a_later_trouble() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        let lost = json!({"status": {"phase": "Failed", "conditions": [
            {"type": "Ready", "status": "False", "reason": "NotFound", "message": "its disks are away",
             "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        cluster.server.merge("mirrorvolumes", "pvc-1", &lost);
        refused(driver.create(volume("pvc-1")).await, Code::NotFound, "its disks are away");
        assert_eq!(cluster.get("mirrorvolumes", "pvc-1").expect("it stays")["spec"]["delete"], json!(null));
    });
}

#[test]
fn a_view_is_where_its_snapshot_is() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.create(volume_on("pvc-1", &["a"])).await.expect("there is room");
        driver.snapshot("s", "pvc-1").await;
        let shown = driver.create(view("pvc-2", "s")).await.expect("a view takes no room");
        assert_eq!((shown.capacity_bytes, &shown.accessible_topology[..]), (64 << 20, &[topology("a")][..]));
        assert_eq!(driver.create(view("pvc-2", "s")).await.expect("the same"), shown);
        let elsewhere =
            CreateVolumeRequest { accessibility_requirements: Some(on(&["b"])), ..view("pvc-3", "s") };
        refused(driver.create(elsewhere).await, Code::ResourceExhausted, "is on node \"a\"");
        refused(driver.create(view("pvc-3", "t")).await, Code::NotFound, "no snapshot \"t\"");
        refused(driver.create(view("pvc-1", "s")).await, Code::AlreadyExists, "is no view of snapshot s");
    });
    let spec = cluster.get("mirrorvolumes", "pvc-2").expect("it is there")["spec"].clone();
    assert_eq!(
        spec,
        json!({"node": "a", "pool": "fast", "name": "pvc-2", "size": "64Mi", "source": {"snapshot": "s"}})
    );
}
