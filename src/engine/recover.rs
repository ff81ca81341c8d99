//! At the start: from whatever was left to volumes that run.

use crate::engine::drive::Rest;
use crate::engine::{Engine, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::report::{Class, chain};
use crate::volume::tags::{self, VolumeTags};

impl<H: Host> Engine<H> {
    /// Finishes or undoes what a crash left, and activates every volume. A volume that cannot be brought up is
    /// reported and left as it is; it does not keep the others from coming up. Returns those, with the reason.
    ///
    /// # Errors
    /// The group cannot be read or written.
    pub fn recover(&self) -> Result<Vec<(LvName, String)>> {
        let names = self.session(|session| {
            // With a disk missing nothing of the group can be changed; that keeps nobody from its volumes.
            for tidied in [session.repair(), session.drop_reserves()] {
                match tidied {
                    Err(error) if error.class() == Class::Precondition => {
                        tracing::warn!(error = chain(&error), "what a crash left in the group stays for now");
                    }
                    tidied => tidied?,
                }
            }
            // A clone stands on others.
            let mut names = session.volume_names();
            names.sort_by_key(|name| session.is_filling(name));
            Ok(names)
        })?;
        let mut failed = Vec::new();
        for name in names {
            let done = self.guard(&name).and_then(|_guard| self.session(|session| session.recover(&name)));
            if let Err(error) = done {
                let why = chain(&error);
                tracing::error!(volume = %name, error = why, "the volume cannot be brought up");
                failed.push((name, why));
            }
        }
        self.session(|session| session.drop_orphans())?;
        self.advance()?;
        Ok(failed)
    }

    /// Activates a volume.
    ///
    /// # Errors
    /// It cannot be brought up; the message says why.
    pub fn activate(&self, volume: &LvName) -> Result<()> {
        let _guard = self.guard(volume)?;
        self.session(|session| session.recover(volume))
    }
}

impl<H: Host> Session<'_, H> {
    /// Every PV gets the newest metadata, if one was left with an older or a damaged copy.
    fn repair(&mut self) -> Result<()> {
        if !self.group.faults().is_empty() {
            tracing::warn!(vg = %self.group.vg().name, "a disk has old or damaged metadata: it is written again");
            let same = self.group.vg().clone();
            self.group.commit(self.host, same, "repair copies of the metadata")?;
        }
        Ok(())
    }

    /// Extents reserved for an expansion that was cut short hold nothing.
    fn drop_reserves(&mut self) -> Result<()> {
        let reserves: Vec<LvName> =
            self.group.vg().lvs.iter().filter(|lv| tags::is_reserve(lv)).map(|lv| lv.name.clone()).collect();
        for name in reserves {
            let next = crate::lvm2::edit::remove_lv(self.group.vg(), &name)?;
            self.group.commit(self.host, next, &format!("drop {name}"))?;
        }
        Ok(())
    }

    /// What recorded how far a clone was that is gone.
    fn drop_orphans(&mut self) -> Result<()> {
        for name in self.orphans() {
            if let Err(error) = self.remove(&name) {
                tracing::warn!(record = %name, error = chain(&error), "the record of a clone that is gone stays for now");
            }
        }
        Ok(())
    }

    fn recover(&mut self, name: &LvName) -> Result<()> {
        if self.group.vg().lv(name).is_some_and(|lv| VolumeTags::of(lv).creating) {
            // It holds no data yet, and whoever asked for it will ask again.
            return self.remove(name);
        }
        if matches!(self.bring_up(name)?, Rest::Waiting(_)) {
            return Ok(()); // what is left is taken up by `advance`
        }
        self.finish_split(name)?;
        self.finish_leaving(name).map(drop)?;
        self.mark_strays(name).map(drop)
    }
}
