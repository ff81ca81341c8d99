//! The command line: arguments to calls, answers to text for people or JSON for programs.
//!
//! Commands that show read the disks and the kernel themselves; no other process need run, and none is disturbed.

pub mod args;
#[cfg(feature = "kubernetes")]
mod controller;
pub mod error;
pub mod exit;
#[cfg(feature = "kubernetes")]
pub mod kubectl;
#[cfg(feature = "kubernetes")]
mod node;
pub mod output;
mod pool;
mod snapshot;
mod standalone;
mod threads;
mod volume;
mod watch;

use std::io::Write;

use crate::cli::args::{Cli, Command, HostArgs, PoolChoice};
use crate::cli::error::{Error, Result};
use crate::engine::{self, Engine, Settings};
use crate::host::linux::LinuxHost;
use crate::ids::VgName;
use crate::report::Class;

/// Does what the arguments say; what is shown goes to `out`.
///
/// # Errors
/// As told by the command.
pub fn run(cli: Cli, out: &mut dyn Write) -> Result<()> {
    match cli.command {
        Command::Standalone(args) => standalone::run(args, &cli.host),
        #[cfg(feature = "kubernetes")]
        Command::Controller(args) => controller::run(args),
        #[cfg(feature = "kubernetes")]
        Command::Crds => Ok(out.write_all(crate::api::crd::yaml().as_bytes())?),
        #[cfg(feature = "kubernetes")]
        Command::Node(args) => node::run(args, &cli.host),
        Command::Pool(command) => pool::run(command, &cli.host, out),
        Command::Volume(command) => volume::run(command, &cli.host, out),
        Command::Snapshot(command) => snapshot::run(command, &cli.host, out),
    }
}

fn settings(args: &HostArgs) -> Settings {
    Settings { hidden_uuid: args.hidden_uuid(), system_id: args.system_id.clone(), ..Settings::default() }
}

fn host(args: &HostArgs) -> Result<LinuxHost> {
    let mut config = crate::host::linux::Config::default();
    if let Some(lock_dir) = &args.lock_dir {
        config.lock_dir.clone_from(lock_dir);
    }
    Ok(LinuxHost::new(config)?)
}

/// The pool that is meant: the one named, or the only one there is.
fn choose(host: &LinuxHost, choice: &PoolChoice, settings: &Settings) -> Result<VgName> {
    if let Some(name) = &choice.pool {
        return Ok(name.clone());
    }
    let mut names: Vec<VgName> =
        engine::pool::list(host, settings)?.into_iter().map(|pool| pool.name).collect();
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => Err(Error::refused(Class::NotFound, "there is no volume group on this machine's disks")),
        (Some(_), false) => {
            Err(Error::refused(Class::Invalid, "there are several volume groups: say which with --pool"))
        }
    }
}

fn open(args: &HostArgs, choice: &PoolChoice) -> Result<Engine<LinuxHost>> {
    let (host, settings) = (host(args)?, settings(args));
    let pool = choose(&host, choice, &settings)?;
    Ok(Engine::open(host, pool, settings)?)
}
