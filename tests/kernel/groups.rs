//! Group snapshots on the real kernel: a writer that writes to one volume and then to the other must never show the other
//! one ahead in the images of a group, whenever it is cut, and whatever is cut short.

use std::path::{Path, PathBuf};

use splitmirror::engine::Engine;
use splitmirror::host::{Blocks, Host};
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::info::GroupInfo;

use crate::cut::{CutHost, Cutter, survive};
use crate::guest::Cuttable;
use crate::lab::{self, Outcome, ensure, say};
use crate::snapshots::image;
use crate::volumes::plan;
use crate::writer::{self, Plan, Writers, check_instant};

/// In the order in which each write goes to them.
const VOLUMES: [&str; 2] = ["v", "w"];
const GROUP: &str = "g";
const ROUNDS: u64 = 20;

/// A pool with both volumes, of three images and of two.
fn stage(disks: &[PathBuf]) -> Outcome<[PathBuf; 2]> {
    let engine = lab::new_pool(disks, 3)?;
    Ok([lab::new_volume(&engine, VOLUMES[0], 3)?, lab::new_volume(&engine, VOLUMES[1], 2)?])
}

fn split<H: Host>(engine: &Engine<H>) -> Outcome<GroupInfo> {
    let group = engine.create_group_snapshot(&lab::group_spec(GROUP, &VOLUMES)).map_err(say)?;
    ensure(group.ready && group.snapshots.len() == 2, || format!("not whole: {group:?}"))?;
    Ok(group)
}

/// Checks that two devices hold one instant: of each thread, the first is as far as the second or one write further.
fn check_together(devices: [&Path; 2], plan: &Plan, low: &[u64], high: &[u64]) -> Outcome {
    let first = check_instant(devices[0], plan, low, high)?;
    let second = check_instant(devices[1], plan, low, high)?;
    let fits = first.iter().zip(&second).all(|(first, second)| *first == *second || *first == *second + 1);
    ensure(fits, || format!("no instant: {first:?} on {}, then {second:?}", VOLUMES[0]))
}

fn check_group(group: &GroupInfo, plan: &Plan, high: &[u64]) -> Outcome {
    let [first, second] = &group.snapshots[..] else { return Err(format!("{group:?}")) };
    check_together([&image(first)?, &image(second)?], plan, &[0; 4], high)
}

fn check_legs<H: Host>(engine: &Engine<H>, attached: [usize; 2]) -> Outcome {
    for (volume, attached) in VOLUMES.iter().zip(attached) {
        lab::wait_in_sync(engine, volume)?;
        let equal = lab::legs_are_equal(engine, volume)?;
        ensure(equal == attached, || format!("{volume}: {equal} images attached, not {attached}"))?;
    }
    Ok(())
}

pub fn a_group_is_one_instant_of_a_writer_that_goes_from_one_volume_to_the_other(
    disks: &[PathBuf],
) -> Outcome {
    let devices = stage(disks)?;
    let engine = lab::open()?;
    let writers = Writers::start_across(&devices, plan(21), None)?;
    for round in 0..ROUNDS {
        writers.wait_for(4)?;
        let low = writers.acked();
        let group = split(&engine)?;
        let high: Vec<u64> = writers.acked().iter().map(|n| n + 1).collect();
        let again = split(&engine)?.cut_unix_nanos;
        ensure(group.cut_unix_nanos == again, || "asked for twice it is another one".into())?;
        let [first, second] = &group.snapshots[..] else { return Err(format!("{group:?}")) };
        check_together([&image(first)?, &image(second)?], &plan(21), &low, &high)
            .map_err(|e| format!("round {round}: {e}"))?;
        let alone = engine.delete_snapshot(&first.id);
        ensure(alone.as_ref().is_err_and(|e| e.class() == Class::Invalid), || format!("{alone:?}"))?;
        writers.wait_for(4)?;
        check_group(&group, &plan(21), &high).map_err(|e| format!("round {round}, later: {e}"))?;
        engine.delete_group_snapshot(GROUP).map_err(say)?;
        lab::settle(&engine)?;
        check_legs(&engine, [3, 2]).map_err(|e| format!("round {round}: {e}"))?;
    }
    let end = writers.stop()?;
    check_together([&devices[0], &devices[1]], &plan(21), &end, &end)
}

/// What is cut short.
#[derive(Clone, Copy)]
pub enum Operation {
    Split,
    Merge,
}

impl Operation {
    fn prepare(self, disks: &[PathBuf]) -> Outcome<[PathBuf; 2]> {
        let devices = stage(disks)?;
        if let Self::Merge = self {
            split(&lab::open()?)?;
        }
        Ok(devices)
    }

    fn run<H: Host>(self, engine: &Engine<H>) -> Outcome {
        match self {
            Self::Split => split(engine).map(drop),
            Self::Merge => {
                engine.delete_group_snapshot(GROUP).map_err(say).and_then(|()| lab::settle(engine))
            }
        }
    }

    /// Starts after it was cut short: the group is whole or nothing of it can be read. Then it is repeated.
    fn start_again(self, plan: &Plan, high: &[u64]) -> Outcome<Engine<splitmirror::host::linux::LinuxHost>> {
        let engine = lab::open()?;
        let failed = engine.recover().map_err(say)?;
        ensure(failed.is_empty(), || format!("{failed:?}"))?;
        for group in engine.group_snapshots().map_err(say)? {
            let some = group.snapshots.iter().any(|snapshot| snapshot.ready);
            ensure(some == group.ready, || format!("half a group: {group:?}"))?;
            if group.ready {
                check_group(&group, plan, high)?;
            }
        }
        self.run(&engine).map_err(|e| format!("repeated: {e}"))?;
        lab::settle(&engine)?;
        Ok(engine)
    }

    /// What must hold when it is done.
    fn check<H: Host>(self, engine: &Engine<H>, plan: &Plan, low: &[u64], high: &[u64]) -> Outcome {
        let groups = engine.group_snapshots().map_err(say)?;
        match (self, &groups[..]) {
            (Self::Split, [group]) => {
                check_group(group, plan, high)?;
                check_legs(engine, [2, 1])?;
                engine.delete_group_snapshot(GROUP).map_err(say)?;
                lab::settle(engine)?;
            }
            (Self::Merge, []) => {}
            (_, groups) => return Err(format!("{groups:?}")),
        }
        check_legs(engine, [3, 2])?;
        let (v, w) = (lab::device(engine, VOLUMES[0])?, lab::device(engine, VOLUMES[1])?);
        check_together([&v, &w], plan, low, high)
    }

    /// The process dies at calls spread over the operation; the kernel goes on, and the writers never notice.
    pub fn survives_the_death_of_the_process(self, disks: &[PathBuf]) -> Outcome {
        const DEATHS: u64 = 12;
        let calls = self.count(disks)?;
        for n in 0..DEATHS.min(calls) {
            let k = n * calls / DEATHS.min(calls);
            lab::wipe(disks)?;
            self.dies_at(disks, k).map_err(|e| format!("call {k} of {calls}: {e}"))?;
        }
        Ok(())
    }

    fn dies_at(self, disks: &[PathBuf], k: u64) -> Outcome {
        let devices = self.prepare(disks)?;
        let plan = plan(600 + k);
        let writers = Writers::start_across(&devices, plan, None)?;
        writers.wait_for(4)?;
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::die_at(k)))?;
        ensure(survive(|| self.run(&engine)).is_none(), || "it was not cut".into())?;
        drop(engine);
        let engine = self.start_again(&plan, &[u64::MAX; 4])?;
        writers.wait_for(4)?;
        let end = writers.stop()?;
        self.check(&engine, &plan, &end, &end)
    }
}

/// The last disk is not the pool's: what the writers were told outlives the guest there.
fn journal(disks: &[PathBuf]) -> Outcome<PathBuf> {
    disks.last().cloned().ok_or_else(|| "there is no disk".into())
}

impl Cuttable for Operation {
    fn count(&self, disks: &[PathBuf]) -> Outcome<u64> {
        self.prepare(disks)?;
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::power_at(u64::MAX)))?;
        self.run(&engine)?;
        Ok(engine.host().moments())
    }

    fn run_into(&self, disks: &[PathBuf], k: u64) -> Outcome {
        let devices = self.prepare(disks)?;
        let path = journal(disks)?;
        lab::host().zero(&path, Bytes::ZERO, Bytes::mib(1)).map_err(say)?;
        let writers = Writers::start_across(&devices, plan(700 + k), Some(path))?;
        writers.wait_for(4)?;
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::power_at(k)))?;
        self.run(&engine)?;
        writers.stop().map(|_| ())
    }

    /// Every other time LVM2 activates the group before we do.
    fn resume(&self, disks: &[PathBuf], k: u64) -> Outcome {
        let plan = plan(700 + k);
        let acked = writer::journal(&journal(disks)?, plan.threads)?;
        let high: Vec<u64> = acked.iter().map(|n| n + 2).collect();
        if k % 2 == 1 {
            let (_, said) = lab::run_any("vgchange", &["-ay", "--ignoreactivationskip", "pool"])?;
            println!("vgchange: {said}");
        }
        let engine = self.start_again(&plan, &high)?;
        self.check(&engine, &plan, &acked, &high)
    }
}
