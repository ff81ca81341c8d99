//! `cargo xtask demo`: shows a snapshot's whole life in a guest, as a person would like to read it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;

use crate::attended::Attended;

/// Show a snapshot's whole life in a guest
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Guest kernel: debian, newest, or a version like 6.1 [default: newest, else debian]
    #[arg(long)]
    kernel: Option<String>,
}

/// Runs all that `tests/demo` lists.
pub fn main(args: &Args) -> Result<ExitCode> {
    let demo = Attended::prepare("demo", args.kernel.as_deref())?;
    for scenario in &demo.scenarios {
        demo.run(scenario, &[], |line| println!("{line}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
