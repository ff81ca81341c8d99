//! Commands that serve: threads to run on.

use crate::cli::error::{Error, Result};
use crate::report::Class;

/// Runs a server, or what it would do, to its end.
///
/// # Errors
/// Its own, or threads cannot be started.
pub(super) fn serve<T, E: Into<Error>>(server: impl Future<Output = std::result::Result<T, E>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Error::refused(Class::Transient, format!("start threads: {error}")))?;
    let done = runtime.block_on(server).map_err(Into::into)?;
    // A call that is stuck in the kernel must not keep the process from ending.
    runtime.shutdown_background();
    Ok(done)
}
