//! The cache directory: what is fetched or built once and kept outside the clone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

/// The environment variable that moves the cache.
pub const VARIABLE: &str = "SPLITMIRROR_CACHE";

/// `${SPLITMIRROR_CACHE:-$HOME/.cache/splitmirror}`.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Finds the cache directory and makes sure that it is there.
    pub fn open() -> Result<Self> {
        let root = match std::env::var_os(VARIABLE) {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => {
                let home = std::env::var_os("HOME").context("neither SPLITMIRROR_CACHE nor HOME is set")?;
                Path::new(&home).join(".cache/splitmirror")
            }
        };
        fs::create_dir_all(&root).with_context(|| format!("creating the cache {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("resolving {}", root.display()))?;
        Ok(Self { root })
    }

    /// A directory of the cache, created when missing.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(dir)
    }

    /// A directory that is made once. `make` fills the first of its arguments, which then becomes the second: the
    /// directory appears only when all is done. Whoever wants the same meanwhile waits.
    pub fn made(&self, name: &str, make: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
        let beside = |suffix: &str| self.root.join(format!("{name}.{suffix}"));
        let dir = self.root.join(name);
        if dir.exists() {
            return Ok(dir);
        }
        let (lock, work) = (beside("lock"), beside("partial"));
        if let Some(parent) = lock.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        let file = File::create(&lock).with_context(|| format!("creating {}", lock.display()))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("locking {}", lock.display()))?;
        if dir.exists() {
            return Ok(dir);
        }
        // What a killed run left.
        remove(&work)?;
        fs::create_dir(&work).with_context(|| format!("creating {}", work.display()))?;
        if let Err(error) = make(&work, &dir) {
            remove(&work)?;
            return Err(error);
        }
        fs::rename(&work, &dir).with_context(|| format!("installing {}", dir.display()))?;
        Ok(dir)
    }
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(())
}

/// What a part of the cache was made from. Something else makes another name, so nothing stale is ever used.
#[derive(Clone, Debug, Default)]
pub struct Key(Sha256);

impl Key {
    /// With one more text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        // The length keeps "ab", "c" and "a", "bc" apart.
        self.0.update(text.len().to_le_bytes());
        self.0.update(text);
        self
    }

    /// With the contents of one more file.
    pub fn file(self, path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(self.text(&text))
    }

    /// `part-` and what all that comes to.
    pub fn name(&self, part: &str) -> String {
        let digest = self.0.clone().finalize();
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{part}-{hex}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_apart_what_it_was_made_from() {
        let name = Key::default().text("ab").text("c").name("part");
        assert_eq!(name, Key::default().text("ab").text("c").name("part"));
        assert_ne!(name, Key::default().text("a").text("bc").name("part"));
        assert!(name.starts_with("part-") && name.len() == 21, "{name}");
    }

    #[test]
    fn what_fails_is_made_again() {
        let root = std::env::temp_dir().join(format!("splitmirror-cache-test-{}", std::process::id()));
        let cache = Cache { root: root.clone() };
        assert!(cache.made("a/part", |_, _| anyhow::bail!("no")).is_err());
        let dir = cache.made("a/part", |work, _| Ok(fs::write(work.join("file"), "text")?)).unwrap();
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
        assert_eq!(cache.made("a/part", |_, _| anyhow::bail!("again")).unwrap(), dir);
        fs::remove_dir_all(root).unwrap();
    }
}
