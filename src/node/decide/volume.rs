//! Mirrored volumes.

use kube::ResourceExt as _;

use crate::api::conditions::{self, Judgement, Type};
use crate::api::volume::{Slot, SlotState, Source, VolumePhase, WriteMostly};
use crate::api::{MirrorVolume, MirrorVolumeStatus, Percent, names};
use crate::ids::LvName;
use crate::node::decide::{Facts, Refused, Verdict, Work, clone, count, judge, refuse, rollback, view};
use crate::node::look::PoolSeen;
use crate::report::Class;
use crate::volume::info::{self, VolumeInfo};
use crate::volume::key;
use crate::volume::spec::VolumeSpec;
use crate::volume::tune::{self, Change};

/// What becomes of a MirrorVolume; `refused` is why the last work on it was not done.
#[must_use]
pub fn decide(
    object: &MirrorVolume,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorVolumeStatus> {
    match (&object.spec.lv, &object.spec.source) {
        (Some(lv), _) => mirror(object, lv, refused, facts),
        (None, Some(Source::Snapshot(source))) => view::decide(object, source, refused, facts),
        (None, Some(Source::Volume(_) | Source::Detached(_) | Source::Images(_)) | None) => {
            let refused = Refused::new(Class::Invalid, "a volume has an lv, or a snapshot that it shows");
            Verdict::told(unready(object, &refused, facts))
        }
    }
}

/// Whether the object was ever made: then what is not on the disks is lost.
pub(super) fn was_made(status: &MirrorVolumeStatus) -> bool {
    status.size.is_some()
}

/// Whether the object has been about this volume before. One that never fitted it does not change it.
fn belongs(object: &MirrorVolume) -> bool {
    object.status.as_ref().is_some_and(|status| {
        let refused = conditions::refusal(&status.conditions, Type::Ready, None);
        was_made(status) && !matches!(refused, Some((Class::Exists, _)))
    })
}

/// The status of a volume that cannot be used as it should be.
pub(super) fn unready(object: &MirrorVolume, refused: &Refused, facts: &Facts<'_>) -> MirrorVolumeStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    if status.phase != VolumePhase::Deleting {
        let lost = was_made(&status) || refused.is_final();
        status.phase = if lost { VolumePhase::Failed } else { VolumePhase::Pending };
    }
    refuse(&mut status.conditions, Type::Ready, refused, generation, facts);
    status
}

/// The status of a volume that is not deleted though that was asked for.
pub(super) fn kept(object: &MirrorVolume, refused: &Refused, facts: &Facts<'_>) -> MirrorVolumeStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    status.phase = VolumePhase::Deleting;
    refuse(&mut status.conditions, Type::Deleted, refused, generation, facts);
    status
}

/// What is removed, unless it is in use; `refused` is why the last try failed.
pub(super) fn remove(
    object: &MirrorVolume,
    key: LvName,
    seen: &PoolSeen,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorVolumeStatus> {
    if seen.staged.contains(&key) {
        let message =
            format!("volume {} is in use on node {}: unmount it first", object.name_any(), facts.node);
        let mut status = kept(object, &Refused::new(Class::Precondition, message), facts);
        status.staged = true;
        return Verdict::told(status);
    }
    Verdict::work(Work::DeleteVolume(key)).and_told(refused.map(|refused| kept(object, refused, facts)))
}

/// Whether the name of an object follows from what it is about: only then its volume is found by it without the API
/// server.
pub(super) fn check_name(object: &MirrorVolume, key: &LvName, facts: &Facts<'_>) -> Result<(), Refused> {
    let name = object.name_any();
    let spec = &object.spec;
    let by_name = spec.name.as_deref().is_some_and(|csi| names::of(csi) == name);
    if !by_name && names::found_volume(facts.node, &spec.pool, key) != name {
        let message =
            format!("object {name:?} cannot be about spec.name {:?}", spec.name.as_deref().unwrap_or(""));
        return Err(Refused::new(Class::Invalid, message));
    }
    let same = |other: &&std::sync::Arc<MirrorVolume>| {
        other.name_any() != name
            && other.spec.pool == spec.pool
            && other.spec.lv == spec.lv
            && other.spec.name == spec.name
    };
    match facts.volumes.values().find(same) {
        Some(other) if !by_name => Err(Refused::new(
            Class::Exists,
            format!("MirrorVolume {:?} is the same volume", other.name_any()),
        )),
        Some(_) | None => Ok(()),
    }
}

fn mirror(
    object: &MirrorVolume,
    lv: &LvName,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorVolumeStatus> {
    let spec = &object.spec;
    let seen = match facts.pool(&spec.pool) {
        Ok(seen) => seen,
        Err(why) if why.class == Class::InProgress => return Verdict::none(),
        Err(why) if spec.delete => return Verdict::told(kept(object, &why, facts)),
        Err(why) => return Verdict::told(unready(object, &why, facts)),
    };
    let on_disk = seen.volumes.get(lv);
    let ours = on_disk.filter(|volume| volume.name == spec.name);
    if spec.delete {
        let waits =
            |volume| clone::of_volume(volume, seen, facts).or_else(|| clone::untold(volume, seen, facts));
        return match ours.map(waits) {
            Some(None) => remove(object, lv.clone(), seen, refused, facts),
            Some(Some(why)) => Verdict::told(kept(object, &why, facts)),
            None => Verdict::gone(),
        };
    }
    if let Err(why) = check_name(object, lv, facts) {
        return Verdict::told(unready(object, &why, facts));
    }
    match (on_disk, ours) {
        (None, _) => absent(object, lv, false, refused, facts),
        (Some(other), None) => {
            let name =
                other.name.as_deref().map_or("by another tool".to_owned(), |name| format!("as {name:?}"));
            let message = format!("LV {lv} in {} exists and was made {name}: it is left alone", spec.pool);
            Verdict::told(unready(object, &Refused::new(Class::Exists, message), facts))
        }
        (_, Some(volume)) => present(object, volume, seen, refused, facts),
    }
}

/// It is not there, or was `begun` and is not made yet.
fn absent(
    object: &MirrorVolume,
    lv: &LvName,
    begun: bool,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorVolumeStatus> {
    let spec = &object.spec;
    if object.status.as_ref().is_some_and(was_made) {
        let message = format!(
            "LV {lv} is not in volume group {} any more: its data is gone or on other disks; no empty volume is made \
             in its place",
            spec.pool
        );
        return Verdict::told(unready(object, &Refused::new(Class::NotFound, message), facts));
    }
    let (Some(name), Some(images), Some(region_size)) = (&spec.name, spec.images, spec.region_size) else {
        let why = Refused::new(Class::Invalid, "a volume is made only with name, images and regionSize");
        return Verdict::told(unready(object, &why, facts));
    };
    if key::of(name) != *lv {
        let message = format!("a volume named {name:?} is LV {}, not {lv}", key::of(name));
        return Verdict::told(unready(object, &Refused::new(Class::Invalid, message), facts));
    }
    let wanted = VolumeSpec {
        name: name.clone(),
        size: spec.size.0,
        limit: spec.limit.map(|limit| limit.0),
        images: images.into(),
        region_size: region_size.0,
        min_recovery_rate: spec.min_recovery_rate,
        max_recovery_rate: spec.max_recovery_rate,
    };
    let work = match spec.source.as_ref().map(|source| clone::origin(object, source, begun, facts)) {
        None => Work::CreateVolume(wanted),
        Some(Ok(origin)) => Work::Clone { spec: wanted, origin },
        Some(Err(why)) => return Verdict::told(unready(object, &why, facts)),
    };
    Verdict::work(work).and_told(refused.map(|why| unready(object, why, facts)))
}

/// In which way the disks do not fit what the object says.
fn misfit(object: &MirrorVolume, volume: &VolumeInfo, facts: &Facts<'_>) -> Option<Refused> {
    let spec = &object.spec;
    let images = count(volume.images());
    let differs = |what: String| Refused::new(Class::Exists, format!("volume {} has {what}", volume.id));
    let other_images = spec.images.filter(|wanted| *wanted != images && !belongs(object));
    if let Some(wanted) = other_images {
        return Some(differs(format!("{images} images, not {wanted}")));
    }
    // What was an image of another volume has the regions of that until it is changed.
    let any_regions = belongs(object) || matches!(spec.source, Some(Source::Detached(_) | Source::Images(_)));
    let other_regions = spec.region_size.filter(|wanted| wanted.0 != volume.region_size && !any_regions);
    if let Some(wanted) = other_regions {
        return Some(differs(format!("regions of {}, not {}", volume.region_size, wanted.0)));
    }
    let other_source = spec
        .source
        .as_ref()
        .filter(|source| !belongs(object) && clone::differs(object, source, volume, facts));
    other_source.map(|_| differs("another source".to_owned()))
}

/// What of the volume is to be changed for it to be as the object says. Which images reads avoid is left alone when it does
/// not say.
fn change(object: &MirrorVolume, volume: &VolumeInfo) -> Option<Change> {
    let spec = &object.spec;
    let rate = |wanted: Option<u64>, has: Option<u64>| (wanted != has).then(|| wanted.unwrap_or(0));
    let avoided = volume.own_slots().filter(|slot| slot.write_mostly).map(|slot| slot.index);
    let avoided: Vec<usize> = avoided.collect();
    let write_mostly = match spec.write_mostly {
        None => None,
        Some(WriteMostly::None) => (!avoided.is_empty()).then_some(tune::WriteMostly::None),
        Some(WriteMostly::Rotational) => {
            let seek = tune::seeking(volume.own_slots().map(|slot| (slot.index, slot.rotational)));
            (avoided != seek).then_some(tune::WriteMostly::Rotational)
        }
    };
    let change = Change {
        images: spec.images.filter(|wanted| *wanted != count(volume.images())).map(usize::from),
        min_recovery_rate: rate(spec.min_recovery_rate, volume.min_recovery_rate),
        max_recovery_rate: rate(spec.max_recovery_rate, volume.max_recovery_rate),
        write_mostly,
        region_size: spec.region_size.map(|wanted| wanted.0).filter(|wanted| *wanted != volume.region_size),
    };
    (change != Change::default()).then_some(change)
}

fn present(
    object: &MirrorVolume,
    volume: &VolumeInfo,
    seen: &PoolSeen,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorVolumeStatus> {
    let spec = &object.spec;
    if volume.creating {
        return absent(object, &volume.id, true, refused, facts);
    }
    let misfit = misfit(object, volume, facts);
    let fits = misfit.is_none();
    let grows = fits && spec.size.0 > volume.size;
    let change = change(object, volume).filter(|_| fits && belongs(object));
    let changes = change.is_some();
    let active = volume.device.is_some();
    // First what cannot wait: a volume with snapshots would not grow anyway.
    let (told, roll_back) = rollback::decide(object, volume, seen, refused.filter(|_| active), facts);
    let roll_back = roll_back.filter(|_| fits && active);
    let rolls = roll_back.is_some();
    let unfilled = clone::unfilled(volume);
    let work = if !active {
        Some(Work::Activate(volume.id.clone()))
    } else if rolls {
        roll_back
    } else if unfilled.is_some() {
        None
    } else if grows {
        let limit = spec.limit.map(|limit| limit.0);
        Some(Work::Expand { lv: volume.id.clone(), size: spec.size.0, limit })
    } else {
        change.map(|change| Work::Modify { lv: volume.id.clone(), change })
    };
    let mut status = status(object, volume, seen, facts);
    status.rollback = told.map(Box::new);
    let generation = object.metadata.generation;
    let conditions = &mut status.conditions;
    match misfit.as_ref().or(refused.filter(|_| !active)) {
        Some(why) => {
            refuse(conditions, Type::Ready, why, generation, facts);
            status.phase = VolumePhase::Failed;
        }
        None if !active => {
            let inactive = Judgement::no(Type::Ready, "Inactive", "it is being activated");
            judge(conditions, inactive, generation, facts);
            status.phase = VolumePhase::Pending;
        }
        None if volume.rollback.is_some() => {
            let rolling = Judgement::no(Type::Ready, "RollingBack", "it is being rolled back");
            judge(conditions, rolling, generation, facts);
            status.phase = VolumePhase::RollingBack;
        }
        None => judge(conditions, Judgement::yes(Type::Ready, "Active", ""), generation, facts),
    }
    let refused = unfilled.as_ref().or(refused).filter(|_| active && !rolls);
    match refused.filter(|_| grows) {
        Some(why) => refuse(conditions, Type::Resized, why, generation, facts),
        None if !grows => {
            conditions::clear(conditions, Type::Resized);
        }
        None => {}
    }
    let why = refused.filter(|_| !grows);
    match (changes, why) {
        (true, Some(why)) => refuse(conditions, Type::Modified, why, generation, facts),
        (true, None) => {
            let changing = Judgement::no(Type::Modified, "Changing", "it is being changed");
            judge(conditions, changing, generation, facts);
        }
        (false, _) => {
            conditions::clear(conditions, Type::Modified);
        }
    }
    Verdict { status: Some(status), work, gone: false }
}

/// What is seen of a volume, but for whether it is ready and grown.
fn status(
    object: &MirrorVolume,
    volume: &VolumeInfo,
    seen: &PoolSeen,
    facts: &Facts<'_>,
) -> MirrorVolumeStatus {
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let slots: Vec<Slot> = volume.slots.iter().map(|slot| slot_status(object, slot, volume, facts)).collect();
    let number = |state| count(slots.iter().filter(|slot| slot.state == state).count());
    let mut status = MirrorVolumeStatus {
        observed_generation: generation,
        phase: if volume.filling.is_some() { VolumePhase::Filling } else { VolumePhase::Ready },
        conditions: old.conditions,
        size: Some(volume.size.into()),
        device: volume.device.clone(),
        in_sync: Some(number(SlotState::InSync)),
        split: Some(number(SlotState::Split)),
        sync: Some(Percent::new(percent(volume))),
        filled: volume.filling.map(|filling| Percent::of(filling.done, filling.total)),
        staged: seen.staged.contains(&volume.id),
        problems: volume.problems.clone(),
        rollback: None,
        slots,
    };
    let lost =
        lost(&status.slots, conditions::find(&status.conditions, Type::Degraded).map(|c| c.status == "True"));
    let degraded = if lost.is_empty() {
        Judgement::no(Type::Degraded, "Whole", "")
    } else {
        status.phase = VolumePhase::Degraded;
        Judgement::yes(Type::Degraded, "ImagesLost", lost.join("; "))
    };
    judge(&mut status.conditions, degraded, generation, facts);
    status
}

/// Which images do not count as redundancy. One that is copied up counts as lost until it is equal, if it was lost
/// before; one that returns from a split was none.
fn lost(slots: &[Slot], was_degraded: Option<bool>) -> Vec<String> {
    let lost = |slot: &Slot| match slot.state {
        SlotState::Failed => Some(format!("image {} on {} has failed", slot.index, slot.device)),
        SlotState::Missing if slot.device.is_empty() => Some(format!("slot {} has no image", slot.index)),
        SlotState::Missing => Some(format!("image {} is missing ({})", slot.index, slot.device)),
        SlotState::Rebuilding if was_degraded.unwrap_or(true) && !slot.grown => {
            Some(format!("image {} on {} is being rebuilt", slot.index, slot.device))
        }
        SlotState::Rebuilding
        | SlotState::InSync
        | SlotState::Split
        | SlotState::Merging
        | SlotState::Inactive => None,
    };
    slots.iter().filter_map(lost).collect()
}

fn slot_status(object: &MirrorVolume, slot: &info::SlotInfo, volume: &VolumeInfo, facts: &Facts<'_>) -> Slot {
    let state = SlotState::from(slot.state);
    let moving = matches!(state, SlotState::Merging | SlotState::Rebuilding);
    let error = match state {
        SlotState::Failed => Some("the kernel has given it up after an error".to_owned()),
        SlotState::Missing if slot.lost => {
            Some("it has no image: it gets one when a disk has room".to_owned())
        }
        SlotState::Missing => Some("its disk is not there".to_owned()),
        SlotState::InSync
        | SlotState::Split
        | SlotState::Merging
        | SlotState::Rebuilding
        | SlotState::Inactive => None,
    };
    let lent_to = slot.lent.as_deref().map(|clone| clone::name_of(clone, &object.spec.pool, facts));
    let shown = slot.snapshot.as_deref().filter(|_| lent_to.is_none());
    let snapshot = shown.map(|id| snapshot_name(object, id, volume, facts));
    Slot {
        index: count(slot.index),
        state,
        device: slot.device.clone(),
        grown: slot.grown.is_some(),
        write_mostly: slot.write_mostly,
        snapshot,
        lent_to,
        percent: moving.then(|| percent(volume)),
        error,
    }
}

/// The MirrorSnapshot of a snapshot on the disks: the one that there is, or the one that an import will make.
fn snapshot_name(object: &MirrorVolume, id: &str, volume: &VolumeInfo, facts: &Facts<'_>) -> String {
    let key = key::parse_snapshot_id(id).map(|(_, key)| key);
    let is_it = |snapshot: &&std::sync::Arc<crate::api::MirrorSnapshot>| {
        snapshot.spec.volume == object.name_any() && Some(&snapshot.spec.key) == key.as_ref()
    };
    if let Some(found) = facts.snapshots.values().find(is_it) {
        return found.name_any();
    }
    let name =
        volume.snapshots.iter().find(|snapshot| snapshot.id == id).and_then(|info| info.name.as_deref());
    name.map_or_else(|| id.to_owned(), names::of)
}

/// How far attached images are equal, rounded down.
pub(super) fn percent(volume: &VolumeInfo) -> u8 {
    (0..=100).rev().find(|percent| f64::from(*percent) <= volume.sync_percent).unwrap_or(0)
}
