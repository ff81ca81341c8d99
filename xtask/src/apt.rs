//! apt: installing what is missing, and fetching packages of another Debian release without touching
//! the machine's own configuration.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cmd;

/// Debian's own keys, for a source that the machine's configuration gives no key file for.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which of these packages are not installed.
pub fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut missing = Vec::new();
    for package in packages {
        let output = Command::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}", package])
            .output()
            .context("starting dpkg-query")?;
        if output.stdout != b"installed" {
            missing.push(*package);
        }
    }
    Ok(missing)
}

/// Installs packages, after refreshing the lists when they don't know one of them.
pub fn install(packages: &[&str]) -> Result<()> {
    let known =
        Command::new("apt-cache").arg("show").args(packages).output().context("starting apt-cache")?;
    if !known.status.success() {
        cmd::run(Command::new("apt-get").args(["update", "--quiet"]))?;
    }
    let install = || {
        cmd::run(
            Command::new("apt-get")
                .args(["install", "--yes", "--quiet", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    if install().is_err() {
        // Lists may be so old that the files they name are gone from the mirror.
        cmd::run(Command::new("apt-get").args(["update", "--quiet"]))?;
        install()?;
    }
    Ok(())
}

/// Another Debian release, with lists and state in a directory of its own.
#[derive(Debug)]
pub struct Suite {
    dir: PathBuf,
}

impl Suite {
    /// Reads the release's lists from the mirror that the machine itself uses.
    pub fn open(suite: &str, dir: &Path) -> Result<Self> {
        for name in ["lists/partial", "cache/archives/partial", "debs"] {
            let dir = dir.join(name);
            fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        for (name, text) in [("sources.list", source.as_str()), ("status", "")] {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        let suite = Self { dir: dir.to_owned() };
        // Output only if it fails: a progress display would break up the test report.
        cmd::stdout(suite.apt_get().args(["update", "--quiet"]))?;
        Ok(suite)
    }

    /// Downloads packages (not what they depend on) and returns the files.
    pub fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let debs = self.dir.join("debs");
        cmd::stdout(self.apt_get().args(["download", "--quiet"]).args(packages).current_dir(&debs))?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&debs).with_context(|| format!("reading {}", debs.display()))? {
            files.push(entry.with_context(|| format!("reading {}", debs.display()))?.path());
        }
        if files.len() != packages.len() {
            bail!("apt-get download gave {} files for {}", files.len(), packages.join(" "));
        }
        Ok(files)
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        let mut option = |key: &str, value: &Path| {
            let mut text = OsString::from(format!("{key}="));
            text.push(value);
            command.arg("-o").arg(text);
        };
        option("Dir::Etc::SourceList", &self.dir.join("sources.list"));
        option("Dir::Etc::SourceParts", Path::new("/dev/null"));
        option("Dir::Etc::Preferences", Path::new("/dev/null"));
        option("Dir::Etc::PreferencesParts", Path::new("/dev/null"));
        option("Dir::State", &self.dir);
        option("Dir::State::Lists", &self.dir.join("lists"));
        option("Dir::State::Status", &self.dir.join("status"));
        option("Dir::Cache", &self.dir.join("cache"));
        command.args(["-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3"]);
        // The user `_apt` may not reach our directory.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}

/// The Debian mirror in the machine's own configuration.
fn mirror() -> Result<String> {
    let targets = cmd::stdout(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(LABEL)|$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    find_mirror(&targets).context("no Debian mirror in apt's configuration")
}

/// Prefers what says that it is Debian; before the first `apt-get update` nothing says anything.
fn find_mirror(targets: &str) -> Option<String> {
    let entries: Vec<(&str, &str)> = targets.lines().filter_map(|line| line.rsplit_once('|')).collect();
    let said = entries.iter().find(|(says, _)| *says == "Debian|Debian");
    let looks = || entries.iter().find(|(_, uri)| uri.trim_end_matches('/').ends_with("/debian"));
    said.or_else(looks).map(|(_, uri)| (*uri).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_that_says_debian() {
        let targets = "Other||http://other.example/debian/\n\
                       Debian|Debian-Security|http://mirror.example/debian-security/\n\
                       Debian|Debian|http://mirror.example/debian/\n";
        assert_eq!(find_mirror(targets).unwrap(), "http://mirror.example/debian/");
    }

    #[test]
    fn the_mirror_is_found_by_its_path_before_the_first_update() {
        let targets = "||http://mirror.example/debian-security/\n||http://mirror.example/debian/\n";
        assert_eq!(find_mirror(targets).unwrap(), "http://mirror.example/debian/");
        assert_eq!(find_mirror(""), None);
    }
}
