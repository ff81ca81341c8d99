//! With Debian's own udev and its rules beside us: what it links, and that it never gets into our way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{self, Outcome, ensure, say};
use crate::writer::Writers;

const DAEMON: &str = "/lib/systemd/systemd-udevd";

/// udev at work; it ends with the scenario.
struct Udev(Child);

impl Udev {
    fn start() -> Outcome<Self> {
        let daemon = Command::new(DAEMON).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let udev = Self(daemon.map_err(|error| format!("{DAEMON}: {error}"))?);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !Path::new("/run/udev/control").exists() {
            ensure(Instant::now() < deadline, || "udev does not start".into())?;
            std::thread::sleep(Duration::from_millis(10));
        }
        lab::run("udevadm", &["trigger", "--action=add"])?;
        Ok(udev)
    }

    /// Waits until it has dealt with everything, and tells which devices its links below a directory lead to.
    fn links(&self, dir: &str) -> Outcome<BTreeMap<String, PathBuf>> {
        lab::run("udevadm", &["settle", "--timeout=60"])?;
        let Ok(entries) = std::fs::read_dir(dir) else { return Ok(BTreeMap::new()) };
        let link = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.map_err(say)?;
            let device = std::fs::canonicalize(entry.path()).map_err(say)?;
            Ok((entry.file_name().to_string_lossy().into_owned(), device))
        };
        entries.map(link).collect()
    }
}

impl Drop for Udev {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
        drop(std::fs::remove_file("/run/udev/control"));
    }
}

pub fn udev_links_the_volume_and_never_a_leg(disks: &[PathBuf]) -> Outcome {
    let udev = Udev::start()?;
    let engine = lab::new_pool(disks, 3)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    lab::run("mkfs.ext4", &["-q", "-F", &device.display().to_string()])?;
    let uuid = lab::run("blkid", &["-p", "-s", "UUID", "-o", "value", &device.display().to_string()])?;
    let only_the_volume = |when: &str| -> Outcome {
        let links = udev.links("/dev/disk/by-uuid")?;
        let ours: Vec<_> = links.iter().filter(|(_, to)| to.to_string_lossy().contains("/dm-")).collect();
        ensure(ours == [(&uuid, &device)], || {
            format!("{when}: by-uuid has {links:?}, the volume is {device:?}")
        })
    };
    // The file system was made after the device's last event.
    lab::run("udevadm", &["trigger", "--action=change", &device.display().to_string()])?;
    only_the_volume("a new volume")?;
    let mut snapshots = Vec::new();
    for round in 0..4 {
        let writers = Writers::start(&device, crate::lvm::plan(90), None)?;
        writers.wait_for(8)?;
        writers.stop()?;
        lab::run("mkfs.ext4", &["-q", "-F", "-U", &uuid, &device.display().to_string()])?;
        snapshots.push(lab::split(&engine, &format!("s{round}"), "v")?.id);
        only_the_volume("after a split")?;
        if round % 2 == 1 {
            for snapshot in snapshots.drain(..) {
                lab::merge(&engine, &snapshot)?;
                only_the_volume("after a merge")?;
            }
        }
    }
    let snapshot = lab::split(&engine, "last", "v")?;
    // While udev's blkid has the volume open it is in use.
    udev.links("/dev/pool")?;
    engine.deactivate(&"v".parse().map_err(say)?).map_err(say)?;
    engine.activate(&"v".parse().map_err(say)?).map_err(say)?;
    let device = lab::device(&engine, "v")?;
    let links = udev.links("/dev/disk/by-uuid")?;
    ensure(
        links.get(&uuid) == Some(&device) && links.values().all(|to| *to == device || !is_dm(to)),
        || format!("after a start: {links:?}, the volume is {device:?}"),
    )?;
    let named = udev.links("/dev/pool")?;
    let image = format!("v_rimage_{}", snapshot.slot);
    ensure(named.keys().map(String::as_str).collect::<Vec<_>>() == ["v", image.as_str()], || {
        format!("{named:?}")
    })?;
    lab::merge(&engine, &snapshot.id)?;
    ensure(lab::legs_are_equal(&engine, "v")? == 3, || "an image is missing".into())?;
    udev.links("/dev/pool")?;
    engine.delete_volume("v").map_err(say)?;
    ensure(lab::devices()?.is_empty() && udev.links("/dev/pool")?.is_empty(), || "it is not gone".into())
}

fn is_dm(device: &Path) -> bool {
    device.to_string_lossy().contains("/dm-")
}
