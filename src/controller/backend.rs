//! The controller's answer to CSI: objects are made and changed, nodes carry them out, their answers are waited for.
//!
//! What holds for volumes and snapshots alike is here: making an object, and having one deleted.
//!
//! - The name of an object follows from the CSI name alone, and only one object can have it: of two processes that make
//!   it at once, both find the same one.
//! - An object that was refused before it was made is to be deleted at once: nothing of it is left for the next try, which
//!   may be on another node.
//! - Whatever this process forgets, the object says: a call that is repeated goes on where the last one was cut short.

use std::sync::Arc;
use std::time::Duration;

use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::conditions::Type;
use crate::controller::cache::Cache;
use crate::controller::cluster::{Cluster, Object};
use crate::controller::entry::{Entry, Order};
use crate::controller::gone;
use crate::controller::placement;
use crate::controller::shelf::Shelf;
use crate::controller::snapshots::no_snapshot;
use crate::controller::wait::{Awaited, Outcome, Patience, wait};
use crate::csi::backend::{
    Backend, Capacity, CapacityWish, Deadline, Error, Result, Snapshot, SnapshotWish, ViewWish, Volume,
    VolumeWish,
};
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::tune::Change;

/// How long the API server may take to tell of what the cache does not know.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The backend over custom resources.
pub struct Controller {
    pub(super) cache: Arc<Cache>,
    pub(super) cluster: Cluster,
    /// How long a call waits for a node.
    timeout: Duration,
    stop: CancellationToken,
}

/// An object that is asked for.
pub(super) struct Making<'a, K> {
    /// Of it, for people: `volume pvc-1`.
    pub what: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The object to make when there is none.
    pub plan: &'a (dyn Fn() -> Result<K> + Sync),
}

impl Controller {
    /// Over a cache that is kept, calls waiting for nodes up to `timeout`, or until `stop` is cancelled.
    #[must_use]
    pub fn new(cache: Arc<Cache>, cluster: Cluster, timeout: Duration, stop: CancellationToken) -> Self {
        Self { cache, cluster, timeout, stop }
    }

    /// For a call of this deadline, once all objects are known.
    pub(super) async fn patience(&self, deadline: Deadline) -> Result<Patience> {
        let patience = Patience::new(deadline, self.timeout, self.stop.clone());
        self.all_known(patience.until).await?;
        Ok(patience)
    }

    /// Waits until all objects are known.
    async fn all_known(&self, until: Instant) -> Result<()> {
        let unknown = || {
            let message = "the API server has not told of all objects yet: try again";
            Error::new(Class::InProgress, message)
        };
        tokio::select! {
            biased;
            () = self.cache.listed() => Ok(()),
            () = tokio::time::sleep_until(until) => Err(unknown()),
            () = self.stop.cancelled() => Err(unknown()),
        }
    }

    /// As [`Self::all_known`], for a call that only looks.
    pub(super) async fn look(&self) -> Result<()> {
        self.all_known(Instant::now() + LOOK_MAX).await
    }

    /// What is known of an id. What the cache does not know the API server is asked for: it may have been made a moment
    /// ago, by another process.
    pub(super) async fn known<E>(
        &self,
        shelf: &Shelf<E>,
        api: &Api<E::Object>,
        id: &str,
    ) -> Result<Option<Arc<E>>>
    where
        E: Entry<Object: Object>,
    {
        if let Some(entry) = shelf.get(id) {
            return Ok(Some(entry));
        }
        if !is_object_name(id) {
            return Ok(None);
        }
        let found = self.cluster.get(api, id, Instant::now() + LOOK_MAX).await?;
        Ok(found.map(|object| Arc::new(E::of(&object))))
    }

    /// Makes an object, or finds the one of its name, and waits until it is ready. `same` says whether one that is there is
    /// the one that is asked for.
    pub(super) async fn made<E>(
        &self,
        (shelf, api): (&Shelf<E>, &Api<E::Object>),
        making: Making<'_, E::Object>,
        same: impl Fn(&E) -> Result<()>,
        patience: &Patience,
    ) -> Result<Arc<E>>
    where
        E: Order<Object: Object> + Clone,
    {
        let Making { what, name, plan } = making;
        let on = |entry: &E, doing: &str| {
            let message = format!("{what} is {doing} on node {}: try again", entry.node());
            Error::new(Class::InProgress, message)
        };
        loop {
            let entry = E::of(&self.found_or_made(shelf, api, name, plan, patience).await?);
            let awaited = Awaited { name, uid: entry.uid() };
            let parts = (shelf, &self.cluster, api);
            if entry.doomed() {
                // An earlier one of this name. Its place is free when it is gone.
                match wait(parts, awaited, patience, |_| None::<()>).await {
                    Outcome::Gone => continue,
                    Outcome::Told(()) | Outcome::Late => return Err(on(&entry, "still being removed")),
                }
            }
            if !entry.made()
                && gone::is_gone(&self.cache, &self.cluster, entry.node(), patience.until).await?
            {
                // It will never be made there: then somewhere else.
                self.cluster.change(api, name, &json!({"delete": true}), patience.until).await?;
                continue;
            }
            same(&entry)?;
            let generation = entry.generation();
            let judge = |entry: &E| {
                let over =
                    entry.ready() || entry.doomed() || entry.refused(Type::Ready, generation).is_some();
                over.then(|| entry.clone())
            };
            let entry = match wait(parts, awaited, patience, judge).await {
                Outcome::Told(entry) => entry,
                Outcome::Gone => continue,
                Outcome::Late => return Err(on(&entry, "being made")),
            };
            return match entry.refused(Type::Ready, generation) {
                None if entry.doomed() => Err(on(&entry, "being removed")),
                None => Ok(Arc::new(entry)),
                Some(refusal) => {
                    if !entry.made() && !entry.doomed() {
                        self.cluster.change(api, name, &json!({"delete": true}), patience.until).await?;
                    }
                    Err(refusal)
                }
            };
        }
    }

    /// The object of a name as the API server has it now. An answer to a call that is repeated must not come from an object
    /// that another process has had deleted meanwhile.
    pub(super) async fn found_or_made<E>(
        &self,
        shelf: &Shelf<E>,
        api: &Api<E::Object>,
        name: &str,
        plan: &(dyn Fn() -> Result<E::Object> + Sync),
        patience: &Patience,
    ) -> Result<E::Object>
    where
        E: Entry<Object: Object>,
    {
        if shelf.get(name).is_some()
            && let Some(found) = self.cluster.get(api, name, patience.until).await?
        {
            return Ok(found);
        }
        match plan() {
            Ok(object) => self.cluster.make(api, &object, patience.until).await,
            // There may be one all the same: then it is not for this call to say that it cannot be.
            Err(refusal) => self.cluster.get(api, name, patience.until).await?.ok_or(refusal),
        }
    }

    /// Has what an object is about deleted, and waits until it is gone, or `done`. `free` says why it must not be.
    pub(super) async fn deleted<E>(
        &self,
        (shelf, api): (&Shelf<E>, &Api<E::Object>),
        (what, id): (&str, &str),
        free: impl Fn(&E) -> Result<()>,
        done: impl Fn(&E) -> bool,
        patience: &Patience,
    ) -> Result<()>
    where
        E: Order<Object: Object>,
    {
        let Some(entry) = self.known(shelf, api, id).await? else { return Ok(()) };
        let (uid, generation) = if entry.doomed() {
            (entry.uid().to_owned(), entry.generation())
        } else {
            free(&entry)?;
            let delete = json!({"delete": true});
            match self.cluster.change(api, id, &delete, patience.until).await? {
                Some(object) => (object.uid().unwrap_or_default(), object.meta().generation.unwrap_or(0)),
                None => return Ok(()),
            }
        };
        let judge = |entry: &E| match entry.refused(Type::Deleted, generation) {
            _ if done(entry) => Some(Ok(())),
            refused => refused.map(Err),
        };
        let awaited = Awaited { name: id, uid: &uid };
        match wait((shelf, &self.cluster, api), awaited, patience, judge).await {
            Outcome::Told(told) => told,
            Outcome::Gone => Ok(()),
            Outcome::Late => {
                let message = format!("{what} is being deleted on node {}: try again", entry.node());
                Err(Error::new(Class::InProgress, message))
            }
        }
    }
}

/// Whether an object can have this name: what cannot be one is not asked for, it would be a path of the API server.
fn is_object_name(id: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !id.is_empty() && id.len() <= 253 && id.bytes().all(fine) && !id.starts_with('.')
}

impl Backend for Controller {
    async fn create_volume(&self, wish: &VolumeWish, deadline: Deadline) -> Result<Volume> {
        self.make_volume(wish, &self.patience(deadline).await?).await
    }

    async fn create_view(&self, wish: &ViewWish, deadline: Deadline) -> Result<Volume> {
        self.make_view(wish, &self.patience(deadline).await?).await
    }

    async fn delete_volume(&self, id: &str, deadline: Deadline) -> Result<()> {
        self.drop_volume(id, &self.patience(deadline).await?).await
    }

    async fn get_volume(&self, id: &str) -> Result<Option<Volume>> {
        self.look().await?;
        let known = self.known(&self.cache.volumes, &self.cluster.volumes, id).await?;
        Ok(known.map(|entry| entry.told()))
    }

    async fn list_volumes(&self) -> Result<Vec<Volume>> {
        self.look().await?;
        let made = self.cache.volumes.all().into_iter().filter(|entry| entry.made());
        Ok(made.map(|entry| entry.told()).collect())
    }

    async fn expand_volume(
        &self,
        id: &str,
        min: Bytes,
        limit: Option<Bytes>,
        deadline: Deadline,
    ) -> Result<Bytes> {
        self.grow_volume(id, min, limit, &self.patience(deadline).await?).await
    }

    async fn modify_volume(&self, id: &str, change: &Change, deadline: Deadline) -> Result<()> {
        self.alter_volume(id, change, &self.patience(deadline).await?).await
    }

    async fn create_snapshot(&self, wish: &SnapshotWish, deadline: Deadline) -> Result<Snapshot> {
        self.make_snapshot(wish, &self.patience(deadline).await?).await
    }

    async fn delete_snapshot(&self, id: &str, deadline: Deadline) -> Result<()> {
        self.drop_snapshot(id, &self.patience(deadline).await?).await
    }

    async fn get_snapshot(&self, id: &str) -> Result<Snapshot> {
        self.look().await?;
        self.snapshot(id).await?.told().ok_or_else(|| no_snapshot(id))
    }

    async fn list_snapshots(&self) -> Result<Vec<Snapshot>> {
        self.look().await?;
        Ok(self.cache.snapshots.all().iter().filter_map(|entry| entry.told()).collect())
    }

    async fn capacity(&self, wish: &CapacityWish) -> Result<Capacity> {
        self.look().await?;
        let pools = self.cache.pools.all();
        Ok(placement::capacity(wish, pools.iter().map(|pool| &**pool)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        assert!(is_object_name("pvc-1.a"));
        for bad in ["", "a/b", "A", "..", "a?b", "ü", "volume that does not exist", &"x".repeat(254)] {
            assert!(!is_object_name(bad), "{bad:?}");
        }
    }
}
