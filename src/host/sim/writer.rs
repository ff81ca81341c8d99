//! Applications: writes through a top device, a journal of what was acknowledged, and a writer that never rests.

use std::collections::BTreeMap;

use super::disk::SECTOR;
use super::errno::{EAGAIN, ENXIO, Errno};
use super::fault::Stop;
use super::world::{DM_MAJOR, World};
use crate::host::DevNo;

/// A write that an application made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The sector.
    pub sector: u64,
    /// What it is full of.
    pub value: u64,
}

/// What an application knows of its volume.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Writes that were acknowledged, in order.
    pub acknowledged: Vec<Write>,
    /// The write that was under way when power was lost: the sector may be old or new.
    pub pending: Option<Write>,
}

/// The background writer of one device.
#[derive(Clone, Debug)]
struct Load {
    sectors: u64,
    writes: u64,
    /// Sectors that it likes best.
    favourites: Vec<u64>,
}

/// All applications of the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    journals: BTreeMap<String, Journal>,
    loads: BTreeMap<String, Load>,
    next_value: u64,
}

/// The bytes of a sector that holds `value`.
pub(super) fn sector_of(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(SECTOR / 8)
}

impl Writer {
    pub(super) fn journal(&mut self, name: &str) -> &mut Journal {
        self.journals.entry(name.to_owned()).or_default()
    }

    pub(super) fn drop_journal(&mut self, name: &str) {
        self.journals.remove(name);
        self.loads.remove(name);
    }

    pub(super) fn keep_busy(&mut self, name: &str, sectors: u64, writes: u64) {
        self.loads.insert(name.to_owned(), Load { sectors, writes, favourites: Vec::new() });
    }

    pub(super) fn rest(&mut self, name: &str) {
        self.loads.remove(name);
    }

    /// A value that no sector holds yet.
    pub(super) fn fresh_value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }
}

impl World {
    /// A write to this device would have to wait: it is suspended, or something below it is.
    pub(super) fn blocked(&self, minor: u32) -> bool {
        let device = &self.dm[&minor];
        let below = |id: &u64| self.clones.get(id).into_iter().flat_map(|clone| clone.devices());
        device.suspended
            || device.live_arrays().iter().any(|id| self.leg_suspended(*id))
            || device.live_clones().iter().flat_map(below).any(|dev| self.blocked(dev.minor))
    }

    /// One write of an application.
    pub(super) fn application_write(&mut self, name: &str, write: Write) -> Result<(), Errno> {
        let minor = self.minor(name).ok_or(ENXIO)?;
        if self.blocked(minor) {
            return Err(EAGAIN);
        }
        let result =
            self.write(DevNo { major: DM_MAJOR, minor }, write.sector, &sector_of(write.value), false);
        let cut = self.stopped == Some(Stop::PowerCut);
        let journal = self.writer.journal(name);
        match result {
            Ok(()) if cut => journal.pending = Some(write),
            Ok(()) => journal.acknowledged.push(write),
            Err(_) => {}
        }
        result
    }

    /// Lets all background writers do their work, where their device runs.
    pub(super) fn write_in_background(&mut self) {
        let loads: Vec<(String, u64, u64)> =
            self.writer.loads.iter().map(|(name, load)| (name.clone(), load.sectors, load.writes)).collect();
        for (name, sectors, writes) in loads {
            let running =
                self.minor(&name).is_some_and(|minor| self.dm[&minor].live.is_some() && !self.blocked(minor));
            if !running {
                continue;
            }
            for _ in 0..writes {
                if self.stopped.is_some() {
                    return;
                }
                let sector = self.choose(&name, sectors);
                let value = self.writer.fresh_value();
                if let Err(errno) = self.application_write(&name, Write { sector, value }) {
                    self.violations.push(format!("a write to {name} failed with error {errno}"));
                }
            }
        }
    }

    /// Often a sector that was written before, so that regions are clean, dirty and dirty again.
    fn choose(&mut self, name: &str, sectors: u64) -> u64 {
        let (again, any) = (self.rng.below(2) == 0, self.rng.next());
        let load = self.writer.loads.get_mut(name).expect("only loads are asked");
        let known = u64::try_from(load.favourites.len()).unwrap_or(0);
        if again && known > 0 {
            return load.favourites[usize::try_from(any % known).unwrap_or(0)];
        }
        let sector = any % sectors;
        if known < 8 {
            load.favourites.push(sector);
        }
        sector
    }
}
