//! Bad input: refused with a clear word, and nothing changed.

use std::path::PathBuf;

use splitmirror::engine::{Error, pool};
use splitmirror::report::{Class, chain};
use splitmirror::units::Bytes;
use splitmirror::volume::spec::{SnapshotSpec, VolumeSpec};

use crate::lab::{self, Outcome, ensure, say};
use crate::lvm::{self, head, is_content, put_head};

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, class: Class, says: &str) -> Outcome {
    match answer {
        Err(error) if error.class() == class && chain(&error).contains(says) => Ok(()),
        Err(error) => Err(format!("{:?}, not {class:?} with {says:?}: {}", error.class(), chain(&error))),
        Ok(done) => Err(format!("not refused: {done:?}")),
    }
}

pub fn a_disk_with_a_file_system_is_taken_only_when_named(disks: &[PathBuf]) -> Outcome {
    let host = lab::host();
    let used = disks[2].display().to_string();
    lab::run("mkfs.ext4", &["-q", "-F", &used])?;
    let options = pool::Options::default();
    let create = |options: &pool::Options| pool::create(&host, &lab::vg(), &disks[..3], options);
    refused(create(&options), Class::Precondition, "ext4")?;
    refused(create(&options), Class::Precondition, &used)?;
    let others = pool::Options { wipe_signatures: disks[..2].to_vec(), ..options.clone() };
    refused(create(&others), Class::Precondition, "ext4")?;
    ensure(lvm::rows("pvs -o pv_name")?.is_empty(), || "a disk was made a PV".into())?;
    lab::run("e2fsck", &["-f", "-n", &used])?;
    lab::mkdir("/mnt/used")?;
    lab::run("mount", &[&used, "/mnt/used"])?;
    let named = pool::Options { wipe_signatures: vec![disks[2].clone()], ..options.clone() };
    let mounted = create(&named);
    lab::run("umount", &["/mnt/used"])?;
    refused(mounted, Class::Precondition, "in use")?;
    create(&named).map_err(say)?;
    create(&options).map_err(say)?;
    is_content(&disks[..3])?;
    lab::run("mkfs.xfs", &["-q", "-f", "-s", "size=512", &disks[3].display().to_string()])
        .or_else(|_| lab::run("mkfs.ext4", &["-q", "-F", &disks[3].display().to_string()]))?;
    refused(pool::extend(&host, &lab::vg(), &disks[3..], &options), Class::Precondition, "is left alone")?;
    let named = pool::Options { wipe_signatures: vec![disks[3].clone()], ..options };
    pool::extend(&host, &lab::vg(), &disks[3..], &named).map_err(say)?;
    is_content(disks)
}

pub fn a_pool_is_not_made_of_the_wrong_devices(disks: &[PathBuf]) -> Outcome {
    let host = lab::host();
    let options = pool::Options::default();
    let create = |devices: &[PathBuf]| pool::create(&host, &lab::vg(), devices, &options);
    refused(create(&disks[..1]), Class::Invalid, "at least 2")?;
    refused(create(&[disks[0].clone(), disks[0].clone()]), Class::Invalid, "twice")?;
    refused(create(&[disks[0].clone(), "/dev/nothing".into()]), Class::Invalid, "/dev/nothing")?;
    refused(create(&[disks[0].clone(), "/etc/passwd".into()]), Class::Invalid, "/etc/passwd")?;
    let odd = pool::Options { extent_size: Bytes::mib(3), ..options.clone() };
    refused(pool::create(&host, &lab::vg(), &disks[..2], &odd), Class::Invalid, "power of two")?;
    ensure(lvm::rows("pvs -o pv_name")?.is_empty(), || "a disk was made a PV".into())?;
    create(&disks[..2]).map_err(say)?;
    refused(create(&disks[..3]), Class::Exists, "exists")?;
    is_content(&disks[..2])
}

pub fn volumes_that_do_not_fit_are_refused(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let spec = |size, images| VolumeSpec { size, ..lab::volume_spec("v", images) };
    let before: Vec<_> = disks.iter().map(|disk| head(disk)).collect::<Outcome<_>>()?;
    refused(engine.create_volume(&spec(Bytes::gib(1), 2)), Class::Exhausted, "")?;
    refused(engine.create_volume(&spec(Bytes(u64::MAX), 2)), Class::OutOfRange, "")?;
    refused(engine.create_volume(&spec(Bytes(1 << 60), 2)), Class::Exhausted, "")
        .or_else(|_| refused(engine.create_volume(&spec(Bytes(1 << 60), 2)), Class::Invalid, ""))?;
    refused(engine.create_volume(&spec(lab::SIZE, 4)), Class::Exhausted, "")?;
    for images in [0, 11, 65] {
        refused(engine.create_volume(&spec(lab::SIZE, images)), Class::Invalid, "images")?;
    }
    for region in [Bytes(0), Bytes(1), Bytes::kib(3), Bytes::gib(1)] {
        let odd = VolumeSpec { region_size: region, ..spec(lab::SIZE, 2) };
        refused(engine.create_volume(&odd), Class::Invalid, "")?;
    }
    let narrow = VolumeSpec { limit: Some(Bytes::mib(17)), ..spec(Bytes::mib(17), 2) };
    refused(engine.create_volume(&narrow), Class::OutOfRange, "limit")?;
    let after: Vec<_> = disks.iter().map(|disk| head(disk)).collect::<Outcome<_>>()?;
    ensure(before == after, || "something was written".into())?;
    let largest = engine.capacity(3).map_err(say)?.largest;
    engine.create_volume(&spec(largest, 3)).map_err(say)?;
    ensure(engine.capacity(3).map_err(say)?.largest == Bytes::ZERO, || "there is room left".into())?;
    let id = "v".parse().map_err(say)?;
    refused(engine.expand_volume(&id, largest + Bytes(1), None), Class::Exhausted, "")?;
    refused(engine.expand_volume(&id, Bytes(u64::MAX), None), Class::OutOfRange, "")?;
    refused(engine.expand_volume(&id, Bytes(1 << 60), None), Class::Exhausted, "")
        .or_else(|_| refused(engine.expand_volume(&id, Bytes(1 << 60), None), Class::OutOfRange, ""))?;
    refused(engine.expand_volume(&"none".parse().map_err(say)?, largest, None), Class::NotFound, "none")?;
    is_content(&disks[..3])
}

pub fn any_name_of_128_bytes_is_taken(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 2)?;
    let names = [
        "n".repeat(128),
        "-".repeat(128),
        format!("{}{}", "é".repeat(63), "!?"),
        "../../../etc/passwd".into(),
        "a b\tc\n\"quoted\\".into(),
        "# } logical_volumes { x = [".into(),
        "snapshot0".into(),
        "x_rimage_0".into(),
        ".".into(),
        "pvmove0".into(),
        "pv0".into(),
        "pool".into(),
        "v@s".into(),
    ];
    for name in &names {
        let volume = engine
            .create_volume(&VolumeSpec { size: Bytes::mib(4), ..lab::volume_spec(name, 2) })
            .map_err(|e| format!("{name:?}: {}", chain(&e)))?;
        ensure(volume.name.as_ref() == Some(name), || format!("{volume:?}"))?;
        let spec = lab::snapshot_spec(name, volume.id.as_str());
        let snapshot = engine.create_snapshot(&spec).map_err(|e| format!("{name:?}: {}", chain(&e)))?;
        ensure(snapshot.name.as_ref() == Some(name), || format!("{snapshot:?}"))?;
        let view = engine.create_view(&format!("{name}v"), &snapshot.id).map_err(say)?;
        is_content(&disks[..2]).map_err(|e| format!("{name:?}: {e}"))?;
        drop(lab::open()?);
        let again = engine.create_snapshot(&spec).map_err(say)?;
        ensure(again.id == snapshot.id, || format!("{again:?}"))?;
        engine.delete_volume(&view.id).map_err(say)?;
        lab::merge(&engine, &snapshot.id)?;
        engine.delete_volume(volume.id.as_str()).map_err(say)?;
    }
    ensure(lvm::rows("lvs -a pool")?.is_empty(), || "something is left".into())
}

pub fn a_name_that_is_taken_is_refused(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    lvm::lvm("lvcreate -y -an -L 4M -n linear pool")?;
    lvm::new_raid1("raid", 2, "")?;
    refused(engine.create_volume(&lab::volume_spec("linear", 2)), Class::Exists, "")?;
    refused(engine.create_volume(&lab::volume_spec("raid", 2)), Class::Exists, "")?;
    lab::new_volume(&engine, "v", 3)?;
    lab::new_volume(&engine, "w", 3)?;
    let larger = VolumeSpec { size: Bytes::mib(20), ..lab::volume_spec("v", 3) };
    refused(engine.create_volume(&larger), Class::Exists, "")?;
    refused(engine.create_volume(&lab::volume_spec("v", 2)), Class::Exists, "images")?;
    let snapshot = lab::split(&engine, "s", "v")?;
    refused(engine.create_snapshot(&lab::snapshot_spec("s", "w")), Class::Exists, "of volume v")?;
    let again = lab::split(&engine, "s", "v")?;
    ensure(again == snapshot, || format!("{again:?} is not {snapshot:?}"))?;
    let heads: Vec<_> = disks.iter().map(|disk| head(disk)).collect::<Outcome<_>>()?;
    refused(engine.create_snapshot(&lab::snapshot_spec("t", "none")), Class::NotFound, "none")?;
    refused(engine.create_snapshot(&lab::snapshot_spec("t", "linear")), Class::NotFound, "linear")?;
    refused(engine.delete_volume("v"), Class::Precondition, "delete that first")?;
    engine.delete_volume("linear").map_err(say)?;
    let keep = SnapshotSpec { min_in_sync: 2, ..lab::snapshot_spec("t", "v") };
    refused(engine.create_snapshot(&keep), Class::Precondition, "must stay")?;
    let after: Vec<_> = disks.iter().map(|disk| head(disk)).collect::<Outcome<_>>()?;
    ensure(heads == after, || "something was written".into())?;
    let view = engine.create_view("shown", &snapshot.id).map_err(say)?;
    refused(engine.create_view("shown", "v@none"), Class::NotFound, "")
        .or_else(|_| refused(engine.create_view("shown", "v@none"), Class::Exists, ""))?;
    refused(engine.create_view("v", &snapshot.id), Class::Exists, "v")?;
    refused(engine.create_volume(&lab::volume_spec("shown", 2)), Class::Exists, "")?;
    engine.delete_volume(&view.id).map_err(say)?;
    is_content(&disks[..3])?;
    put_head(&disks[3], &vec![0; 4096])
}
