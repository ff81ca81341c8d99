//! What we make, in the hands of LVM2.

use std::path::{Path, PathBuf};

use splitmirror::engine::group::Group;
use splitmirror::engine::{Settings, pool};
use splitmirror::lvm2::Provenance;
use splitmirror::lvm2::model::VolumeGroup;
use splitmirror::lvm2::text::Node;
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::info::SlotState;

use crate::lab::{self, Outcome, ensure, say};
use crate::lvm::{self, ANY, calm, is_content, lvm, lvm_refuses, node, plan, quiet, shows, visible};
use crate::writer::{Writers, check_instant};

pub fn lvm2_reads_every_state_we_write_without_a_warning(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let stage = |name: &str, lvs: &[&str]| -> Outcome {
        let look = || -> Outcome {
            is_content(&disks[..3])?;
            let shown = visible()?;
            ensure(shown == lvs, || format!("lvs shows {shown:?} instead of {lvs:?}"))?;
            if lvs.contains(&"v") {
                shows("v", &[("segtype", "raid1"), ("stripes", "3"), ("region_size", "524288")])?;
                shows("v", &[("copy_percent", "100.00"), ("raid_sync_action", "idle")])?;
                shows("v", &[("lv_health_status", ""), ("lv_active", "active"), ("lv_device_open", "")])?;
            }
            for image in lvs.iter().filter(|lv| lv.contains("_rimage_")) {
                shows(image, &[("lv_size", "16777216"), ("lv_role", "private,raid,image")])?;
                shows(image, &[("lv_active", "active"), ("segtype", "linear")])?;
            }
            Ok(())
        };
        look().map_err(|e| format!("{name}: {e}"))
    };
    stage("an empty pool", &[])?;
    let device = lab::new_volume(&engine, "v", 3)?;
    stage("a volume", &["v"])?;
    shows("v", &[("lv_size", "16777216"), ("lv_attr", "rwi-a-r---")])?;
    let writers = Writers::start(&device, plan(1), None)?;
    writers.wait_for(20)?;
    let one = lab::split(&engine, "one", "v")?;
    writers.wait_for(20)?;
    let busy = writers.stop()?;
    stage("one split", &["v", "v_rimage_2"])?;
    let two = lab::split(&engine, "two", "v")?;
    stage("two splits", &["v", "v_rimage_1", "v_rimage_2"])?;
    let view = engine.create_view("shown", &one.id).map_err(say)?;
    stage("a view", &["v", "v_rimage_1", "v_rimage_2"])?;
    engine.delete_volume(&view.id).map_err(say)?;
    lab::merge(&engine, &one.id)?;
    stage("one merged", &["v", "v_rimage_1"])?;
    lab::merge(&engine, &two.id)?;
    stage("both merged", &["v"])?;
    check_instant(&device, &plan(1), &busy, &busy)?;
    engine.expand_volume(&"v".parse().map_err(say)?, Bytes::mib(24), None).map_err(say)?;
    lab::wait_in_sync(&engine, "v")?;
    stage("grown", &["v"])?;
    shows("v", &[("lv_size", "25165824")])?;
    engine.delete_volume("v").map_err(say)?;
    stage("deleted", &[])
}

pub fn lvm2_stops_and_starts_our_volume(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(2), None)?;
    writers.wait_for(100)?;
    let end = writers.stop()?;
    lvm("vgchange -an pool")?;
    ensure(lab::devices()?.is_empty(), || format!("left over: {:?}", lab::devices()))?;
    lvm("vgchange -ay pool")?;
    check_instant(&node("v"), &plan(2), &end, &end)?;
    is_content(&disks[..3])?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "it does not come up".into())?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    lvm("vgchange -an pool")?;
    let device = lab::device(&engine, "v")?;
    check_instant(&device, &plan(2), &end, &end)?;
    lvm("vgchange -an pool")?;
    lvm("vgchange -aay pool")?;
    ensure(lab::devices()?.is_empty(), || "a boot would activate it unwatched".into())
}

pub fn lvm2_splits_and_merges_our_volume(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 2)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let writers = Writers::start(&device, plan(3), None)?;
    writers.wait_for(50)?;
    lvm("lvconvert -y --splitmirrors 1 --trackchanges pool/v")?;
    // Without this LVM2's merge is a matter of luck on 6.1: whether the superblocks say by then that a slot is missing.
    lab::run("dmsetup", &["suspend", "pool-v"])?;
    lab::run("dmsetup", &["resume", "pool-v"])?;
    writers.wait_for(50)?;
    let cut = check_instant(&node("v_rimage_1"), &plan(3), &ANY.0, &ANY.1)?;
    writers.wait_for(50)?;
    check_instant(&node("v_rimage_1"), &plan(3), &cut, &cut)?;
    let end = writers.stop()?;
    quiet();
    lvm("lvconvert --merge pool/v_rimage_1")?;
    lvm::wait_for_sync("v")?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())?;
    check_instant(&device, &plan(3), &end, &end)?;
    is_content(&disks[..2])
}

pub fn lvm2_extends_our_volume_under_load_and_removes_it(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(4), None)?;
    writers.wait_for(50)?;
    lvm("lvextend -L 24M pool/v")?;
    writers.wait_for(50)?;
    lvm::wait_for_sync("v")?;
    ensure(lab::info(&engine, "v")?.size == Bytes::mib(24), || "it did not grow".into())?;
    let snapshot = lab::split(&engine, "s", "v")?;
    ensure(snapshot.size == Bytes::mib(24), || format!("{snapshot:?}"))?;
    let refused = lvm_refuses("lvextend -L 32M pool/v")?;
    ensure(refused.contains("tracking a split image"), || refused)?;
    writers.wait_for(50)?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    let end = writers.stop()?;
    check_instant(&device, &plan(4), &end, &end)?;
    lab::split(&engine, "with a snapshot", "v")?;
    lvm("lvremove -y pool/v")?;
    ensure(lab::devices()?.is_empty(), || format!("left over: {:?}", lab::devices()))?;
    ensure(engine.volumes().map_err(say)?.is_empty(), || "it is still listed".into())?;
    lab::new_volume(&engine, "v", 3)?;
    is_content(&disks[..3])
}

/// LVM2's own order lets the kernel take the image as equal while the array is busy: the engine sees that somebody else
/// attached it.
pub fn our_snapshot_merged_by_lvm2_under_load_is_noticed_and_made_equal(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(5), None)?;
    for round in 0..3 {
        writers.wait_for(50)?;
        let snapshot = lab::split(&engine, &format!("s{round}"), "v")?;
        writers.wait_for(50)?;
        lvm(&format!("lvconvert --merge pool/v_rimage_{}", snapshot.slot))?;
        ensure(engine.advance().map_err(say)?, || "nobody noticed".into())?;
        ensure(lab::info(&engine, "v")?.slots[snapshot.slot].state != SlotState::InSync, || {
            "it is taken as equal".into()
        })?;
        lab::settle(&engine)?;
        ensure(engine.snapshots().map_err(say)?.is_empty(), || "the snapshot is still listed".into())?;
        let equal = lab::legs_are_equal(&engine, "v").map_err(|e| format!("round {round}: {e}"))?;
        ensure(equal == 3, || "an image is missing".into())?;
    }
    let end = writers.stop()?;
    check_instant(&device, &plan(5), &end, &end)?;
    let tags = lvm::rows("lvs -a -o lv_tags pool")?;
    ensure(tags.iter().filter(|tags| !tags.is_empty()).count() == 1, || format!("left over: {tags:?}"))?;
    is_content(&disks[..3])
}

pub fn our_snapshot_survives_a_stop_and_start_by_lvm2_and_is_merged_by_its_marks(
    disks: &[PathBuf],
) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(6), None)?;
    writers.wait_for(50)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    let image = |device: &Option<String>| device.clone().map(PathBuf::from).ok_or("no device".to_owned());
    let cut = check_instant(&image(&snapshot.device)?, &plan(6), &ANY.0, &ANY.1)?;
    writers.wait_for(2)?;
    let end = writers.stop()?;
    let changed = lab::info(&engine, "v")?.snapshots[0].changed;
    lvm("vgchange -an pool")?;
    ensure(lab::devices()?.is_empty(), || format!("left over: {:?}", lab::devices()))?;
    lvm("vgchange -ay pool")?;
    check_instant(&node("v"), &plan(6), &end, &end)?;
    check_instant(&node("v_rimage_2"), &plan(6), &cut, &cut)?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "it does not come up".into())?;
    let again = lab::split(&engine, "s", "v")?;
    ensure(again.id == snapshot.id && again.full_merge.is_none(), || format!("{again:?}"))?;
    ensure(again.changed == changed, || format!("{} changed, now {}", changed, again.changed))?;
    check_instant(&image(&again.device)?, &plan(6), &cut, &cut)?;
    lvm("vgchange -an pool")?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "it does not come up".into())?;
    let again = lab::split(&engine, "s", "v")?;
    ensure(again.full_merge.is_none() && again.changed == changed, || format!("{again:?}"))?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    let images = lab::attached_images(&engine, "v")?;
    let written = Bytes(sectors_written(&images[snapshot.slot].1)? * 512);
    ensure(written >= changed && written < lab::SIZE.max(changed + Bytes(1)), || {
        format!("{written} copied, {changed} were changed")
    })?;
    check_instant(&lab::device(&engine, "v")?, &plan(6), &end, &end)?;
    is_content(&disks[..3])
}

fn sectors_written(device: &Path) -> Outcome<u64> {
    let name = device.file_name().and_then(|n| n.to_str()).ok_or("no device name")?;
    let text = std::fs::read_to_string(format!("/sys/block/{name}/stat")).map_err(say)?;
    text.split_ascii_whitespace()
        .nth(6)
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| format!("stat of {name}: {text}"))
}

/// In an order that does not depend on the printer, and without what each printing makes anew.
fn sorted(mut vg: VolumeGroup) -> VolumeGroup {
    vg.pvs.sort_by(|a, b| a.name.cmp(&b.name));
    vg.lvs.sort_by(|a, b| a.name.cmp(&b.name));
    vg.trailer.clear();
    let no_comments = |nodes: &mut Vec<Node>| nodes.retain(|node| !matches!(node, Node::Comment(_)));
    no_comments(&mut vg.extra);
    vg.pvs.iter_mut().for_each(|pv| no_comments(&mut pv.extra));
    for lv in &mut vg.lvs {
        no_comments(&mut lv.extra);
        lv.segments.iter_mut().for_each(|segment| no_comments(&mut segment.extra));
    }
    vg
}

pub fn our_metadata_and_a_backup_by_lvm2_agree(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    lab::new_volume(&engine, "v", 3)?;
    engine.create_volume(&lab::volume_spec("a volume with spaces & ümlauts", 2)).map_err(say)?;
    lab::split(&engine, "s", "v")?;
    let read = || -> Outcome<VolumeGroup> {
        let group = Group::read(&lab::host(), &lab::vg(), &Settings::default(), None).map_err(say)?;
        Ok(group.vg().clone())
    };
    let ours = read()?;
    lvm("vgcfgbackup -f /tmp/backup pool")?;
    let backup = std::fs::read_to_string("/tmp/backup").map_err(say)?;
    let theirs = VolumeGroup::parse(&backup).map_err(say)?;
    ensure(sorted(theirs.clone()) == sorted(ours.clone()), || format!("{theirs:#?}\nis not\n{ours:#?}"))?;
    let provenance = Provenance {
        description: "a \"test\"".into(),
        creation_host: "guest".into(),
        creation_time: 1,
        generated_by: "splitmirror".into(),
    };
    std::fs::write("/tmp/ours", ours.render(&provenance)).map_err(say)?;
    calm("vgcfgrestore --test -f /tmp/ours pool").or_else(|why| {
        // It says so itself.
        if why.contains("TEST MODE") { Ok(why) } else { Err(why) }
    })?;
    engine.deactivate(&"v".parse().map_err(say)?).map_err(say)?;
    lvm("vgchange -an pool")?;
    lvm("vgcfgrestore -f /tmp/ours pool")?;
    let restored = read()?;
    ensure(restored.seqno > ours.seqno, || format!("seqno {}", restored.seqno))?;
    let restored = VolumeGroup { seqno: ours.seqno, ..restored };
    ensure(sorted(restored.clone()) == sorted(ours.clone()), || format!("{restored:#?}\nis not\n{ours:#?}"))?;
    is_content(&disks[..3])
}

pub fn a_disk_taken_out_of_our_pool_is_free_for_lvm2(disks: &[PathBuf]) -> Outcome {
    let host = lab::host();
    let options = pool::Options::default();
    let last = &disks[3..4];
    let free = lvm::paths(last);
    let engine = lab::new_pool(disks, 4)?;
    lab::new_volume(&engine, "v", 3)?;
    let used = pool::reduce(&host, &lab::vg(), &disks[..3], &options);
    ensure(used.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{used:?}"))?;
    is_content(disks)?;
    pool::reduce(&host, &lab::vg(), last, &options).map_err(say)?;
    pool::reduce(&host, &lab::vg(), last, &options).map_err(say)?;
    let shown = lvm::rows("pvs -o pv_name")?;
    ensure(!shown.contains(&free), || format!("{free} is still a PV: {shown:?}"))?;
    lvm_refuses(&format!("pvck {free}"))?;
    is_content(&disks[..3])?;
    lvm(&format!("pvcreate {free}"))?;
    lvm(&format!("vgextend pool {free}"))?;
    is_content(disks)?;
    lvm(&format!("vgreduce pool {free}"))?;
    pool::extend(&host, &lab::vg(), last, &options).map_err(say)?;
    pool::extend(&host, &lab::vg(), last, &options).map_err(say)?;
    is_content(disks)?;
    lab::new_volume(&engine, "w", 4)?;
    is_content(disks)
}

pub fn a_disk_of_our_pool_is_kept_by_lvm2(disks: &[PathBuf]) -> Outcome {
    lab::new_pool(disks, 3)?;
    let member = lvm::paths(&disks[..1]);
    for command in ["pvcreate", "pvcreate -y", "vgcreate other", "pvremove"] {
        lvm_refuses(&format!("{command} {member}"))?;
    }
    let other = "other".parse().map_err(say)?;
    for over in [Vec::new(), disks.to_vec()] {
        let options = pool::Options { wipe_signatures: over, ..pool::Options::default() };
        let taken = pool::create(&lab::host(), &other, &disks[2..4], &options);
        ensure(taken.as_ref().is_err_and(|e| e.class() == Class::Precondition), || format!("{taken:?}"))?;
    }
    is_content(&disks[..3])?;
    ensure(lvm::rows("pvs -o pv_name")?.len() == 3, || "the fourth disk was touched".into())
}
