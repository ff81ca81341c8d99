//! Writable volumes from snapshots and from volumes: used at once, filled meanwhile.

use serde_json::{Value, json};
use splitmirror::host::Blocks as _;
use splitmirror::units::Bytes;

use crate::harness::{Agent, Machine, volume};

/// The controller asks for a clone of 2 MiB.
fn ask(machine: &Machine, name: &str, source: &Value) {
    let mut clone = volume(name, 2);
    clone["spec"]["source"] = source.clone();
    machine.server.put("mirrorvolumes", &clone);
}

/// The byte that a volume holds.
fn held(machine: &Machine, name: &str) -> u8 {
    let block = machine.host.read(&machine.device(name), Bytes::mib(1), Bytes::kib(4)).expect("readable");
    assert!(block.iter().all(|byte| *byte == block[0]), "{block:?}");
    block[0]
}

fn write(machine: &Machine, name: &str, byte: u8) {
    machine.host.write(&machine.device(name), Bytes::mib(1), &[byte; 4096]).expect("writable");
}

/// A volume that holds 2, its snapshot that holds 1, and disks on which a clone takes its time.
async fn split(machine: &Machine, agent: &Agent<'_>) {
    machine.ask_for_volume("pvc-1");
    agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
    write(machine, "pvc-1", 1);
    machine.ask_for_snapshot("pvc-1", "snap-1");
    agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
    write(machine, "pvc-1", 2);
    machine.host.sync_speed(64);
    machine.let_time_pass();
}

/// From now on the disks are fast.
fn hurry(machine: &Machine) {
    machine.host.sync_speed(16_384);
}

fn snapshot() -> Value {
    json!({"snapshot": "snap-1"})
}

#[test]
fn a_clone_can_be_used_at_once_and_its_snapshot_stays_until_it_is_filled() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        split(&machine, agent).await;
        ask(&machine, "pvc-2", &snapshot());
        let filling = agent.phase("mirrorvolumes", "pvc-2", "Filling").await;
        assert!(filling["status"]["filled"].is_string(), "{filling}");
        agent.condition("mirrorvolumes", "pvc-2", "Ready", "True", "Active").await;
        agent.stage("pvc-2").await.expect("it can be used");
        assert_eq!(held(&machine, "pvc-2"), 1);
        write(&machine, "pvc-2", 3);

        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        let why = agent.condition("mirrorsnapshots", "snap-1", "Deleted", "False", "InProgress").await;
        assert!(why.contains("snapshot snap-1 is being copied into volume pvc-2"), "{why}");
        machine.server.merge("mirrorvolumes", "pvc-2", &json!({"spec": {"size": "3Mi"}}));
        let why = agent.condition("mirrorvolumes", "pvc-2", "Resized", "False", "InProgress").await;
        assert!(why.contains("still being filled"), "{why}");

        hurry(&machine);
        agent.gone("mirrorsnapshots", "snap-1").await;
        let grown =
            |volume: &Value| volume["status"]["phase"] == "Ready" && volume["status"]["size"] == "3Mi";
        let what = "what waited for it";
        machine.server.until(what, |server| server.get("mirrorvolumes", "pvc-2").filter(grown)).await;
        let event = agent.event("CloneFilled").await;
        assert_eq!(event["regarding"]["kind"], "PersistentVolumeClaim");
        assert_eq!((held(&machine, "pvc-1"), held(&machine, "pvc-2")), (2, 3));
        agent.unstage("pvc-2").await;
        machine.ask_to_delete("mirrorvolumes", "pvc-2");
        agent.gone("mirrorvolumes", "pvc-2").await;
    });
    machine.check();
}

#[test]
fn a_clone_of_a_volume_borrows_an_image_until_it_is_filled() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        machine.ask_for_volume("pvc-1");
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        write(&machine, "pvc-1", 2);
        machine.host.sync_speed(64);
        machine.let_time_pass();
        ask(&machine, "pvc-2", &json!({"volume": "pvc-1"}));
        agent.phase("mirrorvolumes", "pvc-2", "Filling").await;
        assert_eq!(held(&machine, "pvc-2"), 2);
        let lent = |volume: &Value| {
            let slot = &volume["status"]["slots"][2];
            slot["state"] == "Split" && slot["lentTo"] == "pvc-2" && slot.get("snapshot").is_none()
        };
        let source = |server: &crate::api::ApiServer| server.get("mirrorvolumes", "pvc-1");
        machine.server.until("what is lent", |server| source(server).filter(lent)).await;
        assert_eq!(machine.server.list("mirrorsnapshots"), [] as [Value; 0], "that is no snapshot");

        machine.ask_to_delete("mirrorvolumes", "pvc-1");
        let why = agent.condition("mirrorvolumes", "pvc-1", "Deleted", "False", "InProgress").await;
        assert!(why.contains("volume pvc-1 is being copied into volume pvc-2"), "{why}");
        hurry(&machine);
        agent.gone("mirrorvolumes", "pvc-1").await;
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        assert_eq!(held(&machine, "pvc-2"), 2);
    });
    machine.check();
}

#[test]
fn the_image_that_was_lent_is_told_to_be_back() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        machine.ask_for_volume("pvc-1");
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.let_time_pass();
        ask(&machine, "pvc-2", &json!({"volume": "pvc-1"}));
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        let whole = |volume: &Value| volume["status"]["inSync"] == 3 && volume["status"]["split"] == 0;
        let asked = tokio::time::Instant::now();
        machine
            .server
            .until("three images", |server| server.get("mirrorvolumes", "pvc-1").filter(whole))
            .await;
        assert!(asked.elapsed().as_secs() < 15, "not only when everything is looked at again");
    });
    machine.check();
}

#[test]
fn a_clone_is_filled_by_whoever_comes_after_a_death_or_a_reboot() {
    for reboot in [false, true] {
        let machine = Machine::with_pool();
        machine.life(async |agent| {
            split(&machine, agent).await;
            ask(&machine, "pvc-2", &snapshot());
            agent.phase("mirrorvolumes", "pvc-2", "Filling").await;
            write(&machine, "pvc-2", 3);
            agent.rest().await;
        });
        machine.killed();
        if reboot {
            machine.host.reboot();
        }
        machine.life(async |agent| {
            machine.let_time_pass();
            let told = agent.phase("mirrorvolumes", "pvc-2", "Filling").await;
            assert!(told["status"]["filled"].is_string(), "{told}");
            hurry(&machine);
            agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
            assert_eq!(held(&machine, "pvc-1"), 2);
            if !reboot {
                assert_eq!(held(&machine, "pvc-2"), 3);
            }
        });
        machine.check();
    }
}

#[test]
fn a_clone_without_an_object_comes_back_as_what_it_is() {
    for source in [snapshot(), json!({"volume": "pvc-1"})] {
        let machine = Machine::with_pool();
        machine.life(async |agent| {
            split(&machine, agent).await;
            ask(&machine, "pvc-2", &source);
            agent.phase("mirrorvolumes", "pvc-2", "Filling").await;
        });
        machine.killed();
        machine.server.wipe();
        machine.life(async |agent| {
            machine.let_time_pass();
            let found = agent.phase("mirrorvolumes", "pvc-2", "Filling").await;
            assert_eq!(found["spec"]["source"], source);
            agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
            hurry(&machine);
            agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
            agent.rest().await;
            machine.server.wipe();
            let found = agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
            assert_eq!(found["spec"]["source"], source, "also when it needs that no more");
        });
        machine.check();
    }
}

#[test]
fn what_cannot_be_cloned_is_told_and_made_when_it_can() {
    let machine = Machine::with_pool();
    ask(&machine, "pvc-2", &snapshot());
    machine.life(async |agent| {
        let why = agent.condition("mirrorvolumes", "pvc-2", "Ready", "False", "NotFound").await;
        assert!(why.contains("there is no snapshot snap-1 in pool vg of node node-a"), "{why}");
        split(&machine, agent).await;
        hurry(&machine);
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        assert_eq!(held(&machine, "pvc-2"), 1);
    });
    machine.check();
}

#[test]
fn a_volume_that_was_made_from_nothing_is_no_clone() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        machine.ask_for_volume("pvc-2");
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
    });
    machine.killed();
    let before = machine.volumes();
    machine.server.wipe();
    let mut clone = volume("pvc-2", 3);
    clone["spec"]["source"] = snapshot();
    machine.server.put("mirrorvolumes", &clone);
    machine.life(async |agent| {
        let why = agent.condition("mirrorvolumes", "pvc-2", "Ready", "False", "Exists").await;
        assert!(why.contains("volume pvc-2 has another source"), "{why}");
        agent.rest().await;
        assert_eq!(machine.volumes(), before);
    });
    machine.check();
}
