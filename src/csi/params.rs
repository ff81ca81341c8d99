//! Parameters of a StorageClass and a VolumeSnapshotClass, and the volume context that a node is told.
//!
//! | StorageClass parameter | meaning | default |
//! |---|---|---|
//! | `splitmirror.io/pool` | the LVM2 volume group | the one that is served |
//! | `splitmirror.io/images` | copies of the data, each on a disk of its own, 1 to 10 | 2 |
//! | `splitmirror.io/regionSize` | granularity of the bitmap | 2Mi |
//! | `splitmirror.io/minRecoveryRate` | KiB/s per disk that a resync is never throttled below | the kernel's |
//! | `splitmirror.io/maxRecoveryRate` | KiB/s per disk that a resync is throttled to | the kernel's |
//! | `csi.storage.k8s.io/fstype` | `ext4`, `xfs` or `btrfs` | `ext4` |
//! | `splitmirror.io/mkfsOptions` | more arguments of `mkfs`, separated by spaces | none |
//! | `splitmirror.io/restore` | `detach`: a writable volume from a snapshot is its image itself, and the snapshot is gone then; one from a volume is the last images of that | it is a clone |
//!
//! With two images a snapshot leaves the volume on one disk until it is deleted; three are the safe choice where
//! snapshots are taken.
//!
//! | VolumeSnapshotClass and VolumeGroupSnapshotClass parameter | meaning | default |
//! |---|---|---|
//! | `splitmirror.io/minInSync` | images in sync that a snapshot must leave, else it is refused | 1 |
//! | `splitmirror.io/snapshotPolicy` | `borrow`: an image of the volume; `grow`: one added for it, not in a group | `borrow` |
//!
//! | VolumeAttributesClass parameter | meaning |
//! |---|---|
//! | `splitmirror.io/images` | as above; the last images leave, new ones are copied in the background |
//! | `splitmirror.io/minRecoveryRate`, `splitmirror.io/maxRecoveryRate` | as above; 0 leaves it to the kernel |
//! | `splitmirror.io/writeMostly` | `rotational`: reads avoid disks that seek, `none`: they avoid none |
//!
//! What the sidecars add with `--extra-create-metadata` tells which claim or VolumeSnapshot it is for. Any other key is
//! refused by name.

use std::collections::HashMap;
use std::str::FromStr;

use crate::csi::backend::{Error, ObjectRef, Result};
use crate::csi::capability::FsType;
use crate::csi::limits;
use crate::ids::VgName;
use crate::units::Bytes;
use crate::volume::spec::{IMAGES_DEFAULT, IMAGES_MAX, IMAGES_MIN, SnapshotPolicy};
use crate::volume::tune::{Change, WriteMostly};

const POOL: &str = "splitmirror.io/pool";
const IMAGES: &str = "splitmirror.io/images";
const REGION_SIZE: &str = "splitmirror.io/regionSize";
const MIN_RATE: &str = "splitmirror.io/minRecoveryRate";
const MAX_RATE: &str = "splitmirror.io/maxRecoveryRate";
const FS_TYPE: &str = "csi.storage.k8s.io/fstype";
const MKFS_OPTIONS: &str = "splitmirror.io/mkfsOptions";
const MIN_IN_SYNC: &str = "splitmirror.io/minInSync";
const SNAPSHOT_POLICY: &str = "splitmirror.io/snapshotPolicy";
const RESTORE: &str = "splitmirror.io/restore";
const WRITE_MOSTLY: &str = "splitmirror.io/writeMostly";

/// In the volume context: the file system of the StorageClass. The prefix is ours, `csi.storage.k8s.io/` is what
/// kubelet adds.
const CONTEXT_FS_TYPE: &str = "splitmirror.io/fsType";

/// What the provisioner and the snapshotter add with `--extra-create-metadata`.
const CLAIM_NAME: &str = "csi.storage.k8s.io/pvc/name";
const CLAIM_NAMESPACE: &str = "csi.storage.k8s.io/pvc/namespace";
const PV_NAME: &str = "csi.storage.k8s.io/pv/name";
const SNAPSHOT_NAME: &str = "csi.storage.k8s.io/volumesnapshot/name";
const SNAPSHOT_NAMESPACE: &str = "csi.storage.k8s.io/volumesnapshot/namespace";
const CONTENT_NAME: &str = "csi.storage.k8s.io/volumesnapshotcontent/name";

const GROUP_NAME: &str = "csi.storage.k8s.io/volumegroupsnapshot/name";
const GROUP_NAMESPACE: &str = "csi.storage.k8s.io/volumegroupsnapshot/namespace";
const GROUP_CONTENT_NAME: &str = "csi.storage.k8s.io/volumegroupsnapshotcontent/name";

/// Region sizes that make sense: the kernel wants a power of two of at least a page.
const REGION_MIN: Bytes = Bytes::kib(4);
const REGION_MAX: Bytes = Bytes::gib(1);

/// The kernel reads recovery rates as a signed 32-bit number.
const RATE_MAX: u64 = 0x7fff_ffff;

/// Parameters of a StorageClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeParams {
    /// The pool, when one is named.
    pub pool: Option<VgName>,
    /// Number of images.
    pub images: usize,
    /// Granularity of the bitmap, when one is named.
    pub region_size: Option<Bytes>,
    /// KiB/s that recovery is never throttled below.
    pub min_recovery_rate: Option<u64>,
    /// KiB/s that recovery is throttled to.
    pub max_recovery_rate: Option<u64>,
    /// How a writable volume is made from a snapshot; as a clone when it is not said.
    pub restore: Option<Restore>,
    /// How the file system is made.
    pub format: Format,
    /// The claim that the volume is for.
    pub claim: Option<ObjectRef>,
}

/// How a writable volume is made from a snapshot or a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// The snapshot's image, or the volume's last images, become the volume: nothing is copied, and they are gone where they were.
    Detach,
}

impl FromStr for Restore {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "detach" => Ok(Self::Detach),
            other => Err(format!("{other:?} is not `detach`")),
        }
    }
}

/// Parameters of a VolumeSnapshotClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotParams {
    /// Images in sync that a snapshot must leave.
    pub min_in_sync: usize,
    /// Which image a snapshot becomes.
    pub policy: SnapshotPolicy,
    /// The VolumeSnapshot that it is for.
    pub volume_snapshot: Option<ObjectRef>,
}

/// Parameters of a VolumeGroupSnapshotClass: those of a VolumeSnapshotClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupParams {
    /// Images in sync that each snapshot must leave.
    pub min_in_sync: usize,
    /// The VolumeGroupSnapshot that it is for.
    pub volume_group_snapshot: Option<ObjectRef>,
}

/// How the file system of a volume is made: what a node must know, carried in the volume context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Its type, when the StorageClass names one.
    pub fs: Option<FsType>,
    /// More arguments of `mkfs`, separated by spaces.
    pub mkfs_options: String,
}

impl VolumeParams {
    /// Reads the parameters of CreateVolume or GetCapacity.
    ///
    /// # Errors
    /// A key is unknown, or a value is not what its key needs.
    pub fn read(parameters: &HashMap<String, String>) -> Result<Self> {
        limits::map("parameters", parameters)?;
        let mut read = Self {
            pool: None,
            images: IMAGES_DEFAULT,
            region_size: None,
            min_recovery_rate: None,
            max_recovery_rate: None,
            restore: None,
            format: Format::default(),
            claim: object(parameters, CLAIM_NAMESPACE, CLAIM_NAME),
        };
        for (key, value) in sorted(parameters) {
            match key {
                POOL => read.pool = Some(parse(key, value)?),
                IMAGES => read.images = number(key, value, IMAGES_MIN..=IMAGES_MAX)?,
                REGION_SIZE => read.region_size = Some(region_size(key, value)?),
                MIN_RATE => read.min_recovery_rate = Some(number(key, value, 1..=RATE_MAX)?),
                MAX_RATE => read.max_recovery_rate = Some(number(key, value, 1..=RATE_MAX)?),
                RESTORE => read.restore = Some(parse(key, value)?),
                FS_TYPE if value.is_empty() => {}
                FS_TYPE => read.format.fs = Some(parse(key, value)?),
                MKFS_OPTIONS => read.format.mkfs_options = value.to_owned(),
                CLAIM_NAME | CLAIM_NAMESPACE | PV_NAME => {}
                key => return Err(unknown(key)),
            }
        }
        check_rates(read.min_recovery_rate, read.max_recovery_rate)?;
        Ok(read)
    }

    /// With what a VolumeAttributesClass says of the same things.
    ///
    /// # Errors
    /// The rates of both together contradict each other.
    pub fn overridden(mut self, change: &Change) -> Result<Self> {
        let rate =
            |wanted: Option<u64>, own: Option<u64>| wanted.map_or(own, |rate| (rate > 0).then_some(rate));
        self.images = change.images.unwrap_or(self.images);
        self.region_size = change.region_size.or(self.region_size);
        self.min_recovery_rate = rate(change.min_recovery_rate, self.min_recovery_rate);
        self.max_recovery_rate = rate(change.max_recovery_rate, self.max_recovery_rate);
        check_rates(self.min_recovery_rate, self.max_recovery_rate)?;
        Ok(self)
    }
}

/// Reads mutable parameters: those of a VolumeAttributesClass. What is not named stays as it is.
///
/// # Errors
/// A key is unknown or that of something that cannot be changed, or a value is not what its key needs.
pub fn change(parameters: &HashMap<String, String>) -> Result<Change> {
    limits::map("mutable_parameters", parameters)?;
    let mut change = Change::default();
    for (key, value) in sorted(parameters) {
        match key {
            IMAGES => change.images = Some(number(key, value, IMAGES_MIN..=IMAGES_MAX)?),
            MIN_RATE => change.min_recovery_rate = Some(number(key, value, 0..=RATE_MAX)?),
            MAX_RATE => change.max_recovery_rate = Some(number(key, value, 0..=RATE_MAX)?),
            WRITE_MOSTLY => change.write_mostly = Some(write_mostly(key, value)?),
            REGION_SIZE => change.region_size = Some(region_size(key, value)?),
            POOL | FS_TYPE | MKFS_OPTIONS | RESTORE => {
                return Err(Error::invalid(format!("parameter {key} of a volume cannot be changed")));
            }
            key => return Err(unknown(key)),
        }
    }
    if let (Some(min), Some(max)) = (change.min_recovery_rate, change.max_recovery_rate)
        && max > 0
    {
        check_rates(Some(min), Some(max))?;
    }
    Ok(change)
}

/// By kind of disk only: who writes a class cannot know which disk a slot is on.
fn write_mostly(key: &str, value: &str) -> Result<WriteMostly> {
    match value.parse() {
        Ok(kind @ (WriteMostly::None | WriteMostly::Rotational)) => Ok(kind),
        Ok(WriteMostly::Slots(_)) | Err(_) => {
            Err(Error::invalid(format!("parameter {key}: {value:?} is neither `rotational` nor `none`")))
        }
    }
}

fn snapshot_policy(key: &str, value: &str) -> Result<SnapshotPolicy> {
    match value {
        "borrow" => Ok(SnapshotPolicy::Borrow),
        "grow" => Ok(SnapshotPolicy::Grow),
        _ => Err(Error::invalid(format!("parameter {key}: {value:?} is neither `borrow` nor `grow`"))),
    }
}

fn check_rates(min: Option<u64>, max: Option<u64>) -> Result<()> {
    match (min, max) {
        (Some(min), Some(max)) if min > max => {
            Err(Error::invalid(format!("parameter {MIN_RATE}: {min} is more than {MAX_RATE}, {max}")))
        }
        _ => Ok(()),
    }
}

impl Format {
    /// As the volume context carries it. It is kept by the orchestrator only.
    #[must_use]
    pub fn context(&self) -> HashMap<String, String> {
        let mut context = HashMap::new();
        if let Some(fs) = self.fs {
            context.insert(CONTEXT_FS_TYPE.to_owned(), fs.to_string());
        }
        if !self.mkfs_options.is_empty() {
            context.insert(MKFS_OPTIONS.to_owned(), self.mkfs_options.clone());
        }
        context
    }

    /// From a volume context. Others put keys of their own there: those are left alone.
    ///
    /// # Errors
    /// It names a file system that cannot be made.
    pub fn from_context(context: &HashMap<String, String>) -> Result<Self> {
        let fs = context.get(CONTEXT_FS_TYPE).map(|name| parse(CONTEXT_FS_TYPE, name)).transpose()?;
        Ok(Self { fs, mkfs_options: context.get(MKFS_OPTIONS).cloned().unwrap_or_default() })
    }
}

impl SnapshotParams {
    /// Reads the parameters of CreateSnapshot.
    ///
    /// # Errors
    /// A key is unknown, or a value is not what its key needs.
    pub fn read(parameters: &HashMap<String, String>) -> Result<Self> {
        limits::map("parameters", parameters)?;
        let volume_snapshot = object(parameters, SNAPSHOT_NAMESPACE, SNAPSHOT_NAME);
        let mut read = Self { min_in_sync: 1, policy: SnapshotPolicy::default(), volume_snapshot };
        for (key, value) in sorted(parameters) {
            match key {
                MIN_IN_SYNC => read.min_in_sync = number(key, value, 1..=IMAGES_MAX - 1)?,
                SNAPSHOT_POLICY => read.policy = snapshot_policy(key, value)?,
                SNAPSHOT_NAME | SNAPSHOT_NAMESPACE | CONTENT_NAME => {}
                key => return Err(unknown(key)),
            }
        }
        Ok(read)
    }
}

impl GroupParams {
    /// Reads the parameters of CreateVolumeGroupSnapshot.
    ///
    /// # Errors
    /// A key is unknown, or a value is not what its key needs.
    pub fn read(parameters: &HashMap<String, String>) -> Result<Self> {
        limits::map("parameters", parameters)?;
        let volume_group_snapshot = object(parameters, GROUP_NAMESPACE, GROUP_NAME);
        let mut read = Self { min_in_sync: 1, volume_group_snapshot };
        for (key, value) in sorted(parameters) {
            match key {
                MIN_IN_SYNC => read.min_in_sync = number(key, value, 1..=IMAGES_MAX - 1)?,
                SNAPSHOT_POLICY if snapshot_policy(key, value)? == SnapshotPolicy::Grow => {
                    let message = format!(
                        "parameter {key}: the snapshots of a group cannot `grow`, only `borrow` images of their volumes"
                    );
                    return Err(Error::invalid(message));
                }
                SNAPSHOT_POLICY => {}
                GROUP_NAME | GROUP_NAMESPACE | GROUP_CONTENT_NAME => {}
                key => return Err(unknown(key)),
            }
        }
        Ok(read)
    }
}

/// The object that two keys name.
fn object(parameters: &HashMap<String, String>, namespace: &str, name: &str) -> Option<ObjectRef> {
    let value = |key: &str| parameters.get(key).filter(|value| !value.is_empty()).cloned();
    Some(ObjectRef { namespace: value(namespace)?, name: value(name)? })
}

/// In the order of the keys, so that of several mistakes always the same one is told.
fn sorted(map: &HashMap<String, String>) -> Vec<(&str, &str)> {
    let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    entries.sort_unstable();
    entries
}

fn unknown(key: &str) -> Error {
    Error::invalid(format!("parameter {key:?} is not known"))
}

fn parse<T: FromStr<Err: std::fmt::Display>>(key: &str, value: &str) -> Result<T> {
    value.parse().map_err(|error| Error::invalid(format!("parameter {key}: {error}")))
}

fn number<T>(key: &str, value: &str, range: std::ops::RangeInclusive<T>) -> Result<T>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    value.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        let (min, max) = (range.start(), range.end());
        Error::invalid(format!("parameter {key}: {value:?} is not a number from {min} to {max}"))
    })
}

fn region_size(key: &str, value: &str) -> Result<Bytes> {
    let size: Bytes = parse(key, value)?;
    if size.0.is_power_of_two() && (REGION_MIN..=REGION_MAX).contains(&size) {
        return Ok(size);
    }
    Err(Error::invalid(format!(
        "parameter {key}: {value:?} is not a power of two from {REGION_MIN} to {REGION_MAX}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn no_parameters_give_two_images_and_the_default_region() {
        let params = VolumeParams::read(&map(&[])).expect("none");
        assert_eq!((params.images, params.region_size, params.pool), (2, None, None));
        let params = SnapshotParams::read(&map(&[])).expect("none");
        assert_eq!((params.min_in_sync, params.volume_snapshot), (1, None));
    }

    #[test]
    fn all_parameters_are_read_and_the_sidecars_own_tell_the_claim() {
        let params = VolumeParams::read(&map(&[
            (POOL, "vg0"),
            (IMAGES, "3"),
            (REGION_SIZE, "512Ki"),
            (MIN_RATE, "100"),
            (MAX_RATE, "200"),
            (FS_TYPE, "xfs"),
            (MKFS_OPTIONS, "-m crc=1 -K"),
            ("csi.storage.k8s.io/pvc/name", "data"),
            ("csi.storage.k8s.io/pvc/namespace", "db"),
            ("csi.storage.k8s.io/pv/name", "pvc-1"),
        ]))
        .expect("all known");
        assert_eq!(params.pool.as_ref().map(VgName::as_str), Some("vg0"));
        assert_eq!((params.images, params.region_size), (3, Some(Bytes::kib(512))));
        assert_eq!((params.min_recovery_rate, params.max_recovery_rate), (Some(100), Some(200)));
        assert_eq!(Format::from_context(&params.format.context()), Ok(params.format.clone()));
        assert_eq!(params.format.fs, Some(FsType::Xfs));
        assert_eq!(params.claim, Some(ObjectRef { namespace: "db".into(), name: "data".into() }));
    }

    #[test]
    fn a_snapshot_is_for_the_object_that_the_sidecar_names_in_full() {
        let named = [(SNAPSHOT_NAME, "nightly"), (SNAPSHOT_NAMESPACE, "db"), (CONTENT_NAME, "snapcontent-1")];
        let params = SnapshotParams::read(&map(&named)).expect("all known");
        let whole = Some(ObjectRef { namespace: "db".into(), name: "nightly".into() });
        assert_eq!(params.volume_snapshot, whole);
        let group =
            [(GROUP_NAME, "nightly"), (GROUP_NAMESPACE, "db"), (GROUP_CONTENT_NAME, "groupsnapcontent-1")];
        assert_eq!(
            GroupParams::read(&map(&group)).expect("all known").volume_group_snapshot,
            params.volume_snapshot
        );
        let half = SnapshotParams::read(&map(&named[..1])).expect("all known");
        assert_eq!(half.volume_snapshot, None);
    }

    #[test]
    fn a_snapshot_borrows_an_image_or_has_one_added_and_a_group_only_borrows() {
        let read = |value| SnapshotParams::read(&map(&[(SNAPSHOT_POLICY, value)]));
        assert_eq!(read("grow").map(|params| params.policy), Ok(SnapshotPolicy::Grow));
        assert_eq!(read("borrow"), SnapshotParams::read(&map(&[])));
        assert!(read("Grow").is_err());
        let group = |value| GroupParams::read(&map(&[(SNAPSHOT_POLICY, value)]));
        assert_eq!(group("borrow"), GroupParams::read(&map(&[])));
        let error = group("grow").expect_err("refused");
        assert!(error.message.contains("`borrow`"), "{error}");
    }

    #[test]
    fn unknown_parameters_are_refused_by_name() {
        let odd = map(&[("imges", "3")]);
        for read in [VolumeParams::read(&odd).err(), SnapshotParams::read(&odd).err()] {
            let error = read.expect("unknown");
            assert!(error.message.contains("\"imges\""), "{error}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (key, value) in [
            (IMAGES, "0"),
            (IMAGES, "11"),
            (IMAGES, "two"),
            (IMAGES, ""),
            (REGION_SIZE, "3Mi"),
            (REGION_SIZE, "512"),
            (REGION_SIZE, "2Gi"),
            (REGION_SIZE, "-1"),
            (MIN_RATE, "0"),
            (MAX_RATE, "4294967296"),
            (FS_TYPE, "vfat"),
            (POOL, "a/b"),
            (RESTORE, "copy"),
        ] {
            let error = VolumeParams::read(&map(&[(key, value)])).expect_err(value);
            assert!(error.message.contains(key), "{error}");
        }
        assert!(VolumeParams::read(&map(&[(MIN_RATE, "2"), (MAX_RATE, "1")])).is_err());
        for value in ["0", "10", "x"] {
            assert!(SnapshotParams::read(&map(&[(MIN_IN_SYNC, value)])).is_err(), "{value}");
        }
    }

    #[test]
    fn only_what_can_be_changed_is_changed() {
        let read =
            change(&map(&[(IMAGES, "3"), (MAX_RATE, "0"), (WRITE_MOSTLY, "rotational")])).expect("known");
        let wanted = Change {
            images: Some(3),
            max_recovery_rate: Some(0),
            write_mostly: Some(WriteMostly::Rotational),
            ..Change::default()
        };
        assert_eq!(read, wanted);
        let regions = Change { region_size: Some(Bytes::kib(512)), ..Change::default() };
        assert_eq!(change(&map(&[(REGION_SIZE, "512Ki")])), Ok(regions));
        assert_eq!(change(&map(&[])), Ok(Change::default()));
        for (key, value) in [
            (IMAGES, "0"),
            (IMAGES, "11"),
            (MIN_RATE, "-1"),
            (WRITE_MOSTLY, "1"),
            (WRITE_MOSTLY, ""),
            (REGION_SIZE, "3Mi"),
            (POOL, "vg"),
            ("splitmirror.io/imges", "3"),
        ] {
            let error = change(&map(&[(key, value)])).expect_err(value);
            assert!(error.message.contains(key), "{error}");
        }
        assert!(change(&map(&[(MIN_RATE, "2"), (MAX_RATE, "1")])).is_err());
        assert!(change(&map(&[(MIN_RATE, "2"), (MAX_RATE, "0")])).is_ok());
    }

    #[test]
    fn a_volume_attributes_class_takes_precedence() {
        let class =
            VolumeParams::read(&map(&[(IMAGES, "2"), (MIN_RATE, "10"), (MAX_RATE, "20")])).expect("known");
        let read =
            |entries: &[(&str, &str)]| class.clone().overridden(&change(&map(entries)).expect("known"));
        let both = read(&[(IMAGES, "3"), (MIN_RATE, "0")]).expect("possible");
        assert_eq!((both.images, both.min_recovery_rate, both.max_recovery_rate), (3, None, Some(20)));
        assert_eq!(read(&[(REGION_SIZE, "1Mi")]).expect("possible").region_size, Some(Bytes::mib(1)));
        assert!(read(&[(MIN_RATE, "21")]).is_err());
    }

    #[test]
    fn the_context_of_others_is_left_alone() {
        let context = map(&[("storage.kubernetes.io/csiProvisionerIdentity", "x")]);
        assert_eq!(Format::from_context(&context), Ok(Format::default()));
    }
}
