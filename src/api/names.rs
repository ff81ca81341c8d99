//! Names of objects. A CSI id is the name of an object, so a name must be legal, found again from the CSI name alone,
//! and never be that of something else.

use sha2::{Digest, Sha256};

use crate::ids::{LvName, OWN_NAME_MAX, VgName};

/// How hashed names begin. A name asked for that begins so is hashed too, or two could share an object.
const HASHED: &str = "v-";

/// The object of a volume, view or snapshot asked for by this CSI name. A legal name is kept, as `pvc-…` and `snapshot-…`
/// are; of any other the hash is taken.
#[must_use]
pub fn of(name: &str) -> String {
    if is_subdomain(name) && name.len() <= OWN_NAME_MAX && !name.starts_with(HASHED) {
        return name.to_owned();
    }
    hashed(HASHED, &[name])
}

/// The object of a volume that has no CSI name, or whose name another node's object has: found on the disks of
/// `node`, by an import. It is the same each time, whatever other objects there are.
#[must_use]
pub fn found_volume(node: &str, pool: &VgName, lv: &LvName) -> String {
    hashed(HASHED, &[node, pool.as_str(), lv.as_str()])
}

/// As [`found_volume`], for the snapshot of this key.
#[must_use]
pub fn found_snapshot(node: &str, pool: &VgName, lv: &LvName, key: &LvName) -> String {
    hashed(HASHED, &[node, pool.as_str(), lv.as_str(), key.as_str()])
}

/// The object of a snapshot that is one of the group asked for by this CSI name, of this MirrorVolume.
#[must_use]
pub fn member(group: &str, volume: &str) -> String {
    hashed(HASHED, &["group", group, volume])
}

/// The object of a pool: `node.group`, or a hash where that is no legal name or could mean another.
#[must_use]
pub fn pool(node: &str, group: &VgName) -> String {
    let name = format!("{node}.{group}");
    if is_subdomain(&name) && !group.as_str().contains('.') {
        return name;
    }
    hashed("p-", &[node, group.as_str()])
}

/// A hash of the parts. NUL is no character of any of them, so different parts are never the same text.
fn hashed(prefix: &str, parts: &[&str]) -> String {
    let hash = Sha256::digest(parts.join("\0"));
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{hex}")
}

/// Whether the API server takes it as an object's name (DNS-1123 subdomain).
fn is_subdomain(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|b| letter(b) || b == b'-')
            && label.bytes().next().is_some_and(letter)
            && label.bytes().last().is_some_and(letter)
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vg(name: &str) -> VgName {
        name.parse().expect("legal")
    }

    fn lv(name: &str) -> LvName {
        name.parse().expect("legal")
    }

    #[test]
    fn names_of_claims_and_snapshots_are_kept() {
        for name in [
            "pvc-0b5c92f0-1f3e-4f0e-9c55-0d6a3f1f8a11",
            "snapshot-0b5c92f0-1f3e-4f0e-9c55-0d6a3f1f8a11",
            "a.b",
        ] {
            assert_eq!(of(name), name);
        }
    }

    #[test]
    fn a_name_that_the_api_does_not_take_is_hashed() {
        for name in ["", "Data", "a_b", "a..b", "a-", ".a", "with space", "v-0123", &"x".repeat(61)] {
            assert_eq!(of(name).len(), 34, "{name}");
        }
    }

    #[test]
    fn pools_are_named_for_node_and_group_when_that_is_legal() {
        assert_eq!(pool("node-1.example", &vg("fast")), "node-1.example.fast");
        assert!(pool("node", &vg("Fast")).starts_with("p-"));
        assert_ne!(pool("a", &vg("b.c")), pool("a.b", &vg("c")));
        assert_ne!(pool("n", &vg("VG")), pool("n", &vg("Vg")));
    }

    #[test]
    fn what_is_found_on_two_nodes_has_two_names() {
        let (a, b) = (found_volume("a", &vg("vg"), &lv("data")), found_volume("b", &vg("vg"), &lv("data")));
        assert_ne!(a, b);
        assert_eq!(a, found_volume("a", &vg("vg"), &lv("data")));
        assert_ne!(a, found_snapshot("a", &vg("vg"), &lv("data"), &lv("image-1")));
    }

    proptest! {
        #[test]
        fn every_name_gets_a_legal_object_name_and_different_names_different_ones(a in ".{0,128}", b in ".{0,128}") {
            prop_assert!(is_subdomain(&of(&a)));
            prop_assert!(of(&a).len() <= OWN_NAME_MAX);
            prop_assert_eq!(a == b, of(&a) == of(&b));
        }

        #[test]
        fn pools_have_legal_and_different_names(
            a in "[a-z0-9.-]{1,20}", b in "[a-z0-9.-]{1,20}", x in "[A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,20}",
            y in "[A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,20}",
        ) {
            let (Ok(x), Ok(y)) = (x.parse::<VgName>(), y.parse::<VgName>()) else { return Ok(()) };
            prop_assert!(is_subdomain(&pool(&a, &x)));
            prop_assert_eq!((&a, &x) == (&b, &y), pool(&a, &x) == pool(&b, &y));
        }
    }
}
