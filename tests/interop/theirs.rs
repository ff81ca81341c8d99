//! What LVM2 makes, in our hands.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use splitmirror::engine::{Engine, Settings};
use splitmirror::host::linux::LinuxHost;
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::info::SlotState;

use crate::lab::{self, Outcome, ensure, say};
use crate::lvm::{self, ANY, is_content, lvm, new_group, new_raid1, node, plan, visible, wait_for_sync};
use crate::writer::{Writers, check_instant};

/// An engine on the group, with every volume up.
pub fn adopt() -> Outcome<Engine<LinuxHost>> {
    let engine = lab::open()?;
    let failed = engine.recover().map_err(say)?;
    ensure(failed.is_empty(), || format!("not brought up: {failed:?}"))?;
    Ok(engine)
}

fn adopted(disks: &[PathBuf], images: usize) -> Outcome {
    let members = &disks[..3];
    new_group(members)?;
    new_raid1("v", images, "")?;
    let engine = adopt()?;
    let shown = lab::info(&engine, "v")?;
    ensure(shown.name.is_none() && shown.size == lab::SIZE && shown.slots.len() == images, || {
        format!("{shown:?}")
    })?;
    let device = lab::device(&engine, "v")?;
    let writers = Writers::start(&device, plan(21), None)?;
    for round in 0..6 {
        writers.wait_for(30)?;
        let snapshot = lab::split(&engine, &format!("s{round}"), "v")?;
        is_content(members)?;
        writers.wait_for(30)?;
        let image = PathBuf::from(snapshot.device.as_ref().ok_or("no device")?);
        check_instant(&image, &plan(21), &ANY.0, &ANY.1)?;
        lab::merge(&engine, &snapshot.id)?;
        let equal = lab::legs_are_equal(&engine, "v").map_err(|e| format!("round {round}: {e}"))?;
        ensure(equal == images, || format!("round {round}: {equal} images"))?;
        is_content(members)?;
    }
    let end = writers.stop()?;
    check_instant(&device, &plan(21), &end, &end)?;
    // It starts again, by either.
    lvm("vgchange -an pool")?;
    lvm("vgchange -ay pool")?;
    check_instant(&node("v"), &plan(21), &end, &end)?;
    engine.delete_volume("v").map_err(say)?;
    ensure(visible()?.is_empty() && lab::devices()?.is_empty(), || "it is not gone".into())?;
    is_content(members)
}

pub fn a_raid1_lv_of_two_images_is_adopted(disks: &[PathBuf]) -> Outcome {
    adopted(disks, 2)
}

pub fn a_raid1_lv_of_three_images_is_adopted(disks: &[PathBuf]) -> Outcome {
    adopted(disks, 3)
}

pub fn a_tracked_split_by_lvm2_is_adopted_and_merged_in_full(disks: &[PathBuf]) -> Outcome {
    new_group(&disks[..2])?;
    new_raid1("v", 2, "")?;
    wait_for_sync("v")?;
    let writers = Writers::start(&node("v"), plan(22), None)?;
    writers.wait_for(50)?;
    lvm("lvconvert -y --splitmirrors 1 --trackchanges pool/v")?;
    writers.wait_for(50)?;
    let cut = check_instant(&node("v_rimage_1"), &plan(22), &ANY.0, &ANY.1)?;
    let engine = adopt()?;
    let snapshots = engine.snapshots().map_err(say)?;
    let [snapshot] = snapshots.as_slice() else { return Err(format!("{snapshots:?}")) };
    ensure(snapshot.name.is_none() && snapshot.ready && snapshot.slot == 1, || format!("{snapshot:?}"))?;
    ensure(snapshot.full_merge.is_some() && snapshot.cut_unix_nanos.is_none(), || format!("{snapshot:?}"))?;
    let image = PathBuf::from(snapshot.device.as_ref().ok_or("no device")?);
    check_instant(&image, &plan(22), &cut, &cut)?;
    let view = engine.create_view("shown", &snapshot.id).map_err(say)?;
    let open = engine.open_device(&view.id).map_err(say)?;
    ensure(open.read_only, || format!("{open:?}"))?;
    check_instant(&open.path, &plan(22), &cut, &cut)?;
    is_content(&disks[..2])?;
    engine.delete_volume(&view.id).map_err(say)?;
    engine.delete_snapshot(&snapshot.id).map_err(say)?;
    lab::settle(&engine)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())?;
    let end = writers.stop()?;
    check_instant(&node("v"), &plan(22), &end, &end)?;
    ensure(visible()? == ["v"], || format!("{:?}", visible()))?;
    is_content(&disks[..2])
}

/// What LVM2 says of everything but the volume `v`.
fn others() -> Outcome<Vec<String>> {
    let lvs = "lvs -a -o lv_name,lv_uuid,lv_attr,lv_size,segtype,seg_start,seg_size,stripes,stripe_size,devices,\
               lv_tags,seg_tags,origin,pool_lv,data_lv,metadata_lv,lv_time,lv_host,chunk_size,transaction_id,thin_id,\
               discards,zero,lv_read_ahead,lv_allocation_policy,lv_minor,lv_profile,lv_device_open,lv_permissions pool";
    let mut all = lvm::rows(lvs)?;
    all.retain(|row| !row.starts_with("v|") && !row.starts_with("[v_") && !row.starts_with("v_rimage"));
    all.sort();
    all.extend(lvm::rows("vgs -o vg_uuid,vg_tags,vg_extent_size,max_lv,max_pv,vg_attr,vg_profile pool")?);
    all.extend(lvm::rows("pvs -o pv_uuid,pv_tags,pe_start,pv_name,pv_attr -S vg_name=pool")?);
    Ok(all)
}

pub fn other_kinds_of_lvs_are_kept_as_they_are(disks: &[PathBuf]) -> Outcome {
    lvm(&format!("vgcreate --addtag prod --maxlogicalvolumes 40 pool {}", lvm::paths(disks)))?;
    lvm(&format!("pvchange --addtag fast {}", disks[1].display()))?;
    lvm("lvcreate -y -L 16M -n plain --addtag owner=me -r 64 pool")?;
    lvm("lvcreate -y -i 2 -I 64K -L 16M --alloc anywhere -n striped pool")?;
    lvm("lvcreate -y --type thin-pool -L 20M -n thins pool")?;
    lvm("lvcreate -y -V 16M --thinpool thins -n thin pool")?;
    for lv in ["plain", "striped", "thin"] {
        lvm::blank(lv)?;
    }
    lvm("lvcreate -y -s -L 16M -n cow pool/plain")?;
    lvm("lvcreate -y -L 4M -p r -n fixed pool")?;
    lvm("lvcreate -y -an -ky -L 4M -n hidden pool")?;
    is_content(disks)?;
    let used = [("plain", 31), ("striped", 32), ("thin", 33)];
    let mut ends = Vec::new();
    for (lv, seed) in used {
        let writers = Writers::start(&node(lv), plan(seed), None)?;
        writers.wait_for(40)?;
        ends.push(writers.stop()?);
    }
    let before = others()?;
    let unchanged = |after: &str| {
        let now = others()?;
        ensure(now == before, || {
            let lost: Vec<_> = before.iter().filter(|row| !now.contains(row)).collect();
            let new: Vec<_> = now.iter().filter(|row| !before.contains(row)).collect();
            format!("after {after}: {lost:#?} became {new:#?}")
        })?;
        is_content(disks).map_err(|e| format!("after {after}: {e}"))
    };
    let engine = adopt()?;
    unchanged("adoption")?;
    ensure(engine.volumes().map_err(say)?.is_empty(), || "there is no volume yet".into())?;
    let device = lab::new_volume(&engine, "v", 3)?;
    unchanged("a new volume")?;
    let writers = Writers::start(&device, plan(34), None)?;
    writers.wait_for(20)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    unchanged("a split")?;
    writers.wait_for(20)?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    unchanged("a merge")?;
    writers.stop()?;
    engine.expand_volume(&"v".parse().map_err(say)?, Bytes::mib(20), None).map_err(say)?;
    unchanged("an expansion")?;
    engine.delete_volume("v").map_err(say)?;
    unchanged("a removal")?;
    lvm("vgchange -an pool")?;
    lvm("vgchange -ay pool")?;
    for ((lv, seed), end) in used.iter().zip(&ends) {
        check_instant(&node(lv), &plan(*seed), end, end).map_err(|e| format!("{lv}: {e}"))?;
    }
    check_instant(&node("cow"), &plan(31), &[0; 4], &[0; 4])?;
    unchanged("a stop and a start")
}

/// It is no bare raid1 array: its device is a snapshot's origin. Neither it nor what is beside it comes to harm.
pub fn a_raid1_lv_under_a_cow_snapshot_is_left_alone(disks: &[PathBuf]) -> Outcome {
    new_group(&disks[..3])?;
    new_raid1("origin", 2, "")?;
    wait_for_sync("origin")?;
    lvm("lvcreate -y -s -L 8M -n cow pool/origin")?;
    let engine = lab::open()?;
    engine.recover().map_err(say)?;
    let device = lab::new_volume(&engine, "v", 2)?;
    let writers = Writers::start(&device, plan(23), None)?;
    let volumes = engine.volumes().map_err(say)?;
    ensure(volumes.iter().any(|volume| volume.id.as_str() == "v"), || format!("{volumes:?}"))?;
    let snapshot = lab::split(&engine, "s", "v")?;
    writers.wait_for(20)?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())?;
    writers.stop()?;
    let refused = engine.create_snapshot(&lab::snapshot_spec("s", "origin"));
    ensure(
        refused.as_ref().is_err_and(|e| matches!(e.class(), Class::Precondition | Class::NotFound)),
        || format!("{refused:?}"),
    )?;
    let kept = engine.delete_volume("origin");
    ensure(lvm::field("origin", "lv_name")? == "origin", || format!("it is gone: {kept:?}"))?;
    let grown = engine.expand_volume(&"origin".parse().map_err(say)?, Bytes::mib(32), None);
    ensure(grown.is_err(), || format!("{grown:?}"))?;
    let writers = Writers::start(&node("origin"), plan(24), None)?;
    writers.wait_for(20)?;
    let end = writers.stop()?;
    check_instant(&node("origin"), &plan(24), &end, &end)?;
    check_instant(&node("cow"), &plan(24), &[0; 4], &[0; 4])?;
    lvm("lvremove -y pool/cow")?;
    engine.recover().map_err(say)?;
    let snapshot = lab::split(&engine, "s", "origin")?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "origin")? == 2, || "an image is missing".into())?;
    is_content(&disks[..3])
}

pub fn an_lv_that_is_resyncing_is_not_split(disks: &[PathBuf]) -> Outcome {
    new_group(&disks[..2])?;
    new_raid1("v", 2, "--minrecoveryrate 1K --maxrecoveryrate 200K")?;
    let settings = Settings { patience: Duration::from_secs(1), ..Settings::default() };
    let engine = Engine::open(lab::host(), lab::vg(), settings).map_err(say)?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "it does not come up".into())?;
    let shown = lab::info(&engine, "v")?;
    ensure(shown.to_resync > Bytes::ZERO && shown.sync_percent < 100.0, || format!("{shown:?}"))?;
    let early = engine.create_snapshot(&lab::snapshot_spec("s", "v"));
    ensure(early.as_ref().is_err_and(|e| e.class() == Class::InProgress), || format!("{early:?}"))?;
    ensure(engine.snapshots().map_err(say)?.is_empty() && visible()? == ["v"], || "half a split".into())?;
    lvm("lvchange --maxrecoveryrate 1G pool/v")?;
    wait_for_sync("v")?;
    let snapshot = engine.create_snapshot(&lab::snapshot_spec("s", "v")).map_err(say)?;
    ensure(snapshot.ready, || format!("{snapshot:?}"))?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())?;
    is_content(&disks[..2])
}

pub fn an_lv_made_without_a_first_sync_is_not_split(disks: &[PathBuf]) -> Outcome {
    new_group(&disks[..2])?;
    new_raid1("v", 2, "--nosync")?;
    let engine = adopt()?;
    let refused = engine.create_snapshot(&lab::snapshot_spec("s", "v"));
    let Err(error) = refused else { return Err(format!("{refused:?}")) };
    ensure(error.class() == Class::Precondition && error.to_string().contains("--resync"), || {
        format!("{error:?}")
    })?;
    ensure(visible()? == ["v"], || "half a split".into())?;
    engine.deactivate(&"v".parse().map_err(say)?).map_err(say)?;
    lvm("lvchange -y --resync pool/v")?;
    lvm("lvchange -ay pool/v")?;
    wait_for_sync("v")?;
    let engine = adopt()?;
    let snapshot = lab::split(&engine, "s", "v")?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())
}

/// An admin at work: LVs come and go. Returns the names of those that stay.
fn admin(stop: &AtomicBool) -> Outcome<Vec<String>> {
    let mut kept = Vec::new();
    let mut seqno = 0;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        lvm(&format!("lvcreate -y -an -Zn -Wn -L4M -n x{n} pool"))?;
        let now: u64 = lvm::rows("vgs -o vg_seqno pool")?.join("").parse().map_err(say)?;
        ensure(now > seqno, || format!("seqno {now} after {seqno}"))?;
        seqno = now;
        lvm::calm("lvs -a -o +devices pool")?;
        if n % 3 == 0 && kept.len() < 8 {
            kept.push(format!("x{n}"));
        } else {
            lvm(&format!("lvremove -y pool/x{n}"))?;
        }
    }
    Ok(kept)
}

pub fn both_change_the_group_at_once_and_nothing_is_lost(disks: &[PathBuf]) -> Outcome {
    new_group(&disks[..3])?;
    new_raid1("v", 3, "")?;
    let engine = adopt()?;
    let device = lab::device(&engine, "v")?;
    let writers = Writers::start(&device, plan(25), None)?;
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let at_work = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || admin(&stop)
    });
    let rounds = || -> Outcome<usize> {
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() < Duration::from_secs(12) || rounds < 5 {
            ensure(!at_work.is_finished(), || "LVM2 failed".into())?;
            let one = lab::split(&engine, &format!("one{rounds}"), "v")?;
            let two = lab::split(&engine, &format!("two{rounds}"), "v")?;
            writers.wait_for(5)?;
            lab::merge(&engine, &one.id)?;
            lab::merge(&engine, &two.id)?;
            lab::legs_are_equal(&engine, "v")?;
            rounds += 1;
        }
        Ok(rounds)
    };
    let rounds = rounds();
    stop.store(true, Ordering::Relaxed);
    let kept = at_work.join().map_err(|_| "the admin panicked")?;
    let (rounds, mut kept) = (rounds?, kept?);
    println!("{rounds} rounds of ours, {} LVs of LVM2's stay", kept.len());
    ensure(!kept.is_empty(), || "LVM2 never got its turn".into())?;
    kept.push("v".into());
    kept.sort();
    ensure(visible()? == kept, || format!("{:?} instead of {kept:?}", visible()))?;
    let end = writers.stop()?;
    check_instant(&device, &plan(25), &end, &end)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    is_content(&disks[..3])
}

/// Not a test of ours: says what LVM2's own split and merge come to on this kernel, so that a reader knows
/// what the comparison of images finds, and why the engine copies in full what another tool attached.
pub fn splits_and_merges_by_lvm2_alone_under_load(disks: &[PathBuf]) -> Outcome {
    new_group(&disks[..3])?;
    new_raid1("v", 3, "")?;
    wait_for_sync("v")?;
    let engine = lab::open()?;
    let writers = Writers::start(&node("v"), plan(26), None)?;
    let mut differed = 0;
    for _ in 0..4 {
        writers.wait_for(30)?;
        lvm("lvconvert -y --splitmirrors 1 --trackchanges pool/v")?;
        writers.wait_for(30)?;
        lvm("lvconvert --merge pool/v_rimage_2")?;
        wait_for_sync("v")?;
        ensure(lab::info(&engine, "v")?.slots.iter().all(|slot| slot.state == SlotState::InSync), || {
            "not all are in sync".into()
        })?;
        if let Err(why) = lab::legs_are_equal(&engine, "v") {
            println!("after a merge by LVM2 alone: {why}");
            differed += 1;
            lvm("lvchange --syncaction repair pool/v")?;
            wait_for_sync("v")?;
        }
    }
    println!(
        "@@PASS splits_and_merges_by_lvm2_alone_under_load/images_in_sync_differ_after_{differed}_of_4_merges"
    );
    writers.stop().map(|_| ())
}
