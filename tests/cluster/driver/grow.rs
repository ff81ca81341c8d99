//! A snapshot for which an image is added.

use serde_json::{Value, json};

use super::user::{
    ask_snapshot, class, end, event, gone, images, leave, read, ready_snapshot, user, view, volume_of_images,
    write,
};
use super::{GROW, equal, ready, that};
use crate::Outcome;
use crate::kubectl::{Namespace, cluster};

/// A StorageClass of volumes of two images.
const PAIRS: &str = "pairs";

pub fn a_volume_of_two_images_keeps_both_while_its_snapshot_lives(bed: &Namespace) -> Outcome {
    ready(bed)?;
    class(bed, PAIRS, "Immediate", &json!({ "splitmirror.io/images": "2" }))?;
    let volume = volume_of_images(bed, PAIRS, "64Mi", 2)?;

    ask_snapshot(bed, "cut", "data", GROW)?;
    let handle = ready_snapshot(bed, "cut")?;
    write(bed, "app", "after")?;
    images(bed, &volume, 2, 1)?;
    let seen = bed.kubectl().get(cluster("mirrorvolume", &volume))?;
    let (status, added) = (&seen["status"], &seen["status"]["slots"][2]);
    equal("its image was added for it", &added["grown"], &json!(true))?;
    equal("and is it", added["snapshot"].as_str(), Some(handle.as_str()))?;
    equal("the volume has as many images as was asked for", &seen["spec"]["images"], &json!(2))?;
    equal("nothing is amiss", status["phase"].as_str(), Some("Ready"))?;
    view(bed, "look", "cut", "64Mi")?;
    user(bed, "reader", "look", true)?;
    equal("the view holds the instant of the snapshot", read(bed, "reader")?.as_str(), "before")?;
    that("it cannot be written", bed.exec("reader", &["touch", "/data/new"]).is_err(), "")?;

    leave(bed, "reader", "look")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    event(bed, "data", "ImageRemoved", "")?;
    let two = |seen: &Value| seen["status"]["slots"].as_array().is_some_and(|slots| slots.len() == 2);
    bed.kubectl().wait(cluster("mirrorvolume", &volume), "of two images again", two)?;
    images(bed, &volume, 2, 0)?;
    equal("the volume has gone on", read(bed, "app")?.as_str(), "after")?;
    end(bed, "app", "data", &volume, 2)
}
