//! The disks of a guest: sparse files on the host, and a root file system of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

/// The ubd driver has places for eight.
pub const MAX_DISKS: usize = 8;

/// Some disks of one size. They outlive a boot; their files go with this value.
#[derive(Debug)]
pub struct Disks {
    dir: PathBuf,
    count: usize,
}

impl Disks {
    /// Makes blank disks in a new directory under `parent`.
    pub fn create(parent: &Path, count: usize, bytes: u64) -> Result<Self> {
        static SETS: AtomicU32 = AtomicU32::new(0);
        if count > MAX_DISKS {
            bail!("{count} disks asked for; a guest can have {MAX_DISKS}");
        }
        let dir = parent.join(format!("disks-{}", SETS.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let disks = Self { dir, count };
        for path in disks.files() {
            let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            file.set_len(bytes).with_context(|| format!("sizing {}", path.display()))?;
        }
        Ok(disks)
    }

    /// The files, in order.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.count).map(|n| self.dir.join(format!("disk{n}")))
    }

    /// What the guest calls them, in the same order, when so many other disks come first.
    pub fn guest_names(&self, after: usize) -> Vec<String> {
        ('a'..='h').skip(after).take(self.count).map(|letter| format!("/dev/ubd{letter}")).collect()
    }
}

/// The root file system of a guest. It outlives a boot.
#[derive(Debug)]
pub struct RootDisk {
    image: PathBuf,
    changes: Option<PathBuf>,
}

impl RootDisk {
    /// Changes to an image that several guests may share, which must stay as it is. They go with this value.
    pub fn changes_to(image: &Path, parent: &Path, name: &str) -> Result<Self> {
        let changes = parent.join(format!("{name}.changes"));
        if changes.exists() {
            bail!("{} is there already", changes.display());
        }
        Ok(Self { image: image.to_owned(), changes: Some(changes) })
    }

    /// An image that the guest writes to.
    pub fn image(image: &Path) -> Self {
        Self { image: image.to_owned(), changes: None }
    }

    /// How the ubd driver wants it told. The guest kernel makes the file of changes itself.
    pub(super) fn argument(&self) -> OsString {
        let mut text = OsString::new();
        if let Some(changes) = &self.changes {
            text.push(changes);
            text.push(",");
        }
        text.push(&self.image);
        text
    }
}

impl Drop for RootDisk {
    fn drop(&mut self) {
        let Some(changes) = &self.changes else { return };
        match fs::remove_file(changes) {
            Ok(()) => {}
            // It was never booted.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => eprintln!("xtask: leaving {} behind: {error}", changes.display()),
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("xtask: leaving {} behind: {error}", self.dir.display());
        }
    }
}

/// Reads a size like `512`, `64K`, `256M`, `2G` as bytes.
pub fn parse_size(text: &str) -> Result<u64> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let shift = match unit.trim_end_matches("iB") {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => bail!("`{text}` is not a size: a number, then K, M or G"),
    };
    let number: u64 = digits.parse().with_context(|| format!("`{text}` is not a size"))?;
    number.checked_mul(1 << shift).with_context(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("512").unwrap(), 512);
        assert_eq!(parse_size("64K").unwrap(), 64 << 10);
        assert_eq!(parse_size("256M").unwrap(), 256 << 20);
        assert_eq!(parse_size("2GiB").unwrap(), 2 << 30);
    }

    #[test]
    fn nonsense_is_no_size() {
        for text in ["", "M", "12Q", "1.5G", "99999999999G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
