//! The checker finds what it is for.

use super::samples::{id, mirrored, name, run};
use super::texts::REAL;
use crate::lvm2::check::{Severity, check, is_tag};
use crate::lvm2::model::{SegmentKind, VolumeGroup};
use crate::lvm2::usable::{Refusal, missing, refuse, refuse_change, refuse_resize};
use crate::units::{Extents, Sectors};

/// The codes of what is found after a change, errors only.
fn errors(change: impl FnOnce(&mut VolumeGroup)) -> Vec<&'static str> {
    found(Severity::Error, change)
}

fn found(severity: Severity, change: impl FnOnce(&mut VolumeGroup)) -> Vec<&'static str> {
    let mut vg = mirrored(2);
    assert_eq!(check(&vg), []);
    change(&mut vg);
    let mut codes: Vec<_> =
        check(&vg).into_iter().filter(|f| f.severity == severity).map(|f| f.code).collect();
    codes.dedup();
    codes
}

fn set_image(vg: &mut VolumeGroup, pv: &str, first: u64) {
    vg.lv_mut(&name("lv_rimage_1")).unwrap().segments[0].kind =
        SegmentKind::Linear { pv: pv.to_owned(), first: Extents(first) };
}

#[test]
fn real_groups_are_sound() {
    for (file, text) in REAL {
        assert_eq!(check(&VolumeGroup::parse(text).unwrap()), [], "{file}");
    }
}

#[test]
fn names_and_ids_are_unique() {
    assert_eq!(errors(|vg| vg.lvs[1].id = vg.lvs[0].id), ["lv-id"]);
    assert_eq!(errors(|vg| vg.pvs[1].id = vg.pvs[0].id), ["pv-id"]);
    assert!(errors(|vg| vg.pvs[1].name = "pv0".to_owned()).contains(&"pv-name"));
    assert!(errors(|vg| vg.lvs[2].name = name("lv")).contains(&"lv-name"));
}

#[test]
fn segments_have_no_gap() {
    assert_eq!(errors(|vg| vg.lvs[1].segments[0].start = Extents(1)), ["segments"]);
    assert!(errors(|vg| vg.lvs[1].segments.clear()).contains(&"segments"));
    assert!(errors(|vg| vg.lvs[1].segments[0].count = Extents(0)).contains(&"segments"));
}

#[test]
fn extents_exist_and_are_used_once() {
    assert!(errors(|vg| set_image(vg, "pv1", 48)).contains(&"pv-end"));
    assert!(errors(|vg| set_image(vg, "pv1", u64::MAX)).contains(&"pv-end"));
    assert!(errors(|vg| set_image(vg, "pv1", 0)).contains(&"overlap"));
    assert!(errors(|vg| set_image(vg, "pv0", 10)).contains(&"overlap"));
    assert!(errors(|vg| set_image(vg, "pv9", 10)).contains(&"pv-reference"));
}

#[test]
fn a_long_run_hides_no_later_overlap() {
    let codes = errors(|vg| {
        // pv0: image 1..17; two short LVs inside it, one after the other.
        for (number, first) in [(1, 2), (2, 10)] {
            let mut lv = vg.lv(&name("lv_rmeta_0")).unwrap().clone();
            lv.name = name(&format!("x{number}"));
            lv.id = id(900 + number);
            lv.segments[0].kind = SegmentKind::Linear { pv: "pv0".to_owned(), first: Extents(first) };
            vg.lvs.push(lv);
        }
    });
    assert_eq!(codes, ["overlap"]);
}

#[test]
fn two_images_on_one_disk_are_possible_and_unusual() {
    assert_eq!(errors(|vg| set_image(vg, "pv0", 20)), [""; 0]);
    assert_eq!(found(Severity::Warning, |vg| set_image(vg, "pv0", 20)), ["raid1-disks"]);
}

#[test]
fn a_mirror_keeps_its_rules() {
    let top = |vg: &mut VolumeGroup, change: fn(&mut crate::lvm2::model::Raid1)| {
        if let SegmentKind::Raid1(raid) = &mut vg.lvs[0].segments[0].kind {
            change(raid);
        }
    };
    assert_eq!(errors(|vg| top(vg, |raid| raid.region_size = Sectors(3000))), ["region-size"]);
    assert_eq!(errors(|vg| top(vg, |raid| raid.region_size = Sectors(0))), ["region-size"]);
    assert_eq!(errors(|vg| top(vg, |raid| raid.slots[1] = raid.slots[0].clone())), ["raid1-sub-lv"]);
    assert_eq!(errors(|vg| top(vg, |raid| raid.slots.clear())), ["raid1-images"]);
    assert!(errors(|vg| vg.lvs.retain(|lv| lv.name != name("lv_rmeta_1"))).contains(&"raid1-sub-lv"));
    let set = |vg: &mut VolumeGroup, lv: &str, word: &str| vg.lv_mut(&name(lv)).unwrap().set(word, true);
    assert_eq!(errors(|vg| set(vg, "lv_rmeta_1", "VISIBLE")), ["raid1-visible"]);
    assert_eq!(errors(|vg| set(vg, "lv_rimage_1", "VISIBLE")), ["raid1-visible"]);
    assert_eq!(
        errors(|vg| vg.lv_mut(&name("lv_rimage_1")).unwrap().segments[0].count = Extents(15)),
        ["raid1-size"]
    );
    assert_eq!(
        errors(|vg| vg.lv_mut(&name("lv_rmeta_1")).unwrap().segments[0].count = Extents(17)),
        ["raid1-size", "overlap"]
    );
}

#[test]
fn names_decide_what_a_sub_lv_is() {
    let codes = errors(|vg| {
        if let SegmentKind::Raid1(raid) = &mut vg.lvs[0].segments[0].kind {
            let slot = &mut raid.slots[1];
            std::mem::swap(&mut slot.meta, &mut slot.image);
        }
    });
    assert!(codes.contains(&"raid1-names"));
}

#[test]
fn tags_are_those_that_lvm2_takes() {
    for tag in ["a", "a+b=c/d!e:f&g#h", "sm.io/name=pvc-1", "A_.-"] {
        assert!(is_tag(tag), "{tag}");
    }
    for tag in ["", "-a", "a b", "a\"", "a@b", "a,b", "ü", &"x".repeat(1025)] {
        assert!(!is_tag(tag), "{tag}");
    }
    assert_eq!(errors(|vg| vg.lvs[0].tags.push("a b".to_owned())), ["tag"]);
}

#[test]
fn the_pvs_of_a_mirror_are_told() {
    let vg = mirrored(2);
    assert_eq!(vg.pvs_of(&vg.lvs[0]), ["pv0", "pv1"]);
    assert_eq!(vg.free("pv0"), [run("pv0", 17, 46)]);
    assert_eq!(vg.free("pv7"), []);
}

fn refused(change: impl FnOnce(&mut VolumeGroup)) -> Option<String> {
    let mut vg = mirrored(2);
    assert_eq!(refuse_resize(&vg, None), None);
    change(&mut vg);
    refuse(&vg, Some("me")).map(|refusal| refusal.to_string())
}

#[test]
fn a_group_of_another_host_is_refused() {
    assert_eq!(refused(|vg| vg.system_id = Some("me".to_owned())), None);
    assert_eq!(refused(|vg| vg.system_id = Some(String::new())), None);
    let message = refused(|vg| vg.system_id = Some("you".to_owned())).unwrap();
    assert!(message.contains("belongs to the host \"you\"") && message.contains("\"me\""), "{message}");
}

#[test]
fn exported_and_shared_groups_are_refused() {
    assert!(refused(|vg| vg.status.push("EXPORTED".to_owned())).unwrap().contains("vgimport vg"));
    assert!(refused(|vg| vg.pvs[1].status.push("EXPORTED".to_owned())).is_some());
    for word in ["CLUSTERED", "SHARED"] {
        assert!(refused(|vg| vg.status.push(word.to_owned())).unwrap().contains(word));
    }
    assert!(refused(|vg| vg.lock_type = Some("sanlock".to_owned())).unwrap().contains("sanlock"));
    assert_eq!(refused(|vg| vg.lock_type = Some("none".to_owned())), None);
}

#[test]
fn a_read_only_group_is_used_but_not_changed() {
    let mut vg = mirrored(2);
    vg.status.retain(|word| word != "WRITE");
    assert_eq!(refuse(&vg, None), None);
    assert_eq!(refuse_change(&vg, None), Some(Refusal::ReadOnly { vg: vg.name.clone() }));
    vg.status.push("WRITE".to_owned());
    assert_eq!(refuse_change(&vg, None), None);
    vg.status.retain(|word| word != "RESIZEABLE");
    assert_eq!(refuse_change(&vg, None), None);
    assert_eq!(refuse_resize(&vg, None), Some(Refusal::NotResizeable { vg: vg.name.clone() }));
    vg.lvs[0].status.push("PVMOVE".to_owned());
    assert_eq!(refuse_change(&vg, None), Some(Refusal::Moving { vg: vg.name.clone() }));
}

#[test]
fn pvs_noted_as_missing_are_told() {
    let mut vg = mirrored(2);
    assert_eq!(missing(&vg), [""; 0]);
    vg.pvs[0].flags.push("MISSING".to_owned());
    vg.pvs[1].status.push("MISSING".to_owned());
    assert_eq!(missing(&vg), ["pv0", "pv1"]);
}
