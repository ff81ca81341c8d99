use proptest::prelude::*;

use super::*;
use crate::ids::LvmUuid;
use crate::lvm2::model::{
    LogicalVolume, PhysicalVolume, Raid1, Run, Segment, SegmentKind, Slot, VolumeGroup,
};
use crate::units::{Bytes, Extents, Sectors};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn disk(index: usize, extents: u64) -> PhysicalVolume {
    PhysicalVolume {
        name: format!("pv{index}"),
        id: LvmUuid::from_random([u8::try_from(index).expect("few"); 32]),
        device: format!("/dev/sd{index}"),
        status: words(&["ALLOCATABLE"]),
        flags: Vec::new(),
        tags: Vec::new(),
        dev_size: Sectors(2048 + extents * 8192),
        pe_start: Sectors(2048),
        pe_count: Extents(extents),
        extra: Vec::new(),
    }
}

fn group(disks: &[u64]) -> VolumeGroup {
    VolumeGroup {
        name: "vg".parse().expect("legal"),
        id: LvmUuid::from_random([255; 32]),
        seqno: 1,
        status: Vec::new(),
        flags: Vec::new(),
        tags: Vec::new(),
        system_id: None,
        lock_type: None,
        extent_size: Sectors(8192),
        pvs: disks.iter().enumerate().map(|(index, extents)| disk(index, *extents)).collect(),
        lvs: Vec::new(),
        extra: Vec::new(),
        trailer: Vec::new(),
    }
}

fn segment(start: Extents, count: Extents, kind: SegmentKind) -> Segment {
    Segment { start, count, tags: Vec::new(), kind, extra: Vec::new() }
}

fn lv(name: &str, segments: Vec<Segment>) -> LogicalVolume {
    LogicalVolume {
        name: name.parse().expect("legal"),
        id: LvmUuid::from_random([9; 32]),
        status: words(&["READ", "WRITE"]),
        flags: Vec::new(),
        tags: Vec::new(),
        created: None,
        segments,
        extra: Vec::new(),
    }
}

fn linear(name: &str, runs: &[Run]) -> LogicalVolume {
    let mut segments = Vec::new();
    let mut start = Extents::ZERO;
    for run in runs {
        let kind = SegmentKind::Linear { pv: run.pv.clone(), first: run.first };
        segments.push(segment(start, run.count, kind));
        start += run.count;
    }
    lv(name, segments)
}

fn run(pv: usize, first: u64, count: u64) -> Run {
    Run { pv: format!("pv{pv}"), first: Extents(first), count: Extents(count) }
}

/// A group in which these extents are taken.
fn used(disks: &[u64], taken: &[(usize, u64, u64)]) -> VolumeGroup {
    let mut vg = group(disks);
    for (index, (pv, first, count)) in taken.iter().enumerate() {
        vg.lvs.push(linear(&format!("used{index}"), &[run(*pv, *first, *count)]));
    }
    vg
}

/// Adds a raid1 volume with these legs.
fn add_volume(vg: &mut VolumeGroup, name: &str, legs: &[LegExtents]) {
    let mut slots = Vec::new();
    for (index, leg) in legs.iter().enumerate() {
        let name: crate::ids::LvName = name.parse().expect("legal");
        vg.lvs.push(linear(name.meta(index).as_str(), &leg.meta));
        vg.lvs.push(linear(name.image(index).as_str(), &leg.image));
        slots.push(Slot { meta: name.meta(index), image: name.image(index) });
    }
    let raid = Raid1 {
        region_size: Sectors(4096),
        min_recovery_rate: None,
        max_recovery_rate: None,
        write_behind: None,
        slots,
    };
    let extents = legs[0].image.iter().map(|run| run.count).sum();
    vg.lvs.push(lv(name, vec![segment(Extents::ZERO, extents, SegmentKind::Raid1(raid))]));
}

fn request(images: usize, data: u64) -> Request {
    Request { images, meta: Extents(1), data: Extents(data) }
}

#[test]
fn the_roomiest_disks_are_taken_metadata_first() {
    let vg = used(&[50, 60, 60], &[(2, 0, 3)]);
    let legs = allocate(&vg, &request(2, 10)).expect("there is room");
    let leg = |pv: usize, first: u64| LegExtents {
        pv: format!("pv{pv}"),
        meta: vec![run(pv, first, 1)],
        image: vec![run(pv, first + 1, 10)],
    };
    assert_eq!(legs, [leg(1, 0), leg(2, 3)]);
}

#[test]
fn a_hole_that_is_too_small_is_passed_over() {
    let vg = used(&[50], &[(0, 5, 5)]);
    let legs = allocate(&vg, &request(1, 10)).expect("there is room");
    assert_eq!((&legs[0].meta, &legs[0].image), (&vec![run(0, 10, 1)], &vec![run(0, 11, 10)]));
}

#[test]
fn an_image_stays_whole_when_only_its_metadata_has_to_go_elsewhere() {
    let vg = used(&[20], &[(0, 3, 7)]);
    let legs = allocate(&vg, &request(1, 10)).expect("there is room");
    assert_eq!((&legs[0].meta, &legs[0].image), (&vec![run(0, 0, 1)], &vec![run(0, 10, 10)]));
}

#[test]
fn fragments_are_better_than_nothing() {
    let vg = used(&[20], &[(0, 4, 2), (0, 12, 2)]);
    let legs = allocate(&vg, &request(1, 14)).expect("there is room");
    assert_eq!(legs[0].meta, [run(0, 0, 1)]);
    assert_eq!(legs[0].image, [run(0, 1, 2), run(0, 6, 6), run(0, 14, 6)]);
}

#[test]
fn missing_and_locked_disks_offer_nothing() {
    let mut vg = group(&[50, 50, 50]);
    vg.pvs[0].flags = words(&["MISSING"]);
    vg.pvs[1].status.clear();
    assert_eq!(FreeMap::of(&vg).total(), Extents(50));
    assert_eq!(
        allocate(&vg, &request(2, 10)),
        Err(AllocError::NoRoom { images: 2, data: Extents(10), disks: 1, of: 3, largest: Extents(0) })
    );
}

#[test]
fn a_refusal_says_what_would_be_possible() {
    let vg = group(&[50, 30, 10]);
    let error = allocate(&vg, &request(2, 40)).expect_err("no room");
    assert_eq!(
        error.to_string(),
        "no room for 2 images of 40 extents on disks of their own: 1 of 3 disks have room, the largest possible \
         volume of so many images has 29 extents"
    );
    assert_eq!(error.class(), crate::report::Class::Exhausted);
}

#[test]
fn nothing_cannot_be_placed() {
    let vg = group(&[50]);
    assert!(matches!(allocate(&vg, &request(0, 1)), Err(AllocError::Nothing { .. })));
    assert!(matches!(allocate(&vg, &request(1, 0)), Err(AllocError::Nothing { .. })));
    assert_eq!((largest(&vg, 0, Extents(1)), capacity(&vg, 0, Extents(1))), (Extents(0), Extents(0)));
}

#[test]
fn a_new_leg_goes_on_none_of_the_disks_of_the_others() {
    let vg = group(&[50, 40, 30]);
    let taken = ["pv0".to_owned(), "pv1".to_owned()];
    let legs = policy::allocate_beside(&vg, &request(1, 29), &taken).expect("there is room");
    assert_eq!(legs[0].pv, "pv2");
    assert!(matches!(
        policy::allocate_beside(&vg, &request(1, 30), &taken),
        Err(AllocError::NoRoom { largest: Extents(29), .. })
    ));
}

#[test]
fn images_grow_directly_behind_themselves() {
    let mut vg = group(&[50, 50]);
    let legs = allocate(&vg, &request(2, 10)).expect("there is room");
    add_volume(&mut vg, "lv", &legs);
    vg.lvs.push(linear("other", &[run(1, 13, 2)]));
    let name = "lv".parse().expect("legal");
    let grown = grow(&vg, &name, Extents(5)).expect("there is room");
    assert_eq!(grown, [vec![run(0, 11, 5)], vec![run(1, 11, 2), run(1, 15, 3)]]);
    assert_eq!(
        grow(&vg, &name, Extents(38)),
        Err(AllocError::NoRoomToGrow {
            slot: 1,
            pv: "pv1".to_owned(),
            by: Extents(38),
            free: Extents(37),
            largest: Extents(37)
        })
    );
    let other = "other".parse().expect("legal");
    assert_eq!(grow(&vg, &other, Extents(1)), Err(AllocError::NotRaid1(other)));
}

#[test]
fn uneven_disks_hold_more_in_several_volumes() {
    // Three disks of 10 hold 15 in pairs: 5 on the first two, 5 on the last two, 5 on the outer two.
    assert_eq!(capacity(&group(&[10, 10, 10]), 2, Extents(0)), Extents(15));
    assert_eq!(largest(&group(&[10, 10, 10]), 2, Extents(0)), Extents(10));
    // A large disk is worth no more than what the others can mirror.
    assert_eq!(capacity(&group(&[100, 10, 10]), 2, Extents(0)), Extents(20));
    assert_eq!(capacity(&group(&[100, 100]), 2, Extents(1)), Extents(99));
}

#[test]
fn one_extent_of_metadata_is_enough_for_ordinary_extents() {
    let sectors = |bytes: Bytes| bytes.sectors_floor();
    let meta = |array, extent| meta_extents(sectors(array), sectors(Bytes::mib(2)), sectors(extent));
    assert_eq!(meta(Bytes::gib(4096), Bytes::mib(4)), Extents(1));
    assert_eq!(meta(Bytes::gib(4096), Bytes::kib(64)), Extents(5));
}

/// Disks with some extents taken.
fn groups() -> impl Strategy<Value = VolumeGroup> {
    prop::collection::vec((1_u64..60, prop::collection::vec((0_u64..60, 1_u64..12), 0..5)), 1..6).prop_map(
        |disks| {
            let sizes: Vec<u64> = disks.iter().map(|(size, _)| *size).collect();
            let mut taken = Vec::new();
            for (pv, (size, holes)) in disks.iter().enumerate() {
                let mut next = 0;
                let mut holes = holes.clone();
                holes.sort_unstable();
                for (first, count) in holes {
                    let first = first.max(next);
                    if first + count <= *size {
                        taken.push((pv, first, count));
                        next = first + count;
                    }
                }
            }
            used(&sizes, &taken)
        },
    )
}

fn overlap_free(vg: &VolumeGroup) -> bool {
    let runs: Vec<Run> = vg.allocations().into_iter().map(|allocation| allocation.run).collect();
    runs.iter().enumerate().all(|(index, run)| runs[..index].iter().all(|other| !run.overlaps(other)))
        && runs.iter().all(|run| vg.pv(&run.pv).is_some_and(|pv| run.end() <= pv.pe_count))
}

fn taken(vg: &VolumeGroup) -> Extents {
    vg.allocations().into_iter().map(|allocation| allocation.run.count).sum()
}

fn total(vg: &VolumeGroup) -> Extents {
    vg.pvs.iter().map(|pv| pv.pe_count).sum()
}

/// Places what [`capacity`] promises, by the wrap-around of its comment: true when it fits, metadata included.
fn wraps(vg: &VolumeGroup, images: u64, meta: u64, t: u64) -> bool {
    let free = FreeMap::of(vg);
    let rooms: Vec<u64> =
        free.most_room_first().iter().map(|(_, room)| room.0).filter(|room| *room > 0).collect();
    let disks = u64::try_from(rooms.len()).expect("few");
    let mut spans = Vec::new();
    let mut at = 0;
    for room in &rooms {
        let len = room.saturating_sub(meta * disks).min(t).min(images * t - at);
        spans.push((at, at + len));
        at += len;
    }
    let mut folds: Vec<u64> = spans.iter().map(|(_, end)| end % t).chain([0]).collect();
    folds.sort_unstable();
    folds.dedup();
    let in_column = |column: u64, (from, to): (u64, u64)| {
        (0..images).filter(|row| (from..to).contains(&(row * t + column))).count()
    };
    at == images * t
        && folds.iter().all(|column| spans.iter().all(|span| in_column(*column, *span) <= 1))
        && spans.iter().zip(&rooms).all(|(span, room)| {
            let volumes = folds.iter().filter(|column| in_column(**column, *span) == 1).count();
            span.1 - span.0 + meta * u64::try_from(volumes).expect("few") <= *room
        })
}

proptest! {
    #[test]
    fn what_is_free_and_what_is_taken_is_all_there_is(vg in groups()) {
        prop_assert!(overlap_free(&vg));
        prop_assert_eq!(FreeMap::of(&vg).total() + taken(&vg), total(&vg));
    }

    #[test]
    fn legs_never_overlap_nor_share_a_disk(vg in groups(), images in 1_usize..5, data in 1_u64..40, meta in 0_u64..3) {
        let mut vg = vg;
        let request = Request { images, meta: Extents(meta), data: Extents(data) };
        let before = taken(&vg);
        if let Ok(legs) = allocate(&vg, &request) {
            prop_assert_eq!(legs.len(), images);
            for (index, leg) in legs.iter().enumerate() {
                prop_assert!(legs[..index].iter().all(|other| other.pv != leg.pv));
                prop_assert!(leg.meta.iter().chain(&leg.image).all(|run| run.pv == leg.pv));
            }
            add_volume(&mut vg, "new", &legs);
            prop_assert!(overlap_free(&vg));
            let legs = u64::try_from(images).expect("few");
            prop_assert_eq!(taken(&vg), before + Extents(legs * (meta + data)));
            prop_assert_eq!(FreeMap::of(&vg).total() + taken(&vg), total(&vg));

            let by = Extents(data);
            if let Ok(grown) = grow(&vg, &"new".parse().expect("legal"), by) {
                for (slot, runs) in grown.iter().enumerate() {
                    prop_assert_eq!(runs.iter().map(|run| run.count).sum::<Extents>(), by);
                    vg.lvs.push(linear(&format!("grown{slot}"), runs));
                }
                prop_assert!(overlap_free(&vg));
            }
        }
    }

    #[test]
    fn the_largest_volume_is_exactly_the_boundary(vg in groups(), images in 1_usize..5, meta in 0_u64..3) {
        let largest = largest(&vg, images, Extents(meta));
        let request = |data| Request { images, meta: Extents(meta), data };
        if largest > Extents::ZERO {
            prop_assert!(allocate(&vg, &request(largest)).is_ok());
        }
        let refused = allocate(&vg, &request(largest + Extents(1)));
        let told = matches!(refused, Err(AllocError::NoRoom { largest: l, .. }) if l == largest);
        prop_assert!(told, "{refused:?}");
    }

    #[test]
    fn capacity_is_never_more_than_can_be_placed(vg in groups(), images in 1_u64..5, meta in 0_u64..3) {
        let count = usize::try_from(images).expect("few");
        let capacity = capacity(&vg, count, Extents(meta));
        let largest = largest(&vg, count, Extents(meta));
        prop_assert!(capacity >= largest);
        prop_assert!(capacity.0 * images <= FreeMap::of(&vg).total().0);
        prop_assert!(capacity == largest || wraps(&vg, images, meta, capacity.0));
    }
}
