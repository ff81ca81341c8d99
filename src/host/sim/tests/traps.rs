//! Legs that end up different while the status says `A`.

use std::time::Duration;

use super::{LEN, Rig};
use crate::host::sim::{Cut, Fault, run};
use crate::host::{Blocks, DeviceMapper};
use crate::units::Sectors;

const NONE: usize = 99;

#[test]
fn loading_before_suspending_under_load_leaves_legs_different_and_says_in_sync() {
    // [E1]
    let rig = Rig::new(2);
    rig.busy();
    rig.host.sleep(Duration::from_secs(1));
    rig.swap_loading_first(&[0, NONE]);
    rig.host.sleep(Duration::from_secs(6));
    rig.swap_loading_first(&[0, 1]);
    assert_eq!(rig.state(), "AA idle");
    rig.settle();
    rig.host.rest("top");
    assert!(!rig.differences(0, 1).is_empty());
}

#[test]
fn one_more_suspend_and_resume_before_the_merge_makes_even_that_right() {
    // [E2]
    let rig = Rig::new(2);
    rig.busy();
    rig.swap_loading_first(&[0, NONE]);
    rig.host.sleep(Duration::from_secs(6));
    rig.pin();
    rig.swap_loading_first(&[0, 1]);
    rig.settle();
    rig.assert_equal();
    rig.assert_journal();
}

#[test]
fn suspending_before_loading_is_right_under_load_for_each_slot() {
    // [E6]
    for slot in 0..2 {
        let rig = Rig::new(2);
        rig.busy();
        rig.host.sleep(Duration::from_secs(1));
        rig.swap(&if slot == 0 { [NONE, 1] } else { [0, NONE] });
        rig.pin();
        rig.host.sleep(Duration::from_secs(6));
        assert!(!rig.differences(0, 1).is_empty());
        rig.swap(&[0, 1]);
        rig.host.sleep(Duration::from_millis(60));
        assert!(rig.state().ends_with("recover"), "{}", rig.status());
        rig.settle();
        assert_eq!(rig.state(), "AA idle");
        rig.assert_equal();
        rig.assert_journal();
    }
}

#[test]
fn two_splits_outstanding_merge_in_either_order_under_load() {
    // [t23]
    for order in [[2, 1], [1, 2]] {
        let rig = Rig::new(3);
        rig.busy();
        rig.swap(&[0, 1, NONE]);
        rig.pin();
        rig.host.sleep(Duration::from_secs(6));
        rig.swap(&[0, NONE, NONE]);
        rig.pin();
        rig.host.sleep(Duration::from_secs(6));
        let mut legs = [0, NONE, NONE];
        for slot in order {
            legs[slot] = slot;
            rig.swap(&legs);
            rig.settle();
        }
        assert_eq!(rig.state(), "AAA idle");
        rig.assert_equal();
        rig.assert_journal();
    }
}

#[test]
fn marks_stay_while_any_slot_is_empty() {
    // [E4]
    let rig = Rig::new(3);
    rig.settle();
    rig.settle();
    rig.swap(&[0, 1, NONE]);
    rig.pin();
    rig.write(3);
    rig.swap(&[0, NONE, NONE]);
    rig.pin();
    rig.write(5);
    rig.swap(&[0, NONE, 2]);
    rig.settle();
    rig.settle();
    assert_eq!(rig.rmeta(0).marked, vec![3, 5]);
    assert_eq!(rig.differences(0, 2), Vec::<u64>::new());
    rig.write(9);
    rig.swap(&[0, 1, 2]);
    rig.settle();
    rig.assert_equal();
    rig.settle();
    assert_eq!(rig.rmeta(0).marked, Vec::<u64>::new());
}

#[test]
fn a_merge_copies_nothing_but_what_is_marked() {
    let rig = Rig::new(2);
    rig.settle();
    rig.settle();
    rig.swap(&[0, NONE]);
    rig.pin();
    rig.write(5);
    rig.host.poke("/dev/mapper/rimage1", Sectors(20 * super::REGION), &[1; 512]);
    rig.swap(&[0, 1]);
    rig.settle();
    assert_eq!(rig.differences(0, 1), vec![20 * super::REGION], "damage elsewhere is not repaired");
    rig.host.dm_message("top", "repair").expect("accepted");
    rig.settle();
    rig.assert_equal();
}

#[test]
fn the_pin_is_on_disk_and_says_which_slot_is_missing() {
    let rig = Rig::new(2);
    rig.settle();
    let before = rig.rmeta(1).events;
    rig.swap(&[0, NONE]);
    rig.write(5);
    assert_eq!(rig.rmeta(0).failed, 0, "nothing on disk says that slot 1 is gone");
    rig.pin();
    let (kept, gone) = (rig.rmeta(0), rig.rmeta(1));
    assert_eq!((kept.failed, kept.marked.as_slice()), (2, [5].as_slice()));
    assert!(kept.events > before && kept.bitmap_events == kept.events && kept.events_cleared < kept.events);
    assert_eq!((gone.failed, gone.position), (0, 1));
}

#[test]
fn a_slot_emptied_in_the_middle_of_its_rebuild_is_taken_back_unfinished() {
    // [t15]
    let rig = Rig::new(2);
    for region in 0..32 {
        rig.write(region);
    }
    rig.settle();
    rig.settle();
    rig.suspend();
    rig.host
        .zero(
            std::path::Path::new("/dev/mapper/rimage1"),
            crate::units::Bytes(0),
            crate::units::Bytes(LEN * 512),
        )
        .expect("lost");
    rig.load_with(&[0, 1], "rebuild 1 ");
    rig.resume();
    rig.host.sleep(Duration::from_millis(60));
    assert_eq!(rig.state(), "Aa recover");
    rig.swap(&[0, NONE]);
    rig.pin();
    rig.swap(&[0, 1]);
    rig.settle();
    assert_eq!(rig.state(), "AA idle");
    assert!(!rig.differences(0, 1).is_empty());
}

#[test]
fn a_rebuild_that_is_interrupted_with_its_slot_in_place_goes_on() {
    // [t15]
    let rig = Rig::new(2);
    for region in 0..32 {
        rig.write(region);
    }
    rig.suspend();
    rig.load_with(&[0, 1], "rebuild 1 ");
    rig.host
        .zero(
            std::path::Path::new("/dev/mapper/rimage1"),
            crate::units::Bytes(0),
            crate::units::Bytes(LEN * 512),
        )
        .expect("lost");
    rig.resume();
    rig.host.sleep(Duration::from_millis(100));
    rig.swap(&[0, 1]);
    rig.settle();
    assert_eq!(rig.state(), "AA idle");
    rig.assert_equal();
}

#[test]
fn a_leg_that_comes_back_under_another_number_is_trusted() {
    // [t21]
    let rig = Rig::new(3);
    rig.settle();
    rig.swap(&[0, 1, NONE]);
    rig.pin();
    rig.write(3);
    rig.swap(&[0, NONE]); // slot 1 leaves for good, the array has two slots now
    rig.pin();
    rig.write(4);
    rig.swap(&[0, 2]);
    rig.settle();
    assert_eq!(rig.state(), "AA idle");
    assert!(!rig.differences(0, 2).is_empty());
}

#[test]
fn a_table_with_as_many_empty_slots_as_the_array_had_slots_is_refused() {
    // [6.1 and 7.2: `rebuild 2` with five slots, three of them empty, of an array of two]
    let rig = Rig::new(3);
    rig.settle();
    rig.swap(&[0, NONE]);
    rig.pin();
    rig.suspend();
    assert!(rig.try_load(&[0, NONE, 2, NONE], "rebuild 2 ").is_err());
    rig.load_with(&[0, NONE, 2], "rebuild 2 ");
    rig.resume();
    rig.settle();
    assert_eq!(rig.differences(0, 2), Vec::<u64>::new());
}

#[test]
fn a_stale_bitmap_means_no_copy_at_all() {
    let rig = Rig::new(2);
    rig.settle();
    rig.swap(&[0, NONE]);
    rig.pin();
    rig.write(7);
    rig.suspend();
    let mut page = rig.host.peek("/dev/mapper/rmeta0", Sectors(8), Sectors(1));
    let events = rig.rmeta(0).bitmap_events - 1;
    page[24..32].copy_from_slice(&events.to_le_bytes());
    rig.host.poke("/dev/mapper/rmeta0", Sectors(8), &page);
    rig.load_with(&[0, 1], "");
    rig.resume();
    rig.settle();
    assert_eq!(rig.state(), "AA idle");
    assert!(!rig.differences(0, 1).is_empty());
}

#[test]
fn a_table_that_never_ran_erases_the_marks_on_disk_when_it_is_replaced() {
    let rig = Rig::new(2);
    rig.settle();
    rig.swap(&[0, NONE]);
    rig.pin();
    rig.write(7);
    rig.suspend();
    assert_eq!(rig.rmeta(0).marked, vec![7]);
    rig.load_with(&[0, 1], "");
    rig.load_with(&[0, 1], ""); // the first one is dropped: its page has no bits
    assert_eq!(rig.rmeta(0).marked, Vec::<u64>::new());
    rig.resume();
    rig.settle();
    assert_eq!(rig.state(), "AA idle");
    assert!(!rig.differences(0, 1).is_empty());
}

#[test]
fn a_rebuild_erases_the_marks_of_other_splits() {
    for (options, equal) in [("", true), ("rebuild 1 ", false)] {
        let rig = Rig::new(3);
        rig.settle();
        rig.swap(&[0, 1, NONE]);
        rig.pin();
        rig.swap(&[0, NONE, NONE]);
        rig.pin();
        rig.write(7);
        rig.suspend();
        rig.load_with(&[0, 1, NONE], options);
        rig.resume();
        rig.settle();
        assert_eq!(rig.differences(0, 1), Vec::<u64>::new());
        rig.swap(&[0, 1, 2]);
        rig.settle();
        assert_eq!(rig.state(), "AAA idle");
        assert_eq!(rig.differences(0, 2).is_empty(), equal, "{options}");
    }
}

#[test]
fn power_lost_among_the_superblocks_of_a_merge_can_leave_the_leg_trusted() {
    let mut trusted = 0;
    for request in 0..40 {
        let rig = Rig::new(2);
        rig.settle();
        rig.swap(&[0, NONE]);
        rig.pin();
        rig.write(7);
        rig.write(25);
        rig.swap(&[0, 1]);
        rig.host
            .arm(Some(Fault::PowerCut { call: 0, at: Cut::Inside { request, sixteenths: 0, torn: false } }));
        run(|| crate::host::Entropy::pause(&rig.host, Duration::from_secs(1))).expect_err("power is lost");
        rig.reboot(&[0, 1]);
        rig.settle();
        assert_eq!(rig.state(), "AA idle");
        trusted += u32::from(!rig.differences(0, 1).is_empty());
    }
    assert!(trusted > 0, "no cut was in the gap between the superblocks");
}
