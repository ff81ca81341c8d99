//! The `clone` target: a device that reads from an origin what it does not hold yet, and copies it meanwhile.
//!
//! ```text
//! 0 <len> clone <record> <array> <origin> <region size> 2 no_hydration no_discard_passdown
//!                    4 hydration_threshold n hydration_batch_size n
//! ```
//!
//! The record is the target's metadata device: it tells which regions the array holds. Copying begins when the target is told
//! to (`enable_hydration`), so that a limit of its rate holds from the start.
//!
//! Sources: kernel `Documentation/admin-guide/device-mapper/dm-clone.rst`; `drivers/md/dm-clone-target.c`, `clone_ctr` and
//! `clone_status` (6.1, 7.2).

use crate::host::{DevNo, TargetLine};
use crate::raid::table::{TableError, Words, devno, value};
use crate::units::{Bytes, Sectors};

/// Smallest region: a first write copies the rest of its region, so it is short; but every region costs a bit of memory.
const REGION_MIN: Sectors = Sectors(128);
/// Most regions, while regions may grow.
const REGIONS_MAX: u64 = 1 << 24;
/// Regions that are copied in one piece: 1 MiB of the smallest.
const BATCH: u64 = 16;
/// Regions that are copied at a time.
const THRESHOLD: u64 = 64;
/// What the record needs beside its bits: superblock, space maps, the spare copies of a transaction.
const RECORD_MIN: Bytes = Bytes::mib(1);

/// The message that lets the target copy.
pub const COPY: &str = "enable_hydration";
/// The message that lets it copy no more than what is written to.
pub const PAUSE: &str = "disable_hydration";

/// The region size for a device of this length. The record on disk is made with it: it never changes for a length.
#[must_use]
pub fn region_size(len: Sectors) -> Sectors {
    let mut size = REGION_MIN;
    while len.0.div_ceil(size.0) > REGIONS_MAX && size < Sectors(1 << 21) {
        size = Sectors(size.0 * 2);
    }
    size
}

/// Room for the record of a device of this length: the bits four times, since a transaction writes copies.
#[must_use]
pub fn record_len(len: Sectors) -> Bytes {
    RECORD_MIN + Bytes(len.0.div_ceil(region_size(len).0).div_ceil(8) * 4)
}

/// A clone as the kernel is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneTable {
    /// Its length.
    pub len: Sectors,
    /// Where it is recorded what the array holds.
    pub record: DevNo,
    /// What is filled.
    pub array: DevNo,
    /// What it is filled from.
    pub origin: DevNo,
}

impl CloneTable {
    /// The line of the table.
    #[must_use]
    pub fn line(&self) -> TargetLine {
        let Self { len, record, array, origin } = self;
        let region = region_size(*len).0;
        TargetLine {
            start: Sectors::ZERO,
            len: *len,
            target: "clone".to_owned(),
            params: format!(
                "{record} {array} {origin} {region} 2 no_hydration no_discard_passdown 4 hydration_threshold {THRESHOLD} \
                 hydration_batch_size {BATCH}"
            ),
        }
    }

    /// Reads a line back. What follows the devices is not looked at.
    ///
    /// # Errors
    /// It is of another target, or its devices are none.
    pub fn parse(line: &TargetLine) -> Result<Self, TableError> {
        if line.target != "clone" {
            return Err(TableError::Target { wanted: "clone", found: line.target.clone() });
        }
        let words: Vec<&str> = line.params.split_ascii_whitespace().collect();
        let mut words = Words(&words);
        let mut device = |what| {
            let word = words.next(what)?;
            devno(word).ok_or_else(|| value(what, word))
        };
        let (record, array, origin) = (device("a record")?, device("an array")?, device("an origin")?);
        Ok(Self { len: line.len, record, array, origin })
    }
}

/// How far a clone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneStatus {
    /// Size of a region.
    pub region_size: Sectors,
    /// Regions that the array holds.
    pub hydrated: u64,
    /// All regions.
    pub regions: u64,
    /// It copies what nobody has asked for yet.
    pub copying: bool,
    /// The record can be written; else the kernel has given it up after an error.
    pub writable: bool,
}

impl CloneStatus {
    /// Reads the target's status; `None` when it is none, or says that the target has failed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [_, _, region_size, held, _, flags @ ..] = words.as_slice() else { return None };
        let (hydrated, regions) = held.split_once('/')?;
        Some(Self {
            region_size: Sectors(region_size.parse().ok()?),
            hydrated: hydrated.parse().ok()?,
            regions: regions.parse().ok()?,
            copying: !flags.contains(&"no_hydration"),
            writable: flags.last() == Some(&"rw"),
        })
    }

    /// The array holds everything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.hydrated == self.regions
    }

    /// What the array holds of a device of `len`.
    #[must_use]
    pub fn held(&self, len: Sectors) -> Bytes {
        Sectors(self.hydrated.saturating_mul(self.region_size.0)).min(len).bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(minor: u32) -> DevNo {
        DevNo { major: 253, minor }
    }

    #[test]
    fn a_line_is_read_back() {
        let table = CloneTable { len: Sectors(4096), record: dev(1), array: dev(2), origin: dev(3) };
        let line = table.line();
        assert!(line.params.starts_with("253:1 253:2 253:3 128 2 no_hydration no_discard_passdown 4 "));
        assert_eq!(CloneTable::parse(&line), Ok(table));
        let other = TargetLine { target: "raid".to_owned(), ..line.clone() };
        assert!(CloneTable::parse(&other).is_err());
        assert!(CloneTable::parse(&TargetLine { params: "253:1 253:2".to_owned(), ..line }).is_err());
    }

    #[test]
    fn the_status_of_both_kernels_is_read() {
        let idle = "8 72/256 128 5/16 0 2 no_hydration no_discard_passdown 4 hydration_threshold 64 hydration_batch_size 16 rw";
        let status = CloneStatus::parse(idle).expect("a status");
        assert_eq!((status.hydrated, status.regions, status.copying, status.writable), (5, 16, false, true));
        assert_eq!(status.held(Sectors(2048)), Bytes::kib(320));
        let done =
            "8 72/256 128 16/16 0 1 no_discard_passdown 4 hydration_threshold 64 hydration_batch_size 16 ro";
        let status = CloneStatus::parse(done).expect("a status");
        assert!(status.is_complete() && status.copying && !status.writable);
        assert_eq!(CloneStatus::parse("Fail"), None);
    }

    #[test]
    fn regions_grow_with_the_device_and_the_record_with_their_number() {
        assert_eq!(region_size(Bytes::gib(1).sectors_floor()), REGION_MIN);
        assert_eq!(region_size(Bytes(1 << 44).sectors_floor()), Sectors(2048));
        assert_eq!(record_len(Sectors(1)), RECORD_MIN + Bytes(4));
        assert_eq!(record_len(Bytes(1 << 44).sectors_floor()), RECORD_MIN + Bytes::mib(8));
    }
}
