//! Answers as text: tables, details, JSON.

use std::io::Write;

use serde::Serialize;

use crate::cli::error::Result;

/// Rows under a header, in columns as wide as they must be.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a header.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    /// Prints it, each line behind `indent`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn print(&self, out: &mut dyn Write, indent: &str) -> Result<()> {
        for line in self.lines() {
            writeln!(out, "{indent}{line}")?;
        }
        Ok(())
    }
}

/// Names and values, the values under each other.
///
/// # Errors
/// It cannot be written.
pub fn details(out: &mut dyn Write, entries: &[(&str, String)]) -> Result<()> {
    let told = || entries.iter().filter(|(_, value)| !value.is_empty());
    let width = told().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    for (name, value) in told() {
        writeln!(out, "{:<width$}   {value}", format!("{name}:"))?;
    }
    Ok(())
}

/// As JSON.
///
/// # Errors
/// It cannot be written.
pub fn json(out: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// An empty cell is hard to see.
#[must_use]
pub fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// The time of nanoseconds since 1970, as `2026-11-22T21:15:04Z`.
#[must_use]
pub fn utc(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The date so many days after 1970-01-01. Years begin in March here, so that a leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day - (153 * march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["ID", "SIZE"]);
        table.row(vec!["pvc-1".into(), "64MiB".into()]);
        table.row(vec!["ü".into(), String::new()]);
        assert_eq!(table.lines(), ["ID      SIZE", "pvc-1   64MiB", "ü"]);
    }

    #[test]
    fn details_stand_under_each_other_and_empty_ones_are_left_out() {
        let mut out = Vec::new();
        details(&mut out, &[("id", "a".into()), ("device", "b".into()), ("a long name", String::new())])
            .expect("memory");
        assert_eq!(String::from_utf8(out).expect("text"), "id:       a\ndevice:   b\n");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000_000), text);
        }
    }
}
