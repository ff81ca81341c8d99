//! Level `chart`: the Helm chart, and that the files which are made from others are what they would be made.

use anyhow::Result;

use super::libtest;
use super::report::Report;
use crate::cache::Cache;
use crate::contract::Outcome;
use crate::{cluster, codegen};

/// Runs both, if helm can be had.
pub fn run(filters: &[String], report: &Report) -> Result<()> {
    let helm = match cluster::clients(&Cache::open()?) {
        Ok(dir) => dir.join("helm"),
        Err(error) => {
            report.result("chart", &Outcome::Skipped(format!("there is no helm: {error:#}")), &[]);
            return Ok(());
        }
    };
    let made = match codegen::check() {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    report.result("chart::files_are_what_they_are_made_from", &made, &[]);
    libtest::chart(&helm, filters, report)
}
