//! Device-mapper on Linux.
//!
//! One call is one ioctl, with these exceptions: `dm_list`, `dm_sectors_written` and those on discards use sysfs and make none;
//! `dm_status` and `dm_look` repeat theirs with a larger buffer when the answer is beyond 16 KiB; `dm_remove` repeats
//! its own while somebody has the device open for a moment.
//!
//! What was seen on real kernels, and what callers must know:
//! * A node appears with the first table, not with the device, and is there when the ioctl returns.
//! * A change between writable and read-only sends one more uevent, without flags; udev's rules then keep those of the
//!   event before.
//! * On 6.1 a raid whose table is swapped, or that is removed, while a sync thread starts or runs can hang the caller for
//!   good or stop the machine: the suspend misses a thread that is about to start, and freeing the array waits for it, or
//!   does not (kernels from 6.9 on freeze such threads). What is safe there is an array with all images in sync, its ratio
//!   complete and idle, or one that says `frozen` after the message of that name was sent to a sync with some progress. A
//!   ratio of 0 with `idle` is a sync that is about to start, even beside `AAA`.
//! * On 7.2 the messages `idle` and `frozen` answer EINVAL and are not needed.
//!
//! Sources: Linux `drivers/md/dm-ioctl.c`, `drivers/md/dm.c`; `include/uapi/linux/dm-ioctl.h`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use devicemapper::{DevId, DmError, DmFlags, DmName, DmOptions, DmUuid, errors};

use super::{LinuxHost, dm_ioctl, fail, scan, users};
use crate::host::{DevNo, DeviceMapper, DmEntry, DmInfo, Freeze, Result, TargetLine, Udev};
use crate::ids::DmId;
use crate::units::Sectors;

/// How long a device that is only open for a moment (udev, blkid) may put off its removal.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);

/// How long devtmpfs may take to make a node. It makes it before the ioctl returns; this only covers a `/dev` that somebody
/// mirrors.
const NODE_PATIENCE: Duration = Duration::from_secs(2);

/// Longest name of a target type, without the zero byte that ends it (`DM_MAX_TYPE_NAME`).
const TARGET_NAME_MAX: usize = 15;

impl DeviceMapper for LinuxHost {
    fn dm_list(&self) -> Result<Vec<DmEntry>> {
        scan::dm_entries(&self.config.sys_dir)
            .map_err(fail("list", self.config.sys_dir.join("class/block").display().to_string()))
    }

    fn dm_info(&self, name: &str) -> Result<Option<DmInfo>> {
        let call = "dm info";
        match self.dm.device_info(&dev_id(call, name)?).map_err(io_error) {
            Ok(info) => Ok(Some(seen(&info))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(fail(call, name)(error)),
        }
    }

    fn dm_look(&self, name: &str) -> Result<Option<(DmInfo, Vec<TargetLine>)>> {
        let call = "dm table";
        match self.lines(call, name, DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH)? {
            Ok(looked) => Ok(Some(looked)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(fail(call, name)(error)),
        }
    }

    fn dm_status(&self, name: &str) -> Result<Vec<TargetLine>> {
        let call = "dm status";
        self.lines(call, name, DmFlags::DM_NOFLUSH)?.map(|(_, lines)| lines).map_err(fail(call, name))
    }

    fn dm_create(&self, id: &DmId) -> Result<()> {
        let call = "dm create";
        let subject = || format!("{} ({})", id.name, id.uuid);
        let name = DmName::new(&id.name).map_err(|error| fail(call, subject())(io_error(error)))?;
        let uuid = DmUuid::new(&id.uuid).map_err(|error| fail(call, subject())(io_error(error)))?;
        self.dm
            .device_create(name, Some(uuid), DmOptions::default())
            .map(drop)
            .map_err(|error| fail(call, subject())(io_error(error)))
    }

    fn dm_load(&self, name: &str, table: &[TargetLine], read_only: bool) -> Result<()> {
        let call = "dm load";
        let subject = || format!("{name}: {}", table_text(table));
        if let Some(line) = table.iter().find(|line| line.target.len() > TARGET_NAME_MAX) {
            let why = format!("{:?} cannot name a target", line.target);
            return Err(fail(call, subject())(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let flags = if read_only { DmFlags::DM_READONLY } else { DmFlags::empty() };
        let targets: Vec<_> =
            table.iter().map(|t| (t.start.0, t.len.0, t.target.clone(), t.params.clone())).collect();
        self.dm
            .table_load(&dev_id(call, name)?, &targets, DmOptions::default().set_flags(flags))
            .map(drop)
            .map_err(|error| fail(call, subject())(io_error(error)))
    }

    fn dm_clear(&self, name: &str) -> Result<()> {
        let call = "dm clear";
        self.dm.table_clear(&dev_id(call, name)?).map(drop).map_err(|error| fail(call, name)(io_error(error)))
    }

    fn dm_suspend(&self, name: &str, freeze: Freeze) -> Result<()> {
        let call = "dm suspend";
        let flags = match freeze {
            Freeze::FileSystem => DmFlags::DM_SUSPEND,
            Freeze::IoOnly => DmFlags::DM_SUSPEND | DmFlags::DM_SKIP_LOCKFS,
        };
        self.dm
            .device_suspend(&dev_id(call, name)?, DmOptions::default().set_flags(flags))
            .map(drop)
            .map_err(|error| fail(call, name)(io_error(error)))
    }

    /// Each waits for its file system to be written and for what is in flight: together, in threads of their own.
    fn dm_suspend_all(&self, names: &[&str], freeze: Freeze) -> Vec<Result<()>> {
        let [own, others @ ..] = names else { return Vec::new() };
        std::thread::scope(|scope| {
            let suspend = |name: &str| self.dm_suspend(name, freeze);
            let started: Vec<_> = others
                .iter()
                .map(|name| std::thread::Builder::new().spawn_scoped(scope, move || suspend(name)).ok())
                .collect();
            let first = suspend(own);
            let joined = started.into_iter().zip(others).map(|(started, name)| match started {
                Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // There is no thread to be had.
                None => suspend(name),
            });
            std::iter::once(first).chain(joined.collect::<Vec<_>>()).collect()
        })
    }

    fn dm_resume(&self, name: &str, udev: Udev) -> Result<()> {
        let devno = dm_ioctl::resume(self.dm.file(), name, udev).map_err(fail("dm resume", name))?;
        let node = dm_node(&self.config.dev_dir, devno);
        await_node(&node, devno)
            .map_err(fail("find the node of", format!("{name}, which runs as {}", node.display())))
    }

    fn dm_protect(&self, name: &str) -> Result<()> {
        let call = "protect";
        let gone = || fail(call, name)(io::Error::from(io::ErrorKind::NotFound));
        let info = self.dm_info(name)?.ok_or_else(gone)?;
        let node = dm_node(&self.config.dev_dir, info.devno);
        std::fs::File::open(&node)
            .and_then(|device| dm_ioctl::set_read_only(&device))
            .map_err(fail(call, format!("{name}, {}", node.display())))
    }

    fn dm_remove(&self, name: &str) -> Result<()> {
        let call = "dm remove";
        let deadline = Instant::now() + REMOVE_PATIENCE;
        let mut pause = Duration::from_millis(5);
        loop {
            let error = match dm_ioctl::remove(self.dm.file(), name) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.kind() != io::ErrorKind::ResourceBusy {
                return Err(fail(call, name)(error));
            }
            // Somebody who stays is not waited for: locks are held meanwhile.
            let user = self.dm_info(name)?.and_then(|info| users::lasting(&self.config.sys_dir, info.devno));
            if let Some(user) = user {
                return Err(fail(call, format!("{name}, which is {user}"))(error));
            }
            if Instant::now() >= deadline {
                return Err(fail(call, format!("{name}, which a process has open"))(error));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn dm_rename(&self, name: &str, new_name: &str, udev: Udev) -> Result<()> {
        dm_ioctl::rename(self.dm.file(), name, new_name, udev)
            .map_err(fail("dm rename", format!("{name} to {new_name}")))
    }

    fn dm_message(&self, name: &str, message: &str) -> Result<()> {
        let call = "dm message";
        self.dm
            .target_msg(&dev_id(call, name)?, None, message)
            .map(drop)
            .map_err(|error| fail(call, format!("{name}: {message}"))(io_error(error)))
    }

    fn dm_discards(&self, devno: DevNo) -> Result<bool> {
        let path = self.discard_limit(devno);
        std::fs::read_to_string(&path)
            .map(|limit| limit.trim() != "0")
            .map_err(fail("read", path.display().to_string()))
    }

    fn dm_refuse_discards(&self, devno: DevNo) -> Result<()> {
        let path = self.discard_limit(devno);
        std::fs::write(&path, "0").map_err(fail("write", path.display().to_string()))
    }

    fn dm_sectors_written(&self, devno: DevNo) -> Result<Sectors> {
        let path = self.config.sys_dir.join(format!("dev/block/{devno}/stat"));
        std::fs::read_to_string(&path)
            .and_then(|stat| scan::sectors_written(&stat))
            .map_err(fail("read", path.display().to_string()))
    }
}

impl LinuxHost {
    /// Where the longest discard that a device takes is read and set.
    fn discard_limit(&self, devno: DevNo) -> PathBuf {
        self.config.sys_dir.join(format!("dev/block/{devno}/queue/discard_max_bytes"))
    }

    fn lines(
        &self,
        call: &'static str,
        name: &str,
        flags: DmFlags,
    ) -> Result<io::Result<(DmInfo, Vec<TargetLine>)>> {
        let answer = self.dm.table_status(&dev_id(call, name)?, DmOptions::default().set_flags(flags));
        let line = |(start, len, target, params)| TargetLine {
            start: Sectors(start),
            len: Sectors(len),
            target,
            params,
        };
        Ok(answer.map(|(info, lines)| (seen(&info), lines.into_iter().map(line).collect())).map_err(io_error))
    }
}

/// The node that devtmpfs makes for a device-mapper device.
pub(super) fn dm_node(dev_dir: &Path, devno: DevNo) -> PathBuf {
    dev_dir.join(format!("dm-{}", devno.minor))
}

/// Waits until a node is there and is the device's.
fn await_node(node: &Path, devno: DevNo) -> io::Result<()> {
    let deadline = Instant::now() + NODE_PATIENCE;
    loop {
        let error = match std::fs::metadata(node) {
            Ok(meta) if scan::devno_of(meta.rdev()) == devno => return Ok(()),
            Ok(_) => io::Error::other(format!("it is not device {devno}: a stale node, not of a devtmpfs")),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn seen(info: &devicemapper::DeviceInfo) -> DmInfo {
    let device = info.device();
    let flags = info.flags();
    DmInfo {
        uuid: info.uuid().map(ToString::to_string).unwrap_or_default(),
        devno: DevNo { major: device.major, minor: device.minor },
        open_count: u32::try_from(info.open_count()).unwrap_or(0),
        suspended: flags.contains(DmFlags::DM_SUSPEND),
        read_only: flags.contains(DmFlags::DM_READONLY),
        inactive_table: flags.contains(DmFlags::DM_INACTIVE_PRESENT),
        live_table: flags.contains(DmFlags::DM_ACTIVE_PRESENT),
    }
}

fn dev_id<'a>(call: &'static str, name: &'a str) -> Result<DevId<'a>> {
    DmName::new(name).map(DevId::Name).map_err(|error| fail(call, name)(io_error(error)))
}

/// As `dmsetup table` prints it, lines joined by semicolons.
fn table_text(table: &[TargetLine]) -> String {
    let lines: Vec<_> =
        table.iter().map(|t| format!("{} {} {} {}", t.start.0, t.len.0, t.target, t.params)).collect();
    lines.join("; ")
}

/// The kernel's answer within the crate's error.
fn io_error(error: DmError) -> io::Error {
    match error {
        DmError::Core(errors::Error::Ioctl(_, _, _, errno)) => io::Error::from(*errno),
        DmError::Core(_) | DmError::Dm(..) => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}
