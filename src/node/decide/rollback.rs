//! Rollbacks of mirrored volumes.

use crate::api::rollback::{RollbackOrder, RollbackPhase, RollbackTold};
use crate::api::{MirrorVolume, MirrorVolumeStatus};
use crate::node::decide::{Facts, Refused, Work, snapshot};
use crate::node::look::PoolSeen;
use crate::volume::info::VolumeInfo;
use crate::volume::spec::RollbackSpec;

/// What is told of a volume's rollback, and what to do. `refused` is why the last try failed.
///
/// What the disks say counts: a request that was carried out is done, however old the object is that asks for it.
pub(super) fn decide(
    object: &MirrorVolume,
    volume: &VolumeInfo,
    seen: &PoolSeen,
    refused: Option<&Refused>,
    facts: &Facts<'_>,
) -> (Option<RollbackTold>, Option<Work>) {
    if let Some(running) = &volume.rollback {
        let told = RollbackTold {
            request: running.request.clone().unwrap_or_default(),
            phase: RollbackPhase::Copying,
            message: format!("it is made to hold what snapshot {} holds", running.snapshot),
            copied: Some(running.copied.into()),
            total: Some(running.total.into()),
        };
        return (Some(told), None);
    }
    let Some(order) = &object.spec.rollback else { return (None, None) };
    let before = object.status.as_ref().and_then(|status| told_of(status, order));
    let told = |phase, message: String| RollbackTold {
        request: order.request.clone(),
        phase,
        message,
        copied: None,
        total: None,
    };
    if volume.rolled_back_for.as_ref() == Some(&order.request) {
        let total = before.and_then(|told| told.total);
        let done = RollbackTold { copied: total, total, ..told(RollbackPhase::Done, String::new()) };
        return (Some(done), None);
    }
    if let Some(failed) = before.filter(|told| told.phase == RollbackPhase::Failed) {
        return (Some(failed.clone()), None);
    }
    if *facts.now >= order.before {
        let why = before.map_or("its node did not come to it", |told| &told.message);
        return (Some(told(RollbackPhase::Failed, format!("it was not begun in time: {why}"))), None);
    }
    let waits = |message: String| (Some(told(RollbackPhase::Pending, message)), None);
    if seen.staged.contains(&volume.id) {
        let message = format!("the volume is in use on node {}: stop all pods that use it", facts.node);
        return waits(message);
    }
    let snapshot = facts.snapshots.get(&order.snapshot);
    let id = snapshot.and_then(|snapshot| snapshot::id_on_disk(snapshot, facts));
    let Some(id) = id.filter(|id| volume.snapshots.iter().any(|snapshot| snapshot.id == *id)) else {
        let status = snapshot.and_then(|snapshot| snapshot.status.as_ref());
        return waits(match status.and_then(|status| status.detached_to.as_ref()) {
            Some(new) => format!("snapshot {} is volume {new} now", order.snapshot),
            None => format!("the volume has no snapshot {}", order.snapshot),
        });
    };
    let work = Work::RollBack(RollbackSpec { snapshot: id, request: Some(order.request.clone()) });
    let told = refused.map_or_else(
        || before.cloned(),
        |refused| Some(told(RollbackPhase::Pending, refused.message.clone())),
    );
    (told, Some(work))
}

/// What was told of this very order.
fn told_of<'a>(status: &'a MirrorVolumeStatus, order: &RollbackOrder) -> Option<&'a RollbackTold> {
    status.rollback.as_deref().filter(|told| told.request == order.request)
}
