//! Snapshots of several volumes, cut at one instant: whole, or not there.
//!
//! All is done under one hold of the group's lock, from the commit that names the members to the one that calls them
//! pinned. So whoever has the lock and sees members that are not pinned knows that nobody is at work on them, and gives
//! them up. The volumes of a group are of one pool: two pools have no commit in common, and a group of both could be half
//! there after a crash.

use std::collections::BTreeSet;

use crate::engine::drive::{Rest, STEPS_MAX, Taken};
use crate::engine::execute::{self, Outcome, execute};
use crate::engine::snapshots::refuse_shown;
use crate::engine::{Engine, Error, Guard, Result, Session};
use crate::host::Host;
use crate::ids::LvName;
use crate::raid::RaidTable;
use crate::report::{Class, chain};
use crate::volume::group::{self, Together};
use crate::volume::info::{self, GroupInfo};
use crate::volume::seen::Seen;
use crate::volume::spec::GroupSpec;
use crate::volume::split::{self, Split};
use crate::volume::step::{Edit, Next, Step};
use crate::volume::{edits, key, merge};

/// One volume in a round: how it was seen, and what its machine wants.
type Asked = (Seen, Next);

impl<H: Host> Engine<H> {
    /// Splits an image of each of some volumes off, all at one instant. Repeating it gives the same group. When it
    /// fails, none of the splits stays.
    ///
    /// # Errors
    /// No volume is named (`Invalid`), a snapshot or another group has the name (`Exists`), a volume can spare no image
    /// (`Precondition`), a resync did not end in time (`InProgress`), there is no such volume (`NotFound`).
    pub fn create_group_snapshot(&self, spec: &GroupSpec) -> Result<GroupInfo> {
        if spec.volumes.is_empty() {
            return Err(Error::refused(Class::Invalid, "a group snapshot is of one volume at least"));
        }
        let _guards = self.guard_all(&spec.volumes)?;
        let group = self.wait(&format!("group snapshot {:?}", spec.name), |session| {
            session.refuse_other_group(spec)?;
            if !session.take_up_all(&spec.volumes, self)? {
                return Ok(None);
            }
            session.refuse_part_of_group(spec)?;
            match session.cut_group(spec)? {
                Rest::Waiting(_) => Ok(None),
                Rest::Done => session.group_snapshot(key::of(&spec.name).as_str()),
            }
        });
        if group.is_err() {
            self.give_up_group(&spec.volumes);
        }
        group
    }

    /// Merges all snapshots of a group back: from one commit on none of them is there. An unknown group is deleted
    /// already.
    ///
    /// # Errors
    /// A view shows a member or it is mounted (`Precondition`), or an array is resyncing (`InProgress`): then all
    /// members stay.
    pub fn delete_group_snapshot(&self, id: &str) -> Result<()> {
        let volumes = self.session(|session| Ok(session.members(id)))?;
        let _guards = self.guard_all(&volumes)?;
        self.wait(&format!("deleting group snapshot {id}"), |session| {
            if session.members(id).is_empty() {
                return Ok(Some(()));
            }
            if !session.take_up_all(&volumes, self)? {
                return Ok(None);
            }
            // What was not pinned is given up now; what another process has cut meanwhile is for the next call.
            let members = session.members(id);
            if !members.is_subset(&volumes) {
                return Err(Error::refused(Class::InProgress, format!("group {id} is being made")));
            }
            let Some(merges) = session.merges_of(id, &members)? else { return Ok(None) };
            let next = edits::apply_all(session.group.vg(), merges.iter().map(|(seen, edit)| (seen, edit)))?;
            session.group.commit(session.host, next, &format!("delete group {id}"))?;
            // Trouble with one keeps no other from going on.
            let begun: Vec<_> = members.iter().map(|volume| session.finish_merges(volume, self)).collect();
            begun.into_iter().collect::<Result<Vec<bool>>>().map(|_| Some(()))
        })
    }

    /// All groups of snapshots, in the order of their ids.
    ///
    /// # Errors
    /// The volume group or a disk cannot be read.
    pub fn group_snapshots(&self) -> Result<Vec<GroupInfo>> {
        Ok(info::groups(self.snapshots()?))
    }

    /// Takes several volumes for one operation, or none of them.
    fn guard_all(&self, volumes: &BTreeSet<LvName>) -> Result<Vec<Guard<'_>>> {
        volumes.iter().map(|volume| self.guard(volume)).collect()
    }

    /// What was begun of a group that failed goes at once. What cannot, goes when its volume is taken up next.
    fn give_up_group(&self, volumes: &BTreeSet<LvName>) {
        for volume in volumes {
            let given_up = self.session(|session| match session.unpinned_split(volume) {
                Some(_) => session.take_up(volume, self).map(drop),
                None => Ok(()),
            });
            if let Err(error) = given_up {
                tracing::warn!(%volume, error = chain(&error), "its split of a group that failed stays for now");
            }
        }
    }
}

impl<H: Host> Session<'_, H> {
    /// Takes volumes up; whether all of them are up.
    fn take_up_all(&mut self, volumes: &BTreeSet<LvName>, engine: &Engine<H>) -> Result<bool> {
        let mut up = true;
        for volume in volumes {
            up &= self.take_up(volume, engine)? != Taken::NotUp;
        }
        Ok(up)
    }

    /// Volumes of which a snapshot is of the group with this id. Costs nothing: the metadata tells.
    fn members(&self, id: &str) -> BTreeSet<LvName> {
        let is_member = |volume: &LvName| {
            let mut groups = self.snapshots_of(volume).filter_map(|tags| tags.group);
            groups.any(|of| key::of(&of.group).as_str() == id)
        };
        self.volume_names().into_iter().filter(is_member).collect()
    }

    /// The group with this id.
    fn group_snapshot(&self, id: &str) -> Result<Option<GroupInfo>> {
        let mut snapshots = Vec::new();
        for volume in self.members(id) {
            let seen = self.look_deep(&volume)?;
            snapshots.extend(seen.split_slots().filter_map(|slot| self.snapshot_info(&seen, slot)));
        }
        Ok(info::groups(snapshots).into_iter().find(|group| group.id == id))
    }

    /// The name is taken if a snapshot has it that is not of this group, or if the group has other volumes.
    fn refuse_other_group(&self, spec: &GroupSpec) -> Result<()> {
        let exists = |message| Err(Error::refused(Class::Exists, message));
        for volume in self.volume_names() {
            if self.growing(&volume).any(|of| of.snapshot == spec.name) {
                return exists(format!(
                    "snapshot {:?} of volume {volume} is being made, and is of no group",
                    spec.name
                ));
            }
            let Some(tags) =
                self.snapshots_of(&volume).find(|tags| tags.snapshot.as_ref() == Some(&spec.name))
            else {
                continue;
            };
            let Some(of) = &tags.group else {
                return exists(format!(
                    "snapshot {:?} of volume {volume} exists, and is of no group",
                    spec.name
                ));
            };
            if of.members != spec.volumes.len() || !spec.volumes.contains(&volume) {
                return exists(format!(
                    "group snapshot {:?} exists, of {} volumes, and volume {volume} is one of them",
                    spec.name, of.members
                ));
            }
        }
        Ok(())
    }

    /// A group that another tool has taken a member from is neither the one asked for nor to be completed.
    fn refuse_part_of_group(&self, spec: &GroupSpec) -> Result<()> {
        let pinned = |volume: &&LvName| {
            let mut snapshots = self.snapshots_of(volume);
            snapshots.any(|tags| tags.snapshot.as_ref() == Some(&spec.name) && tags.events.is_some())
        };
        let (there, all) = (spec.volumes.iter().filter(pinned).count(), spec.volumes.len());
        if there == 0 || there == all {
            return Ok(());
        }
        let message = format!(
            "group snapshot {}: {there} of {all} snapshots are left, another tool has merged the others; delete the group",
            key::of(&spec.name)
        );
        Err(Error::refused(Class::Precondition, message))
    }

    /// Drives the splits of a group. At rest the group is whole, or what there is of it is to be given up.
    fn cut_group(&mut self, spec: &GroupSpec) -> Result<Rest> {
        let now = self.host.now_unix_nanos();
        let wanted = Split { name: spec.name.clone(), now, min_in_sync: spec.min_in_sync, lent: None };
        let mut memos = vec![split::Memo::default(); spec.volumes.len()];
        for _ in 0..STEPS_MAX * spec.volumes.len() {
            let each = spec.volumes.iter().zip(&memos);
            let asked = each.map(|(volume, memo)| self.ask(volume, |seen| split::next(seen, &wanted, memo)));
            let (seen, answers): (Vec<Seen>, Vec<Next>) =
                asked.collect::<Result<Vec<Asked>>>()?.into_iter().unzip();
            match group::next(&answers) {
                Together::Commit(edits) => self.commit_group(spec, &seen, &edits)?,
                Together::Swap(steps) => {
                    let cuts: Vec<(&Seen, &RaidTable)> =
                        seen.iter().zip(steps.iter().filter_map(table)).collect();
                    let pause = execute::cut(self.host, self.group, &cuts)?;
                    tracing::info!(group = spec.name, pause_seconds = pause.as_secs_f64(), "group split");
                }
                Together::One { volume, step } => {
                    let of = &seen[volume];
                    tracing::debug!(volume = %of.lv.name, ?step, "step");
                    let outcome = execute(self.host, self.group, self.settings, of, &step)?;
                    memos[volume].pins += usize::from(matches!(outcome, Outcome::Swapped { .. }));
                }
                Together::Wait(what) => return Ok(Rest::Waiting(what)),
                Together::Done => return Ok(Rest::Done),
                Together::Refuse(refusal) => return Err(Error::Refused(refusal)),
                Together::Torn => {
                    let message =
                        format!("group snapshot {:?} came apart and is given up: try again", spec.name);
                    return Err(Error::refused(Class::Transient, message));
                }
            }
        }
        Err(Error::refused(Class::Internal, format!("group snapshot {:?} does not come to rest", spec.name)))
    }

    /// Commits an edit of each volume; a split joins the group in the same commit.
    fn commit_group(&mut self, spec: &GroupSpec, seen: &[Seen], edits: &[Edit]) -> Result<()> {
        let join = |edit: &Edit| {
            let Edit::Split { slot, .. } = edit else { return None };
            Some(Edit::Join { slot: *slot, group: spec.name.clone(), members: spec.volumes.len() })
        };
        let joins: Vec<Option<Edit>> = edits.iter().map(join).collect();
        let each = seen.iter().zip(edits.iter().zip(&joins));
        let all = each
            .flat_map(|(seen, (edit, join))| std::iter::once(edit).chain(join).map(move |edit| (seen, edit)));
        let next = edits::apply_all(self.group.vg(), all)?;
        Ok(self.group.commit(self.host, next, &format!("{edits:?} of group {:?}", spec.name))?)
    }

    /// The edits that begin the merges of all members; `None` while one of them has to wait.
    fn merges_of(&self, id: &str, members: &BTreeSet<LvName>) -> Result<Option<Vec<(Seen, Edit)>>> {
        let mut merges = Vec::new();
        for volume in members {
            let seen = self.look(volume)?;
            let is_member = |slot: &usize| {
                let of = seen.slots[*slot].tags.group.as_ref();
                of.is_some_and(|of| key::of(&of.group).as_str() == id)
            };
            let Some(slot) = seen.split_slots().find(is_member) else { continue };
            let snapshot = seen.snapshot_key(slot).map(|key| key::snapshot_id(volume, &key));
            self.refuse_read_by_clone(&snapshot.unwrap_or_default())?;
            refuse_shown(&seen, slot)?;
            match merge::begin(&seen, slot) {
                Next::Do(Step::Commit(edit)) => merges.push((seen, edit)),
                Next::Refuse(refusal) => return Err(Error::Refused(refusal)),
                Next::Wait(_) | Next::Do(_) | Next::ReadMetas | Next::Done => return Ok(None),
            }
        }
        Ok(Some(merges))
    }

    /// Gives up a split of a group that was never whole.
    pub(super) fn give_up(&mut self, volume: &LvName, name: &str) -> Result<()> {
        let mut memo = split::Memo::default();
        self.drive(
            volume,
            &mut memo,
            |seen, memo| group::give_up(seen, name, memo),
            |step, _, memo| match step {
                Step::Pin => memo.pins += 1,
                Step::Commit(_) => {
                    tracing::warn!(%volume, group = name, "a split of a group that failed is given up")
                }
                _ => {}
            },
        )
        .map(drop)
    }
}

/// The table that a step swaps in.
fn table(step: &Step) -> Option<&RaidTable> {
    if let Step::Swap { table, .. } = step { Some(table) } else { None }
}
