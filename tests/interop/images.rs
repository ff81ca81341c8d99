//! Images that come and go, as LVM2 sees them at every moment.

use std::path::PathBuf;

use splitmirror::engine::Engine;
use splitmirror::host::Host;
use splitmirror::host::linux::LinuxHost;
use splitmirror::units::Bytes;
use splitmirror::volume::tune::{Change, WriteMostly};

use crate::cut::{CutHost, Cutter, survive};
use crate::lab::{self, Outcome, ensure, say};
use crate::lvm::{self, calm, field, is_content, lvm, plan, shows, visible};
use crate::writer::{Writers, check_instant};

fn images<H: Host>(engine: &Engine<H>, images: usize) -> Outcome {
    let change = Change { images: Some(images), ..Change::default() };
    engine.modify_volume(&"v".parse().map_err(say)?, &change).map_err(say)?;
    Ok(())
}

/// The process dies at every so many calls of `act`, begun on what `stage` makes; LVM2 looks at what is there, and after the next
/// start it goes on with `end`.
fn read_at_calls(
    every: usize,
    stage: impl Fn() -> Outcome,
    act: impl Fn(&Engine<CutHost<LinuxHost>>) -> Outcome,
    end: impl Fn(&Engine<LinuxHost>) -> Outcome,
) -> Outcome {
    stage()?;
    let calls = {
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::die_at(u64::MAX)))?;
        act(&engine)?;
        engine.host().moments()
    };
    let (mut tried, mut survived) = (0, 0);
    for k in (0..calls).step_by(every) {
        let at = |error: String| format!("call {k} of {calls}: {error}");
        stage().map_err(at)?;
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::die_at(k))).map_err(at)?;
        // How often it has to wait, and looks again, is not the same each time.
        (tried, survived) = (tried + 1, survived + usize::from(survive(|| act(&engine)).is_some()));
        drop(engine);
        for words in ["vgck pool", "lvs -a -o +devices,lv_attr,seg_pe_ranges pool"] {
            match calm(words) {
                // It died between two copies of one version: the next start writes them all.
                Err(said) if said.contains("ignoring metadata seqno") => {}
                // It died between making a leg's device and starting it: that has no node yet.
                Err(said) if said.contains("open failed: No such file or directory") => {}
                said => said.map(drop).map_err(at)?,
            }
        }
        let engine = lab::open().map_err(at)?;
        ensure(engine.recover().map_err(say)?.is_empty(), || at("it does not come up".into()))?;
        end(&engine).map_err(at)?;
    }
    ensure(survived * 4 <= tried, || format!("{survived} of {tried} calls were not its last"))
}

pub fn lvm2_reads_every_state_of_a_change_of_images_without_a_warning(disks: &[PathBuf]) -> Outcome {
    for (from, to) in [(2, 3), (3, 2)] {
        let stage = || -> Outcome {
            lab::wipe(disks)?;
            let engine = lab::new_pool(disks, 3)?;
            lab::new_volume(&engine, "v", from).map(|_| ())
        };
        let end = |engine: &Engine<LinuxHost>| {
            images(engine, to)?;
            lab::settle(engine)?;
            lab::wait_in_sync(engine, "v")?;
            ensure(lab::legs_are_equal(engine, "v")? == to, || "an image is missing".into())
        };
        read_at_calls(1, stage, |engine| images(engine, to), end)
            .map_err(|error| format!("from {from} to {to}, {error}"))?;
        is_content(&disks[..3])?;
        shows("v", &[("segtype", "raid1"), ("stripes", &to.to_string()), ("copy_percent", "100.00")])?;
        ensure(visible()? == ["v"], || "something else is visible".into())?;
    }
    Ok(())
}

/// From the image that is added to its end.
pub fn lvm2_reads_every_state_of_a_grown_snapshot_without_a_warning(disks: &[PathBuf]) -> Outcome {
    let stage = || -> Outcome {
        lab::wipe(disks)?;
        let engine = lab::new_pool(disks, 3)?;
        lab::new_volume(&engine, "v", 2).map(|_| ())
    };
    let live = |engine: &Engine<CutHost<LinuxHost>>| {
        lab::grow(engine, "s", "v")?;
        engine.delete_snapshot("v@s").map_err(say)
    };
    let end = |engine: &Engine<LinuxHost>| {
        lab::settle(engine)?;
        ensure(lab::legs_are_equal(engine, "v")? == 2, || "an image is missing".into())?;
        lab::merge(engine, "v@s")?;
        shows("v", &[("segtype", "raid1"), ("stripes", "2"), ("copy_percent", "100.00")])
    };
    read_at_calls(2, stage, live, end)?;
    is_content(&disks[..3])
}

/// An image that waits to leave, behind which another snapshot is: LVM2 starts and stops them, and merges what it takes for a split.
pub fn what_waits_to_leave_is_a_split_to_lvm2_and_copied_in_full_when_that_merges_it(
    disks: &[PathBuf],
) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let writers = Writers::start(&device, plan(42), None)?;
    lab::grow(&engine, "one", "v")?;
    writers.wait_for(20)?;
    let two = lab::grow(&engine, "two", "v")?;
    writers.wait_for(20)?;
    lab::merge(&engine, "v@one")?;
    is_content(&disks[..4])?;
    shows("v", &[("stripes", "4"), ("copy_percent", "100.00")])?;
    let end = writers.stop()?;
    lvm("lvchange -an pool/v")?;
    lvm("lvchange -ay pool/v")?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "it does not come up".into())?;
    lab::settle(&engine)?;
    check_instant(&lab::device(&engine, "v")?, &plan(42), &end, &end)?;
    is_content(&disks[..4])?;

    lvm("lvconvert --merge pool/v_rimage_2")?;
    lab::settle(&engine)?;
    lab::wait_in_sync(&engine, "v")?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    let info = lab::info(&engine, "v")?;
    ensure(info.images() == 3 && info.snapshots.len() == 1, || format!("{info:?}"))?;
    lab::merge(&engine, &two.id)?;
    shows("v", &[("stripes", "3"), ("copy_percent", "100.00")])?;
    ensure(visible()? == ["v"], || "something else is visible".into())?;
    check_instant(&lab::device(&engine, "v")?, &plan(42), &end, &end)?;
    is_content(&disks[..4])
}

/// What one has added the other takes away, under load.
pub fn images_are_added_and_removed_by_us_and_by_lvm2_in_turns(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let writers = Writers::start(&device, plan(41), None)?;
    let equal = |images: usize| -> Outcome {
        writers.wait_for(20)?;
        lab::settle(&engine)?;
        lvm::wait_for_sync("v")?;
        lab::wait_in_sync(&engine, "v")?;
        shows("v", &[("stripes", &images.to_string())])?;
        let found = lab::legs_are_equal(&engine, "v")?;
        ensure(found == images, || format!("{found} images instead of {images}"))
    };
    images(&engine, 3)?;
    equal(3)?;
    lvm("lvconvert -y -m 1 pool/v")?;
    equal(2)?;
    lvm("lvconvert -y -m 3 pool/v")?;
    equal(4)?;
    images(&engine, 2)?;
    equal(2)?;
    images(&engine, 4)?;
    equal(4)?;
    let end = writers.stop()?;
    check_instant(&device, &plan(41), &end, &end)?;
    lvm("lvchange -an pool/v")?;
    lvm("lvchange -ay pool/v")?;
    let device = lab::device(&engine, "v")?;
    check_instant(&device, &plan(41), &end, &end)?;
    is_content(&disks[..4])
}

/// LVM2 finds nothing to reload.
fn refresh_changes_nothing() -> Outcome {
    let before = lab::run("dmsetup", &["table", "pool-v"])?;
    lvm("lvchange --refresh pool/v")?;
    let after = lab::run("dmsetup", &["table", "pool-v"])?;
    ensure(before == after, || format!("{before} became {after}"))
}

pub fn rates_regions_and_images_to_avoid_are_those_of_lvm2(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    lab::new_volume(&engine, "v", 3)?;
    let change = Change {
        min_recovery_rate: Some(2048),
        max_recovery_rate: Some(65_536),
        write_mostly: Some(WriteMostly::Slots(vec![1])),
        region_size: Some(Bytes::kib(64)),
        ..Change::default()
    };
    let volume = "v".parse().map_err(say)?;
    engine.modify_volume(&volume, &change).map_err(say)?;
    shows(
        "v",
        &[("raid_min_recovery_rate", "2048"), ("raid_max_recovery_rate", "65536"), ("region_size", "65536")],
    )?;
    let attr = field("v_rimage_1", "lv_attr")?;
    ensure(attr.chars().nth(8) == Some('w'), || format!("image 1 is {attr}"))?;
    refresh_changes_nothing()?;
    let disk = field("v_rimage_1", "devices")?;
    let disk = disk.split('(').next().unwrap_or_default();
    lvm(&format!("lvchange --writemostly {disk}:n pool/v"))?;
    let info = lab::info(&engine, "v")?;
    ensure(info.slots.iter().all(|slot| !slot.write_mostly), || format!("{info:?}"))?;
    lvm("lvconvert -y --regionsize 256k pool/v")?;
    let info = lab::info(&engine, "v")?;
    ensure(info.region_size == Bytes::kib(256), || format!("{info:?}"))?;
    lab::settle(&engine)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    is_content(&disks[..3])
}

pub fn a_volume_of_one_image_is_a_mirror_that_lvm2_reads(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let writers = Writers::start(&device, plan(44), None)?;
    writers.wait_for(20)?;
    images(&engine, 1)?;
    writers.wait_for(20)?;
    shows("v", &[("segtype", "raid1"), ("stripes", "1"), ("copy_percent", "100.00")])?;
    is_content(&disks[..3])?;
    refresh_changes_nothing()?;
    let end = writers.stop()?;
    check_instant(&device, &plan(44), &end, &end)?;
    lvm("lvchange -an pool/v")?;
    lvm("lvchange -ay pool/v")?;
    check_instant(&lab::device(&engine, "v")?, &plan(44), &end, &end)?;
    images(&engine, 3)?;
    lab::settle(&engine)?;
    lvm::wait_for_sync("v")?;
    shows("v", &[("stripes", "3")])?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    is_content(&disks[..3])
}
