//! Snapshots of images that are added for them.

use std::path::PathBuf;

use splitmirror::report::{Class, chain};

use crate::images::images;
use crate::lab::{self, Outcome, ensure, say};
use crate::snapshots::image;
use crate::volumes::plan;
use crate::writer::{Writers, check_instant};

const ANY: ([u64; 4], [u64; 4]) = ([0; 4], [u64::MAX; 4]);

pub fn a_volume_of_two_images_keeps_both_and_an_added_one_goes_with_its_snapshot(
    disks: &[PathBuf],
) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let free = || engine.capacity(2).map(|capacity| capacity.available).map_err(say);
    let room = free()?;
    let writers = Writers::start(&device, plan(61), None)?;
    for round in 0..5 {
        writers.wait_for(20)?;
        let snapshot = lab::grow(&engine, "s", "v")?;
        ensure(snapshot.slot == 2, || format!("{snapshot:?}"))?;
        let cut = check_instant(&image(&snapshot)?, &plan(61), &ANY.0, &ANY.1)?;
        writers.wait_for(20)?;
        ensure(lab::legs_are_equal(&engine, "v")? == 2, || format!("round {round}: an image is missing"))?;
        let info = lab::info(&engine, "v")?;
        ensure(info.images() == 2 && info.problems.is_empty(), || format!("{info:?}"))?;
        let full = engine.create_snapshot(&lab::grown_spec("t", "v"));
        ensure(full.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{full:?}"))?;
        let behind = engine.modify_volume(&"v".parse().map_err(say)?, &images(3));
        ensure(behind.as_ref().is_err_and(|e| chain(e).contains("v@s")), || format!("{behind:?}"))?;
        check_instant(&image(&snapshot)?, &plan(61), &cut, &cut)?;
        let before = lab::attached_images(&engine, "v")?;
        lab::merge(&engine, &snapshot.id)?;
        ensure(lab::attached_images(&engine, "v")? == before, || "other images are attached".into())?;
        ensure(free()? == room, || "extents are not free again".into())?;
        ensure(lab::info(&engine, "v")?.slots.len() == 2, || "a slot is left".into())?;
    }
    let end = writers.stop()?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())?;
    check_instant(&device, &plan(61), &end, &end).map(|_| ())
}

pub fn an_image_that_waits_to_leave_is_taken_by_the_next_snapshot(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let free = || engine.capacity(2).map(|capacity| capacity.available).map_err(say);
    let room = free()?;
    let writers = Writers::start(&device, plan(62), None)?;
    writers.wait_for(50)?;
    lab::grow(&engine, "one", "v")?;
    writers.wait_for(50)?;
    let two = lab::grow(&engine, "two", "v")?;
    let cut = check_instant(&image(&two)?, &plan(62), &ANY.0, &ANY.1)?;
    writers.wait_for(50)?;
    let end = writers.stop()?;
    lab::merge(&engine, "v@one")?;
    let kept = lab::info(&engine, "v")?;
    ensure(kept.slots.len() == 3 && kept.slots[2].index == 3, || format!("{kept:?}"))?;
    let three = lab::grow(&engine, "three", "v")?;
    ensure(three.slot == 2, || format!("{three:?}"))?;
    check_instant(&image(&three)?, &plan(62), &end, &end)?;
    check_instant(&image(&two)?, &plan(62), &cut, &cut)?;
    for (id, slots) in [("v@three", 3), ("v@two", 2)] {
        lab::merge(&engine, id)?;
        let left = lab::info(&engine, "v")?;
        ensure(left.slots.len() == slots, || format!("after {id}: {left:?}"))?;
    }
    ensure(free()? == room, || "extents are not free again".into())?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())?;
    check_instant(&device, &plan(62), &end, &end).map(|_| ())
}
