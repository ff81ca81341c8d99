//! A host that stops working at a chosen call.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use splitmirror::host::{
    BlockDevice, Blocks, DevNo, DeviceMapper, DmEntry, DmInfo, Entropy, Freeze, Locks, Notes, Probe, Result,
    TargetLine, Udev, VgLock,
};
use splitmirror::ids::{DmId, VgName};
use splitmirror::units::{Bytes, Sectors};

/// What happens at the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process dies: nothing of it is left but what it did to the kernel and the disks.
    Death,
    /// The runner is told, and takes the power away.
    Power,
}

/// Counts the calls that change something, and ends it all before one of them.
#[derive(Debug)]
pub struct Cutter {
    at: u64,
    end: End,
    made: AtomicU64,
}

impl Cutter {
    pub fn die_at(at: u64) -> Self {
        Self { at, end: End::Death, made: AtomicU64::new(0) }
    }

    pub fn power_at(at: u64) -> Self {
        Self { at, end: End::Power, made: AtomicU64::new(0) }
    }

    fn moment(&self) {
        if self.made.fetch_add(1, Ordering::SeqCst) != self.at {
            return;
        }
        match self.end {
            End::Death => std::panic::panic_any(Died),
            End::Power => {
                println!("@@CUT {}", self.at);
                loop {
                    std::thread::park();
                }
            }
        }
    }
}

struct Died;

/// Runs something that may die; `None` when it did.
pub fn survive<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    drop(std::panic::take_hook());
    match done {
        Ok(done) => Some(done),
        Err(payload) if payload.is::<Died>() => None,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// A host that is cut.
#[derive(Debug)]
pub struct CutHost<H> {
    inner: H,
    cutter: Cutter,
}

impl<H> CutHost<H> {
    pub fn new(inner: H, cutter: Cutter) -> Self {
        Self { inner, cutter }
    }

    /// How many moments there were at which it could have been cut.
    pub fn moments(&self) -> u64 {
        self.cutter.made.load(Ordering::SeqCst)
    }

    /// Before each call there is a moment at which it can end: that is also the moment after the last.
    fn around<T>(&self, call: impl FnOnce(&H) -> Result<T>) -> Result<T> {
        self.cutter.moment();
        call(&self.inner)
    }
}

impl<H: DeviceMapper> DeviceMapper for CutHost<H> {
    fn dm_list(&self) -> Result<Vec<DmEntry>> {
        self.inner.dm_list()
    }
    fn dm_info(&self, name: &str) -> Result<Option<DmInfo>> {
        self.inner.dm_info(name)
    }
    fn dm_look(&self, name: &str) -> Result<Option<(DmInfo, Vec<TargetLine>)>> {
        self.inner.dm_look(name)
    }
    fn dm_status(&self, name: &str) -> Result<Vec<TargetLine>> {
        self.inner.dm_status(name)
    }
    fn dm_create(&self, id: &DmId) -> Result<()> {
        self.around(|host| host.dm_create(id))
    }
    fn dm_load(&self, name: &str, table: &[TargetLine], read_only: bool) -> Result<()> {
        self.around(|host| host.dm_load(name, table, read_only))
    }
    fn dm_clear(&self, name: &str) -> Result<()> {
        self.around(|host| host.dm_clear(name))
    }
    fn dm_suspend(&self, name: &str, freeze: Freeze) -> Result<()> {
        self.around(|host| host.dm_suspend(name, freeze))
    }
    fn dm_resume(&self, name: &str, udev: Udev) -> Result<()> {
        self.around(|host| host.dm_resume(name, udev))
    }
    fn dm_remove(&self, name: &str) -> Result<()> {
        self.around(|host| host.dm_remove(name))
    }
    fn dm_protect(&self, name: &str) -> Result<()> {
        self.around(|host| host.dm_protect(name))
    }
    fn dm_rename(&self, name: &str, new_name: &str, udev: Udev) -> Result<()> {
        self.around(|host| host.dm_rename(name, new_name, udev))
    }
    fn dm_message(&self, name: &str, message: &str) -> Result<()> {
        self.around(|host| host.dm_message(name, message))
    }
    fn dm_discards(&self, devno: DevNo) -> Result<bool> {
        self.inner.dm_discards(devno)
    }
    fn dm_refuse_discards(&self, devno: DevNo) -> Result<()> {
        self.around(|host| host.dm_refuse_discards(devno))
    }
    fn dm_sectors_written(&self, devno: DevNo) -> Result<Sectors> {
        self.inner.dm_sectors_written(devno)
    }
}

impl<H: Blocks> Blocks for CutHost<H> {
    fn scan(&self) -> Result<Vec<BlockDevice>> {
        self.inner.scan()
    }
    fn node(&self, devno: DevNo) -> Result<PathBuf> {
        self.inner.node(devno)
    }
    fn probe(&self, device: &Path) -> Result<Probe> {
        self.inner.probe(device)
    }
    fn read(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<Vec<u8>> {
        self.inner.read(device, offset, len)
    }
    fn write(&self, device: &Path, offset: Bytes, data: &[u8]) -> Result<()> {
        self.around(|host| host.write(device, offset, data))
    }
    fn copy(&self, from: (&Path, Bytes), to: (&Path, Bytes), len: Bytes) -> Result<()> {
        // In parts, so that it can end half-way.
        (0..len.0).step_by(1 << 20).map(Bytes).try_for_each(|done| {
            let part = Bytes::mib(1).min(len - done);
            self.around(|host| host.copy((from.0, from.1 + done), (to.0, to.1 + done), part))
        })
    }
    fn zero(&self, device: &Path, offset: Bytes, len: Bytes) -> Result<()> {
        self.around(|host| host.zero(device, offset, len))
    }
}

impl<H: Locks> Locks for CutHost<H> {
    fn lock_vg(&self, vg: &VgName) -> Result<Box<dyn VgLock>> {
        self.inner.lock_vg(vg)
    }
    fn lock_global(&self) -> Result<Box<dyn VgLock>> {
        self.inner.lock_global()
    }
    fn invalidate_hints(&self) -> Result<()> {
        self.inner.invalidate_hints()
    }
}

impl<H: Notes> Notes for CutHost<H> {
    fn is_noted(&self, word: &str) -> Result<bool> {
        self.inner.is_noted(word)
    }
    fn note(&self, word: &str) -> Result<()> {
        self.around(|host| host.note(word))
    }
}

impl<H: Entropy> Entropy for CutHost<H> {
    fn now_unix_nanos(&self) -> u64 {
        self.inner.now_unix_nanos()
    }
    fn random(&self) -> [u8; 32] {
        self.inner.random()
    }
    fn host_name(&self) -> String {
        self.inner.host_name()
    }
    fn pause(&self, time: std::time::Duration) {
        self.inner.pause(time);
    }
}
