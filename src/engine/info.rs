//! What is shown of volumes, snapshots and views.

use crate::engine::observe::{from_metadata, observe, read_metas, union_marked};
use crate::engine::snapshots::parse_snapshot_id;
use crate::engine::{Engine, Error, Result, Session, lock};
use crate::host::{DmInfo, Host};
use crate::ids::LvName;
use crate::raid::{Action, Health};
use crate::units::{Bytes, Sectors};
use crate::volume::info::{
    Detached, MemberOf, NameInfo, Progress, RollbackInfo, SlotInfo, SlotState, SnapshotInfo, ViewInfo,
    VolumeInfo,
};
use crate::volume::seen::Seen;
use crate::volume::tags::{ImageTags, VolumeTags};
use crate::volume::{clone, key, ranges, rollback};

impl<H: Host> Engine<H> {
    /// All volumes, in the order of their names.
    ///
    /// # Errors
    /// The group or a disk cannot be read.
    pub fn volumes(&self) -> Result<Vec<VolumeInfo>> {
        self.session(|session| {
            let mut names = session.volume_names();
            names.sort();
            names.iter().map(|name| session.volume_info(name)).collect()
        })
    }

    /// One volume; `None` when there is none of this id.
    ///
    /// # Errors
    /// The group or a disk cannot be read.
    pub fn volume(&self, id: &str) -> Result<Option<VolumeInfo>> {
        let Ok(name) = id.parse::<LvName>() else { return Ok(None) };
        self.session(|session| session.is_volume(&name).then(|| session.volume_info(&name)).transpose())
    }

    /// All snapshots, in the order of their ids.
    ///
    /// # Errors
    /// The group or a disk cannot be read.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let mut snapshots: Vec<_> = self.volumes()?.into_iter().flat_map(|volume| volume.snapshots).collect();
        snapshots.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(snapshots)
    }

    /// One snapshot.
    ///
    /// # Errors
    /// There is none of this id (`NotFound`, which tells the volume that it has become), or the group or a disk cannot be read.
    pub fn snapshot(&self, id: &str) -> Result<SnapshotInfo> {
        let (volume, _) = parse_snapshot_id(id)?;
        self.session(|session| {
            let of = session.is_volume(&volume).then(|| session.volume_info(&volume)).transpose()?;
            let snapshots = of.into_iter().flat_map(|volume| volume.snapshots);
            snapshots.into_iter().find(|snapshot| snapshot.id == id).ok_or_else(|| session.no_snapshot(id))
        })
    }

    /// All views, in the order of their ids.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn views(&self) -> Result<Vec<ViewInfo>> {
        self.session(|session| session.views())
    }

    /// What volumes and views are called. Only metadata is read.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn names(&self) -> Result<Vec<NameInfo>> {
        self.session(|session| {
            let mut names = Vec::new();
            for key in session.volume_names() {
                let Some(lv) = session.group.vg().lv(&key) else { continue };
                for view in session.images_of(&key).flat_map(|image| ImageTags::of(image).views) {
                    names.push(NameInfo { key: key::of(&view), name: Some(view), view: true });
                }
                names.push(NameInfo { name: VolumeTags::of(lv).name, key, view: false });
            }
            Ok(names)
        })
    }
}

impl<H: Host> Session<'_, H> {
    /// What is shown of a volume. One that cannot be used is shown too, with the reason.
    pub(super) fn volume_info(&self, name: &LvName) -> Result<VolumeInfo> {
        let (seen, unusable) = match observe(self.host, self.group, self.settings, name) {
            Ok(seen) => (seen, None),
            Err(Error::Refused(refusal)) => (from_metadata(self.group, name)?, Some(refusal.message)),
            Err(error) => return Err(error),
        };
        let metas = read_metas(self.host, self.group, &seen);
        let (metas, damage) = match metas {
            Ok(metas) => (Some(metas), None),
            Err(error) => (None, Some(crate::report::chain(&error))),
        };
        let seen = Seen { metas, ..seen };
        let mut snapshots: Vec<_> = seen
            .split_slots()
            .filter(|slot| seen.slots[*slot].tags.lent.is_none())
            .filter_map(|slot| self.snapshot_info(&seen, slot))
            .collect();
        snapshots.sort_by_key(|snapshot| (snapshot.cut_unix_nanos, snapshot.slot));
        let status = seen.top.as_ref().and_then(|top| top.status.as_ref());
        let mut problems = unusable.map_or_else(|| problems(&seen), |why| vec![why]);
        problems.extend(damage);
        Ok(VolumeInfo {
            id: name.clone(),
            name: seen.tags.name.clone(),
            pool: self.group.vg().name.clone(),
            size: seen.len.bytes(),
            region_size: seen.raid.region_size.bytes(),
            min_recovery_rate: seen.raid.min_recovery_rate,
            max_recovery_rate: seen.raid.max_recovery_rate,
            device: own(&seen).map(|info| format!("/dev/dm-{}", info.devno.minor)),
            slots: shown_slots(&seen).map(|slot| slot_info(&seen, slot)).collect(),
            sync_percent: status.map_or(0.0, |status| f64::from(status.percent())),
            to_resync: to_resync(&seen),
            snapshots,
            rollback: self.rollback_info(&seen),
            rolled_back_for: seen.tags.rolled_back_for.clone(),
            creating: seen.tags.creating,
            clone_of: seen.tags.clone.clone(),
            detached: seen.tags.detached.then(|| Detached { name: seen.tags.snapshot.clone() }),
            filling: seen.tags.filling.then(|| {
                clone::progress(&seen).unwrap_or(Progress { done: Bytes::ZERO, total: seen.len.bytes() })
            }),
            problems,
        })
    }

    /// How far its rollback is.
    fn rollback_info(&self, seen: &Seen) -> Option<RollbackInfo> {
        let key = seen.tags.rollback.as_ref()?;
        let memo = lock(self.rollbacks).get(&seen.lv.name).cloned().unwrap_or_default();
        let Progress { done, total } = rollback::progress(seen, &memo).unwrap_or_default();
        Some(RollbackInfo {
            snapshot: key::snapshot_id(&seen.lv.name, &key.parse().ok()?),
            request: seen.tags.rollback_for.clone(),
            copied: done,
            total,
        })
    }

    /// What is shown of the snapshot in a slot.
    pub(super) fn snapshot_info(&self, seen: &Seen, slot: usize) -> Option<SnapshotInfo> {
        let key = seen.snapshot_key(slot)?;
        let of = &seen.slots[slot];
        let unknown = || "another tool split it".to_owned();
        let full = of.tags.full.clone().or_else(|| of.tags.snapshot.is_none().then(unknown));
        Some(SnapshotInfo {
            id: key::snapshot_id(&seen.lv.name, &key),
            name: of.tags.snapshot.clone(),
            volume: seen.lv.name.clone(),
            slot,
            cut_unix_nanos: of.tags.cut,
            size: seen.len.bytes(),
            min_in_sync: of.tags.min_in_sync.unwrap_or(1),
            ready: of.tags.events.is_some() || of.tags.snapshot.is_none(),
            changed: marked(seen),
            full_merge: full,
            group: of
                .tags
                .group
                .as_ref()
                .map(|of| MemberOf { id: key::of(&of.group).to_string(), members: of.members }),
            views: of.tags.views.iter().map(|name| key::of(name).to_string()).collect(),
            device: of.image_dev.as_ref().map(|dev| format!("/dev/dm-{}", dev.info.devno.minor)),
        })
    }

    /// All views. Costs nothing: the metadata tells, but for the device.
    pub(super) fn views(&self) -> Result<Vec<ViewInfo>> {
        let mut views = Vec::new();
        for name in self.volume_names() {
            if self.images_of(&name).all(|image| ImageTags::of(image).views.is_empty()) {
                continue;
            }
            // A volume that cannot be used keeps nobody from the others.
            let seen = match self.look(&name) {
                Err(Error::Refused(_)) => from_metadata(self.group, &name)?,
                seen => seen?,
            };
            for slot in seen.split_slots() {
                let of = &seen.slots[slot];
                let Some(snapshot) = seen.snapshot_key(slot) else { continue };
                views.extend(of.tags.views.iter().map(|view| ViewInfo {
                    id: key::of(view).to_string(),
                    name: view.clone(),
                    snapshot: key::snapshot_id(&name, &snapshot),
                    size: seen.len.bytes(),
                    device: of.image_dev.as_ref().map(|dev| format!("/dev/dm-{}", dev.info.devno.minor)),
                }));
            }
        }
        views.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(views)
    }
}

/// The device that is the volume's own.
fn own(seen: &Seen) -> Option<&DmInfo> {
    let above = seen.upper.as_ref().and_then(|upper| upper.own.as_ref()).map(|own| &own.info);
    above.or(seen.top.as_ref().filter(|_| !seen.layered).map(|top| &top.info))
}

/// Slots of images that do not leave.
fn shown_slots(seen: &Seen) -> impl Iterator<Item = usize> + '_ {
    (0..seen.slots.len()).filter(|slot| !seen.slots[*slot].is_leaving())
}

fn slot_info(seen: &Seen, slot: usize) -> SlotInfo {
    let of = &seen.slots[slot];
    let health =
        seen.top.as_ref().and_then(|top| top.status.as_ref()).and_then(|status| status.health.get(slot));
    let state = match health {
        _ if of.is_split() && of.present => SlotState::Split,
        _ if !of.present => SlotState::Missing,
        None => SlotState::Inactive,
        Some(Health::Dead) => SlotState::Failed,
        Some(Health::InSync) if !of.tags.merging => SlotState::InSync,
        Some(_) if of.is_rebuild() => SlotState::Rebuilding,
        Some(_) if of.tags.merging => SlotState::Merging,
        Some(Health::Empty) => SlotState::Missing,
        Some(_) => SlotState::Rebuilding,
    };
    SlotInfo {
        index: slot,
        state,
        device: of.device.clone(),
        write_mostly: of.is_write_mostly(),
        rotational: of.rotational,
        grown: of.tags.grown.as_deref().map(|grown| key::snapshot_id(&seen.lv.name, &key::of(grown))),
        snapshot: seen.snapshot_key(slot).map(|key| key::snapshot_id(&seen.lv.name, &key)),
        lent: of.tags.lent.clone().filter(|_| of.is_split()),
        lost: of.is_lost(),
    }
}

/// What is marked on the disks of the attached images.
fn marked_ranges(seen: &Seen) -> Vec<std::ops::Range<Bytes>> {
    let Some(metas) = &seen.metas else { return Vec::new() };
    let attached = seen.attached_slots().filter(|slot| !seen.slots[*slot].tags.merging);
    union_marked(attached.filter_map(|slot| metas[slot].as_ref()))
}

fn marked(seen: &Seen) -> Bytes {
    ranges::sum(&marked_ranges(seen))
}

/// What the resync that runs has still to copy: of a merge by marks the marked regions beyond its position (the disk
/// lags behind in clearing marks), of any other all that is beyond it.
fn to_resync(seen: &Seen) -> Bytes {
    let Some((table, status)) = seen.running() else { return Bytes::ZERO };
    if !matches!(status.action, Action::Recover | Action::Resync) {
        return Bytes::ZERO;
    }
    let rest = |done: Sectors| status.total.checked_sub(done).unwrap_or_default().bytes();
    let by_marks = status.action == Action::Recover && table.rebuild.is_empty();
    if !by_marks {
        return rest(status.done);
    }
    let done = status.done.bytes();
    marked_ranges(seen)
        .iter()
        .filter(|range| range.end > done)
        .map(|range| range.end - range.start.max(done))
        .sum()
}

fn problems(seen: &Seen) -> Vec<String> {
    let mut problems = Vec::new();
    if seen.tags.creating {
        problems.push("it is still being created".to_owned());
    }
    problems.extend(rollback::refusal(seen).map(|refusal| refusal.message));
    match own(seen) {
        None => problems.push("it is not active".to_owned()),
        Some(info) if info.suspended => problems.push("I/O to it is held back".to_owned()),
        Some(_) => {}
    }
    for slot in shown_slots(seen) {
        let info = slot_info(seen, slot);
        match info.state {
            SlotState::Missing if seen.slots[slot].is_lost() => {
                problems.push(format!("slot {slot} has no image: it gets one when a disk has room"));
            }
            SlotState::Missing => problems.push(format!("image {slot} is missing ({})", info.device)),
            SlotState::Failed => problems.push(format!("image {slot} on {} has failed", info.device)),
            SlotState::InSync
            | SlotState::Split
            | SlotState::Merging
            | SlotState::Rebuilding
            | SlotState::Inactive => {}
        }
    }
    if seen.images() > 1 && seen.attached_slots().count() < 2 {
        problems.push("only one image is attached: what is written now has no redundancy".to_owned());
    }
    problems
}
