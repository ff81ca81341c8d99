//! From the PVs that were read to the volume groups on them.
//!
//! Which copy of a group's metadata counts: the one with the highest seqno among those whose checksum is right. Two
//! copies of that seqno with different contents mean that two writers were at work, or two disks are clones: such a
//! group is broken, and nothing is changed until a person has looked. So is one of whose copies one is whole but
//! not understood, unless it is older than the one that counts.
//!
//! A PV that carries a copy of a group that no longer lists it was away while it was removed: it is no part of the
//! group, and no blank disk either.
//!
//! Sources: LVM2 `lib/metadata/metadata.c` (`vg_read`), `lib/cache/lvmcache.c`; tried with real tools.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ids::{LvmUuid, VgName};
use crate::lvm2::label::Area;
use crate::lvm2::mda::MdaError;
use crate::lvm2::model::VolumeGroup;
use crate::lvm2::parse::ParseError;
use crate::lvm2::read::{MdaRead, MdaState, PvRead};
use crate::report::Class;

/// A group, and what was read of its PVs.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The version that counts.
    pub vg: Arc<VolumeGroup>,
    /// Its PVs that are here, in the order of the metadata.
    pub disks: Vec<PvRead>,
    /// Its PVs that are not here.
    pub missing: Vec<LvmUuid>,
    /// PVs that carry an old copy of this group, which has removed them since.
    pub outdated: Vec<LvmUuid>,
}

/// What is wrong with one copy of the metadata. The next commit puts it right.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The PV.
    pub pv: LvmUuid,
    /// The metadata area; `None`: the label.
    pub area: Option<Area>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with one copy of the metadata.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaultKind {
    /// Header or text are damaged.
    #[error("a copy of the metadata is damaged")]
    Damaged(#[source] MdaError),
    /// It is an older version.
    #[error("a copy of the metadata is of version {found}, not {wanted}")]
    Stale {
        /// Its version.
        found: u64,
        /// The one that counts.
        wanted: u64,
    },
    /// There is no text.
    #[error("a copy of the metadata is not there")]
    Empty,
    /// The label does not say that the PV is in a group.
    #[error("the label does not say that the PV is in use")]
    Unmarked,
}

/// A group that is left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// Its name, when it is known.
    pub name: Option<String>,
    /// The PVs concerned.
    pub pvs: Vec<LvmUuid>,
    /// Why.
    pub error: GroupError,
}

/// Why a group is left alone.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GroupError {
    /// Two copies of one version differ.
    #[error(
        "two copies of version {seqno} of volume group {vg} differ (one of them on PV {pv}): two hosts have changed it at \
         once, or a disk is a clone of another; nothing is changed until one of them is taken away"
    )]
    Contradiction {
        /// The group.
        vg: VgName,
        /// The version.
        seqno: u64,
        /// A PV with a copy unlike the first.
        pv: LvmUuid,
    },
    /// Two devices carry the same PV.
    #[error(
        "PV {pv} of volume group {vg} is on two devices: one is a clone of the other, or another path to it; hide one"
    )]
    Duplicate {
        /// The group.
        vg: VgName,
        /// The PV.
        pv: LvmUuid,
    },
    /// A copy is not understood.
    #[error("the metadata on PV {pv} is not understood")]
    Strange {
        /// The PV.
        pv: LvmUuid,
        /// Why not.
        #[source]
        source: ParseError,
    },
    /// A PV is listed by two groups.
    #[error("PV {pv} is claimed by the volume groups {one} and {other}")]
    Claimed {
        /// The PV.
        pv: LvmUuid,
        /// One group.
        one: VgName,
        /// Another.
        other: VgName,
    },
    /// Two groups have one name.
    #[error("there are several volume groups named {vg}: rename one with `vgrename UUID NEWNAME`")]
    SameName {
        /// The name.
        vg: VgName,
    },
}

impl GroupError {
    /// What the caller can do: have a person look.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Contradiction { .. } | Self::Claimed { .. } => Class::Corrupt,
            Self::Strange { source, .. } => source.class(),
            Self::Duplicate { .. } | Self::SameName { .. } => Class::Precondition,
        }
    }
}

/// All that is on a machine's PVs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Groups that can be used.
    pub groups: Vec<Group>,
    /// Groups that are left alone.
    pub broken: Vec<Broken>,
    /// PVs in no group.
    pub orphans: Vec<PvRead>,
    /// PVs that are no part of any group here, and cannot be told to be free: an outdated copy, a damaged one, or a
    /// label that says "in use".
    pub strays: Vec<PvRead>,
}

impl Survey {
    /// Sorts out what was read. The order of the disks does not matter to the result.
    #[must_use]
    pub fn new(disks: Vec<PvRead>) -> Self {
        let mut survey = Self::default();
        let mut elected = elect(&disks, &mut survey.broken);
        refuse_shared(&mut elected, &mut survey.broken);
        let mut free = Vec::new();
        let mut members: BTreeMap<LvmUuid, Vec<PvRead>> = BTreeMap::new();
        for disk in disks {
            match elected.iter().find(|vg| vg.pv_by_id(&disk.label.pv).is_some()) {
                Some(vg) => members.entry(vg.id).or_default().push(disk),
                None => free.push(disk),
            }
        }
        for vg in elected {
            let disks = members.remove(&vg.id).unwrap_or_default();
            match inspect(&vg, &disks, &free) {
                Ok(()) => survey.groups.push(gather(vg, disks, &free)),
                Err(error) => survey.broken.push(broken(&vg, error)),
            }
        }
        survey.groups.sort_by(|a, b| a.vg.name.cmp(&b.vg.name));
        // What a broken group lists is neither free nor astray, however blank it looks.
        let claimed: BTreeSet<LvmUuid> = survey.broken.iter().flat_map(|b| b.pvs.iter().copied()).collect();
        for disk in free.into_iter().filter(|disk| !claimed.contains(&disk.label.pv)) {
            if disk.is_orphan() {
                survey.orphans.push(disk);
            } else {
                survey.broken.extend(strange(&disk));
                survey.strays.push(disk);
            }
        }
        survey
    }
}

/// The version that counts of each group there is a text of.
fn elect(disks: &[PvRead], broken: &mut Vec<Broken>) -> Vec<Arc<VolumeGroup>> {
    let mut best: BTreeMap<LvmUuid, (&Arc<VolumeGroup>, (u32, u64))> = BTreeMap::new();
    let mut contradictions: BTreeMap<LvmUuid, (u64, LvmUuid)> = BTreeMap::new();
    for disk in disks {
        for mda in &disk.mdas {
            let MdaState::Text(header, vg) = &mda.state else { continue };
            if vg.pv_by_id(&disk.label.pv).is_none() {
                continue;
            }
            let sum = (header.committed.crc, header.committed.size.0);
            match best.get(&vg.id) {
                Some((known, _)) if known.seqno > vg.seqno => {}
                Some((known, known_sum)) if known.seqno == vg.seqno => {
                    if *known_sum != sum {
                        contradictions.insert(vg.id, (vg.seqno, disk.label.pv));
                    }
                }
                Some(_) | None => {
                    best.insert(vg.id, (vg, sum));
                }
            }
        }
    }
    let mut elected = Vec::new();
    for (vg, _) in best.into_values() {
        match contradictions.get(&vg.id) {
            Some((seqno, pv)) if *seqno == vg.seqno => {
                let error = GroupError::Contradiction { vg: vg.name.clone(), seqno: *seqno, pv: *pv };
                broken.push(self::broken(vg, error));
            }
            Some(_) | None => elected.push(Arc::clone(vg)),
        }
    }
    elected
}

/// Takes out groups that share a PV or a name with another.
fn refuse_shared(elected: &mut Vec<Arc<VolumeGroup>>, broken: &mut Vec<Broken>) {
    let all = elected.clone();
    elected.retain(|vg| {
        let others = || all.iter().filter(|other| other.id != vg.id);
        let claimed = others().find_map(|other| {
            let pv = vg.pvs.iter().find(|pv| other.pv_by_id(&pv.id).is_some())?;
            Some(GroupError::Claimed { pv: pv.id, one: vg.name.clone(), other: other.name.clone() })
        });
        let same_name = || {
            others().any(|other| other.name == vg.name).then(|| GroupError::SameName { vg: vg.name.clone() })
        };
        match claimed.or_else(same_name) {
            Some(error) => {
                broken.push(self::broken(vg, error));
                false
            }
            None => true,
        }
    });
}

/// What forbids the use of a group, in what its disks and the rest hold.
fn inspect(vg: &VolumeGroup, disks: &[PvRead], free: &[PvRead]) -> Result<(), GroupError> {
    let mut seen = BTreeSet::new();
    for disk in disks {
        if !seen.insert(disk.label.pv) {
            return Err(GroupError::Duplicate { vg: vg.name.clone(), pv: disk.label.pv });
        }
    }
    for (disk, is_member) in disks.iter().map(|d| (d, true)).chain(free.iter().map(|d| (d, false))) {
        for mda in &disk.mdas {
            match &mda.state {
                MdaState::Text(_, other) if is_member && other.id != vg.id => {
                    return Err(GroupError::Claimed {
                        pv: disk.label.pv,
                        one: vg.name.clone(),
                        other: other.name.clone(),
                    });
                }
                MdaState::Strange(_, gist, source) => {
                    let (ours, older) = match gist {
                        Some(gist) => {
                            (gist.id == vg.id || is_member, gist.id == vg.id && gist.seqno < vg.seqno)
                        }
                        None => (is_member, false),
                    };
                    if ours && !older {
                        return Err(GroupError::Strange { pv: disk.label.pv, source: source.clone() });
                    }
                }
                MdaState::Text(..)
                | MdaState::Damaged(_)
                | MdaState::Ignored(_)
                | MdaState::Empty(_)
                | MdaState::Torn(..) => {}
            }
        }
    }
    Ok(())
}

fn gather(vg: Arc<VolumeGroup>, mut disks: Vec<PvRead>, free: &[PvRead]) -> Group {
    disks.sort_by_key(|disk| vg.pvs.iter().position(|pv| pv.id == disk.label.pv));
    let here = |id: &LvmUuid| disks.iter().any(|disk| &disk.label.pv == id);
    let missing = vg.pvs.iter().map(|pv| pv.id).filter(|id| !here(id)).collect();
    let carries = |disk: &&PvRead| {
        disk.mdas.iter().any(|mda| matches!(&mda.state, MdaState::Text(_, old) if old.id == vg.id))
    };
    let outdated = free.iter().filter(carries).map(|disk| disk.label.pv).collect();
    Group { vg, disks, missing, outdated }
}

fn broken(vg: &VolumeGroup, error: GroupError) -> Broken {
    let pvs = vg.pvs.iter().map(|pv| pv.id).collect();
    Broken { name: Some(vg.name.as_str().to_owned()), pvs, error }
}

/// A PV whose only text is not understood.
fn strange(disk: &PvRead) -> Option<Broken> {
    disk.mdas.iter().find_map(|mda| match &mda.state {
        MdaState::Strange(_, gist, source) => Some(Broken {
            name: gist.as_ref().map(|gist| gist.name.clone()),
            pvs: vec![disk.label.pv],
            error: GroupError::Strange { pv: disk.label.pv, source: source.clone() },
        }),
        MdaState::Damaged(_)
        | MdaState::Ignored(_)
        | MdaState::Empty(_)
        | MdaState::Torn(..)
        | MdaState::Text(..) => None,
    })
}

impl Group {
    /// A group that is on no disk yet; its first version will be number 1.
    #[must_use]
    pub fn unborn(vg: VolumeGroup) -> Self {
        let vg = VolumeGroup { seqno: 0, pvs: Vec::new(), ..vg };
        Self { vg: Arc::new(vg), disks: Vec::new(), missing: Vec::new(), outdated: Vec::new() }
    }

    /// The copies that are not as they should be. The next commit repairs them, even one that changes nothing.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for disk in &self.disks {
            let pv = disk.label.pv;
            let areas = disk.mdas.iter().filter_map(|mda| Some((Some(mda.area), self.fault(mda)?)));
            let label = disk.label.is_used().is_some_and(|used| !used).then_some((None, FaultKind::Unmarked));
            faults.extend(areas.chain(label).map(|(area, kind)| Fault { pv, area, kind }));
        }
        faults
    }

    fn fault(&self, mda: &MdaRead) -> Option<FaultKind> {
        match &mda.state {
            MdaState::Damaged(error) | MdaState::Torn(_, error) => Some(FaultKind::Damaged(error.clone())),
            MdaState::Ignored(_) => None,
            MdaState::Empty(_) => Some(FaultKind::Empty),
            MdaState::Text(_, vg) if vg.seqno == self.vg.seqno => None,
            MdaState::Text(_, vg) => Some(FaultKind::Stale { found: vg.seqno, wanted: self.vg.seqno }),
            MdaState::Strange(_, gist, _) => {
                let found = gist.as_ref().map_or(0, |gist| gist.seqno);
                Some(FaultKind::Stale { found, wanted: self.vg.seqno })
            }
        }
    }
}

impl PvRead {
    /// Whether nothing speaks against its being free: no text, no damage, and a label that does not say "in use".
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.label.is_used() != Some(true)
            && self.mdas.iter().all(|mda| matches!(mda.state, MdaState::Empty(_) | MdaState::Ignored(_)))
    }
}
