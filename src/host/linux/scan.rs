//! What block devices there are, from sysfs.
//!
//! ```text
//! /sys/class/block/sdb -> ../../devices/pci…/block/sdb
//!     dev  size  stat  holders/  queue/rotational      a partition has no queue of its own: its disk's, one up
//!     dm/name  dm/uuid                                 device-mapper only
//!     loop/backing_file                                attached loop devices only
//! ```

use std::io;
use std::path::{Path, PathBuf};

use crate::host::{BlockDevice, DevNo, DmEntry};
use crate::units::Sectors;

/// Devices that never carry a PV: memory, CD and floppy drives.
const NEVER: [&str; 4] = ["ram", "zram", "sr", "fd"];

/// All devices that may carry a PV, in the order of their names. Left out are
/// * LVs, for a volume group inside an LV is another system's (LVM2: `devices/scan_lvs=0`),
/// * devices under multipath and members of md arrays, whose content shows again on the device above them,
/// * devices without media, and those without a node.
pub(super) fn block_devices(sys: &Path, dev: &Path) -> io::Result<Vec<BlockDevice>> {
    let mut found = Vec::new();
    for (name, dir) in entries(&sys.join("class/block"))? {
        if NEVER.iter().any(|prefix| is_numbered(&name, prefix)) {
            continue;
        }
        // A device that goes away while it is looked at is one that is not there.
        let Ok(device) = block_device(&name, &dir, dev) else { continue };
        if device.size == Sectors::ZERO || is_lv(&dir) || is_member(sys, &dir) || !device.path.exists() {
            continue;
        }
        found.push(device);
    }
    Ok(found)
}

/// All device-mapper devices.
pub(super) fn dm_entries(sys: &Path) -> io::Result<Vec<DmEntry>> {
    let mut found = Vec::new();
    for (name, dir) in entries(&sys.join("class/block"))? {
        if !is_numbered(&name, "dm-") {
            continue;
        }
        let entry = || -> io::Result<DmEntry> {
            Ok(DmEntry { name: text(&dir, "dm/name")?, uuid: text(&dir, "dm/uuid")?, devno: devno(&dir)? })
        };
        match entry() {
            Ok(entry) => found.push(entry),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The node of a device; its name in `/dev` is its name in sysfs.
pub(super) fn node(sys: &Path, dev: &Path, devno: DevNo) -> io::Result<PathBuf> {
    let target = std::fs::canonicalize(sys.join(format!("dev/block/{devno}")))?;
    let name = target.file_name().ok_or_else(|| io::Error::other("sysfs names no device"))?;
    let node = node_path(dev, &name.to_string_lossy());
    std::fs::metadata(&node).map(|_| node)
}

/// The directory in sysfs of a device number.
pub(super) fn sys_device(sys: &Path, devno: DevNo) -> PathBuf {
    sys.join(format!("dev/block/{devno}"))
}

/// The seventh number of a device's `stat`: sectors written.
pub(super) fn sectors_written(stat: &str) -> io::Result<Sectors> {
    stat.split_ascii_whitespace()
        .nth(6)
        .and_then(|number| number.parse().ok())
        .map(Sectors)
        .ok_or_else(|| invalid(format!("{:?} has no seventh number", stat.trim())))
}

/// The device number that `stat(2)` gave.
pub(super) fn devno_of(rdev: u64) -> DevNo {
    DevNo { major: rustix::fs::major(rdev), minor: rustix::fs::minor(rdev) }
}

/// Names of the devices that stand on this one.
pub(super) fn holders(sys_device: &Path) -> Vec<String> {
    entries(&sys_device.join("holders")).unwrap_or_default().into_iter().map(|(name, _)| name).collect()
}

fn block_device(name: &str, dir: &Path, dev: &Path) -> io::Result<BlockDevice> {
    let size = text(dir, "size")?;
    let queue = ["queue/rotational", "../queue/rotational"];
    // `dir` is a link: `..` is only its disk once the link is resolved.
    let real = std::fs::canonicalize(dir)?;
    Ok(BlockDevice {
        path: node_path(dev, name),
        devno: devno(dir)?,
        size: Sectors(size.parse().map_err(|_| invalid(format!("{size:?} is not a size")))?),
        rotational: queue.iter().find_map(|file| text(&real, file).ok()).is_some_and(|flag| flag == "1"),
    })
}

fn is_lv(dir: &Path) -> bool {
    text(dir, "dm/uuid").is_ok_and(|uuid| uuid.starts_with("LVM-"))
}

fn is_member(sys: &Path, dir: &Path) -> bool {
    holders(dir).iter().any(|holder| {
        let holder = sys.join("class/block").join(holder);
        holder.join("md").exists() || text(&holder, "dm/uuid").is_ok_and(|uuid| uuid.starts_with("mpath-"))
    })
}

fn devno(dir: &Path) -> io::Result<DevNo> {
    let dev = text(dir, "dev")?;
    dev.split_once(':')
        .and_then(|(major, minor)| Some(DevNo { major: major.parse().ok()?, minor: minor.parse().ok()? }))
        .ok_or_else(|| invalid(format!("{dev:?} is not a device number")))
}

/// sysfs writes a slash of a device's name as an exclamation mark.
fn node_path(dev: &Path, name: &str) -> PathBuf {
    dev.join(name.replace('!', "/"))
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

fn text(dir: &Path, file: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(dir.join(file))?.trim_end().to_owned())
}

fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [rustix::io::Errno::NOENT, rustix::io::Errno::NODEV, rustix::io::Errno::NXIO];
    gone.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
