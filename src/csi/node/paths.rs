//! Paths that a request names: checked before anything is made, mounted or removed there.
//!
//! The caller is trusted to name places it owns, but a mistake of its must not become a mount over `/etc`: paths are
//! absolute, have no `..`, and what is at the end of one is never a symbolic link.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use crate::csi::backend::{Error, Result};
use crate::csi::limits;
use crate::report::Class;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A file, or a device node mounted on one.
    File,
}

/// Reads a path of a request: absolute, no `..`, not `/` itself.
///
/// # Errors
/// It is something else.
pub fn read(field: &str, path: &str) -> Result<PathBuf> {
    limits::path(field, path)?;
    let bad = |why: &str| Error::invalid(format!("{field} {path:?} {why}"));
    if path.contains('\0') {
        return Err(bad("holds a zero byte"));
    }
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(bad("is not absolute"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(bad("holds \"..\""));
    }
    if path.file_name().is_none() {
        return Err(bad("is the root directory"));
    }
    // Components drop doubled and trailing slashes, so that the path is written as the mount table writes it.
    Ok(path.components().collect())
}

/// The path as the mount table writes it: links above its last part are followed (kubelet's directory may be reached
/// through one), the last part is taken as it is.
///
/// # Errors
/// The directory above cannot be looked at.
pub fn real(path: &Path) -> Result<PathBuf> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.to_owned()) };
    match fs::canonicalize(above) {
        Ok(above) => Ok(above.join(name)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(path.to_owned())
        }
        Err(error) => Err(failed("look at", above, &error)),
    }
}

/// What is at a path now.
///
/// # Errors
/// A symbolic link, or something that is neither file nor directory; or it cannot be looked at.
pub fn look(path: &Path) -> Result<Found> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed("look at", path, &error)),
    };
    if kind.is_symlink() {
        return Err(Error::invalid(format!("{} is a symbolic link", path.display())));
    }
    if kind.is_dir() {
        Ok(Found::Directory)
    } else if kind.is_file() || kind.is_block_device() {
        Ok(Found::File)
    } else {
        Err(Error::invalid(format!("{} is neither a file nor a directory", path.display())))
    }
}

/// Makes a directory to mount on, unless it is there.
///
/// # Errors
/// Something else is there, or it cannot be made.
pub fn make_directory(path: &Path) -> Result<()> {
    match look(path)? {
        Found::Directory => Ok(()),
        Found::File => Err(Error::invalid(format!("{} is a file, not a directory", path.display()))),
        Found::Nothing => match DirBuilder::new().mode(0o750).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(failed("make directory", path, &error))
            }
            _ => Ok(()),
        },
    }
}

/// Makes an empty file to mount a device node on, unless it is there.
///
/// # Errors
/// Something else is there, or it cannot be made.
pub fn make_file(path: &Path) -> Result<()> {
    match look(path)? {
        Found::File => Ok(()),
        Found::Directory => Err(Error::invalid(format!("{} is a directory, not a file", path.display()))),
        Found::Nothing => match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("make file", path, &error)),
            _ => Ok(()),
        },
    }
}

/// Removes what was mounted on: an empty directory or file. What is gone is gone already.
///
/// # Errors
/// It is not empty, or cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match look(path)? {
        Found::Nothing => return Ok(()),
        Found::Directory => fs::remove_dir(path),
        Found::File => match fs::symlink_metadata(path).map(|found| found.len()) {
            Ok(0) => fs::remove_file(path),
            Ok(_) => return Err(Error::precondition(format!("{} is not empty: it stays", path.display()))),
            Err(error) => Err(error),
        },
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::new(Class::Transient, format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_absolute_paths_are_read() {
        for bad in
            ["", "some/path", "/a/../b", "/a/..", "/", "//", "/a\0b", &format!("/{}", "x".repeat(4096))]
        {
            assert!(read("target_path", bad).is_err(), "{bad:?}");
        }
        for (good, plain) in [("/a/b", "/a/b"), ("/a//b/", "/a/b"), ("/a/./b", "/a/b"), ("/a..b", "/a..b")] {
            assert_eq!(read("target_path", good), Ok(PathBuf::from(plain)));
        }
    }

    #[test]
    fn links_above_the_last_part_are_followed() {
        let dir = tempfile::tempdir().expect("a place for files");
        let plain = fs::canonicalize(dir.path()).expect("it exists");
        fs::create_dir(plain.join("real")).expect("fresh");
        std::os::unix::fs::symlink(plain.join("real"), plain.join("link")).expect("fresh");
        assert_eq!(real(&plain.join("link/target")), Ok(plain.join("real/target")));
        assert_eq!(real(&plain.join("link")), Ok(plain.join("link")));
        assert_eq!(real(Path::new("/nowhere/at/all")), Ok(PathBuf::from("/nowhere/at/all")));
    }

    #[test]
    fn links_are_refused_and_left() {
        let dir = tempfile::tempdir().expect("a place for files");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::create_dir(&target).expect("fresh");
        std::os::unix::fs::symlink(&target, &link).expect("fresh");
        for result in [make_directory(&link), make_file(&link), remove(&link)] {
            assert_eq!(result.expect_err("a link").class, Class::Invalid);
        }
        assert!(link.is_symlink() && target.is_dir());
    }

    #[test]
    fn what_is_made_is_removed_and_both_can_be_repeated() {
        let dir = tempfile::tempdir().expect("a place for files");
        let path = dir.path().join("target");
        for make in [make_directory, make_file] {
            make(&path).expect("nothing there");
            make(&path).expect("there already");
            remove(&path).expect("empty");
            remove(&path).expect("gone already");
            assert_eq!(look(&path), Ok(Found::Nothing));
        }
    }

    #[test]
    fn what_holds_something_stays() {
        let dir = tempfile::tempdir().expect("a place for files");
        let (full, file) = (dir.path().join("full"), dir.path().join("file"));
        fs::create_dir(&full).expect("fresh");
        fs::write(full.join("data"), "x").expect("fresh");
        fs::write(&file, "x").expect("fresh");
        assert!(remove(&full).is_err());
        assert_eq!(remove(&file).expect_err("not empty").class, Class::Precondition);
        assert!(file.is_file());
    }
}
