//! Power cuts and dying processes.

use std::path::Path;
use std::time::Duration;

use super::{LEN, REGION, Rig};
use crate::host::sim::{Cut, Fault, SimHost, Stop, run};
use crate::host::{Blocks, DeviceMapper, Freeze, Locks, Udev};
use crate::units::{Bytes, Sectors};

const NONE: usize = 99;

/// An idle array is split, one region is written, the host loses power and comes up with these legs.
fn split_write_and_lose_power(pin: bool, legs_at_boot: &[usize]) -> Rig {
    let rig = Rig::new(2);
    rig.settle();
    rig.swap(&[0, NONE]);
    if pin {
        rig.pin();
    }
    rig.write(3);
    rig.reboot(legs_at_boot);
    rig
}

#[test]
fn an_unpinned_split_loses_its_marks_when_power_is_cut() {
    // [t16]
    for (pin, equal) in [(false, false), (true, true)] {
        let rig = split_write_and_lose_power(pin, &[0, NONE]);
        rig.host.sleep(Duration::from_secs(1));
        rig.swap_loading_first(&[0, 1]);
        rig.settle();
        assert_eq!(rig.state(), "AA idle");
        assert_eq!(rig.differences(0, 1).is_empty(), equal, "pin: {pin}");
    }
}

#[test]
fn an_unpinned_split_that_boots_with_the_full_table_is_trusted() {
    // [t14]
    for (pin, equal) in [(false, false), (true, true)] {
        let rig = split_write_and_lose_power(pin, &[0, 1]);
        rig.settle();
        assert_eq!(rig.state(), "AA idle");
        assert_eq!(rig.differences(0, 1).is_empty(), equal, "pin: {pin}");
    }
}

#[test]
fn the_old_table_puts_back_a_page_without_the_marks_of_the_new_one() {
    let rig = Rig::new(2);
    rig.settle();
    rig.settle();
    rig.busy();
    rig.swap(&[0, NONE]);
    rig.host.rest("top");
    let journal = rig.host.journal("top").acknowledged;
    assert!(!rig.differences(0, 1).is_empty(), "the writer got in between");
    assert!(!journal.is_empty());
    assert_eq!(rig.rmeta(0).marked, Vec::<u64>::new(), "marks of the first moments are gone from the disk");
    rig.pin();
    assert!(!rig.rmeta(0).marked.is_empty(), "the pin writes them again");
}

#[test]
fn a_power_cut_leaves_legs_of_a_healthy_array_different_and_nobody_notices() {
    // [t7]
    let mut different = 0;
    for request in 0..12 {
        let rig = Rig::new(2);
        rig.settle();
        rig.busy();
        rig.host
            .arm(Some(Fault::PowerCut { call: 0, at: Cut::Inside { request, sixteenths: 0, torn: false } }));
        run(|| rig.host.dm_suspend("top", Freeze::IoOnly)).expect_err("power is lost");
        rig.host.rest("top");
        rig.reboot(&[0, 1]);
        rig.settle();
        assert_eq!(rig.state(), "AA idle");
        different += rig.differences(0, 1).len();
    }
    assert!(different > 0);
}

#[test]
fn a_write_that_is_cut_is_old_or_new_sector_by_sector_with_one_torn() {
    let host = SimHost::new(7);
    let disk = host.add_disk(Bytes::mib(1));
    let path = disk.to_string_lossy();
    host.write(&disk, Bytes(0), &[1; 16 * 512]).expect("written");
    host.arm(Some(Fault::PowerCut { call: 0, at: Cut::Inside { request: 0, sixteenths: 4, torn: true } }));
    assert_eq!(run(|| host.write(&disk, Bytes(0), &[2; 16 * 512])).expect_err("cut"), Stop::PowerCut);
    host.reboot();
    let data = host.peek(&path, Sectors(0), Sectors(16));
    assert!(data[..4 * 512 + 256].iter().all(|b| *b == 2) && data[4 * 512 + 256..].iter().all(|b| *b == 1));
}

#[test]
fn a_machine_that_stopped_does_nothing_until_it_is_started_again() {
    let host = SimHost::new(7);
    let disk = host.add_disk(Bytes::mib(1));
    let vg = "vg".parse().expect("legal");
    host.arm(Some(Fault::Kill { call: 0, done: true }));
    let killed = run(|| {
        let _lock = host.lock_vg(&vg).expect("free");
        host.write(&disk, Bytes(0), &[2; 512]).expect("never returns");
    });
    assert_eq!(killed.expect_err("killed"), Stop::Killed);
    assert_eq!(run(|| host.scan()).expect_err("dead"), Stop::Killed);
    host.restart_process();
    assert_eq!(host.read(&disk, Bytes(0), Bytes(512)).expect("read"), vec![2; 512]);
    drop(host.lock_vg(&vg).expect("the dead hold no locks"));
    assert_eq!(host.violations(), Vec::<String>::new());
}

#[test]
fn a_lock_held_elsewhere_is_waited_for_in_vain() {
    let host = SimHost::new(7);
    let vg = "vg".parse().expect("legal");
    host.lock_elsewhere("V_vg", true);
    assert!(host.lock_vg(&vg).is_err());
    host.lock_elsewhere("V_vg", false);
    assert!(host.lock_vg(&vg).is_ok());
}

#[test]
fn writes_wait_while_the_device_is_suspended() {
    let rig = Rig::new(2);
    rig.suspend();
    let error = rig.host.write_volume("top", Sectors(0), 1).expect_err("held back");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    rig.resume();
    rig.host.write_volume("top", Sectors(0), 1).expect("goes on");
}

#[test]
fn a_read_only_device_refuses_writes_and_a_mounted_one_cannot_become_a_leg() {
    let rig = Rig::new(2);
    rig.swap(&[0, NONE]);
    let table = rig.host.dm_look("rimage1").expect("look").expect("device").1;
    rig.host.dm_load("rimage1", &table, true).expect("loaded");
    rig.host.dm_resume("rimage1", Udev::Image).expect("resumed");
    assert!(rig.host.write(Path::new("/dev/mapper/rimage1"), Bytes(0), &[0; 512]).is_err());
    rig.host.hold("rimage1", true);
    rig.try_load(&[0, 1], "").expect_err("mounted");
    rig.host.hold("rimage1", false);
    assert_eq!(LEN % REGION, 0);
}
