//! `linear` lines: devices made of runs of other devices.

use super::{TableError, Words, devno, value};
use crate::host::{DevNo, TargetLine};
use crate::units::Sectors;

/// A device made of runs of other devices, one after another: each is (length, device, offset on it).
#[must_use]
pub fn linear(runs: &[(Sectors, DevNo, Sectors)]) -> Vec<TargetLine> {
    let mut start = Sectors::ZERO;
    let mut lines = Vec::with_capacity(runs.len());
    for &(len, device, offset) in runs {
        lines.push(TargetLine {
            start,
            len,
            target: "linear".to_owned(),
            params: format!("{device} {}", offset.0),
        });
        start += len;
    }
    lines
}

/// Reads back what [`linear`] wrote.
///
/// # Errors
/// When a line is not linear, or the lines do not follow one another from sector 0.
pub fn parse_linear(lines: &[TargetLine]) -> Result<Vec<(Sectors, DevNo, Sectors)>, TableError> {
    let mut expected = Sectors::ZERO;
    let mut runs = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        if line.target != "linear" {
            return Err(TableError::Target { wanted: "linear", found: line.target.clone() });
        }
        if line.start != expected {
            return Err(TableError::Gap { index, start: line.start.0, expected: expected.0 });
        }
        let words: Vec<&str> = line.params.split_ascii_whitespace().collect();
        let mut words = Words(&words);
        let word = words.next("a device")?;
        let device = devno(word).ok_or_else(|| value("a device", word))?;
        let offset = words.number("an offset")?;
        if let Some(word) = words.pop() {
            return Err(TableError::Trailing(word.to_owned()));
        }
        runs.push((line.len, device, Sectors(offset)));
        expected += line.len;
    }
    Ok(runs)
}
