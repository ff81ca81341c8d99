//! The `kubectl-splitmirror` binary: kubectl finds it in `PATH` and runs it for `kubectl splitmirror`.

use std::process::ExitCode;

use clap::Parser as _;
use splitmirror::cli::exit;
use splitmirror::cli::kubectl::{self, args::Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::after("kubectl splitmirror", |out| kubectl::run(cli, out))
}
