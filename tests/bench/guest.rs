//! The command line of what a person watches: `--list` on the host, `--guest NAME` in the guest; the exit status says
//! whether it went well.

use std::path::PathBuf;
use std::process::ExitCode;

/// What something comes to.
pub type Outcome<T = ()> = Result<T, String>;

/// One thing to be done in a guest of its own.
#[derive(Clone, Copy)]
pub struct Show {
    pub name: &'static str,
    /// What its guest must have.
    pub needs: &'static str,
    pub run: fn(&[PathBuf]) -> Outcome,
}

/// Does what the command line says with one of these.
pub fn main(shows: &[Show]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--list"] => {
            for Show { name, needs, .. } in shows {
                println!("{name} {needs}");
            }
            ExitCode::SUCCESS
        }
        ["--guest", asked] => match shows.iter().find(|show| show.name == *asked) {
            Some(show) => report((show.run)(&disks())),
            None => report(Err(format!("there is no {asked}"))),
        },
        _ => report(Err("this runs in a guest: cargo xtask bench, cargo xtask demo".into())),
    }
}

fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn disks() -> Vec<PathBuf> {
    let names = std::env::var("SPLITMIRROR_DISKS").unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}
