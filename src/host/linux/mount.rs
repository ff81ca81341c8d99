//! Mounting.
//!
//! A target is opened before anything is done to it, without following a symbolic link at its end, and the kernel is
//! then given the open descriptor: what was checked is what is mounted on, whatever happens to the path
//! meanwhile. A mount at the end of a path is seen through: the target is then its root.
//!
//! Sources: `mount(2)`, `umount2(2)`, `open(2)` (`O_PATH`), util-linux `mount(8)` (names of flags).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

pub use super::mountinfo::{Mount, parse};
use super::{fail, mountinfo};
use crate::host::{DevNo, Result};

/// Options that the kernel takes as flags; `false`: the option takes the flag away.
const FLAGS: [(&str, MountFlags, bool); 25] = [
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nolazytime", MountFlags::LAZYTIME, false),
    ("nosymfollow", MountFlags::NOSYMFOLLOW, true),
    ("symfollow", MountFlags::NOSYMFOLLOW, false),
    ("silent", MountFlags::SILENT, true),
    ("loud", MountFlags::SILENT, false),
];

/// Options that would make `mount(2)` do something else, or that only `mount(8)` understands.
const REFUSED: [&str; 11] =
    ["bind", "rbind", "move", "remount", "shared", "private", "slave", "unbindable", "loop", "user", "users"];

/// Options of a bind mount that a change to read-only must not take away.
const KEPT: [(&str, MountFlags); 7] = [
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
    ("nosymfollow", MountFlags::NOSYMFOLLOW),
];

/// Mounts and unmounts below some directories.
#[derive(Clone, Debug, Default)]
pub struct Mounter {
    bases: Vec<PathBuf>,
}

impl Mounter {
    /// A mounter whose targets are inside one of these directories; anywhere when there are none.
    #[must_use]
    pub fn new(bases: Vec<PathBuf>) -> Self {
        Self { bases }
    }

    /// Mounts a file system with options as `mount -o` takes them. One that is mounted there already is covered.
    ///
    /// # Errors
    /// The target or an option is not acceptable, or the kernel refused.
    pub fn mount(&self, device: &Path, target: &Path, fs_type: &str, options: &[String]) -> Result<()> {
        let subject = || format!("{} at {} as {fs_type}, {options:?}", device.display(), target.display());
        let mounted = self.target(target).and_then(|target| {
            let (flags, data) = mount_options(options)?;
            Ok(rustix::mount::mount(device, &target.link, fs_type, flags, data.as_deref())?)
        });
        mounted.map_err(|error| fail("mount", subject())(error))
    }

    /// Shows a directory or file at a second place.
    ///
    /// # Errors
    /// The target is not acceptable, or the kernel refused.
    pub fn bind(&self, source: &Path, target: &Path) -> Result<()> {
        self.target(target)
            .and_then(|target| Ok(rustix::mount::mount_bind(source, &target.link)?))
            .map_err(fail("bind", format!("{} at {}", source.display(), target.display())))
    }

    /// Lets nothing be written through a mount; other mounts of the same file system stay as they are.
    ///
    /// # Errors
    /// Nothing is mounted there, or the kernel refused.
    pub fn make_read_only(&self, target: &Path) -> Result<()> {
        let remount = || -> io::Result<()> {
            let open = self.target(target)?;
            let table = table()?;
            let mount = mounted_at(&table, &open.real)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "nothing is mounted there"))?;
            let kept = KEPT.iter().filter(|(name, _)| mount.options.iter().any(|option| option == name));
            let kept = kept.fold(MountFlags::empty(), |all, (_, flag)| all | *flag);
            let flags = MountFlags::BIND | MountFlags::RDONLY | kept;
            Ok(rustix::mount::mount_remount(&open.link, flags, c"")?)
        };
        remount().map_err(fail("make read-only", target.display().to_string()))
    }

    /// Takes the topmost mount at a place away.
    ///
    /// # Errors
    /// Nothing is mounted there, it is busy, or the kernel refused.
    pub fn unmount(&self, target: &Path) -> Result<()> {
        // An open descriptor keeps a mount busy, so the kernel gets the path, and is told not to follow a link.
        self.target(target)
            .map(|target| target.real)
            .and_then(|real| Ok(rustix::mount::unmount(real, UnmountFlags::NOFOLLOW)?))
            .map_err(fail("unmount", target.display().to_string()))
    }

    /// All mounts of this process's namespace, in the order of mounting.
    ///
    /// # Errors
    /// The kernel's table could not be read.
    pub fn table(&self) -> Result<Vec<Mount>> {
        table().map_err(fail("read", "/proc/self/mountinfo"))
    }

    /// All mounts of the file system on a device.
    ///
    /// # Errors
    /// The kernel's table could not be read.
    pub fn mounts_of(&self, devno: DevNo) -> Result<Vec<Mount>> {
        let mut table = self.table()?;
        table.retain(|mount| mount.devno == devno);
        Ok(table)
    }

    /// Whether something is mounted at a path.
    ///
    /// # Errors
    /// The path is not there or not acceptable, or the kernel's table could not be read.
    pub fn is_mount_point(&self, path: &Path) -> Result<bool> {
        let found = || -> io::Result<bool> {
            let real = self.target(path)?.real;
            Ok(mounted_at(&table()?, &real).is_some())
        };
        found().map_err(fail("look at", path.display().to_string()))
    }

    /// Opens a target.
    fn target(&self, path: &Path) -> io::Result<Target> {
        let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why.to_owned()));
        if !path.is_absolute() {
            return refuse("the path is not absolute");
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return refuse("the path holds \"..\"");
        }
        if path.file_name().is_none() {
            return refuse("it is the root directory");
        }
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let link = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        // A symbolic link that is not followed is opened itself. A file system that has failed tells nothing of its root,
        // which must not keep it from being unmounted.
        let is_link =
            rustix::fs::fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink());
        if is_link {
            return refuse("it is a symbolic link");
        }
        let real = std::fs::read_link(&link)?;
        // Links above the end are followed: kubelet's directory is a link on some systems.
        let inside = |base: &PathBuf| {
            std::fs::canonicalize(base).is_ok_and(|base| real.starts_with(&base) && real != base)
        };
        if !self.bases.is_empty() && !self.bases.iter().any(inside) {
            return refuse("it is outside the directories that may be mounted on");
        }
        Ok(Target { _file: file, link, real })
    }
}

/// An open target.
struct Target {
    _file: OwnedFd,
    /// The path by which the kernel finds the open file.
    link: PathBuf,
    /// Its path as the kernel's table of mounts writes it.
    real: PathBuf,
}

/// The topmost mount at a path as the table writes it.
fn mounted_at<'a>(table: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    table.iter().rev().find(|mount| mount.point == point)
}

fn table() -> io::Result<Vec<Mount>> {
    mountinfo::of_process("self")
}

/// Sorts options into flags for the kernel and words for the file system.
fn mount_options(options: &[String]) -> io::Result<(MountFlags, Option<CString>)> {
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    let mut flags = MountFlags::empty();
    let mut words = Vec::new();
    for option in options.iter().flat_map(|options| options.split(',')).filter(|o| !o.is_empty()) {
        if REFUSED.contains(&option) {
            return refuse(format!("the option {option:?} is not for a mount of a volume"));
        }
        match FLAGS.iter().find(|(name, _, _)| *name == option) {
            Some((_, flag, on)) => flags.set(*flag, *on),
            None if option == "defaults" => {}
            None => words.push(option),
        }
    }
    if words.is_empty() {
        return Ok((flags, None));
    }
    match CString::new(words.join(",")) {
        Ok(data) => Ok((flags, Some(data))),
        Err(_) => refuse("an option holds a zero byte".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tempfile::TempDir;

    fn options(text: &[&str]) -> io::Result<(MountFlags, Option<CString>)> {
        mount_options(&text.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_sorted_into_flags_and_words() {
        let (flags, data) = options(&["defaults", "ro,noatime", "nouuid", "norecovery", ""]).expect("good");
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOATIME);
        assert_eq!(data.as_deref(), Some(c"nouuid,norecovery"));
        let (flags, data) = options(&["ro", "rw"]).expect("good");
        assert_eq!((flags, data), (MountFlags::empty(), None));
    }

    #[test]
    fn options_that_turn_the_call_into_another_are_refused() {
        for bad in ["bind", "remount,ro", "noatime,rbind", "a\0b"] {
            assert!(options(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn targets_that_are_not_plain_are_refused() {
        let dir = TempDir::new().expect("temporary directory");
        let base = std::fs::canonicalize(dir.path()).expect("canonical");
        std::fs::create_dir_all(base.join("in/a")).expect("directory");
        std::fs::create_dir(base.join("out")).expect("directory");
        std::os::unix::fs::symlink(base.join("in/a"), base.join("in/link")).expect("link");
        std::os::unix::fs::symlink(base.join("out"), base.join("in/away")).expect("link");
        std::os::unix::fs::symlink(base.join("in"), base.join("alias")).expect("link");
        std::fs::create_dir(base.join("out/b")).expect("directory");
        let mounter = Mounter::new(vec![base.join("alias")]);
        let real = |path: &str| mounter.target(&base.join(path)).map(|target| target.real);
        assert_eq!(real("in/a").expect("inside"), base.join("in/a"));
        assert_eq!(real("alias/a").expect("inside"), base.join("in/a"));
        for bad in ["in/link", "in/../in/a", "out/b", "in/away/b", "in/missing", "in"] {
            assert!(real(bad).is_err(), "{bad}");
        }
        assert!(mounter.target(Path::new("in/a")).is_err());
        assert!(Mounter::default().target(Path::new("/")).is_err());
        assert!(!Mounter::default().is_mount_point(&base.join("in/a")).expect("look"));
        assert!(Mounter::default().is_mount_point(Path::new("/proc")).expect("look"));
    }
}
