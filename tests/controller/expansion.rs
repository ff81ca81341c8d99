//! Volumes that grow.

use serde_json::json;
use splitmirror::report::Class;
use tonic::Code;

use crate::harness::{Cluster, refused, view};
use crate::nodes::Act;

const MIB: i64 = 1 << 20;

#[test]
fn a_volume_grows_to_whole_extents() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.server.clear_log();
        assert_eq!(driver.expand("pvc-1", 97 * MIB, 0).await.expect("there is room"), 100 * MIB);
        assert_eq!(driver.expand("pvc-1", 97 * MIB, 0).await.expect("it is so large"), 100 * MIB);
        assert_eq!(driver.expand("pvc-1", MIB, 0).await.expect("it is larger"), 100 * MIB);
        assert_eq!(cluster.writes(), ["PATCH mirrorvolumes/pvc-1"]);
        refused(driver.expand("pvc-1", MIB, 2 * MIB).await, Code::OutOfRange, "more than the limit of 2MiB");
        refused(driver.expand("pvc-9", MIB, 0).await, Code::NotFound, "no volume \"pvc-9\"");
    });
}

#[test]
fn a_refusal_is_answered_and_what_is_asked_for_last_counts() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.nodes.act(Act::Refuse(Class::Exhausted));
        refused(driver.expand("pvc-1", 4096 * MIB, 8192 * MIB).await, Code::OutOfRange, "as the script says");
        cluster.nodes.act(Act::Obey);
        cluster.nodes.act_on("pvc-1", Act::Ignore);
        refused(driver.expand("pvc-1", 128 * MIB, 0).await, Code::Aborted, "is growing on node b: try again");
        let spec = cluster.get("mirrorvolumes", "pvc-1").expect("it is there")["spec"].clone();
        assert_eq!((&spec["size"], &spec["limit"]), (&json!("128Mi"), &json!(null)));
        cluster.nodes.act(Act::Obey);
        assert_eq!(driver.expand("pvc-1", 128 * MIB, 0).await.expect("there is room"), 128 * MIB);
    });
}

#[test]
fn a_view_does_not_grow() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.snapshot("s", "pvc-1").await;
        driver.create(view("pvc-2", "s")).await.expect("a view takes no room");
        refused(driver.expand("pvc-2", 128 * MIB, 0).await, Code::FailedPrecondition, "cannot grow");
    });
}
