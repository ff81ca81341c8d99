//! A power cut leaves the old version or the new one, and the next commit repairs what it broke.

use proptest::prelude::*;

use super::samples::{Disks, group, id, mirrored, name, provenance, small_label};
use crate::lvm2::commit::{CommitError, Missing, Plan, Write, dissolve, plan, wipe_pv};
use crate::lvm2::edit::{NewPv, add_pv, add_tags, mark_split, remove_pv};
use crate::lvm2::group::{FaultKind, Group};
use crate::lvm2::mda::PlaceError;
use crate::lvm2::model::VolumeGroup;
use crate::lvm2::read::{MdaState, PvHead};
use crate::report::Class;
use crate::units::Bytes;

fn tagged(vg: &VolumeGroup, tag: &str) -> VolumeGroup {
    add_tags(vg, &name("lv"), &[tag.to_owned()]).unwrap()
}

#[test]
fn a_group_is_made_and_changed() {
    let mut disks = Disks::with_group(&mirrored(2));
    let group = disks.group();
    assert_eq!((group.vg.seqno, group.faults().len(), group.missing.len()), (1, 0, 0));
    assert_eq!(VolumeGroup { seqno: 0, ..(*group.vg).clone() }, mirrored(2));
    assert!(group.disks.iter().all(|disk| disk.label.is_used() == Some(true)));
    for number in 2..40 {
        let group = disks.group();
        disks.commit(&group, &tagged(&group.vg, &format!("t{number}")), &[]);
        assert_eq!((disks.group().vg.seqno, disks.group().faults()), (number, vec![]));
    }
}

#[test]
fn an_unchanged_pv_is_known_by_one_read() {
    let mut disks = Disks::with_group(&mirrored(2));
    let pv = *disks.0.keys().next().unwrap();
    let head = |disks: &Disks| {
        let mut reads = 0;
        let head = PvHead::read(|offset, len| {
            reads += 1;
            let start = usize::try_from(offset.0).unwrap();
            Ok::<_, std::io::Error>(disks.0[&pv][start..start + usize::try_from(len.0).unwrap()].to_vec())
        });
        assert_eq!(reads, 1);
        head.unwrap().unwrap()
    };
    let before = head(&disks);
    assert_eq!(head(&disks), before);
    let group = disks.group();
    disks.commit(&group, &group.vg, &[]);
    assert_ne!(head(&disks), before);
}

#[test]
fn a_version_made_from_another_is_not_committed() {
    let disks = Disks::with_group(&mirrored(2));
    let group = disks.group();
    let planned = |new: &VolumeGroup| plan(&group, new, &[], Missing::Refuse, &provenance());
    let stale = VolumeGroup { seqno: 0, ..(*group.vg).clone() };
    let error = planned(&stale).expect_err("stale");
    assert_eq!(
        (error.class(), error.to_string().as_str()),
        (Class::InProgress, "volume group vg has changed: this was planned on version 0, on the disks is 1")
    );
    let other = VolumeGroup { id: id(77), ..(*group.vg).clone() };
    assert!(matches!(planned(&other), Err(CommitError::Other { .. })));
}

#[test]
fn a_version_that_breaks_a_rule_is_not_committed() {
    let disks = Disks::with_group(&mirrored(2));
    let group = disks.group();
    let mut new = (*group.vg).clone();
    new.lv_mut(&name("lv_rmeta_0")).unwrap().set("VISIBLE", true);
    let error = plan(&group, &new, &[], Missing::Refuse, &provenance()).expect_err("unsound");
    assert!(error.to_string().contains("lv_rmeta_0 is visible"), "{error}");
}

#[test]
fn a_text_without_room_is_not_committed() {
    let disks = Disks::with_group(&mirrored(2));
    let group = disks.group();
    let mut new = (*group.vg).clone();
    new.tags = (0..20).map(|n| format!("{n}{}", "x".repeat(500))).collect();
    let error = plan(&group, &new, &[], Missing::Refuse, &provenance()).expect_err("too large");
    assert_eq!(error.class(), Class::Exhausted);
    assert!(matches!(error, CommitError::Place { source: PlaceError::TooLarge { .. }, .. }));
}

#[test]
fn a_missing_pv_forbids_changes_or_is_noted() {
    let mut disks = Disks::with_group(&mirrored(3));
    let away = *disks.0.keys().next().unwrap();
    let held = disks.0.remove(&away).unwrap();
    let group = disks.group();
    assert_eq!(group.missing, [away]);
    let error = plan(&group, &group.vg, &[], Missing::Refuse, &provenance()).expect_err("missing");
    assert!(matches!(&error, CommitError::Missing { pvs, .. } if pvs == &[away]));
    for step in plan(&group, &group.vg, &[], Missing::Mark, &provenance()).unwrap().steps() {
        disks.write_all(step);
    }
    // Back again, with its old copy: the others are believed.
    disks.0.insert(away, held);
    let back = disks.group();
    assert_eq!((back.vg.seqno, back.missing.len()), (2, 0));
    assert!(back.vg.pv_by_id(&away).unwrap().is_missing());
    let kinds: Vec<_> = back.faults().into_iter().map(|fault| (fault.pv, fault.kind)).collect();
    assert_eq!(kinds, [(away, FaultKind::Stale { found: 1, wanted: 2 })]);
}

#[test]
fn pvs_join_and_leave_a_group_on_disk() {
    let mut disks = Disks::with_group(&group(2));
    let label = small_label(id(3000));
    let blank = Disks::init(std::slice::from_ref(&label));
    disks.0.extend(blank.0);
    let survey = disks.survey();
    let (old, orphans) = (survey.groups[0].clone(), survey.orphans);
    assert_eq!(orphans.len(), 1);
    let more = add_pv(&old.vg, NewPv::of(&label, "/dev/sdz")).unwrap();
    let error = plan(&old, &more, &[], Missing::Refuse, &provenance()).expect_err("not here");
    assert!(matches!(error, CommitError::Joining { .. }));
    disks.commit(&old, &more, &orphans);
    let group = disks.group();
    assert_eq!((group.disks.len(), group.faults()), (3, vec![]));

    let fewer = remove_pv(&group.vg, "pv0").unwrap();
    let gone = group.vg.pvs[0].id;
    disks.commit(&group, &fewer, &[]);
    let survey = disks.survey();
    assert_eq!(survey.orphans.iter().map(|disk| disk.label.pv).collect::<Vec<_>>(), [gone]);
    assert_eq!((survey.groups.len(), survey.strays.len()), (1, 0));

    for write in dissolve(&survey.groups[0]).unwrap() {
        disks.write_all(&[write]);
    }
    assert_eq!((disks.survey().orphans.len(), disks.survey().groups.len()), (3, 0));
    for disk in disks.survey().orphans {
        disks.write_all(&wipe_pv(&disk.label));
    }
    assert!(disks.0.keys().all(|pv| disks.read(pv).is_none()));
}

/// What is wrong with a copy before the commit.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    Header,
    Text,
    Stale,
    Empty,
}

/// Does damage to the copies on all disks but one.
fn damage(disks: &mut Disks, before: &Disks, damages: &[Damage], spared: usize) {
    let pvs: Vec<_> = disks.0.keys().copied().collect();
    for (index, (pv, damage)) in pvs.iter().zip(damages).enumerate() {
        if index == spared % pvs.len() {
            continue;
        }
        let header = disks.group().disks.iter().find(|disk| &disk.label.pv == pv).unwrap().mdas[0].clone();
        let bytes = disks.0.get_mut(pv).unwrap();
        match damage {
            Damage::None => {}
            Damage::Header => bytes[4096 + 100] ^= 1,
            Damage::Text => {
                let text = header.state.header().and_then(|header| header.text());
                bytes[4096 + usize::try_from(text.unwrap().offset.0).unwrap() + 5] ^= 1;
            }
            Damage::Stale => bytes.copy_from_slice(&before.0[pv]),
            Damage::Empty => {
                let empty = crate::lvm2::mda::MdaHeader::empty(header.area).render();
                bytes[4096..4096 + 512].copy_from_slice(&empty);
            }
        }
    }
}

/// The disks after each cut: after each sector, and in the middle of it.
fn cuts(disks: &Disks, plan: &Plan, order: usize) -> Vec<(String, Disks)> {
    let mut now = disks.clone();
    let mut cuts = vec![("before".to_owned(), now.clone())];
    for (number, step) in plan.steps().enumerate() {
        let mut step: Vec<&Write> = step.iter().collect();
        if !step.is_empty() {
            let by = order % step.len();
            step.rotate_left(by);
        }
        for write in step {
            // A label has no copy: a disk that tears it loses that PV. Sectors of labels are written or not.
            let is_label = write.offset < Bytes::kib(4);
            for sector in 0..write.data.len() / 512 {
                let after = (sector + 1) * 512;
                // A header says all in its first 88 bytes: half of those is worse than half of the sector.
                if !is_label {
                    let mut torn = now.clone();
                    torn.write(write, sector * 512 + 44);
                    cuts.push((format!("step {number}, in sector {sector} of {}", write.pv), torn));
                }
                let mut cut = now.clone();
                cut.write(write, after);
                cuts.push((format!("step {number}, after sector {sector} of {}", write.pv), cut));
            }
            now.write(write, write.data.len());
        }
    }
    cuts
}

/// How many of the cuts have torn a header, so that it is known that there are some.
fn assert_survives(disks: &Disks, old: &Group, new: &VolumeGroup, order: usize) -> usize {
    let mut torn_headers = 0;
    let joining = disks.survey().orphans;
    let plan = plan(old, new, &joining, Missing::Refuse, &provenance()).unwrap();
    for (place, mut cut) in cuts(disks, &plan, order) {
        let survey = cut.survey();
        assert_eq!((survey.groups.len(), survey.broken.len()), (1, 0), "{place}: {survey:#?}");
        let found = survey.groups[0].clone();
        assert!(found.vg == old.vg || *found.vg == plan.vg, "{place}: neither old nor new");
        assert_eq!(found.missing, [], "{place}");
        let mdas = || found.disks.iter().flat_map(|disk| &disk.mdas);
        torn_headers += mdas().filter(|mda| matches!(mda.state, MdaState::Damaged(_))).count();
        // The next commit repairs everything.
        let next = tagged(&found.vg, "next");
        cut.commit(&found, &next, &survey.orphans);
        let repaired = cut.group();
        assert_eq!(repaired.faults(), [], "{place}");
        assert_eq!(*repaired.vg, VolumeGroup { seqno: next.seqno + 1, ..next }, "{place}");
        assert!(
            repaired
                .disks
                .iter()
                .flat_map(|disk| &disk.mdas)
                .all(|mda| matches!(mda.state, MdaState::Text(..))),
            "{place}"
        );
    }
    torn_headers
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        3 => Just(Damage::None),
        1 => Just(Damage::Header),
        1 => Just(Damage::Text),
        1 => Just(Damage::Stale),
        1 => Just(Damage::Empty),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_power_cut_leaves_the_old_version_or_the_new_one(
        legs in 2..4_u64,
        earlier in 0..6_usize,
        damages in proptest::collection::vec(any_damage(), 3),
        (spared, order) in (0..3_usize, 0..6_usize),
    ) {
        let mut disks = Disks::with_group(&mirrored(legs));
        let mut before = disks.clone();
        for number in 0..=earlier {
            before = disks.clone();
            let group = disks.group();
            disks.commit(&group, &tagged(&group.vg, &format!("earlier{number}")), &[]);
        }
        damage(&mut disks, &before, &damages, spared);
        let old = disks.group();
        let new = mark_split(&old.vg, &name("lv"), 1).unwrap();
        prop_assert!(assert_survives(&disks, &old, &new, order) >= old.disks.len());
    }

    #[test]
    fn a_power_cut_while_a_pv_joins_leaves_the_old_version_or_the_new_one(
        legs in 2..4_u64,
        earlier in 0..3_usize,
        order in 0..6_usize,
    ) {
        let mut disks = Disks::with_group(&mirrored(legs));
        for number in 0..earlier {
            let group = disks.group();
            disks.commit(&group, &tagged(&group.vg, &format!("earlier{number}")), &[]);
        }
        let label = small_label(id(3000));
        disks.0.extend(Disks::init(std::slice::from_ref(&label)).0);
        let old = disks.group();
        let new = add_pv(&old.vg, NewPv::of(&label, "/dev/sdz")).unwrap();
        prop_assert!(assert_survives(&disks, &old, &new, order) > old.disks.len());
    }
}

#[test]
fn a_power_cut_while_a_group_of_one_disk_gets_a_second_is_harmless() {
    let mut disks = Disks::with_group(&group(1));
    let label = small_label(id(3000));
    disks.0.extend(Disks::init(std::slice::from_ref(&label)).0);
    let old = disks.group();
    let new = add_pv(&old.vg, NewPv::of(&label, "/dev/sdz")).unwrap();
    let joining = disks.survey().orphans;
    let plan = plan(&old, &new, &joining, Missing::Refuse, &provenance()).unwrap();
    for (place, cut) in cuts(&disks, &plan, 0) {
        let found = cut.group();
        assert!(found.vg == old.vg || *found.vg == plan.vg, "{place}: neither old nor new");
    }
}

#[test]
fn a_power_cut_while_a_pv_leaves_is_harmless() {
    let mut with_spare = mirrored(2);
    let label = small_label(id(3000));
    with_spare = add_pv(&with_spare, NewPv::of(&label, "/dev/sdz")).unwrap();
    let disks = Disks::with_group(&with_spare);
    let old = disks.group();
    let new = remove_pv(&old.vg, "pv2").unwrap();
    assert!(assert_survives(&disks, &old, &new, 1) >= 2);
}

#[test]
fn a_power_cut_while_a_group_is_made_leaves_free_pvs_or_the_group() {
    let vg = mirrored(2);
    let labels: Vec<_> = vg.pvs.iter().map(|pv| small_label(pv.id)).collect();
    let disks = Disks::init(&labels);
    let joining = disks.survey().orphans;
    let plan = plan(&Group::unborn(vg.clone()), &vg, &joining, Missing::Refuse, &provenance()).unwrap();
    for (place, cut) in cuts(&disks, &plan, 0) {
        let survey = cut.survey();
        assert_eq!(survey.broken, [], "{place}");
        match survey.groups.as_slice() {
            [] => assert_eq!(survey.orphans.len() + survey.strays.len(), 2, "{place}"),
            [group] => assert_eq!((&*group.vg, group.missing.len()), (&plan.vg, 0), "{place}"),
            more => panic!("{place}: {} groups", more.len()),
        }
    }
}
