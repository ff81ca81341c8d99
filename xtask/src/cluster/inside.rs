//! What runs in a node's guest, below its pid 1: `xtask guest-node CONFIG`. It does what an operating system's start does
//! for a kubelet, and takes [orders](super::orders).
//!
//! What a user-mode-linux kernel wants, each found by a kubelet that would not start:
//!
//! * `/proc/cpuinfo` has no clock speed, which the kubelet's statistics insist on: a copy with one is mounted over it.
//! * The root is mounted under its disk's own name (`super::super::guest::init`), for the same reason.
//! * cgroup v2 has no `cpuset` there; the kubelet goes without, and says so once.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::images::PAUSE;
use super::orders;
use super::plan::{CONTROL_PLANE, NodeId, ORDERS_PORT};
use crate::cmd;

/// Where containerd listens.
const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// How long containerd may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Before something that ended is started again.
const PAUSE_BEFORE_RESTART: Duration = Duration::from_secs(1);

/// What a node must know.
#[derive(Debug, Deserialize, Serialize)]
pub struct Config {
    /// Which one it is.
    pub node: NodeId,
    /// How many there are.
    pub nodes: u8,
    /// The program.
    pub kubelet: PathBuf,
    /// How it reaches the API server, and as whom.
    pub kubeconfig: PathBuf,
    /// Who signs what the kubelet believes.
    pub authority: PathBuf,
    /// Images to be there before the kubelet starts.
    pub images: Vec<PathBuf>,
}

/// Runs a node; never returns while all is well.
pub fn main(config: &Path) -> Result<()> {
    let text = fs::read(config).with_context(|| format!("reading {}", config.display()))?;
    let config: Config = serde_json::from_slice(&text).context("parsing the node's configuration")?;
    network(&config)?;
    // First, so that what goes wrong later can be looked at.
    let listener = TcpListener::bind((config.node.orders(), ORDERS_PORT)).context("listening for orders")?;
    std::thread::spawn(move || orders::serve(&listener));
    kernel()?;
    configure(&config)?;
    let containerd = keep_running("containerd", || Command::new("containerd"));
    wait_for_containerd()?;
    for image in &config.images {
        import(image)?;
    }
    let kubelet = keep_running("kubelet", move || {
        let mut kubelet = Command::new(&config.kubelet);
        kubelet
            .arg("--config=/var/lib/kubelet/config.json")
            .arg(format!("--kubeconfig={}", config.kubeconfig.display()))
            .arg(format!("--hostname-override={}", config.node.name()))
            .arg(format!("--node-ip={}", config.node.address()))
            // Or a connection to an API server that is gone is kept for a quarter of an hour.
            .env("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "5")
            .env("HTTP2_PING_TIMEOUT_SECONDS", "3");
        kubelet
    });
    for thread in [containerd, kubelet] {
        if thread.join().is_err() {
            bail!("a thread that keeps a program running has panicked");
        }
    }
    Ok(())
}

/// Puts images into the node's root and ends: `xtask guest-import FILE…`.
pub fn import_all(images: &[PathBuf]) -> Result<()> {
    kernel()?;
    write("/etc/containerd/config.toml", &containerd_config())?;
    let mut containerd = start("containerd", &mut Command::new("containerd"))?;
    wait_for_containerd()?;
    for image in images {
        import(image)?;
    }
    cmd::run(Command::new("kill").arg(containerd.id().to_string()))?;
    containerd.wait().context("waiting for containerd")?;
    // As clean as after a shutdown; the host only cuts the power.
    mount_remount("/", MountFlags::RDONLY, "").context("closing the root")
}

fn network(config: &Config) -> Result<()> {
    let mut lines = vec![
        format!("addr add {}/24 dev vec0", config.node.address()),
        format!("addr add {}/24 dev vec1", config.node.orders()),
        "link set vec0 up".to_owned(),
        "link set vec1 up".to_owned(),
        format!("route add default via {CONTROL_PLANE}"),
    ];
    for other in NodeId::first(config.nodes).filter(|other| *other != config.node) {
        lines.push(format!("route add {} via {}", other.pods(), other.address()));
    }
    super::network::ip(&lines)
}

/// What containers need of the kernel.
fn kernel() -> Result<()> {
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MountFlags::empty(), None).context("cgroups")?;
    let cpu = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    if !cpu.contains("cpu MHz") {
        write("/run/cpuinfo", &format!("{}\ncpu MHz\t\t: 2000.000\n\n", cpu.trim_end()))?;
        mount_bind("/run/cpuinfo", "/proc/cpuinfo").context("/proc/cpuinfo")?;
    }
    Ok(())
}

/// Writes what containerd, its network plugins and the kubelet read.
fn configure(config: &Config) -> Result<()> {
    write("/etc/containerd/config.toml", &containerd_config())?;
    let network = json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            // Every node has a route to every other node's pods.
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "subnet": config.node.pods(),
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    write("/etc/cni/net.d/10-pods.conflist", &network.to_string())?;
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": config.authority },
        },
        "authorization": { "mode": "Webhook" },
        // Only pods: there is no cgroup of the system to keep something for.
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": false,
        // A node's root is small and shared with the machine: nothing is thrown away for want of room.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": false,
        "resolvConf": "",
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 20,
    });
    write("/var/lib/kubelet/config.json", &kubelet.to_string())
}

fn containerd_config() -> String {
    let off =
        ["snapshotter.v1.btrfs", "snapshotter.v1.zfs", "snapshotter.v1.devmapper", "snapshotter.v1.aufs"]
            .map(|plugin| format!("\"io.containerd.{plugin}\""));
    format!(
        r#"version = 2
disabled_plugins = [{}]
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
"#,
        off.join(", ")
    )
}

fn import(image: &Path) -> Result<()> {
    // The digest of an archive is not known without reading it; its name is new when it is.
    let name = image.file_name().context("an image without a name")?.to_string_lossy().into_owned();
    let stamp = format!("/var/lib/splitmirror-bed/{name}");
    if Path::new(&stamp).exists() {
        return Ok(());
    }
    cmd::stdout(Command::new("ctr").args(["--namespace", "k8s.io", "images", "import"]).arg(image))?;
    write(&stamp, "")
}

/// Waits until containerd takes connections.
fn wait_for_containerd() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(CONTAINERD).is_err() {
        if Instant::now() > deadline {
            bail!("containerd does not listen after {PATIENCE:?}; its log is /var/log/containerd.log");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Starts a program whose output goes to a file of its name.
fn start(name: &str, command: &mut Command) -> Result<Child> {
    let path = format!("/var/log/{name}.log");
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("opening {path}"))?;
    let log_too = log.try_clone().with_context(|| format!("opening {path} twice"))?;
    let child = command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn();
    child.with_context(|| format!("starting {name}"))
}

/// Starts a program, and starts it again whenever it ends, as a node's service manager would.
fn keep_running(
    name: &'static str,
    command: impl Fn() -> Command + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        loop {
            let ended = start(name, &mut command()).and_then(|mut child| Ok(child.wait()?));
            match ended {
                Ok(status) => println!("{name} ended: {status}"),
                Err(error) => println!("{name}: {error:#}"),
            }
            std::thread::sleep(PAUSE_BEFORE_RESTART);
        }
    })
}

/// Writes a file and makes its directory.
fn write(path: &str, text: &str) -> Result<()> {
    if let Some(parent) = Path::new(path).parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    let mut file = fs::File::create(path).with_context(|| format!("creating {path}"))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {path}"))
}
