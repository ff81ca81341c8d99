//! One thing at a time for an object, and how long to wait after it went wrong.

use std::time::Duration;

use tokio::time::Instant;

use crate::report::Class;

/// Why a write to the API server was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such object.
    Gone,
    /// It has changed meanwhile, or another one has its name.
    Conflict,
    /// The API server does not want it.
    Refused,
    /// It did not answer, or not well.
    Passing,
}

/// How long after the first failure, and at most; each failure doubles it.
type Delay = (Duration, Duration);

fn after_work(class: Class) -> Delay {
    match class {
        Class::InProgress => (Duration::from_millis(250), Duration::from_secs(5)),
        Class::Transient | Class::Internal => (Duration::from_secs(1), Duration::from_secs(60)),
        Class::NotFound | Class::Exhausted | Class::Precondition => {
            (Duration::from_secs(5), Duration::from_secs(300))
        }
        Class::Invalid | Class::OutOfRange | Class::Exists | Class::Unimplemented | Class::Corrupt => {
            (Duration::from_secs(300), Duration::from_secs(300))
        }
    }
}

fn after_write(trouble: Trouble) -> Delay {
    match trouble {
        Trouble::Conflict => (Duration::from_millis(200), Duration::from_secs(300)),
        Trouble::Gone => (Duration::from_secs(1), Duration::from_secs(30)),
        Trouble::Passing => (Duration::from_millis(500), Duration::from_secs(30)),
        Trouble::Refused => (Duration::from_secs(60), Duration::from_secs(300)),
    }
}

/// How soon what was refused may be tried again when something has changed that may have been in its way.
const AGAIN: Duration = Duration::from_secs(2);

/// Work on one object, or writes to it.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    busy: bool,
    failures: u32,
    tried: Option<Instant>,
    not_before: Option<Instant>,
}

impl Lane {
    /// Whether something is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether it may begin now; else from when on, when that is known.
    pub fn may_begin(&self, now: Instant) -> Result<(), Option<Instant>> {
        if self.busy {
            return Err(None);
        }
        match self.not_before {
            Some(at) if at > now => Err(Some(at)),
            _ => Ok(()),
        }
    }

    /// It begins.
    pub fn begin(&mut self, now: Instant) {
        self.busy = true;
        self.tried = Some(now);
    }

    /// It ended well.
    pub fn done(&mut self) {
        (self.busy, self.failures, self.not_before) = (false, 0, None);
    }

    /// Work was refused.
    pub fn refused(&mut self, class: Class, now: Instant) {
        self.failed(after_work(class), now);
    }

    /// A write was not done.
    pub fn not_written(&mut self, trouble: Trouble, now: Instant) {
        self.failed(after_write(trouble), now);
    }

    fn failed(&mut self, (first, most): Delay, now: Instant) {
        let delay = first.saturating_mul(1 << self.failures.min(16)).min(most);
        (self.busy, self.failures) = (false, self.failures.saturating_add(1));
        self.not_before = Some(now + delay);
    }

    /// What was asked for has changed: no reason to wait.
    pub fn anew(&mut self) {
        (self.failures, self.not_before) = (0, None);
    }

    /// Something has changed that may have been in the way.
    pub fn hope(&mut self) {
        let soon = self.tried.map(|tried| tried + AGAIN);
        self.not_before = self.not_before.min(soon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_end_with_success_or_a_new_wish() {
        let now = Instant::now();
        let mut lane = Lane::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            lane.begin(now);
            assert_eq!(lane.may_begin(now), Err(None), "it runs");
            lane.refused(Class::Transient, now);
            waits.push(lane.may_begin(now).expect_err("it waits").expect("until then") - now);
        }
        assert_eq!(waits[..3], [1, 2, 4].map(Duration::from_secs));
        assert_eq!(waits[7], Duration::from_secs(60));
        lane.anew();
        assert_eq!(lane.may_begin(now), Ok(()));
        lane.begin(now);
        lane.refused(Class::Invalid, now);
        assert_eq!(lane.may_begin(now + Duration::from_secs(299)), Err(Some(now + Duration::from_secs(300))));
        lane.hope();
        assert_eq!(lane.may_begin(now + AGAIN), Ok(()));
    }
}
