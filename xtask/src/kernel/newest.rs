//! The newest guest kernel that can be had: Debian sid's package, else trixie's, unpacked into the cache.
//!
//! Its program wants a newer C library than Debian 12 has, so that is unpacked beside it and the program
//! told to use it (`patchelf`). Once unpacked it stays; remove the directory for a newer one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Kernel, probe, xstate};
use crate::apt::Suite;
use crate::cache::Cache;
use crate::cmd;

/// In the order of preference.
const SUITES: [&str; 2] = ["sid", "trixie"];

/// Finds the unpacked kernel, or fetches one.
pub fn find(cache: &Cache) -> Result<Kernel> {
    let mut reasons = Vec::new();
    for suite in SUITES {
        let dir = cache.made(&format!("kernels/{suite}"), |work, dir| fetch(suite, work, dir));
        match dir.and_then(|dir| open(&dir, cache)) {
            Ok(kernel) => return Ok(kernel),
            Err(error) => reasons.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("{}", reasons.join("; "))
}

/// Fetches and unpacks into `work`, which becomes `dir`.
fn fetch(suite: &str, work: &Path, dir: &Path) -> Result<()> {
    eprintln!("xtask: fetching the guest kernel of Debian {suite}");
    if !cmd::exists("patchelf") {
        bail!("patchelf is not there (run `cargo xtask setup`)");
    }
    let apt_dir = work.join("apt");
    let debs = Suite::open(suite, &apt_dir)?.download(&["user-mode-linux", "libc6"])?;
    for deb in debs {
        cmd::run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(work))?;
    }
    fs::remove_dir_all(&apt_dir).with_context(|| format!("removing {}", apt_dir.display()))?;

    // The C library of that suite, found rather than known: its directory has moved before. The paths
    // written into the program are those after the final rename.
    let loader = find_file(work, "ld-linux-x86-64.so.2")?.context("no loader in libc6")?;
    let library = find_file(work, "libc.so.6")?.context("no libc.so.6 in libc6")?;
    let installed = |path: &Path| -> Result<PathBuf> {
        Ok(dir.join(path.strip_prefix(work).context("a file outside its directory")?))
    };
    cmd::run(
        Command::new("patchelf")
            .arg("--set-interpreter")
            .arg(installed(&loader)?)
            .arg("--set-rpath")
            .arg(installed(library.parent().context("libc.so.6 has no directory")?)?)
            .arg(image(work)),
    )
}

/// Looks at an unpacked kernel.
fn open(dir: &Path, cache: &Cache) -> Result<Kernel> {
    let mut kernel = probe(&image(dir), &dir.join("usr/lib/uml/modules"), None, Vec::new())?;
    if has_seccomp(&kernel.image)? {
        // Processes are run by seccomp instead of ptrace: about twice as fast.
        kernel.args.push("seccomp=on".to_owned());
    } else {
        kernel.preload = Some(xstate::library(cache)?);
    }
    Ok(kernel)
}

fn image(dir: &Path) -> PathBuf {
    dir.join("usr/bin/linux.uml")
}

/// Whether this kernel can run its processes by seccomp (6.16 and later say so in their help).
fn has_seccomp(image: &Path) -> Result<bool> {
    Ok(cmd::stdout(Command::new(image).arg("--help"))?.contains("seccomp="))
}

/// The first regular file of this name below a directory.
fn find_file(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    let mut below = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry.with_context(|| format!("reading {}", dir.display()))?;
        let kind = entry.file_type().with_context(|| format!("looking at {}", entry.path().display()))?;
        if kind.is_file() && entry.file_name() == name {
            return Ok(Some(entry.path()));
        }
        if kind.is_dir() {
            below.push(entry.path());
        }
    }
    for dir in below {
        if let Some(found) = find_file(&dir, name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
