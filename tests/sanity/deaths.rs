//! The driver is killed, and the power of the machine cut, at all times: repeating a call is always enough.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::volume::info::VolumeInfo;
use tonic::{Code, Status};

use crate::Outcome;
use crate::driver::{Answer, Driver, mount, patiently, refused, request, said};
use crate::guest::{POOL, Standalone, create_pool, run};
use crate::journeys::{io, json, that, write, write_at};

/// Kills the driver after every call, and once takes everything away but the disks: nothing is forgotten.
pub fn between_calls(_: &str) -> Outcome {
    create_pool()?;
    let (writer, reader) = (mount("ext4", Mode::SingleNodeWriter), mount("", Mode::MultiNodeReaderOnly));
    let again = |standalone: Standalone| -> Result<(Standalone, Driver), String> {
        standalone.kill()?;
        let standalone = Standalone::start()?;
        Ok((standalone, Driver::connect()?))
    };
    let mut standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let odd = "a name/with \"odd\" letters, ü and ".to_owned() + &"x".repeat(90);
    let volume = driver.create(request(&odd, 96, &writer)).map_err(said)?;
    (standalone, driver) = again(standalone)?;
    that("the volume is known", driver.create(request(&odd, 96, &writer)).map_err(said)? == volume)?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    write(&at.join("before"), b"x")?;
    (standalone, driver) = again(standalone)?;
    let snapshot = driver.snapshot(&odd, &volume.volume_id).map_err(said)?;
    (standalone, driver) = again(standalone)?;
    let known = driver.snapshot(&odd, &volume.volume_id).map_err(said)?;
    that("the snapshot is known", known == snapshot)?;
    let view = driver.view("view", &snapshot.snapshot_id, &reader).map_err(said)?;
    (standalone, driver) = again(standalone)?;
    that("the view is known", driver.view("view", &snapshot.snapshot_id, &reader).map_err(said)? == view)?;
    let shown = driver.open(&view, &reader).map_err(said)?;
    that("the view shows", shown.join("before").exists())?;
    (standalone, driver) = again(standalone)?;
    driver.close(&view.volume_id).map_err(said)?;
    driver.close(&volume.volume_id).map_err(said)?;

    // As after a boot of the machine.
    drop(driver);
    standalone.kill()?;
    run(Command::new("dmsetup").args(["remove_all", "--force"]))?;
    standalone = Standalone::start()?;
    driver = Driver::connect()?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    that("the data is there", at.join("before").exists())?;
    that("the view is known", driver.view("view", &snapshot.snapshot_id, &reader).map_err(said)? == view)?;
    driver.delete(&view.volume_id).map_err(said)?;
    patiently(|| driver.delete_snapshot(&snapshot.snapshot_id))?;
    (standalone, driver) = again(standalone)?;
    driver.close(&volume.volume_id).map_err(said)?;
    patiently(|| driver.delete(&volume.volume_id))?;
    standalone.stop()
}

/// Makes a call again and again, each time killing the driver a bit later, until it is answered; then once more.
fn through_deaths<T>(what: &str, mut call: impl FnMut(&mut Driver) -> Answer<T>) -> Result<T, String> {
    let mut delay = Duration::from_millis(1);
    loop {
        let dying = Standalone::start()?.kill_after(delay);
        // It may be dead before it is reached.
        let answer = Driver::connect().map(|mut driver| call(&mut driver));
        dying.join().map_err(|_| "the killer panicked".to_owned())??;
        match answer {
            Ok(Ok(_)) => {
                println!("{what}: answered when it had {delay:?}");
                break;
            }
            // A tool that the last one had begun may still be at it.
            Ok(Err(status)) if status.code() == tonic::Code::Aborted => {}
            Ok(Err(status)) if !is_end_of_connection(&status) => {
                return Err(format!("{what}: {}", said(status)));
            }
            Ok(Err(status)) => {
                println!("{what}: died after {delay:?}: {}", said(status));
                delay = delay * 3 / 2 + Duration::from_millis(1);
            }
            Err(_) => delay = delay * 3 / 2 + Duration::from_millis(1),
        }
    }
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let done = patiently(|| call(&mut driver)).map_err(|why| format!("{what}, repeated: {why}"))?;
    drop(driver);
    standalone.stop()?;
    Ok(done)
}

/// Whether the driver has gone away, or has something from its life before still under way.
fn is_end_of_connection(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted)
}

/// Kills the driver in the middle of every call, at many points: repeating the call is always enough.
pub fn in_the_middle(_: &str) -> Outcome {
    create_pool()?;
    let (writer, reader) = (mount("ext4", Mode::SingleNodeWriter), mount("", Mode::MultiNodeReaderOnly));
    let volume = through_deaths("create", |driver| driver.create(request("pvc-1", 64, &writer)))?;
    let id = volume.volume_id.clone();
    let at = through_deaths("stage and publish", |driver| driver.open(&volume, &writer))?;
    let data = vec![9; 5 << 20];
    write(&at.join("before"), &data)?;
    let snapshot = through_deaths("snapshot", |driver| driver.snapshot("snap-1", &id))?;
    write(&at.join("after"), &data)?;
    let view = through_deaths("view", |driver| driver.view("view-1", &snapshot.snapshot_id, &reader))?;
    let shown = through_deaths("stage and publish the view", |driver| driver.open(&view, &reader))?;
    let before = fs::read(shown.join("before")).map_err(|error| io("read from the view", &error))?;
    that("the view holds what was written before", before == data && !shown.join("after").exists())?;
    through_deaths("unpublish and unstage", |driver| driver.close(&view.volume_id))?;
    through_deaths("delete the view", |driver| driver.delete(&view.volume_id))?;
    through_deaths("merge", |driver| driver.delete_snapshot(&snapshot.snapshot_id))?;
    that("it has grown", through_deaths("expand", |driver| driver.expand(&id, 128))? == 128)?;
    through_deaths("grow the file system", |driver| driver.node_expand(&id))?;
    let after = fs::read(at.join("after")).map_err(|error| io("read", &error))?;
    that("the volume holds what was written", after == data)?;
    through_deaths("unpublish and unstage", |driver| driver.close(&id))?;
    through_deaths("delete", |driver| driver.delete(&id))?;
    let left: Vec<VolumeInfo> = json(&["volume", "list", "--pool", POOL])?;
    that("nothing is left", left.is_empty())
}

/// A `mkfs` that was cut off leaves something that is no file system: it is made again only where it is noted that
/// nobody has used the volume yet.
pub fn half_formatted(_: &str) -> Outcome {
    const NOTE: &str = "splitmirror.io/formatting";
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let writer = mount("ext4", Mode::SingleNodeWriter);
    let volume = driver.create(request("pvc-1", 64, &writer)).map_err(said)?;
    let shown: VolumeInfo = json(&["volume", "show", &volume.volume_id])?;
    let device = shown.device.ok_or("the volume is not active")?;
    write_at(Path::new(&device), 4096, &[7; 4096])?;
    refused("it may be data", driver.stage(&volume, &writer), Code::FailedPrecondition)?;
    let lv = format!("{POOL}/{}", volume.volume_id);
    run(Command::new("lvchange").args(["--addtag", NOTE, &lv]))?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    write(&at.join("data"), b"x")?;
    let tags = run(Command::new("lvs").args(["--noheadings", "-o", "lv_tags", &lv]))?;
    that("the note is gone", !tags.contains(NOTE))?;
    driver.close(&volume.volume_id).map_err(said)?;
    driver.delete(&volume.volume_id).map_err(said)?;
    standalone.stop()
}
