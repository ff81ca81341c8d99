//! Volume capabilities: how a volume is used, as types.

use crate::csi::backend::{Error, Result};
use crate::csi::proto::VolumeCapability;
use crate::csi::proto::volume_capability::AccessType;
use crate::csi::proto::volume_capability::access_mode::Mode as ProtoMode;

/// A file system that can be made on a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FsType {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl FsType {
    /// Its name, as `mount -t` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl std::fmt::Display for FsType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for FsType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "ext4" => Ok(Self::Ext4),
            "xfs" => Ok(Self::Xfs),
            "btrfs" => Ok(Self::Btrfs),
            other => Err(Error::invalid(format!("file system {other:?} is not one of ext4, xfs, btrfs"))),
        }
    }
}

/// As what a volume appears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// As a block device.
    Block,
    /// As a mounted file system.
    Mount {
        /// Its type, when the caller has a wish.
        fs: Option<FsType>,
        /// Mount options.
        flags: Vec<String>,
    },
}

/// By whom it is used at once. All are of one node: a volume can be nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One or more writers.
    Writer,
    /// One writer, at one target path.
    SingleWriter,
    /// Readers only.
    Reader,
}

/// How a volume is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// As what it appears.
    pub access: Access,
    /// By whom.
    pub mode: Mode,
}

impl Capability {
    /// Reads one capability.
    ///
    /// # Errors
    /// A part is missing, or it is a way in which no volume of ours can be used.
    pub fn read(capability: &VolumeCapability) -> Result<Self> {
        let access = match &capability.access_type {
            None => return Err(Error::invalid("volume capability: access_type is missing")),
            Some(AccessType::Block(_)) => Access::Block,
            Some(AccessType::Mount(mount)) => {
                if !mount.volume_mount_group.is_empty() {
                    return Err(Error::invalid("volume capability: volume_mount_group is not supported"));
                }
                let fs = match mount.fs_type.as_str() {
                    "" => None,
                    name => Some(name.parse()?),
                };
                Access::Mount { fs, flags: mount.mount_flags.clone() }
            }
        };
        let mode = capability.access_mode.as_ref().map_or(ProtoMode::Unknown, |mode| mode.mode());
        let mode = match mode {
            ProtoMode::SingleNodeWriter | ProtoMode::SingleNodeMultiWriter => Mode::Writer,
            ProtoMode::SingleNodeSingleWriter => Mode::SingleWriter,
            ProtoMode::SingleNodeReaderOnly | ProtoMode::MultiNodeReaderOnly => Mode::Reader,
            ProtoMode::Unknown => return Err(Error::invalid("volume capability: access_mode is missing")),
            ProtoMode::MultiNodeSingleWriter | ProtoMode::MultiNodeMultiWriter => {
                return Err(Error::invalid(format!(
                    "volume capability: access mode {} is not supported: a volume lies on the disks of one node",
                    mode.as_str_name()
                )));
            }
        };
        Ok(Self { access, mode })
    }

    /// Reads the capability of one use.
    ///
    /// # Errors
    /// It is missing, or as [`Self::read`].
    pub fn read_one(capability: Option<&VolumeCapability>) -> Result<Self> {
        Self::read(capability.ok_or_else(|| Error::invalid("volume_capability is missing"))?)
    }

    /// Reads all the ways in which a volume is to be used.
    ///
    /// # Errors
    /// There is none, or as [`Self::read`].
    pub fn read_all(capabilities: &[VolumeCapability]) -> Result<Vec<Self>> {
        if capabilities.is_empty() {
            return Err(Error::invalid("volume_capabilities is missing"));
        }
        capabilities.iter().map(Self::read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::proto::volume_capability::{AccessMode, BlockVolume, MountVolume};

    fn capability(access_type: Option<AccessType>, mode: ProtoMode) -> VolumeCapability {
        VolumeCapability { access_type, access_mode: Some(AccessMode { mode: mode.into() }) }
    }

    fn block() -> Option<AccessType> {
        Some(AccessType::Block(BlockVolume {}))
    }

    #[test]
    fn uses_on_one_node_are_read_and_others_refused() {
        for (mode, read) in [
            (ProtoMode::SingleNodeWriter, Some(Mode::Writer)),
            (ProtoMode::SingleNodeMultiWriter, Some(Mode::Writer)),
            (ProtoMode::SingleNodeSingleWriter, Some(Mode::SingleWriter)),
            (ProtoMode::SingleNodeReaderOnly, Some(Mode::Reader)),
            (ProtoMode::MultiNodeReaderOnly, Some(Mode::Reader)),
            (ProtoMode::MultiNodeSingleWriter, None),
            (ProtoMode::MultiNodeMultiWriter, None),
            (ProtoMode::Unknown, None),
        ] {
            let got = Capability::read(&capability(block(), mode)).ok().map(|c| c.mode);
            assert_eq!(got, read, "{mode:?}");
        }
        let unknown = VolumeCapability { access_type: block(), access_mode: Some(AccessMode { mode: 99 }) };
        assert!(Capability::read(&unknown).is_err());
        assert!(Capability::read_all(&[]).is_err());
    }

    #[test]
    fn file_systems_are_known_by_name() {
        let mount = |fs_type: &str| {
            let mount = MountVolume { fs_type: fs_type.to_owned(), ..MountVolume::default() };
            Capability::read(&capability(Some(AccessType::Mount(mount)), ProtoMode::SingleNodeWriter))
        };
        for fs in [FsType::Ext4, FsType::Xfs, FsType::Btrfs] {
            let read = mount(fs.as_str()).expect("known");
            assert_eq!(read.access, Access::Mount { fs: Some(fs), flags: Vec::new() });
        }
        assert_eq!(mount("").expect("no wish").access, Access::Mount { fs: None, flags: Vec::new() });
        assert!(mount("ntfs").is_err());
        assert!(mount("EXT4").is_err());
    }
}
