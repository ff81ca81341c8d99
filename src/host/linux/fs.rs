//! File systems: what is on a device, making, checking, growing and measuring them.
//!
//! Only a blank device is formatted: `blkid` finds nothing, no signature is recognised, and 1 MiB at either end reads as
//! zeroes. That is stricter than what other drivers ask, which format whatever `blkid` does not know: a volume whose
//! user wrote raw data is never taken for a new one. A `mkfs` that was cut off may leave a device that is neither
//! blank nor has a file system; whoever knows from its own records that nobody has ever used the device
//! says so with [`Before::OwnUnfinished`].
//!
//! Space is not discarded while formatting: a volume is zeroed when it is made, and after a discard the images of a
//! mirror may read differently on disks that do not promise zeroes.
//!
//! Sources: `mke2fs(8)`, `mkfs.xfs(8)`, `mkfs.btrfs(8)`, `e2fsck(8)` (exit status), `resize2fs(8)`, `xfs_growfs(8)`,
//! `btrfs-filesystem(8)`; Kubernetes `k8s.io/mount-utils` (defaults: `-F -m0`, `-f`; `fsck -a` before a mount).

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blocks::{self, Access};
use super::exec::{self, ExecError};
use super::{probe, users};
use crate::report::Class;
use crate::units::Bytes;

/// How much is zeroed at either end before an unfinished format is begun again.
const WIPE: u64 = 1 << 20;

const FORMAT_TIME: Duration = Duration::from_secs(30 * 60);
const CHECK_TIME: Duration = Duration::from_secs(2 * 60 * 60);
const GROW_TIME: Duration = Duration::from_secs(30 * 60);

/// Exit status of `e2fsck`: sound; errors were corrected; they were, and a machine that has it mounted must be restarted;
/// errors are left.
const E2FSCK_GOOD: [i32; 3] = [0, 1, 2];
const E2FSCK_DAMAGED: i32 = 4;

/// A type of file system that can be made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsKind {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl FsKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// Its name, as the kernel and `blkid` write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: it may be formatted.
    Blank,
    /// A file system that can be made here.
    FileSystem(FsKind),
    /// Something else, in words. It is never touched.
    Other(String),
}

/// What must be true of a device before it is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is blank.
    Blank,
    /// The caller's records say that a format was begun and never finished, so whatever is on it is nobody's data.
    OwnUnfinished,
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes there are.
    pub total: Bytes,
    /// Bytes used.
    pub used: Bytes,
    /// Bytes that an ordinary user can still use.
    pub available: Bytes,
    /// Inodes there are and inodes free; absent where they are made as needed.
    pub inodes: Option<(u64, u64)>,
}

/// Why something could not be done to a file system.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// It is not blank.
    #[error("{} is not formatted, for it carries {found}", device.display())]
    NotBlank {
        /// The device.
        device: PathBuf,
        /// What is on it.
        found: String,
    },
    /// Somebody has it.
    #[error("{} is not formatted, for it is {user}", device.display())]
    InUse {
        /// The device.
        device: PathBuf,
        /// Who.
        user: String,
    },
    /// It has errors that are not corrected without asking.
    #[error("the file system on {} is damaged: it must be checked by hand", device.display())]
    Damaged {
        /// The device.
        device: PathBuf,
        /// What the check said.
        #[source]
        source: ExecError,
    },
    /// A program failed.
    #[error("could not {doing} {}", subject.display())]
    Tool {
        /// What was to be done.
        doing: &'static str,
        /// To what.
        subject: PathBuf,
        /// What the program said.
        #[source]
        source: ExecError,
    },
    /// The kernel refused.
    #[error("could not {doing} {}", subject.display())]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// To what.
        subject: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl FsError {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NotBlank { .. } | Self::InUse { .. } => Class::Precondition,
            Self::Damaged { .. } => Class::Corrupt,
            // A tool that a killed process had begun may still be at it.
            Self::Tool { source: ExecError::Failed { output, .. }, .. }
                if output.contains("resource busy") =>
            {
                Class::InProgress
            }
            Self::Tool { .. } | Self::Io { .. } => Class::Transient,
        }
    }
}

/// What is on a device.
///
/// # Errors
/// It could not be read.
pub fn content(device: &Path) -> Result<Content, FsError> {
    let doing = "look at";
    let found = probe::file_system(device).map_err(|source| FsError::Tool {
        doing,
        subject: device.into(),
        source,
    })?;
    if let Some(kind) = FsKind::ALL.into_iter().find(|kind| found.as_deref() == Some(kind.as_str())) {
        return Ok(Content::FileSystem(kind));
    }
    let signatures = blocks::open(device, Access::Read)
        .and_then(|open| probe::signatures(device, &open))
        .map_err(|source| FsError::Io { doing, subject: device.into(), source })?;
    Ok(if signatures.is_empty() { Content::Blank } else { Content::Other(signatures.join(", ")) })
}

/// Makes a file system. Options are added behind the defaults, which they override: see `mkfs.TYPE(8)`.
///
/// # Errors
/// The device is in use or not blank; or the program failed.
pub fn format(device: &Path, kind: FsKind, options: &[String], before: Before) -> Result<(), FsError> {
    let failed = |source| FsError::Io { doing: "look at", subject: device.into(), source };
    let open = blocks::open(device, Access::Bulk).map_err(failed)?;
    let devno = blocks::devno(open.file()).map_err(failed)?;
    if let Some(user) = users::lasting(Path::new("/sys"), devno) {
        return Err(FsError::InUse { device: device.into(), user });
    }
    match before {
        Before::Blank => match content(device)? {
            Content::Blank => {}
            Content::FileSystem(kind) => {
                return Err(FsError::NotBlank { device: device.into(), found: kind.as_str().to_owned() });
            }
            Content::Other(found) => return Err(FsError::NotBlank { device: device.into(), found }),
        },
        Before::OwnUnfinished => {
            let wiped = blocks::size_of(open.file()).and_then(|size| {
                blocks::zero(&open, 0, size.min(WIPE))?;
                blocks::zero(&open, size.saturating_sub(WIPE), size.min(WIPE))
            });
            wiped.map_err(|source| FsError::Io { doing: "wipe", subject: device.into(), source })?;
        }
    }
    drop(open);
    let (program, defaults): (_, &[&str]) = match kind {
        FsKind::Ext4 => ("mkfs.ext4", &["-q", "-F", "-m0", "-E", "nodiscard"]),
        FsKind::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
        FsKind::Btrfs => ("mkfs.btrfs", &["-q", "-f", "-K"]),
    };
    let args = defaults.iter().map(OsStr::new).chain(options.iter().map(OsStr::new));
    let args: Vec<_> = args.chain([device.as_os_str()]).collect();
    run("format", device, program, &args, FORMAT_TIME)
}

/// Checks a file system before it is mounted for writing, and corrects what can be corrected without asking. XFS and Btrfs
/// replay their logs when they are mounted and need none.
///
/// # Errors
/// Errors are left that a person must decide on; or the program failed.
pub fn check(device: &Path, kind: FsKind) -> Result<(), FsError> {
    if kind != FsKind::Ext4 {
        return Ok(());
    }
    let doing = "check";
    let tool = |source| FsError::Tool { doing, subject: device.into(), source };
    let ended = exec::run("e2fsck", &["-p".as_ref(), device.as_os_str()], CHECK_TIME).map_err(tool)?;
    match ended.code() {
        Some(code) if E2FSCK_GOOD.contains(&code) => Ok(()),
        Some(code) if code & E2FSCK_DAMAGED != 0 => {
            Err(FsError::Damaged { device: device.into(), source: ended.failed() })
        }
        _ => Err(tool(ended.failed())),
    }
}

/// Grows a mounted file system to the size of its device; nothing is done where it has that size.
///
/// # Errors
/// The program failed.
pub fn grow(device: &Path, mount_point: &Path, kind: FsKind) -> Result<(), FsError> {
    let (program, args): (_, &[&OsStr]) = match kind {
        FsKind::Ext4 => ("resize2fs", &[device.as_os_str()]),
        FsKind::Xfs => ("xfs_growfs", &["-d".as_ref(), mount_point.as_os_str()]),
        FsKind::Btrfs => {
            ("btrfs", &["filesystem".as_ref(), "resize".as_ref(), "max".as_ref(), mount_point.as_os_str()])
        }
    };
    run("grow the file system on", device, program, args, GROW_TIME)
}

/// How full a mounted file system is.
///
/// # Errors
/// It could not be asked.
pub fn usage(mount_point: &Path) -> Result<Usage, FsError> {
    let found = rustix::fs::statvfs(mount_point).map_err(|error| FsError::Io {
        doing: "measure",
        subject: mount_point.into(),
        source: error.into(),
    })?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(found.f_frsize));
    Ok(Usage {
        total: bytes(found.f_blocks),
        used: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
        available: bytes(found.f_bavail),
        inodes: (found.f_files > 0).then_some((found.f_files, found.f_ffree)),
    })
}

/// Size of a block device.
///
/// # Errors
/// It could not be opened.
pub fn size(device: &Path) -> Result<Bytes, FsError> {
    blocks::open(device, Access::Read)
        .and_then(|open| blocks::size_of(open.file()))
        .map(Bytes)
        .map_err(|source| FsError::Io { doing: "measure", subject: device.into(), source })
}

fn run(
    doing: &'static str,
    subject: &Path,
    program: &str,
    args: &[&OsStr],
    time: Duration,
) -> Result<(), FsError> {
    exec::run(program, args, time)
        .and_then(|ended| ended.expect_code(&[0]))
        .map(drop)
        .map_err(|source| FsError::Tool { doing, subject: subject.into(), source })
}
