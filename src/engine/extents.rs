//! From an LV's extents to places on disks.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::engine::group::{Group, GroupError};
use crate::host::{BlockDevice, Host, HostError, TargetLine};
use crate::lvm2::model::{LogicalVolume, SegmentKind};
use crate::raid;
use crate::units::{Bytes, Sectors};

/// A run of an LV's extents on one PV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The PV's name inside the metadata.
    pub pv: String,
    /// Where it starts on the device.
    pub offset: Sectors,
    /// Its length.
    pub len: Sectors,
}

impl Group {
    /// Where an LV made of linear segments lies; a segment of another kind gives nothing.
    #[must_use]
    pub fn pieces_of(&self, lv: &LogicalVolume) -> Vec<Piece> {
        let extent = self.vg().extent_size;
        lv.segments
            .iter()
            .filter_map(|segment| match &segment.kind {
                SegmentKind::Linear { pv, first } => Some(Piece {
                    offset: self.vg().pv(pv)?.pe_start + first.sectors(extent),
                    len: segment.count.sectors(extent),
                    pv: pv.clone(),
                }),
                SegmentKind::Raid1(_) | SegmentKind::Error | SegmentKind::Other { .. } => None,
            })
            .collect()
    }

    /// Whether all of an LV's extents are on disks that are there.
    #[must_use]
    pub fn is_present(&self, lv: &LogicalVolume) -> bool {
        let pieces = self.pieces_of(lv);
        pieces.len() == lv.segments.len() && pieces.iter().all(|piece| self.device(&piece.pv).is_some())
    }

    /// The device-mapper table of a linear LV.
    ///
    /// # Errors
    /// A disk it needs is missing.
    pub fn linear_table(&self, lv: &LogicalVolume) -> Result<Vec<TargetLine>, GroupError> {
        let runs = self
            .pieces_of(lv)
            .iter()
            .map(|piece| Ok((piece.len, self.need(&piece.pv)?.devno, piece.offset)))
            .collect::<Result<Vec<_>, GroupError>>()?;
        Ok(raid::linear(&runs))
    }

    fn need(&self, pv: &str) -> Result<&BlockDevice, GroupError> {
        self.device(pv).ok_or_else(|| GroupError::MissingPv {
            vg: self.vg().name.clone(),
            pv: self.vg().pv(pv).map_or_else(|| pv.to_owned(), |pv| pv.device.clone()),
        })
    }

    /// The places of a byte range of an LV.
    fn places(
        &self,
        lv: &LogicalVolume,
        at: Bytes,
        len: Bytes,
    ) -> Result<Vec<(PathBuf, Bytes, Bytes)>, GroupError> {
        let end = at + len;
        let mut places = Vec::new();
        let mut start = Bytes::ZERO;
        for piece in self.pieces_of(lv) {
            let piece_end = start + piece.len.bytes();
            let (from, to) = (at.max(start), end.min(piece_end));
            if from < to {
                let device = self.need(&piece.pv)?;
                places.push((device.path.clone(), piece.offset.bytes() + (from - start), to - from));
            }
            start = piece_end;
        }
        Ok(places)
    }

    /// Reads bytes of an LV from its disks, past device-mapper and every cache.
    ///
    /// # Errors
    /// A disk is missing, or a read failed.
    pub fn read_lv<H: Host>(
        &self,
        host: &H,
        lv: &LogicalVolume,
        at: Bytes,
        len: Bytes,
    ) -> Result<Vec<u8>, GroupError> {
        let mut bytes = Vec::new();
        for (path, offset, len) in self.places(lv, at, len)? {
            bytes.extend(host.read(&path, offset, len)?);
        }
        Ok(bytes)
    }

    /// Copies bytes of an LV from its disks to the same place of a device.
    ///
    /// # Errors
    /// A disk is missing, or a read or a write failed.
    pub fn copy_lv<H: Host>(
        &self,
        host: &H,
        lv: &LogicalVolume,
        range: &Range<Bytes>,
        to: &Path,
    ) -> Result<(), GroupError> {
        let mut at = range.start;
        for (path, offset, len) in self.places(lv, at, range.end - at)? {
            host.copy((&path, offset), (to, at), len)?;
            at += len;
        }
        Ok(())
    }

    /// Writes bytes of an LV to its disks, past device-mapper and every cache.
    ///
    /// # Errors
    /// A disk is missing, or a write failed.
    pub fn write_lv<H: Host>(
        &self,
        host: &H,
        lv: &LogicalVolume,
        at: Bytes,
        data: &[u8],
    ) -> Result<(), GroupError> {
        let mut rest = data;
        let len = Bytes(u64::try_from(data.len()).expect("a slice's length fits 64 bits"));
        for (path, offset, len) in self.places(lv, at, len)? {
            let (now, later) = rest.split_at(usize::try_from(len.0).expect("no longer than the slice"));
            host.write(&path, offset, now)?;
            rest = later;
        }
        Ok(())
    }

    /// Zeroes a byte range of an LV on its disks.
    ///
    /// # Errors
    /// A disk is missing, or a write failed.
    pub fn zero_lv<H: Host>(
        &self,
        host: &H,
        lv: &LogicalVolume,
        at: Bytes,
        len: Bytes,
    ) -> Result<(), GroupError> {
        for (path, offset, len) in self.places(lv, at, len)? {
            host.zero(&path, offset, len).map_err(|error: HostError| GroupError::from(error))?;
        }
        Ok(())
    }
}
