//! The ports of the machine: each call lets time pass and applications write, then does its work or meets its fault.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SimHost;
use super::disk::{SECTOR, wide};
use super::errno::{EAGAIN, EDEADLK, EINVAL, ENXIO, ESHUTDOWN, Errno};
use super::fault::{Cut, Fault, Stop};
use super::world::World;
use crate::host::{
    BlockDevice, Blocks, DevNo, DeviceMapper, DmEntry, DmInfo, Entropy, Freeze, HostError, Locks, Notes,
    Probe, Result, TargetLine, Udev, VgLock,
};
use crate::ids::{DmId, VgName};
use crate::units::{Bytes, Sectors};

/// How long an ordinary call takes.
const CALL_NANOS: u64 = 1_000_000;
/// How long a lock is waited for.
const LOCK_NANOS: u64 = 10_000_000_000;

fn error(call: &'static str, subject: &str, errno: Errno) -> HostError {
    HostError { call, subject: subject.to_owned(), source: std::io::Error::from_raw_os_error(errno) }
}

impl SimHost {
    /// A call that only looks.
    fn look<T>(
        &self,
        call: &'static str,
        subject: &str,
        work: impl FnOnce(&mut World) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        self.call(call, subject, false, work)
    }

    /// A call that changes the machine.
    fn change<T>(
        &self,
        call: &'static str,
        subject: &str,
        work: impl FnOnce(&mut World) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        self.call(call, subject, true, work)
    }

    fn call<T>(
        &self,
        call: &'static str,
        subject: &str,
        counts: bool,
        work: impl FnOnce(&mut World) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        let mut world = self.world();
        let mut result = Err(ESHUTDOWN);
        if world.stopped.is_none() {
            world.begin(call, subject, counts);
            world.advance(CALL_NANOS);
            result = perform(&mut world, work);
        }
        if let Some(stop) = world.stopped {
            drop(world);
            if !std::thread::panicking() {
                stop.unwind();
            }
            result = Err(ESHUTDOWN);
        }
        result.map_err(|errno| error(call, subject, errno))
    }

    fn lock(&self, name: String) -> Result<Box<dyn VgLock>> {
        let process = self.look("lock", &name, |world| {
            if world.foreign_locks.contains(&name) {
                world.advance(LOCK_NANOS);
                return Err(EAGAIN);
            }
            if !world.own_locks.insert(name.clone()) {
                world.violations.push(format!("the lock {name} is taken twice"));
                return Err(EDEADLK);
            }
            Ok(world.process)
        })?;
        Ok(Box::new(Held { host: self.clone(), name, process }))
    }
}

fn perform<T>(
    world: &mut World,
    work: impl FnOnce(&mut World) -> std::result::Result<T, Errno>,
) -> std::result::Result<T, Errno> {
    if world.stopped.is_some() {
        return Err(ESHUTDOWN);
    }
    match world.fault_now() {
        None => work(world),
        Some(Fault::PowerCut { at: Cut::Before, .. }) => {
            world.stopped = Some(Stop::PowerCut);
            Err(ESHUTDOWN)
        }
        Some(Fault::PowerCut { at: Cut::After | Cut::Inside { .. }, .. }) => {
            let result = work(world);
            world.stopped = Some(Stop::PowerCut);
            result
        }
        Some(Fault::Kill { done, .. }) => {
            let result = if done { work(world) } else { Err(ESHUTDOWN) };
            world.stopped = world.stopped.or(Some(Stop::Killed));
            result
        }
        Some(Fault::Errno { errno, done, .. }) => {
            if done {
                work(world)?;
            }
            Err(errno)
        }
    }
}

impl DeviceMapper for SimHost {
    fn dm_list(&self) -> Result<Vec<DmEntry>> {
        self.look("dm list", "", |world| Ok(world.dm_list()))
    }

    fn dm_info(&self, name: &str) -> Result<Option<DmInfo>> {
        self.look("dm info", name, |world| Ok(world.dm_info(name)))
    }

    fn dm_look(&self, name: &str) -> Result<Option<(DmInfo, Vec<TargetLine>)>> {
        self.look("dm table", name, |world| match world.dm_info(name) {
            Some(info) => Ok(Some((info, world.dm_lines(name, false)?))),
            None => Ok(None),
        })
    }

    fn dm_status(&self, name: &str) -> Result<Vec<TargetLine>> {
        self.look("dm status", name, |world| world.dm_lines(name, true))
    }

    fn dm_create(&self, id: &DmId) -> Result<()> {
        self.change("dm create", &id.name, |world| world.dm_create(id))
    }

    fn dm_load(&self, name: &str, table: &[TargetLine], read_only: bool) -> Result<()> {
        self.change("dm load", name, |world| world.dm_load(name, table, read_only))
    }

    fn dm_clear(&self, name: &str) -> Result<()> {
        self.change("dm clear", name, |world| world.dm_clear(name))
    }

    fn dm_suspend(&self, name: &str, _freeze: Freeze) -> Result<()> {
        self.change("dm suspend", name, |world| world.dm_suspend(name))
    }

    fn dm_resume(&self, name: &str, _udev: Udev) -> Result<()> {
        self.change("dm resume", name, |world| world.dm_resume(name))
    }

    fn dm_protect(&self, name: &str) -> Result<()> {
        self.change("protect", name, |world| world.dm_protect(name))
    }

    fn dm_remove(&self, name: &str) -> Result<()> {
        self.change("dm remove", name, |world| world.dm_remove(name))
    }

    fn dm_rename(&self, name: &str, new_name: &str, _udev: Udev) -> Result<()> {
        self.change("dm rename", name, |world| world.dm_rename(name, new_name))
    }

    fn dm_message(&self, name: &str, message: &str) -> Result<()> {
        self.change("dm message", name, |world| world.dm_message(name, message))
    }

    fn dm_discards(&self, devno: DevNo) -> Result<bool> {
        self.look("dm discards", &devno.to_string(), |world| {
            Ok(world.dm.get(&devno.minor).ok_or(ENXIO)?.discards)
        })
    }

    fn dm_refuse_discards(&self, devno: DevNo) -> Result<()> {
        self.change("dm refuse discards", &devno.to_string(), |world| {
            world.dm.get_mut(&devno.minor).ok_or(ENXIO)?.discards = false;
            Ok(())
        })
    }

    fn dm_sectors_written(&self, devno: DevNo) -> Result<Sectors> {
        self.look("dm sectors written", &devno.to_string(), |world| {
            world.size(devno).ok_or(ENXIO)?;
            Ok(Sectors(world.sectors_written.get(&devno).copied().unwrap_or(0)))
        })
    }
}

/// A range of bytes as sectors.
fn sectors(offset: Bytes, len: u64) -> std::result::Result<(u64, u64), Errno> {
    let sector = wide(SECTOR);
    if offset.0.is_multiple_of(sector) && len.is_multiple_of(sector) {
        Ok((offset.0 / sector, len / sector))
    } else {
        Err(EINVAL)
    }
}

fn range(device: &Path, offset: Bytes, len: u64) -> String {
    format!("{} at {} for {len}", device.display(), offset.0)
}

/// What a copy copies at once.
const COPY_PART: Bytes = Bytes::mib(1);

impl Blocks for SimHost {
    fn scan(&self) -> Result<Vec<BlockDevice>> {
        self.look("scan", "", |world| {
            let device = |(devno, slot): (&DevNo, &super::world::DiskSlot)| BlockDevice {
                path: slot.path.clone(),
                devno: *devno,
                size: Sectors(slot.disk.sectors()),
                rotational: slot.rotational,
            };
            Ok(world.disks.iter().map(device).collect())
        })
    }

    fn node(&self, devno: DevNo) -> Result<PathBuf> {
        self.look("node", &devno.to_string(), |world| world.node(devno))
    }

    fn probe(&self, device: &Path) -> Result<Probe> {
        self.look("probe", &device.to_string_lossy(), |world| {
            let dev = world.lookup(&device.to_string_lossy())?;
            world.probe(dev)
        })
    }

    fn read(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<Vec<u8>> {
        self.look("read", &range(device, offset, len.0), |world| {
            let (sector, count) = sectors(offset, len.0)?;
            let dev = world.lookup(&device.to_string_lossy())?;
            let result = world.read(dev, sector, count);
            if result == Err(EAGAIN) {
                world
                    .violations
                    .push(format!("read of {}, which is suspended: this would hang", device.display()));
            }
            result
        })
    }

    fn write(&self, device: &Path, offset: Bytes, data: &[u8]) -> Result<()> {
        self.change("write", &range(device, offset, wide(data.len())), |world| {
            let (sector, _) = sectors(offset, wide(data.len()))?;
            let dev = world.lookup(&device.to_string_lossy())?;
            world.write(dev, sector, data, true)
        })
    }

    fn copy(&self, from: (&Path, Bytes), to: (&Path, Bytes), len: Bytes) -> Result<()> {
        let mut done = Bytes::ZERO;
        while done < len {
            // In parts, so that it can end half-way.
            let part = COPY_PART.min(len - done);
            let data = self.read(from.0, from.1 + done, part)?;
            self.write(to.0, to.1 + done, &data)?;
            done += part;
        }
        Ok(())
    }

    fn zero(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<()> {
        self.change("zero", &range(device, offset, len.0), |world| {
            let (sector, count) = sectors(offset, len.0)?;
            let dev = world.lookup(&device.to_string_lossy())?;
            world.zero(dev, sector, count)
        })
    }
}

/// A lock of this process.
struct Held {
    host: SimHost,
    name: String,
    process: u64,
}

impl VgLock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut world = self.host.world();
        if world.process == self.process {
            world.own_locks.remove(&self.name);
        }
    }
}

impl Locks for SimHost {
    fn lock_vg(&self, vg: &VgName) -> Result<Box<dyn VgLock>> {
        self.lock(format!("V_{vg}"))
    }

    fn lock_global(&self) -> Result<Box<dyn VgLock>> {
        self.lock("P_global".to_owned())
    }

    fn invalidate_hints(&self) -> Result<()> {
        self.look("invalidate hints", "", |_| Ok(()))
    }
}

impl Notes for SimHost {
    fn is_noted(&self, word: &str) -> Result<bool> {
        self.look("look for note", word, |world| Ok(world.notes.contains(word)))
    }

    fn note(&self, word: &str) -> Result<()> {
        self.change("note", word, |world| {
            world.notes.insert(word.to_owned());
            Ok(())
        })
    }
}

impl Entropy for SimHost {
    fn now_unix_nanos(&self) -> u64 {
        self.world().clock_nanos
    }

    fn random(&self) -> [u8; 32] {
        let mut world = self.world();
        std::array::from_fn(|_| world.identifiers.next().to_le_bytes()[0])
    }

    fn host_name(&self) -> String {
        "simulated".to_owned()
    }

    fn pause(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 2);
        let paused = self.change("pause", "", |world| {
            world.advance(nanos);
            Ok(())
        });
        drop(paused); // the only error is a machine that has stopped, and then the process is unwinding already
    }
}
