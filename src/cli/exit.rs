//! How a program ends: what it prints, what it says of an error, and its status.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::error::Result;
use crate::report;

/// Runs a command of the program `name`; what it shows goes to standard output.
pub fn after(name: &str, command: impl FnOnce(&mut dyn Write) -> Result<()>) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match command(&mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {}", report::chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
