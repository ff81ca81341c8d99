//! What is measured beside us: LVM2's own snapshots of a mirror, thick (copy on write) and thin.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use splitmirror::host::DeviceMapper;
use splitmirror::units::Bytes;

use crate::guest::Outcome;
use crate::lab::{self, ensure, say};
use crate::load;

const IMAGES: usize = 3;

/// The programs that check a thin pool's metadata are no part of LVM2, and not what is measured.
const CONFIG: &str = "global/thin_check_executable=\"\"";

/// How long a merge may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A kind of snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Copy on write, into a volume of this size.
    Thick(Bytes),
    /// Of a thin volume, in a pool of this size.
    Thin(Bytes),
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Thick(_) => "LVM2 thick",
            Self::Thin(_) => "LVM2 thin",
        }
    }
}

/// A volume of LVM2's, mirrored like ours, and at most one snapshot.
pub struct Volume {
    kind: Kind,
}

fn lvm(args: &[&str]) -> Outcome {
    lab::run(args[0], &[&["--config", CONFIG, "-y", "-qq"], &args[1..]].concat()).map(drop)
}

fn bytes(size: Bytes) -> String {
    format!("{}b", size.0)
}

impl Volume {
    /// Makes a pool with one volume in it on these disks.
    pub fn new(disks: &[PathBuf], size: Bytes, kind: Kind) -> Outcome<Self> {
        lab::wipe(disks)?;
        drop(lab::new_pool(disks, disks.len())?);
        let mirror = |name: &str, size: Bytes| {
            let (size, others) = (bytes(size), (IMAGES - 1).to_string());
            let shape = ["lvcreate", "--type", "raid1", "-m", &others, "--nosync", "-R", "2m"];
            lvm(&[&shape[..], &["-Wn", "-L", &size, "-n", name, "pool"]].concat())
        };
        match kind {
            Kind::Thick(_) => mirror("w", size)?,
            Kind::Thin(pool) => {
                mirror("data", pool)?;
                mirror("meta", Bytes::mib(64))?;
                lvm(&["lvconvert", "--type", "thin-pool", "--poolmetadata", "pool/meta", "pool/data"])?;
                lvm(&["lvcreate", "-Wn", "-V", &bytes(size), "-T", "pool/data", "-n", "w"])?;
            }
        }
        Ok(Self { kind })
    }

    pub fn device(&self) -> PathBuf {
        PathBuf::from("/dev/mapper/pool-w")
    }

    /// Makes the snapshot and reads its first block; what that took.
    pub fn snapshot(&self) -> Outcome<Duration> {
        let begun = Instant::now();
        match self.kind {
            Kind::Thick(room) => lvm(&["lvcreate", "-s", "-L", &bytes(room), "-n", "s", "pool/w"])?,
            Kind::Thin(_) => lvm(&["lvcreate", "-s", "-kn", "-n", "s", "pool/w"])?,
        }
        load::first_block(&PathBuf::from("/dev/mapper/pool-s"))?;
        Ok(begun.elapsed())
    }

    /// Puts the volume back to the snapshot, which is used up; what that took.
    pub fn roll_back(&self) -> Outcome<Duration> {
        let begun = Instant::now();
        // In the background: in the foreground it looks once a second whether it is done.
        lvm(&["lvconvert", "-b", "-i", "1", "--merge", "pool/s"])?;
        while is_merging()? {
            ensure(begun.elapsed() < PATIENCE, || "the merge does not end".into())?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = begun.elapsed();
        // What is left to do then costs no time of the volume's, but must be over before the next snapshot.
        while lab::run_any("lvs", &["-qq", "pool/s"])?.0 {
            ensure(begun.elapsed() < PATIENCE, || "the merged snapshot does not go".into())?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(took)
    }

    pub fn drop_snapshot(&self) -> Outcome {
        lvm(&["lvremove", "pool/s"])
    }
}

/// The kernel has something left to copy.
fn is_merging() -> Outcome<bool> {
    let status = lab::host().dm_status("pool-w").map_err(say)?;
    let line = status.first().ok_or("the volume has no table")?;
    if line.target != "snapshot-merge" {
        return Ok(line.target == "snapshot-origin");
    }
    // `<allocated>/<total> <metadata>`, in sectors: all is merged when only metadata is left.
    let words: Vec<_> = line.params.split(['/', ' ']).collect();
    Ok(words.first() != words.get(2))
}
