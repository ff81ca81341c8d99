//! Looks, asks, does, and looks again.

use crate::engine::execute::{Outcome, execute};
use crate::engine::observe::{observe, read_metas};
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::report::Class;
use crate::volume::bring_up;
use crate::volume::clone;
use crate::volume::seen::Seen;
use crate::volume::step::{Next, Step, Waiting};

/// More steps than any machine needs; a machine that asks for more goes round in circles.
pub(super) const STEPS_MAX: usize = 200;

/// How a machine came to rest.
#[must_use]
pub(super) enum Rest {
    /// It is content.
    Done,
    /// It waits for the kernel.
    Waiting(Waiting),
}

/// How far a volume was taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is not up yet: ask again later.
    NotUp,
    /// It is up, and an image of it is on its way back.
    UnderWay,
    /// It is up and nothing is under way.
    Rests,
}

impl<H: Host> Session<'_, H> {
    /// Looks at a volume.
    pub(super) fn look(&self, lv: &LvName) -> Result<Seen> {
        observe(self.host, self.group, self.settings, lv)
    }

    /// Looks at a volume and reads its rmetas.
    pub(super) fn look_deep(&self, lv: &LvName) -> Result<Seen> {
        let seen = self.look(lv)?;
        let metas = read_metas(self.host, self.group, &seen)?;
        Ok(Seen { metas: Some(metas), ..seen })
    }

    /// Looks at a volume and asks a state machine, which is told what the rmetas say if it wants to know.
    pub(super) fn ask(&self, lv: &LvName, decide: impl Fn(&Seen) -> Next) -> Result<(Seen, Next)> {
        let seen = self.look(lv)?;
        Ok(match decide(&seen) {
            Next::ReadMetas => {
                let metas = read_metas(self.host, self.group, &seen)?;
                let next = decide(&Seen { metas: Some(metas), ..seen.clone() });
                (seen, next)
            }
            next => (seen, next),
        })
    }

    /// Drives a state machine to rest; `after` notes what a step brought to light.
    pub(super) fn drive<M>(
        &mut self,
        lv: &LvName,
        memo: &mut M,
        decide: impl Fn(&Seen, &M) -> Next,
        mut after: impl FnMut(&Step, &Outcome, &mut M),
    ) -> Result<Rest> {
        for _ in 0..STEPS_MAX {
            let (seen, next) = self.ask(lv, |seen| decide(seen, memo))?;
            match next {
                Next::Do(step) => {
                    tracing::debug!(volume = %lv, ?step, "step");
                    let outcome = execute(self.host, self.group, self.settings, &seen, &step)?;
                    after(&step, &outcome, memo);
                }
                Next::Wait(what) => return Ok(Rest::Waiting(what)),
                Next::Done => return Ok(Rest::Done),
                Next::Refuse(refusal) => return Err(Error::Refused(refusal)),
                Next::ReadMetas => break,
            }
        }
        Err(Error::refused(Class::Internal, format!("volume {lv}: its state machine does not come to rest")))
    }

    /// Brings a volume up from whatever state it is in. While that waits for the kernel the volume can be used, but
    /// nothing may be changed: marks of it may still be in doubt.
    pub(super) fn bring_up(&mut self, lv: &LvName) -> Result<Rest> {
        let rest = self.bring_up_array(lv)?;
        if self.is_filling(lv) {
            self.bring_up_below(lv)?;
            let stands = self.drive(lv, &mut (), |seen, ()| clone::stand(seen), |_, _, ()| {})?;
            return Ok(if matches!(stands, Rest::Done) { rest } else { stands });
        }
        Ok(rest)
    }

    fn bring_up_array(&mut self, lv: &LvName) -> Result<Rest> {
        let mut memo = bring_up::Memo::default();
        self.drive(lv, &mut memo, bring_up::next, |step, _, memo| match step {
            Step::Equalise { .. } => memo.equalised = true,
            Step::Pin => memo.pinned = true,
            Step::Swap { .. } | Step::HandOver(_) | Step::DropBelow => memo.pinned = false,
            _ => {}
        })
    }

    /// Brings a volume up, and takes what was begun on it and not ended as far as it gets.
    pub(super) fn take_up(&mut self, lv: &LvName, engine: &Engine<H>) -> Result<Taken> {
        if matches!(self.bring_up(lv)?, Rest::Waiting(_)) {
            return Ok(Taken::NotUp);
        }
        self.finish_split(lv)?;
        let left = matches!(self.finish_leaving(lv)?, Rest::Done);
        if !(self.finish_merges(lv, engine)? && left) {
            return Ok(Taken::UnderWay);
        }
        if self.fill(lv)? == Taken::UnderWay {
            self.finish_merges(lv, engine).map(drop)?;
            return Ok(Taken::UnderWay);
        }
        // What had to wait for the copy.
        if matches!(self.bring_up(lv)?, Rest::Waiting(_)) {
            return Ok(Taken::UnderWay);
        }
        self.cut_grown(lv)
    }
}
