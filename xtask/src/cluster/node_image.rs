//! The root of nodes: a Debian system with containerd, and the fixed images already in its store. An ext4 image in the
//! cache, which every node shares and none writes to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::images::Archive;
use super::system;
use crate::cache::{Cache, Key};
use crate::cmd;
use crate::guest::{End, Event, Guest, Lab, RootDisk};
use crate::kernel::Kernel;

/// What a node has, and what for.
const PACKAGES: [&str; 16] = [
    // Runs containers.
    "containerd",
    "runc",
    "containernetworking-plugins",
    "ca-certificates",
    // What the kubelet and pid 1 call.
    "iproute2",
    "kmod",
    "mount",
    "procps",
    "util-linux",
    // What tests look with; the driver brings its own.
    "busybox-static",
    "dmsetup",
    "lvm2",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "fio",
];

/// Room for images and containers; sparse.
const BYTES: u64 = 8 << 30;

/// How long the import of all images may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Changes when this module makes something else from the same packages.
const FORMAT: &str = "1";

/// Kernel modules that containers need, and kubelet for raw block volumes.
pub const MODULES: &[&str] = &["veth", "bridge", "loop"];

/// Finds it in the cache, or makes it.
pub fn find(cache: &Cache, kernel: &Kernel, images: &[Archive]) -> Result<PathBuf> {
    let key = Key::default().text(FORMAT).text(system::SUITE).text(&PACKAGES.join(" "));
    let bare = cache.made(&key.name("node-system"), |work, _| {
        println!("making the nodes' Debian system");
        let root = work.join("root");
        system::install(&PACKAGES, &root)?;
        format(&root, &work.join(IMAGE))?;
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))
    })?;
    let mut key = key.text(&bare.to_string_lossy());
    for image in images {
        key = key.text(&image.id);
    }
    let filled = cache.made(&key.name("node-image"), |work, _| {
        println!("putting {} images into the nodes' system", images.len());
        let image = work.join(IMAGE);
        cmd::run(Command::new("cp").arg("--sparse=always").arg(bare.join(IMAGE)).arg(&image))?;
        fill(cache, kernel, &image, images)?;
        cmd::stdout(Command::new("e2fsck").args(["-f", "-p"]).arg(&image)).map(|_| ())
    })?;
    Ok(filled.join(IMAGE))
}

const IMAGE: &str = "root.ext4";

/// Makes a file system that holds a directory.
fn format(root: &Path, image: &Path) -> Result<()> {
    let file = fs::File::create(image).with_context(|| format!("creating {}", image.display()))?;
    file.set_len(BYTES).with_context(|| format!("sizing {}", image.display()))?;
    cmd::stdout(
        Command::new("mkfs.ext4")
            // Or every node would write zeros over tables that are zero.
            .args(["-q", "-F", "-E", "assume_storage_prezeroed=1", "-d"])
            .arg(root)
            .arg(image),
    )
    .map(|_| ())
}

/// Has a guest import images.
fn fill(cache: &Cache, kernel: &Kernel, image: &Path, images: &[Archive]) -> Result<()> {
    let lab = Lab::open(cache)?;
    let root = RootDisk::image(image);
    let mut command = vec![lab.program().to_string_lossy().into_owned(), "guest-import".to_owned()];
    let mut guest_sees = vec![lab.seen().to_owned()];
    for archive in images {
        command.push(archive.file.to_string_lossy().into_owned());
        let dir = archive.file.parent().context("an archive without a directory")?.to_owned();
        if !guest_sees.contains(&dir) {
            guest_sees.push(dir);
        }
    }
    let mut guest = Guest::new(&lab, kernel, command).root(&root).mem(super::plan::MEM_MIB).modules(MODULES);
    for dir in guest_sees {
        guest = guest.readable(dir);
    }
    let mut running = guest.boot()?;
    let deadline = Instant::now() + PATIENCE;
    let end = loop {
        match running.next(deadline.saturating_duration_since(Instant::now())) {
            Event::Line(_) => {}
            Event::Ended(end) => break end,
            Event::TimedOut => break End::PowerCut,
        }
    };
    let report = running.power_cut();
    if end != End::Exited(0) {
        let lines: Vec<&str> = report.lines.iter().map(|line| line.text.as_str()).collect();
        bail!("importing images in a guest ended with {end:?}:\n{}", lines.join("\n"));
    }
    Ok(())
}
