//! What is shown.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use splitmirror::engine::Engine;
use splitmirror::host::DeviceMapper;
use splitmirror::host::linux::LinuxHost;
use splitmirror::units::Bytes;
use splitmirror::volume::info::VolumeInfo;
use splitmirror::volume::spec::VolumeSpec;

use crate::database::{Database, read};
use crate::guest::Outcome;
use crate::lab::{self, ensure, run, say};
use crate::pauses::Probe;
use crate::stopwatch::{Stopwatch, held_back};

const VOLUME: &str = "data";
const IMAGES: usize = 3;
const SIZE: Bytes = Bytes::mib(192);
const DATA: &str = "/mnt/data";
const VIEW: &str = "/mnt/view";

/// How many transactions go on between split and merge.
const BUSY: u64 = 150;

type Timed = Engine<Stopwatch<LinuxHost>>;

/// One split and its merge.
struct Life {
    split: Duration,
    /// The longest that a write of 4 KiB took during the split.
    felt: Duration,
    changed: Bytes,
    copied: Bytes,
    merge: Duration,
    equal: bool,
}

pub fn tell(disks: &[PathBuf]) -> Outcome {
    lab::wipe(disks)?;
    let names: Vec<_> = disks.iter().map(|disk| disk.display().to_string()).collect();
    make_pool(&names)?;
    let engine = lab::open_on(Stopwatch::new(lab::host()))?;
    engine.create_volume(&VolumeSpec { size: SIZE, ..lab::volume_spec(VOLUME, IMAGES) }).map_err(say)?;
    let device = lab::device(&engine, VOLUME)?;
    let device = device.to_str().ok_or("no device name")?;
    said(&format!("Volume {VOLUME}: {}, {IMAGES} images, one on each disk", mib(SIZE)));

    run("mkfs.ext4", &["-q", device])?;
    lab::mkdir(DATA)?;
    lab::mkdir(VIEW)?;
    run("mount", &[device, DATA])?;
    let database = Database::start(&Path::new(DATA).join("db"))?;
    database.wait_for(100)?;
    let (from, begun) = (database.committed(), Instant::now());
    database.wait_for(100)?;
    let rate = rate(database.committed() - from, begun.elapsed());
    said(&format!("SQLite on ext4 commits {rate} transactions a second, and goes on all the time"));

    let ours = our_life(&engine, &database)?;
    let theirs = their_life(&engine, &database)?;
    let last = database.stop()?;
    let content = read(Path::new(DATA).join("db"))?;
    run("umount", &[DATA])?;
    ensure(content.integrity == "ok" && content.complete && content.last == last, || {
        format!("the database holds {content:?} and not {last} transactions")
    })?;
    println!("\nThe database at the end: {last} transactions, integrity ok");
    compare(&ours, &theirs);
    Ok(())
}

/// Through the program itself.
fn make_pool(disks: &[String]) -> Outcome {
    let program = std::env::var("SPLITMIRROR_BIN").map_err(|_| "SPLITMIRROR_BIN is not set")?;
    let pool = lab::vg();
    let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
    run(&program, &[&["pool", "create", pool.as_str()], disks.as_slice()].concat())?;
    println!("$ splitmirror pool create {pool} {}", disks.join(" "));
    println!("{}\n", run(&program, &["pool", "list"])?);
    Ok(())
}

fn our_life(engine: &Timed, database: &Database) -> Outcome<Life> {
    let probe = Probe::start(&probe_file()?, 16)?;
    engine.host().take();
    let ((snapshot, before, after), split, felt) = probe.during(|| {
        let before = database.committed();
        let snapshot = lab::split(engine, "before-lunch", VOLUME)?;
        Ok((snapshot, before, database.committed()))
    })?;
    let calls = engine.host().take();
    probe.stop()?;
    let pauses = held_back(&calls, &lab::top_name(VOLUME));
    let held: Vec<_> = pauses.iter().map(|pause| ms(pause.ended() - pause.begun())).collect();
    println!("\nCreateSnapshot, while SQLite writes");
    said(&format!("image {} is the snapshot after {}", snapshot.slot, ms(split)));
    said(&format!("I/O was held back for {} (split, pin)", held.join(" and ")));
    said(&format!("the longest that a write took meanwhile: {}", ms(felt.longest())));

    let image = snapshot.device.as_ref().ok_or("the snapshot has no device")?;
    run("mount", &["-o", "ro,noload", image, VIEW])?;
    let content = read(Path::new(VIEW).join("db"));
    let again = content.and_then(|content| {
        database.wait_for(BUSY)?;
        Ok((content, read(Path::new(VIEW).join("db"))?))
    });
    run("umount", &[VIEW])?;
    let (content, later) = again?;
    println!("\nThe snapshot, mounted read-only; nothing is copied, no journal is replayed");
    said(&format!("PRAGMA integrity_check: {}", content.integrity));
    said(&format!("committed before the cut: {before}; when CreateSnapshot returned: {after}"));
    said(&format!("the snapshot holds transactions 1 to {}, all of them", content.last));
    ensure(content.integrity == "ok" && content.complete, || format!("it is not whole: {content:?}"))?;
    // The transaction that was being committed may be in it before SQLite could say so.
    ensure((before..=after + 1).contains(&content.last), || "that is not what was committed".into())?;
    ensure(later.last == content.last && later.integrity == "ok", || format!("it has changed: {later:?}"))?;
    said(&format!(
        "{} transactions later it still holds {}",
        database.committed() - content.last,
        later.last
    ));

    let info = shown(engine)?;
    let changed = info.snapshots.first().ok_or("the snapshot is gone")?.changed;
    println!("\nDeleteSnapshot, while SQLite writes");
    let begun = Instant::now();
    engine.delete_snapshot(&snapshot.id).map_err(say)?;
    let returned = begun.elapsed();
    while engine.advance().map_err(say)? {
        std::thread::sleep(Duration::from_millis(2));
    }
    let merge = begun.elapsed();
    let copied = written(engine, snapshot.slot)?;
    said(&format!(
        "it returned after {}; image {} was equal after {}",
        ms(returned),
        snapshot.slot,
        ms(merge)
    ));
    said(&format!("changed since the split: {} of {}", mib(changed), mib(SIZE)));
    said(&format!("written to the image: {} (SQLite's own writes included)", mib(copied)));
    let equal = lab::legs_are_equal(engine, VOLUME);
    ensure(equal == Ok(IMAGES), || format!("the images differ: {equal:?}"))?;
    said("all images are equal, compared byte for byte");
    Ok(Life { split, felt: felt.longest(), changed, copied, merge, equal: true })
}

fn their_life(engine: &Timed, database: &Database) -> Outcome<Life> {
    let lv = format!("{}/{VOLUME}", lab::vg());
    let probe = Probe::start(&probe_file()?, 16)?;
    let (_, split, felt) =
        probe.during(|| run("lvconvert", &["-y", "-qq", "--splitmirrors", "1", "--trackchanges", &lv]))?;
    probe.stop()?;
    database.wait_for(BUSY)?;
    let snapshot = shown(engine)?.snapshots.into_iter().next().ok_or("lvconvert split nothing")?;
    let begun = Instant::now();
    run("lvconvert", &["-y", "-qq", "--merge", &format!("{lv}_rimage_{}", snapshot.slot)])?;
    let top = lab::top_name(VOLUME);
    let whole = format!(" {} ", "A".repeat(IMAGES));
    loop {
        let status = engine.host().dm_status(&top).map_err(say)?;
        let params = &status.first().ok_or("the array has no status")?.params;
        if params.contains(&whole) && params.contains(" idle ") {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let merge = begun.elapsed();
    let copied = written(engine, snapshot.slot)?;
    let equal = lab::legs_are_equal(engine, VOLUME).is_ok();
    Ok(Life { split, felt: felt.longest(), changed: snapshot.changed, copied, merge, equal })
}

fn compare(ours: &Life, theirs: &Life) {
    let equal = |life: &Life| if life.equal { "yes" } else { "NO" }.to_owned();
    let lines = [
        ("", "splitmirror".to_owned(), "lvconvert".to_owned()),
        ("split", ms(ours.split), ms(theirs.split)),
        ("longest write meanwhile", ms(ours.felt), ms(theirs.felt)),
        ("changed since the split", mib(ours.changed), mib(theirs.changed)),
        ("merged and in sync after", ms(ours.merge), ms(theirs.merge)),
        ("written to the image", mib(ours.copied), mib(theirs.copied)),
        ("images equal afterwards", equal(ours), equal(theirs)),
    ];
    println!("\nThe same by LVM2's lvconvert, in this guest, on this volume, with SQLite writing");
    for (name, ours, theirs) in lines {
        println!("  {name:<26}{ours:>12}{theirs:>12}");
    }
}

fn shown(engine: &Timed) -> Outcome<VolumeInfo> {
    lab::info(engine, VOLUME)
}

/// A file beside the database, for the writer that feels the pauses.
fn probe_file() -> Outcome<PathBuf> {
    let path = Path::new(DATA).join("probe");
    std::fs::write(&path, vec![0; 16 << 12]).map_err(say)?;
    run("sync", &[])?;
    Ok(path)
}

/// What was written to the image of a slot since it came back.
fn written(engine: &Timed, slot: usize) -> Outcome<Bytes> {
    let name = format!("{}_rimage_{slot}", lab::top_name(VOLUME));
    let info = engine.host().dm_info(&name).map_err(say)?.ok_or_else(|| format!("no device {name}"))?;
    Ok(engine.host().dm_sectors_written(info.devno).map_err(say)?.bytes())
}

fn said(line: &str) {
    println!("  {line}");
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn mib(bytes: Bytes) -> String {
    let tenths = bytes.0 * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn rate(count: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(count) * 1000 / time.as_millis().max(1)).unwrap_or(u64::MAX)
}
