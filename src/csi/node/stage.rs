//! Staging: the one mount of a volume's file system, at a place that all its pods share; for raw block, its node.
//!
//! ```text
//! mount:  STAGING            the file system
//! block:  STAGING/device     the device node, so that the mount table shows that it is staged
//! ```
//!
//! Only a blank device is ever formatted, or one of which the backend has noted that a format was begun and never
//! ended. Each step can be repeated after a crash: what is there is read from the mount table and from the device,
//! never from a file of our own.

use std::path::{Path, PathBuf};

use crate::csi::backend::{Error, OpenVolume, Result};
use crate::csi::capability::{Access, Capability, FsType, Mode};
use crate::csi::node::mounts::{Before, Content, Mount, Mounts};
use crate::csi::node::paths;
use crate::csi::params::Format;
use crate::report::Class;

/// The file below the staging path on which a raw block volume's node is mounted.
const BLOCK_FILE: &str = "device";

/// A request to stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Where.
    pub staging: PathBuf,
    /// How it will be used.
    pub capability: Capability,
    /// How its file system is made, from the volume context.
    pub format: Format,
}

/// Where a raw block volume's node is mounted when it is staged.
#[must_use]
pub fn block_file(staging: &Path) -> PathBuf {
    staging.join(BLOCK_FILE)
}

/// The topmost mount at a place.
#[must_use]
pub fn mounted_at<'a>(table: &'a [Mount], target: &Path) -> Option<&'a Mount> {
    table.iter().rev().find(|mount| mount.target == target)
}

/// What is left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: it is staged.
    Done,
    /// Mount the device node.
    Node {
        /// On this file, which is there.
        file: PathBuf,
    },
    /// Mount the file system.
    Mount {
        /// How.
        mount: FsMount,
        /// It must be made before.
        format: Option<Make>,
    },
}

/// How a file system is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsMount {
    /// Where.
    pub staging: PathBuf,
    /// Its type.
    pub fs: FsType,
    /// Options, as `mount -o` takes them.
    pub options: Vec<String>,
}

/// How a file system is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Make {
    fs: FsType,
    options: Vec<String>,
    before: Before,
}

/// What is to be done to stage a volume: everything is checked, a file system that is there is repaired, and the place
/// to mount on is made.
///
/// # Errors
/// Another thing is mounted there, the device holds something else, or a tool failed.
pub fn plan(mounts: &dyn Mounts, volume: &OpenVolume, request: &Stage) -> Result<Plan> {
    paths::make_directory(&request.staging)?;
    match &request.capability.access {
        Access::Block => plan_block(mounts, volume, &request.staging),
        Access::Mount { fs, flags } => plan_file_system(mounts, volume, request, *fs, flags),
    }
}

fn plan_block(mounts: &dyn Mounts, volume: &OpenVolume, staging: &Path) -> Result<Plan> {
    let table = mounts.table()?;
    if mounted_at(&table, staging).is_some_and(|mount| mount.is_file_system_of(volume)) {
        return Err(incompatible(staging, "as a file system, not as a block device"));
    }
    let file = block_file(staging);
    match mounted_at(&table, &file) {
        Some(mount) if mount.is_node_of(volume) => Ok(Plan::Done),
        Some(mount) => Err(occupied(&file, mount)),
        None => {
            paths::make_file(&file)?;
            Ok(Plan::Node { file })
        }
    }
}

fn plan_file_system(
    mounts: &dyn Mounts,
    volume: &OpenVolume,
    request: &Stage,
    wish: Option<FsType>,
    flags: &[String],
) -> Result<Plan> {
    let staging = &request.staging;
    let wish = wish.or(request.format.fs);
    let read_only = volume.read_only || request.capability.mode == Mode::Reader;
    let table = mounts.table()?;
    if mounted_at(&table, &block_file(staging)).is_some_and(|mount| mount.is_node_of(volume)) {
        return Err(incompatible(staging, "as a block device, not as a file system"));
    }
    if let Some(mount) = mounted_at(&table, staging) {
        return already_staged(mount, volume, staging, wish, read_only).map(|()| Plan::Done);
    }
    let (fs, format) = prepare(mounts, volume, request, wish, read_only)?;
    let options = options(fs, volume, read_only, flags);
    Ok(Plan::Mount { mount: FsMount { staging: staging.clone(), fs, options }, format })
}

/// Makes a file system, as planned.
///
/// # Errors
/// The tool failed, or the device is not as it was.
pub fn format(mounts: &dyn Mounts, device: &Path, make: &Make) -> Result<()> {
    let fs = make.fs.as_str();
    tracing::info!(device = %device.display(), fs, before = ?make.before, "making a file system");
    mounts.format(device, make.fs, &make.options, make.before)?;
    tracing::info!(device = %device.display(), fs, "the file system is made");
    Ok(())
}

/// Whether what is mounted at the staging path is what is asked for.
fn already_staged(
    mount: &Mount,
    volume: &OpenVolume,
    staging: &Path,
    wish: Option<FsType>,
    read_only: bool,
) -> Result<()> {
    if !mount.is_file_system_of(volume) {
        return Err(occupied(staging, mount));
    }
    if let Some(wish) = wish
        && mount.fs != wish.as_str()
    {
        return Err(incompatible(staging, &format!("as {}, not as {wish}", mount.fs)));
    }
    if mount.read_only && !read_only {
        return Err(incompatible(staging, "read-only"));
    }
    Ok(())
}

/// Which file system is on the device, checked; or how one is to be made.
fn prepare(
    mounts: &dyn Mounts,
    volume: &OpenVolume,
    request: &Stage,
    wish: Option<FsType>,
    read_only: bool,
) -> Result<(FsType, Option<Make>)> {
    let device = &volume.device;
    let before = match mounts.content(device)? {
        _ if volume.formatting => Before::Unfinished,
        Content::Blank => Before::Blank,
        Content::FileSystem(fs) if wish.is_some_and(|wish| wish != fs) => {
            return Err(Error::precondition(format!(
                "{} holds {fs}, not {}: it is not formatted again",
                device.display(),
                wish.unwrap_or_default()
            )));
        }
        Content::FileSystem(FsType::Btrfs) if volume.view || volume.clone => {
            return Err(Error::precondition(
                "a snapshot or clone of a btrfs volume cannot be mounted beside it: both carry the same file system id; \
                 use it as a raw block volume",
            ));
        }
        Content::FileSystem(fs) => {
            if !volume.read_only {
                mounts.check(device, fs)?;
            }
            return Ok((fs, None));
        }
        Content::Other(what) => {
            return Err(Error::precondition(format!(
                "{} holds {what}, no file system that can be mounted: it is left as it is",
                device.display()
            )));
        }
    };
    if read_only {
        return Err(Error::precondition(format!(
            "{} is blank and can only be read: there is nothing to mount",
            device.display()
        )));
    }
    let fs = wish.unwrap_or_default();
    let options = request.format.mkfs_options.split_whitespace().map(str::to_owned).collect();
    Ok((fs, Some(Make { fs, options, before })))
}

/// Mount options: those asked for, and what a device that refuses writes needs.
///
/// A snapshot is cut while its file system is frozen, so that it has nothing to recover; `noload` and `norecovery`
/// keep ext4 and XFS from trying all the same, and `nouuid` lets XFS mount it beside its origin.
fn options(fs: FsType, volume: &OpenVolume, read_only: bool, flags: &[String]) -> Vec<String> {
    let own: &[&str] = match (volume.read_only, fs) {
        (false, FsType::Xfs) if volume.clone && read_only => &["ro", "nouuid"],
        (false, FsType::Xfs) if volume.clone => &["nouuid"],
        (false, _) if read_only => &["ro"],
        (false, _) => &[],
        (true, FsType::Ext4) => &["ro", "noload"],
        (true, FsType::Xfs) => &["ro", "nouuid", "norecovery"],
        (true, FsType::Btrfs) => &["ro"],
    };
    let wanted = flags.iter().filter(|flag| !(read_only && *flag == "rw"));
    wanted.cloned().chain(own.iter().map(|option| (*option).to_owned())).collect()
}

/// The file system of a clone is as large as that of its source: it grows to the size of its device once it is mounted.
///
/// # Errors
/// The tool failed.
pub fn follow(mounts: &dyn Mounts, volume: &OpenVolume, staging: &Path) -> Result<()> {
    let table = mounts.table()?;
    let Some(mount) = mounted_at(&table, staging).filter(|mount| volume.clone && !mount.read_only) else {
        return Ok(());
    };
    if !mount.is_file_system_of(volume) {
        return Ok(());
    }
    mounts.grow(&volume.device, staging, mount.fs.parse()?)
}

/// Takes the staging mount away; what is not there is gone already. The directory is the caller's and stays.
///
/// `volume` is what the mount there must show, when that is known.
///
/// # Errors
/// Another volume is mounted there, or it is busy.
pub fn unstage(mounts: &dyn Mounts, volume: Option<&OpenVolume>, staging: &Path) -> Result<()> {
    let file = block_file(staging);
    clear(mounts, volume, &file)?;
    clear(mounts, volume, staging)?;
    // Only now: a file system that has failed answers nothing about its own root.
    paths::look(staging)?;
    paths::remove(&file)
}

/// Takes away all that is mounted at a place, as long as it shows `volume`.
///
/// # Errors
/// Another volume is mounted there, or it is busy.
pub fn clear(mounts: &dyn Mounts, volume: Option<&OpenVolume>, target: &Path) -> Result<()> {
    loop {
        let table = mounts.table()?;
        let Some(mount) = mounted_at(&table, target) else { return Ok(()) };
        if volume.is_some_and(|volume| !mount.shows(volume)) {
            return Err(occupied(target, mount));
        }
        mounts.unmount(target)?;
    }
}

fn incompatible(staging: &Path, how: &str) -> Error {
    Error::new(Class::Exists, format!("the volume is staged at {} {how}", staging.display()))
}

/// Another thing is mounted there.
#[must_use]
pub fn occupied(target: &Path, mount: &Mount) -> Error {
    let (fs, source) = (&mount.fs, mount.source.display());
    Error::precondition(format!("{} is taken: {fs} of {source} is mounted there", target.display()))
}
