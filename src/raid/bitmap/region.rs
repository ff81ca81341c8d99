//! How large a region may be, and how much metadata that makes.

use crate::report::Class;
use crate::units::{Bytes, SECTOR_BYTES, Sectors};

/// The kernel makes no bitmap of more regions (`validate_region_size`, `1 << 21`).
const REGIONS_MAX: u64 = 1 << 21;
/// The header holds the region's bytes in 32 bits.
const REGION_MAX: Sectors = Sectors((1 << 31) / SECTOR_BYTES);
/// What the kernel takes when none is given.
const REGION_DEFAULT: Sectors = Sectors(1 << 13);

/// Why a region size is not possible for an array.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegionSizeError {
    /// Not a power of two.
    #[error("a region of {} sectors is not a power of two", .0.0)]
    NotPowerOfTwo(Sectors),
    /// Larger than the array, or than the bitmap's header can hold.
    #[error("a region of {} is larger than {}", .region.bytes(), .max.bytes())]
    TooLarge {
        /// What was asked for.
        region: Sectors,
        /// The most that is possible.
        max: Sectors,
    },
    /// The array would have more regions than the kernel keeps.
    #[error("a region of {} is smaller than {}, the least for an array this long", .region.bytes(), .min.bytes())]
    TooSmall {
        /// What was asked for.
        region: Sectors,
        /// The least that is possible.
        min: Sectors,
    },
}

impl RegionSizeError {
    /// What the caller can do: ask for another size.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::OutOfRange
    }
}

/// Whether the kernel takes regions of this size in an array of this length.
///
/// # Errors
/// The rule that is broken.
pub fn check_region_size(region: Sectors, array: Sectors) -> Result<(), RegionSizeError> {
    if !region.0.is_power_of_two() {
        return Err(RegionSizeError::NotPowerOfTwo(region));
    }
    let max = array.min(REGION_MAX);
    if region > max {
        return Err(RegionSizeError::TooLarge { region, max });
    }
    if region.0 < array.0 / REGIONS_MAX {
        return Err(RegionSizeError::TooSmall { region, min: least_region_size(array) });
    }
    Ok(())
}

/// The smallest region size the kernel takes for an array of this length.
#[must_use]
pub fn least_region_size(array: Sectors) -> Sectors {
    Sectors((array.0 / REGIONS_MAX).max(1).next_power_of_two())
}

/// The region size the kernel takes when the table names none.
#[must_use]
pub fn default_region_size(array: Sectors) -> Sectors {
    REGION_DEFAULT.max(least_region_size(array))
}

/// How many regions of `chunk` an array has; the last may be a short one.
#[must_use]
pub fn regions(array: Sectors, chunk: Bytes) -> u64 {
    u64::try_from((u128::from(array.0) * u128::from(SECTOR_BYTES)).div_ceil(u128::from(chunk.0.max(1))))
        .unwrap_or(u64::MAX)
}

/// How many bytes of a metadata LV to read, or to have, for everything the kernel keeps there: superblock and
/// bitmap, in whole pages.
#[must_use]
pub fn rmeta_len(array: Sectors, region: Sectors) -> Bytes {
    let bits = regions(array, region.bytes()).div_ceil(8);
    Bytes((4096 + 256 + bits).next_multiple_of(4096))
}
