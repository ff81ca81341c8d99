//! What is to be done: a value that takes in what happens, and says what to do next. It does nothing itself.
//!
//! ```text
//! watch, looks, ends of jobs ─► take(input) ─► plan(now) ─► jobs ─► the agent does them ─┐
//!        ▲                                                                               │
//!        └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - At most one piece of work and one write at a time for each object, and one piece of work for each LV.
//! - After work on an LV it is judged by how it is seen after that work, never by an older look.
//! - Nothing is decided about objects before all of them are listed.

pub mod lane;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use tokio::time::Instant;

use crate::api::pool::PoolAgent;
use crate::api::{
    MirrorPool, MirrorPoolStatus, MirrorSnapshot, MirrorSnapshotStatus, MirrorVolume, MirrorVolumeStatus,
};
use crate::ids::{LvName, VgName};
use crate::node::agenda::lane::{Lane, Trouble};
use crate::node::decide::import::Taken;
use crate::node::decide::{PoolState, Refused, Work};
use crate::node::look::{Focus, Glance, PoolSeen, is_moving, update};
use crate::node::pools::Objects;
use crate::node::shelf::Shelf;
use crate::node::tell::Note;
use crate::node::wish::PoolWish;
use crate::report::Class;

/// How often a pool is looked at as a whole.
const ROUND: Duration = Duration::from_secs(60);
/// How soon again, when it could not be read.
const UNREAD: Duration = Duration::from_secs(10);

/// Of what kind an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// MirrorPool.
    Pool,
    /// MirrorVolume.
    Volume,
    /// MirrorSnapshot.
    Snapshot,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Key {
    fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A pool.
    Pool(Box<MirrorPool>),
    /// A volume or view.
    Volume(Box<MirrorVolume>),
    /// A snapshot.
    Snapshot(Box<MirrorSnapshot>),
}

impl Object {
    /// Which it is.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Pool(object) => Key::new(Kind::Pool, object.name_any()),
            Self::Volume(object) => Key::new(Kind::Volume, object.name_any()),
            Self::Snapshot(object) => Key::new(Kind::Snapshot, object.name_any()),
        }
    }

    /// Its node.
    #[must_use]
    pub fn node(&self) -> &str {
        match self {
            Self::Pool(object) => &object.spec.node,
            Self::Volume(object) => &object.spec.node,
            Self::Snapshot(object) => &object.spec.node,
        }
    }
}

/// A status of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Of a pool.
    Pool(Box<MirrorPoolStatus>),
    /// Of a volume or view.
    Volume(Box<MirrorVolumeStatus>),
    /// Of a snapshot.
    Snapshot(Box<MirrorSnapshotStatus>),
}

/// A write to the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The status of the object with this uid.
    Status {
        /// It must still be this one.
        uid: String,
        /// What it should be.
        status: Status,
    },
    /// The object with this uid goes.
    Remove {
        /// It must still be this one.
        uid: String,
    },
    /// What was found on the disks gets an object.
    Create(Object),
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// The object is so now.
    Stored(Object),
    /// The object is gone.
    Removed {
        /// Which it was.
        uid: String,
    },
    /// The name is that of another object.
    Taken(Object),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// Work on the disks, for an object.
    Work {
        /// The object.
        key: Key,
        /// The pool that it is in.
        pool: VgName,
        /// What.
        work: Work,
    },
    /// A look at a pool.
    Look {
        /// Which.
        pool: VgName,
        /// At what.
        focus: Focus,
        /// How it was seen last.
        before: Option<Arc<PoolSeen>>,
    },
    /// A write, and what to tell when it is done.
    Write {
        /// The object.
        key: Key,
        /// What.
        write: Write,
        /// Events.
        notes: Vec<Note>,
    },
    /// What the objects say has changed.
    Objects(Objects),
}

/// What has happened.
#[derive(Debug)]
pub enum Input {
    /// The watch of pools tells something.
    Pools(Event<MirrorPool>),
    /// The watch of volumes tells something.
    Volumes(Event<MirrorVolume>),
    /// The watch of snapshots tells something.
    Snapshots(Event<MirrorSnapshot>),
    /// A look has ended.
    Looked {
        /// At which pool.
        pool: VgName,
        /// At what.
        focus: Focus,
        /// What was seen.
        glance: Result<Glance, Refused>,
    },
    /// Work has ended.
    Worked {
        /// For which object.
        key: Key,
        /// In which pool.
        pool: VgName,
        /// What.
        work: Work,
        /// Why it was not done.
        result: Result<(), Refused>,
        /// How the pool was seen afterwards.
        glance: Option<Glance>,
    },
    /// A write has ended.
    Wrote {
        /// To which object.
        key: Key,
        /// What it came to.
        result: Result<Written, Trouble>,
    },
    /// A merge of this pool has come further.
    Progress(VgName),
    /// Something was mounted or unmounted.
    Mounted,
}

/// What is known of the work on an object.
#[derive(Clone, Debug, Default)]
struct Entry {
    generation: Option<i64>,
    work: Lane,
    write: Lane,
    /// Why the last work was not done.
    refused: Option<Refused>,
    /// What was done last, and should be seen.
    done: Option<Work>,
    /// An image was split off, and that is not told yet.
    split: bool,
    /// When its status was last written.
    written: Option<Instant>,
}

/// Looks at one pool.
#[derive(Clone, Debug, Default)]
struct Looking {
    busy: bool,
    wanted: Focus,
    /// What work has changed since the look that runs began.
    touched: BTreeSet<LvName>,
    next: Option<Instant>,
}

/// What is to be done.
#[derive(Debug)]
pub struct Agenda {
    node: String,
    file: Vec<PoolWish>,
    /// Groups that held volumes of ours when the agent started.
    ours: BTreeSet<VgName>,
    pool_objects: Shelf<MirrorPool>,
    volumes: Shelf<MirrorVolume>,
    snapshots: Shelf<MirrorSnapshot>,
    pools: BTreeMap<VgName, PoolState>,
    looking: BTreeMap<VgName, Looking>,
    entries: BTreeMap<Key, Entry>,
    /// LVs that are worked on.
    busy: BTreeSet<(VgName, LvName)>,
    /// Since when images of a volume are on their way back.
    merging: BTreeMap<(VgName, LvName), Instant>,
    taken: Taken,
    told: Objects,
    /// Where blocks are told, if they are.
    agent: Option<PoolAgent>,
    wake: Option<Instant>,
}

impl Agenda {
    /// Of a node, with the pools of the file, groups that hold volumes of ours, and where blocks are told, if they are.
    #[must_use]
    pub fn new(node: String, file: Vec<PoolWish>, ours: BTreeSet<VgName>, agent: Option<PoolAgent>) -> Self {
        Self {
            node,
            file,
            ours,
            pool_objects: Shelf::default(),
            volumes: Shelf::default(),
            snapshots: Shelf::default(),
            pools: BTreeMap::new(),
            looking: BTreeMap::new(),
            entries: BTreeMap::new(),
            busy: BTreeSet::new(),
            merging: BTreeMap::new(),
            taken: Taken::default(),
            told: Objects::default(),
            agent,
            wake: None,
        }
    }

    /// When to plan again although nothing happens.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Takes in what has happened.
    pub fn take(&mut self, input: Input, now: Instant) {
        match input {
            Input::Pools(event) => self.pool_objects.watched(event),
            Input::Volumes(event) => self.volumes.watched(event),
            Input::Snapshots(event) => self.snapshots.watched(event),
            Input::Looked { pool, focus, glance } => self.looked(&pool, focus, glance, now),
            Input::Worked { key, pool, work, result, glance } => {
                self.worked(key, &pool, work, result, glance, now);
            }
            Input::Wrote { key, result } => self.wrote(key, result, now),
            Input::Progress(pool) => {
                let moving = self.pools.get(&pool).and_then(|state| state.seen.as_ref()).map(|seen| {
                    seen.volumes
                        .values()
                        .filter(|volume| is_moving(volume))
                        .map(|volume| volume.id.clone())
                        .collect()
                });
                let volumes = moving.unwrap_or_default();
                self.want(&pool, Focus { volumes, ..Focus::default() });
            }
            Input::Mounted => {
                for pool in self.pools.keys().cloned().collect::<Vec<_>>() {
                    self.want(&pool, Focus::mounts());
                }
            }
        }
    }

    fn want(&mut self, pool: &VgName, focus: Focus) {
        self.looking.entry(pool.clone()).or_default().wanted.add(focus);
    }

    fn looked(&mut self, pool: &VgName, focus: Focus, glance: Result<Glance, Refused>, now: Instant) {
        let looking = self.looking.entry(pool.clone()).or_default();
        looking.busy = false;
        let touched = std::mem::take(&mut looking.touched);
        if !touched.is_empty() {
            looking.wanted.add(focus);
        }
        match glance {
            Ok(glance) => self.see(pool, glance.but(&touched), now),
            Err(why) => {
                looking.next = Some(now + UNREAD);
                if let Some(state) =
                    self.pools.get_mut(pool).filter(|state| state.unread.as_ref() != Some(&why))
                {
                    tracing::warn!(%pool, "the pool could not be read: {}", why.message);
                    state.unread = Some(why);
                }
            }
        }
    }

    /// Takes a look into account. What was refused because of something else may be possible now.
    fn see(&mut self, pool: &VgName, glance: Glance, now: Instant) {
        let state = self.pools.entry(pool.clone()).or_default();
        let before = state.seen.clone();
        let mut seen = state.seen.take().map(Arc::unwrap_or_clone);
        update(&mut seen, glance);
        state.seen = seen.map(Arc::new);
        state.unread = None;
        let moving = |volume: &crate::volume::info::VolumeInfo| is_moving(volume);
        let volumes = state.seen.iter().flat_map(|seen| seen.volumes.values());
        let moving: BTreeSet<LvName> =
            volumes.filter(|v| moving(v)).map(|volume| volume.id.clone()).collect();
        self.merging.retain(|(vg, lv), _| vg != pool || moving.contains(lv));
        for lv in moving {
            self.merging.entry((pool.clone(), lv)).or_insert(now);
        }
        if before != state.seen {
            let waits = |refused: &Refused| {
                matches!(refused.class, Class::Precondition | Class::Exhausted | Class::NotFound)
            };
            let entries = self.entries.values_mut();
            entries
                .filter(|entry| entry.refused.as_ref().is_some_and(waits))
                .for_each(|entry| entry.work.hope());
        }
    }

    fn worked(
        &mut self,
        key: Key,
        pool: &VgName,
        work: Work,
        result: Result<(), Refused>,
        glance: Option<Glance>,
        now: Instant,
    ) {
        for lv in work.lvs() {
            self.busy.remove(&(pool.clone(), lv.clone()));
            let looking = self.looking.entry(pool.clone()).or_default();
            if looking.busy {
                looking.touched.insert(lv);
            }
        }
        match &work {
            Work::OpenPool(wish) => {
                let state = self.pools.entry(pool.clone()).or_default();
                state.tried = Some(wish.clone());
                state.trouble = result.as_ref().err().cloned();
                if glance.is_some() {
                    self.looking.entry(pool.clone()).or_default().next = Some(now + ROUND);
                }
            }
            Work::ClosePool(_) => {
                self.pools.remove(pool);
                self.looking.remove(pool);
            }
            Work::CreateVolume(_)
            | Work::Clone { .. }
            | Work::CreateView { .. }
            | Work::Expand { .. }
            | Work::Modify { .. }
            | Work::Activate(_)
            | Work::DeleteVolume(_)
            | Work::Split(_)
            | Work::RollBack(_)
            | Work::SplitGroup(_)
            | Work::MergeGroup { .. }
            | Work::Merge { .. } => {}
        }
        let entry = self.entries.entry(key).or_default();
        match result {
            Ok(()) => {
                entry.split |= matches!(work, Work::Split(_) | Work::SplitGroup(_));
                entry.refused = None;
                entry.done = Some(work);
                entry.work.done();
            }
            Err(why) => {
                entry.work.refused(why.class, now);
                entry.done = None;
                // That something else is in the way for a moment is no refusal.
                entry.refused = Some(why).filter(|why| why.class != Class::InProgress);
            }
        }
        match glance {
            Some(glance) => self.see(pool, glance, now),
            None => self.want(pool, Focus::all()),
        }
    }

    fn wrote(&mut self, key: Key, result: Result<Written, Trouble>, now: Instant) {
        let entry = self.entries.entry(key.clone()).or_default();
        match result {
            Ok(written) => {
                entry.write.done();
                match written {
                    Written::Stored(object) => {
                        entry.written = Some(now);
                        entry.split = false;
                        self.store(object);
                    }
                    Written::Removed { uid } => {
                        match key.kind {
                            Kind::Pool => self.pool_objects.removed(&key.name, &uid),
                            Kind::Volume => self.volumes.removed(&key.name, &uid),
                            Kind::Snapshot => self.snapshots.removed(&key.name, &uid),
                        }
                        self.entries.remove(&key);
                    }
                    Written::Taken(object) if object.node() == self.node => self.store(object),
                    Written::Taken(object) => {
                        let node = object.node();
                        tracing::warn!(
                            name = key.name,
                            node,
                            "the object's name is taken: another one is made"
                        );
                        match key.kind {
                            Kind::Pool => {}
                            Kind::Volume => drop(self.taken.volumes.insert(key.name)),
                            Kind::Snapshot => drop(self.taken.snapshots.insert(key.name)),
                        }
                    }
                }
            }
            Err(trouble) => entry.write.not_written(trouble, now),
        }
    }

    fn store(&mut self, object: Object) {
        match object {
            Object::Pool(object) => self.pool_objects.stored(*object),
            Object::Volume(object) => self.volumes.stored(*object),
            Object::Snapshot(object) => self.snapshots.stored(*object),
        }
    }
}
