//! More images, fewer, and other rates: while the volume is used.

use std::path::{Path, PathBuf};

use splitmirror::host::{Blocks, DeviceMapper};
use splitmirror::report::{Class, chain};
use splitmirror::units::Bytes;
use splitmirror::volume::info::SlotState;
use splitmirror::volume::tune::{Change, WriteMostly};

use crate::lab::{self, Outcome, ensure, say};
use crate::snapshots::{image, sectors_written};
use crate::volumes::{plan, read_all};
use crate::writer::{Writers, check_instant};

/// That the volume `v` has so many images.
pub fn images(images: usize) -> Change {
    Change { images: Some(images), ..Change::default() }
}

pub fn a_new_image_is_copied_in_full_and_no_other_is_written_to(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let volume = "v".parse().map_err(say)?;
    let writers = Writers::start(&device, plan(31), None)?;
    writers.wait_for(50)?;
    let end = writers.stop()?;
    let old = lab::attached_images(&engine, "v")?;
    let before = old.iter().map(|(_, leg)| sectors_written(leg)).collect::<Outcome<Vec<_>>>()?;
    let info = engine.modify_volume(&volume, &images(3)).map_err(say)?;
    ensure(info.slots.len() == 3 && info.slots[2].state != SlotState::Missing, || format!("{info:?}"))?;
    let disks_used: std::collections::BTreeSet<_> = info.slots.iter().map(|slot| &slot.device).collect();
    ensure(disks_used.len() == 3, || format!("two images share a disk: {info:?}"))?;
    lab::settle(&engine)?;
    lab::wait_in_sync(&engine, "v")?;
    let now = lab::attached_images(&engine, "v")?;
    let copied = Bytes(sectors_written(&now[2].1)? * 512);
    ensure(copied == lab::SIZE, || format!("{copied} copied"))?;
    for ((slot, leg), before) in old.iter().zip(before) {
        let written = sectors_written(leg)? - before;
        ensure(written == 0, || format!("{written} sectors written to image {slot}"))?;
    }
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    check_instant(&device, &plan(31), &end, &end)?;
    let too_many = engine.modify_volume(&volume, &images(5));
    ensure(too_many.as_ref().is_err_and(|e| e.class() == Class::Exhausted), || format!("{too_many:?}"))?;
    let too_few = engine.modify_volume(&volume, &images(0));
    ensure(too_few.as_ref().is_err_and(|e| e.class() == Class::Invalid), || format!("{too_few:?}"))
}

pub fn images_come_and_go_under_load_and_beside_snapshots(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 5)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let volume = "v".parse().map_err(say)?;
    let free = || engine.capacity(2).map(|capacity| capacity.available).map_err(say);
    let room = free()?;
    let writers = Writers::start(&device, plan(32), None)?;
    writers.wait_for(50)?;
    // A snapshot of an image that stays where it is while others come and go behind it.
    let snapshot = lab::split(&engine, "s", "v")?;
    let cut = check_instant(&image(&snapshot)?, &plan(32), &[0; 4], &[u64::MAX; 4])?;
    writers.wait_for(50)?;
    for wanted in [5, 4] {
        engine.modify_volume(&volume, &images(wanted)).map_err(say)?;
        writers.wait_for(50)?;
        lab::settle(&engine)?;
        lab::wait_in_sync(&engine, "v")?;
        ensure(lab::legs_are_equal(&engine, "v")? == wanted - 1, || format!("not {wanted} images"))?;
        check_instant(&image(&snapshot)?, &plan(32), &cut, &cut)?;
    }
    let weak = engine.modify_volume(&volume, &images(2));
    ensure(weak.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{weak:?}"))?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 4, || "an image is missing".into())?;
    let last = lab::split(&engine, "last", "v")?;
    ensure(last.slot == 3, || format!("{last:?}"))?;
    let refused = engine.modify_volume(&volume, &images(3));
    ensure(refused.as_ref().is_err_and(|e| chain(e).contains("v@last")), || format!("{refused:?}"))?;
    writers.wait_for(50)?;
    lab::merge(&engine, &last.id)?;
    engine.modify_volume(&volume, &images(2)).map_err(say)?;
    ensure(free()? == room, || "extents are not free again".into())?;
    writers.wait_for(50)?;
    // What has once been there comes back as if it had not.
    engine.modify_volume(&volume, &images(3)).map_err(say)?;
    lab::settle(&engine)?;
    lab::wait_in_sync(&engine, "v")?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    let end = writers.stop()?;
    check_instant(&device, &plan(32), &end, &end).map(|_| ())
}

fn reads(device: &Path) -> Outcome<u64> {
    let name = device.file_name().and_then(|n| n.to_str()).ok_or("no device name")?;
    let text = std::fs::read_to_string(format!("/sys/block/{name}/stat")).map_err(say)?;
    text.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).ok_or_else(|| format!("stat: {text}"))
}

pub fn rates_and_images_that_reads_avoid_are_changed_under_load(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let volume = "v".parse().map_err(say)?;
    let writers = Writers::start(&device, plan(33), None)?;
    writers.wait_for(50)?;
    let change = Change {
        min_recovery_rate: Some(3000),
        max_recovery_rate: Some(50_000),
        write_mostly: Some(WriteMostly::Slots(vec![0, 2])),
        ..Change::default()
    };
    let info = engine.modify_volume(&volume, &change).map_err(say)?;
    ensure((info.min_recovery_rate, info.max_recovery_rate) == (Some(3000), Some(50_000)), || {
        format!("{info:?}")
    })?;
    writers.wait_for(50)?;
    let end = writers.stop()?;
    let line = || -> Outcome<String> {
        let top = lab::top_name("v");
        Ok(lab::host().dm_look(&top).map_err(say)?.ok_or("no array")?.1.remove(0).params)
    };
    let now = line()?;
    for words in ["min_recovery_rate 3000", "max_recovery_rate 50000", "write_mostly 0", "write_mostly 2"] {
        ensure(now.contains(words), || format!("no {words} in {now}"))?;
    }
    let legs = lab::attached_images(&engine, "v")?;
    let before = legs.iter().map(|(_, leg)| reads(leg)).collect::<Outcome<Vec<_>>>()?;
    read_all(&device, lab::SIZE)?;
    for ((slot, leg), before) in legs.iter().zip(before) {
        let more = reads(leg)? - before;
        ensure((more > 0) == (*slot == 1), || format!("{more} reads of image {slot}"))?;
    }
    // Without the others the one that is left is read, whatever was asked for.
    for name in ["one", "two"] {
        lab::split(&engine, name, "v")?;
    }
    for name in ["one", "two"] {
        lab::merge(&engine, &format!("v@{name}"))?;
    }
    let all = Change { write_mostly: Some(WriteMostly::Slots(vec![0, 1, 2])), ..Change::default() };
    let refused = engine.modify_volume(&volume, &all);
    ensure(refused.as_ref().is_err_and(|e| e.class() == Class::Invalid), || format!("{refused:?}"))?;
    let none = Change {
        min_recovery_rate: Some(0),
        max_recovery_rate: Some(0),
        write_mostly: Some(WriteMostly::None),
        ..Change::default()
    };
    engine.modify_volume(&volume, &none).map_err(say)?;
    let now = line()?;
    ensure(!now.contains("rate") && !now.contains("write_mostly"), || now.clone())?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    check_instant(&device, &plan(33), &end, &end).map(|_| ())
}

pub fn a_volume_goes_down_to_one_image_and_back_under_load(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let volume = "v".parse().map_err(say)?;
    let writers = Writers::start(&device, plan(35), None)?;
    for most in [2, 3] {
        writers.wait_for(50)?;
        let info = engine.modify_volume(&volume, &images(1)).map_err(say)?;
        ensure(info.slots.len() == 1 && info.problems.is_empty(), || format!("{info:?}"))?;
        ensure(lab::attached_images(&engine, "v")?.len() == 1, || "not one image".into())?;
        let none_to_spare = engine.create_snapshot(&lab::snapshot_spec("s", "v"));
        ensure(none_to_spare.as_ref().is_err_and(|e| e.class() == Class::Precondition), || {
            format!("{none_to_spare:?}")
        })?;
        // One is added for it.
        writers.wait_for(50)?;
        let grown = lab::grow(&engine, "g", "v")?;
        let cut = check_instant(&image(&grown)?, &plan(35), &[0; 4], &[u64::MAX; 4])?;
        writers.wait_for(50)?;
        check_instant(&image(&grown)?, &plan(35), &cut, &cut)?;
        lab::merge(&engine, &grown.id)?;
        lab::settle(&engine)?;
        ensure(lab::info(&engine, "v")?.slots.len() == 1, || {
            "the image for the snapshot has not left".into()
        })?;
        engine.modify_volume(&volume, &images(most)).map_err(say)?;
        writers.wait_for(50)?;
        lab::settle(&engine)?;
        lab::wait_in_sync(&engine, "v")?;
        let equal = lab::legs_are_equal(&engine, "v")?;
        ensure(equal == most, || format!("{equal} images instead of {most}"))?;
    }
    // One that is made so, and is used alone by what starts it.
    let alone = lab::new_volume(&engine, "w", 1)?;
    lab::host().write(&alone, Bytes::ZERO, &[7; 4096]).map_err(say)?;
    engine.deactivate(&"w".parse().map_err(say)?).map_err(say)?;
    engine.activate(&"w".parse().map_err(say)?).map_err(say)?;
    let read = lab::host().read(&lab::device(&engine, "w")?, Bytes::ZERO, Bytes(4096)).map_err(say)?;
    ensure(read == [7; 4096], || "not what was written".into())?;
    let end = writers.stop()?;
    check_instant(&device, &plan(35), &end, &end).map(|_| ())
}
