//! What one fault leaves must not stand in the way of something else, and what another tool left is put right.

use std::time::Duration;

use splitmirror::host::sim::{Cut, Fault, Stop, run};
use splitmirror::host::{Blocks as _, DeviceMapper};
use splitmirror::report::{Class, chain};
use splitmirror::units::Bytes;
use splitmirror::volume::spec::{RollbackSpec, SnapshotSpec};
use splitmirror::volume::tune::Change;

use crate::check::check;
use crate::foreign;
use crate::machine::{Machine, Process, SIZE, clone_spec, group_spec, lv, snapshot_id, snapshot_spec, top};

const EIO: i32 = 5;

fn split(name: &str) -> impl Fn(&mut Process) -> splitmirror::engine::Result<()> + '_ {
    move |process| process.engine()?.create_snapshot(&snapshot_spec("a", name)).map(drop)
}

/// How many calls to the machine an operation makes.
fn calls(before: &Machine, work: impl Fn(&mut Process) -> splitmirror::engine::Result<()>) -> u64 {
    let rehearsal = before.fork(0);
    rehearsal.host.arm(None);
    work(&mut rehearsal.process()).unwrap_or_else(|error| panic!("rehearsal: {}", chain(&error)));
    u64::try_from(rehearsal.host.trace().len()).expect("few calls")
}

#[test]
fn a_split_that_failed_half_way_keeps_nobody_from_another_one_nor_from_a_merge() {
    let before = Machine::with_volume(3);
    for call in 0..calls(&before, split("one")) {
        for done in [false, true] {
            let context = format!("call {call}, {}", if done { "done" } else { "not done" });
            let mut machine = before.fork(call);
            machine.host.arm(Some(Fault::Errno { call, errno: EIO, done }));
            let mut process = machine.process();
            drop(split("one")(&mut process));
            machine.host.arm(None);
            machine.host.sleep(Duration::from_millis(200));
            let begun = machine.host.journal(&top("a")).acknowledged.len();
            process.insist(|process| split("two")(process)).unwrap_or_else(|error| {
                panic!("{context}: another: {}", chain(&error));
            });
            machine.snapped("a", "two", begun);
            process
                .insist(|process| process.engine()?.delete_snapshot(&snapshot_id("a", "one")))
                .unwrap_or_else(|error| panic!("{context}: merge: {}", chain(&error)));
            machine.start_again(Stop::Killed);
            let mut process = machine.process();
            process.engine().expect("open").recover().expect("recovered");
            process.finish().expect("finished");
            check(&mut machine, &mut process, &context);
        }
    }
}

#[test]
fn a_split_of_another_tool_survives_a_power_cut_in_a_split_of_ours() {
    let mut before = Machine::with_volume(3);
    before.split("a", "one");
    let slot = before.process().engine().expect("open").snapshots().expect("listed")[0].slot;
    foreign::disown(&before.host, &format!("a_rimage_{slot}"));
    for call in 0..calls(&before, split("two")) {
        let mut machine = before.fork(call);
        machine.host.arm(Some(Fault::PowerCut { call, at: Cut::After }));
        let mut process = machine.process();
        let stopped = run(|| split("two")(&mut process));
        machine.host.arm(None);
        if let Err(stop) = stopped {
            machine.start_again(stop);
        }
        let mut process = machine.process();
        let engine = process.engine().expect("open");
        let failed = engine.recover().expect("recovered");
        assert!(failed.is_empty(), "call {call}: {failed:?}");
        let snapshots = engine.snapshots().expect("listed");
        assert!(
            snapshots.iter().any(|snapshot| snapshot.slot == slot && snapshot.name.is_none()),
            "call {call}: {snapshots:?}"
        );
        process.insist(|process| split("two")(process)).expect("split");
    }
}

#[test]
fn what_a_tool_left_held_back_when_it_died_goes_on_after_a_start() {
    let mut machine = Machine::with_volume(3);
    machine.split("a", "one");
    foreign::die_in_a_change(&machine.host);
    machine.start_again(Stop::Killed);
    let mut process = machine.process();
    let failed = process.engine().expect("open").recover().expect("recovered");
    assert!(failed.is_empty(), "{failed:?}");
    machine.host.sleep(Duration::from_secs(1));
    process.finish().expect("finished");
    check(&mut machine, &mut process, "after the start");
    machine.merge_all(&mut process).expect("merged");
    check(&mut machine, &mut process, "all merged");
}

#[test]
fn an_image_that_somebody_has_open_is_not_split_off() {
    let machine = Machine::with_volume(2);
    machine.host.hold("vg-a_rimage_1", true);
    let mut process = machine.process();
    let refused = split("one")(&mut process).expect_err("it is open");
    assert!(chain(&refused).contains("close"), "{}", chain(&refused));
    assert!(process.engine().expect("open").snapshots().expect("listed").is_empty());
    machine.host.hold("vg-a_rimage_1", false);
    split("one")(&mut process).expect("split");
    let info = machine.host.dm_info("vg-a_rimage_1").expect("looked").expect("a device");
    assert!(info.read_only);
}

#[test]
fn a_rollback_that_was_carried_out_is_not_repeated_for_the_same_request() {
    let mut machine = Machine::with_volume(2);
    machine.split("a", "one");
    machine.rest();
    let mut process = machine.process();
    let engine = process.engine().expect("open");
    let device = engine.open_device("a").expect("it is up").path;
    let back =
        |request: &str| RollbackSpec { snapshot: snapshot_id("a", "one"), request: Some(request.to_owned()) };
    let (old, new) = (vec![1; 4096], vec![2; 4096]);
    let first = || engine.host().read(&device, Bytes::ZERO, Bytes::kib(4)).expect("readable");
    let split = first();
    engine.host().write(&device, Bytes::ZERO, &old).expect("writable");
    engine.begin_rollback(&back("monday")).expect("begun");
    let other = engine.begin_rollback(&back("tuesday")).expect_err("another one is under way");
    assert_eq!(other.class(), Class::Precondition);
    let info = engine.volume("a").expect("listed").expect("there");
    let told = info.rollback.expect("it is told");
    assert_eq!((told.request.as_deref(), info.rolled_back_for), (Some("monday"), None));
    assert!(told.total > Bytes::ZERO, "{told:?}");
    while engine.advance().expect("advanced") {}
    assert_eq!(first(), split, "it is as it was");

    engine.host().write(&device, Bytes::ZERO, &new).expect("writable");
    engine.begin_rollback(&back("monday")).expect("it was done");
    while engine.advance().expect("advanced") {}
    assert_eq!(first(), new, "what was written since is there");
    let info = engine.volume("a").expect("listed").expect("there");
    assert_eq!((info.rollback, info.rolled_back_for.as_deref()), (None, Some("monday")));

    engine.begin_rollback(&back("tuesday")).expect("begun");
    while engine.advance().expect("advanced") {}
    assert_eq!(first(), split);
}

#[test]
fn a_group_that_another_tool_took_a_member_from_is_not_ready_and_can_be_deleted() {
    let mut machine = Machine::with_two_volumes(2);
    let mut process = machine.process();
    let spec = group_spec("both", &["a", "b"]);
    let engine = process.engine().expect("open");
    let group = engine.create_group_snapshot(&spec).expect("split");
    assert!(group.ready);
    let of_b = group.snapshots.iter().find(|snapshot| snapshot.volume.as_str() == "b").expect("a member");
    foreign::disown(&machine.host, &format!("b_rimage_{}", of_b.slot));
    let left = engine.group_snapshots().expect("listed");
    assert!(!left[0].ready && left[0].snapshots.len() == 1, "{left:?}");
    let again = engine.create_group_snapshot(&spec).expect_err("it is not the group that was asked for");
    assert_eq!(again.class(), Class::Precondition, "{}", chain(&again));
    engine.delete_group_snapshot("both").expect("deleted");
    engine.delete_snapshot(&snapshot_id("b", &format!("image-{}", of_b.slot))).expect("merged");
    process.finish().expect("finished");
    check(&mut machine, &mut process, "all merged");
}

#[test]
fn a_group_takes_no_name_twice_and_its_members_are_not_deleted_alone() {
    let mut machine = Machine::with_two_volumes(3);
    machine.split("a", "one");
    let mut process = machine.process();
    let engine = process.engine().expect("open");
    let class = |error: splitmirror::engine::Error| error.class();
    let create = |name: &str, volumes: &[&str]| engine.create_group_snapshot(&group_spec(name, volumes));
    assert_eq!(create("none", &[]).map_err(class).err(), Some(Class::Invalid));
    assert_eq!(create("one", &["a", "b"]).map_err(class).err(), Some(Class::Exists), "a snapshot's");
    assert_eq!(create("both", &["a", "c"]).map_err(class).err(), Some(Class::NotFound));
    create("both", &["a", "b"]).expect("split");
    assert_eq!(create("both", &["a"]).map_err(class).err(), Some(Class::Exists), "another group's");
    let single = engine.create_snapshot(&snapshot_spec("a", "both"));
    assert_eq!(single.map_err(class).err(), Some(Class::Exists), "a group's");
    let alone = engine.delete_snapshot(&snapshot_id("a", "both"));
    assert_eq!(alone.map_err(class).err(), Some(Class::Invalid));
    assert_eq!(
        create("more", &["a", "b"]).map_err(class).err(),
        Some(Class::Precondition),
        "b has no image left"
    );
    engine.create_view("look", &snapshot_id("b", "both")).expect("a view");
    assert_eq!(engine.delete_group_snapshot("both").map_err(class).err(), Some(Class::Precondition));
    assert_eq!(engine.group_snapshots().expect("listed")[0].snapshots.len(), 2, "all members stay");
    engine.delete_volume("look").expect("gone");
    machine.snapped_together("both", &["a", "b"], 0);
    process.finish().expect("finished");
    check(&mut machine, &mut process, "as it was");
}

#[test]
fn images_that_a_snapshot_needs_in_sync_are_not_split_off_for_another() {
    let mut machine = Machine::with_wide_volume(4);
    let strict = SnapshotSpec { min_in_sync: 3, ..snapshot_spec("a", "one") };
    let begun = machine.host.journal(&top("a")).acknowledged.len();
    let mut process = machine.process();
    let engine = process.engine().expect("open");
    engine.create_snapshot(&strict).expect("three stay");
    let refused = engine.create_snapshot(&snapshot_spec("a", "two")).expect_err("it would leave two");
    let cloned = engine.clone_volume(&clone_spec(SIZE), &lv("a"), 1).expect_err("so would its image");
    for error in [refused, cloned] {
        assert_eq!(error.class(), Class::Precondition);
        assert!(chain(&error).contains("3 must stay"), "{}", chain(&error));
    }
    assert_eq!(engine.snapshots().expect("listed").len(), 1);
    machine.snapped("a", "one", begun);
    machine.merge_all(&mut process).expect("merged");
    process.engine().expect("open").create_snapshot(&snapshot_spec("a", "two")).expect("nobody needs it");
    machine.snapped("a", "two", begun);
    check(&mut machine, &mut process, "split again");
}

#[test]
fn images_that_a_snapshot_needs_in_sync_do_not_leave_while_it_lasts() {
    let mut machine = Machine::with_wide_volume(4);
    // Its image is the first one, so that it is not itself in the way.
    machine.slow_first_image();
    let strict = SnapshotSpec { min_in_sync: 3, ..snapshot_spec("a", "one") };
    let begun = machine.host.journal(&top("a")).acknowledged.len();
    machine.process().engine().expect("open").create_snapshot(&strict).expect("three stay");
    machine.snapped("a", "one", begun);
    // What it needs is on the disks.
    machine.start_again(Stop::PowerCut);
    let mut process = machine.process();
    process.engine().expect("open").recover().expect("recovered");
    process.finish().expect("finished");
    let fewer = Change { images: Some(3), ..Change::default() };
    let engine = process.engine().expect("open");
    assert_eq!(engine.snapshots().expect("listed")[0].min_in_sync, 3);
    let refused = engine.modify_volume(&lv("a"), &fewer).expect_err("it would leave two");
    assert_eq!(refused.class(), Class::Precondition);
    assert!(chain(&refused).contains("3 must stay"), "{}", chain(&refused));
    check(&mut machine, &mut process, "refused");
    machine.merge_all(&mut process).expect("merged");
    process.engine().expect("open").modify_volume(&lv("a"), &fewer).expect("nobody needs it");
    machine.volumes.get_mut("a").expect("a volume").images = 3;
    check(&mut machine, &mut process, "an image has left");
}
