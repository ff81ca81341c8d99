//! What is on the disks and has no object gets one: after an upgrade from standalone, after `kubectl delete`, after a lost etcd.
//!
//! Nothing is ever removed here, and each object has the same name each time.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use crate::api::snapshot::{SnapshotGroup, SnapshotPolicy};
use crate::api::volume::Source;
use crate::api::{
    MirrorPool, MirrorPoolSpec, MirrorSnapshot, MirrorSnapshotSpec, MirrorVolume, MirrorVolumeSpec, names,
};
use crate::ids::{LvName, VgName};
use crate::node::decide::clone::origin_on_disk;
use crate::node::decide::{Facts, count, snapshot};
use crate::node::look::PoolSeen;
use crate::node::wish::PoolWish;
use crate::volume::info::{SnapshotInfo, ViewInfo, VolumeInfo};
use crate::volume::key;
use crate::volume::spec::Origin;

/// Names that objects of other nodes have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Of volumes and views.
    pub volumes: BTreeSet<String>,
    /// Of snapshots.
    pub snapshots: BTreeSet<String>,
}

/// Pools whose MirrorPool is missing, or lacks what the file says: theirs is applied. A pool that neither the file names nor
/// holds anything is its object's alone.
#[must_use]
pub fn pools(file: &[PoolWish], facts: &Facts<'_>) -> Vec<MirrorPool> {
    let mut missing = Vec::new();
    for (vg, state) in facts.pools {
        let named = file.iter().find(|wish| wish.volume_group == *vg);
        let holds = state.seen.as_ref().is_some_and(|seen| !seen.volumes.is_empty());
        let object = facts.pool_objects.values().find(|object| object.spec.volume_group == *vg);
        let spec: Option<MirrorPoolSpec> = match (named, object) {
            (Some(wish), Some(object)) if wish.is_said_by(&object.spec) => None,
            (Some(wish), _) => Some(wish.spec(facts.node)),
            (None, None) if holds => Some(PoolWish::existing(vg.clone()).spec(facts.node)),
            (None, _) => None,
        };
        let name = object.map_or_else(|| names::pool(facts.node, vg), |object| object.name_any());
        missing.extend(spec.map(|spec| MirrorPool::new(&name, spec)));
    }
    missing
}

/// Volumes and views without an object. A view comes when its snapshot has one.
#[must_use]
pub fn volumes(taken: &Taken, facts: &Facts<'_>) -> Vec<MirrorVolume> {
    let mut missing = Vec::new();
    for (vg, seen) in open(facts) {
        for volume in seen.volumes.values().filter(|volume| !volume.creating) {
            if object_of(volume, vg, facts).is_none() {
                let name = name_for(volume, vg, taken, facts);
                let source = source_of(volume, vg, seen, taken, facts);
                missing.push(MirrorVolume::new(&name, volume_spec(volume, vg, source, facts.node)));
            }
        }
        for (key, view) in &seen.views {
            let Some(snapshot) = shown_by(view, vg, seen, facts) else { continue };
            let covers = |object: &&std::sync::Arc<MirrorVolume>| {
                let spec = &object.spec;
                spec.lv.is_none() && spec.pool == *vg && spec.name.as_deref() == Some(&view.name)
            };
            if facts.volumes.values().find(covers).is_none() {
                let free =
                    |name: &String| is_free(name, &taken.volumes, |name| facts.volumes.contains_key(name));
                let found = || names::found_volume(facts.node, vg, key);
                let name = Some(names::of(&view.name)).filter(free).unwrap_or_else(found);
                missing.push(MirrorVolume::new(&name, view_spec(view, snapshot, vg, facts.node)));
            }
        }
    }
    missing
}

/// Snapshots without an object; they come when their volumes have one.
#[must_use]
pub fn snapshots(taken: &Taken, facts: &Facts<'_>) -> Vec<MirrorSnapshot> {
    let mut missing = Vec::new();
    for (vg, seen) in open(facts) {
        for volume in seen.volumes.values() {
            let Some(of) = object_of(volume, vg, facts) else { continue };
            for snapshot in &volume.snapshots {
                let Some((lv, key)) = key::parse_snapshot_id(&snapshot.id) else { continue };
                if snapshot_object(snapshot, &of, facts).is_some() {
                    continue;
                }
                let group = group_of(snapshot, vg, seen, facts);
                let grown =
                    volume.slots.iter().any(|slot| slot.index == snapshot.slot && slot.grown.is_some());
                // Not before all volumes of its group have one.
                if snapshot.group.is_some() && group.is_none() {
                    continue;
                }
                let name = snapshot_name_for(snapshot, &of, (&lv, &key), vg, taken, facts);
                let spec = MirrorSnapshotSpec {
                    node: facts.node.to_owned(),
                    pool: vg.clone(),
                    volume: of.clone(),
                    key,
                    name: snapshot.name.clone(),
                    min_in_sync: u8::try_from(snapshot.min_in_sync).unwrap_or(u8::MAX),
                    policy: grown.then_some(SnapshotPolicy::Grow),
                    group,
                    volume_snapshot: None,
                    delete: false,
                };
                missing.push(MirrorSnapshot::new(&name, spec));
            }
        }
    }
    missing
}

/// The name that the object of a volume gets.
fn name_for(volume: &VolumeInfo, vg: &VgName, taken: &Taken, facts: &Facts<'_>) -> String {
    let free = |name: &String| is_free(name, &taken.volumes, |name| facts.volumes.contains_key(name));
    let found = || names::found_volume(facts.node, vg, &volume.id);
    volume.name.as_deref().map(names::of).filter(free).unwrap_or_else(found)
}

/// The name that the object of a snapshot of this volume object gets.
fn snapshot_name_for(
    snapshot: &SnapshotInfo,
    of: &str,
    (lv, key): (&LvName, &LvName),
    vg: &VgName,
    taken: &Taken,
    facts: &Facts<'_>,
) -> String {
    let free = |name: &String| is_free(name, &taken.snapshots, |name| facts.snapshots.contains_key(name));
    let found = || names::found_snapshot(facts.node, vg, lv, key);
    match (&snapshot.group, &snapshot.name) {
        (Some(_), Some(name)) => names::member(name, of),
        (_, name) => name.as_deref().map(names::of).filter(free).unwrap_or_else(found),
    }
}

/// What a clone is made from, by the name that its object has or gets. What is not on the disks any more no clone needs.
fn source_of(
    volume: &VolumeInfo,
    vg: &VgName,
    seen: &PoolSeen,
    taken: &Taken,
    facts: &Facts<'_>,
) -> Option<Source> {
    let object = |of: &VolumeInfo| object_of(of, vg, facts).unwrap_or_else(|| name_for(of, vg, taken, facts));
    match origin_on_disk(volume)? {
        Origin::Volume(lv) => Some(Source::Volume(object(seen.volumes.get(&lv)?))),
        Origin::Images(lv) => Some(Source::Images(object(seen.volumes.get(&lv)?))),
        Origin::Snapshot(id) => {
            let (lv, key) = key::parse_snapshot_id(&id)?;
            let of = seen.volumes.get(&lv)?;
            let snapshot = of.snapshots.iter().find(|snapshot| snapshot.id == id)?;
            let of = object(of);
            let known = snapshot_object(snapshot, &of, facts);
            let gets = || snapshot_name_for(snapshot, &of, (&lv, &key), vg, taken, facts);
            Some(Source::Snapshot(known.unwrap_or_else(gets)))
        }
        // What was one is on the disks no more: its object is not made again, but its name is known.
        Origin::Image(id) => {
            let known = snapshot::detached(volume, facts).map(|object| object.name_any());
            let had = || volume.detached.as_ref()?.name.as_deref().map(names::of);
            let (lv, key) = key::parse_snapshot_id(&id)?;
            let found = || names::found_snapshot(facts.node, vg, &lv, &key);
            Some(Source::Detached(known.or_else(had).unwrap_or_else(found)))
        }
    }
}

/// The group that a snapshot is one of: its snapshots have its name.
fn group_of(
    snapshot: &SnapshotInfo,
    vg: &VgName,
    seen: &PoolSeen,
    facts: &Facts<'_>,
) -> Option<SnapshotGroup> {
    let (of, name) = (snapshot.group.as_ref()?, snapshot.name.clone()?);
    let is_of_it = |volume: &&VolumeInfo| {
        volume.snapshots.iter().any(|other| other.group.as_ref().is_some_and(|other| other.id == of.id))
    };
    let volumes = seen.volumes.values().filter(is_of_it).map(|volume| object_of(volume, vg, facts));
    Some(SnapshotGroup { name, volumes: volumes.collect::<Option<_>>()? })
}

fn open<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (&'a VgName, &'a PoolSeen)> {
    facts.pools.iter().filter_map(|(vg, state)| Some((vg, state.seen.as_deref()?)))
}

fn is_free(name: &str, taken: &BTreeSet<String>, there: impl Fn(&str) -> bool) -> bool {
    !taken.contains(name) && !there(name)
}

/// The object of a volume on the disks.
fn object_of(volume: &VolumeInfo, vg: &VgName, facts: &Facts<'_>) -> Option<String> {
    let covers = |object: &&std::sync::Arc<MirrorVolume>| {
        let spec = &object.spec;
        spec.pool == *vg && spec.lv.as_ref() == Some(&volume.id) && spec.name == volume.name
    };
    facts.volumes.values().find(covers).map(|object| object.name_any())
}

/// The object of a snapshot of this volume object.
fn snapshot_object(snapshot: &SnapshotInfo, volume: &str, facts: &Facts<'_>) -> Option<String> {
    let (_, key) = key::parse_snapshot_id(&snapshot.id)?;
    let covers = |object: &&std::sync::Arc<MirrorSnapshot>| {
        let spec = &object.spec;
        spec.volume == volume && spec.key == key && spec.name == snapshot.name
    };
    facts.snapshots.values().find(covers).map(|object| object.name_any())
}

/// The object of the snapshot that a view shows.
fn shown_by(view: &ViewInfo, vg: &VgName, seen: &PoolSeen, facts: &Facts<'_>) -> Option<String> {
    let (lv, _) = key::parse_snapshot_id(&view.snapshot)?;
    let volume = seen.volumes.get(&lv)?;
    let snapshot = volume.snapshots.iter().find(|snapshot| snapshot.id == view.snapshot)?;
    snapshot_object(snapshot, &object_of(volume, vg, facts)?, facts)
}

fn volume_spec(volume: &VolumeInfo, vg: &VgName, source: Option<Source>, node: &str) -> MirrorVolumeSpec {
    MirrorVolumeSpec {
        rollback: None,
        node: node.to_owned(),
        pool: vg.clone(),
        lv: Some(volume.id.clone()),
        name: volume.name.clone(),
        size: volume.size.into(),
        limit: None,
        images: Some(count(volume.images())),
        region_size: Some(volume.region_size.into()),
        min_recovery_rate: volume.min_recovery_rate,
        max_recovery_rate: volume.max_recovery_rate,
        write_mostly: None,
        source,
        claim: None,
        delete: false,
    }
}

fn view_spec(view: &ViewInfo, snapshot: String, vg: &VgName, node: &str) -> MirrorVolumeSpec {
    MirrorVolumeSpec {
        rollback: None,
        node: node.to_owned(),
        pool: vg.clone(),
        lv: None,
        name: Some(view.name.clone()),
        size: view.size.into(),
        limit: None,
        images: None,
        region_size: None,
        min_recovery_rate: None,
        max_recovery_rate: None,
        write_mostly: None,
        source: Some(Source::Snapshot(snapshot)),
        claim: None,
        delete: false,
    }
}
