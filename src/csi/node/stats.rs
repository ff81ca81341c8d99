//! How full a published volume is, and growing its file system.

use std::path::{Path, PathBuf};

use crate::csi::backend::{Error, KnownVolume, OpenVolume, Result};
use crate::csi::capability::FsType;
use crate::csi::node::active;
use crate::csi::node::mounts::{Mount, Mounts, Usage};
use crate::csi::node::paths;
use crate::csi::node::stage::mounted_at;
use crate::csi::proto::volume_usage::Unit;
use crate::csi::proto::{NodeExpandVolumeResponse, NodeGetVolumeStatsResponse, VolumeUsage};

/// The mount at `path`, which must show this volume; else `NotFound`.
fn published(mounts: &dyn Mounts, volume: &KnownVolume, path: &Path) -> Result<(OpenVolume, Mount)> {
    let not_there =
        || Error::not_found(format!("volume {} is not published at {}", volume.id, path.display()));
    let device = active(mounts, volume)?.ok_or_else(not_there)?;
    let path: PathBuf = paths::real(path)?.components().collect();
    let table = mounts.table()?;
    let mount = mounted_at(&table, &path).filter(|mount| mount.shows(&device)).ok_or_else(not_there)?;
    Ok((device, mount.clone()))
}

/// NodeGetVolumeStats.
///
/// # Errors
/// The volume is not published there.
pub fn stats(mounts: &dyn Mounts, volume: &KnownVolume, path: &Path) -> Result<NodeGetVolumeStatsResponse> {
    let (device, mount) = published(mounts, volume, path)?;
    if mount.is_node_of(&device) {
        let total = signed(mounts.size(&device.device)?.0);
        let usage = VolumeUsage { total, unit: Unit::Bytes.into(), ..VolumeUsage::default() };
        return Ok(NodeGetVolumeStatsResponse { usage: vec![usage] });
    }
    let (bytes, inodes) = mounts.usage(&mount.target)?;
    let mut usage = vec![answer(bytes, Unit::Bytes)];
    usage.extend(inodes.map(|inodes| answer(inodes, Unit::Inodes)));
    Ok(NodeGetVolumeStatsResponse { usage })
}

fn answer(usage: Usage, unit: Unit) -> VolumeUsage {
    VolumeUsage {
        available: signed(usage.available),
        total: signed(usage.total),
        used: signed(usage.used),
        unit: unit.into(),
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// NodeExpandVolume: the device has grown, its file system follows. Nothing to do for raw block.
///
/// # Errors
/// The volume is not published there, or its file system cannot grow.
pub fn expand(mounts: &dyn Mounts, volume: &KnownVolume, path: &Path) -> Result<NodeExpandVolumeResponse> {
    let (device, mount) = published(mounts, volume, path)?;
    if device.read_only {
        return Err(Error::precondition(format!("volume {} can only be read and cannot grow", volume.id)));
    }
    if mount.is_file_system_of(&device) {
        let fs: FsType = mount.fs.parse()?;
        mounts.grow(&device.device, &mount.target, fs)?;
    }
    Ok(NodeExpandVolumeResponse { capacity_bytes: signed(mounts.size(&device.device)?.0) })
}
