//! A pool on the guest's disks and an engine on it, for scenarios.

use std::path::{Path, PathBuf};

use splitmirror::engine::{Engine, Settings, pool};
use splitmirror::host::linux::LinuxHost;
use splitmirror::host::{Blocks, DeviceMapper, Freeze, Host, Udev};
use splitmirror::ids::{LvName, VgName};
use splitmirror::report::chain;
use splitmirror::units::Bytes;
use splitmirror::volume::info::{SlotState, SnapshotInfo, VolumeInfo};
use splitmirror::volume::spec::{GroupSpec, SnapshotPolicy, SnapshotSpec, VolumeSpec};

use crate::aligned::Aligned;
use crate::writer::open_direct;

pub use crate::guest::Outcome;

/// Size of the volumes that scenarios use: small, so that whole legs can be compared often.
pub const SIZE: Bytes = Bytes::mib(16);
pub const REGION: Bytes = Bytes::kib(512);

/// An error as a scenario reports it.
pub fn say(error: impl std::error::Error + 'static) -> String {
    chain(&error)
}

pub fn vg() -> VgName {
    "pool".parse().expect("legal")
}

pub fn host() -> LinuxHost {
    LinuxHost::new(splitmirror::host::linux::Config::default()).expect("a guest has device-mapper")
}

/// Empties the start and the end of each disk, and removes every device-mapper device.
pub fn wipe(disks: &[PathBuf]) -> Outcome {
    let host = host();
    for _ in 0..4 {
        for entry in host.dm_list().map_err(say)? {
            if host.dm_info(&entry.name).map_err(say)?.is_some_and(|info| info.suspended) {
                host.dm_resume(&entry.name, Udev::Hidden).map_err(say)?;
            }
            if host.dm_info(&entry.name).map_err(say)?.is_some_and(|info| info.open_count == 0) {
                host.dm_remove(&entry.name).map_err(say)?;
            }
        }
    }
    if let Some(left) = host.dm_list().map_err(say)?.first() {
        return Err(format!("device {} cannot be removed", left.name));
    }
    for disk in disks {
        host.zero(disk, Bytes::ZERO, Bytes::mib(2)).map_err(say)?;
    }
    Ok(())
}

/// A fresh pool on the first `n` disks.
pub fn new_pool(disks: &[PathBuf], n: usize) -> Outcome<Engine<LinuxHost>> {
    pool::create(&host(), &vg(), &disks[..n], &pool::Options::default()).map_err(say)?;
    open()
}

/// An engine on the pool that is there.
pub fn open() -> Outcome<Engine<LinuxHost>> {
    open_on(host())
}

pub fn open_on<H: Host>(host: H) -> Outcome<Engine<H>> {
    Engine::open(host, vg(), Settings::default()).map_err(say)
}

pub fn volume_spec(name: &str, images: usize) -> VolumeSpec {
    VolumeSpec {
        name: name.into(),
        size: SIZE,
        limit: None,
        images,
        region_size: REGION,
        min_recovery_rate: None,
        max_recovery_rate: None,
    }
}

pub fn snapshot_spec(name: &str, volume: &str) -> SnapshotSpec {
    SnapshotSpec {
        name: name.into(),
        volume: volume.parse().expect("legal"),
        min_in_sync: 1,
        policy: SnapshotPolicy::Borrow,
    }
}

/// A snapshot for which an image is added.
pub fn grown_spec(name: &str, volume: &str) -> SnapshotSpec {
    SnapshotSpec { policy: SnapshotPolicy::Grow, ..snapshot_spec(name, volume) }
}

pub fn group_spec(name: &str, volumes: &[&str]) -> GroupSpec {
    let volumes = volumes.iter().map(|volume| volume.parse().expect("legal")).collect();
    GroupSpec { name: name.into(), volumes, min_in_sync: 1 }
}

/// A new volume and its device.
pub fn new_volume<H: Host>(engine: &Engine<H>, name: &str, images: usize) -> Outcome<PathBuf> {
    engine.create_volume(&volume_spec(name, images)).map_err(say)?;
    device(engine, name)
}

pub fn device<H: Host>(engine: &Engine<H>, name: &str) -> Outcome<PathBuf> {
    Ok(engine.open_device(name).map_err(say)?.path)
}

pub fn split<H: Host>(engine: &Engine<H>, name: &str, volume: &str) -> Outcome<SnapshotInfo> {
    let info = engine.create_snapshot(&snapshot_spec(name, volume)).map_err(say)?;
    if !info.ready {
        return Err(format!("snapshot {name} is not ready: {info:?}"));
    }
    Ok(info)
}

/// A snapshot for which an image is added.
pub fn grow<H: Host>(engine: &Engine<H>, name: &str, volume: &str) -> Outcome<SnapshotInfo> {
    let info = engine.create_snapshot(&grown_spec(name, volume)).map_err(say)?;
    if info.ready { Ok(info) } else { Err(format!("snapshot {name} is not ready: {info:?}")) }
}

/// Merges a snapshot and waits until the image is equal.
pub fn merge<H: Host>(engine: &Engine<H>, id: &str) -> Outcome {
    engine.delete_snapshot(id).map_err(say)?;
    settle(engine)
}

/// Waits until nothing is under way.
pub fn settle<H: Host>(engine: &Engine<H>) -> Outcome {
    // Less than a scenario may take, so that it is told what does not end.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while engine.advance().map_err(say)? {
        if std::time::Instant::now() > deadline {
            return Err(format!("still not settled: {:?}", engine.volumes().map_err(say)?));
        }
        engine.host().pause(std::time::Duration::from_millis(10));
    }
    Ok(())
}

pub fn info<H: Host>(engine: &Engine<H>, volume: &str) -> Outcome<VolumeInfo> {
    let volumes = engine.volumes().map_err(say)?;
    volumes.into_iter().find(|v| v.id.as_str() == volume).ok_or_else(|| format!("no volume {volume}"))
}

/// The image devices of the slots that are in sync.
pub fn attached_images<H: Host>(engine: &Engine<H>, volume: &str) -> Outcome<Vec<(usize, PathBuf)>> {
    let of = info(engine, volume)?;
    let name: LvName = volume.parse().expect("legal");
    of.slots
        .iter()
        .filter(|slot| slot.state == SlotState::InSync)
        .map(|slot| {
            let dm = format!("{}-{}", vg(), name.image(slot.index).as_str().replace('-', "--"));
            let info = engine.host().dm_info(&dm).map_err(say)?.ok_or_else(|| format!("no device {dm}"))?;
            Ok((slot.index, PathBuf::from(format!("/dev/dm-{}", info.devno.minor))))
        })
        .collect()
}

pub fn top_name(volume: &str) -> String {
    format!("{}-{}", vg(), volume.replace('-', "--"))
}

/// Checks that all attached images are equal byte for byte, holding I/O back meanwhile. How many there are.
pub fn legs_are_equal<H: Host>(engine: &Engine<H>, volume: &str) -> Outcome<usize> {
    let top = top_name(volume);
    let images = attached_images(engine, volume)?;
    let size = info(engine, volume)?.size;
    engine.host().dm_suspend(&top, Freeze::IoOnly).map_err(say)?;
    let compared = compare(&images, size);
    engine.host().dm_resume(&top, Udev::Volume).map_err(say)?;
    compared.map(|()| images.len())
}

fn compare(images: &[(usize, PathBuf)], size: Bytes) -> Outcome {
    use std::os::unix::fs::FileExt;
    const CHUNK: u64 = 1 << 20;
    let files = images
        .iter()
        .map(|(slot, path)| Ok((*slot, open_direct(path, false)?, Aligned::new(CHUNK as usize))))
        .collect::<Outcome<Vec<_>>>()?;
    let mut files = files;
    let mut differing = Vec::new();
    for at in (0..size.0).step_by(CHUNK as usize) {
        let len = CHUNK.min(size.0 - at) as usize;
        for (slot, file, data) in &mut files {
            file.read_exact_at(&mut data.bytes_mut()[..len], at).map_err(|e| format!("image {slot}: {e}"))?;
        }
        let (first, rest) = files.split_first().ok_or("no image is attached")?;
        for (slot, _, data) in rest {
            for (i, (a, b)) in
                first.2.bytes()[..len].chunks(4096).zip(data.bytes()[..len].chunks(4096)).enumerate()
            {
                if a != b {
                    differing.push((*slot, at / 4096 + i as u64));
                }
            }
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = differing.iter().take(8).collect();
    Err(format!("images differ in {} blocks: (slot, block) {shown:?}…", differing.len()))
}

/// Runs a tool of the system and gives what it prints; an error when it fails.
pub fn run(program: &str, args: &[&str]) -> Outcome<String> {
    let (ok, out) = run_any(program, args)?;
    if ok { Ok(out) } else { Err(format!("{program} {}: {out}", args.join(" "))) }
}

/// Runs a tool of the system; whether it succeeded, and what it printed on both outputs.
pub fn run_any(program: &str, args: &[&str]) -> Outcome<(bool, String)> {
    let output = std::process::Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("DM_DISABLE_UDEV", "1")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text.trim().to_owned()))
}

pub fn mkdir(path: &str) -> Outcome<&Path> {
    std::fs::create_dir_all(path).map_err(|e| format!("{path}: {e}"))?;
    Ok(Path::new(path))
}

/// Fails with a message unless it holds.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// A fresh pool on the first `n` disks, over whatever is on those named.
pub fn new_pool_over(disks: &[PathBuf], n: usize, over: &[String]) -> Outcome<Engine<LinuxHost>> {
    let wipe_signatures = over.iter().map(PathBuf::from).collect();
    let options = pool::Options { wipe_signatures, ..pool::Options::default() };
    pool::create(&host(), &vg(), &disks[..n], &options).map_err(say)?;
    open()
}

/// Names of all device-mapper devices.
pub fn devices() -> Outcome<Vec<String>> {
    Ok(host().dm_list().map_err(say)?.into_iter().map(|entry| entry.name).collect())
}

/// Waits until a volume's images are in sync, whatever keeps the kernel busy.
pub fn wait_in_sync<H: Host>(engine: &Engine<H>, volume: &str) -> Outcome {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let mut quiet = 0;
    loop {
        let info = info(engine, volume)?;
        let rests = |state| matches!(state, SlotState::InSync | SlotState::Split);
        let resting = info.sync_percent >= 100.0 && info.slots.iter().all(|slot| rests(slot.state));
        // A resync is seen as idle for a moment before it begins.
        quiet = if resting { quiet + 1 } else { 0 };
        if quiet == 3 {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            return Err(format!("not in sync: {info:?}"));
        }
        engine.host().pause(std::time::Duration::from_millis(10));
    }
}
