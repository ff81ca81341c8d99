//! A volume's images become more or fewer, and are copied, read or tracked in another way, while it is used.
//!
//! New images are first owned by a reserve LV, so that what could be taken for a superblock is gone before they are part of
//! anything; their data is not zeroed, for all of it is copied before any of it is read. Then one commit makes them images, and
//! they are copied as in a merge in full.

use crate::alloc::{self, LegExtents};
use crate::engine::drive::{Rest, Taken};
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::lvm2::edit::{self, NewLeg};
use crate::raid;
use crate::units::Bytes;
use crate::volume::info::VolumeInfo;
use crate::volume::seen::Seen;
use crate::volume::step::{Next, Step};
use crate::volume::tags::Grown;
use crate::volume::tune::{self, Change};
use crate::volume::{bring_up, edits, images};

impl<H: Host> Engine<H> {
    /// Changes a volume while it is used. When this returns the change is made; new images are still being copied, which
    /// [`Engine::advance`] sees through. Repeating it changes nothing.
    ///
    /// # Errors
    /// A value is out of range (`Invalid`), there is no room for new images (`Exhausted`), a snapshot or the redundancy is in
    /// the way (`Precondition`), the array is resyncing (`InProgress`), there is no such volume (`NotFound`).
    pub fn modify_volume(&self, volume: &LvName, change: &Change) -> Result<VolumeInfo> {
        let _guard = self.guard(volume)?;
        let what = format!("changing volume {volume}");
        // Which images there are is told by their slots then, and regions are those of all of them.
        let rates = Change { write_mostly: None, region_size: None, ..change.clone() };
        // All that can be refused is refused before anything is changed.
        self.wait(&what, |session| {
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let seen = session.look(volume)?;
            let wanted = change.images.unwrap_or(seen.images());
            if let Some(refusal) = tune::refusal(&seen, change, wanted) {
                return Err(Error::Refused(refusal));
            }
            if !session.may_become(&seen, wanted)? {
                return Ok(None);
            }
            session.tune(volume, &rates).map(Some)
        })?;
        if let Some(wanted) = change.images {
            self.grow_to(volume, wanted)?;
            self.wait(&what, |session| {
                if session.take_up(volume, self)? == Taken::NotUp {
                    return Ok(None);
                }
                let rest =
                    session.drive(volume, &mut (), |seen, ()| images::shrink(seen, wanted), |_, _, ()| {})?;
                if matches!(rest, Rest::Waiting(_)) {
                    return Ok(None);
                }
                let gone = session.finish_leaving(volume)?;
                Ok(matches!(gone, Rest::Done).then_some(()))
            })?;
        }
        self.wait(&what, |session| {
            session.tune(volume, change)?;
            let taken = session.take_up(volume, self)?;
            let follows = taken != Taken::NotUp
                && (taken == Taken::UnderWay || bring_up::is_tuned(&session.look(volume)?));
            if follows { session.volume_info(volume).map(Some) } else { Ok(None) }
        })
    }

    /// Adds images until there are as many as wanted, and has them copied.
    fn grow_to(&self, volume: &LvName, wanted: usize) -> Result<()> {
        let reserved = self.wait(&format!("adding images to volume {volume}"), |session| {
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let seen = session.look(volume)?;
            if seen.images() >= wanted {
                return Ok(Some(None));
            }
            if session.may_become(&seen, wanted)? {
                session.reserve_legs(&seen, wanted - seen.images()).map(|legs| Some(Some(legs)))
            } else {
                Ok(None)
            }
        })?;
        match reserved {
            Some(legs) => self.add_legs(volume, legs, None),
            None => Ok(()),
        }
    }

    /// Makes reserved legs images of a volume, to be copied up, for itself or for a snapshot.
    pub(super) fn add_legs(
        &self,
        volume: &LvName,
        legs: Vec<LegExtents>,
        grown: Option<&Grown>,
    ) -> Result<()> {
        let what = match grown {
            Some(of) => format!("an image of volume {volume} for snapshot {:?}", of.snapshot),
            None => format!("{} more images of volume {volume}", legs.len()),
        };
        self.session(|session| {
            let seen = session.look(volume)?;
            let reserve = session.zero_superblocks(&seen, &legs)?;
            let legs = legs.into_iter().map(|leg| NewLeg {
                meta_id: session.new_id(),
                image_id: session.new_id(),
                meta: leg.meta,
                image: leg.image,
            });
            let next =
                edit::add_legs(session.group.vg(), volume, &reserve, legs.collect(), &session.created())?;
            let next = edits::added(&next, &seen, grown);
            session.group.commit(session.host, next, &what)?;
            session.take_up(volume, self).map(drop)
        })
    }
}

impl<H: Host> Session<'_, H> {
    /// Whether the volume can have so many images now; `false`: not while something is copied.
    fn may_become(&self, seen: &Seen, wanted: usize) -> Result<bool> {
        let next = match wanted.cmp(&seen.images()) {
            std::cmp::Ordering::Equal => return Ok(true),
            std::cmp::Ordering::Less => images::shrink(seen, wanted),
            std::cmp::Ordering::Greater => match images::may_grow(seen, wanted) {
                None => self.place_legs(seen, wanted - seen.images()).map(|_| Next::Done)?,
                Some(next) => next,
            },
        };
        match next {
            Next::Refuse(refusal) => Err(Error::Refused(refusal)),
            Next::Wait(_) => Ok(false),
            Next::Do(_) | Next::Done | Next::ReadMetas => Ok(true),
        }
    }

    /// Rates and images that reads avoid: the metadata says so then.
    pub(super) fn tune(&mut self, volume: &LvName, change: &Change) -> Result<()> {
        self.drive(volume, &mut (), |seen, ()| tune::next(seen, change), |_, _, ()| {}).map(drop)
    }

    /// Where new legs go: on disks that have none of the volume.
    fn place_legs(&self, seen: &Seen, images: usize) -> Result<Vec<LegExtents>> {
        let vg = self.group.vg();
        let subs = seen.slots.iter().flat_map(|slot| [&slot.image, &slot.meta]);
        let taken: Vec<String> = subs.flat_map(|lv| vg.pvs_of(lv)).collect();
        let request = alloc::Request { images, meta: seen.slots[0].meta.extents(), data: seen.lv.extents() };
        Ok(alloc::allocate_beside(vg, &request, &taken)?)
    }

    /// Commits a reserve LV that owns the extents of new legs, the metadata LVs' first.
    pub(super) fn reserve_legs(&mut self, seen: &Seen, images: usize) -> Result<Vec<LegExtents>> {
        let name = seen.lv.name.reserve();
        self.drop_reserve(&name)?;
        let legs = self.place_legs(seen, images)?;
        let metas = legs.iter().flat_map(|leg| &leg.meta);
        let runs = metas.chain(legs.iter().flat_map(|leg| &leg.image)).cloned().collect();
        let what = format!("reserve extents for images of volume {}", seen.lv.name);
        self.commit_reserve(&name, runs, &what)?;
        Ok(legs)
    }

    /// Zeroes all of the reserved metadata LVs that is ever read. The name of the reserve.
    pub(super) fn zero_superblocks(&self, seen: &Seen, legs: &[LegExtents]) -> Result<LvName> {
        let extent = self.group.vg().extent_size;
        let name = seen.lv.name.reserve();
        let missing = || {
            Error::refused(crate::report::Class::Precondition, format!("{name} was removed by another tool"))
        };
        let reserve = self.group.vg().lv(&name).ok_or_else(missing)?;
        let mut at = Bytes::ZERO;
        for leg in legs {
            let len = raid::rmeta_len(seen.len, seen.raid.region_size);
            self.group.zero_lv(self.host, reserve, at, len)?;
            at += leg.meta.iter().map(|run| run.count).sum::<crate::units::Extents>().bytes(extent);
        }
        Ok(name)
    }

    /// Drives images that leave until they are gone.
    pub(super) fn finish_leaving(&mut self, volume: &LvName) -> Result<Rest> {
        let mut memo = images::Memo::default();
        let rest = self.drive(volume, &mut memo, images::finish, |step, _, memo| match step {
            Step::Pin => memo.pinned = true,
            Step::Swap { .. } => memo.pinned = false,
            _ => {}
        })?;
        if matches!(rest, Rest::Done) {
            self.part(volume)?;
        }
        Ok(rest)
    }
}
