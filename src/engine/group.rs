//! A volume group on this machine's disks: read, and committed.
//!
//! Cost: reading it again when nothing has changed is one read of 8 KiB a PV. A commit writes the text to every PV and
//! then the header of one after another, each write durable before the next kind begins, and reads back what it
//! wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::Settings;
use crate::host::{BlockDevice, Host, HostError};
use crate::ids::{LvmUuid, VgName};
use crate::lvm2::Provenance;
use crate::lvm2::commit::{self, CommitError, Missing, Write};
use crate::lvm2::group::{Fault, Group as Core, GroupError as BrokenError, Survey};
use crate::lvm2::label::Label;
use crate::lvm2::model::VolumeGroup;
use crate::lvm2::read::{MdaState, PvHead, PvRead, ReadError, Texts};
use crate::lvm2::usable::{self, Refusal};
use crate::report::{Class, chain};

/// Why a group cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The machine failed.
    #[error("the disks cannot be used")]
    Host(#[from] HostError),
    /// There is none of this name.
    #[error(
        "there is no volume group {vg} on this machine; there {}{}",
        match known.as_slice() {
            [] => "is none at all".to_owned(),
            known => format!("is {}", known.join(", ")),
        },
        match damaged.as_slice() {
            [] => String::new(),
            damaged => format!(
                "; but all metadata on {} is damaged: `pvck --dump metadata_search` shows what is left of it, and \
                 `vgcfgrestore` writes it again",
                damaged.join(", ")
            ),
        }
    )]
    NoGroup {
        /// The name asked for.
        vg: VgName,
        /// The names there are.
        known: Vec<String>,
        /// PVs of which nobody can tell what group they are in.
        damaged: Vec<String>,
    },
    /// It contradicts itself, or is not understood.
    #[error("volume group {vg} is left alone")]
    Broken {
        /// The group.
        vg: VgName,
        /// Why.
        #[source]
        source: Box<BrokenError>,
    },
    /// It is not ours to use.
    #[error("it may not be used here")]
    Refused(#[from] Refusal),
    /// The new version is not committed.
    #[error("the change is not committed")]
    Commit(#[source] Box<CommitError>),
    /// A disk is missing.
    #[error("volume group {vg}: disk {pv} is missing; connect it, or repair the volumes on it")]
    MissingPv {
        /// The group.
        vg: VgName,
        /// Where it was last seen.
        pv: String,
    },
}

impl From<CommitError> for GroupError {
    fn from(error: CommitError) -> Self {
        Self::Commit(Box::new(error))
    }
}

impl GroupError {
    /// What the caller can do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Host(error) => error.class(),
            Self::NoGroup { .. } => Class::NotFound,
            Self::Broken { source, .. } => source.class(),
            Self::Refused(refusal) => refusal.class(),
            Self::Commit(error) => error.class(),
            Self::MissingPv { .. } => Class::Precondition,
        }
    }
}

/// A group, and the devices its PVs are on.
#[derive(Clone, Debug)]
pub struct Group {
    core: Core,
    devices: Vec<PvDevice>,
    system_id: Option<String>,
}

/// A PV that is here.
#[derive(Clone, Debug)]
struct PvDevice {
    device: BlockDevice,
    head: PvHead,
}

/// All PVs of the machine: what is on them, and where.
#[derive(Clone)]
pub(super) struct Found {
    pub survey: Survey,
    devices: Vec<PvDevice>,
}

impl Found {
    /// Reads the label of every device, and the metadata of those that have one. A device that cannot be read is as
    /// good as absent.
    pub fn scan<H: Host>(host: &H) -> Result<Self, HostError> {
        let mut devices = Vec::new();
        let mut reads = Vec::new();
        let mut known = Texts::default();
        for device in host.scan()? {
            match read_pv(host, &device, &mut known) {
                Ok(Some((head, read))) => {
                    devices.push(PvDevice { device, head });
                    reads.push(read);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(device = %device.path.display(), error = chain(&error), "not read");
                }
            }
        }
        Ok(Self { survey: Survey::new(reads), devices })
    }

    /// The device that a PV is on.
    pub fn device(&self, pv: &LvmUuid) -> Option<&BlockDevice> {
        self.devices.iter().find(|of| &of.head.label.pv == pv).map(|of| &of.device)
    }

    /// The PV on this device.
    pub fn pv(&self, device: &BlockDevice) -> Option<&LvmUuid> {
        self.devices.iter().find(|of| of.device.devno == device.devno).map(|of| &of.head.label.pv)
    }

    /// Another device that carries the same PV.
    pub fn clone_of(&self, device: &BlockDevice) -> Option<&Path> {
        let pv = self.pv(device)?;
        let other = |of: &&PvDevice| &of.head.label.pv == pv && of.device.devno != device.devno;
        self.devices.iter().find(other).map(|of| of.device.path.as_path())
    }

    /// The error that there is no group of this name.
    pub fn no_group(&self, vg: &VgName) -> GroupError {
        let is_damaged = |pv: &&PvRead| {
            pv.mdas.iter().any(|mda| matches!(mda.state, MdaState::Damaged(_) | MdaState::Torn(..)))
        };
        let damaged = self.survey.strays.iter().filter(is_damaged);
        GroupError::NoGroup {
            vg: vg.clone(),
            known: self.survey.groups.iter().map(|group| group.vg.name.to_string()).collect(),
            damaged: damaged
                .filter_map(|pv| Some(self.device(&pv.label.pv)?.path.display().to_string()))
                .collect(),
        }
    }

    /// The error that a group of this name is left alone, if it is.
    pub fn broken(&self, vg: &VgName) -> Option<GroupError> {
        let broken = self.survey.broken.iter().find(|broken| broken.name.as_deref() == Some(vg.as_str()))?;
        Some(GroupError::Broken { vg: vg.clone(), source: Box::new(broken.error.clone()) })
    }

    /// The group of this name.
    pub fn group(self, vg: &VgName, system_id: Option<&str>) -> Result<Group, GroupError> {
        if let Some(broken) = self.broken(vg) {
            return Err(broken);
        }
        let Some(core) = self.survey.groups.iter().find(|group| &group.vg.name == vg).cloned() else {
            return Err(self.no_group(vg));
        };
        let devices = self.devices;
        if let Some(refusal) = usable::refuse(&core.vg, system_id) {
            return Err(refusal.into());
        }
        Ok(Group::new(core, devices, system_id))
    }
}

type HeadAndRead = Option<(PvHead, PvRead)>;

fn read_pv<H: Host>(
    host: &H,
    device: &BlockDevice,
    known: &mut Texts,
) -> Result<HeadAndRead, ReadError<HostError>> {
    let read = |offset, len| host.read(&device.path, offset, len);
    let Some(head) = PvHead::read(read)? else { return Ok(None) };
    let texts = head.clone().read_texts(known, read)?;
    Ok(Some((head, texts)))
}

impl Group {
    fn new(core: Core, mut devices: Vec<PvDevice>, system_id: Option<&str>) -> Self {
        devices.retain(|of| core.disks.iter().any(|disk| disk.label.pv == of.head.label.pv));
        Self { core, devices, system_id: system_id.map(str::to_owned) }
    }

    /// A group that is on no disk yet, to be committed to `joining`.
    pub(super) fn unborn(vg: VolumeGroup, system_id: Option<&str>) -> Self {
        Self::new(Core::unborn(vg), Vec::new(), system_id)
    }

    /// Reads the group; what was read last time is used again while nothing on the disks has changed.
    ///
    /// # Errors
    /// There is no such group, it contradicts itself, or it must not be used here.
    pub fn read<H: Host>(
        host: &H,
        vg: &VgName,
        settings: &Settings,
        last: Option<Self>,
    ) -> Result<Self, GroupError> {
        match last {
            Some(last) if last.core.missing.is_empty() && last.is_unchanged(host) => Ok(last),
            _ => Found::scan(host)?.group(vg, settings.system_id.as_deref()),
        }
    }

    fn is_unchanged<H: Host>(&self, host: &H) -> bool {
        self.devices.iter().all(|of| {
            let head = PvHead::read(|offset, len| host.read(&of.device.path, offset, len));
            head.is_ok_and(|head| head.as_ref() == Some(&of.head))
        })
    }

    /// Its metadata.
    #[must_use]
    pub fn vg(&self) -> &VolumeGroup {
        &self.core.vg
    }

    /// The device that the PV of this name inside the metadata is on; `None` when it is missing.
    #[must_use]
    pub fn device(&self, pv: &str) -> Option<&BlockDevice> {
        let id = self.core.vg.pv(pv)?.id;
        self.devices.iter().find(|of| of.head.label.pv == id).map(|of| &of.device)
    }

    /// The label of a PV; `None` when it is missing.
    pub(super) fn label(&self, pv: &LvmUuid) -> Option<&Label> {
        self.devices.iter().map(|of| &of.head.label).find(|label| &label.pv == pv)
    }

    /// How many of its disks are not there.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.core.missing.len()
    }

    /// Copies of the metadata that are damaged or old; a commit repairs them.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.core.faults()
    }

    /// PVs that were removed from the group while they were away.
    #[must_use]
    pub fn outdated(&self) -> &[LvmUuid] {
        &self.core.outdated
    }

    /// Makes `new` the committed version.
    ///
    /// # Errors
    /// It breaks a rule, a PV is missing, or a disk cannot be written. Then the old version counts, or the new one;
    /// the next read tells.
    pub fn commit<H: Host>(&mut self, host: &H, new: VolumeGroup, what: &str) -> Result<(), GroupError> {
        self.commit_joining(host, new, what, &[])
    }

    /// Makes `new` the committed version, with PVs that join the group.
    pub(super) fn commit_joining<H: Host>(
        &mut self,
        host: &H,
        mut new: VolumeGroup,
        what: &str,
        joining: &[(BlockDevice, PvRead)],
    ) -> Result<(), GroupError> {
        if let Some(refusal) = usable::refuse_change(&new, self.system_id.as_deref()) {
            return Err(refusal.into());
        }
        for of in &self.devices {
            if let Some(pv) = new.pvs.iter_mut().find(|pv| pv.id == of.head.label.pv) {
                pv.device = of.device.path.display().to_string();
            }
        }
        let provenance = Provenance {
            description: what.to_owned(),
            creation_host: host.host_name(),
            creation_time: host.now_unix_nanos() / 1_000_000_000,
            generated_by: concat!("splitmirror ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let pvs: Vec<PvRead> = joining.iter().map(|(_, read)| read.clone()).collect();
        let plan = commit::plan(&self.core, &new, &pvs, Missing::Refuse, &provenance)?;
        let path_of = |write: &Write| -> PathBuf {
            let known = self.devices.iter().find(|of| of.head.label.pv == write.pv).map(|of| &of.device);
            let joins =
                || joining.iter().find(|(_, read)| read.label.pv == write.pv).map(|(device, _)| device);
            known.or_else(joins).expect("the plan only writes to PVs that are here").path.clone()
        };
        for write in &plan.texts {
            host.write(&path_of(write), write.offset, &write.data)?;
        }
        let mut committed = false;
        for write in &plan.headers {
            match host.write(&path_of(write), write.offset, &write.data) {
                Ok(()) => committed = true,
                Err(error) if committed => {
                    tracing::warn!(vg = %new.name, error = chain(&error), "a disk keeps old metadata for now");
                }
                Err(error) => return Err(error.into()),
            }
        }
        for write in &plan.after {
            if let Err(error) = host.write(&path_of(write), write.offset, &write.data) {
                tracing::warn!(vg = %new.name, error = chain(&error), "a label is not up to date");
            }
        }
        tracing::debug!(vg = %new.name, seqno = plan.vg.seqno, what, "committed");
        self.read_back(host, Texts::of(plan.text, Arc::new(plan.vg)), &new.name, joining)
    }

    /// What is on the disks now counts, not what was meant.
    fn read_back<H: Host>(
        &mut self,
        host: &H,
        mut written: Texts,
        vg: &VgName,
        joining: &[(BlockDevice, PvRead)],
    ) -> Result<(), GroupError> {
        let mut devices = Vec::new();
        let mut reads = Vec::new();
        let known = self.devices.iter().map(|of| &of.device).chain(joining.iter().map(|(device, _)| device));
        for device in known {
            if let Ok(Some((head, read))) = read_pv(host, device, &mut written) {
                devices.push(PvDevice { device: device.clone(), head });
                reads.push(read);
            }
        }
        let found = Found { survey: Survey::new(reads), devices };
        *self = found.group(vg, self.system_id.as_deref())?;
        Ok(())
    }
}
