//! Disks on Linux: direct reads and writes, zeroing.
//!
//! A device is opened for each call and closed after it, so nothing here keeps a device busy or holds on to a disk that
//! was pulled. Direct I/O bypasses the page cache of the device: a read sees what the disk holds even when a
//! tool has read the device through the cache before; the kernel writes out that cache's own dirty pages first.
//!
//! What the kernel guarantees for zeroing (Linux `block/fops.c: blkdev_fallocate`, `block/blk-lib.c:
//! blkdev_issue_zeroout`): punching a hole only uses a device's own command, and only where that is sure to read
//! as zeroes, or fails; zeroing a range uses the command and writes zeroes where there is none. Both drop
//! the device's page cache over the range. Neither is durable before an `fsync`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use super::direct::Direct;
use super::{LinuxHost, fail, probe, scan};
use crate::host::{BlockDevice, Blocks, DevNo, Probe, Result};
use crate::units::Bytes;

/// How much is zeroed in one call, so that no call takes minutes where zeroes must be written.
const ZERO_CHUNK: u64 = 1 << 30;

impl Blocks for LinuxHost {
    fn scan(&self) -> Result<Vec<BlockDevice>> {
        scan::block_devices(&self.config.sys_dir, &self.config.dev_dir)
            .map_err(fail("list", self.config.sys_dir.join("class/block").display().to_string()))
    }

    fn node(&self, devno: DevNo) -> Result<PathBuf> {
        scan::node(&self.config.sys_dir, &self.config.dev_dir, devno)
            .map_err(fail("find the node of device", devno.to_string()))
    }

    fn probe(&self, device: &Path) -> Result<Probe> {
        probe::probe(&self.config.sys_dir, device).map_err(fail("probe", device.display().to_string()))
    }

    fn read(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<Vec<u8>> {
        open(device, Access::Read)
            .and_then(|device| device.read(offset.0, len.0))
            .map_err(fail("read", range(device, offset, len)))
    }

    fn write(&self, device: &Path, offset: Bytes, data: &[u8]) -> Result<()> {
        let subject = || format!("{} bytes at byte {} of {}", data.len(), offset.0, device.display());
        // Each write on a descriptor with O_DSYNC returns after the device has flushed its cache.
        open(device, Access::Write)
            .and_then(|device| device.write(offset.0, data))
            .map_err(|error| fail("write", subject())(error))
    }

    fn copy(&self, from: (&Path, Bytes), to: (&Path, Bytes), len: Bytes) -> Result<()> {
        let subject = || format!("{} to byte {} of {}", range(from.0, from.1, len), to.1.0, to.0.display());
        let copied = || {
            let (source, target) = (open(from.0, Access::Read)?, open(to.0, Access::Bulk)?);
            source.copy(from.1.0, &target, to.1.0, len.0)?;
            target.file().sync_data()
        };
        copied().map_err(|error| fail("copy", subject())(error))
    }

    fn zero(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<()> {
        open(device, Access::Bulk)
            .and_then(|device| zero(&device, offset.0, len.0))
            .map_err(fail("zero", range(device, offset, len)))
    }
}

/// What a device is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading.
    Read,
    /// Writing, each write durable.
    Write,
    /// Many writes, made durable at the end.
    Bulk,
}

/// Opens a block device for direct I/O.
pub(super) fn open(path: &Path, access: Access) -> io::Result<Direct> {
    let flags = match access {
        Access::Read | Access::Bulk => OFlags::DIRECT,
        Access::Write => OFlags::DIRECT | OFlags::DSYNC,
    };
    let flags = i32::try_from((flags | OFlags::CLOEXEC).bits()).map_err(io::Error::other)?;
    // Asked before it is opened, for an open can have effects: it blocks on a pipe, it rewinds a tape.
    require_block_device(&std::fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).write(access != Access::Read).custom_flags(flags).open(path)?;
    require_block_device(&file.metadata()?)?;
    let block = rustix::fs::ioctl_blksszget(&file)?;
    Direct::new(file, u64::from(block))
}

fn require_block_device(meta: &std::fs::Metadata) -> io::Result<()> {
    if meta.file_type().is_block_device() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a block device"))
    }
}

/// Size of an open device in bytes.
pub(super) fn size_of(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::End(0))?)
}

/// The number of an open device.
pub(super) fn devno(file: &File) -> io::Result<DevNo> {
    Ok(scan::devno_of(file.metadata()?.rdev()))
}

/// Makes a range of an open device read as zeroes, durably.
pub(super) fn zero(device: &Direct, offset: u64, len: u64) -> io::Result<()> {
    let end = offset.checked_add(len).filter(|end| size_of(device.file()).is_ok_and(|size| *end <= size));
    // Beyond the end the kernel would shorten the range without a word.
    let end =
        end.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of the device"))?;
    let first = offset.next_multiple_of(device.block()).min(end);
    let last = (end - end % device.block()).max(first);
    write_zeroes(device, offset, first)?;
    let mut at = first;
    while at < last {
        let chunk = (last - at).min(ZERO_CHUNK);
        zero_blocks(device.file(), at, chunk)?;
        at += chunk;
    }
    write_zeroes(device, last, end)?;
    device.file().sync_all()
}

/// Zeroes a few sectors at the edge of a range.
fn write_zeroes(device: &Direct, from: u64, to: u64) -> io::Result<()> {
    let len = usize::try_from(to - from).map_err(io::Error::other)?;
    device.write(from, &vec![0; len])
}

/// Zeroes whole blocks: by a hole where the device can, which also frees space on a thin one.
fn zero_blocks(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, hole, offset, len) {
        Ok(()) => Ok(()),
        Err(Errno::INTR) => zero_blocks(file, offset, len),
        // A device without the command, or one that says it has it and then fails it.
        Err(_) => {
            let range = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
            Ok(rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, range, offset, len))?)
        }
    }
}

fn range(device: &Path, offset: Bytes, len: Bytes) -> String {
    format!("{} bytes at byte {} of {}", len.0, offset.0, device.display())
}
