//! Split and merge of one image of three, by us and by `lvconvert`, in turn on the same volume.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use splitmirror::engine::Engine;
use splitmirror::host::linux::LinuxHost;
use splitmirror::host::{DeviceMapper, Freeze, Udev};
use splitmirror::units::Bytes;
use splitmirror::volume::spec::VolumeSpec;

use crate::aligned::Aligned;
use crate::groups;
use crate::guest::Outcome;
use crate::lab::{self, ensure, say};
use crate::pauses::Probe;
use crate::rows::{Bar, median, ms, ratio, row};
use crate::stopwatch::{Call, Stopwatch, held_back};
use crate::writer::{BLOCK, open_direct};

const VOLUME: &str = "v";
const IMAGES: usize = 3;
const ROUNDS: usize = 15;

/// One region in so many is written to between split and merge.
const DIRTY_ONE_IN: u64 = 4;

type Timed = Engine<Stopwatch<LinuxHost>>;

/// What one split and merge came to.
#[derive(Default)]
struct Round {
    split: Duration,
    longest: Duration,
    all_pauses: Duration,
    merge: Duration,
    marked: u64,
    copied: u64,
    /// The merge left images different, and the kernel calls them in sync.
    wrong: bool,
}

/// The program that the kernel starts to load a module.
const MODPROBE: &str = "/proc/sys/kernel/modprobe";

/// What is measured in a row of rounds.
#[derive(Clone, Copy)]
struct Case {
    size: Bytes,
    /// Each load of a raid table starts `modprobe`: md asks for `md-level-1` even when it is there (`md_run`). Starting a
    /// program is what user-mode-linux is slowest at, so both are measured.
    modprobe: bool,
}

const CASES: [Case; 3] = [
    Case { size: Bytes::mib(64), modprobe: false },
    Case { size: Bytes::mib(256), modprobe: false },
    Case { size: Bytes::mib(64), modprobe: true },
];

pub fn run(disks: &[PathBuf]) -> Outcome {
    let modprobe = std::fs::read(MODPROBE).map_err(say)?;
    for case in CASES {
        lab::wipe(disks)?;
        let program: &[u8] = if case.modprobe { &modprobe } else { b"\n" };
        std::fs::write(MODPROBE, program).map_err(say)?;
        measure(disks, case)?;
    }
    std::fs::write(MODPROBE, "\n").map_err(say)?;
    lab::wipe(disks)?;
    groups::measure(disks)
}

fn measure(disks: &[PathBuf], case: Case) -> Outcome {
    let size = case.size;
    drop(lab::new_pool(disks, IMAGES)?);
    let engine = lab::open_on(Stopwatch::new(lab::host()))?;
    engine.create_volume(&VolumeSpec { size, ..lab::volume_spec(VOLUME, IMAGES) }).map_err(say)?;
    let device = lab::device(&engine, VOLUME)?;
    let (mut bare, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut calls = Vec::new();
    for n in 0..=ROUNDS {
        let pause = bare_pause(&engine, &device)?;
        let (a, of_split) = our_round(&engine, &device, size, n)?;
        let b = their_round(&engine, &device, size)?;
        // The first round warms up.
        if n > 0 {
            bare.push(pause);
            ours.push(a);
            theirs.push(b);
            calls.push(of_split);
        }
    }
    where_the_time_goes(case, &calls);
    report(case, &bare, &ours, &theirs);
    engine.delete_volume(VOLUME).map_err(say)
}

/// Whether a merge that is over has left images different; if so they are made equal.
fn merged_wrong(engine: &Timed) -> Outcome<bool> {
    if lab::legs_are_equal(engine, VOLUME).is_ok_and(|equal| equal == IMAGES) {
        return Ok(false);
    }
    let top = lab::top_name(VOLUME);
    engine.host().dm_message(&top, "repair").map_err(say)?;
    lab::wait_in_sync(engine, VOLUME)?;
    ensure(lab::legs_are_equal(engine, VOLUME)? == IMAGES, || "an image is missing".into())?;
    Ok(true)
}

/// Suspends and resumes the array, and nothing else.
fn bare_pause(engine: &Timed, device: &Path) -> Outcome<Duration> {
    let top = lab::top_name(VOLUME);
    let probe = Probe::start(device, 256)?;
    let (_, _, felt) = probe.during(|| {
        engine.host().dm_suspend(&top, Freeze::FileSystem).map_err(say)?;
        engine.host().dm_resume(&top, Udev::Volume).map_err(say)
    })?;
    probe.stop()?;
    Ok(felt.longest())
}

fn our_round(engine: &Timed, device: &Path, size: Bytes, n: usize) -> Outcome<(Round, Vec<Call>)> {
    let probe = Probe::start(device, 256)?;
    // A driver that runs has seen the group before; what lvconvert changed is not for the split to find out.
    lab::info(engine, VOLUME)?;
    engine.host().take();
    let (snapshot, split, felt) = probe.during(|| lab::split(engine, &format!("s{n}"), VOLUME))?;
    let calls = engine.host().take();
    probe.stop()?;
    let pauses = held_back(&calls, &lab::top_name(VOLUME));
    let times: Vec<_> = pauses.iter().map(|pause| (pause.begun(), pause.ended())).collect();
    let all_pauses = felt.all_within(&times);
    let marked = make_dirty(engine, device, size)?;
    let begun = Instant::now();
    engine.delete_snapshot(&snapshot.id).map_err(say)?;
    while engine.advance().map_err(say)? {
        std::thread::sleep(Duration::from_millis(1));
    }
    let merge = begun.elapsed();
    let copied = copied(engine, snapshot.slot)?;
    let wrong = merged_wrong(engine)?;
    Ok((Round { split, longest: felt.longest(), all_pauses, merge, marked, copied, wrong }, calls))
}

fn their_round(engine: &Timed, device: &Path, size: Bytes) -> Outcome<Round> {
    let lv = format!("{}/{VOLUME}", lab::vg());
    let top = lab::top_name(VOLUME);
    let probe = Probe::start(device, 256)?;
    let (_, split, felt) = probe
        .during(|| lab::run("lvconvert", &["-y", "-qq", "--splitmirrors", "1", "--trackchanges", &lv]))?;
    probe.stop()?;
    let marked = make_dirty(engine, device, size)?;
    // Without this their merge may take the image for equal.
    engine.host().dm_suspend(&top, Freeze::IoOnly).map_err(say)?;
    engine.host().dm_resume(&top, Udev::Volume).map_err(say)?;
    let slot = lab::info(engine, VOLUME)?.snapshots.first().ok_or("lvconvert split nothing")?.slot;
    let begun = Instant::now();
    lab::run("lvconvert", &["-y", "-qq", "--merge", &format!("{lv}_rimage_{slot}")])?;
    while !is_in_sync(engine, &top)? {
        std::thread::sleep(Duration::from_millis(1));
    }
    let merge = begun.elapsed();
    let copied = copied(engine, slot)?;
    let wrong = merged_wrong(engine)?;
    Ok(Round { split, longest: felt.longest(), all_pauses: Duration::ZERO, merge, marked, copied, wrong })
}

fn is_in_sync(engine: &Timed, top: &str) -> Outcome<bool> {
    let status = engine.host().dm_status(top).map_err(say)?;
    let params = &status.first().ok_or("the array has no status")?.params;
    Ok(params.contains(&format!(" {} ", "A".repeat(IMAGES))) && params.contains(" idle "))
}

/// Writes a block into one region of every few; how much the array has marked then.
fn make_dirty(engine: &Timed, device: &Path, size: Bytes) -> Outcome<u64> {
    let file = open_direct(device, true)?;
    let mut data = Aligned::new(4096);
    data.bytes_mut().fill(0xa5);
    for region in (0..size.0 / lab::REGION.0).step_by(usize::try_from(DIRTY_ONE_IN).map_err(say)?) {
        file.write_all_at(data.bytes(), region * lab::REGION.0 + BLOCK).map_err(say)?;
    }
    drop(file);
    Ok(lab::info(engine, VOLUME)?.snapshots.first().ok_or("there is no snapshot")?.changed.0)
}

/// What was written to the image of a slot since it came back.
fn copied(engine: &Timed, slot: usize) -> Outcome<u64> {
    let name = format!("{}_rimage_{slot}", lab::top_name(VOLUME));
    let info = engine.host().dm_info(&name).map_err(say)?.ok_or_else(|| format!("no device {name}"))?;
    Ok(engine.host().dm_sectors_written(info.devno).map_err(say)?.bytes().0)
}

/// A row of a case.
fn case_row(case: Case, name: &str, ours: &str, theirs: &str, ratio: f64, bar: Bar) {
    let (mib, modprobe) = (case.size.0 >> 20, if case.modprobe { ", with modprobe" } else { "" });
    row(&format!("{mib} MiB{modprobe}: {name}"), ours, theirs, ratio, bar);
}

fn report(case: Case, bare: &[Duration], ours: &[Round], theirs: &[Round]) {
    let row = |name: &str, ours: &str, theirs: &str, ratio: f64, bar: Bar| {
        case_row(case, name, ours, theirs, ratio, bar);
    };
    let of = |rounds: &[Round], what: fn(&Round) -> Duration| median(rounds.iter().map(what));
    let (a, b) = (of(ours, |r| r.split), of(theirs, |r| r.split));
    row("whole split", &ms(a), &ms(b), ratio(b, a), Bar::AtLeast(10.0));

    let alone = median(bare.iter().copied());
    let bare = format!("{} bare", ms(alone));
    let a = of(ours, |r| r.longest);
    row("longest pause of a split", &ms(a), &bare, ratio(a, alone), Bar::AtMost(1.5));
    let a = of(ours, |r| r.all_pauses);
    row("all pauses of a split", &ms(a), &bare, ratio(a, alone), Bar::AtMost(3.0));
    let (a, b) = (of(ours, |r| r.longest), of(theirs, |r| r.longest));
    row("longest pause, lvconvert", &ms(a), &ms(b), ratio(b, a), Bar::None);

    let (a, b) = (of(ours, |r| r.merge), of(theirs, |r| r.merge));
    row("merge until in sync", &ms(a), &ms(b), ratio(b, a), Bar::None);
    let per_marked = |rounds: &[Round]| {
        let worst = rounds.iter().max_by_key(|r| r.copied * 1000 / r.marked.max(1));
        worst.map(|r| (r.copied, r.marked)).unwrap_or_default()
    };
    let kib = |(copied, marked): (u64, u64)| format!("{} of {} KiB", copied >> 10, marked >> 10);
    let (a, b) = (per_marked(ours), per_marked(theirs));
    row("copied of marked", &kib(a), &kib(b), share(a), Bar::AtMost(1.05));
    let wrong = |rounds: &[Round]| rounds.iter().filter(|r| r.wrong).count();
    let of_all = |rounds: &[Round]| format!("{} of {}", wrong(rounds), rounds.len());
    let of_ours = share((u64::try_from(wrong(ours)).unwrap_or(u64::MAX), 1));
    row("merges that left images different", &of_all(ours), &of_all(theirs), of_ours, Bar::AtMost(0.0));
}

#[allow(clippy::cast_precision_loss)]
fn share((copied, marked): (u64, u64)) -> f64 {
    copied as f64 / marked.max(1) as f64
}

/// What our splits spent their time on, by kind of call: the median of the rounds, and the best.
fn where_the_time_goes(case: Case, rounds: &[Vec<Call>]) {
    let top = lab::top_name(VOLUME);
    let mut kinds: BTreeMap<(&str, bool), Vec<(usize, Duration)>> = BTreeMap::new();
    for calls in rounds {
        let mut sums: BTreeMap<(&str, bool), (usize, Duration)> = BTreeMap::new();
        for call in calls {
            let sum = sums.entry((call.name, call.subject == top)).or_default();
            *sum = (sum.0 + 1, sum.1 + call.took());
        }
        for (kind, sum) in sums {
            kinds.entry(kind).or_default().push(sum);
        }
    }
    let modprobe = if case.modprobe { ", with modprobe" } else { "" };
    println!("{} MiB{modprobe}: calls of one split of ours: median, best", case.size.0 >> 20);
    for ((name, of_top), sums) in kinds {
        let count = median(sums.iter().map(|s| s.0));
        let whose = if of_top { " of the array" } else { "" };
        println!("  {count:3} {name}{whose}: {}", both(sums.iter().map(|s| s.1).collect()));
    }
    let pauses: Vec<_> = rounds.iter().map(|calls| held_back(calls, &top)).collect();
    for nth in 0..pauses.iter().map(Vec::len).max().unwrap_or(0) {
        println!("  pause {}:", nth + 1);
        for part in ["dm suspend", "read", "dm load", "dm resume"] {
            let of = pauses.iter().filter_map(|pauses| pauses.get(nth));
            println!("      {part}: {}", both(of.map(|pause| pause.spent_in(part)).collect()));
        }
    }
}

fn both(times: Vec<Duration>) -> String {
    format!("{}, {}", ms(median(times.iter().copied())), ms(times.into_iter().min().unwrap_or_default()))
}
