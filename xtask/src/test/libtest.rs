//! Levels that are ordinary `cargo test` runs: their output is passed through and their summaries are summed up.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::report::Report;
use crate::cargo::{Metadata, PACKAGE, cargo};
use crate::cmd;

/// Level `unit`.
pub fn unit(metadata: &Metadata, filters: &[String], report: &Report) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--package", PACKAGE, "--features", "sim", "--lib", "--bins"]);
    for name in ["architecture", "csi", "golden"] {
        if metadata.has_test(name) {
            command.args(["--test", name]);
        }
    }
    run("unit", &mut command, filters, report)?;
    run("unit::xtask", cargo().args(["test", "--package", "xtask"]), filters, report)
}

/// Level `sim`.
pub fn sim(metadata: &Metadata, filters: &[String], report: &Report) -> Result<()> {
    if !metadata.has_test("sim") {
        report.failed("sim", "not there yet: there is no test target `sim`");
        return Ok(());
    }
    let mut command = cargo();
    // As guests are built: without optimisation the thousands of crashes take five times as long.
    command.args(["test", "--package", PACKAGE, "--profile", "guest", "--features", "sim", "--test", "sim"]);
    if metadata.has_test("node") {
        command.args(["--test", "node"]);
    }
    run("sim", &mut command, filters, report)
}

/// Level `chart`, with this helm.
pub fn chart(helm: &Path, filters: &[String], report: &Report) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--package", PACKAGE, "--test", "chart"]).env("SPLITMIRROR_HELM", helm);
    run("chart", &mut command, filters, report)
}

/// Runs one `cargo test` and adds up what it says.
fn run(what: &str, command: &mut Command, filters: &[String], report: &Report) -> Result<()> {
    command.args(["--no-fail-fast", "--"]).args(filters);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", cmd::line(command)))?;
    let mut sum = Summary::default();
    for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
        let line = line.context("reading test output")?;
        println!("{line}");
        if let Some(summary) = Summary::parse(&line) {
            sum.passed += summary.passed;
            sum.failed += summary.failed;
            sum.ignored += summary.ignored;
        }
    }
    let status = child.wait().context("waiting for cargo test")?;
    report.add(sum.passed, sum.failed, sum.ignored, what);
    if !status.success() && sum.failed == 0 {
        // It did not compile, or a test took the whole process down.
        report.failed(what, &format!("`{}`: {status}", cmd::line(command)));
    }
    Ok(())
}

/// One `test result:` line.
#[derive(Debug, Default, Eq, PartialEq)]
struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Summary {
    fn parse(line: &str) -> Option<Self> {
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let number = |name: &str| -> Option<u64> {
            numbers.split(';').find_map(|part| part.trim().strip_suffix(name)?.trim().parse().ok())
        };
        Some(Self { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.02s";
        assert_eq!(Summary::parse(line), Some(Summary { passed: 12, failed: 2, ignored: 1 }));
        assert_eq!(Summary::parse("test some::test ... ok"), None);
    }
}
