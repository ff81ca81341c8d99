//! Which blocks differ between two snapshots: never fewer than do, and no more; only what is marked is read for it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use splitmirror::engine::Engine;
use splitmirror::host::Host;
use splitmirror::units::Bytes;
use splitmirror::volume::changes::BLOCK;
use splitmirror::volume::info::SnapshotInfo;

use crate::lab::{self, Outcome, ensure, say};
use crate::snapshots::{image, sectors_read};
use crate::volumes::plan;
use crate::writer::{Plan, Writers};

/// Reads of labels, superblocks and bitmaps on one disk.
const BESIDES: Bytes = Bytes::kib(256);

/// All blocks that the engine tells.
fn told<H: Host>(
    engine: &Engine<H>,
    of: &SnapshotInfo,
    base: Option<&SnapshotInfo>,
) -> Outcome<BTreeSet<u64>> {
    let (mut told, mut from) = (BTreeSet::new(), Some(Bytes::ZERO));
    while let Some(at) = from {
        let part = engine.blocks(&of.id, base.map(|base| base.id.as_str()), at).map_err(say)?;
        told.extend(part.ranges.iter().flat_map(|range| range.start.0 / BLOCK.0..range.end.0 / BLOCK.0));
        from = part.next;
    }
    Ok(told)
}

/// All blocks of an image.
fn blocks(image: &Path) -> Outcome<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(image).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(say)?;
    let block = usize::try_from(BLOCK.0).map_err(say)?;
    Ok(bytes.chunks(block).map(<[u8]>::to_vec).collect())
}

pub fn blocks_that_differ_between_snapshots_are_told_to_the_block(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 5)?;
    let device = lab::new_volume(&engine, "v", 5)?;
    let mut snapshots = Vec::new();
    for round in 0..3 {
        // Cut in the middle of writes, other ones each time, to a quarter of the volume.
        let whole = plan(20 + round);
        let writers = Writers::start(&device, Plan { blocks: whole.blocks / 4, ..whole }, None)?;
        writers.wait_for(40)?;
        snapshots.push(lab::split(&engine, &format!("s{round}"), "v")?);
        writers.wait_for(10)?;
        writers.stop()?;
    }
    let held = snapshots.iter().map(|of| blocks(&image(of)?)).collect::<Outcome<Vec<_>>>()?;
    let info = lab::info(&engine, "v")?;
    let zeroes = vec![0; usize::try_from(BLOCK.0).map_err(say)?];
    for (new, newer) in snapshots.iter().zip(&held) {
        let holding = (0..).zip(newer).filter(|(_, block)| **block != zeroes).map(|(at, _)| at).collect();
        ensure(told(&engine, new, None)? == holding, || format!("what {} holds", new.id))?;
        for (old, older) in snapshots.iter().zip(&held) {
            let pairs = (0..).zip(newer.iter().zip(older));
            let differ: BTreeSet<u64> = pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
            let disk = PathBuf::from(&info.slots[new.slot].device);
            let before = sectors_read(&disk)?;
            let told = told(&engine, new, Some(old))?;
            let read = Bytes((sectors_read(&disk)? - before) * 512);
            ensure(told == differ, || {
                let missed = differ.difference(&told).count();
                format!("{} since {}: {missed} of {} missed", new.id, old.id, differ.len())
            })?;
            ensure(old.id == new.id || !differ.is_empty(), || "nothing was written".into())?;
            let most = info.snapshots[0].changed + BESIDES;
            ensure(read <= most, || format!("{read} read, {} marked", info.snapshots[0].changed))?;
            ensure(most < info.size, || format!("{most} of {} marked: it shows nothing", info.size))?;
        }
    }
    for snapshot in &snapshots {
        lab::merge(&engine, &snapshot.id)?;
    }
    ensure(lab::legs_are_equal(&engine, "v")? == 5, || "an image is missing".into())
}
