//! The superblock that dm-raid keeps at byte 0 of each metadata LV.
//!
//! All integers little-endian; the rest of the logical block is zero.
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | 4 bytes | magic `DmRd` |
//! | 4 | u32 | compatible features: 1 = the fields from 64 on are there (target 1.9.0, Linux 4.8) |
//! | 8 | u32 | number of slots, empty ones included |
//! | 12 | u32 | this leg's slot when this was written |
//! | 16 | u64 | events |
//! | 24 | u64 | failed slots, bits 0 to 63 |
//! | 32 | u64 | sectors of this leg that are good; all ones = all |
//! | 40 | u64 | sectors of the array that are in sync; all ones = all |
//! | 48 | i32 | level |
//! | 52 | u32 | layout |
//! | 56 | u32 | stripe length in sectors, 0 for raid1 |
//! | 60 | u32 | flags of a reshape |
//! | 64 | u64 | position of a reshape; all ones = none |
//! | 72 | i32, u32, u32, i32 | new level, layout, stripe length; slots added |
//! | 88 | u64 | length of the array in sectors |
//! | 96, 104 | u64 | data offset now and after a reshape |
//! | 112 | u64 | length of this leg in sectors |
//! | 120 | 3 × u64 | failed slots, bits 64 to 255 |
//! | 144 | u32 | incompatible features: none are known |
//!
//! Source: `drivers/md/dm-raid.c`, `struct dm_raid_superblock`, `super_sync`, `sb_retrieve_failed_devices`.

use crate::report::Class;
use crate::units::Sectors;

/// Bytes of the block that is read and rendered here.
pub const SUPERBLOCK_BYTES: usize = 512;

/// A position that means "all of it" or "none", by field.
pub const MAX_SECTOR: Sectors = Sectors(u64::MAX);

/// A slot that no array has (the target takes 253 of them), and that there is a bit for among the failed ones.
const NO_SLOT: u32 = 255;

const MAGIC: [u8; 4] = *b"DmRd";
/// `FEATURE_FLAG_SUPPORTS_V190`.
const EXTENDED: u32 = 1;

/// What dm-raid keeps at the start of a metadata LV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Compatible features; see [`Superblock::is_extended`].
    pub compat_features: u32,
    /// Number of slots, empty ones included.
    pub num_devices: u32,
    /// The slot this leg was in when this was written. On return the kernel looks under *this* number in the
    /// other legs' list of failed slots.
    pub array_position: u32,
    /// Counts changes of state. Not a clock: it may go back by one when nothing but clean and dirty alternated.
    pub events: u64,
    /// Failed or missing slots, 256 bits; see [`Superblock::failed`].
    pub failed_devices: [u64; 4],
    /// How much of this leg is good; [`MAX_SECTOR`] when all of it.
    pub disk_recovery_offset: Sectors,
    /// How much of the array is in sync; [`MAX_SECTOR`] when all of it.
    pub array_resync_offset: Sectors,
    /// The raid level: 1.
    pub level: i32,
    /// The layout: 0.
    pub layout: u32,
    /// Stripe length: 0 for raid1.
    pub stripe_sectors: u32,
    /// Flags of a reshape: 0 for raid1.
    pub flags: u32,
    /// Position of a reshape; [`MAX_SECTOR`] when none runs.
    pub reshape_position: Sectors,
    /// Level after a reshape.
    pub new_level: i32,
    /// Layout after a reshape.
    pub new_layout: u32,
    /// Stripe length after a reshape.
    pub new_stripe_sectors: u32,
    /// Slots added by a reshape.
    pub delta_disks: i32,
    /// Length of the array.
    pub array_sectors: Sectors,
    /// Where data starts on the leg.
    pub data_offset: Sectors,
    /// Where data will start after a reshape.
    pub new_data_offset: Sectors,
    /// Length of this leg.
    pub sectors: Sectors,
    /// Features that a reader must know. None are defined.
    pub incompat_features: u32,
}

/// Why a block that has the magic is not a superblock.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SuperblockError {
    /// Fewer bytes than a superblock.
    #[error("{0} bytes are too few for a raid superblock of {SUPERBLOCK_BYTES}")]
    Short(usize),
    /// It needs features nobody knows; the kernel refuses it too.
    #[error("the raid superblock needs unknown features: {0:#x}")]
    Incompatible(u32),
    /// It has features nobody knows; the kernel refuses it although they are called compatible.
    #[error("the raid superblock has unknown features: {0:#x}")]
    Compatible(u32),
    /// It belongs to another kind of array.
    #[error("the raid superblock is of level {0}, not 1")]
    Level(i32),
}

impl SuperblockError {
    /// What the caller can do: look, and change nothing.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Corrupt
    }
}

impl Superblock {
    /// Reads the superblock from the first bytes of a metadata LV; `None` when there is no magic, which to the
    /// kernel means a new leg.
    ///
    /// # Errors
    /// Too few bytes; features that nobody knows; not a raid1.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, SuperblockError> {
        let block = bytes.first_chunk::<SUPERBLOCK_BYTES>().ok_or(SuperblockError::Short(bytes.len()))?;
        if !block.starts_with(&MAGIC) {
            return Ok(None);
        }
        let compat_features = u32_at(block, 4);
        let extended = compat_features & EXTENDED != 0;
        // Before the extension the bytes from 64 on meant nothing.
        let long = |offset, absent| if extended { u64_at(block, offset) } else { absent };
        let word = |offset| if extended { u32_at(block, offset) } else { 0 };
        let superblock = Self {
            compat_features,
            num_devices: u32_at(block, 8),
            array_position: u32_at(block, 12),
            events: u64_at(block, 16),
            failed_devices: [u64_at(block, 24), long(120, 0), long(128, 0), long(136, 0)],
            disk_recovery_offset: Sectors(u64_at(block, 32)),
            array_resync_offset: Sectors(u64_at(block, 40)),
            level: u32_at(block, 48).cast_signed(),
            layout: u32_at(block, 52),
            stripe_sectors: u32_at(block, 56),
            flags: u32_at(block, 60),
            reshape_position: Sectors(long(64, u64::MAX)),
            new_level: word(72).cast_signed(),
            new_layout: word(76),
            new_stripe_sectors: word(80),
            delta_disks: word(84).cast_signed(),
            array_sectors: Sectors(long(88, 0)),
            data_offset: Sectors(long(96, 0)),
            new_data_offset: Sectors(long(104, 0)),
            sectors: Sectors(long(112, 0)),
            incompat_features: word(144),
        };
        if superblock.incompat_features != 0 {
            return Err(SuperblockError::Incompatible(superblock.incompat_features));
        }
        if compat_features & !EXTENDED != 0 {
            return Err(SuperblockError::Compatible(compat_features));
        }
        if superblock.level != 1 {
            return Err(SuperblockError::Level(superblock.level));
        }
        Ok(Some(superblock))
    }

    /// The block as the kernel writes it.
    #[must_use]
    pub fn render(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut block = [0; SUPERBLOCK_BYTES];
        let mut put =
            |offset: usize, bytes: &[u8]| block[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        for (offset, value) in [
            (4, self.compat_features),
            (8, self.num_devices),
            (12, self.array_position),
            (48, self.level.cast_unsigned()),
            (52, self.layout),
            (56, self.stripe_sectors),
            (60, self.flags),
            (72, self.new_level.cast_unsigned()),
            (76, self.new_layout),
            (80, self.new_stripe_sectors),
            (84, self.delta_disks.cast_unsigned()),
            (144, self.incompat_features),
        ] {
            put(offset, &value.to_le_bytes());
        }
        for (offset, value) in [
            (16, self.events),
            (24, self.failed_devices[0]),
            (32, self.disk_recovery_offset.0),
            (40, self.array_resync_offset.0),
            (64, self.reshape_position.0),
            (88, self.array_sectors.0),
            (96, self.data_offset.0),
            (104, self.new_data_offset.0),
            (112, self.sectors.0),
            (120, self.failed_devices[1]),
            (128, self.failed_devices[2]),
            (136, self.failed_devices[3]),
        ] {
            put(offset, &value.to_le_bytes());
        }
        block
    }

    /// The superblock of a leg of a new array, before the kernel has written it for the first time.
    #[must_use]
    pub fn new(slots: u32, slot: u32, array: Sectors) -> Self {
        Self {
            compat_features: EXTENDED,
            num_devices: slots,
            array_position: slot,
            events: 0,
            failed_devices: [0; 4],
            disk_recovery_offset: MAX_SECTOR,
            array_resync_offset: MAX_SECTOR,
            level: 1,
            layout: 0,
            stripe_sectors: 0,
            flags: 0,
            reshape_position: MAX_SECTOR,
            new_level: 1,
            new_layout: 0,
            new_stripe_sectors: 0,
            delta_disks: 0,
            array_sectors: array,
            data_offset: Sectors::ZERO,
            new_data_offset: Sectors::ZERO,
            sectors: array,
            incompat_features: 0,
        }
    }

    /// The superblock to write on a leg that must be copied in full, before the table that brings it in is loaded; made
    /// from that of a leg of the array it joins.
    ///
    /// The leg is good up to sector 0, and it last ran in a slot that no array has: so the kernel finds it neither in
    /// sync nor among the failed ones, of which it would copy only what is marked. The event counter is 0, so the leg
    /// is never the freshest. Whoever assembles the array next copies all of it, LVM2's tools included.
    ///
    /// Guards against the table's own word for this, `rebuild`: it makes the kernel write the first page of the bitmap
    /// before it has read it, zeroed, to all legs, and so takes away the marks of every other outstanding split
    /// (`raid_preresume`, `rs_update_sbs`; seen on 6.1 and 7.2). It also takes the place of a blank superblock, which
    /// needs that word.
    ///
    /// To be durable before anything else says that the leg is part of the array.
    #[must_use]
    pub fn for_full_copy(of_array: &Self) -> Self {
        Self {
            array_position: NO_SLOT,
            events: 0,
            failed_devices: [0; 4],
            disk_recovery_offset: Sectors::ZERO,
            ..of_array.clone()
        }
    }

    /// Whether this leg knows of that slot's failure or absence.
    #[must_use]
    pub fn failed(&self, slot: usize) -> bool {
        self.failed_devices.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Marks a slot failed or not.
    pub fn set_failed(&mut self, slot: usize, failed: bool) {
        if let Some(word) = self.failed_devices.get_mut(slot / 64) {
            let bit = 1_u64 << (slot % 64);
            *word = if failed { *word | bit } else { *word & !bit };
        }
    }

    /// Whether any slot is known to be failed or missing.
    #[must_use]
    pub fn any_failed(&self) -> bool {
        self.failed_devices != [0; 4]
    }

    /// Whether the fields that target 1.9.0 added were written: sizes, and failed slots from 64 on.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.compat_features & EXTENDED != 0
    }
}

fn u32_at(block: &[u8; SUPERBLOCK_BYTES], offset: usize) -> u32 {
    u32::from_le_bytes(*block[offset..].first_chunk().expect("the offset is one of the table above"))
}

fn u64_at(block: &[u8; SUPERBLOCK_BYTES], offset: usize) -> u64 {
    u64::from_le_bytes(*block[offset..].first_chunk().expect("the offset is one of the table above"))
}

#[cfg(test)]
mod tests;
