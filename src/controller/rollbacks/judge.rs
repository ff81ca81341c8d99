//! Pure: what is known of a rollback → what to tell of it, or the order to its node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::api::conditions::{self, Judgement, Type};
use crate::api::rollback::{PATIENCE, RollbackOrder, RollbackPhase, RollbackTold};
use crate::api::{MirrorVolume, Reference, VolumeRollback, VolumeRollbackStatus};
use crate::controller::rollbacks::target::{Target, Unfit};

/// What is known.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The rollback; it is not over.
    pub rollback: &'a VolumeRollback,
    /// What it is about.
    pub target: Result<&'a Target, &'a Unfit>,
    /// The volume that it is about, or was about when it was last told.
    pub volume: Option<&'a MirrorVolume>,
    /// Another rollback that the volume's node is asked for, and that is not over.
    pub other: Option<&'a VolumeRollback>,
    /// The time.
    pub now: &'a Time,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Ask the node.
    Order(RollbackOrder),
    /// This is how it is.
    Tell(VolumeRollbackStatus),
}

/// What to do.
///
/// What was handed to a node is the node's to judge; until then nothing has been changed, and it can be given up.
pub(super) fn judge(facts: &Facts<'_>) -> Next {
    let rollback = facts.rollback;
    let request = rollback.uid().unwrap_or_default();
    if let Some(volume) = facts.volume {
        let told = volume.status.as_ref().and_then(|status| status.rollback.as_deref());
        if let Some(told) = told.filter(|told| told.request == request) {
            return Next::Tell(status(facts, told.phase, &told.message, Some(told)));
        }
        if volume.spec.rollback.as_ref().is_some_and(|order| order.request == request) {
            let message = format!("node {} has not answered yet", volume.spec.node);
            return Next::Tell(status(facts, RollbackPhase::Pending, &message, None));
        }
    }
    let other =
        |other: &VolumeRollback| format!("VolumeRollback {} of the same claim is not over", other.name_any());
    let (why, for_good) = match (facts.target, facts.volume, facts.other) {
        (Err(unfit), ..) => (unfit.why.clone(), unfit.for_good),
        (Ok(target), None, _) => (format!("there is no MirrorVolume {}", target.volume), false),
        (Ok(_), Some(_), Some(one)) => (other(one), false),
        (Ok(target), Some(_), None) => match before(rollback) {
            Some(before) if *facts.now < before => {
                let namespace = rollback.namespace().unwrap_or_default();
                let rollback = Reference { namespace, name: rollback.name_any() };
                return Next::Order(RollbackOrder {
                    snapshot: target.snapshot.clone(),
                    rollback,
                    request,
                    before,
                });
            }
            Some(_) | None => ("nobody came to it".to_owned(), false),
        },
    };
    let late = before(rollback).is_none_or(|before| *facts.now >= before);
    Next::Tell(match (for_good, late) {
        (true, _) => status(facts, RollbackPhase::Failed, &why, None),
        (false, true) => {
            status(facts, RollbackPhase::Failed, &format!("it was not begun in time: {why}"), None)
        }
        (false, false) => status(facts, RollbackPhase::Pending, &why, None),
    })
}

/// When it must have begun.
fn before(rollback: &VolumeRollback) -> Option<Time> {
    let created = rollback.metadata.creation_timestamp.as_ref()?;
    created.0.checked_add(PATIENCE).ok().map(Time)
}

fn status(
    facts: &Facts<'_>,
    phase: RollbackPhase,
    message: &str,
    told: Option<&RollbackTold>,
) -> VolumeRollbackStatus {
    let old = facts.rollback.status.clone().unwrap_or_default();
    let judgement = match phase {
        RollbackPhase::Done => {
            Judgement::yes(Type::Complete, "RolledBack", "the claim holds what the snapshot holds")
        }
        RollbackPhase::Copying => Judgement::no(Type::Complete, "Copying", message),
        RollbackPhase::Pending => Judgement::no(Type::Complete, "Waiting", message),
        RollbackPhase::Failed => Judgement::no(Type::Complete, "NotBegun", message),
    };
    let mut conditions = old.conditions;
    conditions::set(&mut conditions, judgement, facts.rollback.metadata.generation, facts.now.clone());
    let volume = facts.volume.map(|volume| volume.name_any()).or(old.volume);
    VolumeRollbackStatus {
        phase,
        conditions,
        volume,
        copied: told.and_then(|told| told.copied).or(old.copied),
        total: told.and_then(|told| told.total).or(old.total),
    }
}
