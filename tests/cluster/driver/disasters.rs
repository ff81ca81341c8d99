//! Nodes, the API server and etcd go, and nothing of the data.

use serde_json::{Value, json};

use super::deaths::{change_much, merging, slow_volume};
use super::user::{
    CLASS, SNAPSHOTS, end_volume, event, gone, images, leave, node_of, read, snapshot, user, view,
    volume_in_use, write,
};
use super::{DRIVER, all_ready, equal, install, ready, text};
use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster, is_ready, restarts};

pub fn a_merge_goes_on_without_an_api_server(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = slow_volume(bed)?;
    let node = node_of(bed, "app")?;
    let handle = snapshot(bed, "cut", "data")?;
    change_much(bed)?;
    bed.kubectl().begin_delete(bed.object("volumesnapshot", "cut"))?;
    merging(bed, &volume)?;
    // Nobody is told that a merge has begun which is over when they can be.
    event(bed, "data", "MergeStarted", "")?;
    bed.stop_api()?;
    let merged = until("it is merged without anybody to tell", PATIENCE, || {
        let tags = node.run(&["lvs", "--noheadings", "--options=lv_tags"])?;
        let status = node.run(&["dmsetup", "status", "--target=raid"])?;
        let over = status.contains("AAA") && !tags.contains("merge");
        if over { Ok(Some(())) } else { Err(format!("{status}{tags}")) }
    });
    bed.start_api()?;
    merged?;
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    images(bed, &volume, 3, 0)?;
    event(bed, "data", "MergeCompleted", "")?;
    let pod = bed.kubectl().get(bed.object("pod", "app"))?;
    equal("its user has not noticed", restarts(&pod), Some(0))?;
    end_volume(bed, "app", &volume)
}

/// A node loses power with a snapshot outstanding, after somebody has deleted the objects.
pub fn a_power_cut_and_hand_deleted_objects_lose_nothing(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    let handle = snapshot(bed, "cut", "data")?;
    write(bed, "app", "after")?;

    for (kind, name) in [("mirrorvolume", &volume), ("mirrorsnapshot", &handle)] {
        bed.kubectl().delete(cluster(kind, name))?;
        bed.kubectl().wait(cluster(kind, name), "there again", is_ready)?;
    }

    let node = node_of(bed, "app")?;
    node.power_cut()?;
    node.boot()?;
    bed.restore()?;
    let again = |pod: &Value| restarts(pod) >= Some(1) && is_ready(pod);
    bed.kubectl().wait(bed.object("pod", "app"), "running again", again)?;
    equal("what was synced is there", read(bed, "app")?.as_str(), "after")?;
    view(bed, "look", "cut", "64Mi")?;
    user(bed, "reader", "look", true)?;
    equal("the snapshot is there", read(bed, "reader")?.as_str(), "before")?;
    leave(bed, "reader", "look")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    images(bed, &volume, 3, 0)?;
    end_volume(bed, "app", &volume)?;
    all_ready(bed)
}

/// All objects are gone, those of the driver and of its users; only the disks are there.
pub fn a_lost_etcd_loses_no_volume_and_no_snapshot(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    let handle = snapshot(bed, "cut", "data")?;
    write(bed, "app", "after")?;
    let node = node_of(bed, "app")?;

    bed.wipe_etcd()?;
    let bed = &Namespace::create(bed, bed.name())?;
    install(bed)?;
    all_ready(bed)?;
    for (kind, name) in [("mirrorvolume", &volume), ("mirrorsnapshot", &handle)] {
        let seen = bed.kubectl().wait(cluster(kind, name), "there again", is_ready)?;
        equal("on its node", seen["spec"]["node"].as_str(), Some(node.name()))?;
    }
    images(bed, &volume, 2, 1)?;

    // As docs/ops/kubernetes.md says.
    let at = json!({
        "key": "topology.splitmirror.io/node",
        "operator": "In",
        "values": [node.name()],
    });
    bed.kubectl().apply(&json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": "rescued", "annotations": { "pv.kubernetes.io/provisioned-by": DRIVER } },
        "spec": {
            "capacity": { "storage": "64Mi" },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "csi": { "driver": DRIVER, "volumeHandle": volume, "fsType": "ext4" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [at] }] } },
        },
    }))?;
    bed.apply(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data" },
        "spec": {
            "storageClassName": CLASS,
            "volumeName": "rescued",
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "64Mi" } },
        },
    }))?;
    user(bed, "app", "data", false)?;
    equal("what was written is there", read(bed, "app")?.as_str(), "after")?;
    bed.kubectl().apply(&json!({
        "apiVersion": SNAPSHOTS,
        "kind": "VolumeSnapshotContent",
        "metadata": { "name": "rescued" },
        "spec": {
            "driver": DRIVER,
            "deletionPolicy": "Delete",
            "volumeSnapshotClassName": CLASS,
            "source": { "snapshotHandle": handle },
            "volumeSnapshotRef": { "name": "cut", "namespace": bed.name() },
        },
    }))?;
    bed.apply(json!({
        "apiVersion": SNAPSHOTS,
        "kind": "VolumeSnapshot",
        "metadata": { "name": "cut" },
        "spec": {
            "volumeSnapshotClassName": CLASS,
            "source": { "volumeSnapshotContentName": "rescued" },
        },
    }))?;
    let ready = |seen: &Value| seen["status"]["readyToUse"] == true;
    let seen = bed.kubectl().wait(bed.object("volumesnapshot", "cut"), "ready", ready)?;
    println!("{}", text(&seen["status"]["restoreSize"])?);
    view(bed, "look", "cut", "64Mi")?;
    user(bed, "reader", "look", true)?;
    equal("so is the snapshot", read(bed, "reader")?.as_str(), "before")?;
    leave(bed, "reader", "look")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    images(bed, &volume, 3, 0)?;
    end_volume(bed, "app", &volume)
}
