//! Publishing: showing a staged volume to a pod, by a bind mount at its target path.

use std::path::{Path, PathBuf};

use crate::csi::backend::{Error, OpenVolume, Result};
use crate::csi::capability::{Access, Capability, Mode};
use crate::csi::node::mounts::{Mount, Mounts};
use crate::csi::node::paths;
use crate::csi::node::stage::{block_file, clear, mounted_at, occupied};
use crate::report::Class;

/// A request to publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where it is staged.
    pub staging: PathBuf,
    /// Where it is to be shown.
    pub target: PathBuf,
    /// How it will be used.
    pub capability: Capability,
    /// Nothing may be written through it.
    pub read_only: bool,
}

/// Publishes a staged volume.
///
/// # Errors
/// It is not staged, another writer has it, something else is at the target, or the kernel refused.
pub fn publish(mounts: &dyn Mounts, volume: &OpenVolume, request: &Publish) -> Result<()> {
    let table = mounts.table()?;
    let Publish { staging, target, .. } = request;
    if target == staging {
        return Err(Error::invalid(format!("target_path is the staging path, {}", staging.display())));
    }
    if request.capability.mode == Mode::SingleWriter
        && let Some(other) = other_target(&table, volume, staging, target)
    {
        return Err(Error::precondition(format!(
            "the volume is for a single writer and is published at {} already",
            other.display()
        )));
    }
    let source = match &request.capability.access {
        Access::Block => block_file(staging),
        Access::Mount { .. } => staging.clone(),
    };
    let Some(staged) = mounted_at(&table, &source).filter(|mount| mount.shows(volume)) else {
        return Err(Error::precondition(format!("the volume is not staged at {}", staging.display())));
    };
    let read_only = request.read_only || request.capability.mode == Mode::Reader || staged.read_only;
    if let Some(mount) = mounted_at(&table, target) {
        if !mount.shows(volume) {
            return Err(occupied(target, mount));
        }
        return match (mount.read_only, read_only) {
            // A crash between the bind mount and its remount leaves it writable.
            (false, true) => mounts.make_read_only(target),
            (true, false) => {
                let message = format!("the volume is published read-only at {}", target.display());
                Err(Error::new(Class::Exists, message))
            }
            (true, true) | (false, false) => Ok(()),
        };
    }
    let from = match &request.capability.access {
        Access::Block => {
            paths::make_file(target)?;
            &volume.device
        }
        Access::Mount { .. } => {
            paths::make_directory(target)?;
            staging
        }
    };
    mounts.bind(from, target)?;
    if read_only { mounts.make_read_only(target) } else { Ok(()) }
}

/// A target path other than this one at which the volume is published.
fn other_target<'a>(
    table: &'a [Mount],
    volume: &OpenVolume,
    staging: &Path,
    target: &Path,
) -> Option<&'a Path> {
    let block = block_file(staging);
    let elsewhere = |at: &Path| at != staging && at != block && at != target;
    table
        .iter()
        .find(|mount| mount.shows(volume) && elsewhere(&mount.target))
        .map(|mount| mount.target.as_path())
}

/// Takes a published volume away from its target path, and removes the path; what is not there is gone already.
///
/// `volume` is what the mount there must show, when that is known.
///
/// # Errors
/// Another volume is mounted there, or it is busy.
pub fn unpublish(mounts: &dyn Mounts, volume: Option<&OpenVolume>, target: &Path) -> Result<()> {
    clear(mounts, volume, target)?;
    paths::remove(target)
}
