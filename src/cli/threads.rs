//! Commands that serve: threads to run on.

use crate::cli::error::{Error, Result};
use crate::report::Class;

/// Runs a server to its end.
///
/// # Errors
/// Its own, or threads cannot be started.
pub(super) fn serve<E: Into<Error>>(server: impl Future<Output = std::result::Result<(), E>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Error::refused(Class::Transient, format!("start threads: {error}")))?;
    runtime.block_on(server).map_err(Into::into)?;
    // A call that is stuck in the kernel must not keep the process from ending.
    runtime.shutdown_background();
    Ok(())
}
