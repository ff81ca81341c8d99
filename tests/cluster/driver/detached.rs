//! A snapshot that becomes a claim of its own.

use serde_json::json;

use super::user::{
    CLASS, SNAPSHOTS, claim_of, class, end_volume, event, give_up, gone, images, images_are_equal, node_of,
    read, snapshot, user, volume_in_use, volume_of, write,
};
use super::{equal, ready, text};
use crate::Outcome;
use crate::kubectl::{Namespace, cluster};

/// Its class.
const DETACHED: &str = "detached";

pub fn a_snapshot_becomes_a_claim_of_its_own(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let detach = json!({ "splitmirror.io/images": "2", "splitmirror.io/restore": "detach" });
    class(bed, DETACHED, "Immediate", &detach)?;
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
    let node = node_of(bed, "app")?;
    bed.kubectl().delete(bed.object("pod", "brancher"))?;
    images_are_equal(bed, node, &branch, 2)?;
    give_up(bed, "branch", &branch)?;
    end_volume(bed, "app", &volume)
}
