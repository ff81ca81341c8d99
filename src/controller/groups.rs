//! Groups of snapshots as objects: a MirrorSnapshot for each volume, each of which names all volumes of the group.
//!
//! There is no object of the group itself. Its node cuts it when all snapshots have their objects, and merges it when
//! all are to be deleted, so a controller that dies between two objects leaves nothing half done on the disks.

use std::sync::Arc;

use serde_json::json;

use crate::api::snapshot::{SnapshotGroup, SnapshotPhase};
use crate::api::{MirrorSnapshot, MirrorSnapshotSpec, names};
use crate::controller::backend::{Controller, Making};
use crate::controller::entry::{Entry as _, Order as _, SnapshotEntry, VolumeEntry};
use crate::controller::snapshots::{check_can_be_split, spec_of};
use crate::controller::wait::Patience;
use crate::csi::backend::{Deadline, Error, Group, GroupWish, Groups, Result, Snapshot};
use crate::report::Class;
use crate::volume::spec::SnapshotPolicy;

impl Controller {
    async fn make_group(&self, wish: &GroupWish, patience: &Patience) -> Result<Group> {
        let what = format!("group snapshot {:?}", wish.name);
        let group =
            SnapshotGroup { name: wish.name.clone(), volumes: wish.volumes.iter().cloned().collect() };
        self.check_name(&group)?;
        let volumes = self.volumes_of(wish).await?;
        let mut plans = Vec::new();
        for volume in &volumes {
            let plan = || {
                let min_in_sync = check_can_be_split(volume, wish.min_in_sync, SnapshotPolicy::Borrow)?;
                check_together(&volumes[0], volume)?;
                let spec = MirrorSnapshotSpec {
                    group: Some(group.clone()),
                    ..spec_of(volume, &wish.name, min_in_sync)
                };
                Ok(MirrorSnapshot::new(&names::member(&group.name, &volume.id), spec))
            };
            plans.push((names::member(&group.name, &volume.id), plan));
        }
        let (shelf, api) = (&self.cache.snapshots, &self.cluster.snapshots);
        // What can be refused is refused before there is an object of any.
        for (_, plan) in plans.iter().filter(|(name, _)| shelf.get(name).is_none()) {
            plan()?;
        }
        for (name, plan) in &plans {
            self.found_or_made(shelf, api, name, plan, patience).await?;
        }
        let same = |entry: &SnapshotEntry| {
            if entry.group.as_deref() == Some(&group) {
                return Ok(());
            }
            Err(Error::new(Class::Exists, format!("object {} exists and is not of {what}", entry.id)))
        };
        let mut snapshots = Vec::new();
        for (name, plan) in &plans {
            let making = Making { what: &what, name, plan };
            match self.made((shelf, api), making, same, patience).await {
                Ok(entry) => snapshots.extend(entry.told()),
                Err(error) => {
                    if !matches!(error.class, Class::InProgress | Class::Transient) {
                        self.give_up(plans.iter().map(|(name, _)| name), patience).await?;
                    }
                    return Err(error);
                }
            }
        }
        match group_of(&group, snapshots) {
            Some(group) if group.ready => Ok(group),
            _ => Err(Error::new(Class::InProgress, format!("{what} is being merged: try again"))),
        }
    }

    /// What was refused to one member is refused to all: none of their objects stays for the next try.
    async fn give_up(&self, names: impl Iterator<Item = &String>, patience: &Patience) -> Result<()> {
        for name in names {
            let entry = self.cache.snapshots.get(name);
            if entry.is_some_and(|entry| !entry.made() && !entry.doomed()) {
                let delete = json!({"delete": true});
                self.cluster.change(&self.cluster.snapshots, name, &delete, patience.until).await?;
            }
        }
        Ok(())
    }

    /// A group's name is taken by another group of that name, of other volumes.
    fn check_name(&self, group: &SnapshotGroup) -> Result<()> {
        let other = self
            .cache
            .snapshots
            .first(|entry| entry.group.as_ref().is_some_and(|of| of.name == group.name && **of != *group));
        match other {
            None => Ok(()),
            Some(entry) => {
                let message =
                    format!("group snapshot {:?} exists, of volume {} and others", group.name, entry.volume);
                Err(Error::new(Class::Exists, message))
            }
        }
    }

    async fn volumes_of(&self, wish: &GroupWish) -> Result<Vec<Arc<VolumeEntry>>> {
        let mut volumes = Vec::new();
        for id in &wish.volumes {
            let volume = self.known(&self.cache.volumes, &self.cluster.volumes, id).await?;
            volumes.push(volume.ok_or_else(|| Error::not_found(format!("there is no volume {id:?}")))?);
        }
        Ok(volumes)
    }

    /// The objects of a group's snapshots: those that are known, and those that the caller names.
    async fn members(&self, id: &str, named: &[String]) -> Result<Vec<Arc<SnapshotEntry>>> {
        let (shelf, api) = (&self.cache.snapshots, &self.cluster.snapshots);
        let is_member =
            |entry: &SnapshotEntry| entry.group.as_ref().is_some_and(|group| names::of(&group.name) == id);
        let mut members: Vec<_> = shelf.all().into_iter().filter(|entry| is_member(entry)).collect();
        for name in named {
            if members.iter().any(|member| member.id == *name) {
                continue;
            }
            members.extend(self.known(shelf, api, name).await?.filter(|entry| is_member(entry)));
        }
        members.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(members)
    }

    async fn drop_group(&self, id: &str, named: &[String], patience: &Patience) -> Result<()> {
        let members = self.members(id, named).await?;
        let parts = (&self.cache.snapshots, &self.cluster.snapshots);
        for member in members.iter().filter(|member| !member.doomed()) {
            self.check_not_read(&member.id)?;
        }
        for member in members.iter().filter(|member| !member.doomed()) {
            self.cluster.change(parts.1, &member.id, &json!({"delete": true}), patience.until).await?;
        }
        for member in &members {
            let what = format!("snapshot {} of group {id}", member.id);
            let merging = |entry: &SnapshotEntry| entry.phase == SnapshotPhase::Merging;
            self.deleted(parts, (&what, &member.id), |_| Ok(()), merging, patience).await?;
        }
        Ok(())
    }
}

/// Refuses volumes that have no instant in common: those of another node or pool.
fn check_together(first: &VolumeEntry, volume: &VolumeEntry) -> Result<()> {
    if (&first.node, &first.pool) == (&volume.node, &volume.pool) {
        return Ok(());
    }
    let place =
        |volume: &VolumeEntry| format!("{} is in pool {} of node {}", volume.id, volume.pool, volume.node);
    let message =
        format!("a group snapshot is of volumes of one pool: {}, and {}", place(first), place(volume));
    Err(Error::precondition(message))
}

/// As CSI tells of a group; `None` when it has no snapshots.
fn group_of(group: &SnapshotGroup, snapshots: Vec<Snapshot>) -> Option<Group> {
    let cut_unix_nanos = snapshots.first()?.cut_unix_nanos;
    let ready = snapshots.len() == group.volumes.len() && snapshots.iter().all(|snapshot| snapshot.ready);
    Some(Group { id: names::of(&group.name), cut_unix_nanos, ready, snapshots })
}

impl Groups for Controller {
    async fn create_group(&self, wish: &GroupWish, deadline: Deadline) -> Result<Group> {
        self.make_group(wish, &self.patience(deadline).await?).await
    }

    async fn delete_group(&self, id: &str, named: &[String], deadline: Deadline) -> Result<()> {
        self.drop_group(id, named, &self.patience(deadline).await?).await
    }

    async fn get_group(&self, id: &str, named: &[String]) -> Result<Option<Group>> {
        self.look().await?;
        let members = self.members(id, named).await?;
        let Some(group) = members.first().and_then(|member| member.group.clone()) else { return Ok(None) };
        Ok(group_of(&group, members.iter().filter_map(|member| member.told()).collect()))
    }
}
