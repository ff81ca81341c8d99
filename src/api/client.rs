//! A client of the API server.

use std::path::{Path, PathBuf};

use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::runtime::watcher;
use kube::{Client, Config};

use crate::report::Class;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be used.
    #[error("read the API server's address from {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// A context cannot be used.
    #[error("use context {context:?}")]
    Context {
        /// The context.
        context: String,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// Nobody says where it is.
    #[error("find the API server: there is neither a kubeconfig file nor a pod's service account")]
    Nowhere(#[source] Box<InferConfigError>),
    /// The certificates, or the like.
    #[error("prepare the connection to the API server")]
    Client(#[source] Box<kube::Error>),
}

impl Error {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// A client of the API server that a file names, or `KUBECONFIG`, or `~/.kube/config`, or that this pod is known to. It
/// need not answer yet.
///
/// # Errors
/// Nothing says where it is, or not well.
pub async fn connect(file: Option<&Path>, context: Option<&str>) -> Result<Client, Error> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match (file, context) {
        (Some(path), _) => {
            let failed = |error| Error::File { path: path.to_owned(), source: Box::new(error) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?
        }
        (None, Some(context)) => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| Error::Context { context: context.to_owned(), source: Box::new(error) })?,
        (None, None) => Config::infer().await.map_err(|error| Error::Nowhere(Box::new(error)))?,
    };
    Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))
}

/// An error of a request, for people. What the API server answers is a sentence already; of other errors each cause is
/// told once, for some name those below them and some do not.
#[must_use]
pub fn told(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// An error of a watch, for people.
#[must_use]
pub fn told_of_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => told(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    const FILE: &str = "
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: t}}]
current-context: x
";

    #[tokio::test]
    async fn a_client_is_made_without_an_answer_of_the_server() {
        let dir = tempfile::tempdir().expect("a place for files");
        let path = dir.path().join("config");
        std::fs::write(&path, FILE).expect("room");
        connect(Some(&path), None).await.expect("all is said");
        connect(Some(&path), Some("x")).await.expect("the context is there");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_in_one_breath() {
        let dir = tempfile::tempdir().expect("a place for files");
        let path = dir.path().join("config");
        std::fs::write(&path, FILE).expect("room");
        let client = connect(Some(&path), None).await.expect("all is said");
        let told = told(&client.apiserver_version().await.expect_err("nobody listens on port 1"));
        assert!(told.contains("Connection refused"), "{told}");
        assert_eq!(told.matches("client error").count(), 1, "{told}");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_file_is_told() {
        let dir = tempfile::tempdir().expect("a place for files");
        let path = dir.path().join("config");
        let missing = connect(Some(&path), None).await.map(drop).expect_err("no file");
        assert!(report::chain(&missing).contains("config: "), "{}", report::chain(&missing));
        std::fs::write(&path, FILE).expect("room");
        let other = connect(Some(&path), Some("y")).await.map(drop).expect_err("no such context");
        assert!(report::chain(&other).contains('y'), "{}", report::chain(&other));
    }
}
