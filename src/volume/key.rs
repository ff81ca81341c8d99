//! From the name a front end asks by to the identifier it gets.
//!
//! A volume's id is its LV's name. A name that LVM2 accepts is kept as it is, so that `lvs` shows what
//! `kubectl` shows; any other becomes `v-` and a hash. The same rule gives the last part of a snapshot's id.

use sha2::{Digest, Sha256};

use crate::ids::{LvName, OWN_NAME_MAX};

/// Separates the volume from the key in a snapshot's id. Not a character of LV names.
const SEPARATOR: char = '@';

/// The LV name for a volume, or the key for a snapshot or view, asked for by `name`.
#[must_use]
pub fn of(name: &str) -> LvName {
    match name.parse::<LvName>() {
        Ok(key) if name.len() <= OWN_NAME_MAX && !key.is_reserved() && !is_made(name) => key,
        _ => made(name),
    }
}

/// Whether a name looks like one we make: then it must be hashed too, or two names could share a key.
fn is_made(name: &str) -> bool {
    name.starts_with("v-") || name.starts_with("image-") || name.ends_with("-grow") || name.ends_with("-hydr")
}

fn made(name: &str) -> LvName {
    let hex: String = Sha256::digest(name).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("v-{hex}").parse().expect("letters, digits and a hyphen")
}

/// The id of a snapshot: `volume@key`.
#[must_use]
pub fn snapshot_id(volume: &LvName, key: &LvName) -> String {
    format!("{volume}{SEPARATOR}{key}")
}

/// The key of a split made by another tool, which has no name.
#[must_use]
pub fn foreign(slot: usize) -> LvName {
    format!("image-{slot}").parse().expect("letters, digits and a hyphen")
}

/// The volume and the key of a snapshot's id; `None` when it is none.
#[must_use]
pub fn parse_snapshot_id(id: &str) -> Option<(LvName, LvName)> {
    let (volume, key) = id.split_once(SEPARATOR)?;
    Some((volume.parse().ok()?, key.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_lvm2_accepts_is_kept() {
        assert_eq!(of("pvc-0b5c").as_str(), "pvc-0b5c");
    }

    proptest! {
        #[test]
        fn every_name_gets_a_legal_key_and_different_names_different_ones(a in ".{0,128}", b in ".{0,128}") {
            let (key_a, key_b) = (of(&a), of(&b));
            prop_assert!(!key_a.is_reserved() && key_a.as_str().len() <= OWN_NAME_MAX);
            prop_assert_eq!(a == b, key_a == key_b);
        }

        #[test]
        fn snapshot_ids_read_back(volume in "[a-z][a-z0-9-]{0,30}", name in ".{0,128}") {
            let (volume, key) = (of(&volume), of(&name));
            prop_assert_eq!(parse_snapshot_id(&snapshot_id(&volume, &key)), Some((volume, key)));
        }
    }
}
