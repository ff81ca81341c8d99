//! Mounts in memory. Directories and files are real ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use splitmirror::csi::backend::{Error, Result};
use splitmirror::csi::capability::FsType;
use splitmirror::csi::node::mounts::{Before, Content, Mount, Mounts, Usage};
use splitmirror::host::DevNo;
use splitmirror::report::Class;
use splitmirror::units::Bytes;

/// Mounts in memory; clones are the same ones. Directories and files are real.
#[derive(Clone, Default)]
pub struct Kernel(Arc<Mutex<KernelState>>);

#[derive(Default)]
struct KernelState {
    table: Vec<Mount>,
    contents: HashMap<PathBuf, Content>,
    log: Vec<String>,
    /// The next format is cut off.
    power_cut: bool,
}

impl Kernel {
    fn state(&self) -> MutexGuard<'_, KernelState> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// What was done since this was last asked.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// Cuts the next format off.
    pub fn cut_next_format(&self) {
        self.state().power_cut = true;
    }

    /// Puts something on a device.
    pub fn write(&self, device: &Path, content: Content) {
        self.state().contents.insert(device.to_owned(), content);
    }

    /// Where something is mounted, and whether it can only be read.
    pub fn mounted(&self) -> Vec<(PathBuf, bool)> {
        self.state().table.iter().map(|mount| (mount.target.clone(), mount.read_only)).collect()
    }

    /// Mounts something foreign.
    pub fn occupy(&self, target: &Path) {
        let (source, root, fs) = (PathBuf::from("/dev/sda1"), PathBuf::from("/"), "ext4".to_owned());
        let devno = DevNo { major: 8, minor: 1 };
        let target = target.to_owned();
        self.state().table.push(Mount { source, root, target, fs, devno, read_only: false });
    }
}

fn minor(device: &Path) -> Option<u32> {
    device.to_str()?.strip_prefix("/dev/dm-")?.parse().ok()
}

fn kernel_error(what: &str) -> Error {
    Error::new(Class::Transient, what)
}

impl Mounts for Kernel {
    fn table(&self) -> Result<Vec<Mount>> {
        Ok(self.state().table.clone())
    }

    fn devno(&self, node: &Path) -> Result<Option<DevNo>> {
        Ok(minor(node).map(|minor| DevNo { major: 253, minor }))
    }

    fn mount(&self, device: &Path, target: &Path, fs: FsType, options: &[String]) -> Result<()> {
        let mut state = self.state();
        if state.contents.get(device) != Some(&Content::FileSystem(fs)) {
            return Err(kernel_error("EINVAL: wrong file system type"));
        }
        if !target.is_dir() {
            return Err(kernel_error("ENOTDIR"));
        }
        let minor = minor(device).ok_or_else(|| kernel_error("ENODEV"))?;
        let devno = match fs {
            FsType::Btrfs => DevNo { major: 0, minor: 40 + minor },
            FsType::Ext4 | FsType::Xfs => DevNo { major: 253, minor },
        };
        state.log.push(format!("mount {fs} {}", options.join(",")));
        let read_only = options.iter().any(|option| option == "ro");
        let (source, root) = (device.to_owned(), PathBuf::from("/"));
        state.table.push(Mount {
            source,
            root,
            target: target.to_owned(),
            fs: fs.to_string(),
            devno,
            read_only,
        });
        Ok(())
    }

    fn bind(&self, source: &Path, target: &Path) -> Result<()> {
        let mut state = self.state();
        let over = state.table.iter().rev().find(|mount| mount.target == source).cloned();
        let mount = match (over, minor(source)) {
            (Some(mount), _) if target.is_dir() => Mount { target: target.to_owned(), ..mount },
            (None, Some(minor)) if target.is_file() => Mount {
                source: PathBuf::from("devtmpfs"),
                root: PathBuf::from(format!("/dm-{minor}")),
                target: target.to_owned(),
                fs: "devtmpfs".to_owned(),
                devno: DevNo { major: 0, minor: 6 },
                read_only: false,
            },
            _ => {
                return Err(kernel_error(
                    "ENOTDIR: a file is not mounted on a directory nor the other way round",
                ));
            }
        };
        state.log.push("bind".to_owned());
        state.table.push(mount);
        Ok(())
    }

    fn make_read_only(&self, target: &Path) -> Result<()> {
        let mut state = self.state();
        state.log.push("make read-only".to_owned());
        let mount = state.table.iter_mut().rev().find(|mount| mount.target == target);
        mount.ok_or_else(|| kernel_error("EINVAL: not a mount point"))?.read_only = true;
        Ok(())
    }

    fn unmount(&self, target: &Path) -> Result<()> {
        let mut state = self.state();
        let top = state.table.iter().rposition(|mount| mount.target == target);
        let top = top.ok_or_else(|| kernel_error("EINVAL: not a mount point"))?;
        state.table.remove(top);
        state.log.push("unmount".to_owned());
        Ok(())
    }

    fn content(&self, device: &Path) -> Result<Content> {
        Ok(self.state().contents.get(device).cloned().unwrap_or(Content::Blank))
    }

    fn format(&self, device: &Path, fs: FsType, options: &[String], before: Before) -> Result<()> {
        let mut state = self.state();
        let blank = matches!(state.contents.get(device), None | Some(Content::Blank));
        assert!(blank || before == Before::Unfinished, "only what is blank is ever formatted");
        if std::mem::take(&mut state.power_cut) {
            state.contents.insert(device.to_owned(), Content::Other("half a file system".to_owned()));
            return Err(kernel_error("the power was cut"));
        }
        state.log.push(format!("mkfs.{fs} {}", options.join(" ")));
        state.contents.insert(device.to_owned(), Content::FileSystem(fs));
        Ok(())
    }

    fn check(&self, _: &Path, fs: FsType) -> Result<()> {
        self.state().log.push(format!("fsck.{fs}"));
        Ok(())
    }

    fn grow(&self, _: &Path, target: &Path, fs: FsType) -> Result<()> {
        let mut state = self.state();
        assert!(state.table.iter().any(|mount| mount.target == target), "only what is mounted is grown");
        state.log.push(format!("grow {fs}"));
        Ok(())
    }

    fn usage(&self, _: &Path) -> Result<(Usage, Option<Usage>)> {
        let inodes = Usage { total: 10, used: 1, available: 9 };
        Ok((Usage { total: 100, used: 40, available: 50 }, Some(inodes)))
    }

    fn size(&self, _: &Path) -> Result<Bytes> {
        Ok(Bytes::mib(64))
    }
}
