//! The API server fails, the agent dies, the machine loses power: in the end all is as it was asked for.

use std::time::Duration;

use splitmirror::host::sim::{Cut, Fault};
use splitmirror::units::Sectors;

use crate::api::{Failure, Request};
use crate::harness::{Agent, Machine};

/// How far the controller has come; it goes on from there whatever happens to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Volume,
    Snapshot,
    Delete,
    Done,
}

/// A volume, a snapshot of it, and the end of the snapshot.
async fn story(agent: &Agent<'_>, step: &mut Step) {
    let machine = agent.machine;
    if *step == Step::Volume {
        if machine.server.get("mirrorvolumes", "pvc-1").is_none() {
            machine.ask_for_volume("pvc-1");
        }
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        *step = Step::Snapshot;
    }
    if *step == Step::Snapshot {
        if machine.server.get("mirrorsnapshots", "snap-1").is_none() {
            machine.ask_for_snapshot("pvc-1", "snap-1");
        }
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        *step = Step::Delete;
    }
    if *step == Step::Delete {
        if machine.server.get("mirrorsnapshots", "snap-1").is_some() {
            machine.ask_to_delete("mirrorsnapshots", "snap-1");
        }
        agent.gone("mirrorsnapshots", "snap-1").await;
        *step = Step::Done;
    }
    agent
        .machine
        .server
        .until("all images", |server| {
            let volume = server.get("mirrorvolumes", "pvc-1")?;
            let status = &volume["status"];
            (status["phase"] == "Ready" && status["inSync"] == 3 && status["split"] == 0).then_some(())
        })
        .await;
}

/// The disks are as they should be at the end of the story.
fn check(machine: &Machine, why: &str) {
    let volumes = machine.volumes();
    let found: Vec<_> = volumes.iter().map(|volume| (volume.id.as_str(), volume.snapshots.len())).collect();
    assert_eq!(found, [("pvc-1", 0)], "{why}");
    assert_eq!(volumes[0].problems, Vec::<String>::new(), "{why}");
    machine.check();
}

/// A life that ends early, and one that goes on to the end.
fn die_and_go_on(
    machine: &Machine,
    why: &str,
    die: impl FnOnce(&Machine),
    revive: impl FnOnce(&Machine),
) -> bool {
    let mut step = Step::Volume;
    die(machine);
    let died = machine.life(async |agent| {
        let frozen = machine.server.until("the last answer", |server| server.is_frozen().then_some(()));
        tokio::select! {
            () = story(agent, &mut step) => false,
            () = frozen => true,
            () = tokio::time::sleep(Duration::from_secs(60)) => true,
        }
    });
    revive(machine);
    machine.server.thaw();
    drop(std::fs::remove_file(machine.dir.path().join("csi.sock")));
    machine.life(async |agent| story(agent, &mut step).await);
    check(machine, why);
    died
}

#[test]
fn an_agent_that_dies_at_any_request_is_followed_by_one_that_goes_on() {
    let mut at = 0;
    loop {
        let mut died = false;
        for done in [false, true] {
            let machine = Machine::with_pool();
            let freeze = |machine: &Machine| machine.server.freeze(at, done);
            died = die_and_go_on(&machine, &format!("request {at} {done}"), freeze, |machine| {
                machine.host.restart_process();
            });
        }
        if !died {
            break;
        }
        at += 1;
    }
    assert!(at > 10, "only {at} requests were tried");
}

/// Numbers of calls to the machine that change it, spread over the story.
fn calls() -> impl Iterator<Item = u64> {
    let machine = Machine::with_pool();
    machine.host.arm(None);
    machine.life(async |agent| story(agent, &mut { Step::Volume }).await);
    let calls = u64::try_from(machine.host.trace().len()).expect("not many");
    assert!(calls > 60, "{calls}");
    (0..calls).step_by(usize::try_from(calls / 40).expect("not many"))
}

#[test]
fn an_agent_that_dies_at_any_call_to_the_machine_is_followed_by_one_that_goes_on() {
    for call in calls() {
        let machine = Machine::with_pool();
        let fault = Fault::Kill { call, done: call % 2 == 0 };
        let kill = |machine: &Machine| machine.host.arm(Some(fault));
        let died =
            die_and_go_on(&machine, &format!("{fault:?}"), kill, |machine| machine.host.restart_process());
        assert!(died, "{fault:?} did not hit");
    }
}

#[test]
fn a_machine_that_loses_power_at_any_call_goes_on_after_it_is_back() {
    for call in calls() {
        let machine = Machine::with_pool();
        let at = if call % 2 == 0 { Cut::Before } else { Cut::After };
        let fault = Fault::PowerCut { call, at };
        let cut = |machine: &Machine| machine.host.arm(Some(fault));
        let died = die_and_go_on(&machine, &format!("{fault:?}"), cut, |machine| machine.host.reboot());
        assert!(died, "{fault:?} did not hit");
    }
}

#[test]
fn requests_that_fail_are_made_again_until_they_are_done() {
    let writes = |request: &Request| request.is_write() && request.api_version.starts_with("splitmirror.io");
    for failure in [
        Failure::Status(500),
        Failure::Status(409),
        Failure::Status(429),
        Failure::Refused,
        Failure::AnswerLost,
    ] {
        for times in [1, 4] {
            let machine = Machine::with_pool();
            machine.life(async |agent| {
                let mut step = Step::Volume;
                machine.server.fail(failure, times, writes);
                machine.server.fail(failure, times, move |request| {
                    writes(request) && request.resource == "mirrorsnapshots"
                });
                machine.server.fail(failure, times, |request| request.method == http::Method::DELETE);
                story(agent, &mut step).await;
            });
            check(&machine, &format!("{failure:?} {times}"));
        }
    }
}

#[test]
fn volumes_are_served_while_the_api_server_is_away_and_a_merge_goes_on() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.ask_for_snapshot("pvc-1", "snap-1");
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        machine.host.keep_busy("vg-pvc--1", Sectors(4096), 200);
        machine.host.sleep(Duration::from_secs(5));
        machine.host.rest("vg-pvc--1");
        machine.host.sync_speed(4);
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        agent.phase("mirrorsnapshots", "snap-1", "Merging").await;
        machine.server.down(true);
        machine.host.sync_speed(16_384);
        agent.stage("pvc-1").await.expect("the disks tell where it is");
        agent.rest().await;
    });
    machine.killed();
    machine.life(async |agent| {
        agent.stage("pvc-1").await.expect("also after a start without the API server");
        agent.unstage("pvc-1").await;
        agent.rest().await;
        let volumes = machine.volumes();
        assert_eq!(volumes[0].problems, Vec::<String>::new(), "the merge has ended meanwhile");
        machine.server.down(false);
        agent.gone("mirrorsnapshots", "snap-1").await;
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
    });
    check(&machine, "back");
}

#[test]
fn a_pool_that_comes_late_is_opened_although_the_api_server_is_away() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| agent.phase("mirrorvolumes", "pvc-1", "Ready").await);
    machine.killed();
    machine.server.down(true);
    let broken = |broken| {
        ["/dev/sda", "/dev/sdb", "/dev/sdc"].map(|disk| machine.host.break_disk(disk.as_ref(), broken))
    };
    broken(true);
    machine.life(async |agent| {
        agent.stage("pvc-1").await.expect_err("its pool is not there");
        broken(false);
        while agent.stage("pvc-1").await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

#[test]
fn an_image_that_is_lost_is_told_and_so_is_its_return() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        machine.host.break_disk("/dev/sdc".as_ref(), true);
        machine.host.write_volume("vg-pvc--1", Sectors(8), 1).expect("two images are left");
        let volume = agent.phase("mirrorvolumes", "pvc-1", "Degraded").await;
        assert_eq!(volume["status"]["inSync"], 2);
        let why = agent.condition("mirrorvolumes", "pvc-1", "Degraded", "True", "ImagesLost").await;
        assert!(why.contains("image 2"), "{why}");
        let event = agent.event("RedundancyLost").await;
        assert_eq!((&event["type"], &event["regarding"]["name"]), (&"Warning".into(), &"data".into()));
        let pool = machine
            .server
            .until("a missing disk", |server| {
                server.get("mirrorpools", "node-a.vg").filter(|pool| pool["status"]["missingDisks"] == 1)
            })
            .await;
        assert_eq!(pool["status"].get("capacity"), None, "nothing can be made while a disk is missing");
        agent.event("DiskMissing").await;
    });
    machine.killed();
    machine.host.break_disk("/dev/sdc".as_ref(), false);
    machine.host.reboot();
    machine.life(async |agent| {
        agent.event("RedundancyRestored").await;
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        agent.condition("mirrorvolumes", "pvc-1", "Degraded", "False", "Whole").await;
    });
    machine.check();
}
