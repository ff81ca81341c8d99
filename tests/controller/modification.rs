//! Volumes that are changed while they are used.

use std::collections::HashMap;

use serde_json::json;
use splitmirror::csi::proto::ControllerModifyVolumeRequest;
use splitmirror::report::Class;
use tonic::Code;

use crate::harness::{Cluster, refused, view};
use crate::nodes::Act;

fn request(id: &str, entries: &[(&str, &str)]) -> ControllerModifyVolumeRequest {
    let entry = |(key, value): &(&str, &str)| (format!("splitmirror.io/{key}"), (*value).to_owned());
    let mutable_parameters: HashMap<String, String> = entries.iter().map(entry).collect();
    ControllerModifyVolumeRequest { volume_id: id.to_owned(), mutable_parameters, ..Default::default() }
}

#[test]
fn a_volume_is_changed_and_only_what_is_named() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        let before = cluster.get("mirrorvolumes", "pvc-1").expect("it is there")["spec"].clone();
        cluster.server.clear_log();
        let change = [
            ("images", "3"),
            ("minRecoveryRate", "2000"),
            ("writeMostly", "rotational"),
            ("regionSize", "1Mi"),
        ];
        driver.controller.controller_modify_volume(request("pvc-1", &change)).await.expect("possible");
        assert_eq!(cluster.writes(), ["PATCH mirrorvolumes/pvc-1"]);
        let mut wanted = before;
        wanted["images"] = json!(3);
        wanted["minRecoveryRate"] = json!(2000);
        wanted["writeMostly"] = json!("rotational");
        wanted["regionSize"] = json!("1Mi");
        assert_eq!(cluster.get("mirrorvolumes", "pvc-1").expect("it is there")["spec"], wanted);
        driver.controller.controller_modify_volume(request("pvc-1", &change)).await.expect("it is so");
        let back = [("minRecoveryRate", "0"), ("writeMostly", "none")];
        driver.controller.controller_modify_volume(request("pvc-1", &back)).await.expect("possible");
        let spec = cluster.get("mirrorvolumes", "pvc-1").expect("it is there")["spec"].clone();
        assert_eq!((&spec["minRecoveryRate"], &spec["writeMostly"]), (&json!(null), &json!("none")));
    });
}

#[test]
fn a_change_that_is_refused_or_slow_is_told_so() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.snapshot("s", "pvc-1").await;
        driver.create(view("pvc-2", "s")).await.expect("a view takes no room");
        let mut change = async |id: &str, images: &str| {
            driver.controller.controller_modify_volume(request(id, &[("images", images)])).await
        };
        refused(change("pvc-9", "3").await, Code::NotFound, "no volume \"pvc-9\"");
        refused(change("pvc-1", "0").await, Code::InvalidArgument, "splitmirror.io/images");
        refused(change("pvc-2", "3").await, Code::FailedPrecondition, "cannot be modified");
        cluster.nodes.act(Act::Refuse(Class::Exhausted));
        let before = cluster.get("mirrorvolumes", "pvc-1").expect("it is there")["spec"].clone();
        refused(change("pvc-1", "9").await, Code::FailedPrecondition, "as the script says");
        let after = cluster.get("mirrorvolumes", "pvc-1").expect("it is there")["spec"].clone();
        assert_eq!(after, before, "what is refused is not asked for any more");
        cluster.nodes.act(Act::Obey);
        cluster.nodes.act_on("pvc-1", Act::Ignore);
        refused(change("pvc-1", "4").await, Code::Aborted, "is being changed on node");
        cluster.nodes.act(Act::Obey);
        change("pvc-1", "4").await.expect("it is done");
    });
}
