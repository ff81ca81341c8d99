//! Ports: what the CSI services need of whoever keeps the volumes.
//!
//! [`Backend`] is the controller's side, of many nodes and pools, and [`Devices`] a node's. Standalone implements both
//! over one engine; in Kubernetes the first is the controller's custom resources, the second the agent on the node.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::host::DevNo;
use crate::ids::VgName;
use crate::report::{self, Class};
use crate::units::Bytes;
use crate::volume::spec::{SnapshotPolicy, VolumeSpec};
use crate::volume::tune::Change;

/// Why a call failed: what the caller can do about it, and what a person should read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller can do.
    pub class: Class,
    /// For a person.
    pub message: String,
}

impl Error {
    /// An error of this class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// The request itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Class::Invalid, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    /// The state of the thing forbids it.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Class::Precondition, message)
    }

    /// From an error of a lower layer, with its whole chain.
    #[must_use]
    pub fn of(class: Class, error: &(dyn StdError + 'static)) -> Self {
        Self { class, message: report::chain(error) }
    }
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// An object of the orchestrator on whose behalf a call is made: a claim, or a volume snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// On which nodes something may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// It must be on one of these; on any node when there is none.
    pub requisite: Vec<String>,
    /// The earlier in this list the better.
    pub preferred: Vec<String>,
}

impl Nodes {
    /// Checks that what is on `node` is where the caller can use it.
    ///
    /// # Errors
    /// It is not: `Exhausted`, which makes the provisioner look for another node.
    pub fn check(&self, node: &str) -> Result<()> {
        if self.requisite.is_empty() || self.requisite.iter().any(|name| name == node) {
            return Ok(());
        }
        let message = format!("it must be on one of {:?}, and is on node {node:?}", self.requisite);
        Err(Error::new(Class::Exhausted, message))
    }
}

/// When a caller hangs up, if it has said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// This moment, if there is one.
    #[must_use]
    pub fn at(self) -> Option<Instant> {
        self.0
    }

    /// The earlier of this moment and `other`.
    #[must_use]
    pub fn or_at(self, other: Instant) -> Instant {
        self.0.map_or(other, |own| own.min(other))
    }
}

/// What a volume is to hold from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What the snapshot of this id holds.
    Snapshot(String),
    /// What the volume of this id holds now.
    Volume(String),
    /// The image of the snapshot of this id itself, which is no snapshot any more then. Its size and its regions stay what
    /// they are; it must be as large as is wished for.
    Image(String),
    /// The last images of the volume of this id themselves, as many as are wished for, which that volume has no more then. Size and
    /// regions as above.
    Images(String),
}

/// A mirrored volume that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeWish {
    /// What it must be.
    pub spec: VolumeSpec,
    /// What it is to hold; nothing when there is none.
    pub origin: Option<Origin>,
    /// The pool, when the StorageClass names one.
    pub pool: Option<VgName>,
    /// Where it may be.
    pub nodes: Nodes,
    /// The claim it is for.
    pub claim: Option<ObjectRef>,
}

/// A read-only volume that is asked for, to show a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewWish {
    /// The name it is asked for by: any text of up to 128 bytes.
    pub name: String,
    /// Id of the snapshot.
    pub snapshot: String,
    /// The pool, when the StorageClass names one.
    pub pool: Option<VgName>,
    /// Where it may be.
    pub nodes: Nodes,
    /// The claim it is for.
    pub claim: Option<ObjectRef>,
}

/// A snapshot that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotWish {
    /// The name it is asked for by: any text of up to 128 bytes.
    pub name: String,
    /// Id of the volume to split.
    pub volume: String,
    /// In-sync images that the split must leave attached.
    pub min_in_sync: usize,
    /// Which image it becomes.
    pub policy: SnapshotPolicy,
    /// Where it may be.
    pub nodes: Nodes,
    /// The VolumeSnapshot it is for.
    pub volume_snapshot: Option<ObjectRef>,
}

/// A volume whose room is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacityWish {
    /// Its number of images.
    pub images: usize,
    /// Its pool; of all pools together when there is none.
    pub pool: Option<VgName>,
    /// Its node; of all nodes together when there is none.
    pub node: Option<String>,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mirrored volume.
    Mirror {
        /// Its number of images.
        images: usize,
    },
    /// A read-only volume that shows a snapshot's image.
    View {
        /// Id of the snapshot.
        snapshot: String,
    },
}

/// A volume, as the controller tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its CSI id.
    pub id: String,
    /// The node it is on.
    pub node: String,
    /// Its size.
    pub size: Bytes,
    /// What it is.
    pub kind: Kind,
}

/// A snapshot, as the controller tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its CSI id.
    pub id: String,
    /// Id of the volume it is of.
    pub volume: String,
    /// The node it is on.
    pub node: String,
    /// Its size.
    pub size: Bytes,
    /// When it was cut, nanoseconds since 1970; absent when another tool split the image.
    pub cut_unix_nanos: Option<u64>,
    /// It can be shown by a view.
    pub ready: bool,
    /// The CSI id of the group that it is one of; it is deleted with it only.
    pub group: Option<String>,
}

/// Snapshots of several volumes that are asked for, cut at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupWish {
    /// The name it is asked for by: any text of up to 128 bytes.
    pub name: String,
    /// Ids of the volumes to split.
    pub volumes: BTreeSet<String>,
    /// In-sync images that each split must leave attached.
    pub min_in_sync: usize,
    /// The VolumeGroupSnapshot it is for.
    pub volume_group_snapshot: Option<ObjectRef>,
}

/// Snapshots that were cut at one instant, as the controller tells of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its CSI id.
    pub id: String,
    /// When it was cut, nanoseconds since 1970.
    pub cut_unix_nanos: Option<u64>,
    /// All its snapshots are there and can be shown by views.
    pub ready: bool,
    /// Its snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// What still fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Sum of the volumes that would fit.
    pub available: Bytes,
    /// The largest single volume that fits.
    pub largest: Bytes,
}

/// A volume that a node knows, active or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownVolume {
    /// Its CSI id.
    pub id: String,
    /// Its device node, when it is active.
    pub device: Option<PathBuf>,
    /// It shows a snapshot's image.
    pub view: bool,
}

/// An active volume on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenVolume {
    /// Its device node: `/dev/dm-N`.
    pub device: PathBuf,
    /// Its device number.
    pub devno: DevNo,
    /// It refuses writes.
    pub read_only: bool,
    /// It shows a snapshot's image.
    pub view: bool,
    /// A file system was being made on it and that never ended: what is on it is nobody's data.
    pub formatting: bool,
    /// It was made from a snapshot or another volume: its file system has the size and the identity of that one's.
    pub clone: bool,
}

/// Who keeps the volumes: the controller's side.
///
/// Every call may be repeated with the same arguments and then answers the same. Errors are classed as
/// [`Class`] says; `InProgress` only when an operation really is recorded and running.
pub trait Backend: Send + Sync + 'static {
    /// Makes a volume, or finds the one of that name. Another one of that name is `Exists`; no space where it may be is
    /// `Exhausted`. One that is to hold something from the start can be used when this returns, though it is still being filled.
    fn create_volume(
        &self,
        wish: &VolumeWish,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Volume>> + Send;

    /// Makes a read-only volume that shows a snapshot, or finds the one of that name. One that may not be where the
    /// snapshot is, is `Exhausted`.
    fn create_view(&self, wish: &ViewWish, deadline: Deadline)
    -> impl Future<Output = Result<Volume>> + Send;

    /// Removes a volume or view; an unknown one is removed already. One in use, or with snapshots, is `Precondition`.
    fn delete_volume(&self, id: &str, deadline: Deadline) -> impl Future<Output = Result<()>> + Send;

    /// The volume or view of this id.
    fn get_volume(&self, id: &str) -> impl Future<Output = Result<Option<Volume>>> + Send;

    /// All volumes and views.
    fn list_volumes(&self) -> impl Future<Output = Result<Vec<Volume>>> + Send;

    /// Makes a mirrored volume at least `min` and at most `limit` large; answers its size then.
    fn expand_volume(
        &self,
        id: &str,
        min: Bytes,
        limit: Option<Bytes>,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Bytes>> + Send;

    /// Changes a mirrored volume while it is used; what it is not told stays.
    fn modify_volume(
        &self,
        id: &str,
        change: &Change,
        deadline: Deadline,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Splits an image off, or finds the snapshot of that name. One of another volume is `Exists`; when no image can
    /// be spared, or the volume is where the snapshot may not be, `Exhausted`.
    fn create_snapshot(
        &self,
        wish: &SnapshotWish,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Snapshot>> + Send;

    /// Merges a snapshot's image back; an unknown one is merged already. One that a view shows is `Precondition`.
    fn delete_snapshot(&self, id: &str, deadline: Deadline) -> impl Future<Output = Result<()>> + Send;

    /// The snapshot of this id. There is none: `NotFound`, which tells what has become of it.
    fn get_snapshot(&self, id: &str) -> impl Future<Output = Result<Snapshot>> + Send;

    /// All snapshots.
    fn list_snapshots(&self) -> impl Future<Output = Result<Vec<Snapshot>>> + Send;

    /// What fits of such a volume. Nothing where there is no such pool or node.
    fn capacity(&self, wish: &CapacityWish) -> impl Future<Output = Result<Capacity>> + Send;
}

/// Blocks of a snapshot that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlocksWish {
    /// Id of the snapshot.
    pub snapshot: String,
    /// Only those that differ from the blocks of the snapshot of this id; without one, those that hold anything.
    pub base: Option<String>,
    /// Only those from here on.
    pub from: Bytes,
}

/// Some of the blocks of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The snapshot's size.
    pub size: Bytes,
    /// In order, none touching another.
    pub ranges: Vec<Range<Bytes>>,
}

/// The blocks of a snapshot, a part at a time, none before it is asked for. Dropping it ends the reading.
pub trait Parts: Send + 'static {
    /// The next part, which may have no blocks; `None` after the last one. There is a first one always.
    fn next(&mut self) -> impl Future<Output = Result<Option<Part>>> + Send;
}

/// Who can tell the blocks of snapshots.
pub trait ChangedBlocks: Send + Sync + 'static {
    /// The blocks that are told.
    type Parts: Parts;

    /// Begins to tell the blocks of a snapshot. Snapshots of two volumes are `Invalid`, a place beyond the end is
    /// `OutOfRange`: told here, or in place of the first part.
    fn blocks(
        &self,
        wish: &BlocksWish,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Self::Parts>> + Send;
}

/// Who keeps volumes, and can cut several at one instant.
pub trait Groups: Backend {
    /// Splits an image of each volume off, all at one instant, or finds the group of that name. One of other volumes is
    /// `Exists`; volumes that have no instant in common, or of which one can spare no image, are `Precondition`.
    fn create_group(
        &self,
        wish: &GroupWish,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Group>> + Send;

    /// Merges all snapshots of a group back; an unknown one is merged already. One of which a view shows a snapshot is
    /// `Precondition`. `named` are the snapshots that the caller knows it by.
    fn delete_group(
        &self,
        id: &str,
        named: &[String],
        deadline: Deadline,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The group of this id. `named` are the snapshots that the caller knows it by.
    fn get_group(&self, id: &str, named: &[String]) -> impl Future<Output = Result<Option<Group>>> + Send;
}

/// Who makes the devices: a node's side.
pub trait Devices: Send + Sync + 'static {
    /// The volume or view of this id.
    fn find(&self, id: &str) -> impl Future<Output = Result<Option<KnownVolume>>> + Send;

    /// Its device, activated when it was not. An unknown one is `NotFound`.
    fn open(&self, id: &str) -> impl Future<Output = Result<OpenVolume>> + Send;

    /// Notes durably that a file system is being made on a volume, or that it is made and may hold data.
    fn note_format(&self, id: &str, under_way: bool) -> impl Future<Output = Result<()>> + Send;
}
