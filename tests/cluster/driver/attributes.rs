//! Volumes that are changed by a VolumeAttributesClass while they are used.

use serde_json::{Value, json};

use super::user::{
    CLASS, end_volume, event, gone, images, node_of, read, sh, snapshot, storage_class, volume_in_use, write,
};
use super::{DRIVER, POOL, equal, ready, text, that};
use crate::Outcome;
use crate::kubectl::{Namespace, cluster};

/// Asks for a claim to be as a class of these parameters says.
fn ask(bed: &Namespace, class: &str, parameters: &Value) -> Outcome {
    let made = json!({ "driverName": DRIVER, "parameters": parameters });
    storage_class(bed, "VolumeAttributesClass", class, made)?;
    let patch = json!({ "spec": { "volumeAttributesClassName": class } }).to_string();
    let args = ["patch", "persistentvolumeclaim", "data", "--namespace", bed.name(), "--patch", &patch];
    bed.kubectl().run(&args).map(drop)
}

/// Waits until it is so.
fn becomes(bed: &Namespace, class: &str) -> Outcome {
    let so = |claim: &Value| claim["status"]["currentVolumeAttributesClassName"] == class;
    bed.kubectl().wait(bed.object("persistentvolumeclaim", "data"), &format!("as {class} says"), so).map(drop)
}

pub fn a_claim_is_changed_by_its_attributes_class(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    let node = node_of(bed, "app")?;
    let lv = text(&bed.kubectl().get(cluster("mirrorvolume", &volume))?["spec"]["lv"])?;
    let lvm2_sees = || -> Outcome<Vec<String>> {
        let options = "--options=stripes,region_size,raid_max_recovery_rate";
        let told =
            node.run(&["lvs", "--noheadings", "--units=k", "--nosuffix", options, &format!("{POOL}/{lv}")])?;
        Ok(told.split_ascii_whitespace().map(str::to_owned).collect())
    };

    let lean = json!({
        "splitmirror.io/images": "1",
        "splitmirror.io/regionSize": "64Ki",
        "splitmirror.io/maxRecoveryRate": "65536",
    });
    ask(bed, "lean", &lean)?;
    becomes(bed, "lean")?;
    images(bed, &volume, 1, 0)?;
    equal("LVM2 sees it too", lvm2_sees()?.join(" ").as_str(), "1 64.00 65536")?;
    let seen = bed.kubectl().get(cluster("mirrorvolume", &volume))?;
    equal("it has what was asked for", seen["status"]["phase"].as_str(), Some("Ready"))?;

    let rich = json!({
        "splitmirror.io/images": "3",
        "splitmirror.io/regionSize": "512Ki",
        "splitmirror.io/maxRecoveryRate": "0",
    });
    ask(bed, "rich", &rich)?;
    becomes(bed, "rich")?;
    images(bed, &volume, 3, 0)?;
    equal("and again", lvm2_sees()?.get(..2), Some(&["3".to_owned(), "512.00".to_owned()][..]))?;
    equal("its user has not noticed", read(bed, "app")?.as_str(), "before")?;
    write(bed, "app", "after")?;

    // What a snapshot depends on stays until that is gone.
    let handle = snapshot(bed, "cut", "data")?;
    ask(bed, "fine", &json!({ "splitmirror.io/regionSize": "128Ki" }))?;
    let why = event(bed, "data", "ModificationRefused", "regions of 128Ki")?;
    that("it is told why not", why.contains("snapshot"), &why)?;
    equal("and nothing is changed", lvm2_sees()?.get(1).map(String::as_str), Some("512.00"))?;
    sh(bed, "app", "dd if=/dev/urandom of=/data/more bs=1M count=2 conv=fsync")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    becomes(bed, "fine")?;
    equal("then it is", lvm2_sees()?.get(1).map(String::as_str), Some("128.00"))?;
    equal("its user has not noticed", read(bed, "app")?.as_str(), "after")?;
    end_volume(bed, "app", &volume)
}
