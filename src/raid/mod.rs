//! What dm-raid and dm-clone are told, what they answer, and what dm-raid leaves on the disks. Values only: nothing here touches a device.
//!
//! ```text
//! table       the constructor line            RaidTable  <-> TargetLine
//! status      the status line                 text        -> RaidStatus
//! superblock  byte 0 of a metadata LV         bytes      <-> Superblock
//! bitmap      byte 4096 of a metadata LV      bytes      <-> Bitmap
//! leg         both together                   bytes       -> LegMeta
//! clone       a clone's line and status       CloneTable <-> TargetLine, text -> CloneStatus
//! verdict     may this leg be trusted, merged by marks, or must it be copied whole?
//! ```
//!
//! Sources: kernel `Documentation/admin-guide/device-mapper/dm-raid.rst`, `drivers/md/{dm-raid,md,md-bitmap,raid1}.c`
//! (6.1, 7.2); LVM2 `libdm/libdm-deptree.c` for the order of a table's words.

pub mod bitmap;
pub mod clone;
pub mod leg;
pub mod status;
pub mod superblock;
pub mod table;
pub mod verdict;

pub use bitmap::{
    Bitmap, BitmapError, BitmapHeader, RegionSizeError, check_region_size, least_region_size, rmeta_len,
};
pub use clone::{CloneStatus, CloneTable, record_len};
pub use leg::{LegError, LegMeta};
pub use status::{Action, Health, RaidStatus, StatusError};
pub use superblock::{Superblock, SuperblockError};
pub use table::{LegDevs, RaidTable, TableError, linear, parse_linear};
pub use verdict::{
    Activation, Equalize, LastStop, LegRole, Merge, NotPinned, Plan, Refusal, Verdict, Why, at_activation,
    may_merge, merge_is_pinned, split_is_pinned,
};

#[cfg(test)]
mod tests;
