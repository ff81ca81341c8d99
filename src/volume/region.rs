//! The region size of a volume for which none is named.
//!
//! **Sources**: kernel `drivers/md/dm-raid.c`, `validate_region_size`; LVM2 `lib/metadata/raid_manip.c`, `raid_ensure_min_region_size`.

use crate::raid;
use crate::units::Bytes;

/// LVM2's default, which is as much as a merge copies for one changed byte.
const DEFAULT: Bytes = Bytes::mib(2);

/// Of a volume of at least this size: 2 MiB, or more where an array would have too many regions. Whole extents may make
/// the volume a little larger than that.
#[must_use]
pub fn default_size(volume: Bytes) -> Bytes {
    // An array's limit steps from one GiB to the next, and an extent is no larger than that.
    let whole = Bytes(volume.0.div_ceil(1 << 30) << 30);
    DEFAULT.max(raid::least_region_size(whole.sectors_floor()).bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_no_larger_than_they_must_be() {
        const TIB: u64 = 1 << 40;
        for (volume, region) in [
            (1, Bytes::mib(2)),
            (4 * TIB, Bytes::mib(2)),
            (4 * TIB + 1, Bytes::mib(4)),
            (8 * TIB, Bytes::mib(4)),
            (100 * TIB, Bytes::mib(64)),
        ] {
            assert_eq!(default_size(Bytes(volume)), region, "{volume}");
        }
    }

    #[test]
    fn the_kernel_takes_them_whatever_extents_make_of_the_size() {
        const EXTENT: u64 = 4 << 20;
        for gib in [1_u64, 4095, 4096, 4097, 8191, 8193, 16_385, 100_000] {
            for size in [(gib << 30) - 1, gib << 30, (gib << 30) + 1] {
                let whole = Bytes(size.next_multiple_of(EXTENT));
                let region = default_size(Bytes(size)).sectors_floor();
                raid::check_region_size(region, whole.sectors_floor())
                    .unwrap_or_else(|e| panic!("{size}: {e}"));
            }
        }
    }
}
