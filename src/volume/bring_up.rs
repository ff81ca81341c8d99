//! From whatever a crash, another tool or a boot left to an array that runs as its metadata says.
//!
//! Two kinds of start are told apart by the kernel: the array is still there (only a process died), or it is not
//! (power was lost, or it was deactivated).
//!
//! ```text
//! array there:  half started -> started; half swapped -> drop the loaded table, let I/O go on
//!               `pending` -> pin
//!               a split not yet swapped in -> undone: the image never left
//!               legs shorter than the metadata, other recovery rates, other regions -> grown, told
//!               `adopting` -> pin
//! array gone:   `pending` -> the swap is lost (Edit::SwapLost)
//!               read the rmetas -> doubtful images are marked for a full copy, doubtful splits for a full merge,
//!               regions being written when power was lost are made equal -> devices, array
//! ```
//!
//! **Why `pending`.** The old table's destructor writes its view of the bitmap after the new table has begun
//! to run, so until one more suspend and resume (the pin) the marks on disk may lack writes of those milliseconds.
//! If power is lost just then, no mark on disk can be trusted: neither the new split's, nor that of any
//! other split, nor those that tell which regions were being written.
//!
//! **Why a dropped table is followed by a pin.** A raid table that was loaded and never resumed has an empty
//! bitmap in memory (the bits are read at its first resume), and its destructor writes that page over the one on disk.
//! The running array still has the bits; its next suspend writes them again. So a table is only dropped while
//! `pending` is on disk, and the array is pinned afterwards.
//!
//! **Why before activation.** dm-raid drops marks of a healthy array at its start, and of a degraded one whose
//! event counters do not say that the array had noticed. What they say must be read before.

use std::collections::BTreeSet;

use crate::raid::{
    Action, Activation, Equalize, Health, LastStop, LegMeta, LegRole, Merge, Plan, RaidTable, Verdict,
    at_activation,
};
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::seen::{LegDev, Seen, SlotSeen};
use crate::volume::split::image_device;
use crate::volume::step::{Edit, Next, Part, Refusal, Step, Waiting};
use crate::volume::{clone, merge, tables};

/// What was done in this run and leaves no trace to observe.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    /// The ranges marked on disk were made equal.
    pub equalised: bool,
    /// The array was suspended and resumed since its last swap.
    pub pinned: bool,
}

/// What next, to bring the volume up.
#[must_use]
pub fn next(seen: &Seen, memo: &Memo) -> Next {
    if seen.tags.creating {
        return Refusal::because(
            Class::InProgress,
            format!("volume {} is still being created", seen.lv.name),
        );
    }
    if seen.slots.iter().any(|slot| slot.is_split() && slot.is_rebuild()) {
        let message = format!(
            "volume {}: an image is marked split and for rebuild at once; use lvs to look",
            seen.lv.name
        );
        return Refusal::because(Class::Corrupt, message);
    }
    if let Some(refusal) = clone::activated_elsewhere(seen) {
        return Next::Refuse(refusal);
    }
    match &seen.top {
        _ if seen.upper.is_some() && !seen.tags.filling && held_back_leg(seen).is_none() => {
            clone::hand_over(seen).unwrap_or_else(|| running(seen, memo))
        }
        Some(_) => running(seen, memo),
        None => start(seen, memo),
    }
}

fn running(seen: &Seen, memo: &Memo) -> Next {
    let top = seen.top.as_ref().expect("the caller saw it");
    if let Some(step) = held_back_leg(seen) {
        return Next::Do(step);
    }
    let Some(table) = &top.table else {
        // A table that was loaded to start the array is started: dropping it would wipe the marks on disk.
        return Next::Do(if top.info.inactive_table { Step::ResumeTop } else { Step::DropTop });
    };
    if top.info.inactive_table {
        return Next::Do(if seen.tags.pending { Step::ClearTop } else { Step::Commit(Edit::Pending) });
    }
    if top.info.suspended {
        return Next::Do(Step::ResumeTop);
    }
    if seen.tags.pending && !seen.started_by_us {
        return swap_lost_elsewhere(seen);
    }
    if let Some(edit) = returned_elsewhere(seen) {
        return Next::Do(Step::Commit(edit));
    }
    if seen.tags.pending && !memo.pinned {
        return Next::Do(Step::Pin);
    }
    if !table_fits(seen, table) {
        let message = format!(
            "volume {}: the kernel runs {} slots, the metadata names {}; deactivate it with lvchange -an and try again",
            seen.lv.name,
            table.slots.len(),
            seen.slots.len()
        );
        return Refusal::because(Class::Precondition, message);
    }
    for slot in seen.split_slots() {
        if !table.has_leg(slot) {
            continue;
        }
        if seen.tags.pending && seen.slots[slot].is_unpinned() {
            return Next::Do(Step::Commit(Edit::Unsplit { slot }));
        }
        let message = format!(
            "volume {}: image {slot} is a snapshot by the metadata, but the running array writes to it; \
             deactivate the volume to keep what is left of the snapshot",
            seen.lv.name
        );
        return Refusal::because(Class::Corrupt, message);
    }
    if let Some(next) = follow(seen).or_else(|| vacate(seen)) {
        return next;
    }
    // As long as images that become a volume are not committed as one, a power cut puts in doubt that they are equal.
    let unpinned = seen.becomes().is_some() || seen.split_slots().any(|slot| seen.slots[slot].is_unpinned());
    if seen.tags.pending && !unpinned {
        return Next::Do(Step::Commit(Edit::SwapPinned));
    }
    if seen.tags.adopting {
        return adopt(seen, memo);
    }
    images(seen).or_else(|| scrub(seen)).unwrap_or(Next::Done)
}

/// An array of what was a snapshot's image: its superblock must name its slot here before it is read like any other.
fn adopt(seen: &Seen, memo: &Memo) -> Next {
    let Some(metas) = &seen.metas else { return Next::ReadMetas };
    match memo.pinned {
        false => Next::Do(Step::Pin),
        true if are_at_home(seen, metas) => Next::Do(Step::Commit(Edit::Adopted)),
        true => {
            let message = format!("volume {}: its superblock does not reach the disk", seen.lv.name);
            Refusal::because(Class::Transient, message)
        }
    }
}

/// Whether every superblock names the slot that it is in.
fn are_at_home(seen: &Seen, metas: &[Option<LegMeta>]) -> bool {
    seen.attached_slots().all(|slot| {
        let superblock = metas[slot].as_ref().and_then(|meta| meta.superblock.as_ref());
        superblock.is_some_and(|superblock| usize::try_from(superblock.array_position) == Ok(slot))
    })
}

/// Another tool gives a slot that has no image devices of which every access fails: they go, or the array would count as broken.
fn vacate(seen: &Seen) -> Option<Next> {
    let (table, status) = seen.running()?;
    // What another tool has started is looked after first.
    if !seen.started_by_us || seen.tags.adopting {
        return None;
    }
    if seen.lost_slots().any(|slot| table.has_leg(slot)) {
        // Kernels before 6.9 hang when a table goes away while its sync thread is about to start.
        if !status.is_settled() {
            return None;
        }
        if !seen.tags.pending {
            return Some(Next::Do(Step::Commit(Edit::Pending)));
        }
        let stays = |slot: usize| table.has_leg(slot) && !seen.slots[slot].is_lost();
        return tables::table(seen, stays, Vec::new())
            .map(|table| Next::Do(Step::Swap { table, returning: None }));
    }
    seen.lost_slots().find_map(|slot| {
        let of = &seen.slots[slot];
        let devices = [(Part::Image, &of.image_dev), (Part::Meta, &of.meta_dev)];
        let idle = |dev: &LegDev| dev.info.open_count == 0;
        let gone = devices.into_iter().find(|(_, dev)| dev.as_ref().is_some_and(idle));
        gone.map(|(part, _)| Next::Do(Step::DropLeg { slot, part }))
    })
}

/// Whether the array has the slots of the metadata, but for images that are new or leave: the last ones.
fn table_fits(seen: &Seen, table: &RaidTable) -> bool {
    let is_new = |of: &SlotSeen| of.tags.merging && of.is_rebuild();
    let beyond = seen.slots.iter().skip(table.slots.len());
    table.slots.len() <= seen.slots.len() && beyond.into_iter().all(|of| is_new(of) || of.is_leaving())
}

/// A leg to which I/O is held back: another tool died in the middle of a change. Nothing may wait for I/O before it goes on,
/// nor may a raid table be dropped, which writes to its legs.
fn held_back_leg(seen: &Seen) -> Option<Step> {
    let held =
        |dev: &Option<LegDev>| dev.as_ref().is_some_and(|dev| dev.info.suspended && dev.info.live_table);
    (0..seen.slots.len()).find_map(|slot| {
        let of = &seen.slots[slot];
        let part = if held(&of.meta_dev) {
            Part::Meta
        } else if held(&of.image_dev) {
            Part::Image
        } else {
            return None;
        };
        Some(Step::ResumeLeg { slot, part })
    })
}

/// An image that was on its way back by its marks when another tool started the array: the marks may be lost.
fn returned_elsewhere(seen: &Seen) -> Option<Edit> {
    if seen.started_by_us {
        return None;
    }
    let by_marks = |slot: &usize| seen.slots[*slot].tags.merging && !seen.slots[*slot].is_rebuild();
    let slots: Vec<usize> = seen.attached_slots().filter(by_marks).collect();
    (!slots.is_empty()).then_some(Edit::Rebuild { slots })
}

/// Legs and array follow the metadata when the volume has grown, or is to be read or copied in another way.
fn follow(seen: &Seen) -> Option<Next> {
    for slot in seen.attached_slots() {
        let of = &seen.slots[slot];
        for (part, dev) in [(Part::Meta, &of.meta_dev), (Part::Image, &of.image_dev)] {
            if dev.as_ref().is_some_and(LegDev::is_outgrown) {
                return Some(Next::Do(Step::ReloadLeg { slot, part }));
            }
        }
    }
    let (table, status) = seen.running()?;
    // What another tool has started is looked after first: a swap would have all of it copied.
    // Kernels before 6.9 hang when a table goes away while its sync thread is about to start.
    if !seen.started_by_us || !status.is_settled() {
        return None;
    }
    let going = table.slots.len() > seen.staying();
    let moving = going || seen.slots.iter().any(|slot| slot.tags.merging);
    if table.len >= seen.len && (is_tuned(seen) || moving || status.health.contains(&Health::Dead)) {
        return None;
    }
    let wanted = tables::table(seen, |slot| table.has_leg(slot), Vec::new())?;
    if !seen.tags.pending {
        return Some(Next::Do(Step::Commit(Edit::Pending)));
    }
    Some(Next::Do(Step::Swap { table: wanted, returning: None }))
}

/// Whether the running array has the rates and the regions, and avoids the images, that the metadata says.
#[must_use]
pub fn is_tuned(seen: &Seen) -> bool {
    let Some((running, _)) = seen.running() else { return true };
    let Some(wanted) = tables::table(seen, |slot| running.has_leg(slot), Vec::new()) else { return true };
    let rates = |table: &RaidTable| (table.min_recovery_rate, table.max_recovery_rate);
    let avoided = |table: &RaidTable| table.write_mostly.iter().copied().collect::<BTreeSet<_>>();
    let alike = rates(running) == rates(&wanted) && running.region_size == wanted.region_size;
    alike && avoided(running) == avoided(&wanted)
}

/// An array that another tool started may have lost power before: what was being written is then unequal, and its
/// marks were dropped at the start, so all of it is compared.
fn scrub(seen: &Seen) -> Option<Next> {
    let (_, status) = seen.running()?;
    // Comparing writes from the first image; one whose content is in doubt must not be that.
    let doubtful = |slot: usize| seen.slots[slot].tags.merging || seen.slots[slot].is_rebuild();
    if seen.started_by_us || merge::stray(seen).is_some() || seen.attached_slots().any(doubtful) {
        return None;
    }
    Some(match seen.attached_slots().count() {
        0 | 1 => Next::Do(Step::Adopt),
        _ if status.action == Action::Idle => Next::Do(Step::Scrub),
        _ => Next::Wait(Waiting::Sync),
    })
}

/// Snapshots are readable, whether or not the array was started by us.
fn images(seen: &Seen) -> Option<Next> {
    let mut present = seen.split_slots().filter(|slot| seen.slots[*slot].present);
    present.find_map(|slot| image_device(&seen.slots[slot], slot).filter(|next| matches!(next, Next::Do(_))))
}

fn start(seen: &Seen, memo: &Memo) -> Next {
    let Some(metas) = &seen.metas else { return Next::ReadMetas };
    if seen.tags.adopting && (seen.attached_slots().count() == 1 || !are_at_home(seen, metas)) {
        // The superblocks are of the array that the images have left. One image has nothing to be compared with, several have left
        // together, and the kernel takes them in their new slots.
        return assemble(seen);
    }
    let legs: Vec<(usize, LegRole, &LegMeta)> = seen
        .slots
        .iter()
        .zip(metas)
        .enumerate()
        .filter(|(_, (of, _))| !of.is_leaving())
        .filter_map(|(slot, (of, meta))| Some((slot, role(of), meta.as_ref()?)))
        .collect();
    let last_stop = if seen.tags.pending { LastStop::MidSwap } else { LastStop::Unclean };
    let plan = match at_activation(&legs, seen.len, last_stop) {
        Activation::Fresh => None,
        Activation::Assemble(plan) => Some(plan),
        Activation::Corrupt(why) => {
            let message = format!("volume {} cannot be started: {why}", seen.lv.name);
            return Refusal::because(Class::Corrupt, message);
        }
    };
    if seen.tags.pending {
        return swap_lost(seen, memo, plan.as_ref(), metas);
    }
    if let Some(next) = plan.and_then(|plan| put_right(seen, memo, plan)) {
        return next;
    }
    assemble(seen)
}

/// Devices, and the array that the metadata asks for.
fn assemble(seen: &Seen) -> Next {
    for slot in seen.attached_slots() {
        if let Some(next) = attached_devices(seen, slot) {
            return next;
        }
    }
    match tables::wanted(seen) {
        Some(table) => Next::Do(Step::MakeTop(table)),
        None => Refusal::because(Class::Internal, format!("volume {}: a leg has no device", seen.lv.name)),
    }
}

/// The devices that an attached slot needs, writable and of the right length.
pub(crate) fn attached_devices(seen: &Seen, slot: usize) -> Option<Next> {
    let of = &seen.slots[slot];
    for (part, dev) in [(Part::Meta, &of.meta_dev), (Part::Image, &of.image_dev)] {
        match dev {
            None => return Some(Next::Do(Step::MakeLeg { slot, part })),
            Some(dev) if dev.info.read_only || !dev.info.live_table || dev.info.suspended => {
                if dev.info.open_count > 0 {
                    let message =
                        format!("snapshot {} of {} is in use: unmount it first", of.image.name, seen.lv.name);
                    return Some(Refusal::because(Class::Precondition, message));
                }
                return Some(Next::Do(Step::DropLeg { slot, part }));
            }
            Some(dev) if dev.is_outgrown() => return Some(Next::Do(Step::ReloadLeg { slot, part })),
            Some(_) => {}
        }
    }
    None
}

/// What a leg was by the metadata when the array stopped.
fn role(of: &SlotSeen) -> LegRole {
    if of.is_split() {
        LegRole::Split { recorded_events: of.tags.events }
    } else if of.tags.merging {
        LegRole::Returning { events_before: of.tags.events, in_full: of.is_rebuild() }
    } else {
        LegRole::Attached
    }
}

/// One image is taken for good, and every other is put in doubt.
fn swap_lost(seen: &Seen, memo: &Memo, plan: Option<&Plan>, metas: &[Option<LegMeta>]) -> Next {
    let trusted = |slot: &usize| match plan {
        Some(plan) => matches!(plan.legs.get(slot), Some(Verdict::Trust)),
        None => true,
    };
    let whole = |slot: &usize| !seen.slots[*slot].tags.merging && !seen.slots[*slot].is_rebuild();
    match seen.attached_slots().filter(whole).find(trusted) {
        Some(_) if memo.equalised => Next::Do(Step::Commit(Edit::SwapPinned)),
        Some(from) if is_growing(seen, metas) => {
            let to = seen.attached_slots().filter(|slot| *slot != from).collect();
            Next::Do(Step::Equalise { from, to, ranges: vec![Bytes::ZERO..seen.len.bytes()] })
        }
        Some(source) => Next::Do(Step::Commit(Edit::SwapLost { source })),
        None => {
            let message =
                format!("volume {}: power was lost during a table swap and no image is whole", seen.lv.name);
            Refusal::because(Class::Corrupt, message)
        }
    }
}

/// Power was lost during a swap, and another tool started the array before the marks could be read: no pin brings
/// back those that were not on disk.
fn swap_lost_elsewhere(seen: &Seen) -> Next {
    let runs = |slot: &usize| {
        let whole = !seen.slots[*slot].tags.merging && !seen.slots[*slot].is_rebuild();
        let in_sync =
            seen.running().is_some_and(|(_, status)| status.health.get(*slot) == Some(&Health::InSync));
        whole && in_sync
    };
    match seen.attached_slots().find(runs) {
        _ if seen.running().is_some_and(|(_, status)| status.action != Action::Idle) => {
            Next::Wait(Waiting::Sync)
        }
        Some(source) => Next::Do(Step::Commit(Edit::SwapLost { source })),
        None => {
            let message =
                format!("volume {}: power was lost during a table swap and no image is whole", seen.lv.name);
            Refusal::because(Class::Corrupt, message)
        }
    }
}

/// The kernel has yet to grow the array. It cannot rebuild a leg meanwhile; nothing is split, so all images can be made
/// equal before the start.
fn is_growing(seen: &Seen, metas: &[Option<LegMeta>]) -> bool {
    let mut superblocks = metas.iter().flatten().filter_map(|leg| leg.superblock.as_ref());
    superblocks.any(|superblock| superblock.array_sectors < seen.len)
}

/// What must be marked or copied before the array may run.
fn put_right(seen: &Seen, memo: &Memo, plan: Plan) -> Option<Next> {
    let doubtful: Vec<usize> =
        plan.rebuild().into_iter().filter(|slot| !seen.slots[*slot].is_rebuild()).collect();
    if !doubtful.is_empty() {
        return Some(Next::Do(Step::Commit(Edit::Rebuild { slots: doubtful })));
    }
    let in_full = plan.splits.iter().find_map(|(slot, merge)| {
        let tags = &seen.slots[*slot].tags;
        match merge {
            Merge::Full(why) if tags.full.is_none() && tags.events.is_some() => {
                Some((*slot, why.to_string()))
            }
            Merge::Full(_) | Merge::Tracked => None,
        }
    });
    if let Some((slot, why)) = in_full {
        return Some(Next::Do(Step::Commit(Edit::FullMerge { slots: vec![slot], why })));
    }
    let Equalize { from, to, ranges } = plan.equalize.filter(|_| !memo.equalised)?;
    Some(Next::Do(Step::Equalise { from, to, ranges }))
}
