//! A new volume, from its extents in the metadata to an array that runs.
//!
//! Every extent is zeroed on every disk before the array first runs, so all images are equal from the start, no
//! first sync is needed (`nosync` is the plain truth), and nothing of an earlier volume can be read.

use crate::report::Class;
use crate::volume::bring_up::attached_devices;
use crate::volume::seen::Seen;
use crate::volume::step::{Edit, Next, Refusal, Step};
use crate::volume::tables;

/// What was done in this run and leaves no trace to observe.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    /// The superblocks were flushed.
    pub pinned: bool,
}

/// What next, to get the volume ready. Its LVs are in the metadata and all their extents are
/// zeroed.
#[must_use]
pub fn next(seen: &Seen, memo: &Memo) -> Next {
    if !seen.tags.creating {
        return Next::Done;
    }
    for slot in 0..seen.slots.len() {
        if let Some(next) = attached_devices(seen, slot) {
            return next;
        }
    }
    if seen.top.is_none() {
        return match tables::wanted(seen) {
            Some(table) => Next::Do(Step::MakeTop(crate::raid::RaidTable { nosync: true, ..table })),
            None => {
                Refusal::because(Class::Internal, format!("volume {}: a leg has no device", seen.lv.name))
            }
        };
    }
    if !memo.pinned {
        return Next::Do(Step::Pin);
    }
    Next::Do(Step::Commit(Edit::Created))
}
