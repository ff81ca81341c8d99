//! Volumes are put back to their snapshots, in place.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use splitmirror::host::Blocks as _;
use splitmirror::units::Bytes;

use crate::harness::{Agent, Machine};

/// The controller asks for it; it must begin within so many seconds from now.
fn order(machine: &Machine, request: &str, seconds: i64) {
    let before = Timestamp::now().as_second() + seconds;
    let before = Timestamp::from_second(before).expect("in range").to_string();
    let order = json!({
        "snapshot": "snap-1", "rollback": {"namespace": "db", "name": "back"}, "request": request, "before": before,
    });
    machine.server.merge("mirrorvolumes", "pvc-1", &json!({"spec": {"rollback": order}}));
}

/// What is told of it once it is in this phase.
async fn told(machine: &Machine, request: &str, phase: &str) -> Value {
    machine
        .server
        .until(&format!("{request} {phase}"), |server| {
            let told = server.get("mirrorvolumes", "pvc-1")?["status"]["rollback"].clone();
            (told["request"] == request && told["phase"] == phase).then_some(told)
        })
        .await
}

fn first_block(machine: &Machine) -> Vec<u8> {
    let device = machine.device("pvc-1");
    machine.host.read(&device, Bytes::ZERO, Bytes::kib(4)).expect("readable")
}

fn write(machine: &Machine, byte: u8) {
    let device = machine.device("pvc-1");
    machine.host.write(&device, Bytes::ZERO, &[byte; 4096]).expect("writable");
}

/// A volume with a snapshot.
async fn split(machine: &Machine, agent: &Agent<'_>) {
    machine.ask_for_volume("pvc-1");
    agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
    write(machine, 1);
    machine.ask_for_snapshot("pvc-1", "snap-1");
    agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
    write(machine, 2);
}

#[test]
fn a_volume_is_put_back_once_and_what_is_written_later_stays() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        split(&machine, agent).await;
        order(&machine, "monday", 100);
        told(&machine, "monday", "Done").await;
        assert_eq!(first_block(&machine), [1; 4096]);
        let event = agent.event("RollbackCompleted").await;
        assert_eq!(event["regarding"]["kind"], "PersistentVolumeClaim");
        write(&machine, 3);
    });
    // The agent starts anew, and the object has forgotten.
    machine.killed();
    machine.server.merge("mirrorvolumes", "pvc-1", &json!({"status": {"rollback": null}}));
    machine.life(async |agent| {
        told(&machine, "monday", "Done").await;
        agent.rest().await;
        assert_eq!(first_block(&machine), [3; 4096], "it was put back already");
        order(&machine, "tuesday", 100);
        told(&machine, "tuesday", "Done").await;
        assert_eq!(first_block(&machine), [1; 4096]);
    });
    machine.check();
}

#[test]
fn a_volume_in_use_waits_and_too_late_it_is_left_alone() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        split(&machine, agent).await;
        agent.stage("pvc-1").await.expect("it is ready");
        order(&machine, "monday", 100);
        let waits = told(&machine, "monday", "Pending").await;
        assert!(waits["message"].as_str().is_some_and(|why| why.contains("in use")), "{waits}");
        agent.unstage("pvc-1").await;
        told(&machine, "monday", "Done").await;
        assert_eq!(first_block(&machine), [1; 4096]);
        write(&machine, 4);
        order(&machine, "tuesday", -1);
        let late = told(&machine, "tuesday", "Failed").await;
        assert!(late["message"].as_str().is_some_and(|why| why.contains("not begun in time")), "{late}");
        agent.event("RollbackRefused").await;
        assert_eq!(first_block(&machine), [4; 4096]);
    });
    machine.check();
}
