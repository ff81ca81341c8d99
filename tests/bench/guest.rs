//! The command line of what a person watches: `--list` on the host, `--guest NAME` in the guest; the exit status says
//! whether it went well.

use std::path::PathBuf;
use std::process::ExitCode;

/// What something comes to.
pub type Outcome<T = ()> = Result<T, String>;

/// Does what the command line says with the one thing there is; `needs` is what the guest must have.
pub fn main(name: &str, needs: &str, run: impl FnOnce(&[PathBuf]) -> Outcome) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--list"] => {
            println!("{name} {needs}");
            ExitCode::SUCCESS
        }
        ["--guest", asked] if *asked == name => match run(&disks()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                println!("{why}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("this runs in a guest: cargo xtask bench, cargo xtask demo");
            ExitCode::FAILURE
        }
    }
}

fn disks() -> Vec<PathBuf> {
    let names = std::env::var("SPLITMIRROR_DISKS").unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}
