//! What the guests of one xtask run share: two scratch directories and a private copy of xtask.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::disks::Disks;
use crate::cache::Cache;

/// The environment variable that moves disks and guest memory off `/dev/shm`.
pub const SCRATCH_VARIABLE: &str = "SPLITMIRROR_SCRATCH";

/// Scratch directories are named so, with the pid of their owner behind.
const PREFIX: &str = "splitmirror-run-";

/// Free space below which `/dev/shm` is not used.
const ENOUGH_BYTES: u64 = 4 << 30;

/// Removes its directories when dropped; what a killed run left is removed by the next.
#[derive(Debug)]
pub struct Lab {
    fast: PathBuf,
    seen: PathBuf,
    program: PathBuf,
}

impl Lab {
    /// Makes the directories.
    pub fn open(cache: &Cache) -> Result<Self> {
        let fast = own_directory(&fast_parent()?)?;
        let seen = own_directory(&cache.dir("run")?)?;
        fs::create_dir(fast.join("uml")).context("creating the directory for sockets")?;
        // A copy: a rebuild of xtask must not change pid 1 between two boots of one test.
        let program = seen.join("xtask");
        let this = std::env::current_exe().context("finding our own program")?;
        fs::copy(&this, &program).with_context(|| format!("copying {}", this.display()))?;
        Ok(Self { fast, seen, program })
    }

    /// For disks and guest memory: in RAM where there is enough. A guest cannot see it.
    pub fn fast(&self) -> &Path {
        &self.fast
    }

    /// For files that a guest reads.
    pub fn seen(&self) -> &Path {
        &self.seen
    }

    /// The copy of xtask that launches guests and is their pid 1.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Fresh blank disks, removed with the returned value.
    pub fn disks(&self, count: usize, bytes: u64) -> Result<Disks> {
        Disks::create(&self.fast, count, bytes)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for dir in [&self.fast, &self.seen] {
            if let Err(error) = fs::remove_dir_all(dir) {
                eprintln!("xtask: leaving {} behind: {error}", dir.display());
            }
        }
    }
}

/// Where disks and guest memory go.
fn fast_parent() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(SCRATCH_VARIABLE) {
        return Ok(path.into());
    }
    let shm = Path::new("/dev/shm");
    if let Ok(space) = rustix::fs::statvfs(shm)
        && space.f_bavail.saturating_mul(space.f_frsize) >= ENOUGH_BYTES
    {
        return Ok(shm.to_owned());
    }
    Ok(std::env::temp_dir())
}

/// A directory of our own under `parent`, after removing those of dead owners.
fn own_directory(parent: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(parent).with_context(|| format!("reading {}", parent.display()))? {
        let entry = entry.with_context(|| format!("reading {}", parent.display()))?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if let Some(owner) = owner
            && owner.parse::<u32>().is_ok()
            && !Path::new("/proc").join(owner).exists()
        {
            // Another run may be sweeping at the same time.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    let dir = parent.join(format!("{PREFIX}{}", std::process::id()));
    if dir.exists() {
        bail!("{} is there already", dir.display());
    }
    fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}
