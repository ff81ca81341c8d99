//! `cargo xtask bench cluster`: many volumes and snapshots over many simulated nodes, against a real API server. The control
//! plane is that of the test bed, without nodes; `tests/scale` runs in its network and prints the rows.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::Rows;
use crate::cache::Cache;
use crate::cargo::{Metadata, build_release_with_sim};
use crate::cluster::{Held, Parts, obstacle};
use crate::cmd;

/// What it is called.
pub const NAME: &str = "cluster";

/// The test target.
const TARGET: &str = "scale";

/// How large it is.
#[derive(Debug, clap::Args)]
pub struct Scale {
    /// `cluster`: how many volumes, and as many snapshots, in all
    #[arg(long, default_value_t = 10_000, help_heading = "Scale")]
    objects: usize,
    /// `cluster`: how many nodes share them
    #[arg(long, default_value_t = 100, value_parser = nodes, help_heading = "Scale")]
    nodes: usize,
}

/// One agent is measured alone, and needs company.
fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes @ 2..=999) => Ok(nodes),
        _ => Err("2 to 999 nodes".to_owned()),
    }
}

/// Runs it.
pub fn run(scale: &Scale, kernel: Option<&str>, rows: &mut Rows) -> Result<()> {
    if let Some(obstacle) = obstacle() {
        bail!("{obstacle}");
    }
    let build = build_release_with_sim(TARGET)?;
    let parts = Parts::find(&Cache::open()?, kernel)?;
    let logs = Metadata::own()?.target_directory.join("guest-logs/bench-cluster");
    let spec = parts.spec(0, &[], logs, false);
    let bed = Held::start(&spec)?;
    let mut command = bed.client.inside(&build.test)?;
    let mut child = command
        .args(["--bench", &scale.objects.to_string(), &scale.nodes.to_string()])
        .env("SPLITMIRROR_BIN", &build.program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", cmd::line(&command)))?;
    let output = child.stdout.take().context("no standard output")?;
    for line in BufReader::new(output).lines() {
        rows.take(&line.context("reading what the benchmark says")?);
    }
    let status = child.wait().context("waiting for the benchmark")?;
    if !status.success() {
        bail!("{NAME}: {status}");
    }
    rows.check(NAME)
}
