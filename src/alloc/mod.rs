//! Extents: what is free, and where new legs go.
//!
//! Invariants: an extent is never given twice; two legs of one volume never share a disk; what [`largest`] promises,
//! [`allocate`] keeps, to the extent.
//!
//! Source for the habits (metadata first, the image directly behind it): LVM2 `lib/metadata/lv_manip.c`, and what
//! `lvcreate` of 2.03.16 was seen to do.

pub mod free;
pub mod policy;

pub use free::FreeMap;
pub use policy::{
    AllocError, LegExtents, Request, allocate, allocate_beside, capacity, grow, largest, meta_extents,
};

#[cfg(test)]
mod tests;
