//! What is on a device, and who has it: asked before a device becomes a PV or gets a file system.
//!
//! The two ends of a device, 1 MiB each, must read as zeroes: all that marks a disk as somebody's, from a partition table
//! to a member of a ZFS pool, leaves a byte there. What is found is named, by `blkid` and by what is recognised here, so
//! that a person can judge. A disk that was only `wipefs`ed is not blank: its owner's data is still on it.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::blocks::{self, Access};
use super::direct::Direct;
use super::exec::{self, ExecError};
use super::users;
use crate::host::Probe;

/// How much of either end is looked at.
const END: u64 = 1 << 20;

const BLKID_TIME: Duration = Duration::from_secs(60);

/// Exit statuses of `blkid -p`.
const BLKID_FOUND: i32 = 0;
const BLKID_NOTHING: i32 = 2;
const BLKID_AMBIVALENT: i32 = 8;

/// Looks at a device without changing it.
pub(super) fn probe(sys: &Path, path: &Path) -> io::Result<Probe> {
    let device = blocks::open(path, Access::Read)?;
    Ok(Probe { in_use: user(sys, path, &device)?, signatures: signatures(path, &device)? })
}

/// Who has a device.
fn user(sys: &Path, path: &Path, device: &Direct) -> io::Result<Option<String>> {
    if let Some(user) = users::lasting(sys, blocks::devno(device.file())?) {
        return Ok(Some(user));
    }
    // The kernel refuses this while a file system, device-mapper or md has the device, or a partition of it.
    let exclusive = i32::try_from((OFlags::EXCL | OFlags::CLOEXEC).bits()).map_err(io::Error::other)?;
    match std::fs::OpenOptions::new().read(true).custom_flags(exclusive).open(path) {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(Some(
            "in exclusive use by the kernel or a process, itself or one of its partitions".to_owned(),
        )),
        Err(error) => Err(error),
    }
}

/// What is on a device, in words; empty when it is blank.
pub(super) fn signatures(path: &Path, device: &Direct) -> io::Result<Vec<String>> {
    let mut found = named_by_blkid(path).map_err(io::Error::other)?;
    let size = blocks::size_of(device.file())?;
    let head = device.read(0, size.min(END))?;
    let tail_start = size.saturating_sub(END).max(size.min(END));
    let tail = device.read(tail_start, size - tail_start)?;
    for name in recognised(&head, &tail, size) {
        if !found.iter().any(|other| other.starts_with(name)) {
            found.push(name.to_owned());
        }
    }
    if found.is_empty() {
        let first = first_byte(&head).or_else(|| first_byte(&tail).map(|at| at + tail_start));
        found.extend(first.map(|at| format!("unrecognised data at byte {at}")));
    }
    Ok(found)
}

/// The type of file system, and its label, or what else `blkid` calls the content.
fn named_by_blkid(path: &Path) -> Result<Vec<String>, ExecError> {
    let args = ["-p".as_ref(), "-o".as_ref(), "export".as_ref(), path.as_os_str()];
    let ended = match exec::run("blkid", &args, BLKID_TIME) {
        Ok(ended) => ended.expect_code(&[BLKID_FOUND, BLKID_NOTHING, BLKID_AMBIVALENT])?,
        // Nothing is overlooked without it, only named less well.
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(match ended.code() {
        Some(BLKID_AMBIVALENT) => vec!["several signatures that exclude each other".to_owned()],
        _ => blkid_names(&ended.stdout),
    })
}

/// Reads `KEY=value` lines.
fn blkid_names(export: &str) -> Vec<String> {
    let value = |key: &str| {
        export.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).filter(|v| !v.is_empty())
    };
    let mut names = Vec::new();
    if let Some(kind) = value("TYPE") {
        names.push(match value("LABEL") {
            Some(label) => format!("{kind} labelled {label:?}"),
            None => kind.to_owned(),
        });
    }
    names.extend(value("PTTYPE").map(|kind| format!("partition table {kind}")));
    names
}

/// The type `blkid` gives to the file system on a device, `None` when it finds none, or more than one.
pub(super) fn file_system(path: &Path) -> Result<Option<String>, ExecError> {
    let args = ["-p".as_ref(), "-o".as_ref(), "export".as_ref(), path.as_os_str()];
    let known = [BLKID_FOUND, BLKID_NOTHING, BLKID_AMBIVALENT];
    let ended = exec::run("blkid", &args, BLKID_TIME)?.expect_code(&known)?;
    Ok(ended.stdout.lines().find_map(|line| line.strip_prefix("TYPE=")).map(str::to_owned))
}

/// What must not be overlooked even where there is no `blkid`, under its names.
fn recognised(head: &[u8], tail: &[u8], size: u64) -> Vec<&'static str> {
    let is = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let md = 0xa92b_4efc_u32.to_le_bytes();
    // md keeps its superblock at the start (1.1), after 4 KiB (1.2), or near the end, aligned (1.0, 0.90).
    let at_end = |offset: u64| {
        let from_end = usize::try_from(size - offset).unwrap_or(usize::MAX);
        tail.len().checked_sub(from_end).is_some_and(|at| tail[at..].starts_with(&md))
    };
    let md_1_0 = (size & !0xfff).saturating_sub(8192);
    let md_0_90 = (size & !0xffff).saturating_sub(65536);
    let checks = [
        (
            "LVM2_member",
            (0..4).any(|sector| is(sector * 512, b"LABELONE") && is(sector * 512 + 24, b"LVM2 001")),
        ),
        ("linux_raid_member", is(0, &md) || is(4096, &md) || at_end(md_1_0) || at_end(md_0_90)),
        ("crypto_LUKS", is(0, b"LUKS\xba\xbe")),
        ("partition table gpt", is(512, b"EFI PART") || is(4096, b"EFI PART")),
        ("partition table dos", is(510, &[0x55, 0xaa])),
    ];
    checks.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

fn first_byte(bytes: &[u8]) -> Option<u64> {
    bytes.iter().position(|b| *b != 0).and_then(|at| u64::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkid_is_read_whatever_it_found() {
        let volume =
            "DEVNAME=/dev/dm-1\nLABEL=my data\nUUID=1-2\nBLOCK_SIZE=4096\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(blkid_names(volume), ["ext4 labelled \"my data\""]);
        assert_eq!(blkid_names("DEVNAME=/dev/sda\nPTUUID=77\nPTTYPE=gpt\n"), ["partition table gpt"]);
        assert!(blkid_names("").is_empty());
    }

    const LABEL: &[u8; 32] = b"LABELONE\x01\0\0\0\0\0\0\0\x12\x34\x56\x78\x20\0\0\0LVM2 001";

    #[test]
    fn a_label_that_wipefs_has_taken_the_type_from_is_no_label() {
        let mut head = vec![0; 4096];
        head[512..520].copy_from_slice(&LABEL[..8]);
        assert!(recognised(&head, &[], 4096).is_empty());
    }

    #[test]
    fn what_others_write_is_recognised() {
        const SIZE: u64 = 8 << 20;
        let end = usize::try_from(END).expect("small");
        let cases: [(&str, usize, &[u8]); 6] = [
            ("LVM2_member", 512, LABEL),
            ("linux_raid_member", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
            ("crypto_LUKS", 0, b"LUKS\xba\xbe"),
            ("partition table gpt", 4096, b"EFI PART"),
            ("partition table dos", 510, &[0x55, 0xaa]),
            ("linux_raid_member", end + end - 8192, &[0xfc, 0x4e, 0x2b, 0xa9]),
        ];
        for (name, at, magic) in cases {
            let mut both = vec![0; 2 * end];
            both[at..at + magic.len()].copy_from_slice(magic);
            let (head, tail) = both.split_at(end);
            assert_eq!(recognised(head, tail, SIZE), [name]);
        }
        assert!(recognised(&vec![0; end], &vec![0; end], SIZE).is_empty());
        assert!(recognised(&[], &[], 0).is_empty());
    }
}
