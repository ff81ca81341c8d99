//! Views: read-only volumes that show a snapshot's image.

use kube::ResourceExt as _;

use crate::api::conditions::{Judgement, Type};
use crate::api::volume::VolumePhase;
use crate::api::{MirrorVolume, MirrorVolumeStatus};
use crate::node::decide::volume::{check_name, kept, remove, unready, was_made};
use crate::node::decide::{Facts, Refused, Verdict, Work, judge, snapshot};
use crate::report::Class;
use crate::volume::info::ViewInfo;
use crate::volume::key;

/// What becomes of a MirrorVolume that shows the MirrorSnapshot `source`.
pub(super) fn decide(
    object: &MirrorVolume,
    source: &str,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> Verdict<MirrorVolumeStatus> {
    let spec = &object.spec;
    let seen = match facts.pool(&spec.pool) {
        Ok(seen) => seen,
        Err(why) if why.class == Class::InProgress => return Verdict::none(),
        Err(why) if spec.delete => return Verdict::told(kept(object, &why, facts)),
        Err(why) => return Verdict::told(unready(object, &why, facts)),
    };
    let Some(name) = &spec.name else {
        let why = Refused::new(Class::Invalid, "a view has a name");
        return if spec.delete { Verdict::gone() } else { Verdict::told(unready(object, &why, facts)) };
    };
    let key = key::of(name);
    let on_disk = seen.views.get(&key).filter(|view| view.name == *name);
    let shown = facts.snapshots.get(source).and_then(|snapshot| snapshot::id_on_disk(snapshot, facts));
    if spec.delete {
        return match on_disk {
            Some(_) => remove(object, key, seen, refused, facts),
            None => Verdict::gone(),
        };
    }
    if let Err(why) = check_name(object, &key, facts) {
        return Verdict::told(unready(object, &why, facts));
    }
    match (on_disk, shown) {
        (Some(view), Some(shown)) if view.snapshot != shown => {
            let message = format!("volume {name:?} exists and shows snapshot {}", view.snapshot);
            Verdict::told(unready(object, &Refused::new(Class::Exists, message), facts))
        }
        (Some(view), _) => {
            let mut status = status(object, view);
            status.staged = seen.staged.contains(&key);
            let ready = match &view.device {
                Some(_) => Judgement::yes(Type::Ready, "Active", ""),
                None => Judgement::no(Type::Ready, "Inactive", "the volume of its snapshot is not active"),
            };
            judge(&mut status.conditions, ready, object.metadata.generation, facts);
            Verdict::told(status)
        }
        (None, _) if object.status.as_ref().is_some_and(was_made) => {
            let message = format!("nothing on the disks shows snapshot {source} as {name:?} any more");
            Verdict::told(unready(object, &Refused::new(Class::NotFound, message), facts))
        }
        (None, None) => {
            let message = format!("there is no snapshot {source} on node {}", facts.node);
            Verdict::told(unready(object, &Refused::new(Class::NotFound, message), facts))
        }
        (None, Some(shown)) => Verdict::work(Work::CreateView { name: name.clone(), snapshot: shown })
            .and_told(refused.map(|why| unready(object, why, facts))),
    }
}

fn status(object: &MirrorVolume, view: &ViewInfo) -> MirrorVolumeStatus {
    let old = object.status.clone().unwrap_or_default();
    MirrorVolumeStatus {
        observed_generation: object.metadata.generation,
        phase: VolumePhase::Ready,
        conditions: old.conditions,
        size: Some(view.size.into()),
        device: view.device.clone(),
        ..MirrorVolumeStatus::default()
    }
}

/// The MirrorVolume of a view on the disks: the one that there is, or the one that an import will make.
pub(super) fn object_of(
    key: &str,
    pool: &crate::ids::VgName,
    name: Option<&str>,
    facts: &Facts<'_>,
) -> String {
    let is_it = |object: &&std::sync::Arc<MirrorVolume>| {
        let spec = &object.spec;
        spec.lv.is_none()
            && spec.pool == *pool
            && spec.name.as_deref().is_some_and(|name| key::of(name).as_str() == key)
    };
    match (facts.volumes.values().find(is_it), name) {
        (Some(object), _) => object.name_any(),
        (None, Some(name)) => crate::api::names::of(name),
        (None, None) => key.to_owned(),
    }
}
