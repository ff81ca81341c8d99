//! Whether this host may use a group, and whether it may change it.
//!
//! LVM2 has no protection against two hosts on one disk but these words, so they are obeyed to the letter.
//!
//! Sources: LVM2 `lib/metadata/metadata.c` (access checks), `lib/format_text/flags.c`, lvmsystemid(7).

use crate::ids::VgName;
use crate::lvm2::model::VolumeGroup;
use crate::report::Class;

/// Why a group is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was prepared for another host.
    #[error(
        "volume group {vg} is exported: run `vgimport {vg}` first if this is the host it was exported for"
    )]
    Exported {
        /// The group.
        vg: VgName,
    },
    /// Several hosts use it under a lock manager that this program does not speak to.
    #[error(
        "volume group {vg} is shared by several hosts ({how}): use it on one host only and run \
         `vgchange --lock-type none {vg}`"
    )]
    Shared {
        /// The group.
        vg: VgName,
        /// What says so.
        how: String,
    },
    /// It belongs to another host.
    #[error(
        "volume group {vg} belongs to the host {owner:?} (its system id), and this host is {}: run \
         `vgchange --systemid` on the owner, or give this program that system id",
        .host.as_deref().map_or("none".to_owned(), |host| format!("{host:?}"))
    )]
    Foreign {
        /// The group.
        vg: VgName,
        /// Its system id.
        owner: String,
        /// This host's.
        host: Option<String>,
    },
    /// It may be read only.
    #[error("volume group {vg} is read-only: run `vgchange --permission rw {vg}`")]
    ReadOnly {
        /// The group.
        vg: VgName,
    },
    /// No PV may join or leave it.
    #[error("volume group {vg} may not be resized: run `vgchange --resizeable y {vg}`")]
    NotResizeable {
        /// The group.
        vg: VgName,
    },
    /// A move of extents is under way.
    #[error("volume group {vg} has a pvmove under way: let it end, or run `pvmove --abort`")]
    Moving {
        /// The group.
        vg: VgName,
    },
}

impl Refusal {
    /// A person has to change the group first.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Precondition
    }
}

/// Why this host may not use a group at all, if so. `host_system_id` is what `lvm systemid` prints.
#[must_use]
pub fn refuse(vg: &VolumeGroup, host_system_id: Option<&str>) -> Option<Refusal> {
    let name = || vg.name.clone();
    let has = |word: &str| vg.status.iter().any(|s| s == word);
    if has("EXPORTED") || vg.pvs.iter().any(|pv| pv.status.iter().any(|s| s == "EXPORTED")) {
        return Some(Refusal::Exported { vg: name() });
    }
    if let Some(word) = ["CLUSTERED", "SHARED"].into_iter().find(|word| has(word)) {
        return Some(Refusal::Shared { vg: name(), how: format!("status {word}") });
    }
    if let Some(kind) = vg.lock_type.as_deref().filter(|kind| !matches!(*kind, "" | "none")) {
        return Some(Refusal::Shared { vg: name(), how: format!("lock type {kind}") });
    }
    match vg.system_id.as_deref().filter(|owner| !owner.is_empty()) {
        Some(owner) if Some(owner) != host_system_id => {
            let host = host_system_id.map(str::to_owned);
            Some(Refusal::Foreign { vg: name(), owner: owner.to_owned(), host })
        }
        Some(_) | None => None,
    }
}

/// Why this host may not change a group, if so. Missing PVs are another matter: see [`missing`].
#[must_use]
pub fn refuse_change(vg: &VolumeGroup, host_system_id: Option<&str>) -> Option<Refusal> {
    let has = |word: &str| vg.status.iter().any(|s| s == word);
    refuse(vg, host_system_id).or_else(|| {
        if !has("WRITE") {
            Some(Refusal::ReadOnly { vg: vg.name.clone() })
        } else if has("PVMOVE") || vg.lvs.iter().any(|lv| lv.has("PVMOVE")) {
            Some(Refusal::Moving { vg: vg.name.clone() })
        } else {
            None
        }
    })
}

/// Why no PV may join or leave a group, if so.
#[must_use]
pub fn refuse_resize(vg: &VolumeGroup, host_system_id: Option<&str>) -> Option<Refusal> {
    refuse_change(vg, host_system_id).or_else(|| {
        let resizeable = vg.status.iter().any(|s| s == "RESIZEABLE");
        (!resizeable).then(|| Refusal::NotResizeable { vg: vg.name.clone() })
    })
}

/// The names of PVs that the metadata itself says were missing when it was last changed.
#[must_use]
pub fn missing(vg: &VolumeGroup) -> Vec<&str> {
    vg.pvs.iter().filter(|pv| pv.is_missing()).map(|pv| pv.name.as_str()).collect()
}
