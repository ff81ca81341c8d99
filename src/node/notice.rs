//! Mounts that tell when they have changed, so that what is shown of a volume's use is never old.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::csi::backend::Result;
use crate::csi::capability::FsType;
use crate::csi::node::mounts::{Before, Content, Mount, Mounts, Usage};
use crate::host::DevNo;
use crate::units::Bytes;

/// Mounts, and who wants to know of changes.
#[derive(Debug)]
pub struct NoticedMounts<M> {
    inner: M,
    changed: Arc<Notify>,
}

impl<M: Mounts> NoticedMounts<M> {
    /// Tells `changed` of every mount that comes or goes.
    #[must_use]
    pub fn new(inner: M, changed: Arc<Notify>) -> Self {
        Self { inner, changed }
    }

    fn told<T>(&self, done: Result<T>) -> Result<T> {
        self.changed.notify_one();
        done
    }
}

impl<M: Mounts> Mounts for NoticedMounts<M> {
    fn table(&self) -> Result<Vec<Mount>> {
        self.inner.table()
    }

    fn devno(&self, node: &Path) -> Result<Option<DevNo>> {
        self.inner.devno(node)
    }

    fn mount(&self, device: &Path, target: &Path, fs: FsType, options: &[String]) -> Result<()> {
        self.told(self.inner.mount(device, target, fs, options))
    }

    fn bind(&self, source: &Path, target: &Path) -> Result<()> {
        self.told(self.inner.bind(source, target))
    }

    fn make_read_only(&self, target: &Path) -> Result<()> {
        self.inner.make_read_only(target)
    }

    fn unmount(&self, target: &Path) -> Result<()> {
        self.told(self.inner.unmount(target))
    }

    fn content(&self, device: &Path) -> Result<Content> {
        self.inner.content(device)
    }

    fn format(&self, device: &Path, fs: FsType, options: &[String], before: Before) -> Result<()> {
        self.inner.format(device, fs, options, before)
    }

    fn check(&self, device: &Path, fs: FsType) -> Result<()> {
        self.inner.check(device, fs)
    }

    fn grow(&self, device: &Path, target: &Path, fs: FsType) -> Result<()> {
        self.inner.grow(device, target, fs)
    }

    fn usage(&self, target: &Path) -> Result<(Usage, Option<Usage>)> {
        self.inner.usage(target)
    }

    fn size(&self, device: &Path) -> Result<Bytes> {
        self.inner.size(device)
    }
}
