//! Writable claims from a snapshot and from a claim.

use serde_json::{Value, json};

use super::deaths::kill_agent;
use super::user::{
    CLASS, SNAPSHOTS, claim_of, class, end_volume, event, gone, images, leave, node_of, read, sh, snapshot,
    user, volume_in_use, volume_of, write,
};
use super::{equal, ready, text, that};
use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster};

/// Their class: made at once, where their source is, and filled slowly enough to be watched.
const CLONES: &str = "clones";

/// A writable claim that holds what a source of its namespace holds.
fn clone(bed: &Namespace, name: &str, size: &str, source: &Value) -> Outcome {
    claim_of(bed, name, CLONES, "ReadWriteOnce", source, size)
}

fn phase(seen: &Value, phase: &str) -> bool {
    seen["status"]["phase"] == phase
}

/// How far it is filled, while it is.
fn filled(seen: &Value) -> Option<u8> {
    seen["status"]["filled"].as_str()?.strip_suffix('%')?.parse().ok()
}

const SUM: &str = "sha256sum </data/block";

pub fn claims_are_cloned_and_used_while_they_are_filled(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let slow = json!({ "splitmirror.io/images": "2", "splitmirror.io/maxRecoveryRate": "2048" });
    class(bed, CLONES, "Immediate", &slow)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    let node = node_of(bed, "app")?;
    sh(bed, "app", "dd if=/dev/urandom of=/data/block bs=1M count=16 conv=fsync")?;
    let sum = sh(bed, "app", SUM)?;
    let handle = snapshot(bed, "cut", "data")?;
    write(bed, "app", "after")?;

    let api_group = SNAPSHOTS.split_once('/').map(|(group, _)| group);
    let of_snapshot = json!({ "apiGroup": api_group, "kind": "VolumeSnapshot", "name": "cut" });
    clone(bed, "copy", "96Mi", &of_snapshot)?;
    user(bed, "copier", "copy", false)?;
    let copy = volume_of(bed, "copy")?;
    let seen =
        bed.kubectl().wait(cluster("mirrorvolume", &copy), "being filled", |seen| filled(seen).is_some())?;
    equal("that is its phase", seen["status"]["phase"].as_str(), Some("Filling"))?;
    equal("it is where its source is", seen["spec"]["node"].as_str(), Some(node.name()))?;
    equal("it tells its source", &seen["spec"]["source"]["snapshot"], &json!(handle))?;
    equal("it holds the instant of the snapshot", read(bed, "copier")?.as_str(), "before")?;
    equal("all of it", sh(bed, "copier", SUM)?, sum.clone())?;
    let size = sh(bed, "copier", "df -m /data | tail -1 | awk '{ print $2 }'")?;
    that("its file system has grown", size.trim().parse().is_ok_and(|size: u32| size > 70), &size)?;
    write(bed, "copier", "own")?;

    // The snapshot's deletion waits. Meanwhile the agent dies.
    bed.kubectl().begin_delete(bed.object("volumesnapshot", "cut"))?;
    until("its deletion is refused for now", PATIENCE, || {
        let contents = bed.kubectl().list(&["volumesnapshotcontents"])?;
        let content = contents.iter().find(|content| content["status"]["snapshotHandle"] == *handle);
        let name = text(&content.ok_or("its content is gone")?["metadata"]["name"])?;
        let about = format!("--field-selector=involvedObject.name={name},reason=SnapshotDeleteError");
        Ok(bed.kubectl().list(&["events", "--namespace", "default", &about])?.pop())
    })?;
    let before = filled(&bed.kubectl().get(cluster("mirrorvolume", &copy))?);
    that("it is not filled yet", before.is_some(), before)?;
    kill_agent(bed, node)?;
    equal("it is used meanwhile", read(bed, "copier")?.as_str(), "own")?;
    let further = |seen: &Value| filled(seen) > before || phase(seen, "Ready");
    bed.kubectl().wait(cluster("mirrorvolume", &copy), "filled further", further)?;
    bed.kubectl().wait(cluster("mirrorvolume", &copy), "filled", |seen| phase(seen, "Ready"))?;
    event(bed, "copy", "CloneFilled", "needs its source no more")?;
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    images(bed, &volume, 3, 0)?;
    equal("filled, it holds the same", sh(bed, "copier", SUM)?, sum)?;
    equal("and what was written to it", read(bed, "copier")?.as_str(), "own")?;

    let of_claim = json!({ "kind": "PersistentVolumeClaim", "name": "data" });
    clone(bed, "twin", "64Mi", &of_claim)?;
    user(bed, "reader", "twin", false)?;
    let twin = volume_of(bed, "twin")?;
    equal("the twin holds what is there now", read(bed, "reader")?.as_str(), "after")?;
    let seen = bed.kubectl().get(cluster("mirrorvolume", &twin))?;
    equal("it tells its source", text(&seen["spec"]["source"]["volume"])?, volume.clone())?;
    bed.kubectl().wait(cluster("mirrorvolume", &twin), "filled", |seen| phase(seen, "Ready"))?;
    images(bed, &volume, 3, 0)?;

    for (pod, claim, volume) in [("copier", "copy", &copy), ("reader", "twin", &twin)] {
        leave(bed, pod, claim)?;
        gone(bed, cluster("mirrorvolume", volume))?;
    }
    end_volume(bed, "app", &volume)
}
