//! Snapshots and images that become volumes.

use std::path::PathBuf;
use std::time::Instant;

use splitmirror::host::Blocks;
use splitmirror::ids::LvName;
use splitmirror::report::Class;
use splitmirror::units::Bytes;

use crate::lab::{self, Outcome, ensure, say};
use crate::snapshots::{image, sectors_written};
use crate::volumes::plan;
use crate::writer::{Writers, check_instant};

const ANY: ([u64; 4], [u64; 4]) = ([0; 4], [u64::MAX; 4]);

pub fn a_snapshot_becomes_a_volume_under_load_without_a_copy_of_its_image(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(51), None)?;
    writers.wait_for(50)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    let cut = check_instant(&image(&snapshot)?, &plan(51), &ANY.0, &ANY.1)?;
    writers.wait_for(50)?;
    let other = lab::split(&engine, "other", "v")?;
    let cut_other = check_instant(&image(&other)?, &plan(51), &cut, &ANY.1)?;
    writers.wait_for(50)?;
    let too_many = engine.detach_snapshot(&lab::volume_spec("new", 4), &snapshot.id);
    ensure(too_many.as_ref().is_err_and(|e| e.class() == Class::OutOfRange), || format!("{too_many:?}"))?;
    let begun = Instant::now();
    engine.detach_snapshot(&lab::volume_spec("new", 2), &snapshot.id).map_err(say)?;
    println!("usable after {:?}", begun.elapsed());
    let again = engine.detach_snapshot(&lab::volume_spec("new", 2), &snapshot.id).map_err(say)?;
    ensure(again.slots.len() == 2, || format!("{again:?}"))?;
    let taken = engine.detach_snapshot(&lab::volume_spec("new", 2), &other.id);
    ensure(taken.as_ref().is_err_and(|e| e.class() == Class::Exists), || format!("{taken:?}"))?;
    writers.wait_for(50)?;
    lab::settle(&engine)?;
    for volume in ["v", "new"] {
        lab::wait_in_sync(&engine, volume)?;
    }
    ensure(lab::legs_are_equal(&engine, "new")? == 2, || "the new volume has no second image".into())?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "the old volume has no other image".into())?;
    let new = lab::device(&engine, "new")?;
    check_instant(&new, &plan(51), &cut, &cut)?;
    let first = &lab::attached_images(&engine, "new")?[0].1;
    ensure(sectors_written(first)? == 0, || "its first image was written to".into())?;
    // It is a volume like any other, and so is the one that it comes from.
    check_instant(&image(&other)?, &plan(51), &cut_other, &cut_other)?;
    lab::merge(&engine, &other.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    let end = writers.stop()?;
    check_instant(&device, &plan(51), &end, &end)?;
    // None of it holds what the old volume's writers left.
    lab::host().zero(&new, Bytes::ZERO, lab::SIZE).map_err(say)?;
    let writers = Writers::start(&new, plan(52), None)?;
    writers.wait_for(50)?;
    let of_new = lab::split(&engine, "t", "new")?;
    writers.wait_for(50)?;
    lab::merge(&engine, &of_new.id)?;
    ensure(lab::legs_are_equal(&engine, "new")? == 2, || "an image is missing".into())?;
    let end_new = writers.stop()?;
    for volume in ["v", "new"] {
        engine.deactivate(&volume.parse().map_err(say)?).map_err(say)?;
    }
    ensure(lab::devices()?.is_empty(), || format!("left over: {:?}", lab::devices()))?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "a volume does not come up".into())?;
    check_instant(&lab::device(&engine, "new")?, &plan(52), &end_new, &end_new)?;
    check_instant(&lab::device(&engine, "v")?, &plan(51), &end, &end)?;
    engine.delete_volume("new").map_err(say)
}

pub fn images_become_a_volume_at_one_instant_under_load_without_a_copy(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 5)?;
    let device = lab::new_volume(&engine, "v", 5)?;
    let volume: LvName = "v".parse().map_err(say)?;
    let spec = lab::volume_spec("new", 2);
    let writers = Writers::start(&device, plan(53), None)?;
    writers.wait_for(50)?;
    let last = lab::split(&engine, "last", "v")?;
    let kept = engine.detach_images(&spec, &volume);
    ensure(kept.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{kept:?}"))?;
    lab::merge(&engine, &last.id)?;
    let all = engine.detach_images(&lab::volume_spec("new", 4), &volume);
    ensure(all.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{all:?}"))?;
    lab::wait_in_sync(&engine, "v")?;
    let before = writers.acked();
    engine.detach_images(&spec, &volume).map_err(say)?;
    let after: Vec<u64> = writers.acked().iter().map(|n| n + 1).collect();
    let again = engine.detach_images(&spec, &volume).map_err(say)?;
    ensure(again.slots.len() == 2, || format!("{again:?}"))?;
    let new = lab::device(&engine, "new")?;
    let cut = check_instant(&new, &plan(53), &before, &after)?;
    lab::wait_in_sync(&engine, "new")?;
    for (_, image) in lab::attached_images(&engine, "new")? {
        ensure(sectors_written(&image)? == 0, || "an image was written to".into())?;
    }
    ensure(lab::legs_are_equal(&engine, "new")? == 2, || "the new volume has no second image".into())?;
    writers.wait_for(50)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "the old volume has no three images".into())?;
    check_instant(&new, &plan(53), &cut, &cut)?;
    let end = writers.stop()?;
    for volume in ["v", "new"] {
        engine.deactivate(&volume.parse().map_err(say)?).map_err(say)?;
    }
    ensure(lab::devices()?.is_empty(), || format!("left over: {:?}", lab::devices()))?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "a volume does not come up".into())?;
    check_instant(&lab::device(&engine, "new")?, &plan(53), &cut, &cut)?;
    check_instant(&lab::device(&engine, "v")?, &plan(53), &end, &end)?;
    // Both are volumes like any other.
    for volume in ["v", "new"] {
        let snapshot = lab::split(&engine, &format!("of-{volume}"), volume)?;
        lab::merge(&engine, &snapshot.id)?;
    }
    engine.delete_volume("new").map_err(say)
}
