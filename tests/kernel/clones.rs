//! Clones: usable at once, filled in the background, never a wrong byte.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use splitmirror::host::{Blocks, DeviceMapper, Entropy, Host};
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::spec::VolumeSpec;

use crate::aligned::Aligned;
use crate::lab::{self, Outcome, ensure, say};
use crate::snapshots::image;
use crate::volumes::plan;
use crate::writer::{Plan, Writers, check_instant, open_direct};

const LARGER: Bytes = Bytes::mib(24);
const HALF: Bytes = Bytes::mib(8);

/// A device holds what another one holds, in this range.
pub fn same(one: &Path, other: &Path, from: Bytes, to: Bytes) -> Outcome {
    let (one, other) = (open_direct(one, false)?, open_direct(other, false)?);
    each_mib(from, to, |at, data| {
        let mut second = Aligned::new(data.bytes().len());
        one.read_exact_at(data.bytes_mut(), at).map_err(say)?;
        other.read_exact_at(second.bytes_mut(), at).map_err(say)?;
        ensure(data.bytes() == second.bytes(), || format!("the MiB at {at} differs"))
    })
}

fn blank(device: &Path, from: Bytes, to: Bytes) -> Outcome {
    let device = open_direct(device, false)?;
    each_mib(from, to, |at, data| {
        device.read_exact_at(data.bytes_mut(), at).map_err(say)?;
        ensure(data.bytes().iter().all(|byte| *byte == 0), || format!("the MiB at {at} is not blank"))
    })
}

fn each_mib(from: Bytes, to: Bytes, mut look: impl FnMut(u64, &mut Aligned) -> Outcome) -> Outcome {
    let mut data = Aligned::new(1 << 20);
    (from.0..to.0).step_by(1 << 20).try_for_each(|at| look(at, &mut data))
}

/// Fills every disk with what no volume may ever show.
fn litter(disks: &[PathBuf]) -> Outcome {
    for disk in disks {
        let file = open_direct(disk, true)?;
        let mut rubbish = Aligned::new(1 << 20);
        rubbish.bytes_mut().fill(0xa5);
        for at in (4_u64 << 20..120 << 20).step_by(1 << 20) {
            file.write_all_at(rubbish.bytes(), at).map_err(say)?;
        }
    }
    Ok(())
}

fn devno<H: Host>(engine: &splitmirror::engine::Engine<H>) -> Outcome<PathBuf> {
    lab::device(engine, "c")
}

pub fn a_clone_is_used_at_once_and_filled_under_load_without_a_break(disks: &[PathBuf]) -> Outcome {
    litter(disks)?;
    let engine = lab::new_pool(disks, 4)?;
    let source = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&source, plan(21), None)?;
    writers.wait_for(100)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    let cut = check_instant(&image(&snapshot)?, &plan(21), &[0; 4], &[u64::MAX; 4])?;

    let spec = VolumeSpec { size: LARGER, ..lab::volume_spec("c", 2) };
    let begun = Instant::now();
    engine.create_clone(&spec, &snapshot.id).map_err(say)?;
    let device = devno(&engine)?;
    println!("usable after {:?}", begun.elapsed());
    check_instant(&device, &plan(21), &cut, &cut)?;
    blank(&device, lab::SIZE, LARGER)?;
    let told = lab::info(&engine, "c")?.filling.ok_or("it is not filled yet")?;
    ensure(told.done == Bytes::ZERO && told.total == LARGER, || format!("{told:?}"))?;

    // Nothing takes the source away, and the clone itself is not changed meanwhile.
    let busy = |done: Result<(), splitmirror::engine::Error>| {
        ensure(done.as_ref().is_err_and(|error| error.class() == Class::InProgress), || format!("{done:?}"))
    };
    busy(engine.delete_snapshot(&snapshot.id))?;
    busy(engine.create_snapshot(&lab::snapshot_spec("t", "c")).map(|_| ()))?;
    busy(engine.expand_volume(&"c".parse().map_err(say)?, Bytes::mib(32), None).map(|_| ()))?;

    // Only the first half is written to; none of it holds what the source's writers left.
    lab::host().zero(&device, Bytes::ZERO, HALF).map_err(say)?;
    let own = Plan { blocks: HALF.0 / 4096, ..plan(22) };
    let on_clone = Writers::start(&device, own, None)?;
    on_clone.wait_for(20)?;
    lab::settle(&engine)?;
    on_clone.wait_for(20)?;
    let info = lab::info(&engine, "c")?;
    ensure(info.filling.is_none() && info.problems.is_empty(), || format!("{info:?}"))?;
    ensure(devno(&engine)? == device, || "it is another device".into())?;
    let table = engine.host().dm_look(&lab::top_name("c")).map_err(say)?.ok_or("it is gone")?.1;
    ensure(table.len() == 1 && table[0].target == "raid", || format!("{table:?}"))?;
    let end = on_clone.stop()?;
    check_instant(&device, &own, &end, &end)?;
    same(&device, &image(&snapshot)?, HALF, lab::SIZE)?;
    blank(&device, lab::SIZE, LARGER)?;
    ensure(lab::legs_are_equal(&engine, "c")? == 2, || "an image is missing".into())?;
    let left: Vec<_> = lab::devices()?
        .into_iter()
        .filter(|name| name.contains("hydr") || name.contains("-origin") || name.ends_with("-real"))
        .collect();
    ensure(left.is_empty(), || format!("left over: {left:?}"))?;

    lab::merge(&engine, &snapshot.id)?;
    let end = writers.stop()?;
    check_instant(&source, &plan(21), &end, &end)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    // An ordinary volume now.
    let of_clone = lab::split(&engine, "t", "c")?;
    lab::merge(&engine, &of_clone.id)
}

pub fn a_clone_of_a_busy_volume_is_an_instant_of_it_and_costs_no_image(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let source = lab::new_volume(&engine, "v", 2)?;
    let writers = Writers::start(&source, plan(23), None)?;
    writers.wait_for(50)?;
    let low = writers.acked();
    let volume = "v".parse().map_err(say)?;
    engine.clone_volume(&lab::volume_spec("c", 2), &volume, 1).map_err(say)?;
    let high: Vec<u64> = writers.acked().iter().map(|n| n + 1).collect();
    let device = devno(&engine)?;
    let cut = check_instant(&device, &plan(23), &low, &high)?;
    ensure(lab::info(&engine, "v")?.snapshots.is_empty(), || "a lent image is no snapshot".into())?;
    engine.clone_volume(&lab::volume_spec("c", 2), &volume, 1).map_err(say)?;
    writers.wait_for(50)?;
    lab::settle(&engine)?;
    check_instant(&device, &plan(23), &cut, &cut)?;
    let end = writers.stop()?;
    check_instant(&source, &plan(23), &end, &end)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())?;
    ensure(lab::legs_are_equal(&engine, "c")? == 2, || "an image is missing".into())
}

pub fn a_clone_refuses_discards_and_keeps_to_its_rate(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let source = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&source, plan(24), None)?;
    writers.wait_for(100)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    writers.stop()?;
    let spec = VolumeSpec { max_recovery_rate: Some(2048), ..lab::volume_spec("c", 2) };
    engine.create_clone(&spec, &snapshot.id).map_err(say)?;
    let device = devno(&engine)?;
    let (taken, said) = lab::run_any("blkdiscard", &["--force", &device.display().to_string()])?;
    ensure(!taken, || format!("blkdiscard succeeded: {said}"))?;
    same(&device, &image(&snapshot)?, Bytes::ZERO, lab::SIZE)?;

    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        ensure(engine.advance().map_err(say)?, || "16 MiB were filled in three seconds".into())?;
        engine.host().pause(Duration::from_millis(5));
    }
    let done = lab::info(&engine, "c")?.filling.ok_or("it is filled")?.done;
    println!("{done} after {:?}", begun.elapsed());
    ensure(done >= Bytes::mib(4) && done <= Bytes::mib(12), || format!("{done} in three seconds"))?;
    // It is started again where it was.
    engine.deactivate(&"c".parse().map_err(say)?).map_err(say)?;
    engine.activate(&"c".parse().map_err(say)?).map_err(say)?;
    let again = lab::info(&engine, "c")?.filling.ok_or("it is filled")?.done;
    ensure(again >= done, || format!("{again} after {done}"))?;
    let device = devno(&engine)?;
    same(&device, &image(&snapshot)?, Bytes::ZERO, lab::SIZE)?;
    engine.delete_volume("c").map_err(say)?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::info(&engine, "v")?.problems.is_empty(), || "the volume is whole again".into())
}
