//! `splitmirror node`.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config as ClientConfig};

use crate::cli::args::{HostArgs, NodeArgs};
use crate::cli::error::{Error, Result};
use crate::cli::{host, settings, threads};
use crate::csi::node::linux::LinuxMounts;
use crate::node::{self, Config};
use crate::report::Class;

/// Changes with every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) fn run(args: NodeArgs, host_args: &HostArgs) -> Result<()> {
    let NodeArgs { endpoint, node_id, pools, metrics, kubeconfig } = args;
    let boot = std::fs::read_to_string(BOOT_ID)
        .map_err(|error| Error::refused(Class::Transient, format!("read {BOOT_ID}: {error}")))?;
    let identity = format!("{}{endpoint}", boot.trim());
    let config = Config { node: node_id, identity, endpoint, pools, settings: settings(host_args), metrics };
    let host = host(host_args)?;
    threads::serve(async {
        let client = client(kubeconfig).await?;
        Ok::<_, Error>(node::run(config, host, LinuxMounts::default(), client).await?)
    })
}

/// A client of the API server that a file names, or of the one that this pod is known to. It need not answer yet.
async fn client(kubeconfig: Option<PathBuf>) -> Result<Client> {
    let wrong = |error: String| Error::refused(Class::Invalid, format!("know the API server: {error}"));
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(&path).map_err(|error| wrong(error.to_string()))?;
            let options = KubeConfigOptions::default();
            let config = ClientConfig::from_custom_kubeconfig(file, &options).await;
            config.map_err(|error| wrong(error.to_string()))?
        }
        None => ClientConfig::infer().await.map_err(|error| wrong(error.to_string()))?,
    };
    Client::try_from(config).map_err(|error| wrong(error.to_string()))
}
