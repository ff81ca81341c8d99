//! The `raid` target's status line.
//!
//! ```text
//! raid1 2 Aa 4096/131072 recover 0 0 -
//!       |  |  |   |      |       | | journal
//!       |  |  |   |      |       | data offset
//!       |  |  |   |      |       mismatch count, in sectors
//!       |  |  |   |      what is running
//!       |  |  done / total, in sectors
//!       |  one letter for each slot
//!       number of slots
//! ```
//!
//! One reading proves little: right after a resume, `Aa … idle` with a full ratio is seen before recovery starts.
//!
//! Sources: `Documentation/admin-guide/device-mapper/dm-raid.rst`, "Status Output"; `drivers/md/dm-raid.c`,
//! `raid_status`.

use crate::report::Class;
use crate::units::Sectors;

/// How the kernel sees one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// `A`: alive and in sync.
    InSync,
    /// `a`: alive, not in sync.
    NotInSync,
    /// `D`: failed, or unreadable.
    Dead,
    /// `-`: nothing is in the slot.
    Empty,
}

/// What the array is doing beside serving I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing.
    Idle,
    /// Nothing, and nothing may start.
    Frozen,
    /// Making all legs equal.
    Resync,
    /// Copying to a leg that is not in sync.
    Recover,
    /// Reading all legs and counting differences.
    Check,
    /// Reading all legs and removing differences.
    Repair,
    /// Changing shape; never of a raid1.
    Reshape,
}

/// What the kernel says of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaidStatus {
    /// Each slot.
    pub health: Vec<Health>,
    /// How far [`RaidStatus::action`] has come, or the whole length when nothing is left to do.
    pub done: Sectors,
    /// The whole length.
    pub total: Sectors,
    /// What is running.
    pub action: Action,
    /// Sectors found to differ by the last check.
    pub mismatches: u64,
}

/// Why a text is not a raid status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StatusError {
    /// It is the status of another kind of array.
    #[error("the status is of type {0:?}, not raid1")]
    Level(String),
    /// It ends too early.
    #[error("the status ends where {0} should be")]
    Ends(&'static str),
    /// A part of it is not what it should be.
    #[error("{word:?} is not {what}")]
    Value {
        /// What was to be read.
        what: &'static str,
        /// What is there.
        word: String,
    },
}

impl StatusError {
    /// What the caller can do: the kernel said something this program does not know.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Internal
    }
}

impl RaidStatus {
    /// Reads the status text of a `raid` line. What older targets leave out at the end counts as zero.
    ///
    /// # Errors
    /// When it is not the status of a raid1 array.
    pub fn parse(params: &str) -> Result<Self, StatusError> {
        let mut words = params.split_ascii_whitespace();
        let mut next = |what| words.next().ok_or(StatusError::Ends(what));
        let level = next("the raid type")?;
        if level != "raid1" {
            return Err(StatusError::Level(level.to_owned()));
        }
        let what = "the number of slots";
        let word = next(what)?;
        let slots: usize = word.parse().map_err(|_| value(what, word))?;
        let what = "one health letter for each slot";
        let word = next(what)?;
        let health: Vec<Health> =
            word.chars().map(health).collect::<Option<_>>().ok_or_else(|| value(what, word))?;
        if health.len() != slots {
            return Err(value(what, word));
        }
        let what = "a ratio of sectors";
        let word = next(what)?;
        let (done, total) = ratio(word).ok_or_else(|| value(what, word))?;
        let action = match next("the action") {
            Ok(word) => action(word).ok_or_else(|| value("an action", word))?,
            Err(_) => Action::Idle,
        };
        let mismatches = match next("the mismatch count") {
            Ok(word) => word.parse().map_err(|_| value("a mismatch count", word))?,
            Err(_) => 0,
        };
        Ok(Self { health, done, total, action, mismatches })
    }

    /// Whether, by this reading, nothing runs and nothing is left to run: idle, ratio complete, no leg behind.
    /// Dead legs and empty slots do not matter.
    ///
    /// After a resume only a second such reading, some time after the first, says that nothing was about to start.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.action == Action::Idle && self.done >= self.total && !self.health.contains(&Health::NotInSync)
    }

    /// How far the array has come, in whole percent; 100 only when the ratio is complete.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let total = u128::from(self.total.0.max(1));
        let percent = u128::from(self.done.0.min(self.total.0)) * 100 / total;
        if self.total == Sectors::ZERO { 100 } else { u8::try_from(percent).unwrap_or(100) }
    }
}

fn health(letter: char) -> Option<Health> {
    match letter {
        'A' => Some(Health::InSync),
        'a' => Some(Health::NotInSync),
        'D' => Some(Health::Dead),
        '-' => Some(Health::Empty),
        _ => None,
    }
}

fn action(word: &str) -> Option<Action> {
    match word {
        "idle" => Some(Action::Idle),
        "frozen" => Some(Action::Frozen),
        "resync" => Some(Action::Resync),
        "recover" => Some(Action::Recover),
        "check" => Some(Action::Check),
        "repair" => Some(Action::Repair),
        "reshape" => Some(Action::Reshape),
        _ => None,
    }
}

fn ratio(word: &str) -> Option<(Sectors, Sectors)> {
    let (done, total) = word.split_once('/')?;
    Some((Sectors(done.parse().ok()?), Sectors(total.parse().ok()?)))
}

fn value(what: &'static str, word: &str) -> StatusError {
    StatusError::Value { what, word: word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RaidStatus {
        RaidStatus::parse(text).expect("a raid1 status")
    }

    #[test]
    fn every_field_is_read() {
        let status = parse("raid1 4 AaD- 4096/131072 recover 128 0 -");
        assert_eq!(status.health, [Health::InSync, Health::NotInSync, Health::Dead, Health::Empty]);
        assert_eq!((status.done, status.total), (Sectors(4096), Sectors(131_072)));
        assert_eq!((status.action, status.mismatches), (Action::Recover, 128));
        assert_eq!(status.percent(), 3);
    }

    #[test]
    fn older_targets_say_less() {
        assert_eq!(parse("raid1 2 AA 8/8").action, Action::Idle);
    }

    #[test]
    fn an_array_is_settled_when_nothing_runs_and_no_leg_is_behind() {
        assert!(parse("raid1 2 AA 131072/131072 idle 0 0 -").is_settled());
        assert!(parse("raid1 2 A- 131072/131072 idle 0 0 -").is_settled());
        // The moment between a resume and the start of recovery.
        assert!(!parse("raid1 2 Aa 131072/131072 idle 0 0 -").is_settled());
        assert!(!parse("raid1 2 AA 4096/131072 idle 0 0 -").is_settled());
        assert!(!parse("raid1 2 AA 131072/131072 check 0 0 -").is_settled());
        assert!(!parse("raid1 2 AA 131072/131072 frozen 0 0 -").is_settled());
    }

    #[test]
    fn a_hundred_percent_is_said_only_of_the_whole() {
        assert_eq!(parse("raid1 1 A 99999999/100000000 resync 0 0 -").percent(), 99);
        assert_eq!(parse("raid1 1 A 18446744073709551615/18446744073709551615 idle 0 0 -").percent(), 100);
        assert_eq!(parse("raid1 1 A 0/0 idle 0 0 -").percent(), 100);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "raid1",
            "raid1 x A 1/1",
            "raid1 2 A 1/1 idle 0",
            "raid1 1 B 1/1 idle 0",
            "raid1 1 A 1 idle 0",
            "raid1 1 A 1/1 dancing 0",
            "raid1 1 A 1/1 idle -1",
            "raid5_ls 3 AAA 1/1 idle 0 0 -",
        ] {
            assert!(RaidStatus::parse(text).is_err(), "{text}");
        }
    }
}
