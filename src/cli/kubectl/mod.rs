//! `kubectl splitmirror`: what a user of claims wants to know, from the API server alone.
//!
//! ```text
//! API server ─ objects ─ model (pure: what belongs together) ─ render (pure: a tree), or JSON
//! ```

pub mod args;
pub mod model;
pub mod objects;
pub mod render;
#[cfg(test)]
mod tests;

use std::io::Write;

use kube::runtime::watcher;

use crate::api::client;
use crate::cli::args::Format;
use crate::cli::error::{Error, Result};
use crate::cli::kubectl::args::{Cli, Command, ServerArgs, StatusArgs};
use crate::cli::kubectl::model::Scope;
use crate::cli::kubectl::objects::Watched;
use crate::cli::output::json;
use crate::cli::threads;
use crate::cli::watch::{self, Screen};
use crate::report::Class;

/// Does what the arguments say; what is shown goes to `out`.
///
/// # Errors
/// As told by the command.
pub fn run(cli: Cli, out: &mut dyn Write) -> Result<()> {
    let Command::Status(args) = cli.command;
    threads::serve(status(cli.server, args, out))
}

async fn status(server: ServerArgs, args: StatusArgs, out: &mut dyn Write) -> Result<()> {
    let client = client::connect(server.kubeconfig.as_deref(), server.context.as_deref()).await?;
    let StatusArgs { claims, namespace, all_namespaces, watch, output } = args;
    let namespace =
        (!all_namespaces).then(|| namespace.unwrap_or_else(|| client.default_namespace().to_owned()));
    let scope = Scope { namespace, claims };
    let mut watched =
        Watched::begin(&client, scope.namespace.as_deref()).await.map_err(|error| asked(&error))?;
    let mut screen = Screen::new();
    loop {
        match watched.next().await {
            Ok(None) => return Ok(()),
            Ok(Some(objects)) => {
                let claims = model::claims(&objects, &scope);
                screen.show(
                    out,
                    match output.output {
                        Format::Table => render::text(&claims),
                        Format::Json => watch::text(|out| json(out, &claims))?,
                    },
                )?;
                if !watch {
                    return Ok(());
                }
            }
            Err(error) if screen.is_blank() => return Err(failed(&error)),
            // What was shown was right a moment ago, and the watch is taken up again.
            Err(_) => {}
        }
    }
}

fn failed(error: &watcher::Error) -> Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => asked(error),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => {
            Error::refused(Class::Transient, client::told_of_watch(error))
        }
    }
}

/// What an answer of the API server means to who has asked.
fn asked(error: &kube::Error) -> Error {
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    let (class, hint) = match code {
        401 | 403 => (
            Class::Precondition,
            "; needed are the rights to list and watch persistentvolumeclaims, persistentvolumes, volumesnapshots, \
             volumesnapshotcontents, mirrorvolumes and mirrorsnapshots",
        ),
        404 => (Class::Precondition, "; is splitmirror installed in this cluster?"),
        _ => (Class::Transient, ""),
    };
    Error::refused(class, format!("ask the API server: {}{hint}", client::told(error)))
}
