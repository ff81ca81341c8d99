//! Pools: volume groups as a whole.

use std::path::{Path, PathBuf};

use crate::alloc;
use crate::engine::clone::is_record;
use crate::engine::group::{Found, Group, GroupError};
use crate::engine::{Engine, Error, Result, Settings, lock};
use crate::host::{BlockDevice, Host};
use crate::ids::{LvmUuid, VgName};
use crate::lvm2::commit::{self, Write};
use crate::lvm2::edit::{self, NewGroup, NewPv};
use crate::lvm2::label::{DATA_START, Label};
use crate::lvm2::model::VolumeGroup;
use crate::lvm2::read::PvRead;
use crate::lvm2::usable;
use crate::report::{Class, chain};
use crate::units::{Bytes, Extents, Sectors};
use crate::volume::info::{DiskInfo, Largest, PoolInfo};
use crate::volume::spec::{IMAGES_DEFAULT, IMAGES_MAX, IMAGES_MIN};
use crate::volume::tags::VolumeTags;

/// Fewest devices of a pool: as many as a volume has images when nothing is said.
const DEVICES_MIN: usize = IMAGES_DEFAULT;

/// How a pool is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of one extent; a power of two.
    pub extent_size: Bytes,
    /// Devices that may be taken although something is on them.
    pub wipe_signatures: Vec<PathBuf>,
    /// The host's LVM2 system id.
    pub system_id: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { extent_size: Bytes::mib(4), wipe_signatures: Vec::new(), system_id: None }
    }
}

/// Makes a pool of devices. Repeating it gives the same pool.
///
/// # Errors
/// A device carries something and is not named in `wipe_signatures`, or is in use (`Precondition`); the name is taken
/// (`Exists`).
pub fn create<H: Host>(host: &H, name: &VgName, devices: &[PathBuf], options: &Options) -> Result<PoolInfo> {
    if devices.len() < DEVICES_MIN {
        let message =
            format!("a pool needs at least {DEVICES_MIN} devices: each image of a volume has one of its own");
        return Err(Error::refused(Class::Invalid, message));
    }
    let extent = options.extent_size.0;
    if !extent.is_power_of_two() || extent < Bytes::kib(512).0 || extent > Bytes::gib(1).0 {
        let message =
            format!("{} is no extent size: a power of two from 512KiB to 1GiB", options.extent_size);
        return Err(Error::refused(Class::Invalid, message));
    }
    let _global = host.lock_global()?;
    let _lock = host.lock_vg(name)?;
    let found = Found::scan(host)?;
    let taken = resolve(host, devices)?;
    if let Some(there) = found.survey.groups.iter().find(|group| &group.vg.name == name) {
        let mut have: Vec<&Path> =
            there.disks.iter().filter_map(|pv| Some(found.device(&pv.label.pv)?.path.as_path())).collect();
        let mut want: Vec<&Path> = taken.iter().map(|device| device.path.as_path()).collect();
        have.sort();
        want.sort();
        if have != want || !there.missing.is_empty() {
            let message = format!("volume group {name} exists, on {}", list_paths(&have));
            return Err(Error::refused(Class::Exists, message));
        }
        finish_interrupted(host, name, options)?;
    } else {
        if let Some(broken) = found.broken(name) {
            return Err(broken.into());
        }
        let joining = prepare(host, &found, &taken, &options.wipe_signatures)?;
        let id = LvmUuid::from_random(host.random());
        let vg = edit::create_vg(NewGroup {
            name: name.clone(),
            id,
            extent_size: options.extent_size.sectors_floor(),
            system_id: options.system_id.clone(),
            tags: Vec::new(),
            flags: Vec::new(),
            pvs: joining.iter().map(new_pv).collect(),
        })?;
        let mut group = Group::unborn(vg.clone(), options.system_id.as_deref());
        let vg = VolumeGroup { seqno: 0, ..vg };
        group.commit_joining(host, vg, &format!("create pool {name}"), &joining)?;
        host.invalidate_hints()?;
    }
    let settings = Settings { system_id: options.system_id.clone(), ..Settings::default() };
    show(host, name, &settings)
}

/// Adds devices to a pool. Devices that are already in it are no error.
///
/// # Errors
/// As for [`create`].
pub fn extend<H: Host>(host: &H, name: &VgName, devices: &[PathBuf], options: &Options) -> Result<PoolInfo> {
    let settings = Settings { system_id: options.system_id.clone(), ..Settings::default() };
    let _global = host.lock_global()?;
    let _lock = host.lock_vg(name)?;
    let found = Found::scan(host)?;
    let mut taken = resolve(host, devices)?;
    let members: Vec<PathBuf> = found
        .survey
        .groups
        .iter()
        .filter(|group| &group.vg.name == name)
        .flat_map(|group| group.disks.iter().filter_map(|pv| Some(found.device(&pv.label.pv)?.path.clone())))
        .collect();
    taken.retain(|device| !members.contains(&device.path));
    if taken.is_empty() {
        finish_interrupted(host, name, options)?;
    } else {
        let mut group = found.clone().group(name, settings.system_id.as_deref())?;
        refuse_resize(group.vg(), &settings)?;
        let joining = prepare(host, &found, &taken, &options.wipe_signatures)?;
        let grown = joining.iter().try_fold(group.vg().clone(), |vg, pv| edit::add_pv(&vg, new_pv(pv)))?;
        group.commit_joining(host, grown, &format!("extend pool {name}"), &joining)?;
        host.invalidate_hints()?;
    }
    show(host, name, &settings)
}

impl<H: Host> Engine<H> {
    /// The pool as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn info(&self) -> Result<PoolInfo> {
        self.session(|session| {
            let group = &*session.group;
            let device = |pv: &LvmUuid| {
                let pv = group.vg().pv_by_id(pv)?;
                group.device(&pv.name).cloned()
            };
            let problems = problems(group.vg(), group.missing(), group.faults().len(), session.settings);
            Ok(info(group.vg(), device, problems))
        })
    }

    /// Adds devices to the pool, as [`extend`] does, while nothing else in this process works on it.
    ///
    /// # Errors
    /// As for [`extend`].
    pub fn extend(&self, devices: &[PathBuf], options: &Options) -> Result<PoolInfo> {
        let _alone = lock(&self.session);
        extend(self.host(), self.pool(), devices, options)
    }
}

/// Groups on this machine's disks that hold volumes which were made by this program.
///
/// # Errors
/// The disks cannot be scanned.
pub fn ours<H: Host>(host: &H) -> Result<Vec<VgName>> {
    let found = Found::scan(host)?;
    let made = |vg: &VolumeGroup| vg.lvs.iter().any(|lv| VolumeTags::of(lv).name.is_some());
    Ok(found
        .survey
        .groups
        .iter()
        .map(|group| &group.vg)
        .filter(|vg| made(vg))
        .map(|vg| vg.name.clone())
        .collect())
}

/// Takes devices out of a pool; they are no PVs any more. Devices that are not in it are no error.
///
/// # Errors
/// A device holds part of a volume, or is the last but one (`Precondition`).
pub fn reduce<H: Host>(host: &H, name: &VgName, devices: &[PathBuf], options: &Options) -> Result<PoolInfo> {
    let settings = Settings { system_id: options.system_id.clone(), ..Settings::default() };
    let _global = host.lock_global()?;
    let _lock = host.lock_vg(name)?;
    let leaving = resolve(host, devices)?;
    let mut group = Group::read(host, name, &settings, None)?;
    refuse_resize(group.vg(), &settings)?;
    let mut vg = group.vg().clone();
    let mut gone: Vec<(Label, BlockDevice)> = Vec::new();
    for device in leaving {
        let pv = vg.pvs.iter().find(|pv| group.device(&pv.name).is_some_and(|at| at.path == device.path));
        let Some(pv) = pv.cloned() else { continue };
        vg = edit::remove_pv(&vg, &pv.name).map_err(|error| {
            let message = format!("{} stays in pool {name}: {}", device.path.display(), chain(&error));
            Error::refused(Class::Precondition, message)
        })?;
        gone.extend(group.label(&pv.id).map(|label| (label.clone(), device)));
    }
    if vg.pvs.len() < DEVICES_MIN {
        let message = format!("pool {name} must keep at least {DEVICES_MIN} devices");
        return Err(Error::refused(Class::Precondition, message));
    }
    if !gone.is_empty() {
        group.commit(host, vg, &format!("reduce pool {name}"))?;
        for (label, device) in &gone {
            write_all(host, device, &commit::wipe_pv(label))?;
            // The texts too: a device that is given back is blank where we wrote.
            for area in &label.metadata {
                host.zero(&device.path, area.offset, area.size)?;
            }
        }
        host.invalidate_hints()?;
    }
    show(host, name, &settings)
}

/// All pools on this machine's disks, also those that cannot be used: their problems say why.
///
/// # Errors
/// The disks cannot be scanned.
pub fn list<H: Host>(host: &H, settings: &Settings) -> Result<Vec<PoolInfo>> {
    Ok(all(&Found::scan(host)?, settings))
}

fn all(found: &Found, settings: &Settings) -> Vec<PoolInfo> {
    let broken: Vec<PoolInfo> = found
        .survey
        .broken
        .iter()
        .filter_map(|broken| {
            Some(PoolInfo {
                name: broken.name.as_ref()?.parse().ok()?,
                id: String::new(),
                seqno: 0,
                extent_size: Bytes::ZERO,
                disks: Vec::new(),
                volumes: 0,
                largest: Vec::new(),
                problems: vec![chain(&broken.error)],
            })
        })
        .collect();
    let mut pools: Vec<PoolInfo> = found
        .survey
        .groups
        .iter()
        .map(|group| {
            let device = |pv: &LvmUuid| found.device(pv).cloned();
            info(&group.vg, device, problems(&group.vg, group.missing.len(), group.faults().len(), settings))
        })
        .chain(broken)
        .collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    pools
}

/// One pool.
///
/// # Errors
/// There is none of this name.
pub fn show<H: Host>(host: &H, name: &VgName, settings: &Settings) -> Result<PoolInfo> {
    let found = Found::scan(host)?;
    let pool = all(&found, settings).into_iter().find(|pool| &pool.name == name);
    pool.ok_or_else(|| found.no_group(name).into())
}

fn info(
    vg: &VolumeGroup,
    device: impl Fn(&LvmUuid) -> Option<BlockDevice>,
    problems: Vec<String>,
) -> PoolInfo {
    let extent = vg.extent_size;
    let disks: Vec<DiskInfo> = vg
        .pvs
        .iter()
        .map(|pv| {
            let here = device(&pv.id);
            let free: Extents = vg.free(&pv.name).iter().map(|run| run.count).sum();
            DiskInfo {
                device: here.as_ref().map_or_else(|| pv.device.clone(), |at| at.path.display().to_string()),
                id: pv.id.to_string(),
                size: pv.pe_count.bytes(extent),
                free: free.bytes(extent),
                missing: here.is_none(),
            }
        })
        .collect();
    let largest = |images| {
        let meta = alloc::meta_extents(Sectors(1), Sectors(1), extent);
        Largest {
            images,
            size: alloc::largest(vg, images, meta).bytes(extent),
            available: alloc::capacity(vg, images, meta).bytes(extent),
        }
    };
    PoolInfo {
        name: vg.name.clone(),
        id: vg.id.to_string(),
        seqno: vg.seqno,
        extent_size: extent.bytes(),
        largest: (IMAGES_MIN..=disks.len().min(IMAGES_MAX)).map(largest).collect(),
        disks,
        volumes: vg
            .lvs
            .iter()
            .filter(|lv| lv.raid1().is_some() && lv.has("VISIBLE") && !is_record(lv))
            .count(),
        problems,
    }
}

fn problems(vg: &VolumeGroup, missing: usize, faults: usize, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    problems
        .extend(usable::refuse_change(vg, settings.system_id.as_deref()).map(|refusal| refusal.to_string()));
    if missing > 0 {
        problems.push(format!("{missing} of its disks are missing"));
    }
    if faults > 0 {
        problems.push(format!(
            "{faults} copies of its metadata are old or damaged; the next change writes them again"
        ));
    }
    problems
}

fn refuse_resize(vg: &VolumeGroup, settings: &Settings) -> Result<()> {
    match usable::refuse_resize(vg, settings.system_id.as_deref()) {
        Some(refusal) => Err(GroupError::from(refusal).into()),
        None => Ok(()),
    }
}

/// The devices as the kernel knows them. Symbolic links are for front ends to follow.
fn resolve<H: Host>(host: &H, paths: &[PathBuf]) -> Result<Vec<BlockDevice>> {
    let known = host.scan()?;
    let mut taken: Vec<BlockDevice> = Vec::new();
    for path in paths {
        let Some(device) = known.iter().find(|device| &device.path == path) else {
            let message = format!("{} is no block device that a pool can be made of", path.display());
            return Err(Error::refused(Class::Invalid, message));
        };
        if taken.iter().any(|other| other.devno == device.devno) {
            let message = format!("{} is named twice", path.display());
            return Err(Error::refused(Class::Invalid, message));
        }
        taken.push(device.clone());
    }
    Ok(taken)
}

/// Makes PVs of devices, after a look at every one of them. A PV in no group, such as an interrupted run leaves it, is
/// taken as it is.
fn prepare<H: Host>(
    host: &H,
    found: &Found,
    devices: &[BlockDevice],
    wipe: &[PathBuf],
) -> Result<Vec<(BlockDevice, PvRead)>> {
    let orphan = |device: &BlockDevice| {
        found
            .survey
            .orphans
            .iter()
            .find(|pv| found.device(&pv.label.pv).is_some_and(|at| at.devno == device.devno))
    };
    for device in devices {
        let probe = host.probe(&device.path)?;
        let refuse = |why: String| {
            Err(Error::refused(
                Class::Precondition,
                format!("{} is left alone: {why}", device.path.display()),
            ))
        };
        if let Some(user) = probe.in_use {
            return refuse(format!("it is in use by {user}"));
        }
        if let Some(pv) = found.pv(device) {
            let member = found.survey.groups.iter().find(|group| group.vg.pv_by_id(pv).is_some());
            if let Some(group) = member {
                return refuse(format!("it belongs to volume group {}", group.vg.name));
            }
            if let Some(broken) = found.survey.broken.iter().find(|broken| broken.pvs.contains(pv)) {
                let name = broken.name.as_deref().unwrap_or("of unknown name");
                return refuse(format!("it belongs to volume group {name} ({})", chain(&broken.error)));
            }
            if let Some(other) = found.clone_of(device) {
                return refuse(format!(
                    "{} carries the same PV: one is a clone of the other",
                    other.display()
                ));
            }
        }
        if !probe.signatures.is_empty() && orphan(device).is_none() && !wipe.contains(&device.path) {
            return refuse(format!(
                "it carries {}; name it in `wipe` (--wipe-signatures) if what is on it may be destroyed",
                probe.signatures.join(", ")
            ));
        }
    }
    devices
        .iter()
        .map(|device| {
            if let Some(read) = orphan(device) {
                return Ok((device.clone(), read.clone()));
            }
            let label = Label::fresh(LvmUuid::from_random(host.random()), device.size.bytes(), false);
            for step in commit::init_pv(&label).map_err(GroupError::from)? {
                write_all(host, device, &step)?;
            }
            Ok((device.clone(), PvRead::fresh(label)))
        })
        .collect()
}

/// A run that was cut short may have left disks without the newest metadata; a commit writes it to all of them.
fn finish_interrupted<H: Host>(host: &H, name: &VgName, options: &Options) -> Result<()> {
    let settings = Settings { system_id: options.system_id.clone(), ..Settings::default() };
    let mut group = Group::read(host, name, &settings, None)?;
    if !group.faults().is_empty() {
        let same = group.vg().clone();
        group.commit(host, same, "finish an interrupted change")?;
        host.invalidate_hints()?;
    }
    Ok(())
}

fn new_pv((device, read): &(BlockDevice, PvRead)) -> NewPv {
    NewPv {
        id: read.label.pv,
        device: device.path.display().to_string(),
        size: device.size,
        data_start: read.label.data.first().map_or(DATA_START, |area| area.offset).sectors_floor(),
        tags: Vec::new(),
    }
}

fn write_all<H: Host>(host: &H, device: &BlockDevice, writes: &[Write]) -> Result<()> {
    for write in writes {
        host.write(&device.path, write.offset, &write.data)?;
    }
    Ok(())
}

fn list_paths(paths: &[&Path]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
