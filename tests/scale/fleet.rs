//! Agents on simulated machines, in one process, until its standard input ends.

use std::io::Read as _;
use std::path::Path;

use splitmirror::engine::Settings;
use splitmirror::host::sim::SimHost;
use splitmirror::node::{self, Config};
use tokio_util::sync::CancellationToken;

use crate::kernel::Kernel;
use crate::process::{MADE, Memory, STARTED, say};
use crate::{Outcome, cluster, machine, told};

/// Runs the agents of nodes `first` and on, on machines as the file has one.
pub fn run(first: usize, count: usize, file: &Path) -> Outcome {
    let machines = machines(first, count, file)?;
    say(&format!("{MADE} {}", Memory::of("self")?.heap));
    splitmirror::telemetry::start(splitmirror::telemetry::Default::Warn)
        .map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(serve(machines))
}

fn machines(first: usize, count: usize, file: &Path) -> Outcome<Vec<(usize, SimHost)>> {
    let original = machine::read(file)?;
    let machine = |node| match node {
        machine::ORIGINAL => Ok((node, original.clone())),
        _ => Ok((node, machine::of_another_node(&original, node)?)),
    };
    (first..first + count).map(machine).collect()
}

async fn serve(machines: Vec<(usize, SimHost)>) -> Outcome {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let admin = cluster::admin().await?;
    let stop = CancellationToken::new();
    let mut agents = tokio::task::JoinSet::new();
    for (number, host) in machines {
        let name = machine::node(number);
        let client = cluster::agent(&admin, &name).await?;
        let socket = dir.path().join(format!("{name}.sock"));
        let config = Config {
            identity: format!("{name}-1"),
            endpoint: socket.display().to_string().parse().map_err(|error| format!("{error}"))?,
            node: name,
            pools: None,
            settings: Settings::default(),
            metrics: None,
            blocks: None,
        };
        tokio::spawn(machine::live(host.clone()));
        agents.spawn(node::serve(config, host, Kernel::default(), client, stop.clone()));
    }
    say(STARTED);
    let asked = stop.clone();
    std::thread::spawn(move || {
        // Whatever comes: its end is what is waited for.
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        asked.cancel();
    });
    while let Some(ended) = agents.join_next().await {
        ended.map_err(|error| error.to_string())?.map_err(|error| told(&error))?;
    }
    Ok(())
}
