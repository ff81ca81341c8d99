//! The number of images of a volume, up and down, while it is used.
//!
//! ```text
//! up:    settled -> reserve extents on disks that have no image of the volume -> zero the superblocks' place
//!                -> commit the images as attached, `merging`, REBUILD, `pending`
//!                -> as a merge in full: devices, swap with `rebuild N`, pin, wait for the copy, commit not `merging`
//! down:  settled -> commit the last images as split off, `leaving`, `pending`
//!                -> swap to a table without their slots -> pin, commit not `pending`
//!                -> remove their devices -> commit without them: their extents are free
//! apart: as down, and `pending` all the time -> remove their devices -> commit them as a volume of their own
//! ```
//!
//! Images come and go at the end, so that no other ever has another slot: an image that is out is looked up under the number
//! that it remembers. An image that leaves is split off by the metadata from the first commit on, so whoever starts the array
//! keeps it out, and an image that is new is marked for a full copy, so whoever starts the array makes it equal.
//!
//! Images that leave together are equal: the swap lets no write go to some of them only. A power cut before it is pinned
//! may, and ends `pending` with a mark on each of them ([`Edit::SwapLost`]), so without the mark they are equal when they are committed.

use std::ops::RangeInclusive;

use crate::raid::Health;
use crate::report::Class;
use crate::volume::seen::Seen;
use crate::volume::spec::{IMAGES_MAX, IMAGES_MIN};
use crate::volume::split::settled;
use crate::volume::step::{Edit, Next, Part, Refusal, Step, Waiting};
use crate::volume::{clone, grow, key, rollback, tables};

/// Fewest images in sync that must stay when others leave, unless one is all that is wanted: what is written must not lose its
/// redundancy by the way.
pub const IN_SYNC_MIN: usize = 2;

/// What was done in this run and leaves no trace to observe.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    /// The swap was pinned.
    pub pinned: bool,
}

/// Whether more images can be added now: `None`, or why not. The volume has been brought up.
#[must_use]
pub fn may_grow(seen: &Seen, images: usize) -> Option<Next> {
    refused(seen, images).or_else(|| grow::in_the_way(seen).map(Next::Refuse)).or_else(|| settled(seen))
}

/// What next, so that only `images` stay. The volume has been brought up.
#[must_use]
pub fn shrink(seen: &Seen, images: usize) -> Next {
    if let Some(not_now) = refused(seen, images) {
        return not_now;
    }
    match seen.own_slots().nth(images) {
        Some(first) => leave(seen, first, images.min(IN_SYNC_MIN), None),
        None => Next::Done,
    }
}

/// What next, so that the last `images` leave together and become a volume of this name: `Done` when they are on their way. The
/// volume has been brought up.
#[must_use]
pub fn part(seen: &Seen, images: usize, name: &str) -> Next {
    if seen.becomes() == Some(name) {
        return Next::Done;
    }
    if let Some(not_now) = refused(seen, images) {
        return not_now;
    }
    if images < IN_SYNC_MIN {
        let message = format!(
            "{IN_SYNC_MIN} images or more become a volume of their own: for one make a snapshot, and detach that"
        );
        return Refusal::because(Class::Invalid, message);
    }
    let has = seen.images();
    match has
        .checked_sub(images)
        .filter(|stay| *stay >= IN_SYNC_MIN)
        .and_then(|stay| seen.own_slots().nth(stay))
    {
        Some(first) => match (first..seen.staying()).find(|slot| seen.is_parked(*slot)) {
            // The images of a volume are those in the last slots, one after the other.
            Some(slot) => {
                let message = format!(
                    "volume {}: image {slot}, among its last ones, waits to leave until those behind it do: remove these and add \
                     others first",
                    seen.lv.name
                );
                Refusal::because(Class::Precondition, message)
            }
            None => leave(seen, first, IN_SYNC_MIN, Some(name.to_owned())),
        },
        None => {
            let message = format!(
                "volume {} has {has} images and {IN_SYNC_MIN} must stay, so {images} cannot become a volume: add images first",
                seen.lv.name
            );
            Refusal::because(Class::Precondition, message)
        }
    }
}

/// Lets the images from slot `first` on leave, if so many that are in sync stay.
fn leave(seen: &Seen, first: usize, least: usize, becomes: Option<String>) -> Next {
    let go: Vec<usize> = (first..seen.staying()).filter(|slot| !seen.is_parked(*slot)).collect();
    if let Some(refusal) = grow::under_way(seen) {
        return Next::Refuse(refusal);
    }
    if let Some(slot) = go.iter().find(|slot| seen.slots[**slot].is_split()) {
        let snapshot = seen.snapshot_key(*slot).map(|key| key::snapshot_id(&seen.lv.name, &key));
        let message = format!(
            "volume {}: its last image, {slot}, is snapshot {}, and others keep their places: delete that first",
            seen.lv.name,
            snapshot.unwrap_or_default()
        );
        return Refusal::because(Class::Precondition, message);
    }
    if let Some(not_yet) = settled(seen) {
        return not_yet;
    }
    let Some((_, status)) = seen.running() else { return inactive(seen) };
    let in_sync = |slot: &usize| status.health.get(*slot) == Some(&Health::InSync);
    let stay = seen.attached_slots().filter(|slot| *slot < first).filter(in_sync).count();
    let least = least.max(seen.min_in_sync());
    if stay < least {
        let message = format!(
            "volume {} would have {stay} image{} in sync and {least} must stay: delete a snapshot of it first",
            seen.lv.name,
            if stay == 1 { "" } else { "s" }
        );
        return Refusal::because(Class::Precondition, message);
    }
    Next::Do(Step::Commit(Edit::Leave { slots: go, becomes }))
}

/// What next, until images that leave have left, or until those can be committed as a volume that become one. The volume has
/// been brought up.
#[must_use]
pub fn finish(seen: &Seen, memo: &Memo) -> Next {
    if seen.leaving_slots().next().is_none() {
        return Next::Done;
    }
    let Some((table, status)) = seen.running() else { return inactive(seen) };
    if table.slots.len() > seen.staying() {
        // Kernels before 6.9 hang when a table goes away while its sync thread is about to start.
        if !status.is_settled() {
            return Next::Wait(Waiting::Sync);
        }
        if !seen.tags.pending {
            return Next::Do(Step::Commit(Edit::Pending));
        }
        return match tables::table(seen, |slot| table.has_leg(slot), Vec::new()) {
            Some(table) => Next::Do(Step::Swap { table, returning: None }),
            None => {
                Refusal::because(Class::Internal, format!("volume {}: a leg has no device", seen.lv.name))
            }
        };
    }
    let parts = seen.becomes().is_some();
    if seen.tags.pending && !memo.pinned {
        return Next::Do(Step::Pin);
    }
    if seen.tags.pending && !parts {
        return Next::Do(Step::Commit(Edit::SwapPinned));
    }
    for slot in seen.leaving_slots() {
        let of = &seen.slots[slot];
        for (part, dev) in [(Part::Image, &of.image_dev), (Part::Meta, &of.meta_dev)] {
            match dev {
                Some(dev) if dev.info.open_count > 0 => return Next::Wait(Waiting::Closed),
                Some(_) => return Next::Do(Step::DropLeg { slot, part }),
                None => {}
            }
        }
    }
    // The others keep their slots until those behind them go.
    if parts || seen.slots.len() == seen.staying() { Next::Done } else { Next::Do(Step::Commit(Edit::Left)) }
}

pub(crate) fn refused(seen: &Seen, images: usize) -> Option<Next> {
    let possible: RangeInclusive<usize> = IMAGES_MIN..=IMAGES_MAX;
    if !possible.contains(&images) {
        let message = format!("{images} images: a volume has {IMAGES_MIN} to {IMAGES_MAX}");
        return Some(Refusal::because(Class::Invalid, message));
    }
    if let Some(refusal) = rollback::refusal(seen).or_else(|| clone::refusal(seen)) {
        return Some(Next::Refuse(refusal));
    }
    if seen.lv.has("NOTSYNCED") {
        let message = format!(
            "volume {} was made without a first sync, so its images may differ; run lvchange --resync on it first",
            seen.lv.name
        );
        return Some(Refusal::because(Class::Precondition, message));
    }
    if let Some(slot) = seen.lost_slots().find(|slot| *slot < images) {
        let message = format!("volume {}: slot {slot} has no image yet, for want of room", seen.lv.name);
        return Some(Refusal::because(Class::Precondition, message));
    }
    if let Some(slot) = seen.slots.iter().position(|slot| !slot.present && !slot.is_lost()) {
        let message = format!("volume {}: image {slot} is missing; repair the volume first", seen.lv.name);
        return Some(Refusal::because(Class::Precondition, message));
    }
    seen.running().is_none().then(|| inactive(seen))
}

fn inactive(seen: &Seen) -> Next {
    Refusal::because(Class::Precondition, format!("volume {} is not active", seen.lv.name))
}
