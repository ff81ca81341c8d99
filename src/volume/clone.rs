//! A clone: a writable volume that can be used at once and is filled from a snapshot meanwhile.
//!
//! ```text
//!   while it is filled                                          afterwards
//!
//!   c            dm-clone: what is mounted                      c            raid1: still the same device
//!   ├─ c-hydr    raid1 LV of its own: what is held already      ├─ c_rimage_0 …
//!   ├─ c-real    the array, under LVM2's name for a layer       └─ c_rimage_1 …
//!   └─ c-origin  the snapshot's image, then zeroes
//!
//!   commit c and c-hydr, `creating`, `filling`        zero c-hydr and the rmetas, start both arrays, pin
//!   commit not `creating`                             c-origin, c: it can be used
//!   …copied, in the background…
//!   suspend and resume c                              what is held is on the disks, and recorded
//!   commit not `filling`, `pending`                   from now on the array alone is the volume
//!   suspend c, suspend c-real, load, resume c         the array under its own name
//!   remove c-real and c-origin, pin, commit not `pending`, remove c-hydr
//! ```
//!
//! **Why the record is a raid1 LV of its own.** Without it nobody knows which regions of the array were ever written. It has
//! as many images as the clone, so it is lost when the clone is.
//!
//! **Why no leg is zeroed.** What the record does not call held is never read from the array, and a region is written on
//! every leg before it is held. Legs differ until then, which a resync may copy from one to another without harm.
//!
//! **Why discards are refused.** dm-clone takes a discard of a region for its being held: it would show what an earlier
//! volume left there, and differently on each leg.
//!
//! **Why the metadata changes before the table.** When it no longer says `filling` all is on the array, whichever way the
//! machine is stopped. The other order could find a record that is gone.

use crate::host::{DevNo, DmInfo, TargetLine};
use crate::ids::LvName;
use crate::raid::{self, CloneStatus, CloneTable};
use crate::report::Class;
use crate::units::{Bytes, Sectors};
use crate::volume::info::Progress;
use crate::volume::key;
use crate::volume::seen::{OwnSeen, Runs, Seen, UpperSeen};
use crate::volume::spec::Origin;
use crate::volume::split::settled;
use crate::volume::step::{Edit, Next, Refusal, Step, Waiting};
use crate::volume::tables;

/// Moments in which a clone with a limited rate copies in one turn: short enough not to keep an admin's `lvs` waiting.
const MOMENTS_MAX: usize = 40;

/// What was done in this run and leaves no trace to observe.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    /// Since when the rate is kept, if one is.
    pub pace: Option<Pace>,
    /// Now, nanoseconds since 1970.
    pub now: u64,
    /// How often it has copied for a moment in this turn.
    pub moments: usize,
    /// All that is held was written through to the disks since the last region was filled.
    pub flushed: bool,
}

/// Since when the rate is kept, and how much was held then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds since 1970.
    pub since: u64,
    /// Held at that time.
    pub held: Bytes,
}

/// The name of the split of a volume that is cloned: its image is lent to this clone.
#[must_use]
pub fn lent_name(clone: &LvName) -> String {
    format!("clone {clone}")
}

/// What a volume was made from, by the snapshot or the volume that its tag names, and whether it is `detached`; `None` when that is
/// neither's id.
#[must_use]
pub fn origin(volume: &LvName, tag: &str, detached: bool) -> Option<Origin> {
    let Some((source, of)) = key::parse_snapshot_id(tag) else {
        return tag.parse().ok().filter(|_| detached).map(Origin::Images);
    };
    Some(match detached {
        true => Origin::Image(tag.to_owned()),
        false if of == key::of(&lent_name(volume)) => Origin::Volume(source),
        false => Origin::Snapshot(tag.to_owned()),
    })
}

/// What next, to get the clone's own device, on top of an array that was brought up.
#[must_use]
pub fn stand(seen: &Seen) -> Next {
    let Some(upper) = seen.upper.as_ref().filter(|_| seen.tags.filling) else { return Next::Done };
    let Some((array, record)) = seen.top.as_ref().map(|top| top.info.devno).zip(upper.record) else {
        return Refusal::because(
            Class::Precondition,
            format!("volume {}: its array or its record is not active", seen.lv.name),
        );
    };
    let origin = match &upper.origin {
        None if upper.origin_table.is_empty() => return Next::Refuse(without_source(seen)),
        None => return Next::Do(Step::MakeOrigin(upper.origin_table.clone())),
        Some(info) if runs(info) => info.devno,
        Some(_) => return Next::Do(Step::DropOrigin),
    };
    let wanted = CloneTable { len: seen.len, record, array, origin };
    let Some(own) = &upper.own else { return Next::Do(Step::MakeOwn(wanted)) };
    match own.runs {
        Runs::Nothing => Next::Do(if own.info.inactive_table { Step::ResumeOwn } else { Step::DropOwn }),
        Runs::Clone(is) if is == wanted && !own.info.inactive_table => match own {
            OwnSeen { info: DmInfo { suspended: true, .. }, .. } => Next::Do(Step::ResumeOwn),
            OwnSeen { discards: true, .. } => Next::Do(Step::RefuseDiscards),
            OwnSeen { status: None, .. } => Next::Refuse(record_lost(seen)),
            OwnSeen { .. } => Next::Done,
        },
        Runs::Clone(_) | Runs::Raid => Next::Refuse(strange(seen)),
    }
}

/// Refuses to start the array of a clone that is not filled while another tool runs it as the volume, in spite of its flag:
/// two would write to the same legs.
#[must_use]
pub fn activated_elsewhere(seen: &Seen) -> Option<Refusal> {
    let own = seen.upper.as_ref().filter(|_| seen.tags.filling)?.own.as_ref()?;
    (own.runs == Runs::Raid).then(|| strange(seen))
}

/// What next, to fill a clone that stands, and then to let its array take its place.
#[must_use]
pub fn fill(seen: &Seen, memo: &Memo) -> Next {
    if !seen.tags.filling {
        return Next::Done;
    }
    let status = seen.upper.as_ref().and_then(|upper| upper.own.as_ref()).and_then(|own| own.status);
    let Some(status) = status.filter(|status| status.writable) else {
        return Next::Refuse(record_lost(seen));
    };
    if !status.is_complete() {
        return copy(seen, &status, memo);
    }
    if let Some(not_yet) = settled(seen) {
        return not_yet;
    }
    if !memo.flushed {
        return Next::Do(Step::FlushOwn);
    }
    Next::Do(Step::Commit(Edit::Filled))
}

fn copy(seen: &Seen, status: &CloneStatus, memo: &Memo) -> Next {
    let limit = seen.raid.max_recovery_rate;
    if status.copying != limit.is_none() {
        return Next::Do(Step::Copy(limit.is_none()));
    }
    let (Some(limit), Some(pace)) = (limit, memo.pace) else { return Next::Wait(Waiting::Filled) };
    if memo.moments < MOMENTS_MAX && may_copy(limit, pace, memo.now, status.held(seen.len)) {
        return Next::Do(Step::CopyBriefly);
    }
    Next::Wait(Waiting::Filled)
}

/// What next, when the metadata says that the array is the volume and the kernel does not yet; `None` when it does.
#[must_use]
pub fn hand_over(seen: &Seen) -> Option<Next> {
    let upper: &UpperSeen = seen.upper.as_ref().filter(|_| !seen.tags.filling)?;
    let Some(own @ OwnSeen { runs: Runs::Clone(_), .. }) = &upper.own else {
        // The old array writes its view of the bitmap when it goes: the pin comes afterwards.
        return Some(Next::Do(if upper.below { Step::DropBelow } else { Step::DropOrigin }));
    };
    // A table was loaded, and the array below rests: on, not back.
    if own.info.inactive_table {
        return Some(Next::Do(Step::ResumeOwn));
    }
    let table = seen.top.as_ref().and_then(|top| top.table.as_ref())?;
    if seen.running().is_some_and(|(_, status)| !status.is_settled()) {
        return Some(if own.info.suspended { Next::Do(Step::ResumeOwn) } else { Next::Wait(Waiting::Sync) });
    }
    Some(match tables::table(seen, |slot| table.slots[slot].is_some(), Vec::new()) {
        Some(table) => Next::Do(Step::HandOver(table)),
        None => Refusal::because(Class::Internal, format!("volume {}: a leg has no device", seen.lv.name)),
    })
}

/// Whether so far less was copied than `limit` KiB/s allow.
fn may_copy(limit: u64, pace: Pace, now: u64, held: Bytes) -> bool {
    let copied = u128::from(held.0.saturating_sub(pace.held.0));
    copied * 1_000_000_000 < u128::from(limit) * 1024 * u128::from(now.saturating_sub(pace.since))
}

/// How far it is; `None` when it is no clone, is filled, or does not stand.
#[must_use]
pub fn progress(seen: &Seen) -> Option<Progress> {
    let own = seen.upper.as_ref().filter(|_| seen.tags.filling)?.own.as_ref()?;
    Some(Progress { done: own.status?.held(seen.len), total: seen.len.bytes() })
}

/// Refuses for now what must not be done with a volume that is being filled.
#[must_use]
pub fn refusal(seen: &Seen) -> Option<Refusal> {
    let from = seen.tags.clone.as_ref().filter(|_| seen.tags.filling)?;
    let percent = progress(seen)
        .filter(|progress| progress.total > Bytes::ZERO)
        .map_or(0, |progress| u128::from(progress.done.0) * 100 / u128::from(progress.total.0));
    let name = &seen.lv.name;
    let message =
        format!("volume {name} is still being filled from {from}, {percent} % so far: try again later");
    Some(Refusal { class: Class::InProgress, message })
}

fn runs(info: &DmInfo) -> bool {
    info.live_table && !info.suspended
}

fn without_source(seen: &Seen) -> Refusal {
    let from = seen.tags.clone.as_deref().unwrap_or("nothing");
    let message = format!(
        "volume {} is still being filled from {from}, whose image is not there: connect its disk",
        seen.lv.name
    );
    Refusal { class: Class::Precondition, message }
}

fn strange(seen: &Seen) -> Refusal {
    let message = format!(
        "volume {} is not filled yet, and another tool has activated it: deactivate it with lvchange -an",
        seen.lv.name
    );
    Refusal { class: Class::Precondition, message }
}

fn record_lost(seen: &Seen) -> Refusal {
    let message = format!(
        "volume {}: the kernel cannot record any more what is filled; deactivate the volume and look at the disks of {}",
        seen.lv.name,
        seen.lv.name.record()
    );
    Refusal { class: Class::Corrupt, message }
}

/// The table of the origin: the image, and zeroes up to the clone's length.
#[must_use]
pub fn origin_table(image: DevNo, image_len: Sectors, len: Sectors) -> Vec<TargetLine> {
    let held = image_len.min(len);
    let mut table = raid::linear(&[(held, image, Sectors::ZERO)]);
    if held < len {
        table.push(TargetLine {
            start: held,
            len: len - held,
            target: "zero".to_owned(),
            params: String::new(),
        });
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time() {
        let pace = Pace { since: 1_000_000_000, held: Bytes::mib(5) };
        let after =
            |seconds: u64, held| may_copy(1024, pace, (1 + seconds) * 1_000_000_000, Bytes::mib(held));
        assert!(!after(0, 5) && after(1, 5) && after(3, 7) && !after(3, 8) && after(4, 8));
    }

    #[test]
    fn a_clones_tag_tells_whether_it_is_of_a_snapshot_or_of_a_volume() {
        let (clone, source): (LvName, LvName) = ("c".parse().expect("legal"), "a".parse().expect("legal"));
        let lent = key::snapshot_id(&source, &key::of(&lent_name(&clone)));
        assert_eq!(origin(&clone, &lent, false), Some(Origin::Volume(source)));
        assert_eq!(origin(&"d".parse().expect("legal"), &lent, false), Some(Origin::Snapshot(lent)));
        assert_eq!(origin(&clone, "a@one", false), Some(Origin::Snapshot("a@one".to_owned())));
        assert_eq!(origin(&clone, "a@one", true), Some(Origin::Image("a@one".to_owned())));
        assert_eq!(origin(&clone, "a", true), Some(Origin::Images("a".parse().expect("legal"))));
        assert_eq!(origin(&clone, "a", false), None, "a clone is filled from a snapshot");
        assert_eq!(origin(&clone, "no id", false), None);
    }

    #[test]
    fn what_is_beyond_the_source_reads_as_zeroes() {
        let dev = DevNo { major: 253, minor: 7 };
        let table = origin_table(dev, Sectors(100), Sectors(160));
        let lines: Vec<_> =
            table.iter().map(|line| (line.start.0, line.len.0, line.target.as_str())).collect();
        assert_eq!(lines, [(0, 100, "linear"), (100, 60, "zero")]);
        assert_eq!(origin_table(dev, Sectors(160), Sectors(160)).len(), 1);
    }
}
