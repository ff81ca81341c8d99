//! A program of the control plane, held so that it cannot outlive us.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    holder: Child,
    life_line: Option<ChildStdin>,
}

impl Daemon {
    /// Starts it; what it prints is added to `log`. `xtask` is our own program.
    pub fn start(xtask: &Path, program: &Path, args: &[String], log: &Path) -> Result<Self> {
        let open = || {
            let file = OpenOptions::new().create(true).append(true).open(log);
            file.with_context(|| format!("opening {}", log.display()))
        };
        let mut holder = Command::new(xtask)
            .arg("hold")
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { life_line: holder.stdin.take(), holder })
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.holder.try_wait().context("looking after a program")?.is_some())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.life_line.take());
        if let Err(error) = self.holder.wait() {
            eprintln!("xtask: waiting for a program's end: {error}");
        }
    }
}
