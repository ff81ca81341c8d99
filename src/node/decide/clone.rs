//! Clones, and volumes that were snapshots or images of others: what they are made from, and what must wait until they are filled.

use crate::api::volume::Source;
use crate::api::{MirrorVolume, Percent};
use crate::ids::VgName;
use crate::node::decide::{Facts, Refused, snapshot};
use crate::node::look::PoolSeen;
use crate::report::Class;
use crate::volume::info::{SnapshotInfo, VolumeInfo};
use crate::volume::spec::Origin;
use crate::volume::{clone, key};
use kube::ResourceExt as _;

/// What a clone is to be made from, on the disks. What is to be deleted is no source, but of a clone that was `begun`: that
/// holds its source until it is filled.
pub(super) fn origin(
    object: &MirrorVolume,
    source: &Source,
    begun: bool,
    facts: &Facts<'_>,
) -> Result<Origin, Refused> {
    let pool = &object.spec.pool;
    let missing = |what: &str, name: &str| {
        Refused::new(
            Class::NotFound,
            format!("there is no {what} {name} in pool {pool} of node {}", facts.node),
        )
    };
    let doomed = |what: &str, name: &str| {
        Refused::new(
            Class::Precondition,
            format!("{what} {name} is being deleted: no volume is made from it any more"),
        )
    };
    let id = |name: &str| {
        let missing = || missing("snapshot", name);
        let found = facts.snapshots.get(name).filter(|found| found.spec.pool == *pool).ok_or_else(missing)?;
        if found.spec.delete && !begun {
            return Err(doomed("snapshot", name));
        }
        snapshot::id_on_disk(found, facts).ok_or_else(missing)
    };
    let lv = |name: &str| {
        let missing = || missing("mirrored volume", name);
        let found = facts.volumes.get(name).filter(|found| found.spec.pool == *pool).ok_or_else(missing)?;
        if found.spec.delete && !begun {
            return Err(doomed("volume", name));
        }
        found.spec.lv.clone().ok_or_else(missing)
    };
    match source {
        Source::Snapshot(name) => id(name).map(Origin::Snapshot),
        Source::Detached(name) => id(name).map(Origin::Image),
        Source::Volume(name) => lv(name).map(Origin::Volume),
        Source::Images(name) => lv(name).map(Origin::Images),
    }
}

/// What a volume on the disks was made from.
pub(super) fn origin_on_disk(volume: &VolumeInfo) -> Option<Origin> {
    clone::origin(&volume.id, volume.clone_of.as_deref()?, volume.detached.is_some())
}

/// Whether a volume on the disks was made from something else than its object says, as far as that can be told.
pub(super) fn differs(
    object: &MirrorVolume,
    source: &Source,
    volume: &VolumeInfo,
    facts: &Facts<'_>,
) -> bool {
    let Some(was) = origin_on_disk(volume) else { return true };
    let alike = match source {
        Source::Detached(_) => matches!(was, Origin::Image(_)),
        Source::Images(_) => matches!(was, Origin::Images(_)),
        Source::Snapshot(_) | Source::Volume(_) => matches!(was, Origin::Snapshot(_) | Origin::Volume(_)),
    };
    !alike || origin(object, source, true, facts).is_ok_and(|wanted| was != wanted)
}

/// Why a volume is not changed now: it is being filled.
pub(super) fn unfilled(volume: &VolumeInfo) -> Option<Refused> {
    let message = format!(
        "it is still being filled, {} so far: it is changed as soon as that is done",
        filled(volume)?
    );
    Some(Refused::new(Class::InProgress, message))
}

/// Why a volume is not removed now: an image of it is lent to a clone that is not filled.
pub(super) fn of_volume(volume: &VolumeInfo, seen: &PoolSeen, facts: &Facts<'_>) -> Option<Refused> {
    let lent =
        |clone: &&VolumeInfo| volume.slots.iter().any(|slot| slot.lent.as_deref() == Some(clone.id.as_str()));
    let what = || format!("volume {}", name_of(volume.id.as_str(), &volume.pool, facts));
    read_by(seen.volumes.values().find(|clone| clone.filling.is_some() && lent(clone))?, &what(), facts)
}

/// Why the image of a snapshot is not merged now: a clone is filled from it.
pub(super) fn of_snapshot(
    name: &str,
    snapshot: &SnapshotInfo,
    seen: &PoolSeen,
    facts: &Facts<'_>,
) -> Option<Refused> {
    let reads =
        |clone: &&VolumeInfo| clone.filling.is_some() && clone.clone_of.as_deref() == Some(&*snapshot.id);
    read_by(seen.volumes.values().find(reads)?, &format!("snapshot {name}"), facts)
}

/// Why a volume is not removed now: it, or a volume that it was a snapshot of, is all that tells what has become of that
/// snapshot, whose object does not say so yet.
pub(super) fn untold(volume: &VolumeInfo, seen: &PoolSeen, facts: &Facts<'_>) -> Option<Refused> {
    let untold = |new: &VolumeInfo| {
        let id = new.clone_of.as_deref()?;
        let (of, _) = key::parse_snapshot_id(id)?;
        let is_again = |origin: &VolumeInfo| origin.snapshots.iter().any(|snapshot| snapshot.id == id);
        if seen.volumes.get(&of).is_some_and(is_again) {
            return None; // By hand. Then the object is about that one.
        }
        let object = snapshot::detached(new, facts).filter(|_| of == volume.id || new.id == volume.id)?;
        let told = object.status.as_ref().is_some_and(|status| status.detached_to.is_some());
        (!told).then(|| {
            let message =
                format!("snapshot {} is not told yet that it has become a volume", object.name_any());
            Refused::new(Class::InProgress, message)
        })
    };
    seen.volumes.values().find_map(untold)
}

fn read_by(clone: &VolumeInfo, what: &str, facts: &Facts<'_>) -> Option<Refused> {
    let (name, filled) = (name_of(clone.id.as_str(), &clone.pool, facts), filled(clone)?);
    let message = format!("{what} is being copied into volume {name}, {filled} so far");
    Some(Refused::new(Class::InProgress, message))
}

fn filled(volume: &VolumeInfo) -> Option<Percent> {
    volume.filling.map(|filling| Percent::of(filling.done, filling.total))
}

/// The MirrorVolume of an LV, or the LV when it has none.
pub(super) fn name_of(lv: &str, pool: &VgName, facts: &Facts<'_>) -> String {
    object_of(lv, pool, facts).map_or_else(|| lv.to_owned(), |object| object.name_any())
}

/// The MirrorVolume of an LV.
pub(super) fn object_of<'a>(lv: &str, pool: &VgName, facts: &Facts<'a>) -> Option<&'a MirrorVolume> {
    let is_it = |object: &&std::sync::Arc<MirrorVolume>| {
        let spec = &object.spec;
        spec.pool == *pool && spec.lv.as_ref().is_some_and(|own| own.as_str() == lv)
    };
    facts.volumes.values().find(is_it).map(|object| &**object)
}
