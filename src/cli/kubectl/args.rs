//! What can be said on the command line of `kubectl splitmirror`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::args::OutputArgs;

/// Mirrored volumes, their images and their snapshots, as a user of claims sees them.
#[derive(Debug, Parser)]
#[command(name = "kubectl-splitmirror", bin_name = "kubectl splitmirror", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which API server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Which API server.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// The kubeconfig file [default: as kubectl finds it]
    #[arg(long, global = true, value_name = "FILE", help_heading = "API server")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig file [default: the current one]
    #[arg(long, global = true, value_name = "NAME", help_heading = "API server")]
    pub context: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show claims with their volumes, the images of each, and its snapshots
    Status(StatusArgs),
}

/// Of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only these claims
    #[arg(value_name = "CLAIM")]
    pub claims: Vec<String>,
    /// The namespace [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces, and volumes that no claim is bound to
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Go on showing it when something changes, until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        let parsed = |args: &[&str]| Cli::try_parse_from([&["kubectl-splitmirror"], args].concat());
        assert!(parsed(&["status", "data", "-n", "db", "-w", "-o", "json", "--context", "x"]).is_ok());
        assert!(parsed(&["status", "-A", "-n", "db"]).is_err());
    }
}
