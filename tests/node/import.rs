//! Objects that are gone come back; nothing on the disks is touched for that.

use std::collections::BTreeMap;

use serde_json::Value;
use splitmirror::engine::pool;
use splitmirror::units::Bytes;

use crate::harness::{Machine, NODE, snapshot, vg, view, volume};

/// Specs and phases of all objects, without what an import cannot know.
fn known(machine: &Machine) -> BTreeMap<String, Value> {
    let mut known = BTreeMap::new();
    for resource in ["mirrorpools", "mirrorvolumes", "mirrorsnapshots"] {
        for object in machine.server.list(resource) {
            let name = object["metadata"]["name"].as_str().expect("named").to_owned();
            let mut spec = object["spec"].clone();
            for field in ["claim", "volumeSnapshot"] {
                spec.as_object_mut().expect("fields").remove(field);
            }
            known.insert(format!("{resource}/{name}"), serde_json::json!([spec, object["status"]["phase"]]));
        }
    }
    known
}

async fn everything(machine: &Machine, agent: &crate::harness::Agent<'_>) {
    machine.ask_for_volume("pvc-1");
    agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
    machine.ask_for_snapshot("pvc-1", "snap-1");
    agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
    machine.server.put("mirrorvolumes", &view("pvc-2", "snap-1"));
    agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
    agent.rest().await;
}

#[test]
fn a_lost_etcd_loses_no_object() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        everything(&machine, agent).await;
        let before = (known(&machine), machine.volumes());
        assert_eq!(before.0.len(), 4);
        machine.server.wipe();
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        agent.rest().await;
        assert_eq!((known(&machine), machine.volumes()), before);
        agent.event("VolumeImported").await;
    });
    machine.killed();
    machine.server.wipe();
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        agent.rest().await;
        assert_eq!(known(&machine).len(), 4, "also by an agent that is started anew");
        machine.server.clear_log();
        agent.rest().await;
        assert_eq!(machine.server.writes(), [], "and then nothing is left to write");
    });
    machine.check();
}

#[test]
fn an_object_that_is_deleted_by_hand_comes_back_with_its_data() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        everything(&machine, agent).await;
        let before = machine.volumes();
        machine.server.remove("mirrorsnapshots", "snap-1");
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        machine.server.remove("mirrorvolumes", "pvc-1");
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        agent.rest().await;
        assert_eq!(machine.volumes(), before);
    });
    machine.check();
}

#[test]
fn a_snapshot_that_is_deleted_by_hand_comes_back_with_what_it_needs_in_sync() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    let mut strict = snapshot("pvc-1", "snap-1");
    strict["spec"]["minInSync"] = 2.into();
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.server.put("mirrorsnapshots", &strict);
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        machine.server.remove("mirrorsnapshots", "snap-1");
        let again = agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        assert_eq!(again["spec"]["minInSync"], 2);
    });
    machine.check();
}

#[test]
fn a_name_that_another_nodes_object_has_is_not_taken_from_it() {
    let machine = Machine::with_pool();
    let mut theirs = volume("pvc-1", 2);
    theirs["spec"]["node"] = "node-b".into();
    machine.server.put("mirrorvolumes", &theirs);
    let spec = splitmirror::volume::spec::VolumeSpec {
        name: "pvc-1".into(),
        size: Bytes::mib(2),
        limit: None,
        images: 2,
        region_size: Bytes::kib(8),
        min_recovery_rate: Some(100),
        max_recovery_rate: None,
    };
    machine.engine().create_volume(&spec).expect("room");
    let name = splitmirror::api::names::found_volume(NODE, &vg(), &"pvc-1".parse().expect("legal"));
    machine.life(async |agent| {
        let imported = agent.phase("mirrorvolumes", &name, "Ready").await;
        assert_eq!(
            (&imported["spec"]["lv"], &imported["spec"]["minRecoveryRate"]),
            (&"pvc-1".into(), &100.into())
        );
        let other = machine.server.get("mirrorvolumes", "pvc-1").expect("theirs");
        assert_eq!((&other["spec"], &other["status"]), (&theirs["spec"], &Value::Null));
        agent.stage(&name).await.expect("it is found by that name");
        agent.stage("pvc-1").await.expect_err("that is another node's");
        machine.ask_to_delete("mirrorvolumes", &name);
        agent.condition("mirrorvolumes", &name, "Deleted", "False", "Precondition").await;
        agent.unstage(&name).await;
        agent.gone("mirrorvolumes", &name).await;
    });
    machine.check();
}

#[test]
fn a_group_that_no_object_names_any_more_is_found_by_the_volumes_in_it() {
    let machine = Machine::with_pool();
    machine.write_pools(&serde_json::json!([]));
    let spec = splitmirror::volume::spec::VolumeSpec {
        name: "pvc-1".into(),
        size: Bytes::mib(2),
        limit: None,
        images: 2,
        region_size: Bytes::kib(8),
        min_recovery_rate: None,
        max_recovery_rate: None,
    };
    machine.engine().create_volume(&spec).expect("room");
    let disk = ["/dev/sdd".into(), machine.host.add_disk(Bytes::mib(16))];
    pool::create(&machine.host, &"empty".parse().expect("legal"), &disk, &pool::Options::default())
        .expect("blank");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        agent.condition("mirrorpools", "node-a.vg", "Ready", "True", "Open").await;
        agent.rest().await;
        assert_eq!(
            machine.server.list("mirrorpools").len(),
            1,
            "a group without volumes of ours is nobody's"
        );
    });
    machine.check();
}
