//! What we ask cargo: which targets there are, and where it put an executable.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cmd;

/// The package whose tests are run.
pub const PACKAGE: &str = "splitmirror";

/// The profile of everything that runs in a guest.
const PROFILE: &str = "guest";

/// `cargo` as it was called.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// One package of `cargo metadata`.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression.
    pub license: Option<String>,
    /// Where it comes from; nothing for our own.
    pub source: Option<String>,
    /// What it builds.
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// What `cargo metadata` says.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// All packages asked for.
    pub packages: Vec<Package>,
    /// The target directory.
    pub target_directory: PathBuf,
}

impl Metadata {
    /// Our own packages.
    pub fn own() -> Result<Self> {
        Self::read(cargo().args(["metadata", "--format-version=1", "--no-deps"]))
    }

    /// Our own and all that they use on this kind of machine.
    pub fn all() -> Result<Self> {
        let rustc = cmd::stdout(Command::new("rustc").arg("-vV"))?;
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc has no host")?;
        Self::read(cargo().args(["metadata", "--format-version=1", "--filter-platform", host]))
    }

    fn read(command: &mut Command) -> Result<Self> {
        serde_json::from_str(&cmd::stdout(command)?).context("reading cargo metadata")
    }

    /// Whether the main package has an integration test of this name.
    pub fn has_test(&self, name: &str) -> bool {
        self.packages
            .iter()
            .filter(|package| package.name == PACKAGE)
            .flat_map(|package| &package.targets)
            .any(|target| target.name == name && target.kind.iter().any(|kind| kind == "test"))
    }
}

/// What was built for a guest.
#[derive(Clone, Debug)]
pub struct GuestBuild {
    /// The integration test.
    pub test: PathBuf,
    /// The program itself.
    pub program: PathBuf,
}

/// Builds an integration test, and the program with it, for running in a guest.
pub fn build_for_guest(test: &str) -> Result<GuestBuild> {
    build(test, PROFILE, &[])
}

/// Builds a test that runs on the simulated machine, and the program with it, as they are released: what they take is measured.
pub fn build_release_with_sim(test: &str) -> Result<GuestBuild> {
    build(test, "release", &["--features", "sim"])
}

fn build(test: &str, profile: &str, more: &[&str]) -> Result<GuestBuild> {
    let mut command = cargo();
    command
        .args(["test", "--no-run", "--package", PACKAGE, "--profile", profile, "--test", test])
        .args(more)
        .arg("--message-format=json-render-diagnostics");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting `{}`", cmd::line(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", cmd::line(&command), output.status);
    }
    let mut built = executables(&String::from_utf8_lossy(&output.stdout));
    let mut take = |kind: &str, name: &str| {
        built
            .remove(&(kind.to_owned(), name.to_owned()))
            .with_context(|| format!("cargo built no executable for {kind} `{name}`"))
    };
    Ok(GuestBuild { test: take("test", test)?, program: take("bin", PACKAGE)? })
}

/// (kind, name) of a target → its executable.
fn executables(messages: &str) -> HashMap<(String, String), PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    let mut found = HashMap::new();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()) {
        if let (Some(target), Some(executable)) = (message.target, message.executable) {
            for kind in target.kind {
                found.insert((kind, target.name.clone()), executable.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"kernel","kind":["test"]},"executable":"/t/kernel-1"}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found[&("test".to_owned(), "kernel".to_owned())], PathBuf::from("/t/kernel-1"));
    }
}
