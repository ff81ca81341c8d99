//! Writable volumes from snapshots and from volumes: usable at once, filled in the background.

use std::collections::BTreeMap;

use crate::engine::drive::{Rest, Taken};
use crate::engine::execute::Outcome;
use crate::engine::snapshots::parse_snapshot_id;
use crate::engine::{Engine, Error, Result, Session, lock};
use crate::host::Host;
use crate::ids::LvName;
use crate::lvm2::model::{LogicalVolume, Slot, VolumeGroup};
use crate::raid;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::clone::{self, Memo, Pace};
use crate::volume::info::VolumeInfo;
use crate::volume::spec::VolumeSpec;
use crate::volume::step::Step;
use crate::volume::tags::{ImageTags, VolumeTags};
use crate::volume::{create, key, merge, region, split};

/// Since when the clones of this process keep to their rates.
pub(super) type Paces = BTreeMap<LvName, Pace>;

impl<H: Host> Engine<H> {
    /// Makes a volume that holds what a snapshot holds; what it has beyond the snapshot's size reads as zeroes. It can be
    /// used when this returns, and is filled by [`Engine::advance`]. Repeating it gives the same volume.
    ///
    /// # Errors
    /// No such snapshot (`NotFound`), it is not ready or mounted (`Precondition`), the volume would be smaller than it
    /// (`OutOfRange`), and those of [`Engine::create_volume`].
    pub fn create_clone(&self, spec: &VolumeSpec, snapshot: &str) -> Result<VolumeInfo> {
        let (source, _) = parse_snapshot_id(snapshot)?;
        let name = key::of(&spec.name);
        let _guard = self.guard(&name)?;
        let _source = self.guard(&source)?;
        self.clone_from(&name, spec, snapshot)
    }

    /// Makes a volume that holds what another one holds now. An image of that is split off for as long as the new one is
    /// filled, and merged by [`Engine::advance`] then.
    ///
    /// # Errors
    /// No such volume (`NotFound`), no image of it can be spared (`Precondition`), and those of [`Engine::create_clone`].
    pub fn clone_volume(&self, spec: &VolumeSpec, source: &LvName, min_in_sync: usize) -> Result<VolumeInfo> {
        let name = key::of(&spec.name);
        if *source == name {
            let message = format!("volume {name} cannot be a clone of itself");
            return Err(Error::refused(Class::Invalid, message));
        }
        let _guard = self.guard(&name)?;
        let _source = self.guard(source)?;
        let lent = clone::lent_name(&name);
        let snapshot = key::snapshot_id(source, &key::of(&lent));
        let exists = self.session(|session| Ok(session.group.vg().lv(&name).is_some()))?;
        if !exists {
            self.wait(&format!("splitting an image of volume {source}"), |session| {
                if !session.is_volume(source) {
                    let message = format!("there is no volume {source}");
                    return Err(Error::refused(Class::NotFound, message));
                }
                session.check_source_size(spec, source)?;
                if session.take_up(source, self)? == Taken::NotUp {
                    return Ok(None);
                }
                let wanted = split::Split {
                    name: lent.clone(),
                    now: session.host.now_unix_nanos(),
                    min_in_sync,
                    lent: Some(name.to_string()),
                };
                Ok(matches!(session.split(source, &wanted)?, Rest::Done).then_some(()))
            })?;
        }
        self.clone_from(&name, spec, &snapshot)
    }

    /// The caller holds both volumes.
    fn clone_from(&self, name: &LvName, spec: &VolumeSpec, snapshot: &str) -> Result<VolumeInfo> {
        let record = name.record();
        let creating = self.session(|session| {
            match session.group.vg().lv(name).cloned() {
                Some(lv) => session.check_same(&lv, spec, Some(snapshot))?,
                None => session.add_clone(name, spec, snapshot)?,
            }
            let is_creating =
                |of: &LvName| session.group.vg().lv(of).is_some_and(|lv| VolumeTags::of(lv).creating);
            Ok([record.clone(), name.clone()].into_iter().filter(is_creating).collect::<Vec<_>>())
        })?;
        for new in &creating {
            self.zero_before_use(new)?;
        }
        self.session(|session| {
            for new in &creating {
                session.start_new(new)?;
            }
            session.bring_up(name).map(drop)?;
            session.volume_info(name)
        })
    }

    /// Takes what clones have to do with a volume as far as it gets now: fills it, ends what is left when it is filled,
    /// merges an image that was lent. `true` when nothing is left.
    pub(super) fn is_rested_by_clones(&self, session: &mut Session<'_, H>, volume: &LvName) -> Result<bool> {
        if session.is_filling(volume) {
            session.take_up(&volume.record(), self).map(drop)?;
            let seen = session.look(volume)?;
            let held = clone::progress(&seen).map_or(Bytes::ZERO, |progress| progress.done);
            let now = session.host.now_unix_nanos();
            let pace = *lock(&self.paces).entry(volume.clone()).or_insert(Pace { since: now, held });
            let mut memo = Memo { pace: Some(pace), now, ..Memo::default() };
            let host = session.host;
            let rest = session.drive(volume, &mut memo, clone::fill, |step, _, memo| {
                memo.flushed |= matches!(step, Step::FlushOwn);
                memo.moments += usize::from(matches!(step, Step::CopyBriefly));
                memo.now = host.now_unix_nanos();
            })?;
            if !matches!(rest, Rest::Done) || matches!(session.bring_up(volume)?, Rest::Waiting(_)) {
                return Ok(false);
            }
            lock(&self.paces).remove(volume);
            tracing::info!(%volume, "the clone is filled");
            session.drop_record(volume)?;
            // An image that was lent to it goes back in another round.
            return Ok(false);
        }
        Ok(session.drop_record(volume)? && session.merge_lent(volume, self)?)
    }
}

impl<H: Host> Session<'_, H> {
    /// Whether a volume is being filled. Costs nothing: the metadata tells.
    pub(super) fn is_filling(&self, name: &LvName) -> bool {
        self.group.vg().lv(name).is_some_and(|lv| VolumeTags::of(lv).filling)
    }

    /// Volumes that are being filled, whose record is left, or of which an image was lent to a clone that needs it no more.
    pub(super) fn unfilled(&self) -> Vec<LvName> {
        let needs = |name: &LvName| {
            self.is_filling(name)
                || self.group.vg().lv(&name.record()).is_some_and(is_record)
                || !self.returning(name).is_empty()
        };
        self.volume_names().into_iter().filter(needs).collect()
    }

    /// Records of clones that are gone.
    pub(super) fn orphans(&self) -> Vec<LvName> {
        let vg = self.group.vg();
        let orphan = |lv: &&LogicalVolume| {
            VolumeTags::of(lv)
                .record
                .is_some_and(|of| !of.parse::<LvName>().is_ok_and(|of| vg.lv(&of).is_some()))
        };
        vg.lvs.iter().filter(orphan).map(|lv| lv.name.clone()).collect()
    }

    /// Refuses to take away a snapshot while a clone reads it.
    pub(super) fn refuse_read_by_clone(&self, snapshot: &str) -> Result<()> {
        let reads = |lv: &&LogicalVolume| {
            let tags = VolumeTags::of(lv);
            tags.filling && tags.clone.as_deref() == Some(snapshot)
        };
        let Some(clone) = self.group.vg().lvs.iter().find(reads).map(|lv| lv.name.clone()) else {
            return Ok(());
        };
        let refusal = clone::refusal(&self.look(&clone)?);
        let why = refusal.map_or_else(String::new, |refusal| format!(": {}", refusal.message));
        let message = format!("snapshot {snapshot} is being copied into volume {clone}{why}");
        Err(Error::refused(Class::InProgress, message))
    }

    /// What a clone stands on besides its array: its record, and the volume whose snapshot it is filled from.
    pub(super) fn bring_up_below(&mut self, clone: &LvName) -> Result<()> {
        let tags = self.group.vg().lv(clone).map(VolumeTags::of).unwrap_or_default();
        let source = tags.clone.as_deref().and_then(key::parse_snapshot_id).map(|(volume, _)| volume);
        for of in source.into_iter().chain([clone.record()]) {
            if self.group.vg().lv(&of).is_some() && !self.is_filling(&of) {
                self.bring_up(&of).map(drop)?;
            }
        }
        Ok(())
    }

    fn check_source_size(&self, spec: &VolumeSpec, source: &LvName) -> Result<()> {
        let len = self.group.vg().lv(source).map(|lv| lv.extents().bytes(self.group.vg().extent_size));
        let Some(len) = len.filter(|len| spec.size < *len) else { return Ok(()) };
        let message = format!("{} is less than what volume {source} has: {len}", spec.size);
        Err(Error::refused(Class::OutOfRange, message))
    }

    /// Commits a clone and its record, which lies on the clone's own disks where it can.
    fn add_clone(&mut self, name: &LvName, spec: &VolumeSpec, snapshot: &str) -> Result<()> {
        let (source, of) = parse_snapshot_id(snapshot)?;
        if !self.is_volume(&source) {
            return Err(self.no_snapshot(snapshot));
        }
        self.check_source_size(spec, &source)?;
        let seen = self.look(&source)?;
        let slot = &seen.slots[self.readable_slot(&seen, snapshot, &of)?];
        let readers = self.group.vg().lvs.iter().map(VolumeTags::of);
        let readers = readers.filter(|tags| tags.filling && tags.clone.as_deref() == Some(snapshot)).count();
        let open = slot.image_dev.as_ref().map_or(0, |dev| dev.info.open_count);
        if usize::try_from(open).is_ok_and(|open| open > readers) {
            let message = format!("snapshot {snapshot} is in use: unmount the volumes that show it first");
            return Err(Error::refused(Class::Precondition, message));
        }
        let tags = VolumeTags {
            name: Some(spec.name.clone()),
            creating: true,
            clone: Some(snapshot.to_owned()),
            filling: true,
            ..VolumeTags::default()
        };
        let with_clone = self.with_volume(self.group.vg(), name, spec, &tags, &[])?;
        let disks = |vg: &VolumeGroup| {
            let raid =
                vg.lv(name).and_then(LogicalVolume::raid1).map(|raid| raid.slots.clone()).unwrap_or_default();
            let images: Vec<_> = raid.iter().filter_map(|slot| vg.lv(&slot.image)).collect();
            let used = |pv: &str| images.iter().any(|image| vg.runs(image).iter().any(|run| run.pv == pv));
            vg.pvs.iter().map(|pv| pv.name.clone()).filter(|pv| !used(pv)).collect::<Vec<_>>()
        };
        let len =
            with_clone.lv(name).map(|lv| lv.extents().sectors(with_clone.extent_size)).unwrap_or_default();
        let size = raid::record_len(len);
        let record = VolumeSpec {
            name: name.record().to_string(),
            size,
            limit: None,
            images: spec.images,
            region_size: region::default_size(size).min(Bytes::kib(64)),
            min_recovery_rate: None,
            max_recovery_rate: None,
        };
        let tags = VolumeTags { record: Some(name.to_string()), creating: true, ..VolumeTags::default() };
        let next = self
            .with_volume(&with_clone, &name.record(), &record, &tags, &disks(&with_clone))
            .or_else(|_| self.with_volume(&with_clone, &name.record(), &record, &tags, &[]))?;
        Ok(self.group.commit(self.host, next, &format!("clone {snapshot} as volume {name}"))?)
    }

    /// Starts a new array, whose extents are zeroed where they must be.
    pub(super) fn start_new(&mut self, name: &LvName) -> Result<()> {
        let mut memo = create::Memo::default();
        self.drive(name, &mut memo, create::next, |step, _: &Outcome, memo| {
            if matches!(step, Step::Pin) {
                memo.pinned = true;
            }
        })
        .map(drop)
    }

    /// Removes what recorded how far a volume was filled that is now; `false` when it must wait.
    fn drop_record(&mut self, clone: &LvName) -> Result<bool> {
        let record = clone.record();
        if !self.group.vg().lv(&record).is_some_and(is_record) {
            return Ok(true);
        }
        if self.record_syncs(clone)? {
            return Ok(false);
        }
        self.remove(&record).map(|()| true)
    }

    /// Whether the array of a clone's record copies something: it must not be stopped then.
    pub(super) fn record_syncs(&self, clone: &LvName) -> Result<bool> {
        let record = clone.record();
        if !self.group.vg().lv(&record).is_some_and(is_record) {
            return Ok(false);
        }
        Ok(self.is_syncing(&self.look(&record)?))
    }

    /// Slots whose images were lent to clones that do not need them any more.
    fn returning(&self, volume: &LvName) -> Vec<usize> {
        let vg = self.group.vg();
        let slots =
            vg.lv(volume).and_then(|lv| lv.raid1()).map(|raid| raid.slots.as_slice()).unwrap_or_default();
        let returns = |(slot, of): (usize, &Slot)| {
            let image = vg.lv(&of.image).filter(|image| image.is_tracked_image())?;
            let to = ImageTags::of(image).lent?.parse::<LvName>().ok();
            to.is_none_or(|to| !self.is_filling(&to)).then_some(slot)
        };
        slots.iter().enumerate().filter_map(returns).collect()
    }

    /// Whether an image of a volume is split off for a clone only.
    pub(super) fn has_lent(&self, volume: &LvName) -> bool {
        self.snapshots_of(volume).any(|tags| tags.lent.is_some())
    }

    pub(super) fn merge_lent(&mut self, volume: &LvName, engine: &Engine<H>) -> Result<bool> {
        let slots = self.returning(volume);
        if slots.is_empty() {
            return Ok(true);
        }
        for slot in slots {
            self.drive(volume, &mut (), |seen, ()| merge::begin(seen, slot), |_, _, ()| {}).map(drop)?;
        }
        Ok(self.finish_merges(volume, engine)? && self.returning(volume).is_empty())
    }
}

/// Whether this LV records how far a clone is.
pub(super) fn is_record(lv: &LogicalVolume) -> bool {
    VolumeTags::of(lv).record.is_some()
}
