//! An image that is added for one snapshot, so that the volume keeps all of its own.
//!
//! ```text
//! settled -> an image is added as in [`super::images`], marked with the snapshot's name, or one that waits to leave comes
//!            back as in a merge in full
//!         -> wait for the copy, commit not `merging`
//!         -> as any split, of this image
//!         ... the snapshot is deleted: commit the image as leaving
//!              none behind it stays -> it leaves as in [`super::images`]
//!              else                 -> its slot is kept, empty, until those behind it go: it is parked
//! ```
//!
//! The mark is in the commit that adds the image, so whoever takes the volume up after a crash goes on to the cut. Until then
//! the image is kept for this snapshot: no other is cut from it, and it does not count as one that must stay.

use crate::report::Class;
use crate::volume::images;
use crate::volume::key;
use crate::volume::seen::Seen;
use crate::volume::spec::IMAGES_MAX;
use crate::volume::split::settled;
use crate::volume::step::{Edit, Next, Refusal};
use crate::volume::tags::Grown;

/// How a snapshot gets an image of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Growth {
    /// It has one, which is on its way or cut.
    Begun,
    /// This edit brings one back that waits to leave.
    Again(Edit),
    /// A new one is to be added behind all others.
    New,
    /// Not now, or not at all.
    Not(Next),
}

/// How to begin. The volume has been brought up.
#[must_use]
pub fn begin(seen: &Seen, grown: &Grown) -> Growth {
    let key = key::of(&grown.snapshot);
    if seen.slot_of(&key).or_else(|| seen.growing(&key)).is_some() {
        return Growth::Begun;
    }
    if let Some(not) = images::refused(seen, seen.images()).or_else(|| settled(seen)) {
        return Growth::Not(not);
    }
    if let Some(refusal) = too_few(seen, grown.min_in_sync) {
        return Growth::Not(Next::Refuse(refusal));
    }
    let unused = |slot: &usize| {
        let dev = seen.slots[*slot].image_dev.as_ref();
        seen.is_parked(*slot) && dev.is_none_or(|dev| dev.info.open_count == 0)
    };
    if let Some(slot) = (0..seen.slots.len()).find(unused) {
        return Growth::Again(Edit::GrowAgain { slot, grown: grown.clone() });
    }
    if seen.staying() >= IMAGES_MAX {
        let message = format!(
            "volume {} has {IMAGES_MAX} images with those of its snapshots, and no more are possible: delete a snapshot of it",
            seen.lv.name
        );
        return Growth::Not(Refusal::because(Class::Precondition, message));
    }
    Growth::New
}

/// Why the image of `slot` is not cut now that it is equal.
#[must_use]
pub fn refusal(seen: &Seen, slot: usize, min_in_sync: usize) -> Option<Refusal> {
    if !seen.slots[slot].present {
        let message = format!("volume {}: image {slot} is missing; repair the volume first", seen.lv.name);
        return Some(Refusal { class: Class::Precondition, message });
    }
    too_few(seen, min_in_sync)
}

/// Refuses for now what must wait until an image is cut that was added for a snapshot.
#[must_use]
pub fn under_way(seen: &Seen) -> Option<Refusal> {
    let mut growing = seen.slots.iter().filter(|of| !of.is_split()).filter_map(|of| of.tags.grown.as_ref());
    let snapshot = key::snapshot_id(&seen.lv.name, &key::of(growing.next()?));
    let message = format!("snapshot {snapshot} is still being made, of an image of its own: try again later");
    Some(Refusal { class: Class::InProgress, message })
}

/// Refuses to add images for the volume behind those that are there for snapshots: slots are never given up in the middle.
#[must_use]
pub fn in_the_way(seen: &Seen) -> Option<Refusal> {
    if let Some(refusal) = under_way(seen) {
        return Some(refusal);
    }
    let grown = (0..seen.slots.len()).rfind(|slot| seen.slots[*slot].tags.grown.is_some())?;
    let snapshot = seen.snapshot_key(grown).map(|key| key::snapshot_id(&seen.lv.name, &key));
    let message = format!(
        "volume {}: its image {grown} is there for snapshot {} only, and those of the volume come before it: delete that first",
        seen.lv.name,
        snapshot.unwrap_or_default()
    );
    Some(Refusal { class: Class::Precondition, message })
}

fn too_few(seen: &Seen, min_in_sync: usize) -> Option<Refusal> {
    let (stay, must) = (seen.spare_slots().count(), min_in_sync.max(1));
    let message = || {
        format!(
            "volume {} has {stay} in-sync image{} attached and {must} must stay: delete a snapshot of it, or use a volume of \
             more images",
            seen.lv.name,
            if stay == 1 { "" } else { "s" }
        )
    };
    (stay < must).then(|| Refusal { class: Class::Precondition, message: message() })
}
