//! Groups that may not be used, that miss something, or that were damaged.

use std::path::PathBuf;

use splitmirror::engine::{Error, Settings, pool};
use splitmirror::report::{Class, chain};
use splitmirror::volume::info::SlotState;

use crate::lab::{self, Outcome, ensure, say};
use crate::lvm::{self, head, is_content, lvm, new_group, new_raid1, plan, put_head, wait_for_sync};
use crate::theirs::adopt;
use crate::writer::{Writers, check_instant};

/// The answer is an error of this class that says this.
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, class: Class, says: &str) -> Outcome {
    match answer {
        Err(error) if error.class() == class && chain(&error).contains(says) => Ok(()),
        Err(error) => Err(format!("{:?}, not {class:?} with {says:?}: {}", error.class(), chain(&error))),
        Ok(done) => Err(format!("not refused: {done:?}")),
    }
}

fn opened() -> Result<(), Error> {
    splitmirror::engine::Engine::open(lab::host(), lab::vg(), Settings::default()).map(|_| ())
}

/// Listing pools tells this of the pool.
fn listed_with(problem: &str) -> Outcome {
    let pools = pool::list(&lab::host(), &Settings::default()).map_err(say)?;
    let shown = pools.iter().find(|pool| pool.name == lab::vg());
    let told = shown.is_some_and(|pool| pool.problems.iter().any(|told| told.contains(problem)));
    ensure(told, || format!("{problem:?} is not told: {pools:?}"))
}

fn untouched(disks: &[PathBuf], work: impl FnOnce() -> Outcome) -> Outcome {
    let heads = || disks.iter().map(|disk| head(disk)).collect::<Outcome<Vec<_>>>();
    let before = heads()?;
    work()?;
    ensure(before == heads()?, || "something was written".into())
}

pub fn an_exported_group_is_refused(disks: &[PathBuf]) -> Outcome {
    new_group(&disks[..2])?;
    lvm("vgexport pool")?;
    untouched(disks, || {
        refused(opened(), Class::Precondition, "vgimport")?;
        listed_with("exported")?;
        let options = pool::Options::default();
        refused(
            pool::extend(&lab::host(), &lab::vg(), &disks[2..], &options),
            Class::Precondition,
            "exported",
        )
    })?;
    lvm("vgimport pool")?;
    let engine = lab::open()?;
    lab::new_volume(&engine, "v", 2)?;
    is_content(&disks[..2])
}

pub fn the_group_of_another_host_is_refused(disks: &[PathBuf]) -> Outcome {
    lvm(&format!("vgcreate --systemid elsewhere pool {}", lvm::paths(&disks[..2])))?;
    untouched(disks, || {
        refused(opened(), Class::Precondition, "elsewhere")?;
        listed_with("elsewhere")?;
        let options = pool::Options::default();
        refused(
            pool::extend(&lab::host(), &lab::vg(), &disks[2..], &options),
            Class::Precondition,
            "elsewhere",
        )
    })?;
    let settings = Settings { system_id: Some("elsewhere".into()), ..Settings::default() };
    let engine = splitmirror::engine::Engine::open(lab::host(), lab::vg(), settings).map_err(say)?;
    lab::new_volume(&engine, "v", 2)?;
    engine.delete_volume("v").map_err(say)
}

pub fn a_wrong_name_is_answered_with_the_names_there_are(disks: &[PathBuf]) -> Outcome {
    lvm(&format!("vgcreate data {}", lvm::paths(&disks[..2])))?;
    untouched(disks, || refused(opened(), Class::NotFound, "data"))
}

/// LVs `v` on the first two disks and `w` on the last two, in sync and stopped.
fn two_pairs(disks: &[PathBuf]) -> Outcome {
    new_group(disks)?;
    new_raid1("v", 2, &lvm::paths(&disks[..2]))?;
    new_raid1("w", 2, &lvm::paths(&disks[2..]))?;
    wait_for_sync("v")?;
    wait_for_sync("w")?;
    lvm("vgchange -an pool").map(|_| ())
}

pub fn a_group_that_misses_a_disk_is_shown_and_not_changed(disks: &[PathBuf]) -> Outcome {
    two_pairs(disks)?;
    let saved = head(&disks[1])?;
    put_head(&disks[1], &vec![0; saved.len()])?;
    listed_with("missing")?;
    let engine = lab::open()?;
    engine.recover().map_err(say)?;
    let (v, w) = (lab::info(&engine, "v")?, lab::info(&engine, "w")?);
    ensure(v.slots[0].state == SlotState::InSync && v.slots[1].state == SlotState::Missing, || {
        format!("{v:?}")
    })?;
    ensure(v.problems.iter().any(|told| told.contains("missing")), || format!("{v:?}"))?;
    ensure(w.slots.iter().all(|slot| slot.state == SlotState::InSync), || format!("{w:?}"))?;
    untouched(disks, || {
        refused(engine.create_volume(&lab::volume_spec("new", 2)), Class::Precondition, "missing")?;
        refused(engine.create_snapshot(&lab::snapshot_spec("s", "v")), Class::Precondition, "must stay")?;
        refused(engine.create_snapshot(&lab::snapshot_spec("s", "w")), Class::Precondition, "missing")?;
        refused(engine.delete_volume("v"), Class::Precondition, "missing")
    })?;
    // Refusing has not stopped anything.
    let writers = Writers::start(&lab::device(&engine, "v")?, plan(41), None)?;
    writers.wait_for(20)?;
    writers.stop()?;
    put_head(&disks[1], &saved)?;
    is_content(disks)
}

pub fn a_disk_that_was_away_is_made_equal_when_it_is_back(disks: &[PathBuf]) -> Outcome {
    two_pairs(disks)?;
    let saved = head(&disks[1])?;
    put_head(&disks[1], &vec![0; saved.len()])?;
    let engine = lab::open()?;
    engine.recover().map_err(say)?;
    let device = lab::device(&engine, "v")?;
    let writers = Writers::start(&device, plan(42), None)?;
    writers.wait_for(50)?;
    put_head(&disks[1], &saved)?;
    drop(engine);
    let engine = adopt()?;
    writers.wait_for(20)?;
    lab::settle(&engine)?;
    lab::wait_in_sync(&engine, "v")?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || format!("{:?}", lab::info(&engine, "v")))?;
    let snapshot = lab::split(&engine, "s", "v")?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || "an image is missing".into())?;
    let end = writers.stop()?;
    check_instant(&device, &plan(42), &end, &end)?;
    is_content(disks)
}

/// LVM2 runs it with a leg of errors, and says in the metadata that the disk was missing.
pub fn a_degraded_lv_of_lvm2_is_not_split(disks: &[PathBuf]) -> Outcome {
    two_pairs(disks)?;
    let saved = head(&disks[1])?;
    put_head(&disks[1], &vec![0; saved.len()])?;
    lvm("lvchange -ay --activationmode degraded pool/v")?;
    let engine = lab::open()?;
    engine.recover().map_err(say)?;
    ensure(engine.create_snapshot(&lab::snapshot_spec("s", "v")).is_err(), || "it is split".into())?;
    let v = lab::info(&engine, "v")?;
    ensure(v.slots[1].state != SlotState::InSync && !v.problems.is_empty(), || format!("{v:?}"))?;
    let device = lab::device(&engine, "v")?;
    let writers = Writers::start(&device, plan(43), None)?;
    writers.wait_for(20)?;
    ensure(engine.create_snapshot(&lab::snapshot_spec("s", "v")).is_err(), || "it is split".into())?;
    let end = writers.stop()?;
    check_instant(&device, &plan(43), &end, &end)?;
    lvm("vgchange -an pool")?;
    put_head(&disks[1], &saved)?;
    let engine = adopt()?;
    lab::settle(&engine)?;
    lab::wait_in_sync(&engine, "v")?;
    ensure(lab::legs_are_equal(&engine, "v")? == 2, || format!("{:?}", lab::info(&engine, "v")))?;
    check_instant(&lab::device(&engine, "v")?, &plan(43), &end, &end)?;
    is_content(disks)
}

pub fn a_clone_of_a_disk_is_told(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    lab::new_volume(&engine, "v", 2)?;
    put_head(&disks[3], &head(&disks[1])?)?;
    untouched(disks, || {
        refused(opened(), Class::Precondition, "two devices")?;
        listed_with("two devices")?;
        let other = "other".parse().map_err(say)?;
        let options = pool::Options { wipe_signatures: disks.to_vec(), ..pool::Options::default() };
        refused(pool::create(&lab::host(), &other, &disks[2..], &options), Class::Precondition, "")
    })?;
    put_head(&disks[3], &vec![0; 1 << 20])?;
    lab::open()?.recover().map_err(say)?;
    is_content(&disks[..3])
}

pub fn a_damaged_copy_of_the_metadata_is_repaired(disks: &[PathBuf]) -> Outcome {
    use splitmirror::host::Blocks;
    use splitmirror::units::Bytes;
    let engine = lab::new_pool(disks, 3)?;
    lab::new_volume(&engine, "v", 2)?;
    drop(engine);
    // The header, and then the texts.
    for (at, len) in [(Bytes::kib(4), 512), (Bytes(4608), 900 << 10)] {
        lab::host().write(&disks[1], at, &vec![0x5a; len]).map_err(say)?;
        ensure(is_content(&disks[..3]).is_err(), || "LVM2 does not notice".into())?;
        listed_with("damaged")?;
        let engine = adopt()?;
        is_content(&disks[..3])?;
        lab::new_volume(&engine, &format!("w{len}"), 3)?;
        is_content(&disks[..3])?;
    }
    Ok(())
}

pub fn an_old_copy_of_the_metadata_is_repaired(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    lab::new_volume(&engine, "v", 2)?;
    let old = head(&disks[2])?;
    lab::new_volume(&engine, "w", 3)?;
    lab::split(&engine, "s", "w")?;
    let newest = lvm::rows("vgs -o vg_seqno pool")?;
    drop(engine);
    put_head(&disks[2], &old)?;
    listed_with("old")?;
    let engine = adopt()?;
    let seqno = lvm::rows("vgs -o vg_seqno pool")?;
    ensure(seqno > newest, || format!("{seqno:?} after {newest:?}"))?;
    is_content(&disks[..3])?;
    ensure(engine.snapshots().map_err(say)?.len() == 1, || "the snapshot is lost".into())?;
    lab::merge(&engine, "w@s")?;
    ensure(lab::legs_are_equal(&engine, "w")? == 3, || "an image is missing".into())
}

pub fn a_group_without_a_whole_copy_is_left_alone(disks: &[PathBuf]) -> Outcome {
    use splitmirror::host::Blocks;
    use splitmirror::units::Bytes;
    let members = &disks[..3];
    let engine = lab::new_pool(disks, 3)?;
    lab::new_volume(&engine, "v", 2)?;
    let heads = members.iter().map(|disk| head(disk)).collect::<Outcome<Vec<_>>>()?;
    for (at, len) in [(Bytes::kib(4), 512), (Bytes(4608), 900 << 10)] {
        for disk in members {
            lab::host().write(disk, at, &vec![0x5a; len]).map_err(say)?;
        }
        untouched(disks, || {
            refused(opened(), Class::NotFound, "damaged")?;
            // A running engine still knows the text and sees that no header has changed: its next commit heals.
            if at == Bytes::kib(4) {
                refused(engine.volumes(), Class::NotFound, "damaged")?;
            }
            let options = pool::Options { wipe_signatures: Vec::new(), ..pool::Options::default() };
            refused(pool::create(&lab::host(), &lab::vg(), members, &options), Class::Precondition, "")
        })?;
        for (disk, head) in members.iter().zip(&heads) {
            put_head(disk, head)?;
        }
        ensure(engine.volumes().map_err(say)?.len() == 1, || "it is not back".into())?;
    }
    is_content(members)
}
