//! What `/metrics` and `/healthz` show.

use std::sync::Arc;
use std::time::Duration;

use crate::csi::node::mounts::Mounts;
use crate::engine;
use crate::host::Host;
use crate::http::Source;
use crate::metrics::{self, Observation, Operations};
use crate::pool::Pool;
use crate::report;

/// The background work comes round at least every half minute; longer than this and it hangs.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Looks at a pool when it is asked.
pub struct Observer<H, M> {
    pool: Arc<Pool<H, M>>,
    operations: Operations,
}

impl<H: Host + 'static, M: Mounts> Observer<H, M> {
    /// Of a pool, and of the operations on it.
    pub fn new(pool: Arc<Pool<H, M>>, operations: Operations) -> Self {
        Self { pool, operations }
    }

    fn observe(&self) -> engine::Result<Observation> {
        let engine = self.pool.engine();
        Ok(Observation { pool: engine.info()?, volumes: engine.volumes()? })
    }
}

impl<H: Host + 'static, M: Mounts> Source for Observer<H, M> {
    fn metrics(&self) -> String {
        let observation = self.observe();
        if let Err(error) = &observation {
            tracing::warn!("a scrape could not read the pool: {}", report::chain(error));
        }
        let pool = self.pool.engine().pool().clone();
        metrics::render(&self.operations, &[(pool, observation.ok())])
    }

    fn health(&self) -> Result<(), String> {
        let silent = self.pool.silent_for();
        if silent <= SILENCE_MAX {
            return Ok(());
        }
        Err(format!("the background work has not come round for {} s", silent.as_secs()))
    }
}
