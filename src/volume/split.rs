//! A snapshot: one image leaves the array, and its slot stays.
//!
//! ```text
//! settled -> commit the image as split, `pending`
//!         -> swap: suspend, load with the slot empty, resume      the cut
//!         -> pin: suspend, resume                                 the slot is missing, durably
//!         -> image read-only
//!         -> read the rmetas: is it on disk?
//!         -> commit the event count, not `pending` any more       ready
//! ```
//!
//! Both commits are outside the pauses. The first comes before the swap, so that a write that the image misses
//! can never happen while the metadata still calls it attached.

use crate::raid::{self, Health};
use crate::report::Class;
use crate::volume::seen::{Seen, SlotSeen};
use crate::volume::step::{Edit, Next, Part, Refusal, Step, Waiting};
use crate::volume::{clone, grow, key, rollback, tables};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Split {
    /// The snapshot's name.
    pub name: String,
    /// Now, nanoseconds since 1970.
    pub now: u64,
    /// In-sync images that must stay attached.
    pub min_in_sync: usize,
    /// The clone that it is for, and for nothing else.
    pub lent: Option<String>,
}

/// What was done in this run and leaves no trace to observe.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    /// How often a pin cycle was run.
    pub pins: usize,
}

/// A pin is known to work at the first try; more than these say that something is wrong with the kernel.
const PINS_MAX: usize = 3;

/// What next, to get the snapshot. The volume has been brought up.
#[must_use]
pub fn next(seen: &Seen, split: &Split, memo: &Memo) -> Next {
    let Some((table, _)) = seen.running() else {
        return Refusal::because(Class::Precondition, format!("volume {} is not active", seen.lv.name));
    };
    let Some(slot) = seen.slot_of(&key::of(&split.name)) else {
        return match settled(seen) {
            Some(not_yet) => not_yet,
            None => choose(seen, split),
        };
    };
    if seen.slots[slot].tags.events.is_some() {
        return Next::Done;
    }
    if table.has_leg(slot) {
        let stays = |other: usize| other != slot && table.has_leg(other);
        return match tables::table(seen, stays, Vec::new()) {
            Some(table) => Next::Do(Step::Swap { table, returning: None }),
            None => {
                Refusal::because(Class::Internal, format!("volume {}: a leg has no device", seen.lv.name))
            }
        };
    }
    if memo.pins == 0 {
        return Next::Do(Step::Pin);
    }
    if let Some(next) = image_device(&seen.slots[slot], slot) {
        return next;
    }
    let survivors = (0..seen.slots.len()).filter(|other| table.has_leg(*other));
    let (Some(survivors), Some(of_split)) = (seen.metas_of(survivors), seen.metas_of(std::iter::once(slot)))
    else {
        return Next::ReadMetas;
    };
    let events = match raid::split_is_pinned(&survivors, slot, of_split[0].1) {
        Ok(events) => events,
        Err(_) if memo.pins < PINS_MAX => return Next::Do(Step::Pin),
        Err(why) => {
            let message =
                format!("volume {}: the split of image {slot} does not reach the disks: {why}", seen.lv.name);
            return Refusal::because(Class::Transient, message);
        }
    };
    Next::Do(Step::Commit(Edit::Pinned { slot, events }))
}

/// A split image is there to be read, and only that. The device that it had as a leg serves as it is, but where hidden
/// LVs have uuids of their own kind. Its rmeta's device stays until the image is merged.
///
/// Whoever has it open is waited for: he could go on writing, and what the kernel has cached of it goes when it is closed.
pub(crate) fn image_device(of: &SlotSeen, slot: usize) -> Option<Next> {
    let Some(dev) = &of.image_dev else {
        return Some(Next::Do(Step::MakeLeg { slot, part: Part::Image }));
    };
    let serves = dev.info.live_table && !dev.info.suspended && !dev.other_uuid;
    if serves && dev.info.read_only {
        return None;
    }
    if dev.info.open_count > 0 {
        return Some(Next::Wait(Waiting::Closed));
    }
    Some(Next::Do(if serves { Step::Protect { slot } } else { Step::DropLeg { slot, part: Part::Image } }))
}

/// Whether the array rests: nothing may be split off or brought back while something is copied, for an interrupted
/// copy is taken up as a full one, and a half-copied image would be called equal.
pub(crate) fn settled(seen: &Seen) -> Option<Next> {
    let (table, status) = seen.running()?;
    if let Some(dead) = status.health.iter().position(|health| *health == Health::Dead) {
        let message = format!(
            "volume {}: image {dead} on {} has failed; repair the volume first",
            seen.lv.name, seen.slots[dead].device
        );
        return Some(Refusal::because(Class::Precondition, message));
    }
    let whole = seen.attached_slots().all(|slot| table.has_leg(slot));
    let going = seen.slots.len() > seen.staying();
    let resting = !going && seen.slots.iter().all(|slot| !slot.tags.merging) && !seen.tags.pending;
    if !(status.is_settled() && whole && resting) {
        return Some(Next::Wait(Waiting::Sync));
    }
    None
}

fn choose(seen: &Seen, split: &Split) -> Next {
    if let Some(refusal) = rollback::refusal(seen).or_else(|| clone::refusal(seen)) {
        return Next::Refuse(refusal);
    }
    let taken = key::of(&split.name);
    if seen.lv.has("NOTSYNCED") {
        let message = format!(
            "volume {} was made without a first sync, so its images may differ; run lvchange --resync on it first",
            seen.lv.name
        );
        return Refusal::because(Class::Precondition, message);
    }
    // What other snapshots need they need as long as they are there.
    let must = split.min_in_sync.max(seen.min_in_sync()).max(1);
    let picked = match seen.growing(&taken) {
        Some(slot) => match grow::refusal(seen, slot, split.min_in_sync) {
            Some(refusal) => return Next::Refuse(refusal),
            None => Some(slot),
        },
        None => pick(seen, must),
    };
    match picked {
        // By others than the array.
        Some(slot) if seen.slots[slot].image_dev.as_ref().is_some_and(|dev| dev.info.open_count > 1) => {
            Next::Wait(Waiting::Closed)
        }
        Some(slot) => {
            debug_assert_ne!(seen.snapshot_key(slot), Some(taken));
            Next::Do(Step::Commit(Edit::Split {
                slot,
                name: split.name.clone(),
                cut: split.now,
                min_in_sync: split.min_in_sync,
                lent: split.lent.clone(),
            }))
        }
        None => {
            let attached = seen.spare_slots().count();
            let message = format!(
                "volume {} has {attached} in-sync image{} attached and {must} must stay: delete a snapshot of it, or use a \
                 volume of more images",
                seen.lv.name,
                if attached == 1 { "" } else { "s" }
            );
            // No lack of room, which upstream's snapshotter takes for a call that may still run: it would keep a
            // refused VolumeSnapshot from being deleted until there is an image for it.
            Refusal::because(Class::Precondition, message)
        }
    }
}

/// The image that the volume misses least: one that reads avoid anyway, else one on a disk that seeks, else the
/// last. The last image that is good to read from is never taken while another can be.
#[must_use]
pub fn pick(seen: &Seen, must_stay: usize) -> Option<usize> {
    let attached: Vec<usize> = seen.spare_slots().collect();
    if attached.len() <= must_stay {
        return None;
    }
    attached.into_iter().max_by_key(|slot| {
        let of: &SlotSeen = &seen.slots[*slot];
        (of.is_write_mostly(), of.rotational, *slot)
    })
}
