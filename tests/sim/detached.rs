//! What must not become a volume, and what becomes of a slot for which there is no room.

use std::time::Duration;

use splitmirror::engine::{Settings, pool};
use splitmirror::host::sim::Stop;
use splitmirror::report::{Class, chain};
use splitmirror::units::Bytes;
use splitmirror::volume::key;
use splitmirror::volume::spec::VolumeSpec;

use crate::check::check;
use crate::foreign;
use crate::machine::{LARGER, Machine, SIZE, clone_spec, group_spec, lv, snapshot_id, vg, volume_spec};

/// The metadata's version, so that it is known whether anything was changed.
fn seqno(machine: &Machine) -> u64 {
    pool::show(&machine.host, &vg(), &Settings::default()).expect("a pool").seqno
}

fn refused(machine: &Machine, spec: &VolumeSpec, snapshot: &str, class: Class) {
    let before = seqno(machine);
    let answer = machine.process().engine().expect("open").detach_snapshot(spec, snapshot);
    let error = answer.expect_err("it is refused");
    assert_eq!(error.class(), class, "{}", chain(&error));
    assert_eq!(seqno(machine), before, "nothing was changed: {}", chain(&error));
}

fn with_split() -> Machine {
    let mut machine = Machine::with_wide_volume(3);
    machine.split("a", "one");
    machine.host.sleep(Duration::from_secs(1));
    machine
}

#[test]
fn what_does_not_fit_or_is_not_there_does_not_become_a_volume() {
    let mut machine = with_split();
    let one = snapshot_id("a", "one");
    refused(&machine, &volume_spec("new", 2), "a@two", Class::NotFound);
    refused(&machine, &volume_spec("new", 2), "nothing", Class::NotFound);
    refused(&machine, &volume_spec("a", 2), &one, Class::Exists);
    refused(&machine, &volume_spec("new", 1), &one, Class::Invalid);
    refused(&machine, &volume_spec("new", 4), &one, Class::OutOfRange);
    refused(&machine, &VolumeSpec { size: LARGER, ..volume_spec("new", 2) }, &one, Class::OutOfRange);
    let limit = Some(Bytes(SIZE.0 - 1));
    refused(
        &machine,
        &VolumeSpec { limit, size: Bytes::ZERO, ..volume_spec("new", 2) },
        &one,
        Class::OutOfRange,
    );
    machine.create("b", 2);
    refused(&machine, &volume_spec("b", 2), &one, Class::Exists);
}

/// The kernel goes by how many slots there were when the image left, which its superblock tells.
#[test]
fn a_snapshot_becomes_a_volume_of_as_many_images_as_there_were_when_it_was_cut() {
    let mut machine = Machine::with_five_disks(2);
    machine.split("a", "one");
    machine.set_images(4);
    let one = snapshot_id("a", "one");
    refused(&machine, &volume_spec("new", 3), &one, Class::OutOfRange);
    let mut process = machine.process();
    let made =
        process.engine().expect("open").detach_snapshot(&volume_spec("new", 2), &one).expect("detached");
    assert_eq!(made.slots.len(), 2, "{made:?}");
    machine.detached("new", 2, "a", "one");
    process.finish().expect("finished");
    check(&mut machine, &mut process, "detached");
}

#[test]
fn a_snapshot_that_is_needed_does_not_become_a_volume() {
    let new = volume_spec("new", 2);
    let one = snapshot_id("a", "one");
    let shown = with_split();
    shown.process().engine().expect("open").create_view("look", &one).expect("a view");
    refused(&shown, &new, &one, Class::Precondition);

    let copied = with_split();
    copied.process().engine().expect("open").create_clone(&clone_spec(SIZE), &one).expect("a clone");
    refused(&copied, &new, &one, Class::InProgress);

    let lent = Machine::with_wide_volume(3);
    let spec = clone_spec(SIZE);
    lent.process().engine().expect("open").clone_volume(&spec, &lv("a"), 1).expect("a clone");
    refused(&lent, &new, &key::snapshot_id(&lv("a"), &key::of("clone c")), Class::InProgress);

    let mounted = with_split();
    let volume = mounted.process().engine().expect("open").volume("a").expect("looked").expect("there");
    let split = volume.slots.iter().find(|slot| slot.snapshot.is_some()).expect("a split");
    mounted.host.hold(&format!("vg-a_rimage_{}", split.index), true);
    refused(&mounted, &new, &one, Class::Precondition);

    let mut of_group = Machine::with_two_volumes(2);
    let mut process = of_group.process();
    let engine = process.engine().expect("open");
    engine.create_group_snapshot(&group_spec("both", &["a", "b"])).expect("split");
    of_group.snapped_together("both", &["a", "b"], 0);
    refused(&of_group, &new, &snapshot_id("a", "both"), Class::Invalid);

    let mut grown = Machine::with_wide_volume(2);
    grown.grow("a", "one");
    refused(&grown, &new, &one, Class::Invalid);
}

#[test]
fn a_snapshot_that_became_a_volume_is_told_of_and_deleting_it_removes_nothing() {
    let machine = with_split();
    let one = snapshot_id("a", "one");
    let mut process = machine.process();
    let engine = process.engine().expect("open");
    engine.detach_snapshot(&volume_spec("new", 2), &one).expect("detached");
    engine.delete_snapshot(&one).expect("it is gone already");
    assert!(engine.snapshots().expect("listed").is_empty());
    assert!(engine.volume("new").expect("looked").is_some());
    let error = engine.create_view("look", &one).expect_err("it is gone");
    assert_eq!(error.class(), Class::NotFound);
    assert!(chain(&error).contains("it is volume new now"), "{}", chain(&error));
    refused(&machine, &volume_spec("other", 2), &one, Class::NotFound);
}

/// Two disks are full but for less than an image, and the snapshot is on one of them.
#[test]
fn a_slot_for_which_there_is_no_room_is_told_of_and_gets_an_image_when_there_is() {
    let mut machine = Machine::with_volume(3);
    let free = pool::show(&machine.host, &vg(), &Settings::default()).expect("a pool").disks[0].free;
    let mut process = machine.process();
    let engine = process.engine().expect("open");
    let size = Bytes(free.0 - Bytes::mib(1).0);
    let full = engine.create_volume(&VolumeSpec { size, ..volume_spec("full", 2) }).expect("room for it");
    machine.host.rotate(full.slots[0].device.as_ref());
    machine.split("a", "one");
    machine.host.sleep(Duration::from_secs(1));
    let mut process = machine.process();
    let engine = process.engine().expect("open");
    engine.detach_snapshot(&volume_spec("new", 2), &snapshot_id("a", "one")).expect("detached");
    machine.detached("new", 2, "a", "one");
    process.finish().expect("what has no room is not under way");
    for foreign in [false, true] {
        machine.start_again(Stop::PowerCut);
        if foreign {
            foreign::activate(&machine.host);
        }
        process = machine.process();
        let engine = process.engine().expect("open");
        assert_eq!(engine.recover().expect("recovered"), []);
        process.finish().expect("what has no room is not under way");
        let engine = process.engine().expect("open");
        let told = engine.volume("a").expect("looked").expect("a volume").problems;
        assert!(told.iter().any(|told| told.contains("has no image")), "{told:?}");
        let told = engine.volume("new").expect("looked").expect("a volume").problems;
        assert!(told.is_empty(), "{told:?}");
        let error = engine.expand_volume(&lv("a"), LARGER, None).expect_err("an image is missing");
        assert!(!matches!(error.class(), Class::Internal | Class::InProgress), "{}", chain(&error));
    }
    process.engine().expect("open").delete_volume("full").expect("deleted");
    process.finish().expect("filled");
    check(&mut machine, &mut process, "there is room");
}
