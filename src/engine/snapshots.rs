//! Snapshots and the read-only volumes that show them.

use crate::engine::drive::{Rest, Taken};
use crate::engine::execute::Outcome;
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::lvm2::model::LogicalVolume;
use crate::report::Class;
use crate::volume::edits::with_image_tags;
use crate::volume::info::{SnapshotInfo, ViewInfo};
use crate::volume::seen::Seen;
use crate::volume::spec::{SnapshotPolicy, SnapshotSpec};
use crate::volume::step::Step;
use crate::volume::tags::{Grown, ImageTags, VolumeTags};
use crate::volume::{group, key, merge, split};

impl<H: Host> Engine<H> {
    /// Splits an image of a volume off, and keeps its slot. Repeating it gives the same snapshot. By `grow` an image is added first:
    /// when this says that it is in progress, [`Engine::advance`] sees it through.
    ///
    /// # Errors
    /// The name is another volume's snapshot (`Exists`), no image can be spared (`Precondition`), a resync did not end
    /// in time (`InProgress`), there is no such volume (`NotFound`).
    pub fn create_snapshot(&self, spec: &SnapshotSpec) -> Result<SnapshotInfo> {
        if spec.policy == SnapshotPolicy::Grow {
            return self.create_grown(spec);
        }
        let _guard = self.guard(&spec.volume)?;
        let volume = &spec.volume;
        self.wait(&format!("snapshot {:?} of volume {volume}", spec.name), |session| {
            session.refuse_foreign_name(spec)?;
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            session.cut(spec)
        })
    }

    /// Merges a snapshot's image back, or has it leave when it was added for the snapshot. When this returns the snapshot is gone and
    /// the array is copying what is marked; [`Engine::advance`] sees it through. A snapshot that does not exist is no error.
    ///
    /// # Errors
    /// A view shows it or it is mounted (`Precondition`), or the array is resyncing (`InProgress`).
    pub fn delete_snapshot(&self, id: &str) -> Result<()> {
        let Some((volume, snapshot)) = key::parse_snapshot_id(id) else { return Ok(()) };
        let _guard = self.guard(&volume)?;
        self.wait(&format!("deleting snapshot {id}"), |session| {
            if !session.is_volume(&volume) {
                return Ok(Some(()));
            }
            if session.take_up(&volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let seen = session.look(&volume)?;
            let Some(slot) = seen.slot_of(&snapshot) else {
                let growing = session.growing(&volume).find(|of| key::of(&of.snapshot) == snapshot);
                let Some(Grown { snapshot: name, .. }) = growing else { return Ok(Some(())) };
                // Once it is copied it is cut, however few images stay in sync, and goes then.
                let now = session.host.now_unix_nanos();
                session.split(&volume, &split::Split { name, now, min_in_sync: 1, lent: None }).map(drop)?;
                return Ok(None);
            };
            if let Some(of) = &seen.slots[slot].tags.group {
                let message = format!(
                    "snapshot {id} is one of group {}: delete the group, with all its snapshots",
                    key::of(&of.group)
                );
                return Err(Error::refused(Class::Invalid, message));
            }
            session.refuse_read_by_clone(id)?;
            refuse_shown(&seen, slot)?;
            let rest = session.drive(&volume, &mut (), |seen, ()| merge::begin(seen, slot), |_, _, ()| {})?;
            if matches!(rest, Rest::Waiting(_)) {
                return Ok(None);
            }
            session.finish_leaving(&volume).map(drop)?;
            session.finish_merges(&volume, self)?;
            Ok(Some(()))
        })
    }

    /// A read-only volume that shows a snapshot's image: no copy. Repeating it gives the same view.
    ///
    /// # Errors
    /// No such snapshot (`NotFound`), it is not ready (`Precondition`), the name is taken (`Exists`).
    pub fn create_view(&self, name: &str, snapshot: &str) -> Result<ViewInfo> {
        let (volume, snapshot_key) = parse_snapshot_id(snapshot)?;
        let _guard = self.guard(&volume)?;
        self.session(|session| {
            if let Some(view) = session.views()?.into_iter().find(|view| view.id == key::of(name).as_str()) {
                if view.name == name && view.snapshot == snapshot {
                    return Ok(view);
                }
                let message = format!("volume {name:?} exists and shows snapshot {}", view.snapshot);
                return Err(Error::refused(Class::Exists, message));
            }
            if session.group.vg().lv(&key::of(name)).is_some() {
                let message = format!("volume {name:?} exists and is no view of snapshot {snapshot}");
                return Err(Error::refused(Class::Exists, message));
            }
            if !session.is_volume(&volume) {
                return Err(session.no_snapshot(snapshot));
            }
            let seen = session.look(&volume)?;
            let slot = seen.slot_of(&snapshot_key).ok_or_else(|| session.no_snapshot(snapshot))?;
            if seen.slots[slot].tags.snapshot.is_some() && seen.slots[slot].tags.events.is_none() {
                let message = format!("snapshot {snapshot} is not ready yet");
                return Err(Error::refused(Class::Precondition, message));
            }
            let next =
                with_image_tags(session.group.vg(), &seen, slot, |tags| tags.views.push(name.to_owned()));
            session.group.commit(session.host, next, &format!("view {name:?} of {snapshot}"))?;
            let views = session.views()?;
            views.into_iter().find(|view| view.name == name).ok_or_else(|| session.no_snapshot(snapshot))
        })
    }

    /// Forgets a view. One that does not exist is no error; `Ok(false)` then.
    ///
    /// # Errors
    /// The image is in use (`Precondition`).
    pub(super) fn delete_view(&self, id: &str) -> Result<bool> {
        self.session(|session| {
            let Some(view) = session.views()?.into_iter().find(|view| view.id == id) else {
                return Ok(false);
            };
            let (volume, snapshot) = key::parse_snapshot_id(&view.snapshot).expect("made by snapshot_id");
            let seen = session.look(&volume)?;
            let slot = seen.slot_of(&snapshot).expect("the view was found on it");
            let only = seen.slots[slot].tags.views.len() == 1;
            if only && seen.slots[slot].image_dev.as_ref().is_some_and(|dev| dev.info.open_count > 0) {
                let message = format!("volume {id} is in use: unstage it first");
                return Err(Error::refused(Class::Precondition, message));
            }
            let next = with_image_tags(session.group.vg(), &seen, slot, |tags| {
                tags.views.retain(|name| *name != view.name)
            });
            session.group.commit(session.host, next, &format!("drop view {id}"))?;
            Ok(true)
        })
    }
}

impl<H: Host> Session<'_, H> {
    /// Drives the split machine.
    pub(super) fn split(&mut self, volume: &LvName, wanted: &split::Split) -> Result<Rest> {
        let mut memo = split::Memo::default();
        self.drive(
            volume,
            &mut memo,
            |seen, memo| split::next(seen, wanted, memo),
            |step, outcome, memo| {
                if matches!(step, Step::Pin) {
                    memo.pins += 1;
                }
                if let Outcome::Swapped { pause, .. } = outcome {
                    let pin = matches!(step, Step::Pin);
                    tracing::info!(%volume, snapshot = wanted.name, pin, pause_seconds = pause.as_secs_f64(), "split");
                }
            },
        )
    }

    /// Drives a split and tells of it; `None` while it has to wait.
    pub(super) fn cut(&mut self, spec: &SnapshotSpec) -> Result<Option<SnapshotInfo>> {
        let wanted = split::Split {
            name: spec.name.clone(),
            now: self.host.now_unix_nanos(),
            min_in_sync: spec.min_in_sync,
            lent: None,
        };
        match self.split(&spec.volume, &wanted)? {
            Rest::Waiting(_) => Ok(None),
            Rest::Done => {
                let seen = self.look_deep(&spec.volume)?;
                let slot = seen.slot_of(&key::of(&spec.name));
                Ok(slot.and_then(|slot| self.snapshot_info(&seen, slot)))
            }
        }
    }

    /// A split that was begun and not pinned is seen through, whoever asked for it; one of a group is given up.
    pub(super) fn finish_split(&mut self, volume: &LvName) -> Result<()> {
        let Some(tags) = self.unpinned_split(volume) else { return Ok(()) };
        let group_is_lost = group::is_unfinished(&tags);
        let Some(name) = tags.snapshot else { return Ok(()) };
        if group_is_lost {
            return self.give_up(volume, &name);
        }
        // Its image is chosen and its instant noted already.
        self.split(volume, &split::Split { name, now: 0, min_in_sync: 1, lent: None }).map(drop)
    }

    /// The snapshot whose split was begun and not pinned. Costs nothing: the metadata tells.
    pub(super) fn unpinned_split(&self, volume: &LvName) -> Option<ImageTags> {
        self.group.vg().lv(volume).filter(|lv| VolumeTags::of(lv).pending)?;
        let mut tags = self.snapshots_of(volume);
        tags.find(|tags| tags.snapshot.is_some() && tags.events.is_none())
    }

    /// A volume's images. Costs nothing: the metadata tells.
    pub(super) fn images_of(&self, volume: &LvName) -> impl Iterator<Item = &LogicalVolume> {
        let vg = self.group.vg();
        let slots = vg.lv(volume).and_then(|lv| lv.raid1()).map(|raid| raid.slots.as_slice());
        slots.unwrap_or_default().iter().filter_map(|slot| vg.lv(&slot.image))
    }

    /// What the tags of a volume's split images say.
    pub(super) fn snapshots_of(&self, volume: &LvName) -> impl Iterator<Item = ImageTags> {
        self.images_of(volume).filter(|image| image.is_tracked_image()).map(ImageTags::of)
    }

    /// The slot whose image is a snapshot that can be read.
    pub(super) fn readable_slot(&self, seen: &Seen, id: &str, key: &LvName) -> Result<usize> {
        let slot = seen.slot_of(key).ok_or_else(|| self.no_snapshot(id))?;
        let of = &seen.slots[slot];
        if of.present && !of.is_unpinned() {
            return Ok(slot);
        }
        Err(Error::refused(Class::Precondition, format!("snapshot {id} is not ready")))
    }

    /// The error that there is no snapshot of this id, and what has become of it.
    pub(super) fn no_snapshot(&self, id: &str) -> Error {
        let is = |lv: &&LogicalVolume| {
            let tags = VolumeTags::of(lv);
            tags.detached && tags.clone.as_deref() == Some(id)
        };
        match self.group.vg().lvs.iter().find(is) {
            Some(lv) => Error::refused(
                Class::NotFound,
                format!("there is no snapshot {id}: it is volume {} now", lv.name),
            ),
            None => no_snapshot(id),
        }
    }

    /// A snapshot's name is taken if another volume or a group has it.
    pub(super) fn refuse_foreign_name(&self, spec: &SnapshotSpec) -> Result<()> {
        for volume in self.volume_names() {
            if volume != spec.volume && self.growing(&volume).any(|of| of.snapshot == spec.name) {
                let message = format!("snapshot {:?} is being made, of volume {volume}", spec.name);
                return Err(Error::refused(Class::Exists, message));
            }
            let Some(tags) =
                self.snapshots_of(&volume).find(|tags| tags.snapshot.as_ref() == Some(&spec.name))
            else {
                continue;
            };
            if tags.group.is_some() {
                let message =
                    format!("snapshot {:?} of volume {volume} exists, and is one of a group", spec.name);
                return Err(Error::refused(Class::Exists, message));
            }
            if volume != spec.volume {
                let message = format!("snapshot {:?} exists, of volume {volume}", spec.name);
                return Err(Error::refused(Class::Exists, message));
            }
        }
        Ok(())
    }
}

/// The error that there is no snapshot of this id.
fn no_snapshot(id: &str) -> Error {
    Error::refused(Class::NotFound, format!("there is no snapshot {id}"))
}

/// The volume, and the key of the snapshot, of an id.
pub(super) fn parse_snapshot_id(id: &str) -> Result<(LvName, LvName)> {
    key::parse_snapshot_id(id).ok_or_else(|| no_snapshot(id))
}

/// A snapshot that a view shows is not merged.
pub(super) fn refuse_shown(seen: &Seen, slot: usize) -> Result<()> {
    let [view, ..] = seen.slots[slot].tags.views.as_slice() else { return Ok(()) };
    let of = seen.snapshot_key(slot).map(|key| key::snapshot_id(&seen.lv.name, &key));
    let message = format!(
        "snapshot {} is shown by volume {}: delete that first",
        of.unwrap_or_default(),
        key::of(view)
    );
    Err(Error::refused(Class::Precondition, message))
}
