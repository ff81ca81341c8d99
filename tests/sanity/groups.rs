//! A group snapshot of two mounted volumes, under a program that writes to one and then to the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::{Volume, VolumeCapability, VolumeGroupSnapshot};
use splitmirror::volume::info::SnapshotInfo;
use tonic::Code;

use crate::Outcome;
use crate::driver::{Driver, mount, patiently, refused, request, said};
use crate::guest::{POOL, Standalone, create_pool};
use crate::journeys::{json, that, write};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the program does: a number to the first volume, then to the second, then the next number.
fn write_in_turn(at: [&Path; 2], written: &AtomicU64, stop: &AtomicBool) -> Outcome {
    for n in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for at in at {
            write(&at.join("new"), n.to_string().as_bytes())?;
            fs::rename(at.join("new"), at.join("number")).map_err(|error| error.to_string())?;
            // A rename is durable with its directory.
            let synced = fs::File::open(at).and_then(|directory| directory.sync_all());
            synced.map_err(|error| error.to_string())?;
        }
        written.store(n, Ordering::Relaxed);
    }
    Ok(())
}

fn number(at: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(at.join("number")).map_err(|error| error.to_string())?;
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn wait_for(written: &AtomicU64, at_least: u64) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while written.load(Ordering::Relaxed) < at_least {
        that("the program gets on", Instant::now() < deadline)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn ids(group: &VolumeGroupSnapshot) -> Vec<String> {
    group.snapshots.iter().map(|snapshot| snapshot.snapshot_id.clone()).collect()
}

/// What the snapshots of a group show, in the order of `volumes`.
fn numbers(driver: &mut Driver, group: &VolumeGroupSnapshot, volumes: &[Volume]) -> Result<Vec<u64>, String> {
    let reader = mount("", Mode::MultiNodeReaderOnly);
    let mut numbers = Vec::new();
    for volume in volumes {
        let member = group.snapshots.iter().find(|snapshot| snapshot.source_volume_id == volume.volume_id);
        let member = member.ok_or("a volume has no snapshot")?;
        let name = format!("view-{}", volume.volume_id);
        let view = driver.view(&name, &member.snapshot_id, &reader).map_err(said)?;
        let at = driver.open(&view, &reader).map_err(said)?;
        numbers.push(number(&at)?);
        let whole = driver.delete_group(&group.group_snapshot_id, &ids(group));
        refused("delete a group that a view shows", whole, Code::FailedPrecondition)?;
        driver.close(&view.volume_id).map_err(said)?;
        driver.delete(&view.volume_id).map_err(said)?;
    }
    Ok(numbers)
}

fn volume(driver: &mut Driver, name: &str, how: &VolumeCapability) -> Result<(Volume, PathBuf), String> {
    let volume = driver.create(request(name, 64, how)).map_err(said)?;
    let at = driver.open(&volume, how).map_err(said)?;
    Ok((volume, at))
}

/// A group of two mounted volumes from beginning to end.
pub fn journey(_: &str) -> Outcome {
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let writer = mount("ext4", Mode::SingleNodeWriter);
    let (first, first_at) = volume(&mut driver, "pvc-1", &writer)?;
    let (second, second_at) = volume(&mut driver, "pvc-2", &writer)?;
    let sources = [first.volume_id.clone(), second.volume_id.clone()];
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let program = scope.spawn(|| write_in_turn([&first_at, &second_at], &written, &stop));
        let mut rounds = || -> Outcome {
            for round in 0..5 {
                wait_for(&written, written.load(Ordering::Relaxed) + 3)?;
                let group = patiently(|| driver.group(&format!("group-{round}"), &sources))?;
                that("the group is ready", group.ready_to_use && group.snapshots.len() == 2)?;
                let shown = numbers(&mut driver, &group, &[first.clone(), second.clone()])?;
                let in_order = shown[0] == shown[1] || shown[0] == shown[1] + 1;
                that(&format!("{shown:?} is one instant"), in_order)?;
                let members = ids(&group);
                refused("delete a member", driver.delete_snapshot(&members[0]), Code::InvalidArgument)?;
                let listed: Vec<SnapshotInfo> = json(&["snapshot", "list", "--pool", POOL])?;
                let of_group = |snapshot: &SnapshotInfo| {
                    snapshot.group.as_ref().is_some_and(|of| of.id == group.group_snapshot_id)
                };
                that("the command line tells the group", listed.len() == 2 && listed.iter().all(of_group))?;
                patiently(|| driver.delete_group(&group.group_snapshot_id, &members))?;
            }
            Ok(())
        };
        let done = rounds();
        stop.store(true, Ordering::Relaxed);
        let ended = program.join().map_err(|_| "the program panicked".to_owned())?;
        done.and(ended)
    })?;
    for id in &sources {
        driver.close(id).map_err(said)?;
        patiently(|| driver.delete(id))?;
    }
    standalone.stop()
}
