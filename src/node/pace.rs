//! Pure: when a status is written. What matters is written at once; what only creeps is written now and then; a merge that
//! is done within a moment is not told at all but by its end.

use std::time::Duration;

use crate::api::snapshot::SnapshotPhase;
use crate::api::volume::SlotState;
use crate::api::{MirrorPoolStatus, MirrorSnapshotStatus, MirrorVolumeStatus, Percent};

/// How long something must be merging before it is told.
pub const MERGE_SHOWN: Duration = Duration::from_secs(2);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);
/// How often it is told how much a volume has changed since a split.
const CHANGED: Duration = Duration::from_secs(60);

/// What the difference between two statuses comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There is none.
    None,
    /// It is told so long after the last time.
    Creeping(Duration),
    /// It is told when the merge has gone on for a while.
    OfMerge,
    /// It is told at once.
    Plain,
}

/// Between two statuses of a pool.
#[must_use]
pub fn pool(old: &MirrorPoolStatus, new: &MirrorPoolStatus) -> Difference {
    if old == new { Difference::None } else { Difference::Plain }
}

/// Between two statuses of a volume.
#[must_use]
pub fn volume(old: &MirrorVolumeStatus, new: &MirrorVolumeStatus) -> Difference {
    if old == new {
        return Difference::None;
    }
    let still = |status: &MirrorVolumeStatus| {
        let mut status = status.clone();
        status.sync = None;
        status.filled = status.filled.map(|_| Percent::ALL);
        status.slots.iter_mut().for_each(|slot| slot.percent = None);
        if let Some(rollback) = &mut status.rollback {
            rollback.copied = None;
        }
        status
    };
    let (was, is) = (still(old), still(new));
    if was == is {
        return Difference::Creeping(PROGRESS);
    }
    let merging = new.slots.iter().any(|slot| slot.state == SlotState::Merging);
    let told = old.slots.iter().any(|slot| slot.state == SlotState::Merging);
    let rest = |status: MirrorVolumeStatus| MirrorVolumeStatus {
        slots: Vec::new(),
        in_sync: None,
        split: None,
        problems: Vec::new(),
        ..status
    };
    if merging && !told && rest(was) == rest(is) { Difference::OfMerge } else { Difference::Plain }
}

/// Between two statuses of a snapshot.
#[must_use]
pub fn snapshot(old: &MirrorSnapshotStatus, new: &MirrorSnapshotStatus) -> Difference {
    if old == new {
        return Difference::None;
    }
    if new.phase == SnapshotPhase::Merging && old.phase != SnapshotPhase::Merging {
        return Difference::OfMerge;
    }
    let still = |status: &MirrorSnapshotStatus, changed| MirrorSnapshotStatus {
        merge_percent: None,
        changed,
        ..status.clone()
    };
    if still(old, None) != still(new, None) {
        return Difference::Plain;
    }
    Difference::Creeping(if old.merge_percent == new.merge_percent { CHANGED } else { PROGRESS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::volume::Slot;
    use crate::units::Bytes;

    fn volume_status(states: &[SlotState], percent: u8) -> MirrorVolumeStatus {
        let slot = |(index, state): (u8, &SlotState)| Slot {
            index,
            state: *state,
            device: "/dev/sda".to_owned(),
            grown: false,
            write_mostly: false,
            snapshot: None,
            lent_to: None,
            percent: Some(percent),
            error: None,
        };
        MirrorVolumeStatus {
            slots: (0..).zip(states).map(slot).collect(),
            sync: Some(Percent::new(percent)),
            ..MirrorVolumeStatus::default()
        }
    }

    #[test]
    fn a_volume_is_told_at_once_but_for_progress_and_young_merges() {
        use SlotState::{Failed, InSync, Merging, Split};
        let split = volume_status(&[InSync, Split], 100);
        let merging = volume_status(&[InSync, Merging], 10);
        let further = volume_status(&[InSync, Merging], 20);
        let staged = MirrorVolumeStatus { staged: true, ..merging.clone() };
        let filled = |percent| MirrorVolumeStatus { filled: Some(Percent::new(percent)), ..split.clone() };
        for (old, new, expected) in [
            (&split, &split, Difference::None),
            (&filled(0), &filled(10), Difference::Creeping(PROGRESS)),
            (&filled(99), &split, Difference::Plain),
            (&split, &merging, Difference::OfMerge),
            (&split, &staged, Difference::Plain),
            (&merging, &further, Difference::Creeping(PROGRESS)),
            (&merging, &volume_status(&[InSync, InSync], 100), Difference::Plain),
            (&split, &volume_status(&[InSync, Failed], 100), Difference::Plain),
            (&volume_status(&[InSync, InSync], 100), &split, Difference::Plain),
        ] {
            assert_eq!(volume(old, new), expected, "{:?} {:?}", old.slots, new.slots);
        }
    }

    #[test]
    fn a_snapshot_is_told_at_once_but_for_what_creeps() {
        let ready = MirrorSnapshotStatus { phase: SnapshotPhase::Ready, ..MirrorSnapshotStatus::default() };
        let changed = MirrorSnapshotStatus { changed: Some(Bytes::mib(1).into()), ..ready.clone() };
        let merging = MirrorSnapshotStatus { phase: SnapshotPhase::Merging, ..ready.clone() };
        let further = MirrorSnapshotStatus { merge_percent: Some(7), ..merging.clone() };
        for (old, new, expected) in [
            (&MirrorSnapshotStatus::default(), &ready, Difference::Plain),
            (&ready, &ready, Difference::None),
            (&ready, &changed, Difference::Creeping(CHANGED)),
            (&ready, &merging, Difference::OfMerge),
            (&merging, &further, Difference::Creeping(PROGRESS)),
        ] {
            assert_eq!(snapshot(old, new), expected);
        }
    }
}
