//! Merges that have begun, until the image is known to be equal.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::drive::{Rest, Taken};
use crate::engine::execute::Outcome;
use crate::engine::observe::array_id;
use crate::engine::{Engine, Result, Session, lock};
use crate::host::Host;
use crate::ids::LvName;
use crate::lvm2::check;
use crate::report::{Class, chain};
use crate::units::Bytes;
use crate::volume::merge;
use crate::volume::seen::Seen;
use crate::volume::step::{Edit, Next, Step};
use crate::volume::tags::{ImageTags, VolumeTags};

/// What is known of merges of this process: what each must copy at least.
pub(super) type Merges = BTreeMap<(LvName, usize), Progress>;

/// What one merge was seen to need.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    marked: Option<Bytes>,
    pause: Duration,
}

impl<H: Host> Engine<H> {
    /// Takes every merge and rollback, and whatever else waits for the kernel, as far as it gets now. `true` while something
    /// is still under way: call it again after a while.
    ///
    /// # Errors
    /// The group cannot be read. Trouble with one volume does not keep others from advancing; it is logged.
    pub fn advance(&self) -> Result<bool> {
        let volumes = self.session(|session| session.unfinished())?;
        let mut more = false;
        for volume in volumes {
            let Some(_guard) = self.try_guard(&volume) else {
                more = true;
                continue;
            };
            let advanced = self.session(|session| {
                let rests =
                    session.take_up(&volume, self)? == Taken::Rests && !session.is_strange(&volume)?;
                let rolled = !session.is_rolling_back(&volume) || session.take_turn(&volume, &mut |_| {})?;
                let filled = self.is_rested_by_clones(session, &volume)?;
                Ok(rests && rolled && filled)
            });
            match advanced {
                Ok(finished) => more |= !finished,
                Err(error) => {
                    tracing::error!(%volume, error = chain(&error), "a merge or a rollback does not advance");
                    // What is refused needs somebody to change something first.
                    more |= matches!(error.class(), Class::Transient | Class::InProgress);
                }
            }
        }
        Ok(more)
    }
}

impl<H: Host> Session<'_, H> {
    /// Volumes whose array has not run yet, or of which an image is new, leaves, is missing in its slot, is to be a snapshot or is on its way back, or was attached
    /// again by another tool, whose array another tool has started, whose split was not pinned, or that are being rolled back. One
    /// that another LV is made on is not ours to take further until that is gone.
    fn unfinished(&self) -> Result<Vec<LvName>> {
        let vg = self.group.vg();
        let mut unfinished = self.rolling_back();
        unfinished.extend(self.unfilled());
        for name in self.volume_names().into_iter().filter(|name| check::user_of(vg, name).is_none()) {
            let returning = self.images_of(&name).any(|image| {
                let (tags, attached) = (ImageTags::of(image), !image.is_tracked_image());
                tags.merging
                    || tags.leaving
                    || tags.lost
                    || (attached && (tags.snapshot.is_some() || tags.grown.is_some()))
            });
            let adopting = vg.lv(&name).is_some_and(|lv| VolumeTags::of(lv).adopting);
            if !unfinished.contains(&name)
                && (adopting
                    || returning
                    || self.unpinned_split(&name).is_some()
                    || self.is_strange(&name)?)
            {
                unfinished.push(name);
            }
        }
        Ok(unfinished)
    }

    /// Whether its array runs and neither was started by us nor has been looked after since.
    fn is_strange(&self, volume: &LvName) -> Result<bool> {
        let Some(lv) = self.group.vg().lv(volume) else { return Ok(false) };
        let id = array_id(self.group, lv);
        Ok(!self.host.is_noted(&id.uuid)? && self.host.dm_info(&id.name)?.is_some())
    }

    /// Takes the merges of a volume as far as they get; `true` when none is left.
    pub(super) fn finish_merges(&mut self, volume: &LvName, engine: &Engine<H>) -> Result<bool> {
        let slots = self.mark_strays(volume)?;
        let mut finished = true;
        for slot in slots {
            finished &= self.finish_merge(volume, slot, engine)?;
        }
        Ok(finished)
    }

    /// An image that came back by another hand than ours is copied in full. Answers the slots whose images are on their
    /// way back.
    pub(super) fn mark_strays(&mut self, volume: &LvName) -> Result<Vec<usize>> {
        let mut seen = self.look(volume)?;
        if let Some(edit) = merge::stray(&seen) {
            tracing::warn!(%volume, ?edit, "another tool attached an image, or a disk came back: it is copied in full");
            let next = crate::volume::edits::apply(self.group.vg(), &seen, &edit)?;
            self.group.commit(self.host, next, &format!("{edit:?} of {volume}"))?;
            seen = self.look(volume)?;
        }
        Ok((0..seen.slots.len()).filter(|slot| seen.slots[*slot].tags.merging).collect())
    }

    fn finish_merge(&mut self, volume: &LvName, slot: usize, engine: &Engine<H>) -> Result<bool> {
        let at = (volume.clone(), slot);
        let host = self.host;
        let mut memo = merge::Memo::default();
        let rest = self.drive(
            volume,
            &mut memo,
            |seen, memo| {
                let next = merge::finish(seen, slot, memo);
                if next == Next::Do(Step::Commit(Edit::Merged { slot })) && copied_less_than_marked(host, engine, seen, &at)
                {
                    return merge::finish(seen, slot, &merge::Memo { in_doubt: true, ..memo.clone() });
                }
                next
            },
            |step, outcome, memo| match (step, outcome) {
                (Step::Pin, _) => memo.pinned = true,
                (Step::Swap { .. }, Outcome::InDoubt(why)) => {
                    tracing::warn!(%volume, slot, why, "the image cannot come back by its marks: it is copied in full");
                    memo.in_doubt = true;
                }
                (Step::Swap { .. }, Outcome::Swapped { pause, marked }) => {
                    memo.in_doubt = false;
                    lock(&engine.merges).insert(at.clone(), Progress { marked: *marked, pause: *pause });
                }
                (Step::Commit(Edit::Merged { .. }), _) => {
                    let progress = lock(&engine.merges).remove(&at).unwrap_or_default();
                    let marked = progress.marked.map(|bytes| bytes.0);
                    let pause_seconds = progress.pause.as_secs_f64();
                    tracing::info!(%volume, slot, marked_bytes = marked, pause_seconds, "merged");
                }
                _ => {}
            },
        )?;
        Ok(matches!(rest, Rest::Done))
    }
}

/// The resync must have written at least what was marked when the image came back. If it did not, the kernel has
/// taken the image as equal without copying it.
fn copied_less_than_marked<H: Host>(host: &H, engine: &Engine<H>, seen: &Seen, at: &(LvName, usize)) -> bool {
    let marked = lock(&engine.merges).get(at).and_then(|progress| progress.marked);
    let dev = seen.slots[at.1].image_dev.as_ref();
    match (marked, dev.and_then(|dev| host.dm_sectors_written(dev.info.devno).ok())) {
        (Some(marked), Some(written)) => written.bytes() < marked,
        _ => false,
    }
}
