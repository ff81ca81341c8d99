//! Many volumes and snapshots over many nodes, against a real API server: `cargo xtask bench cluster`.
//!
//! ```text
//! xtask ─► scale --bench ─┬─► splitmirror controller        the real program, over its CSI socket
//!            │            ├─► scale --machine FILE 100      makes a simulated machine with volumes and snapshots
//!            │            ├─► scale --agents 1 99 FILE      agents on simulated machines, one process
//!            │            ├─► scale --agents 0 1 FILE       one agent and its machine alone: its memory is measured
//!            │            └─► scale --echo                  the least that an object and an answer to it can cost
//!            └──────────────► API server: what it has counted
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`bench`] | the run: what is measured in which order |
//! | [`figures`] | rows |
//! | [`fleet`] | agents on simulated machines |
//! | [`machine`] | a simulated machine with volumes and snapshots on it |
//! | [`cluster`] | what the API server must have first: definitions, roles, policies, nodes, tokens |
//! | [`meter`] | what the API server has counted |
//! | [`driver`] | calls of the controller |
//! | [`echo`] | the round trip of an object without meaning |
//! | [`process`] | programs that run beside this one |
//!
//! Roles and admission policies are those that the chart installs; each agent has the token that it would have on its node.

mod bench;
mod cluster;
mod driver;
mod echo;
mod figures;
mod fleet;
// The tests of the CSI services use other parts of it.
#[allow(dead_code)]
#[path = "../csi/fake/kernel.rs"]
mod kernel;
mod machine;
mod meter;
mod process;

use std::path::Path;
use std::process::ExitCode;

/// What something comes to.
pub type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["--bench", objects, nodes] => numbers([objects, nodes]).and_then(|[o, n]| bench::run(o, n)),
        ["--machine", file, objects] => {
            numbers([objects]).and_then(|[objects]| machine::write(Path::new(file), objects))
        }
        ["--agents", first, count, file] => {
            numbers([first, count]).and_then(|[first, count]| fleet::run(first, count, Path::new(file)))
        }
        ["--echo"] => echo::answer(),
        _ => Err("this runs in a cluster: cargo xtask bench cluster".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("scale: {why}");
            ExitCode::FAILURE
        }
    }
}

fn numbers<const N: usize>(texts: [&&str; N]) -> Outcome<[usize; N]> {
    let mut numbers = [0; N];
    for (number, text) in numbers.iter_mut().zip(texts) {
        *number = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    }
    Ok(numbers)
}

/// An error with all its causes.
pub fn told(error: &(dyn std::error::Error + 'static)) -> String {
    splitmirror::report::chain(error)
}
