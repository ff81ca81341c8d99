//! Carries out one step. No decisions here: what to do, and whether, was decided by the state machines.

use std::time::{Duration, Instant};

use crate::engine::group::Group;
use crate::engine::observe::{below_id, origin_id, read_meta, sub_id, top_id, union_marked};
use crate::engine::{Error, Result, Settings};
use crate::host::{Freeze, Host, TargetLine, Udev};
use crate::ids::DmId;
use crate::raid::{self, LegMeta, Merge, RaidTable, clone};
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::seen::{Seen, SlotSeen};
use crate::volume::step::{Part, Returning, Step};
use crate::volume::{edits, ranges};

/// Largest piece copied at once when images are made equal.
const COPY_CHUNK: Bytes = Bytes::mib(1);
/// How long a clone with a limited rate copies at a time, at the disks' own speed.
const BRIEF: Duration = Duration::from_millis(5);

/// What a step brought to light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The table was swapped; I/O was held back for so long, and so much was marked at that moment.
    Swapped {
        /// How long I/O was held back.
        pause: Duration,
        /// What a returning image must get copied, when it comes back by its marks.
        marked: Option<Bytes>,
    },
    /// The returning image may not come back by its marks. Nothing was loaded.
    InDoubt(String),
}

/// Carries out `step` of the volume `seen`; a commit changes `group`.
///
/// # Errors
/// The machine failed. I/O is never left held back because of it.
pub fn execute<H: Host>(
    host: &H,
    group: &mut Group,
    settings: &Settings,
    seen: &Seen,
    step: &Step,
) -> Result<Outcome> {
    let own = top_id(group, &seen.lv);
    let below = below_id(group, &seen.lv);
    let (top, udev) = array(group, seen);
    match step {
        Step::Commit(edit) => {
            let next = edits::apply(group.vg(), seen, edit)?;
            group.commit(host, next, &format!("{edit:?} of {}", seen.lv.name))?;
        }
        Step::Equalise { from, to, ranges } => {
            for range in ranges {
                equalise(host, group, seen, *from, to, range.start, range.end)?;
            }
        }
        Step::CopyBack { from, ranges } => {
            let array = host.node(seen.top.as_ref().ok_or_else(|| no_array(seen))?.info.devno)?;
            for range in ranges {
                // The array writes it to every leg and marks it.
                group.copy_lv(host, &seen.slots[*from].image, range, &array)?;
            }
        }
        Step::MakeLeg { slot, part } => make_leg(host, group, settings, &seen.slots[*slot], *part)?,
        Step::DropLeg { slot, part } => {
            host.dm_remove(&leg_id(group, settings, &seen.slots[*slot], *part).name)?
        }
        Step::ResumeLeg { slot, part } => {
            let name = leg_id(group, settings, &seen.slots[*slot], *part).name;
            host.dm_clear(&name)?;
            host.dm_resume(&name, Udev::Hidden)?;
        }
        Step::Protect { slot } => {
            host.dm_protect(&leg_id(group, settings, &seen.slots[*slot], Part::Image).name)?
        }
        Step::ReloadLeg { slot, part } => reload_leg(host, group, settings, &seen.slots[*slot], *part)?,
        Step::MakeTop(table) => make_top(host, &top, table, udev)?,
        Step::Scrub => {
            host.dm_message(&top.name, "repair")?;
            host.note(&top.uuid)?;
        }
        Step::Adopt => host.note(&top.uuid)?,
        Step::DropTop => host.dm_remove(&top.name)?,
        Step::ClearTop => host.dm_clear(&top.name)?,
        Step::ResumeTop => host.dm_resume(&top.name, udev)?,
        Step::Swap { table, returning } => {
            let swap = Swap { seen, table, returning: *returning };
            let (pause, marked) = swap_all(host, group, &[swap])?;
            return Ok(match marked.into_iter().next().expect("one for each") {
                Ok(marked) => Outcome::Swapped { pause, marked },
                Err(why) => Outcome::InDoubt(why),
            });
        }
        Step::Pin => {
            let begun = Instant::now();
            host.dm_suspend(&top.name, Freeze::IoOnly)?;
            host.dm_resume(&top.name, udev)?;
            return Ok(Outcome::Swapped { pause: begun.elapsed(), marked: None });
        }
        Step::MakeOrigin(table) => make_linear(host, &origin_id(group, &seen.lv), table)?,
        Step::DropOrigin => host.dm_remove(&origin_id(group, &seen.lv).name)?,
        Step::MakeOwn(table) => make_own(host, &own, &[table.line()])?,
        Step::DropOwn => host.dm_remove(&own.name)?,
        Step::ResumeOwn => host.dm_resume(&own.name, Udev::Volume)?,
        Step::RefuseDiscards => refuse_discards(host, &own)?,
        Step::Copy(on) => host.dm_message(&own.name, if *on { clone::COPY } else { clone::PAUSE })?,
        Step::CopyBriefly => {
            host.dm_message(&own.name, clone::COPY)?;
            host.pause(BRIEF);
            host.dm_message(&own.name, clone::PAUSE)?;
        }
        Step::FlushOwn => {
            host.dm_suspend(&own.name, Freeze::IoOnly)?;
            host.dm_resume(&own.name, Udev::Volume)?;
        }
        Step::HandOver(table) => return hand_over(host, &own, &below, table),
        Step::DropBelow => host.dm_remove(&below.name)?,
    }
    Ok(Outcome::Done)
}

/// The device of a volume's array, and what udev may make of it: the volume itself, or hidden below a clone that is filled.
fn array(group: &Group, seen: &Seen) -> (DmId, Udev) {
    if seen.layered {
        (below_id(group, &seen.lv), Udev::Hidden)
    } else {
        (top_id(group, &seen.lv), Udev::Volume)
    }
}

fn leg_id(group: &Group, settings: &Settings, slot: &SlotSeen, part: Part) -> DmId {
    match part {
        Part::Image => sub_id(group, &slot.image, settings),
        Part::Meta => sub_id(group, &slot.meta, settings),
    }
}

fn make_leg<H: Host>(
    host: &H,
    group: &Group,
    settings: &Settings,
    slot: &SlotSeen,
    part: Part,
) -> Result<()> {
    let id = leg_id(group, settings, slot, part);
    let lv = if part == Part::Image { &slot.image } else { &slot.meta };
    let table = group.linear_table(lv)?;
    let snapshot = lv.is_tracked_image();
    host.dm_create(&id)?;
    let started = host
        .dm_load(&id.name, &table, snapshot)
        .and_then(|()| host.dm_resume(&id.name, if snapshot { Udev::Image } else { Udev::Hidden }));
    Ok(undo_create(host, &id, started)?)
}

fn reload_leg<H: Host>(
    host: &H,
    group: &Group,
    settings: &Settings,
    slot: &SlotSeen,
    part: Part,
) -> Result<()> {
    let id = leg_id(group, settings, slot, part);
    let lv = if part == Part::Image { &slot.image } else { &slot.meta };
    host.dm_load(&id.name, &group.linear_table(lv)?, false)?;
    // Suspends, swaps and resumes in one call: a death in between would leave the array waiting for this leg.
    host.dm_resume(&id.name, Udev::Hidden)?;
    Ok(())
}

/// Once the table is loaded it stays, whatever failed: dropping it would wipe the marks on disk.
fn make_top<H: Host>(host: &H, id: &DmId, table: &RaidTable, udev: Udev) -> Result<()> {
    host.dm_create(id)?;
    if let Err(error) = host.dm_load(&id.name, &[table.line()], false) {
        let loaded_all_the_same = host.dm_info(&id.name)?.is_some_and(|info| info.inactive_table);
        return Ok(if loaded_all_the_same { Err(error) } else { undo_create(host, id, Err(error)) }?);
    }
    host.dm_resume(&id.name, udev)?;
    Ok(host.note(&id.uuid)?)
}

/// A hidden device that is only read.
fn make_linear<H: Host>(host: &H, id: &DmId, table: &[TargetLine]) -> Result<()> {
    host.dm_create(id)?;
    let started = host.dm_load(&id.name, table, true).and_then(|()| host.dm_resume(&id.name, Udev::Hidden));
    Ok(undo_create(host, id, started)?)
}

fn make_own<H: Host>(host: &H, id: &DmId, table: &[TargetLine]) -> Result<()> {
    host.dm_create(id)?;
    let started = host.dm_load(&id.name, table, false).and_then(|()| host.dm_resume(&id.name, Udev::Volume));
    undo_create(host, id, started)?;
    refuse_discards(host, id)
}

fn refuse_discards<H: Host>(host: &H, id: &DmId) -> Result<()> {
    let info = host.dm_info(&id.name)?;
    Ok(info.map_or(Ok(()), |info| host.dm_refuse_discards(info.devno))?)
}

/// Suspends the clone and then the array below, which has written its superblocks then; loads the array's table into the clone's
/// device, and lets I/O go on there. The array below stays at rest until it is removed.
fn hand_over<H: Host>(host: &H, own: &DmId, below: &DmId, table: &RaidTable) -> Result<Outcome> {
    // Before the swap: a death after it must not make the array look like one that another tool has started.
    host.note(&own.uuid)?;
    let begun = Instant::now();
    host.dm_suspend(&own.name, Freeze::FileSystem)?;
    let loaded = host
        .dm_suspend(&below.name, Freeze::IoOnly)
        .and_then(|()| host.dm_load(&own.name, &[table.line()], false));
    let waits = || host.dm_info(&own.name).is_ok_and(|info| info.is_some_and(|info| info.inactive_table));
    if loaded.is_err() && !waits() {
        host.dm_resume(&below.name, Udev::Hidden)?;
    }
    // Whatever happened: I/O goes on.
    host.dm_resume(&own.name, Udev::Volume)?;
    let pause = begun.elapsed();
    loaded?;
    Ok(Outcome::Swapped { pause, marked: None })
}

/// A device that could not be started is not left behind; the error that matters is the first one.
fn undo_create<H: Host>(host: &H, id: &DmId, started: crate::host::Result<()>) -> crate::host::Result<()> {
    if started.is_err()
        && let Err(error) = host.dm_remove(&id.name)
    {
        tracing::warn!(
            device = id.name,
            error = crate::report::chain(&error),
            "a device that did not start stays"
        );
    }
    started
}

/// Cuts images of several volumes off at one instant. How long I/O was held back: to the first of them from its suspend, to
/// all of them until the last one's resume.
///
/// # Errors
/// The machine failed: some of the tables may have been swapped in. I/O is never left held back because of it.
pub fn cut<H: Host>(host: &H, group: &Group, cuts: &[(&Seen, &RaidTable)]) -> Result<Duration> {
    let swaps: Vec<Swap<'_>> =
        cuts.iter().map(|(seen, table)| Swap { seen, table, returning: None }).collect();
    swap_all(host, group, &swaps).map(|(pause, _)| pause)
}

/// A table that is to be swapped in.
struct Swap<'a> {
    seen: &'a Seen,
    table: &'a RaidTable,
    returning: Option<Returning>,
}

/// What a returning image must get copied, or why it may not come back by its marks: then nothing was loaded.
type Marked = std::result::Result<Option<Bytes>, String>;

/// Suspend all, load all, resume all. Between suspend and resume there is nothing but what must be there: reading the
/// rmetas when an image comes back by its marks (they are only final while the array is suspended), and the load.
fn swap_all<H: Host>(host: &H, group: &Group, swaps: &[Swap<'_>]) -> Result<(Duration, Vec<Marked>)> {
    let arrays: Vec<((DmId, Udev), [TargetLine; 1])> =
        swaps.iter().map(|swap| (array(group, swap.seen), [swap.table.line()])).collect();
    let names: Vec<&str> = arrays.iter().map(|((top, _), _)| top.name.as_str()).collect();
    let begun = Instant::now();
    let suspended = host.dm_suspend_all(&names, Freeze::FileSystem);
    let loaded = match suspended.into_iter().collect::<crate::host::Result<()>>() {
        Ok(()) => {
            let each = swaps.iter().zip(&arrays);
            each.map(|(swap, ((top, _), line))| load(host, group, swap, top, line)).collect()
        }
        Err(error) => Err(Error::from(error)),
    };
    // Whatever happened: I/O goes on, with the old table where no new one was loaded. One whose suspend has failed may be
    // held back all the same.
    let resumed: Vec<_> = arrays.iter().map(|((top, udev), _)| host.dm_resume(&top.name, *udev)).collect();
    let pause = begun.elapsed();
    let loaded = loaded?;
    resumed.into_iter().collect::<crate::host::Result<()>>()?;
    Ok((pause, loaded))
}

fn load<H: Host>(
    host: &H,
    group: &Group,
    swap: &Swap<'_>,
    top: &DmId,
    line: &[TargetLine],
) -> Result<Marked> {
    let checked = match swap.returning {
        Some(returning) => check_returning(host, group, swap.seen, returning)?,
        None => Checked::Good(None),
    };
    match checked {
        Checked::Good(marked) => {
            host.dm_load(&top.name, line, false)?;
            Ok(Ok(marked))
        }
        Checked::InDoubt(why) => Ok(Err(why)),
    }
}

enum Checked {
    Good(Option<Bytes>),
    InDoubt(String),
}

fn check_returning<H: Host>(host: &H, group: &Group, seen: &Seen, returning: Returning) -> Result<Checked> {
    let running = seen.running().map(|(table, _)| table.slots.as_slice()).unwrap_or_default();
    let read = |slot: usize| -> Result<LegMeta> {
        read_meta(host, group, seen, &seen.slots[slot])?.ok_or_else(|| {
            Error::refused(Class::Precondition, format!("the disk of image {slot} is missing"))
        })
    };
    let survivors = (0..running.len())
        .filter(|slot| running[*slot].is_some())
        .map(|slot| Ok((slot, read(slot)?)))
        .collect::<Result<Vec<_>>>()?;
    let survivors: Vec<(usize, &LegMeta)> = survivors.iter().map(|(slot, meta)| (*slot, meta)).collect();
    let back = read(returning.slot)?;
    Ok(match raid::may_merge(&survivors, returning.slot, &back, returning.events) {
        Merge::Tracked => {
            Checked::Good(Some(ranges::sum(&union_marked(survivors.iter().map(|(_, meta)| *meta)))))
        }
        Merge::Full(why) => Checked::InDoubt(why.to_string()),
    })
}

fn no_array(seen: &Seen) -> Error {
    Error::refused(Class::Precondition, format!("volume {} is not active", seen.lv.name))
}

/// Copies what differs, in pieces, from one image to others. The array is not active.
fn equalise<H: Host>(
    host: &H,
    group: &Group,
    seen: &Seen,
    from: usize,
    to: &[usize],
    start: Bytes,
    end: Bytes,
) -> Result<()> {
    let mut at = start;
    while at < end {
        let len = COPY_CHUNK.min(end - at);
        let good = group.read_lv(host, &seen.slots[from].image, at, len)?;
        for slot in to {
            let image = &seen.slots[*slot].image;
            if group.read_lv(host, image, at, len)? != good {
                group.write_lv(host, image, at, &good)?;
            }
        }
        at += len;
    }
    Ok(())
}
