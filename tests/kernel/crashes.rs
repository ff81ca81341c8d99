//! Every operation is cut short at calls that change something, on the real kernel: by the death of the
//! process, after which the kernel goes on, and by the loss of power, after which only the disks are left.
//!
//! The same operations and the same checks serve both.

use std::path::PathBuf;

use splitmirror::engine::Engine;
use splitmirror::host::{Blocks, Host};
use splitmirror::units::Bytes;

use crate::cut::{CutHost, Cutter};
use crate::guest::Cuttable;
use crate::lab::{self, Outcome, ensure, say};
use crate::volumes::plan;
use crate::writer::{self, Writers, check_instant};

/// An operation that is cut short.
#[derive(Clone, Copy)]
pub struct Operation {
    pub name: &'static str,
    /// Brings the volume `v` of three images to where the operation starts.
    prepare: fn(&Engine<splitmirror::host::linux::LinuxHost>) -> Outcome,
    /// The operation; it is repeated after the crash, as whoever asked for it would.
    run: fn(&dyn Operator) -> Outcome,
    /// Snapshots that exist when it is done.
    snapshots: &'static [&'static str],
    /// Images that the volume has then, without those that are there for snapshots.
    images: usize,
}

/// The engine, whatever its host.
pub trait Operator {
    fn split(&self, name: &str) -> Outcome;
    fn grow(&self, name: &str) -> Outcome;
    fn merge(&self, name: &str) -> Outcome;
    fn create(&self, name: &str) -> Outcome;
    fn delete(&self, name: &str) -> Outcome;
    fn expand(&self, size: Bytes) -> Outcome;
    fn clone(&self) -> Outcome;
    fn fill(&self) -> Outcome;
    fn images(&self, images: usize) -> Outcome;
    fn regions(&self, size: Bytes) -> Outcome;
    fn detach(&self) -> Outcome;
    fn part(&self) -> Outcome;
}

impl<H: Host> Operator for Engine<H> {
    fn split(&self, name: &str) -> Outcome {
        lab::split(self, name, "v").map(|_| ())
    }
    fn grow(&self, name: &str) -> Outcome {
        lab::grow(self, name, "v").map(|_| ())
    }
    fn merge(&self, name: &str) -> Outcome {
        lab::merge(self, &format!("v@{name}"))
    }
    fn create(&self, name: &str) -> Outcome {
        lab::new_volume(self, name, 2).map(|_| ())
    }
    fn delete(&self, name: &str) -> Outcome {
        self.delete_volume(name).map_err(say)
    }
    fn expand(&self, size: Bytes) -> Outcome {
        self.expand_volume(&"v".parse().map_err(say)?, size, None).map_err(say).map(|_| ())
    }
    fn clone(&self) -> Outcome {
        self.create_clone(&lab::volume_spec("c", 2), "v@s").map_err(say).map(|_| ())
    }
    fn fill(&self) -> Outcome {
        lab::settle(self)
    }
    fn detach(&self) -> Outcome {
        self.detach_snapshot(&lab::volume_spec("d", 2), "v@s").map_err(say).map(|_| ())
    }
    fn part(&self) -> Outcome {
        let volume = "v".parse().map_err(say)?;
        self.detach_images(&lab::volume_spec("d", 2), &volume).map_err(say).map(|_| ())
    }
    fn images(&self, images: usize) -> Outcome {
        let volume = "v".parse().map_err(say)?;
        self.modify_volume(&volume, &crate::images::images(images)).map_err(say).map(|_| ())
    }
    fn regions(&self, size: Bytes) -> Outcome {
        let volume = "v".parse().map_err(say)?;
        self.modify_volume(&volume, &crate::regions::regions(size)).map_err(say).map(|_| ())
    }
}

pub const OPERATIONS: [Operation; 21] = [
    Operation { name: "split", prepare: |_| Ok(()), run: |e| e.split("s"), snapshots: &["s"], images: 3 },
    Operation {
        name: "second_split",
        prepare: |e| lab::split(e, "old", "v").map(|_| ()),
        run: |e| e.split("s"),
        snapshots: &["old", "s"],
        images: 3,
    },
    Operation {
        name: "merge",
        prepare: |e| lab::split(e, "s", "v").map(|_| ()),
        run: |e| e.merge("s"),
        snapshots: &[],
        images: 3,
    },
    Operation {
        name: "merge_of_the_older",
        prepare: two_splits,
        run: |e| e.merge("old"),
        snapshots: &["s"],
        images: 3,
    },
    Operation {
        name: "merge_of_the_newer",
        prepare: two_splits,
        run: |e| e.merge("s"),
        snapshots: &["old"],
        images: 3,
    },
    Operation { name: "create", prepare: |_| Ok(()), run: |e| e.create("w"), snapshots: &[], images: 3 },
    Operation {
        name: "delete",
        prepare: |e| lab::new_volume(e, "w", 2).map(|_| ()),
        run: |e| e.delete("w"),
        snapshots: &[],
        images: 3,
    },
    Operation {
        name: "expand",
        prepare: |_| Ok(()),
        run: |e| e.expand(Bytes::mib(32)),
        snapshots: &[],
        images: 3,
    },
    Operation {
        name: "adding_an_image",
        prepare: |e| e.images(2),
        run: three_images,
        snapshots: &[],
        images: 3,
    },
    Operation {
        name: "adding_an_image_beside_a_split",
        prepare: |e| {
            e.images(2)?;
            e.split("old")
        },
        run: three_images,
        snapshots: &["old"],
        images: 3,
    },
    Operation {
        name: "removing_an_image",
        prepare: |_| Ok(()),
        run: |e| e.images(2),
        snapshots: &[],
        images: 2,
    },
    Operation {
        name: "removing_all_images_but_one",
        prepare: |_| Ok(()),
        run: |e| e.images(1),
        snapshots: &[],
        images: 1,
    },
    Operation {
        name: "adding_to_the_only_image",
        prepare: |e| e.images(1),
        run: three_images,
        snapshots: &[],
        images: 3,
    },
    Operation {
        name: "changing_regions",
        prepare: |_| Ok(()),
        run: |e| e.regions(Bytes::kib(64)),
        snapshots: &[],
        images: 3,
    },
    Operation {
        name: "growing_for_a_snapshot",
        prepare: |e| e.images(2),
        run: |e| e.grow("s"),
        snapshots: &["s"],
        images: 2,
    },
    Operation {
        name: "removing_a_grown_image",
        prepare: |e| {
            e.images(2)?;
            e.grow("s")
        },
        run: |e| e.merge("s"),
        snapshots: &[],
        images: 2,
    },
    Operation {
        name: "clone",
        prepare: |e| lab::split(e, "s", "v").map(|_| ()),
        run: |e| e.clone(),
        snapshots: &["s"],
        images: 3,
    },
    Operation { name: "filling_of_a_clone", prepare: clone, run: |e| e.fill(), snapshots: &["s"], images: 3 },
    Operation {
        name: "detaching",
        prepare: |e| lab::split(e, "s", "v").map(|_| ()),
        run: |e| e.detach(),
        snapshots: &[],
        images: 3,
    },
    Operation {
        name: "detaching_beside_an_older_split",
        prepare: two_splits,
        run: |e| e.detach(),
        snapshots: &["old"],
        images: 3,
    },
    Operation {
        name: "parting",
        prepare: |e| {
            e.images(4)?;
            e.fill()
        },
        run: |e| e.part(),
        snapshots: &[],
        images: 2,
    },
];

fn two_splits<H: Host>(engine: &Engine<H>) -> Outcome {
    lab::split(engine, "old", "v")?;
    lab::split(engine, "s", "v").map(|_| ())
}

/// Until all is copied, whether or not some of it is when the volume is said to be changed.
fn three_images(engine: &dyn Operator) -> Outcome {
    engine.images(3)?;
    engine.fill()
}

fn clone<H: Host>(engine: &Engine<H>) -> Outcome {
    lab::split(engine, "s", "v")?;
    engine.create_clone(&lab::volume_spec("c", 2), "v@s").map_err(say).map(|_| ())
}

/// Pool, volume `v`, and what the operation needs before it.
fn stage(operation: &Operation, disks: &[PathBuf]) -> Outcome<PathBuf> {
    let engine = lab::new_pool(disks, disks.len() - 1)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    (operation.prepare)(&engine)?;
    Ok(device)
}

/// Cut points of an operation that one run tries, spread evenly; the simulated host tries them all.
const DEATHS: u64 = 8;

/// The process dies at a call; the kernel goes on, and the writers never notice.
pub fn survives_the_death_of_the_process(operation: &Operation, disks: &[PathBuf]) -> Outcome {
    let calls = operation.count(disks)?;
    for n in 0..DEATHS.min(calls) {
        let mut next = Some(n * calls / DEATHS.min(calls));
        while let Some(k) = next {
            lab::wipe(disks)?;
            next = dies_at(operation, disks, k).map_err(|e| format!("call {k} of {calls}: {e}"))?;
        }
    }
    Ok(())
}

/// Dies at a call, and sees that nothing is lost. One run makes fewer calls than another, for it leaves to others what the
/// kernel has not copied by then: if this one ends without having died, its last call is where the next should die.
fn dies_at(operation: &Operation, disks: &[PathBuf], k: u64) -> Outcome<Option<u64>> {
    let device = stage(operation, disks)?;
    let plan = plan(100 + k);
    let writers = Writers::start(&device, plan, None)?;
    writers.wait_for(8)?;
    let engine = lab::open_on(CutHost::new(lab::host(), Cutter::die_at(k)))?;
    if let Some(outcome) = crate::cut::survive(|| (operation.run)(&engine)) {
        outcome?;
        let last = engine.host().moments().checked_sub(1).ok_or("it changes nothing")?;
        return Ok(Some(last));
    }
    drop(engine);
    let engine = lab::open()?;
    let failed = engine.recover().map_err(say)?;
    ensure(failed.is_empty(), || format!("{failed:?}"))?;
    (operation.run)(&engine).map_err(|e| format!("repeated: {e}"))?;
    writers.wait_for(8)?;
    lab::settle(&engine)?;
    lab::wait_in_sync(&engine, "v")?;
    let end = writers.stop()?;
    check(operation, &engine, &plan, &end, &end)?;
    Ok(None)
}

/// What must hold when the operation is done, however often it was cut short.
fn check<H: Host>(
    operation: &Operation,
    engine: &Engine<H>,
    plan: &writer::Plan,
    low: &[u64],
    high: &[u64],
) -> Outcome {
    let info = lab::info(engine, "v")?;
    let mut names: Vec<_> = info.snapshots.iter().filter_map(|s| s.name.clone()).collect();
    names.sort();
    ensure(names == operation.snapshots, || format!("snapshots {names:?} of {info:?}"))?;
    let equal = lab::legs_are_equal(engine, "v")?;
    let borrowed = info.slots.iter().filter(|slot| slot.snapshot.is_some() && slot.grown.is_none()).count();
    ensure(equal == operation.images - borrowed, || format!("{equal} images attached: {info:?}"))?;
    check_instant(&lab::device(engine, "v")?, plan, low, high)?;
    for clone in engine.volumes().map_err(say)?.iter().filter(|volume| volume.clone_of.is_some()) {
        ensure(clone.filling.is_none(), || format!("not filled: {clone:?}"))?;
        let device = lab::device(engine, clone.id.as_str())?;
        match info.snapshots.iter().find(|snapshot| Some(&snapshot.id) == clone.clone_of.as_ref()) {
            Some(source) => {
                let image = source.device.as_ref().ok_or("a snapshot has no device")?;
                crate::clones::same(&device, image.as_ref(), Bytes::ZERO, info.size)?;
            }
            // Images of the volume, which have left at one instant. A write that was under way when the power went
            // may be on them and not on those that stayed.
            None if clone.clone_of.as_deref() == Some("v") => {
                drop(check_instant(&device, plan, &[0; 4], high)?);
            }
            // It is that snapshot's image itself, which was cut before anything was written.
            None => drop(check_instant(&device, plan, &[0; 4], &[0; 4])?),
        }
        ensure(lab::legs_are_equal(engine, clone.id.as_str())? == 2, || format!("{clone:?}"))?;
    }
    for snapshot in &info.snapshots {
        let image = PathBuf::from(snapshot.device.as_ref().ok_or("a snapshot has no device")?);
        check_instant(&image, plan, &[0; 4], high)?;
        lab::merge(engine, &snapshot.id)?;
        lab::legs_are_equal(engine, "v")?;
    }
    ensure(lab::legs_are_equal(engine, "v")? == operation.images, || "an image is missing".into())
}

/// The last disk is not the pool's: what the writers were told outlives the guest there.
fn journal(disks: &[PathBuf]) -> Outcome<PathBuf> {
    disks.last().cloned().ok_or_else(|| "there is no disk".into())
}

impl Cuttable for Operation {
    fn count(&self, disks: &[PathBuf]) -> Outcome<u64> {
        stage(self, disks)?;
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::power_at(u64::MAX)))?;
        (self.run)(&engine)?;
        Ok(engine.host().moments())
    }

    fn run_into(&self, disks: &[PathBuf], k: u64) -> Outcome {
        let device = stage(self, disks)?;
        let path = journal(disks)?;
        lab::host().zero(&path, Bytes::ZERO, Bytes::mib(1)).map_err(say)?;
        let writers = Writers::start(&device, plan(500 + k), Some(path))?;
        writers.wait_for(8)?;
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::power_at(k)))?;
        (self.run)(&engine)?;
        writers.stop().map(|_| ())
    }

    /// Every other time LVM2 activates the group before we do.
    fn resume(&self, disks: &[PathBuf], k: u64) -> Outcome {
        let plan = plan(500 + k);
        let acked = writer::journal(&journal(disks)?, plan.threads)?;
        let high: Vec<u64> = acked.iter().map(|n| n + 2).collect();
        if k % 2 == 1 {
            // Another tool may be first: what it does not activate, or cannot, is left to us.
            // What a clone does not hold yet nobody may see: the flag that keeps it from others is not ignored.
            let clones = self.name.contains("clone");
            let all = ["-ay", "pool", "--ignoreactivationskip"];
            let (_, said) = lab::run_any("vgchange", &all[..if clones { 2 } else { 3 }])?;
            println!("vgchange: {said}");
        }
        let engine = lab::open()?;
        let failed = engine.recover().map_err(say)?;
        ensure(failed.is_empty(), || format!("{failed:?}"))?;
        (self.run)(&engine).map_err(|e| format!("repeated: {e}"))?;
        lab::settle(&engine)?;
        lab::wait_in_sync(&engine, "v")?;
        check(self, &engine, &plan, &acked, &high)
    }
}
