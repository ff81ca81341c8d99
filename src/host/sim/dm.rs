//! Device-mapper: devices with a live and an inactive table, and what the ioctls do to them.

use super::clone::Clone as CloneTarget;
use super::errno::{EBUSY, EINVAL, ENOENT, ENXIO, Errno};
use super::md::Array;
use super::world::{DM_MAJOR, World};
use crate::host::{DevNo, DmEntry, DmInfo, TargetLine};
use crate::ids::DmId;
use crate::units::Sectors;

/// How a stretch of a device is mapped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Linear { dev: DevNo, first: u64 },
    Error,
    Zero,
    Raid(u64),
    Clone(u64),
}

/// One line of a table.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) kind: Kind,
}

/// A table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) targets: Vec<Target>,
    read_only: bool,
}

impl Table {
    fn arrays(&self) -> impl Iterator<Item = u64> {
        self.targets.iter().filter_map(|target| match target.kind {
            Kind::Raid(id) => Some(id),
            Kind::Linear { .. } | Kind::Error | Kind::Zero | Kind::Clone(_) => None,
        })
    }

    fn clones(&self) -> impl Iterator<Item = u64> {
        self.targets.iter().filter_map(|target| match target.kind {
            Kind::Clone(id) => Some(id),
            Kind::Linear { .. } | Kind::Error | Kind::Zero | Kind::Raid(_) => None,
        })
    }
}

/// A device.
#[derive(Clone, Debug)]
pub(super) struct Device {
    id: DmId,
    pub(super) live: Option<Table>,
    inactive: Option<Table>,
    pub(super) suspended: bool,
    pub(super) read_only: bool,
    /// It was made read-only for good, whatever table it gets.
    pub(super) protected: bool,
    /// It takes discards; each new table makes it so again.
    pub(super) discards: bool,
    /// Mounts and processes that have it open.
    pub(super) holders: u32,
}

impl Device {
    pub(super) fn sectors(&self) -> u64 {
        self.live.as_ref().and_then(|table| table.targets.last()).map_or(0, |last| last.start + last.len)
    }

    pub(super) fn live_arrays(&self) -> Vec<u64> {
        self.live.iter().flat_map(Table::arrays).collect()
    }

    pub(super) fn live_clones(&self) -> Vec<u64> {
        self.live.iter().flat_map(Table::clones).collect()
    }

    /// Whether one of its tables maps to this disk or device.
    pub(super) fn uses(&self, on: DevNo) -> bool {
        let tables = self.live.iter().chain(&self.inactive);
        tables
            .flat_map(|table| &table.targets)
            .any(|target| matches!(target.kind, Kind::Linear { dev, .. } if dev == on))
    }

    pub(super) fn name(&self) -> &str {
        &self.id.name
    }
}

impl World {
    pub(super) fn minor(&self, name: &str) -> Option<u32> {
        self.dm.iter().find(|(_, device)| device.id.name == name).map(|(minor, _)| *minor)
    }

    fn device(&mut self, name: &str) -> Result<(u32, &mut Device), Errno> {
        let minor = self.minor(name).ok_or(ENXIO)?;
        Ok((minor, self.dm.get_mut(&minor).expect("just found")))
    }

    /// How often a device is open: each device whose tables use it counts once.
    pub(super) fn open_count(&self, minor: u32) -> u32 {
        let dev = DevNo { major: DM_MAJOR, minor };
        let uses = |target: &Target| match target.kind {
            Kind::Linear { dev: on, .. } => on == dev,
            Kind::Raid(id) => self.arrays.get(&id).is_some_and(|array| array.devices().any(|on| on == dev)),
            Kind::Clone(id) => self.clones.get(&id).is_some_and(|clone| clone.devices().contains(&dev)),
            Kind::Error | Kind::Zero => false,
        };
        let parents = self.dm.values().filter(|device| {
            device.live.iter().chain(&device.inactive).flat_map(|table| &table.targets).any(uses)
        });
        self.dm[&minor].holders + u32::try_from(parents.count()).expect("few devices")
    }

    pub(super) fn dm_info(&self, name: &str) -> Option<DmInfo> {
        let minor = self.minor(name)?;
        let device = &self.dm[&minor];
        Some(DmInfo {
            uuid: device.id.uuid.clone(),
            devno: DevNo { major: DM_MAJOR, minor },
            open_count: self.open_count(minor),
            suspended: device.suspended,
            read_only: device.read_only || device.protected,
            inactive_table: device.inactive.is_some(),
            live_table: device.live.is_some(),
        })
    }

    pub(super) fn dm_list(&self) -> Vec<DmEntry> {
        let entry = |(minor, device): (&u32, &Device)| DmEntry {
            name: device.id.name.clone(),
            uuid: device.id.uuid.clone(),
            devno: DevNo { major: DM_MAJOR, minor: *minor },
        };
        self.dm.iter().map(entry).collect()
    }

    pub(super) fn dm_rename(&mut self, name: &str, new_name: &str) -> Result<(), Errno> {
        if self.minor(new_name).is_some() {
            return Err(EBUSY);
        }
        new_name.clone_into(&mut self.device(name)?.1.id.name);
        Ok(())
    }

    /// The live table, or with `status` what its targets say.
    pub(super) fn dm_lines(&self, name: &str, status: bool) -> Result<Vec<TargetLine>, Errno> {
        let device = &self.dm[&self.minor(name).ok_or(ENXIO)?];
        let line = |target: &Target| {
            let (kind, params) = match target.kind {
                Kind::Linear { .. } if status => ("linear", String::new()),
                Kind::Linear { dev, first } => ("linear", format!("{dev} {first}")),
                Kind::Error => ("error", String::new()),
                Kind::Zero => ("zero", String::new()),
                Kind::Clone(id) if status => ("clone", self.clones[&id].status()),
                Kind::Clone(id) => ("clone", self.clones[&id].table()),
                Kind::Raid(id) if status => ("raid", self.arrays[&id].status()),
                Kind::Raid(id) => ("raid", self.arrays[&id].table()),
            };
            TargetLine {
                start: Sectors(target.start),
                len: Sectors(target.len),
                target: kind.to_owned(),
                params,
            }
        };
        Ok(device.live.iter().flat_map(|table| &table.targets).map(line).collect())
    }

    pub(super) fn dm_create(&mut self, id: &DmId) -> Result<(), Errno> {
        if self.dm.values().any(|d| d.id.name == id.name || (!id.uuid.is_empty() && d.id.uuid == id.uuid)) {
            return Err(EBUSY);
        }
        let minor = (0..).find(|minor| !self.dm.contains_key(minor)).expect("some number is free");
        let device = Device {
            id: id.clone(),
            live: None,
            inactive: None,
            suspended: false,
            read_only: false,
            protected: false,
            discards: false,
            holders: 0,
        };
        self.dm.insert(minor, device);
        Ok(())
    }

    fn target(&mut self, line: &TargetLine) -> Result<Target, Errno> {
        let kind = match line.target.as_str() {
            "error" => Kind::Error,
            "zero" => Kind::Zero,
            "clone" => {
                let clone = CloneTarget::construct(self, &line.params, line.len.0)?;
                self.next_array += 1;
                self.clones.insert(self.next_array, clone);
                Kind::Clone(self.next_array)
            }
            "linear" => {
                let (dev, first) = line.params.trim().split_once(' ').ok_or(EINVAL)?;
                let (dev, first) = (self.lookup(dev)?, first.trim().parse::<u64>().map_err(|_| EINVAL)?);
                if self.size(dev).is_none_or(|size| first + line.len.0 > size) {
                    return Err(EINVAL);
                }
                Kind::Linear { dev, first }
            }
            "raid" => {
                let array = Array::construct(self, &line.params, line.len.0)?;
                self.next_array += 1;
                self.arrays.insert(self.next_array, array);
                Kind::Raid(self.next_array)
            }
            _ => return Err(EINVAL),
        };
        Ok(Target { start: line.start.0, len: line.len.0, kind })
    }

    fn mounted(&self, target: &Target) -> bool {
        let busy = |dev: &DevNo| {
            dev.major == DM_MAJOR && self.dm.get(&dev.minor).is_some_and(|device| device.holders > 0)
        };
        match target.kind {
            Kind::Linear { dev, .. } => busy(&dev),
            Kind::Raid(id) => self.arrays[&id].devices().any(|dev| busy(&dev)),
            Kind::Clone(id) => self.clones[&id].devices().iter().any(busy),
            Kind::Error | Kind::Zero => false,
        }
    }

    /// Constructs a table into the inactive slot, and then drops the one that waited there.
    pub(super) fn dm_load(&mut self, name: &str, lines: &[TargetLine], read_only: bool) -> Result<(), Errno> {
        let (minor, _) = self.device(name)?;
        let mut end = 0;
        let mut table = Table { targets: Vec::new(), read_only };
        for line in lines {
            if line.start.0 != end || line.len.0 == 0 {
                return Err(self.forget(&table, EINVAL));
            }
            end += line.len.0;
            match self.target(line) {
                Ok(target) => table.targets.push(target),
                Err(errno) => return Err(self.forget(&table, errno)),
            }
        }
        if table.targets.is_empty() {
            return Err(EINVAL);
        }
        if table.targets.iter().any(|target| self.mounted(target)) {
            return Err(self.forget(&table, EBUSY));
        }
        let device = self.dm.get_mut(&minor).expect("just found");
        let old = device.inactive.replace(table);
        self.destroy(old);
        Ok(())
    }

    /// A table was refused: its arrays never came to life.
    fn forget(&mut self, table: &Table, errno: Errno) -> Errno {
        for id in table.arrays() {
            self.arrays.remove(&id);
        }
        for id in table.clones() {
            self.clones.remove(&id);
        }
        errno
    }

    fn destroy(&mut self, table: Option<Table>) {
        for id in table.iter().flat_map(Table::clones) {
            self.clones.remove(&id);
        }
        for id in table.iter().flat_map(Table::arrays) {
            let array = self.arrays.remove(&id).expect("tables and arrays are made and dropped together");
            array.destroy(self);
        }
    }

    pub(super) fn dm_clear(&mut self, name: &str) -> Result<(), Errno> {
        let old = self.device(name)?.1.inactive.take();
        self.destroy(old);
        Ok(())
    }

    pub(super) fn dm_suspend(&mut self, name: &str) -> Result<(), Errno> {
        let (minor, device) = self.device(name)?;
        if !std::mem::replace(&mut device.suspended, true) {
            for id in self.dm[&minor].live_arrays() {
                self.with_array(id, Array::suspend);
            }
            for id in self.dm[&minor].live_clones() {
                self.with_clone(id, CloneTarget::commit)?;
            }
        }
        Ok(())
    }

    /// Swaps tables and lets I/O go on; the table that was replaced is dropped only then, while I/O runs already.
    pub(super) fn dm_resume(&mut self, name: &str) -> Result<(), Errno> {
        let (minor, device) = self.device(name)?;
        let waiting = device.inactive.is_some();
        if waiting && !device.suspended {
            self.dm_suspend(name)?;
        }
        let device = self.dm.get_mut(&minor).expect("just found");
        let mut old = None;
        if waiting {
            old = std::mem::replace(&mut device.live, device.inactive.take());
            device.read_only = device.live.as_ref().is_some_and(|table| table.read_only);
            device.discards = true;
        }
        if device.suspended && device.live.is_some() {
            let arrays = device.live_arrays();
            for id in &arrays {
                self.with_array(*id, Array::preresume);
            }
            for id in &arrays {
                self.with_array(*id, Array::resume);
            }
            self.dm.get_mut(&minor).expect("just found").suspended = false;
        }
        self.write_in_background();
        self.destroy(old);
        Ok(())
    }

    pub(super) fn dm_protect(&mut self, name: &str) -> Result<(), Errno> {
        let device = self.device(name)?.1;
        if device.live.is_none() {
            return Err(ENOENT); // it has no node before its first table
        }
        device.protected = true;
        Ok(())
    }

    pub(super) fn dm_remove(&mut self, name: &str) -> Result<(), Errno> {
        let (minor, _) = self.device(name)?;
        if self.open_count(minor) > 0 {
            return Err(EBUSY);
        }
        self.dm_clear(name)?;
        self.dm_suspend(name)?;
        let device = self.dm.remove(&minor).expect("just found");
        self.destroy(device.live);
        self.sectors_written.remove(&DevNo { major: DM_MAJOR, minor });
        Ok(())
    }

    pub(super) fn dm_message(&mut self, name: &str, message: &str) -> Result<(), Errno> {
        let (_, device) = self.device(name)?;
        let suspended = device.suspended;
        if let [id] = device.live_clones().as_slice() {
            return self.with_clone(*id, |clone, _| clone.message(message));
        }
        match device.live_arrays().as_slice() {
            [id] if !suspended => self.with_array(*id, |array, _| array.message(message)),
            [_] => Err(EBUSY),
            _ => Err(EINVAL),
        }
    }
}
