//! What one metadata LV says: its superblock and its bitmap together.

use crate::raid::bitmap::{Bitmap, BitmapError};
use crate::raid::superblock::{Superblock, SuperblockError};
use crate::report::Class;
use crate::units::Sectors;

/// What one metadata LV says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegMeta {
    /// `None` on a leg that was never started.
    pub superblock: Option<Superblock>,
    /// `None` on a leg that was never started, or whose bitmap has no magic; the kernel refuses the latter.
    pub bitmap: Option<Bitmap>,
}

/// Why a metadata LV cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LegError {
    /// Its superblock.
    #[error("superblock")]
    Superblock(#[from] SuperblockError),
    /// Its bitmap.
    #[error("bitmap")]
    Bitmap(#[from] BitmapError),
}

impl LegError {
    /// What the caller can do: look, and change nothing.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Corrupt
    }
}

impl LegMeta {
    /// Reads the first [`super::rmeta_len`] bytes of a metadata LV of an array of this length. Without a superblock
    /// the rest is not looked at: it may be anything, since only the first 4 KiB of a new leg are wiped.
    ///
    /// # Errors
    /// A superblock or a bitmap that contradicts itself, or too few bytes.
    pub fn parse(bytes: &[u8], array: Sectors) -> Result<Self, LegError> {
        let Some(superblock) = Superblock::parse(bytes)? else {
            return Ok(Self { superblock: None, bitmap: None });
        };
        Ok(Self { superblock: Some(superblock), bitmap: Bitmap::parse(bytes, array)? })
    }

    /// The bytes of a metadata LV that says this, from byte 0 to the end of the bitmap.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        if let Some(superblock) = &self.superblock {
            let block = superblock.render();
            bytes[..block.len()].copy_from_slice(&block);
        }
        if let Some(bitmap) = &self.bitmap {
            bytes.extend(bitmap.render());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raid::bitmap::BitmapHeader;
    use crate::units::Bytes;

    const ARRAY: Sectors = Sectors(131_072);

    #[test]
    fn a_leg_reads_back_as_it_was() {
        let mut bitmap = Bitmap::new(BitmapHeader::new(ARRAY, Bytes::mib(2)), ARRAY);
        bitmap.mark(5);
        let leg = LegMeta { superblock: Some(Superblock::new(2, 1, ARRAY)), bitmap: Some(bitmap) };
        assert_eq!(LegMeta::parse(&leg.render(), ARRAY), Ok(leg));
    }

    #[test]
    fn behind_a_wiped_start_anything_may_lie() {
        let mut bytes = vec![0xa5; 16_384];
        bytes[..4096].fill(0);
        assert_eq!(LegMeta::parse(&bytes, ARRAY), Ok(LegMeta { superblock: None, bitmap: None }));
    }

    #[test]
    fn a_superblock_without_a_bitmap_is_told_apart() {
        let mut bytes = vec![0; 16_384];
        bytes[..512].copy_from_slice(&Superblock::new(2, 1, ARRAY).render());
        let leg = LegMeta::parse(&bytes, ARRAY).expect("legal");
        assert!(leg.superblock.is_some() && leg.bitmap.is_none());
    }
}
