//! A host that notes when each call to the machine began and ended.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use splitmirror::host::{
    BlockDevice, Blocks, DevNo, DeviceMapper, DmEntry, DmInfo, Entropy, Freeze, Locks, Notes, Probe, Result,
    TargetLine, Udev, VgLock,
};
use splitmirror::ids::{DmId, VgName};
use splitmirror::units::{Bytes, Sectors};

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: &'static str,
    pub subject: String,
    pub begun: Instant,
    pub ended: Instant,
}

impl Call {
    pub fn took(&self) -> Duration {
        self.ended - self.begun
    }
}

/// A host whose calls are timed.
#[derive(Debug)]
pub struct Stopwatch<H> {
    inner: H,
    calls: Mutex<Vec<Call>>,
}

impl<H> Stopwatch<H> {
    pub fn new(inner: H) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The calls since the last time this was asked.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn time<T>(&self, name: &'static str, subject: &str, call: impl FnOnce(&H) -> T) -> T {
        let begun = Instant::now();
        let done = call(&self.inner);
        let call = Call { name, subject: subject.to_owned(), begun, ended: Instant::now() };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        done
    }
}

/// The calls from a suspend to the resume that followed.
#[derive(Clone, Debug)]
pub struct Pause {
    calls: Vec<Call>,
}

impl Pause {
    pub fn begun(&self) -> Instant {
        self.calls[0].begun
    }

    pub fn ended(&self) -> Instant {
        self.calls[self.calls.len() - 1].ended
    }

    /// What calls of this name took of it.
    pub fn spent_in(&self, name: &str) -> Duration {
        self.calls.iter().filter(|call| call.name == name).map(Call::took).sum()
    }
}

/// When I/O to a device was held back.
pub fn held_back(calls: &[Call], device: &str) -> Vec<Pause> {
    let mut pauses = Vec::new();
    let mut pause: Option<Vec<Call>> = None;
    for call in calls {
        if call.name == "dm suspend" && call.subject == device {
            pause = Some(Vec::new());
        }
        if let Some(pause) = &mut pause {
            pause.push(call.clone());
        }
        if call.name == "dm resume" && call.subject == device {
            pauses.extend(pause.take().map(|calls| Pause { calls }));
        }
    }
    pauses
}

impl<H: DeviceMapper> DeviceMapper for Stopwatch<H> {
    fn dm_list(&self) -> Result<Vec<DmEntry>> {
        self.time("dm list", "", |host| host.dm_list())
    }
    fn dm_info(&self, name: &str) -> Result<Option<DmInfo>> {
        self.time("dm info", name, |host| host.dm_info(name))
    }
    fn dm_look(&self, name: &str) -> Result<Option<(DmInfo, Vec<TargetLine>)>> {
        self.time("dm table", name, |host| host.dm_look(name))
    }
    fn dm_status(&self, name: &str) -> Result<Vec<TargetLine>> {
        self.time("dm status", name, |host| host.dm_status(name))
    }
    fn dm_create(&self, id: &DmId) -> Result<()> {
        self.time("dm create", &id.name, |host| host.dm_create(id))
    }
    fn dm_load(&self, name: &str, table: &[TargetLine], read_only: bool) -> Result<()> {
        self.time("dm load", name, |host| host.dm_load(name, table, read_only))
    }
    fn dm_clear(&self, name: &str) -> Result<()> {
        self.time("dm clear", name, |host| host.dm_clear(name))
    }
    fn dm_suspend(&self, name: &str, freeze: Freeze) -> Result<()> {
        self.time("dm suspend", name, |host| host.dm_suspend(name, freeze))
    }
    fn dm_suspend_all(&self, names: &[&str], freeze: Freeze) -> Vec<Result<()>> {
        let begun = Instant::now();
        let done = self.inner.dm_suspend_all(names, freeze);
        let ended = Instant::now();
        let call = |name: &&str| Call { name: "dm suspend", subject: (*name).to_owned(), begun, ended };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).extend(names.iter().map(call));
        done
    }
    fn dm_resume(&self, name: &str, udev: Udev) -> Result<()> {
        self.time("dm resume", name, |host| host.dm_resume(name, udev))
    }
    fn dm_remove(&self, name: &str) -> Result<()> {
        self.time("dm remove", name, |host| host.dm_remove(name))
    }
    fn dm_protect(&self, name: &str) -> Result<()> {
        self.time("protect", name, |host| host.dm_protect(name))
    }
    fn dm_rename(&self, name: &str, new_name: &str, udev: Udev) -> Result<()> {
        self.time("dm rename", name, |host| host.dm_rename(name, new_name, udev))
    }
    fn dm_message(&self, name: &str, message: &str) -> Result<()> {
        self.time("dm message", name, |host| host.dm_message(name, message))
    }
    fn dm_discards(&self, devno: DevNo) -> Result<bool> {
        self.inner.dm_discards(devno)
    }
    fn dm_refuse_discards(&self, devno: DevNo) -> Result<()> {
        self.time("dm refuse discards", &devno.to_string(), |host| host.dm_refuse_discards(devno))
    }
    fn dm_sectors_written(&self, devno: DevNo) -> Result<Sectors> {
        self.inner.dm_sectors_written(devno)
    }
}

impl<H: Blocks> Blocks for Stopwatch<H> {
    fn scan(&self) -> Result<Vec<BlockDevice>> {
        self.time("scan", "", |host| host.scan())
    }
    fn node(&self, devno: DevNo) -> Result<PathBuf> {
        self.inner.node(devno)
    }
    fn probe(&self, device: &Path) -> Result<Probe> {
        self.inner.probe(device)
    }
    fn read(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<Vec<u8>> {
        self.time("read", &format!("{} {offset} {len}", device.display()), |host| {
            host.read(device, offset, len)
        })
    }
    fn write(&self, device: &Path, offset: Bytes, data: &[u8]) -> Result<()> {
        self.time("write", &format!("{} {offset} {}", device.display(), data.len()), |host| {
            host.write(device, offset, data)
        })
    }
    fn copy(&self, from: (&Path, Bytes), to: (&Path, Bytes), len: Bytes) -> Result<()> {
        self.time("copy", "", |host| host.copy(from, to, len))
    }
    fn zero(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<()> {
        self.time("zero", "", |host| host.zero(device, offset, len))
    }
}

impl<H: Locks> Locks for Stopwatch<H> {
    fn lock_vg(&self, vg: &VgName) -> Result<Box<dyn VgLock>> {
        self.time("lock", "", |host| host.lock_vg(vg))
    }
    fn lock_global(&self) -> Result<Box<dyn VgLock>> {
        self.inner.lock_global()
    }
    fn invalidate_hints(&self) -> Result<()> {
        self.inner.invalidate_hints()
    }
}

impl<H: Notes> Notes for Stopwatch<H> {
    fn is_noted(&self, word: &str) -> Result<bool> {
        self.inner.is_noted(word)
    }
    fn note(&self, word: &str) -> Result<()> {
        self.inner.note(word)
    }
}

impl<H: Entropy> Entropy for Stopwatch<H> {
    fn now_unix_nanos(&self) -> u64 {
        self.inner.now_unix_nanos()
    }
    fn random(&self) -> [u8; 32] {
        self.inner.random()
    }
    fn host_name(&self) -> String {
        self.inner.host_name()
    }
    fn pause(&self, time: Duration) {
        self.inner.pause(time);
    }
}
