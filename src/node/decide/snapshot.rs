//! Snapshots.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::conditions::{Judgement, Type};
use crate::api::snapshot::{SnapshotGroup, SnapshotPhase, SnapshotPolicy};
use crate::api::{MirrorSnapshot, MirrorSnapshotStatus, names};
use crate::ids::LvName;
use crate::node::decide::volume::percent;
use crate::node::decide::{Facts, Refused, Verdict, Work, clone, count, judge, refuse, view};
use crate::node::look::PoolSeen;
use crate::report::Class;
use crate::volume::info::{SlotState, SnapshotInfo, VolumeInfo};
use crate::volume::key;
use crate::volume::spec::{GroupSpec, SnapshotSpec};

/// The id on the disks of a MirrorSnapshot, when its volume is known.
#[must_use]
pub fn id_on_disk(object: &MirrorSnapshot, facts: &Facts<'_>) -> Option<String> {
    Some(key::snapshot_id(lv_of(object, facts)?, &object.spec.key))
}

/// The LV that it is of.
fn lv_of<'a>(object: &MirrorSnapshot, facts: &Facts<'a>) -> Option<&'a LvName> {
    let volume = facts.volumes.get(&object.spec.volume)?;
    volume.spec.lv.as_ref().filter(|_| volume.spec.pool == object.spec.pool)
}

/// Whether the object was ever made: then what is not on the disks is lost.
fn was_made(status: &MirrorSnapshotStatus) -> bool {
    status.slot.is_some()
}

/// What becomes of a MirrorSnapshot; `refused` is why the last work on it was not done.
#[must_use]
pub fn decide(
    object: &MirrorSnapshot,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorSnapshotStatus> {
    let spec = &object.spec;
    // Whatever there is on the disks now, it is none of this.
    if object.status.as_ref().is_some_and(|status| status.detached_to.is_some()) {
        return if spec.delete { Verdict::gone() } else { Verdict::none() };
    }
    let seen = match facts.pool(&spec.pool) {
        Ok(seen) => seen,
        Err(why) if why.class == Class::InProgress => return Verdict::none(),
        Err(why) if spec.delete => return Verdict::told(kept(object, &why, facts)),
        Err(why) => return Verdict::told(unready(object, &why, facts)),
    };
    let Some(lv) = lv_of(object, facts) else { return without_volume(object, seen, facts) };
    let volume = seen.volumes.get(lv);
    let id = key::snapshot_id(lv, &spec.key);
    let on_disk = volume.and_then(|volume| volume.snapshots.iter().find(|snapshot| snapshot.id == id));
    let ours = on_disk.filter(|snapshot| snapshot.name == spec.name);
    let is_it = |new: &&VolumeInfo| {
        detached(new, facts).is_some_and(|found| found.metadata.name == object.metadata.name)
    };
    if let (None, Some(new)) = (ours, seen.volumes.values().find(is_it)) {
        return became(object, new, facts);
    }
    if spec.delete {
        return match (ours, volume) {
            (Some(snapshot), _) => match clone::of_snapshot(&object.name_any(), snapshot, seen, facts) {
                Some(why) => Verdict::told(kept(object, &why, facts)),
                None => merge(object, lv, snapshot, refused, facts),
            },
            (None, Some(volume)) if growing(&id, volume) => Verdict::work(Work::Merge { lv: lv.clone(), id })
                .and_told(refused.map(|why| kept(object, why, facts))),
            (None, Some(volume)) if merging(object, volume) => {
                Verdict::told(on_its_way(object, volume, facts))
            }
            (None, _) => Verdict::gone(),
        };
    }
    if let Err(why) = check_name(object, lv, facts) {
        return Verdict::told(unready(object, &why, facts));
    }
    match (on_disk, volume) {
        (Some(_), _) if ours.is_none() => {
            let message = format!("snapshot {id} exists and has another name: it is left alone");
            Verdict::told(unready(object, &Refused::new(Class::Exists, message), facts))
        }
        (Some(snapshot), _) if snapshot.ready => Verdict::told(status(object, snapshot, seen, facts)),
        (None, Some(volume)) if merging(object, volume) => Verdict::told(on_its_way(object, volume, facts)),
        (None, _) if object.status.as_ref().is_some_and(was_made) => {
            let message =
                format!("snapshot {id} is not on the disks any more; no new one is cut in its place");
            Verdict::told(unready(object, &Refused::new(Class::NotFound, message), facts))
        }
        _ => split(object, lv, refused, facts),
    }
}

/// The MirrorSnapshot that a volume on the disks was, if it was one.
pub(super) fn detached<'a>(volume: &VolumeInfo, facts: &Facts<'a>) -> Option<&'a MirrorSnapshot> {
    let (was, id) = volume.detached.as_ref().zip(volume.clone_of.as_ref())?;
    let is_it = |object: &&std::sync::Arc<MirrorSnapshot>| {
        let spec = &object.spec;
        spec.pool == volume.pool && spec.name == was.name && id_on_disk(object, facts).as_ref() == Some(id)
    };
    facts.snapshots.values().find(is_it).map(|object| &**object)
}

/// Its image is a volume now. That is told for good, even of one that is to be deleted: nothing else tells it when that volume
/// is gone. A volume without an object gets one first.
fn became(object: &MirrorSnapshot, new: &VolumeInfo, facts: &Facts<'_>) -> Verdict<MirrorSnapshotStatus> {
    let Some(volume) = clone::object_of(new.id.as_str(), &new.pool, facts) else { return Verdict::none() };
    let old = object.status.clone().unwrap_or_default();
    let name = volume.name_any();
    let claim = volume.spec.claim.as_ref();
    let claim =
        claim.map_or_else(String::new, |claim| format!(" of claim {}/{}", claim.namespace, claim.name));
    let message = format!("its image is volume {name}{claim} now; nothing was copied");
    let mut status = MirrorSnapshotStatus {
        observed_generation: object.metadata.generation,
        phase: SnapshotPhase::Detached,
        conditions: old.conditions,
        cut_time: old.cut_time,
        size: old.size.or(Some(new.size.into())),
        detached_to: Some(name),
        ..MirrorSnapshotStatus::default()
    };
    let ready = Judgement::no(Type::Ready, "Detached", message);
    judge(&mut status.conditions, ready, object.metadata.generation, facts);
    crate::api::conditions::clear(&mut status.conditions, Type::Deleted);
    Verdict::told(status)
}

/// The object of its volume is not known. It is made again from the disks when only the object is gone, so nothing is lost
/// by waiting.
fn without_volume(
    object: &MirrorSnapshot,
    seen: &PoolSeen,
    facts: &Facts<'_>,
) -> Verdict<MirrorSnapshotStatus> {
    let spec = &object.spec;
    let is_it = |snapshot: &SnapshotInfo| {
        let key = key::parse_snapshot_id(&snapshot.id).map(|(_, key)| key);
        key.as_ref() == Some(&spec.key) && snapshot.name == spec.name
    };
    let message = format!("there is no volume {} on node {}", spec.volume, facts.node);
    let why = Refused::new(Class::NotFound, message);
    if !spec.delete {
        return Verdict::told(unready(object, &why, facts));
    }
    if seen.volumes.values().flat_map(|volume| &volume.snapshots).any(is_it) {
        return Verdict::told(kept(object, &why, facts));
    }
    Verdict::gone()
}

/// Whether the name of an object follows from what it is about.
fn check_name(object: &MirrorSnapshot, lv: &LvName, facts: &Facts<'_>) -> Result<(), Refused> {
    let (name, spec) = (object.name_any(), &object.spec);
    let by_name = match &spec.group {
        Some(group) => names::member(&group.name, &spec.volume) == name,
        None => spec.name.as_deref().is_some_and(|csi| names::of(csi) == name),
    };
    if by_name || names::found_snapshot(facts.node, &spec.pool, lv, &spec.key) == name {
        return Ok(());
    }
    let message =
        format!("object {name:?} cannot be about spec.name {:?}", spec.name.as_deref().unwrap_or(""));
    Err(Refused::new(Class::Invalid, message))
}

/// Whether its image is on its way back into the slot that it had.
fn merging(object: &MirrorSnapshot, volume: &VolumeInfo) -> bool {
    let slot = object.status.as_ref().and_then(|status| status.slot);
    let is_it = |state: SlotState| matches!(state, SlotState::Merging | SlotState::Rebuilding);
    volume.own_slots().any(|of| Some(count(of.index)) == slot && is_it(of.state))
}

/// Whether an image was added for it that is not cut yet.
fn growing(id: &str, volume: &VolumeInfo) -> bool {
    volume.slots.iter().any(|slot| slot.snapshot.is_none() && slot.grown.as_deref() == Some(id))
}

fn split(
    object: &MirrorSnapshot,
    lv: &LvName,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorSnapshotStatus> {
    let spec = &object.spec;
    let invalid =
        |message: String| Verdict::told(unready(object, &Refused::new(Class::Invalid, message), facts));
    let Some(name) = &spec.name else { return invalid("a snapshot is made only with a name".to_owned()) };
    if key::of(name) != spec.key {
        return invalid(format!("a snapshot named {name:?} has key {}, not {}", key::of(name), spec.key));
    }
    if facts.volumes.get(&spec.volume).is_some_and(|volume| volume.spec.delete) {
        let why = Refused::new(Class::Precondition, format!("volume {} is being deleted", spec.volume));
        return Verdict::told(unready(object, &why, facts));
    }
    if let Some(group) = &spec.group {
        return split_group(object, group, refused, facts);
    }
    let wanted = SnapshotSpec {
        name: name.clone(),
        volume: lv.clone(),
        min_in_sync: spec.min_in_sync.into(),
        policy: spec.policy.map(Into::into).unwrap_or_default(),
    };
    Verdict::work(Work::Split(wanted)).and_told(refused.map(|why| unready(object, why, facts)))
}

/// The other snapshots of a group wait until the one that the work is for has been looked at; whichever comes first does it.
fn split_group(
    object: &MirrorSnapshot,
    group: &SnapshotGroup,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorSnapshotStatus> {
    let spec = &object.spec;
    let Some(members) = members(object, group, facts) else { return Verdict::none() };
    if members.iter().any(|member| member.spec.delete) {
        return Verdict::none();
    }
    if spec.name.as_ref() != Some(&group.name) || !group.volumes.contains(&spec.volume) {
        let message = format!("it is not one of group {:?}: it has another name or volume", group.name);
        return Verdict::told(unready(object, &Refused::new(Class::Invalid, message), facts));
    }
    let Some(volumes) = members.iter().map(|member| lv_of(member, facts).cloned()).collect() else {
        return Verdict::none();
    };
    let wanted = GroupSpec { name: group.name.clone(), volumes, min_in_sync: spec.min_in_sync.into() };
    Verdict::work(Work::SplitGroup(wanted)).and_told(refused.map(|why| unready(object, why, facts)))
}

/// The objects of all snapshots of a group; `None` while one of them is missing.
fn members<'a>(
    object: &MirrorSnapshot,
    group: &SnapshotGroup,
    facts: &Facts<'a>,
) -> Option<Vec<&'a MirrorSnapshot>> {
    let member = |volume: &String| {
        let is_it = |other: &&std::sync::Arc<MirrorSnapshot>| {
            let spec = &other.spec;
            spec.pool == object.spec.pool && spec.volume == *volume && spec.group.as_ref() == Some(group)
        };
        facts.snapshots.values().find(is_it).map(|member| &**member)
    };
    group.volumes.iter().map(member).collect()
}

fn merge_group(
    object: &MirrorSnapshot,
    group: &SnapshotGroup,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorSnapshotStatus> {
    let members = members(object, group, facts);
    let members = members.filter(|members| members.iter().all(|member| member.spec.delete));
    let Some(members) = members else {
        let message = "it is merged with the other snapshots of its group: delete them too";
        return Verdict::told(kept(object, &Refused::new(Class::InProgress, message), facts));
    };
    let lvs = members.iter().filter_map(|member| lv_of(member, facts).cloned()).collect();
    let id = key::of(&group.name).to_string();
    Verdict::work(Work::MergeGroup { lvs, id }).and_told(refused.map(|why| kept(object, why, facts)))
}

fn merge(
    object: &MirrorSnapshot,
    lv: &LvName,
    snapshot: &SnapshotInfo,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorSnapshotStatus> {
    let consumers = consumers(object, snapshot, None, facts);
    if !consumers.is_empty() {
        let message =
            format!("snapshot {} is shown by {}: delete that first", object.name_any(), consumers.join(", "));
        let mut status = kept(object, &Refused::new(Class::Precondition, message), facts);
        status.consumers = consumers;
        return Verdict::told(status);
    }
    if let Some(group) = &object.spec.group {
        return merge_group(object, group, refused, facts);
    }
    Verdict::work(Work::Merge { lv: lv.clone(), id: snapshot.id.clone() })
        .and_told(refused.map(|why| kept(object, why, facts)))
}

/// MirrorVolumes that show it.
fn consumers(
    object: &MirrorSnapshot,
    snapshot: &SnapshotInfo,
    seen: Option<&PoolSeen>,
    facts: &Facts<'_>,
) -> Vec<String> {
    let name = |key: &String| {
        let view = seen.and_then(|seen| seen.views.values().find(|view| view.id == *key));
        view::object_of(key, &object.spec.pool, view.map(|view| view.name.as_str()), facts)
    };
    snapshot.views.iter().map(name).collect()
}

/// The status of a snapshot that cannot be read.
fn unready(object: &MirrorSnapshot, refused: &Refused, facts: &Facts<'_>) -> MirrorSnapshotStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    if status.phase != SnapshotPhase::Merging {
        let lost = was_made(&status) || refused.is_final() || refused.class == Class::Exhausted;
        status.phase = if lost { SnapshotPhase::Failed } else { SnapshotPhase::Pending };
    }
    refuse(&mut status.conditions, Type::Ready, refused, generation, facts);
    status
}

/// The status of a snapshot that is not deleted though that was asked for.
fn kept(object: &MirrorSnapshot, refused: &Refused, facts: &Facts<'_>) -> MirrorSnapshotStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    refuse(&mut status.conditions, Type::Deleted, refused, generation, facts);
    status
}

/// The status of a snapshot whose image is being merged.
fn on_its_way(object: &MirrorSnapshot, volume: &VolumeInfo, facts: &Facts<'_>) -> MirrorSnapshotStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    status.phase = SnapshotPhase::Merging;
    status.merge_percent = Some(percent(volume));
    status.consumers = Vec::new();
    let merging = Judgement::no(Type::Ready, "Merging", "its image is being merged back");
    judge(&mut status.conditions, merging, generation, facts);
    crate::api::conditions::clear(&mut status.conditions, Type::Deleted);
    status
}

fn status(
    object: &MirrorSnapshot,
    snapshot: &SnapshotInfo,
    seen: &PoolSeen,
    facts: &Facts<'_>,
) -> MirrorSnapshotStatus {
    let old = object.status.clone().unwrap_or_default();
    let cut = snapshot.cut_unix_nanos.and_then(|nanos| {
        let micros = i64::try_from(nanos / 1000).ok()?;
        Timestamp::from_microsecond(micros).ok().map(MicroTime)
    });
    let mut status = MirrorSnapshotStatus {
        observed_generation: object.metadata.generation,
        phase: SnapshotPhase::Ready,
        conditions: old.conditions,
        slot: Some(count(snapshot.slot)),
        cut_time: cut,
        size: Some(snapshot.size.into()),
        changed: Some(snapshot.changed.into()),
        merge_percent: None,
        detached_to: None,
        consumers: consumers(object, snapshot, Some(seen), facts),
    };
    let ready = Judgement::yes(
        Type::Ready,
        "Split",
        snapshot
            .full_merge
            .as_ref()
            .filter(|_| object.spec.policy != Some(SnapshotPolicy::Grow))
            .map_or_else(String::new, |why| format!("its merge will copy the whole image: {why}")),
    );
    judge(&mut status.conditions, ready, object.metadata.generation, facts);
    status
}
