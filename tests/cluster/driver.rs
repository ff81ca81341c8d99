//! The driver as a user has it: installed by its chart, used through claims, snapshots and `kubectl`.

use serde_json::{Value, json};

use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster, condition, shell};

/// The volume group on every node.
const POOL: &str = "fast";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/splitmirror");
/// Images of the chart, and what they are called in the bed, which has versions of its own.
const SIDECARS: [(&str, &str); 6] = [
    ("controller.provisioner", "csi-provisioner"),
    ("controller.snapshotter", "csi-snapshotter"),
    ("controller.resizer", "csi-resizer"),
    ("controller.livenessProbe", "livenessprobe"),
    ("node.registrar", "csi-node-driver-registrar"),
    ("node.livenessProbe", "livenessprobe"),
];
const SNAPSHOTS: &str = "snapshot.storage.k8s.io/v1";

/// The chart, installed in a scenario's namespace. When this is dropped it goes, and the disks are blank again.
struct Installed<'n, 'b> {
    bed: &'n Namespace<'b>,
}

impl<'n, 'b> Installed<'n, 'b> {
    fn new(bed: &'n Namespace<'b>) -> Outcome<Self> {
        let image = bed.image("splitmirror")?;
        let (repository, tag) = image.rsplit_once(':').ok_or_else(|| format!("{image} has no tag"))?;
        let pools = json!([{ "volumeGroup": POOL, "devices": bed.node(1).disks() }]);
        let classes = json!([{ "name": "splitmirror", "parameters": { "splitmirror.io/minInSync": "1" } }]);
        let driver = Self { bed };
        let sidecars = SIDECARS.iter().map(|(value, name)| {
            let image = bed.image(name)?;
            let (repository, tag) = image.rsplit_once(':').ok_or_else(|| format!("{image} has no tag"))?;
            Ok(format!("{value}.image.repository={repository},{value}.image.tag={tag}"))
        });
        let sidecars = sidecars.collect::<Outcome<Vec<_>>>()?.join(",");
        bed.helm(&[
            "install",
            "splitmirror",
            CHART,
            "--set-json",
            &format!("pools={pools}"),
            "--set-json",
            &format!("volumeSnapshotClasses={classes}"),
            "--set",
            &format!("image.repository={repository},image.tag={tag},controller.replicas=1,{sidecars}"),
            "--wait",
            "--timeout=180s",
        ])?;
        for node in bed.nodes() {
            let name = format!("{}.{POOL}", node.name());
            let ready = |pool: &Value| condition(pool, "Ready") == Some("True");
            bed.kubectl().wait(cluster("mirrorpool", &name), "Ready", ready)?;
        }
        Ok(driver)
    }
}

impl Drop for Installed<'_, '_> {
    fn drop(&mut self) {
        self.bed.helm(&["uninstall", "splitmirror", "--wait", "--timeout=60s"]).ok();
        for node in self.bed.nodes() {
            let blank = "export DM_DISABLE_UDEV=1; dmsetup remove_all --force; for d in /dev/ubd[bcd]; do wipefs -qaf $d; done";
            node.sh(blank).ok();
        }
    }
}

fn claim(bed: &Namespace, name: &str, size: &str) -> Outcome {
    bed.apply(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "storageClassName": "splitmirror",
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": size } },
        },
    }))
}

/// A pod with a claim at `/data`.
fn user(bed: &Namespace, name: &str, claim: &str, script: &str, read_only: bool) -> Outcome {
    let mut container = shell(script);
    container["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data", "readOnly": read_only }]);
    let volume =
        json!({ "name": "data", "persistentVolumeClaim": { "claimName": claim, "readOnly": read_only } });
    bed.pod(name, json!({ "containers": [container], "volumes": [volume] }))?;
    bed.wait_until_ready(name).map(drop)
}

fn snapshot(bed: &Namespace, name: &str, claim: &str) -> Outcome<String> {
    bed.apply(json!({
        "apiVersion": SNAPSHOTS,
        "kind": "VolumeSnapshot",
        "metadata": { "name": name },
        "spec": {
            "volumeSnapshotClassName": "splitmirror",
            "source": { "persistentVolumeClaimName": claim },
        },
    }))?;
    let object = bed.object("volumesnapshot", name);
    let ready = bed.kubectl().wait(object, "ready", |seen| seen["status"]["readyToUse"] == true)?;
    let content = text(&ready["status"]["boundVolumeSnapshotContentName"])?;
    let content = bed.kubectl().get(cluster("volumesnapshotcontent", &content))?;
    text(&content["status"]["snapshotHandle"])
}

/// A read-only volume from a snapshot.
fn view(bed: &Namespace, name: &str, snapshot: &str, size: &str) -> Outcome {
    bed.apply(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "storageClassName": "splitmirror-view",
            "accessModes": ["ReadOnlyMany"],
            "dataSource": { "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot },
            "resources": { "requests": { "storage": size } },
        },
    }))
}

fn text(value: &Value) -> Outcome<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} is no text"))
}

/// The MirrorVolume behind a claim.
fn volume_of(bed: &Namespace, claim: &str) -> Outcome<String> {
    let bound = |seen: &Value| seen["status"]["phase"] == "Bound";
    let claim = bed.kubectl().wait(bed.object("pvc", claim), "Bound", bound)?;
    let volume = bed.kubectl().get(cluster("pv", &text(&claim["spec"]["volumeName"])?))?;
    text(&volume["spec"]["csi"]["volumeHandle"])
}

fn that(what: &str, holds: bool, seen: impl std::fmt::Debug) -> Outcome {
    if holds { Ok(()) } else { Err(format!("{what}: it does not hold: {seen:?}")) }
}

/// From the claim to the merge, as README.md shows it.
pub fn a_claim_is_snapshotted_viewed_merged_and_grown(bed: &Namespace) -> Outcome {
    let driver = Installed::new(bed)?;
    claim(bed, "data", "64Mi")?;
    user(bed, "app", "data", "exec sleep 1000", false)?;
    bed.exec("app", &["sh", "-ec", "echo before >/data/note; sync"])?;
    let volume = volume_of(bed, "data")?;
    let three = |seen: &Value| seen["status"]["inSync"] == 3 && seen["status"]["phase"] == "Ready";
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "in sync", three)?;

    let handle = snapshot(bed, "cut", "data")?;
    bed.exec(
        "app",
        &["sh", "-ec", "echo after >/data/note; dd if=/dev/urandom of=/data/more bs=1M count=4; sync"],
    )?;
    let split = |seen: &Value| seen["status"]["inSync"] == 2 && seen["status"]["split"] == 1;
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "split", split)?;
    view(bed, "look", "cut", "64Mi")?;
    user(bed, "reader", "look", "exec sleep 1000", true)?;
    let seen = bed.exec("reader", &["cat", "/data/note"])?;
    that("the view holds the instant of the snapshot", seen == "before\n", &seen)?;
    that("it cannot be written", bed.exec("reader", &["touch", "/data/new"]).is_err(), "")?;
    let seen = bed.exec("app", &["cat", "/data/note"])?;
    that("the volume has gone on", seen == "after\n", &seen)?;

    bed.kubectl().delete(bed.object("pod", "reader"))?;
    bed.kubectl().delete(bed.object("pvc", "look"))?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "merged", three)?;
    until("the MirrorSnapshot is gone", PATIENCE, || {
        Ok(bed.kubectl().find(cluster("mirrorsnapshot", &handle))?.is_none().then_some(()))
    })?;

    claim(bed, "data", "96Mi")?;
    let grown = |seen: &Value| seen["status"]["capacity"]["storage"] == "96Mi";
    bed.kubectl().wait(bed.object("pvc", "data"), "grown", grown)?;
    let seen = bed.exec("app", &["cat", "/data/note"])?;
    that("the data is there", seen == "after\n", &seen)?;
    for line in ["mirrorpools", "mirrorvolumes"] {
        println!("{}", bed.kubectl().run(&["get", line])?);
    }

    bed.kubectl().delete(bed.object("pod", "app"))?;
    bed.kubectl().delete(bed.object("pvc", "data"))?;
    until("the MirrorVolume is gone", PATIENCE, || {
        Ok(bed.kubectl().find(cluster("mirrorvolume", &volume))?.is_none().then_some(()))
    })?;
    drop(driver);
    Ok(())
}

/// A node loses power with a snapshot outstanding, and etcd loses everything: the disks tell all.
pub fn a_power_cut_and_hand_deleted_objects_lose_nothing(bed: &Namespace) -> Outcome {
    let driver = Installed::new(bed)?;
    claim(bed, "data", "64Mi")?;
    user(bed, "app", "data", "exec sleep 100000", false)?;
    bed.exec("app", &["sh", "-ec", "echo before >/data/note; sync"])?;
    let volume = volume_of(bed, "data")?;
    let handle = snapshot(bed, "cut", "data")?;
    bed.exec("app", &["sh", "-ec", "echo after >/data/note; sync"])?;

    for (kind, name) in [("mirrorvolume", &volume), ("mirrorsnapshot", &handle)] {
        bed.kubectl().delete(cluster(kind, name))?;
        let ready = |seen: &Value| condition(seen, "Ready") == Some("True");
        bed.kubectl().wait(cluster(kind, name), "there again", ready)?;
    }

    let pod = bed.kubectl().get(bed.object("pod", "app"))?;
    let name = text(&pod["spec"]["nodeName"])?;
    let node = bed.nodes().iter().find(|node| node.name() == name).ok_or("its node is unknown")?;
    node.power_cut()?;
    node.boot()?;
    bed.restore()?;
    let again = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
            && condition(pod, "Ready") == Some("True")
    };
    bed.kubectl().wait(bed.object("pod", "app"), "running again", again)?;
    let seen = bed.exec("app", &["cat", "/data/note"])?;
    that("what was synced is there", seen == "after\n", &seen)?;
    view(bed, "look", "cut", "64Mi")?;
    user(bed, "reader", "look", "exec sleep 1000", true)?;
    let seen = bed.exec("reader", &["cat", "/data/note"])?;
    that("the snapshot is there", seen == "before\n", &seen)?;
    bed.kubectl().delete(bed.object("pod", "reader"))?;
    bed.kubectl().delete(bed.object("pvc", "look"))?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    let three = |seen: &Value| seen["status"]["inSync"] == 3;
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "merged", three)?;
    bed.kubectl().delete(bed.object("pod", "app"))?;
    bed.kubectl().delete(bed.object("pvc", "data"))?;
    drop(driver);
    Ok(())
}
