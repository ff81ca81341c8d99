//! Pure: what an object says and what is seen on the disks → what to do, and what to tell.
//!
//! ```text
//!                     on the disks                    not on the disks
//! delete not set      tell what is seen; grow,        never made: make it
//!                     change, finish, activate it     was made once: tell that it is gone, make nothing
//! delete set          remove it, or tell why not      remove the object
//! ```
//!
//! Invariants:
//! - Data is removed only where `spec.delete` is set *and* what is on the disks is what the object is about.
//! - What was there once and is gone is never made again: an empty volume in place of a lost one would hide the loss.
//! - An object that does not fit what is on the disks is told so, and nothing is changed.

mod clone;
pub mod import;
pub mod pool;
mod rollback;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod view;
pub mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::conditions::{self, Judgement, Type};
use crate::api::pool::PoolAgent;
use crate::api::{MirrorPool, MirrorSnapshot, MirrorVolume};
use crate::ids::{LvName, VgName};
use crate::node::look::PoolSeen;
use crate::node::wish::PoolWish;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::key;
use crate::volume::spec::{GroupSpec, Origin, RollbackSpec, SnapshotSpec, VolumeSpec};
use crate::volume::tune::Change;

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What can be done about it.
    pub class: Class,
    /// For a person.
    pub message: String,
}

/// A pool of this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolState {
    /// What it should be.
    pub wish: Option<PoolWish>,
    /// What was last tried.
    pub tried: Option<PoolWish>,
    /// How it was last seen; `None` when it is not open.
    pub seen: Option<Arc<PoolSeen>>,
    /// Why it could not be opened, or not be grown.
    pub trouble: Option<Refused>,
    /// Why it could not be looked at lately.
    pub unread: Option<Refused>,
}

/// All that is known.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// This node.
    pub node: &'a str,
    /// Its pools.
    pub pools: &'a BTreeMap<VgName, PoolState>,
    /// Objects of its pools.
    pub pool_objects: &'a BTreeMap<String, Arc<MirrorPool>>,
    /// Objects of its volumes and views.
    pub volumes: &'a BTreeMap<String, Arc<MirrorVolume>>,
    /// Objects of its snapshots.
    pub snapshots: &'a BTreeMap<String, Arc<MirrorSnapshot>>,
    /// Where this agent tells the controller the blocks of snapshots, if it does.
    pub agent: Option<&'a PoolAgent>,
    /// The time, for conditions.
    pub now: &'a Time,
}

/// What to do to the disks.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Open a pool; make it, or add disks to it, as it wishes.
    OpenPool(PoolWish),
    /// Let a pool go that is nobody's wish any more.
    ClosePool(VgName),
    /// Make a volume, or go on making it.
    CreateVolume(VolumeSpec),
    /// Make a volume that holds something from the start, or go on making it. It is filled in the background, or needs not be.
    Clone {
        /// What it must be.
        spec: VolumeSpec,
        /// What it is to hold.
        origin: Origin,
    },
    /// Make a view.
    CreateView {
        /// The name it is asked for by.
        name: String,
        /// The snapshot's id on the disks.
        snapshot: String,
    },
    /// Make a volume larger.
    Expand {
        /// The volume.
        lv: LvName,
        /// At least so large.
        size: Bytes,
        /// At most so large.
        limit: Option<Bytes>,
    },
    /// Change a volume's images, or how they are copied and read.
    Modify {
        /// The volume.
        lv: LvName,
        /// What to change.
        change: Change,
    },
    /// Start a volume's array.
    Activate(LvName),
    /// Remove a volume or view.
    DeleteVolume(LvName),
    /// Split an image off, or go on doing it.
    Split(SnapshotSpec),
    /// Begin to put a volume back to a snapshot of it.
    RollBack(RollbackSpec),
    /// Split an image of each of several volumes off at one instant.
    SplitGroup(GroupSpec),
    /// Merge the images of all snapshots of a group back.
    MergeGroup {
        /// Its volumes.
        lvs: BTreeSet<LvName>,
        /// Its id on the disks.
        id: String,
    },
    /// Merge a snapshot's image back.
    Merge {
        /// The volume.
        lv: LvName,
        /// The snapshot's id on the disks.
        id: String,
    },
}

impl Work {
    /// The LVs, or the view, that it is about. The other work on them must wait.
    #[must_use]
    pub fn lvs(&self) -> BTreeSet<LvName> {
        match self {
            Self::OpenPool(_) | Self::ClosePool(_) => BTreeSet::new(),
            Self::CreateVolume(spec) => BTreeSet::from([key::of(&spec.name)]),
            Self::Clone { spec, origin } => {
                let source = match origin {
                    Origin::Volume(lv) | Origin::Images(lv) => Some(lv.clone()),
                    Origin::Snapshot(id) | Origin::Image(id) => key::parse_snapshot_id(id).map(|(lv, _)| lv),
                };
                source.into_iter().chain([key::of(&spec.name)]).collect()
            }
            Self::CreateView { snapshot, .. } | Self::RollBack(RollbackSpec { snapshot, .. }) => {
                key::parse_snapshot_id(snapshot).map(|(lv, _)| lv).into_iter().collect()
            }
            Self::Expand { lv, .. }
            | Self::Modify { lv, .. }
            | Self::Activate(lv)
            | Self::DeleteVolume(lv)
            | Self::Merge { lv, .. } => BTreeSet::from([lv.clone()]),
            Self::Split(spec) => BTreeSet::from([spec.volume.clone()]),
            Self::SplitGroup(spec) => spec.volumes.clone(),
            Self::MergeGroup { lvs, .. } => lvs.clone(),
        }
    }
}

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict<S> {
    /// What its status should be; `None`: as it is.
    pub status: Option<S>,
    /// What to do.
    pub work: Option<Work>,
    /// Nothing is left on the disks of what was to be deleted: the object goes.
    pub gone: bool,
}

impl<S> Verdict<S> {
    /// Nothing.
    fn none() -> Self {
        Self { status: None, work: None, gone: false }
    }

    /// The object goes.
    fn gone() -> Self {
        Self { gone: true, ..Self::none() }
    }

    /// Only this is told.
    fn told(status: S) -> Self {
        Self { status: Some(status), ..Self::none() }
    }

    /// Do this.
    fn work(work: Work) -> Self {
        Self { work: Some(work), ..Self::none() }
    }

    /// And tell this.
    fn and_told(self, status: Option<S>) -> Self {
        Self { status, ..self }
    }
}

/// Judges the object's `generation`.
fn judge(conditions: &mut Vec<Condition>, judgement: Judgement, generation: Option<i64>, facts: &Facts<'_>) {
    conditions::set(conditions, judgement, generation, facts.now.clone());
}

/// It is refused.
fn refuse(
    conditions: &mut Vec<Condition>,
    of: Type,
    refused: &Refused,
    generation: Option<i64>,
    facts: &Facts<'_>,
) {
    judge(conditions, Judgement::refused(of, refused.class, &refused.message), generation, facts);
}

impl Refused {
    fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// Whether trying again, with nothing changed, cannot help.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self.class {
            Class::Invalid | Class::OutOfRange | Class::Exists | Class::Unimplemented | Class::Corrupt => {
                true
            }
            Class::NotFound
            | Class::InProgress
            | Class::Exhausted
            | Class::Precondition
            | Class::Transient
            | Class::Internal => false,
        }
    }
}

impl Facts<'_> {
    /// A pool that is open, or why there is none.
    fn pool(&self, name: &VgName) -> Result<&PoolSeen, Refused> {
        match self.pools.get(name) {
            None => {
                let message = format!(
                    "there is no pool {name} on node {}; if its disks are gone for good, delete this object",
                    self.node
                );
                Err(Refused::new(Class::NotFound, message))
            }
            Some(PoolState { seen: Some(seen), .. }) => Ok(seen),
            Some(PoolState { trouble: Some(trouble), .. }) => {
                Err(Refused::new(trouble.class, format!("pool {name} is not open: {}", trouble.message)))
            }
            Some(_) => Err(Refused::new(Class::InProgress, format!("pool {name} is being opened"))),
        }
    }
}

/// Slots and the like, as the objects count them.
fn count(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
