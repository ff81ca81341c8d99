//! Pure: in which pool a new volume is made, and what fits where.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::controller::entry::PoolEntry;
use crate::csi::backend::{Capacity, CapacityWish, Error, Nodes, Result};
use crate::ids::VgName;
use crate::report::Class;
use crate::units::Bytes;

/// How many nodes a refusal tells of.
const TOLD_MAX: usize = 5;

/// What a volume needs.
#[derive(Clone, Debug)]
pub struct Need<'a> {
    /// Number of images.
    pub images: usize,
    /// Its size.
    pub size: Bytes,
    /// The pool, when one is named.
    pub pool: Option<&'a VgName>,
    /// Where it may be.
    pub nodes: &'a Nodes,
}

/// The pool for a volume: on the node that is preferred most, and of those equally good the one with the most room.
///
/// # Errors
/// There is none: `Exhausted`, and what is missing where.
pub fn place<'a>(need: &Need<'_>, pools: impl IntoIterator<Item = &'a PoolEntry>) -> Result<&'a PoolEntry> {
    let Nodes { requisite, preferred } = need.nodes;
    let mut fitting = Vec::new();
    let mut lacking: BTreeMap<&str, Vec<String>> =
        requisite.iter().map(|node| (node.as_str(), Vec::new())).collect();
    for pool in pools {
        if !requisite.is_empty() && !requisite.contains(&pool.node) {
            continue;
        }
        if need.pool.is_some_and(|name| *name != pool.pool) {
            continue;
        }
        match lacks(need, pool) {
            None => fitting.push(pool),
            Some(lack) => lacking.entry(&pool.node).or_default().push(format!("pool {} {lack}", pool.pool)),
        }
    }
    let rank = |pool: &&PoolEntry| {
        let preference = preferred.iter().position(|node| *node == pool.node).unwrap_or(usize::MAX);
        (preference, Reverse(fits(pool, need.images).available))
    };
    fitting.into_iter().min_by_key(rank).ok_or_else(|| refusal(need, &lacking))
}

/// What a pool lacks for a volume.
fn lacks(need: &Need<'_>, pool: &PoolEntry) -> Option<String> {
    if let Err(why) = &pool.ready {
        return Some(format!("cannot be used: {why}"));
    }
    if usize::try_from(pool.disks).is_ok_and(|disks| disks < need.images) {
        return Some(format!("has {} disks", pool.disks));
    }
    let largest = fits(pool, need.images).largest;
    (largest < need.size).then(|| format!("has room for {largest}"))
}

fn refusal(need: &Need<'_>, lacking: &BTreeMap<&str, Vec<String>>) -> Error {
    let Need { images, size, pool, .. } = need;
    let which = pool.map_or_else(|| "no pool".to_owned(), |pool| format!("no pool {pool}"));
    let mut told: Vec<String> = lacking
        .iter()
        .take(TOLD_MAX)
        .map(|(node, lacks)| match lacks.as_slice() {
            [] => format!("node {node} has {which}"),
            lacks => format!("node {node}: {}", lacks.join(", ")),
        })
        .collect();
    if lacking.len() > TOLD_MAX {
        told.push(format!("and {} nodes more", lacking.len() - TOLD_MAX));
    }
    if told.is_empty() {
        told.push(format!("there is {which} on any node"));
    }
    let message = format!("there is no room for {images} images of {size}: {}", told.join("; "));
    Error::new(Class::Exhausted, message)
}

/// What fits in a pool that can be used.
fn fits(pool: &PoolEntry, images: usize) -> Capacity {
    let of = pool.capacity.iter().find(|capacity| usize::from(capacity.images) == images);
    let none = Capacity { available: Bytes::ZERO, largest: Bytes::ZERO };
    match of {
        Some(of) if pool.ready.is_ok() => Capacity { available: of.available.0, largest: of.largest.0 },
        Some(_) | None => none,
    }
}

/// What fits in all pools that are meant.
#[must_use]
pub fn capacity<'a>(wish: &CapacityWish, pools: impl IntoIterator<Item = &'a PoolEntry>) -> Capacity {
    let meant = |pool: &&PoolEntry| {
        wish.node.as_ref().is_none_or(|node| *node == pool.node)
            && wish.pool.as_ref().is_none_or(|name| *name == pool.pool)
    };
    let mut sum = Capacity { available: Bytes::ZERO, largest: Bytes::ZERO };
    for pool in pools.into_iter().filter(meant) {
        let Capacity { available, largest } = fits(pool, wish.images);
        sum.available += available;
        sum.largest = sum.largest.max(largest);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pool::PoolCapacity;
    use crate::controller::entry::tests::pool;

    fn with_room(node: &str, name: &str, available: Bytes, largest: Bytes) -> PoolEntry {
        let room = PoolCapacity { images: 2, available: available.into(), largest: largest.into() };
        PoolEntry { disks: 3, capacity: vec![room], ..pool(node, name) }
    }

    fn pools() -> Vec<PoolEntry> {
        vec![
            with_room("a", "fast", Bytes::gib(8), Bytes::gib(4)),
            with_room("b", "fast", Bytes::gib(20), Bytes::gib(10)),
            with_room("b", "slow", Bytes::gib(40), Bytes::gib(2)),
            with_room("c", "slow", Bytes::gib(30), Bytes::gib(30)),
        ]
    }

    fn nodes(requisite: &[&str], preferred: &[&str]) -> Nodes {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Nodes { requisite: owned(requisite), preferred: owned(preferred) }
    }

    fn placed(size: Bytes, pool: Option<&str>, nodes: &Nodes) -> std::result::Result<String, String> {
        let pool: Option<VgName> = pool.map(|pool| pool.parse().expect("legal"));
        let need = Need { images: 2, size, pool: pool.as_ref(), nodes };
        let pools = pools();
        match place(&need, &pools) {
            Ok(pool) => Ok(format!("{}/{}", pool.node, pool.pool)),
            Err(error) => {
                assert_eq!(error.class, Class::Exhausted);
                Err(error.message)
            }
        }
    }

    #[test]
    fn the_preferred_node_comes_before_room() {
        let anywhere = nodes(&[], &[]);
        assert_eq!(placed(Bytes::gib(1), None, &anywhere).as_deref(), Ok("b/slow"));
        assert_eq!(placed(Bytes::gib(3), None, &anywhere).as_deref(), Ok("c/slow"));
        assert_eq!(placed(Bytes::gib(1), None, &nodes(&["a", "b"], &["a", "b"])).as_deref(), Ok("a/fast"));
        assert_eq!(placed(Bytes::gib(5), None, &nodes(&["a", "b"], &["a", "b"])).as_deref(), Ok("b/fast"));
        assert_eq!(placed(Bytes::gib(1), Some("fast"), &anywhere).as_deref(), Ok("b/fast"));
    }

    #[test]
    fn what_is_missing_is_told_for_each_node() {
        assert_eq!(
            placed(Bytes::gib(5), Some("fast"), &nodes(&["a", "c"], &[])),
            Err("there is no room for 2 images of 5GiB: node a: pool fast has room for 4GiB; node c has no pool fast"
                .to_owned())
        );
        assert_eq!(
            placed(Bytes::gib(1), Some("other"), &nodes(&[], &[])),
            Err("there is no room for 2 images of 1GiB: there is no pool other on any node".to_owned())
        );
    }

    #[test]
    fn a_pool_without_enough_disks_or_that_is_not_ready_takes_nothing() {
        let few = PoolEntry { disks: 2, ..with_room("a", "fast", Bytes::gib(8), Bytes::gib(8)) };
        let broken = PoolEntry {
            ready: Err("a disk is missing".to_owned()),
            ..with_room("b", "fast", Bytes::gib(8), Bytes::gib(8))
        };
        let pools = [few, broken];
        let need = Need { images: 3, size: Bytes::gib(1), pool: None, nodes: &Nodes::default() };
        let message = place(&need, &pools).expect_err("none").message;
        assert!(message.contains("node a: pool fast has 2 disks"), "{message}");
        assert!(message.contains("node b: pool fast cannot be used: a disk is missing"), "{message}");
    }

    #[test]
    fn a_refusal_does_not_tell_of_a_hundred_nodes() {
        let names: Vec<String> = (0..100).map(|n| format!("node-{n:02}")).collect();
        let nodes = Nodes { requisite: names, preferred: Vec::new() };
        let need = Need { images: 2, size: Bytes::gib(1), pool: None, nodes: &nodes };
        let message = place(&need, &[]).expect_err("none").message;
        assert!(message.ends_with("; and 95 nodes more") && message.len() < 300, "{message}");
    }

    #[test]
    fn capacity_is_that_of_the_pools_that_are_meant() {
        let capacity = |node: Option<&str>, pool: Option<&str>, images| {
            let pool = pool.map(|pool| pool.parse().expect("legal"));
            let wish = CapacityWish { images, pool, node: node.map(str::to_owned) };
            let Capacity { available, largest } = super::capacity(&wish, &pools());
            (available, largest)
        };
        assert_eq!(capacity(None, None, 2), (Bytes::gib(98), Bytes::gib(30)));
        assert_eq!(capacity(Some("b"), None, 2), (Bytes::gib(60), Bytes::gib(10)));
        assert_eq!(capacity(Some("b"), Some("fast"), 2), (Bytes::gib(20), Bytes::gib(10)));
        for nothing in [capacity(Some("b"), Some("fast"), 3), capacity(Some("d"), None, 2)] {
            assert_eq!(nothing, (Bytes::ZERO, Bytes::ZERO));
        }
    }
}
