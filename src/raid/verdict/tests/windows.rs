//! Each window of the table at [`at_activation`], made by hand.

use super::*;

const IN_ORDER: LegRole = LegRole::Attached;
const SPLIT: LegRole = LegRole::Split { recorded_events: Some(20) };
const MERGING: LegRole = LegRole::Returning { events_before: Some(20), in_full: false };

fn blank() -> LegMeta {
    LegMeta { superblock: None, bitmap: None }
}

fn marking(mut leg: LegMeta, regions: &[u64]) -> LegMeta {
    for region in regions {
        leg.bitmap.as_mut().expect("given").mark(*region);
    }
    leg
}

fn activate(legs: &[(LegRole, LegMeta)]) -> Activation {
    activate_after(LastStop::Unclean, legs)
}

fn activate_after(stop: LastStop, legs: &[(LegRole, LegMeta)]) -> Activation {
    let legs: Vec<(usize, LegRole, &LegMeta)> =
        legs.iter().enumerate().map(|(slot, (role, meta))| (slot, *role, meta)).collect();
    at_activation(&legs, ARRAY, stop)
}

fn plan(legs: &[(LegRole, LegMeta)]) -> Plan {
    plan_after(LastStop::Unclean, legs)
}

fn plan_after(stop: LastStop, legs: &[(LegRole, LegMeta)]) -> Plan {
    match activate_after(stop, legs) {
        Activation::Assemble(plan) => plan,
        other => panic!("not to be assembled: {other:?}"),
    }
}

fn verdicts(plan: &Plan) -> Vec<Verdict> {
    plan.legs.values().cloned().collect()
}

fn mib(range: std::ops::Range<u64>) -> std::ops::Range<Bytes> {
    Bytes::mib(range.start)..Bytes::mib(range.end)
}

#[test]
fn an_array_none_of_whose_legs_was_started_is_new() {
    assert_eq!(activate(&[(IN_ORDER, blank()), (IN_ORDER, blank())]), Activation::Fresh);
}

#[test]
fn a_new_leg_among_others_is_copied_in_full() {
    let found = plan(&[(IN_ORDER, blank()), (IN_ORDER, leg(1, 5, 5))]);
    assert_eq!(verdicts(&found), [Verdict::Rebuild(Why::NoSuperblock(0)), Verdict::Trust]);
    assert_eq!(found.rebuild(), [0]);
}

#[test]
fn a_healthy_array_is_trusted() {
    let found = plan(&[(IN_ORDER, leg(0, 20, 20)), (IN_ORDER, leg(1, 20, 20))]);
    assert_eq!(verdicts(&found), [Verdict::Trust, Verdict::Trust]);
    assert_eq!(found.equalize, None);
}

#[test]
fn what_was_being_written_when_the_power_went_is_made_equal_first() {
    let legs = [
        (IN_ORDER, marking(leg(0, 20, 20), &[3])),
        (IN_ORDER, marking(leg(1, 21, 20), &[3, 4, 31])),
        (IN_ORDER, leg(2, 21, 20)),
    ];
    let equalize = Equalize { from: 1, to: vec![0, 2], ranges: vec![mib(6..10), mib(62..64)] };
    assert_eq!(plan(&legs).equalize, Some(equalize));
    assert_eq!(plan_after(LastStop::Clean, &legs).equalize, None);
}

#[test]
fn after_a_swap_cut_short_everything_is_made_equal() {
    let legs = [(IN_ORDER, leg(0, 20, 20)), (IN_ORDER, leg(1, 20, 20))];
    let all = Some(Equalize { from: 0, to: vec![1], ranges: vec![mib(0..64)] });
    assert_eq!(plan_after(LastStop::MidSwap, &legs).equalize, all);
    let stale = [(IN_ORDER, with(leg(0, 20, 20), |_, b| b.events = 18)), (IN_ORDER, leg(1, 20, 20))];
    assert_eq!(plan(&stale).equalize, all);
    // An array that fell idle: the bitmaps' counters step back first.
    let idle = [(IN_ORDER, with(leg(0, 20, 20), |_, b| b.events = 19)), (IN_ORDER, leg(1, 20, 20))];
    assert_eq!(plan(&idle).equalize, None);
}

#[test]
fn what_the_kernel_makes_equal_itself_is_left_to_it() {
    let half = |slot| {
        with(marking(leg(slot, 5, 5), &[2, 15, 16, 31]), |sb, _| sb.array_resync_offset = Sectors(64_000))
    };
    let found = plan(&[(IN_ORDER, half(0)), (IN_ORDER, half(1))]);
    let ranges = vec![mib(4..6), Bytes::mib(30)..Sectors(64_000).bytes()];
    assert_eq!(found.equalize, Some(Equalize { from: 0, to: vec![1], ranges }));
}

#[test]
fn superblocks_one_event_apart_are_a_power_cut_and_two_are_another_history() {
    let by = |by: u64| verdicts(&plan(&[(IN_ORDER, leg(0, 20, 20)), (IN_ORDER, leg(1, 20 - by, 20 - by))]));
    assert_eq!(by(1), [Verdict::Trust, Verdict::Trust]);
    assert_eq!(by(2), [Verdict::Trust, Verdict::Rebuild(Why::Behind { slot: 1, by: 2 })]);
}

#[test]
fn a_leg_known_missing_comes_back_by_marks() {
    let known = |slot| with(leg(slot, 23, 20), |sb, _| sb.set_failed(1, true));
    let back = [(IN_ORDER, known(0)), (IN_ORDER, leg(1, 20, 20)), (IN_ORDER, known(2))];
    assert_eq!(verdicts(&plan(&back)), [Verdict::Trust, Verdict::ByMarks, Verdict::Trust]);
    // But not when the marks are gone, or may be.
    let mut cleared = back.clone();
    cleared[0].1 = with(known(0), |_, bitmap| bitmap.events_cleared = 23);
    let why = Why::MarksCleared { survivor: 0, cleared: 23, array: 23 };
    assert_eq!(plan(&cleared).legs[&1], Verdict::Rebuild(why));
    assert_eq!(plan_after(LastStop::MidSwap, &back).legs[&1], Verdict::Rebuild(Why::MidSwap));
    // Nor when it was not whole: the kernel would copy the marks only.
    let mut partial = back.clone();
    partial[1].1 = with(leg(1, 20, 20), |sb, _| sb.disk_recovery_offset = Sectors(4096));
    let why = Why::NotWhole { slot: 1, upto: Sectors(4096) };
    assert_eq!(plan(&partial).legs[&1], Verdict::Rebuild(why));
    // Nor when it ran without one of the others meanwhile.
    let mut apart = back;
    apart[1].1 = with(leg(1, 20, 20), |sb, _| sb.set_failed(0, true));
    assert_eq!(plan(&apart).legs[&1], Verdict::Rebuild(Why::Disowned { slot: 0, by: 1 }));
}

#[test]
fn an_interrupted_copy_goes_on() {
    let partial = with(leg(1, 20, 19), |sb, _| sb.disk_recovery_offset = Sectors(4096));
    let found = plan(&[(IN_ORDER, marking(leg(0, 21, 19), &[0])), (IN_ORDER, partial)]);
    assert_eq!(verdicts(&found), [Verdict::Trust, Verdict::Resume]);
    // What lies before its progress is not copied again, so what was being written there must be.
    assert_eq!(found.equalize, Some(Equalize { from: 0, to: vec![1], ranges: vec![mib(0..2)] }));
}

#[test]
fn a_split_is_merged_by_marks_when_they_are_all_there() {
    let found = plan(&[(IN_ORDER, survivor(0)), (SPLIT, split()), (IN_ORDER, survivor(2))]);
    assert_eq!(found.splits[&1], Merge::Tracked);
    assert_eq!(verdicts(&found), [Verdict::Trust, Verdict::Trust]);
}

#[test]
fn a_split_that_was_never_pinned_is_merged_in_full() {
    let pending = LegRole::Split { recorded_events: None };
    let found = plan(&[(IN_ORDER, leg(0, 20, 20)), (pending, split())]);
    assert_eq!(found.splits[&1], Merge::Full(Why::NotKnownMissing { survivor: 0, slot: 1 }));
    let stock = [(IN_ORDER, survivor(0)), (pending, split())];
    assert_eq!(plan(&stock).splits[&1], Merge::Full(Why::Unrecorded));
}

#[test]
fn a_leg_that_the_merge_has_not_written_to_is_not_trusted() {
    // The survivors were written, the leg was not: the kernel would take it for equal.
    let after = |slot| leg(slot, 22, 20);
    let found = plan(&[(IN_ORDER, after(0)), (MERGING, split()), (IN_ORDER, after(2))]);
    assert_eq!(found.legs[&1], Verdict::Rebuild(Why::NotKnownMissing { survivor: 0, slot: 1 }));
    // One of them was; the bitmaps are written before.
    let before = with(survivor(0), |_, bitmap| bitmap.events = 22);
    let one = plan(&[(IN_ORDER, before), (MERGING, split()), (IN_ORDER, after(2))]);
    assert_eq!(one.legs[&1], Verdict::Rebuild(Why::NotKnownMissing { survivor: 2, slot: 1 }));
}

#[test]
fn a_leg_whose_counter_never_moved_is_not_trusted_though_it_equals_the_arrays() {
    // The split was never pinned, and its merge's table wrote nothing yet: all superblocks look alike.
    let found = plan(&[(IN_ORDER, leg(0, 20, 20)), (MERGING, split())]);
    assert!(matches!(found.legs[&1], Verdict::Rebuild(_)));
    let found = plan(&[(IN_ORDER, leg(0, 21, 20)), (MERGING, split())]);
    assert!(matches!(found.legs[&1], Verdict::Rebuild(_)));
}

#[test]
fn a_merge_cut_before_its_first_superblock_is_redone_in_full() {
    let legs = [(IN_ORDER, survivor(0)), (MERGING, split()), (SPLIT, leg(2, 20, 20))];
    let with_two =
        [(IN_ORDER, with(survivor(0), |sb, _| sb.set_failed(2, true))), legs[1].clone(), legs[2].clone()];
    let cut = plan(&with_two);
    assert_eq!(cut.legs[&1], Verdict::Rebuild(Why::MidSwap));
    // The other split's marks have the same hole.
    assert_eq!(cut.splits[&2], Merge::Full(Why::MidSwap));
    // A merge of an array that was not running is nothing but metadata.
    let clean = plan_after(LastStop::Clean, &with_two);
    assert_eq!(clean.legs[&1], Verdict::ByMarks);
    assert_eq!(clean.splits[&2], Merge::Tracked);
    let full = LegRole::Returning { events_before: Some(20), in_full: true };
    let full = plan_after(LastStop::Clean, &[(IN_ORDER, survivor(0)), (full, split())]);
    assert_eq!(full.legs[&1], Verdict::Rebuild(Why::ToBeCopied));
}

#[test]
fn a_leg_that_the_merge_has_written_to_goes_on_from_there() {
    let partial = |events| with(leg(1, events, 20), |sb, _| sb.disk_recovery_offset = Sectors(0));
    for (survivor, events) in [(leg(0, 22, 20), 22), (survivor(0), 22), (leg(0, 23, 20), 22)] {
        let found = plan(&[(IN_ORDER, survivor.clone()), (MERGING, partial(events))]);
        assert_eq!(found.legs[&1], Verdict::Resume, "{survivor:?}");
    }
    let done = plan(&[(IN_ORDER, leg(0, 24, 20)), (MERGING, leg(1, 23, 20))]);
    assert_eq!(done.legs[&1], Verdict::Trust);
    // Nobody noted where it was: it may as well be an old state.
    let unknown = LegRole::Returning { events_before: None, in_full: false };
    let found = plan(&[(IN_ORDER, leg(0, 22, 20)), (unknown, partial(22))]);
    assert!(matches!(found.legs[&1], Verdict::Rebuild(_)));
    // It is ahead of the array by more than one update: it was used elsewhere.
    let elsewhere = plan(&[(IN_ORDER, survivor(0)), (MERGING, leg(1, 30, 30))]);
    assert!(matches!(elsewhere.legs[&1], Verdict::Rebuild(_)));
}

#[test]
fn a_new_leg_goes_on_from_where_it_was() {
    let new = LegRole::Returning { events_before: Some(0), in_full: true };
    let partial = with(leg(1, 9, 7), |sb, _| sb.disk_recovery_offset = Sectors(4096));
    assert_eq!(plan(&[(IN_ORDER, leg(0, 9, 7)), (new, partial)]).legs[&1], Verdict::Resume);
    let blank = plan(&[(IN_ORDER, leg(0, 9, 7)), (new, blank())]);
    assert_eq!(blank.legs[&1], Verdict::Rebuild(Why::NoSuperblock(1)));
}

#[test]
fn a_leg_without_bitmap_is_copied_in_full() {
    let unmapped = LegMeta { bitmap: None, ..leg(0, 20, 20) };
    let found = plan(&[(IN_ORDER, unmapped.clone()), (IN_ORDER, leg(1, 20, 20))]);
    assert_eq!(verdicts(&found), [Verdict::Rebuild(Why::NoBitmap(0)), Verdict::Trust]);
    assert_eq!(activate(&[(IN_ORDER, unmapped)]), Activation::Corrupt(Refusal::NoSource));
}

#[test]
fn renumbered_legs_are_trusted_only_while_none_is_missing() {
    let moved = |slot: u32, was: u32| with(leg(slot, 20, 20), move |sb, _| sb.array_position = was);
    let found = plan(&[(IN_ORDER, moved(0, 1)), (IN_ORDER, moved(1, 2))]);
    assert_eq!(verdicts(&found), [Verdict::Trust, Verdict::Trust]);
    let missing = with(leg(0, 20, 19), |sb, _| sb.set_failed(2, true));
    let found = plan(&[(IN_ORDER, missing), (IN_ORDER, moved(1, 2))]);
    assert_eq!(found.legs[&1], Verdict::Rebuild(Why::OtherSlot { slot: 1, ran_in: 2 }));
}

#[test]
fn an_array_that_contradicts_itself_is_refused() {
    let corrupt = |legs: &[(LegRole, LegMeta)]| match activate(legs) {
        Activation::Corrupt(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(corrupt(&[]), Refusal::NoLeg);
    assert_eq!(corrupt(&[(SPLIT, split())]), Refusal::NoLeg);
    assert_eq!(corrupt(&[(IN_ORDER, blank()), (SPLIT, split())]), Refusal::Wiped(1));
    let longer = with(leg(0, 20, 20), |sb, _| sb.array_sectors = Sectors(200_000));
    assert_eq!(
        corrupt(&[(IN_ORDER, longer)]),
        Refusal::Length { slot: 0, found: Sectors(200_000), wanted: ARRAY }
    );
    let partial = with(leg(0, 20, 20), |sb, _| sb.disk_recovery_offset = Sectors(8));
    assert_eq!(corrupt(&[(IN_ORDER, partial)]), Refusal::NoSource);
    // Both ran alone.
    let alone =
        |slot: u32, events| with(leg(slot, events, 19), move |sb, _| sb.set_failed(1 - slot as usize, true));
    for (a, b) in [(25, 21), (21, 25), (21, 21), (21, 22)] {
        assert!(matches!(corrupt(&[(IN_ORDER, alone(0, a)), (IN_ORDER, alone(1, b))]), Refusal::Diverged(_)));
    }
}

#[test]
fn a_growth_cut_short_is_gone_on_with_unless_a_split_is_out() {
    let short = |slot| with(leg(slot, 20, 20), |sb, _| sb.array_sectors = Sectors(65_536));
    assert_eq!(verdicts(&plan(&[(IN_ORDER, short(0)), (IN_ORDER, leg(1, 20, 20))])).len(), 2);
    let out = activate(&[(IN_ORDER, short(0)), (SPLIT, split())]);
    assert!(matches!(out, Activation::Corrupt(Refusal::Length { .. })));
}
