//! The label of a PV: which disk it is, and where its metadata areas are.
//!
//! One sector, among the first four of the device, normally the second. All numbers are little-endian.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 8 | `LABELONE` |
//! | 8 | 8 | number of this sector |
//! | 16 | 4 | checksum of bytes 20 to 511 |
//! | 20 | 4 | offset of the PV header in this sector: 32 |
//! | 24 | 8 | `LVM2 001` |
//! | 32 | 32 | the PV's id, without hyphens |
//! | 64 | 8 | size of the device in bytes |
//! | 72 | 16 n | data areas: offset, size in bytes; a zero pair ends the list; size 0 is "to the end" |
//! | … | 16 n | metadata areas: the same |
//! | … | 8 | extension: version, flags (bit 0: the PV is in a group) |
//! | … | 16 n | boot loader areas: the same |
//!
//! Invariant: [`Label::render`] of what [`Label::parse`] read is the same sector, when LVM2 wrote it.
//!
//! Sources: LVM2 `lib/label/label.c`, `lib/format_text/{layout.h,text_label.c}`; dumps of real PVs.

use crate::ids::LvmUuid;
use crate::lvm2::crc::crc;
use crate::report::Class;
use crate::units::{Bytes, SECTOR_BYTES};

/// Bytes in a sector, as an index.
pub(super) const SECTOR: usize = 512;

/// Sectors in which LVM2 looks for a label.
const SCAN_SECTORS: usize = 4;

const MAGIC: &[u8; 8] = b"LABELONE";
const KIND: &[u8; 8] = b"LVM2 001";
const HEADER_OFFSET: usize = 32;
const EXTENSION_VERSION: u32 = 2;
const FLAG_USED: u32 = 1;

/// Where the first metadata area of a fresh PV starts.
pub const MDA_START: Bytes = Bytes::kib(4);

/// Where the data of a fresh PV starts: extent 0.
pub const DATA_START: Bytes = Bytes::mib(1);

/// A part of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Area {
    /// Where it starts, from the start of the device.
    pub offset: Bytes,
    /// Its length; zero is "to the end of the device".
    pub size: Bytes,
}

/// What comes after the lists of areas since LVM2 2.02.95.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its version: 1 or 2.
    pub version: u32,
    /// Bit 0: the PV is in a group, even if no metadata area says so.
    pub flags: u32,
    /// Areas for boot loaders.
    pub bootloader: Vec<Area>,
}

/// The label of a PV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The sector it is in.
    pub sector: u64,
    /// The PV's identifier.
    pub pv: LvmUuid,
    /// Size of the device when the label was written.
    pub device_size: Bytes,
    /// Where data is.
    pub data: Vec<Area>,
    /// Where metadata is.
    pub metadata: Vec<Area>,
    /// The extension; very old PVs have none.
    pub extension: Option<Extension>,
}

/// Why a sector that begins like a label is not one that this program understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The checksum is wrong.
    #[error("the label in sector {sector} has the checksum {found:#010x}, its content has {computed:#010x}")]
    Checksum {
        /// The sector.
        sector: u64,
        /// In the label.
        found: u32,
        /// Of what is there.
        computed: u32,
    },
    /// It says that it is in another sector.
    #[error("the label in sector {sector} says that it is in sector {claimed}")]
    Place {
        /// The sector.
        sector: u64,
        /// The sector it claims.
        claimed: u64,
    },
    /// It is of a kind that is not understood.
    #[error("the label in sector {sector} is of the kind {kind:?}, not \"LVM2 001\"")]
    Kind {
        /// The sector.
        sector: u64,
        /// Its kind.
        kind: String,
    },
    /// A list or a header does not end within the sector.
    #[error("the label in sector {sector} is longer than its sector")]
    Length {
        /// The sector.
        sector: u64,
    },
    /// The extension is newer than what is understood.
    #[error(
        "the label in sector {sector} has an extension of version {version}; this program knows {EXTENSION_VERSION}"
    )]
    Newer {
        /// The sector.
        sector: u64,
        /// Its version.
        version: u32,
    },
    /// The PV's id is not one.
    #[error("the label in sector {sector} names no PV: {why}")]
    Id {
        /// The sector.
        sector: u64,
        /// Why not.
        why: String,
    },
}

impl LabelError {
    /// Damage, except where something newer may have been written on purpose.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Kind { .. } | Self::Newer { .. } => Class::Precondition,
            Self::Checksum { .. } | Self::Place { .. } | Self::Length { .. } | Self::Id { .. } => {
                Class::Corrupt
            }
        }
    }
}

type Result<T, E = LabelError> = std::result::Result<T, E>;

impl Label {
    /// A label for a device that was not a PV before: one metadata area up to 1 MiB, data from there to the end.
    #[must_use]
    pub fn fresh(pv: LvmUuid, device_size: Bytes, used: bool) -> Self {
        Self {
            sector: 1,
            pv,
            device_size,
            data: vec![Area { offset: DATA_START, size: Bytes::ZERO }],
            metadata: vec![Area { offset: MDA_START, size: DATA_START - MDA_START }],
            extension: Some(Extension {
                version: EXTENSION_VERSION,
                flags: if used { FLAG_USED } else { 0 },
                bootloader: Vec::new(),
            }),
        }
    }

    /// Looks for a label in the first four sectors of a device; `None` when there is none.
    ///
    /// # Errors
    /// There is something that begins like a label, none that is right, and this is what is wrong with the first.
    pub fn parse(first: &[u8]) -> Result<Option<Self>> {
        let mut failure = None;
        for (sector, number) in first.chunks_exact(SECTOR).take(SCAN_SECTORS).zip(0..) {
            if sector.starts_with(MAGIC) {
                match Self::parse_sector(sector, number) {
                    Ok(label) => return Ok(Some(label)),
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        failure.map_or(Ok(None), Err)
    }

    fn parse_sector(bytes: &[u8], sector: u64) -> Result<Self> {
        let mut reader = Reader { bytes, at: MAGIC.len(), sector };
        let claimed = reader.u64()?;
        let found = reader.u32()?;
        let computed = crc(bytes.get(20..).unwrap_or_default());
        if found != computed {
            return Err(LabelError::Checksum { sector, found, computed });
        }
        if claimed != sector {
            return Err(LabelError::Place { sector, claimed });
        }
        let header = reader.u32()?;
        let kind = reader.take::<8>()?;
        if &kind != KIND {
            return Err(LabelError::Kind { sector, kind: String::from_utf8_lossy(&kind).into_owned() });
        }
        reader.at = usize::try_from(header).map_err(|_| LabelError::Length { sector })?;
        let pv = LvmUuid::from_bytes(reader.take()?)
            .map_err(|error| LabelError::Id { sector, why: error.to_string() })?;
        let device_size = Bytes(reader.u64()?);
        let data = reader.areas()?;
        let metadata = reader.areas()?;
        let extension = reader.extension()?;
        Ok(Self { sector, pv, device_size, data, metadata, extension })
    }

    /// The sector to write.
    ///
    /// # Errors
    /// There are more areas than fit.
    pub fn render(&self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        body.extend(u32::try_from(HEADER_OFFSET).expect("32 fits").to_le_bytes());
        body.extend(KIND);
        body.extend(self.pv.as_bytes());
        body.extend(self.device_size.0.to_le_bytes());
        for list in [&self.data, &self.metadata] {
            push_areas(&mut body, list);
        }
        if let Some(extension) = &self.extension {
            body.extend(extension.version.to_le_bytes());
            body.extend(extension.flags.to_le_bytes());
            push_areas(&mut body, &extension.bootloader);
        }
        if body.len() > SECTOR - 20 {
            return Err(LabelError::Length { sector: self.sector });
        }
        body.resize(SECTOR - 20, 0);
        let mut sector = Vec::from(MAGIC);
        sector.extend(self.sector.to_le_bytes());
        sector.extend(crc(&body).to_le_bytes());
        sector.extend(body);
        Ok(sector)
    }

    /// Where on the device its sector is.
    #[must_use]
    pub fn offset(&self) -> Bytes {
        Bytes(self.sector) * SECTOR_BYTES
    }

    /// Whether the label says that the PV is in a group. `None`: it is too old to tell.
    #[must_use]
    pub fn is_used(&self) -> Option<bool> {
        self.extension.as_ref().filter(|e| e.version >= 2).map(|e| e.flags & FLAG_USED != 0)
    }

    /// The label with the flag "in a group" set or cleared; a very old one gets the extension for it.
    #[must_use]
    pub fn with_used(&self, used: bool) -> Self {
        let bootloader = self.extension.as_ref().map(|e| e.bootloader.clone()).unwrap_or_default();
        let flags = self.extension.as_ref().map_or(0, |e| e.flags);
        let flags = if used { flags | FLAG_USED } else { flags & !FLAG_USED };
        let extension = Some(Extension { version: EXTENSION_VERSION, flags, bootloader });
        Self { extension, ..self.clone() }
    }
}

fn push_areas(body: &mut Vec<u8>, areas: &[Area]) {
    for area in areas.iter().chain([&Area { offset: Bytes::ZERO, size: Bytes::ZERO }]) {
        body.extend(area.offset.0.to_le_bytes());
        body.extend(area.size.0.to_le_bytes());
    }
}

/// Takes numbers out of a sector, never past its end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    sector: u64,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let end = self.at.saturating_add(N);
        let taken = self.bytes.get(self.at..end).and_then(|slice| slice.try_into().ok());
        self.at = end;
        taken.ok_or(LabelError::Length { sector: self.sector })
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn areas(&mut self) -> Result<Vec<Area>> {
        let mut areas = Vec::new();
        loop {
            let area = Area { offset: Bytes(self.u64()?), size: Bytes(self.u64()?) };
            if area.offset == Bytes::ZERO {
                return Ok(areas);
            }
            areas.push(area);
        }
    }

    /// Zeroes after the metadata areas are "no extension".
    fn extension(&mut self) -> Result<Option<Extension>> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        match self.u32()? {
            0 => Ok(None),
            version @ 1..=EXTENSION_VERSION => {
                Ok(Some(Extension { version, flags: self.u32()?, bootloader: self.areas()? }))
            }
            version => Err(LabelError::Newer { sector: self.sector, version }),
        }
    }
}

#[cfg(test)]
mod tests;
