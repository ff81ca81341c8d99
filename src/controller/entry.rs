//! What the controller remembers of each object: a few hundred bytes instead of kilobytes, for tens of thousands of them.

use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;

use crate::api::conditions::{self, Type};
use crate::api::pool::{PoolAgent, PoolCapacity};
use crate::api::rollback::{RollbackOrder, RollbackTold};
use crate::api::snapshot::{SnapshotGroup, SnapshotPhase};
use crate::api::volume::Source;
use crate::api::{MirrorPool, MirrorSnapshot, MirrorVolume, Percent, names};
use crate::csi::backend::{Error, Kind, Snapshot, Volume};
use crate::ids::VgName;
use crate::report::Class;
use crate::units::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// What is remembered of an object.
pub trait Entry: Send + Sync + Sized + PartialEq + 'static {
    /// The object.
    type Object: kube::Resource;

    /// Of this object.
    fn of(object: &Self::Object) -> Self;

    /// The object's uid.
    fn uid(&self) -> &str;

    /// It is being deleted, or is to be.
    fn doomed(&self) -> bool;
}

/// An object that asks its node to make something.
pub trait Order: Entry {
    /// Its generation.
    fn generation(&self) -> i64;

    /// The node that is asked.
    fn node(&self) -> &str;

    /// It can be used.
    fn ready(&self) -> bool;

    /// It was made: there is data that may be somebody's.
    fn made(&self) -> bool;

    /// Why the node refuses what was asked for in `generation`, when that is a thing that it will not get over by itself.
    fn refused(&self, of: Type, generation: i64) -> Option<Error>;
}

/// Why a node does not do what an object asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    of: Type,
    generation: i64,
    class: Class,
    message: Box<str>,
}

/// All refusals among the conditions of an object.
fn refusals(conditions: &[Condition]) -> Vec<Refusal> {
    let refusal = |of| {
        let (class, message) = conditions::refusal(conditions, of, None)?;
        let generation = conditions::find(conditions, of)?.observed_generation.unwrap_or(0);
        Some(Refusal { of, generation, class, message: message.into() })
    };
    [Type::Ready, Type::Resized, Type::Modified, Type::Deleted].into_iter().filter_map(refusal).collect()
}

/// The refusal of what the object asks for since `generation`, if it is final.
fn refused(refusals: &[Refusal], of: Type, generation: i64) -> Option<Error> {
    let refusal = refusals.iter().find(|refusal| refusal.of == of && refusal.generation >= generation)?;
    match refusal.class {
        Class::InProgress | Class::Transient => None,
        Class::Invalid
        | Class::OutOfRange
        | Class::NotFound
        | Class::Exists
        | Class::Exhausted
        | Class::Precondition
        | Class::Unimplemented
        | Class::Corrupt
        | Class::Internal => Some(Error::new(refusal.class, &*refusal.message)),
    }
}

/// Of a volume.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeEntry {
    /// The object's name: the CSI id.
    pub id: String,
    uid: String,
    generation: i64,
    /// The node.
    pub node: String,
    /// The volume group.
    pub pool: VgName,
    /// The CSI name, when it has one.
    pub name: Option<String>,
    /// The size that is asked for.
    pub wanted: Bytes,
    /// What it is.
    pub kind: VolumeKind,
    /// What it is made from, when it is a clone, or was a snapshot.
    pub source: Option<Box<Source>>,
    /// How far it is filled from that, while it is.
    pub filled: Option<Percent>,
    /// It is to be deleted.
    pub delete: bool,
    /// Its size, since it is made.
    pub size: Option<Bytes>,
    /// It can be used.
    pub ready: bool,
    /// Somebody may be using it.
    pub staged: bool,
    /// The rollback that its node is asked for.
    pub ordered: Option<Box<RollbackOrder>>,
    /// What its node says of a rollback.
    pub rollback: Option<Box<RollbackTold>>,
    /// The generation up to which its images, and how they are copied and read, are as asked for.
    pub settled: Option<i64>,
    refusals: Vec<Refusal>,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// A mirrored one.
    Mirror {
        /// Number of images.
        images: usize,
        /// Granularity of the bitmap.
        region_size: Bytes,
        /// KiB/s that recovery is never throttled below.
        min_recovery_rate: Option<u64>,
        /// KiB/s that recovery is throttled to.
        max_recovery_rate: Option<u64>,
    },
    /// One that shows this MirrorSnapshot.
    View(String),
}

impl VolumeEntry {
    /// As CSI tells of it.
    #[must_use]
    pub fn told(&self) -> Volume {
        let kind = match &self.kind {
            VolumeKind::Mirror { images, .. } => Kind::Mirror { images: *images },
            VolumeKind::View(snapshot) => Kind::View { snapshot: snapshot.clone() },
        };
        let size = self.size.unwrap_or(self.wanted);
        Volume { id: self.id.clone(), node: self.node.clone(), size, kind }
    }

    /// Whether it shows this snapshot.
    #[must_use]
    pub fn shows(&self, snapshot: &str) -> bool {
        matches!(&self.kind, VolumeKind::View(shown) if shown == snapshot)
    }

    /// What it is filled from, or will be, or will be itself: that must stay until then.
    #[must_use]
    pub fn needs(&self) -> Option<&Source> {
        let unfilled = self.filled.is_some() || self.size.is_none();
        self.source.as_deref().filter(|_| unfilled && !self.delete)
    }

    /// Refuses for now what must not be done with a volume that is being filled.
    ///
    /// # Errors
    /// It is.
    pub fn check_filled(&self) -> Result<(), Error> {
        let Some(filled) = self.filled else { return Ok(()) };
        let message = format!(
            "volume {} is still being filled from its source, {filled} so far: try again later",
            self.id
        );
        Err(Error::new(Class::InProgress, message))
    }
}

impl Entry for VolumeEntry {
    type Object = MirrorVolume;

    fn of(object: &MirrorVolume) -> Self {
        let (spec, status) = (&object.spec, object.status.as_ref());
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        let kind = match (&spec.lv, &spec.source) {
            (None, Some(Source::Snapshot(snapshot))) => VolumeKind::View(snapshot.clone()),
            (Some(_), _)
            | (None, Some(Source::Volume(_) | Source::Detached(_) | Source::Images(_)) | None) => {
                VolumeKind::Mirror {
                    images: spec.images.unwrap_or(0).into(),
                    region_size: spec.region_size.map_or(Bytes::ZERO, |size| size.0),
                    min_recovery_rate: spec.min_recovery_rate,
                    max_recovery_rate: spec.max_recovery_rate,
                }
            }
        };
        Self {
            id: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            node: spec.node.clone(),
            pool: spec.pool.clone(),
            name: spec.name.clone(),
            wanted: spec.size.0,
            kind,
            source: spec.source.clone().filter(|_| spec.lv.is_some()).map(Box::new),
            filled: status.and_then(|status| status.filled),
            delete: spec.delete,
            size: status.and_then(|status| status.size).map(|size| size.0),
            ready: conditions::is_true(conditions, Type::Ready),
            staged: status.is_some_and(|status| status.staged),
            ordered: spec.rollback.clone(),
            rollback: status.and_then(|status| status.rollback.clone()),
            settled: status
                .filter(|_| {
                    let changing = conditions::find(conditions, Type::Modified).is_some();
                    conditions::is_true(conditions, Type::Ready) && !changing
                })
                .and_then(|status| status.observed_generation),
            refusals: refusals(conditions),
        }
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn doomed(&self) -> bool {
        self.delete
    }
}

impl Order for VolumeEntry {
    fn generation(&self) -> i64 {
        self.generation
    }

    fn node(&self) -> &str {
        &self.node
    }

    fn ready(&self) -> bool {
        self.ready
    }

    fn made(&self) -> bool {
        self.size.is_some()
    }

    fn refused(&self, of: Type, generation: i64) -> Option<Error> {
        refused(&self.refusals, of, generation)
    }
}

/// Of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotEntry {
    /// The object's name: the CSI id.
    pub id: String,
    uid: String,
    generation: i64,
    /// The node.
    pub node: String,
    /// The volume group.
    pub pool: VgName,
    /// The MirrorVolume that it is of.
    pub volume: String,
    /// The CSI name, when it has one.
    pub name: Option<String>,
    /// The group it is one of.
    pub group: Option<Box<SnapshotGroup>>,
    /// It is to be deleted.
    pub delete: bool,
    /// In one word.
    pub phase: SnapshotPhase,
    /// The MirrorVolume that its image has become: it is a snapshot no more.
    pub detached_to: Option<String>,
    /// Its size, since it is made.
    pub size: Option<Bytes>,
    /// When it was cut, nanoseconds since 1970.
    pub cut_unix_nanos: Option<u64>,
    /// It can be read.
    pub ready: bool,
    refusals: Vec<Refusal>,
}

impl SnapshotEntry {
    /// As CSI tells of it. One that is not made yet, or whose image is merging or has become a volume, is none.
    #[must_use]
    pub fn told(&self) -> Option<Snapshot> {
        let is_none = matches!(self.phase, SnapshotPhase::Merging | SnapshotPhase::Detached);
        let size = self.size.filter(|_| !is_none)?;
        Some(Snapshot {
            id: self.id.clone(),
            volume: self.volume.clone(),
            node: self.node.clone(),
            size,
            cut_unix_nanos: self.cut_unix_nanos,
            ready: self.ready,
            group: self.group.as_ref().map(|group| names::of(&group.name)),
        })
    }
}

impl Entry for SnapshotEntry {
    type Object = MirrorSnapshot;

    fn of(object: &MirrorSnapshot) -> Self {
        let (spec, status) = (&object.spec, object.status.as_ref());
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        let cut = status.and_then(|status| status.cut_time.as_ref());
        Self {
            id: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            node: spec.node.clone(),
            pool: spec.pool.clone(),
            volume: spec.volume.clone(),
            name: spec.name.clone(),
            group: spec.group.clone().map(Box::new),
            delete: spec.delete,
            phase: status.map_or_else(SnapshotPhase::default, |status| status.phase),
            detached_to: status.and_then(|status| status.detached_to.clone()),
            size: status.and_then(|status| status.size).map(|size| size.0),
            cut_unix_nanos: cut.and_then(|cut| u64::try_from(cut.0.as_nanosecond()).ok()),
            ready: conditions::is_true(conditions, Type::Ready),
            refusals: refusals(conditions),
        }
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn doomed(&self) -> bool {
        self.delete
    }
}

impl Order for SnapshotEntry {
    fn generation(&self) -> i64 {
        self.generation
    }

    fn node(&self) -> &str {
        &self.node
    }

    fn ready(&self) -> bool {
        self.ready
    }

    fn made(&self) -> bool {
        self.size.is_some()
    }

    fn refused(&self, of: Type, generation: i64) -> Option<Error> {
        refused(&self.refusals, of, generation)
    }
}

/// Of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolEntry {
    pub(super) uid: String,
    /// The node.
    pub node: String,
    /// The volume group.
    pub pool: VgName,
    /// It can be used; if not, why.
    pub ready: Result<(), String>,
    /// Number of disks that are there.
    pub disks: u32,
    /// What fits, by number of images.
    pub capacity: Vec<PoolCapacity>,
    /// Where its node's agent tells the blocks of snapshots, if it does.
    pub agent: Option<PoolAgent>,
}

impl Entry for PoolEntry {
    type Object = MirrorPool;

    fn of(object: &MirrorPool) -> Self {
        let status = object.status.as_ref();
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        let ready = match conditions::find(conditions, Type::Ready) {
            Some(condition) if condition.status == "True" => Ok(()),
            Some(condition) => Err(condition.message.clone()),
            None => Err("its node has not told of it yet".to_owned()),
        };
        Self {
            uid: object.uid().unwrap_or_default(),
            node: object.spec.node.clone(),
            pool: object.spec.volume_group.clone(),
            ready,
            disks: status.map_or(0, |status| status.disk_count.saturating_sub(status.missing_disks)),
            capacity: status.map(|status| status.capacity.clone()).unwrap_or_default(),
            agent: status.and_then(|status| status.agent.clone()),
        }
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn doomed(&self) -> bool {
        false
    }
}

/// Of a Node object: that it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    uid: String,
}

impl Entry for NodeEntry {
    type Object = PartialObjectMeta<k8s_openapi::api::core::v1::Node>;

    fn of(object: &Self::Object) -> Self {
        Self { uid: object.uid().unwrap_or_default() }
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn doomed(&self) -> bool {
        false
    }
}

#[cfg(test)]
pub(in crate::controller) mod tests {
    use super::*;
    use crate::api::conditions::Judgement;
    use crate::api::{MirrorSnapshotStatus, MirrorVolumeStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
    use serde_json::json;

    /// A pool that can be used, without room.
    pub(in crate::controller) fn pool(node: &str, name: &str) -> PoolEntry {
        let pool = name.parse().expect("legal");
        PoolEntry {
            uid: "u".into(),
            node: node.into(),
            pool,
            ready: Ok(()),
            disks: 0,
            capacity: Vec::new(),
            agent: None,
        }
    }

    fn volume(status: Option<MirrorVolumeStatus>) -> VolumeEntry {
        let object = json!({"apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorVolume",
            "metadata": {"name": "v", "uid": "u", "generation": 2},
            "spec": {"node": "n", "pool": "p", "lv": "v", "size": "1Gi", "images": 3, "regionSize": "2Mi"}});
        let object: MirrorVolume = serde_json::from_value(object).expect("a volume");
        VolumeEntry::of(&MirrorVolume { status, ..object })
    }

    fn refused(class: Class, generation: i64) -> VolumeEntry {
        let mut status = MirrorVolumeStatus::default();
        let no = Judgement::refused(Type::Resized, class, "why");
        conditions::set(&mut status.conditions, no, Some(generation), Time(Default::default()));
        volume(Some(status))
    }

    #[test]
    fn a_refusal_counts_when_it_is_final_and_of_what_is_asked_now() {
        let told = |entry: VolumeEntry| entry.refused(Type::Resized, 2);
        assert_eq!(told(refused(Class::Exhausted, 2)), Some(Error::new(Class::Exhausted, "why")));
        assert_eq!(told(refused(Class::Exhausted, 1)), None);
        assert_eq!(told(refused(Class::Transient, 2)), None);
        assert_eq!(refused(Class::Exhausted, 2).refused(Type::Ready, 2), None);
    }

    #[test]
    fn a_volume_has_the_size_that_is_asked_for_until_it_is_made() {
        assert_eq!(volume(None).told().size, Bytes::gib(1));
        let made = MirrorVolumeStatus { size: Some(Bytes::mib(1028).into()), ..Default::default() };
        assert_eq!(volume(Some(made)).told().size, Bytes::mib(1028));
    }

    #[test]
    fn a_snapshot_is_one_from_its_split_to_its_merge() {
        let object = json!({"apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorSnapshot",
            "metadata": {"name": "s"},
            "spec": {"node": "n", "pool": "p", "volume": "v", "key": "s", "minInSync": 1}});
        let told = |phase, size: Option<Bytes>| {
            let object: MirrorSnapshot = serde_json::from_value(object.clone()).expect("a snapshot");
            let cut =
                k8s_openapi::jiff::Timestamp::from_nanosecond(1_700_000_000_000_001_000).expect("in range");
            let status = MirrorSnapshotStatus {
                phase,
                size: size.map(Into::into),
                cut_time: Some(MicroTime(cut)),
                ..Default::default()
            };
            SnapshotEntry::of(&MirrorSnapshot { status: Some(status), ..object }).told()
        };
        assert_eq!(told(SnapshotPhase::Pending, None), None);
        assert_eq!(told(SnapshotPhase::Merging, Some(Bytes::gib(1))), None);
        assert_eq!(told(SnapshotPhase::Detached, Some(Bytes::gib(1))), None);
        let ready = told(SnapshotPhase::Ready, Some(Bytes::gib(1))).expect("it is one");
        assert_eq!(ready.cut_unix_nanos, Some(1_700_000_000_000_001_000));
    }
}
