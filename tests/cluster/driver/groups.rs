//! Volumes of one node, cut at one instant.

use serde_json::{Value, json};

use super::user::{CLASS, gone, images, sh, view, volume_of};
use super::{equal, ready, text, that};
use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster, shell};

const GROUPS: &str = "groupsnapshot.storage.k8s.io/v1";
const CLAIMS: [&str; 2] = ["first", "second"];

/// Writes a number to the first volume, then to the second, then the next number.
const IN_TURN: &str = "
n=0
while true; do
    n=$((n + 1))
    for at in first second; do echo $n >/$at/new; mv /$at/new /$at/number; sync; done
done";

fn claim(bed: &Namespace, name: &str) -> Outcome {
    bed.apply(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "labels": { "together": "yes" } },
        "spec": {
            "storageClassName": CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "64Mi" } },
        },
    }))
}

/// A pod with two claims, at `/first` and `/second`.
fn pod(bed: &Namespace, name: &str, claims: [&str; 2], script: &str, read_only: bool) -> Outcome {
    let mut container = shell(script);
    let mounts = CLAIMS.map(|at| json!({ "name": at, "mountPath": format!("/{at}"), "readOnly": read_only }));
    container["volumeMounts"] = json!(mounts);
    let volume = |(at, claim): (&str, &str)| json!({ "name": at, "persistentVolumeClaim": { "claimName": claim, "readOnly": read_only } });
    let volumes: Vec<Value> = CLAIMS.into_iter().zip(claims).map(volume).collect();
    bed.pod(name, json!({ "containers": [container], "volumes": volumes }))?;
    bed.wait_until_ready(name).map(drop)
}

/// The snapshot of a volume that is one of a group: its VolumeSnapshot and its MirrorSnapshot.
fn member(bed: &Namespace, group: &str, volume: &str) -> Outcome<(String, String)> {
    let of_volume = |handle: &str| -> Outcome<bool> {
        let object = bed.kubectl().find(cluster("mirrorsnapshot", handle))?;
        Ok(object.is_some_and(|object| object["spec"]["volume"] == volume))
    };
    until(&format!("volume {volume} has a snapshot of {group}"), PATIENCE, || {
        for snapshot in bed.kubectl().list(&["volumesnapshots", "--namespace", bed.name()])? {
            let status = &snapshot["status"];
            let Some(content) = status["boundVolumeSnapshotContentName"].as_str() else { continue };
            let content = bed.kubectl().get(cluster("volumesnapshotcontent", content))?;
            let Some(handle) = content["status"]["snapshotHandle"].as_str() else { continue };
            if status["readyToUse"] == true && of_volume(handle)? {
                return Ok(Some((text(&snapshot["metadata"]["name"])?, handle.to_owned())));
            }
        }
        Ok(None)
    })
}

fn number(bed: &Namespace, pod: &str, at: &str) -> Outcome<u64> {
    let said = sh(bed, pod, &format!("cat /{at}/number"))?;
    said.trim().parse().map_err(|_| format!("{said:?} is no number"))
}

/// A program that writes to one volume and then to the other is never seen the wrong way round.
pub fn two_volumes_are_cut_at_one_instant(bed: &Namespace) -> Outcome {
    ready(bed)?;
    for name in CLAIMS {
        claim(bed, name)?;
    }
    pod(bed, "app", CLAIMS, IN_TURN, false)?;
    let volumes = CLAIMS.map(|name| volume_of(bed, name));
    let volumes = volumes.into_iter().collect::<Outcome<Vec<String>>>()?;
    until("the program gets on", PATIENCE, || Ok((number(bed, "app", "second")? > 3).then_some(())))?;

    bed.apply(json!({
        "apiVersion": GROUPS,
        "kind": "VolumeGroupSnapshot",
        "metadata": { "name": "both" },
        "spec": {
            "volumeGroupSnapshotClassName": "splitmirror",
            "source": { "selector": { "matchLabels": { "together": "yes" } } },
        },
    }))?;
    let group = bed.object("volumegroupsnapshot", "both");
    bed.kubectl().wait(group, "ready", |seen| seen["status"]["readyToUse"] == true)?;
    let mut handles = Vec::new();
    for (name, volume) in CLAIMS.iter().zip(&volumes) {
        images(bed, volume, 2, 1)?;
        let (snapshot, handle) = member(bed, "both", volume)?;
        view(bed, &format!("look-{name}"), &snapshot, "64Mi")?;
        handles.push(handle);
    }
    pod(bed, "reader", ["look-first", "look-second"], "exec sleep 1000000", true)?;
    let (first, second) = (number(bed, "reader", "first")?, number(bed, "reader", "second")?);
    that("the views show one instant", first == second || first == second + 1, (first, second))?;
    let cuts = handles
        .iter()
        .map(|handle| Ok(bed.kubectl().get(cluster("mirrorsnapshot", handle))?["status"]["cutTime"].clone()));
    let cuts = cuts.collect::<Outcome<Vec<Value>>>()?;
    equal("they tell it", &cuts[0], &cuts[1])?;

    bed.kubectl().delete(bed.object("pod", "reader"))?;
    for name in CLAIMS {
        bed.kubectl().delete(bed.object("pvc", &format!("look-{name}")))?;
    }
    bed.kubectl().delete(group)?;
    for (handle, volume) in handles.iter().zip(&volumes) {
        gone(bed, cluster("mirrorsnapshot", handle))?;
        images(bed, volume, 3, 0)?;
    }
    until("no VolumeSnapshot is left", PATIENCE, || {
        let left = bed.kubectl().list(&["volumesnapshots", "--namespace", bed.name()])?;
        Ok(left.is_empty().then_some(()))
    })?;
    bed.kubectl().delete(bed.object("pod", "app"))?;
    for (name, volume) in CLAIMS.iter().zip(&volumes) {
        bed.kubectl().delete(bed.object("pvc", name))?;
        gone(bed, cluster("mirrorvolume", volume))?;
    }
    Ok(())
}
