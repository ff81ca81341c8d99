//! Waiting for what a node makes of an object: woken by the watch, never by a clock but that of the deadline.

use std::time::Duration;

use kube::Api;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::controller::cluster::{Cluster, Object};
use crate::controller::entry::Entry;
use crate::controller::shelf::{Known, Shelf};
use crate::csi::backend::Deadline;
use kube::ResourceExt as _;

/// How long before the caller hangs up it is answered.
const MARGIN: Duration = Duration::from_secs(1);

/// How long is waited.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Until then.
    pub until: Instant,
    /// Or until this is cancelled.
    pub stop: CancellationToken,
}

impl Patience {
    /// As long as the caller waits, and at most `limit`.
    #[must_use]
    pub fn new(deadline: Deadline, limit: Duration, stop: CancellationToken) -> Self {
        let now = Instant::now();
        let end = Instant::from_std(deadline.or_at((now + limit).into_std()));
        let left = end.saturating_duration_since(now);
        Self { until: now + left.saturating_sub(MARGIN.min(left / 4)), stop }
    }
}

/// What the waiting came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// This.
    Told(T),
    /// The object is gone.
    Gone,
    /// It took too long.
    Late,
}

/// An object that is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Awaited<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
}

/// Waits until `judge` says what an object has come to.
pub async fn wait<E, T>(
    (shelf, cluster, api): (&Shelf<E>, &Cluster, &Api<E::Object>),
    Awaited { name, uid }: Awaited<'_>,
    patience: &Patience,
    judge: impl Fn(&E) -> Option<T>,
) -> Outcome<T>
where
    E: Entry<Object: Object>,
{
    let mut changes = shelf.changes();
    let mut lists = shelf.lists();
    loop {
        changes.mark_unchanged();
        match shelf.find(name, uid) {
            Known::Here(entry) => {
                if let Some(told) = judge(&entry) {
                    return Outcome::Told(told);
                }
            }
            Known::Gone => return Outcome::Gone,
            // A list was read since the object was seen or made, and it was not in it: it may have come after the list was
            // made, or gone before.
            Known::NotHere if shelf.lists() != lists => {
                lists = shelf.lists();
                let found = cluster.get(api, name, patience.until).await;
                if found.is_ok_and(|object| object.is_none_or(|object| object.uid().as_deref() != Some(uid)))
                {
                    return Outcome::Gone;
                }
            }
            Known::NotHere => {}
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(patience.until) => return Outcome::Late,
            () = patience.stop.cancelled() => return Outcome::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_caller_is_answered_before_it_hangs_up() {
        let left = |deadline, limit| {
            let patience = Patience::new(deadline, limit, CancellationToken::new());
            patience.until.saturating_duration_since(Instant::now()).as_millis().div_ceil(10) * 10
        };
        let seconds = Duration::from_secs;
        assert_eq!(left(Deadline::default(), seconds(110)), 109_000);
        assert_eq!(left(Deadline::after(seconds(10)), seconds(110)), 9_000);
        assert_eq!(left(Deadline::after(seconds(600)), seconds(110)), 109_000);
        assert_eq!(left(Deadline::after(seconds(2)), seconds(110)), 1_500, "little time is not all margin");
        assert_eq!(left(Deadline::after(Duration::ZERO), seconds(110)), 0);
    }
}
