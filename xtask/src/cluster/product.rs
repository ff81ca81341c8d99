//! The project's own image, built from `deploy/Dockerfile` by buildah: no daemon, no registry. Its base is a Debian made
//! here, where users would take Debian's own image.
//!
//! Only the program changes from one time to the next. So the image without it (the Dockerfile's stage `tools`) is in the
//! nodes' root already, and what a bed has to take in is an archive without those layers.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::images::Archive;
use super::{oci, system};
use crate::cache::{Cache, Key};
use crate::cmd;

/// As the tests name it. Spelled out, or the kubelet would look for another.
const IMAGE: &str = "docker.io/library/splitmirror:test";

const DOCKERFILE: &str = "deploy/Dockerfile";

/// All of it but the program.
const TOOLS: &str = "localhost/splitmirror-tools:1";

/// Where an OCI image layout keeps everything.
const BLOBS: &str = "blobs/sha256";

/// Where a layout is in a directory of the cache.
const LAYOUT: &str = "layout";

/// The image without the program.
#[derive(Debug)]
pub struct Tools {
    /// Of a whole image.
    pub archive: Archive,
    layout: PathBuf,
}

/// buildah with a store in the cache, and a directory for what it needs meanwhile.
#[derive(Debug)]
struct Buildah {
    store: PathBuf,
    scratch: PathBuf,
}

/// Finds the image without the program in the cache, or builds it.
pub fn tools(cache: &Cache) -> Result<Tools> {
    let key = Key::default().text(system::SUITE).file(Path::new(DOCKERFILE))?;
    let dir = cache.made(&key.name("image-tools"), |work, _| {
        println!("building the base of the project's image");
        let buildah = Buildah::open(cache, work)?;
        let context = buildah.scratch.join("context");
        fs::create_dir(&context).with_context(|| format!("creating {}", context.display()))?;
        buildah.build(TOOLS, &["--target=tools"], &context)?;
        buildah.export(TOOLS, &work.join(LAYOUT))?;
        oci::tar(&work.join(LAYOUT), &work.join("tools.tar"))?;
        buildah.close()
    })?;
    let layout = dir.join(LAYOUT);
    // Packages of another day make another image of the same Dockerfile.
    let index = layout.join("index.json");
    let id = fs::read_to_string(&index).with_context(|| format!("reading {}", index.display()))?;
    Ok(Tools { archive: Archive { image: TOOLS.to_owned(), file: dir.join("tools.tar"), id }, layout })
}

/// Builds the image of this program. The archive, in `dir`, lacks what nodes have already, and has a name of its own each
/// time: a guest that has read one would not see that it was replaced.
pub fn build(cache: &Cache, program: &Path, dir: &Path) -> Result<Archive> {
    println!("building {IMAGE}");
    let tools = tools(cache)?;
    let buildah = Buildah::open(cache, dir)?;
    let context = buildah.scratch.join("context");
    fs::create_dir(&context).with_context(|| format!("creating {}", context.display()))?;
    // Without what only a debugger reads.
    cmd::run(Command::new("strip").arg("-o").arg(context.join("splitmirror")).arg(program))?;
    buildah.build(IMAGE, &[], &context)?;
    // Images of earlier programs. The one that has a name stays, with its layers.
    cmd::stdout(buildah.command("rmi").arg("--prune"))?;
    let layout = buildah.scratch.join(LAYOUT);
    buildah.export(IMAGE, &layout)?;
    let known = names(&tools.layout.join(BLOBS))?;
    for name in names(&layout.join(BLOBS))?.intersection(&known) {
        let blob = layout.join(BLOBS).join(name);
        fs::remove_file(&blob).with_context(|| format!("removing {}", blob.display()))?;
    }
    let age = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let file = dir.join(format!("splitmirror-{}.tar", age.as_millis()));
    oci::tar(&layout, &file)?;
    buildah.close()?;
    Ok(Archive { image: IMAGE.to_owned(), id: age.as_millis().to_string(), file })
}

impl Buildah {
    fn open(cache: &Cache, dir: &Path) -> Result<Self> {
        let scratch = dir.join("scratch");
        fs::create_dir(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
        Ok(Self { store: cache.dir("containers")?, scratch })
    }

    fn close(self) -> Result<()> {
        let scratch = self.scratch;
        fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(&self.store).arg("--runroot").arg(self.scratch.join("run")).arg(verb);
        command
    }

    /// Builds the Dockerfile. Its steps are kept.
    fn build(&self, tag: &str, more: &[&str], context: &Path) -> Result<()> {
        let mut build = self.command("build");
        build
            .args(["--isolation=chroot", "--layers", "--pull=never"])
            .arg(format!("--build-arg=BASE={}", self.base()?))
            .args(["--file", DOCKERFILE, "--tag", tag])
            .args(more)
            .arg(context);
        cmd::stdout(&mut build).map(|_| ())
    }

    /// Writes an image as a layout. Uncompressed: nodes would only have to unpack it.
    fn export(&self, image: &str, layout: &Path) -> Result<()> {
        let to = format!("oci:{}:{image}", layout.display());
        cmd::stdout(self.command("push").arg("--disable-compression").arg(image).arg(to)).map(|_| ())
    }

    /// A minimal Debian as an image, made when the store has none.
    fn base(&self) -> Result<String> {
        let name = Key::default().text(system::SUITE).name("localhost/splitmirror-base");
        if cmd::stdout(self.command("images").arg("--quiet").arg(&name)).is_ok() {
            return Ok(name);
        }
        let root = self.scratch.join("base");
        system::install(&[], &root)?;
        let container = cmd::stdout(self.command("from").arg("scratch"))?;
        let container = container.trim();
        cmd::stdout(self.command("add").arg("--quiet").arg(container).arg(&root))?;
        cmd::stdout(self.command("commit").arg("--quiet").arg("--rm").arg(container).arg(&name))?;
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
        Ok(name)
    }
}

/// The names in a directory.
fn names(dir: &Path) -> Result<HashSet<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    entries
        .map(|entry| {
            let entry = entry.with_context(|| format!("reading {}", dir.display()))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        })
        .collect()
}
