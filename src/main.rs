//! The `splitmirror` binary.

use std::process::ExitCode;

use clap::Parser as _;
use splitmirror::cli::args::{Cli, Command};
use splitmirror::cli::{self, exit};
use splitmirror::telemetry;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let logs = match cli.command {
        Command::Standalone(_) => telemetry::Default::Info,
        #[cfg(feature = "kubernetes")]
        Command::Controller(_) => telemetry::Default::Info,
        #[cfg(feature = "kubernetes")]
        Command::Crds => telemetry::Default::Warn,
        #[cfg(feature = "kubernetes")]
        Command::Node(_) => telemetry::Default::Info,
        Command::Pool(_) | Command::Volume(_) | Command::Snapshot(_) => telemetry::Default::Warn,
    };
    if let Err(error) = telemetry::start(logs) {
        eprintln!("splitmirror: logging cannot be started: {error}");
    }
    exit::after("splitmirror", |out| cli::run(cli, out))
}
