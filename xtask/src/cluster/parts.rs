//! All that a bed is made of, found in the cache or made.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::bed::Spec;
use super::control_plane::Programs;
use super::images::{self, Archive};
use super::programs::{self, Sidecars};
use super::{node_image, product, tools};
use crate::apt;
use crate::cache::Cache;
use crate::kernel::{Kernel, Origin, select_one};

/// Nodes of a bed unless said otherwise.
pub const NODES: u8 = 3;

/// Debian packages that the bed needs besides those of the other levels, and what for.
pub const PACKAGES: &[(&str, &str)] = &[
    ("mmdebstrap", "the nodes' system, and the base of images"),
    ("busybox-static", "an image for tests"),
    ("buildah", "the project's own image"),
    ("openssl", "the cluster's certificates"),
    ("unzip", "kubectl and helm come in an archive"),
];

/// Why this machine cannot have a bed.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can make the bed's networks".to_owned());
    }
    let tun = std::path::Path::new("/dev/net/tun");
    (!tun.exists()).then(|| format!("{} is not there", tun.display()))
}

/// The fixed parts.
#[derive(Debug)]
pub struct Parts {
    kernel: Kernel,
    programs: Programs,
    sidecars: Sidecars,
    images: Vec<Archive>,
    node_image: PathBuf,
}

impl Parts {
    /// Finds or makes all of them.
    pub fn find(cache: &Cache, kernel: Option<&str>) -> Result<Self> {
        let names: Vec<&str> = PACKAGES.iter().map(|(name, _)| *name).collect();
        let missing = apt::missing(&names)?;
        if !missing.is_empty() {
            bail!("{} not installed (cargo xtask setup --cluster)", missing.join(", "));
        }
        let kernel = select_one(cache, kernel, &[Origin::Newest, Origin::Debian])?;
        let programs = Programs {
            kubernetes: programs::kubernetes(cache)?,
            clients: tools::clients(cache)?,
            etcd: tools::etcd(cache)?,
        };
        let sidecars = Sidecars::find(cache)?;
        let mut images = images::fixed(cache, &sidecars)?;
        images.push(product::tools(cache)?.archive);
        let node_image = node_image::find(cache, &kernel, &images)?;
        Ok(Self { kernel, programs, sidecars, images, node_image })
    }

    /// A bed of these, with more images, that keeps its files in `dir`.
    pub fn spec(&self, nodes: u8, more_images: &[Archive], dir: PathBuf, detached: bool) -> Spec {
        Spec {
            programs: self.programs.clone(),
            kernel: Some(self.kernel.id.clone()),
            nodes,
            node_image: self.node_image.clone(),
            images: self.images.iter().map(|archive| archive.image.clone()).collect(),
            more_images: more_images
                .iter()
                .map(|archive| (archive.image.clone(), archive.file.clone()))
                .collect(),
            snapshot_crds: self.sidecars.crds(),
            snapshot_controller: self.sidecars.controller_manifests(),
            description: dir.join("bed.json"),
            logs: dir,
            detached,
        }
    }
}
