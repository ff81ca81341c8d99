//! Kernel modules: which a guest needs, and in which order (`modules.dep`), so that pid 1 can load them
//! without `modprobe` and without a fork.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::kernel::Kernel;

/// Loaded in every guest, where the kernel has them: what the driver and its tests use.
/// ext4, XFS and btrfs are built in.
pub const WANTED: &[&str] = &[
    "dm-mod",
    "dm-raid",
    "raid1",
    "dm-clone",
    "dm-flakey",
    "dm-dust",
    "dm-delay",
    "dm-log-writes",
    "dm-snapshot",
    "dm-zero",
    "loop",
];

/// The modules of one kernel.
#[derive(Debug)]
pub struct Modules {
    dir: PathBuf,
    /// File name without `.ko…`, with `_` for `-` → path relative to `dir`, and what it needs.
    by_name: HashMap<String, (String, Vec<String>)>,
}

impl Modules {
    /// Reads a kernel's `modules.dep`.
    pub fn of(kernel: &Kernel) -> Result<Self> {
        let dir = kernel.modules.join(&kernel.release);
        let path = dir.join("modules.dep");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { by_name: parse(&text), dir })
    }

    /// The files to load for these modules, each after what it needs. Those the kernel lacks (or has
    /// built in) are left out.
    pub fn in_order(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for name in wanted {
            let Some((path, needs)) = self.by_name.get(&key(name)) else { continue };
            // `modules.dep` lists all that is needed, directly or not, the last to load first.
            for file in needs.iter().rev().chain([path]) {
                let file = self.dir.join(file);
                if file.extension().is_none_or(|kind| kind != "ko") {
                    bail!("{} is compressed, which the guest's pid 1 does not undo", file.display());
                }
                if !order.contains(&file) {
                    order.push(file);
                }
            }
        }
        Ok(order)
    }
}

/// The kernel takes `-` and `_` in module names for the same.
fn key(name: &str) -> String {
    name.replace('-', "_")
}

fn parse(text: &str) -> HashMap<String, (String, Vec<String>)> {
    text.lines()
        .filter_map(|line| {
            let (path, needs) = line.split_once(':')?;
            let name = Path::new(path).file_name()?.to_str()?.split('.').next()?;
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            Some((key(name), (path.to_owned(), needs)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let text = "md/dm-raid.ko: md/raid456.ko md/dm-mod.ko md/md-mod.ko\nmd/md-mod.ko:\n\
                    md/raid1.ko: md/md-mod.ko\n";
        let modules = Modules { dir: "/m".into(), by_name: parse(text) };
        let order = modules.in_order(&["dm-raid", "raid1", "not-there"]).unwrap();
        let names: Vec<_> = order.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["/m/md/md-mod.ko", "/m/md/dm-mod.ko", "/m/md/raid456.ko", "/m/md/dm-raid.ko", "/m/md/raid1.ko"]
        );
    }
}
