//! Writable volumes from snapshots and from volumes: where they are made, and what must wait until they are filled.

use serde_json::json;
use splitmirror::csi::proto::volume_content_source::{SnapshotSource, Type as Source, VolumeSource};
use splitmirror::csi::proto::{CreateVolumeRequest, VolumeContentSource};
use tonic::Code;

use crate::harness::{Cluster, on, refused, snapshot, topology, volume, volume_on};

/// A request for so many MiB that hold what a source holds.
fn clone(name: &str, mib: i64, source: Source) -> CreateVolumeRequest {
    let mut request = volume(name);
    request.capacity_range.as_mut().expect("there").required_bytes = mib << 20;
    request.volume_content_source = Some(VolumeContentSource { r#type: Some(source) });
    request
}

fn of_snapshot(id: &str) -> Source {
    Source::Snapshot(SnapshotSource { snapshot_id: id.to_owned() })
}

fn of_volume(id: &str) -> Source {
    Source::Volume(VolumeSource { volume_id: id.to_owned() })
}

#[test]
fn a_clone_is_made_where_its_source_is() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.create(volume_on("pvc-1", &["a"])).await.expect("there is room");
        driver.snapshot("s", "pvc-1").await;
        cluster.server.clear_log();
        for (name, source) in [("pvc-2", of_snapshot("s")), ("pvc-3", of_volume("pvc-1"))] {
            let request = clone(name, 128, source);
            let made = driver.create(request.clone()).await.expect("there is room");
            assert_eq!(
                (made.capacity_bytes, &made.accessible_topology[..]),
                (128 << 20, &[topology("a")][..])
            );
            assert_eq!(made.content_source, request.volume_content_source);
            assert_eq!(driver.create(request).await.expect("the same"), made);
        }
    });
    assert_eq!(cluster.writes(), ["POST mirrorvolumes"; 2]);
    for (name, source) in [("pvc-2", json!({"snapshot": "s"})), ("pvc-3", json!({"volume": "pvc-1"}))] {
        let spec = cluster.get("mirrorvolumes", name).expect("it is there")["spec"].clone();
        let expected = json!({
            "node": "a", "pool": "fast", "lv": name, "name": name, "size": "128Mi", "images": 3,
            "regionSize": "2Mi", "source": source,
        });
        assert_eq!(spec, expected);
    }
}

#[test]
fn what_cannot_be_cloned_as_asked_is_refused_without_an_object() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.create(volume_on("pvc-1", &["a"])).await.expect("there is room");
        driver.snapshot("s", "pvc-1").await;
        cluster.server.clear_log();
        let elsewhere = CreateVolumeRequest {
            accessibility_requirements: Some(on(&["b"])),
            ..clone("pvc-2", 64, of_snapshot("s"))
        };
        refused(driver.create(elsewhere).await, Code::ResourceExhausted, "is on node \"a\"");
        // Node b would have the room.
        let large = clone("pvc-2", 150 << 10, of_volume("pvc-1"));
        refused(driver.create(large).await, Code::ResourceExhausted, "node a: pool fast has room for 100GiB");
        let mut other_pool = clone("pvc-2", 64, of_snapshot("s"));
        other_pool.parameters.insert("splitmirror.io/pool".to_owned(), "slow".to_owned());
        refused(
            driver.create(other_pool).await,
            Code::InvalidArgument,
            "snapshot s is in pool fast, not slow",
        );
        let small = clone("pvc-2", 32, of_snapshot("s"));
        refused(driver.create(small).await, Code::OutOfRange, "cannot hold its source");
        for nothing in [of_snapshot("t"), of_volume("pvc-9")] {
            refused(driver.create(clone("pvc-2", 64, nothing)).await, Code::NotFound, "there is no");
        }
        let taken = driver.create(clone("pvc-1", 64, of_snapshot("s"))).await;
        refused(taken, Code::AlreadyExists, "exists and was not made from this source");
    });
    assert_eq!(cluster.writes(), [""; 0]);
}

#[test]
fn what_a_clone_is_filled_from_stays_until_then_and_the_clone_is_not_changed() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.snapshot("s", "pvc-1").await;
        driver.create(clone("pvc-2", 64, of_snapshot("s"))).await.expect("there is room");
        driver.create(clone("pvc-3", 64, of_volume("pvc-1"))).await.expect("there is room");
        let filled = |far: serde_json::Value| {
            for name in ["pvc-2", "pvc-3"] {
                cluster.server.merge("mirrorvolumes", name, &json!({"status": {"filled": far}}));
            }
        };
        filled(json!("40%"));
        driver.volume("pvc-4").await; // What was told before it is known then.
        cluster.server.clear_log();
        let copied = "snapshot s is being copied into volume pvc-2, 40% so far: try again later";
        refused(driver.merge("s").await, Code::Aborted, copied);
        refused(
            driver.delete("pvc-1").await,
            Code::Aborted,
            "volume pvc-1 is being copied into volume pvc-3",
        );
        refused(
            driver.split(snapshot("t", "pvc-2")).await,
            Code::Aborted,
            "still being filled from its source",
        );
        refused(driver.expand("pvc-2", 128 << 20, 0).await, Code::Aborted, "40% so far: try again later");
        let again = driver.create(clone("pvc-5", 64, of_volume("pvc-2"))).await;
        refused(again, Code::Aborted, "volume pvc-2 is still being filled");
        assert_eq!(cluster.writes(), [""; 0]);

        filled(json!(null));
        driver.volume("pvc-5").await;
        driver.merge("s").await.expect("it is needed no more");
        driver.delete("pvc-1").await.expect("it is needed no more");
        driver.delete("pvc-2").await.expect("nobody uses it");
    });
}
