//! Sizes that no disk can have.
//!
//! No number of sectors that follows from a group that was read exceeds [`SECTORS_MAX`], so that nobody has to fear
//! an overflow when extents become sectors and sectors become bytes.

use crate::lvm2::model::{SegmentKind, VolumeGroup};
use crate::lvm2::parse::{ParseError, Result};

/// The largest disk: its size in bytes fits 63 bits.
const SECTORS_MAX: u64 = 1 << 53;

/// Only sizes that a disk can have.
pub(super) fn require_possible(vg: &VolumeGroup) -> Result<()> {
    let fits = |sectors: u128| sectors <= u128::from(SECTORS_MAX);
    let sectors = |extents: u64| u128::from(extents) * u128::from(vg.extent_size.0);
    let wrong = |path: String, key: &str| ParseError::Wrong {
        section: format!("{}{path}", vg.name),
        key: key.to_owned(),
        wanted: "a size that a disk can have",
    };
    if !fits(vg.extent_size.0.into()) {
        return Err(wrong(String::new(), "extent_size"));
    }
    for pv in &vg.pvs {
        let path = || format!("/{}", pv.name);
        if !fits(pv.dev_size.0.into()) {
            return Err(wrong(path(), "dev_size"));
        }
        if !fits(u128::from(pv.pe_start.0) + sectors(pv.pe_count.0)) || !fits(pv.pe_count.0.into()) {
            return Err(wrong(path(), "pe_count"));
        }
    }
    for lv in &vg.lvs {
        for (segment, number) in lv.segments.iter().zip(1..) {
            let path = || format!("/{}/segment{number}", lv.name);
            let first = match &segment.kind {
                SegmentKind::Linear { first, .. } => first.0,
                SegmentKind::Raid1(raid) if !fits(raid.region_size.0.into()) => {
                    return Err(wrong(path(), "region_size"));
                }
                SegmentKind::Raid1(_) | SegmentKind::Error | SegmentKind::Other { .. } => 0,
            };
            let extents = [segment.start.0, segment.count.0, first];
            if extents.iter().any(|extents| !fits((*extents).into()) || !fits(sectors(*extents))) {
                return Err(wrong(path(), "extent_count"));
            }
        }
        if !fits(sectors(lv.extents().0)) {
            return Err(wrong(format!("/{}", lv.name), "segment_count"));
        }
    }
    Ok(())
}
