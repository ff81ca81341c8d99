//! From the claim and the VolumeSnapshot that a user names to the volume and the snapshot that they are.
//!
//! They are followed both ways, claim to volume and back: a name alone may be that of another object by now.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, ResourceExt as _};
use tokio::time::Instant;

use crate::api::VolumeRollback;
use crate::api::external::{self, VolumeSnapshot, VolumeSnapshotContent};
use crate::controller::cluster::Cluster;
use crate::csi::DRIVER;
use crate::csi::backend::Error;

/// What a rollback is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The MirrorVolume.
    pub volume: String,
    /// The MirrorSnapshot.
    pub snapshot: String,
}

/// Why there is no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// For a person.
    pub why: String,
    /// Waiting will not help.
    pub for_good: bool,
}

impl Unfit {
    fn yet(why: String) -> Self {
        Self { why, for_good: false }
    }

    fn ever(why: String) -> Self {
        Self { why, for_good: true }
    }
}

/// Why it is not found.
enum Stop {
    /// There is none.
    Unfit(Unfit),
    /// The API server does not say.
    Error(Error),
}

impl From<Unfit> for Stop {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What a rollback is about, or why there is no such thing.
///
/// # Errors
/// The API server does not answer, or refuses.
pub(super) async fn of(
    cluster: &Cluster,
    rollback: &VolumeRollback,
    until: Instant,
) -> Result<std::result::Result<Target, Unfit>, Error> {
    let namespace = rollback.namespace().unwrap_or_default();
    let finder = Finder { cluster, namespace: &namespace, until };
    match finder.target(rollback).await {
        Ok(target) => Ok(Ok(target)),
        Err(Stop::Unfit(unfit)) => Ok(Err(unfit)),
        Err(Stop::Error(error)) => Err(error),
    }
}

struct Finder<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    until: Instant,
}

impl Finder<'_> {
    async fn target(&self, rollback: &VolumeRollback) -> Result<Target, Stop> {
        let (claim, name) = (&rollback.spec.claim, &rollback.spec.snapshot);
        let volume = self.volume(claim).await?;
        let snapshot = self.snapshot(name).await?;
        let object = self.cluster.get(&self.cluster.snapshots, &snapshot, self.until).await?;
        let object = object.ok_or_else(|| Unfit::yet(format!("there is no MirrorSnapshot {snapshot}")))?;
        if object.spec.volume != volume {
            return Err(Unfit::ever(format!("VolumeSnapshot {name} is not of claim {claim}")).into());
        }
        if let Some(new) = object.status.and_then(|status| status.detached_to) {
            let why = format!("VolumeSnapshot {name} is no snapshot any more: it is volume {new} now");
            return Err(Unfit::ever(why).into());
        }
        Ok(Target { volume, snapshot })
    }

    /// The MirrorVolume that a claim is.
    async fn volume(&self, claim: &str) -> Result<String, Stop> {
        let client = || self.cluster.client.clone();
        let claims = Api::<PersistentVolumeClaim>::namespaced(client(), self.namespace);
        let object = self.cluster.get(&claims, claim, self.until).await?;
        let object = object.ok_or_else(|| Unfit::yet(format!("there is no claim {claim}")))?;
        let unbound = || Unfit::yet(format!("claim {claim} is not bound to a volume"));
        let volume = object.spec.as_ref().and_then(|spec| spec.volume_name.clone()).ok_or_else(unbound)?;
        let volumes = Api::<PersistentVolume>::all(client());
        let spec = self.cluster.get(&volumes, &volume, self.until).await?.and_then(|volume| volume.spec);
        let spec = spec.ok_or_else(unbound)?;
        if spec.claim_ref.as_ref().and_then(|claim| claim.uid.clone()) != object.uid() {
            return Err(unbound().into());
        }
        let csi = spec.csi.filter(|csi| csi.driver == DRIVER);
        let foreign = || Unfit::ever(format!("claim {claim} is not a volume of {DRIVER}"));
        Ok(csi.ok_or_else(foreign)?.volume_handle)
    }

    /// The MirrorSnapshot that a VolumeSnapshot is.
    async fn snapshot(&self, name: &str) -> Result<String, Stop> {
        let client = || self.cluster.client.clone();
        let snapshots: Api<VolumeSnapshot> =
            Api::namespaced_with(client(), self.namespace, &external::volume_snapshots());
        let object = self.cluster.get(&snapshots, name, self.until).await?;
        let object = object.ok_or_else(|| Unfit::yet(format!("there is no VolumeSnapshot {name}")))?;
        let unready = || Unfit::yet(format!("VolumeSnapshot {name} is not ready"));
        let status = object.status.clone().filter(|status| status.ready_to_use == Some(true));
        let content =
            status.and_then(|status| status.bound_volume_snapshot_content_name).ok_or_else(unready)?;
        let contents: Api<VolumeSnapshotContent> = Api::all_with(client(), &external::contents());
        let content = self.cluster.get(&contents, &content, self.until).await?.ok_or_else(unready)?;
        if content.spec.volume_snapshot_ref.uid != object.uid() {
            return Err(unready().into());
        }
        if content.spec.driver != DRIVER {
            return Err(Unfit::ever(format!("VolumeSnapshot {name} is not a snapshot of {DRIVER}")).into());
        }
        Ok(content.status.and_then(|status| status.snapshot_handle).ok_or_else(unready)?)
    }
}
