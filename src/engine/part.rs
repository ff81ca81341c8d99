//! Several images of a volume become a volume of their own.

use crate::engine::detach::{check_size, detached_key};
use crate::engine::drive::{Rest, Taken};
use crate::engine::{Engine, Error, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::lvm2::edit::DetachedLv;
use crate::report::Class;
use crate::volume::info::VolumeInfo;
use crate::volume::spec::VolumeSpec;
use crate::volume::step::Edit;
use crate::volume::tags::ImageTags;
use crate::volume::tune::Change;
use crate::volume::{edits, images, key};

impl<H: Host> Engine<H> {
    /// Makes a volume of the last images of another, as many as are wished for: they leave at one instant, and nothing is copied.
    /// The volume that they leave has so many fewer from then on. Repeating it gives the same volume.
    ///
    /// Size and regions are those of the volume that they leave, whatever regions are wished for.
    ///
    /// # Errors
    /// No such volume (`NotFound`), the name is taken (`Exists`), fewer than two images would stay or go, or a snapshot is in
    /// the way (`Precondition`, `Invalid`), the size does not fit (`OutOfRange`), the array is resyncing (`InProgress`).
    pub fn detach_images(&self, spec: &VolumeSpec, volume: &LvName) -> Result<VolumeInfo> {
        let new = detached_key(spec, volume)?;
        let of = format!("{} images of volume {volume}", spec.images);
        let _guards = (self.guard(&new)?, self.guard(volume)?);
        self.wait(&format!("making a volume of {of}"), |session| {
            session.refuse_view_named(&new, &spec.name)?;
            if let Some(lv) = session.group.vg().lv(&new) {
                return session.check_detached(lv, spec, volume.as_str()).map(Some);
            }
            if !session.is_volume(volume) {
                return Err(Error::refused(Class::NotFound, format!("there is no volume {volume}")));
            }
            if session.take_up(volume, self)? == Taken::NotUp {
                return Ok(None);
            }
            // What was begun earlier may have ended just now.
            if let Some(lv) = session.group.vg().lv(&new) {
                return session.check_detached(lv, spec, volume.as_str()).map(Some);
            }
            check_size(&session.look(volume)?, spec, &of)?;
            let rest = session.drive(
                volume,
                &mut (),
                |seen, ()| images::part(seen, spec.images, &spec.name),
                |_, _, ()| {},
            )?;
            if matches!(rest, Rest::Done) {
                session.finish_leaving(volume).map(drop)?;
            }
            Ok(session.group.vg().lv(&new).map(drop))
        })?;
        self.session(|session| session.take_up(&new, self).map(drop))?;
        let rates = Change {
            min_recovery_rate: spec.min_recovery_rate,
            max_recovery_rate: spec.max_recovery_rate,
            ..Change::default()
        };
        self.session(|session| {
            session.tune(&new, &rates)?;
            session.volume_info(&new)
        })
    }
}

impl<H: Host> Session<'_, H> {
    /// Commits images that have left together, and become a volume, as that volume. When its name is taken meanwhile, they
    /// become free: whoever asked for it is told so.
    pub(super) fn part(&mut self, volume: &LvName) -> Result<()> {
        let Some(name) = self.images_of(volume).find_map(|image| ImageTags::of(image).becomes) else {
            return Ok(());
        };
        let (new, seen) = (key::of(&name), self.look(volume)?);
        let is_taken =
            self.group.vg().lv(&new).is_some() || self.views()?.iter().any(|view| view.id == new.as_str());
        let next = if is_taken {
            tracing::warn!(%volume, %new, "the images that were to become a volume are free: its name is taken");
            edits::apply(self.group.vg(), &seen, &Edit::Left)?
        } else {
            let lv = DetachedLv {
                name: new.clone(),
                id: self.new_id(),
                tags: Vec::new(),
                flags: Vec::new(),
                created: self.created(),
            };
            edits::part(self.group.vg(), &seen, &name, lv)?
        };
        self.group.commit(self.host, next, &format!("volume {new} of images of volume {volume}"))?;
        Ok(())
    }
}
