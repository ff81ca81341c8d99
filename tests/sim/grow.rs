//! Snapshots of images that are added for them: what must hold meanwhile, and what they cost.

use std::time::Duration;

use splitmirror::host::sim::{Fault, run};
use splitmirror::report::{Class, chain};
use splitmirror::volume::info::SlotState;
use splitmirror::volume::spec::SnapshotSpec;
use splitmirror::volume::tune::Change;

use crate::check::check;
use crate::foreign;
use crate::machine::{Machine, Process, grown_spec, lv, snapshot_id, snapshot_spec, top, volume_spec};

fn make(process: &mut Process, name: &str) -> splitmirror::engine::Result<()> {
    process.engine()?.create_snapshot(&grown_spec("a", name)).map(drop)
}

fn delete(machine: &mut Machine, process: &mut Process, name: &str) {
    process.engine().expect("open").delete_snapshot(&snapshot_id("a", name)).expect("deleted");
    process.finish().expect("finished");
    machine.volumes.get_mut("a").expect("a volume").merged(name);
}

/// Both images of `a` are in sync; whether a snapshot of it can be used.
fn keeps_both(process: &mut Process, context: &str) -> bool {
    let volumes = process.engine().expect("open").volumes().expect("listed");
    let own: Vec<_> = volumes[0].own_slots().collect();
    let whole = own.len() == 2 && own.iter().all(|slot| slot.state == SlotState::InSync);
    assert!(whole, "{context}: {:?}", volumes[0]);
    volumes[0].snapshots.iter().any(|snapshot| snapshot.ready)
}

#[test]
fn a_volume_of_two_images_keeps_both_at_every_step_of_a_snapshot_s_life() {
    let before = Machine::with_wide_volume(2);
    let live = |process: &mut Process| -> splitmirror::engine::Result<()> {
        process.insist(|process| make(process, "one"))?;
        process.engine()?.delete_snapshot(&snapshot_id("a", "one"))?;
        process.finish()
    };
    let rehearsal = before.fork(0);
    rehearsal.host.arm(None);
    live(&mut rehearsal.process()).expect("without a fault");
    let calls = rehearsal.host.trace().len();
    let mut usable = 0;
    for call in 0..u64::try_from(calls).expect("few") {
        let mut machine = before.fork(call + 1);
        let mut process = machine.process();
        machine.host.arm(Some(Fault::Kill { call, done: true }));
        let stopped = run(|| live(&mut process));
        machine.host.arm(None);
        let Err(stop) = stopped else { continue };
        machine.start_again(stop);
        let mut process = machine.process();
        let failed = process.engine().expect("open").recover().expect("recovered");
        assert!(failed.is_empty(), "call {call}: {failed:?}");
        usable += usize::from(keeps_both(&mut process, &format!("call {call} of {calls}")));
        // Nobody asks again: the background sees through what was begun.
        process.finish().expect("finished");
        keeps_both(&mut process, &format!("call {call} of {calls}, later"));
    }
    assert!(usable > 0, "the snapshot is never there");
}

#[test]
fn a_snapshot_that_nobody_asks_for_again_is_cut_by_the_background_and_deleted_before_by_the_next_call() {
    let mut machine = Machine::with_wide_volume(2);
    machine.host.sync_speed(64);
    let mut process = machine.process();
    let slow = make(&mut process, "one").expect_err("it takes longer than a call may");
    assert_eq!(slow.class(), Class::InProgress, "{}", chain(&slow));
    let info = process.engine().expect("open").volumes().expect("listed").remove(0);
    assert!(info.snapshots.is_empty() && info.images() == 2 && info.slots.len() == 3, "{info:?}");
    let more = Change { images: Some(3), ..Change::default() };
    let refused = process.engine().expect("open").modify_volume(&lv("a"), &more).expect_err("not now");
    assert_eq!(refused.class(), Class::InProgress, "{}", chain(&refused));
    let refused =
        process.engine().expect("open").delete_snapshot(&snapshot_id("a", "one")).expect_err("not now");
    assert_eq!(refused.class(), Class::InProgress, "{}", chain(&refused));
    machine.host.sync_speed(16_384);
    machine.host.sleep(Duration::from_secs(60));
    process.finish().expect("finished");
    assert!(keeps_both(&mut process, "afterwards"), "it is cut");
    let begun = 0;
    machine.grown("a", "one", begun);
    check(&mut machine, &mut process, "cut");
    delete(&mut machine, &mut process, "one");
    check(&mut machine, &mut process, "deleted");
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut machine = Machine::with_volume(3);
    let mut process = machine.process();
    let full = make(&mut process, "one").expect_err("no disk is free");
    assert_eq!(full.class(), Class::Precondition, "{}", chain(&full));
    assert!(chain(&full).contains("borrow"), "{}", chain(&full));
    check(&mut machine, &mut process, "no room");
    let mut machine = Machine::with_wide_volume(2);
    let mut process = machine.process();
    let strict = SnapshotSpec { min_in_sync: 3, ..grown_spec("a", "one") };
    let few = process.engine().expect("open").create_snapshot(&strict).expect_err("too few");
    assert_eq!(few.class(), Class::Precondition, "{}", chain(&few));
    machine.grow("a", "one");
    let more = Change { images: Some(3), ..Change::default() };
    let behind = process.engine().expect("open").modify_volume(&lv("a"), &more).expect_err("in the way");
    assert_eq!(behind.class(), Class::Precondition, "{}", chain(&behind));
    assert!(chain(&behind).contains("a@one"), "{}", chain(&behind));
    let same = Change { images: Some(2), ..Change::default() };
    process.engine().expect("open").modify_volume(&lv("a"), &same).expect("it has two already");
    process.finish().expect("finished");
    check(&mut machine, &mut process, "refused");
}

#[test]
fn a_cut_waits_until_as_many_images_are_in_sync_as_were_asked_for() {
    let machine = Machine::with_wide_volume(2);
    machine.host.sync_speed(64);
    let mut process = machine.process();
    let strict = SnapshotSpec { min_in_sync: 2, ..grown_spec("a", "one") };
    process.engine().expect("open").create_snapshot(&strict).expect_err("it takes long");
    let lost = process.engine().expect("open").volumes().expect("listed")[0].slots[1].device.clone();
    machine.host.reboot();
    machine.host.break_disk(lost.as_ref(), true);
    machine.host.sync_speed(16_384);
    let mut process = machine.process();
    process.engine().expect("open").recover().expect("recovered");
    machine.host.sleep(Duration::from_secs(10));
    drop(process.engine().expect("open").advance());
    let info = process.engine().expect("open").volumes().expect("listed").remove(0);
    assert!(info.snapshots.is_empty(), "{info:?}");
    let waits = process.engine().expect("open").create_snapshot(&strict).expect_err("an image is missing");
    assert_eq!(waits.class(), Class::InProgress, "it is made later: {}", chain(&waits));
    assert!(chain(&waits).contains("missing"), "{}", chain(&waits));
    machine.host.break_disk(lost.as_ref(), false);
    machine.host.reboot();
    let mut process = machine.process();
    process.engine().expect("open").recover().expect("recovered");
    process.finish().expect("finished");
    assert!(keeps_both(&mut process, "it is back"), "and the snapshot is cut");
}

#[test]
fn a_slot_that_is_kept_empty_is_taken_by_the_next_snapshot_and_goes_with_the_last() {
    let mut machine = Machine::with_wide_volume(2);
    let mut process = machine.process();
    for name in ["one", "two"] {
        machine.grow("a", name);
        process.finish().expect("finished");
    }
    check(&mut machine, &mut process, "two");
    for (old, new) in [("one", "three"), ("two", "four")] {
        delete(&mut machine, &mut process, old);
        check(&mut machine, &mut process, "a slot is empty");
        make(&mut process, new).expect("made");
        machine.grown("a", new, 0);
        assert_eq!(machine.volumes["a"].slots(), 4, "no slot was added");
        check(&mut machine, &mut process, new);
    }
    for name in ["three", "four"] {
        delete(&mut machine, &mut process, name);
        check(&mut machine, &mut process, name);
    }
    assert_eq!(machine.volumes["a"].slots(), 2);
    let borrowed = process.engine().expect("open").create_snapshot(&snapshot_spec("a", "five"));
    assert_eq!(borrowed.expect("split").slot, 1);
}

/// Both snapshots of two that were grown, or what is left of them; the first is deleted, and its slot is kept.
fn with_slot_kept(process: &mut Process, machine: &mut Machine) {
    for name in ["one", "two"] {
        machine.grow("a", name);
        process.finish().expect("finished");
    }
    machine.host.sleep(Duration::from_secs(1));
    delete(machine, process, "one");
}

fn recovered(machine: &Machine) -> Process {
    let mut process = machine.process();
    let failed = process.engine().expect("open").recover().expect("recovered");
    assert!(failed.is_empty(), "{failed:?}");
    process.finish().expect("finished");
    process
}

#[test]
fn an_image_that_waits_to_leave_and_another_tool_merges_is_copied_in_full_and_stays() {
    let mut machine = Machine::with_wide_volume(2);
    with_slot_kept(&mut machine.process(), &mut machine);
    foreign::merge(&machine.host, "a", 2);
    let mut process = recovered(&machine);
    machine.volumes.get_mut("a").expect("a volume").images = 3;
    machine.volumes.get_mut("a").expect("a volume").grown = vec![Some("two".to_owned())];
    check(&mut machine, &mut process, "merged");
    delete(&mut machine, &mut process, "two");
    check(&mut machine, &mut process, "deleted");
}

#[test]
fn a_grown_image_that_another_tool_merges_is_one_of_the_volumes_own_from_then_on() {
    let mut machine = Machine::with_wide_volume(2);
    with_slot_kept(&mut machine.process(), &mut machine);
    foreign::merge(&machine.host, "a", 3);
    let mut process = recovered(&machine);
    let known = machine.volumes.get_mut("a").expect("a volume");
    known.snapshots.remove("two");
    (known.images, known.grown) = (3, vec![None]);
    check(&mut machine, &mut process, "merged");
    let fewer = Change { images: Some(2), ..Change::default() };
    process.engine().expect("open").modify_volume(&lv("a"), &fewer).expect("it has three");
    process.finish().expect("finished");
    let known = machine.volumes.get_mut("a").expect("a volume");
    (known.images, known.grown) = (2, Vec::new());
    check(&mut machine, &mut process, "removed");
}

#[test]
fn images_with_one_between_them_that_waits_to_leave_do_not_become_a_volume() {
    let mut machine = Machine::with_five_disks(2);
    let mut process = machine.process();
    for name in ["one", "two", "three"] {
        machine.grow("a", name);
        process.finish().expect("finished");
    }
    machine.host.sleep(Duration::from_secs(1));
    foreign::merge(&machine.host, "a", 2);
    process = recovered(&machine);
    process.engine().expect("open").delete_snapshot(&snapshot_id("a", "two")).expect("deleted");
    process.finish().expect("finished");
    foreign::merge(&machine.host, "a", 4);
    process = recovered(&machine);
    let parted = process.engine().expect("open").detach_images(&volume_spec("new", 2), &lv("a"));
    let error = parted.expect_err("they are not one after the other");
    assert_eq!(error.class(), Class::Precondition, "{}", chain(&error));
    assert!(chain(&error).contains("image 3"), "{}", chain(&error));
    let known = machine.volumes.get_mut("a").expect("a volume");
    (known.images, known.grown) = (4, vec![None]);
    known.snapshots.clear();
    check(&mut machine, &mut process, "refused");
}

#[test]
fn an_image_that_waits_to_leave_does_not_become_part_of_a_volume_that_is_made_of_those_behind_it() {
    let mut machine = Machine::with_five_disks(2);
    with_slot_kept(&mut machine.process(), &mut machine);
    foreign::merge(&machine.host, "a", 3);
    recovered(&machine);
    machine.volumes.get_mut("a").expect("a volume").snapshots.remove("two");
    machine.set_images(4);
    let begun = machine.host.journal(&top("a")).acknowledged.len();
    let mut process = machine.process();
    let made =
        process.engine().expect("open").detach_images(&volume_spec("new", 2), &lv("a")).expect("spared");
    assert_eq!(made.slots.len(), 2, "{made:?}");
    machine.parted("new", 2, "a", begun);
    process.finish().expect("finished");
    machine.volumes.get_mut("a").expect("a volume").grown = Vec::new();
    check(&mut machine, &mut process, "apart");
    let left = process.engine().expect("open").volume("a").expect("looked").expect("a volume");
    assert_eq!(left.slots.len(), 2, "what waited has left: {left:?}");
}
