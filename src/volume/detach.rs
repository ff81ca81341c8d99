//! A snapshot becomes a volume: its image leaves the volume for good, and nothing is copied.
//!
//! ```text
//! snapshot ready, not in use, shown by no view
//!   -> remove the image's devices: nobody has it open from now on
//!   -> commit: image and metadata LV are slot 0 of a volume of their own, the slot that they leave is `lost`
//! the new volume, `adopting`: devices, array, pin, commit not `adopting`
//! both, when there is room for images in `lost` slots: reserve, zero, commit REBUILD; on as a merge in full
//! ```
//!
//! The array of the volume that the image leaves does not notice: its slot has been empty since the split, and stays where
//! it is, so no other split is looked up under another number. The image is writable only as part of its new array, which
//! is made after the commit. Its superblock is that of a whole leg to which no other is known missing under its number, which
//! the kernel takes in any slot; the pin writes it anew.
//!
//! **Sources**: kernel `drivers/md/dm-raid.c`, `super_init_validation` (device re-ordering); LVM2
//! `lib/metadata/raid_manip.c`, `lv_raid_split`, and `vgreduce --removemissing` (segments of type `error`).

use crate::report::Class;
use crate::volume::seen::Seen;
use crate::volume::split::settled;
use crate::volume::step::{Next, Part, Refusal, Step, Waiting};
use crate::volume::{clone, key, rollback};

/// What next, until the image of `slot` can be committed as another volume's: `Done` then. The volume has been brought up,
/// and neither a view nor a clone that is being filled reads the snapshot.
#[must_use]
pub fn next(seen: &Seen, slot: usize) -> Next {
    let of = &seen.slots[slot];
    let Some(key) = seen.snapshot_key(slot) else {
        return Refusal::because(
            Class::NotFound,
            format!("volume {}: image {slot} is no snapshot", seen.lv.name),
        );
    };
    let id = key::snapshot_id(&seen.lv.name, &key);
    if seen.running().is_none() {
        return Refusal::because(Class::Precondition, format!("volume {} is not active", seen.lv.name));
    }
    if let Some(refusal) = rollback::refusal(seen) {
        return Next::Refuse(refusal);
    }
    if !of.present || of.is_unpinned() {
        return Refusal::because(Class::Precondition, format!("snapshot {id} is not ready"));
    }
    if let Some(of) = &of.tags.group {
        let message = format!(
            "snapshot {id} is one of group {}, of which none can be taken away: make the volume of a snapshot by itself",
            key::of(&of.group)
        );
        return Refusal::because(Class::Invalid, message);
    }
    if of.tags.grown.is_some() {
        let message = format!(
            "snapshot {id} is of an image that was added for it and goes with it: make a clone of it, or a volume of a snapshot \
             that borrows an image"
        );
        return Refusal::because(Class::Invalid, message);
    }
    if seen.tags.pending {
        return Next::Wait(Waiting::Sync);
    }
    for (part, dev) in [(Part::Image, &of.image_dev), (Part::Meta, &of.meta_dev)] {
        match dev {
            Some(dev) if dev.info.open_count > 0 => {
                return Refusal::because(
                    Class::Precondition,
                    format!("snapshot {id} is in use: unmount it first"),
                );
            }
            Some(_) => return Next::Do(Step::DropLeg { slot, part }),
            None => {}
        }
    }
    Next::Done
}

/// Whether slots without an image can get one now.
#[must_use]
pub fn may_fill(seen: &Seen) -> bool {
    let rests = seen.running().is_some() && settled(seen).is_none();
    rests && rollback::refusal(seen).is_none() && clone::refusal(seen).is_none()
}
