//! What is mounted: `/proc/PID/mountinfo`.
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! id parent dev root point  options  tags…   -  type source   super options
//! ```
//!
//! Sources: Linux `Documentation/filesystems/proc.rst` §3.5, `fs/proc_namespace.c` (escapes of blank, tab, newline,
//! backslash and, from 6.1 on, `#`).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::scan;
use crate::host::DevNo;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The device, or a made-up number with major 0 when there is none. The kernel shows such a number for Btrfs too; here
    /// it is that of the device.
    pub devno: DevNo,
    /// The directory of the file system that is mounted: `/` unless it is a bind mount of something below.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Options of this mount: `rw`, `noatime`.
    pub options: Vec<String>,
    /// Type of the file system.
    pub fs_type: String,
    /// What was mounted, as it was named then.
    pub source: PathBuf,
    /// Options of the file system, common to all its mounts.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether files cannot be changed through it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        [&self.options, &self.super_options].iter().any(|options| options.iter().any(|o| o == "ro"))
    }
}

/// Reads the mounts of a process: a number, or `self`.
pub(super) fn of_process(process: &str) -> io::Result<Vec<Mount>> {
    let mut mounts = parse(&std::fs::read(format!("/proc/{process}/mountinfo"))?)?;
    for mount in mounts.iter_mut().filter(|mount| mount.fs_type == "btrfs") {
        mount.devno = device_of(&mount.source).unwrap_or(mount.devno);
    }
    Ok(mounts)
}

/// Reads the kernel's list of mounts, in its order: a later mount at the same point hides an earlier.
///
/// # Errors
/// A line is not of the known form.
pub fn parse(bytes: &[u8]) -> io::Result<Vec<Mount>> {
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            parse_line(line).ok_or_else(|| {
                let why = format!("{:?} is not a line of mountinfo", String::from_utf8_lossy(line));
                io::Error::new(io::ErrorKind::InvalidData, why)
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    // An empty source leaves two blanks in a row, so words are what is between single blanks.
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = 6 + words.get(6..)?.iter().position(|word| *word == b"-")?;
    let [_, _, dev, root, point, options] = words.get(..6)? else { return None };
    let [fs_type, source, super_options] = words.get(dash + 1..)? else { return None };
    let (major, minor) = std::str::from_utf8(dev).ok()?.split_once(':')?;
    Some(Mount {
        devno: DevNo { major: major.parse().ok()?, minor: minor.parse().ok()? },
        root: path(root),
        point: path(point),
        options: list(options),
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        source: path(source),
        super_options: list(super_options),
    })
}

fn path(word: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(word)))
}

fn list(word: &[u8]) -> Vec<String> {
    word.split(|b| *b == b',').map(|o| String::from_utf8_lossy(&unescape(o)).into_owned()).collect()
}

/// `\040` is a blank: a backslash and three octal digits stand for a byte.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

/// The number of the block device at a path.
fn device_of(path: &Path) -> Option<DevNo> {
    if !path.is_absolute() {
        return None;
    }
    let meta = std::fs::metadata(path).ok()?;
    meta.file_type().is_block_device().then(|| scan::devno_of(meta.rdev()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
22 27 0:20 / /proc rw,relatime - proc proc rw
36 35 253:3 / /var/lib/kubelet/a\\040b\\134c rw,noatime shared:7 master:1 - ext4 /dev/dm-3 rw,errors=remount-ro
37 35 253:3 /sub /mnt ro,relatime - xfs /dev/dm-3 ro,nouuid,norecovery
38 35 0:44 / /srv rw - btrfs /dev/null rw,subvol=/
40 35 0:46 / /run/y rw - tmpfs  rw
";

    fn lines(text: &str) -> io::Result<Vec<Mount>> {
        parse(text.as_bytes())
    }

    #[test]
    fn mounts_are_read_with_their_escapes() {
        let mounts = lines(LINES).expect("parse");
        assert_eq!(mounts.len(), 5);
        let volume = &mounts[1];
        assert_eq!(volume.devno, DevNo { major: 253, minor: 3 });
        assert_eq!(volume.point, Path::new("/var/lib/kubelet/a b\\c"));
        assert_eq!(volume.fs_type, "ext4");
        assert_eq!(volume.source, Path::new("/dev/dm-3"));
        assert!(!volume.is_read_only());
        assert_eq!(volume.super_options, ["rw", "errors=remount-ro"]);
        assert_eq!(mounts[2].root, Path::new("/sub"));
        assert!(mounts[2].is_read_only());
        assert_eq!(mounts[4].source, Path::new(""));
    }

    #[test]
    fn what_is_not_a_line_of_mountinfo_is_an_error() {
        let odd = "36 35 0:45 / / rw -  tmpfs  rw";
        for text in [odd, "1 2 3", "36 35 x:y / / rw - ext4 /dev/a rw", "36 35 8:1 / / rw ext4 /dev/a rw"] {
            assert!(lines(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_mounts_of_this_process_are_read() {
        let own = of_process("self").expect("read");
        assert!(own.iter().any(|mount| mount.point == Path::new("/proc")));
    }

    #[test]
    fn a_backslash_without_three_digits_stands_for_itself() {
        assert_eq!(unescape(b"a\\04\\999\\\\040"), b"a\\04\\999\\ ");
    }
}
