//! What to write where, and in which order, so that a power cut leaves the old version or the new one.
//!
//! ```text
//!  texts      every metadata area gets the new text, beside the committed one; all are durable before
//!  headers    one header after another is pointed to it, a sector each; all are durable before
//!  after      labels, and the headers of PVs that have left, one after another
//! ```
//!
//! Before the first header the old version counts everywhere; after it the new one does, being of a higher seqno,
//! and the areas not yet reached hold the old one. A header that is torn by the cut costs that copy alone. So that
//! there always is another: headers of areas that hold nothing of use now (damaged, stale) are written first, then
//! those of the areas that hold the committed version. PVs that join come last, so that a torn one is a member
//! already, and repaired as one; only where the group has one single area yet they have to come first. A group of
//! one single metadata area depends on the disk writing a sector wholly or not at all; this is why pools have two
//! disks or more.
//!
//! A copy that was damaged or stale is made good by the same writes.
//!
//! LVM2 marks a new text as *precommitted* in all headers before it suspends devices, so that what runs meanwhile
//! can find it, and commits it when all devices are ready. Here nothing is ever committed in the middle of a
//! suspend: what the kernel shall do is derived from committed metadata, and where it may not be believed yet a tag
//! in it says so. So the second location in the header is not used, and is cleared by each write.
//!
//! Sources: LVM2 `lib/format_text/format-text.c` (`_vg_write_raw`, `_vg_commit_raw`), `lib/metadata/metadata.c`.

use crate::ids::{LvmUuid, VgName};
use crate::lvm2::check::{Finding, Severity, check};
use crate::lvm2::group::Group;
use crate::lvm2::label::{Label, LabelError, SECTOR};
use crate::lvm2::mda::{Chunk, MdaHeader, PlaceError};
use crate::lvm2::model::VolumeGroup;
use crate::lvm2::read::{MdaRead, MdaState, PvRead};
use crate::lvm2::render::Provenance;
use crate::report::Class;
use crate::units::Bytes;

/// Bytes for a place on a PV, in whole sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The PV.
    pub pv: LvmUuid,
    /// Where on its device.
    pub offset: Bytes,
    /// What.
    pub data: Vec<u8>,
}

/// The writes that make a version of a group the committed one.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The version that they commit, as it will be read again.
    pub vg: VolumeGroup,
    /// Its text.
    pub text: String,
    /// In any order. If one fails, nothing has happened: leave it at that.
    pub texts: Vec<Write>,
    /// One after another, each durable before the next. From the first that succeeds the new version counts; one
    /// that fails leaves a stale copy, which the next commit repairs.
    pub headers: Vec<Write>,
    /// One after another, so that a cut tears one label at most. One that fails is repaired by the next commit.
    pub after: Vec<Write>,
}

impl Plan {
    /// The writes in steps: those of a step in any order, all durable before the next step.
    pub fn steps(&self) -> impl Iterator<Item = &[Write]> {
        let texts = std::iter::once(self.texts.as_slice());
        texts.chain(self.headers.chunks(1)).chain(self.after.chunks(1))
    }
}

/// What to do when PVs of the group are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Change nothing: what they hold would be old when they come back.
    Refuse,
    /// Go on, and note it, as LVM2 does: such a PV is not believed when it comes back.
    Mark,
}

/// Why a version is not committed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommitError {
    /// It was made from another version than the one on the disks.
    #[error("volume group {vg} has changed: this was planned on version {planned}, on the disks is {found}")]
    Changed {
        /// The group.
        vg: VgName,
        /// The version it was made from.
        planned: u64,
        /// The version on the disks.
        found: u64,
    },
    /// It is another group's.
    #[error("volume group {vg} is not the group on the disks")]
    Other {
        /// The group.
        vg: VgName,
    },
    /// It breaks a rule.
    #[error(
        "volume group {vg} would break a rule: {}",
        findings.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("; ")
    )]
    Unsound {
        /// The group.
        vg: VgName,
        /// The rules.
        findings: Vec<Finding>,
    },
    /// PVs are missing.
    #[error(
        "volume group {vg} is not changed while PVs of it are missing: {}",
        pvs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// The group.
        vg: VgName,
        /// The PVs.
        pvs: Vec<LvmUuid>,
    },
    /// A PV that shall join is not there, or not free.
    #[error("PV {pv} cannot join volume group {vg}: it is {why}")]
    Joining {
        /// The group.
        vg: VgName,
        /// The PV.
        pv: LvmUuid,
        /// Why not.
        why: &'static str,
    },
    /// No PV has a metadata area that can be written.
    #[error("volume group {vg} has no metadata area that could be written")]
    NoArea {
        /// The group.
        vg: VgName,
    },
    /// The text has no room.
    #[error("the metadata of volume group {vg} has no room on PV {pv}")]
    Place {
        /// The group.
        vg: VgName,
        /// The PV.
        pv: LvmUuid,
        /// Why not.
        #[source]
        source: PlaceError,
    },
    /// A label cannot be written.
    #[error("the label of PV {pv}")]
    Label {
        /// The PV.
        pv: LvmUuid,
        /// Why not.
        #[source]
        source: LabelError,
    },
}

impl CommitError {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Changed { .. } => Class::InProgress,
            Self::Other { .. } | Self::Unsound { .. } => Class::Internal,
            Self::Missing { .. } | Self::Joining { .. } | Self::NoArea { .. } => Class::Precondition,
            Self::Place { source, .. } => source.class(),
            Self::Label { source, .. } => source.class(),
        }
    }
}

/// Plans to make `new` the committed version of the group. PVs that `new` has and the group has not are taken from
/// `joining` ([`init_pv`] made them); PVs that it has no more become free.
///
/// # Errors
/// `new` was not made from the group's version, breaks a rule of [`check`], or has no room; PVs are missing.
pub fn plan(
    group: &Group,
    new: &VolumeGroup,
    joining: &[PvRead],
    missing: Missing,
    provenance: &Provenance,
) -> Result<Plan, CommitError> {
    let name = || new.name.clone();
    if new.id != group.vg.id {
        return Err(CommitError::Other { vg: name() });
    }
    if new.seqno != group.vg.seqno {
        return Err(CommitError::Changed { vg: name(), planned: new.seqno, found: group.vg.seqno });
    }
    let mut vg = new.clone();
    vg.seqno += 1;
    // As it will be read again.
    vg.lvs = new.lvs_as_printed().into_iter().cloned().collect();
    mark_missing(&mut vg, group, missing)?;
    let findings: Vec<Finding> = check(&vg).into_iter().filter(|f| f.severity == Severity::Error).collect();
    if !findings.is_empty() {
        return Err(CommitError::Unsound { vg: name(), findings });
    }
    let disks = members(group, &vg, joining)?;

    let text = vg.render(provenance);
    let mut texts = Vec::new();
    let mut headers: Vec<(Turn, Write)> = Vec::new();
    let mut after = Vec::new();
    for disk in disks {
        let pv = disk.label.pv;
        for mda in &disk.mdas {
            let Some((chunks, header)) = place(mda, &text, &vg, pv)? else { continue };
            texts.extend(chunks.into_iter().map(|chunk| write(pv, chunk)));
            headers.push((turn(mda, &pv, group), header_write(pv, &header)));
        }
        if disk.label.is_used() != Some(true) {
            after.push(label_write(&disk.label.with_used(true))?);
        }
    }
    if headers.is_empty() {
        return Err(CommitError::NoArea { vg: name() });
    }
    let members = headers.iter().filter(|(turn, _)| *turn != Turn::Joining).count();
    headers.sort_by_key(|(turn, _)| (members == 1 && *turn != Turn::Joining, *turn));
    for disk in group.disks.iter().filter(|disk| vg.pv_by_id(&disk.label.pv).is_none()) {
        after.extend(free_pv(disk)?);
    }
    Ok(Plan { vg, text, texts, headers: headers.into_iter().map(|(_, write)| write).collect(), after })
}

/// Plans to end a group: its PVs become free, by writes one after another. Whether it still has LVs is for the
/// caller to look at.
///
/// # Errors
/// A label cannot be written.
pub fn dissolve(group: &Group) -> Result<Vec<Write>, CommitError> {
    let mut writes = Vec::new();
    for disk in &group.disks {
        writes.extend(free_pv(disk)?);
    }
    Ok(writes)
}

/// The writes that make a blank device a PV in no group, in two steps: the label last, since it is what makes the
/// rest count. Whatever was in the first four sectors is gone after the first.
///
/// # Errors
/// The label has more areas than fit.
pub fn init_pv(label: &Label) -> Result<[Vec<Write>; 2], CommitError> {
    let pv = label.pv;
    let mut first = vec![Write { pv, offset: Bytes::ZERO, data: vec![0; 4 * SECTOR] }];
    first.extend(label.metadata.iter().map(|area| header_write(pv, &MdaHeader::empty(*area))));
    Ok([first, vec![label_write(label)?]])
}

/// The writes after which a device is no PV any more.
#[must_use]
pub fn wipe_pv(label: &Label) -> Vec<Write> {
    let pv = label.pv;
    let areas = label.metadata.iter().map(|area| area.offset);
    let offsets = std::iter::once(label.offset()).chain(areas);
    offsets.map(|offset| Write { pv, offset, data: vec![0; SECTOR] }).collect()
}

impl PvRead {
    /// What [`init_pv`] leaves on the disk.
    #[must_use]
    pub fn fresh(label: Label) -> Self {
        let state = |area| MdaState::Empty(MdaHeader::empty(area));
        let mdas = label.metadata.iter().map(|area| MdaRead { area: *area, state: state(*area) }).collect();
        Self { label, mdas }
    }
}

fn mark_missing(vg: &mut VolumeGroup, group: &Group, missing: Missing) -> Result<(), CommitError> {
    let pvs: Vec<LvmUuid> = group.missing.iter().copied().filter(|id| vg.pv_by_id(id).is_some()).collect();
    if !pvs.is_empty() && missing == Missing::Refuse {
        return Err(CommitError::Missing { vg: vg.name.clone(), pvs });
    }
    for pv in vg.pvs.iter_mut().filter(|pv| pvs.contains(&pv.id) && !pv.is_missing()) {
        pv.flags.push("MISSING".to_owned());
    }
    Ok(())
}

/// What was read of each PV of the new version that is here.
fn members<'a>(
    group: &'a Group,
    vg: &VolumeGroup,
    joining: &'a [PvRead],
) -> Result<Vec<&'a PvRead>, CommitError> {
    let mut disks = Vec::new();
    for pv in &vg.pvs {
        let is_pv = |disk: &&PvRead| disk.label.pv == pv.id;
        let cannot = |why| CommitError::Joining { vg: vg.name.clone(), pv: pv.id, why };
        match (group.disks.iter().find(is_pv), joining.iter().find(is_pv)) {
            (Some(disk), _) => disks.push(disk),
            (None, Some(disk)) if disk.is_orphan() => disks.push(disk),
            (None, Some(_)) => return Err(cannot("not free")),
            (None, None) if group.missing.contains(&pv.id) => {}
            (None, None) => return Err(cannot("not here")),
        }
    }
    Ok(disks)
}

/// Where the text goes in this area; `None`: it is not written to.
fn place(
    mda: &MdaRead,
    text: &str,
    vg: &VolumeGroup,
    pv: LvmUuid,
) -> Result<Option<(Vec<Chunk>, MdaHeader)>, CommitError> {
    if matches!(mda.state, MdaState::Ignored(_)) {
        return Ok(None);
    }
    let fresh = MdaHeader::empty(mda.area);
    match mda.state.header().unwrap_or(&fresh).place(text) {
        Ok(placed) => Ok(Some(placed)),
        Err(PlaceError::Unusable { .. }) => Ok(None),
        Err(source @ PlaceError::TooLarge { .. }) => {
            Err(CommitError::Place { vg: vg.name.clone(), pv, source })
        }
    }
}

/// When the header of an area is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// It holds nothing of use.
    Useless,
    /// It holds the committed version.
    Good,
    /// Its PV is not in the committed version.
    Joining,
}

fn turn(mda: &MdaRead, pv: &LvmUuid, group: &Group) -> Turn {
    match &mda.state {
        _ if group.vg.pv_by_id(pv).is_none() => Turn::Joining,
        MdaState::Text(_, vg) if vg.id == group.vg.id && vg.seqno == group.vg.seqno => Turn::Good,
        MdaState::Text(..)
        | MdaState::Damaged(_)
        | MdaState::Ignored(_)
        | MdaState::Empty(_)
        | MdaState::Torn(..)
        | MdaState::Strange(..) => Turn::Useless,
    }
}

/// The writes that make a PV of a group a free one.
fn free_pv(disk: &PvRead) -> Result<Vec<Write>, CommitError> {
    let pv = disk.label.pv;
    let areas = disk.mdas.iter().map(|mda| mda.area);
    let mut writes: Vec<Write> = areas.map(|area| header_write(pv, &MdaHeader::empty(area))).collect();
    writes.push(label_write(&disk.label.with_used(false))?);
    Ok(writes)
}

fn write(pv: LvmUuid, chunk: Chunk) -> Write {
    Write { pv, offset: chunk.offset, data: chunk.data }
}

fn header_write(pv: LvmUuid, header: &MdaHeader) -> Write {
    Write { pv, offset: header.area.offset, data: header.render() }
}

fn label_write(label: &Label) -> Result<Write, CommitError> {
    let data = label.render().map_err(|source| CommitError::Label { pv: label.pv, source })?;
    Ok(Write { pv: label.pv, offset: label.offset(), data })
}
