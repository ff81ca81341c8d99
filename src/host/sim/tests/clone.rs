//! What dm-clone forgets at a power cut, and what it does not.

use std::path::Path;
use std::time::Duration;

use super::linear;
use crate::host::sim::SimHost;
use crate::host::{Blocks, DeviceMapper, TargetLine, Udev};
use crate::ids::DmId;
use crate::raid::CloneStatus;
use crate::units::{Bytes, Sectors};

const LEN: u64 = 4096;
const REGION: u64 = 128;

fn device(host: &SimHost, name: &str, table: &[TargetLine]) {
    host.dm_create(&DmId { name: name.to_owned(), uuid: format!("uuid-{name}") }).expect("created");
    host.dm_load(name, table, false).expect("loaded");
    host.dm_resume(name, Udev::Hidden).expect("resumed");
}

/// A clone from `/dev/sdc` to `/dev/sdb`, recorded on `/dev/sda`.
fn started(host: &SimHost) -> CloneStatus {
    for (name, disk) in [("record", "/dev/sda"), ("array", "/dev/sdb"), ("origin", "/dev/sdc")] {
        device(host, name, &linear(LEN, Path::new(disk), 0));
    }
    let number = |name: &str| host.dm_info(name).expect("info").expect("exists").devno;
    let params = format!("{} {} {} {REGION} 0", number("record"), number("array"), number("origin"));
    let line = TargetLine { start: Sectors(0), len: Sectors(LEN), target: "clone".to_owned(), params };
    device(host, "top", &[line]);
    status(host)
}

fn status(host: &SimHost) -> CloneStatus {
    CloneStatus::parse(&host.dm_status("top").expect("status")[0].params).expect("a status")
}

fn machine() -> SimHost {
    let host = SimHost::new(1);
    for _ in 0..3 {
        let disk = host.add_disk(Bytes::mib(4));
        host.zero(&disk, Bytes(0), Bytes::mib(4)).expect("zeroed");
    }
    host.poke("/dev/sdc", Sectors(0), &SimHost::sector_of(7).repeat(16));
    host.sync_speed(REGION * 10);
    host
}

#[test]
fn regions_filled_since_the_last_commit_are_filled_again_after_a_power_cut() {
    let host = machine();
    assert_eq!(started(&host).hydrated, 0);
    host.sleep(Duration::from_millis(500));
    assert!(status(&host).hydrated > 2);
    host.reboot();
    assert_eq!(started(&host).hydrated, 0, "nothing was committed");
    host.sleep(Duration::from_millis(1500));
    host.reboot();
    let committed = started(&host).hydrated;
    assert!((5..=15).contains(&committed), "{committed} were committed after a second");
}

#[test]
fn what_was_written_and_flushed_is_there_after_a_power_cut() {
    let host = machine();
    started(&host);
    host.write_volume("top", Sectors(1000), 9).expect("written");
    host.reboot();
    assert_eq!(started(&host).hydrated, 1);
    assert_eq!(host.peek("/dev/mapper/top", Sectors(1000), Sectors(1)), SimHost::sector_of(9));
    assert_eq!(host.peek("/dev/mapper/top", Sectors(3), Sectors(1)), SimHost::sector_of(7));
    assert_eq!(host.peek("/dev/sdb", Sectors(3), Sectors(1)), vec![0; 512], "that is read from the origin");
}

#[test]
fn all_is_copied_in_the_end_and_a_suspend_records_it() {
    let host = machine();
    started(&host);
    host.sync_speed(REGION * 1000);
    host.sleep(Duration::from_millis(300));
    assert!(status(&host).is_complete());
    host.dm_suspend("top", crate::host::Freeze::IoOnly).expect("suspended");
    host.reboot();
    assert!(started(&host).is_complete());
    assert_eq!(host.peek("/dev/sdb", Sectors(3), Sectors(1)), SimHost::sector_of(7));
}
