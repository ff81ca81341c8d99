//! File systems that are mounted and busy while their volume is split: the image is clean.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use splitmirror::units::Bytes;
use splitmirror::volume::spec::VolumeSpec;

use crate::lab::{self, Outcome, ensure, say};

struct Kind {
    mkfs: &'static [&'static str],
    size: Bytes,
    view_options: &'static str,
    check: fn(&str) -> Outcome,
}

const EXT4: Kind =
    Kind { mkfs: &["mkfs.ext4", "-q"], size: Bytes::mib(48), view_options: "ro,noload", check: check_ext4 };
const XFS: Kind = Kind {
    mkfs: &["mkfs.xfs", "-q", "-f"],
    size: Bytes::mib(320),
    view_options: "ro,nouuid,norecovery",
    check: check_xfs,
};

fn check_ext4(device: &str) -> Outcome {
    let superblock = lab::run("dumpe2fs", &["-h", device])?;
    ensure(!superblock.contains("needs_recovery"), || "the journal needs recovery".into())?;
    lab::run("e2fsck", &["-f", "-n", device]).map(|_| ())
}

/// A frozen XFS keeps its superblock's counters in the log on purpose, so that a crash while frozen is noticed
/// (`xfs_log_quiesce`, `xfs_sync_sb`): of those, and of the log that holds them, a checker that may not read the log complains.
/// Nothing else may be found.
fn check_xfs(device: &str) -> Outcome {
    let (_, report) = lab::run_any("xfs_repair", &["-n", device])?;
    ensure(report.contains("Phase 7"), || report.clone())?;
    let expected = ["sb_fdblocks", "sb_ifree", "sb_icount"];
    let words =
        ["would", "bad ", "corrupt", "error", "invalid", "missing", "sb_", "mismatch", "orphan", "cleared"];
    let finding = report.lines().find(|line| {
        words.iter().any(|word| line.contains(word)) && !expected.iter().any(|name| line.starts_with(name))
    });
    finding.map_or(Ok(()), |line| Err(format!("xfs_repair found: {line}")))
}

/// Writes files of growing number, each durable before the next is begun, until told to stop.
struct Files {
    stop: Arc<AtomicBool>,
    durable: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
}

fn content(n: u64) -> Vec<u8> {
    format!("file {n}\n").repeat(500).into_bytes()
}

impl Files {
    fn start(dir: PathBuf) -> Self {
        let (stop, durable) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, durable) = (Arc::clone(&stop), Arc::clone(&durable));
            move || {
                for n in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut file = std::fs::File::create(dir.join(format!("f{}", n % 200)))?;
                    file.write_all(&content(n))?;
                    file.sync_all()?;
                    std::fs::File::open(&dir)?.sync_all()?;
                    durable.store(n, Ordering::Release);
                }
                Ok(())
            }
        });
        Self { stop, durable, thread }
    }

    fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    fn wait_for(&self, more: u64) -> Outcome {
        let goal = self.durable() + more;
        while self.durable() < goal {
            ensure(!self.thread.is_finished(), || "the file writer failed".into())?;
            std::thread::yield_now();
        }
        Ok(())
    }

    fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the file writer panicked")?.map_err(say)
    }
}

fn busy(disks: &[PathBuf], kind: &Kind) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    let spec = VolumeSpec { size: kind.size, ..lab::volume_spec("v", 3) };
    engine.create_volume(&spec).map_err(say)?;
    let device = lab::device(&engine, "v")?;
    let device = device.to_str().ok_or("no device name")?;
    let (mkfs, options) = kind.mkfs.split_first().ok_or("no mkfs")?;
    lab::run(mkfs, &[options, &[device]].concat())?;
    let origin = lab::mkdir("/mnt/origin")?;
    let view = lab::mkdir("/mnt/view")?;
    lab::run("mount", &[device, "/mnt/origin"])?;
    let files = Files::start(origin.to_path_buf());
    for round in 0..3 {
        files.wait_for(20)?;
        let before = files.durable();
        let snapshot = lab::split(&engine, &format!("s{round}"), "v")?;
        files.wait_for(5)?;
        let image = snapshot.device.as_ref().ok_or("the snapshot has no device")?;
        (kind.check)(image).map_err(|e| format!("round {round}: the image is not clean: {e}"))?;
        lab::run("mount", &["-o", kind.view_options, image, "/mnt/view"])?;
        let held = holds_what_was_durable(view, before);
        lab::run("umount", &["/mnt/view"])?;
        held.map_err(|e| format!("round {round}: {e}"))?;
        files.wait_for(5)?;
        lab::merge(&engine, &snapshot.id)?;
        ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    }
    files.stop()?;
    lab::run("umount", &["/mnt/origin"])?;
    (kind.check)(device)
}

/// The newest durable file is there, or a newer one under its name.
fn holds_what_was_durable(dir: &Path, durable: u64) -> Outcome {
    for n in durable.saturating_sub(150).max(1)..=durable {
        let path = dir.join(format!("f{}", n % 200));
        let found = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let whole = found == content(n)
            || found == content(n + 200)
            || found.is_empty()
            || content(n + 200).starts_with(&found);
        ensure(whole, || format!("{} holds something else", path.display()))?;
    }
    Ok(())
}

pub fn ext4_mounted_and_busy_is_clean_in_every_snapshot(disks: &[PathBuf]) -> Outcome {
    busy(disks, &EXT4)
}

pub fn xfs_mounted_and_busy_is_clean_in_every_snapshot(disks: &[PathBuf]) -> Outcome {
    busy(disks, &XFS)
}
