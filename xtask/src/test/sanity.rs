//! Upstream's `csi-sanity`, built from its Go module at a pinned version.

use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::cmd;

const MODULE: &str = "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity";
const VERSION: &str = "v5.6.0";

/// The program, built when it is not in the cache.
pub fn program() -> Result<String> {
    let dir = Cache::open()?.made(&format!("csi-sanity-{VERSION}"), |work, _| {
        println!("building csi-sanity {VERSION}");
        cmd::run(
            Command::new("go")
                .args(["install", "-trimpath"])
                .arg(format!("{MODULE}@{VERSION}"))
                .env("GOBIN", work)
                // Static, so that it runs in any guest; and cgo would need more of the machine.
                .env("CGO_ENABLED", "0"),
        )
        .context("building csi-sanity")
    })?;
    dir.join("csi-sanity").into_os_string().into_string().ok().context("the cache's path is not UTF-8")
}
