//! What xtask tells a guest's pid 1: a small JSON file that both sides read through the shared root.
//!
//! A file, not the kernel command line: no length limit, no quoting, and nothing to fork for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Everything pid 1 needs to know.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Boot {
    /// Part of the start and end markers, so that no output of a command can be taken for one.
    pub nonce: String,
    /// Kernel modules without which the private root cannot be built, in order.
    pub early_modules: Vec<PathBuf>,
    /// Kernel modules to load after those, in order. One that fails is reported, not fatal.
    pub modules: Vec<PathBuf>,
    /// The directory to be seen as `/lib/modules`.
    pub modules_root: PathBuf,
    /// What becomes the root.
    pub root: Root,
    /// Host directories, each seen at its own path.
    pub shared: Vec<Shared>,
    /// What `hostname` says.
    pub host_name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment of the command.
    pub env: Vec<(String, String)>,
    /// Working directory of the command.
    pub directory: PathBuf,
}

/// The root of a guest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Root {
    /// The host's own, under a private overlay: changes are lost with the guest.
    Host,
    /// The first disk, with an ext4 file system: it outlives a boot.
    Disk,
}

/// A host directory in the guest.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Shared {
    /// On both sides.
    pub path: PathBuf,
    /// Whether the guest may write to it.
    pub writable: bool,
}

impl Boot {
    /// Writes the file that `read` reads.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("rendering the boot file")?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a boot file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))
    }

    /// The line printed just before the command starts.
    pub fn start_marker(nonce: &str) -> String {
        format!("@@START {nonce}")
    }

    /// What the line printed after the command has ended begins with; its exit status follows.
    pub fn end_marker(nonce: &str) -> String {
        format!("@@END {nonce} ")
    }
}
