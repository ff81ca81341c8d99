//! Processes of the driver that die at the worst moment.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::user::{
    CLASS, ask_snapshot, class, end_volume, gone, images, leave, node_of, read, ready_snapshot, sh, snapshot,
    user, view, volume_in_use, write,
};
use super::{LABEL, NAMESPACE, agent_on, all_ready, equal, ours, ready, text, that};
use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster};
use crate::node::Node;

/// A class whose merges take their time.
const SLOW: &str = "slow";

/// A volume of [`SLOW`] with a pod that uses it.
pub fn slow_volume(bed: &Namespace) -> Outcome<String> {
    let parameters = json!({ "splitmirror.io/images": "3", "splitmirror.io/maxRecoveryRate": "1024" });
    class(bed, SLOW, "WaitForFirstConsumer", &parameters)?;
    volume_in_use(bed, SLOW, "128Mi")
}

/// Changes so much that a merge takes about twenty seconds.
pub fn change_much(bed: &Namespace) -> Outcome {
    sh(bed, "app", "dd if=/dev/urandom of=/data/much bs=1M count=24 conv=fsync").map(drop)
}

/// Waits until a merge has begun.
pub fn merging(bed: &Namespace, volume: &str) -> Outcome {
    let merging = |seen: &Value| {
        seen["status"]["slots"].as_array().into_iter().flatten().any(|slot| slot["state"] == "Merging")
    };
    bed.kubectl().wait(cluster("mirrorvolume", volume), "merging", merging).map(drop)
}

/// Kills the agent of a node. The kubelet starts it again.
pub fn kill_agent(bed: &Namespace, node: &Node) -> Outcome {
    // Its own pod must have been running: this is no crash loop.
    agent_on(bed, node.name())?;
    node.run(&["pkill", "-KILL", "--exact", "splitmirror"]).map(drop)
}

pub fn an_agent_killed_in_mid_split_or_merge_finishes_it(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = slow_volume(bed)?;
    let node = node_of(bed, "app")?;
    // Soon after it has heard of the snapshot: what it has done by then differs.
    for (round, pause) in [("first", 5), ("second", 40), ("third", 120)] {
        write(bed, "app", round)?;
        let known = snapshots_of(bed, &volume)?;
        ask_snapshot(bed, round, "data", CLASS)?;
        until("it is asked for", PATIENCE, || Ok((snapshots_of(bed, &volume)? > known).then_some(())))?;
        let asked = Instant::now();
        until("it has had some time", PATIENCE, || {
            Ok((asked.elapsed() >= Duration::from_millis(pause)).then_some(()))
        })?;
        kill_agent(bed, node)?;
        println!(
            "{round}: after {pause} ms:\n{}",
            node.run(&["lvs", "--all", "--options=lv_name,lv_tags,lv_attr"])?
        );
        let handle = ready_snapshot(bed, round)?;
        write(bed, "app", "later")?;
        view(bed, "look", round, "128Mi")?;
        user(bed, "reader", "look", true)?;
        equal("it shows its instant", read(bed, "reader")?.as_str(), round)?;
        leave(bed, "reader", "look")?;
        bed.kubectl().delete(bed.object("volumesnapshot", round))?;
        gone(bed, cluster("mirrorsnapshot", &handle))?;
        images(bed, &volume, 3, 0)?;
    }

    let handle = snapshot(bed, "cut", "data")?;
    change_much(bed)?;
    bed.kubectl().begin_delete(bed.object("volumesnapshot", "cut"))?;
    merging(bed, &volume)?;
    kill_agent(bed, node)?;
    let status = node.run(&["dmsetup", "status", "--target=raid"])?;
    that("the merge was not over", status.contains("recover"), &status)?;
    equal("the volume is there meanwhile", read(bed, "app")?.as_str(), "later")?;
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    images(bed, &volume, 3, 0)?;
    all_ready(bed)?;
    end_volume(bed, "app", &volume)
}

/// Two controllers, of which one is killed: whichever leads, the other goes on.
pub fn two_controllers_are_as_good_as_one(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    let controller = ours("deployment", "splitmirror-controller");
    let scale = |replicas: u8| {
        let replicas_arg = format!("--replicas={replicas}");
        bed.kubectl().run(&[
            "scale",
            "deployment",
            controller.name,
            "--namespace",
            NAMESPACE,
            &replicas_arg,
        ])?;
        let available = |seen: &Value| seen["status"]["availableReplicas"] == replicas;
        bed.kubectl().wait(controller, "available", available).map(drop)
    };
    scale(2)?;
    for round in ["one", "two"] {
        // Who leads is the one that is killed, with no time to say goodbye.
        let name = "external-snapshotter-leader-splitmirror-io";
        let lease = bed.kubectl().get(ours("lease", name))?;
        let leader = text(&lease["spec"]["holderIdentity"])?;
        let now = ["--grace-period=0", "--force"];
        bed.kubectl().run(&[&["delete", "pod", &leader, "--namespace", NAMESPACE][..], &now].concat())?;
        let handle = snapshot(bed, round, "data")?;
        images(bed, &volume, 2, 1)?;
        bed.kubectl().delete(bed.object("volumesnapshot", round))?;
        gone(bed, cluster("mirrorsnapshot", &handle))?;
        images(bed, &volume, 3, 0)?;
    }
    scale(1)?;
    end_volume(bed, "app", &volume)
}

/// How many MirrorSnapshots a volume has.
fn snapshots_of(bed: &Namespace, volume: &str) -> Outcome<usize> {
    let seen = bed.kubectl().list(&["mirrorsnapshots"])?;
    Ok(seen.iter().filter(|one| one["spec"]["volume"] == volume).count())
}

/// A node whose agent does nothing until this is dropped: the controller's objects wait there.
struct Paused<'n>(&'n Node);

impl<'n> Paused<'n> {
    fn new(node: &'n Node) -> Outcome<Self> {
        node.run(&["pkill", "-STOP", "--exact", "splitmirror"])?;
        Ok(Self(node))
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.run(&["pkill", "-CONT", "--exact", "splitmirror"]).ok();
    }
}

pub fn a_controller_killed_before_its_answer_is_not_missed(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    // The agent is paused, and its node has no controller: that one must be able to die.
    let node = node_of(bed, "app")?;
    let kill_controller = || {
        let selector = format!("{LABEL},app.kubernetes.io/component=controller");
        let now = ["--grace-period=0", "--force", "--wait=true"];
        let delete = ["delete", "pods", "--namespace", NAMESPACE, "--selector", &selector];
        bed.kubectl().run(&[&delete[..], &now].concat()).map(drop)
    };

    let paused = Paused::new(node)?;
    ask_snapshot(bed, "cut", "data", CLASS)?;
    until("it is asked for", PATIENCE, || Ok((snapshots_of(bed, &volume)? == 1).then_some(())))?;
    kill_controller()?;
    drop(paused);
    let handle = ready_snapshot(bed, "cut")?;
    equal("there is one of it", snapshots_of(bed, &volume)?, 1)?;
    images(bed, &volume, 2, 1)?;

    let paused = Paused::new(node)?;
    bed.kubectl().begin_delete(bed.object("volumesnapshot", "cut"))?;
    let doomed = |seen: &Value| seen["spec"]["delete"] == true;
    bed.kubectl().wait(cluster("mirrorsnapshot", &handle), "to be deleted", doomed)?;
    kill_controller()?;
    drop(paused);
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    images(bed, &volume, 3, 0)?;

    bed.kubectl().delete(bed.object("pod", "app"))?;
    let paused = Paused::new(node)?;
    bed.kubectl().begin_delete(bed.object("pvc", "data"))?;
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "to be deleted", doomed)?;
    kill_controller()?;
    drop(paused);
    gone(bed, cluster("mirrorvolume", &volume))?;
    let left = node.run(&["lvs", "--noheadings", "--options=lv_name"])?;
    that("nothing is left of it", left.trim().is_empty(), &left)?;
    all_ready(bed)
}
