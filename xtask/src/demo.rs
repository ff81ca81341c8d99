//! `cargo xtask demo`: shows a snapshot's whole life in a guest, as a person would like to read it.

mod kubernetes;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;

use crate::attended::Attended;

/// Show a snapshot's whole life in a guest
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Show it in a Kubernetes: control plane, a node, the chart, and what a user types
    #[arg(long)]
    kubernetes: bool,
    /// Guest kernel: debian, newest, or a version like 6.1 [default: newest, else debian]
    #[arg(long)]
    kernel: Option<String>,
}

/// Runs all that `tests/demo` lists.
pub fn main(args: &Args) -> Result<ExitCode> {
    if args.kubernetes {
        kubernetes::main(args.kernel.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    let demo = Attended::prepare("demo", args.kernel.as_deref())?;
    for scenario in &demo.scenarios {
        demo.run(scenario, &[], |line| println!("{line}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
