use super::*;
use crate::raid::bitmap::{Bitmap, BitmapHeader, STATE_STALE, STATE_WRITE_ERROR};
use crate::units::Bytes;

mod cuts;
mod model;
mod traps;
mod windows;

const ARRAY: Sectors = Sectors(131_072);

/// A leg of a three-slot array at this event, with bits last cleared at `cleared`.
fn leg(slot: u32, events: u64, cleared: u64) -> LegMeta {
    let header = BitmapHeader { events, events_cleared: cleared, ..BitmapHeader::new(ARRAY, Bytes::mib(2)) };
    LegMeta {
        superblock: Some(Superblock { events, ..Superblock::new(3, slot, ARRAY) }),
        bitmap: Some(Bitmap::new(header, ARRAY)),
    }
}

fn with(mut leg: LegMeta, change: impl FnOnce(&mut Superblock, &mut BitmapHeader)) -> LegMeta {
    let bitmap = leg.bitmap.as_mut().expect("given");
    change(leg.superblock.as_mut().expect("given"), &mut bitmap.header);
    leg
}

/// A survivor of the split of slot 1, pinned: as read back from a real array.
fn survivor(slot: u32) -> LegMeta {
    with(leg(slot, 21, 20), |sb, _| sb.set_failed(1, true))
}

fn split() -> LegMeta {
    leg(1, 20, 20)
}

fn merge(survivors: &[LegMeta], returning: &LegMeta) -> Merge {
    let slots = [0, 2];
    let survivors: Vec<(usize, &LegMeta)> = slots.into_iter().zip(survivors).collect();
    may_merge(&survivors, 1, returning, Some(20))
}

#[test]
fn a_pinned_split_says_which_event_to_record() {
    let (a, b) = (survivor(0), survivor(2));
    assert_eq!(split_is_pinned(&[(0, &a), (2, &b)], 1, &split()), Ok(20));
}

#[test]
fn a_split_that_one_survivor_does_not_know_of_is_not_pinned() {
    let (a, b) = (survivor(0), leg(2, 21, 20));
    let refused = split_is_pinned(&[(0, &a), (2, &b)], 1, &split()).expect_err("not pinned");
    assert_eq!(refused, NotPinned { slot: 1, why: Why::NotKnownMissing { survivor: 2, slot: 1 } });
    assert_eq!(
        crate::report::chain(&refused),
        "what was done to slot 1 is not durable: slot 2 does not know that slot 1 was missing"
    );
}

#[test]
fn a_merge_is_pinned_when_all_superblocks_say_so() {
    let pinned = |a: &LegMeta, b: &LegMeta| merge_is_pinned(&[(0, a)], 1, b).map_err(|refused| refused.why);
    assert_eq!(pinned(&leg(0, 24, 20), &leg(1, 24, 20)), Ok(()));
    assert_eq!(pinned(&leg(0, 25, 20), &leg(1, 24, 20)), Ok(()));
    assert_eq!(pinned(&survivor(0), &leg(1, 22, 20)), Err(Why::Disowned { slot: 1, by: 0 }));
    assert_eq!(pinned(&leg(0, 24, 20), &leg(1, 20, 20)), Err(Why::Behind { slot: 1, by: 4 }));
    let partial = with(leg(1, 24, 20), |sb, _| sb.disk_recovery_offset = Sectors(8));
    assert_eq!(pinned(&leg(0, 24, 20), &partial), Err(Why::NotWhole { slot: 1, upto: Sectors(8) }));
    assert!(merge_is_pinned(&[], 1, &leg(1, 24, 20)).is_err());
}

#[test]
fn a_split_without_survivors_is_not_pinned() {
    assert!(split_is_pinned(&[], 1, &split()).is_err());
}

#[test]
fn a_pinned_split_is_merged_by_marks() {
    assert_eq!(merge(&[survivor(0), survivor(2)], &split()), Merge::Tracked);
}

#[test]
fn each_broken_invariant_makes_the_merge_a_full_one() {
    type Break = fn(&mut Superblock, &mut BitmapHeader);
    let survivors: [(Break, Why); 11] = [
        (|sb, _| sb.set_failed(1, false), Why::NotKnownMissing { survivor: 2, slot: 1 }),
        (|sb, _| sb.events = 20, Why::NotOlder { survivor: 2, events: 20, leg: 20 }),
        (|sb, _| sb.events = 19, Why::NotOlder { survivor: 2, events: 19, leg: 20 }),
        (|_, bitmap| bitmap.events = 20, Why::BitmapBehind { survivor: 2, bitmap: 20, array: 21 }),
        (|_, bitmap| bitmap.state = STATE_STALE, Why::BitmapState { survivor: 2, state: STATE_STALE }),
        (
            |_, bitmap| bitmap.state = STATE_WRITE_ERROR,
            Why::BitmapState { survivor: 2, state: STATE_WRITE_ERROR },
        ),
        (|_, bitmap| bitmap.events_cleared = 21, Why::MarksCleared { survivor: 2, cleared: 21, array: 21 }),
        (|sb, _| sb.array_position = 1, Why::OtherSlot { slot: 2, ran_in: 1 }),
        (|sb, _| sb.disk_recovery_offset = Sectors(8), Why::NotWhole { slot: 2, upto: Sectors(8) }),
        (|sb, _| sb.array_resync_offset = Sectors(8), Why::ArrayNotInSync { upto: Sectors(8) }),
        (
            |sb, _| sb.array_sectors = Sectors(8),
            Why::OtherSize { leg: (ARRAY, ARRAY), survivor: 2, own: (ARRAY, Sectors(8)) },
        ),
    ];
    for (change, why) in survivors {
        assert_eq!(merge(&[survivor(0), with(survivor(2), change)], &split()), Merge::Full(why));
    }
    let returning: [(Break, Why); 4] = [
        (|sb, _| sb.array_position = 0, Why::OtherSlot { slot: 1, ran_in: 0 }),
        (|sb, _| sb.disk_recovery_offset = Sectors(16), Why::NotWhole { slot: 1, upto: Sectors(16) }),
        (
            |sb, _| sb.sectors = Sectors(8),
            Why::OtherSize { leg: (Sectors(8), ARRAY), survivor: 0, own: (ARRAY, ARRAY) },
        ),
        (|sb, _| sb.events = 19, Why::UsedElsewhere { recorded: 20, found: 19 }),
    ];
    for (change, why) in returning {
        assert_eq!(merge(&[survivor(0), survivor(2)], &with(split(), change)), Merge::Full(why));
    }
}

#[test]
fn a_bitmap_is_compared_with_the_latest_superblock_not_its_own() {
    // The kernel takes one leg's bitmap and the freshest leg's counter.
    let later = with(survivor(2), |sb, bitmap| {
        sb.events = 22;
        bitmap.events = 22;
    });
    assert_eq!(
        merge(&[survivor(0), later], &split()),
        Merge::Full(Why::BitmapBehind { survivor: 0, bitmap: 21, array: 22 })
    );
}

#[test]
fn what_is_not_there_makes_the_merge_a_full_one() {
    let blank = LegMeta { superblock: None, bitmap: None };
    let unmapped = LegMeta { bitmap: None, ..survivor(2) };
    assert_eq!(merge(&[], &split()), Merge::Full(Why::NoSurvivor));
    assert_eq!(merge(&[survivor(0), survivor(2)], &blank), Merge::Full(Why::NoSuperblock(1)));
    assert_eq!(merge(&[survivor(0), blank], &split()), Merge::Full(Why::NoSuperblock(2)));
    assert_eq!(merge(&[survivor(0), unmapped], &split()), Merge::Full(Why::NoBitmap(2)));
}

#[test]
fn a_leg_of_which_nobody_knows_is_copied_in_full() {
    let a = survivor(0);
    assert_eq!(may_merge(&[(0, &a)], 1, &split(), None), Merge::Full(Why::Unrecorded));
    let found = may_merge(&[(0, &a)], 1, &split(), Some(18));
    assert_eq!(found, Merge::Full(Why::UsedElsewhere { recorded: 18, found: 20 }));
}

#[test]
fn slots_from_64_on_are_looked_up_too() {
    let a = with(leg(0, 21, 20), |sb, _| sb.set_failed(200, true));
    let returning = leg(200, 20, 20);
    assert_eq!(may_merge(&[(0, &a)], 200, &returning, Some(20)), Merge::Tracked);
    assert!(matches!(may_merge(&[(0, &a)], 201, &leg(201, 20, 20), Some(20)), Merge::Full(_)));
}
