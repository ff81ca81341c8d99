//! Builds the small library that lets older guest kernels run on processors with AMX; `xstate.c` tells why.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::cmd;

const SOURCE: &str = include_str!("xstate.c");

/// The library, built when it is not in the cache or another source was built there.
pub fn library(cache: &Cache) -> Result<PathBuf> {
    let dir = cache.dir("xstate")?;
    let (source, library) = (dir.join("xstate.c"), dir.join("xstate.so"));
    if library.exists() && fs::read_to_string(&source).is_ok_and(|built| built == SOURCE) {
        return Ok(library);
    }
    // Built beside and renamed: another xtask may be starting a guest with it right now.
    let fresh = dir.join(format!("xstate-{}.so", std::process::id()));
    fs::remove_file(&library).ok();
    fs::write(&source, SOURCE).with_context(|| format!("writing {}", source.display()))?;
    cmd::run(Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&fresh).arg(&source))
        .context("a C compiler is needed (Debian package gcc)")?;
    fs::rename(&fresh, &library).with_context(|| format!("installing {}", library.display()))?;
    Ok(library)
}
