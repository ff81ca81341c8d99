//! Rollbacks: the volume holds what the snapshot holds, for the price of what has changed.

use std::path::PathBuf;

use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::info::SnapshotInfo;
use splitmirror::volume::spec::RollbackSpec;

use crate::cut::{CutHost, Cutter, survive};
use crate::lab::{self, Outcome, ensure, say};
use crate::snapshots::{image, sectors_written};
use crate::volumes::plan;
use crate::writer::{Writers, check_instant, open_direct};

const ANY: ([u64; 4], [u64; 4]) = ([0; 4], [u64::MAX; 4]);

pub fn a_rollback_copies_what_has_changed_and_the_snapshots_stay(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 4)?;
    let writers = Writers::start(&device, plan(11), None)?;
    writers.wait_for(50)?;
    let old = lab::split(&engine, "old", "v")?;
    let cut_old = check_instant(&image(&old)?, &plan(11), &ANY.0, &ANY.1)?;
    writers.wait_for(50)?;
    let new = lab::split(&engine, "new", "v")?;
    let cut_new = check_instant(&image(&new)?, &plan(11), &cut_old, &ANY.1)?;
    writers.wait_for(50)?;
    writers.stop()?;
    for (back_to, cut) in [(&old, &cut_old), (&new, &cut_new)] {
        let marked = lab::info(&engine, "v")?.snapshots[0].changed;
        let legs = lab::attached_images(&engine, "v")?;
        let before = legs.iter().map(|(_, leg)| sectors_written(leg)).collect::<Outcome<Vec<_>>>()?;
        let mut told = Bytes::ZERO;
        engine.roll_back(&to(back_to), |progress| told = told.max(progress.done)).map_err(say)?;
        for ((slot, leg), before) in legs.iter().zip(before) {
            let written = Bytes((sectors_written(leg)? - before) * 512);
            ensure(written == marked, || format!("{written} written to image {slot}, {marked} marked"))?;
        }
        ensure(told == marked, || format!("{told} told, {marked} marked"))?;
        check_instant(&device, &plan(11), cut, cut)?;
        check_instant(&image(&old)?, &plan(11), &cut_old, &cut_old)?;
        check_instant(&image(&new)?, &plan(11), &cut_new, &cut_new)?;
        ensure(lab::legs_are_equal(&engine, "v")? == 2, || "two images must be attached".into())?;
    }
    lab::merge(&engine, &old.id)?;
    lab::merge(&engine, &new.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 4, || "an image is missing".into())?;
    check_instant(&device, &plan(11), &cut_new, &cut_new).map(|_| ())
}

fn to(snapshot: &SnapshotInfo) -> RollbackSpec {
    RollbackSpec { snapshot: snapshot.id.clone(), request: None }
}

pub fn a_volume_in_use_is_not_rolled_back_and_one_rolled_back_is_not_used(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(12), None)?;
    writers.wait_for(50)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    let cut = check_instant(&image(&snapshot)?, &plan(12), &ANY.0, &ANY.1)?;
    writers.wait_for(50)?;
    let refused = |done: Result<(), splitmirror::engine::Error>| {
        ensure(done.as_ref().is_err_and(|error| error.class() == Class::Precondition), || format!("{done:?}"))
    };
    refused(engine.roll_back(&to(&snapshot), |_| {}))?;
    let end = writers.stop()?;
    check_instant(&device, &plan(12), &end, &end)?;
    drop(engine);

    // The process dies after the rollback is committed: each call after that is a write into the array.
    let calls = {
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::die_at(u64::MAX)))?;
        engine.roll_back(&to(&snapshot), |_| {}).map_err(say)?;
        engine.host().moments()
    };
    let writers = Writers::start(&device, plan(13), None)?;
    writers.wait_for(50)?;
    writers.stop()?;
    let engine = lab::open_on(CutHost::new(lab::host(), Cutter::die_at(calls / 2)))?;
    ensure(survive(|| engine.roll_back(&to(&snapshot), |_| {})).is_none(), || "it was not cut".into())?;
    drop(engine);
    let engine = lab::open()?;
    refused(engine.open_device("v").map(|_| ()))?;
    refused(engine.create_snapshot(&lab::snapshot_spec("t", "v")).map(|_| ()))?;
    refused(engine.delete_snapshot(&snapshot.id))?;
    ensure(!lab::info(&engine, "v")?.problems.is_empty(), || "it is not told".into())?;
    // What goes on by itself sees it through.
    lab::settle(&engine)?;
    check_instant(&lab::device(&engine, "v")?, &plan(12), &cut, &cut)?;
    drop(open_direct(&device, true)?);
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())
}
