//! The `raid` target's constructor line, and `linear` lines for what lies below it.
//!
//! ```text
//! 0 <len> raid raid1 <#params> 0 [nosync] [rebuild i]… [min_recovery_rate n] [max_recovery_rate n]
//!                    [write_mostly i]… [max_write_behind n] region_size n <#slots> {<meta> <image> | - -}…
//! ```
//!
//! Invariants: what is rendered is in LVM2's order, so that LVM2's textual comparison finds nothing to reload;
//! what is parsed may be in any order, since the kernel prints its own.
//!
//! Sources: `Documentation/admin-guide/device-mapper/dm-raid.rst`; `drivers/md/dm-raid.c`, `parse_raid_params` and
//! `validate_region_size` (limits); LVM2 `libdm/libdm-deptree.c`, `_raid_emit_segment_line` (order).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::host::{DevNo, TargetLine};
use crate::raid::bitmap::{RegionSizeError, check_region_size, default_region_size};
use crate::report::Class;
use crate::units::Sectors;

mod linear;

pub use linear::{linear, parse_linear};

/// Most slots the target takes (`MAX_RAID_DEVICES`).
pub const MAX_SLOTS: usize = 253;

/// The two devices of one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LegDevs {
    /// The device of `_rmeta_N`.
    pub meta: DevNo,
    /// The device of `_rimage_N`.
    pub image: DevNo,
}

/// A raid1 array as the kernel is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaidTable {
    /// Length of the array.
    pub len: Sectors,
    /// The legs of a new array are declared equal; no first resync.
    pub nosync: bool,
    /// Slots to be rewritten in full whatever their superblock says.
    pub rebuild: Vec<usize>,
    /// Recovery is not throttled below this many KiB/s per leg.
    pub min_recovery_rate: Option<u64>,
    /// Recovery is throttled to this many KiB/s per leg.
    pub max_recovery_rate: Option<u64>,
    /// Slots that are read only when no other can be.
    pub write_mostly: Vec<usize>,
    /// Outstanding writes allowed to the write-mostly legs.
    pub write_behind: Option<u64>,
    /// Granularity of the bitmap.
    pub region_size: Sectors,
    /// The slots; `None` is an empty one, `- -`.
    pub slots: Vec<Option<LegDevs>>,
}

/// Why a table cannot be read, or would be refused or misunderstood by the kernel.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// It is not of the target asked for.
    #[error("the target is {found:?}, not {wanted}")]
    Target {
        /// What was asked for.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
    /// It is a raid array of another kind.
    #[error("the array is of type {0:?}, not raid1")]
    Level(String),
    /// The line ends too early.
    #[error("the line ends where {0} should be")]
    Ends(&'static str),
    /// The line goes on after its end.
    #[error("the line goes on with {0:?} after its last device")]
    Trailing(String),
    /// Something that must be a number is none.
    #[error("{word:?} is not a value for {what}")]
    Value {
        /// What was to be read.
        what: &'static str,
        /// What is there.
        word: String,
    },
    /// A parameter that is legal for the kernel, or may be for a newer one, and that this type cannot carry. It is
    /// not dropped, since a table written back without it would be another table.
    #[error("the parameter {0:?} is not one this program can carry over")]
    Parameter(String),
    /// A leg has only one of its two devices.
    #[error("slot {0} has one of its two devices only")]
    HalfLeg(usize),
    /// The number of slots is out of range.
    #[error("{0} slots: there must be 1 to {MAX_SLOTS}")]
    SlotCount(usize),
    /// All slots are empty.
    #[error("all slots are empty")]
    NoLeg,
    /// A parameter names a slot that does not exist.
    #[error("{word} {slot}: there is no such slot")]
    NoSlot {
        /// The parameter.
        word: &'static str,
        /// The slot it names.
        slot: usize,
    },
    /// A parameter names an empty slot.
    #[error("{word} {slot}: there is no leg in that slot")]
    EmptySlot {
        /// The parameter.
        word: &'static str,
        /// The slot it names.
        slot: usize,
    },
    /// A parameter names one slot twice.
    #[error("{word} {slot} is given twice")]
    Twice {
        /// The parameter.
        word: &'static str,
        /// The slot it names.
        slot: usize,
    },
    /// No leg is left to copy from.
    #[error("every leg is to be rebuilt: there would be none to copy from")]
    AllRebuilt,
    /// No leg is left to read from.
    #[error("every leg is write-mostly")]
    AllWriteMostly,
    /// The kernel would write the bitmap before it has read it, and the marks of the legs that are out would be gone.
    /// See [`crate::raid::Superblock::for_full_copy`].
    #[error("rebuild beside an empty slot wipes the marks of the leg that is out")]
    MarksWiped,
    /// Two of the words exclude each other.
    #[error("nosync and rebuild exclude each other")]
    NosyncAndRebuild,
    /// One device is used twice.
    #[error("device {0} is used twice")]
    SharedDevice(DevNo),
    /// The bitmap's granularity is not possible.
    #[error("the region size is not possible")]
    Region(#[source] RegionSizeError),
    /// Lines do not follow one another.
    #[error("line {index} starts at sector {start}, not at {expected}")]
    Gap {
        /// Which line, from 0.
        index: usize,
        /// Where it starts.
        start: u64,
        /// Where it should.
        expected: u64,
    },
}

impl TableError {
    /// What the caller can do: nothing but look, since the table is not one of ours or our own arithmetic failed.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Internal
    }
}

impl RaidTable {
    /// Whether a leg is in this slot. A slot that the table does not have is as good as empty.
    #[must_use]
    pub fn has_leg(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(Option::is_some)
    }

    /// The line as LVM2 would write it.
    #[must_use]
    pub fn line(&self) -> TargetLine {
        let mut words: Vec<String> = vec!["0".to_owned()];
        if self.nosync {
            words.push("nosync".to_owned());
        }
        let mut push = |word: &str, value: u64| words.extend([word.to_owned(), value.to_string()]);
        let number = |slot: &usize| u64::try_from(*slot).unwrap_or(u64::MAX);
        for slot in &self.rebuild {
            push("rebuild", number(slot));
        }
        if let Some(rate) = self.min_recovery_rate {
            push("min_recovery_rate", rate);
        }
        if let Some(rate) = self.max_recovery_rate {
            push("max_recovery_rate", rate);
        }
        for slot in &self.write_mostly {
            push("write_mostly", number(slot));
        }
        if let Some(writes) = self.write_behind {
            push("max_write_behind", writes);
        }
        push("region_size", self.region_size.0);

        let mut params = format!("raid1 {} {} {}", words.len(), words.join(" "), self.slots.len());
        for slot in &self.slots {
            let written = match slot {
                Some(LegDevs { meta, image }) => write!(params, " {meta} {image}"),
                None => write!(params, " - -"),
            };
            written.expect("writing to a string cannot fail");
        }
        TargetLine { start: Sectors::ZERO, len: self.len, target: "raid".to_owned(), params }
    }

    /// Reads a table, with its parameters in any order.
    ///
    /// # Errors
    /// When it is not a raid1 table, is malformed, or has a parameter that this type cannot carry (then the error
    /// names it). Whether the kernel would take it is what [`RaidTable::validate`] says.
    pub fn parse(line: &TargetLine) -> Result<Self, TableError> {
        if line.target != "raid" {
            return Err(TableError::Target { wanted: "raid", found: line.target.clone() });
        }
        let words: Vec<&str> = line.params.split_ascii_whitespace().collect();
        let mut words = Words(&words);
        let level = words.next("the raid type")?;
        if level != "raid1" {
            return Err(TableError::Level(level.to_owned()));
        }
        let count: usize = words.number("the number of parameters")?;
        let mut params = Words(words.take(count).ok_or(TableError::Ends("a parameter"))?);
        let mut table = Self {
            len: line.len,
            nosync: false,
            rebuild: Vec::new(),
            min_recovery_rate: None,
            max_recovery_rate: None,
            write_mostly: Vec::new(),
            write_behind: None,
            region_size: default_region_size(line.len),
            slots: Vec::new(),
        };
        table.read_params(&mut params)?;
        let slots: usize = words.number("the number of slots")?;
        if slots == 0 || slots > MAX_SLOTS {
            return Err(TableError::SlotCount(slots));
        }
        for slot in 0..slots {
            let meta = words.device("a metadata device")?;
            let image = words.device("a data device")?;
            table.slots.push(match (meta, image) {
                (Some(meta), Some(image)) => Some(LegDevs { meta, image }),
                (None, None) => None,
                (Some(_), None) | (None, Some(_)) => return Err(TableError::HalfLeg(slot)),
            });
        }
        match words.pop() {
            Some(word) => Err(TableError::Trailing(word.to_owned())),
            None => Ok(table),
        }
    }

    /// The parameters: the chunk size, which raid1 ignores, then words with their values.
    fn read_params(&mut self, words: &mut Words<'_>) -> Result<(), TableError> {
        let _chunk: u64 = words.number("the chunk size")?;
        while let Some(word) = words.pop() {
            match word {
                "nosync" => self.nosync = true,
                "rebuild" => self.rebuild.push(words.number("rebuild")?),
                "min_recovery_rate" => self.min_recovery_rate = Some(words.number("min_recovery_rate")?),
                "max_recovery_rate" => self.max_recovery_rate = Some(words.number("max_recovery_rate")?),
                "write_mostly" => self.write_mostly.push(words.number("write_mostly")?),
                "max_write_behind" => self.write_behind = Some(words.number("max_write_behind")?),
                "region_size" => self.region_size = Sectors(words.number("region_size")?),
                other => return Err(TableError::Parameter(other.to_owned())),
            }
        }
        Ok(())
    }

    /// Whether the kernel would take the table, and mean by it what is meant.
    ///
    /// # Errors
    /// The first rule it breaks. Beyond the kernel's own rules: no device twice, no slot named twice, no `rebuild`
    /// beside an empty slot.
    pub fn validate(&self) -> Result<(), TableError> {
        if self.slots.is_empty() || self.slots.len() > MAX_SLOTS {
            return Err(TableError::SlotCount(self.slots.len()));
        }
        let legs = self.slots.iter().flatten().count();
        if legs == 0 {
            return Err(TableError::NoLeg);
        }
        self.check_named("rebuild", &self.rebuild)?;
        self.check_named("write_mostly", &self.write_mostly)?;
        if let Some(&slot) = self.rebuild.iter().find(|slot| !self.is_filled(**slot)) {
            return Err(TableError::EmptySlot { word: "rebuild", slot });
        }
        if self.rebuild.len() >= legs {
            return Err(TableError::AllRebuilt);
        }
        // LVM2 goes on naming a write-mostly slot while its image is split off.
        if self.write_mostly.iter().filter(|slot| self.is_filled(**slot)).count() == legs {
            return Err(TableError::AllWriteMostly);
        }
        if !self.rebuild.is_empty() && legs < self.slots.len() {
            return Err(TableError::MarksWiped);
        }
        if self.nosync && !self.rebuild.is_empty() {
            return Err(TableError::NosyncAndRebuild);
        }
        let mut seen = BTreeSet::new();
        for leg in self.slots.iter().flatten() {
            for device in [leg.meta, leg.image] {
                if !seen.insert(device) {
                    return Err(TableError::SharedDevice(device));
                }
            }
        }
        check_region_size(self.region_size, self.len).map_err(TableError::Region)
    }

    fn is_filled(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(Option::is_some)
    }

    fn check_named(&self, word: &'static str, named: &[usize]) -> Result<(), TableError> {
        let mut seen = BTreeSet::new();
        for &slot in named {
            if slot >= self.slots.len() {
                return Err(TableError::NoSlot { word, slot });
            }
            if !seen.insert(slot) {
                return Err(TableError::Twice { word, slot });
            }
        }
        Ok(())
    }
}

/// The words not read yet.
pub(super) struct Words<'a>(pub(super) &'a [&'a str]);

impl<'a> Words<'a> {
    fn pop(&mut self) -> Option<&'a str> {
        let (word, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(word)
    }

    fn take(&mut self, count: usize) -> Option<&'a [&'a str]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn next(&mut self, what: &'static str) -> Result<&'a str, TableError> {
        self.pop().ok_or(TableError::Ends(what))
    }

    fn number<T: std::str::FromStr>(&mut self, what: &'static str) -> Result<T, TableError> {
        let word = self.next(what)?;
        word.parse().map_err(|_| value(what, word))
    }

    /// `major:minor`, or nothing for `-`. The kernel never prints a path.
    fn device(&mut self, what: &'static str) -> Result<Option<DevNo>, TableError> {
        match self.next(what)? {
            "-" => Ok(None),
            word => devno(word).map(Some).ok_or_else(|| value(what, word)),
        }
    }
}

pub(super) fn devno(word: &str) -> Option<DevNo> {
    let (major, minor) = word.split_once(':')?;
    Some(DevNo { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

pub(super) fn value(what: &'static str, word: &str) -> TableError {
    TableError::Value { what, word: word.to_owned() }
}

#[cfg(test)]
mod tests;
