//! The contract between xtask and a test binary that runs in a guest.
//!
//! Such a binary (`tests/kernel`, `tests/interop`, `tests/sanity`; `harness = false`) is started in two places.
//!
//! # On the host: `BINARY --list`
//!
//! One scenario per line: its name, then words in any order.
//!
//! ```text
//! split_is_the_instant_of_the_cut  disks=3 size=128M
//! split_survives_power_cut         disks=2 size=64M timeout=60 cuts
//! ```
//!
//! | word | meaning | else |
//! |---|---|---|
//! | `disks=N` | number of disks, up to 8 | 2 |
//! | `size=S` | size of each: a number, then `K`, `M` or `G` | 128M |
//! | `mem=M` | memory of the guest in MiB | 512 |
//! | `timeout=S` | seconds it may take (with `cuts`: each boot of it) | 120 |
//! | `cuts` | a power-cut scenario | |
//! | `alone` | wants a boot of its own | |
//!
//! # In the guest: `BINARY --guest …`
//!
//! It is the only child of pid 1, root, with the host's files (its own changes to them are private and lost). Its environment:
//!
//! | variable | value |
//! |---|---|
//! | `SPLITMIRROR_DISKS` | `/dev/ubda,/dev/ubdb,…` |
//! | `SPLITMIRROR_KERNEL` | for example `uml-6.1` |
//! | `SPLITMIRROR_BIN` | the program `splitmirror` of the same build |
//! | `SPLITMIRROR_SEED` | a number, the same in all boots of a run, printed by xtask, set by `--seed` |
//! | `SPLITMIRROR_SANITY` | upstream's `csi-sanity` (level `sanity` only) |
//! | `DM_DISABLE_UDEV` | `1`: there is no udevd |
//!
//! and any other `SPLITMIRROR_…` or `RUST_LOG` that xtask itself was started with. What it prints is the console; lines that
//! begin with `@@` are for xtask, everything else is shown only when something fails.
//!
//! | line | meaning |
//! |---|---|
//! | `@@RUN name` | this scenario starts; its clock starts |
//! | `@@PASS name` | it held |
//! | `@@FAIL name reason…` | it did not |
//! | `@@SKIP name reason…` | it can't be run here |
//! | `@@PASS name/part`, … | a result of its own inside scenario `name`; the scenario goes on |
//! | `@@CUTS n` | how many cut points there are |
//! | `@@CUT label` | cut the power now |
//! | `@@DONE` | there is no such cut point |
//!
//! Names and labels hold no white space. When all that was asked for is done the binary exits with 0; anything else fails what
//! was running.
//!
//! ## Plain scenarios: `--guest NAME…`
//!
//! Runs each of them, in this order. Several share a boot, so **each wipes the disks and removes every device-mapper device before
//! it starts**. When one takes the guest down or hangs, xtask fails that one and boots again for the rest.
//!
//! ## Power-cut scenarios: `--guest NAME` and one of
//!
//! * `--count-cuts`: wipes, runs to the end without a cut, prints `@@CUTS n` (points 0..n) and a result. xtask chooses points spread
//!   evenly over them (`--cuts N`).
//! * `--cut K`: wipes, runs, and at point K prints `@@CUT K` and stands still there for ever. Other threads and processes (writers) go on
//!   until the power is gone, some tenths of a millisecond after the line. A point that is never reached: `@@DONE`.
//! * `--resume LABEL`: does *not* wipe. Judges what the power cut has left, and prints a result. `LABEL` is what `@@CUT` said. If it prints
//!   `@@CUT LABEL2` instead, the power is cut again and it is called with `--resume LABEL2`: a crash within the recovery.
//! * `--resume LABEL --cut K`: first the one, then in the same boot the other. This halves the number of boots.
//!
//! Each resumed cut point is a result of its own, `NAME@LABEL`.
//!
//! # What a power cut is
//!
//! All processes of the guest are killed at once. What the guest kernel had written to its disks is kept, whether flushed
//! or not; what sat in its page cache or in the queue is lost; a request in flight may be torn at any page. A missing
//! flush is therefore *not* found this way (dm-log-writes finds it).
//!
//! # Kernel trouble
//!
//! A line of the guest kernel with `BUG:`, `Oops`, `WARNING:`, a hung task or the like fails the scenario that was running.

use anyhow::{Context, Result, bail};

use crate::guest::{DEFAULT_MEM_MIB, MAX_DISKS, parse_size};

/// One line of `--list`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scenario {
    /// Without white space.
    pub name: String,
    /// How many disks.
    pub disks: usize,
    /// Of each disk.
    pub bytes: u64,
    /// Memory.
    pub mem_mib: u32,
    /// Seconds it may take.
    pub timeout: u64,
    /// A power-cut scenario.
    pub cuts: bool,
    /// Wants a boot of its own.
    pub alone: bool,
}

impl Scenario {
    /// Reads one line of `--list`.
    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let name = words.next().context("an empty line")?.to_owned();
        let mut scenario = Self {
            name,
            disks: 2,
            bytes: 128 << 20,
            mem_mib: DEFAULT_MEM_MIB,
            timeout: 120,
            cuts: false,
            alone: false,
        };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("disks", value) => scenario.disks = value.parse().context("disks=")?,
                ("size", value) => scenario.bytes = parse_size(value)?,
                ("mem", value) => scenario.mem_mib = value.parse().context("mem=")?,
                ("timeout", value) => scenario.timeout = value.parse().context("timeout=")?,
                ("cuts", "") => scenario.cuts = true,
                ("alone", "") => scenario.alone = true,
                _ => bail!("unknown word `{word}`"),
            }
        }
        if scenario.disks > MAX_DISKS {
            bail!("{} disks; a guest can have {MAX_DISKS}", scenario.disks);
        }
        Ok(scenario)
    }

    /// Whether both may share a boot.
    pub fn fits(&self, other: &Self) -> bool {
        !self.cuts
            && !other.cuts
            && !self.alone
            && !other.alone
            && (self.disks, self.bytes, self.mem_mib) == (other.disks, other.bytes, other.mem_mib)
    }
}

/// Reads the output of `--list`.
pub fn parse_list(text: &str) -> Result<Vec<Scenario>> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| Scenario::parse(line).with_context(|| format!("scenario `{line}`")))
        .collect()
}

/// What became of something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not; why.
    Failed(String),
    /// It was not run; why.
    Skipped(String),
}

/// A line that begins with `@@`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// `@@RUN`
    Run(String),
    /// `@@PASS`, `@@FAIL`, `@@SKIP`
    Result(String, Outcome),
    /// `@@CUTS`
    Cuts(u64),
    /// `@@CUT`
    Cut(String),
    /// `@@DONE`
    Done,
}

impl Message {
    /// Reads a line of the command's output; nothing if it is not for us.
    pub fn parse(line: &str) -> Option<Self> {
        let (verb, rest) = line.strip_prefix("@@")?.split_once(' ').unwrap_or((line.strip_prefix("@@")?, ""));
        let (name, reason) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
        let (name, reason) = (name.to_owned(), reason.trim().to_owned());
        match verb {
            "DONE" => Some(Self::Done),
            "CUTS" => name.parse().ok().map(Self::Cuts),
            _ if name.is_empty() => None,
            "RUN" => Some(Self::Run(name)),
            "CUT" => Some(Self::Cut(name)),
            "PASS" => Some(Self::Result(name, Outcome::Passed)),
            "FAIL" => Some(Self::Result(name, Outcome::Failed(reason))),
            "SKIP" => Some(Self::Result(name, Outcome::Skipped(reason))),
            _ => None,
        }
    }
}

/// Whether a line of the guest kernel tells of a fault in the kernel.
pub fn is_kernel_trouble(line: &str) -> bool {
    const SIGNS: [&str; 8] = [
        "BUG:",
        "WARNING: ",
        "Oops",
        "Kernel panic",
        "blocked for more than",
        "soft lockup",
        "general protection",
        "INFO: rcu",
    ];
    SIGNS.iter().any(|sign| line.contains(sign))
}

/// `wanted` points spread evenly over `0..count`, the first and the last among them.
pub fn spread(count: u64, wanted: u64) -> Vec<u64> {
    if wanted >= count {
        return (0..count).collect();
    }
    match wanted {
        0 => Vec::new(),
        1 => vec![count / 2],
        _ => (0..wanted).map(|n| n * (count - 1) / (wanted - 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let list = parse_list("one\n\ntwo disks=3 size=64M mem=256 timeout=9 cuts alone\n").unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].disks, list[0].bytes, list[0].cuts), (2, 128 << 20, false));
        let two = &list[1];
        assert_eq!((two.disks, two.bytes, two.mem_mib, two.timeout), (3, 64 << 20, 256, 9));
        assert!(two.cuts && two.alone);
    }

    #[test]
    fn a_wrong_list_is_refused_with_its_line() {
        for line in ["one disk=3", "one disks=9", "one size=x", "one cuts=3"] {
            let error = format!("{:#}", parse_list(line).unwrap_err());
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn messages_are_read() {
        use Message::*;
        assert_eq!(Message::parse("@@RUN a"), Some(Run("a".into())));
        assert_eq!(Message::parse("@@PASS a"), Some(Result("a".into(), Outcome::Passed)));
        let failed = Outcome::Failed("legs differ at 4096".into());
        assert_eq!(Message::parse("@@FAIL a legs differ at 4096"), Some(Result("a".into(), failed)));
        assert_eq!(Message::parse("@@CUTS 12"), Some(Cuts(12)));
        assert_eq!(Message::parse("@@CUT 3.1"), Some(Cut("3.1".into())));
        assert_eq!(Message::parse("@@DONE"), Some(Done));
        assert_eq!(Message::parse("PASS a"), None);
        assert_eq!(Message::parse("@@PASS"), None);
    }

    #[test]
    fn cut_points_are_spread_from_the_first_to_the_last() {
        assert_eq!(spread(3, 10), [0, 1, 2]);
        assert_eq!(spread(100, 4), [0, 33, 66, 99]);
        assert_eq!(spread(100, 1), [50]);
        assert_eq!(spread(0, 4), [0; 0]);
        assert_eq!(spread(9, 0), [0; 0]);
    }
}
