//! Mounts and file systems of `host::linux`.

use std::path::PathBuf;
use std::time::Instant;

use splitmirror::host::linux::fs::{self, Before, Content, FsError, FsKind};
use splitmirror::host::linux::mount::Mounter;
use splitmirror::host::{Blocks, DeviceMapper, Freeze, TargetLine, Udev};
use splitmirror::units::{Bytes, Sectors};

use super::{Outcome, dm_node, equal, host, id, info, linear, said, size, that, timed, wipe};

/// Each type: made, mounted, grown while mounted, shown read-only at a second place, mounted from a read-only device.
pub fn file_systems_are_made_mounted_and_grown(disks: &[PathBuf]) -> Outcome {
    // XFS wants at least 300 MiB.
    const FIRST: Sectors = Bytes::mib(192).sectors_floor();
    const SECOND: Sectors = Bytes::mib(128).sectors_floor();
    const GROWN: Sectors = Bytes::mib(240).sectors_floor();
    let host = host()?;
    let (place, other) = (PathBuf::from("/run/smoke/mnt"), PathBuf::from("/run/smoke/bind"));
    for dir in [&place, &other] {
        std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
    }
    let mounter = Mounter::new(vec![PathBuf::from("/run/smoke")]);
    let table = |second: Sectors| -> Result<Vec<TargetLine>, String> {
        let first = linear(&host, &disks[0], 0, FIRST.0)?;
        Ok(vec![first, TargetLine { start: FIRST, ..linear(&host, &disks[1], 0, second.0)? }])
    };
    for kind in FsKind::ALL {
        let what = |text: &str| format!("{}: {text}", kind.as_str());
        let id = id("smoke-fs");
        host.dm_create(&id).map_err(said)?;
        host.dm_load(&id.name, &table(SECOND)?, false).map_err(said)?;
        host.dm_resume(&id.name, Udev::Volume).map_err(said)?;
        let info = info(&host, &id.name)?;
        let node = dm_node(&info);
        equal(&what("content"), fs::content(&node).map_err(said)?, Content::Blank)?;
        let start = Instant::now();
        fs::format(&node, kind, &[], Before::Blank).map_err(said)?;
        println!("  {}", what(&format!("formatted in {:?}", start.elapsed())));
        equal(&what("content"), fs::content(&node).map_err(said)?, Content::FileSystem(kind))?;
        fs::check(&node, kind).map_err(said)?;

        that(&what("no mount yet"), !mounter.is_mount_point(&place).map_err(said)?)?;
        mounter.mount(&node, &place, kind.as_str(), &["noatime".to_owned()]).map_err(said)?;
        that(&what("mounted"), mounter.is_mount_point(&place).map_err(said)?)?;
        let mounts = mounter.mounts_of(info.devno).map_err(said)?;
        equal(&what("its mount"), mounts.iter().map(|m| m.point.clone()).collect(), vec![place.clone()])?;
        that(
            &what("options"),
            mounts[0].options.iter().any(|o| o == "noatime") && !mounts[0].is_read_only(),
        )?;
        std::fs::write(place.join("file"), [5; 1 << 20]).map_err(|e| e.to_string())?;
        let error = host.dm_remove(&id.name).err().ok_or("a mounted device was removed")?;
        that(&what("the mount is named"), said(error).contains("mounted at /run/smoke/mnt"))?;
        let in_use = fs::format(&node, kind, &[], Before::OwnUnfinished).is_err();
        that(&what("a mounted device is not formatted"), in_use)?;

        let before = fs::usage(&place).map_err(said)?;
        let suspend = timed(|| host.dm_suspend(&id.name, Freeze::FileSystem))?;
        host.dm_load(&id.name, &table(GROWN)?, false).map_err(said)?;
        let resume = timed(|| host.dm_resume(&id.name, Udev::Volume))?;
        println!("  {}", what(&format!("suspend with freeze {suspend:?}, resume {resume:?}")));
        fs::grow(&node, &place, kind).map_err(said)?;
        fs::grow(&node, &place, kind).map_err(said)?;
        let after = fs::usage(&place).map_err(said)?;
        that(&what("it has grown"), after.total > before.total + Bytes::mib(90))?;
        that(&what("it counts inodes"), after.inodes.is_some() == (kind != FsKind::Btrfs))?;
        equal(&what("its size"), fs::size(&node).map_err(said)?, (FIRST + GROWN).bytes())?;

        mounter.bind(&place, &other).map_err(said)?;
        mounter.make_read_only(&other).map_err(said)?;
        that(&what("the second place refuses writes"), std::fs::write(other.join("x"), "x").is_err())?;
        that(&what("the first takes them"), std::fs::write(place.join("x"), "x").is_ok())?;
        mounter.make_read_only(&other).map_err(said)?;
        for dir in [&other, &place] {
            mounter.unmount(dir).map_err(said)?;
            that(&what("unmounted"), !mounter.is_mount_point(dir).map_err(said)?)?;
        }
        that(&what("nothing to unmount"), mounter.unmount(&place).is_err())?;

        fs::check(&node, kind).map_err(said)?;
        host.dm_suspend(&id.name, Freeze::IoOnly).map_err(said)?;
        host.dm_load(&id.name, &table(GROWN)?, true).map_err(said)?;
        host.dm_resume(&id.name, Udev::Image).map_err(said)?;
        let options: &[&str] = match kind {
            FsKind::Ext4 => &["ro", "noload"],
            FsKind::Xfs => &["ro", "nouuid", "norecovery"],
            FsKind::Btrfs => &["ro"],
        };
        let options: Vec<_> = options.iter().map(|o| (*o).to_owned()).collect();
        mounter.mount(&node, &place, kind.as_str(), &options).map_err(said)?;
        that(
            &what("read-only"),
            mounter.table().map_err(said)?.iter().any(|m| m.point == place && m.is_read_only()),
        )?;
        that(&what("the file is there"), std::fs::read(place.join("file")).is_ok_and(|f| f == [5; 1 << 20]))?;
        mounter.unmount(&place).map_err(said)?;
        host.dm_remove(&id.name).map_err(said)?;
        wipe(&host, &disks[..2])?;
    }
    Ok(())
}

/// Neither a file system nor stray bytes are formatted over.
pub fn what_is_not_blank_is_not_formatted(disks: &[PathBuf]) -> Outcome {
    let host = host()?;
    let disk = &disks[0];
    let refused = |what: &str| match fs::format(disk, FsKind::Ext4, &[], Before::Blank) {
        Err(error @ FsError::NotBlank { .. }) => that(what, said(error).contains(what)),
        other => Err(format!("{what}: {other:?}")),
    };
    fs::format(disk, FsKind::Btrfs, &[], Before::Blank).map_err(said)?;
    refused("btrfs")?;
    fs::format(disk, FsKind::Ext4, &["-L".to_owned(), "again".to_owned()], Before::OwnUnfinished)
        .map_err(said)?;
    equal("what is there now", fs::content(disk).map_err(said)?, Content::FileSystem(FsKind::Ext4))?;
    refused("ext4")?;
    host.zero(disk, Bytes(0), size(&host, disk)?.bytes()).map_err(said)?;
    host.write(disk, Bytes(65536), &[1; 512]).map_err(said)?;
    refused("unrecognised data at byte 65536")?;
    host.zero(disk, Bytes(0), Bytes::mib(1)).map_err(said)?;
    let error = fs::format(disk, FsKind::Ext4, &["--nonsense".to_owned()], Before::Blank).err();
    that("the tool's words are kept", error.is_some_and(|e| said(e).contains("mkfs.ext4 -q")))?;
    wipe(&host, &disks[..1])
}

/// What `e2fsck -p` gives up on is told apart from a program that failed.
pub fn a_damaged_file_system_is_told_apart(disks: &[PathBuf]) -> Outcome {
    let host = host()?;
    let disk = &disks[0];
    fs::format(disk, FsKind::Ext4, &[], Before::Blank).map_err(said)?;
    fs::check(disk, FsKind::Ext4).map_err(said)?;
    // Block bitmaps, inode bitmaps and the inode of the root directory.
    host.write(disk, Bytes::kib(64), &vec![0xa5; 8 << 20]).map_err(said)?;
    match fs::check(disk, FsKind::Ext4) {
        Err(error @ FsError::Damaged { .. }) => println!("  {}", said(error).replace('\n', "; ")),
        other => return Err(format!("the check of a damaged file system: {other:?}")),
    }
    wipe(&host, &disks[..1])
}
