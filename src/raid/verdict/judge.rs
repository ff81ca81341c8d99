//! How [`super::at_activation`] comes to its answer.

use std::collections::BTreeMap;

use super::activation::{Equalize, LastStop, LegRole, Plan, Refusal, Verdict};
use super::{Merge, Why, in_its_slot, merge_by};
use crate::raid::bitmap::{Bitmap, STATE_STALE};
use crate::raid::leg::LegMeta;
use crate::raid::superblock::{MAX_SECTOR, Superblock};
use crate::units::{Bytes, Sectors};

/// A started leg of the array.
type Started<'a> = (usize, &'a LegMeta, &'a Superblock);

/// What is known of the array as a whole.
pub(super) struct Judge<'a> {
    array: Sectors,
    last_stop: LastStop,
    /// Attached legs that are equal to one another, but for what was being written.
    trusted: Vec<Started<'a>>,
    /// Returning legs that the running array has written to.
    joined: Vec<Started<'a>>,
    /// The superblock the kernel will judge by.
    freshest: Started<'a>,
    /// All slots are attached, and none was ever known missing.
    healthy: bool,
    /// The machine may have stopped while a table was being swapped.
    swapped: bool,
}

impl<'a> Judge<'a> {
    /// `None` when the array is new.
    pub(super) fn new(
        legs: &[(usize, LegRole, &'a LegMeta)],
        array: Sectors,
        last_stop: LastStop,
    ) -> Result<Option<Self>, Refusal> {
        let started = |(slot, role, meta): &(usize, LegRole, &'a LegMeta)| {
            Some((*role, (*slot, *meta, meta.superblock.as_ref()?)))
        };
        let started: Vec<(LegRole, Started<'a>)> = legs.iter().filter_map(started).collect();
        let attached: Vec<Started<'a>> =
            started.iter().filter(|(role, _)| *role == LegRole::Attached).map(|(_, leg)| *leg).collect();
        if !legs.iter().any(|(_, role, _)| *role == LegRole::Attached) {
            return Err(Refusal::NoLeg);
        }
        let all_attached = legs.iter().all(|(_, role, _)| *role == LegRole::Attached);
        let none_split = !legs.iter().any(|(_, role, _)| matches!(role, LegRole::Split { .. }));
        check_lengths(&attached, array, none_split)?;
        let Some(first) = latest(&attached) else {
            return started.first().map_or(Ok(None), |(_, (slot, ..))| Err(Refusal::Wiped(*slot)));
        };
        let joined: Vec<Started<'a>> = started
            .iter()
            .filter(|(role, leg)| has_joined(*role, *leg, first, last_stop))
            .map(|(_, leg)| *leg)
            .collect();
        let in_table: Vec<Started<'a>> = attached.iter().chain(&joined).copied().collect();
        let freshest = latest(&in_table).unwrap_or(first);

        let candidate = |leg: &&Started<'a>| stands(**leg, freshest).is_ok();
        let candidates: Vec<Started<'a>> = attached.iter().filter(candidate).copied().collect();
        let owned = |leg: &&Started<'a>| disowned(**leg, &candidates).is_none();
        let trusted: Vec<Started<'a>> = candidates.iter().filter(owned).copied().collect();
        let Some((first_trusted, ..)) = trusted.first() else {
            return Err(candidates.first().map_or(Refusal::NoSource, |(slot, ..)| Refusal::Diverged(*slot)));
        };
        let alone =
            |leg: &&Started<'a>| trusted.iter().all(|(slot, ..)| *slot != leg.0 && leg.2.failed(*slot));
        if attached.iter().any(|leg| alone(&leg)) {
            return Err(Refusal::Diverged(*first_trusted));
        }
        let healthy = all_attached && attached.iter().all(|(_, _, sb)| !sb.any_failed());
        // A merge had begun, and no superblock was written since its table came in.
        let unpinned = legs.iter().any(|(slot, role, _)| {
            matches!(role, LegRole::Returning { .. })
                && !joined.iter().any(|(joined, ..)| joined == slot)
                && trusted.iter().any(|(_, _, sb)| sb.failed(*slot))
        });
        let swapped = match last_stop {
            LastStop::Clean => false,
            LastStop::Unclean => unpinned,
            LastStop::MidSwap => true,
        };
        Ok(Some(Self { array, last_stop, trusted, joined, freshest, healthy, swapped }))
    }

    pub(super) fn plan(&self, legs: &[(usize, LegRole, &LegMeta)]) -> Plan {
        let mut plan = Plan { legs: BTreeMap::new(), splits: BTreeMap::new(), equalize: None };
        for &(slot, role, meta) in legs {
            match role {
                LegRole::Attached => {
                    plan.legs.insert(slot, self.attached(slot, meta));
                }
                LegRole::Returning { events_before, in_full } => {
                    plan.legs.insert(slot, self.returning(slot, meta, events_before, in_full));
                }
                LegRole::Split { recorded_events } => {
                    plan.splits.insert(slot, self.by_marks(slot, meta, recorded_events));
                }
            }
        }
        plan.equalize = self.equalize(legs, &plan.legs);
        plan
    }

    fn attached(&self, slot: usize, meta: &LegMeta) -> Verdict {
        let Some(superblock) = &meta.superblock else {
            return Verdict::Rebuild(Why::NoSuperblock(slot));
        };
        if self.trusted.iter().any(|(trusted, ..)| *trusted == slot) {
            return Verdict::Trust;
        }
        let leg = (slot, meta, superblock);
        let why = match (stands(leg, self.freshest), disowned(leg, &self.trusted)) {
            (Err(Why::NotWhole { .. }), None) if self.last_stop != LastStop::MidSwap => {
                return Verdict::Resume;
            }
            (Err(why), _) => why,
            (Ok(()), by) => {
                return Verdict::Rebuild(Why::Disowned { slot, by: by.unwrap_or(self.freshest.0) });
            }
        };
        if !matches!(why, Why::Disowned { .. }) {
            return Verdict::Rebuild(why);
        }
        // It ran without one of those that are trusted now: not simply an older state of theirs.
        if let Some((other, ..)) = self.trusted.iter().find(|(other, ..)| superblock.failed(*other)) {
            return Verdict::Rebuild(Why::Disowned { slot: *other, by: slot });
        }
        match self.by_marks(slot, meta, Some(superblock.events)) {
            Merge::Tracked => Verdict::ByMarks,
            Merge::Full(why) => Verdict::Rebuild(why),
        }
    }

    fn returning(&self, slot: usize, meta: &LegMeta, before: Option<u64>, in_full: bool) -> Verdict {
        if let Some((.., superblock)) = self.joined.iter().find(|(joined, ..)| *joined == slot) {
            let whole = superblock.disk_recovery_offset == MAX_SECTOR;
            return if whole { Verdict::Trust } else { Verdict::Resume };
        }
        match self.by_marks(slot, meta, before) {
            Merge::Full(why) => Verdict::Rebuild(why),
            Merge::Tracked if in_full => Verdict::Rebuild(Why::ToBeCopied),
            Merge::Tracked => Verdict::ByMarks,
        }
    }

    /// How a leg may come back that is out of the array.
    fn by_marks(&self, slot: usize, meta: &LegMeta, recorded: Option<u64>) -> Merge {
        match merge_by(&self.survivors(), slot, meta, recorded, self.freshest.2.events) {
            Merge::Tracked if self.swapped => Merge::Full(Why::MidSwap),
            merge => merge,
        }
    }

    /// The legs that a leg from outside is compared with.
    fn survivors(&self) -> Vec<(usize, &'a LegMeta)> {
        self.trusted.iter().map(|(slot, meta, _)| (*slot, *meta)).collect()
    }

    fn equalize(
        &self,
        legs: &[(usize, LegRole, &LegMeta)],
        verdicts: &BTreeMap<usize, Verdict>,
    ) -> Option<Equalize> {
        if self.last_stop == LastStop::Clean {
            return None;
        }
        let (from, ..) = latest(&self.trusted)?;
        let kept = |slot: &usize| matches!(verdicts.get(slot), Some(Verdict::Trust | Verdict::Resume));
        let metas: Vec<&LegMeta> =
            legs.iter().filter(|(slot, ..)| kept(slot)).map(|(_, _, meta)| *meta).collect();
        // The old table's last write does not go there: it has all that the new one marked before.
        let returning = legs.iter().filter(|(_, role, _)| matches!(role, LegRole::Returning { .. }));
        let beside: Vec<&Bitmap> = returning.filter_map(|(_, _, meta)| meta.bitmap.as_ref()).collect();
        let to: Vec<usize> = verdicts.keys().filter(|slot| **slot != from && kept(slot)).copied().collect();
        if to.is_empty() {
            return None;
        }
        let everything = Bytes::ZERO..self.array.bytes();
        let ranges = self.marked(&metas, &beside).map_or(vec![everything], |bitmap| bitmap.marked_ranges());
        // Beyond it the kernel makes the legs equal by itself.
        let end = self.freshest.2.array_resync_offset.min(self.array).bytes();
        let below = ranges.into_iter().filter(|range| range.start < end);
        let ranges: Vec<_> = below.map(|range| range.start..range.end.min(end)).collect();
        (!ranges.is_empty()).then_some(Equalize { from, to, ranges })
    }

    /// What is marked on any of these legs, or in bitmaps beside them that may be of another array; `None` when that is
    /// not known.
    fn marked(&self, metas: &[&LegMeta], beside: &[&Bitmap]) -> Option<Bitmap> {
        if self.last_stop == LastStop::MidSwap {
            return None;
        }
        let mut bitmaps = Vec::new();
        for meta in metas {
            let bitmap = meta.bitmap.as_ref()?;
            let events = meta.superblock.as_ref()?.events;
            // A healthy array that falls idle steps its counter back, on the bitmaps first.
            let least = if self.healthy { events.saturating_sub(1) } else { events };
            if bitmap.header.state & STATE_STALE != 0 || bitmap.header.events < least {
                return None;
            }
            bitmaps.push(bitmap);
        }
        let mut marked = Bitmap::union(bitmaps).ok().flatten()?;
        for bitmap in beside {
            // One of another shape is what an earlier user of the extents left.
            if marked.add(bitmap).is_err() {
                continue;
            }
        }
        Some(marked)
    }
}

/// The leg that the kernel takes for the freshest: the highest counter, the lowest slot among equals.
fn latest<'a>(legs: &[Started<'a>]) -> Option<Started<'a>> {
    legs.iter().copied().max_by_key(|(slot, _, sb)| (sb.events, std::cmp::Reverse(*slot)))
}

/// The table's length must be the superblocks'. A shorter array is one whose growth was cut short: the kernel
/// goes on with it; never with splits outstanding, which forbid growth.
fn check_lengths(attached: &[Started<'_>], wanted: Sectors, may_grow: bool) -> Result<(), Refusal> {
    for (slot, _, superblock) in attached.iter().filter(|(_, _, sb)| sb.is_extended()) {
        let found = superblock.array_sectors;
        if found > wanted || (found < wanted && !may_grow) {
            return Err(Refusal::Length { slot: *slot, found, wanted });
        }
    }
    Ok(())
}

/// Whether a returning leg was written to by the array it returns to: its counter has moved on from where it was
/// to where the array is, and the freshest leg no longer misses it.
fn has_joined(role: LegRole, leg: Started<'_>, array: Started<'_>, last_stop: LastStop) -> bool {
    let LegRole::Returning { events_before: Some(before), .. } = role else { return false };
    let (slot, meta, superblock) = leg;
    let events = array.2.events;
    last_stop != LastStop::MidSwap
        && superblock.events > before
        && superblock.events.abs_diff(events) <= 1
        && (superblock.events > events || !array.2.failed(slot))
        && in_its_slot(slot, superblock).is_ok()
        && (superblock.sectors, superblock.array_sectors) == (array.2.sectors, array.2.array_sectors)
        && meta.bitmap.is_some()
}

/// Whether an attached leg is part of the freshest state by its own word and the freshest leg's.
fn stands(leg: Started<'_>, freshest: Started<'_>) -> Result<(), Why> {
    let (slot, meta, superblock) = leg;
    if meta.bitmap.is_none() {
        return Err(Why::NoBitmap(slot));
    }
    // Slots were renumbered and no superblock written since: harmless while none was missing.
    if freshest.2.any_failed() {
        in_its_slot(slot, superblock)?;
    }
    if freshest.2.failed(slot) {
        return Err(Why::Disowned { slot, by: freshest.0 });
    }
    let by = freshest.2.events.saturating_sub(superblock.events);
    if by > 1 {
        return Err(Why::Behind { slot, by });
    }
    if superblock.disk_recovery_offset != MAX_SECTOR {
        return Err(Why::NotWhole { slot, upto: superblock.disk_recovery_offset });
    }
    Ok(())
}

/// The leg that says this one had failed.
fn disowned(leg: Started<'_>, by: &[Started<'_>]) -> Option<usize> {
    by.iter().find(|(slot, _, sb)| *slot != leg.0 && sb.failed(leg.0)).map(|(slot, ..)| *slot)
}
