//! Wishes that cannot be met, and objects that do not fit what is on the disks: it is told, and no data is touched.

use serde_json::{Value, json};
use splitmirror::units::Bytes;
use splitmirror::volume::spec::VolumeSpec;

use crate::harness::{Machine, NODE, snapshot, view, volume};

fn spec(name: &str) -> VolumeSpec {
    VolumeSpec {
        name: name.to_owned(),
        size: Bytes::mib(2),
        limit: None,
        images: 3,
        region_size: Bytes::kib(8),
        min_recovery_rate: None,
        max_recovery_rate: None,
    }
}

fn with(mut object: Value, patch: &Value) -> Value {
    for (field, value) in patch.as_object().expect("fields") {
        object["spec"][field] = value.clone();
    }
    object
}

#[test]
fn a_volume_that_does_not_fit_is_refused_and_leaves_nothing() {
    let machine = Machine::with_pool();
    machine.server.put("mirrorvolumes", &with(volume("pvc-1", 3), &json!({"size": "1Gi"})));
    machine.life(async |agent| {
        let why = agent.condition("mirrorvolumes", "pvc-1", "Ready", "False", "Exhausted").await;
        assert!(why.contains("room"), "{why}");
        agent.event("VolumeRefused").await;
        machine.ask_to_delete("mirrorvolumes", "pvc-1");
        agent.gone("mirrorvolumes", "pvc-1").await;
        assert!(machine.volumes().is_empty());
    });
    machine.check();
}

#[test]
fn a_snapshot_that_leaves_too_few_images_is_refused_where_the_user_looks() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.server.put("mirrorsnapshots", &with(snapshot("pvc-1", "snap-1"), &json!({"minInSync": 3})));
    machine.life(async |agent| {
        agent.condition("mirrorsnapshots", "snap-1", "Ready", "False", "Precondition").await;
        let event = agent.event("SnapshotRefused").await;
        assert_eq!((&event["type"], &event["regarding"]["name"]), (&"Warning".into(), &"nightly".into()));
        assert_eq!(machine.server.list("events").len(), 1, "once");
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        agent.gone("mirrorsnapshots", "snap-1").await;
        let volume = machine.server.get("mirrorvolumes", "pvc-1").expect("a volume");
        assert_eq!(volume["status"]["inSync"], 3);
    });
    machine.check();
}

#[test]
fn an_object_for_an_lv_that_is_something_else_is_refused_and_may_go() {
    let machine = Machine::with_pool();
    let other = machine.engine().create_volume(&spec("an odd name")).expect("room");
    let mine = with(volume("mine", 3), &json!({"lv": other.id.as_str()}));
    machine.server.put("mirrorvolumes", &mine);
    machine.life(async |agent| {
        let why = agent.condition("mirrorvolumes", "mine", "Ready", "False", "Exists").await;
        assert!(why.contains("an odd name"), "{why}");
        machine.ask_to_delete("mirrorvolumes", "mine");
        agent.gone("mirrorvolumes", "mine").await;
        assert_eq!(machine.volumes(), std::slice::from_ref(&other));
        let imported = agent.phase("mirrorvolumes", other.id.as_str(), "Ready").await;
        assert_eq!(imported["spec"]["name"], "an odd name");
    });
    machine.check();
}

#[test]
fn an_object_that_asks_for_other_images_than_there_are_is_told_so() {
    let machine = Machine::with_pool();
    let made = machine.engine().create_volume(&spec("pvc-1")).expect("room");
    machine.server.put("mirrorvolumes", &volume("pvc-1", 2));
    machine.life(async |agent| {
        let why = agent.condition("mirrorvolumes", "pvc-1", "Ready", "False", "Exists").await;
        assert!(why.contains("3 images, not 2"), "{why}");
        agent.rest().await;
        assert_eq!(machine.volumes(), [made]);
    });
    machine.check();
}

#[test]
fn an_object_whose_name_does_not_follow_from_what_it_is_about_makes_nothing() {
    let machine = Machine::with_pool();
    machine.server.put("mirrorvolumes", &with(volume("other", 3), &json!({"name": "pvc-1", "lv": "pvc-1"})));
    machine.server.put("mirrorvolumes", &with(volume("pvc-2", 3), &json!({"lv": "pvc-9"})));
    machine.life(async |agent| {
        agent.condition("mirrorvolumes", "other", "Ready", "False", "Invalid").await;
        agent.condition("mirrorvolumes", "pvc-2", "Ready", "False", "Invalid").await;
        agent.rest().await;
        assert!(machine.volumes().is_empty());
    });
}

#[test]
fn a_volume_that_vanished_from_the_disks_is_loudly_lost_and_not_made_again() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.ask_for_snapshot("pvc-1", "snap-1");
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        agent.rest().await;
    });
    machine.killed();
    let engine = machine.engine();
    engine.delete_snapshot("pvc-1@snap-1").expect("merged");
    while engine.advance().expect("a pool") {
        machine.host.sleep(std::time::Duration::from_millis(100));
    }
    engine.delete_volume("pvc-1").expect("as another tool");
    machine.life(async |agent| {
        let why = agent.condition("mirrorvolumes", "pvc-1", "Ready", "False", "NotFound").await;
        assert!(why.contains("no empty volume"), "{why}");
        agent.phase("mirrorvolumes", "pvc-1", "Failed").await;
        agent.condition("mirrorsnapshots", "snap-1", "Ready", "False", "NotFound").await;
        agent.rest().await;
        assert!(machine.volumes().is_empty());
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        machine.ask_to_delete("mirrorvolumes", "pvc-1");
        agent.gone("mirrorsnapshots", "snap-1").await;
        agent.gone("mirrorvolumes", "pvc-1").await;
    });
    machine.check();
}

#[test]
fn a_volume_with_a_snapshot_neither_grows_nor_goes_until_that_is_merged() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.ask_for_snapshot("pvc-1", "snap-1");
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        machine.server.merge("mirrorvolumes", "pvc-1", &json!({"spec": {"size": "3Mi"}}));
        let why = agent.condition("mirrorvolumes", "pvc-1", "Resized", "False", "Precondition").await;
        assert!(why.contains("snap-1"), "{why}");
        agent.event("ExpansionRefused").await;
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        machine
            .server
            .until("growth", |server| {
                let volume = server.get("mirrorvolumes", "pvc-1")?;
                let resized = volume["status"]["conditions"].to_string().contains("Resized");
                (volume["status"]["size"] == "3Mi" && !resized).then_some(())
            })
            .await;
        machine.ask_for_snapshot("pvc-1", "snap-2");
        agent.phase("mirrorsnapshots", "snap-2", "Ready").await;
        machine.ask_to_delete("mirrorvolumes", "pvc-1");
        agent.condition("mirrorvolumes", "pvc-1", "Deleted", "False", "Precondition").await;
        machine.ask_to_delete("mirrorsnapshots", "snap-2");
        agent.gone("mirrorvolumes", "pvc-1").await;
    });
    machine.check();
}

#[test]
fn what_needs_something_that_is_not_there_waits_for_it() {
    let machine = Machine::with_pool();
    machine.server.put("mirrorvolumes", &view("pvc-2", "snap-1"));
    machine.ask_for_snapshot("pvc-1", "snap-1");
    machine.server.put("mirrorvolumes", &with(volume("pvc-3", 2), &json!({"pool": "elsewhere"})));
    machine.life(async |agent| {
        agent.condition("mirrorvolumes", "pvc-2", "Ready", "False", "NotFound").await;
        agent.condition("mirrorsnapshots", "snap-1", "Ready", "False", "NotFound").await;
        let why = agent.condition("mirrorvolumes", "pvc-3", "Ready", "False", "NotFound").await;
        assert!(why.contains("no pool elsewhere") && why.contains(NODE), "{why}");
        machine.ask_for_volume("pvc-1");
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
    });
    machine.check();
}
