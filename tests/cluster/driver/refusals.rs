//! What cannot be is refused with a reason that its user sees, and nothing is harmed.

use serde_json::{Value, json};

use super::user::{
    CLASS, ask_snapshot, claim, class, end_volume, event, give_up, images, read, refused_snapshot, snapshot,
    volume_in_use, volume_of, write,
};
use super::{NAMESPACE, equal, ours, pool_of, ready, that};
use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster, condition, is_ready};

pub fn classes(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let nonsense = [
        ("unknown", json!({ "splitmirror.io/colour": "blue" }), "splitmirror.io/colour"),
        ("images", json!({ "splitmirror.io/images": "11" }), "splitmirror.io/images"),
        ("region", json!({ "splitmirror.io/regionSize": "3Ki" }), "splitmirror.io/regionSize"),
        ("pool", json!({ "splitmirror.io/pool": "nowhere" }), "nowhere"),
        (
            "rates",
            json!({ "splitmirror.io/minRecoveryRate": "2000", "splitmirror.io/maxRecoveryRate": "1000" }),
            "splitmirror.io/minRecoveryRate",
        ),
    ];
    for (name, parameters, _) in &nonsense {
        class(bed, name, "Immediate", parameters)?;
        claim(bed, name, name, "64Mi")?;
    }
    for (name, _, word) in &nonsense {
        let told = event(bed, name, "ProvisioningFailed", word)?;
        println!("{name}: {told}");
        let claim = bed.kubectl().get(bed.object("pvc", name))?;
        equal("it is not bound", claim["status"]["phase"].as_str(), Some("Pending"))?;
        bed.kubectl().delete(bed.object("pvc", name))?;
    }
    Ok(())
}

pub fn snapshots(bed: &Namespace) -> Outcome {
    ready(bed)?;
    // Of a claim that is not there any more.
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    write(bed, "app", "before")?;
    // More images than there are would have to stay in sync.
    ask_snapshot(bed, "safe", "data", "splitmirror-safe")?;
    let why = refused_snapshot(bed, "safe")?;
    that("it is told what is missing", why.contains("3 images") || why.contains("minInSync"), &why)?;
    println!("minInSync: {why}");
    bed.kubectl().delete(bed.object("volumesnapshot", "safe"))?;
    images(bed, &volume, 3, 0)?;
    equal("the volume is as it was", read(bed, "app")?.as_str(), "before")?;
    end_volume(bed, "app", &volume)?;

    ask_snapshot(bed, "late", "data", CLASS)?;
    let why = refused_snapshot(bed, "late")?;
    that("it is told that the claim is gone", why.contains("cannot get claim from snapshot"), &why)?;
    println!("deleted claim: {why}");
    bed.kubectl().delete(bed.object("volumesnapshot", "late"))
}

/// Objects that somebody edits: the API server says no, or the agent puts right what is only told.
pub fn edits(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    let handle = snapshot(bed, "cut", "data")?;
    let specs = [
        ("mirrorvolume", &volume, json!({ "node": "elsewhere" }), "node is immutable"),
        ("mirrorvolume", &volume, json!({ "pool": "other" }), "pool is immutable"),
        ("mirrorvolume", &volume, json!({ "lv": "other" }), "lv is immutable"),
        ("mirrorvolume", &volume, json!({ "regionSize": null }), "regionSize"),
        ("mirrorvolume", &volume, json!({ "regionSize": "3Mi" }), "regionSize"),
        ("mirrorvolume", &volume, json!({ "images": 99 }), "images"),
        ("mirrorvolume", &volume, json!({ "size": "1Mi" }), "spec.size may not be less"),
        ("mirrorvolume", &volume, json!({ "size": "-1" }), "size"),
        ("mirrorvolume", &volume, json!({ "delete": true }), "only the controller sets spec.delete"),
        ("mirrorsnapshot", &handle, json!({ "volume": "other" }), "volume is immutable"),
        ("mirrorsnapshot", &handle, json!({ "key": "other" }), "key is immutable"),
        ("mirrorsnapshot", &handle, json!({ "delete": true }), "only the controller sets spec.delete"),
    ];
    for (kind, name, spec, words) in &specs {
        let patch = json!({ "spec": spec }).to_string();
        match bed.kubectl().run(&["patch", kind, name, "--type=merge", "--patch", &patch]) {
            Ok(_) => return Err(format!("{kind} {name} takes {patch}")),
            Err(why) => that("it is told why", why.contains(words), &why)?,
        }
    }
    // What is told of a volume is told again.
    let lie = json!({ "status": { "inSync": 1, "phase": "Failed", "slots": [] } }).to_string();
    let patch = ["patch", "mirrorvolume", &volume, "--subresource=status", "--type=merge", "--patch", &lie];
    bed.kubectl().run(&patch)?;
    images(bed, &volume, 2, 1)?;
    let ready = |seen: &Value| seen["status"]["phase"] == "Ready" && seen["status"]["slots"][2]["index"] == 2;
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "told of again", ready)?;
    // Larger is what a claim would ask for as well: it is done.
    let grow = json!({ "spec": { "size": "96Mi" } }).to_string();
    bed.kubectl().run(&["patch", "mirrorvolume", &volume, "--type=merge", "--patch", &grow])?;
    let told = |seen: &Value| condition(seen, "Resized") == Some("False");
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "refused while it is split", told)?;
    equal("all is there", read(bed, "app")?.as_str(), "before")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    let grown = |seen: &Value| seen["status"]["size"] == "96Mi" && seen["status"]["inSync"] == 3;
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "grown when it is merged", grown)?;
    equal("all is there", read(bed, "app")?.as_str(), "before")?;
    end_volume(bed, "app", &volume)
}

pub fn pools(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let node = bed.node(1);
    // The first is in another pool, the second has the node's root, the third is no disk.
    let disk = node.disks().first().ok_or("it has no disk")?.clone();
    let other = node.disks().last().ok_or("it has no disk")?;
    let root = node.run(&["findmnt", "--noheadings", "--output=SOURCE", "--first-only", "/var/lib/kubelet"]);
    let root = root.map_or_else(
        |_| "/dev/ubda".to_owned(),
        |root| root.trim().split('[').next().unwrap_or_default().to_owned(),
    );
    for (name, device) in [("used", disk.as_str()), ("root", root.as_str()), ("none", "/dev/null")] {
        let before = node.sh(&format!("head -c 1M {device} | md5sum"))?;
        let object = format!("{}.{name}", node.name());
        bed.kubectl().apply(&json!({
            "apiVersion": "splitmirror.io/v1alpha1",
            "kind": "MirrorPool",
            "metadata": { "name": object },
            "spec": { "node": node.name(), "volumeGroup": name, "devices": [device, other] },
        }))?;
        let refused = |seen: &Value| condition(seen, "Ready") == Some("False");
        let seen = bed.kubectl().wait(cluster("mirrorpool", &object), "refused", refused)?;
        let why = seen["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
        println!("{name}: {why}");
        that("it is told which device", why.contains(device), &why)?;
        equal("nothing is written to it", node.sh(&format!("head -c 1M {device} | md5sum"))?, before)?;
        bed.kubectl().delete(cluster("mirrorpool", &object))?;
    }
    bed.kubectl().wait(cluster("mirrorpool", &pool_of(node)), "Ready", is_ready).map(drop)
}

/// A second agent that says it is of the first node, on another one.
pub fn impostor(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let (node, other) = (bed.node(1).name(), bed.node(2).name());
    let agents = ours("daemonset", "splitmirror-node");
    let agents = bed.kubectl().get(agents)?;
    let mut spec = agents["spec"]["template"]["spec"].clone();
    let containers = spec["containers"].as_array().cloned().unwrap_or_default();
    let mut driver = containers.into_iter().find(|c| c["name"] == "driver").ok_or("there is no driver")?;
    let args = driver["args"].as_array().cloned().unwrap_or_default();
    let args: Vec<Value> = args
        .into_iter()
        .filter(|arg| !arg.as_str().is_some_and(|arg| arg.starts_with("--pools=")))
        .map(|arg| if arg == "--node-id=$(NODE_NAME)" { json!(format!("--node-id={node}")) } else { arg })
        .collect();
    driver["args"] = json!(args);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        driver[probe] = Value::Null;
    }
    spec["containers"] = json!([driver]);
    spec["nodeName"] = json!(other);
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        if volume["name"] == "plugin" {
            volume["hostPath"]["path"] = json!("/var/lib/impostor");
        }
    }
    let pod = ours("pod", "impostor");
    bed.kubectl().apply(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": pod.name, "namespace": NAMESPACE },
        "spec": spec,
    }))?;
    let logs = ["logs", pod.name, "--namespace", NAMESPACE];
    let outcome = until("it says what is wrong", PATIENCE, || {
        let log = bed.kubectl().run(&logs)?;
        let told = log.contains("another agent serves a node of this name");
        if told { Ok(Some(())) } else { Err(log) }
    });
    bed.kubectl().delete(pod)?;
    outcome?;
    // The right one still has its say.
    class(bed, "immediate", "Immediate", &json!({ "splitmirror.io/images": "3" }))?;
    claim(bed, "data", "immediate", "64Mi")?;
    let volume = volume_of(bed, "data")?;
    give_up(bed, "data", &volume)
}
