//! `cargo xtask setup`: what the tests need from Debian packages, the guest kernels, and when asked the parts of the
//! Kubernetes test bed, which take many minutes to build.

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;

use crate::cache::Cache;
use crate::kernel::Origin;
use crate::{apt, cluster};

/// Install what is missing, fetch guest kernels
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Also install and build what the Kubernetes test bed is made of
    #[arg(long)]
    cluster: bool,
}

/// What is installed, and what for.
const PACKAGES: &[(&str, &str)] = &[
    ("user-mode-linux", "the guest kernel"),
    ("patchelf", "a newer guest kernel with its own C library"),
    ("gcc", "links everything; builds xtask/src/kernel/xstate.c"),
    ("libc6-dev", "the same"),
    ("iproute2", "the guest's loopback interface"),
    ("kmod", "the guest kernel and LVM2 call modprobe"),
    ("libdevmapper-dev", "the crate devicemapper"),
    ("libclang1-14", "bindgen, for the crate devicemapper"),
    ("libclang-common-14-dev", "the same: the compiler's own headers"),
    ("pkg-config", "the same"),
    ("lvm2", "the oracle of the tests"),
    ("dmsetup", "the same"),
    ("udev", "what it links, and that it is not in the way"),
    ("e2fsprogs", "mkfs, fsck, resize"),
    ("xfsprogs", "the same"),
    ("btrfs-progs", "the same"),
    ("dosfstools", "a signature that must not be overwritten"),
    ("sqlite3", "the database of the demo"),
];

/// Installs what is missing and fetches or builds the rest.
pub fn main(args: &Args) -> Result<()> {
    let packages = if args.cluster { [PACKAGES, cluster::PACKAGES].concat() } else { PACKAGES.to_vec() };
    install(&packages)?;
    let cache = Cache::open()?;
    for origin in Origin::ALL {
        match origin.find(&cache) {
            Ok(kernel) => println!("{:<8} {} ({})", origin.name(), kernel.id, kernel.release),
            Err(missing) => println!("{:<8} missing: {}", origin.name(), missing.reason),
        }
    }
    if args.cluster {
        cluster::Parts::find(&cache, None)?;
        println!("all parts of the Kubernetes test bed are there");
    }
    Ok(())
}

fn install(packages: &[(&str, &str)]) -> Result<()> {
    if !crate::cmd::exists("dpkg-query") || !crate::cmd::exists("apt-get") {
        bail!("this is no Debian: install by hand what {} lists", file!());
    }
    let names: Vec<&str> = packages.iter().map(|(name, _)| *name).collect();
    let missing = apt::missing(&names)?;
    if missing.is_empty() {
        println!("all {} packages are installed", names.len());
        return Ok(());
    }
    for (name, what_for) in packages.iter().filter(|(name, _)| missing.contains(name)) {
        println!("installing {name}: {what_for}");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("only root can install packages: apt-get install {}", missing.join(" "));
    }
    apt::install(&missing).context("installing packages")
}
