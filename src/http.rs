//! `/metrics` and `/healthz` over HTTP, for Prometheus and for liveness probes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::report::Class;

/// What is shown: all of it may block.
pub trait Source: Send + Sync + 'static {
    /// The metrics' text.
    fn metrics(&self) -> String;

    /// Whether the process can do its work; if not, why.
    ///
    /// # Errors
    /// The reason, for a person.
    fn health(&self) -> Result<(), String>;
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[error("serve HTTP on {address}")]
pub struct Error {
    address: SocketAddr,
    source: std::io::Error,
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Transient
    }
}

/// A port that is listened on.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on an address; port 0 is any free one.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let failed = |source| Error { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until `stop` is done.
///
/// # Errors
/// The server failed.
pub async fn serve<S: Source>(
    listener: Listener,
    source: Arc<S>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let Listener { listener, address } = listener;
    axum::serve(listener, router(source))
        .with_graceful_shutdown(stop)
        .await
        .map_err(|source| Error { address, source })
}

fn router<S: Source>(source: Arc<S>) -> Router {
    let metrics = {
        let source = Arc::clone(&source);
        move || async move {
            match tokio::task::spawn_blocking(move || source.metrics()).await {
                Ok(text) => {
                    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    ([(header::CONTENT_TYPE, openmetrics)], text).into_response()
                }
                Err(panic) => (StatusCode::INTERNAL_SERVER_ERROR, panic.to_string()).into_response(),
            }
        }
    };
    let health = move || async move {
        match tokio::task::spawn_blocking(move || source.health()).await {
            Ok(Ok(())) => (StatusCode::OK, "ok\n".to_owned()),
            Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
            Err(panic) => (StatusCode::INTERNAL_SERVER_ERROR, panic.to_string()),
        }
    };
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(health))
}
