//! The machine that the program runs on.
//!
//! ```text
//! dm, dm_ioctl    device-mapper: ioctls on /dev/mapper/control
//! blocks, direct  disks: direct I/O, zeroing
//! scan            what disks there are: /sys/class/block
//! probe, users    what is on a disk and who has it
//! mount, mountinfo  mounting, and what is mounted
//! fs              file systems: content, format, check, grow, usage
//! exec            other programs
//! lock            LVM2's lock files and its hints
//! ```
//!
//! Device nodes are those of devtmpfs (`/dev/sda`, `/dev/dm-3`). Links such as `/dev/mapper/NAME` are made by udev where
//! there is one, and nothing here makes or needs them.

mod blocks;
mod direct;
mod dm;
mod dm_ioctl;
mod exec;
pub mod fs;
mod lock;
pub mod mount;
mod mountinfo;
mod probe;
mod scan;
mod users;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Entropy, HostError, Notes, Result};

/// Where things are on this machine. The defaults are right on a host, and in a pod that mounts the host's
/// `/dev`, `/run/lock/lvm` and `/run/lvm` at the same places.
#[derive(Clone, Debug)]
pub struct Config {
    /// Device nodes.
    pub dev_dir: PathBuf,
    /// sysfs.
    pub sys_dir: PathBuf,
    /// LVM2's lock files (`global/locking_dir`).
    pub lock_dir: PathBuf,
    /// Where LVM2 keeps its hints.
    pub lvm_run_dir: PathBuf,
    /// Where notes are kept that a reboot must empty: on the host's `/run`, not a pod's.
    pub run_dir: PathBuf,
    /// How long a lock is waited for.
    pub lock_wait: Duration,
    /// The name noted in metadata; the kernel's when absent.
    pub host_name: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dev_dir: PathBuf::from("/dev"),
            sys_dir: PathBuf::from("/sys"),
            lock_dir: PathBuf::from("/run/lock/lvm"),
            lvm_run_dir: PathBuf::from("/run/lvm"),
            run_dir: PathBuf::from("/run/splitmirror"),
            lock_wait: Duration::from_secs(60),
            host_name: None,
        }
    }
}

/// The machine that the program runs on. Needs `CAP_SYS_ADMIN`. Clones share the control device.
#[derive(Clone)]
pub struct LinuxHost {
    config: Config,
    dm: Arc<devicemapper::DM>,
}

impl LinuxHost {
    /// Opens device-mapper's control device.
    ///
    /// # Errors
    /// There is no `/dev/mapper/control`, or it may not be opened: the kernel module `dm_mod` is not loaded, or
    /// the process is not privileged.
    pub fn new(config: Config) -> Result<Self> {
        let dm = devicemapper::DM::new()
            .map_err(|error| fail("open", "/dev/mapper/control")(io::Error::other(error)))?;
        Ok(Self { config, dm: Arc::new(dm) })
    }
}

impl Notes for LinuxHost {
    fn is_noted(&self, word: &str) -> Result<bool> {
        let path = self.config.run_dir.join(word);
        path.try_exists().map_err(fail("look for", path.display().to_string()))
    }

    fn note(&self, word: &str) -> Result<()> {
        let path = self.config.run_dir.join(word);
        std::fs::create_dir_all(&self.config.run_dir)
            .and_then(|()| std::fs::File::create(&path))
            .map(drop)
            .map_err(fail("write", path.display().to_string()))
    }
}

impl Entropy for LinuxHost {
    fn now_unix_nanos(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let mut filled = 0;
        while filled < bytes.len() {
            // An interrupted call before the kernel's pool is ready is the only failure there is for 32 bytes.
            filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .unwrap_or(0);
        }
        bytes
    }

    fn host_name(&self) -> String {
        match &self.config.host_name {
            Some(name) => name.clone(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Makes an error of what the kernel answered: `.map_err(fail("dm suspend", name))`.
fn fail<E: Into<io::Error>>(call: &'static str, subject: impl Into<String>) -> impl FnOnce(E) -> HostError {
    move |source| HostError { call, subject: subject.into(), source: source.into() }
}
