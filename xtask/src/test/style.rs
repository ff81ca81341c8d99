//! Level `style`: formatting, lints, licences.

use anyhow::Result;

use super::licences;
use super::report::Report;
use crate::cargo::cargo;
use crate::cmd;
use crate::contract::Outcome;

/// Runs all three, whatever each of them says.
pub fn run(report: &Report) -> Result<()> {
    let outcome = |result: Result<()>| match result {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    let fmt = cmd::run(cargo().args(["fmt", "--all", "--check"]));
    report.result("style::fmt", &outcome(fmt), &[]);
    let clippy = cmd::run(
        cargo()
            .args(["clippy", "--quiet", "--workspace", "--all-targets", "--all-features"])
            .args(["--", "-D", "warnings"]),
    );
    report.result("style::clippy", &outcome(clippy), &[]);
    report.result("style::licences", &outcome(licences::check()), &[]);
    Ok(())
}
