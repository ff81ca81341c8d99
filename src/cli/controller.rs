//! `splitmirror controller`.

use std::time::Duration;

use crate::api::client;
use crate::cli::args::ControllerArgs;
use crate::cli::error::{Error, Result};
use crate::cli::threads;
use crate::controller::{self, Config};
use crate::serve;

pub(super) fn run(args: ControllerArgs) -> Result<()> {
    let ControllerArgs { endpoint, metrics, kubeconfig, timeout, agent_token } = args;
    let config = Config { endpoint, metrics, timeout: Duration::from_secs(timeout), agent_token };
    threads::serve(async {
        let client = client::connect(kubeconfig.as_deref(), None).await?;
        serve::until_signal(|stop| controller::serve(config, client, stop)).await.map_err(Error::from)
    })
}
