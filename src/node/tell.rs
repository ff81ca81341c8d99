//! Pure: what is worth an Event when a status changes.
//!
//! An event is told once what it tells of is in the status: so each is told once, and none of what a restart has missed
//! is lost. It is shown on the object that a user looks at.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt as _};

use crate::api::conditions::{self, Type};
use crate::api::rollback::RollbackPhase;
use crate::api::snapshot::{SnapshotPhase, SnapshotPolicy};
use crate::api::subject::{of_snapshot, of_volume};
use crate::api::volume::SlotState;
use crate::api::{
    MirrorPool, MirrorPoolStatus, MirrorSnapshot, MirrorSnapshotStatus, MirrorVolume, MirrorVolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// An event, and what it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// It is a warning.
    pub warning: bool,
    /// What happened, for programs.
    pub reason: &'static str,
    /// What was being done.
    pub action: &'static str,
    /// What happened, for people.
    pub message: String,
    /// The object that a user looks at.
    pub about: ObjectReference,
    /// Another object that it touches.
    pub related: Option<ObjectReference>,
}

/// Longest message that the API server takes.
const MESSAGE_MAX: usize = 1024;

impl Note {
    /// As it is published.
    #[must_use]
    pub fn event(&self) -> Event {
        let mut message = self.message.clone();
        while message.len() > MESSAGE_MAX {
            message.pop();
        }
        Event {
            type_: if self.warning { EventType::Warning } else { EventType::Normal },
            reason: self.reason.to_owned(),
            note: Some(message),
            action: self.action.to_owned(),
            secondary: self.related.clone(),
        }
    }
}

/// The message of a judgement that it is not so, if it is new.
fn newly_refused<'a>(of: Type, old: &[Condition], new: &'a [Condition]) -> Option<&'a str> {
    let (_, message) = conditions::refusal(new, of, None)?;
    let same = conditions::refusal(old, of, None).is_some_and(|(_, known)| known == message);
    (!same).then_some(message)
}

/// What happened to a volume.
#[must_use]
pub fn volume(object: &MirrorVolume, new: &MirrorVolumeStatus) -> Vec<Note> {
    let old = object.status.clone().unwrap_or_default();
    let mut notes = Vec::new();
    let mut note = |warning, reason, action, message: String| {
        let (about, related) =
            (of_volume(object), object.spec.claim.is_some().then(|| object.object_ref(&())));
        notes.push(Note { warning, reason, action, message, about, related });
    };
    if let Some(why) = newly_refused(Type::Ready, &old.conditions, &new.conditions) {
        note(true, "VolumeRefused", "Provision", why.to_owned());
    }
    if let Some(why) = newly_refused(Type::Resized, &old.conditions, &new.conditions) {
        note(true, "ExpansionRefused", "Expand", why.to_owned());
    }
    if let Some(why) = newly_refused(Type::Modified, &old.conditions, &new.conditions) {
        note(true, "ModificationRefused", "Modify", why.to_owned());
    }
    for slot in &new.slots {
        let was = old.slots.iter().find(|was| was.index == slot.index).map(|was| was.state);
        let (index, device) = (slot.index, &slot.device);
        match slot.state {
            SlotState::Failed if was != Some(SlotState::Failed) => {
                let message =
                    format!("image {index} on {device} has failed: the volume goes on with the others");
                note(true, "ImageFailed", "Monitor", message);
            }
            SlotState::Missing if was != Some(SlotState::Missing) => {
                let message = match (&slot.error, device.as_str()) {
                    (Some(why), "") => format!("slot {index}: {why}"),
                    (_, device) => format!("image {index} is missing: {device} is not there"),
                };
                note(true, "ImageMissing", "Monitor", message);
            }
            SlotState::Failed
            | SlotState::Missing
            | SlotState::InSync
            | SlotState::Split
            | SlotState::Merging
            | SlotState::Rebuilding
            | SlotState::Inactive => {}
        }
    }
    let degraded = |conditions: &[Condition]| conditions::is_true(conditions, Type::Degraded);
    match (degraded(&old.conditions), degraded(&new.conditions)) {
        (false, true) => {
            let why =
                conditions::find(&new.conditions, Type::Degraded).map_or("", |condition| &condition.message);
            note(
                true,
                "RedundancyLost",
                "Monitor",
                format!("the volume has less redundancy than it should: {why}"),
            );
        }
        (true, false) => {
            note(
                false,
                "RedundancyRestored",
                "Monitor",
                "all images are equal again, or split off".to_owned(),
            );
        }
        (true, true) | (false, false) => {}
    }
    if old.filled.is_some() && new.filled.is_none() && new.size.is_some() {
        let message = "the volume holds everything itself, and needs its source no more".to_owned();
        note(false, "CloneFilled", "Clone", message);
    }
    if let Some(told) = &new.rollback
        && old.rollback.as_ref().map(|old| (&old.request, old.phase)) != Some((&told.request, told.phase))
    {
        match told.phase {
            RollbackPhase::Pending => {}
            RollbackPhase::Copying => note(false, "RollbackStarted", "RollBack", told.message.clone()),
            RollbackPhase::Done => {
                note(false, "RollbackCompleted", "RollBack", "the volume is rolled back".to_owned());
            }
            RollbackPhase::Failed => note(true, "RollbackRefused", "RollBack", told.message.clone()),
        }
    }
    notes
}

/// What happened to a snapshot; `split` when its image was split off just now, and not found so.
#[must_use]
pub fn snapshot(
    object: &MirrorSnapshot,
    volume: Option<&MirrorVolume>,
    new: &MirrorSnapshotStatus,
    split: bool,
) -> Vec<Note> {
    let old = object.status.clone().unwrap_or_default();
    let slot = new.slot.map_or_else(String::new, |slot| slot.to_string());
    let mut notes = Vec::new();
    let mut note = |warning, reason, action, message: String, about: ObjectReference| {
        let related = Some(object.object_ref(&())).filter(|own| *own != about);
        notes.push(Note { warning, reason, action, message, about, related });
    };
    if split && new.phase == SnapshotPhase::Ready && old.phase != SnapshotPhase::Ready {
        let what = if is_grown(object) {
            "which was added for it, was split off"
        } else {
            "was split off; nothing was copied"
        };
        let message = format!("image {slot} of volume {} {what}", object.spec.volume);
        note(false, "SnapshotSplit", "Split", message, of_snapshot(object));
    }
    if let Some(why) = newly_refused(Type::Ready, &old.conditions, &new.conditions) {
        note(true, "SnapshotRefused", "Split", why.to_owned(), of_snapshot(object));
    }
    if new.phase == SnapshotPhase::Detached && old.phase != SnapshotPhase::Detached {
        let message = conditions::find(&new.conditions, Type::Ready).map_or("", |ready| &ready.message);
        let (seen, own) = (of_snapshot(object), object.object_ref(&()));
        // Both are looked at by somebody who asks what has become of it.
        for about in [Some(own).filter(|own| *own != seen), Some(seen)].into_iter().flatten() {
            note(false, "SnapshotDetached", "Detach", message.to_owned(), about);
        }
    }
    if new.phase == SnapshotPhase::Merging && old.phase != SnapshotPhase::Merging {
        let what = "is being merged back; the volume goes on meanwhile";
        notes.extend(end(object, volume, ("Merge", "MergeStarted"), what));
    }
    notes
}

/// Whether an image was added for a snapshot.
fn is_grown(object: &MirrorSnapshot) -> bool {
    object.spec.policy == Some(SnapshotPolicy::Grow)
}

/// What becomes of the image of a snapshot that is deleted, for who looks at the volume.
fn end(
    object: &MirrorSnapshot,
    volume: Option<&MirrorVolume>,
    (action, reason): (&'static str, &'static str),
    what: &str,
) -> Option<Note> {
    let slot = object.status.as_ref().and_then(|status| status.slot)?;
    Some(Note {
        warning: false,
        reason,
        action,
        message: format!("image {slot} of volume {} {what}", object.spec.volume),
        about: volume.map_or_else(|| of_snapshot(object), of_volume),
        related: Some(object.object_ref(&())),
    })
}

/// A snapshot's image is merged, or has left, unless it was detached. Of one that had little to copy nobody was told that it has
/// begun, and need not be.
#[must_use]
pub fn merged(object: &MirrorSnapshot, volume: Option<&MirrorVolume>) -> Vec<Note> {
    let note = if is_grown(object) {
        end(
            object,
            volume,
            ("Remove", "ImageRemoved"),
            "was there for a snapshot only, and is removed with it",
        )
    } else {
        end(object, volume, ("Merge", "MergeCompleted"), "is merged back")
    };
    note.into_iter().collect()
}

/// What happened to a pool.
#[must_use]
pub fn pool(object: &MirrorPool, new: &MirrorPoolStatus) -> Vec<Note> {
    let old = object.status.clone().unwrap_or_default();
    let note = |warning, reason, message: &str| Note {
        warning,
        reason,
        action: "Configure",
        message: message.to_owned(),
        about: object.object_ref(&()),
        related: None,
    };
    let refused =
        |of| newly_refused(of, &old.conditions, &new.conditions).map(|why| note(true, "PoolRefused", why));
    let mut notes: Vec<Note> = refused(Type::Ready).into_iter().chain(refused(Type::Resized)).collect();
    let missing = |status: &MirrorPoolStatus| status.missing_disks > 0;
    if missing(new) && !missing(&old) {
        let disks = new.disks.iter().filter(|disk| disk.missing).map(|disk| disk.device.as_str());
        let message = format!("disks are missing: {}", disks.collect::<Vec<_>>().join(", "));
        notes.push(note(true, "DiskMissing", &message));
    }
    notes
}

/// An object was made for what was found on the disks.
#[must_use]
pub fn imported<K: Resource<DynamicType = ()>>(object: &K, reason: &'static str) -> Vec<Note> {
    vec![Note {
        warning: false,
        reason,
        action: "Import",
        message: format!("{} was found on the disks of its node", object.name_any()),
        about: object.object_ref(&()),
        related: None,
    }]
}
