//! Guest kernels: user-mode-linux from Debian packages.
//!
//! | asked for as | what | from |
//! |---|---|---|
//! | `debian`, `uml-6.1` | the kernel of Debian 12 | the installed package `user-mode-linux` |
//! | `newest`, `uml-7.2` | the newest that can be had | the package of Debian sid, else of trixie, unpacked into the cache |
//!
//! A kernel's id carries its own version (`uml-` and the first two numbers), so a test id says what really ran.
//! A kernel that can't be had is [`Missing`], with the reason; nothing is left out in silence.

mod debian;
mod newest;
mod xstate;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::cmd;

/// A kernel that can boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As in test ids, for example `uml-6.1`.
    pub id: String,
    /// As `uname -r` says.
    pub release: String,
    /// The program.
    pub image: PathBuf,
    /// The directory that holds `RELEASE/modules.dep`.
    pub modules: PathBuf,
    /// A library to start the program with.
    pub preload: Option<PathBuf>,
    /// What this kernel wants on its command line.
    pub args: Vec<String>,
}

/// A kernel that can't be had.
#[derive(Clone, Debug)]
pub struct Missing {
    /// What it was asked for as.
    pub id: String,
    /// Why not.
    pub reason: String,
}

/// A kernel or the reason why there is none.
pub type Found = Result<Kernel, Missing>;

/// Where a kernel comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Debian 12's installed package.
    Debian,
    /// The newest that can be had.
    Newest,
}

impl Origin {
    /// All of them, the one that every machine has first.
    pub const ALL: [Self; 2] = [Self::Debian, Self::Newest];

    /// The name to ask for it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Newest => "newest",
        }
    }

    /// Finds it, fetching and unpacking what is not in the cache.
    pub fn find(self, cache: &Cache) -> Found {
        let found = match self {
            Self::Debian => debian::find(cache),
            Self::Newest => newest::find(cache),
        };
        found.map_err(|error| Missing { id: format!("uml-{}", self.name()), reason: format!("{error:#}") })
    }
}

/// The kernels asked for by name, or the given default.
pub fn select(cache: &Cache, asked: &[String], default: &[Origin]) -> Result<Vec<Found>> {
    if asked.is_empty() {
        return Ok(default.iter().map(|origin| origin.find(cache)).collect());
    }
    let mut chosen = Vec::new();
    for name in asked {
        if let Some(origin) = Origin::ALL.into_iter().find(|origin| origin.name() == name) {
            chosen.push(origin.find(cache));
            continue;
        }
        // By version: look what each origin really gives.
        let wanted = if name.starts_with("uml-") { name.clone() } else { format!("uml-{name}") };
        let all: Vec<Found> = Origin::ALL.iter().map(|origin| origin.find(cache)).collect();
        let Some(found) = all.iter().flatten().find(|kernel| kernel.id == wanted) else {
            let there: Vec<_> = all
                .iter()
                .map(|found| match found {
                    Ok(kernel) => kernel.id.clone(),
                    Err(missing) => format!("{} is missing: {}", missing.id, missing.reason),
                })
                .collect();
            bail!("no kernel `{name}` (there is: {})", there.join(", "));
        };
        chosen.push(Ok(found.clone()));
    }
    Ok(chosen)
}

/// One kernel: the one asked for, or the first of the default that is there.
pub fn select_one(cache: &Cache, asked: Option<&str>, default: &[Origin]) -> Result<Kernel> {
    if let Some(name) = asked {
        let found = select(cache, &[name.to_owned()], &[])?.into_iter().next().context("no kernel")?;
        return found.map_err(|missing| anyhow::anyhow!("{}: {}", missing.id, missing.reason));
    }
    let mut reasons = Vec::new();
    for origin in default {
        match origin.find(cache) {
            Ok(kernel) => return Ok(kernel),
            Err(missing) => reasons.push(format!("{}: {}", missing.id, missing.reason)),
        }
    }
    bail!("no guest kernel: {}", reasons.join("; "))
}

/// Looks at a kernel program and its modules.
fn probe(image: &Path, modules: &Path, preload: Option<PathBuf>, args: Vec<String>) -> Result<Kernel> {
    let release = cmd::stdout(Command::new(image).arg("--version"))?.trim().to_owned();
    if !modules.join(&release).join("modules.dep").is_file() {
        let there = names(modules)?.join(" ");
        bail!("{} is {release}, but {} holds: {there}", image.display(), modules.display());
    }
    let mut numbers = release.split(['.', '-']);
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("`{release}` is not a kernel release");
    };
    Ok(Kernel {
        id: format!("uml-{major}.{minor}"),
        release: release.clone(),
        image: image.to_owned(),
        modules: modules.to_owned(),
        preload,
        args,
    })
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry.with_context(|| format!("reading {}", dir.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
