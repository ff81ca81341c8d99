//! LVM2's lock files and its hints.
//!
//! ```text
//! /run/lock/lvm/P_global      set of PVs and groups
//! /run/lock/lvm/V_NAME        volume group NAME
//! /run/lock/lvm/V_NAME:aux    held by a writer while it waits, so that readers cannot keep it waiting for ever
//! /run/lvm/hints              where PVs were last seen; newhints: that is void
//! ```
//!
//! A lock is `flock(2)` on the file. Whoever lets go unlinks the file if nobody else has it locked, so a
//! locked descriptor counts only while the path still leads to the same inode; otherwise all begins again.
//!
//! In a pod these must be the host's files: locks on files of the pod's own exclude nobody.
//!
//! Sources: LVM2 `lib/misc/lvm-flock.c`, `lib/locking/file_locking.c`, `lib/label/hints.c`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{LinuxHost, fail};
use crate::host::{Locks, Result, VgLock};
use crate::ids::VgName;

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(50);

impl Locks for LinuxHost {
    fn lock_vg(&self, vg: &VgName) -> Result<Box<dyn VgLock>> {
        self.lock(&format!("V_{vg}"))
    }

    fn lock_global(&self) -> Result<Box<dyn VgLock>> {
        self.lock("P_global")
    }

    fn invalidate_hints(&self) -> Result<()> {
        let path = self.config.lvm_run_dir.join("newhints");
        invalidate_hints(&self.config.lvm_run_dir).map_err(fail("create", path.display().to_string()))
    }
}

impl LinuxHost {
    fn lock(&self, name: &str) -> Result<Box<dyn VgLock>> {
        let path = self.config.lock_dir.join(name);
        let subject = path.display().to_string();
        match Lock::take(path, self.config.lock_wait) {
            Ok(lock) => Ok(Box::new(lock)),
            Err(error) => Err(fail("lock", subject)(error)),
        }
    }
}

/// A held lock.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl VgLock for Lock {}

impl Lock {
    /// Takes the exclusive lock as LVM2 does with `global/prioritise_write_locks`.
    fn take(path: PathBuf, wait: Duration) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let deadline = Instant::now() + wait;
        let mut aux = path.clone().into_os_string();
        aux.push(":aux");
        let turn = Self::take_one(PathBuf::from(aux), deadline, wait)?;
        let lock = Self::take_one(path, deadline, wait)?;
        drop(turn);
        Ok(lock)
    }

    fn take_one(path: PathBuf, deadline: Instant, wait: Duration) -> io::Result<Self> {
        let mut pause = Duration::from_millis(1);
        loop {
            let file = OpenOptions::new().read(true).append(true).create(true).mode(0o777).open(&path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, &path)? => return Ok(Self { path, file }),
                // Its last holder has unlinked it: the lock is on a file that nobody else will find.
                Ok(()) => continue,
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, held(&file, wait)));
            }
            drop(file);
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // As LVM2 does: nobody waits for it on this inode but readers that would begin again, so it may go.
        let alone = rustix::fs::flock(&self.file, FlockOperation::Unlock)
            .and_then(|()| rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive))
            .is_ok();
        if alone && is_at(&self.file, &self.path).unwrap_or(false) {
            // A file that stays is a lock file that nobody holds.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Whether the path leads to the open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why the wait ended, with the process that has the lock where the kernel tells.
fn held(file: &File, wait: Duration) -> String {
    let inode = file.metadata().map(|meta| meta.ino()).ok();
    let holder = inode.and_then(|inode| holder(&locks(), inode));
    let by = match holder {
        Some(pid) => match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => format!("process {pid} ({})", name.trim_end()),
            Err(_) => format!("process {pid}"),
        },
        None => "another process".to_owned(),
    };
    format!("still held by {by} after {} seconds", wait.as_secs_f32())
}

/// The kernel's list of locks. One large read is one consistent look at as much as fits a page; a reader that begins with
/// small ones, as `read_to_string` does, misses lines when locks come and go in between.
fn locks() -> String {
    let mut text = Vec::new();
    let mut piece = vec![0; 64 << 10];
    if let Ok(mut file) = File::open("/proc/locks") {
        while let Ok(len @ 1..) = file.read(&mut piece) {
            text.extend_from_slice(&piece[..len]);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The process that holds an flock on the inode: `1: FLOCK  ADVISORY  WRITE 4242 00:19:1234 0 EOF`. Lines of those who
/// wait have `->` as their second word.
fn holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
        let found: u64 = file.rsplit(':').next()?.parse().ok()?;
        // A process of another pid namespace is shown as 0 or -1.
        (found == inode).then(|| pid.parse().ok().filter(|pid| *pid != 0)).flatten()
    })
}

/// Makes LVM2 look at all devices again. `newhints` is what its own commands make when they find the hints locked;
/// the next command that sees it empties `hints` and writes them anew.
fn invalidate_hints(dir: &Path) -> io::Result<()> {
    if !dir.join("hints").exists() {
        return Ok(());
    }
    OpenOptions::new().write(true).create(true).truncate(false).open(dir.join("newhints")).map(drop)
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
