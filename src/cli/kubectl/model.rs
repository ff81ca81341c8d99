//! Pure: from objects to what is shown of each claim.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use crate::api::conditions::{self, Type};
use crate::api::external::VolumeSnapshot;
use crate::api::snapshot::SnapshotPhase;
use crate::api::volume::{Slot, Source, VolumePhase};
use crate::api::{MirrorSnapshot, MirrorVolume, Percent, Size};
use crate::cli::kubectl::objects::Objects;
use crate::csi::DRIVER;

/// Where a claim says who provides its volume.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// A claim, or a volume that no claim is bound to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Named>,
    /// Its phase: `Pending`, `Bound`, `Lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Its volume, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// VolumeSnapshots that there is no snapshot of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmade_snapshots: Vec<Unmade>,
}

/// An object of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Named {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Named {
    fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}/{}", self.namespace, self.name))
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The MirrorVolume.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its pool.
    pub pool: String,
    /// In one word.
    pub phase: VolumePhase,
    /// Its size.
    pub size: Size,
    /// Number of images; none of a view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u8>,
    /// How many are in sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sync: Option<u8>,
    /// How far they are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<Percent>,
    /// The snapshot that it shows, when it is a view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shows: Option<String>,
    /// What it was made from, when it is a clone, or was a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
    /// How far it is filled from that, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filled: Option<Percent>,
    /// It is to be deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// What is wrong, or refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Its slots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
    /// Its snapshots, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Snapshot>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The MirrorSnapshot.
    pub name: String,
    /// The VolumeSnapshot, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot: Option<Named>,
    /// In one word.
    pub phase: SnapshotPhase,
    /// The slot whose image it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
    /// The instant that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_time: Option<String>,
    /// What was changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Size>,
    /// How far its merge is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_percent: Option<u8>,
    /// It is to be deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// What is wrong, or refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Claims that show it, or volumes where there is no claim.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shown_by: Vec<String>,
    /// The claim, or a volume where there is no claim, that its image has become.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detached_to: Option<String>,
}

/// A VolumeSnapshot without a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unmade {
    /// Its name.
    pub volume_snapshot: String,
    /// Why, if anybody says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What is shown.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only this namespace; none: all, and volumes without a claim.
    pub namespace: Option<String>,
    /// Only claims of these names; none: all.
    pub claims: Vec<String>,
}

/// Puts together what is shown, in the order of names.
#[must_use]
pub fn claims(objects: &Objects, scope: &Scope) -> Vec<Claim> {
    let index = Index::new(objects);
    let mut shown = Vec::new();
    for claim in &objects.claims {
        let name = Named::of(claim);
        let handle = index.handles.get(&name);
        let ours = claim.annotations().get(PROVISIONER).is_some_and(|driver| driver == DRIVER);
        let wanted = scope.claims.is_empty() || scope.claims.contains(&name.name);
        if wanted && (ours || handle.is_some()) {
            shown.push(Claim {
                phase: claim.status.as_ref().and_then(|status| status.phase.clone()),
                volume: handle.and_then(|id| index.volumes.get(*id)).map(|volume| index.volume(volume)),
                unmade_snapshots: index.unmade(&name),
                claim: Some(name),
            });
        }
    }
    if scope.namespace.is_none() && scope.claims.is_empty() {
        let existing: BTreeSet<Named> = objects.claims.iter().map(Named::of).collect();
        let bound: BTreeSet<&str> =
            index.handles.iter().filter(|(claim, _)| existing.contains(claim)).map(|(_, id)| *id).collect();
        let unbound = objects.mirror_volumes.iter().filter(|volume| !bound.contains(&*volume.name_any()));
        shown.extend(unbound.map(|volume| Claim {
            claim: None,
            phase: None,
            volume: Some(index.volume(volume)),
            unmade_snapshots: Vec::new(),
        }));
    }
    shown.sort_by_key(|claim| {
        let volume = claim.volume.as_ref().map(|volume| volume.name.clone());
        (claim.claim.is_none(), claim.claim.clone(), volume)
    });
    shown
}

/// The snapshot that a view shows.
fn shown_by(object: &MirrorVolume) -> Option<&String> {
    match (&object.spec.lv, &object.spec.source) {
        (None, Some(Source::Snapshot(snapshot))) => Some(snapshot),
        (Some(_), _) | (None, Some(Source::Volume(_) | Source::Detached(_) | Source::Images(_)) | None) => {
            None
        }
    }
}

/// What is looked up by name.
struct Index<'a> {
    objects: &'a Objects,
    volumes: BTreeMap<String, &'a MirrorVolume>,
    /// From claims to CSI ids of volumes.
    handles: BTreeMap<Named, &'a str>,
    /// From CSI ids of snapshots to VolumeSnapshots.
    snapshots: BTreeMap<&'a str, Named>,
}

impl<'a> Index<'a> {
    fn new(objects: &'a Objects) -> Self {
        let contents: BTreeMap<String, &str> = objects
            .contents
            .iter()
            .filter(|content| content.spec.driver == DRIVER)
            .filter_map(|content| {
                Some((content.name_any(), content.status.as_ref()?.snapshot_handle.as_deref()?))
            })
            .collect();
        let bound = |snapshot: &'a VolumeSnapshot| {
            let content = snapshot.status.as_ref()?.bound_volume_snapshot_content_name.as_ref()?;
            Some((*contents.get(content)?, Named::of(snapshot)))
        };
        Self {
            objects,
            volumes: objects.mirror_volumes.iter().map(|volume| (volume.name_any(), volume)).collect(),
            handles: objects.persistent_volumes.iter().filter_map(handle).collect(),
            snapshots: objects.snapshots.iter().filter_map(bound).collect(),
        }
    }

    fn volume(&self, object: &MirrorVolume) -> Volume {
        let (name, spec, status) =
            (object.name_any(), &object.spec, object.status.clone().unwrap_or_default());
        let of_it = self.objects.mirror_snapshots.iter().filter(|snapshot| snapshot.spec.volume == name);
        let mut snapshots: Vec<&MirrorSnapshot> = of_it.collect();
        snapshots.sort_by_key(|snapshot| {
            let cut = snapshot.status.as_ref().and_then(|status| status.cut_time.clone());
            (cut.is_none(), cut, snapshot.name_any())
        });
        let refusals = [Type::Ready, Type::Resized, Type::Modified, Type::Deleted]
            .map(|of| refusal(&status.conditions, of));
        Volume {
            node: spec.node.clone(),
            pool: spec.pool.to_string(),
            phase: status.phase,
            size: status.size.unwrap_or(spec.size),
            images: spec.images,
            in_sync: status.in_sync,
            sync: status.sync,
            shows: shown_by(object).map(|snapshot| self.snapshot_name(snapshot)),
            made_from: spec.source.as_ref().filter(|_| spec.lv.is_some()).map(|source| self.source(source)),
            filled: status.filled,
            deleting: spec.delete,
            problems: status.problems.into_iter().chain(refusals.into_iter().flatten()).collect(),
            slots: status.slots,
            snapshots: snapshots.into_iter().map(|snapshot| self.snapshot(snapshot)).collect(),
            name,
        }
    }

    fn snapshot(&self, object: &MirrorSnapshot) -> Snapshot {
        let (name, status) = (object.name_any(), object.status.clone().unwrap_or_default());
        let told = object.spec.volume_snapshot.as_ref();
        let told = told.map(|told| Named { namespace: told.namespace.clone(), name: told.name.clone() });
        let refusals = [Type::Ready, Type::Deleted].map(|of| refusal(&status.conditions, of));
        let shows = |volume: &&MirrorVolume| shown_by(volume) == Some(&name);
        let views = self.objects.mirror_volumes.iter().filter(shows);
        Snapshot {
            volume_snapshot: self.snapshots.get(&*name).cloned().or(told),
            phase: status.phase,
            slot: status.slot,
            cut_time: status.cut_time.map(|cut| cut.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            changed: status.changed,
            merge_percent: status.merge_percent,
            deleting: object.spec.delete,
            problems: refusals.into_iter().flatten().collect(),
            shown_by: views.map(|view| self.volume_name(&view.name_any())).collect(),
            detached_to: status.detached_to.map(|id| self.volume_name(&id)),
            name,
        }
    }

    /// A snapshot as its user calls it.
    fn snapshot_name(&self, id: &str) -> String {
        self.snapshots.get(id).map_or_else(|| id.to_owned(), Named::to_string)
    }

    /// What a volume was made from, as its user calls it.
    fn source(&self, source: &Source) -> String {
        match source {
            Source::Snapshot(id) => format!("snapshot {}", self.snapshot_name(id)),
            Source::Detached(id) => format!("the image of snapshot {}", self.snapshot_name(id)),
            Source::Volume(id) => self.volume_name(id),
            Source::Images(id) => format!("images of {}", self.volume_name(id)),
        }
    }

    /// A volume as its user calls it.
    fn volume_name(&self, id: &str) -> String {
        let claim = self.handles.iter().find(|(_, handle)| **handle == id);
        claim.map_or_else(|| id.to_owned(), |(name, _)| name.to_string())
    }

    /// VolumeSnapshots of a claim that there is no snapshot of.
    fn unmade(&self, claim: &Named) -> Vec<Unmade> {
        let of_it = |snapshot: &&VolumeSnapshot| {
            let source = snapshot.spec.source.persistent_volume_claim_name.as_deref();
            snapshot.namespace().as_deref() == Some(&*claim.namespace) && source == Some(&*claim.name)
        };
        let made = |snapshot: &VolumeSnapshot| {
            let name = Named::of(snapshot);
            let told = |object: &MirrorSnapshot| {
                let of = object.spec.volume_snapshot.as_ref();
                of.is_some_and(|of| of.namespace == name.namespace && of.name == name.name)
            };
            let ready = snapshot.status.as_ref().is_some_and(|status| status.ready_to_use == Some(true));
            ready || self.objects.mirror_snapshots.iter().any(told)
        };
        let unmade = self.objects.snapshots.iter().filter(of_it).filter(|snapshot| !made(snapshot));
        let why = |snapshot: &VolumeSnapshot| snapshot.status.as_ref()?.error.as_ref()?.message.clone();
        let mut unmade: Vec<Unmade> = unmade
            .map(|snapshot| Unmade { volume_snapshot: snapshot.name_any(), why: why(snapshot) })
            .collect();
        unmade.sort_by(|a, b| a.volume_snapshot.cmp(&b.volume_snapshot));
        unmade
    }
}

/// Which claim a persistent volume of ours is bound to, and its CSI id.
fn handle(volume: &PersistentVolume) -> Option<(Named, &str)> {
    let spec = volume.spec.as_ref()?;
    let csi = spec.csi.as_ref().filter(|csi| csi.driver == DRIVER)?;
    let claim = spec.claim_ref.as_ref()?;
    let claim = Named { namespace: claim.namespace.clone()?, name: claim.name.clone()? };
    Some((claim, &csi.volume_handle))
}

/// What a node refuses, as a sentence.
fn refusal(conditions: &[Condition], of: Type) -> Option<String> {
    let (_, message) = conditions::refusal(conditions, of, None)?;
    match of {
        Type::Ready => Some(message.to_owned()),
        Type::Resized => Some(format!("it does not grow: {message}")),
        Type::Modified => Some(format!("it is not changed: {message}")),
        Type::Deleted => Some(format!("it is not deleted: {message}")),
        Type::Degraded | Type::Complete => None,
    }
}
