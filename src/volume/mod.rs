//! Pure: from what is observed of a volume to the next thing to do with it.
//!
//! There is no stored program counter: each state machine is a function of [`seen::Seen`], and is asked again
//! after every step. What a step leaves no trace of (extents zeroed, a pin run) is a `Memo` of the run; forgetting it
//! only repeats the step.

pub mod bring_up;
pub mod changes;
pub mod clone;
pub mod create;
pub mod detach;
pub mod edits;
pub mod group;
pub mod grow;
pub mod images;
pub mod info;
pub mod key;
pub mod merge;
pub(crate) mod ranges;
pub mod region;
pub mod rollback;
pub mod seen;
pub mod spec;
pub mod split;
pub mod step;
pub mod tables;
pub mod tags;
pub mod tune;
