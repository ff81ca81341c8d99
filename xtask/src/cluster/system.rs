//! The Debian systems of the bed, without a running machine: the root of nodes and the base of images.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cmd;

/// As on the machine itself: programs built there must run in nodes.
pub const SUITE: &str = "bookworm";

/// What nobody reads in a guest.
const LEFT_OUT: [&str; 4] =
    ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// Installs a minimal Debian and these packages into `target`, from the mirrors that the machine itself uses.
pub fn install(packages: &[&str], target: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    // Its output only if it fails: a progress display would break up the test report.
    command.args(["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]);
    for path in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    if !packages.is_empty() {
        command.arg(format!("--include={}", packages.join(",")));
    }
    cmd::stdout(command.arg(SUITE).arg(target)).map(|_| ())
}
