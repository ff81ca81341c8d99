//! Container images of one layer, made by hand: an OCI image layout in a tar file, as `ctr images import` and others read it.
//!
//! Sources: OCI image specification 1.1 (`image-layout.md`, `manifest.md`, `config.md`).

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cmd;

const MEDIA: &str = "application/vnd.oci.image";

/// An image to be made.
#[derive(Debug)]
pub struct Image {
    /// `registry/name:tag`.
    pub name: String,
    /// Programs, and where they are in the image.
    pub programs: Vec<(PathBuf, String)>,
    /// Symbolic links: where, and to what.
    pub links: Vec<(String, &'static str)>,
    /// What is started unless told otherwise.
    pub entrypoint: Vec<String>,
}

/// Something in the layout that others name by its digest.
struct Blob {
    digest: String,
    bytes: u64,
}

impl Image {
    /// Writes the archive. `scratch` must be an empty directory.
    pub fn write(&self, scratch: &Path, archive: &Path) -> Result<()> {
        let (root, layout) = (scratch.join("root"), scratch.join("layout"));
        let blobs = layout.join("blobs/sha256");
        for dir in [root.join("bin"), root.join("tmp"), blobs.clone()] {
            fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        for (program, place) in &self.programs {
            let inside = root.join(place.trim_start_matches('/'));
            if let Some(dir) = inside.parent() {
                fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
            }
            fs::copy(program, &inside).with_context(|| format!("copying {}", program.display()))?;
            fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("making {} executable", inside.display()))?;
        }
        for (link, target) in &self.links {
            let path = root.join(link.trim_start_matches('/'));
            symlink(target, &path).with_context(|| format!("linking {}", path.display()))?;
        }
        let layer = scratch.join("layer.tar");
        tar(&root, &layer)?;
        let layer = adopt(&layer, &blobs)?;
        let config = add(
            &blobs,
            &json!({
                "architecture": "amd64",
                "os": "linux",
                "config": { "Entrypoint": self.entrypoint, "Env": ["PATH=/bin"] },
                "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
            }),
        )?;
        let manifest = add(
            &blobs,
            &json!({
                "schemaVersion": 2,
                "mediaType": format!("{MEDIA}.manifest.v1+json"),
                "config": descriptor(&config, "config.v1+json"),
                "layers": [descriptor(&layer, "layer.v1.tar")],
            }),
        )?;
        let mut entry = descriptor(&manifest, "manifest.v1+json");
        entry["annotations"] = json!({ "io.containerd.image.name": self.name });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": format!("{MEDIA}.index.v1+json"),
            "manifests": [entry],
        });
        for (name, value) in [("index.json", index), ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }))]
        {
            let path = layout.join(name);
            fs::write(&path, value.to_string()).with_context(|| format!("writing {}", path.display()))?;
        }
        tar(&layout, archive)
    }
}

/// A tar file whose bytes depend on nothing but names and contents.
pub fn tar(dir: &Path, file: &Path) -> Result<()> {
    cmd::run(
        Command::new("tar")
            .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
            .arg("-C")
            .arg(dir)
            .arg("-cf")
            .arg(file)
            .arg("."),
    )
}

fn descriptor(blob: &Blob, kind: &str) -> Value {
    json!({ "mediaType": format!("{MEDIA}.{kind}"), "digest": blob.digest, "size": blob.bytes })
}

/// Writes a value as a blob.
fn add(blobs: &Path, value: &Value) -> Result<Blob> {
    let path = blobs.join("new");
    fs::write(&path, value.to_string()).with_context(|| format!("writing {}", path.display()))?;
    adopt(&path, blobs)
}

/// Makes a file a blob.
fn adopt(file: &Path, blobs: &Path) -> Result<Blob> {
    let mut open = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = open.read(&mut buffer).with_context(|| format!("reading {}", file.display()))?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        bytes += u64::try_from(read).context("a read of that size")?;
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::rename(file, blobs.join(&hex)).with_context(|| format!("naming the blob {hex}"))?;
    Ok(Blob { digest: format!("sha256:{hex}"), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_named_by_its_digest_is_in_the_archive() {
        let dir = std::env::temp_dir().join(format!("splitmirror-oci-test-{}", std::process::id()));
        let scratch = dir.join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        fs::write(dir.join("program"), "#!/bin/sh\n").unwrap();
        let image = Image {
            name: "localhost/test:1".to_owned(),
            programs: vec![(dir.join("program"), "/bin/program".to_owned())],
            links: vec![("/bin/other".to_owned(), "program")],
            entrypoint: vec!["/bin/program".to_owned()],
        };
        image.write(&scratch, &dir.join("image.tar")).unwrap();
        let unpacked = dir.join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        cmd::run(Command::new("tar").arg("-xf").arg(dir.join("image.tar")).arg("-C").arg(&unpacked)).unwrap();

        let read = |path: &Path| fs::read(path).unwrap();
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = read(&unpacked.join("blobs/sha256").join(digest));
            assert_eq!(descriptor["size"], u64::try_from(bytes.len()).unwrap());
            let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, digest);
            bytes
        };
        let index = parse(&read(&unpacked.join("index.json")));
        let manifest = parse(&blob(&index["manifests"][0]));
        let config = parse(&blob(&manifest["config"]));
        blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
