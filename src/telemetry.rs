//! Logs: one line per thing that happened, JSON where no person is watching.
//!
//! Field names, the same everywhere: `op.kind` (which operation), `op.on` (what it works on), `op.seconds`,
//! `error.class`, `node`, `pool`.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// The variable that says what is logged, as `info,splitmirror=debug`.
pub const FILTER_VARIABLE: &str = "SPLITMIRROR_LOG";

/// Requests that have failed, as the Kubernetes client logs them.
const CLIENT_ERRORS: &str = "kube_client::client::builder=off";

/// What is logged when [`FILTER_VARIABLE`] says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// What has changed, and worse: a server.
    Info,
    /// What is not as it should be, and worse: a command that prints an answer.
    Warn,
}

/// Starts logging to standard error: text on a terminal, JSON elsewhere.
///
/// # Errors
/// Logging was started before.
pub fn start(default: Default) -> Result<(), TryInitError> {
    let default = match default {
        Default::Info => LevelFilter::INFO,
        Default::Warn => LevelFilter::WARN,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(default.into())
        .with_env_var(FILTER_VARIABLE)
        .from_env_lossy()
        // Whoever made the request tells of the same error, and what was to be done.
        .add_directive(CLIENT_ERRORS.parse().expect("a directive"));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        registry.with(layer.compact()).try_init()
    } else {
        registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init()
    }
}
