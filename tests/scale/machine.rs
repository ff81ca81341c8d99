//! A simulated machine with volumes and snapshots on it, as small as they can be.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use splitmirror::engine::group::Group;
use splitmirror::engine::{Engine, Settings, pool};
use splitmirror::host::sim::SimHost;
use splitmirror::host::{Blocks as _, Locks as _};
use splitmirror::ids::VgName;
use splitmirror::lvm2::Provenance;
use splitmirror::lvm2::model::VolumeGroup;
use splitmirror::units::Bytes;
use splitmirror::volume::spec::{SnapshotPolicy, SnapshotSpec, VolumeSpec};

use crate::{Outcome, told};

/// The node whose machine is made; the others' are made of it.
pub const ORIGINAL: usize = 0;
/// The pool of every node.
const POOL: &str = "scale";
/// Images of a volume: one is split off already, another one can be.
const IMAGES: usize = 3;
/// Size of an extent and of a volume: the smallest that there is.
const EXTENT: Bytes = Bytes::kib(512);
/// Bytes of a block.
const BLOCK: usize = 4096;
/// How often the machine's clock is set on while something is copied.
const TICK: Duration = Duration::from_millis(20);

/// The name of a node.
pub fn node(number: usize) -> String {
    format!("node-{number:03}")
}

/// The name of a volume.
pub fn volume(node: usize, number: usize) -> String {
    format!("{}{number:05}", prefix("pvc", node))
}

/// The name of its snapshot.
fn snapshot(node: usize, number: usize) -> String {
    format!("{}{number:05}", prefix("snap", node))
}

fn prefix(what: &str, node: usize) -> String {
    format!("{what}-{node:03}-")
}

/// Makes a machine with so many volumes, each with a snapshot, and writes what is on its disks to a file. In a process of its
/// own: what the making leaves of memory would count for the agent.
pub fn write(path: &Path, count: usize) -> Outcome {
    let host = SimHost::new(1);
    // An extent of data and one of metadata for each, and room for a few more.
    let size = Bytes(EXTENT.0 * u64::try_from(2 * count + 16).map_err(|error| error.to_string())?);
    let disks = blank_disks(&host, size)?;
    fill(&host, &disks, count).map_err(|error| told(&error))?;
    let mut blocks = size.0.to_le_bytes().to_vec();
    for (number, disk) in (0u8..).zip(&disks) {
        for at in (0..size.0).step_by(BLOCK) {
            let block = host.read(disk, Bytes(at), Bytes::kib(4)).map_err(|error| told(&error))?;
            if block.iter().any(|byte| *byte != 0) {
                blocks.push(number);
                blocks.extend(at.to_le_bytes());
                blocks.extend(block);
            }
        }
    }
    std::fs::write(path, blocks).map_err(|error| told(&error))
}

/// The machine whose disks a file holds, after a boot.
pub fn read(path: &Path) -> Outcome<SimHost> {
    let mut file = BufReader::new(File::open(path).map_err(|error| told(&error))?);
    let mut number = [0; 8];
    file.read_exact(&mut number).map_err(|error| told(&error))?;
    let host = SimHost::new(1);
    let disks = blank_disks(&host, Bytes(u64::from_le_bytes(number)))?;
    let (mut disk, mut block) = ([0], [0; BLOCK]);
    while !file.fill_buf().map_err(|error| told(&error))?.is_empty() {
        for part in [&mut disk[..], &mut number, &mut block] {
            file.read_exact(part).map_err(|error| told(&error))?;
        }
        let disk = disks.get(usize::from(disk[0])).ok_or("a disk too many")?;
        host.write(disk, Bytes(u64::from_le_bytes(number)), &block).map_err(|error| told(&error))?;
    }
    Ok(host)
}

/// Disks full of zeroes, which take no memory.
fn blank_disks(host: &SimHost, size: Bytes) -> Outcome<Vec<PathBuf>> {
    let disks: Vec<PathBuf> = (0..IMAGES).map(|_| host.add_disk(size)).collect();
    for disk in &disks {
        host.zero(disk, Bytes(0), size).map_err(|error| told(&error))?;
    }
    Ok(disks)
}

fn fill(host: &SimHost, disks: &[PathBuf], count: usize) -> splitmirror::engine::Result<()> {
    let vg: VgName = POOL.parse().expect("legal");
    let options = pool::Options { extent_size: EXTENT, ..pool::Options::default() };
    pool::create(host, &vg, disks, &options)?;
    let engine = Engine::open(host.clone(), vg, Settings::default())?;
    for number in 0..count {
        let made = engine.create_volume(&VolumeSpec {
            name: volume(ORIGINAL, number),
            size: EXTENT,
            limit: None,
            images: IMAGES,
            region_size: Bytes::kib(8),
            min_recovery_rate: None,
            max_recovery_rate: None,
        })?;
        engine.create_snapshot(&SnapshotSpec {
            name: snapshot(ORIGINAL, number),
            volume: made.id,
            min_in_sync: 1,
            policy: SnapshotPolicy::Borrow,
        })?;
    }
    Ok(())
}

/// The same machine as another node: its volumes and snapshots have that node's names. To make them one by one on each
/// node would take minutes.
pub fn of_another_node(machine: &SimHost, node: usize) -> Outcome<SimHost> {
    let host = machine.fork();
    host.reseed(u64::try_from(node).map_err(|error| error.to_string())?);
    let vg: VgName = POOL.parse().expect("legal");
    let _lock = host.lock_vg(&vg).map_err(|error| told(&error))?;
    let mut group = Group::read(&host, &vg, &Settings::default(), None).map_err(|error| told(&error))?;
    let nobody = Provenance {
        description: String::new(),
        creation_host: String::new(),
        creation_time: 0,
        generated_by: String::new(),
    };
    let text = group.vg().render(&nobody);
    let text = text.replace(&prefix("pvc", ORIGINAL), &prefix("pvc", node));
    let text = text.replace(&prefix("snap", ORIGINAL), &prefix("snap", node));
    let renamed = VolumeGroup::parse(&text).map_err(|error| told(&error))?;
    group.commit(&host, renamed, "rename").map_err(|error| told(&error))?;
    Ok(host)
}

/// Lets time pass on a machine while something is copied there, for ever. What it remembers of calls, for tests that cut
/// its power, it is made to forget.
pub async fn live(host: SimHost) {
    let mut busy = true;
    loop {
        tokio::time::sleep(TICK).await;
        // One that nobody has called copies nothing new: to look would cost more than all its agent does.
        busy |= !host.trace().is_empty();
        host.arm(None);
        if busy {
            busy = !host.at_rest();
            host.sleep(TICK);
        }
    }
}
