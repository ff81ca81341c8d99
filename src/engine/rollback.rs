//! A volume is put back to one of its snapshots, in place.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::drive::{Rest, Taken};
use crate::engine::snapshots::parse_snapshot_id;
use crate::engine::{Engine, Result, Session, lock};
use crate::host::Host;
use crate::ids::LvName;
use crate::volume::info::Progress;
use crate::volume::rollback::{self, Memo};
use crate::volume::seen::Seen;
use crate::volume::spec::RollbackSpec;
use crate::volume::step::{Step, Waiting};
use crate::volume::tags::VolumeTags;

/// Between two turns.
const TURN_PAUSE: Duration = Duration::from_millis(1);

/// How far rollbacks of this process are.
pub(super) type Rollbacks = BTreeMap<LvName, Memo>;

impl<H: Host> Engine<H> {
    /// Makes a volume hold again what a snapshot of it holds; the snapshot stays. Only what the volume has changed since
    /// is copied. When this fails half-way the volume cannot be used: repeat it, or let [`Engine::advance`] see it
    /// through, also after a crash. `progress` is told how far it is.
    ///
    /// # Errors
    /// As [`Engine::begin_rollback`].
    pub fn roll_back(&self, wanted: &RollbackSpec, mut progress: impl FnMut(Progress)) -> Result<()> {
        let (volume, key) = parse_snapshot_id(&wanted.snapshot)?;
        let _guard = self.guard(&volume)?;
        self.begun(wanted, &volume, &key)?;
        while !self.session(|session| session.take_turn(&volume, &mut progress))? {
            // Whoever waits for the group's lock gets it now.
            self.host.pause(TURN_PAUSE);
        }
        Ok(())
    }

    /// Begins what [`Engine::roll_back`] does, and leaves it to [`Engine::advance`]. When this returns nobody can use the
    /// volume until it is done, or the same request was carried out before.
    ///
    /// # Errors
    /// The volume is in use, the snapshot is not ready (`Precondition`), there is no such snapshot (`NotFound`), the array
    /// is resyncing (`InProgress`).
    pub fn begin_rollback(&self, wanted: &RollbackSpec) -> Result<()> {
        let (volume, key) = parse_snapshot_id(&wanted.snapshot)?;
        let _guard = self.guard(&volume)?;
        self.begun(wanted, &volume, &key)
    }

    fn begun(&self, wanted: &RollbackSpec, volume: &LvName, key: &LvName) -> Result<()> {
        let (snapshot, request) = (&wanted.snapshot, wanted.request.as_deref());
        self.wait(&format!("rolling back to snapshot {snapshot}"), |session| {
            if !session.is_volume(volume) {
                return Err(session.no_snapshot(snapshot));
            }
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let seen = session.look(volume)?;
            if rollback::was_done(&seen, request) {
                return Ok(Some(()));
            }
            let slot = seen.slot_of(key).ok_or_else(|| session.no_snapshot(snapshot))?;
            let begin = |seen: &Seen, (): &()| rollback::begin(seen, slot, request);
            let rest = session.drive(volume, &mut (), begin, |_, _, ()| {})?;
            Ok(matches!(rest, Rest::Done).then_some(()))
        })
    }
}

impl<H: Host> Session<'_, H> {
    /// Volumes that are being rolled back.
    pub(super) fn rolling_back(&self) -> Vec<LvName> {
        self.volume_names().into_iter().filter(|name| self.is_rolling_back(name)).collect()
    }

    /// Whether a volume is being rolled back. Costs nothing: the metadata tells.
    pub(super) fn is_rolling_back(&self, name: &LvName) -> bool {
        self.group.vg().lv(name).is_some_and(|lv| VolumeTags::of(lv).rollback.is_some())
    }

    /// Copies a turn's worth of a rollback that has begun; `true` when it is done.
    pub(super) fn take_turn(&mut self, volume: &LvName, progress: &mut impl FnMut(Progress)) -> Result<bool> {
        if matches!(self.bring_up(volume)?, Rest::Waiting(_)) {
            return Ok(false);
        }
        let mut memo = lock(self.rollbacks).remove(volume).unwrap_or_default();
        memo.turn_taken = false;
        let rest = self.drive(volume, &mut memo, rollback::finish, |step, _, memo| match step {
            Step::CopyBack { ranges, .. } => {
                memo.at = ranges.last().map_or(memo.at, |range| range.end);
                memo.turn_taken = true;
            }
            Step::Commit(_) => tracing::info!(%volume, "rolled back"),
            _ => {}
        })?;
        if let Some(now) = rollback::progress(&self.look_deep(volume)?, &memo) {
            progress(now);
        }
        let more = matches!(rest, Rest::Waiting(Waiting::Turn));
        if more {
            lock(self.rollbacks).insert(volume.clone(), memo);
        }
        Ok(!more)
    }
}
