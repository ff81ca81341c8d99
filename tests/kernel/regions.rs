//! Larger and smaller regions of the bitmap, while the volume is used.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use splitmirror::engine::Engine;
use splitmirror::host::{Blocks, DeviceMapper, Host};
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::spec::VolumeSpec;
use splitmirror::volume::tune::Change;

use crate::aligned::Aligned;
use crate::lab::{self, Outcome, ensure, say};
use crate::snapshots::sectors_written;
use crate::volumes::plan;
use crate::writer::{Writers, check_instant, open_direct};

/// That the volume `v` has regions of this size.
pub fn regions(size: Bytes) -> Change {
    Change { region_size: Some(size), ..Change::default() }
}

/// The regions of the volume `v` by the bitmap of each image on disk (`bitmap_super_t`, `chunksize`).
fn on_disk<H: Host>(engine: &Engine<H>) -> Outcome<Vec<Bytes>> {
    let slots = lab::info(engine, "v")?.slots;
    slots
        .iter()
        .map(|slot| {
            let name = format!("pool-v_rmeta_{}", slot.index);
            let info = lab::host().dm_info(&name).map_err(say)?.ok_or_else(|| format!("no {name}"))?;
            let node = lab::host().node(info.devno).map_err(say)?;
            let page = lab::host().read(&node, Bytes(4096), Bytes(4096)).map_err(say)?;
            Ok(Bytes(u32::from_le_bytes(page[52..56].try_into().map_err(say)?).into()))
        })
        .collect()
}

/// The bitmap on disk is longer than the one that the metadata asks for, and its end is within a sector.
pub fn larger_regions_are_asked_for_while_an_image_is_copied(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let spec = VolumeSpec { size: Bytes::mib(128), region_size: Bytes::kib(4), ..lab::volume_spec("v", 2) };
    engine.create_volume(&spec).map_err(say)?;
    let (volume, large) = ("v".parse().map_err(say)?, regions(Bytes::mib(2)));
    engine.modify_volume(&volume, &Change { images: Some(3), ..large.clone() }).map_err(say)?;
    lab::settle(&engine)?;
    engine.modify_volume(&volume, &large).map_err(say)?;
    let found = on_disk(&engine)?;
    ensure(found == [Bytes::mib(2); 3], || format!("regions are {found:?} on disk"))?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())
}

pub fn regions_are_changed_under_load_and_a_merge_copies_by_the_new_ones(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let volume = "v".parse().map_err(say)?;
    let writers = Writers::start(&device, plan(71), None)?;
    let small = Bytes::kib(64);
    for size in [small, Bytes::mib(2), lab::REGION, small] {
        writers.wait_for(50)?;
        let info = engine.modify_volume(&volume, &regions(size)).map_err(say)?;
        ensure(info.region_size == size, || format!("{info:?}"))?;
        let found = on_disk(&engine)?;
        ensure(found == [size; 3], || format!("regions of {size} are {found:?} on disk"))?;
        writers.wait_for(50)?;
    }
    let end = writers.stop()?;
    check_instant(&device, &plan(71), &end, &end)?;

    let snapshot = lab::split(&engine, "s", "v")?;
    let file = open_direct(&device, true)?;
    let mut data = Aligned::new(4096);
    data.bytes_mut().fill(7);
    for region in [3u64, 90, 200] {
        file.write_all_at(data.bytes(), region * small.0 + 4096).map_err(say)?;
    }
    drop(file);
    let changed = lab::info(&engine, "v")?.snapshots[0].changed;
    ensure(changed == small * 3, || format!("{changed} marked instead of 3 regions"))?;
    let refused = engine.modify_volume(&volume, &regions(lab::REGION));
    ensure(refused.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{refused:?}"))?;
    lab::merge(&engine, &snapshot.id)?;
    let images = lab::attached_images(&engine, "v")?;
    let (_, returned) =
        images.iter().find(|(slot, _)| *slot == snapshot.slot).ok_or("the image is not back")?;
    let written = Bytes(sectors_written(returned)? * 512);
    ensure(written == small * 3, || format!("{written} copied instead of {}", small * 3))?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;

    for impossible in [Bytes(3 << 10), lab::SIZE * 2] {
        let refused = engine.modify_volume(&volume, &regions(impossible));
        ensure(refused.as_ref().is_err_and(|e| e.class() == Class::Invalid), || format!("{refused:?}"))?;
    }
    ensure(lab::info(&engine, "v")?.region_size == small, || "something was changed".into())
}
