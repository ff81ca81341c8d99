//! Volumes: create, delete, deactivate, open.

use std::path::PathBuf;

use crate::alloc;
use crate::engine::clone::is_record;
use crate::engine::{Capacity, Engine, Error, OpenDevice, Result, Session};
use crate::host::Host;
use crate::ids::{LvName, LvmUuid};
use crate::lvm2::edit::{self, NewLeg, NewRaid1};
use crate::lvm2::model::{LogicalVolume, VolumeGroup};
use crate::raid;
use crate::report::Class;
use crate::units::{Bytes, Sectors};
use crate::volume::edits::{ACTIVATION_SKIP, NO_AUTOACTIVATE};
use crate::volume::info::VolumeInfo;
use crate::volume::seen::{Seen, SlotSeen};
use crate::volume::spec::{IMAGES_MAX, IMAGES_MIN, SIZE_MAX, VolumeSpec};
use crate::volume::step::{Part, Step};
use crate::volume::tags::{ImageTags, VolumeTags};
use crate::volume::{grow, key, rollback};

/// Extents zeroed under one hold of the lock: short enough not to keep an admin's `lvs` waiting.
const ZERO_TURN: Bytes = Bytes::mib(256);

impl<H: Host> Engine<H> {
    /// Makes a volume. Repeating it gives the same volume.
    ///
    /// # Errors
    /// The name is taken by a volume that is different (`Exists`), there is no room (`Exhausted`), a value is out of
    /// range (`Invalid`, `OutOfRange`).
    pub fn create_volume(&self, spec: &VolumeSpec) -> Result<VolumeInfo> {
        let name = key::of(&spec.name);
        let _guard = self.guard(&name)?;
        let creating = self.session(|session| {
            match session.group.vg().lv(&name).cloned() {
                Some(lv) => session.check_same(&lv, spec, None)?,
                None => session.add_volume(&name, spec)?,
            }
            Ok(session.group.vg().lv(&name).is_some_and(|lv| VolumeTags::of(lv).creating))
        })?;
        if creating {
            self.zero_before_use(&name)?;
        }
        self.session(|session| {
            if creating {
                session.start_new(&name)?;
            } else {
                session.bring_up(&name).map(drop)?;
            }
            session.volume_info(&name)
        })
    }

    /// Zeroes all extents of a new volume, of a clone only those of its rmetas, a part at a time, so that the lock is never held for long. Before each
    /// part the metadata is read again: extents are only written while they are still the volume's.
    pub(super) fn zero_before_use(&self, name: &LvName) -> Result<()> {
        let subs: Vec<LogicalVolume> = self.session(|session| {
            let seen = session.look(name)?;
            if seen.top.is_some() {
                session.drop_devices(&seen)?;
            }
            let images = !seen.tags.filling;
            let subs = |slot: SlotSeen| [Some(slot.meta), images.then_some(slot.image)];
            Ok(seen.slots.into_iter().flat_map(subs).flatten().collect())
        })?;
        subs.iter().try_for_each(|lv| self.zero_in_turns(lv))
    }

    /// Zeroes an LV in turns.
    pub(super) fn zero_in_turns(&self, lv: &LogicalVolume) -> Result<()> {
        let mut at = Bytes::ZERO;
        loop {
            let end = self.session(|session| {
                let gone = || {
                    Error::refused(Class::Precondition, format!("{} was changed by another tool", lv.name))
                };
                let now = session.group.vg().lv(&lv.name).ok_or_else(gone)?;
                if now.id != lv.id || now.segments != lv.segments {
                    return Err(gone());
                }
                let len = lv.extents().bytes(session.group.vg().extent_size);
                let turn = ZERO_TURN.min(len - at);
                session.group.zero_lv(session.host, lv, at, turn)?;
                at += turn;
                Ok(at >= len)
            })?;
            if end {
                return Ok(());
            }
        }
    }

    /// Removes a volume or a view. One that does not exist is no error.
    ///
    /// # Errors
    /// It is in use or has snapshots (`Precondition`).
    pub fn delete_volume(&self, id: &str) -> Result<()> {
        let Ok(name) = id.parse::<LvName>() else { return Ok(()) };
        let _guard = self.guard(&name)?;
        if self.delete_view(id)? {
            return Ok(());
        }
        self.wait(&format!("deleting volume {name}"), |session| {
            if !session.is_volume(&name) {
                return Ok(Some(()));
            }
            let seen = session.look(&name)?;
            if session.is_syncing(&seen) || session.record_syncs(&name)? {
                return Ok(None);
            }
            if seen.slots.len() > seen.staying() {
                session.take_up(&name, self).map(drop)?;
                return Ok(None);
            }
            if let Some(refusal) = grow::under_way(&seen) {
                return Err(Error::Refused(refusal));
            }
            if let Some(snapshot) = seen.split_slots().find_map(|slot| seen.snapshot_key(slot)) {
                let id = key::snapshot_id(&name, &snapshot);
                session.refuse_read_by_clone(&id)?;
                if session.has_lent(&name) {
                    return session.merge_lent(&name, self).map(|_| None);
                }
                let message = format!("volume {name} has snapshot {id}: delete that first");
                return Err(Error::refused(Class::Precondition, message));
            }
            session.remove(&name).map(Some)
        })
    }

    /// Stops a volume's array and removes its devices. What is on the disks stays.
    ///
    /// # Errors
    /// It, or a snapshot of it, is in use (`Precondition`).
    pub fn deactivate(&self, volume: &LvName) -> Result<()> {
        let _guard = self.guard(volume)?;
        self.wait(&format!("deactivating volume {volume}"), |session| {
            let seen = session.look(volume)?;
            if session.is_syncing(&seen) || session.record_syncs(volume)? {
                return Ok(None);
            }
            session.drop_devices(&seen)?;
            if session.is_filling(volume) {
                let record = session.look(&volume.record())?;
                session.drop_devices(&record)?;
            }
            Ok(Some(()))
        })
    }

    /// The device of a volume or view, which is activated if it must be.
    ///
    /// # Errors
    /// There is none (`NotFound`), or it cannot be brought up.
    pub fn open_device(&self, id: &str) -> Result<OpenDevice> {
        let missing = || Error::refused(Class::NotFound, format!("there is no volume {id}"));
        let view = self.session(|session| Ok(session.views()?.into_iter().find(|view| view.id == id)))?;
        let (volume, snapshot) = match view {
            Some(view) => {
                let (volume, key) = key::parse_snapshot_id(&view.snapshot).ok_or_else(missing)?;
                (volume, Some(key))
            }
            None => (id.parse::<LvName>().map_err(|_| missing())?, None),
        };
        self.session(|session| {
            if !session.is_volume(&volume) {
                return Err(missing());
            }
            session.bring_up(&volume).map(drop)?;
            let seen = session.look(&volume)?;
            if let Some(refusal) = rollback::refusal(&seen).filter(|_| snapshot.is_none()) {
                return Err(Error::Refused(refusal));
            }
            let info = match &snapshot {
                None => match seen.upper.and_then(|upper| upper.own) {
                    Some(own) => Some(own.info),
                    None => seen.top.map(|top| top.info),
                },
                Some(key) => {
                    seen.slot_of(key).and_then(|slot| seen.slots[slot].image_dev.clone()).map(|dev| dev.info)
                }
            };
            let info = info.ok_or_else(missing)?;
            let path = PathBuf::from(format!("/dev/dm-{}", info.devno.minor));
            let formatting = snapshot.is_none() && seen.tags.formatting;
            let clone = snapshot.is_none() && seen.tags.clone.is_some();
            Ok(OpenDevice { path, devno: info.devno, read_only: snapshot.is_some(), formatting, clone })
        })
    }

    /// Free space for volumes of so many images.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn capacity(&self, images: usize) -> Result<Capacity> {
        self.session(|session| Ok(session.capacity(images)))
    }
}

impl<H: Host> Session<'_, H> {
    /// Names of all volumes: raid1 LVs that are no part of another LV, and do not record how far a clone is.
    pub(super) fn volume_names(&self) -> Vec<LvName> {
        let is_top = |lv: &&LogicalVolume| {
            lv.raid1().is_some() && lv.has("VISIBLE") && !lv.name.is_reserved() && !is_record(lv)
        };
        self.group.vg().lvs.iter().filter(is_top).map(|lv| lv.name.clone()).collect()
    }

    /// Whether there is a volume of this name.
    pub(super) fn is_volume(&self, name: &LvName) -> bool {
        self.volume_names().contains(name)
    }

    pub(super) fn capacity(&self, images: usize) -> Capacity {
        let vg = self.group.vg();
        let meta = alloc::meta_extents(Sectors(1), Sectors(1), vg.extent_size);
        Capacity {
            available: alloc::capacity(vg, images, meta).bytes(vg.extent_size),
            largest: alloc::largest(vg, images, meta).bytes(vg.extent_size),
        }
    }

    /// Refuses an LV of the right name that is not what is asked for.
    pub(super) fn check_same(
        &self,
        lv: &LogicalVolume,
        spec: &VolumeSpec,
        clone: Option<&str>,
    ) -> Result<()> {
        let differs = |what: String| {
            Err(Error::refused(Class::Exists, format!("volume {:?} exists and {what}", spec.name)))
        };
        let Some(raid) = lv.raid1().filter(|_| VolumeTags::of(lv).name.as_ref() == Some(&spec.name)) else {
            return differs(format!("LV {} was made for something else", lv.name));
        };
        let VolumeTags { clone: of, detached, .. } = VolumeTags::of(lv);
        if detached {
            return differs(format!("is the image of snapshot {} itself", of.unwrap_or_default()));
        }
        if of.as_deref() != clone {
            return differs(of.map_or_else(|| "is no clone".into(), |of| format!("is a clone of {of}")));
        }
        let size = lv.extents().bytes(self.group.vg().extent_size);
        if size < spec.size || spec.limit.is_some_and(|limit| size > limit) {
            return differs(format!("has {size}"));
        }
        let own = |tags: &ImageTags| tags.grown.is_none() && !tags.leaving;
        let images = self.images_of(&lv.name).map(ImageTags::of).filter(own).count();
        if images != spec.images {
            return differs(format!("has {images} images"));
        }
        if raid.region_size.bytes() != spec.region_size {
            return differs(format!("has regions of {}", raid.region_size.bytes()));
        }
        if (raid.min_recovery_rate, raid.max_recovery_rate)
            != (spec.min_recovery_rate, spec.max_recovery_rate)
        {
            return differs("has other recovery rates".into());
        }
        Ok(())
    }

    fn add_volume(&mut self, name: &LvName, spec: &VolumeSpec) -> Result<()> {
        let tags = VolumeTags { name: Some(spec.name.clone()), creating: true, ..VolumeTags::default() };
        let next = self.with_volume(self.group.vg(), name, spec, &tags, &[])?;
        Ok(self.group.commit(self.host, next, &format!("create volume {name}"))?)
    }

    /// The group with one more volume, which lies on none of the disks in `avoid`.
    pub(super) fn with_volume(
        &self,
        vg: &VolumeGroup,
        name: &LvName,
        spec: &VolumeSpec,
        tags: &VolumeTags,
        avoid: &[String],
    ) -> Result<VolumeGroup> {
        if !(IMAGES_MIN..=IMAGES_MAX).contains(&spec.images) {
            let message = format!("{} images: a volume has {IMAGES_MIN} to {IMAGES_MAX}", spec.images);
            return Err(Error::refused(Class::Invalid, message));
        }
        if self.views()?.iter().any(|view| view.id == name.as_str()) {
            let message = format!("volume {:?} exists and shows a snapshot", spec.name);
            return Err(Error::refused(Class::Exists, message));
        }
        if spec.size > SIZE_MAX {
            let message = format!("{} is more than a volume can have: {SIZE_MAX}", spec.size);
            return Err(Error::refused(Class::OutOfRange, message));
        }
        let data = spec.size.max(Bytes(1)).extents_ceil(vg.extent_size);
        let size = data.bytes(vg.extent_size);
        if let Some(limit) = spec.limit.filter(|limit| *limit < size) {
            let message = format!(
                "{} in whole extents of {} is {size}, more than the limit of {limit}",
                spec.size,
                vg.extent_size.bytes()
            );
            return Err(Error::refused(Class::OutOfRange, message));
        }
        raid::check_region_size(spec.region_size.sectors_floor(), size.sectors_floor())
            .map_err(|error| Error::refused(Class::Invalid, error.to_string()))?;
        let meta =
            alloc::meta_extents(size.sectors_floor(), spec.region_size.sectors_floor(), vg.extent_size);
        let legs = alloc::allocate_beside(vg, &alloc::Request { images: spec.images, meta, data }, avoid)?;
        let legs = legs
            .into_iter()
            .map(|leg| NewLeg {
                meta_id: self.new_id(),
                image_id: self.new_id(),
                meta: leg.meta,
                image: leg.image,
            })
            .collect();
        Ok(edit::add_raid1(
            vg,
            NewRaid1 {
                name: name.clone(),
                id: self.new_id(),
                region_size: spec.region_size.sectors_floor(),
                min_recovery_rate: spec.min_recovery_rate,
                max_recovery_rate: spec.max_recovery_rate,
                legs,
                tags: tags.render(),
                flags: vec![ACTIVATION_SKIP.into(), NO_AUTOACTIVATE.into()],
                created: self.created(),
            },
        )?)
    }

    pub(super) fn new_id(&self) -> LvmUuid {
        LvmUuid::from_random(self.host.random())
    }

    pub(super) fn created(&self) -> (u64, String) {
        (self.host.now_unix_nanos() / 1_000_000_000, self.host.host_name())
    }

    /// Stops a volume and removes its LVs.
    pub(super) fn remove(&mut self, name: &LvName) -> Result<()> {
        let seen = self.look(name)?;
        self.drop_devices(&seen)?;
        let mut next = edit::remove_lv(self.group.vg(), name)?;
        if self.group.vg().lv(&name.record()).is_some_and(is_record) {
            let record = self.look(&name.record())?;
            self.drop_devices(&record)?;
            next = edit::remove_lv(&next, &name.record())?;
        }
        Ok(self.group.commit(self.host, next, &format!("remove volume {name}"))?)
    }

    /// Whether the array copies something, or is about to: kernels before 6.9 hang when it is stopped then.
    pub(super) fn is_syncing(&self, seen: &Seen) -> bool {
        seen.running().is_some_and(|(_, status)| !status.is_settled())
    }

    /// Removes all devices of a volume, the array first.
    pub(super) fn drop_devices(&mut self, seen: &Seen) -> Result<()> {
        let in_use = |what: &str| {
            let message = format!("{what} is in use: unmount it first");
            Err(Error::refused(Class::Precondition, message))
        };
        let own = seen.upper.as_ref().and_then(|upper| upper.own.as_ref()).map(|own| &own.info);
        if own.or(seen.top.as_ref().map(|top| &top.info)).is_some_and(|info| info.open_count > 0) {
            return in_use(&format!("volume {}", seen.lv.name));
        }
        for slot in seen.split_slots() {
            if seen.slots[slot].image_dev.as_ref().is_some_and(|dev| dev.info.open_count > 0) {
                return in_use(&format!("snapshot {}", seen.slots[slot].image.name));
            }
        }
        let mut steps = Vec::new();
        if let Some(upper) = &seen.upper {
            steps.extend(upper.own.as_ref().filter(|_| seen.layered).map(|_| Step::DropOwn));
            steps.extend(upper.origin.as_ref().map(|_| Step::DropOrigin));
        }
        steps.extend(seen.top.as_ref().map(|_| Step::DropTop));
        for (slot, of) in seen.slots.iter().enumerate() {
            steps.extend(of.image_dev.as_ref().map(|_| Step::DropLeg { slot, part: Part::Image }));
            steps.extend(of.meta_dev.as_ref().map(|_| Step::DropLeg { slot, part: Part::Meta }));
        }
        for step in steps {
            super::execute::execute(self.host, self.group, self.settings, seen, &step)?;
        }
        Ok(())
    }
}
