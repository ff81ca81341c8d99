//! The control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes of the host, in the
//! bed's network namespace. All of them can be stopped as a power cut would, and started again on what they left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::daemon::Daemon;
use super::pki::Pki;
use super::plan::{CONTROL_PLANE, SERVICES};
use super::stop::Stop;
use crate::cmd;

/// How long the API server may take to answer, and the controllers to begin.
const PATIENCE: Duration = Duration::from_secs(120);

/// A node that says nothing for so long is not ready. Half of the usual time: tests wait for it.
const NODE_GRACE: &str = "--node-monitor-grace-period=20s";

/// Where kubectl and helm keep what they know of an API server. At its usual place it would outlive the bed, and the next
/// one has the same address.
pub const KUBECTL_CACHE: &str = "KUBECACHEDIR";

/// The programs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Programs {
    /// The directory of Kubernetes' programs.
    pub kubernetes: PathBuf,
    /// The directory of `kubectl` and `helm`.
    pub clients: PathBuf,
    /// The program `etcd`.
    pub etcd: PathBuf,
}

/// A control plane that can be stopped and started.
#[derive(Debug)]
pub struct ControlPlane {
    xtask: PathBuf,
    programs: Programs,
    pki: Pki,
    data: PathBuf,
    logs: PathBuf,
    admin: PathBuf,
    controllers: [PathBuf; 2],
    // In the order in which they must go.
    running_controllers: Vec<Daemon>,
    apiserver: Option<Daemon>,
    etcd: Option<Daemon>,
}

impl ControlPlane {
    /// Makes what it needs; nothing runs yet. `data` must be a directory of its own, `xtask` our own program.
    pub fn create(
        xtask: PathBuf,
        programs: Programs,
        pki: Pki,
        data: PathBuf,
        logs: PathBuf,
    ) -> Result<Self> {
        let admin = pki.kubeconfig("admin", "/O=system:masters/CN=admin")?;
        let controllers = [
            pki.kubeconfig("controller-manager", "/CN=system:kube-controller-manager")?,
            pki.kubeconfig("scheduler", "/CN=system:kube-scheduler")?,
        ];
        Ok(Self {
            xtask,
            programs,
            pki,
            data,
            logs,
            admin,
            controllers,
            running_controllers: Vec::new(),
            apiserver: None,
            etcd: None,
        })
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> &Path {
        &self.admin
    }

    /// Who issues certificates.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Starts what does not run, and waits until the API server is ready.
    pub fn start(&mut self, stop: &Stop) -> Result<()> {
        if self.etcd.is_none() {
            self.etcd = Some(self.start_etcd()?);
        }
        if self.apiserver.is_none() {
            self.apiserver = Some(self.start_apiserver()?);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.kubectl(&["get", "--raw", "/readyz"]).is_err() {
            let logs = ["etcd", "kube-apiserver"].map(|name| (name, self.log(name)));
            for ((name, log), daemon) in logs.into_iter().zip([&mut self.etcd, &mut self.apiserver]) {
                if daemon.as_mut().map_or(Ok(true), Daemon::has_ended)? {
                    bail!("{name} ended:\n{}", tail(&log));
                }
            }
            if Instant::now() > deadline {
                bail!("the API server is not ready:\n{}", tail(&self.log("kube-apiserver")));
            }
            stop.check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        // Only now: they give up on an API server that does not answer.
        if self.running_controllers.is_empty() {
            self.running_controllers = self.start_controllers()?;
        }
        Ok(())
    }

    /// Kills the API server. The controllers go on without it, as they would on another machine.
    pub fn stop_apiserver(&mut self) {
        self.apiserver = None;
    }

    /// Kills everything and throws away what etcd holds.
    pub fn wipe(&mut self) -> Result<()> {
        self.running_controllers.clear();
        self.apiserver = None;
        self.etcd = None;
        let dir = self.data.join("etcd");
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))
    }

    /// Runs `kubectl` as the administrator.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut kubectl = Command::new(self.programs.clients.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(&self.admin).arg("--request-timeout=10s").args(args);
        cmd::stdout(kubectl.env(KUBECTL_CACHE, &self.data))
    }

    fn start_etcd(&self) -> Result<Daemon> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let args = [
            format!("--data-dir={}", self.data.join("etcd").display()),
            format!("--listen-client-urls={}", url(2379)),
            format!("--advertise-client-urls={}", url(2379)),
            format!("--listen-peer-urls={}", url(2380)),
            // Its data is in memory and goes with the bed.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        self.daemon("etcd", &self.programs.etcd, &args)
    }

    fn start_apiserver(&self) -> Result<Daemon> {
        let (serving, client) = (self.pki.pair("apiserver"), self.pki.pair("kubelet-client"));
        let accounts = self.pki.accounts();
        let file = |option: &str, path: &Path| format!("--{option}={}", path.display());
        let args = [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={CONTROL_PLANE}"),
            "--secure-port=443".to_owned(),
            file("tls-cert-file", &serving.cert),
            file("tls-private-key-file", &serving.key),
            file("client-ca-file", &self.pki.authority()),
            file("kubelet-client-certificate", &client.cert),
            file("kubelet-client-key", &client.key),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            file("service-account-key-file", &accounts.cert),
            file("service-account-signing-key-file", &accounts.key),
            "--allow-privileged=true".to_owned(),
            "--profiling=false".to_owned(),
        ];
        self.daemon("kube-apiserver", &self.programs.kubernetes.join("kube-apiserver"), &args)
    }

    fn start_controllers(&self) -> Result<Vec<Daemon>> {
        let [manager, scheduler] = &self.controllers;
        let common = |kubeconfig: &Path| {
            vec![
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--cert-dir={}", self.data.display()),
                "--bind-address=127.0.0.1".to_owned(),
                "--leader-elect=false".to_owned(),
                "--profiling=false".to_owned(),
            ]
        };
        let mut for_manager = common(manager);
        for_manager.extend([
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", self.pki.accounts().key.display()),
            format!("--root-ca-file={}", self.pki.authority().display()),
            NODE_GRACE.to_owned(),
            "--node-monitor-period=2s".to_owned(),
        ]);
        [("kube-controller-manager", for_manager), ("kube-scheduler", common(scheduler))]
            .iter()
            .map(|(name, args)| self.daemon(name, &self.programs.kubernetes.join(name), args))
            .collect()
    }

    fn daemon(&self, name: &str, program: &Path, args: &[String]) -> Result<Daemon> {
        Daemon::start(&self.xtask, program, args, &self.log(name))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

/// The end of a log, for an error text.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("{}: {error}", log.display()));
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
