//! A real Kubernetes: control plane, kubelets in guests with dm-raid in their kernel, snapshot controller. `cargo xtask test
//! cluster` runs scenarios in it, `cargo xtask cluster up` keeps one for a quick loop.
//!
//! ```text
//! xtask ── life line ──> unshare --net, xtask cluster-hold ──> xtask hold ──> etcd, kube-apiserver, …   (processes)
//!   │                            ^ requests (socket)       └─> guest-launch ──> node 1 … 3              (guests)
//!   └─ nsenter ──> tests, kubectl, helm: in the same network namespace
//! ```
//!
//! | part | from | kept |
//! |---|---|---|
//! | Kubernetes, sidecars | Go modules, `tests/cluster/bed/*/go.mod` | cache, by their pinned versions |
//! | `kubectl`, `helm` | an npm package | cache |
//! | etcd, containerd, runc, network plugins | Debian packages | cache |
//! | nodes' root with the fixed images | `mmdebstrap`, `mkfs.ext4 -d`, one guest that imports | cache, by packages and images |
//! | nodes' changes, disks and memory; etcd's data | | scratch directory, gone with the bed |

mod bed;
mod chart;
mod client;
mod control_plane;
mod daemon;
pub mod holder;
mod images;
pub mod inside;
mod network;
mod node;
mod node_image;
mod oci;
mod orders;
mod parts;
mod pki;
mod plan;
pub mod product;
mod programs;
mod protocol;
mod stop;
mod system;
mod tools;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, Subcommand};

pub use self::client::{Client, Held};
use self::images::Archive;
pub use self::images::{BUSYBOX, DATABASE};
pub use self::parts::{NODES, PACKAGES, Parts, obstacle};
pub use self::protocol::Request;
pub use self::tools::clients;
use crate::cache::Cache;
use crate::cargo::build_for_guest;
use crate::cmd;

/// Keep a Kubernetes for a quick loop
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do with it.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring it up and leave it running
    Up {
        /// How many nodes
        #[arg(long, default_value_t = NODES, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Nodes' kernel: debian, newest, or a version like 6.1 [default: newest, else debian]
        #[arg(long)]
        kernel: Option<String>,
    },
    /// Build the project's image again and put it into the nodes (its pods must be restarted)
    Load,
    /// End it
    Down,
    /// Run a program in its network, with KUBECONFIG set and kubectl and helm in PATH
    Run {
        /// Program and arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Does it.
pub fn main(args: &Args) -> Result<ExitCode> {
    let running = running()?;
    match (&args.verb, running) {
        (Verb::Up { .. }, Some(running)) => {
            println!("it is up already");
            tell(&running);
            Ok(ExitCode::SUCCESS)
        }
        (Verb::Up { nodes, kernel }, None) => up(*nodes, kernel.as_deref()),
        (Verb::Load, Some(running)) => load(&running).map(|()| ExitCode::SUCCESS),
        (Verb::Down, Some(running)) => running.ask(&Request::Down).map(|_| ExitCode::SUCCESS),
        (Verb::Down, None) => Ok(ExitCode::SUCCESS),
        (Verb::Run { command }, Some(running)) => run(&running, command),
        (Verb::Run { .. } | Verb::Load, None) => bail!("there is no bed (cargo xtask cluster up)"),
    }
}

/// The bed that was brought up to stay, if there is one.
pub fn running() -> Result<Option<Client>> {
    Client::find(&dir()?.join("bed.json"))
}

/// Builds the project's image and puts it into the nodes of a bed that stays.
pub fn load(bed: &Client) -> Result<()> {
    let file = image(&build_for_guest("cluster")?.program)?.file;
    bed.ask(&Request::Import { file }).map(|_| ())
}

/// Where the bed that stays keeps its files.
fn dir() -> Result<PathBuf> {
    Cache::open()?.dir("cluster")
}

fn up(nodes: u8, kernel: Option<&str>) -> Result<ExitCode> {
    if let Some(obstacle) = obstacle() {
        bail!("{obstacle}");
    }
    let parts = Parts::find(&Cache::open()?, kernel)?;
    let image = image(&build_for_guest("cluster")?.program)?;
    let held = Held::start(&parts.spec(nodes, &[image], dir()?, true))?;
    tell(&held.detach());
    Ok(ExitCode::SUCCESS)
}

/// The image of this program, instead of those of before.
fn image(program: &Path) -> Result<Archive> {
    let images = dir()?.join("images");
    fs::create_dir_all(&images).with_context(|| format!("creating {}", images.display()))?;
    // Not the directory: guests have it open.
    for entry in fs::read_dir(&images).with_context(|| format!("reading {}", images.display()))? {
        let old = entry.with_context(|| format!("reading {}", images.display()))?.path();
        let removed = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
        removed.with_context(|| format!("removing {}", old.display()))?;
    }
    product::build(&Cache::open()?, program, &images)
}

/// Says how to use it.
fn tell(bed: &Client) {
    println!("KUBECONFIG={}", bed.description.kubeconfig.display());
    println!("logs of the control plane: {}", bed.description.logs.display());
    println!("it has a network of its own: cargo xtask cluster run -- kubectl get pods -A");
    println!("to end it: cargo xtask cluster down");
}

fn run(bed: &Client, command: &[OsString]) -> Result<ExitCode> {
    let (program, args) = command.split_first().context("no command given")?;
    let mut command = bed.inside(program)?;
    let status = command.args(args).status();
    let status = status.with_context(|| format!("starting `{}`", cmd::line(&command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
    Ok(ExitCode::from(code))
}
