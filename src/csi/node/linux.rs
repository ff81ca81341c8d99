//! [`Mounts`] of the machine that the program runs on.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::csi::backend::{Error, Result};
use crate::csi::capability::FsType;
use crate::csi::node::mounts::{Before, Content, Mount, Mounts, Usage};
use crate::host::linux::fs::{self, FsError, FsKind};
use crate::host::linux::mount::{self, Mounter};
use crate::host::{DevNo, HostError};
use crate::report::Class;
use crate::units::Bytes;

/// Mounts and file systems of this machine.
#[derive(Clone, Debug, Default)]
pub struct LinuxMounts {
    mounter: Mounter,
}

fn kind(fs: FsType) -> FsKind {
    match fs {
        FsType::Ext4 => FsKind::Ext4,
        FsType::Xfs => FsKind::Xfs,
        FsType::Btrfs => FsKind::Btrfs,
    }
}

fn fs_type(kind: FsKind) -> FsType {
    match kind {
        FsKind::Ext4 => FsType::Ext4,
        FsKind::Xfs => FsType::Xfs,
        FsKind::Btrfs => FsType::Btrfs,
    }
}

fn of_host(error: HostError) -> Error {
    Error::of(error.class(), &error)
}

fn of_fs(error: FsError) -> Error {
    Error::of(error.class(), &error)
}

fn line(mount: mount::Mount) -> Mount {
    let read_only = mount.options.iter().chain(&mount.super_options).any(|option| option == "ro");
    Mount {
        source: mount.source,
        root: mount.root,
        target: mount.point,
        fs: mount.fs_type,
        devno: mount.devno,
        read_only,
    }
}

/// Major and minor number of a `dev_t` as Linux packs it.
fn unpack(device: u64) -> Option<DevNo> {
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & 0xffff_ff00);
    Some(DevNo { major: u32::try_from(major).ok()?, minor: u32::try_from(minor).ok()? })
}

impl Mounts for LinuxMounts {
    fn table(&self) -> Result<Vec<Mount>> {
        Ok(self.mounter.table().map_err(of_host)?.into_iter().map(line).collect())
    }

    fn devno(&self, node: &Path) -> Result<Option<DevNo>> {
        match std::fs::metadata(node) {
            Ok(found) if found.file_type().is_block_device() => Ok(unpack(found.rdev())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new(Class::Transient, format!("look at {}: {error}", node.display()))),
        }
    }

    fn mount(&self, device: &Path, target: &Path, fs: FsType, options: &[String]) -> Result<()> {
        self.mounter.mount(device, target, fs.as_str(), options).map_err(of_host)
    }

    fn bind(&self, source: &Path, target: &Path) -> Result<()> {
        self.mounter.bind(source, target).map_err(of_host)
    }

    fn make_read_only(&self, target: &Path) -> Result<()> {
        self.mounter.make_read_only(target).map_err(of_host)
    }

    fn unmount(&self, target: &Path) -> Result<()> {
        self.mounter.unmount(target).map_err(of_host)
    }

    fn content(&self, device: &Path) -> Result<Content> {
        Ok(match fs::content(device).map_err(of_fs)? {
            fs::Content::Blank => Content::Blank,
            fs::Content::FileSystem(kind) => Content::FileSystem(fs_type(kind)),
            fs::Content::Other(what) => Content::Other(what),
        })
    }

    fn format(&self, device: &Path, fs: FsType, options: &[String], before: Before) -> Result<()> {
        let before = match before {
            Before::Blank => fs::Before::Blank,
            Before::Unfinished => fs::Before::OwnUnfinished,
        };
        fs::format(device, kind(fs), options, before).map_err(of_fs)
    }

    fn check(&self, device: &Path, fs: FsType) -> Result<()> {
        fs::check(device, kind(fs)).map_err(of_fs)
    }

    fn grow(&self, device: &Path, target: &Path, fs: FsType) -> Result<()> {
        fs::grow(device, target, kind(fs)).map_err(of_fs)
    }

    fn usage(&self, target: &Path) -> Result<(Usage, Option<Usage>)> {
        let found = fs::usage(target).map_err(of_fs)?;
        let bytes = Usage { total: found.total.0, used: found.used.0, available: found.available.0 };
        let inodes = found.inodes.map(|(total, free)| Usage {
            total,
            used: total.saturating_sub(free),
            available: free,
        });
        Ok((bytes, inodes))
    }

    fn size(&self, device: &Path) -> Result<Bytes> {
        fs::size(device).map_err(of_fs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_unpacked_as_linux_packs_them() {
        assert_eq!(unpack(0xfd03), Some(DevNo { major: 253, minor: 3 }));
        // Beyond 12 bits of major and 8 of minor number.
        assert_eq!(unpack(0x1000_1234_5678), Some(DevNo { major: 0x1456, minor: 0x1_2378 }));
    }

    #[test]
    fn the_mount_table_of_this_process_is_read() {
        let table = LinuxMounts::default().table().expect("there is always one");
        assert!(table.iter().any(|mount| mount.target == Path::new("/proc") && mount.fs == "proc"));
    }

    #[test]
    fn what_is_no_block_device_has_no_number() {
        assert_eq!(LinuxMounts::default().devno(Path::new("/dev/null")), Ok(None));
        assert_eq!(LinuxMounts::default().devno(Path::new("/no/such")), Ok(None));
    }
}
