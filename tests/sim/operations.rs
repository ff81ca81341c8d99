//! Every operation, cut at every step.

use std::time::Duration;

use splitmirror::engine::pool;
use splitmirror::host::sim::Stop;
use splitmirror::units::Bytes;
use splitmirror::volume::spec::RollbackSpec;
use splitmirror::volume::tune::{Change, WriteMostly};

use crate::crash::{Mode, Operation};
use crate::{foreign, regions};

use crate::machine::{
    LARGER, Machine, Process, REGION, SIZE, clone_spec, group_spec, grown_spec, lv, options, snapshot_id,
    snapshot_spec, top, vg, volume_spec,
};

/// One test for each way to fail.
macro_rules! cut_everywhere {
    ($($name:ident: $operation:expr;)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn is_right_after_a_power_cut_at_any_step() {
                $operation.crash_everywhere(Mode::PowerCut);
            }

            #[test]
            fn is_right_after_a_power_cut_when_another_tool_activates_first() {
                $operation.crash_everywhere(Mode::PowerCutForeign);
            }

            #[test]
            fn is_right_after_the_process_dies_at_any_step() {
                $operation.crash_everywhere(Mode::Kill);
            }

            #[test]
            fn is_right_after_any_call_fails() {
                $operation.crash_everywhere(Mode::Errno);
            }
        }
    )* };
}

cut_everywhere! {
    making_a_pool: make_pool();
    extending_a_pool: extend_pool();
    reducing_a_pool: reduce_pool();
    creating_a_volume: create_volume();
    deleting_a_volume: delete_volume();
    deactivating_a_volume: deactivate();
    activating_a_volume: activate();
    expanding_a_volume: expand();
    splitting_one_of_two_images: split(2);
    splitting_one_of_three_images: split(3);
    splitting_a_second_image: split_again();
    splitting_the_first_image: split_first();
    merging_the_only_split: merge(Machine::with_volume(2));
    merging_the_first_image: merge(Machine::with_slow_first_image(3));
    activating_a_volume_with_a_split: activate_with_split();
    merging_the_older_split: merge_of_two("one");
    merging_the_newer_split: merge_of_two("two");
    rolling_back_to_the_only_split: roll_back(&["one"]);
    rolling_back_to_the_newer_split: roll_back(&["one", "two"]);
    splitting_a_group: split_group();
    splitting_a_group_beside_older_splits: split_group_again();
    merging_a_group: merge_group();
    adding_an_image: set_images(2, 3);
    adding_two_images: set_images(2, 4);
    adding_two_images_beside_a_split: add_beside_a_split();
    removing_an_image: set_images(3, 2);
    removing_two_images: set_images(4, 2);
    removing_an_image_beside_a_split: remove_beside_a_split();
    removing_all_images_but_one: set_images(3, 1);
    adding_to_the_only_image: set_images(1, 2);
    growing_beside_the_only_image: grow_beside_the_only_image();
    removing_what_was_grown_beside_the_only_image: ungrow_beside_the_only_image();
    growing_for_a_snapshot: grow();
    growing_beside_a_split: grow_beside_a_split();
    growing_into_a_slot_that_is_kept: grow_again();
    removing_the_only_grown_image: ungrow(&["one"]);
    removing_the_older_of_two_grown_images: ungrow(&["one", "two"]);
    removing_the_last_grown_image_and_a_slot_that_is_kept: ungrow_both();
    tuning_a_volume: tune();
    making_regions_smaller: set_regions::<{ REGION.0 / 4 }>();
    making_regions_larger: set_regions::<{ REGION.0 * 16 }>();
    starting_before_regions_are_smaller: start_before_regions_are::<{ REGION.0 / 4 }>();
    starting_before_regions_are_larger: start_before_regions_are::<{ REGION.0 * 16 }>();
    detaching_the_only_split: detach(Machine::with_wide_volume(3), &["one"]);
    detaching_the_older_split: detach(Machine::with_wide_volume(3), &["one", "two"]);
    detaching_a_split_beside_that_of_the_first_image: detach(first_image_is_split(), &["one"]);
    detaching_a_split_as_a_volume_of_three_images: detach_as_three();
    parting_two_of_four_images: part(Machine::with_wide_volume(4));
    parting_two_images_beside_a_split: part_beside_a_split();
    creating_a_view: create_view();
    deleting_a_view: delete_view();
    cloning_a_snapshot: clone_snapshot();
    cloning_a_volume: clone_volume();
    filling_a_clone: fill();
    deleting_a_clone_that_is_not_filled: delete_clone();
    activating_a_clone_that_is_not_filled: activate_clone();
}

fn make_pool() -> Operation {
    Operation {
        before: Machine::bare(),
        act: |process| {
            let disks = [0, 1, 2].map(|n| std::path::PathBuf::from(["/dev/sda", "/dev/sdb", "/dev/sdc"][n]));
            pool::create(&process.host, &vg(), &disks, &options()).map(drop)
        },
        done: |machine, _| machine.pool = machine.disks[..3].to_vec(),
        finish: false,
    }
}

fn extend_pool() -> Operation {
    Operation {
        before: Machine::with_volume(2),
        act: |process| pool::extend(&process.host, &vg(), &["/dev/sdd".into()], &options()).map(drop),
        done: |machine, _| machine.pool = machine.disks.clone(),
        finish: false,
    }
}

fn reduce_pool() -> Operation {
    let mut before = Machine::with_volume(2);
    let free = before
        .disks
        .iter()
        .position(|disk| {
            let info =
                pool::show(&before.host, &vg(), &splitmirror::engine::Settings::default()).expect("a pool");
            info.disks.iter().any(|of| of.device == disk.display().to_string() && of.size == of.free)
        })
        .expect("one disk is free");
    assert_eq!(free, 2, "the operation names it");
    before.host.sleep(Duration::from_millis(1));
    before.views.clear();
    Operation {
        before,
        act: |process| pool::reduce(&process.host, &vg(), &["/dev/sdc".into()], &options()).map(drop),
        done: |machine, _| machine.pool = machine.disks[..2].to_vec(),
        finish: false,
    }
}

fn create_volume() -> Operation {
    Operation {
        before: Machine::with_volume(2),
        act: |process| process.engine()?.create_volume(&volume_spec("b", 3)).map(drop),
        done: |machine, _| machine.created("b", 3),
        finish: false,
    }
}

fn delete_volume() -> Operation {
    let mut before = Machine::with_volume(2);
    before.create("b", 3);
    before.host.rest(&top("b"));
    Operation {
        before,
        act: |process| process.engine()?.delete_volume("b"),
        done: |machine, _| machine.gone("b"),
        finish: false,
    }
}

fn deactivate() -> Operation {
    Operation {
        before: Machine::with_volume(2),
        act: |process| process.engine()?.deactivate(&lv("a")),
        done: |machine, _| machine.volumes.get_mut("a").expect("a volume").active = false,
        finish: false,
    }
}

fn activate() -> Operation {
    let before = Machine::with_volume(3);
    before.process().engine().expect("open").deactivate(&lv("a")).expect("stopped");
    Operation { before, act: |process| process.engine()?.activate(&lv("a")), done: |_, _| {}, finish: false }
}

fn expand() -> Operation {
    Operation {
        before: Machine::with_volume(2),
        act: |process| process.engine()?.expand_volume(&lv("a"), LARGER, None).map(drop),
        done: |machine, _| {
            machine.volumes.get_mut("a").expect("a volume").size = LARGER;
            machine.host.keep_busy(&top("a"), LARGER.sectors_floor(), 1);
            machine.host.sleep(Duration::from_millis(200));
        },
        finish: true,
    }
}

fn split(images: usize) -> Operation {
    Operation {
        before: Machine::with_volume(images),
        act: |process| process.engine()?.create_snapshot(&snapshot_spec("a", "one")).map(drop),
        done: |machine, begun| machine.snapped("a", "one", begun),
        finish: false,
    }
}

fn split_first() -> Operation {
    Operation { before: Machine::with_slow_first_image(3), ..split(3) }
}

fn activate_with_split() -> Operation {
    let mut before = Machine::with_volume(3);
    before.split("a", "one");
    before.process().engine().expect("open").deactivate(&lv("a")).expect("stopped");
    Operation { before, ..activate() }
}

fn split_again() -> Operation {
    let mut before = Machine::with_volume(3);
    before.split("a", "one");
    before.host.sleep(Duration::from_secs(1));
    Operation {
        before,
        act: |process| process.engine()?.create_snapshot(&snapshot_spec("a", "two")).map(drop),
        done: |machine, begun| machine.snapped("a", "two", begun),
        finish: false,
    }
}

fn merge(mut before: Machine) -> Operation {
    before.split("a", "one");
    before.host.sleep(Duration::from_secs(1));
    Operation {
        before,
        act: |process| process.engine()?.delete_snapshot(&snapshot_id("a", "one")),
        done: |machine, _| machine.volumes.get_mut("a").expect("a volume").merged("one"),
        finish: true,
    }
}

fn merge_of_two(which: &str) -> Operation {
    let mut before = Machine::with_volume(3);
    for name in ["one", "two"] {
        before.split("a", name);
        before.host.sleep(Duration::from_secs(1));
    }
    let mut process = before.process();
    crate::check::check(&mut before, &mut process, "before the merge");
    if which == "one" {
        Operation {
            before,
            act: |process| process.engine()?.delete_snapshot(&snapshot_id("a", "one")),
            done: |machine, _| machine.volumes.get_mut("a").expect("a volume").merged("one"),
            finish: true,
        }
    } else {
        Operation {
            before,
            act: |process| process.engine()?.delete_snapshot(&snapshot_id("a", "two")),
            done: |machine, _| machine.volumes.get_mut("a").expect("a volume").merged("two"),
            finish: true,
        }
    }
}

fn rollback_to(snapshot: &str) -> RollbackSpec {
    RollbackSpec { snapshot: snapshot_id("a", snapshot), request: Some("the-first".to_owned()) }
}

/// To the last of these splits, while nobody uses the volume.
fn roll_back(splits: &[&str]) -> Operation {
    let mut before = Machine::with_volume(3);
    for name in splits {
        before.split("a", name);
        before.host.sleep(Duration::from_secs(1));
    }
    let mut process = before.process();
    crate::check::check(&mut before, &mut process, "before the rollback");
    before.rest();
    before.host.sleep(Duration::from_secs(1));
    if splits.len() == 1 {
        Operation {
            before,
            act: |process| process.engine()?.roll_back(&rollback_to("one"), |_| {}),
            done: |machine, _| machine.rolled_back("a", "one"),
            finish: false,
        }
    } else {
        Operation {
            before,
            act: |process| process.engine()?.roll_back(&rollback_to("two"), |_| {}),
            done: |machine, _| machine.rolled_back("a", "two"),
            finish: false,
        }
    }
}

/// A volume of two images, and these snapshots of images that were added.
fn with_grown(images: usize, names: &[&str]) -> Machine {
    let mut before = Machine::with_wide_volume(images);
    for name in names {
        before.grow("a", name);
        before.host.sleep(Duration::from_secs(1));
    }
    let mut process = before.process();
    process.finish().expect("finished");
    crate::check::check(&mut before, &mut process, "with grown images");
    before
}

fn grow() -> Operation {
    Operation {
        before: Machine::with_wide_volume(2),
        act: |process| process.engine()?.create_snapshot(&grown_spec("a", "two")).map(drop),
        done: |machine, begun| machine.grown("a", "two", begun),
        finish: false,
    }
}

fn grow_beside_a_split() -> Operation {
    let mut before = Machine::with_wide_volume(2);
    before.split("a", "one");
    before.host.sleep(Duration::from_secs(1));
    Operation { before, ..grow() }
}

fn grow_beside_the_only_image() -> Operation {
    Operation { before: Machine::with_wide_volume(1), ..grow() }
}

fn ungrow_beside_the_only_image() -> Operation {
    Operation { before: with_grown(1, &["one"]), ..ungrow(&["one"]) }
}

/// Of three snapshots the first is gone, so its slot is empty.
fn with_slot_kept() -> Machine {
    let mut before = with_grown(2, &["one", "three"]);
    let mut process = before.process();
    process.engine().expect("open").delete_snapshot(&snapshot_id("a", "one")).expect("deleted");
    process.finish().expect("finished");
    before.volumes.get_mut("a").expect("a volume").merged("one");
    before.host.sleep(Duration::from_secs(1));
    crate::check::check(&mut before, &mut process, "with an empty slot");
    before
}

fn grow_again() -> Operation {
    Operation { before: with_slot_kept(), ..grow() }
}

/// The first of these snapshots goes.
fn ungrow(there: &[&str]) -> Operation {
    Operation {
        before: with_grown(2, there),
        act: |process| process.engine()?.delete_snapshot(&snapshot_id("a", "one")),
        done: |machine, _| machine.volumes.get_mut("a").expect("a volume").merged("one"),
        finish: true,
    }
}

fn ungrow_both() -> Operation {
    Operation {
        before: with_slot_kept(),
        act: |process| process.engine()?.delete_snapshot(&snapshot_id("a", "three")),
        done: |machine, _| machine.volumes.get_mut("a").expect("a volume").merged("three"),
        finish: true,
    }
}

fn act_images<const IMAGES: usize>(process: &mut Process) -> splitmirror::engine::Result<()> {
    let change = Change { images: Some(IMAGES), ..Change::default() };
    process.engine()?.modify_volume(&lv("a"), &change).map(drop)
}

fn now_has<const IMAGES: usize>(machine: &mut Machine, _: usize) {
    machine.volumes.get_mut("a").expect("a volume").images = IMAGES;
}

fn set_images(from: usize, to: usize) -> Operation {
    let before = Machine::with_wide_volume(from);
    let four = Operation { before, act: act_images::<4>, done: now_has::<4>, finish: true };
    match to {
        1 => Operation { act: act_images::<1>, done: now_has::<1>, ..four },
        2 => Operation { act: act_images::<2>, done: now_has::<2>, ..four },
        3 => Operation { act: act_images::<3>, done: now_has::<3>, ..four },
        _ => four,
    }
}

fn add_beside_a_split() -> Operation {
    let mut before = Machine::with_wide_volume(2);
    before.split("a", "one");
    before.host.sleep(Duration::from_secs(1));
    Operation { before, ..set_images(2, 4) }
}

fn remove_beside_a_split() -> Operation {
    let mut before = Machine::with_wide_volume(4);
    before.slow_first_image();
    before.split("a", "one");
    before.host.sleep(Duration::from_secs(1));
    Operation { before, ..set_images(4, 3) }
}

fn tune() -> Operation {
    Operation {
        before: Machine::with_volume(3),
        act: |process| {
            let change = Change {
                min_recovery_rate: Some(2048),
                max_recovery_rate: Some(65_536),
                write_mostly: Some(WriteMostly::Slots(vec![1])),
                ..Change::default()
            };
            process.engine()?.modify_volume(&lv("a"), &change).map(drop)
        },
        done: |machine, _| {
            // After a crash the array follows when what else is copied is copied.
            machine.process().finish().expect("finished");
            let table = machine.table("a");
            assert_eq!((table.min_recovery_rate, table.max_recovery_rate), (Some(2048), Some(65_536)));
            assert_eq!(table.write_mostly, [1]);
        },
        finish: false,
    }
}

fn set_regions<const REGION: u64>() -> Operation {
    Operation {
        before: Machine::with_volume(3),
        act: |process| regions::change(process, Bytes(REGION)),
        done: |machine, _| {
            machine.process().finish().expect("finished");
            assert_eq!(machine.table("a").region_size.bytes(), Bytes(REGION));
        },
        finish: false,
    }
}

/// Power was lost between the commit and the swap: the start goes by what is on disk, and what comes then follows the metadata.
fn start_before_regions_are<const REGION: u64>() -> Operation {
    let mut before = Machine::with_volume(3);
    foreign::set_region_size(&before.host, "a", Bytes(REGION));
    before.start_again(Stop::PowerCut);
    Operation {
        before,
        act: |process| {
            process.engine()?.activate(&lv("a"))?;
            regions::change(process, Bytes(REGION))
        },
        ..set_regions::<REGION>()
    }
}

fn clone_snapshot() -> Operation {
    let mut before = Machine::with_volume(3);
    before.split("a", "one");
    before.host.sleep(Duration::from_secs(1));
    Operation {
        before,
        act: |process| {
            process.engine()?.create_clone(&clone_spec(LARGER), &snapshot_id("a", "one")).map(drop)
        },
        done: |machine, _| machine.cloned("c", LARGER, "a", Some("one"), 0),
        finish: false,
    }
}

fn clone_volume() -> Operation {
    Operation {
        before: Machine::with_volume(3),
        act: |process| process.engine()?.clone_volume(&clone_spec(SIZE), &lv("a"), 1).map(drop),
        done: |machine, begun| machine.cloned("c", SIZE, "a", None, begun),
        finish: false,
    }
}

fn fill() -> Operation {
    Operation {
        before: Machine::with_volume(3).with_clone(LARGER),
        act: |process| process.engine()?.advance().map(drop),
        done: |_, _| {},
        finish: true,
    }
}

fn delete_clone() -> Operation {
    let before = Machine::with_volume(3).with_clone(SIZE);
    before.host.rest(&top("c"));
    Operation {
        before,
        act: |process| process.engine()?.delete_volume("c"),
        done: |machine, _| machine.gone("c"),
        finish: false,
    }
}

fn activate_clone() -> Operation {
    let before = Machine::with_volume(3).with_clone(SIZE);
    before.process().engine().expect("open").deactivate(&lv("c")).expect("stopped");
    Operation { before, act: |process| process.engine()?.activate(&lv("c")), done: |_, _| {}, finish: false }
}

fn split_group() -> Operation {
    Operation {
        before: Machine::with_two_volumes(2),
        act: |process| process.engine()?.create_group_snapshot(&group_spec("both", &["a", "b"])).map(drop),
        done: |machine, _| machine.snapped_together("both", &["a", "b"], 0),
        finish: false,
    }
}

fn split_group_again() -> Operation {
    let mut before = Machine::with_two_volumes(3);
    before.split("a", "one");
    before.host.sleep(Duration::from_secs(1));
    let mut process = before.process();
    crate::check::check(&mut before, &mut process, "before the group");
    Operation { before, ..split_group() }
}

fn merge_group() -> Operation {
    let mut before = Machine::with_two_volumes(2);
    let mut process = before.process();
    (split_group().act)(&mut process).expect("split");
    before.snapped_together("both", &["a", "b"], 0);
    before.host.sleep(Duration::from_secs(1));
    crate::check::check(&mut before, &mut process, "before the merge");
    Operation {
        before,
        act: |process| process.engine()?.delete_group_snapshot("both"),
        done: |machine, _| machine.merged_together("both"),
        finish: true,
    }
}

fn first_image_is_split() -> Machine {
    let mut machine = Machine::with_slow_first_image(3);
    machine.split("a", "zero");
    machine.host.sleep(Duration::from_secs(1));
    machine
}

fn act_detach<const IMAGES: usize>(process: &mut Process) -> splitmirror::engine::Result<()> {
    process.engine()?.detach_snapshot(&volume_spec("new", IMAGES), &snapshot_id("a", "one")).map(drop)
}

/// The first of these splits becomes a volume of two images.
fn detach(mut before: Machine, splits: &[&str]) -> Operation {
    for name in splits {
        before.split("a", name);
        before.host.sleep(Duration::from_secs(1));
    }
    let mut process = before.process();
    crate::check::check(&mut before, &mut process, "before the detachment");
    Operation {
        before,
        act: act_detach::<2>,
        done: |machine, _| machine.detached("new", 2, "a", "one"),
        finish: true,
    }
}

fn part(before: Machine) -> Operation {
    Operation {
        before,
        act: |process| process.engine()?.detach_images(&volume_spec("new", 2), &lv("a")).map(drop),
        done: |machine, begun| machine.parted("new", 2, "a", begun),
        finish: true,
    }
}

fn part_beside_a_split() -> Operation {
    let mut before = Machine::with_five_disks(4);
    before.set_images(5);
    before.slow_first_image();
    before.split("a", "one");
    before.host.sleep(Duration::from_secs(1));
    part(before)
}

fn detach_as_three() -> Operation {
    Operation {
        act: act_detach::<3>,
        done: |machine, _| machine.detached("new", 3, "a", "one"),
        ..detach(Machine::with_wide_volume(3), &["one"])
    }
}

fn create_view() -> Operation {
    let mut before = Machine::with_volume(2);
    before.split("a", "one");
    Operation {
        before,
        act: |process| process.engine()?.create_view("look", &snapshot_id("a", "one")).map(drop),
        done: |machine, _| drop(machine.views.insert("look".to_owned(), snapshot_id("a", "one"))),
        finish: false,
    }
}

fn delete_view() -> Operation {
    let mut before = Machine::with_volume(2);
    before.split("a", "one");
    before.process().engine().expect("open").create_view("look", &snapshot_id("a", "one")).expect("a view");
    before.views.insert("look".to_owned(), snapshot_id("a", "one"));
    Operation {
        before,
        act: |process| process.engine()?.delete_volume("look"),
        done: |machine, _| drop(machine.views.remove("look")),
        finish: false,
    }
}
