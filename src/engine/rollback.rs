//! A volume is put back to one of its snapshots, in place.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::drive::{Rest, Taken};
use crate::engine::{Engine, Error, Result, Session, lock};
use crate::host::Host;
use crate::ids::LvName;
use crate::report::Class;
use crate::volume::key;
use crate::volume::rollback::{self, Memo, Progress};
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
    /// The volume is in use, the snapshot is not ready (`Precondition`), there is no such snapshot (`NotFound`), the array
    /// is resyncing (`InProgress`).
    pub fn roll_back(&self, snapshot: &str, mut progress: impl FnMut(Progress)) -> Result<()> {
        let missing = || Error::refused(Class::NotFound, format!("there is no snapshot {snapshot}"));
        let (volume, wanted) = key::parse_snapshot_id(snapshot).ok_or_else(missing)?;
        let _guard = self.guard(&volume)?;
        self.wait(&format!("rolling back to snapshot {snapshot}"), |session| {
            if !session.is_volume(&volume) {
                return Err(missing());
            }
            if session.take_up(&volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let slot = session.look(&volume)?.slot_of(&wanted).ok_or_else(missing)?;
            let rest =
                session.drive(&volume, &mut (), |seen, ()| rollback::begin(seen, slot), |_, _, ()| {})?;
            Ok(matches!(rest, Rest::Done).then_some(()))
        })?;
        while !self.session(|session| session.take_turn(&volume, self, &mut progress))? {
            // Whoever waits for the group's lock gets it now.
            self.host.pause(TURN_PAUSE);
        }
        Ok(())
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
    pub(super) fn take_turn(
        &mut self,
        volume: &LvName,
        engine: &Engine<H>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<bool> {
        if matches!(self.bring_up(volume)?, Rest::Waiting(_)) {
            return Ok(false);
        }
        let mut memo = lock(&engine.rollbacks).remove(volume).unwrap_or_default();
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
            lock(&engine.rollbacks).insert(volume.clone(), memo);
        }
        Ok(!more)
    }
}
