//! What the simulated kernel gets wrong, on purpose: each trap of the real one, shown on bare tables.
//!
//! The names in brackets are those of the experiments on a real kernel.

mod clone;
mod power;
mod traps;

use std::path::Path;
use std::time::Duration;

use crate::host::sim::md_view::{self, Rmeta};
use crate::host::sim::{SimHost, Write};
use crate::host::{Blocks, DeviceMapper, Freeze, TargetLine, Udev};
use crate::ids::DmId;
use crate::raid::{LegMeta, RaidStatus, RaidTable};
use crate::units::{Bytes, Sectors};

/// Sectors of an array: 8 MiB.
const LEN: u64 = 16_384;
/// Sectors of a region: 256 KiB, so there are 32 of them.
const REGION: u64 = 512;
const META: u64 = 2048;

/// An array on bare tables.
struct Rig {
    host: SimHost,
    slots: usize,
}

fn linear(len: u64, disk: &Path, first: u64) -> [TargetLine; 1] {
    let letter = disk.to_string_lossy().bytes().last().expect("a letter");
    let params = format!("8:{} {first}", u32::from(letter - b'a') * 16);
    [TargetLine { start: Sectors(0), len: Sectors(len), target: "linear".to_owned(), params }]
}

impl Rig {
    /// Disks, legs that are equal, and the array, running and in sync.
    fn new(slots: usize) -> Self {
        let host = SimHost::new(1);
        for _ in 0..slots {
            let disk = host.add_disk(Bytes::mib(16));
            host.zero(&disk, Bytes(0), Bytes::mib(16)).expect("zeroed");
        }
        let rig = Self { host, slots };
        rig.make_legs();
        let all: Vec<usize> = (0..slots).collect();
        rig.load_with(&all, "nosync ");
        rig.host.dm_resume("top", Udev::Volume).expect("resumed");
        rig.load_with(&all, "");
        rig.host.dm_resume("top", Udev::Volume).expect("resumed");
        rig
    }

    fn make_legs(&self) {
        for slot in 0..self.slots {
            let disk = format!("/dev/sd{}", char::from(b"abcdef"[slot]));
            self.device(&format!("rmeta{slot}"), &linear(META, Path::new(&disk), 0));
            self.device(&format!("rimage{slot}"), &linear(LEN, Path::new(&disk), META));
        }
        self.host.dm_create(&DmId { name: "top".to_owned(), uuid: "uuid-top".to_owned() }).expect("created");
    }

    fn device(&self, name: &str, table: &[TargetLine]) {
        let id = DmId { name: name.to_owned(), uuid: format!("uuid-{name}") };
        self.host.dm_create(&id).expect("created");
        self.host.dm_load(name, table, false).expect("loaded");
        self.host.dm_resume(name, Udev::Hidden).expect("resumed");
    }

    /// Loads a table: slot i holds leg `legs[i]`, or nothing if that is not one.
    fn try_load(&self, legs: &[usize], options: &str) -> crate::host::Result<()> {
        let number = |name: String| self.host.dm_info(&name).expect("info").expect("exists").devno;
        let pair = |leg: &usize| {
            if *leg < self.slots {
                format!("{} {}", number(format!("rmeta{leg}")), number(format!("rimage{leg}")))
            } else {
                "- -".to_owned()
            }
        };
        let pairs: Vec<String> = legs.iter().map(pair).collect();
        let words = 3 + options.split_ascii_whitespace().count();
        let params =
            format!("raid1 {words} 0 {options}region_size {REGION} {} {}", legs.len(), pairs.join(" "));
        let line = TargetLine { start: Sectors(0), len: Sectors(LEN), target: "raid".to_owned(), params };
        self.host.dm_load("top", &[line], false)
    }

    fn load_with(&self, legs: &[usize], options: &str) {
        self.try_load(legs, options).expect("loaded");
    }

    /// Suspend, load, resume.
    fn swap(&self, legs: &[usize]) {
        self.suspend();
        self.load_with(legs, "");
        self.resume();
    }

    /// Load, suspend, resume: LVM2's order.
    fn swap_loading_first(&self, legs: &[usize]) {
        self.load_with(legs, "");
        self.suspend();
        self.resume();
    }

    fn suspend(&self) {
        self.host.dm_suspend("top", Freeze::IoOnly).expect("suspended");
    }

    fn resume(&self) {
        self.host.dm_resume("top", Udev::Volume).expect("resumed");
    }

    fn pin(&self) {
        self.suspend();
        self.resume();
    }

    fn status(&self) -> String {
        let status = self.host.dm_status("top").expect("status");
        status[0].params.clone()
    }

    /// Health and action.
    fn state(&self) -> String {
        let status = self.status();
        let words: Vec<&str> = status.split(' ').collect();
        format!("{} {}", words[2], words[4])
    }

    /// Waits for the sync thread.
    fn settle(&self) {
        for _ in 0..100 {
            self.host.sleep(Duration::from_millis(100));
        }
        assert!(self.state().ends_with("idle"), "{}", self.status());
    }

    fn rmeta(&self, slot: usize) -> Rmeta {
        md_view::rmeta(&self.host.peek(&format!("/dev/mapper/rmeta{slot}"), Sectors(0), Sectors(16)))
    }

    /// Sectors in which the images of two legs differ.
    fn differences(&self, one: usize, other: usize) -> Vec<u64> {
        let name = |slot| format!("/dev/mapper/rimage{slot}");
        self.host.differences((&name(one), Sectors(0)), (&name(other), Sectors(0)), Sectors(LEN))
    }

    /// One write to the start of a region.
    fn write(&self, region: u64) {
        let value = 1_000_000 + region;
        self.host.write_volume("top", Sectors(region * REGION), value).expect("written");
    }

    fn busy(&self) {
        self.host.keep_busy("top", Sectors(LEN), 3);
    }

    /// Power comes back, and the array is put together from these legs.
    fn reboot(&self, legs: &[usize]) {
        self.host.reboot();
        self.make_legs();
        self.load_with(legs, "");
        self.resume();
    }

    fn assert_equal(&self) {
        for slot in 1..self.slots {
            assert_eq!(self.differences(0, slot), Vec::<u64>::new(), "legs 0 and {slot}: {}", self.status());
        }
    }

    fn assert_journal(&self) {
        let mut last = std::collections::BTreeMap::new();
        for Write { sector, value } in self.host.journal("top").acknowledged {
            last.insert(sector, value);
        }
        for (sector, value) in last {
            let read = self.host.peek("/dev/mapper/top", Sectors(sector), Sectors(1));
            assert_eq!(read, SimHost::sector_of(value), "sector {sector}");
        }
    }
}

#[test]
fn a_busy_array_keeps_its_legs_equal() {
    let rig = Rig::new(3);
    rig.busy();
    rig.host.sleep(Duration::from_secs(12));
    rig.assert_equal();
    rig.assert_journal();
    assert_eq!(rig.state(), "AAA idle");
}

#[test]
fn marks_are_on_disk_before_data_and_go_when_the_array_rests() {
    let rig = Rig::new(2);
    rig.settle();
    rig.settle();
    assert_eq!(rig.rmeta(0).marked, Vec::<u64>::new());
    rig.write(5);
    rig.write(15);
    assert_eq!(rig.rmeta(0).marked, vec![5, 15]);
    assert_eq!(rig.rmeta(1).marked, vec![5, 15]);
    rig.settle();
    rig.settle();
    assert_eq!(rig.rmeta(0).marked, Vec::<u64>::new());
}

#[test]
fn a_new_array_without_nosync_is_synced_in_full() {
    let rig = Rig::new(2);
    rig.host.dm_remove("top").expect("removed");
    for slot in 0..2 {
        let name = format!("/dev/mapper/rmeta{slot}");
        rig.host.zero(Path::new(&name), Bytes(0), Bytes::kib(16)).expect("wiped");
    }
    rig.host.poke("/dev/mapper/rimage1", Sectors(9000), &[7; 512]);
    rig.host.dm_create(&DmId { name: "top".to_owned(), uuid: "uuid-top".to_owned() }).expect("created");
    rig.load_with(&[0, 1], "");
    rig.resume();
    rig.host.sleep(Duration::from_millis(60));
    assert_eq!(rig.state(), "aa resync");
    rig.settle();
    assert_eq!(rig.state(), "AA idle");
    rig.assert_equal();
}

#[test]
fn one_new_leg_among_old_ones_is_refused_without_rebuild() {
    let rig = Rig::new(2);
    rig.suspend();
    rig.host.zero(Path::new("/dev/mapper/rmeta1"), Bytes(0), Bytes::kib(16)).expect("wiped");
    rig.try_load(&[0, 1], "").expect_err("new device injected");
    rig.load_with(&[0, 1], "rebuild 1 ");
    rig.resume();
    rig.host.sleep(Duration::from_millis(60));
    assert_eq!(rig.state(), "Aa recover");
    rig.settle();
    assert_eq!(rig.state(), "AA idle");
}

#[test]
fn the_product_reads_what_the_simulated_kernel_writes() {
    let rig = Rig::new(3);
    rig.settle();
    rig.swap(&[0, 1, 99]);
    rig.pin();
    rig.write(5);
    rig.write(15);
    let bytes = rig.host.peek("/dev/mapper/rmeta0", Sectors(0), Sectors(16));
    let read = LegMeta::parse(&bytes, Sectors(LEN)).expect("both are there");
    let (sb, bitmap) = (read.superblock.expect("a superblock"), read.bitmap.expect("a bitmap"));
    let seen = rig.rmeta(0);
    assert_eq!((sb.events, sb.failed(2), sb.failed(1)), (seen.events, true, false));
    assert_eq!(
        (bitmap.header.events, bitmap.header.events_cleared),
        (seen.bitmap_events, seen.events_cleared)
    );
    assert_eq!(bitmap.marked().collect::<Vec<_>>(), vec![5, 15]);
    let status = RaidStatus::parse(&rig.status()).expect("a status");
    assert!(status.is_settled());
    let table = rig.host.dm_look("top").expect("look").expect("device").1;
    assert_eq!(RaidTable::parse(&table[0]).expect("a table").line(), table[0]);
}

#[test]
fn the_table_is_printed_as_the_kernel_prints_it() {
    let rig = Rig::new(2);
    let table = rig.host.dm_look("top").expect("look").expect("device").1;
    assert_eq!(table[0].params, "raid1 3 0 region_size 512 2 253:0 253:1 253:2 253:3");
    rig.host.dm_remove("rimage1").expect_err("in use");
    assert_eq!(rig.host.dm_info("rimage1").expect("info").expect("exists").open_count, 1);
}
