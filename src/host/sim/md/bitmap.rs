//! The write-intent bitmap in the kernel's memory, and its one page on disk.
//!
//! A region's counter is 0 (clean), 1 or 2 (on its way there), or marked: `needed` when a leg misses what is in it,
//! `resync` while that is copied. Between writes nothing is outstanding here, as each write ends before the next.
//!
//! Source: Linux 6.1 `drivers/md/md-bitmap.c`.

use super::super::disk::{SECTOR, index, wide};
use super::format::{HEADER, Header, MAX};

const PAGE_BITS_BYTES: usize = 4096 - HEADER;
const STALE: u32 = 1 << 1;

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    count: u8,
    needed: bool,
    resync: bool,
}

/// The bitmap of one array instance.
#[derive(Clone, Debug)]
pub(super) struct Bitmap {
    counters: Vec<Counter>,
    region: u64,
    /// The page as it would be written now: the header, then bits.
    header: Header,
    bits: Vec<u8>,
    pub(super) events_cleared: u64,
    stale: bool,
    need_sync: bool,
    all_clean: bool,
    counters_pending: bool,
    page_pending: bool,
    page_need_write: bool,
    page_dirty: bool,
}

impl Bitmap {
    fn build(region: u64, sectors: u64, header: Header, events_cleared: u64, stale: bool) -> Self {
        let regions = index(sectors.div_ceil(region));
        assert!(regions <= PAGE_BITS_BYTES * 8, "the simulated bitmap has one page only");
        Self {
            counters: vec![Counter::default(); regions],
            region,
            header,
            bits: vec![0; PAGE_BITS_BYTES], // zeroes until the bits are loaded, whatever is on disk
            events_cleared,
            stale,
            need_sync: false,
            all_clean: false,
            counters_pending: false,
            page_pending: false,
            page_need_write: false,
            page_dirty: false,
        }
    }

    /// The bitmap of a new array.
    pub(super) fn new(region: u64, sectors: u64, events: u64) -> Self {
        let chunk_bytes = u32::try_from(region * wide(SECTOR)).expect("checked by the constructor");
        let header =
            Header { events: 0, events_cleared: events, sync_sectors: sectors, state: STALE, chunk_bytes };
        Self::build(region, sectors, header, events, true)
    }

    /// What the constructor takes from the disk: the header, not the bits.
    pub(super) fn from_header(header: Header, sectors: u64, events: u64) -> Self {
        let stale = header.events < events || header.state & STALE != 0;
        let cleared = if stale { events } else { header.events_cleared };
        Self::build(u64::from(header.chunk_bytes) / wide(SECTOR), sectors, header, cleared, stale)
    }

    pub(super) fn region(&self) -> u64 {
        self.region
    }

    fn bit(&self, region: usize) -> bool {
        self.bits[region / 8] & (1 << (region % 8)) != 0
    }

    fn set_bit(&mut self, region: usize, on: bool) {
        let mask = 1 << (region % 8);
        if on {
            self.bits[region / 8] |= mask;
        } else {
            self.bits[region / 8] &= !mask;
        }
    }

    /// Takes the bits from the disk, at the first resume. Regions that end at `start` or beyond are needed.
    /// Returns whether the page must be written at once.
    pub(super) fn load(&mut self, on_disk: &[u8], start: u64) -> bool {
        let stale = self.stale;
        if stale {
            self.bits.fill(0xff);
        } else {
            self.bits[..on_disk.len() - HEADER].copy_from_slice(&on_disk[HEADER..]);
        }
        for region in 0..self.counters.len() {
            if self.bit(region) {
                let end = (wide(region) + 1) * self.region;
                self.counters[region] = Counter { count: 2, needed: end >= start, resync: false };
                self.counters_pending = true;
                self.all_clean = false;
            }
        }
        stale
    }

    pub(super) fn loaded(&mut self) {
        self.stale = false;
    }

    /// More regions, all of them needed unless `clean`.
    pub(super) fn grow(&mut self, sectors: u64, clean: bool) {
        let regions = index(sectors.div_ceil(self.region));
        for region in self.counters.len()..regions {
            self.set_bit(region, false);
            self.counters.push(Counter { count: if clean { 0 } else { 2 }, needed: !clean, resync: false });
        }
        self.counters_pending = true;
        self.all_clean = false;
        self.page_need_write = true;
    }

    /// Other regions. What is needed stays so; the header tells of the old ones until it is brought up to date.
    pub(super) fn resize(&mut self, region: u64, sectors: u64) {
        let (old, before) = (std::mem::take(&mut self.counters), self.region);
        let regions = index(sectors.div_ceil(region));
        assert!(regions <= PAGE_BITS_BYTES * 8, "the simulated bitmap has one page only");
        self.bits.fill(0);
        self.region = region;
        for new in 0..regions {
            let (start, end) = (wide(new) * region, ((wide(new) + 1) * region).min(sectors));
            let mut over = index(start / before)..index(end.div_ceil(before));
            let needed = over.any(|was| old.get(was).is_some_and(|was| was.needed));
            self.set_bit(new, needed);
            self.counters.push(Counter { count: if needed { 2 } else { 0 }, needed, resync: false });
        }
        self.counters_pending = true;
        self.all_clean = false;
        self.page_need_write = true;
    }

    /// The page, as many whole sectors of it as hold bits of this array.
    pub(super) fn page(&self) -> Vec<u8> {
        let len = (HEADER + self.counters.len().div_ceil(8)).next_multiple_of(SECTOR);
        let mut page = self.header.render().to_vec();
        page.extend_from_slice(&self.bits);
        page.truncate(len);
        page
    }

    /// Brings the header up to date; the page must be written now.
    pub(super) fn update_header(&mut self, events: u64, sync_sectors: u64) {
        self.events_cleared = self.events_cleared.min(events);
        self.header.events = events;
        self.header.events_cleared = self.events_cleared;
        self.header.state = if self.stale { STALE } else { 0 };
        self.header.sync_sectors = sync_sectors;
        self.header.chunk_bytes =
            u32::try_from(self.region * wide(SECTOR)).expect("checked by the constructor");
    }

    /// A write to a region begins. Returns whether the page must be written before it.
    pub(super) fn start_write(&mut self, region: usize) -> bool {
        let counter = &mut self.counters[region];
        if counter.count == 0 && !counter.needed && !counter.resync {
            self.page_dirty = true;
            self.set_bit(region, true);
        }
        self.counters[region].count = 2;
        let write = self.page_dirty || self.page_need_write;
        if write {
            (self.page_dirty, self.page_need_write, self.page_pending) = (false, false, false);
        }
        write
    }

    /// A write to a region has ended; `whole`: no slot missed it.
    pub(super) fn end_write(&mut self, region: usize, whole: bool, degraded: bool, events: u64) {
        if whole && !degraded && self.events_cleared < events {
            self.events_cleared = events;
            self.need_sync = true;
        }
        self.counters[region].needed |= !whole;
        self.counters_pending = true;
        self.all_clean = false;
    }

    /// One pass of the daemon. Returns whether the page must be written.
    pub(super) fn daemon_pass(&mut self) -> bool {
        if self.all_clean {
            return false;
        }
        self.all_clean = true;
        self.page_need_write |= std::mem::take(&mut self.page_pending);
        if std::mem::take(&mut self.need_sync) {
            self.header.events_cleared = self.events_cleared;
            self.page_need_write = true;
        }
        if std::mem::take(&mut self.counters_pending) {
            for region in 0..self.counters.len() {
                let Counter { count, needed, resync } = self.counters[region];
                if count == 0 || needed || resync {
                    continue;
                }
                self.all_clean = false;
                if count == 1 {
                    self.counters[region].count = 0;
                    self.set_bit(region, false);
                    self.page_pending |= !self.page_need_write;
                } else {
                    self.counters[region].count = 1;
                    self.counters_pending = true;
                }
            }
        }
        !self.stale && !self.page_dirty && std::mem::take(&mut self.page_need_write)
    }

    /// Whether a region has to be copied. With `claim`, it is being copied from now on.
    pub(super) fn start_sync(&mut self, region: usize, claim: bool) -> bool {
        let counter = &mut self.counters[region];
        if counter.needed && claim {
            *counter = Counter { resync: true, needed: false, ..*counter };
            return true;
        }
        counter.needed || counter.resync
    }

    /// Copying has ended: what was claimed up to `upto` is clean, the rest is needed again.
    pub(super) fn end_sync(&mut self, upto: u64) {
        for region in 0..self.counters.len() {
            if std::mem::take(&mut self.counters[region].resync) {
                let done = (wide(region) + 1) * self.region <= upto || upto == MAX;
                self.counters[region].needed |= !done;
                self.counters_pending = true;
                self.all_clean = false;
            }
        }
    }

    /// All pages shall be written to all legs at the daemon's next pass, as a leg has come that lacks them.
    pub(super) fn write_all(&mut self) {
        self.page_need_write = true;
        self.all_clean = false;
    }
}
