//! The words that LVM2 has for the state of groups, PVs and LVs, in the order in which it prints them.
//!
//! A group that belongs to one host (it has a system id, or a lock manager) is stored without `WRITE`, its LVs too,
//! and with the flag `WRITE_LOCKED` instead: versions of LVM2 that know of no owners then keep off. To everybody
//! else the flag means `WRITE`. So here it exists in the text only: the model says `WRITE`.
//!
//! Sources: LVM2 `lib/format_text/flags.c`, lvmsystemid(7); `tests/golden/lvm2/systemid.vg`.

/// Status words of a volume group.
pub(super) const VG: [&str; 8] =
    ["EXPORTED", "RESIZEABLE", "PVMOVE", "READ", "WRITE", "CLUSTERED", "SHARED", "PARTIAL"];

/// Status words of a PV.
pub(super) const PV: [&str; 3] = ["ALLOCATABLE", "EXPORTED", "MISSING"];

/// Status words of an LV.
pub(super) const LV: [&str; 14] = [
    "READ",
    "WRITE",
    "FIXED_MINOR",
    "VISIBLE",
    "PVMOVE",
    "LOCKED",
    "NOTSYNCED",
    "REBUILD",
    "RESHAPE",
    "RESHAPE_DATA_OFFSET",
    "RESHAPE_DELTA_DISKS_PLUS",
    "RESHAPE_DELTA_DISKS_MINUS",
    "REMOVE_AFTER_RESHAPE",
    "WRITEMOSTLY",
];

const WRITE: &str = "WRITE";
const WRITE_LOCKED: &str = "WRITE_LOCKED";

/// Puts words into LVM2's order.
pub(super) fn sort(status: &mut [String], order: &[&str]) {
    status.sort_by_key(|word| order.iter().position(|known| known == word));
}

/// From what is stored to what is meant.
pub(super) fn unlock(status: &mut Vec<String>, flags: &mut Vec<String>, order: &[&str]) {
    if flags.iter().any(|flag| flag == WRITE_LOCKED) {
        flags.retain(|flag| flag != WRITE_LOCKED);
        if !status.iter().any(|word| word == WRITE) {
            status.push(WRITE.to_owned());
        }
    }
    sort(status, order);
}

/// From what is meant to what is stored: status and flags, of a group that belongs to one host or of an LV in it.
pub(super) fn lock(status: &[String], flags: &[String], owned: bool) -> (Vec<String>, Vec<String>) {
    let (mut status, mut flags) = (status.to_vec(), flags.to_vec());
    if owned && status.iter().any(|word| word == WRITE) {
        status.retain(|word| word != WRITE);
        flags.insert(0, WRITE_LOCKED.to_owned());
    }
    (status, flags)
}
