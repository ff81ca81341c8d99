//! A snapshot, or images of a volume, that become a claim of their own.

use serde_json::json;

use super::user::{
    CLASS, SNAPSHOTS, claim_of, class, end, end_volume, event, gone, images, node_of, read, snapshot, user,
    volume_in_use, volume_of, volume_of_images, write,
};
use super::{POOL, equal, ready, text};
use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster};

/// Their class.
const DETACHED: &str = "detached";
/// A StorageClass of volumes of which two images can become a volume of two.
const FOURS: &str = "fours";

fn detached_class(bed: &Namespace) -> Outcome {
    let detach = json!({ "splitmirror.io/images": "2", "splitmirror.io/restore": "detach" });
    class(bed, DETACHED, "Immediate", &detach)
}

pub fn a_snapshot_becomes_a_claim_of_its_own(bed: &Namespace) -> Outcome {
    ready(bed)?;
    detached_class(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    let handle = snapshot(bed, "cut", "data")?;
    write(bed, "app", "after")?;

    let api_group = SNAPSHOTS.split_once('/').map(|(group, _)| group);
    let source = json!({ "apiGroup": api_group, "kind": "VolumeSnapshot", "name": "cut" });
    claim_of(bed, "branch", DETACHED, "ReadWriteOnce", &source, "64Mi")?;
    user(bed, "brancher", "branch", false)?;
    let branch = volume_of(bed, "branch")?;
    equal("it holds the instant of the snapshot", read(bed, "brancher")?.as_str(), "before")?;
    write(bed, "brancher", "own")?;
    equal("the volume goes on", read(bed, "app")?.as_str(), "after")?;

    event(bed, "cut", "SnapshotDetached", &branch)?;
    let told = bed.kubectl().get(cluster("mirrorsnapshot", &handle))?;
    equal("its phase", text(&told["status"]["phase"])?.as_str(), "Detached")?;
    equal("what it has become", text(&told["status"]["detachedTo"])?, branch.clone())?;
    images(bed, &branch, 2, 0)?;
    images(bed, &volume, 3, 0)?;

    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    equal("nothing else is deleted with it", read(bed, "brancher")?.as_str(), "own")?;
    end(bed, "brancher", "branch", &branch, 2)?;
    end_volume(bed, "app", &volume)
}

pub fn images_of_a_volume_become_a_claim_of_their_own(bed: &Namespace) -> Outcome {
    ready(bed)?;
    detached_class(bed)?;
    class(bed, FOURS, "WaitForFirstConsumer", &json!({ "splitmirror.io/images": "4" }))?;
    let volume = volume_of_images(bed, FOURS, "64Mi", 4)?;
    let node = node_of(bed, "app")?;
    let lv_of = |volume: &str| text(&bed.kubectl().get(cluster("mirrorvolume", volume))?["spec"]["lv"]);
    let disks_of = |volume: &str| -> Outcome<Vec<String>> {
        let select = format!("lv_name=~^{}_rimage_", lv_of(volume)?);
        let told =
            node.run(&["lvs", "--all", "--noheadings", "--options=devices", "--select", &select, POOL])?;
        Ok(told.split_ascii_whitespace().map(str::to_owned).collect())
    };
    let all = disks_of(&volume)?;
    equal("LVM2 sees four images", all.len(), 4)?;

    let source = json!({ "kind": "PersistentVolumeClaim", "name": "data" });
    claim_of(bed, "branch", DETACHED, "ReadWriteOnce", &source, "64Mi")?;
    let branch = volume_of(bed, "branch")?;
    equal("they are the same extents of the same disks", disks_of(&branch)?, all[2..].to_vec())?;
    user(bed, "brancher", "branch", false)?;
    equal("they hold what was written", read(bed, "brancher")?.as_str(), "before")?;
    write(bed, "brancher", "own")?;
    write(bed, "app", "after")?;
    let made = bed.kubectl().get(cluster("mirrorvolume", &branch))?;
    equal("it is told what it was", text(&made["spec"]["source"]["images"])?, volume.clone())?;
    images(bed, &branch, 2, 0)?;
    // Its object tells of four until its agent has looked again: the kernel knows.
    let array = format!("{POOL}-{}", lv_of(&volume)?.replace('-', "--"));
    until("others are in sync in their place", PATIENCE, || {
        let status = node.run(&["dmsetup", "status", &array])?;
        if status.contains(" AAAA ") { Ok(Some(())) } else { Err(status) }
    })?;
    images(bed, &volume, 4, 0)?;
    equal("the first two have stayed", disks_of(&volume)?[..2].to_vec(), all[..2].to_vec())?;

    equal("each goes its own way", read(bed, "app")?.as_str(), "after")?;
    equal("each goes its own way", read(bed, "brancher")?.as_str(), "own")?;
    end(bed, "brancher", "branch", &branch, 2)?;
    end(bed, "app", "data", &volume, 4)
}
