//! Snapshots for which an image is added, so that the volume keeps all of its own.
//!
//! The copy may take long, so nobody waits for it with the volume held: the background sees it through, and cuts.

use crate::engine::drive::{Rest, Taken};
use crate::engine::execute::execute;
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::report::{Class, chain};
use crate::volume::grow::{self, Growth};
use crate::volume::info::SnapshotInfo;
use crate::volume::key;
use crate::volume::spec::SnapshotSpec;
use crate::volume::split::Split;
use crate::volume::step::{Next, Step};
use crate::volume::tags::{Grown, ImageTags};

impl<H: Host> Engine<H> {
    /// As [`Engine::create_snapshot`], of an image that is added for it.
    pub(super) fn create_grown(&self, spec: &SnapshotSpec) -> Result<SnapshotInfo> {
        let what = format!("snapshot {:?} of volume {}", spec.name, spec.volume);
        let made = self.begin_growth(spec, &what).and_then(|()| self.see_through(spec, &what));
        made.or_else(|error| {
            self.session(|session| {
                // What has begun ends with the snapshot, whoever asks or not, so no refusal is the last word.
                let begun = session.growing(&spec.volume).any(|of| of.snapshot == spec.name);
                Err(if begun && error.class() == Class::Precondition { not_yet(&error) } else { error })
            })
        })
    }

    /// Waits until the image is copied, and cuts it.
    fn see_through(&self, spec: &SnapshotSpec, what: &str) -> Result<SnapshotInfo> {
        let (volume, key) = (&spec.volume, key::of(&spec.name));
        self.wait(what, |session| {
            let Some(_guard) = self.try_guard(volume) else { return Ok(None) };
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let seen = session.look(volume)?;
            if seen.slot_of(&key).or_else(|| seen.growing(&key)).is_none() {
                let message = format!("{what} was deleted before it was made: try again");
                return Err(Error::refused(Class::InProgress, message));
            }
            session.cut(spec)
        })
    }

    /// Commits the image that the snapshot will be, if it has none yet.
    fn begin_growth(&self, spec: &SnapshotSpec, what: &str) -> Result<()> {
        let volume = &spec.volume;
        let grown = Grown { snapshot: spec.name.clone(), min_in_sync: spec.min_in_sync };
        let _guard = self.guard(volume)?;
        let new = self.wait(what, |session| {
            session.refuse_foreign_name(spec)?;
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let seen = session.look(volume)?;
            match grow::begin(&seen, &grown) {
                Growth::Begun => Ok(Some(None)),
                Growth::Again(edit) => {
                    let step = Step::Commit(edit);
                    execute(session.host, session.group, session.settings, &seen, &step).map(|_| Some(None))
                }
                Growth::New => session.reserve_legs(&seen, 1).map(|legs| Some(Some(legs))).map_err(no_room),
                Growth::Not(Next::Refuse(refusal)) => Err(Error::Refused(refusal)),
                Growth::Not(_) => Ok(None),
            }
        })?;
        match new {
            Some(legs) => self.add_legs(volume, legs, Some(&grown)),
            None => Ok(()),
        }
    }
}

impl<H: Host> Session<'_, H> {
    /// Images that were added for snapshots, and are equal now, are cut: whoever asked for them. One that cannot be cut yet stays
    /// for its snapshot, and does not keep the volume from anything else.
    pub(super) fn cut_grown(&mut self, volume: &LvName) -> Result<Taken> {
        for Grown { snapshot: name, min_in_sync } in self.growing(volume).collect::<Vec<_>>() {
            let wanted = Split { name, now: self.host.now_unix_nanos(), min_in_sync, lent: None };
            match self.split(volume, &wanted) {
                Ok(Rest::Done) => {}
                Ok(Rest::Waiting(_)) => return Ok(Taken::UnderWay),
                Err(error) if error.class() == Class::Precondition => {
                    tracing::warn!(%volume, snapshot = wanted.name, error = chain(&error), "a snapshot has to wait");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Taken::Rests)
    }

    /// What images of a volume were added for that are not cut yet. Costs nothing: the metadata tells.
    pub(super) fn growing(&self, volume: &LvName) -> impl Iterator<Item = Grown> {
        let attached = self.images_of(volume).filter(|image| !image.is_tracked_image());
        attached.filter_map(|image| ImageTags::of(image).growth())
    }
}

fn not_yet(error: &Error) -> Error {
    let message = format!("the image that was added for it cannot be cut yet: {}", chain(error));
    Error::refused(Class::InProgress, message)
}

/// No lack of room as such, which upstream's snapshotter takes for a call that may still run: see [`crate::volume::split`].
fn no_room(error: Error) -> Error {
    if error.class() != Class::Exhausted {
        return error;
    }
    let message =
        format!("no disk has room for one more image: {}; add one, or borrow an image", chain(&error));
    Error::refused(Class::Precondition, message)
}
