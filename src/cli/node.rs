//! `splitmirror node`.

use std::net::SocketAddr;

use crate::api::client;
use crate::cli::args::{HostArgs, NodeArgs, TellArgs};
use crate::cli::error::{Error, Result};
use crate::cli::{host, settings, threads};
use crate::csi::node::linux::LinuxMounts;
use crate::node::{self, BlocksConfig, Config};
use crate::report::Class;

/// Changes with every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) fn run(args: NodeArgs, host_args: &HostArgs) -> Result<()> {
    let NodeArgs { endpoint, node_id, pools, metrics, tell, kubeconfig } = args;
    let boot = std::fs::read_to_string(BOOT_ID)
        .map_err(|error| Error::refused(Class::Transient, format!("read {BOOT_ID}: {error}")))?;
    let identity = format!("{}{endpoint}", boot.trim());
    let blocks = tell.map(|TellArgs { blocks_ip, blocks_port, controller_user }| BlocksConfig {
        address: SocketAddr::new(blocks_ip, blocks_port),
        controller: controller_user,
    });
    let settings = settings(host_args);
    let config = Config { node: node_id, identity, endpoint, pools, settings, metrics, blocks };
    let host = host(host_args)?;
    threads::serve(async {
        let client = client::connect(kubeconfig.as_deref(), None).await?;
        Ok::<_, Error>(node::run(config, host, LinuxMounts::default(), client).await?)
    })
}
