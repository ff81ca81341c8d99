//! Snapshots become volumes, and slots without an image get one.

use crate::alloc::{self, LegExtents};
use crate::engine::drive::{Rest, Taken};
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::lvm2::edit::{self, DetachedLv};
use crate::report::{Class, chain};
use crate::volume::edits::{self, Detached};
use crate::volume::info::VolumeInfo;
use crate::volume::seen::Seen;
use crate::volume::spec::{IMAGES_MAX, IMAGES_MIN};
use crate::volume::tags::VolumeTags;
use crate::volume::{detach, key};

impl<H: Host> Engine<H> {
    /// Makes a volume of a snapshot: its image leaves for good, nothing is copied. The new volume gets its other images, and the
    /// old one another in place of it, in the background, where there is room. Repeating it gives the same volume.
    ///
    /// # Errors
    /// No such snapshot (`NotFound`), it is not ready, in use or shown by a view (`Precondition`), the name is taken (`Exists`),
    /// there is no room for the new volume's other images (`Exhausted`), the array is resyncing (`InProgress`).
    pub fn detach_snapshot(&self, name: &str, snapshot: &str, images: usize) -> Result<VolumeInfo> {
        let missing = || Error::refused(Class::NotFound, format!("there is no snapshot {snapshot}"));
        let (volume, wanted) = key::parse_snapshot_id(snapshot).ok_or_else(missing)?;
        let new = key::of(name);
        if !(IMAGES_MIN..=IMAGES_MAX).contains(&images) {
            let message = format!("{images} images: a volume has {IMAGES_MIN} to {IMAGES_MAX}");
            return Err(Error::refused(Class::Invalid, message));
        }
        let _guards = (self.guard(&new)?, self.guard(&volume)?);
        self.wait(&format!("making a volume of snapshot {snapshot}"), |session| {
            if session.is_detached(&new, name, snapshot)? {
                return Ok(Some(()));
            }
            if !session.is_volume(&volume) {
                return Err(missing());
            }
            if session.take_up(&volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let seen = session.look(&volume)?;
            let slot = seen.slot_of(&wanted).ok_or_else(missing)?;
            if images > seen.slots.len() {
                // The kernel takes no table with as many empty slots as the array had slots before.
                let message = format!(
                    "a volume of snapshot {snapshot} can have {} images at first, as volume {volume} has: more are added afterwards",
                    seen.slots.len()
                );
                return Err(Error::refused(Class::OutOfRange, message));
            }
            session.place_beside(&seen, slot, images - 1)?;
            let rest = session.drive(&volume, &mut (), |seen, ()| detach::next(seen, slot), |_, _, ()| {})?;
            if matches!(rest, Rest::Waiting(_)) {
                return Ok(None);
            }
            let lv = DetachedLv {
                name: new.clone(),
                id: session.new_id(),
                lost: (0..images).map(|_| [session.new_id(), session.new_id()]).collect(),
                tags: Vec::new(),
                flags: Vec::new(),
                created: session.created(),
            };
            let detached = Detached { lv, name: name.to_owned(), source: snapshot.to_owned() };
            let next = edits::detach(session.group.vg(), &session.look(&volume)?, slot, detached)?;
            session.group.commit(session.host, next, &format!("volume {new} of snapshot {snapshot}"))?;
            Ok(Some(()))
        })?;
        let up = |session: &mut Session<'_, H>| session.take_up(&new, self).map(drop);
        self.session(up)?;
        // The new volume first: whoever asked for it asked for so many images.
        for lv in [&new, &volume] {
            self.fill(lv)?;
        }
        self.session(|session| session.volume_info(&new))
    }

    /// Gives slots that have no image one each, as far as there is room; `true` when any got one.
    pub(super) fn fill(&self, volume: &LvName) -> Result<bool> {
        let mut any = false;
        while let Some((slot, leg)) = self.session(|session| session.reserve_lost(volume))? {
            self.session(|session| {
                let seen = session.look(volume)?;
                let reserve = session.zero_superblocks(&seen, std::slice::from_ref(&leg))?;
                let next = edit::fill_leg(session.group.vg(), volume, slot, &reserve, &leg.meta, &leg.image)?;
                let next = edits::filled(&next, &seen, slot);
                session.group.commit(
                    session.host,
                    next,
                    &format!("another image {slot} of volume {volume}"),
                )?;
                session.take_up(volume, self).map(drop)
            })?;
            any = true;
        }
        Ok(any)
    }
}

impl<H: Host> Session<'_, H> {
    /// Whether the snapshot has become this volume already.
    fn is_detached(&self, new: &LvName, name: &str, snapshot: &str) -> Result<bool> {
        let taken =
            |what: &str| Err(Error::refused(Class::Exists, format!("volume {name:?} exists and {what}")));
        if self.views()?.iter().any(|view| view.id == new.as_str()) {
            return taken("shows a snapshot");
        }
        let Some(lv) = self.group.vg().lv(new) else { return Ok(false) };
        let tags = VolumeTags::of(lv);
        if tags.name.as_deref() == Some(name) && tags.source.as_deref() == Some(snapshot) {
            return Ok(true);
        }
        taken(&format!("was not made of snapshot {snapshot}"))
    }

    /// Whether there is room for `images` beside the image of a slot alone.
    fn place_beside(&self, seen: &Seen, slot: usize, images: usize) -> Result<()> {
        let vg = self.group.vg();
        let of = &seen.slots[slot];
        let request = alloc::Request { images, meta: of.meta.extents(), data: seen.lv.extents() };
        Ok(alloc::allocate_beside(vg, &request, &vg.pvs_of(&of.image)).map(drop)?)
    }

    /// Reserves extents for the first slot that has no image; `None` when all have one, or there is no room.
    fn reserve_lost(&mut self, volume: &LvName) -> Result<Option<(usize, LegExtents)>> {
        let seen = self.look(volume)?;
        let Some(slot) = seen.slots.iter().position(crate::volume::seen::SlotSeen::is_lost) else {
            return Ok(None);
        };
        match self.reserve_legs(&seen, 1) {
            Ok(legs) => Ok(legs.into_iter().next().map(|leg| (slot, leg))),
            Err(error) if error.class() == Class::Exhausted => {
                tracing::warn!(%volume, slot, error = chain(&error), "a slot has no image, and there is no room for one");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
