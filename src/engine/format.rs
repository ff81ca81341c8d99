//! Notes that a file system is being made on a volume, so that one that was cut off is made again.

use crate::engine::{Engine, Error, Result};
use crate::host::Host;
use crate::ids::LvName;
use crate::report::Class;
use crate::volume::edits::with_volume_tags;

impl<H: Host> Engine<H> {
    /// Notes that a file system is being made on a volume (`true`), or that it is made and may hold data (`false`).
    ///
    /// A power cut in between leaves something that is neither blank nor a file system. Without the note nobody
    /// could tell it from data; with it, what is there is known to be nobody's.
    ///
    /// # Errors
    /// There is no such volume (`NotFound`), or the note cannot be written.
    pub fn note_format(&self, volume: &LvName, under_way: bool) -> Result<()> {
        let _guard = self.guard(volume)?;
        self.session(|session| {
            if !session.is_volume(volume) {
                return Err(Error::refused(Class::NotFound, format!("there is no volume {volume}")));
            }
            let seen = session.look(volume)?;
            if seen.tags.formatting == under_way {
                return Ok(());
            }
            let next = with_volume_tags(session.group.vg(), &seen, |tags| tags.formatting = under_way);
            let what = if under_way { "is being formatted" } else { "is formatted" };
            session.group.commit(session.host, next, &format!("volume {volume} {what}"))?;
            Ok(())
        })
    }
}
