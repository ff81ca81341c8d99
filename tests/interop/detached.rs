//! Snapshots and images that become a volume, as LVM2 sees it at every moment.

use std::path::PathBuf;

use splitmirror::engine::Engine;
use splitmirror::host::Host;
use splitmirror::host::linux::LinuxHost;

use crate::cut::{CutHost, Cutter, survive};
use crate::lab::{self, Outcome, ensure, say};
use crate::lvm::{calm, is_content, shows, visible};

type Cut = Engine<CutHost<LinuxHost>>;

/// What becomes a volume `d` of two images.
struct Case {
    /// How many images volume `v` has before.
    images: usize,
    prepare: fn(&Engine<LinuxHost>) -> Outcome,
    run: fn(&Engine<LinuxHost>) -> Outcome,
    run_cut: fn(&Cut) -> Outcome,
    /// How many it has afterwards.
    left: usize,
}

fn detach<H: Host>(engine: &Engine<H>) -> Outcome {
    engine.detach_snapshot(&lab::volume_spec("d", 2), "v@s").map_err(say).map(|_| ())
}

fn part<H: Host>(engine: &Engine<H>) -> Outcome {
    engine.detach_images(&lab::volume_spec("d", 2), &"v".parse().map_err(say)?).map_err(say).map(|_| ())
}

pub fn lvm2_reads_every_state_of_a_detachment_without_a_warning(disks: &[PathBuf]) -> Outcome {
    every_state(
        disks,
        &Case {
            images: 3,
            prepare: |engine| lab::split(engine, "s", "v").map(|_| ()),
            run: detach,
            run_cut: detach,
            left: 3,
        },
    )
}

pub fn lvm2_reads_every_state_of_images_that_become_a_volume_without_a_warning(disks: &[PathBuf]) -> Outcome {
    every_state(disks, &Case { images: 4, prepare: |_| Ok(()), run: part, run_cut: part, left: 2 })
}

/// The process dies at each call; LVM2 looks at what is there, and then it goes on.
fn every_state(disks: &[PathBuf], case: &Case) -> Outcome {
    let stage = || -> Outcome {
        lab::wipe(disks)?;
        let engine = lab::new_pool(disks, case.images)?;
        lab::new_volume(&engine, "v", case.images)?;
        (case.prepare)(&engine)
    };
    stage()?;
    let calls = {
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::die_at(u64::MAX)))?;
        (case.run_cut)(&engine)?;
        engine.host().moments()
    };
    // Every second one: each takes LVM2 and a recovery some seconds.
    for k in (0..calls).step_by(2) {
        let at = |error: String| format!("call {k} of {calls}: {error}");
        stage().map_err(at)?;
        let engine = lab::open_on(CutHost::new(lab::host(), Cutter::die_at(k))).map_err(at)?;
        // How often it has to wait, and looks again, is not the same each time.
        let _ = survive(|| (case.run_cut)(&engine));
        drop(engine);
        for words in ["vgck pool", "lvs -a -o +devices,lv_attr,seg_pe_ranges pool"] {
            match calm(words) {
                // It died between two copies of one version: the next start writes them all.
                Err(said) if said.contains("ignoring metadata seqno") => {}
                // It died between making a leg's device and starting it: that has no node yet.
                Err(said) if said.contains("open failed: No such file or directory") => {}
                // It died between making the array's device and giving it a table.
                Err(said) if said.contains("Expected raid segment type but got NULL") => {}
                said => said.map(drop).map_err(at)?,
            }
        }
        let engine = lab::open().map_err(at)?;
        ensure(engine.recover().map_err(say)?.is_empty(), || at("it does not come up".into()))?;
        (case.run)(&engine).map_err(at)?;
        lab::settle(&engine).map_err(at)?;
        for (volume, images) in [("v", case.left), ("d", 2)] {
            lab::wait_in_sync(&engine, volume).map_err(at)?;
            let equal = lab::legs_are_equal(&engine, volume).map_err(at)?;
            ensure(equal == images, || at(format!("volume {volume} has {equal} images")))?;
        }
    }
    is_content(&disks[..case.images])?;
    for (volume, images) in [("v", case.left), ("d", 2)] {
        let images = images.to_string();
        shows(volume, &[("segtype", "raid1"), ("stripes", &images), ("copy_percent", "100.00")])?;
    }
    ensure(visible()? == ["d", "v"], || format!("visible: {:?}", visible()))
}
