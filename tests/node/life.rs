//! From the wish to the end.

use std::time::Duration;

use serde_json::{Value, json};

use splitmirror::units::Sectors;

use crate::api::ApiServer;
use crate::harness::{Machine, snapshot, view, volume};

fn slots(volume: &Value) -> Vec<&str> {
    let slots = volume["status"]["slots"].as_array().expect("a volume has slots");
    slots.iter().map(|slot| slot["state"].as_str().expect("a state")).collect()
}

fn lines(machine: &Machine) -> Vec<String> {
    machine.server.writes().iter().map(|request| request.line()).collect()
}

#[test]
fn a_volume_is_made_and_told() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        let volume = agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        assert_eq!(slots(&volume), ["InSync", "InSync", "InSync"]);
        let status = &volume["status"];
        assert_eq!(
            (&status["size"], &status["inSync"], &status["sync"]),
            (&"2Mi".into(), &3.into(), &"100%".into())
        );
        assert_eq!(status["staged"], false);
        assert!(status["device"].as_str().expect("active").starts_with("/dev/dm-"));
        agent.condition("mirrorvolumes", "pvc-1", "Ready", "True", "Active").await;
        agent.condition("mirrorvolumes", "pvc-1", "Degraded", "False", "Whole").await;
    });
    machine.check();
}

#[test]
fn a_volume_keeps_both_images_when_one_is_added_for_a_snapshot() {
    let machine = Machine::with_pool();
    machine.server.put("mirrorvolumes", &volume("pvc-1", 2));
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        let mut grown = snapshot("pvc-1", "snap-1");
        grown["spec"]["policy"] = json!("grow");
        machine.server.put("mirrorsnapshots", &grown);
        let made = agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        assert_eq!(made["status"]["slot"], 2);
        agent.rest().await;
        let volume = machine.server.get("mirrorvolumes", "pvc-1").expect("a volume");
        assert_eq!(slots(&volume), ["InSync", "InSync", "Split"]);
        assert_eq!(
            (&volume["status"]["slots"][2]["grown"], &volume["spec"]["images"]),
            (&true.into(), &2.into())
        );
        assert_eq!(volume["status"]["phase"], "Ready", "it has as many images as was asked for");
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        agent.gone("mirrorsnapshots", "snap-1").await;
        agent.event("ImageRemoved").await;
        agent.rest().await;
        let volume = machine.server.get("mirrorvolumes", "pvc-1").expect("a volume");
        assert_eq!(slots(&volume), ["InSync", "InSync"]);
    });
    machine.check();
}

#[test]
fn a_snapshot_that_is_deleted_while_its_image_is_copied_leaves_nothing_behind() {
    let machine = Machine::with_pool();
    machine.server.put("mirrorvolumes", &volume("pvc-1", 2));
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.host.sync_speed(4);
        let mut grown = snapshot("pvc-1", "snap-1");
        grown["spec"]["policy"] = json!("grow");
        machine.server.put("mirrorsnapshots", &grown);
        let begun = |server: &ApiServer| {
            let volume = server.get("mirrorvolumes", "pvc-1")?;
            (slots(&volume) == ["InSync", "InSync", "Rebuilding"]).then_some(volume)
        };
        let volume = machine.server.until("a copy", begun).await;
        assert_eq!(volume["status"]["phase"], "Ready", "it has lost nothing");
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        agent.rest().await;
        assert!(machine.server.get("mirrorsnapshots", "snap-1").is_some(), "until its image has left");
        machine.host.sync_speed(16_384);
        agent.gone("mirrorsnapshots", "snap-1").await;
        agent.rest().await;
        let volume = machine.server.get("mirrorvolumes", "pvc-1").expect("a volume");
        assert_eq!(slots(&volume), ["InSync", "InSync"]);
        assert!(machine.server.list("mirrorsnapshots").is_empty(), "it is not found on the disks later");
    });
    machine.check();
}

#[test]
fn a_snapshots_life_takes_six_writes_of_which_the_controllers_are_two() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        agent.rest().await;
        machine.server.clear_log();

        machine.ask_for_snapshot("pvc-1", "snap-1");
        let snapshot = agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        let status = &snapshot["status"];
        assert_eq!((&status["slot"], &status["size"]), (&2.into(), &"2Mi".into()));
        assert!(status["cutTime"].as_str().expect("told").starts_with("2023-11-14T"), "{status}");
        agent.rest().await;
        let volume = machine.server.get("mirrorvolumes", "pvc-1").expect("a volume");
        assert_eq!(slots(&volume), ["InSync", "InSync", "Split"]);
        assert_eq!(volume["status"]["slots"][2]["snapshot"], "snap-1");
        assert_eq!(volume["status"]["phase"], "Ready", "as few images are attached as was asked for");

        // There is something to copy: the merge goes on for half a second after it has begun.
        for region in 0..10 {
            machine.host.write_volume("vg-pvc--1", Sectors(16 * region), 1).expect("two images are left");
        }
        machine.host.sync_speed(320);
        machine.let_time_pass();
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        agent.gone("mirrorsnapshots", "snap-1").await;
        agent.rest().await;
        let volume = machine.server.get("mirrorvolumes", "pvc-1").expect("a volume");
        assert_eq!(slots(&volume), ["InSync", "InSync", "InSync"]);
        assert_eq!(
            lines(&machine),
            [
                "PATCH mirrorsnapshots/snap-1/status",
                "PATCH mirrorvolumes/pvc-1/status",
                "DELETE mirrorsnapshots/snap-1",
                "PATCH mirrorvolumes/pvc-1/status",
            ]
        );
    });
    machine.check();
}

#[test]
fn users_are_told_on_what_they_look_at() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.ask_for_snapshot("pvc-1", "snap-1");
        let event = agent.event("SnapshotSplit").await;
        let about = &event["regarding"];
        assert_eq!(
            (&about["kind"], &about["namespace"], &about["name"]),
            (&"VolumeSnapshot".into(), &"db".into(), &"nightly".into())
        );
        assert_eq!((&event["type"], &event["related"]["name"]), (&"Normal".into(), &"snap-1".into()));
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        let event = agent.event("MergeCompleted").await;
        let about = &event["regarding"];
        assert_eq!(
            (&about["kind"], &about["namespace"], &about["name"]),
            (&"PersistentVolumeClaim".into(), &"db".into(), &"data".into())
        );
    });
}

#[test]
fn a_long_merge_is_told_from_its_beginning_to_its_end() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.ask_for_snapshot("pvc-1", "snap-1");
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        // Everything is written, and copied at 4 sectors a second of the machine's time.
        machine.host.keep_busy("vg-pvc--1", Sectors(4096), 200);
        machine.host.sleep(std::time::Duration::from_secs(30));
        machine.host.rest("vg-pvc--1");
        machine.host.sync_speed(4);
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        let snapshot = agent.phase("mirrorsnapshots", "snap-1", "Merging").await;
        assert!(snapshot["status"]["mergePercent"].is_number());
        agent.event("MergeStarted").await;
        agent.rest().await;
        let volume = machine.server.get("mirrorvolumes", "pvc-1").expect("a volume");
        assert_eq!(slots(&volume), ["InSync", "InSync", "Merging"]);
        assert_eq!(volume["status"]["conditions"][0]["type"], "Degraded");
        assert_eq!(volume["status"]["conditions"][0]["status"], "False", "a merge is no loss");
        assert!(machine.server.get("mirrorsnapshots", "snap-1").is_some(), "until it is merged");
        machine.host.sync_speed(16_384);
        agent.gone("mirrorsnapshots", "snap-1").await;
        agent.event("MergeCompleted").await;
    });
    machine.check();
}

#[test]
fn two_snapshots_of_one_volume_are_cut_at_once() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.ask_for_snapshot("pvc-1", "snap-1");
        machine.ask_for_snapshot("pvc-1", "snap-2");
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        agent.phase("mirrorsnapshots", "snap-2", "Ready").await;
        agent.rest().await;
        let volume = machine.server.get("mirrorvolumes", "pvc-1").expect("a volume");
        assert_eq!((&volume["status"]["inSync"], &volume["status"]["split"]), (&1.into(), &2.into()));
        machine.ask_to_delete("mirrorsnapshots", "snap-2");
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        agent.gone("mirrorsnapshots", "snap-1").await;
        agent.gone("mirrorsnapshots", "snap-2").await;
        machine
            .server
            .until("all images", |server| {
                let volume = server.get("mirrorvolumes", "pvc-1")?;
                (volume["status"]["inSync"] == 3).then_some(())
            })
            .await;
    });
    machine.check();
}

#[test]
fn a_view_shows_a_snapshot_and_keeps_it_until_it_is_gone() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.ask_for_snapshot("pvc-1", "snap-1");
        machine.server.put("mirrorvolumes", &view("pvc-2", "snap-1"));
        let shown = agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        assert_eq!(shown["status"]["size"], "2Mi");
        machine
            .server
            .until("consumer", |server| {
                let snapshot = server.get("mirrorsnapshots", "snap-1")?;
                (snapshot["status"]["consumers"] == json!(["pvc-2"])).then_some(())
            })
            .await;
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        let why = agent.condition("mirrorsnapshots", "snap-1", "Deleted", "False", "Precondition").await;
        assert!(why.contains("pvc-2"), "{why}");
        machine.ask_to_delete("mirrorvolumes", "pvc-2");
        agent.gone("mirrorvolumes", "pvc-2").await;
        let free = tokio::time::Instant::now();
        agent.gone("mirrorsnapshots", "snap-1").await;
        assert!(free.elapsed() < Duration::from_secs(10), "not only when all is looked at again");
    });
    machine.check();
}

#[test]
fn a_volume_grows_when_its_wish_does() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.server.merge("mirrorvolumes", "pvc-1", &json!({"spec": {"size": "3Mi"}}));
        let volume = machine
            .server
            .until("growth", |server| {
                server.get("mirrorvolumes", "pvc-1").filter(|volume| volume["status"]["size"] == "3Mi")
            })
            .await;
        assert_eq!(volume["status"]["observedGeneration"], 2);
    });
    machine.check();
}

#[test]
fn a_volume_in_use_is_deleted_once_it_is_not() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        agent.stage("pvc-1").await.expect("it is active");
        machine
            .server
            .until("use", |server| {
                let volume = server.get("mirrorvolumes", "pvc-1")?;
                (volume["status"]["staged"] == true).then_some(())
            })
            .await;
        machine.ask_to_delete("mirrorvolumes", "pvc-1");
        let why = agent.condition("mirrorvolumes", "pvc-1", "Deleted", "False", "Precondition").await;
        assert!(why.contains("in use"), "{why}");
        let refused = agent.stage("pvc-1").await.expect_err("it is being deleted");
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        agent.unstage("pvc-1").await;
        agent.gone("mirrorvolumes", "pvc-1").await;
        assert!(machine.volumes().is_empty());
    });
    machine.check();
}

#[test]
fn an_agent_that_is_told_to_stop_lets_its_lease_go() {
    let machine = Machine::with_pool();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("threads").block_on(async {
        let agent = machine.agent();
        agent.condition("mirrorpools", "node-a.vg", "Ready", "True", "Open").await;
        agent.stop().await;
    });
    let lease = machine.server.get("leases", "splitmirror-node-node-a").expect("a lease");
    assert_eq!(lease["spec"]["holderIdentity"], "");
}
