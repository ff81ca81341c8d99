//! Regions that cannot be changed, or not now.

use splitmirror::report::{Class, chain};
use splitmirror::units::Bytes;
use splitmirror::volume::tune::Change;

use crate::check::check;
use crate::foreign;
use crate::machine::{Machine, Process, REGION, SIZE, lv, snapshot_id};

/// Gives the volume `a` other regions.
pub fn change(process: &mut Process, size: Bytes) -> splitmirror::engine::Result<()> {
    let change = Change { region_size: Some(size), ..Change::default() };
    process.engine()?.modify_volume(&lv("a"), &change).map(drop)
}

/// The regions of the running array.
fn running(machine: &Machine) -> Bytes {
    machine.table("a").region_size.bytes()
}

#[test]
fn regions_that_cannot_be_are_refused_with_the_reason_and_nothing_is_changed() {
    let mut machine = Machine::with_volume(3);
    let mut process = machine.process();
    for (size, says) in [(Bytes(3072), "power of two"), (SIZE * 2, "larger"), (Bytes::ZERO, "power of two")] {
        let error = change(&mut process, size).expect_err("impossible");
        assert_eq!(error.class(), Class::Invalid, "{}", chain(&error));
        assert!(chain(&error).contains(says), "{}", chain(&error));
    }
    machine.split("a", "one");
    let error = change(&mut process, REGION * 2).expect_err("a snapshot depends on them");
    assert_eq!(error.class(), Class::Precondition, "{}", chain(&error));
    assert!(chain(&error).contains("snapshot one"), "{}", chain(&error));
    assert_eq!(
        (running(&machine), process.engine().expect("open").volumes().expect("listed")[0].region_size),
        (REGION, REGION)
    );
    process.engine().expect("open").delete_snapshot(&snapshot_id("a", "one")).expect("merged");
    process.finish().expect("finished");
    machine.volumes.get_mut("a").expect("a volume").merged("one");

    let disk = machine.disks[2].clone();
    machine.host.break_disk(&disk, true);
    machine.host.sleep(std::time::Duration::from_secs(2));
    let error = change(&mut process, REGION * 2).expect_err("an image is missing");
    assert_eq!(error.class(), Class::Precondition, "{}", chain(&error));
    assert!(chain(&error).contains("missing"), "{}", chain(&error));
    assert_eq!(running(&machine), REGION);
}

/// What the kernel marks for an image that is split off is not given to it in other regions.
#[test]
fn an_array_whose_metadata_has_other_regions_keeps_its_own_while_an_image_is_out() {
    let mut machine = Machine::with_volume(3);
    machine.split("a", "one");
    foreign::set_region_size(&machine.host, "a", REGION * 4);
    let mut process = machine.process();
    process.engine().expect("open").activate(&lv("a")).expect("up");
    assert_eq!(running(&machine), REGION, "beside a split");
    machine.host.sleep(std::time::Duration::from_millis(500));
    process.engine().expect("open").delete_snapshot(&snapshot_id("a", "one")).expect("merged");
    process.finish().expect("finished");
    machine.volumes.get_mut("a").expect("a volume").merged("one");
    change(&mut process, REGION * 4).expect("nothing is in the way");
    assert_eq!(running(&machine), REGION * 4, "when it is back");
    check(&mut machine, &mut process, "merged");
}
