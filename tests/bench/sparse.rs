//! Disks larger than the machine's memory, in which the guest's disks are: sparse files on file systems of theirs. What is
//! zeroed or discarded takes no room, as on a disk that is provisioned thinly.

use std::path::PathBuf;

use splitmirror::units::Bytes;

use crate::guest::Outcome;
use crate::lab::{self, say};

/// One disk of this size on each of these.
pub fn disks(on: &[PathBuf], size: Bytes) -> Outcome<Vec<PathBuf>> {
    on.iter().enumerate().map(|(n, disk)| sparse(n, disk, size)).collect()
}

fn sparse(n: usize, on: &std::path::Path, size: Bytes) -> Outcome<PathBuf> {
    let on = on.to_str().ok_or("a disk's name is no text")?;
    let dir = format!("/run/sparse{n}");
    // Without a journal: what is measured are the flushes of the volumes, not those of the file system below.
    lab::run("mkfs.ext4", &["-q", "-F", "-O", "^has_journal", on])?;
    lab::mkdir(&dir)?;
    lab::run("mount", &[on, &dir])?;
    let file = format!("{dir}/disk");
    std::fs::File::create(&file).and_then(|file| file.set_len(size.0)).map_err(say)?;
    lab::run("losetup", &["--find", "--show", "--direct-io=on", &file]).map(PathBuf::from)
}
