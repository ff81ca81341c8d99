//! Port: mounts and file systems of this machine. All calls block.

use std::path::{Path, PathBuf};

use crate::csi::backend::{OpenVolume, Result};
use crate::csi::capability::FsType;
use crate::host::DevNo;
use crate::units::Bytes;

/// One line of the kernel's mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted: a device node, for a file system on one.
    pub source: PathBuf,
    /// Which directory or file of the file system is shown: `/` unless it is a bind mount of a part.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Type of the file system.
    pub fs: String,
    /// Device number of the file system; that of the block device, save for Btrfs.
    pub devno: DevNo,
    /// Nothing can be written through this mount.
    pub read_only: bool,
}

impl Mount {
    /// Whether this shows the file system on a volume.
    #[must_use]
    pub fn is_file_system_of(&self, volume: &OpenVolume) -> bool {
        self.devno == volume.devno || (self.fs == FsType::Btrfs.as_str() && self.source == volume.device)
    }

    /// Whether this shows the device node of a volume, as a raw block volume is published.
    #[must_use]
    pub fn is_node_of(&self, volume: &OpenVolume) -> bool {
        self.fs == "devtmpfs"
            && self.root.file_name().is_some()
            && self.root.file_name() == volume.device.file_name()
    }

    /// Whether this shows a volume in one way or the other.
    #[must_use]
    pub fn shows(&self, volume: &OpenVolume) -> bool {
        self.is_file_system_of(volume) || self.is_node_of(volume)
    }
}

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing that any program knows: it may be formatted.
    Blank,
    /// A file system of a type that is supported.
    FileSystem(FsType),
    /// Something else, by name. It is never touched.
    Other(String),
}

/// What must be true of a device before it is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is blank.
    Blank,
    /// The backend has noted that a format of it was begun and never ended.
    Unfinished,
}

/// How full something is. A part that makes no sense for it is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// All there is.
    pub total: u64,
    /// What is used.
    pub used: u64,
    /// What an ordinary user can still use.
    pub available: u64,
}

/// Mounts and file systems.
pub trait Mounts: Send + Sync + 'static {
    /// The mount table, in the order of mounting.
    ///
    /// # Errors
    /// It could not be read.
    fn table(&self) -> Result<Vec<Mount>>;

    /// The number of a device node; `None` when there is no such node.
    ///
    /// # Errors
    /// It could not be looked at.
    fn devno(&self, node: &Path) -> Result<Option<DevNo>>;

    /// Mounts a file system with options as `mount -o` takes them.
    ///
    /// # Errors
    /// The kernel refused.
    fn mount(&self, device: &Path, target: &Path, fs: FsType, options: &[String]) -> Result<()>;

    /// Shows a directory or file at a second place.
    ///
    /// # Errors
    /// The kernel refused.
    fn bind(&self, source: &Path, target: &Path) -> Result<()>;

    /// Lets nothing more be written through a mount; other mounts of the same file system stay as they are.
    ///
    /// # Errors
    /// The kernel refused.
    fn make_read_only(&self, target: &Path) -> Result<()>;

    /// Takes the topmost mount at a place away.
    ///
    /// # Errors
    /// It is busy, or the kernel refused.
    fn unmount(&self, target: &Path) -> Result<()>;

    /// What is on a device.
    ///
    /// # Errors
    /// It could not be read.
    fn content(&self, device: &Path) -> Result<Content>;

    /// Makes a file system on a device of which `before` holds.
    ///
    /// # Errors
    /// It does not hold, or the tool failed; the message has what it said.
    fn format(&self, device: &Path, fs: FsType, options: &[String], before: Before) -> Result<()>;

    /// Checks and repairs a file system before it is mounted, where that is customary.
    ///
    /// # Errors
    /// It is damaged beyond what is repaired without asking.
    fn check(&self, device: &Path, fs: FsType) -> Result<()>;

    /// Grows a mounted file system to the size of its device.
    ///
    /// # Errors
    /// The tool failed; the message holds what it said.
    fn grow(&self, device: &Path, target: &Path, fs: FsType) -> Result<()>;

    /// Bytes and inodes of a mounted file system; no inodes where it makes them as needed.
    ///
    /// # Errors
    /// It could not be asked.
    fn usage(&self, target: &Path) -> Result<(Usage, Option<Usage>)>;

    /// Size of a block device.
    ///
    /// # Errors
    /// It could not be asked.
    fn size(&self, device: &Path) -> Result<Bytes>;
}
