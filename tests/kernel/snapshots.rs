//! Snapshots: the instant of the split, immutable, and merged by their marks.

use std::path::{Path, PathBuf};

use splitmirror::host::{DeviceMapper, Freeze, Udev};
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::info::SlotState;

use crate::lab::{self, Outcome, ensure, say};
use crate::volumes::{plan, read_all};
use crate::writer::{Writers, check_instant};

pub fn image(info: &splitmirror::volume::info::SnapshotInfo) -> Outcome<PathBuf> {
    Ok(PathBuf::from(info.device.as_ref().ok_or("the snapshot has no device")?))
}

pub fn a_snapshot_is_the_instant_of_the_split_and_stays_so_while_writes_go_on(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(5), None)?;
    writers.wait_for(200)?;
    let before = writers.acked();
    let snapshot = lab::split(&engine, "s", "v")?;
    let after: Vec<u64> = writers.acked().iter().map(|n| n + 1).collect();
    let cut = check_instant(&image(&snapshot)?, &plan(5), &before, &after)?;
    writers.wait_for(200)?;
    let later = check_instant(&image(&snapshot)?, &plan(5), &cut, &cut)?;
    ensure(cut == later, || format!("{cut:?} became {later:?}"))?;
    let again = lab::split(&engine, "s", "v")?;
    ensure(again.slot == snapshot.slot && again.id == snapshot.id, || format!("{again:?}"))?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    let end = writers.stop()?;
    check_instant(&device, &plan(5), &end, &end).map(|_| ())
}

pub fn the_image_of_a_snapshot_refuses_writes(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 2)?;
    lab::new_volume(&engine, "v", 2)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    let device = image(&snapshot)?;
    let name = format!("{}-v_rimage_{}", lab::vg(), snapshot.slot);
    let info = engine.host().dm_info(&name).map_err(say)?.ok_or("the image has no device")?;
    ensure(info.read_only, || format!("{info:?}"))?;
    let written = crate::writer::open_direct(&device, true).and_then(|file| {
        use std::os::unix::fs::FileExt;
        file.write_all_at(crate::aligned::Aligned::new(4096).bytes(), 0).map_err(say)
    });
    ensure(written.is_err(), || "it can be written to".into())
}

pub fn sectors_read(device: &Path) -> Outcome<u64> {
    counted(device, 2)
}

pub fn sectors_written(device: &Path) -> Outcome<u64> {
    counted(device, 6)
}

/// A field of a block device's statistics.
fn counted(device: &Path, field: usize) -> Outcome<u64> {
    let name = device.file_name().and_then(|n| n.to_str()).ok_or("no device name")?;
    let text = std::fs::read_to_string(format!("/sys/block/{name}/stat")).map_err(say)?;
    text.split_ascii_whitespace()
        .nth(field)
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| format!("stat of {name}: {text}"))
}

pub fn a_merge_copies_only_the_marked_regions(disks: &[PathBuf]) -> Outcome {
    use std::os::unix::fs::FileExt;
    let engine = lab::new_pool(disks, 2)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    let file = crate::writer::open_direct(&device, true)?;
    let mut data = crate::aligned::Aligned::new(4096);
    data.bytes_mut().fill(7);
    for region in [3u64, 9, 20] {
        file.write_all_at(data.bytes(), region * lab::REGION.0 + 4096).map_err(say)?;
    }
    drop(file);
    let changed = lab::info(&engine, "v")?.snapshots[0].changed;
    ensure(changed == lab::REGION * 3, || format!("{changed} marked instead of 3 regions"))?;
    let slot = snapshot.slot;
    lab::merge(&engine, &snapshot.id)?;
    let images = lab::attached_images(&engine, "v")?;
    let (_, returned) = images.iter().find(|(s, _)| *s == slot).ok_or("the image is not back")?;
    let written = Bytes(sectors_written(returned)? * 512);
    ensure(written == lab::REGION * 3, || format!("{written} copied instead of {}", lab::REGION * 3))?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())
}

pub fn a_merge_without_changes_copies_nothing(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 2)?;
    lab::new_volume(&engine, "v", 2)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    lab::merge(&engine, &snapshot.id)?;
    let images = lab::attached_images(&engine, "v")?;
    let written = sectors_written(&images[snapshot.slot].1)?;
    ensure(written == 0, || format!("{written} sectors were copied"))
}

pub fn two_snapshots_of_different_instants_merge_in_either_order(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(6), None)?;
    for first in [0, 1] {
        writers.wait_for(50)?;
        let old = lab::split(&engine, "old", "v")?;
        let cut_old = check_instant(&image(&old)?, &plan(6), &[0; 4], &[u64::MAX; 4])?;
        writers.wait_for(50)?;
        let new = lab::split(&engine, "new", "v")?;
        let cut_new = check_instant(&image(&new)?, &plan(6), &cut_old, &[u64::MAX; 4])?;
        ensure(cut_old.iter().zip(&cut_new).all(|(old, new)| old < new), || {
            format!("{cut_old:?} {cut_new:?}")
        })?;
        let none_left = engine.create_snapshot(&lab::snapshot_spec("third", "v"));
        ensure(none_left.as_ref().is_err_and(|e| e.class() == Class::Precondition), || {
            format!("{none_left:?}")
        })?;
        writers.wait_for(50)?;
        let order = if first == 0 { [&old, &new] } else { [&new, &old] };
        lab::merge(&engine, &order[0].id)?;
        ensure(lab::legs_are_equal(&engine, "v")? == 2, || "two images must be attached".into())?;
        let kept = if first == 0 { &cut_new } else { &cut_old };
        check_instant(&image(order[1])?, &plan(6), kept, kept)?;
        writers.wait_for(50)?;
        lab::merge(&engine, &order[1].id)?;
        ensure(lab::legs_are_equal(&engine, "v")? == 3, || "three images must be attached".into())?;
    }
    let end = writers.stop()?;
    check_instant(&device, &plan(6), &end, &end).map(|_| ())
}

/// Splits and merges at random, under load, and compares the images after every merge.
pub fn images_are_equal_after_every_merge_of_fifty_rounds_under_load(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 4)?;
    let writers = Writers::start(&device, plan(7), None)?;
    let mut live: Vec<String> = Vec::new();
    let (mut merges, mut splits, mut random) = (0, 0u64, 12345u64);
    while merges < 50 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = random >> 33;
        if live.is_empty() || (live.len() < 3 && dice.is_multiple_of(2)) {
            splits += 1;
            live.push(lab::split(&engine, &format!("s{splits}"), "v")?.id);
        } else {
            let id = live.remove(usize::try_from(dice).map_err(say)? % live.len());
            lab::merge(&engine, &id)?;
            merges += 1;
            let equal =
                lab::legs_are_equal(&engine, "v").map_err(|e| format!("after merge {merges} ({id}): {e}"))?;
            ensure(equal == 4 - live.len(), || format!("{equal} attached with {} split", live.len()))?;
        }
        writers.wait_for(1 + dice % 8)?;
    }
    for id in live {
        lab::merge(&engine, &id)?;
    }
    ensure(lab::legs_are_equal(&engine, "v")? == 4, || "an image is missing".into())?;
    let end = writers.stop()?;
    check_instant(&device, &plan(7), &end, &end).map(|_| ())
}

/// The tool that knows nothing of pins: proves that the comparison finds what it should.
pub fn legs_that_differ_are_found_by_the_comparison(disks: &[PathBuf]) -> Outcome {
    use splitmirror::host::Blocks;
    let engine = lab::new_pool(disks, 2)?;
    lab::new_volume(&engine, "v", 2)?;
    let images = lab::attached_images(&engine, "v")?;
    lab::host().write(&images[1].1, Bytes::mib(3), &[1; 4096]).map_err(say)?;
    let compared = lab::legs_are_equal(&engine, "v");
    ensure(compared.is_err(), || format!("{compared:?}"))
}

pub fn views_and_refusals(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    lab::new_volume(&engine, "other", 2)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    let class = |result: &Result<_, splitmirror::engine::Error>| {
        result.as_ref().err().map(splitmirror::engine::Error::class)
    };
    let taken = engine.create_snapshot(&lab::snapshot_spec("s", "other")).map(|_| ());
    ensure(class(&taken) == Some(Class::Exists), || format!("{taken:?}"))?;
    let view = engine.create_view("view", &snapshot.id).map_err(say)?;
    let shown = lab::device(&engine, &view.id)?;
    ensure(read_all(&shown, lab::SIZE)? == read_all(&device, lab::SIZE)?, || {
        "the view shows something else".into()
    })?;
    let held = engine.delete_snapshot(&snapshot.id);
    ensure(class(&held) == Some(Class::Precondition), || format!("{held:?}"))?;
    let has_snapshot = engine.delete_volume("v");
    ensure(class(&has_snapshot) == Some(Class::Precondition), || format!("{has_snapshot:?}"))?;
    engine.delete_volume(&view.id).map_err(say)?;
    let file = crate::writer::open_direct(Path::new(&shown), false)?;
    let open = engine.delete_snapshot(&snapshot.id);
    ensure(class(&open) == Some(Class::Precondition), || format!("{open:?}"))?;
    drop(file);
    lab::merge(&engine, &snapshot.id)?;
    engine.delete_snapshot(&snapshot.id).map_err(say)?;
    engine.delete_snapshot("no such id").map_err(say)
}

/// What another tool left suspended, half swapped or unequal is put right by the next start.
pub fn what_a_dead_process_left_held_back_runs_again_after_a_start(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(8), None)?;
    writers.wait_for(20)?;
    let top = lab::top_name("v");
    engine.host().dm_suspend(&top, Freeze::IoOnly).map_err(say)?;
    drop(engine);
    let engine = lab::open()?;
    let failed = engine.recover().map_err(say)?;
    ensure(failed.is_empty(), || format!("{failed:?}"))?;
    writers.wait_for(20)?;
    let line = engine.host().dm_look(&top).map_err(say)?.ok_or("no array")?.1;
    engine.host().dm_load(&top, &line, false).map_err(say)?;
    drop(engine);
    let engine = lab::open()?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "it does not come up".into())?;
    writers.wait_for(20)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    writers.wait_for(20)?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    let _: Udev = Udev::Volume;
    let end = writers.stop()?;
    check_instant(&device, &plan(8), &end, &end).map(|_| ())
}

/// One image is written to behind the array's back, and the merge of another is not fooled.
pub fn a_slot_that_is_missing_in_the_running_table_is_copied_in_full(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 2)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let top = lab::top_name("v");
    let mut line = engine.host().dm_look(&top).map_err(say)?.ok_or("no array")?.1;
    let devs = lab::attached_images(&engine, "v")?;
    ensure(devs.len() == 2, || format!("{devs:?}"))?;
    let mut words: Vec<String> = line[0].params.split(' ').map(str::to_owned).collect();
    let count = words.len();
    words[count - 2] = "-".into();
    words[count - 1] = "-".into();
    line[0].params = words.join(" ");
    engine.host().dm_suspend(&top, Freeze::IoOnly).map_err(say)?;
    engine.host().dm_load(&top, &line, false).map_err(say)?;
    engine.host().dm_resume(&top, Udev::Volume).map_err(say)?;
    let writers = Writers::start(&device, plan(9), None)?;
    writers.wait_for(50)?;
    writers.stop()?;
    ensure(lab::info(&engine, "v")?.slots[1].state != SlotState::InSync, || {
        "slot 1 is not seen as missing".into()
    })?;
    drop(engine);
    let engine = lab::open()?;
    engine.recover().map_err(say)?;
    lab::settle(&engine)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())
}

/// The kernel begins a full copy by zeroing the first page of the bitmap: the marks of every other split go with it.
pub fn a_full_copy_of_one_image_does_not_spoil_the_merge_of_another(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(10), None)?;
    writers.wait_for(50)?;
    let kept = lab::split(&engine, "kept", "v")?;
    writers.wait_for(50)?;
    let foreign = lab::split(&engine, "foreign", "v")?;
    writers.stop()?;
    // Nobody knows any more who has used this image: it can only be merged in full.
    let image = format!("pool/v_rimage_{}", foreign.slot);
    let tags = lab::run("lvm", &["lvs", "--noheadings", "-o", "lv_tags", &image])?;
    let events =
        tags.trim().split(',').find(|tag| tag.contains("/events=")).ok_or("no event count is noted")?;
    lab::run("lvm", &["lvchange", "-y", "--deltag", events, &image])?;
    drop(engine);
    let engine = lab::open()?;
    engine.delete_snapshot(&foreign.id).map_err(say)?;
    lab::settle(&engine)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "two images must be attached".into())?;
    let info = lab::info(&engine, "v")?;
    let marked = info.snapshots.iter().find(|s| s.id == kept.id).ok_or("the other snapshot is gone")?;
    ensure(marked.full_merge.is_some(), || format!("{marked:?}"))?;
    lab::merge(&engine, &kept.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "three images must be attached".into())
}
