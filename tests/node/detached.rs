//! Snapshots, and images of volumes, become volumes: nothing is copied for that, and all get the images that they lack.

use std::time::Duration;

use serde_json::{Value, json};
use splitmirror::host::Blocks as _;
use splitmirror::units::Bytes;
use splitmirror::volume::spec::VolumeSpec;

use crate::api::ApiServer;
use crate::harness::{Agent, Machine, volume};

/// The controller asks for the image of snapshot `snap-1` as a volume of two images.
fn ask(machine: &Machine, name: &str, size: &str) {
    let mut new = volume(name, 2);
    new["spec"]["size"] = json!(size);
    new["spec"]["source"] = json!({"detached": "snap-1"});
    new["spec"]["claim"] = json!({"namespace": "db", "name": "copy"});
    machine.server.put("mirrorvolumes", &new);
}

fn held(machine: &Machine, name: &str) -> u8 {
    let block = machine.host.read(&machine.device(name), Bytes::mib(1), Bytes::kib(4)).expect("readable");
    assert!(block.iter().all(|byte| *byte == block[0]), "{block:?}");
    block[0]
}

fn write(machine: &Machine, name: &str, byte: u8) {
    machine.host.write(&machine.device(name), Bytes::mib(1), &[byte; 4096]).expect("writable");
}

/// A volume of so many MiB that holds 2, and its snapshot that holds 1.
async fn split(machine: &Machine, agent: &Agent<'_>, size: &str) {
    let mut wanted = volume("pvc-1", 3);
    wanted["spec"]["size"] = json!(size);
    machine.server.put("mirrorvolumes", &wanted);
    agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
    write(machine, "pvc-1", 1);
    machine.ask_for_snapshot("pvc-1", "snap-1");
    agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
    write(machine, "pvc-1", 2);
}

/// Waits until a volume has all its images.
async fn whole(machine: &Machine, name: &str, images: u8) {
    let is_whole = |object: Value| {
        let status = &object["status"];
        (status["phase"] == "Ready" && status["inSync"] == images && status["split"] == 0).then_some(())
    };
    let what = format!("{name} with {images} images");
    machine.server.until(&what, |server| server.get("mirrorvolumes", name).and_then(is_whole)).await;
}

/// As an administrator's tool does it while no agent is alive.
fn detach_by_hand(machine: &Machine, name: &str) {
    let spec = VolumeSpec {
        name: name.to_owned(),
        size: Bytes::ZERO,
        limit: None,
        images: 2,
        region_size: Bytes::kib(8),
        min_recovery_rate: None,
        max_recovery_rate: None,
    };
    machine.engine().detach_snapshot(&spec, "pvc-1@snap-1").expect("it can be spared");
    machine.host.restart_process();
}

#[test]
fn a_snapshot_becomes_a_volume_and_everybody_is_told_so() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        split(&machine, agent, "2Mi").await;
        machine.host.sync_speed(64);
        machine.let_time_pass();
        ask(&machine, "pvc-2", "2Mi");
        let snapshot = agent.phase("mirrorsnapshots", "snap-1", "Detached").await;
        assert_eq!(snapshot["status"]["detachedTo"], "pvc-2");
        assert_eq!(snapshot["status"].get("slot"), None, "what is in its slot is another image");
        let why = agent.condition("mirrorsnapshots", "snap-1", "Ready", "False", "Detached").await;
        assert!(why.contains("volume pvc-2 of claim db/copy now"), "{why}");
        agent.condition("mirrorvolumes", "pvc-2", "Ready", "True", "Active").await;
        let new = agent.phase("mirrorvolumes", "pvc-2", "Degraded").await;
        assert_eq!(new["status"]["slots"][1]["state"], "Rebuilding", "{new}");
        let replaced = |object: &Value| object["status"]["slots"][2]["state"] == "Rebuilding";
        let origin = |server: &ApiServer| server.get("mirrorvolumes", "pvc-1").filter(replaced);
        machine.server.until("an image in place of the one that left", origin).await;
        agent.stage("pvc-2").await.expect("it can be used");
        assert_eq!((held(&machine, "pvc-1"), held(&machine, "pvc-2")), (2, 1));
        write(&machine, "pvc-2", 3);

        let told = machine.server.list("events");
        let told = told.iter().filter(|event| event["reason"] == "SnapshotDetached");
        let mut about: Vec<_> = told.map(|event| event["regarding"]["kind"].clone()).collect();
        about.sort_by_key(Value::to_string);
        assert_eq!(about, ["MirrorSnapshot", "VolumeSnapshot"]);

        machine.host.sync_speed(16_384);
        whole(&machine, "pvc-1", 3).await;
        whole(&machine, "pvc-2", 2).await;
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        agent.gone("mirrorsnapshots", "snap-1").await;
        agent.rest().await;
        assert!(machine.server.list("events").iter().all(|event| event["reason"] != "MergeCompleted"));
        assert_eq!((held(&machine, "pvc-1"), held(&machine, "pvc-2")), (2, 3));
        agent.unstage("pvc-2").await;
        for name in ["pvc-1", "pvc-2"] {
            machine.ask_to_delete("mirrorvolumes", name);
            agent.gone("mirrorvolumes", name).await;
        }
    });
    assert_eq!(machine.volumes(), []);
    machine.check();
}

#[test]
fn a_snapshot_becomes_a_volume_of_other_regions_than_it_has() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        split(&machine, agent, "2Mi").await;
        machine.let_time_pass();
        let mut new = volume("pvc-2", 2);
        new["spec"]["source"] = json!({"detached": "snap-1"});
        new["spec"]["regionSize"] = json!("16Ki");
        machine.server.put("mirrorvolumes", &new);
        whole(&machine, "pvc-2", 2).await;
        agent.rest().await;
        agent.condition("mirrorvolumes", "pvc-2", "Ready", "True", "Active").await;
        assert_eq!(held(&machine, "pvc-2"), 1);
    });
    let made = machine.engine().volume("pvc-2").expect("looked").expect("it is there");
    assert_eq!(made.region_size, Bytes::kib(16));
    machine.check();
}

#[test]
fn a_volume_without_room_for_another_image_has_lost_redundancy_until_there_is() {
    let machine = Machine::with_pool();
    machine.write_pools(
        &json!([{"volumeGroup": "vg", "devices": ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"]}]),
    );
    machine.life(async |agent| {
        split(&machine, agent, "8Mi").await;
        ask(&machine, "pvc-2", "8Mi");
        whole(&machine, "pvc-2", 2).await;
        let why = agent.condition("mirrorvolumes", "pvc-1", "Degraded", "True", "ImagesLost").await;
        assert_eq!(why, "slot 2 has no image");
        let event = agent.event("ImageMissing").await;
        assert_eq!(event["note"], "slot 2: it has no image: it gets one when a disk has room");
        agent.event("RedundancyLost").await;
        assert_eq!(held(&machine, "pvc-1"), 2);

        machine.ask_to_delete("mirrorvolumes", "pvc-2");
        agent.gone("mirrorvolumes", "pvc-2").await;
        whole(&machine, "pvc-1", 3).await;
        agent.event("RedundancyRestored").await;
        assert_eq!(held(&machine, "pvc-1"), 2);
    });
    machine.check();
}

#[test]
fn what_cannot_be_detached_is_told_and_nothing_is_changed() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        split(&machine, agent, "8Mi").await;
        ask(&machine, "pvc-2", "8Mi");
        agent.condition("mirrorvolumes", "pvc-2", "Ready", "False", "Exhausted").await;
        machine.ask_to_delete("mirrorvolumes", "pvc-2");
        agent.gone("mirrorvolumes", "pvc-2").await;
        let snapshot = agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        assert_eq!(snapshot["status"].get("detachedTo"), None);
    });
    machine.check();
}

#[test]
fn a_snapshot_that_is_a_volume_now_is_not_made_another_one() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        split(&machine, agent, "2Mi").await;
        ask(&machine, "pvc-2", "2Mi");
        agent.phase("mirrorsnapshots", "snap-1", "Detached").await;
        ask(&machine, "pvc-3", "2Mi");
        let mut clone = volume("pvc-4", 2);
        clone["spec"]["source"] = json!({"snapshot": "snap-1"});
        machine.server.put("mirrorvolumes", &clone);
        machine.server.put("mirrorvolumes", &crate::harness::view("pvc-5", "snap-1"));
        for name in ["pvc-3", "pvc-4", "pvc-5"] {
            let why = agent.condition("mirrorvolumes", name, "Ready", "False", "NotFound").await;
            assert!(why.contains("it is volume pvc-2 now"), "{name}: {why}");
        }
    });
    machine.check();
}

#[test]
fn what_was_detached_by_hand_is_told_and_its_volume_gets_an_object() {
    let machine = Machine::with_pool();
    machine.life(async |agent| split(&machine, agent, "2Mi").await);
    machine.killed();
    detach_by_hand(&machine, "pvc-2");
    machine.life(async |agent| {
        let snapshot = agent.phase("mirrorsnapshots", "snap-1", "Detached").await;
        assert_eq!(snapshot["status"]["detachedTo"], "pvc-2");
        let found = agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        assert_eq!(found["spec"]["source"], json!({"detached": "snap-1"}));
        // The object that was asked for it is made again as it was, whether the snapshot's is there or not.
        agent.rest().await;
        machine.server.wipe();
        let found = agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        assert_eq!(found["spec"]["source"], json!({"detached": "snap-1"}));
        agent.rest().await;
        assert_eq!(machine.server.list("mirrorsnapshots"), [] as [Value; 0], "it is none any more");
        assert_eq!((held(&machine, "pvc-1"), held(&machine, "pvc-2")), (2, 1));
    });
    machine.check();
}

#[test]
fn a_volume_that_is_deleted_at_once_still_tells_what_its_snapshot_became() {
    for doomed in ["pvc-1", "pvc-2"] {
        let machine = Machine::with_pool();
        machine.life(async |agent| split(&machine, agent, "2Mi").await);
        machine.killed();
        detach_by_hand(&machine, "pvc-2");
        ask(&machine, "pvc-2", "2Mi");
        machine.ask_to_delete("mirrorvolumes", doomed);
        machine.life(async |agent| {
            agent.gone("mirrorvolumes", doomed).await;
            agent.rest().await;
            let snapshot = agent.phase("mirrorsnapshots", "snap-1", "Detached").await;
            assert_eq!(snapshot["status"]["detachedTo"], "pvc-2");
            machine.ask_to_delete("mirrorsnapshots", "snap-1");
            agent.gone("mirrorsnapshots", "snap-1").await;
        });
        let left: Vec<_> = machine.volumes().into_iter().map(|volume| volume.id.to_string()).collect();
        assert_eq!(left, [if doomed == "pvc-1" { "pvc-2" } else { "pvc-1" }]);
        machine.check();
    }
}

/// From the wish to the end of the snapshot and of the volume that it was of.
async fn story(agent: &Agent<'_>) {
    let machine = agent.machine;
    if machine.server.get("mirrorsnapshots", "snap-1").is_some() {
        agent.phase("mirrorsnapshots", "snap-1", "Detached").await;
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        agent.gone("mirrorsnapshots", "snap-1").await;
    }
    if machine.server.get("mirrorvolumes", "pvc-1").is_some() {
        machine.ask_to_delete("mirrorvolumes", "pvc-1");
        agent.gone("mirrorvolumes", "pvc-1").await;
    }
    whole(machine, "pvc-2", 2).await;
}

#[test]
fn an_agent_that_dies_at_any_request_of_a_detachment_is_followed_by_one_that_goes_on() {
    let mut at = 0;
    loop {
        let mut died = false;
        for done in [false, true] {
            let machine = Machine::with_pool();
            machine.life(async |agent| {
                split(&machine, agent, "2Mi").await;
                agent.rest().await;
            });
            machine.killed();
            ask(&machine, "pvc-2", "2Mi");
            machine.server.freeze(at, done);
            died = machine.life(async |agent| {
                let frozen =
                    machine.server.until("the last answer", |server| server.is_frozen().then_some(()));
                tokio::select! {
                    () = story(agent) => false,
                    () = frozen => true,
                    () = tokio::time::sleep(Duration::from_secs(60)) => true,
                }
            });
            machine.killed();
            machine.server.thaw();
            machine.life(async |agent| {
                story(agent).await;
                assert_eq!(held(&machine, "pvc-2"), 1, "request {at} {done}");
            });
            let volumes = machine.volumes();
            let left: Vec<_> = volumes.iter().map(|volume| volume.id.as_str()).collect();
            assert_eq!(left, ["pvc-2"], "request {at} {done}");
            machine.check();
        }
        if !died {
            break;
        }
        at += 1;
    }
    assert!(at > 10, "only {at} requests were tried");
}

#[test]
fn images_of_a_volume_become_a_volume_and_it_gets_others_in_their_place() {
    let machine = Machine::with_wide_pool();
    machine.life(async |agent| {
        machine.server.put("mirrorvolumes", &volume("pvc-1", 4));
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        write(&machine, "pvc-1", 1);
        let mut new = volume("pvc-2", 2);
        new["spec"]["source"] = json!({"images": "pvc-1"});
        machine.server.put("mirrorvolumes", &new);
        whole(&machine, "pvc-2", 2).await;
        agent.stage("pvc-2").await.expect("it can be used");
        write(&machine, "pvc-1", 2);
        whole(&machine, "pvc-1", 4).await;
        agent.rest().await;
        assert_eq!((held(&machine, "pvc-1"), held(&machine, "pvc-2")), (2, 1));
        // What is lost comes back as it was.
        machine.server.wipe();
        let found = agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        assert_eq!(found["spec"]["source"], json!({"images": "pvc-1"}));
        agent.rest().await;
        agent.unstage("pvc-2").await;
        for name in ["pvc-1", "pvc-2"] {
            machine.ask_to_delete("mirrorvolumes", name);
            agent.gone("mirrorvolumes", name).await;
        }
    });
    machine.check();
}

#[test]
fn images_that_cannot_be_spared_do_not_become_a_volume() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        machine.server.put("mirrorvolumes", &volume("pvc-1", 3));
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        let mut new = volume("pvc-2", 2);
        new["spec"]["source"] = json!({"images": "pvc-1"});
        machine.server.put("mirrorvolumes", &new);
        let why = agent.condition("mirrorvolumes", "pvc-2", "Ready", "False", "Precondition").await;
        assert!(why.contains("has 3 images and 2 must stay"), "{why}");
        whole(&machine, "pvc-1", 3).await;
    });
}
