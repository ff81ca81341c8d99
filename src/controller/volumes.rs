//! Volumes and views as objects.

use kube::ResourceExt as _;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::api::conditions::Type;
use crate::api::volume::{Source, WriteMostly};
use crate::api::{MirrorVolume, MirrorVolumeSpec, Reference, Size, names};
use crate::controller::backend::{Controller, Making};
use crate::controller::clones::Original;
use crate::controller::entry::{Entry as _, Order as _, SnapshotEntry, VolumeEntry, VolumeKind};
use crate::controller::placement::{self, Need};
use crate::controller::snapshots::no_snapshot;
use crate::controller::wait::{Awaited, Outcome, Patience, wait};
use crate::csi::backend::{Error, ObjectRef, Result, ViewWish, Volume, VolumeWish};
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::key;
use crate::volume::tune::{self, Change};

impl Controller {
    /// Places a volume, and has it made; a clone where its source is.
    pub(super) async fn make_volume(&self, wish: &VolumeWish, patience: &Patience) -> Result<Volume> {
        let (name, what) = (names::of(&wish.spec.name), format!("volume {:?}", wish.spec.name));
        let original = match &wish.origin {
            Some(origin) => Some(self.original(origin).await),
            None => None,
        };
        let plan = || {
            let place = original.as_ref().map(|original| original.check(wish)).transpose()?;
            let image = place.and_then(|place| place.image.as_ref());
            let (node, pool) = match place {
                // What it needs beside its image only its node can tell.
                Some(place) if image.is_some() => (place.node.clone(), place.pool.clone()),
                place => {
                    let pools = self.cache.pools.all();
                    let near = pools.iter().filter(|pool| place.is_none_or(|place| place.is_in(pool)));
                    let need = Need {
                        images: wish.spec.images,
                        size: wish.spec.size,
                        pool: wish.pool.as_ref(),
                        nodes: &wish.nodes,
                    };
                    let pool = placement::place(&need, near.map(|pool| &**pool))?;
                    (pool.node.clone(), pool.pool.clone())
                }
            };
            let size = image.map_or(wish.spec.size, |image| image.size);
            let region_size = image.map_or(wish.spec.region_size, |image| image.region_size);
            let images = u8::try_from(wish.spec.images)
                .map_err(|_| Error::invalid(format!("{} images are too many", wish.spec.images)))?;
            let spec = MirrorVolumeSpec {
                lv: Some(key::of(&wish.spec.name)),
                limit: wish.spec.limit.map(Size),
                images: Some(images),
                region_size: Some(Size(region_size)),
                min_recovery_rate: wish.spec.min_recovery_rate,
                max_recovery_rate: wish.spec.max_recovery_rate,
                source: original.as_ref().map(|original| original.source.clone()),
                ..common(node, pool, &wish.spec.name, size, &wish.claim)
            };
            Ok(MirrorVolume::new(&name, spec))
        };
        let same = |entry: &VolumeEntry| {
            check_same(entry, wish, original.as_ref())?;
            wish.nodes.check(&entry.node)
        };
        let making = Making { what: &what, name: &name, plan: &plan };
        let made = self.made((&self.cache.volumes, &self.cluster.volumes), making, same, patience).await?;
        // Now it is known how large it is.
        check_size(&made, wish)?;
        Ok(made.told())
    }

    /// Has a view made, where its snapshot is.
    pub(super) async fn make_view(&self, wish: &ViewWish, patience: &Patience) -> Result<Volume> {
        let (name, what) = (names::of(&wish.name), format!("volume {:?}", wish.name));
        let missing = || no_snapshot(&wish.snapshot);
        let snapshot = self.snapshot(&wish.snapshot).await?;
        let plan = || {
            let size = snapshot.told().filter(|_| !snapshot.delete).ok_or_else(missing)?.size;
            check_shows(&snapshot, wish)?;
            self.check_not_needed(&[Source::Detached(wish.snapshot.clone())])?;
            let source = Some(Source::Snapshot(wish.snapshot.clone()));
            let spec = MirrorVolumeSpec {
                source,
                ..common(snapshot.node.clone(), snapshot.pool.clone(), &wish.name, size, &wish.claim)
            };
            Ok(MirrorVolume::new(&name, spec))
        };
        let same = |entry: &VolumeEntry| {
            let fits = entry.name.as_deref() == Some(wish.name.as_str()) && entry.shows(&wish.snapshot);
            if !fits {
                let message = format!("{what} exists and is no view of snapshot {}", wish.snapshot);
                return Err(Error::new(Class::Exists, message));
            }
            wish.nodes.check(&entry.node)
        };
        let making = Making { what: &what, name: &name, plan: &plan };
        let made = self.made((&self.cache.volumes, &self.cluster.volumes), making, same, patience).await?;
        Ok(made.told())
    }

    /// Has a volume or view deleted.
    pub(super) async fn drop_volume(&self, id: &str, patience: &Patience) -> Result<()> {
        let free = |entry: &VolumeEntry| {
            if entry.staged {
                let message = format!("volume {id} is in use on node {}: unmount it first", entry.node);
                return Err(Error::precondition(message));
            }
            self.check_not_needed(&[Source::Volume(id.to_owned()), Source::Images(id.to_owned())])?;
            let of_it = |snapshot: &SnapshotEntry| {
                snapshot.volume == id && !snapshot.delete && snapshot.detached_to.is_none()
            };
            match self.cache.snapshots.first(of_it) {
                None => Ok(()),
                Some(snapshot) => {
                    let message = format!("volume {id} has snapshot {}: delete that first", snapshot.id);
                    Err(Error::precondition(message))
                }
            }
        };
        let what = format!("volume {id}");
        let parts = (&self.cache.volumes, &self.cluster.volumes);
        self.deleted(parts, (&what, id), free, |_| false, patience).await
    }

    /// Has a volume grown. What is asked for last counts: a size that was asked for and refused is no more wanted then.
    pub(super) async fn grow_volume(
        &self,
        id: &str,
        min: Bytes,
        limit: Option<Bytes>,
        patience: &Patience,
    ) -> Result<Bytes> {
        let (volumes, api) = (&self.cache.volumes, &self.cluster.volumes);
        let missing = || Error::not_found(format!("there is no volume {id:?}"));
        let entry = self.known(volumes, api, id).await?.filter(|entry| !entry.delete).ok_or_else(missing)?;
        if let Some(size) = entry.size.filter(|size| *size >= min) {
            return match limit {
                Some(limit) if size > limit => {
                    let message = format!("volume {id} has {size}, more than the limit of {limit}");
                    Err(Error::new(Class::OutOfRange, message))
                }
                _ => Ok(size),
            };
        }
        entry.check_filled()?;
        let (uid, generation) = if entry.wanted == min && limit.is_none() {
            (entry.uid().to_owned(), entry.generation())
        } else {
            let spec = json!({"size": Size(min), "limit": limit.map(Size)});
            let object = self.cluster.change(api, id, &spec, patience.until).await?.ok_or_else(missing)?;
            let entry = VolumeEntry::of(&object);
            (entry.uid().to_owned(), entry.generation())
        };
        let judge = |entry: &VolumeEntry| match entry.size.filter(|size| *size >= min) {
            Some(size) => Some(Ok(size)),
            // RESOURCE_EXHAUSTED would be taken for a call that may still run: a claim could not be made smaller again.
            None => {
                entry.refused(Type::Resized, generation).map(|why| Err(no_room_as(Class::OutOfRange, why)))
            }
        };
        let awaited = Awaited { name: id, uid: &uid };
        match wait((volumes, &self.cluster, api), awaited, patience, judge).await {
            Outcome::Told(told) => told,
            Outcome::Gone => Err(missing()),
            Outcome::Late => {
                let message = format!("volume {id} is growing on node {}: try again", entry.node);
                Err(Error::new(Class::InProgress, message))
            }
        }
    }

    /// Has a volume changed. What is asked for last counts.
    pub(super) async fn alter_volume(&self, id: &str, change: &Change, patience: &Patience) -> Result<()> {
        let (volumes, api) = (&self.cache.volumes, &self.cluster.volumes);
        let missing = || Error::not_found(format!("there is no volume {id:?}"));
        let entry = self.known(volumes, api, id).await?.filter(|entry| !entry.delete).ok_or_else(missing)?;
        entry.check_filled()?;
        let wanted = altered(change)?;
        let before = self.cluster.get(api, id, patience.until).await?.ok_or_else(missing)?;
        let object =
            self.cluster.change(api, id, &json!(wanted), patience.until).await?.ok_or_else(missing)?;
        let changed = VolumeEntry::of(&object);
        let (uid, generation) = (changed.uid().to_owned(), changed.generation());
        let judge = |entry: &VolumeEntry| match entry.settled {
            Some(settled) if settled >= generation => Some(Ok(())),
            _ => {
                let why =
                    [Type::Modified, Type::Ready].iter().find_map(|of| entry.refused(*of, generation))?;
                // As above: no other class would be taken any more.
                Some(Err(no_room_as(Class::Precondition, why)))
            }
        };
        let awaited = Awaited { name: id, uid: &uid };
        match wait((volumes, &self.cluster, api), awaited, patience, judge).await {
            Outcome::Told(Ok(())) => Ok(()),
            Outcome::Told(Err(refusal)) => {
                if let Err(error) = self.take_back(&before, generation, &wanted, patience.until).await {
                    tracing::warn!(volume = id, "what was refused is still asked for: {error}");
                }
                Err(refusal)
            }
            Outcome::Gone => Err(missing()),
            Outcome::Late => {
                let message = format!("volume {id} is being changed on node {}: try again", entry.node);
                Err(Error::new(Class::InProgress, message))
            }
        }
    }

    /// Asks again for what a volume was asked for before some fields got values that are refused: they would be in the way of
    /// the next change, and be made some day when nobody wants them any more. Not if others have changed it since.
    async fn take_back(
        &self,
        before: &MirrorVolume,
        generation: i64,
        fields: &Map<String, Value>,
        until: Instant,
    ) -> Result<()> {
        let api = &self.cluster.volumes;
        let was = json!(before.spec);
        let spec: Map<_, _> = fields.keys().map(|field| (field.clone(), was[field].clone())).collect();
        loop {
            let now = self.cluster.get(api, &before.name_any(), until).await?;
            let Some(now) = now.filter(|now| now.metadata.generation == Some(generation)) else {
                return Ok(());
            };
            match self.cluster.change_this(api, &now, &json!(spec), until).await {
                // Its status was told meanwhile.
                Err(error) if error.class == Class::InProgress && Instant::now() < until => {}
                done => return done,
            }
        }
    }
}

/// Lack of room as a refusal of another class, whichever upstream's sidecar takes for final.
fn no_room_as(class: Class, error: Error) -> Error {
    if error.class == Class::Exhausted { Error { class, ..error } } else { error }
}

/// The fields of a spec that a change gives other values.
fn altered(change: &Change) -> Result<Map<String, Value>> {
    let rate = |rate: u64| (rate > 0).then_some(rate);
    let mut spec = Map::new();
    if let Some(images) = change.images {
        spec.insert("images".to_owned(), json!(images));
    }
    if let Some(min) = change.min_recovery_rate {
        spec.insert("minRecoveryRate".to_owned(), json!(rate(min)));
    }
    if let Some(max) = change.max_recovery_rate {
        spec.insert("maxRecoveryRate".to_owned(), json!(rate(max)));
    }
    if let Some(size) = change.region_size {
        spec.insert("regionSize".to_owned(), json!(Size(size)));
    }
    match &change.write_mostly {
        None => {}
        Some(tune::WriteMostly::None) => {
            spec.insert("writeMostly".to_owned(), json!(WriteMostly::None));
        }
        Some(tune::WriteMostly::Rotational) => {
            spec.insert("writeMostly".to_owned(), json!(WriteMostly::Rotational));
        }
        Some(tune::WriteMostly::Slots(_)) => {
            return Err(Error::invalid("which images reads avoid is told by the kind of their disks only"));
        }
    }
    Ok(spec)
}

/// What the specs of volumes and views have in common.
fn common(
    node: String,
    pool: crate::ids::VgName,
    name: &str,
    size: Bytes,
    claim: &Option<ObjectRef>,
) -> MirrorVolumeSpec {
    MirrorVolumeSpec {
        rollback: None,
        node,
        pool,
        lv: None,
        name: Some(name.to_owned()),
        size: Size(size),
        limit: None,
        images: None,
        region_size: None,
        min_recovery_rate: None,
        max_recovery_rate: None,
        write_mostly: None,
        source: None,
        claim: claim.as_ref().map(reference),
        delete: false,
    }
}

pub(super) fn reference(to: &ObjectRef) -> Reference {
    Reference { namespace: to.namespace.clone(), name: to.name.clone() }
}

/// Whether a snapshot can be shown as is wished.
fn check_shows(snapshot: &SnapshotEntry, wish: &ViewWish) -> Result<()> {
    if !snapshot.ready {
        return Err(Error::precondition(format!("snapshot {} is not ready yet", snapshot.id)));
    }
    if let Some(pool) = wish.pool.as_ref().filter(|pool| **pool != snapshot.pool) {
        let message = format!("snapshot {} is in pool {}, not {pool}", snapshot.id, snapshot.pool);
        return Err(Error::invalid(message));
    }
    wish.nodes.check(&snapshot.node)
}

/// Whether a volume is the one that is wished for.
fn check_same(entry: &VolumeEntry, wish: &VolumeWish, original: Option<&Original>) -> Result<()> {
    let spec = &wish.spec;
    let source = original.map(|original| &original.source);
    let region_size = match (&entry.kind, source) {
        // As its images had them, whatever is wished for.
        (VolumeKind::Mirror { region_size, .. }, Some(Source::Detached(_) | Source::Images(_))) => {
            *region_size
        }
        _ => spec.region_size,
    };
    let kind = VolumeKind::Mirror {
        images: spec.images,
        region_size,
        min_recovery_rate: spec.min_recovery_rate,
        max_recovery_rate: spec.max_recovery_rate,
    };
    if entry.name.as_deref() != Some(spec.name.as_str()) {
        return Err(differs(wish, "was made for something else"));
    }
    if entry.kind != kind {
        return Err(differs(wish, "has other images, regions or recovery rates, or is a view"));
    }
    if entry.source.as_deref() != source {
        return Err(differs(wish, "was not made from this source"));
    }
    if wish.pool.as_ref().is_some_and(|pool| *pool != entry.pool) {
        return Err(differs(wish, &format!("is in pool {}", entry.pool)));
    }
    check_size(entry, wish)
}

fn check_size(entry: &VolumeEntry, wish: &VolumeWish) -> Result<()> {
    let size = entry.told().size;
    if size < wish.spec.size || wish.spec.limit.is_some_and(|limit| size > limit) {
        return Err(differs(wish, &format!("has {size}")));
    }
    Ok(())
}

fn differs(wish: &VolumeWish, what: &str) -> Error {
    Error::new(Class::Exists, format!("volume {:?} exists and {what}", wish.spec.name))
}
