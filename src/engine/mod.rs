//! The engine: makes a volume group's volumes and snapshots so.
//!
//! Every operation takes LVM2's lock of the group, looks, asks a pure state machine of [`crate::volume`] for the next
//! step, carries it out and looks again, until the machine is content. Nothing is remembered between operations but
//! what a running merge has been seen to need; a process that was killed, or a machine that lost power, therefore
//! starts like any other.
//!
//! The lock is let go while something is waited for: a resync, or extents being zeroed.

mod changes;
mod clone;
mod create;
mod detach;
mod drive;
mod error;
pub mod execute;
mod expand;
mod extents;
mod format;
pub mod group;
mod group_snapshots;
mod grow;
mod images;
mod info;
mod merges;
pub mod observe;
mod part;
pub mod pool;
mod recover;
mod rollback;
mod snapshots;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use error::{Error, Result};

use crate::engine::group::Group;
use crate::host::{DevNo, Host};
use crate::ids::{HiddenUuid, LvName, VgName};
use crate::report::Class;
use crate::units::Bytes;

/// How long an operation waits for another one on its volume.
const TURN_PATIENCE: Duration = Duration::from_secs(2);

/// What an engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the host's LVM2 forms the device-mapper uuids of hidden sub-LVs.
    pub hidden_uuid: HiddenUuid,
    /// The host's LVM2 system id; a group with another one is not touched.
    pub system_id: Option<String>,
    /// How long an operation waits for a resync before it answers that it is in progress.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hidden_uuid: HiddenUuid::default(), system_id: None, patience: Duration::from_secs(20) }
    }
}

/// Free space for new volumes of some number of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// All that such volumes could hold together.
    pub available: Bytes,
    /// The largest one.
    pub largest: Bytes,
}

/// A volume or view ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDevice {
    /// Its device node.
    pub path: PathBuf,
    /// Its device number.
    pub devno: DevNo,
    /// It is a snapshot's image.
    pub read_only: bool,
    /// A file system was being made on it, and that never ended: see [`Engine::note_format`].
    pub formatting: bool,
    /// It was made from a snapshot.
    pub clone: bool,
}

/// The engine of one volume group. Shared between threads; calls block.
#[derive(Debug)]
pub struct Engine<H> {
    host: H,
    pool: VgName,
    settings: Settings,
    /// One session at a time in this process; LVM2's lock keeps other processes out.
    session: Mutex<Option<Group>>,
    busy: Mutex<HashSet<LvName>>,
    merges: Mutex<merges::Merges>,
    rollbacks: Mutex<rollback::Rollbacks>,
    paces: Mutex<clone::Paces>,
}

/// Work on the group under its lock.
struct Session<'e, H> {
    host: &'e H,
    settings: &'e Settings,
    group: &'e mut Group,
    rollbacks: &'e Mutex<rollback::Rollbacks>,
}

/// An operation on a volume; a second one is turned away until this is dropped.
struct Guard<'e> {
    busy: &'e Mutex<HashSet<LvName>>,
    volume: LvName,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        lock(self.busy).remove(&self.volume);
    }
}

/// A panic while a mutex was held leaves nothing half done in it: what it holds is only a cache.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Host> Engine<H> {
    /// An engine for the group `pool`. Reads it once, so that a wrong name or a group that must not be touched is
    /// told at once.
    ///
    /// # Errors
    /// There is no such group, or it must not be touched.
    pub fn open(host: H, pool: VgName, settings: Settings) -> Result<Self> {
        let group = Group::read(&host, &pool, &settings, None)?;
        Ok(Self {
            host,
            pool,
            settings,
            session: Mutex::new(Some(group)),
            busy: Mutex::default(),
            merges: Mutex::default(),
            rollbacks: Mutex::default(),
            paces: Mutex::default(),
        })
    }

    /// The machine it works on.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The group's name.
    pub fn pool(&self) -> &VgName {
        &self.pool
    }

    /// Runs `work` under the group's lock, on metadata read under it.
    fn session<T>(&self, work: impl FnOnce(&mut Session<'_, H>) -> Result<T>) -> Result<T> {
        let mut cached = lock(&self.session);
        let _lock = self.host.lock_vg(&self.pool)?;
        let mut group = Group::read(&self.host, &self.pool, &self.settings, cached.take())?;
        let mut session = Session {
            host: &self.host,
            settings: &self.settings,
            group: &mut group,
            rollbacks: &self.rollbacks,
        };
        let done = work(&mut session);
        *cached = Some(group);
        done
    }

    /// Takes a volume for one operation, if none runs.
    fn try_guard(&self, volume: &LvName) -> Option<Guard<'_>> {
        let free = lock(&self.busy).insert(volume.clone());
        free.then(|| Guard { busy: &self.busy, volume: volume.clone() })
    }

    /// Takes a volume for one operation. One that runs is waited for, for a moment: those of the background are short.
    fn guard(&self, volume: &LvName) -> Result<Guard<'_>> {
        let deadline = self.host.now_unix_nanos().saturating_add(nanos(TURN_PATIENCE));
        loop {
            if let Some(guard) = self.try_guard(volume) {
                return Ok(guard);
            }
            if self.host.now_unix_nanos() >= deadline {
                break;
            }
            self.host.pause(Duration::from_millis(10));
        }
        Err(Error::refused(
            Class::InProgress,
            format!("another operation on volume {volume} is running: try again"),
        ))
    }

    /// Repeats `work`, each time under the group's lock, until it has an answer; lets the lock go in between.
    fn wait<T>(
        &self,
        what: &str,
        mut work: impl FnMut(&mut Session<'_, H>) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = self.host.now_unix_nanos().saturating_add(nanos(self.settings.patience));
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(answer) = self.session(&mut work)? {
                return Ok(answer);
            }
            if self.host.now_unix_nanos() >= deadline {
                return Err(Error::refused(
                    Class::InProgress,
                    format!(
                        "{what}: still waiting for a resync, or for a program to close an image; try again"
                    ),
                ));
            }
            self.host.pause(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
