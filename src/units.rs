//! Quantities as types: bytes, 512-byte sectors and extents never mix by accident.
//!
//! Arithmetic that can overflow or go below zero is checked; the sizes of real disks are many orders of
//! magnitude below `u64::MAX` sectors, so plain `+`, `-` and `*` panic on overflow in every build rather than wrap.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub};

use serde::{Deserialize, Serialize};

/// Bytes in one sector, the unit of device-mapper tables and of LVM2 metadata.
pub const SECTOR_BYTES: u64 = 512;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// `self - other`, or `None` when `other` is larger.
            #[must_use]
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.checked_add(other.0).expect("a quantity on a real disk fits 64 bits"))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0.checked_sub(other.0).expect("the caller compared the two before"))
            }
        }

        impl Mul<u64> for $name {
            type Output = Self;
            fn mul(self, factor: u64) -> Self {
                Self(self.0.checked_mul(factor).expect("a quantity on a real disk fits 64 bits"))
            }
        }

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self::ZERO, Add::add)
            }
        }
    };
}

quantity! {
    /// A number of bytes.
    Bytes
}
quantity! {
    /// A number of 512-byte sectors.
    Sectors
}
quantity! {
    /// A number of LVM2 extents; their size is the volume group's.
    Extents
}

impl Bytes {
    /// `n` KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` GiB.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The whole sectors in this many bytes; a remainder is dropped.
    #[must_use]
    pub const fn sectors_floor(self) -> Sectors {
        Sectors(self.0 / SECTOR_BYTES)
    }

    /// The extents of `extent_size` needed to hold this many bytes.
    #[must_use]
    pub const fn extents_ceil(self, extent_size: Sectors) -> Extents {
        Extents(self.0.div_ceil(extent_size.0 * SECTOR_BYTES))
    }
}

impl Sectors {
    /// As bytes.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        Bytes(self.0) * SECTOR_BYTES
    }
}

impl Extents {
    /// As sectors of a volume group whose extents have `extent_size`.
    #[must_use]
    pub fn sectors(self, extent_size: Sectors) -> Sectors {
        extent_size * self.0
    }

    /// As bytes of a volume group whose extents have `extent_size`.
    #[must_use]
    pub fn bytes(self, extent_size: Sectors) -> Bytes {
        self.sectors(extent_size).bytes()
    }
}

/// As a person reads it: `1.5GiB`, `64MiB`, `512B`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 5] =
            [("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (unit, size) in UNITS {
            if self.0 >= size {
                let tenths = u128::from(self.0) * 10 / u128::from(size);
                return if tenths % 10 == 0 {
                    f.pad(&format!("{}{unit}", tenths / 10))
                } else {
                    f.pad(&format!("{}.{}{unit}", tenths / 10, tenths % 10))
                };
            }
        }
        f.pad(&format!("{}B", self.0))
    }
}

/// Why a text is not a size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not a size: write a whole number of bytes, or one with a unit of 1024 (Ki, Mi, Gi, Ti), such as 64Mi"
)]
pub struct SizeError {
    text: String,
}

impl std::str::FromStr for Bytes {
    type Err = SizeError;

    /// Reads `1048576`, `64Mi`, `64MiB`, `64M` or `64m`; units are powers of 1024 as in LVM2's own tools.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let fail = || SizeError { text: text.to_owned() };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift =
            match unit.trim_end_matches(['B', 'b']).trim_end_matches('i').to_ascii_lowercase().as_str() {
                "" => 0,
                "k" => 10,
                "m" => 20,
                "g" => 30,
                "t" => 40,
                "p" => 50,
                _ => return Err(fail()),
            };
        let number: u64 = number.parse().map_err(|_| fail())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [("0", 0), ("512", 512), ("4k", 4096), ("64Mi", 64 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_not_a_size() {
        for text in ["", "Mi", "-1", "1.5G", "12Q", "99999999999T", "1 Gi"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_printed_as_a_person_reads_them() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (5 << 30, "5GiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn extents_round_up_to_hold_the_bytes() {
        let extent = Sectors(8192);
        assert_eq!(Bytes(1).extents_ceil(extent), Extents(1));
        assert_eq!(Bytes::mib(4).extents_ceil(extent), Extents(1));
        assert_eq!(Bytes(Bytes::mib(4).0 + 1).extents_ceil(extent), Extents(2));
    }
}
