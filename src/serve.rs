//! A process that serves CSI: how it starts and how it stops, whatever is behind it.
//!
//! ```text
//! start:  sockets ─ what is behind them ─ serve
//! stop:   SIGTERM ─ no new calls ─ calls that run end, or are left to the next start
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::csi::server::{self, Endpoint, Services, Socket};
use crate::http;
use crate::report::Class;

/// How long calls that run may take to end once the process is told to stop. A call that is cut short then is what a
/// crash is: the next start finishes or undoes it.
const GRACE: Duration = Duration::from_secs(25);

/// Why it stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CSI socket.
    #[error("serve CSI")]
    Csi(#[source] server::Error),
    /// The metrics' port.
    #[error("serve metrics")]
    Http(#[source] http::Error),
    /// The process.
    #[error("wait for signals")]
    Signals(#[source] std::io::Error),
    /// A part of the process panicked.
    #[error("a part of the process stopped: {0}")]
    Stopped(String),
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Csi(error) => error.class(),
            Self::Http(error) => error.class(),
            Self::Signals(_) => Class::Transient,
            Self::Stopped(_) => Class::Internal,
        }
    }
}

/// Does `work`, whose token is cancelled by SIGTERM and SIGINT.
///
/// # Errors
/// As `work`, or signals cannot be waited for.
pub async fn until_signal<E, F>(work: impl FnOnce(CancellationToken) -> F) -> Result<(), E>
where
    E: From<Error>,
    F: Future<Output = Result<(), E>>,
{
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let on_signal = stop.clone();
    let signals = tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping: calls that run are waited for");
        on_signal.cancel();
    });
    let done = work(stop).await;
    signals.abort();
    done
}

/// Where the process is reached. They are bound before all else, so that a second process on the same socket does not
/// begin to work.
#[derive(Debug)]
pub struct Sockets {
    endpoint: Endpoint,
    csi: Socket,
    http: Option<http::Listener>,
    scraped: Option<JoinHandle<Result<(), http::Error>>>,
}

impl Sockets {
    /// Binds them. Callers wait until they are served.
    ///
    /// # Errors
    /// One is in use, or cannot be made.
    pub async fn bind(endpoint: Endpoint, metrics: Option<SocketAddr>) -> Result<Self, Error> {
        let csi = Socket::bind(&endpoint).map_err(Error::Csi)?;
        let http = match metrics {
            Some(address) => Some(http::Listener::bind(address).await.map_err(Error::Http)?),
            None => None,
        };
        Ok(Self { endpoint, csi, http, scraped: None })
    }

    /// From now on shows metrics and health until `stop` is cancelled.
    pub fn show<S: http::Source>(&mut self, source: S, stop: &CancellationToken) {
        let Some(listener) = self.http.take() else { return };
        tracing::info!(address = %listener.address(), "serving /metrics and /healthz");
        let stop = stop.clone().cancelled_owned();
        self.scraped = Some(tokio::spawn(http::serve(listener, Arc::new(source), stop)));
    }

    /// Serves CSI until `stop` is cancelled and the calls that run have ended. However it ends, `stop` is cancelled then.
    ///
    /// # Errors
    /// A server failed.
    pub async fn serve(self, services: Services, stop: &CancellationToken) -> Result<(), Error> {
        let Self { endpoint, csi, http: _, scraped } = self;
        tracing::info!(%endpoint, "serving CSI");
        let served = tokio::select! {
            served = server::serve(csi, services, stop.clone()) => served.map_err(Error::Csi),
            () = late(stop) => {
                let grace = GRACE.as_secs_f64();
                tracing::warn!(grace_seconds = grace, "calls still run: they are left to the next start");
                Ok(())
            }
        };
        stop.cancel();
        if let Some(scraped) = scraped {
            joined(scraped.await)?.map_err(Error::Http)?;
        }
        served
    }
}

/// Done when the process was told to stop and the time for it is over.
async fn late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// What a task came to.
///
/// # Errors
/// It panicked.
pub fn joined<T>(joined: Result<T, JoinError>) -> Result<T, Error> {
    joined.map_err(|error| Error::Stopped(error.to_string()))
}
