//! The ways back from a snapshot, beside copying it with `dd` and LVM2's own snapshots: how long until the first byte is
//! there, and what a snapshot costs the volume that it is of.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use splitmirror::engine::Engine;
use splitmirror::host::linux::LinuxHost;
use splitmirror::units::Bytes;
use splitmirror::volume::info::SnapshotInfo;
use splitmirror::volume::spec::{RollbackSpec, VolumeSpec};

use crate::guest::Outcome;
use crate::lab::{self, ensure, say};
use crate::load::{self, Pattern};
use crate::lvm2::{self, Kind};
use crate::rows::{Bar, median, ms, ratio, row};
use crate::sparse;

const SIZES: [Bytes; 3] = [Bytes::mib(64), Bytes::gib(1), Bytes::gib(16)];
const ROUNDS: usize = 9;

/// What is written between a snapshot and going back to it.
const CHANGED: Bytes = Bytes::mib(16);

const IMAGES: usize = 3;
const REGION: Bytes = Bytes::mib(2);

/// Room of LVM2's thick snapshot, and of its thin pool: what is written here fits with room to spare.
const THICK: Kind = Kind::Thick(Bytes::mib(64));
const THIN: Kind = Kind::Thin(Bytes::gib(1));

/// Of each disk: what all the volumes take, and a clone or a copy of the largest.
const DISK: Bytes = Bytes::gib(40);

pub fn run(disks: &[PathBuf]) -> Outcome {
    let disks = &sparse::disks(disks, DISK)?;
    let ours = ours(disks)?;
    for (size, ours) in SIZES.iter().zip(&ours) {
        let against = |name: &str, ours: Duration, whose: &str, theirs: Duration| {
            let name = format!("{} MiB: {name}", size.0 >> 20);
            row(&name, &ms(ours), &format!("{} {whose}", ms(theirs)), ratio(theirs, ours), Bar::None);
        };
        against("view", ours.view, "dd", ours.copy);
        against("clone", ours.clone, "dd", ours.copy);
        against("detach", ours.detach, "dd", ours.copy);
        against("rollback", ours.rollback, "dd", ours.copy);
        for kind in [THICK, THIN] {
            let theirs = lvm2::Volume::new(disks, *size, kind)?;
            let (made, merged) = of_theirs(&theirs)?;
            against("view", ours.view, kind.name(), made);
            against("clone", ours.clone, kind.name(), made);
            against("detach", ours.detach, kind.name(), made);
            against("rollback", ours.rollback, kind.name(), merged);
        }
    }
    let [small, .., large] = ours.as_slice() else { return Err("nothing was measured".into()) };
    for (name, small, large) in [
        ("view", small.view, large.view),
        ("clone", small.clone, large.clone),
        ("detach", small.detach, large.detach),
    ] {
        let name = format!("{name}: 16384 MiB, 64 MiB");
        row(&name, &ms(large), &ms(small), ratio(large, small), Bar::AtMost(1.2));
    }
    rollback_by_what_changed(disks)?;
    writes_beside_a_snapshot(disks)
}

/// What each way back from a snapshot of a volume takes, and copying it.
struct Ours {
    view: Duration,
    clone: Duration,
    detach: Duration,
    rollback: Duration,
    copy: Duration,
}

/// Of each size.
fn ours(disks: &[PathBuf]) -> Outcome<Vec<Ours>> {
    let engine = new_pool(disks)?;
    let split = |size: &Bytes| {
        let volume = Volume::new(&engine, *size)?;
        let snapshot = lab::split(&engine, &volume.name, &volume.name)?;
        Ok((volume, snapshot))
    };
    let volumes = SIZES.iter().map(split).collect::<Outcome<Vec<_>>>()?;
    let shown = in_turn(&volumes, |(volume, snapshot)| volume.show(&engine, snapshot))?;
    let copied =
        volumes.iter().map(|(volume, snapshot)| volume.copy(snapshot)).collect::<Outcome<Vec<_>>>()?;
    let rolled_back =
        in_turn(&volumes, |(volume, snapshot)| Ok([volume.roll_back(&engine, snapshot, CHANGED)?]))?;
    drop(engine);
    let detached = in_turn(&SIZES, |size| Ok([detach(disks, *size)?]))?;
    let each = shown.into_iter().zip(copied).zip(rolled_back).zip(detached);
    Ok(each
        .map(|((([view, clone], copy), [rollback]), [detach])| Ours { view, clone, detach, rollback, copy })
        .collect())
}

/// Measures each in turn, round after round, so that whatever else the machine does is in the times of all. The medians.
fn in_turn<T, const N: usize>(
    all: &[T],
    measure: impl Fn(&T) -> Outcome<[Duration; N]>,
) -> Outcome<Vec<[Duration; N]>> {
    // The first round warms up.
    for of in all {
        measure(of)?;
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(all.iter().map(&measure).collect::<Outcome<Vec<_>>>()?);
    }
    let median_of = |which: usize, what: usize| median(rounds.iter().map(|round| round[which][what]));
    Ok((0..all.len()).map(|which| std::array::from_fn(|what| median_of(which, what))).collect())
}

fn new_pool(disks: &[PathBuf]) -> Outcome<Engine<LinuxHost>> {
    lab::wipe(disks)?;
    lab::new_pool(disks, disks.len())
}

/// A volume of ours.
struct Volume {
    name: String,
    device: PathBuf,
    size: Bytes,
}

impl Volume {
    fn new(engine: &Engine<LinuxHost>, size: Bytes) -> Outcome<Self> {
        let name = format!("v{}", size.0 >> 20);
        engine.create_volume(&spec(&name, size, IMAGES)).map_err(say)?;
        let device = lab::device(engine, &name)?;
        Ok(Self { name, device, size })
    }

    /// A view's and a clone's time until the first block is read.
    fn show(&self, engine: &Engine<LinuxHost>, snapshot: &SnapshotInfo) -> Outcome<[Duration; 2]> {
        let begun = Instant::now();
        let id = engine.create_view("view", &snapshot.id).map_err(say)?.id;
        load::first_block(&lab::device(engine, &id)?)?;
        let view = begun.elapsed();
        engine.delete_volume(&id).map_err(say)?;

        let begun = Instant::now();
        engine.create_clone(&spec("c", self.size, 2), &snapshot.id).map_err(say)?;
        load::first_block(&lab::device(engine, "c")?)?;
        let clone = begun.elapsed();
        engine.delete_volume("c").map_err(say)?;
        Ok([view, clone])
    }

    /// What it takes to copy the snapshot with `dd`, past the caches, onto one disk: the least that a copy can be.
    fn copy(&self, snapshot: &SnapshotInfo) -> Outcome<Duration> {
        /// Copied at once; then what was copied to is given back to the machine, whose memory it is.
        const PART_MIB: u64 = 1024;
        let (image, size) = (format!("if={}", image(snapshot)?), format!("{}b", self.size.0));
        lab::run("lvcreate", &["-y", "-qq", "-Wn", "-L", &size, "-n", "copy", "pool"])?;
        let mut took = Duration::ZERO;
        let mib = self.size.0 >> 20;
        for from in (0..mib).step_by(usize::try_from(PART_MIB).map_err(say)?) {
            let (skip, seek) = (format!("skip={from}"), format!("seek={from}"));
            let count = format!("count={}", PART_MIB.min(mib - from));
            let how = ["bs=1M", "iflag=direct", "oflag=direct", "status=none"];
            let begun = Instant::now();
            lab::run(
                "dd",
                &[&how[..], &[&image, "of=/dev/mapper/pool-copy", &skip, &seek, &count]].concat(),
            )?;
            took += begun.elapsed();
            let (offset, len) = ((from << 20).to_string(), (PART_MIB.min(mib - from) << 20).to_string());
            lab::run("blkdiscard", &["-o", &offset, "-l", &len, "/dev/mapper/pool-copy"])?;
        }
        lab::run("lvremove", &["-y", "-qq", "pool/copy"])?;
        Ok(took)
    }

    /// Goes back to a snapshot after so much was written.
    fn roll_back(
        &self,
        engine: &Engine<LinuxHost>,
        snapshot: &SnapshotInfo,
        changed: Bytes,
    ) -> Outcome<Duration> {
        load::write(&self.device, changed, Bytes::mib(1), Pattern::InTurn)?;
        let back = RollbackSpec { snapshot: snapshot.id.clone(), request: None };
        let mut copied = Bytes::ZERO;
        let begun = Instant::now();
        engine.roll_back(&back, |progress| copied = progress.done).map_err(say)?;
        let took = begun.elapsed();
        ensure(copied == changed, || format!("{copied} were copied, {changed} had changed"))?;
        Ok(took)
    }
}

/// The time until the first block of a volume is read that a snapshot has become.
///
/// Whole images are copied in the background afterwards, which is not what is measured: there is no room for one of the volume
/// that loses its own, and the other copy is held down until all is wiped.
fn detach(disks: &[PathBuf], size: Bytes) -> Outcome<Duration> {
    lab::wipe(disks)?;
    let engine = lab::new_pool(disks, IMAGES)?;
    let volume = Volume::new(&engine, size)?.name;
    let snapshot = lab::split(&engine, "s", &volume)?;
    let slot = &lab::info(&engine, &volume)?.slots[snapshot.slot];
    let how = ["-y", "-qq", "-an", "-Zn", "-Wn", "-l", "100%PVS", "-n", "full", "pool"];
    lab::run("lvcreate", &[&how[..], &[&slot.device]].concat())?;
    let slowly =
        VolumeSpec { min_recovery_rate: Some(1), max_recovery_rate: Some(1), ..spec("d", size, IMAGES - 1) };
    let begun = Instant::now();
    engine.detach_snapshot(&slowly, &snapshot.id).map_err(say)?;
    load::first_block(&lab::device(&engine, "d")?)?;
    let took = begun.elapsed();
    ensure(lab::info(&engine, &volume)?.slots[snapshot.slot].lost, || {
        "an image was copied beside it".into()
    })?;
    Ok(took)
}

fn spec(name: &str, size: Bytes, images: usize) -> VolumeSpec {
    VolumeSpec { size, region_size: REGION, ..lab::volume_spec(name, images) }
}

/// The device of a snapshot's image.
fn image(snapshot: &SnapshotInfo) -> Outcome<&str> {
    snapshot.device.as_deref().ok_or_else(|| "the snapshot has no device".into())
}

/// What LVM2's snapshot takes to be made and read, and to be gone back to.
fn of_theirs(volume: &lvm2::Volume) -> Outcome<(Duration, Duration)> {
    // A thin volume has its blocks before it is snapshotted.
    load::write(&volume.device(), CHANGED, Bytes::mib(1), Pattern::InTurn)?;
    let measured = in_turn(&[volume], |volume| {
        let made = volume.snapshot()?;
        load::write(&volume.device(), CHANGED, Bytes::mib(1), Pattern::InTurn)?;
        Ok([made, volume.roll_back()?])
    })?;
    let [[made, merged]] = measured.as_slice() else { return Err("nothing was measured".into()) };
    Ok((*made, *merged))
}

/// A rollback costs what has changed: four times as much, four times as long at most.
fn rollback_by_what_changed(disks: &[PathBuf]) -> Outcome {
    // What is marked once is marked until the snapshot is deleted, so there is one for each.
    let engine = new_pool(disks)?;
    let volume = Volume::new(&engine, Bytes::gib(1))?;
    let measured = in_turn(&[Bytes::mib(64), Bytes::mib(256)], |changed| {
        let snapshot = lab::split(&engine, "s", &volume.name)?;
        let took = volume.roll_back(&engine, &snapshot, *changed)?;
        lab::merge(&engine, &snapshot.id)?;
        Ok([took])
    })?;
    let [[less], [more]] = measured.as_slice() else { return Err("nothing was measured".into()) };
    let name = "1024 MiB: rollback of 256 MiB, 4 × of 64 MiB";
    row(name, &ms(*more), &ms(*less * 4), ratio(*more, *less * 4), Bar::AtMost(1.2));
    Ok(())
}

/// How fast a volume is written to with a snapshot of it, as a part of how fast it is without.
fn writes_beside_a_snapshot(disks: &[PathBuf]) -> Outcome {
    const SIZE: Bytes = Bytes::gib(1);
    const RANGE: Bytes = Bytes::mib(256);
    let loads = [
        ("1 MiB in turn", Bytes::mib(1), Pattern::InTurn),
        ("4 KiB scattered", Bytes::kib(4), Pattern::Scattered),
    ];
    let mut shares: Vec<[(f64, String); 2]> = Vec::new();
    {
        let engine = new_pool(disks)?;
        let ours = Volume::new(&engine, SIZE)?;
        load::write(&ours.device, RANGE, Bytes::mib(1), Pattern::InTurn)?;
        shares.push(each(&loads, |block, pattern| {
            let without = load::write(&ours.device, RANGE, block, pattern)?;
            let snapshot = lab::split(&engine, "s", &ours.name)?;
            let with = load::write(&ours.device, RANGE, block, pattern)?;
            lab::merge(&engine, &snapshot.id)?;
            Ok((with, without))
        })?);
    }
    let kinds = [Kind::Thick(Bytes::mib(512)), THIN];
    for kind in kinds {
        let theirs = lvm2::Volume::new(disks, SIZE, kind)?;
        load::write(&theirs.device(), RANGE, Bytes::mib(1), Pattern::InTurn)?;
        shares.push(each(&loads, |block, pattern| {
            let without = load::write(&theirs.device(), RANGE, block, pattern)?;
            theirs.snapshot()?;
            let with = load::write(&theirs.device(), RANGE, block, pattern)?;
            theirs.drop_snapshot()?;
            Ok((with, without))
        })?);
    }
    let [ours, theirs @ ..] = shares.as_slice() else { return Err("nothing was measured".into()) };
    for (n, (load, ..)) in loads.iter().enumerate() {
        let (share, text) = &ours[n];
        row(&format!("writes of {load} with a snapshot, without"), text, "", *share, Bar::AtLeast(0.9));
        for (kind, of) in kinds.iter().zip(theirs) {
            let (theirs, their_text) = &of[n];
            let name = format!("writes of {load} with a snapshot, without: {}", kind.name());
            row(&name, text, their_text, share / theirs, Bar::None);
        }
    }
    Ok(())
}

/// Of each load the median of some rounds: with to without, and both as a text.
fn each<const N: usize>(
    loads: &[(&str, Bytes, Pattern); N],
    mut round: impl FnMut(Bytes, Pattern) -> Outcome<(f64, f64)>,
) -> Outcome<[(f64, String); N]> {
    const ROUNDS: usize = 5;
    let mut out = std::array::from_fn(|_| (0.0, String::new()));
    for ((_, block, pattern), out) in loads.iter().zip(&mut out) {
        let mut rounds = (0..ROUNDS).map(|_| round(*block, *pattern)).collect::<Outcome<Vec<_>>>()?;
        rounds.sort_by(|(a, b), (c, d)| (a / b).total_cmp(&(c / d)));
        let (with, without) = rounds[ROUNDS / 2];
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        *out = (with / without, format!("{:.1} of {:.1} MiB/s", mib(with), mib(without)));
    }
    Ok(out)
}
