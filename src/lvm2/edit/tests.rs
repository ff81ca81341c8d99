use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::lvm2::check::{Severity, check};
use crate::lvm2::tests::samples::{group, id, mirrored, name, new_raid1, run};
use crate::lvm2::usable::refuse_resize;
use crate::units::{Bytes, Sectors};

fn status(vg: &VolumeGroup, lv: &str) -> Vec<String> {
    vg.lv(&name(lv)).unwrap().status.clone()
}

fn new_reserve(runs: Vec<Run>) -> NewReserve {
    NewReserve {
        name: name("lv-grow"),
        id: id(500),
        runs,
        tags: vec!["hold".to_owned()],
        created: (1, "h".to_owned()),
    }
}

#[test]
fn a_mirror_is_made_as_lvcreate_makes_it() {
    let vg = mirrored(2);
    assert_eq!(check(&vg), []);
    let names: Vec<&str> = vg.lvs.iter().map(|lv| lv.name.as_str()).collect();
    assert_eq!(names, ["lv", "lv_rimage_0", "lv_rmeta_0", "lv_rimage_1", "lv_rmeta_1"]);
    assert_eq!(status(&vg, "lv"), ["READ", "WRITE", "VISIBLE"]);
    assert_eq!(status(&vg, "lv_rimage_1"), ["READ", "WRITE"]);
}

#[test]
fn a_mirror_on_fragments_merges_neighbours() {
    let mut new = new_raid1(2, 16);
    new.legs[0].image = vec![run("pv0", 10, 4), run("pv0", 14, 4), run("pv0", 30, 8)];
    let vg = add_raid1(&group(2), new).unwrap();
    assert_eq!(check(&vg), []);
    assert_eq!(vg.runs(vg.lv(&name("lv_rimage_0")).unwrap()), [run("pv0", 10, 8), run("pv0", 30, 8)]);
}

#[test]
fn a_mirror_that_is_none_is_refused() {
    let vg = group(3);
    let refused = |change: fn(&mut NewRaid1)| {
        let mut new = new_raid1(2, 16);
        change(&mut new);
        add_raid1(&vg, new).expect_err("refused")
    };
    assert!(matches!(refused(|new| new.legs.clear()), EditError::Legs { .. }));
    assert!(matches!(refused(|new| new.legs[1].image[0].count = Extents(15)), EditError::Legs { .. }));
    assert!(matches!(refused(|new| new.legs[1].image[0] = run("pv0", 20, 16)), EditError::Legs { .. }));
    assert!(matches!(refused(|new| new.legs[1].meta[0] = run("pv2", 0, 1)), EditError::Legs { .. }));
    assert!(matches!(refused(|new| new.legs[1].image[0] = run("pv1", 0, 16)), EditError::Run { .. }));
    assert!(matches!(refused(|new| new.legs[1].image[0] = run("pv1", 48, 16)), EditError::Run { .. }));
    assert!(matches!(refused(|new| new.legs[1].image[0] = run("pv1", u64::MAX, 16)), EditError::Run { .. }));
    assert!(matches!(refused(|new| new.region_size = Sectors(1000)), EditError::Number { .. }));
    assert!(matches!(refused(|new| new.max_recovery_rate = Some(1 << 40)), EditError::Number { .. }));
    assert!(matches!(refused(|new| new.tags.push("a b".to_owned())), EditError::Tag(_)));
    assert!(matches!(refused(|new| new.name = name("a_rimage_0")), EditError::NameReserved(_)));
    assert!(matches!(refused(|new| new.legs[1].meta_id = new.id), EditError::IdTaken(_)));
    assert!(matches!(
        add_raid1(&mirrored(2), new_raid1(2, 4)),
        Err(EditError::Run { .. } | EditError::NameTaken(_))
    ));
}

#[test]
fn nothing_is_taken_from_a_pv_that_is_missing() {
    let mut vg = group(2);
    vg.pvs[1].flags.push("MISSING".to_owned());
    assert!(matches!(add_raid1(&vg, new_raid1(2, 4)), Err(EditError::Run { .. })));
    assert!(add_raid1(&mark_present(&vg, "pv1").unwrap(), new_raid1(2, 4)).is_ok());
}

#[test]
fn a_split_is_written_as_lvm2_writes_it_and_comes_back() {
    let vg = mirrored(3);
    let split = mark_split(&vg, &name("lv"), 1).unwrap();
    assert_eq!(check(&split), []);
    assert_eq!(status(&split, "lv_rimage_1"), ["READ", "VISIBLE"]);
    assert_eq!(status(&split, "lv_rmeta_1"), ["READ", "WRITE"]);
    assert_eq!(mark_split(&split, &name("lv"), 1), Err(EditError::Tracked { lv: name("lv"), slot: 1 }));
    let both = mark_split(&split, &name("lv"), 0).unwrap();
    assert_eq!(mark_split(&both, &name("lv"), 2), Err(EditError::LastImage { lv: name("lv"), slot: 2 }));
    let one = mark_merged(&both, &name("lv"), 0).unwrap();
    assert_eq!(mark_merged(&one, &name("lv"), 1).unwrap(), vg);
    assert_eq!(mark_merged(&vg, &name("lv"), 1), Err(EditError::NotTracked { lv: name("lv"), slot: 1 }));
    assert_eq!(mark_split(&vg, &name("lv"), 3), Err(EditError::NoSlot { lv: name("lv"), slot: 3 }));
    assert_eq!(mark_split(&vg, &name("no"), 0), Err(EditError::NoLv(name("no"))));
    assert_eq!(mark_split(&vg, &name("lv_rimage_0"), 0), Err(EditError::NotRaid1(name("lv_rimage_0"))));
}

#[test]
fn a_rebuild_is_noted_on_both_sub_lvs() {
    let vg = mirrored(2);
    let rebuild = set_rebuild(&vg, &name("lv"), 1, true).unwrap();
    assert_eq!(check(&rebuild), []);
    assert_eq!(status(&rebuild, "lv_rimage_1"), ["READ", "WRITE", "REBUILD"]);
    assert_eq!(status(&rebuild, "lv_rmeta_1"), ["READ", "WRITE", "REBUILD"]);
    assert_eq!(set_rebuild(&rebuild, &name("lv"), 1, true).unwrap(), rebuild);
    assert_eq!(set_rebuild(&rebuild, &name("lv"), 1, false).unwrap(), vg);
}

#[test]
fn an_image_that_is_not_whole_is_no_snapshot_and_no_last_resort() {
    let vg = set_rebuild(&mirrored(2), &name("lv"), 1, true).unwrap();
    assert_eq!(mark_split(&vg, &name("lv"), 1), Err(EditError::Rebuilding { lv: name("lv"), slot: 1 }));
    assert_eq!(mark_split(&vg, &name("lv"), 0), Err(EditError::LastImage { lv: name("lv"), slot: 0 }));
}

#[test]
fn a_bitmap_too_large_for_its_metadata_lv_is_refused() {
    let mut vg = group(2);
    vg.extent_size = Sectors(8);
    let mut new = new_raid1(2, 62);
    new.region_size = Sectors(8);
    assert!(matches!(add_raid1(&vg, new), Err(EditError::Legs { why, .. }) if why.contains("bitmap")));
}

#[test]
fn regions_are_changed_and_impossible_ones_refused() {
    let (vg, lv) = (mirrored(2), "lv".parse().expect("legal"));
    let finer = set_region_size(&vg, &lv, Sectors(1024)).expect("there is room");
    assert_eq!(finer.lv(&lv).and_then(|lv| lv.raid1()).map(|raid| raid.region_size), Some(Sectors(1024)));
    assert_no_error(&finer);
    for impossible in [0, 1000] {
        let refused = set_region_size(&vg, &lv, Sectors(impossible));
        assert!(matches!(refused, Err(EditError::Number { .. })), "{impossible}: {refused:?}");
    }
}

#[test]
fn an_lv_goes_with_its_sub_lvs_but_not_with_its_snapshots() {
    let vg = mirrored(2);
    assert_eq!(remove_lv(&vg, &name("lv")).unwrap(), group(2));
    assert!(matches!(remove_lv(&vg, &name("lv_rimage_0")), Err(EditError::NotOurs { .. })));
    let split = mark_split(&vg, &name("lv"), 1).unwrap();
    assert_eq!(remove_lv(&split, &name("lv")), Err(EditError::Tracked { lv: name("lv"), slot: 1 }));
}

#[test]
fn a_foreign_lv_is_left_alone() {
    let mut vg = reserve(&group(2), new_reserve(vec![run("pv0", 0, 4)])).unwrap();
    let mut pool = vg.lvs[0].clone();
    (pool.name, pool.id) = (name("pool"), id(501));
    pool.segments[0].kind = SegmentKind::Other { name: "thin-pool".to_owned() };
    let data = crate::lvm2::text::Value::text("lv-grow");
    pool.segments[0].extra.push(crate::lvm2::text::Node::value("pool", data));
    vg.lvs.push(pool);
    assert!(matches!(remove_lv(&vg, &name("pool")), Err(EditError::NotOurs { .. })));
    assert!(matches!(remove_lv(&vg, &name("lv-grow")), Err(EditError::NotOurs { .. })));
}

#[test]
fn a_volume_grows_by_what_the_reserve_holds() {
    let vg = mirrored(2);
    let held = vec![run("pv0", 17, 4), run("pv1", 30, 6)];
    let vg = reserve(&vg, new_reserve(held)).unwrap();
    assert_eq!(check(&vg), []);
    let per_slot = [vec![run("pv0", 17, 4)], vec![run("pv1", 32, 2), run("pv1", 30, 2)]];
    let grow =
        |vg: &VolumeGroup, per_slot: &[Vec<Run>]| grow_raid1(vg, &name("lv"), &name("lv-grow"), per_slot);
    let grown = grow(&vg, &per_slot).unwrap();
    assert_eq!(check(&grown), []);
    assert_eq!(grown.lv(&name("lv-grow")), None);
    assert_eq!(grown.lv(&name("lv")).unwrap().extents(), Extents(20));
    assert_eq!(grown.runs(grown.lv(&name("lv_rimage_0")).unwrap()), [run("pv0", 1, 20)]);
    assert_eq!(
        grown.runs(grown.lv(&name("lv_rimage_1")).unwrap()),
        [run("pv1", 1, 16), run("pv1", 32, 2), run("pv1", 30, 2)]
    );
    let strange = [vec![run("pv0", 17, 4)], vec![run("pv1", 40, 4)]];
    assert!(matches!(grow(&vg, &strange), Err(EditError::Run { .. })));
    let unequal = [vec![run("pv0", 17, 4)], vec![run("pv1", 30, 2)]];
    assert!(matches!(grow(&vg, &unequal), Err(EditError::Legs { .. })));
    let twice = [vec![run("pv0", 17, 4)], vec![run("pv1", 30, 2), run("pv1", 31, 2)]];
    assert!(matches!(grow(&vg, &twice), Err(EditError::Run { .. })));
    let crossed = [vec![run("pv1", 30, 3)], vec![run("pv0", 17, 3)]];
    assert!(matches!(grow(&vg, &crossed), Err(EditError::Legs { .. })));
    let split = mark_split(&vg, &name("lv"), 0).unwrap();
    assert!(matches!(grow(&split, &per_slot), Err(EditError::Tracked { .. })));
}

#[test]
fn tags_come_and_go() {
    let vg = mirrored(2);
    let tags = ["sm:a".to_owned(), "sm:b".to_owned()];
    let tagged = add_tags(&add_tags(&vg, &name("lv"), &tags).unwrap(), &name("lv"), &tags).unwrap();
    assert_eq!(tagged.lv(&name("lv")).unwrap().tags, tags);
    assert_eq!(remove_tags(&tagged, &name("lv"), |tag| tag.starts_with("sm:")).unwrap(), vg);
    assert!(matches!(add_tags(&vg, &name("lv"), &["a b".to_owned()]), Err(EditError::Tag(_))));
}

#[test]
fn pvs_join_and_leave() {
    let vg = mirrored(2);
    let label = crate::lvm2::tests::samples::label(7, Bytes::mib(256));
    let new = NewPv::of(&label, "/dev/sdz");
    let more = add_pv(&vg, new.clone()).unwrap();
    assert_eq!(check(&more), []);
    assert_eq!(more.pvs[2].name, "pv2");
    assert_eq!(more.pvs[2].pe_count, Extents(63));
    assert_eq!(add_pv(&more, new.clone()), Err(EditError::PvTaken(new.id)));
    assert_eq!(remove_pv(&more, "pv2").unwrap(), vg);
    assert!(matches!(remove_pv(&more, "pv1"), Err(EditError::PvInUse { .. })));
    assert_eq!(remove_pv(&group(1), "pv0"), Err(EditError::LastPv("pv0".to_owned())));
    assert!(matches!(add_pv(&vg, NewPv { size: Sectors(4096), ..new }), Err(EditError::TooSmall(_))));
}

#[test]
fn a_name_that_became_free_is_used_again() {
    let vg = remove_pv(&group(3), "pv1").unwrap();
    let label = crate::lvm2::tests::samples::label(7, Bytes::mib(256));
    assert_eq!(add_pv(&vg, NewPv::of(&label, "x")).unwrap().pvs[2].name, "pv1");
}

#[test]
fn a_group_with_an_owner_is_written_so_that_old_tools_keep_off() {
    let mut vg = mark_split(&mirrored(3), &name("lv"), 1).unwrap();
    vg.system_id = Some("me".to_owned());
    assert_eq!((refuse_resize(&vg, Some("me")), refuse_resize(&vg, Some("you")).is_some()), (None, true));
    let text = vg.render(&crate::lvm2::tests::samples::provenance());
    assert!(!text.contains("\"WRITE\""), "{text}");
    assert_eq!(
        text.matches("WRITE_LOCKED").count(),
        1 + 1 + 5,
        "group, LV, and all sub-LVs but the image split off"
    );
    let again = VolumeGroup::parse(&text).unwrap();
    let tracked = |slot| again.lv(&name("lv").image(slot)).unwrap().is_tracked_image();
    assert_eq!([tracked(0), tracked(1), tracked(2)], [false, true, false]);
    assert!(again.lv(&name("lv")).unwrap().has("WRITE"));
}

/// One edit of many; whether it is possible depends on what came before.
#[derive(Clone, Debug)]
enum Step {
    Add { slots: u64, size: u64 },
    Remove(Index),
    Split(Index, usize),
    Merge(Index, usize),
    Rebuild(Index, usize, bool),
    Reserve { pv: Index, size: u64 },
    Grow(Index, u64),
    AddPv,
    RemovePv(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..4_usize;
    prop_oneof![
        3 => (2..4_u64, 1..20_u64).prop_map(|(slots, size)| Step::Add { slots, size }),
        1 => any::<Index>().prop_map(Step::Remove),
        2 => (any::<Index>(), slot.clone()).prop_map(|(lv, slot)| Step::Split(lv, slot)),
        1 => (any::<Index>(), slot.clone()).prop_map(|(lv, slot)| Step::Merge(lv, slot)),
        1 => (any::<Index>(), slot, any::<bool>()).prop_map(|(lv, slot, on)| Step::Rebuild(lv, slot, on)),
        1 => (any::<Index>(), 1..9_u64).prop_map(|(pv, size)| Step::Reserve { pv, size }),
        2 => (any::<Index>(), 1..9_u64).prop_map(|(lv, size)| Step::Grow(lv, size)),
        1 => Just(Step::AddPv),
        1 => any::<Index>().prop_map(Step::RemovePv),
    ]
}

/// The first free extents of a PV, from several runs if need be.
fn pick(vg: &VolumeGroup, pv: &str, mut count: u64, skip: u64) -> Option<Vec<Run>> {
    let mut picked = Vec::new();
    let mut skip = skip;
    for free in vg.free(pv) {
        let skipped = skip.min(free.count.0);
        skip -= skipped;
        let take = count.min(free.count.0 - skipped);
        if take > 0 {
            picked.push(run(pv, free.first.0 + skipped, take));
        }
        count -= take;
    }
    (count == 0).then_some(picked)
}

fn apply(vg: &VolumeGroup, step: &Step, serial: u64) -> Option<VolumeGroup> {
    let lv = |index: &Index| {
        let tops: Vec<&LvName> =
            vg.lvs.iter().filter(|lv| !lv.name.is_reserved()).map(|lv| &lv.name).collect();
        (!tops.is_empty()).then(|| tops[index.index(tops.len())].clone())
    };
    let pv = |index: &Index| vg.pvs[index.index(vg.pvs.len())].name.clone();
    let created = (serial, "host".to_owned());
    match step {
        Step::Add { slots, size } => {
            let legs = vg.pvs.iter().zip(0..*slots).map(|(pv, slot)| {
                Some(NewLeg {
                    meta_id: id(serial * 100 + 2 * slot + 1),
                    image_id: id(serial * 100 + 2 * slot + 2),
                    meta: pick(vg, &pv.name, 1, 0)?,
                    image: pick(vg, &pv.name, *size, 1)?,
                })
            });
            let legs = legs.collect::<Option<Vec<_>>>()?;
            let new = NewRaid1 {
                name: name(&format!("v{serial}")),
                id: id(serial * 100),
                legs,
                created,
                ..new_raid1(2, 1)
            };
            add_raid1(vg, new).ok()
        }
        Step::Remove(index) => remove_lv(vg, &lv(index)?).ok(),
        Step::Split(index, slot) => mark_split(vg, &lv(index)?, *slot).ok(),
        Step::Merge(index, slot) => mark_merged(vg, &lv(index)?, *slot).ok(),
        Step::Rebuild(index, slot, on) => set_rebuild(vg, &lv(index)?, *slot, *on).ok(),
        Step::Reserve { pv: index, size } => {
            let runs = pick(vg, &pv(index), *size, 0)?;
            reserve(
                vg,
                NewReserve {
                    name: name(&format!("r{serial}")),
                    id: id(serial * 100),
                    runs,
                    tags: Vec::new(),
                    created,
                },
            )
            .ok()
        }
        Step::Grow(index, size) => {
            let lv = lv(index)?;
            let raid = vg.lv(&lv)?.raid1()?;
            let per_slot =
                raid.slots.iter().map(|slot| pick(vg, &vg.pvs_of(vg.lv(&slot.image)?)[0], *size, 0));
            let per_slot = per_slot.collect::<Option<Vec<_>>>()?;
            let runs = per_slot.concat();
            let hold = lv.reserve();
            let new =
                NewReserve { name: hold.clone(), id: id(serial * 100), runs, tags: Vec::new(), created };
            let held = reserve(vg, new).ok()?;
            assert_no_error(&held);
            grow_raid1(&held, &lv, &hold, &per_slot).ok()
        }
        Step::AddPv => {
            let label = crate::lvm2::tests::samples::label(serial, Bytes::mib(128));
            add_pv(vg, NewPv::of(&label, "/dev/x")).ok()
        }
        Step::RemovePv(index) => remove_pv(vg, &pv(index)).ok(),
    }
}

fn assert_no_error(vg: &VolumeGroup) {
    let errors: Vec<_> = check(vg).into_iter().filter(|f| f.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}\n{vg:#?}");
}

proptest! {
    /// Whatever edits are made in whatever order, the independent checker finds nothing, the seqno stays, and the
    /// free and the taken extents are all there are.
    #[test]
    fn edits_keep_the_rules(steps in proptest::collection::vec(step(), 1..30)) {
        let mut vg = group(3);
        for (step, serial) in steps.iter().zip(10..) {
            vg = apply(&vg, step, serial).unwrap_or(vg);
            prop_assert_eq!(check(&vg), [], "after {:?}", step);
            prop_assert_eq!(vg.seqno, 0);
            let taken: u64 = vg.allocations().iter().map(|a| a.run.count.0).sum();
            let free: u64 = vg.pvs.iter().flat_map(|pv| vg.free(&pv.name)).map(|run| run.count.0).sum();
            let all: u64 = vg.pvs.iter().map(|pv| pv.pe_count.0).sum();
            prop_assert_eq!(taken + free, all);
            let text = vg.render(&crate::lvm2::tests::samples::provenance());
            let mut sorted = vg.clone();
            sorted.lvs = vg.lvs_as_printed().into_iter().cloned().collect();
            prop_assert_eq!(VolumeGroup::parse(&text), Ok(sorted));
        }
    }
}
