//! The process between xtask and a guest: `xtask guest-launch KERNEL ARGS…`, a [`super::hold`] with the guest's own wiring.
//!
//! | descriptor | launcher | guest kernel |
//! |---|---|---|
//! | 0 | life line (read end) | where the command's terminal writes |
//! | 1 | kernel console | kernel console |
//! | 2 | command's output | kernel console |

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::hold::hold;

/// Starts the guest kernel, and returns when all its processes are gone.
pub fn main(kernel: &OsString, args: &[OsString]) -> Result<()> {
    hold(
        Command::new(kernel)
            .args(args)
            .stdin(Stdio::from(std::io::stderr()))
            .stdout(Stdio::inherit())
            .stderr(Stdio::from(std::io::stdout())),
    )
}
