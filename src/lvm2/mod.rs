//! LVM2's metadata: bytes and strings <-> values, and what to write where so that no power cut can lose a group.
//!
//! Pure: no file, no clock, no chance. A shell reads what it is told to read, and writes what it is told to write.
//!
//! ```text
//!  device ──read──> label ──> mda (header, ring) ──> text (grammar) ──> model (VolumeGroup)
//!    ^                                                                      │ usable: may we touch it at all?
//!    │                                                                      v
//!    └──── commit (phases of writes) <──── check (no error found) <──── edit (VG -> VG)
//! ```
//!
//! * [`read`]: how a shell gets from a device to [`read::PvRead`] in one or two reads.
//! * [`group`]: from the PVs that were read to the volume groups on them, and which copy of the metadata counts.
//! * [`edit`]: changes to a group; [`check`]: an independent look at the result; [`commit`]: the writes.
//!
//! Sources: LVM2 `lib/format_text/`, `lib/label/`, `libdaemon`'s config grammar; observed on real disks.

mod bounds;
pub mod check;
pub mod commit;
pub mod crc;
pub mod edit;
pub mod extents;
pub mod group;
pub mod label;
pub mod mda;
pub mod model;
mod parse;
pub mod read;
mod render;
mod section;
pub mod text;
pub mod usable;
mod words;

pub use parse::{Gist, ParseError};
pub use render::Provenance;

#[cfg(test)]
mod tests;
