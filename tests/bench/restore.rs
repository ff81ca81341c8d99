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

/// Of each disk: what the largest volume, its clone and a copy take.
const DISK: Bytes = Bytes::gib(40);

pub fn run(disks: &[PathBuf]) -> Outcome {
    let disks = &sparse::disks(disks, DISK)?;
    let (mut views, mut clones, mut detached) = (Vec::new(), Vec::new(), Vec::new());
    for size in SIZES {
        let ours = Ours::new(disks, size)?;
        let snapshot = lab::split(&ours.engine, "s", VOLUME)?;
        let (view, clone) = ours.show(&snapshot)?;
        let copy = ours.copy(&snapshot)?;
        let back = ours.roll_back(&snapshot)?;
        drop(ours);
        let detach = detach(disks, size)?;
        let title = format!("{} MiB", size.0 >> 20);
        let against = |name: &str, ours: Duration, whose: &str, theirs: Duration| {
            let theirs_text = format!("{} {whose}", ms(theirs));
            row(&format!("{title}: {name}"), &ms(ours), &theirs_text, ratio(theirs, ours), Bar::None);
        };
        against("view", view, "dd", copy);
        against("clone", clone, "dd", copy);
        against("detach", detach, "dd", copy);
        against("rollback", back, "dd", copy);
        for kind in [THICK, THIN] {
            let theirs = lvm2::Volume::new(disks, size, kind)?;
            let (made, merged) = of_theirs(&theirs)?;
            against("view", view, kind.name(), made);
            against("clone", clone, kind.name(), made);
            against("detach", detach, kind.name(), made);
            against("rollback", back, kind.name(), merged);
        }
        views.push(view);
        clones.push(clone);
        detached.push(detach);
    }
    for (name, times) in [("view", &views), ("clone", &clones), ("detach", &detached)] {
        let [small, .., large] = times.as_slice() else { return Err("nothing was measured".into()) };
        row(
            &format!("{name}: 16384 MiB, 64 MiB"),
            &ms(*large),
            &ms(*small),
            ratio(*large, *small),
            Bar::AtMost(1.2),
        );
    }
    rollback_by_what_changed(disks)?;
    writes_beside_a_snapshot(disks)
}

const VOLUME: &str = "v";

/// A volume of ours in a pool of its own.
struct Ours {
    engine: Engine<LinuxHost>,
    device: PathBuf,
    size: Bytes,
}

impl Ours {
    fn new(disks: &[PathBuf], size: Bytes) -> Outcome<Self> {
        lab::wipe(disks)?;
        let engine = lab::new_pool(disks, disks.len())?;
        engine.create_volume(&spec(VOLUME, size, IMAGES)).map_err(say)?;
        let device = lab::device(&engine, VOLUME)?;
        Ok(Self { engine, device, size })
    }

    /// A view's and a clone's time until the first block is read.
    fn show(&self, snapshot: &SnapshotInfo) -> Outcome<(Duration, Duration)> {
        let (mut views, mut clones) = (Vec::new(), Vec::new());
        for n in 0..=ROUNDS {
            let begun = Instant::now();
            let id = self.engine.create_view("view", &snapshot.id).map_err(say)?.id;
            load::first_block(&lab::device(&self.engine, &id)?)?;
            let view = begun.elapsed();
            self.engine.delete_volume(&id).map_err(say)?;

            let begun = Instant::now();
            self.engine.create_clone(&spec("c", self.size, 2), &snapshot.id).map_err(say)?;
            load::first_block(&lab::device(&self.engine, "c")?)?;
            let clone = begun.elapsed();
            self.engine.delete_volume("c").map_err(say)?;
            // The first round warms up.
            if n > 0 {
                views.push(view);
                clones.push(clone);
            }
        }
        Ok((median(views), median(clones)))
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

    /// Goes back to a snapshot after so much was written, over and over.
    fn roll_back(&self, snapshot: &SnapshotInfo) -> Outcome<Duration> {
        let mut times = Vec::new();
        for n in 0..=ROUNDS {
            let took = self.roll_back_once(snapshot, CHANGED)?;
            if n > 0 {
                times.push(took);
            }
        }
        Ok(median(times))
    }

    fn roll_back_once(&self, snapshot: &SnapshotInfo, changed: Bytes) -> Outcome<Duration> {
        load::write(&self.device, changed, Bytes::mib(1), Pattern::InTurn)?;
        let back = RollbackSpec { snapshot: snapshot.id.clone(), request: None };
        let mut copied = Bytes::ZERO;
        let begun = Instant::now();
        self.engine.roll_back(&back, |progress| copied = progress.done).map_err(say)?;
        let took = begun.elapsed();
        ensure(copied == changed, || format!("{copied} were copied, {changed} had changed"))?;
        Ok(took)
    }
}

/// The time until the first block of a volume is read that a snapshot has become.
fn detach(disks: &[PathBuf], size: Bytes) -> Outcome<Duration> {
    let mut times = Vec::new();
    for n in 0..=ROUNDS {
        let took = detach_once(disks, size)?;
        if n > 0 {
            times.push(took);
        }
    }
    Ok(median(times))
}

/// Whole images are copied in the background afterwards, which is not what is measured: there is no room for one of the volume
/// that loses its own, and the other copy is held down until all is wiped.
fn detach_once(disks: &[PathBuf], size: Bytes) -> Outcome<Duration> {
    lab::wipe(disks)?;
    let engine = lab::new_pool(disks, IMAGES)?;
    engine.create_volume(&spec(VOLUME, size, IMAGES)).map_err(say)?;
    let snapshot = lab::split(&engine, "s", VOLUME)?;
    let slot = &lab::info(&engine, VOLUME)?.slots[snapshot.slot];
    let how = ["-y", "-qq", "-an", "-Zn", "-Wn", "-l", "100%PVS", "-n", "full", "pool"];
    lab::run("lvcreate", &[&how[..], &[&slot.device]].concat())?;
    let slowly =
        VolumeSpec { min_recovery_rate: Some(1), max_recovery_rate: Some(1), ..spec("d", size, IMAGES - 1) };
    let begun = Instant::now();
    engine.detach_snapshot(&slowly, &snapshot.id).map_err(say)?;
    load::first_block(&lab::device(&engine, "d")?)?;
    let took = begun.elapsed();
    ensure(lab::info(&engine, VOLUME)?.slots[snapshot.slot].lost, || "an image was copied beside it".into())?;
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
    let (mut made, mut merged) = (Vec::new(), Vec::new());
    // A thin volume has its blocks before it is snapshotted.
    load::write(&volume.device(), CHANGED, Bytes::mib(1), Pattern::InTurn)?;
    for n in 0..=ROUNDS {
        let took = volume.snapshot()?;
        load::write(&volume.device(), CHANGED, Bytes::mib(1), Pattern::InTurn)?;
        let back = volume.roll_back()?;
        if n > 0 {
            made.push(took);
            merged.push(back);
        }
    }
    Ok((median(made), median(merged)))
}

/// A rollback costs what has changed: four times as much, four times as long at most.
fn rollback_by_what_changed(disks: &[PathBuf]) -> Outcome {
    // What is marked once is marked until the snapshot is deleted, so there is one for each.
    let ours = Ours::new(disks, Bytes::gib(1))?;
    let mut rounds = Vec::new();
    let measure = |changed: Bytes| {
        let snapshot = lab::split(&ours.engine, "s", VOLUME)?;
        let took = ours.roll_back_once(&snapshot, changed)?;
        lab::merge(&ours.engine, &snapshot.id)?;
        Outcome::Ok(took)
    };
    for n in 0..=ROUNDS {
        let (less, more) = (measure(Bytes::mib(64))?, measure(Bytes::mib(256))?);
        if n > 0 {
            rounds.push((less, more));
        }
    }
    let (less, more) =
        (median(rounds.iter().map(|round| round.0)), median(rounds.iter().map(|round| round.1)));
    let name = "1024 MiB: rollback of 256 MiB, 4 × of 64 MiB";
    row(name, &ms(more), &ms(less * 4), ratio(more, less * 4), Bar::AtMost(1.2));
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
        let ours = Ours::new(disks, SIZE)?;
        load::write(&ours.device, RANGE, Bytes::mib(1), Pattern::InTurn)?;
        shares.push(each(&loads, |block, pattern| {
            let without = load::write(&ours.device, RANGE, block, pattern)?;
            let snapshot = lab::split(&ours.engine, "s", VOLUME)?;
            let with = load::write(&ours.device, RANGE, block, pattern)?;
            lab::merge(&ours.engine, &snapshot.id)?;
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
