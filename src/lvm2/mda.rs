//! A metadata area: a header of one sector, then a ring in which each version of the text follows the one before.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | checksum of bytes 4 to 511 |
//! | 4 | 16 | magic |
//! | 20 | 4 | version: 1 |
//! | 24 | 8 | where this area starts on the device |
//! | 32 | 8 | its size |
//! | 40 | 24 | location of the committed text; all zero when there is none |
//! | 64 | 24 | location of a precommitted text; all zero when there is none |
//!
//! | offset in a location | size | meaning |
//! |---|---|---|
//! | 0 | 8 | where the text starts, from the start of the area |
//! | 8 | 8 | its length, with the NUL at its end |
//! | 16 | 4 | its checksum, NUL included |
//! | 20 | 4 | flags: bit 0 says that this area is not in use |
//!
//! ```text
//!  0        512                                                     size
//!  ├ header ┼───────────────┬── text 7 ──┬── text 8 ──┬─────────────┤     text 9 goes after text 8, on a sector;
//!           └──<── goes on here when it runs past the end ──<───────┘     with under 512 bytes left it starts at 512
//! ```
//!
//! Invariants: a new text shares no sector with the committed one ([`MdaHeader::place`] checks it again after the
//! arithmetic); all writes are whole sectors.
//!
//! Sources: LVM2 `lib/format_text/{layout.h,format-text.c}`; dumps of real PVs.

use crate::lvm2::crc::crc;
use crate::lvm2::label::{Area, SECTOR};
use crate::report::Class;
use crate::units::{Bytes, SECTOR_BYTES};

const MAGIC: [u8; 16] =
    [0x20, 0x4c, 0x56, 0x4d, 0x32, 0x20, 0x78, 0x5b, 0x35, 0x41, 0x25, 0x72, 0x30, 0x4e, 0x2a, 0x3e];
const VERSION: u32 = 1;
const FLAG_IGNORED: u32 = 1;

/// The header's size, and so where the ring starts.
const HEADER: Bytes = Bytes(SECTOR_BYTES);

/// Where a text is in its area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawLocation {
    /// Its start, from the start of the area; zero: there is none.
    pub offset: Bytes,
    /// Its length, with the NUL at its end.
    pub size: Bytes,
    /// Its checksum.
    pub crc: u32,
    /// Flags.
    pub flags: u32,
}

/// The header of a metadata area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MdaHeader {
    /// Where the area is.
    pub area: Area,
    /// Location of the committed text.
    pub committed: RawLocation,
    /// Location of a text that LVM2 has written but not committed. Of no meaning but to its writer.
    pub precommitted: RawLocation,
}

/// Why a metadata area cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MdaError {
    /// The sector was not read in full.
    #[error("the header of the metadata area at byte {} is {found} bytes long", at.0)]
    Short {
        /// Where the area is.
        at: Bytes,
        /// Bytes there are.
        found: usize,
    },
    /// It does not start on a sector.
    #[error("the metadata area at byte {} does not start on a sector", at.0)]
    Unaligned {
        /// Where the area is.
        at: Bytes,
    },
    /// The header's checksum is wrong.
    #[error("the header of the metadata area at byte {} has a wrong checksum", at.0)]
    Checksum {
        /// Where the area is.
        at: Bytes,
    },
    /// The magic or the version is wrong.
    #[error("there is no metadata area of version {VERSION} at byte {}", at.0)]
    Magic {
        /// Where it should be.
        at: Bytes,
    },
    /// It is another area's header.
    #[error(
        "the metadata area at byte {} ({} long) says that it is at {} ({} long)",
        label.offset.0, label.size.0, header.offset.0, header.size.0
    )]
    Place {
        /// The area as the label has it.
        label: Area,
        /// The area as its own header has it.
        header: Area,
    },
    /// The text does not lie in the area.
    #[error("the text of {} bytes at {} is not in its metadata area of {} bytes", size.0, offset.0, area.0)]
    Location {
        /// Its start.
        offset: Bytes,
        /// Its length.
        size: Bytes,
        /// The area's size.
        area: Bytes,
    },
    /// The text's checksum is wrong.
    #[error("the text at {} in the metadata area has a wrong checksum", offset.0)]
    Text {
        /// Its start.
        offset: Bytes,
    },
    /// The text is not UTF-8.
    #[error("the text at {} in the metadata area is not UTF-8", offset.0)]
    Encoding {
        /// Its start.
        offset: Bytes,
    },
}

impl MdaError {
    /// Damage; where another copy is good, the next write repairs it.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Corrupt
    }
}

/// Why a text has no place in an area.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// It is too large for two of its size to be there at once.
    #[error(
        "the metadata is {} bytes long, the metadata area takes {}: remove volumes, or use PVs made with a larger \
         --metadatasize",
        text.0, max.0
    )]
    TooLarge {
        /// The text's length.
        text: Bytes,
        /// The longest that is possible.
        max: Bytes,
    },
    /// The area is none that is written to: its size is no number of sectors, or there is no room beside what is
    /// there.
    #[error("the metadata area at byte {} ({} long) has no room beside the text in use", area.offset.0, area.size.0)]
    Unusable {
        /// The area.
        area: Area,
    },
}

impl PlaceError {
    /// Nothing helps but less metadata, or other disks.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } => Class::Exhausted,
            Self::Unusable { .. } => Class::Precondition,
        }
    }
}

/// Bytes for a place on a device, both in whole sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where on the device.
    pub offset: Bytes,
    /// What to write there.
    pub data: Vec<u8>,
}

impl MdaHeader {
    /// The header of an area without a text.
    #[must_use]
    pub fn empty(area: Area) -> Self {
        Self { area, committed: RawLocation::default(), precommitted: RawLocation::default() }
    }

    /// Reads the first sector of an area.
    ///
    /// # Errors
    /// It is damaged, or another area's.
    pub fn parse(sector: &[u8], area: Area) -> Result<Self, MdaError> {
        let at = area.offset;
        if !at.0.is_multiple_of(SECTOR_BYTES) {
            return Err(MdaError::Unaligned { at });
        }
        let sector: &[u8; SECTOR] = sector
            .get(..SECTOR)
            .and_then(|s| s.try_into().ok())
            .ok_or(MdaError::Short { at, found: sector.len() })?;
        let u32_at = |at: usize| u32::from_le_bytes(sub_array(sector, at));
        let u64_at = |at: usize| u64::from_le_bytes(sub_array(sector, at));
        if sub_array(sector, 4) != MAGIC || u32_at(20) != VERSION {
            return Err(MdaError::Magic { at });
        }
        if u32_at(0) != crc(&sector[4..]) {
            return Err(MdaError::Checksum { at });
        }
        let header = Area { offset: Bytes(u64_at(24)), size: Bytes(u64_at(32)) };
        if header != area {
            return Err(MdaError::Place { label: area, header });
        }
        let location = |at: usize| RawLocation {
            offset: Bytes(u64_at(at)),
            size: Bytes(u64_at(at + 8)),
            crc: u32_at(at + 16),
            flags: u32_at(at + 20),
        };
        Ok(Self { area, committed: location(40), precommitted: location(64) })
    }

    /// The sector to write.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut body = Vec::from(MAGIC);
        body.extend(VERSION.to_le_bytes());
        body.extend(self.area.offset.0.to_le_bytes());
        body.extend(self.area.size.0.to_le_bytes());
        for location in [&self.committed, &self.precommitted] {
            body.extend(location.offset.0.to_le_bytes());
            body.extend(location.size.0.to_le_bytes());
            body.extend(location.crc.to_le_bytes());
            body.extend(location.flags.to_le_bytes());
        }
        body.resize(SECTOR - 4, 0);
        let mut sector = crc(&body).to_le_bytes().to_vec();
        sector.extend(body);
        sector
    }

    /// The area is kept without a text on purpose (`pvchange --metadataignore y`, `vgchange --vgmetadatacopies`).
    #[must_use]
    pub fn is_ignored(&self) -> bool {
        self.committed.flags & FLAG_IGNORED != 0
    }

    /// The committed text, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<RawLocation> {
        (!self.is_ignored() && self.committed.offset > Bytes::ZERO).then_some(self.committed)
    }

    /// Where on the device the bytes of a text are: one part, or two when it runs past the end of the ring.
    ///
    /// # Errors
    /// It does not lie in the ring.
    pub fn pieces(&self, text: RawLocation) -> Result<Vec<Area>, MdaError> {
        let (start, len, area) = (text.offset.0, text.size.0, self.area.size.0);
        let bad = MdaError::Location { offset: text.offset, size: text.size, area: self.area.size };
        let ring = area.saturating_sub(HEADER.0);
        if start < HEADER.0 || start >= area || len == 0 || len > ring {
            return Err(bad);
        }
        // An area so near the end of the 64-bit range is in no device.
        if self.area.offset.0.checked_add(area).is_none() {
            return Err(bad);
        }
        let first = len.min(area - start);
        let mut pieces = vec![Area { offset: self.area.offset + text.offset, size: Bytes(first) }];
        if first < len {
            pieces.push(Area { offset: self.area.offset + HEADER, size: Bytes(len - first) });
        }
        Ok(pieces)
    }

    /// Checks a text that was read from its [`MdaHeader::pieces`], and drops its NUL.
    ///
    /// # Errors
    /// The checksum is wrong, or it is not UTF-8.
    pub fn check_text(text: RawLocation, mut bytes: Vec<u8>) -> Result<String, MdaError> {
        let right_size = u64::try_from(bytes.len()) == Ok(text.size.0);
        if !right_size || crc(&bytes) != text.crc {
            return Err(MdaError::Text { offset: text.offset });
        }
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        String::from_utf8(bytes).map_err(|_| MdaError::Encoding { offset: text.offset })
    }

    /// The longest text, NUL included, of which two fit.
    #[must_use]
    pub fn text_max(&self) -> Bytes {
        Bytes((self.area.size.0.saturating_sub(HEADER.0) / 2).saturating_sub(HEADER.0))
    }

    /// Places a text beside the committed one: the bytes to write, and the header that makes it the committed one.
    ///
    /// # Errors
    /// It has no room.
    pub fn place(&self, text: &str) -> Result<(Vec<Chunk>, Self), PlaceError> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        let len = Bytes(u64::try_from(bytes.len()).expect("a length fits 64 bits"));
        let max = self.text_max();
        if len > max {
            return Err(PlaceError::TooLarge { text: len, max });
        }
        let unusable = || PlaceError::Unusable { area: self.area };
        let area = self.area.size.0;
        if !area.is_multiple_of(SECTOR_BYTES) || !self.area.offset.0.is_multiple_of(SECTOR_BYTES) {
            return Err(unusable());
        }
        let current = self.text().map(|text| (text, self.pieces(text)));
        let offset = match &current {
            Some((text, Ok(_))) => {
                let end = text.offset.0 + text.size.0;
                let end = if end > area { end - area + HEADER.0 } else { end };
                let start = end.next_multiple_of(SECTOR_BYTES);
                if start + SECTOR_BYTES > area { HEADER.0 } else { start }
            }
            // Nothing is there, or what is there cannot be read anyway.
            Some((_, Err(_))) | None => HEADER.0,
        };
        let location =
            RawLocation { offset: Bytes(offset), size: len, crc: crc(&bytes), flags: self.committed.flags };
        let pieces = self.pieces(location).map_err(|_| unusable())?;
        if let Some((_, Ok(used))) = &current
            && pieces.iter().any(|new| used.iter().any(|old| share_sector(*new, *old)))
        {
            return Err(unusable());
        }
        let mut chunks = Vec::new();
        let mut rest = bytes.as_slice();
        for piece in pieces {
            let size = usize::try_from(piece.size.0).expect("it is part of a text in memory");
            let (head, tail) = rest.split_at(size);
            let mut data = head.to_vec();
            data.resize(size.next_multiple_of(SECTOR), 0);
            chunks.push(Chunk { offset: piece.offset, data });
            rest = tail;
        }
        let header = Self { committed: location, precommitted: RawLocation::default(), ..self.clone() };
        Ok((chunks, header))
    }
}

/// `N` bytes of a sector; the caller's offsets are constants within it.
fn sub_array<const N: usize>(sector: &[u8; SECTOR], at: usize) -> [u8; N] {
    sector[at..at + N].try_into().expect("the slice has this length")
}

/// Whether two parts of a device touch one sector.
fn share_sector(a: Area, b: Area) -> bool {
    let sectors = |area: Area| {
        (area.offset.0 / SECTOR_BYTES, (area.offset.0.saturating_add(area.size.0)).div_ceil(SECTOR_BYTES))
    };
    let ((a_start, a_end), (b_start, b_end)) = (sectors(a), sectors(b));
    a_start < b_end && b_start < a_end
}

#[cfg(test)]
mod tests;
