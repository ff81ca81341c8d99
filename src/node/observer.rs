//! What `/metrics` and `/healthz` show.

use std::sync::Arc;
use std::time::Duration;

use crate::csi::node::mounts::Mounts;
use crate::engine::{self, Engine};
use crate::host::Host;
use crate::http::Source;
use crate::metrics::{self, Observation};
use crate::node::agent::Shared;
use crate::report;

/// All parts come round at least every half minute; longer than this and one hangs.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Looks at all pools when it is asked.
pub struct Observer<H, M> {
    shared: Arc<Shared<H, M>>,
}

impl<H: Host + Clone + 'static, M: Mounts> Observer<H, M> {
    /// Of an agent.
    pub fn new(shared: Arc<Shared<H, M>>) -> Self {
        Self { shared }
    }
}

fn observe<H: Host>(engine: &Engine<H>) -> engine::Result<Observation> {
    Ok(Observation { pool: engine.info()?, volumes: engine.volumes()? })
}

impl<H: Host + Clone + 'static, M: Mounts> Source for Observer<H, M> {
    fn metrics(&self) -> String {
        let pools = self.shared.pools.all();
        let observed = pools.iter().map(|pool| {
            let name = pool.engine().pool().clone();
            let observation = observe(pool.engine());
            if let Err(error) = &observation {
                tracing::warn!(pool = %name, "a scrape could not read the pool: {}", report::chain(error));
            }
            (name, observation.ok())
        });
        let shut = self.shared.pools.not_open().into_iter().map(|name| (name, None));
        let all: Vec<_> = observed.chain(shut).collect();
        metrics::render(&self.shared.operations, &all)
    }

    fn health(&self) -> Result<(), String> {
        let silent = |pool: &crate::pool::Pool<H, M>| (pool.engine().pool().to_string(), pool.silent_for());
        let pools = self.shared.pools.all();
        let mut parts: Vec<(String, Duration)> = pools.iter().map(|pool| silent(pool)).collect();
        parts.push(("the agent".to_owned(), self.shared.silent_for()));
        match parts.into_iter().find(|(_, silent)| *silent > SILENCE_MAX) {
            None => Ok(()),
            Some((part, silent)) => Err(format!("{part} has not come round for {} s", silent.as_secs())),
        }
    }
}
