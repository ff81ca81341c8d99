//! How fast a volume's images are copied, which of them are read from and how large the regions are, changed while it is used.
//!
//! The change is committed, and the array follows its metadata when it rests (see [`super::bring_up`]).

use crate::raid::{self, Health};
use crate::report::Class;
use crate::units::{Bytes, Sectors};
use crate::volume::clone;
use crate::volume::seen::Seen;
use crate::volume::step::{Edit, Next, Refusal, Step};

/// Which images reads avoid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteMostly {
    /// None.
    None,
    /// Those on disks that seek, if not all are.
    Rotational,
    /// Those in these slots.
    Slots(Vec<usize>),
}

/// Why a text does not say which images reads shall avoid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not `none`, `rotational`, or numbers of images with commas between them")]
pub struct WriteMostlyError(String);

impl std::str::FromStr for WriteMostly {
    type Err = WriteMostlyError;

    fn from_str(text: &str) -> Result<Self, WriteMostlyError> {
        match text {
            "none" => Ok(Self::None),
            "rotational" => Ok(Self::Rotational),
            slots => {
                let slots = slots.split(',').map(|slot| slot.trim().parse().ok()).collect::<Option<_>>();
                slots.map(Self::Slots).ok_or_else(|| WriteMostlyError(text.to_owned()))
            }
        }
    }
}

/// What is to be changed of a volume; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// How many images it shall have.
    pub images: Option<usize>,
    /// KiB/s per image that recovery is never throttled below; 0 leaves it to the kernel.
    pub min_recovery_rate: Option<u64>,
    /// KiB/s per image that recovery is throttled to; 0 leaves it to the kernel.
    pub max_recovery_rate: Option<u64>,
    /// Which images reads avoid.
    pub write_mostly: Option<WriteMostly>,
    /// Granularity of the bitmap.
    pub region_size: Option<Bytes>,
}

/// Why this cannot be done, whatever the volume is like: `images` are how many it will have.
#[must_use]
pub fn refusal(seen: &Seen, change: &Change, images: usize) -> Option<Refusal> {
    if let Some(refusal) = clone::refusal(seen) {
        return Some(refusal);
    }
    let regions =
        change.region_size.map(Bytes::sectors_floor).filter(|wanted| *wanted != seen.raid.region_size);
    if let Some(refusal) = regions.and_then(|wanted| regions_refusal(seen, wanted)) {
        return Some(refusal);
    }
    let (min, max) = rates(seen, change);
    let message = match (min.zip(max), &change.write_mostly) {
        (Some((min, max)), _) if min > max => {
            format!("a lowest recovery rate of {min} KiB/s is more than the highest, {max} KiB/s")
        }
        (_, Some(WriteMostly::Slots(slots))) => {
            if let Some(slot) = slots.iter().find(|slot| **slot >= images) {
                format!("volume {} has no image {slot}", seen.lv.name)
            } else if (0..images).all(|slot| slots.contains(&slot)) {
                format!("volume {}: reads cannot avoid all of its images", seen.lv.name)
            } else {
                return None;
            }
        }
        (_, Some(WriteMostly::None | WriteMostly::Rotational) | None) => return None,
    };
    Some(Refusal { class: Class::Invalid, message })
}

/// Why the volume cannot have these regions, or not now.
///
/// The kernel keeps the marks of what a missing image lacks when it makes a bitmap of other regions, in its memory only: no
/// image may be missing.
fn regions_refusal(seen: &Seen, wanted: Sectors) -> Option<Refusal> {
    let volume = &seen.lv.name;
    let cannot = |class, why: String| {
        let message = format!("volume {volume} cannot get regions of {}: {why}", wanted.bytes());
        Some(Refusal { class, message })
    };
    if let Err(error) = raid::check_region_size(wanted, seen.len) {
        return cannot(Class::Invalid, error.to_string());
    }
    if let Some(snapshot) = seen.split_slots().find_map(|slot| seen.snapshot_key(slot)) {
        return cannot(
            Class::Precondition,
            format!("snapshot {snapshot} of it depends on those that it has: delete that first"),
        );
    }
    let missing = |slot: &usize| {
        let health = seen.running().and_then(|(_, status)| status.health.get(*slot).copied());
        !seen.slots[*slot].present || health == Some(Health::Dead)
    };
    if let Some(slot) = (0..seen.staying()).find(missing) {
        return cannot(Class::Precondition, format!("image {slot} of it is missing"));
    }
    if !seen.has_room_for_bitmap(seen.len, wanted) {
        return cannot(Class::Invalid, "there is no room for so many in its bitmap".to_owned());
    }
    None
}

/// The recovery rates that are wanted.
fn rates(seen: &Seen, change: &Change) -> (Option<u64>, Option<u64>) {
    let rate = |wanted: Option<u64>, now: Option<u64>| wanted.map_or(now, |rate| (rate > 0).then_some(rate));
    (
        rate(change.min_recovery_rate, seen.raid.min_recovery_rate),
        rate(change.max_recovery_rate, seen.raid.max_recovery_rate),
    )
}

/// Which of these slots, of which it is told whether their disks seek, are avoided for that: none, if all of them do.
#[must_use]
pub fn seeking(slots: impl Iterator<Item = (usize, bool)>) -> Vec<usize> {
    let (seek, rest): (Vec<_>, Vec<_>) = slots.partition(|(_, seeks)| *seeks);
    if rest.is_empty() { Vec::new() } else { seek.into_iter().map(|(slot, _)| slot).collect() }
}

/// What next, so that rates, regions and images that reads avoid are as wanted.
#[must_use]
pub fn next(seen: &Seen, change: &Change) -> Next {
    if let Some(refusal) = refusal(seen, change, seen.images()) {
        return Next::Refuse(refusal);
    }
    let (min_recovery_rate, max_recovery_rate) = rates(seen, change);
    let now: Vec<usize> = seen.own_slots().filter(|slot| seen.slots[*slot].is_write_mostly()).collect();
    let write_mostly: Vec<usize> = match &change.write_mostly {
        None => now.clone(),
        Some(WriteMostly::None) => Vec::new(),
        Some(WriteMostly::Rotational) => {
            seeking(seen.own_slots().map(|slot| (slot, seen.slots[slot].rotational)))
        }
        Some(WriteMostly::Slots(wanted)) => seen.own_slots().filter(|slot| wanted.contains(slot)).collect(),
    };
    let region_size = change.region_size.map_or(seen.raid.region_size, Bytes::sectors_floor);
    if (min_recovery_rate, max_recovery_rate, &write_mostly, region_size)
        == (seen.raid.min_recovery_rate, seen.raid.max_recovery_rate, &now, seen.raid.region_size)
    {
        return Next::Done;
    }
    Next::Do(Step::Commit(Edit::Tune { min_recovery_rate, max_recovery_rate, write_mostly, region_size }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_to_avoid_are_told_by_number_or_by_kind() {
        for (text, read) in [
            ("none", Some(WriteMostly::None)),
            ("rotational", Some(WriteMostly::Rotational)),
            ("1", Some(WriteMostly::Slots(vec![1]))),
            ("0, 2", Some(WriteMostly::Slots(vec![0, 2]))),
            ("", None),
            ("1,", None),
            ("all", None),
            ("-1", None),
        ] {
            assert_eq!(text.parse::<WriteMostly>().ok(), read, "{text:?}");
        }
    }
}
