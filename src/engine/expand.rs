//! A volume grows while it is used.
//!
//! New extents are first owned by a reserve LV and zeroed there, so that they are never part of the volume with
//! anything in them that could be read. Then one commit hands them to the images, and the kernel follows: legs first,
//! then the array.

use crate::alloc;
use crate::engine::drive::Taken;
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::lvm2::edit::{self, NewReserve};
use crate::lvm2::model::{LogicalVolume, Run, SegmentKind};
use crate::raid;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::seen::SlotSeen;
use crate::volume::spec::SIZE_MAX;
use crate::volume::split::settled;
use crate::volume::step::Next;
use crate::volume::{clone, tags};

impl<H: Host> Engine<H> {
    /// Grows a volume to at least `size`, in whole extents. A volume that is already so large stays as it is. Returns
    /// its size.
    ///
    /// # Errors
    /// A split is outstanding (`Precondition`), there is no room on its disks (`Exhausted`), whole extents need more
    /// than `limit` (`OutOfRange`).
    pub fn expand_volume(&self, volume: &LvName, size: Bytes, limit: Option<Bytes>) -> Result<Bytes> {
        let _guard = self.guard(volume)?;
        let reserved = self.wait(&format!("expanding volume {volume}"), |session| {
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            session.reserve(volume, size, limit)
        })?;
        if let Some(reserve) = &reserved {
            self.zero_in_turns(reserve)?;
        }
        if let Some(reserve) = &reserved {
            self.session(|session| {
                let by = session.runs_by_slot(volume, reserve)?;
                let next = edit::grow_raid1(session.group.vg(), volume, &reserve.name, &by)?;
                Ok(session.group.commit(session.host, next, &format!("grow volume {volume}"))?)
            })?;
        }
        // The array follows the metadata once it rests.
        self.wait(&format!("expanding volume {volume}"), |session| {
            session.bring_up(volume).map(drop)?;
            let seen = session.look(volume)?;
            let follows = seen.running().is_some_and(|(table, _)| table.len >= seen.len);
            Ok(follows.then(|| seen.len.bytes()))
        })
    }
}

impl<H: Host> Session<'_, H> {
    /// Commits a reserve LV that owns the new extents. The outer `None` means: not now, the array is resyncing; the
    /// inner one: nothing to do.
    fn reserve(
        &mut self,
        volume: &LvName,
        size: Bytes,
        limit: Option<Bytes>,
    ) -> Result<Option<Option<LogicalVolume>>> {
        let extent = self.group.vg().extent_size;
        let seen = self.look(volume)?;
        if let Some(refusal) = clone::refusal(&seen) {
            return Err(Error::Refused(refusal));
        }
        let now = seen.lv.extents();
        if size > SIZE_MAX {
            let message = format!("{size} is more than a volume can have: {SIZE_MAX}");
            return Err(Error::refused(Class::OutOfRange, message));
        }
        let wanted = size.extents_ceil(extent);
        if let Some(limit) = limit.filter(|limit| wanted.max(now).bytes(extent) > *limit) {
            let message = format!(
                "volume {volume} would need {}, more than the limit of {limit}",
                wanted.bytes(extent)
            );
            return Err(Error::refused(Class::OutOfRange, message));
        }
        if wanted <= now {
            return Ok(Some(None));
        }
        if let Some(snapshot) = seen.split_slots().find_map(|slot| seen.snapshot_key(slot)) {
            let message = format!(
                "volume {volume} cannot grow while snapshot {snapshot} of it exists: delete that first"
            );
            return Err(Error::refused(Class::Precondition, message));
        }
        match settled(&seen) {
            Some(Next::Wait(_)) => return Ok(None),
            Some(Next::Refuse(refusal)) => return Err(Error::Refused(refusal)),
            _ => {}
        }
        raid::check_region_size(seen.raid.region_size, wanted.sectors(extent)).map_err(|error| {
            Error::refused(
                Class::OutOfRange,
                format!("volume {volume} cannot grow to {}: {error}", wanted.bytes(extent)),
            )
        })?;
        if !seen.has_room_for_bitmap(wanted.sectors(extent), seen.raid.region_size) {
            let message = format!(
                "volume {volume} cannot grow to {}: its bitmap is too small for that; use larger regions",
                wanted.bytes(extent)
            );
            return Err(Error::refused(Class::OutOfRange, message));
        }
        let name = volume.reserve();
        self.drop_reserve(&name)?;
        let per_slot = alloc::grow(self.group.vg(), volume, wanted - now)?;
        let runs = per_slot.into_iter().flatten().collect();
        self.commit_reserve(&name, runs, &format!("reserve extents for volume {volume}"))?;
        Ok(Some(self.group.vg().lv(&name).cloned()))
    }

    /// Drops what an earlier try has left.
    pub(super) fn drop_reserve(&mut self, name: &LvName) -> Result<()> {
        if self.group.vg().lv(name).is_some_and(tags::is_reserve) {
            let next = edit::remove_lv(self.group.vg(), name)?;
            self.group.commit(self.host, next, &format!("drop {name}"))?;
        }
        Ok(())
    }

    /// Commits an LV that owns extents until they can be used.
    pub(super) fn commit_reserve(&mut self, name: &LvName, runs: Vec<Run>, what: &str) -> Result<()> {
        let new = NewReserve {
            name: name.clone(),
            id: self.new_id(),
            runs,
            tags: vec![tags::reserve()],
            created: self.created(),
        };
        let next = edit::reserve(self.group.vg(), new)?;
        Ok(self.group.commit(self.host, next, what)?)
    }

    /// The reserved extents of each slot: those on the disk that its image lies on.
    fn runs_by_slot(&self, volume: &LvName, reserve: &LogicalVolume) -> Result<Vec<Vec<Run>>> {
        let seen = self.look(volume)?;
        let disk_of = |lv: &LogicalVolume| self.group.pieces_of(lv).first().map(|piece| piece.pv.clone());
        let of_slot = |slot: &SlotSeen| {
            let disk = disk_of(&slot.image);
            let runs = reserve.segments.iter().filter_map(|segment| match &segment.kind {
                SegmentKind::Linear { pv, first } if Some(pv) == disk.as_ref() => {
                    Some(Run { pv: pv.clone(), first: *first, count: segment.count })
                }
                SegmentKind::Linear { .. }
                | SegmentKind::Raid1(_)
                | SegmentKind::Error
                | SegmentKind::Other { .. } => None,
            });
            runs.collect()
        };
        Ok(seen.slots.iter().map(of_slot).collect())
    }
}
