//! Who has a device.

use std::path::Path;

use super::mountinfo::{self, Mount};
use super::scan;
use crate::host::DevNo;

/// A user of the device that will not let go by itself: a mounted file system, a device on top, swap. `None` does not
/// mean that nobody has it open.
pub(super) fn lasting(sys: &Path, devno: DevNo) -> Option<String> {
    if let Some(mount) = mounts_seen().iter().find(|mount| mount.devno == devno) {
        return Some(format!("mounted at {}", mount.point.display()));
    }
    let device = scan::sys_device(sys, devno);
    let holders = scan::holders(&device);
    if !holders.is_empty() {
        return Some(format!("under {}", holders.join(", ")));
    }
    let name = std::fs::canonicalize(&device).ok()?.file_name()?.to_string_lossy().into_owned();
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    is_swap(&swaps, &name).then(|| "swap space".to_owned())
}

/// The mounts of this process and, where it can be seen, of the host's first process.
fn mounts_seen() -> Vec<Mount> {
    let mut mounts = mountinfo::of_process("self").unwrap_or_default();
    mounts.extend(mountinfo::of_process("1").unwrap_or_default());
    mounts
}

/// Whether `/proc/swaps` names a device: its first line is a heading, the first word of others a path.
fn is_swap(swaps: &str, name: &str) -> bool {
    swaps.lines().skip(1).any(|line| {
        line.split_ascii_whitespace().next().is_some_and(|path| path.rsplit('/').next() == Some(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_recognised_by_the_name_of_the_device() {
        let swaps =
            "Filename\t\t\t\tType\t\tSize\n/dev/dm-1                               partition\t999420\n";
        assert!(is_swap(swaps, "dm-1"));
        assert!(!is_swap(swaps, "dm-11"));
        assert!(!is_swap("", "dm-1"));
    }
}
