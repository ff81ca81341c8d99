//! Volumes: made blank and in sync, used, grown, removed.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use splitmirror::host::Blocks;
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::info::SlotState;

use crate::aligned::Aligned;
use crate::lab::{self, Outcome, ensure, say};
use crate::writer::{BLOCK, Plan, Writers, check_instant, open_direct};

pub fn plan(seed: u64) -> Plan {
    Plan { seed, threads: 4, blocks: lab::SIZE.0 / BLOCK }
}

/// Every byte of a device.
pub fn read_all(path: &Path, len: Bytes) -> Outcome<Vec<u8>> {
    let file = open_direct(path, false)?;
    let mut data = Aligned::new(usize::try_from(len.0).map_err(say)?);
    file.read_exact_at(data.bytes_mut(), 0).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(data.bytes().to_vec())
}

pub fn a_new_volume_is_in_sync_at_once_and_shows_nothing_of_what_was_on_the_disks(
    disks: &[PathBuf],
) -> Outcome {
    let dirt = vec![0xdb; 1 << 20];
    for disk in &disks[..3] {
        for at in 0..48 {
            lab::host().write(disk, Bytes::mib(at), &dirt).map_err(say)?;
        }
        lab::host().zero(disk, Bytes::ZERO, Bytes::mib(1)).map_err(say)?;
        lab::host().zero(disk, Bytes::mib(1), Bytes::kib(64)).map_err(say)?;
    }
    let wiped: Vec<String> = disks[..3].iter().map(|d| d.display().to_string()).collect();
    let engine = lab::new_pool_over(disks, 3, &wiped)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let info = lab::info(&engine, "v")?;
    ensure(info.slots.iter().all(|slot| slot.state == SlotState::InSync), || format!("{info:?}"))?;
    ensure(read_all(&device, lab::SIZE)?.iter().all(|b| *b == 0), || "the array shows old data".into())?;
    for (slot, image) in lab::attached_images(&engine, "v")? {
        ensure(read_all(&image, lab::SIZE)?.iter().all(|b| *b == 0), || {
            format!("image {slot} shows old data")
        })?;
    }
    lab::split(&engine, "at-once", "v")?;
    Ok(())
}

pub fn a_volume_grows_under_load_and_its_new_part_is_blank(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(3), None)?;
    writers.wait_for(50)?;
    let volume = "v".parse().map_err(say)?;
    let size = engine.expand_volume(&volume, Bytes::mib(30), None).map_err(say)?;
    ensure(size == Bytes::mib(32), || format!("it is {size}"))?;
    writers.wait_for(50)?;
    let again = engine.expand_volume(&volume, Bytes::mib(30), None).map_err(say)?;
    ensure(again == size, || format!("repeated: {again}"))?;
    let end = writers.stop()?;
    lab::wait_in_sync(&engine, "v")?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    check_instant(&device, &plan(3), &end, &end)?;
    let all = read_all(&device, size)?;
    ensure(all[16 << 20..].iter().all(|b| *b == 0), || "the new part shows old data".into())?;
    let snapshot = lab::split(&engine, "s", "v")?;
    let refused = engine.expand_volume(&volume, Bytes::mib(40), None);
    ensure(refused.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{refused:?}"))?;
    lab::merge(&engine, &snapshot.id)?;
    engine.expand_volume(&volume, Bytes::mib(40), None).map_err(say)?;
    Ok(())
}

pub fn a_volume_is_deactivated_activated_and_deleted(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let writers = Writers::start(&device, plan(4), None)?;
    writers.wait_for(100)?;
    let volume = "v".parse().map_err(say)?;
    let in_use = engine.delete_volume("v");
    ensure(in_use.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{in_use:?}"))?;
    let end = writers.stop()?;
    engine.deactivate(&volume).map_err(say)?;
    ensure(lab::devices()?.is_empty(), || format!("left over: {:?}", lab::devices()))?;
    engine.activate(&volume).map_err(say)?;
    check_instant(&lab::device(&engine, "v")?, &plan(4), &end, &end)?;
    engine.delete_volume("v").map_err(say)?;
    engine.delete_volume("v").map_err(say)?;
    ensure(lab::devices()?.is_empty(), || format!("left over: {:?}", lab::devices()))?;
    ensure(engine.volumes().map_err(say)?.is_empty(), || "it is still listed".into())
}
