//! What goes on by itself: merges are taken further until nothing is under way.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::csi::node::mounts::Mounts;
use crate::engine::Engine;
use crate::host::Host;
use crate::pool::Pool;

/// How soon after something has changed: most merges have little to copy.
const SOON: Duration = Duration::from_millis(50);
/// How often at last, while a merge is under way; the pauses until then double.
const BUSY: Duration = Duration::from_secs(1);
/// How often otherwise: another tool may have begun something.
const IDLE: Duration = Duration::from_secs(30);

/// Runs until `stop` is cancelled; a round that has begun is ended.
pub async fn run<H: Host + 'static, M: Mounts>(pool: Arc<Pool<H, M>>, stop: CancellationToken) {
    // Told once, not every second.
    let mut trouble = None;
    let mut busy = false;
    let mut pause = SOON;
    loop {
        let advanced = pool.run(Engine::advance).await;
        *pool.alive.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let more = *advanced.as_ref().unwrap_or(&true);
        if let Err(error) = &advanced
            && trouble.as_ref() != Some(error)
        {
            tracing::error!(
                pool = %pool.engine().pool(),
                error.class = error.class.as_str(),
                "merges cannot go on: {error}"
            );
        }
        trouble = advanced.err();
        if more || busy {
            pool.progress.send_modify(|rounds| *rounds += 1);
        }
        busy = more;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(if more { pause } else { IDLE }) => pause = (pause * 2).min(BUSY),
            () = pool.changed.notified() => pause = SOON,
        }
    }
}
