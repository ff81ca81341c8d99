//! Ports to the machine: what the engine needs of a kernel, of disks, of locks and of a clock.
//!
//! [`linux`] is the real one; [`sim`] is a machine in memory that can lose power between, or inside, any two calls.
//! All calls block and are made from threads that may block.

pub mod linux;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

use std::path::{Path, PathBuf};

use crate::ids::{DmId, VgName};
use crate::report::Class;
use crate::units::{Bytes, Sectors};

/// A call to the machine that failed: which, on what, and how.
#[derive(Debug, thiserror::Error)]
#[error("{call} {subject}")]
pub struct HostError {
    /// The call, such as `dm suspend`.
    pub call: &'static str,
    /// What it was made on: a device name, a path with an offset.
    pub subject: String,
    /// What the kernel answered.
    #[source]
    pub source: std::io::Error,
}

impl HostError {
    /// What the caller can do: a busy device or a short outage may pass, so a retry may succeed.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Transient
    }
}

/// Result of a call to the machine.
pub type Result<T> = std::result::Result<T, HostError>;

/// A block device that may carry a PV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// Its node, such as `/dev/sdb`.
    pub path: PathBuf,
    /// Major and minor number, as device-mapper tables name it.
    pub devno: DevNo,
    /// Its size.
    pub size: Sectors,
    /// Whether seeks cost (the kernel's `queue/rotational`).
    pub rotational: bool,
}

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevNo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl std::fmt::Display for DevNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of a device-mapper table, or of its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetLine {
    /// First sector.
    pub start: Sectors,
    /// Length.
    pub len: Sectors,
    /// Target type: `linear`, `raid`, `error`.
    pub target: String,
    /// Parameters, or the target's status text.
    pub params: String,
}

/// What the kernel says of a device-mapper device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmInfo {
    /// Its device-mapper uuid.
    pub uuid: String,
    /// Its device number.
    pub devno: DevNo,
    /// How often it is open (mounted, used by another device, held by a process).
    pub open_count: u32,
    /// I/O to it is held back.
    pub suspended: bool,
    /// It refuses writes.
    pub read_only: bool,
    /// A table waits in the inactive slot.
    pub inactive_table: bool,
    /// It runs a table.
    pub live_table: bool,
}

/// What udev on the host may do with a device, as LVM2 tells it through the event's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Udev {
    /// An ordinary LV: all rules apply.
    Volume,
    /// A tracked image: a `/dev/VG/LV` link, but never `by-uuid` nor `by-label`.
    Image,
    /// A hidden sub-LV: nothing at all.
    Hidden,
}

/// Whether a suspend freezes the file system mounted on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// Freeze it, so that what is on the images is clean.
    FileSystem,
    /// Only hold back I/O.
    IoOnly,
}

/// A device-mapper device, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmEntry {
    /// Its name.
    pub name: String,
    /// Its device-mapper uuid; empty when it has none.
    pub uuid: String,
    /// Its device number.
    pub devno: DevNo,
}

/// Device-mapper.
pub trait DeviceMapper {
    /// All device-mapper devices, foreign ones included.
    ///
    /// # Errors
    /// The kernel's list could not be read.
    fn dm_list(&self) -> Result<Vec<DmEntry>>;
    /// What the kernel says of the device of this name; `None` when there is none.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_info(&self, name: &str) -> Result<Option<DmInfo>>;
    /// What the kernel says of the device of this name, and its live table (empty when it runs none), in one call; `None`
    /// when there is none.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_look(&self, name: &str) -> Result<Option<(DmInfo, Vec<TargetLine>)>>;
    /// The status of the live table, without flushing I/O.
    ///
    /// # Errors
    /// The ioctl failed, or there is no such device.
    fn dm_status(&self, name: &str) -> Result<Vec<TargetLine>>;
    /// Makes a device that has no table yet. It is an error if the name or the uuid is taken.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_create(&self, id: &DmId) -> Result<()>;
    /// Loads a table into the inactive slot; target constructors run now.
    ///
    /// # Errors
    /// The ioctl failed; the message names the table.
    fn dm_load(&self, name: &str, table: &[TargetLine], read_only: bool) -> Result<()>;
    /// Drops the inactive table.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_clear(&self, name: &str) -> Result<()>;
    /// Holds I/O back, after what is in flight has ended.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_suspend(&self, name: &str, freeze: Freeze) -> Result<()>;
    /// As [`Self::dm_suspend`] of several devices; what waits in one of them may be waited for in all at once. All are tried,
    /// each has its result.
    fn dm_suspend_all(&self, names: &[&str], freeze: Freeze) -> Vec<Result<()>> {
        names.iter().map(|name| self.dm_suspend(name, freeze)).collect()
    }
    /// Swaps in the inactive table if there is one, and lets I/O go on.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_resume(&self, name: &str, udev: Udev) -> Result<()>;
    /// Makes a running device refuse to be opened for writing, for as long as it exists and whatever table it gets.
    /// Whoever has it open for writing keeps that.
    ///
    /// # Errors
    /// There is no such device, it has never run a table, or the ioctl failed.
    fn dm_protect(&self, name: &str) -> Result<()>;
    /// Removes a device. It is an error when it is open.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_remove(&self, name: &str) -> Result<()>;
    /// Gives a device another name; it may be open. It is an error if the name is taken.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_rename(&self, name: &str, new_name: &str, udev: Udev) -> Result<()>;
    /// Sends a message to the target at sector 0.
    ///
    /// # Errors
    /// The ioctl failed.
    fn dm_message(&self, name: &str, message: &str) -> Result<()>;
    /// Whether the device takes discards.
    ///
    /// # Errors
    /// There is no such device.
    fn dm_discards(&self, devno: DevNo) -> Result<bool>;
    /// Makes the device refuse discards until it gets another table.
    ///
    /// # Errors
    /// There is no such device, or the kernel refuses.
    fn dm_refuse_discards(&self, devno: DevNo) -> Result<()>;
    /// Sectors written to the device since it was made (`/sys/block/dm-N/stat`).
    ///
    /// # Errors
    /// There is no such device.
    fn dm_sectors_written(&self, devno: DevNo) -> Result<Sectors>;
}

/// What speaks against giving a device to a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Who has it: a mount point, a device on top of it.
    pub in_use: Option<String>,
    /// What is on it, in words: `ext4`, `LVM2_member`, `unrecognised data at byte 4096`.
    pub signatures: Vec<String>,
}

impl Probe {
    /// Whether the device is free and blank.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.in_use.is_none() && self.signatures.is_empty()
    }
}

/// Raw access to disks, past every cache.
pub trait Blocks {
    /// All block devices that may carry a PV.
    ///
    /// # Errors
    /// The kernel's list could not be read.
    fn scan(&self) -> Result<Vec<BlockDevice>>;
    /// The node of a device, such as `/dev/dm-3`.
    ///
    /// # Errors
    /// There is no such device, or it has no node.
    fn node(&self, devno: DevNo) -> Result<PathBuf>;
    /// Looks for users of a device and for anything written on it. Changes nothing.
    ///
    /// # Errors
    /// The device could not be read.
    fn probe(&self, device: &Path) -> Result<Probe>;
    /// Reads `len` bytes; offset and length are multiples of 512.
    ///
    /// # Errors
    /// The read failed or was short.
    fn read(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<Vec<u8>>;
    /// Writes bytes durably: when this returns they survive a power cut. Offset and length are multiples of 512.
    ///
    /// # Errors
    /// The write failed.
    fn write(&self, device: &Path, offset: Bytes, data: &[u8]) -> Result<()>;
    /// Copies bytes from a place of one device to a place of another, durably: when this returns they survive a power cut.
    /// Offsets and length are multiples of 4096.
    ///
    /// # Errors
    /// A read or a write failed; any part may be copied.
    fn copy(&self, from: (&Path, Bytes), to: (&Path, Bytes), len: Bytes) -> Result<()>;
    /// Makes a range read as zeroes, durably; by the device's own means where it has some.
    ///
    /// # Errors
    /// The write failed.
    fn zero(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<()>;
}

/// LVM2's lock on a volume group. Dropping it lets go.
pub trait VgLock: Send {}

/// The locks shared with LVM2's own tools.
pub trait Locks {
    /// Takes the exclusive lock on a volume group; waits for it.
    ///
    /// # Errors
    /// The lock file could not be opened or locked in time.
    fn lock_vg(&self, vg: &VgName) -> Result<Box<dyn VgLock>>;
    /// Takes the exclusive lock on the set of PVs and groups, before a group or a PV is made or removed.
    ///
    /// # Errors
    /// The lock file could not be opened or locked in time.
    fn lock_global(&self) -> Result<Box<dyn VgLock>>;
    /// Tells LVM2's tools that PVs came or went: its list of where PVs are (`/run/lvm/hints`) is void.
    ///
    /// # Errors
    /// The list is there and could not be made void.
    fn invalidate_hints(&self) -> Result<()>;
}

/// Time and chance.
pub trait Entropy {
    /// Nanoseconds since 1970.
    fn now_unix_nanos(&self) -> u64;
    /// Random bytes for identifiers.
    fn random(&self) -> [u8; 32];
    /// The host's name, as LVM2 notes it in `creation_host`.
    fn host_name(&self) -> String;
    /// Lets time pass while something is waited for.
    fn pause(&self, time: std::time::Duration);
}

/// What is known until the machine starts again, and no longer: it lives where a reboot empties it.
pub trait Notes {
    /// Whether [`Notes::note`] was called with this word since the machine started.
    ///
    /// # Errors
    /// The notes cannot be read.
    fn is_noted(&self, word: &str) -> Result<bool>;
    /// Notes a word.
    ///
    /// # Errors
    /// The notes cannot be written.
    fn note(&self, word: &str) -> Result<()>;
}

/// All that the engine needs of a machine.
pub trait Host: DeviceMapper + Blocks + Locks + Entropy + Notes + Send + Sync {}

impl<T: DeviceMapper + Blocks + Locks + Entropy + Notes + Send + Sync> Host for T {}
