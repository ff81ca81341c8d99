//! What users do: claims, pods, snapshots, and looking at what becomes of them.

use serde_json::{Value, json};

use super::{DRIVER, POOL, text};
use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, Object, PATIENCE, cluster, shell};
use crate::node::Node;

pub const SNAPSHOTS: &str = "snapshot.storage.k8s.io/v1";

/// The class of the chart, for volumes that follow their pod.
pub const CLASS: &str = "splitmirror";
/// The class of the chart for views.
pub const VIEWS: &str = "splitmirror-view";

/// A claim. An increased size makes it grow.
pub fn claim(bed: &Namespace, name: &str, class: &str, size: &str) -> Outcome {
    bed.apply(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "storageClassName": class,
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": size } },
        },
    }))
}

/// A StorageClass of a scenario's own.
pub fn class(bed: &Namespace, name: &str, binding: &str, parameters: &Value) -> Outcome {
    let class = json!({
        "provisioner": DRIVER,
        "parameters": parameters,
        "volumeBindingMode": binding,
        "allowVolumeExpansion": true,
    });
    storage_class(bed, "StorageClass", name, class)
}

/// A class of a scenario's own, of any kind. One of an earlier run may have other parameters, and they are immutable.
pub fn storage_class(bed: &Namespace, kind: &str, name: &str, mut class: Value) -> Outcome {
    class["apiVersion"] = json!("storage.k8s.io/v1");
    class["kind"] = json!(kind);
    class["metadata"] = json!({ "name": name });
    bed.kubectl().delete(cluster(kind, name))?;
    bed.kubectl().apply(&class)
}

/// A claim `data` with a pod `app` that has written `before`; its volume, with all three images in sync.
pub fn volume_in_use(bed: &Namespace, class: &str, size: &str) -> Outcome<String> {
    volume_of_images(bed, class, size, 3)
}

/// The same with so many images as its class says.
pub fn volume_of_images(bed: &Namespace, class: &str, size: &str, count: u8) -> Outcome<String> {
    claim(bed, "data", class, size)?;
    user(bed, "app", "data", false)?;
    write(bed, "app", "before")?;
    let volume = volume_of(bed, "data")?;
    images(bed, &volume, count, 0)?;
    Ok(volume)
}

/// The end of `data`, of three images, and of its only pod.
pub fn end_volume(bed: &Namespace, pod: &str, volume: &str) -> Outcome {
    end(bed, pod, "data", volume, 3)
}

/// The end of a volume: nobody uses it, all its images are equal, and it goes with its claim.
pub fn end(bed: &Namespace, pod: &str, claim: &str, volume: &str, images: u8) -> Outcome {
    let node = node_of(bed, pod)?;
    bed.kubectl().delete(bed.object("pod", pod))?;
    images_are_equal(bed, node, volume, images)?;
    give_up(bed, claim, volume)
}

/// A pod with a claim at `/data`, running.
pub fn user(bed: &Namespace, name: &str, claim: &str, read_only: bool) -> Outcome {
    pod(bed, name, claim, shell("exec sleep 1000000"), read_only)
}

/// The same with a container of one's own.
pub fn pod(bed: &Namespace, name: &str, claim: &str, mut container: Value, read_only: bool) -> Outcome {
    container["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data", "readOnly": read_only }]);
    let volume =
        json!({ "name": "data", "persistentVolumeClaim": { "claimName": claim, "readOnly": read_only } });
    bed.pod(name, json!({ "containers": [container], "volumes": [volume] }))?;
    bed.wait_until_ready(name).map(drop)
}

/// Asks for a snapshot.
pub fn ask_snapshot(bed: &Namespace, name: &str, claim: &str, class: &str) -> Outcome {
    bed.apply(json!({
        "apiVersion": SNAPSHOTS,
        "kind": "VolumeSnapshot",
        "metadata": { "name": name },
        "spec": {
            "volumeSnapshotClassName": class,
            "source": { "persistentVolumeClaimName": claim },
        },
    }))
}

/// Waits until a snapshot can be used; its MirrorSnapshot.
pub fn ready_snapshot(bed: &Namespace, name: &str) -> Outcome<String> {
    let object = bed.object("volumesnapshot", name);
    let ready = bed.kubectl().wait(object, "ready", |seen| seen["status"]["readyToUse"] == true)?;
    let content = text(&ready["status"]["boundVolumeSnapshotContentName"])?;
    let content = bed.kubectl().get(cluster("volumesnapshotcontent", &content))?;
    text(&content["status"]["snapshotHandle"])
}

/// A snapshot that can be used; its MirrorSnapshot.
pub fn snapshot(bed: &Namespace, name: &str, claim: &str) -> Outcome<String> {
    ask_snapshot(bed, name, claim, CLASS)?;
    ready_snapshot(bed, name)
}

/// The message that a VolumeSnapshot is refused with.
pub fn refused_snapshot(bed: &Namespace, name: &str) -> Outcome<String> {
    let message = |seen: &Value| seen["status"]["error"]["message"].is_string();
    let seen = bed.kubectl().wait(bed.object("volumesnapshot", name), "refused", message)?;
    text(&seen["status"]["error"]["message"])
}

/// A read-only volume from a snapshot.
pub fn view(bed: &Namespace, name: &str, snapshot: &str, size: &str) -> Outcome {
    let source = json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot });
    claim_of(bed, name, VIEWS, "ReadOnlyMany", &source, size)
}

/// A claim of what a source of its namespace holds.
pub fn claim_of(bed: &Namespace, name: &str, class: &str, mode: &str, source: &Value, size: &str) -> Outcome {
    bed.apply(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "storageClassName": class,
            "accessModes": [mode],
            "dataSource": source,
            "resources": { "requests": { "storage": size } },
        },
    }))
}

/// Runs a script in a pod.
pub fn sh(bed: &Namespace, pod: &str, script: &str) -> Outcome<String> {
    bed.exec(pod, &["sh", "-ec", script])
}

/// Writes a file that is on the disks when this returns.
pub fn write(bed: &Namespace, pod: &str, text: &str) -> Outcome {
    sh(bed, pod, &format!("echo {text} >/data/note; sync")).map(drop)
}

/// What was written.
pub fn read(bed: &Namespace, pod: &str) -> Outcome<String> {
    Ok(bed.exec(pod, &["cat", "/data/note"])?.trim_end().to_owned())
}

/// The MirrorVolume behind a claim that is bound.
pub fn volume_of(bed: &Namespace, claim: &str) -> Outcome<String> {
    let bound = |seen: &Value| seen["status"]["phase"] == "Bound";
    let claim = bed.kubectl().wait(bed.object("pvc", claim), "Bound", bound)?;
    let volume = bed.kubectl().get(cluster("pv", &text(&claim["spec"]["volumeName"])?))?;
    text(&volume["spec"]["csi"]["volumeHandle"])
}

/// Waits until a volume has so many images in sync and so many split off.
pub fn images(bed: &Namespace, volume: &str, in_sync: u8, split: u8) -> Outcome {
    let so = |seen: &Value| {
        let status = &seen["status"];
        status["inSync"] == in_sync && status["split"].as_u64().unwrap_or(0) == u64::from(split)
    };
    let what = format!("with {in_sync} images in sync and {split} split off");
    bed.kubectl().wait(cluster("mirrorvolume", volume), &what, so).map(drop)
}

/// Waits until an object is gone.
pub fn gone(bed: &Namespace, object: Object) -> Outcome {
    let what = format!("{} {} is gone", object.kind, object.name);
    until(&what, PATIENCE, || Ok(bed.kubectl().find(object)?.is_none().then_some(())))
}

/// Deletes a claim and waits until its volume is gone from the disks.
pub fn give_up(bed: &Namespace, claim: &str, volume: &str) -> Outcome {
    bed.kubectl().delete(bed.object("pvc", claim))?;
    gone(bed, cluster("mirrorvolume", volume))
}

/// Deletes a pod and its claim.
pub fn leave(bed: &Namespace, pod: &str, claim: &str) -> Outcome {
    bed.kubectl().delete(bed.object("pod", pod))?;
    bed.kubectl().delete(bed.object("pvc", claim))
}

/// The node that a pod is on.
pub fn node_of<'b>(bed: &'b Namespace, pod: &str) -> Outcome<&'b Node> {
    let pod = bed.kubectl().get(bed.object("pod", pod))?;
    let name = text(&pod["spec"]["nodeName"])?;
    bed.nodes().iter().find(|node| node.name() == name).ok_or_else(|| format!("there is no node {name}"))
}

/// Waits for an event about an object of the scenario's namespace, whose message has these words; its message.
pub fn event(bed: &Namespace, about: &str, reason: &str, words: &str) -> Outcome<String> {
    let selector = format!("--field-selector=involvedObject.name={about},reason={reason}");
    let args = ["events", "--namespace", bed.name(), &selector];
    until(&format!("an event {reason} about {about}"), PATIENCE, || {
        let seen = bed.kubectl().list(&args)?;
        let mut messages = seen.iter().filter_map(|event| event["message"].as_str());
        Ok(messages.find(|message| message.contains(words)).map(str::to_owned))
    })
}

/// That all images of a volume that nobody uses are equal, to the byte.
pub fn images_are_equal(bed: &Namespace, node: &Node, volume: &str, images: u8) -> Outcome {
    let idle = |seen: &Value| seen["status"]["staged"] == false;
    let seen = bed.kubectl().wait(cluster("mirrorvolume", volume), "used by nobody", idle)?;
    let lv = text(&seen["spec"]["lv"])?.replace('-', "--");
    let script = format!(
        "set -- $(dmsetup info -c --noheadings --separator ' ' -o name,minor |
            sed -n 's,^{POOL}-{lv}_rimage_[0-9] ,/dev/dm-,p')
        [ $# = {images} ]
        for other; do cmp \"$1\" \"$other\"; done"
    );
    node.sh(&script).map(drop).map_err(|why| format!("images are not equal: {why}"))
}
