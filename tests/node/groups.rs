//! Groups of snapshots: cut when all of them have their objects, merged when all are to be deleted.

use serde_json::{Value, json};
use splitmirror::api::names;
use splitmirror::host::sim::{Cut, Fault};

use crate::harness::{Agent, Machine, NODE, VG};

const VOLUMES: [&str; 2] = ["pvc-1", "pvc-2"];

fn name(volume: &str) -> String {
    names::member("g", volume)
}

/// What the controller writes for one snapshot of the group `g`.
fn ask(machine: &Machine, volume: &str) {
    let object = json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorSnapshot", "metadata": {"name": name(volume)},
        "spec": {
            "node": NODE, "pool": VG, "volume": volume, "key": "g", "name": "g", "minInSync": 1,
            "group": {"name": "g", "volumes": VOLUMES},
        },
    });
    machine.server.put("mirrorsnapshots", &object);
}

fn machine() -> Machine {
    let machine = Machine::with_pool();
    VOLUMES.iter().for_each(|volume| machine.ask_for_volume(volume));
    machine
}

/// How many snapshots each volume has on the disks.
fn on_disk(machine: &Machine) -> Vec<usize> {
    machine.volumes().iter().map(|volume| volume.snapshots.len()).collect()
}

async fn both_ready(agent: &Agent<'_>) -> Vec<Value> {
    let mut cuts = Vec::new();
    for volume in VOLUMES {
        let snapshot = agent.phase("mirrorsnapshots", &name(volume), "Ready").await;
        cuts.push(snapshot["status"]["cutTime"].clone());
    }
    cuts
}

#[test]
fn a_group_is_cut_when_all_its_snapshots_have_objects_and_merged_when_all_are_to_go() {
    let machine = machine();
    machine.life(async |agent| {
        for volume in VOLUMES {
            agent.phase("mirrorvolumes", volume, "Ready").await;
        }
        ask(&machine, "pvc-1");
        agent.rest().await;
        assert_eq!(on_disk(&machine), [0, 0], "the other one is not asked for yet");
        ask(&machine, "pvc-2");
        let cuts = both_ready(agent).await;
        assert_eq!(cuts[0], cuts[1], "one instant");
        assert_eq!(on_disk(&machine), [1, 1]);

        machine.ask_to_delete("mirrorsnapshots", &name("pvc-1"));
        let why = agent.condition("mirrorsnapshots", &name("pvc-1"), "Deleted", "False", "InProgress").await;
        assert!(why.contains("delete them too"), "{why}");
        agent.rest().await;
        assert_eq!(on_disk(&machine), [1, 1]);
        machine.ask_to_delete("mirrorsnapshots", &name("pvc-2"));
        for volume in VOLUMES {
            agent.gone("mirrorsnapshots", &name(volume)).await;
        }
        assert_eq!(on_disk(&machine), [0, 0]);
    });
    machine.check();
}

#[test]
fn a_group_without_objects_gets_them_again() {
    let machine = machine();
    machine.life(async |agent| {
        VOLUMES.iter().for_each(|volume| ask(&machine, volume));
        let cuts = both_ready(agent).await;
        let specs =
            VOLUMES.map(|volume| machine.server.get("mirrorsnapshots", &name(volume)).expect("there"));
        VOLUMES.iter().for_each(|volume| machine.server.remove("mirrorsnapshots", &name(volume)));
        assert_eq!(both_ready(agent).await, cuts);
        for (volume, before) in VOLUMES.iter().zip(specs) {
            let after = machine.server.get("mirrorsnapshots", &name(volume)).expect("there");
            assert_eq!(after["spec"]["group"], before["spec"]["group"]);
        }
    });
    machine.check();
}

#[test]
fn a_group_of_which_one_member_is_refused_is_cut_of_none() {
    let machine = machine();
    machine.life(async |agent| {
        for volume in VOLUMES {
            agent.phase("mirrorvolumes", volume, "Ready").await;
        }
        for n in 0..2 {
            machine.ask_for_snapshot("pvc-2", &format!("old-{n}"));
            agent.phase("mirrorsnapshots", &format!("old-{n}"), "Ready").await;
        }
        VOLUMES.iter().for_each(|volume| ask(&machine, volume));
        agent.rest().await;
        assert_eq!(on_disk(&machine), [0, 2]);
        let told = VOLUMES.map(|volume| machine.server.get("mirrorsnapshots", &name(volume)).expect("there"));
        let refused = |object: &&Value| object["status"]["conditions"][0]["reason"] == "Precondition";
        assert!(told.iter().any(|object| refused(&object)), "{told:?}");
    });
    machine.check();
}

/// With both volumes, and an agent that has died since.
fn before() -> Machine {
    let machine = machine();
    machine.life(async |agent| {
        for volume in VOLUMES {
            agent.phase("mirrorvolumes", volume, "Ready").await;
        }
        agent.rest().await;
    });
    machine.killed();
    machine
}

#[test]
fn a_group_is_whole_after_the_agent_dies_or_power_is_lost_at_any_call() {
    let rehearsal = before();
    VOLUMES.iter().for_each(|volume| ask(&rehearsal, volume));
    rehearsal.host.arm(None);
    rehearsal.life(async |agent| both_ready(agent).await);
    let calls = u64::try_from(rehearsal.host.trace().len()).expect("not many");
    assert!(calls > 20, "{calls}");
    for call in 0..calls {
        let machine = before();
        VOLUMES.iter().for_each(|volume| ask(&machine, volume));
        let power = call % 2 == 0;
        machine.host.arm(Some(match power {
            true => Fault::PowerCut { call, at: Cut::After },
            false => Fault::Kill { call, done: true },
        }));
        machine.life(async |agent| agent.rest().await);
        match power {
            true => machine.host.reboot(),
            false => machine.host.restart_process(),
        }
        machine.killed();
        machine.life(async |agent| {
            let cuts = both_ready(agent).await;
            assert_eq!(cuts[0], cuts[1], "call {call}: one instant");
        });
        assert_eq!(on_disk(&machine), [1, 1], "call {call}, power {power}");
        machine.check();
    }
}
