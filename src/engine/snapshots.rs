//! Snapshots and the read-only volumes that show them.

use crate::engine::drive::{Rest, Taken};
use crate::engine::execute::Outcome;
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::report::Class;
use crate::volume::edits::with_image_tags;
use crate::volume::info::{SnapshotInfo, ViewInfo};
use crate::volume::spec::SnapshotSpec;
use crate::volume::step::Step;
use crate::volume::tags::{ImageTags, VolumeTags};
use crate::volume::{key, merge, split};

impl<H: Host> Engine<H> {
    /// Splits an image of a volume off, and keeps its slot. Repeating it gives the same snapshot.
    ///
    /// # Errors
    /// The name is another volume's snapshot (`Exists`), no image can be spared (`Precondition`), a resync did not end
    /// in time (`InProgress`), there is no such volume (`NotFound`).
    pub fn create_snapshot(&self, spec: &SnapshotSpec) -> Result<SnapshotInfo> {
        let _guard = self.guard(&spec.volume)?;
        let volume = &spec.volume;
        self.wait(&format!("snapshot {:?} of volume {volume}", spec.name), |session| {
            session.refuse_foreign_name(spec)?;
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            let wanted = split::Split {
                name: spec.name.clone(),
                now: session.host.now_unix_nanos(),
                min_in_sync: spec.min_in_sync,
                lent: None,
            };
            match session.split(volume, &wanted)? {
                Rest::Waiting(_) => Ok(None),
                Rest::Done => {
                    let seen = session.look_deep(volume)?;
                    let slot = seen.slot_of(&key::of(&spec.name));
                    Ok(slot.and_then(|slot| session.snapshot_info(&seen, slot)))
                }
            }
        })
    }

    /// Merges a snapshot's image back. When this returns the snapshot is gone and the array is copying what is
    /// marked; [`Engine::advance`] sees it through. A snapshot that does not exist is no error.
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
            let Some(slot) = seen.slot_of(&snapshot) else { return Ok(Some(())) };
            session.refuse_read_by_clone(id)?;
            if let [view, ..] = seen.slots[slot].tags.views.as_slice() {
                let message =
                    format!("snapshot {id} is shown by volume {}: delete that first", key::of(view));
                return Err(Error::refused(Class::Precondition, message));
            }
            let rest = session.drive(&volume, &mut (), |seen, ()| merge::begin(seen, slot), |_, _, ()| {})?;
            if matches!(rest, Rest::Waiting(_)) {
                return Ok(None);
            }
            session.finish_merges(&volume, self)?;
            Ok(Some(()))
        })
    }

    /// A read-only volume that shows a snapshot's image: no copy. Repeating it gives the same view.
    ///
    /// # Errors
    /// No such snapshot (`NotFound`), it is not ready (`Precondition`), the name is taken (`Exists`).
    pub fn create_view(&self, name: &str, snapshot: &str) -> Result<ViewInfo> {
        let missing = || Error::refused(Class::NotFound, format!("there is no snapshot {snapshot}"));
        let (volume, snapshot_key) = key::parse_snapshot_id(snapshot).ok_or_else(missing)?;
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
                return Err(missing());
            }
            let seen = session.look(&volume)?;
            let slot = seen.slot_of(&snapshot_key).ok_or_else(missing)?;
            if seen.slots[slot].tags.snapshot.is_some() && seen.slots[slot].tags.events.is_none() {
                let message = format!("snapshot {snapshot} is not ready yet");
                return Err(Error::refused(Class::Precondition, message));
            }
            let next =
                with_image_tags(session.group.vg(), &seen, slot, |tags| tags.views.push(name.to_owned()));
            session.group.commit(session.host, next, &format!("view {name:?} of {snapshot}"))?;
            let views = session.views()?;
            views.into_iter().find(|view| view.name == name).ok_or_else(missing)
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

    /// A split that was begun and not pinned is seen through, whoever asked for it.
    pub(super) fn finish_split(&mut self, volume: &LvName) -> Result<()> {
        let Some(name) = self.unpinned_split(volume) else { return Ok(()) };
        // Its image is chosen and its instant noted already.
        self.split(volume, &split::Split { name, now: 0, min_in_sync: 1, lent: None }).map(drop)
    }

    /// The snapshot whose split was begun and not pinned. Costs nothing: the metadata tells.
    pub(super) fn unpinned_split(&self, volume: &LvName) -> Option<String> {
        let lv = self.group.vg().lv(volume).filter(|lv| VolumeTags::of(lv).pending)?;
        let images = lv.raid1()?.slots.iter().filter_map(|slot| self.group.vg().lv(&slot.image));
        let tags = images.filter(|image| image.is_tracked_image()).map(ImageTags::of);
        tags.filter(|tags| tags.events.is_none()).find_map(|tags| tags.snapshot)
    }

    /// A snapshot's name is taken if another volume has it. Costs nothing: the metadata tells.
    fn refuse_foreign_name(&self, spec: &SnapshotSpec) -> Result<()> {
        for lv in self.group.vg().lvs.iter().filter(|lv| lv.name != spec.volume) {
            let slots = lv.raid1().map(|raid| raid.slots.as_slice()).unwrap_or_default();
            let images = slots.iter().filter_map(|slot| self.group.vg().lv(&slot.image));
            if images
                .filter(|image| image.is_tracked_image())
                .any(|image| ImageTags::of(image).snapshot.as_deref() == Some(spec.name.as_str()))
            {
                let message = format!("snapshot {:?} exists, of volume {}", spec.name, lv.name);
                return Err(Error::refused(Class::Exists, message));
            }
        }
        Ok(())
    }
}
