//! The project's own commands: `cargo xtask VERB`.

mod apt;
mod attended;
mod bench;
mod cache;
mod cargo;
mod cluster;
mod cmd;
mod codegen;
mod contract;
mod demo;
mod guest;
mod kernel;
mod run;
mod setup;
mod test;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what is missing, fetch guest kernels
    Setup(setup::Args),
    /// Run the tests
    Test(test::Args),
    /// Show a snapshot's whole life in a guest
    Demo(demo::Args),
    /// Measure next to LVM2's own tools
    Bench(bench::Args),
    /// Make the files that are made from others
    Codegen(codegen::Args),
    /// Run any command in a guest
    Guest(run::Args),
    /// Keep a Kubernetes for a quick loop
    Cluster(cluster::Args),
    /// Started by xtask itself: holds the processes of one program together
    #[command(hide = true)]
    Hold {
        /// The program.
        program: OsString,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Started by xtask itself: holds a Kubernetes
    #[command(hide = true)]
    ClusterHold {
        /// What it is made of.
        spec: PathBuf,
    },
    /// Started in the guest of a node
    #[command(hide = true)]
    GuestNode {
        /// What the node must know.
        config: PathBuf,
    },
    /// Started in a guest: puts images into a node's root
    #[command(hide = true)]
    GuestImport {
        /// OCI archives.
        images: Vec<PathBuf>,
    },
    /// Started by xtask itself: holds the processes of one guest together
    #[command(hide = true)]
    GuestLaunch {
        /// The guest kernel.
        kernel: OsString,
        /// Its command line.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Started by a guest kernel: its pid 1
    #[command(hide = true)]
    GuestInit {
        /// Written by xtask before the boot.
        boot_file: PathBuf,
        /// What the kernel itself adds to the end of its command line.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        added: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup(args) => at_root().and_then(|()| done(setup::main(&args))),
        Verb::Test(args) => at_root().and_then(|()| test::main(&args)),
        Verb::Demo(args) => at_root().and_then(|()| demo::main(&args)),
        Verb::Bench(args) => at_root().and_then(|()| bench::main(&args)),
        Verb::Codegen(args) => done(at_root().and_then(|()| codegen::main(&args))),
        Verb::Guest(args) => run::main(&args),
        Verb::Cluster(args) => at_root().and_then(|()| cluster::main(&args)),
        Verb::Hold { program, args } => done(guest::hold::main(&program, &args)),
        Verb::ClusterHold { spec } => done(cluster::holder::main(&spec)),
        Verb::GuestNode { config } => done(cluster::inside::main(&config)),
        Verb::GuestImport { images } => done(cluster::inside::import_all(&images)),
        Verb::GuestLaunch { kernel, args } => done(guest::launch::main(&kernel, &args)),
        Verb::GuestInit { boot_file, added: _ } => done(guest::init::main(&boot_file)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

/// Goes to the top of the workspace: `cargo xtask` may be called from anywhere in it.
fn at_root() -> Result<()> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    if let Some(root) = package.as_deref().and_then(Path::parent) {
        std::env::set_current_dir(root).with_context(|| format!("entering {}", root.display()))?;
    }
    Ok(())
}

/// For verbs that either succeed or give an error.
fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
