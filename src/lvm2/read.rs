//! How a shell gets from a device to what is on it.
//!
//! The shell lends a function that reads bytes; all decisions are made here, and they need two reads per PV: one of
//! [`HEAD`] bytes for the label and the header of the first metadata area, one for the text. A shell that kept the
//! [`PvHead`] of last time reads the first again, compares, and is done when they are equal.
//!
//! ```text
//!  0      512     4096          8192
//!  ├──────┼ label ┼ mda header ──┼───────> text, wherever the header says
//!  └───────── first read ────────┘
//! ```
//!
//! All reads are whole sectors.

use std::sync::Arc;

use crate::lvm2::label::{Area, Label, LabelError, SECTOR};
use crate::lvm2::mda::{MdaError, MdaHeader, RawLocation};
use crate::lvm2::model::VolumeGroup;
use crate::lvm2::parse::{Gist, ParseError};
use crate::units::{Bytes, SECTOR_BYTES};

/// Length of the first read.
pub const HEAD: Bytes = Bytes::kib(8);

/// Why a device was not read to its end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E: std::error::Error + 'static> {
    /// The shell's read failed.
    #[error("the device cannot be read")]
    Io(#[source] E),
    /// There is a label that is damaged or not understood.
    #[error("the PV label is not usable")]
    Label(#[source] LabelError),
}

/// Label and headers of a PV: enough to see whether anything has changed since last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PvHead {
    /// The label.
    pub label: Label,
    /// The header of each metadata area, or what is wrong with it.
    pub mdas: Vec<(Area, Result<MdaHeader, MdaError>)>,
}

/// All that a PV holds of metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct PvRead {
    /// The label.
    pub label: Label,
    /// Its metadata areas, in the order of the label.
    pub mdas: Vec<MdaRead>,
}

/// What a metadata area holds.
#[derive(Clone, Debug, PartialEq)]
pub struct MdaRead {
    /// Where it is.
    pub area: Area,
    /// What it holds.
    pub state: MdaState,
}

/// What a metadata area holds.
#[derive(Clone, Debug, PartialEq)]
pub enum MdaState {
    /// The header is damaged: nothing is known of the ring.
    Damaged(MdaError),
    /// It is kept without a text on purpose.
    Ignored(MdaHeader),
    /// No text: the PV is in no group, or joins one just now.
    Empty(MdaHeader),
    /// The header names a text that is damaged.
    Torn(MdaHeader, MdaError),
    /// The text is whole, but not understood. It may be the newest, so nothing is changed beside it.
    Strange(MdaHeader, Option<Gist>, ParseError),
    /// A version of a group.
    Text(MdaHeader, Arc<VolumeGroup>),
}

/// Texts that are understood already. The copies of a version on all PVs are the same text: it is parsed once, and what
/// it says is held in memory once.
#[derive(Clone, Debug, Default)]
pub struct Texts(Vec<(String, Arc<VolumeGroup>)>);

impl Texts {
    /// One text, and what parsing it gives.
    #[must_use]
    pub fn of(text: String, vg: Arc<VolumeGroup>) -> Self {
        Self(vec![(text, vg)])
    }

    fn parse(&mut self, text: &str) -> Result<Arc<VolumeGroup>, ParseError> {
        if let Some((_, vg)) = self.0.iter().find(|(known, _)| known == text) {
            return Ok(Arc::clone(vg));
        }
        let vg = Arc::new(VolumeGroup::parse(text)?);
        self.0.push((text.to_owned(), Arc::clone(&vg)));
        Ok(vg)
    }
}

impl MdaState {
    /// The header, when it is whole.
    #[must_use]
    pub fn header(&self) -> Option<&MdaHeader> {
        match self {
            Self::Damaged(_) => None,
            Self::Ignored(header)
            | Self::Empty(header)
            | Self::Torn(header, _)
            | Self::Strange(header, ..)
            | Self::Text(header, _) => Some(header),
        }
    }
}

impl PvHead {
    /// Reads label and headers; `None`: the device has no label. `read` takes offset and length in whole sectors and
    /// may give less only at the end of the device.
    ///
    /// # Errors
    /// A read failed, or the label is not usable.
    pub fn read<E: std::error::Error>(
        mut read: impl FnMut(Bytes, Bytes) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Self>, ReadError<E>> {
        let head = read(Bytes::ZERO, HEAD).map_err(ReadError::Io)?;
        let Some(label) = Label::parse(&head).map_err(ReadError::Label)? else { return Ok(None) };
        let mut mdas = Vec::new();
        for area in label.metadata.clone() {
            let known =
                usize::try_from(area.offset.0).ok().and_then(|at| head.get(at..at.checked_add(SECTOR)?));
            let header = match known {
                Some(sector) => MdaHeader::parse(sector, area),
                None if !area.offset.0.is_multiple_of(SECTOR_BYTES) => {
                    Err(MdaError::Unaligned { at: area.offset })
                }
                None => {
                    let sector = read(area.offset, Bytes(SECTOR_BYTES)).map_err(ReadError::Io)?;
                    MdaHeader::parse(&sector, area)
                }
            };
            mdas.push((area, header));
        }
        Ok(Some(Self { label, mdas }))
    }

    /// Reads the texts that the headers name; those in `known` are not parsed again.
    ///
    /// # Errors
    /// A read failed.
    pub fn read_texts<E: std::error::Error>(
        self,
        known: &mut Texts,
        mut read: impl FnMut(Bytes, Bytes) -> Result<Vec<u8>, E>,
    ) -> Result<PvRead, ReadError<E>> {
        let mut mdas = Vec::new();
        for (area, header) in self.mdas {
            let state = match header {
                Err(error) => MdaState::Damaged(error),
                Ok(header) if header.is_ignored() => MdaState::Ignored(header),
                Ok(header) => match header.text() {
                    None => MdaState::Empty(header),
                    Some(text) => read_text(header, text, known, &mut read).map_err(ReadError::Io)?,
                },
            };
            mdas.push(MdaRead { area, state });
        }
        Ok(PvRead { label: self.label, mdas })
    }
}

impl PvRead {
    /// Reads all at once; `None`: the device has no label.
    ///
    /// # Errors
    /// A read failed, or the label is not usable.
    pub fn read<E: std::error::Error>(
        mut read: impl FnMut(Bytes, Bytes) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Self>, ReadError<E>> {
        PvHead::read(&mut read)?.map(|head| head.read_texts(&mut Texts::default(), &mut read)).transpose()
    }
}

fn read_text<E>(
    header: MdaHeader,
    location: RawLocation,
    known: &mut Texts,
    read: &mut impl FnMut(Bytes, Bytes) -> Result<Vec<u8>, E>,
) -> Result<MdaState, E> {
    let pieces = match header.pieces(location) {
        Ok(pieces) => pieces,
        Err(error) => return Ok(MdaState::Torn(header, error)),
    };
    let mut bytes = Vec::new();
    for piece in pieces {
        let start = piece.offset.0 / SECTOR_BYTES * SECTOR_BYTES;
        let skip = piece.offset.0 - start;
        let len = (skip + piece.size.0).next_multiple_of(SECTOR_BYTES);
        let sectors = read(Bytes(start), Bytes(len))?;
        let take = usize::try_from(piece.size.0).unwrap_or(usize::MAX);
        bytes.extend(sectors.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).take(take));
    }
    Ok(match MdaHeader::check_text(location, bytes) {
        Err(error) => MdaState::Torn(header, error),
        Ok(text) => match known.parse(&text) {
            Ok(vg) => MdaState::Text(header, vg),
            Err(error) => MdaState::Strange(header, Gist::of(&text), error),
        },
    })
}
