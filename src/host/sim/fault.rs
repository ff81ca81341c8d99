//! Faults as values: where the machine stops, and how the test learns of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What shall go wrong. Calls are counted from 0, from when the fault is armed; only those that change the machine
/// count, and `pause`, during which it changes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The machine loses power.
    PowerCut {
        /// At this call.
        call: u64,
        /// Where in it.
        at: Cut,
    },
    /// The process dies; the kernel lives on, locks are let go.
    Kill {
        /// At this call.
        call: u64,
        /// The call is done all the same.
        done: bool,
    },
    /// The call fails.
    Errno {
        /// This call.
        call: u64,
        /// With this error.
        errno: i32,
        /// The call is done all the same.
        done: bool,
    },
}

impl Fault {
    pub(super) fn call(self) -> u64 {
        match self {
            Self::PowerCut { call, .. } | Self::Kill { call, .. } | Self::Errno { call, .. } => call,
        }
    }
}

/// Where in a call power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Before it has any effect.
    Before,
    /// When it is done, but nobody learns of it.
    After,
    /// At one of the requests to disks that it makes: those before it are on the disks, those after it are not.
    Inside {
        /// Which request, from 0.
        request: u64,
        /// Of that request, this many sixteenths of its sectors are on the disk.
        sixteenths: u64,
        /// The first sector that is not whole on the disk is half old and half new, where the disk may do that: the
        /// kernel's own single-sector writes are never torn.
        torn: bool,
    },
}

/// What unwinds through the caller when the machine stops under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Power is gone: boot the machine before the next call.
    PowerCut,
    /// The process is dead: start another one.
    Killed,
}

impl Stop {
    /// Unwinds without a word on standard error.
    pub(super) fn unwind(self) -> ! {
        resume_unwind(Box::new(self))
    }
}

/// Runs something on a machine that may stop under it.
///
/// # Errors
/// The machine stopped. Any other panic goes on.
pub fn run<T>(work: impl FnOnce() -> T) -> Result<T, Stop> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload: Box<dyn Any + Send>| {
        match payload.downcast_ref::<Stop>() {
            Some(stop) => *stop,
            None => resume_unwind(payload),
        }
    })
}

/// One call that changed the machine, for the harness to choose cut points from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which call, such as `dm suspend`.
    pub call: &'static str,
    /// On what.
    pub subject: String,
    /// Requests to disks that were made during it.
    pub requests: u64,
}
