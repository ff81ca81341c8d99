//! Names and identifiers: what LVM2 and device-mapper accept, checked once at the edge.
//!
//! Sources: LVM2 `lib/misc/lvm-string.c` (name rules), `lib/uuid/uuid.c` (ids), `libdm/libdm-string.c`
//! (`dm_build_dm_name`: hyphens doubled).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest VG or LV name LVM2 accepts.
const NAME_MAX: usize = 127;

/// Longest LV name this project makes itself, so that the longest device name built from it
/// (`VG-LV_rimage_NN`, hyphens doubled) stays within device-mapper's 127 bytes.
pub const OWN_NAME_MAX: usize = 60;

/// Parts of a name that LVM2 keeps for its own sub-LVs (`lib/misc/lvm-string.c`).
const RESERVED_PARTS: [&str; 18] = [
    "_cdata",
    "_cmeta",
    "_corig",
    "_cpool",
    "_cvol",
    "_wcorig",
    "_mimage",
    "_mlog",
    "_rimage",
    "_rmeta",
    "_tdata",
    "_tmeta",
    "_vdata",
    "_imeta",
    "_iorig",
    "_pmspare",
    "_vorigin",
    "_extracted",
];

/// Beginnings of a name that LVM2 keeps for itself.
const RESERVED_PREFIXES: [&str; 2] = ["snapshot", "pvmove"];

/// Why a text cannot be a VG or LV name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name:?} is not a valid LVM2 name: {why}")]
pub struct NameError {
    name: String,
    why: &'static str,
}

fn check_name(name: &str) -> Result<(), NameError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_MAX {
        "it is longer than 127 bytes"
    } else if name == "." || name == ".." {
        "it is a directory"
    } else if name.starts_with('-') {
        "it starts with a hyphen"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b)) {
        "only letters, digits and _ . + - are allowed"
    } else {
        return Ok(());
    };
    Err(NameError { name: name.to_owned(), why })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                check_name(name)?;
                Ok(Self(name.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                check_name(&name)?;
                Ok(Self(name))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of a volume group.
    VgName
}
name_type! {
    /// The name of a logical volume, sub-LVs included.
    LvName
}

impl LvName {
    /// Whether a user may give a volume this name: LVM2 keeps some for its own sub-LVs.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        RESERVED_PREFIXES.iter().any(|p| self.0.starts_with(p))
            || RESERVED_PARTS.iter().any(|p| self.0.contains(p))
    }

    /// The name of image `slot` of this volume: `lv_rimage_0`.
    #[must_use]
    pub fn image(&self, slot: usize) -> Self {
        Self(format!("{}_rimage_{slot}", self.0))
    }

    /// The name of the metadata LV beside image `slot`: `lv_rmeta_0`.
    #[must_use]
    pub fn meta(&self, slot: usize) -> Self {
        Self(format!("{}_rmeta_{slot}", self.0))
    }

    /// The name of the LV that holds extents for `self` until they are zeroed: `lv-grow`.
    #[must_use]
    pub fn reserve(&self) -> Self {
        Self(format!("{}-grow", self.0))
    }

    /// The name of the LV that records how far `self` is filled from a snapshot: `lv-hydr`.
    #[must_use]
    pub fn record(&self) -> Self {
        Self(format!("{}-hydr", self.0))
    }
}

/// An LVM2 identifier: 32 characters, printed in groups of 6-4-4-4-4-4-6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LvmUuid([u8; 32]);

/// Why a text is not an LVM2 identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an LVM2 uuid: 32 letters or digits, with or without hyphens")]
pub struct UuidError(String);

impl LvmUuid {
    const ALPHABET: &'static [u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const GROUPS: [usize; 7] = [6, 4, 4, 4, 4, 4, 6];

    /// An identifier made of 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes.map(|b| Self::ALPHABET[usize::from(b) % Self::ALPHABET.len()]))
    }

    /// From the 32 bytes on disk.
    ///
    /// # Errors
    /// When a byte is none of the characters LVM2 uses.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, UuidError> {
        if bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#".contains(b)) {
            Ok(Self(bytes))
        } else {
            Err(UuidError(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }

    /// The 32 characters as on disk, no hyphens.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 32 characters, no hyphens, as in device-mapper uuids.
    #[must_use]
    pub fn compact(&self) -> String {
        self.0.iter().map(|b| char::from(*b)).collect()
    }
}

impl std::str::FromStr for LvmUuid {
    type Err = UuidError;
    fn from_str(text: &str) -> Result<Self, UuidError> {
        let plain: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        let bytes = <[u8; 32]>::try_from(plain).map_err(|_| UuidError(text.to_owned()))?;
        Self::from_bytes(bytes)
    }
}

impl TryFrom<String> for LvmUuid {
    type Error = UuidError;
    fn try_from(text: String) -> Result<Self, UuidError> {
        text.parse()
    }
}

impl From<LvmUuid> for String {
    fn from(id: LvmUuid) -> String {
        id.to_string()
    }
}

impl fmt::Display for LvmUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compact = self.compact();
        let mut rest = compact.as_str();
        let mut groups = Vec::new();
        for len in Self::GROUPS {
            let (group, tail) = rest.split_at(len);
            groups.push(group);
            rest = tail;
        }
        f.pad(&groups.join("-"))
    }
}

impl fmt::Debug for LvmUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How device-mapper uuids of hidden sub-LVs end; it must be what the host's LVM2 uses, or its tools cannot
/// work on a live array that we made (and we could not on theirs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HiddenUuid {
    /// No suffix: LVM2 up to 2.03.35.
    #[default]
    Bare,
    /// `-real`: LVM2 from 2.03.36 on.
    Real,
}

/// The device-mapper name and uuid of an LV.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DmId {
    /// `VG-LV` with the hyphens of both parts doubled.
    pub name: String,
    /// `LVM-` + VG id + LV id [+ `-real`].
    pub uuid: String,
}

impl DmId {
    /// The identity of a visible LV.
    #[must_use]
    pub fn visible(vg: &VgName, vg_id: &LvmUuid, lv: &LvName, lv_id: &LvmUuid) -> Self {
        let double = |name: &str| name.replace('-', "--");
        Self {
            name: format!("{}-{}", double(vg.as_str()), double(lv.as_str())),
            uuid: format!("LVM-{}{}", vg_id.compact(), lv_id.compact()),
        }
    }

    /// The identity of a layer below a visible LV, named as LVM2 names them: a hyphen that is not doubled.
    #[must_use]
    pub fn layer(vg: &VgName, vg_id: &LvmUuid, lv: &LvName, lv_id: &LvmUuid, layer: &str) -> Self {
        let Self { name, uuid } = Self::visible(vg, vg_id, lv, lv_id);
        Self { name: format!("{name}-{layer}"), uuid: format!("{uuid}-{layer}") }
    }

    /// The identity of a hidden sub-LV.
    #[must_use]
    pub fn hidden(vg: &VgName, vg_id: &LvmUuid, lv: &LvName, lv_id: &LvmUuid, style: HiddenUuid) -> Self {
        let mut id = Self::visible(vg, vg_id, lv, lv_id);
        if style == HiddenUuid::Real {
            id.uuid.push_str("-real");
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lvm2_refuses_are_refused() {
        for name in ["", ".", "..", "-a", "a b", "a/b", "ü", &"x".repeat(128)] {
            assert!(name.parse::<VgName>().is_err(), "{name:?}");
        }
        assert!("x".repeat(127).parse::<VgName>().is_ok());
    }

    #[test]
    fn names_of_sub_lvs_are_reserved() {
        for name in ["a_rimage_0", "a_rmeta_1", "snapshot1", "pvmove0", "x_tdata"] {
            assert!(name.parse::<LvName>().expect("legal").is_reserved(), "{name}");
        }
        assert!(!"pvc-1234".parse::<LvName>().expect("legal").is_reserved());
    }

    #[test]
    fn uuids_print_in_groups_and_read_back() {
        let id = LvmUuid::from_random([7; 32]);
        let text = id.to_string();
        assert_eq!(text.len(), 38);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.compact().parse(), Ok(id));
        assert!("abc".parse::<LvmUuid>().is_err());
        assert!("*".repeat(32).parse::<LvmUuid>().is_err());
    }

    #[test]
    fn device_names_double_the_hyphens() {
        let vg_id = LvmUuid::from_random([1; 32]);
        let lv_id = LvmUuid::from_random([2; 32]);
        let vg: VgName = "my-vg".parse().expect("legal");
        let lv: LvName = "a-b".parse().expect("legal");
        let id = DmId::hidden(&vg, &vg_id, &lv.image(0), &lv_id, HiddenUuid::Real);
        assert_eq!(id.name, "my--vg-a--b_rimage_0");
        assert_eq!(id.uuid, format!("LVM-{}{}-real", vg_id.compact(), lv_id.compact()));
    }
}
