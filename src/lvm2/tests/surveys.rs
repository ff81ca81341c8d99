//! Which groups are seen on disks that contradict each other.

use super::samples::{Disks, group, id, mirrored, name, small_label};
use crate::lvm2::edit::{add_tags, remove_pv};
use crate::lvm2::group::{GroupError, Survey};
use crate::lvm2::model::VolumeGroup;
use crate::report::{Class, chain};

fn error(disks: &Disks) -> GroupError {
    let survey = disks.survey();
    assert_eq!((survey.groups.len(), survey.orphans.len()), (0, 0));
    survey.broken.into_iter().next().expect("a broken group").error
}

fn tagged(vg: &VolumeGroup, tag: &str) -> VolumeGroup {
    add_tags(vg, &name("lv"), &[tag.to_owned()]).unwrap()
}

#[test]
fn two_contents_of_one_version_break_the_group() {
    let start = Disks::with_group(&mirrored(2));
    let (mut one, mut other) = (start.clone(), start.clone());
    let group = start.group();
    one.commit(&group, &tagged(&group.vg, "one"), &[]);
    other.commit(&group, &tagged(&group.vg, "other"), &[]);
    let pv = group.vg.pvs[1].id;
    one.0.insert(pv, other.0[&pv].clone());
    let error = error(&one);
    assert!(matches!(error, GroupError::Contradiction { seqno: 2, .. }), "{error}");
    assert_eq!(error.class(), Class::Corrupt);
}

#[test]
fn a_contradiction_of_the_past_is_forgotten() {
    let start = Disks::with_group(&mirrored(3));
    let (mut one, mut other) = (start.clone(), start.clone());
    let group = start.group();
    one.commit(&group, &tagged(&group.vg, "one"), &[]);
    other.commit(&group, &tagged(&group.vg, "other"), &[]);
    let newer = one.group();
    one.commit(&newer, &tagged(&newer.vg, "newer"), &[]);
    let pv = group.vg.pvs[1].id;
    one.0.insert(pv, other.0[&pv].clone());
    assert_eq!(one.group().vg.seqno, 3);
}

#[test]
fn a_clone_breaks_the_group() {
    let disks = Disks::with_group(&mirrored(2));
    let mut reads: Vec<_> = disks.0.keys().filter_map(|pv| disks.read(pv)).collect();
    reads.push(reads[0].clone());
    let survey = Survey::new(reads);
    assert!(matches!(survey.broken[0].error, GroupError::Duplicate { .. }));
    assert_eq!((survey.groups.len(), survey.orphans.len()), (0, 0));
}

/// Puts another text in place of the committed one on one PV.
fn replace_text(disks: &mut Disks, index: usize, text: &str) {
    let group = disks.group();
    let mda = &group.disks[index].mdas[0];
    let (chunks, header) = mda.state.header().unwrap().place(text).unwrap();
    let disk = disks.0.get_mut(&group.disks[index].label.pv).unwrap();
    let mut write = |offset: u64, data: &[u8]| {
        let at = usize::try_from(offset).unwrap();
        disk[at..at + data.len()].copy_from_slice(data);
    };
    for chunk in chunks {
        write(chunk.offset.0, &chunk.data);
    }
    write(mda.area.offset.0, &header.render());
}

#[test]
fn a_copy_that_is_not_understood_breaks_the_group_unless_it_is_older() {
    let mut disks = Disks::with_group(&mirrored(2));
    let group = disks.group();
    let text = group.vg.render(&super::samples::provenance());
    let strange = |seqno: &str| text.replace("\"RESIZEABLE\"", "\"TOMORROW\"").replace("seqno = 1", seqno);
    let (mut newer, mut other) = (disks.clone(), disks.clone());
    replace_text(&mut newer, 1, &strange("seqno = 2"));
    let error = error(&newer);
    assert!(matches!(error, GroupError::Strange { .. }));
    assert!(chain(&error).contains("TOMORROW"), "{}", chain(&error));
    replace_text(&mut other, 1, "not even the grammar {");
    assert!(matches!(self::error(&other), GroupError::Strange { .. }));

    replace_text(&mut disks, 1, &strange("seqno = 0"));
    let group = disks.group();
    assert_eq!(group.faults().len(), 1);
    disks.commit(&group, &group.vg, &[]);
    assert_eq!(disks.group().faults(), []);
}

#[test]
fn two_groups_of_one_name_are_both_left_alone() {
    let mut disks = Disks::with_group(&group(2));
    let mut other = group(2);
    other.id = id(2);
    for (pv, number) in other.pvs.iter_mut().zip(5000..) {
        pv.id = id(number);
    }
    disks.0.extend(Disks::with_group(&other).0);
    let survey = disks.survey();
    assert_eq!((survey.groups.len(), survey.broken.len(), survey.orphans.len()), (0, 2, 0));
    assert!(survey.broken.iter().all(|broken| matches!(broken.error, GroupError::SameName { .. })));

    let mut renamed = other.clone();
    renamed.name = "other".parse().unwrap();
    let mut disks = Disks::with_group(&group(2));
    disks.0.extend(Disks::with_group(&renamed).0);
    assert_eq!(disks.survey().groups.len(), 2);
}

#[test]
fn a_pv_of_two_groups_breaks_both() {
    let mut disks = Disks::with_group(&group(2));
    let mut other = group(2);
    (other.id, other.name) = (id(2), "other".parse().unwrap());
    other.pvs[0].id = id(5000);
    let second = Disks::with_group(&other);
    disks.0.insert(id(5000), second.0[&id(5000)].clone());
    let survey = disks.survey();
    assert_eq!((survey.groups.len(), survey.broken.len(), survey.orphans.len()), (0, 2, 0));
    assert!(survey.broken.iter().all(|broken| matches!(broken.error, GroupError::Claimed { .. })));
}

#[test]
fn a_pv_that_was_removed_while_it_was_away_is_no_free_disk() {
    let mut disks = Disks::with_group(&group(3));
    let before = disks.group();
    let away = before.vg.pvs[2].id;
    let held = disks.0[&away].clone();
    disks.commit(&before, &remove_pv(&before.vg, "pv2").unwrap(), &[]);
    disks.0.insert(away, held);
    let survey = disks.survey();
    assert_eq!(survey.groups[0].outdated, [away]);
    assert_eq!((survey.orphans.len(), survey.strays.len()), (0, 1));
}

#[test]
fn a_pv_in_use_by_a_group_that_is_not_seen_is_no_free_disk() {
    let label = small_label(id(9)).with_used(true);
    let survey = Disks::init(&[label]).survey();
    assert_eq!((survey.orphans.len(), survey.strays.len()), (0, 1));
}
