//! Pools.

use crate::api::conditions::{self, Judgement, Type};
use crate::api::pool::{PoolCapacity, PoolDisk};
use crate::api::{MirrorPool, MirrorPoolStatus};
use crate::node::decide::{Facts, PoolState, Work, count, judge, refuse};
use crate::node::look::PoolSeen;

/// What to do about a pool.
#[must_use]
pub fn work(state: &PoolState) -> Option<Work> {
    let Some(wish) = &state.wish else {
        return state.seen.as_ref().map(|seen| Work::ClosePool(seen.info.name.clone()));
    };
    let as_wished = state.seen.is_some() && state.tried.as_ref() == Some(wish) && state.trouble.is_none();
    (!as_wished).then(|| Work::OpenPool(wish.clone()))
}

/// What to tell of a pool; `None` while it is being opened.
#[must_use]
pub fn status(object: &MirrorPool, state: &PoolState, facts: &Facts<'_>) -> Option<MirrorPoolStatus> {
    let generation = object.metadata.generation;
    let old = object.status.clone().unwrap_or_default();
    let Some(seen) = &state.seen else {
        let trouble = state.trouble.as_ref()?;
        let agent = facts.agent.cloned();
        let mut status = MirrorPoolStatus { observed_generation: generation, agent, ..old };
        refuse(&mut status.conditions, Type::Ready, trouble, generation, facts);
        return Some(status);
    };
    let mut status = described(seen);
    status.observed_generation = generation;
    status.agent = facts.agent.cloned();
    status.conditions = old.conditions;
    let conditions = &mut status.conditions;
    match &state.unread {
        Some(why) => refuse(conditions, Type::Ready, why, generation, facts),
        None => judge(conditions, Judgement::yes(Type::Ready, "Open", ""), generation, facts),
    }
    match &state.trouble {
        Some(trouble) => refuse(conditions, Type::Resized, trouble, generation, facts),
        None => {
            conditions::clear(conditions, Type::Resized);
        }
    }
    let degraded = if seen.info.problems.is_empty() {
        Judgement::no(Type::Degraded, "Whole", "")
    } else {
        let reason = if status.missing_disks > 0 { "DisksMissing" } else { "Problems" };
        Judgement::yes(Type::Degraded, reason, seen.info.problems.join("; "))
    };
    judge(conditions, degraded, generation, facts);
    Some(status)
}

fn described(seen: &PoolSeen) -> MirrorPoolStatus {
    let info = &seen.info;
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let disk = |disk: &crate::volume::info::DiskInfo| PoolDisk {
        id: disk.id.clone(),
        device: disk.device.clone(),
        size: disk.size.into(),
        free: disk.free.into(),
        missing: disk.missing,
    };
    // While a disk is missing nothing can be made.
    let whole = info.disks.iter().all(|disk| !disk.missing);
    let fits = |fits: &crate::volume::info::Largest| PoolCapacity {
        images: count(fits.images),
        available: fits.available.into(),
        largest: fits.size.into(),
    };
    MirrorPoolStatus {
        id: Some(info.id.clone()),
        extent_size: Some(info.extent_size.into()),
        size: Some(info.disks.iter().map(|disk| disk.size).sum::<crate::units::Bytes>().into()),
        free: Some(info.disks.iter().map(|disk| disk.free).sum::<crate::units::Bytes>().into()),
        volumes: number(info.volumes),
        disk_count: number(info.disks.len()),
        missing_disks: number(info.disks.iter().filter(|disk| disk.missing).count()),
        disks: info.disks.iter().map(disk).collect(),
        capacity: if whole { info.largest.iter().map(fits).collect() } else { Vec::new() },
        ..MirrorPoolStatus::default()
    }
}
