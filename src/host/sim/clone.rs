//! dm-clone as the kernel does it: which regions the destination holds is known in memory, and on disk only as of the last
//! commit.
//!
//! A commit is one sector of the metadata device. It happens once a second, at a suspend, and at a write of an application,
//! whose writes all count as ones that ask for a flush (FUA): what they were told is done is on the disks.
//! A region that was filled since the last commit is read from the source again after a power cut.
//!
//! Rules are those of Linux 6.1 (`drivers/md/dm-clone-{target,metadata}.c`). A discard marks regions as held that nobody
//! has written: the machine notes it as a violation when such a device is used while it takes discards.

use super::disk::{SECTOR, index, wide};
use super::errno::{EINVAL, Errno};
use super::fault::Stop;
use super::world::World;
use crate::host::DevNo;

const MAGIC: u64 = 0x636c_6f6e_6521;
/// Bytes of a record before its bits.
const HEADER: usize = 24;
const COMMIT_NANOS: u64 = 1_000_000_000;

/// One instance of the target.
#[derive(Clone, Debug)]
pub(super) struct Clone {
    record: DevNo,
    dest: DevNo,
    source: DevNo,
    len: u64,
    region: u64,
    held: Vec<bool>,
    copying: bool,
    /// Something is held that the record on disk does not tell.
    changed: bool,
    since_commit: u64,
    /// Sectors that may be copied, times nanoseconds in a second.
    credit: u64,
    options: String,
}

impl Clone {
    /// The constructor: a record of zeroes is a new one.
    pub(super) fn construct(world: &World, params: &str, len: u64) -> Result<Self, Errno> {
        let mut words = params.split_ascii_whitespace();
        let mut word = || words.next().ok_or(EINVAL);
        let (record, dest, source) = (world.lookup(word()?)?, world.lookup(word()?)?, world.lookup(word()?)?);
        let region: u64 = word()?.parse().map_err(|_| EINVAL)?;
        let options = words.collect::<Vec<_>>().join(" ");
        if world.size(dest).is_none_or(|size| size < len) || world.size(source).is_none_or(|size| size < len)
        {
            return Err(EINVAL);
        }
        let regions = len.div_ceil(region);
        let sector = world.read(record, 0, 1)?;
        let number = |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().expect("eight bytes"));
        let held = if sector.iter().all(|byte| *byte == 0) {
            vec![false; index(regions)]
        } else if (number(0), number(8), number(16)) == (MAGIC, region, regions) {
            (0..index(regions)).map(|n| sector[HEADER + n / 8] & (1 << (n % 8)) != 0).collect()
        } else {
            return Err(EINVAL);
        };
        let copying = !options.contains("no_hydration");
        Ok(Self {
            record,
            dest,
            source,
            len,
            region,
            held,
            copying,
            changed: false,
            since_commit: 0,
            credit: 0,
            options,
        })
    }

    pub(super) fn devices(&self) -> [DevNo; 3] {
        [self.record, self.dest, self.source]
    }

    pub(super) fn table(&self) -> String {
        format!("{} {} {} {} {}", self.record, self.dest, self.source, self.region, self.options)
    }

    pub(super) fn status(&self) -> String {
        let held = self.held.iter().filter(|held| **held).count();
        let flags = if self.copying { "1 no_discard_passdown" } else { "2 no_hydration no_discard_passdown" };
        format!("8 10/256 {} {held}/{} 0 {flags} 0 rw", self.region, self.held.len())
    }

    pub(super) fn message(&mut self, message: &str) -> Result<(), Errno> {
        self.copying = match message {
            "enable_hydration" => true,
            "disable_hydration" => false,
            _ => return Err(EINVAL),
        };
        Ok(())
    }

    fn regions(&self, sector: u64, count: u64) -> std::ops::Range<usize> {
        index(sector / self.region)..index((sector + count).div_ceil(self.region))
    }

    pub(super) fn read(&self, world: &World, sector: u64, count: u64) -> Result<Vec<u8>, Errno> {
        let mut data = Vec::new();
        let (mut at, end) = (sector, sector + count);
        while at < end {
            let region = at / self.region;
            let stop = end.min((region + 1) * self.region);
            let from = if self.held[index(region)] { self.dest } else { self.source };
            data.extend(world.read(from, at, stop - at)?);
            at = stop;
        }
        Ok(data)
    }

    pub(super) fn write(&mut self, world: &mut World, sector: u64, data: &[u8]) -> Result<(), Errno> {
        for region in self.regions(sector, wide(data.len() / SECTOR)) {
            self.fill(world, region)?;
        }
        world.write(self.dest, sector, data, false)?;
        self.commit(world)
    }

    fn fill(&mut self, world: &mut World, region: usize) -> Result<(), Errno> {
        if self.held[region] {
            return Ok(());
        }
        let start = wide(region) * self.region;
        let count = self.region.min(self.len - start);
        let data = world.read(self.source, start, count)?;
        world.write(self.dest, start, &data, false)?;
        if world.stopped != Some(Stop::PowerCut) {
            self.held[region] = true;
            self.changed = true;
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, world: &mut World) -> Result<(), Errno> {
        self.since_commit = 0;
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let mut sector = vec![0; SECTOR];
        for (at, number) in [(0, MAGIC), (8, self.region), (16, wide(self.held.len()))] {
            sector[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        for n in (0..self.held.len()).filter(|n| self.held[*n]) {
            sector[HEADER + n / 8] |= 1 << (n % 8);
        }
        world.write(self.record, 0, &sector, false)
    }

    /// Copies what comes next, and commits when it is time.
    pub(super) fn tick(&mut self, world: &mut World, nanos: u64) {
        let cost = self.region * 1_000_000_000;
        self.credit = if self.copying { self.credit + world.sync_sectors_per_second * nanos } else { 0 };
        while self.credit >= cost && world.stopped.is_none() {
            let Some(region) = self.held.iter().position(|held| !held) else {
                self.credit = 0;
                break;
            };
            if let Err(errno) = self.fill(world, region) {
                world.violations.push(format!("region {region} could not be filled: error {errno}"));
                break;
            }
            self.credit -= cost;
        }
        self.since_commit += nanos;
        if self.since_commit >= COMMIT_NANOS
            && world.stopped.is_none()
            && let Err(errno) = self.commit(world)
        {
            world.violations.push(format!("the record could not be written: error {errno}"));
        }
    }
}
