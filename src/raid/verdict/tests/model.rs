//! A small dm-raid: what is in memory, what is on the disks, and in which order the one becomes the other. The power
//! can go between any two writes, and writes that are issued together reach the disks in any order.
//!
//! Written from the kernel's sources, not from the verdicts: `super_load`, `super_init_validation`,
//! `super_validate`, `super_sync`, `md_update_sb`, `md_bitmap_{read_sb,load,init_from_disk,update_sb,startwrite,endwrite,
//! daemon_work,start_sync,flush}`, `md_stop_writes`, `raid1_sync_request`. It leaves out errors, resync and reshape.

use super::*;

/// Few regions, so that writes meet.
pub(super) const REGIONS: usize = 4;
const REGION: Bytes = Bytes::mib(2);

/// The length of the model's array.
pub(super) fn array() -> Sectors {
    (REGION * 4).sectors_floor()
}

pub(super) type Data = [u32; REGIONS];

/// What survives a power cut.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) data: Data,
    pub(super) meta: LegMeta,
}

impl Disk {
    pub(super) fn sb(&self) -> &Superblock {
        self.meta.superblock.as_ref().expect("the model's legs are started")
    }
}

/// The machine: its disks, and how many more writes reach them.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) disks: Vec<Disk>,
    pub(super) writes_left: usize,
    chance: u64,
}

impl Machine {
    /// A started array of legs in sync.
    pub(super) fn new(slots: usize, chance: u64) -> Self {
        let disk = |slot| {
            let header = BitmapHeader { events: 5, events_cleared: 5, ..BitmapHeader::new(array(), REGION) };
            let count = u32::try_from(slots).expect("few");
            let superblock = Superblock { events: 5, ..Superblock::new(count, slot, array()) };
            let bitmap = Bitmap::new(header, array());
            Disk { data: [0; REGIONS], meta: LegMeta { superblock: Some(superblock), bitmap: Some(bitmap) } }
        };
        Self { disks: (0..).take(slots).map(disk).collect(), writes_left: usize::MAX, chance: chance | 1 }
    }

    pub(super) fn chance(&mut self, of: usize) -> usize {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.chance >> 33).expect("31 bits") % of.max(1)
    }

    pub(super) fn has_power(&self) -> bool {
        self.writes_left > 0
    }

    /// Writes issued together: in any order, and only as many as the power lasts.
    pub(super) fn write(&mut self, slots: &[usize], mut change: impl FnMut(usize, &mut Disk)) {
        let mut slots = slots.to_vec();
        while !slots.is_empty() && self.has_power() {
            let next = self.chance(slots.len());
            let slot = slots.swap_remove(next);
            change(slot, &mut self.disks[slot]);
            self.writes_left = self.writes_left.saturating_sub(1);
        }
    }
}

/// What a table says of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Empty,
    Leg,
    Rebuild,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bit {
    Clean,
    /// Written, and to be cleared by the daemon.
    Dirty,
    /// To be copied; not cleared before.
    Needed,
}

#[derive(Clone, Debug)]
struct Leg {
    in_sync: bool,
    /// Regions that are good; all when in sync.
    done: usize,
    /// Everything is copied, not only what is marked.
    fully: bool,
}

/// A running instance of the target.
#[derive(Clone, Debug)]
pub(super) struct Md {
    legs: Vec<Option<Leg>>,
    events: u64,
    can_step_back: bool,
    idle: bool,
    bits: [Bit; REGIONS],
    /// The first page of the bitmap, as it is written.
    page: [bool; REGIONS],
    header: BitmapHeader,
    cleared: u64,
    stale: bool,
    new_legs: bool,
    /// Kernels from 6.14 on keep a mark when the array is degraded, older ones when a write missed a leg.
    newer: bool,
}

impl Md {
    /// The constructor: reads the superblocks as they are now.
    pub(super) fn load(machine: &Machine, table: &[Use], newer: bool) -> Option<Self> {
        let events = |slot: usize| match table[slot] {
            Use::Leg => machine.disks[slot].sb().events,
            Use::Rebuild | Use::Empty => 0,
        };
        let mut freshest: Option<usize> = None;
        for slot in (0..table.len()).filter(|slot| table[*slot] != Use::Empty) {
            if freshest.is_none_or(|f| events(slot) > events(f)) {
                freshest = Some(slot);
            }
        }
        let freshest = machine.disks[freshest?].sb();
        let leg = |slot: usize| {
            let sb = machine.disks[slot].sb();
            let position = usize::try_from(sb.array_position).expect("small");
            match table[slot] {
                Use::Empty => None,
                Use::Rebuild => Some(Leg { in_sync: false, done: 0, fully: true }),
                Use::Leg if freshest.failed(position) => Some(Leg { in_sync: false, done: 0, fully: false }),
                Use::Leg => {
                    let in_sync = sb.disk_recovery_offset == MAX_SECTOR;
                    let done = usize::try_from(sb.disk_recovery_offset.0 / REGION.sectors_floor().0);
                    Some(Leg {
                        in_sync,
                        done: if in_sync { REGIONS } else { done.expect("small") },
                        fully: true,
                    })
                }
            }
        };
        let mut md = Self {
            legs: (0..table.len()).map(leg).collect(),
            events: freshest.events.max(1),
            can_step_back: false,
            idle: false,
            bits: [Bit::Clean; REGIONS],
            page: [false; REGIONS],
            header: BitmapHeader::new(array(), REGION),
            cleared: 0,
            stale: false,
            new_legs: table.contains(&Use::Rebuild),
            newer,
        };
        md.header = machine.disks[md.first_in_sync()?].meta.bitmap.as_ref()?.header.clone();
        md.stale = md.header.events < md.events || md.header.state & STATE_STALE != 0;
        md.cleared = if md.stale { md.events } else { md.header.events_cleared };
        Some(md)
    }

    /// The first resume: reads the bits.
    pub(super) fn start(&mut self, machine: &mut Machine) {
        if self.new_legs {
            self.update_superblocks(machine, true);
        }
        let keep = self.degraded() && self.cleared != self.events;
        let source = self.first_in_sync().expect("checked when it was loaded");
        for region in 0..REGIONS {
            let marked =
                machine.disks[source].meta.bitmap.as_ref().expect("started").is_marked(number(region));
            self.page[region] = marked || self.stale;
            self.bits[region] = match (self.page[region], keep) {
                (false, _) => Bit::Clean,
                (true, false) => Bit::Dirty,
                (true, true) => Bit::Needed,
            };
        }
        self.stale = false;
        self.write_page(machine);
    }

    pub(super) fn is_recovering(&self) -> bool {
        self.legs.iter().flatten().any(|leg| !leg.in_sync)
    }

    pub(super) fn is_in_sync(&self, slot: usize) -> bool {
        self.legs[slot].as_ref().is_some_and(|leg| leg.in_sync)
    }

    /// One write to the array; whether it was acknowledged.
    pub(super) fn write(&mut self, machine: &mut Machine, region: usize, value: u32) -> bool {
        if self.idle {
            self.idle = false;
            self.update_superblocks(machine, false);
        }
        if !self.page[region] {
            self.page[region] = true;
            self.write_page_bits(machine);
        }
        if self.bits[region] == Bit::Clean {
            self.bits[region] = Bit::Dirty;
        }
        machine.write(&self.slots(), |_, disk| disk.data[region] = value);
        let missed = if self.newer { self.degraded() } else { self.legs.iter().any(Option::is_none) };
        if missed {
            self.bits[region] = Bit::Needed;
        } else if !self.degraded() {
            self.cleared = self.cleared.max(self.events);
        }
        machine.has_power()
    }

    /// The daemon: what is not needed is cleared.
    pub(super) fn clean(&mut self, machine: &mut Machine) {
        self.header.events_cleared = self.cleared;
        self.write_page_bits(machine);
        for region in 0..REGIONS {
            if self.bits[region] == Bit::Dirty {
                self.bits[region] = Bit::Clean;
                self.page[region] = false;
            }
        }
        self.write_page_bits(machine);
    }

    /// No write for a while.
    pub(super) fn fall_idle(&mut self, machine: &mut Machine) {
        if !self.idle {
            self.idle = true;
            self.update_superblocks(machine, false);
        }
    }

    pub(super) fn suspend(&mut self, machine: &mut Machine) {
        self.clean(machine);
        self.write_page(machine);
        if !self.idle {
            self.idle = true;
            self.update_superblocks(machine, true);
        }
    }

    /// A resume without a new table.
    pub(super) fn resume(&mut self) {
        self.idle = false;
    }

    /// The destructor, after the next table is already running.
    pub(super) fn destroy(mut self, machine: &mut Machine) {
        self.write_page(machine);
    }

    /// Superblocks are written now and then while legs are copied.
    pub(super) fn note_progress(&mut self, machine: &mut Machine) {
        self.update_superblocks(machine, true);
    }

    /// Copies one region to the legs that are behind.
    pub(super) fn recover(&mut self, machine: &mut Machine) {
        let behind: Vec<usize> = self.slots().into_iter().filter(|slot| !self.is_in_sync(*slot)).collect();
        let Some(region) = self.legs.iter().flatten().filter(|leg| !leg.in_sync).map(|leg| leg.done).min()
        else {
            return;
        };
        if region < REGIONS {
            let fully = self.legs.iter().flatten().any(|leg| !leg.in_sync && leg.fully);
            if fully || self.bits[region] == Bit::Needed {
                let source = self.first_in_sync().expect("one is");
                let value = machine.disks[source].data[region];
                machine.write(&behind, |_, disk| disk.data[region] = value);
            }
            if self.bits[region] == Bit::Needed && self.legs.iter().all(Option::is_some) {
                self.bits[region] = Bit::Dirty;
            }
        }
        let next = region + 1;
        for leg in self.legs.iter_mut().flatten().filter(|leg| !leg.in_sync && leg.done == region) {
            leg.done = next;
        }
        if next >= REGIONS {
            for leg in self.legs.iter_mut().flatten() {
                leg.in_sync = true;
            }
            self.update_superblocks(machine, true);
        }
    }

    fn slots(&self) -> Vec<usize> {
        (0..self.legs.len()).filter(|slot| self.legs[*slot].is_some()).collect()
    }

    fn first_in_sync(&self) -> Option<usize> {
        (0..self.legs.len()).find(|slot| self.is_in_sync(*slot))
    }

    fn degraded(&self) -> bool {
        self.legs.iter().any(|leg| leg.as_ref().is_none_or(|leg| !leg.in_sync))
    }

    fn update_superblocks(&mut self, machine: &mut Machine, forced: bool) {
        let passing = !forced && !self.degraded();
        if passing && self.idle && self.can_step_back && self.events != 1 {
            self.events -= 1;
            self.can_step_back = false;
        } else {
            self.events += 1;
            self.can_step_back = passing;
        }
        self.write_page(machine);
        let legs = self.legs.clone();
        let events = self.events;
        machine.write(&self.slots(), |slot, disk| {
            let leg = legs[slot].as_ref().expect("only legs are written");
            let sb = disk.meta.superblock.as_mut().expect("started");
            sb.events = events;
            sb.array_position = u32::try_from(slot).expect("few");
            for (slot, leg) in legs.iter().enumerate() {
                sb.set_failed(slot, leg.is_none());
            }
            let done = REGION.sectors_floor() * number(leg.done);
            sb.disk_recovery_offset = if leg.in_sync { MAX_SECTOR } else { done };
        });
    }

    /// The first page with its header brought up to date.
    fn write_page(&mut self, machine: &mut Machine) {
        self.cleared = self.cleared.min(self.events);
        self.header.events = self.events;
        self.header.events_cleared = self.cleared;
        self.header.state = 0;
        self.write_page_bits(machine);
    }

    /// The first page for its bits' sake, with the header as it was.
    fn write_page_bits(&self, machine: &mut Machine) {
        machine.write(&self.slots(), |_, disk| {
            let bitmap = disk.meta.bitmap.as_mut().expect("started");
            bitmap.header = self.header.clone();
            for (region, marked) in self.page.iter().enumerate() {
                if *marked { bitmap.mark(number(region)) } else { bitmap.clear(number(region)) }
            }
        });
    }
}

fn number(region: usize) -> u64 {
    u64::try_from(region).expect("few")
}
