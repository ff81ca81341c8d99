//! `cargo xtask bench`: measures us next to LVM2's own tools in one guest, and next to the least that a custom resource can
//! cost ([`cluster`]).
//!
//! The binaries print a row as `@@ROW {"name":…,"ours":…,"theirs":…,"ratio":…,"bar":…,"held":true}`. Values are texts or numbers,
//! `held` says whether the row keeps its bar. All lines are passed on to standard error as they come.

mod cluster;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attended::Attended;

/// How rows are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// An aligned table
    Table,
    /// A JSON array
    Json,
}

/// Measure next to LVM2's own tools, and next to an object without meaning
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which benchmark: split, or cluster, which takes ten minutes [default: all]
    name: Option<String>,
    /// How to print the rows
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Guest kernel: debian, newest, or a version like 6.1 [default: newest, else debian]
    #[arg(long)]
    kernel: Option<String>,
    #[command(flatten)]
    scale: cluster::Scale,
}

/// One row.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Row {
    name: String,
    ours: Value,
    #[serde(default)]
    theirs: Value,
    #[serde(default)]
    ratio: Value,
    #[serde(default)]
    bar: Value,
    held: bool,
}

/// Rows as they come, and what went wrong with one.
#[derive(Debug, Default)]
struct Rows {
    rows: Vec<Row>,
    wrong: Option<String>,
}

impl Rows {
    /// Takes in a line of a binary.
    fn take(&mut self, line: &str) {
        // Rows too: what comes after them may take minutes, and may fail.
        eprintln!("{line}");
        if let Some(row) = line.strip_prefix("@@ROW ") {
            match serde_json::from_str::<Row>(row) {
                Ok(row) => self.rows.push(row),
                Err(error) => self.wrong = Some(format!("{error} in `{line}`")),
            }
        }
    }

    /// Fails when one could not be read.
    fn check(&self, name: &str) -> Result<()> {
        match &self.wrong {
            Some(wrong) => bail!("{name}: {wrong}"),
            None => Ok(()),
        }
    }
}

/// Runs the benchmarks and prints their rows.
pub fn main(args: &Args) -> Result<ExitCode> {
    let mut rows = Rows::default();
    if args.name.as_deref() != Some(cluster::NAME) {
        in_guest(args, &mut rows)?;
    }
    if args.name.as_deref().is_none_or(|name| name == cluster::NAME) {
        cluster::run(&args.scale, args.kernel.as_deref(), &mut rows)?;
    }
    let rows = rows.rows;
    if rows.is_empty() {
        bail!("the benchmark printed no row");
    }
    match args.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&rows).context("rendering the rows")?),
        Format::Table => print!("{}", table(&rows)),
    }
    Ok(if rows.iter().all(|row| row.held) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Those that run in a guest.
fn in_guest(args: &Args, rows: &mut Rows) -> Result<()> {
    let bench = Attended::prepare("bench", args.kernel.as_deref())?;
    let chosen: Vec<_> = bench
        .scenarios
        .iter()
        .filter(|scenario| args.name.as_ref().is_none_or(|name| *name == scenario.name))
        .collect();
    if chosen.is_empty() {
        let mut names: Vec<_> = bench.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        names.push(cluster::NAME);
        bail!("no such benchmark (there is: {})", names.join(", "));
    }
    for scenario in chosen {
        bench.run(scenario, &[], |line| rows.take(line))?;
        rows.check(&scenario.name)?;
    }
    Ok(())
}

/// Rows in columns as wide as they must be.
fn table(rows: &[Row]) -> String {
    let mut lines = vec![["name", "ours", "theirs", "ratio", "bar", "held"].map(str::to_owned)];
    for row in rows {
        let held = if row.held { "yes" } else { "NO" };
        lines.push([
            row.name.clone(),
            cell(&row.ours),
            cell(&row.theirs),
            cell(&row.ratio),
            cell(&row.bar),
            held.to_owned(),
        ]);
    }
    let mut widths = [0; 6];
    for line in &lines {
        for (width, text) in widths.iter_mut().zip(line) {
            *width = text.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(widths).map(|(text, width)| format!("{text:<width$}")).collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A text without its quotes, a number as it is, nothing as `-`.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let rows = [
            r#"{"name":"split","ours":"9 ms","theirs":"410 ms","ratio":45.5,"bar":"≥ 10","held":true}"#,
            r#"{"name":"merge bytes","ours":1,"held":false}"#,
        ]
        .map(|row| serde_json::from_str::<Row>(row).unwrap());
        assert_eq!(
            table(&rows),
            "name         ours  theirs  ratio  bar   held\n\
             split        9 ms  410 ms  45.5   ≥ 10  yes\n\
             merge bytes  1     -       -      -     NO\n"
        );
    }
}
