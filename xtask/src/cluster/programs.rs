//! The programs that come from Go modules: Kubernetes itself, and the CSI sidecars. They are built once for the pinned
//! versions, which takes many minutes, and kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Cache, Key};
use crate::cmd;

const PROVISIONER: &str = "github.com/kubernetes-csi/external-provisioner/v6";
const RESIZER: &str = "github.com/kubernetes-csi/external-resizer/v2";
const SNAPSHOTTER: &str = "github.com/kubernetes-csi/external-snapshotter/v8";
const METADATA: &str = "github.com/kubernetes-csi/external-snapshot-metadata";
const METADATA_CLIENT: &str = "github.com/kubernetes-csi/external-snapshot-metadata/client";
const SNAPSHOT_CLIENT: &str = "github.com/kubernetes-csi/external-snapshotter/client/v8";

/// For the linker: no symbols, which makes the programs smaller by a third.
const STRIPPED: &str = "-s -w";

/// Where Kubernetes keeps what it says of its version.
const KUBERNETES_VERSION: &str = "k8s.io/component-base/version";

/// Sidecars, and the module whose version they say.
const SIDECAR_VERSIONS: [(&str, &str); 5] = [
    ("cmd/csi-provisioner", PROVISIONER),
    ("cmd/csi-resizer", RESIZER),
    ("cmd/csi-snapshot-metadata", METADATA),
    ("cmd/csi-snapshotter", SNAPSHOTTER),
    ("cmd/snapshot-controller", SNAPSHOTTER),
];

/// A Go module of the test bed. It pins, by its `go.sum`, what it names as tools; nothing of that is in the clone.
#[derive(Debug)]
struct Module {
    name: &'static str,
    dir: &'static str,
    packages: &'static [&'static str],
}

const KUBERNETES: Module =
    Module { name: "kubernetes", dir: "tests/cluster/bed/kubernetes", packages: &["tool"] };

const SIDECARS: Module =
    Module { name: "sidecars", dir: "tests/cluster/bed/sidecars", packages: &["tool", "./..."] };

/// The directory with `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kubelet`.
pub fn kubernetes(cache: &Cache) -> Result<PathBuf> {
    KUBERNETES.built(cache, |work| {
        let version = KUBERNETES.version("k8s.io/kubernetes")?;
        let (major, minor) = version
            .strip_prefix('v')
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(major, rest)| Some((major, rest.split_once('.')?.0)))
            .with_context(|| format!("`{version}` is no version of Kubernetes"))?;
        // Without these it says that it is v0.0.0, and Helm refuses charts that want a newer one.
        let stamps = [("gitVersion", version.as_str()), ("gitMajor", major), ("gitMinor", minor)]
            .map(|(variable, value)| format!("-X {KUBERNETES_VERSION}.{variable}={value}"));
        KUBERNETES.build(work, &[format!("{STRIPPED} {}", stamps.join(" "))])
    })
}

/// The sidecars and what belongs to them.
#[derive(Clone, Debug)]
pub struct Sidecars {
    dir: PathBuf,
}

/// A sidecar as an image.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// The program.
    pub program: PathBuf,
    /// `name:version`.
    pub image: String,
}

impl Sidecars {
    /// Finds them in the cache, or builds them.
    pub fn find(cache: &Cache) -> Result<Self> {
        let dir = SIDECARS.built(cache, |work| {
            let mut flags = vec![STRIPPED.to_owned()];
            for (package, module) in SIDECAR_VERSIONS {
                let version = SIDECARS.version(module)?;
                flags.push(format!("{module}/{package}={STRIPPED} -X main.version={version}"));
                let name = package.trim_start_matches("cmd/");
                write(&work.join(format!("{name}.version")), &version)?;
            }
            SIDECARS.build(work, &flags)?;
            let crds = work.join("crds");
            fs::create_dir(&crds).with_context(|| format!("creating {}", crds.display()))?;
            for client in [SNAPSHOT_CLIENT, METADATA_CLIENT] {
                copy_manifests(&SIDECARS.directory(client)?.join("config/crd"), &crds)?;
            }
            let controller = SIDECARS.directory(SNAPSHOTTER)?.join("deploy/kubernetes/snapshot-controller");
            let manifests = work.join("snapshot-controller-manifests");
            fs::create_dir(&manifests).with_context(|| format!("creating {}", manifests.display()))?;
            copy_manifests(&controller, &manifests)
        })?;
        Ok(Self { dir })
    }

    /// Upstream's own custom resources of snapshots.
    pub fn crds(&self) -> PathBuf {
        self.dir.join("crds")
    }

    /// Upstream's own manifests of the snapshot controller.
    pub fn controller_manifests(&self) -> PathBuf {
        self.dir.join("snapshot-controller-manifests")
    }

    /// All of them.
    pub fn all(&self) -> Result<Vec<Sidecar>> {
        let mut all = Vec::new();
        for (package, _) in SIDECAR_VERSIONS {
            let name = package.trim_start_matches("cmd/");
            let path = self.dir.join(format!("{name}.version"));
            let version = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let image = format!("registry.k8s.io/sig-storage/{name}:{version}");
            all.push(Sidecar { program: self.dir.join(name), image });
        }
        // Stand-ins of our own: the tag says so.
        for (name, as_named) in
            [("node-driver-registrar", "csi-node-driver-registrar"), ("livenessprobe", "livenessprobe")]
        {
            let image = format!("registry.k8s.io/sig-storage/{as_named}:stand-in");
            all.push(Sidecar { program: self.dir.join(name), image });
        }
        let client = "snapshot-metadata-client";
        all.push(Sidecar { program: self.dir.join(client), image: format!("localhost/{client}:1") });
        Ok(all)
    }
}

impl Module {
    /// The directory of its programs in the cache.
    fn built(&self, cache: &Cache, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let mut key = Key::default().text(&self.go_version()?).text(STRIPPED);
        for file in self.sources()? {
            key = key.file(&file)?;
        }
        cache.made(&key.name(self.name), |work, _| {
            println!("building {} from {} (this takes many minutes, once)", self.name, self.dir);
            build(work)
        })
    }

    /// What of it is in the clone.
    fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut files = vec![Path::new(self.dir).join("go.mod"), Path::new(self.dir).join("go.sum")];
        for entry in fs::read_dir(self.dir).with_context(|| format!("reading {}", self.dir))? {
            let program = entry.with_context(|| format!("reading {}", self.dir))?.path().join("main.go");
            if program.exists() {
                files.push(program);
            }
        }
        files.sort();
        Ok(files)
    }

    fn go(&self) -> Command {
        let mut go = Command::new("go");
        // Static: the programs run on the host, in guests and in images without anything else.
        go.current_dir(self.dir).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
        go
    }

    fn go_version(&self) -> Result<String> {
        let version = cmd::stdout(self.go().args(["env", "GOVERSION"]))
            .context("Go 1.26 is needed for the test bed's programs")?;
        Ok(version.trim().to_owned())
    }

    fn version(&self, module: &str) -> Result<String> {
        let version = cmd::stdout(self.go().args(["list", "-m", "-f", "{{.Version}}", module]))?;
        Ok(version.trim().to_owned())
    }

    /// Where Go keeps a module's files.
    fn directory(&self, module: &str) -> Result<PathBuf> {
        let dir = cmd::stdout(self.go().args(["list", "-m", "-f", "{{.Dir}}", module]))?;
        Ok(PathBuf::from(dir.trim()))
    }

    /// Builds everything; of several flags for the linker the last that fits a package counts.
    fn build(&self, work: &Path, linker: &[String]) -> Result<()> {
        let mut go = self.go();
        go.args(["build", "-trimpath"]);
        for flags in linker {
            go.arg("-ldflags").arg(flags);
        }
        cmd::run(go.arg("-o").arg(work).args(self.packages))
            .with_context(|| format!("building the programs of {}", self.dir))
    }
}

/// Copies the YAML files of a directory that can be applied as they are.
fn copy_manifests(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path = entry.with_context(|| format!("reading {}", from.display()))?.path();
        let name = path.file_name().context("a file without a name")?;
        if path.extension().is_some_and(|kind| kind == "yaml") && name != "kustomization.yaml" {
            // Not copied with its mode: Go's files are read-only.
            let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let copy = to.join(name);
            fs::write(&copy, text).with_context(|| format!("writing {}", copy.display()))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
