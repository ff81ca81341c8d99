//! `cargo xtask codegen`: files of the project that are made from others, kept in the clone so that who only wants to use or
//! read them needs no tools.
//!
//! | file | from |
//! |---|---|
//! | `charts/splitmirror/files/crds/*.yaml` | the types in `src/api/` |
//! | the table in `charts/splitmirror/README.md` | comments and defaults in `values.yaml` |
//! | `deploy/splitmirror.yaml` | the chart, as the real `helm` renders it |
//!
//! `--check` writes nothing and fails when a file is not what it would be made.

mod crds;
mod manifests;
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;

/// The chart.
const CHART: &str = "charts/splitmirror";

/// Make the files that are made from others
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Write nothing; fail when a file is not what it would be made
    #[arg(long)]
    check: bool,
}

/// A file as it should be.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    text: String,
}

/// In this order: a later one may be made from what an earlier one wrote.
const MAKERS: &[fn() -> Result<Vec<Made>>] = &[crds::make, values::make, manifests::make];

/// Makes them, or compares.
pub fn main(args: &Args) -> Result<()> {
    if args.check {
        return check();
    }
    for make in MAKERS {
        for Made { path, text } in make()? {
            if is(&path, &text)? {
                continue;
            }
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
            }
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            println!("made {}", path.display());
        }
    }
    Ok(())
}

/// Compares all of them.
pub fn check() -> Result<()> {
    let mut stale = Vec::new();
    for make in MAKERS {
        for Made { path, text } in make()? {
            if !is(&path, &text)? {
                stale.push(path.display().to_string());
            }
        }
    }
    if !stale.is_empty() {
        bail!("not what they would be made: {}; run `cargo xtask codegen`", stale.join(", "));
    }
    Ok(())
}

/// Whether a file has this text. One that is not there has none.
fn is(path: &Path, text: &str) -> Result<bool> {
    match fs::read_to_string(path) {
        Ok(old) => Ok(old == text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
