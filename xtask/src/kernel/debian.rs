//! Debian 12's guest kernel, as the package `user-mode-linux` installs it.

use std::path::Path;

use anyhow::{Result, bail};

use super::{Kernel, probe, xstate};
use crate::cache::Cache;

const IMAGE: &str = "/usr/bin/linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";

/// Finds the installed kernel.
pub fn find(cache: &Cache) -> Result<Kernel> {
    if !Path::new(IMAGE).exists() {
        bail!("{IMAGE} is not there (run `cargo xtask setup`)");
    }
    probe(Path::new(IMAGE), Path::new(MODULES), Some(xstate::library(cache)?), Vec::new())
}
