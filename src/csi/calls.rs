//! Around every RPC: one at a time per volume, a span, a log line, a metric, and no cancelling half-way.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio_util::task::TaskTracker;
use tonic::{Response, Status};
use tracing::Instrument;

use crate::csi::backend::{Error, Result};
use crate::metrics::Operations;
use crate::report::Class;

/// The calls that run now.
#[derive(Debug, Default)]
pub struct Calls {
    busy: Mutex<BTreeSet<String>>,
    tasks: TaskTracker,
    metrics: Operations,
}

impl Calls {
    /// None yet; what ends is counted in `metrics`.
    #[must_use]
    pub fn new(metrics: Operations) -> Arc<Self> {
        Arc::new(Self { metrics, ..Self::default() })
    }

    /// Runs a call that changes what `keys` name. While it runs, another one on any of them is `InProgress`.
    ///
    /// It runs in a task of its own: when the caller hangs up it goes on to its end, and holds its keys until then.
    ///
    /// # Errors
    /// What the call answers, as a gRPC status.
    pub async fn change<T, F>(
        self: &Arc<Self>,
        op: &'static str,
        keys: &[String],
        work: F,
    ) -> std::result::Result<Response<T>, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let span = tracing::info_span!("op", op.kind = op, op.on = keys.join(" "));
        let guard = self.take(keys);
        let calls = Arc::clone(self);
        let task = async move {
            let began = Instant::now();
            let result = match guard {
                Ok(_held) => work.await,
                Err(busy) => Err(busy),
            };
            calls.ended(op, began, result.as_ref().err(), true);
            result
        };
        match self.tasks.spawn(task.instrument(span)).await {
            Ok(result) => Ok(Response::new(result?)),
            Err(panic) => Err(Error::new(Class::Internal, format!("{op} stopped: {panic}")).into()),
        }
    }

    /// Runs a call that only looks.
    ///
    /// # Errors
    /// What the call answers, as a gRPC status.
    pub async fn look<T>(
        &self,
        op: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> std::result::Result<Response<T>, Status> {
        let began = Instant::now();
        let observed = async {
            let result = work.await;
            self.ended(op, began, result.as_ref().err(), false);
            result
        };
        Ok(Response::new(observed.instrument(tracing::debug_span!("op", op.kind = op)).await?))
    }

    /// Waits until all calls that run have ended.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn ended(&self, op: &'static str, began: Instant, error: Option<&Error>, change: bool) {
        let time = began.elapsed();
        self.metrics.ended(op, error.map(|error| error.class), time);
        let seconds = time.as_secs_f64();
        match error {
            None if change => tracing::info!(op.seconds = seconds, "done"),
            None => tracing::debug!(op.seconds = seconds, "done"),
            Some(error) => {
                let (class, message) = (error.class.as_str(), error.message.as_str());
                match error.class {
                    Class::Transient | Class::Corrupt | Class::Internal => {
                        tracing::error!(op.seconds = seconds, error.class = class, "failed: {message}");
                    }
                    Class::InProgress => {
                        tracing::debug!(op.seconds = seconds, error.class = class, "refused: {message}");
                    }
                    Class::Invalid
                    | Class::OutOfRange
                    | Class::NotFound
                    | Class::Exists
                    | Class::Exhausted
                    | Class::Precondition
                    | Class::Unimplemented => {
                        tracing::warn!(op.seconds = seconds, error.class = class, "refused: {message}");
                    }
                }
            }
        }
    }

    fn take(self: &Arc<Self>, keys: &[String]) -> Result<Guard> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.iter().find(|key| busy.contains(*key)) {
            return Err(Error::new(
                Class::InProgress,
                format!("another operation on {key} is running: try again"),
            ));
        }
        busy.extend(keys.iter().cloned());
        Ok(Guard { calls: Arc::clone(self), keys: keys.to_vec() })
    }
}

/// Holds keys; dropping it lets go.
#[derive(Debug)]
struct Guard {
    calls: Arc<Calls>,
    keys: Vec<String>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut busy = self.calls.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            busy.remove(key);
        }
    }
}

/// The key of a volume or view by its id.
#[must_use]
pub fn volume(id: &str) -> String {
    format!("volume {id}")
}

/// The key of a volume that is being made, by its name.
#[must_use]
pub fn volume_name(name: &str) -> String {
    format!("volume named {name:?}")
}

/// The key of a snapshot by its id.
#[must_use]
pub fn snapshot(id: &str) -> String {
    format!("snapshot {id}")
}

/// The key of a snapshot that is being made, by its name.
#[must_use]
pub fn snapshot_name(name: &str) -> String {
    format!("snapshot named {name:?}")
}

/// The key of a group of snapshots by its id.
#[must_use]
pub fn group(id: &str) -> String {
    format!("group snapshot {id}")
}

/// The key of a group of snapshots that is being made, by its name.
#[must_use]
pub fn group_name(name: &str) -> String {
    format!("group snapshot named {name:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;
    use tonic::Code;

    /// Lets the other tasks run until a call holds its keys.
    async fn until_busy(calls: &Calls) {
        for _ in 0..1000 {
            if !calls.busy.lock().expect("no panic").is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("no call holds its keys");
    }

    #[tokio::test]
    async fn a_second_call_on_the_same_volume_is_aborted_and_on_another_one_runs() {
        let calls = Calls::new(Operations::default());
        let (go, wait) = oneshot::channel::<()>();
        let first = {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move {
                calls.change("first", &[volume("a"), snapshot("s")], async { Ok(wait.await.is_ok()) }).await
            })
        };
        until_busy(&calls).await;
        let second = calls.change("second", &[volume("a")], async { Ok(()) }).await;
        assert_eq!(second.expect_err("busy").code(), Code::Aborted);
        assert!(calls.change("third", &[volume("b")], async { Ok(()) }).await.is_ok());
        go.send(()).expect("it waits");
        assert!(first.await.expect("no panic").expect("done").into_inner());
        assert!(calls.change("fourth", &[volume("a")], async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn a_call_whose_caller_hung_up_goes_on_and_keeps_its_volume() {
        let calls = Calls::new(Operations::default());
        let (go, wait) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel::<()>();
        let caller = {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move {
                let work = async {
                    wait.await.expect("sent");
                    done.send(()).expect("someone waits");
                    Ok(())
                };
                calls.change("first", &[volume("a")], work).await
            })
        };
        until_busy(&calls).await;
        caller.abort();
        assert!(caller.await.expect_err("aborted").is_cancelled());
        let retry = calls.change("retry", &[volume("a")], async { Ok(()) }).await;
        assert_eq!(retry.expect_err("still running").code(), Code::Aborted);
        go.send(()).expect("it waits");
        ended.await.expect("it ended");
        calls.drained().await;
        assert!(calls.take(&[volume("a")]).is_ok());
    }

    #[tokio::test]
    async fn a_call_that_panics_is_an_internal_error_and_lets_go() {
        let calls = Calls::new(Operations::default());
        let result = calls.change::<(), _>("bug", &[volume("a")], async { panic!("on purpose") }).await;
        assert_eq!(result.expect_err("a panic").code(), Code::Internal);
        assert!(calls.take(&[volume("a")]).is_ok());
    }
}
