//! The pools of the chart's values: a JSON file that is the same on every node.
//!
//! ```json
//! [{"volumeGroup": "fast", "devices": ["/dev/disk/by-id/nvme-1", "/dev/disk/by-id/nvme-2"],
//!   "nodes": ["worker-*"], "wipe": []}]
//! ```
//!
//! Without `devices` the group must exist. Without `nodes` it is meant for all of them; in their names `*` stands for any
//! text and `?` for one character.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ids::VgName;
use crate::node::wish::PoolWish;
use crate::report::Class;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("read the pools in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the pools in {} are not understood", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A group is meant for one node twice.
    #[error("the pools in {} name volume group {volume_group} twice for node {node}", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The group.
        volume_group: VgName,
        /// The node.
        node: String,
    },
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Read { .. } => Class::Transient,
            Self::Parse { .. } | Self::Twice { .. } => Class::Invalid,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    volume_group: VgName,
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    nodes: Vec<String>,
    #[serde(default)]
    wipe: Vec<String>,
}

/// The pools that a file means for a node.
///
/// # Errors
/// It cannot be read or understood, or names a group twice for this node.
pub fn read(path: &Path, node: &str) -> Result<Vec<PoolWish>, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(path, &text, node)
}

fn parse(path: &Path, text: &str, node: &str) -> Result<Vec<PoolWish>, Error> {
    let entries: Vec<Entry> =
        serde_json::from_str(text).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
    let mut pools: Vec<PoolWish> = Vec::new();
    for entry in entries {
        if !entry.nodes.is_empty() && !entry.nodes.iter().any(|pattern| matches(pattern, node)) {
            continue;
        }
        if pools.iter().any(|pool| pool.volume_group == entry.volume_group) {
            let (path, node) = (path.to_owned(), node.to_owned());
            return Err(Error::Twice { path, volume_group: entry.volume_group, node });
        }
        let Entry { volume_group, devices, wipe, .. } = entry;
        pools.push(PoolWish { volume_group, devices, wipe, extent_size: None });
    }
    Ok(pools)
}

/// Whether a name is one that a pattern means.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pattern_rest = pattern.chars();
    match pattern_rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = pattern_rest.as_str();
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.any(|at| matches(rest, &name[at..]))
        }
        Some(wanted) => {
            let mut name_rest = name.chars();
            name_rest.next().is_some_and(|c| wanted == '?' || wanted == c)
                && matches(pattern_rest.as_str(), name_rest.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str, node: &str) -> Result<Vec<String>, Error> {
        let pools = parse(Path::new("pools.json"), text, node)?;
        Ok(pools.into_iter().map(|pool| pool.volume_group.into()).collect())
    }

    #[test]
    fn a_pool_is_for_the_nodes_that_it_names_or_for_all() {
        let text = r#"[{"volumeGroup": "all"}, {"volumeGroup": "some", "nodes": ["worker-*", "db?"]}]"#;
        for (node, expected) in [
            ("worker-1", &["all", "some"][..]),
            ("db1", &["all", "some"]),
            ("db12", &["all"]),
            ("x", &["all"]),
        ] {
            assert_eq!(groups(text, node).expect("well formed"), expected, "{node}");
        }
    }

    #[test]
    fn patterns_mean_whole_names() {
        for (pattern, name, means) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*b*", "abc", true),
            ("a?c", "ac", false),
            ("node-1", "node-1", true),
            ("node-1", "node-10", false),
        ] {
            assert_eq!(matches(pattern, name), means, "{pattern} {name}");
        }
    }

    #[test]
    fn mistakes_are_told_and_not_passed_over() {
        for text in [
            "{}",
            r#"[{"devices": []}]"#,
            r#"[{"volumeGroup": "a/b"}]"#,
            r#"[{"volumeGroup": "a", "device": ["/dev/sda"]}]"#,
            r#"[{"volumeGroup": "a"}, {"volumeGroup": "a", "nodes": ["n*"]}]"#,
        ] {
            assert_eq!(groups(text, "n").expect_err(text).class(), Class::Invalid);
        }
        let apart = r#"[{"volumeGroup": "a", "nodes": ["m"]}, {"volumeGroup": "a", "nodes": ["n"]}]"#;
        assert!(groups(apart, "n").is_ok());
    }
}
