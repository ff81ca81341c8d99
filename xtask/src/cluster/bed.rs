//! The bed: networks, control plane, nodes, and what every cluster has installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control_plane::{ControlPlane, Programs};
use super::inside::Config;
use super::node::Node;
use super::pki::Pki;
use super::plan::{NodeId, ORDERS_PORT};
use super::protocol::{Description, NodeDescription, Reply, Request};
use super::stop::Stop;
use super::{chart, network, orders};
use crate::cache::Cache;
use crate::guest::Lab;
use crate::kernel::{Kernel, Origin, select_one};

/// How long nodes may take to be Ready, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(180);

/// All that a bed is made of.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Spec {
    /// The control plane's.
    pub programs: Programs,
    /// The nodes' kernel, as asked for.
    pub kernel: Option<String>,
    /// How many nodes. Without any there is the control plane alone.
    pub nodes: u8,
    /// The nodes' root.
    pub node_image: PathBuf,
    /// Names of the images that it holds.
    pub images: Vec<String>,
    /// Archives to import at the first boot, with the names of their images.
    pub more_images: Vec<(String, PathBuf)>,
    /// Upstream's custom resources of snapshots.
    pub snapshot_crds: PathBuf,
    /// Upstream's manifests of the snapshot controller.
    pub snapshot_controller: PathBuf,
    /// Where logs go.
    pub logs: PathBuf,
    /// Where the description goes.
    pub description: PathBuf,
    /// Whether it outlives who started it.
    pub detached: bool,
}

/// A bed. Dropping it ends everything in it.
#[derive(Debug)]
pub struct Bed {
    // In the order in which they must go.
    nodes: Vec<Node>,
    control_plane: ControlPlane,
    values: PathBuf,
    spec: Spec,
    kernel: Kernel,
    lab: Lab,
    stop: Stop,
}

impl Bed {
    /// Brings it up, in the network namespace that we are in.
    pub fn up(spec: Spec, stop: Stop) -> Result<Self> {
        let started = Instant::now();
        let say = |what: &str| println!("bed: {what} after {:.1} s", started.elapsed().as_secs_f64());
        let cache = Cache::open()?;
        let kernel = select_one(&cache, spec.kernel.as_deref(), &[Origin::Newest, Origin::Debian])?;
        let lab = Lab::open(&cache)?;
        network::make(spec.nodes)?;
        let data = lab.fast().join("control-plane");
        fs::create_dir(&data).with_context(|| format!("creating {}", data.display()))?;
        let pki = Pki::create(&lab.seen().join("pki"))?;
        let (xtask, programs) = (lab.program().to_owned(), spec.programs.clone());
        let control_plane = ControlPlane::create(xtask, programs, pki, data, spec.logs.clone())?;
        let values = lab.fast().join("values.json");
        let mut bed = Self { nodes: Vec::new(), control_plane, values, spec, kernel, lab, stop };
        // They need longer to boot than the API server to start.
        bed.create_nodes()?;
        bed.write_values()?;
        bed.boot_all()?;
        bed.control_plane.start(&bed.stop)?;
        say("the API server is ready");
        bed.install()?;
        bed.wait_until_ready()?;
        say("all nodes are Ready");
        bed.wait_for_snapshots()?;
        say("snapshots are served");
        Ok(bed)
    }

    /// Where requests are taken.
    pub fn socket(&self) -> PathBuf {
        self.lab.fast().join("requests.sock")
    }

    /// Writes what the project's chart must be told. Without nodes there is nothing that it could be installed on.
    fn write_values(&self) -> Result<()> {
        let Some(node) = self.nodes.first() else { return Ok(()) };
        let values = chart::values(&self.images(), &node.disk_names())?;
        fs::write(&self.values, format!("{values:#}\n"))
            .with_context(|| format!("writing {}", self.values.display()))
    }

    /// Names of all images that a node has.
    fn images(&self) -> Vec<String> {
        let more = self.spec.more_images.iter().map(|(name, _)| name);
        self.spec.images.iter().chain(more).cloned().collect()
    }

    /// What users are told.
    pub fn description(&self) -> Description {
        let node = |node: &Node| NodeDescription {
            name: node.id.name(),
            address: node.id.address(),
            orders: format!("{}:{ORDERS_PORT}", node.id.orders()),
            disks: node.disk_names(),
        };
        Description {
            pid: std::process::id(),
            kubeconfig: self.control_plane.admin().to_owned(),
            clients: self.spec.programs.clients.clone(),
            kubectl_cache: self.lab.fast().join("kubectl-cache"),
            socket: self.socket(),
            kernel: self.kernel.id.clone(),
            nodes: self.nodes.iter().map(node).collect(),
            images: self.images(),
            values: self.values.clone(),
            logs: self.spec.logs.clone(),
        }
    }

    /// Does what is asked, but for the end.
    pub fn answer(&mut self, request: &Request) -> Reply {
        if *request == Request::Console {
            let mut reply = Reply::default();
            for node in &mut self.nodes {
                let name = node.id.name();
                let (lines, trouble) = node.take_console();
                let named = |line: String| format!("{name}: {line}");
                reply.lines.extend(lines.into_iter().map(named));
                reply.trouble.extend(trouble.into_iter().map(named));
            }
            return reply;
        }
        let done = self.carry_out(request);
        Reply { error: done.err().map(|error| format!("{error:#}")), ..Reply::default() }
    }

    fn carry_out(&mut self, request: &Request) -> Result<()> {
        match request {
            Request::PowerCut { node } => {
                self.node(*node)?.power_cut();
                Ok(())
            }
            Request::Boot { node } => {
                self.node(*node)?;
                self.boot_where(|id| id.0 == *node)
            }
            Request::Cut { node } => network::cut(self.node(*node)?.id),
            Request::Heal { node } => network::heal(self.node(*node)?.id),
            Request::StopApi => {
                self.control_plane.stop_apiserver();
                Ok(())
            }
            Request::StartApi => self.control_plane.start(&self.stop),
            Request::WipeEtcd => {
                self.control_plane.wipe()?;
                self.control_plane.start(&self.stop)?;
                self.restart_kubelets()?;
                self.install()?;
                self.wait_until_ready()?;
                self.wait_for_snapshots()
            }
            Request::Restore => {
                for node in NodeId::first(self.spec.nodes) {
                    network::heal(node)?;
                }
                self.boot_all()?;
                self.control_plane.start(&self.stop)?;
                self.wait_until_ready()
            }
            Request::Import { file } => {
                for node in &self.nodes {
                    orders::give(node.id, &["ctr", "--namespace=k8s.io", "images", "import", path(file)?])?;
                }
                Ok(())
            }
            Request::Console | Request::Down => Ok(()),
        }
    }

    fn node(&mut self, number: u8) -> Result<&mut Node> {
        let count = self.spec.nodes;
        let node = self.nodes.iter_mut().find(|node| node.id.0 == number);
        node.with_context(|| format!("there is no node {number}, only 1 to {count}"))
    }

    fn create_nodes(&mut self) -> Result<()> {
        let images: Vec<PathBuf> = self.spec.more_images.iter().map(|(_, file)| file.clone()).collect();
        let mut readable = vec![self.spec.programs.kubernetes.clone()];
        for image in &images {
            let dir = image.parent().context("an image without a directory")?.to_owned();
            if !readable.contains(&dir) {
                readable.push(dir);
            }
        }
        for node in NodeId::first(self.spec.nodes) {
            let config = Config {
                node,
                nodes: self.spec.nodes,
                kubelet: self.spec.programs.kubernetes.join("kubelet"),
                kubeconfig: self.control_plane.pki().node(node)?,
                authority: self.control_plane.pki().authority(),
                images: images.clone(),
            };
            self.nodes.push(Node::create(&self.lab, &self.spec.node_image, config, readable.clone())?);
        }
        Ok(())
    }

    fn boot_all(&mut self) -> Result<()> {
        self.boot_where(|_| true)
    }

    fn boot_where(&mut self, wanted: impl Fn(NodeId) -> bool) -> Result<()> {
        for node in self.nodes.iter_mut().filter(|node| wanted(node.id)) {
            node.boot(&self.lab, &self.kernel)?;
        }
        Ok(())
    }

    /// A kubelet makes its Node object only when it starts.
    fn restart_kubelets(&self) -> Result<()> {
        for node in &self.nodes {
            orders::give(node.id, &["pkill", "--exact", "kubelet"])?;
        }
        Ok(())
    }

    /// What a cluster's distribution brings for snapshots, in upstream's own words.
    fn install(&self) -> Result<()> {
        let crds = path(&self.spec.snapshot_crds)?;
        self.control_plane.kubectl(&["apply", "--server-side", "--filename", crds])?;
        if self.nodes.is_empty() {
            // Nothing could run it.
            return Ok(());
        }
        let manifests = &self.spec.snapshot_controller;
        for entry in fs::read_dir(manifests).with_context(|| format!("reading {}", manifests.display()))? {
            let file = entry.with_context(|| format!("reading {}", manifests.display()))?.path();
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let ours = self.lab.seen().join(file.file_name().context("a file without a name")?);
            fs::write(&ours, with_groups(&with_image(&text, &self.spec.images)?))
                .with_context(|| format!("writing {}", ours.display()))?;
            self.control_plane.kubectl(&["apply", "--server-side", "--filename", path(&ours)?])?;
        }
        Ok(())
    }

    /// Waits until every node has said, since its last boot, that it is Ready. All of them must run.
    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let waiting = self.not_ready();
            if waiting.as_ref().is_ok_and(Vec::is_empty) {
                return Ok(());
            }
            self.stop.check()?;
            if let Some(node) = self.nodes.iter_mut().find_map(|node| (!node.is_running()).then_some(node)) {
                let (console, _) = node.take_console();
                bail!("{} has ended by itself:\n{}", node.id.name(), console.join("\n"));
            }
            if Instant::now() > deadline {
                let console: Vec<String> =
                    self.nodes.iter_mut().flat_map(|node| node.take_console().0).collect();
                match waiting {
                    Ok(names) => bail!("not Ready: {}\n{}", names.join(", "), console.join("\n")),
                    Err(error) => return Err(error).context("nodes are not Ready"),
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn not_ready(&self) -> Result<Vec<String>> {
        let text = self.control_plane.kubectl(&["get", "nodes", "--output=json"])?;
        let list: Value = serde_json::from_str(&text).context("reading the nodes")?;
        let said: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
        let mut waiting = Vec::new();
        for node in &self.nodes {
            let name = node.id.name();
            let ready = said.iter().find(|said| said["metadata"]["name"] == *name).is_some_and(|said| {
                // Before a power cut is noticed its node still counts as Ready.
                let boot = said["status"]["nodeInfo"]["bootID"].as_str().unwrap_or_default();
                is_ready(said) && orders::give(node.id, &["cat", BOOT_ID]).is_ok_and(|id| id.trim() == boot)
            });
            if !ready {
                waiting.push(name);
            }
        }
        Ok(waiting)
    }

    fn wait_for_snapshots(&self) -> Result<()> {
        let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
        self.control_plane.kubectl(&wait)?;
        if self.nodes.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        let available =
            ["get", "deployment", "snapshot-controller", "--namespace=kube-system", "--output=json"];
        loop {
            let text = self.control_plane.kubectl(&available)?;
            let deployment: Value = serde_json::from_str(&text).context("reading the deployment")?;
            if deployment["status"]["readyReplicas"].as_u64() >= Some(1) {
                return Ok(());
            }
            self.stop.check()?;
            if Instant::now() > deadline {
                bail!("the snapshot controller does not run: {}", deployment["status"]);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Where a kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// A manifest with those versions of its images that the nodes have.
fn with_image(manifest: &str, images: &[String]) -> Result<String> {
    let mut lines = Vec::new();
    for line in manifest.lines() {
        let Some((before, image)) = line.split_once("image: ") else {
            lines.push(line.to_owned());
            continue;
        };
        let (name, _) = image.trim().rsplit_once(':').with_context(|| format!("no version in `{line}`"))?;
        let ours = images.iter().find(|image| image.rsplit_once(':').is_some_and(|(ours, _)| ours == name));
        let ours = ours.with_context(|| format!("no node has an image {name}"))?;
        lines.push(format!("{before}image: {ours}"));
    }
    Ok(lines.join("\n") + "\n")
}

/// Where upstream's manifest takes more arguments of the snapshot controller.
const MORE_ARGS: &str = "# end snapshot controller args";

/// A manifest with group snapshots switched on, where it is that of the snapshot controller.
fn with_groups(manifest: &str) -> String {
    manifest.replace(MORE_ARGS, "- \"--feature-gates=CSIVolumeGroupSnapshot=true\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshot_controller_serves_groups() {
        let text = with_groups("args:\n  - \"--v=5\"\n  # end snapshot controller args\nimage: a\n");
        assert_eq!(
            text,
            "args:\n  - \"--v=5\"\n  - \"--feature-gates=CSIVolumeGroupSnapshot=true\"\nimage: a\n"
        );
    }

    #[test]
    fn a_manifest_gets_the_version_that_is_there() {
        let images = ["r.example/a:v2".to_owned(), "r.example/other:v1".to_owned()];
        let text = with_image("containers:\n- image: r.example/a:v1\n", &images).unwrap();
        assert_eq!(text, "containers:\n- image: r.example/a:v2\n");
        assert!(
            with_image("image: r.example/b:v1", &images).unwrap_err().to_string().contains("r.example/b")
        );
    }
}
