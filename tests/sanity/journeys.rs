//! Journeys of a volume through the driver, over real disks.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::{CreateVolumeRequest, Volume, VolumeCapability};
use splitmirror::volume::info::{PoolInfo, SlotState, SnapshotInfo, VolumeInfo};
use tonic::Code;

use crate::Outcome;
use crate::driver::{Driver, block as raw, mount, patiently, refused, request, said};
use crate::guest::{POOL, Standalone, create_pool, disks, path, run, splitmirror};

/// A volume with ext4 from beginning to end.
pub fn ext4(_: &str) -> Outcome {
    file_system("ext4", 128, true)
}

/// A volume with XFS from beginning to end.
pub fn xfs(_: &str) -> Outcome {
    file_system("xfs", 320, true)
}

/// A volume with Btrfs from beginning to end; a view of it cannot be mounted.
pub fn btrfs(_: &str) -> Outcome {
    file_system("btrfs", 192, false)
}

pub fn that(what: &str, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(format!("{what}: it does not hold")) }
}

pub fn io(what: &str, error: &std::io::Error) -> String {
    format!("{what}: {error}")
}

pub fn holds(what: &str, file: &Path, data: &[u8]) -> Outcome {
    let found = fs::read(file).map_err(|error| io("read", &error))?;
    that(what, found == data)
}

pub fn write(file: &Path, data: &[u8]) -> Outcome {
    let done = File::create(file).and_then(|mut file| file.write_all(data).and_then(|()| file.sync_all()));
    done.map_err(|error| io(&format!("write {}", file.display()), &error))
}

fn file_system(fs: &str, mib: i64, views: bool) -> Outcome {
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let (writer, reader) = (mount(fs, Mode::SingleNodeWriter), mount("", Mode::MultiNodeReaderOnly));
    let volume = driver.create(request("pvc-1", mib, &writer)).map_err(said)?;
    let id = volume.volume_id.clone();
    let at = driver.open(&volume, &writer).map_err(said)?;
    let data: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    write(&at.join("before"), &data)?;
    let snapshot = driver.snapshot("snap-1", &id).map_err(said)?;
    that("the snapshot is ready", snapshot.ready_to_use)?;
    write(&at.join("after"), b"later")?;
    refused("expand with a snapshot", driver.expand(&id, mib * 2), Code::FailedPrecondition)?;
    refused("delete with a snapshot", driver.delete(&id), Code::FailedPrecondition)?;

    let view = driver.view("view-1", &snapshot.snapshot_id, &reader).map_err(said)?;
    if views {
        let shown = driver.open(&view, &reader).map_err(said)?;
        let before = fs::read(shown.join("before")).map_err(|error| io("read from the view", &error))?;
        that("the view holds what was written before", before == data)?;
        that("the view does not hold what was written after", !shown.join("after").exists())?;
        that("the view cannot be written", File::create(shown.join("new")).is_err())?;
        refused("delete what is staged", driver.delete(&view.volume_id), Code::FailedPrecondition)?;
    } else {
        refused("mount the view", driver.open(&view, &reader), Code::FailedPrecondition)?;
    }
    refused(
        "delete what a view shows",
        driver.delete_snapshot(&snapshot.snapshot_id),
        Code::FailedPrecondition,
    )?;
    driver.close(&view.volume_id).map_err(said)?;
    driver.delete(&view.volume_id).map_err(said)?;
    patiently(|| driver.delete_snapshot(&snapshot.snapshot_id))?;

    let before = driver.total(&id).map_err(said)?;
    that("it has grown", patiently(|| driver.expand(&id, mib * 2))? == mib * 2)?;
    driver.node_expand(&id).map_err(said)?;
    that("its file system too", driver.total(&id).map_err(said)? > before + (mib << 19))?;
    let after = fs::read(at.join("before")).map_err(|error| io("read", &error))?;
    that("the volume holds what was written", after == data && at.join("after").exists())?;
    refused("delete what is published", driver.delete(&id), Code::FailedPrecondition)?;
    driver.close(&id).map_err(said)?;
    driver.delete(&id).map_err(said)?;
    standalone.stop()
}

fn read_at(file: &Path, offset: u64, len: usize) -> Result<Vec<u8>, String> {
    let mut data = vec![0; len];
    let read = File::open(file).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut data)
    });
    read.map_err(|error| io(&format!("read {}", file.display()), &error)).map(|()| data)
}

pub fn write_at(file: &Path, offset: u64, data: &[u8]) -> Outcome {
    let written = OpenOptions::new().write(true).open(file).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(data)?;
        file.sync_all()
    });
    written.map_err(|error| io(&format!("write {}", file.display()), &error))
}

/// A raw block volume from beginning to end.
pub fn block(_: &str) -> Outcome {
    const LEN: usize = 1 << 20;
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let (writer, reader) = (raw(Mode::SingleNodeWriter), raw(Mode::SingleNodeReaderOnly));
    let volume = driver.create(request("pvc-1", 64, &writer)).map_err(said)?;
    let id = volume.volume_id.clone();
    let at = driver.open(&volume, &writer).map_err(said)?;
    that("a new volume reads as zeroes", read_at(&at, 60 << 20, LEN)? == vec![0; LEN])?;
    write_at(&at, 1 << 20, &vec![1; LEN])?;
    let snapshot = driver.snapshot("snap-1", &id).map_err(said)?;
    write_at(&at, 1 << 20, &vec![2; LEN])?;
    let view = driver.view("view-1", &snapshot.snapshot_id, &reader).map_err(said)?;
    let shown = driver.open(&view, &reader).map_err(said)?;
    that("the view holds what was there", read_at(&shown, 1 << 20, LEN)? == vec![1; LEN])?;
    that("the volume holds what is there", read_at(&at, 1 << 20, LEN)? == vec![2; LEN])?;
    that(
        "the view cannot be written",
        OpenOptions::new()
            .write(true)
            .open(&shown)
            .and_then(|mut file| file.write_all(&[0; 4096]).and_then(|()| file.sync_all()))
            .is_err(),
    )?;
    // Nobody has the nodes open: only the mount table tells that they are in use.
    refused("delete the view", driver.delete(&view.volume_id), Code::FailedPrecondition)?;
    driver.close(&view.volume_id).map_err(said)?;
    driver.delete(&view.volume_id).map_err(said)?;
    patiently(|| driver.delete_snapshot(&snapshot.snapshot_id))?;
    refused("delete what is published", driver.delete(&id), Code::FailedPrecondition)?;
    that("it has grown", patiently(|| driver.expand(&id, 96))? == 96)?;
    that("its node too", driver.total(&id).map_err(said)? == 96 << 20)?;
    driver.close(&id).map_err(said)?;
    driver.delete(&id).map_err(said)?;
    standalone.stop()
}

/// What people and orchestrators get wrong.
pub fn bad_input(_: &str) -> Outcome {
    let status = |args: &[&str]| -> Result<Option<i32>, String> {
        let output = splitmirror(args)?.output().map_err(|error| error.to_string())?;
        Ok(output.status.code())
    };
    let all = disks()?;
    let names: Vec<&str> = all.iter().filter_map(|disk| disk.to_str()).collect();
    run(Command::new("mkfs.ext4").arg("-q").arg(&all[0]))?;
    let mut create = vec!["pool", "create", POOL];
    create.extend(&names);
    that("a disk with a file system is refused", status(&create)? == Some(5))?;
    run(Command::new("e2fsck").arg("-fn").arg(&all[0]))?;
    create.extend(["--wipe-signatures", names[0]]);
    that("unless it is named", status(&create)? == Some(0))?;
    let endpoint = |name: &str| format!("unix://{}", path(name).display());
    let serve = |endpoint: &str, pool: &str| {
        status(&["standalone", "--endpoint", endpoint, "--pool", pool, "--node-id", "guest"])
    };
    that("a wrong pool is told", serve(&endpoint("other.sock"), "no-such")? == Some(3))?;
    that("a wrong name is told", serve(&endpoint("other.sock"), "a/b")? == Some(2))?;
    that("a wrong endpoint is told", serve("tcp://127.0.0.1:1", POOL)? == Some(2))?;
    let standalone = Standalone::start()?;
    that("a socket in use is told", serve(&endpoint("csi.sock"), POOL)? == Some(5))?;

    let mut driver = Driver::connect()?;
    let writer = mount("ext4", Mode::SingleNodeWriter);
    let sized = |name: &str, mib| request(name, mib, &writer);
    let with = |key: &str, value: &str| CreateVolumeRequest {
        parameters: [(key.to_owned(), value.to_owned())].into(),
        ..sized("new", 32)
    };
    refused("more than there is", driver.create(sized("new", 1 << 20)), Code::ResourceExhausted)?;
    refused(
        "more images than disks",
        driver.create(with("splitmirror.io/images", "4")),
        Code::ResourceExhausted,
    )?;
    refused("another pool", driver.create(with("splitmirror.io/pool", "other")), Code::InvalidArgument)?;
    refused("an unknown parameter", driver.create(with("nonsense", "1")), Code::InvalidArgument)?;
    refused("a name of 129 bytes", driver.create(sized(&"x".repeat(129), 32)), Code::InvalidArgument)?;
    let first = driver.create(sized(&"x".repeat(128), 32)).map_err(said)?;
    let second = driver.create(sized("snapshot/../pvmove \u{fc}", 32)).map_err(said)?;
    refused("another size", driver.create(sized(&"x".repeat(128), 64)), Code::AlreadyExists)?;

    driver.snapshot("one", &first.volume_id).map_err(said)?;
    let snapshot = driver.snapshot("two", &first.volume_id).map_err(said)?.snapshot_id;
    let reader = mount("", Mode::MultiNodeReaderOnly);
    let view = driver.view("shown", &snapshot, &reader).map_err(said)?;
    refused("a volume by a view's name", driver.create(sized("shown", 32)), Code::AlreadyExists)?;
    refused(
        "a view by a volume's name",
        driver.view(&"x".repeat(128), &snapshot, &reader),
        Code::AlreadyExists,
    )?;
    let other = driver.snapshot("one", &first.volume_id).map_err(said)?.snapshot_id;
    refused("a view of another snapshot", driver.view("shown", &other, &reader), Code::AlreadyExists)?;
    driver.delete(&view.volume_id).map_err(said)?;
    refused("no image to spare", driver.snapshot("three", &first.volume_id), Code::FailedPrecondition)?;
    refused("the name of another", driver.snapshot("one", &second.volume_id), Code::AlreadyExists)?;
    refused("of what is not", driver.snapshot("four", "no/such"), Code::NotFound)?;

    targets(&mut driver, &second, &writer)?;
    for id in ["", "no-such", "a/b@c", &"x".repeat(500)] {
        let expected = if id.is_empty() { Code::InvalidArgument } else { Code::Ok };
        for answer in [driver.delete(id), driver.delete_snapshot(id)] {
            that(
                "an unknown id is gone already",
                answer.map_or_else(|status| status.code(), |()| Code::Ok) == expected,
            )?;
        }
    }
    standalone.stop()
}

fn targets(
    driver: &mut Driver,
    volume: &splitmirror::csi::proto::Volume,
    writer: &VolumeCapability,
) -> Outcome {
    driver.stage(volume, writer).map_err(said)?;
    symlink("/etc", path("link")).map_err(|error| io("link", &error))?;
    for bad in ["relative", "/", "/run/../etc", &path("link").to_string_lossy()] {
        refused(bad, driver.publish_at(volume, writer, bad), Code::InvalidArgument)?;
    }
    refused("delete what is staged", driver.delete(&volume.volume_id), Code::FailedPrecondition)?;
    driver.close(&volume.volume_id).map_err(said)?;
    that("the link is left", path("link").is_symlink())
}

pub fn json<T: serde::de::DeserializeOwned>(args: &[&str]) -> Result<T, String> {
    let text = run(splitmirror(args)?.args(["-o", "json"]))?;
    serde_json::from_str(&text).map_err(|error| format!("{args:?}: {error}: {text}"))
}

/// What the command line shows while the driver serves.
pub fn command_line(_: &str) -> Outcome {
    let all = disks()?;
    let names: Vec<&str> = all.iter().filter_map(|disk| disk.to_str()).collect();
    let [first, second, third, foreign] = names[..] else { return Err("four disks are needed".to_owned()) };
    run(Command::new("mkfs.ext4").arg("-q").arg(foreign))?;
    let pool: PoolInfo = json(&["pool", "create", POOL, first, second])?;
    that("a new pool is whole", pool.problems.is_empty() && pool.disks.len() == 2 && pool.volumes == 0)?;
    let pool: PoolInfo = json(&["pool", "extend", POOL, third])?;
    that("it has grown", pool.disks.len() == 3)?;
    let pool: PoolInfo = json(&["pool", "reduce", POOL, foreign, third])?;
    that("it has shrunk", pool.disks.len() == 2)?;
    run(Command::new("e2fsck").args(["-fn", foreign]))?;
    let pool: PoolInfo = json(&["pool", "extend", POOL, third])?;
    that("it has grown again", pool.disks.len() == 3)?;

    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let writer = raw(Mode::SingleNodeWriter);
    let volume = driver.create(request("pvc-1", 64, &writer)).map_err(said)?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    driver.snapshot("nightly", &volume.volume_id).map_err(said)?;
    write_at(&at, 8 << 20, &[7; 4096])?;
    let volumes: Vec<VolumeInfo> = json(&["volume", "list", "--pool", POOL])?;
    let slots = |volume: &VolumeInfo, state| volume.slots.iter().filter(|slot| slot.state == state).count();
    let one = volumes.first().ok_or("no volume is listed")?;
    that("one image is split off", slots(one, SlotState::Split) == 1 && slots(one, SlotState::InSync) == 2)?;
    let snapshot: SnapshotInfo = json(&["snapshot", "show", "nightly"])?;
    that("one region is marked", snapshot.changed == one.region_size)?;
    for args in [
        ["pool", "list"].as_slice(),
        &["pool", "show"],
        &["volume", "list", "--watch"],
        &["volume", "show", "pvc-1", "--watch"],
        &["snapshot", "list"],
        &["snapshot", "show", "nightly"],
    ] {
        println!("$ splitmirror {}\n{}", args.join(" "), run(&mut splitmirror(args)?)?);
    }
    let metrics = http("/metrics")?;
    for line in [
        "splitmirror_pool_readable{pool=\"sanity\"} 1",
        "splitmirror_operations_total{op=\"CreateSnapshot\",class=\"ok\"} 1",
        &format!(
            "splitmirror_slot_state{{pool=\"sanity\",volume=\"{}\",slot=\"0\",state=\"InSync\"}} ",
            one.id
        ),
    ] {
        that(line, metrics.lines().any(|found| found.starts_with(line)))?;
    }
    that("it is healthy", http("/healthz")?.ends_with("ok\n"))?;
    driver.close(&volume.volume_id).map_err(said)?;
    standalone.stop()
}

/// A server in a new pool, and a raw block volume of it that is published.
struct Opened {
    standalone: Standalone,
    driver: Driver,
    volume: Volume,
    at: PathBuf,
}

fn opened() -> Result<Opened, String> {
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let writer = raw(Mode::SingleNodeWriter);
    let volume = driver.create(request("pvc-1", 64, &writer)).map_err(said)?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    Ok(Opened { standalone, driver, volume, at })
}

/// Deletes a volume that nobody uses, its snapshots before, and stops the server.
fn ended(standalone: Standalone, mut driver: Driver, volume: &Volume, snapshots: &[String]) -> Outcome {
    for snapshot in snapshots {
        patiently(|| driver.delete_snapshot(snapshot))?;
    }
    driver.delete(&volume.volume_id).map_err(said)?;
    standalone.stop()
}

/// A raw block volume put back to a snapshot while its server goes on; refused while it is published.
pub fn rolled_back(_: &str) -> Outcome {
    const LEN: usize = 1 << 20;
    let Opened { standalone, mut driver, volume, at } = opened()?;
    write_at(&at, 8 << 20, &vec![1; LEN])?;
    driver.snapshot("nightly", &volume.volume_id).map_err(said)?;
    write_at(&at, 8 << 20, &vec![2; LEN])?;
    write_at(&at, 32 << 20, &vec![2; LEN])?;
    let roll_back = ["volume", "rollback", "pvc-1", "--to", "nightly"];
    // Nobody has its node open: only the mount table tells that it is in use.
    let why = run(&mut splitmirror(&roll_back)?).err().unwrap_or_default();
    that("a volume in use is left alone", why.contains("is in use"))?;
    that("all of it", read_at(&at, 8 << 20, LEN)? == vec![2; LEN])?;
    driver.close(&volume.volume_id).map_err(said)?;
    let other =
        run(&mut splitmirror(&["volume", "rollback", "pvc-1", "--to", "weekly"])?).err().unwrap_or_default();
    that("a snapshot that is not there is named", other.contains("weekly"))?;
    let done: serde_json::Value = json(&roll_back)?;
    let copied = done["copied"].as_u64().unwrap_or_default();
    // What is marked, in regions of 2 MiB.
    that(&format!("only what has changed is copied: {done}"), copied == 4 << 20)?;
    let at = driver.open(&volume, &raw(Mode::SingleNodeWriter)).map_err(said)?;
    that("what was there is there again", read_at(&at, 8 << 20, LEN)? == vec![1; LEN])?;
    that("and what was not is not", read_at(&at, 32 << 20, LEN)? == vec![0; LEN])?;
    driver.close(&volume.volume_id).map_err(said)?;
    let snapshot: SnapshotInfo = json(&["snapshot", "show", "nightly"])?;
    ended(standalone, driver, &volume, &[snapshot.id])
}

/// A volume in use gets fewer images and more, by hand, while its server goes on.
pub fn changed(_: &str) -> Outcome {
    const LEN: usize = 1 << 20;
    let Opened { standalone, mut driver, volume, at } = opened()?;
    write_at(&at, 8 << 20, &vec![1; LEN])?;
    let set = |more: &[&str]| -> Result<VolumeInfo, String> {
        json(&[&["volume", "set", "pvc-1"][..], more].concat())
    };
    that("one image has left", set(&["--images", "2"])?.slots.len() == 2)?;
    write_at(&at, 8 << 20, &vec![2; LEN])?;
    let wider = set(&["--images", "3", "--min-recovery-rate", "100000"])?;
    that("one is new", wider.slots.len() == 3 && wider.min_recovery_rate == Some(100_000))?;
    // The server sees the copy through.
    run(&mut splitmirror(&["volume", "show", "pvc-1", "--watch"])?)?;
    let whole: VolumeInfo = json(&["volume", "show", "pvc-1"])?;
    that("all are in sync", whole.slots.iter().all(|slot| slot.state == SlotState::InSync))?;
    let refusal = |more: &[&str]| set(more).err().unwrap_or_default();
    that("too few are refused", refusal(&["--images", "0"]).contains("1 to 10"))?;
    that("so are more than there are disks for", refusal(&["--images", "4"]).contains("no room"))?;
    that("and avoiding all", refusal(&["--write-mostly", "0,1,2"]).contains("cannot avoid all"))?;
    driver.snapshot("nightly", &volume.volume_id).map_err(said)?;
    that("a snapshot stays where it is", refusal(&["--images", "2"]).contains("is snapshot pvc-1@nightly"))?;
    that("what was written is there", read_at(&at, 8 << 20, LEN)? == vec![2; LEN])?;
    driver.close(&volume.volume_id).map_err(said)?;
    let snapshot: SnapshotInfo = json(&["snapshot", "show", "nightly"])?;
    ended(standalone, driver, &volume, &[snapshot.id])
}

/// What an incremental backup reads: only what it needs to make the newer snapshot of the older one.
pub fn changed_blocks(_: &str) -> Outcome {
    const LEN: usize = 1 << 20;
    let Opened { standalone, mut driver, volume, at } = opened()?;
    write_at(&at, 8 << 20, &vec![1; LEN])?;
    write_at(&at, 16 << 20, &vec![1; LEN])?;
    let monday = driver.snapshot("monday", &volume.volume_id).map_err(said)?.snapshot_id;
    // Of one the half, another one with what it held, a third one that was empty.
    write_at(&at, (8 << 20) + 4096, &vec![2; LEN / 2])?;
    write_at(&at, 16 << 20, &vec![1; LEN])?;
    write_at(&at, 40 << 20, &vec![3; LEN])?;
    let tuesday = driver.snapshot("tuesday", &volume.volume_id).map_err(said)?.snapshot_id;
    write_at(&at, 50 << 20, &vec![4; LEN])?;
    driver.close(&volume.volume_id).map_err(said)?;
    let len = i64::try_from(LEN).map_err(|error| error.to_string())?;
    let expected = [((8 << 20) + 4096, len / 2), (40 << 20, len)];
    let told = driver.changed(&monday, &tuesday, 0).map_err(said)?;
    that(&format!("what differs, and no more: {told:?}"), told == expected)?;
    let rest = driver.changed(&monday, &tuesday, 9 << 20).map_err(said)?;
    that(&format!("it goes on anywhere: {rest:?}"), rest == expected[1..])?;
    let beyond = driver.changed(&monday, &tuesday, 65 << 20);
    refused("beyond the end", beyond, Code::OutOfRange)?;
    let runs: Vec<serde_json::Value> = json(&["snapshot", "blocks", "tuesday", "--since", "monday"])?;
    let runs: Vec<_> = runs.iter().map(|run| (run["offset"].as_i64(), run["length"].as_i64())).collect();
    that(&format!("{runs:?}"), runs == expected.map(|(offset, length)| (Some(offset), Some(length))))?;
    let held: Vec<serde_json::Value> = json(&["snapshot", "blocks", "monday"])?;
    let held: Vec<_> = held.iter().filter_map(|run| run["offset"].as_i64()).collect();
    that(&format!("what is there at all: {held:?}"), held == [8 << 20, 16 << 20])?;
    ended(standalone, driver, &volume, &[monday, tuesday])
}

fn http(path: &str) -> Result<String, String> {
    let answer = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect("127.0.0.1:9809")?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: guest\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    answer().map_err(|error| io(path, &error))
}

/// Metadata damaged on one disk, a disk that is gone, metadata damaged on all disks.
pub fn damaged_pool(_: &str) -> Outcome {
    const LEN: usize = 1 << 20;
    let all = disks()?;
    let without_devices = || run(Command::new("dmsetup").args(["remove_all", "--force"]));
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let writer = raw(Mode::SingleNodeWriter);
    let volume = driver.create(request("pvc-1", 64, &writer)).map_err(said)?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    write_at(&at, 0, &vec![5; LEN])?;
    driver.close(&volume.volume_id).map_err(said)?;
    standalone.stop()?;

    without_devices()?;
    write_at(&all[0], 4096, &vec![0xaa; LEN - 4096])?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let pool: PoolInfo = json(&["pool", "show", POOL])?;
    that("the damaged copy was written again", pool.problems.is_empty())?;
    run(Command::new("vgck").arg(POOL))?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    that("the data is there", read_at(&at, 0, LEN)? == vec![5; LEN])?;
    driver.close(&volume.volume_id).map_err(said)?;
    standalone.stop()?;

    without_devices()?;
    write_at(&all[1], 0, &vec![0; LEN])?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let shown: VolumeInfo = json(&["volume", "show", &volume.volume_id])?;
    let missing = shown.slots.iter().filter(|slot| slot.state == SlotState::Missing).count();
    that("one image is missing, and told", missing == 1 && !shown.problems.is_empty())?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    that("the data is still there", read_at(&at, 0, LEN)? == vec![5; LEN])?;
    write_at(&at, 0, &vec![6; LEN])?;
    let more = driver.create(request("pvc-2", 64, &writer));
    that("no volume of three images fits on two disks", more.is_err())?;
    that("the metrics tell", http("/metrics")?.contains("splitmirror_pool_device_missing{pool=\"sanity\""))?;
    driver.close(&volume.volume_id).map_err(said)?;
    standalone.stop()?;

    without_devices()?;
    for disk in [&all[0], &all[2]] {
        write_at(disk, 4096, &vec![0xaa; LEN - 4096])?;
    }
    let endpoint = format!("unix://{}", path("other.sock").display());
    let output =
        splitmirror(&["standalone", "--endpoint", &endpoint, "--pool", POOL, "--node-id", "guest"])?.output();
    let output = output.map_err(|error| error.to_string())?;
    println!("{}", String::from_utf8_lossy(&output.stderr));
    that("a pool that nobody can read is not served", matches!(output.status.code(), Some(3 | 9)))?;
    for disk in [&all[0], &all[2]] {
        that("nothing was written", read_at(disk, 4096, LEN - 4096)? == vec![0xaa; LEN - 4096])?;
    }
    Ok(())
}
