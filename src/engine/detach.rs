//! Snapshots become volumes, and slots without an image get one.

use crate::alloc;
use crate::engine::drive::{Rest, Taken};
use crate::engine::snapshots::{parse_snapshot_id, refuse_shown};
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::lvm2::edit::{self, DetachedLv, Filling};
use crate::lvm2::model::LogicalVolume;
use crate::report::{Class, chain};
use crate::volume::edits::{self, Detached};
use crate::volume::info::VolumeInfo;
use crate::volume::seen::Seen;
use crate::volume::spec::{IMAGES_MAX, IMAGES_MIN, VolumeSpec};
use crate::volume::tags::{ImageTags, VolumeTags};
use crate::volume::{detach, key};

impl<H: Host> Engine<H> {
    /// Makes a volume of a snapshot: its image leaves for good, nothing is copied. The new volume gets its other images, and
    /// the old one another in place of it, in the background, where there is room. Repeating it gives the same volume.
    ///
    /// Size and regions are the snapshot's, whatever regions are wished for.
    ///
    /// # Errors
    /// No such snapshot (`NotFound`), it is not ready, in use or shown by a view (`Precondition`), it is one of a group
    /// (`Invalid`), the name is taken (`Exists`), there is no room for the new volume's other images (`Exhausted`), it would
    /// have more images than the old one, or its size does not fit (`OutOfRange`), a clone still reads it (`InProgress`).
    pub fn detach_snapshot(&self, spec: &VolumeSpec, snapshot: &str) -> Result<VolumeInfo> {
        let (volume, wanted) = parse_snapshot_id(snapshot)?;
        let new = detached_key(spec, &volume)?;
        let _guards = (self.guard(&new)?, self.guard(&volume)?);
        self.wait(&format!("making a volume of snapshot {snapshot}"), |session| {
            session.refuse_view_named(&new, &spec.name)?;
            if let Some(lv) = session.group.vg().lv(&new) {
                return session.check_detached(lv, spec, snapshot).map(Some);
            }
            if !session.is_volume(&volume) {
                return Err(session.no_snapshot(snapshot));
            }
            if session.take_up(&volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            session.refuse_read_by_clone(snapshot)?;
            let seen = session.look_deep(&volume)?;
            let slot = seen.slot_of(&wanted).filter(|slot| seen.slots[*slot].tags.lent.is_none());
            let slot = slot.ok_or_else(|| session.no_snapshot(snapshot))?;
            refuse_shown(&seen, slot)?;
            session.check_fits(&seen, slot, spec, snapshot)?;
            let rest = session.drive(&volume, &mut (), |seen, ()| detach::next(seen, slot), |_, _, ()| {})?;
            if matches!(rest, Rest::Waiting(_)) {
                return Ok(None);
            }
            session.detach(&volume, slot, spec, snapshot).map(Some)
        })?;
        // The new volume first: whoever asked for it asked for so many images.
        self.session(|session| session.take_up(&new, self).map(drop))?;
        if let Err(error) = self.session(|session| session.take_up(&volume, self)) {
            // It is asked for no more; `advance` tries again.
            tracing::warn!(%volume, error = chain(&error), "it gets no image in place of the one that became a volume yet");
        }
        self.session(|session| session.volume_info(&new))
    }
}

/// The key of the volume that is made of images of another.
pub(super) fn detached_key(spec: &VolumeSpec, of: &LvName) -> Result<LvName> {
    let new = key::of(&spec.name);
    if !(IMAGES_MIN..=IMAGES_MAX).contains(&spec.images) {
        let message = format!("{} images: a volume has {IMAGES_MIN} to {IMAGES_MAX}", spec.images);
        return Err(Error::refused(Class::Invalid, message));
    }
    if new == *of {
        let message = format!("volume {new} cannot be made of images of itself");
        return Err(Error::refused(Class::Exists, message));
    }
    Ok(new)
}

/// Whether images of a volume can be one of the size that is asked for.
pub(super) fn check_size(seen: &Seen, spec: &VolumeSpec, of: &str) -> Result<()> {
    let has = seen.len.bytes();
    let bound = if spec.size > has {
        format!("at least {}", spec.size)
    } else if let Some(limit) = spec.limit.filter(|limit| *limit < has) {
        format!("at most {limit}")
    } else {
        return Ok(());
    };
    let message =
        format!("a volume of {bound} cannot be made of {of}, which has {has}: it can grow afterwards");
    Err(Error::refused(Class::OutOfRange, message))
}

impl<H: Host> Session<'_, H> {
    /// A name is taken if a view has it.
    pub(super) fn refuse_view_named(&self, key: &LvName, name: &str) -> Result<()> {
        match self.views()?.into_iter().find(|view| view.id == key.as_str()) {
            None => Ok(()),
            Some(view) => {
                let message = format!("volume {name:?} exists and shows snapshot {}", view.snapshot);
                Err(Error::refused(Class::Exists, message))
            }
        }
    }

    /// Refuses an LV of the right name that is not what is asked for.
    pub(super) fn check_detached(&self, lv: &LogicalVolume, spec: &VolumeSpec, source: &str) -> Result<()> {
        let tags = VolumeTags::of(lv);
        let same =
            tags.detached && tags.name.as_ref() == Some(&spec.name) && tags.clone.as_deref() == Some(source);
        let size = lv.extents().bytes(self.group.vg().extent_size);
        let images = lv.raid1().map_or(0, |raid| raid.slots.len());
        let differs = if !same {
            format!("is not made of images of {source}")
        } else if size < spec.size || spec.limit.is_some_and(|limit| size > limit) {
            format!("has {size}")
        } else if images != spec.images {
            format!("has {images} images")
        } else {
            return Ok(());
        };
        Err(Error::refused(Class::Exists, format!("volume {:?} exists and {differs}", spec.name)))
    }

    /// Whether the image of a slot can be the volume that is asked for, and there is room beside it for the others.
    fn check_fits(&self, seen: &Seen, slot: usize, spec: &VolumeSpec, snapshot: &str) -> Result<()> {
        check_size(seen, spec, &format!("the image of snapshot {snapshot}"))?;
        // The kernel takes no table with as many empty slots as the array had slots, by the superblock that it finds: that was
        // written when the image left.
        let metas = seen.metas_of(std::iter::once(slot)).unwrap_or_default();
        let superblock = metas.first().and_then(|(_, meta)| meta.superblock.as_ref());
        let had = superblock.map_or(0, |superblock| superblock.num_devices);
        if u32::try_from(spec.images).is_ok_and(|images| images > had) {
            let message = format!(
                "a volume of snapshot {snapshot} can have {had} images at first, as volume {} had then: more can be added afterwards",
                seen.lv.name
            );
            return Err(Error::refused(Class::OutOfRange, message));
        }
        let vg = self.group.vg();
        let of = &seen.slots[slot];
        let request =
            alloc::Request { images: spec.images - 1, meta: of.meta.extents(), data: seen.lv.extents() };
        Ok(alloc::allocate_beside(vg, &request, &vg.pvs_of(&of.image)).map(drop)?)
    }

    /// Commits the image of a slot as a volume of its own.
    fn detach(&mut self, volume: &LvName, slot: usize, spec: &VolumeSpec, snapshot: &str) -> Result<()> {
        let new = key::of(&spec.name);
        let lv = DetachedLv {
            name: new.clone(),
            id: self.new_id(),
            tags: Vec::new(),
            flags: Vec::new(),
            created: self.created(),
        };
        let detached = Detached {
            lv,
            lost: (0..spec.images).map(|_| [self.new_id(), self.new_id()]).collect(),
            name: spec.name.clone(),
            source: snapshot.to_owned(),
            min_recovery_rate: spec.min_recovery_rate,
            max_recovery_rate: spec.max_recovery_rate,
        };
        let next = edits::detach(self.group.vg(), &self.look(volume)?, slot, detached)?;
        self.group.commit(self.host, next, &format!("volume {new} of snapshot {snapshot}"))?;
        tracing::info!(volume = %new, snapshot, "the snapshot is a volume now");
        Ok(())
    }

    /// Gives slots that have no image one each, as far as there is room: under way when any got one, or has to wait for what
    /// the array does now.
    pub(super) fn fill(&mut self, volume: &LvName) -> Result<Taken> {
        // Most volumes have none, and need no look at the machine for it.
        if !self.images_of(volume).any(|image| ImageTags::of(image).lost) {
            return Ok(Taken::Rests);
        }
        let lost = self.look(volume)?.lost_slots().count();
        for images in (1..=lost).rev() {
            let seen = self.look(volume)?;
            if !detach::may_fill(&seen) {
                return Ok(Taken::UnderWay);
            }
            let legs = match self.reserve_legs(&seen, images) {
                // A disk is full, or one of the group is away.
                Err(error) if matches!(error.class(), Class::Exhausted | Class::Precondition) => {
                    tracing::debug!(%volume, images, error = chain(&error), "no images for slots without one");
                    continue;
                }
                legs => legs?,
            };
            let reserve = self.zero_superblocks(&seen, &legs)?;
            let fillings: Vec<Filling> = seen
                .lost_slots()
                .zip(legs)
                .map(|(slot, leg)| Filling { slot, meta: leg.meta, image: leg.image })
                .collect();
            let next = edit::fill_legs(self.group.vg(), volume, &reserve, &fillings)?;
            let next = edits::filled(&next, &seen, fillings.iter().map(|leg| leg.slot));
            self.group.commit(self.host, next, &format!("{images} more images of volume {volume}"))?;
            return Ok(Taken::UnderWay);
        }
        Ok(Taken::Rests)
    }
}
