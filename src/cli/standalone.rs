//! `splitmirror standalone`.

use crate::cli::args::{HostArgs, StandaloneArgs};
use crate::cli::error::Result;
use crate::cli::{host, settings, threads};
use crate::csi::node::linux::LinuxMounts;
use crate::standalone::{self, Config};

pub(super) fn run(args: StandaloneArgs, host_args: &HostArgs) -> Result<()> {
    let StandaloneArgs { endpoint, pool, node_id, metrics } = args;
    let config = Config { pool, settings: settings(host_args), endpoint, node: node_id, metrics };
    threads::serve(standalone::run(config, host(host_args)?, LinuxMounts::default()))
}
