//! Requests to the API server: tried again while it does not answer, counted, their errors classed.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::{self, MirrorSnapshot, MirrorVolume, client};
use crate::csi::backend::{Error, Result};
use crate::metrics::Requests;
use crate::report::Class;

/// How long one request may take; a server that hangs is as good as none.
const REQUEST_MAX: Duration = Duration::from_secs(15);
/// Pauses between tries: the first, doubled each time up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// An object as it is sent and answered.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned> Object for K {}

/// The API server.
#[derive(Clone)]
pub struct Cluster {
    /// Volumes and views.
    pub volumes: Api<MirrorVolume>,
    /// Snapshots.
    pub snapshots: Api<MirrorSnapshot>,
    nodes: Api<Node>,
    /// For objects of a namespace.
    pub client: Client,
    requests: Requests,
}

impl Cluster {
    /// Through this client; requests are counted in `requests`.
    #[must_use]
    pub fn new(client: &Client, requests: Requests) -> Self {
        Self {
            volumes: Api::all(client.clone()),
            snapshots: Api::all(client.clone()),
            nodes: Api::all(client.clone()),
            client: client.clone(),
            requests,
        }
    }

    /// The object of a name.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn get<K>(&self, api: &Api<K>, name: &str, until: Instant) -> Result<Option<K>>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        self.tried("get", until, || api.get_opt(name)).await
    }

    /// Makes an object. When there is one of that name already (another process, or a try whose answer was lost, was
    /// faster), that one.
    ///
    /// # Errors
    /// The server refuses. While it does not answer, nobody knows whether the object is made: `InProgress`.
    pub async fn make<K: Object>(&self, api: &Api<K>, object: &K, until: Instant) -> Result<K> {
        let params = PostParams { field_manager: Some(api::CONTROLLER.to_owned()), ..PostParams::default() };
        let unknown = |error: Error| match error.class {
            Class::Transient => Error::new(Class::InProgress, error.message),
            _ => error,
        };
        loop {
            let error = match self.tried("create", until, || api.create(&params, object)).await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            };
            if error.class != Class::Exists {
                return Err(unknown(error));
            }
            if let Some(found) = self.get(api, &object.name_any(), until).await.map_err(unknown)? {
                return Ok(found);
            }
        }
    }

    /// Changes the `spec` of an object; `None` when there is none of that name.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn change<K: Object>(
        &self,
        api: &Api<K>,
        name: &str,
        spec: &Value,
        until: Instant,
    ) -> Result<Option<K>> {
        let params =
            PatchParams { field_manager: Some(api::CONTROLLER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"spec": spec}));
        let changed = self.tried("patch", until, || api.patch(name, &params, &patch)).await;
        changed.map(Some).or_else(gone)
    }

    /// Changes the `spec` of this very version of an object. One that is gone is no error.
    ///
    /// # Errors
    /// It is another version (`InProgress`), the server does not answer, or refuses.
    pub async fn change_this<K: Object>(
        &self,
        api: &Api<K>,
        object: &K,
        spec: &Value,
        until: Instant,
    ) -> Result<()> {
        let params =
            PatchParams { field_manager: Some(api::CONTROLLER.to_owned()), ..PatchParams::default() };
        let version = json!({"uid": object.uid(), "resourceVersion": object.resource_version()});
        let patch = Patch::Merge(json!({"metadata": version, "spec": spec}));
        let name = object.name_any();
        let changed = self.tried("patch", until, || api.patch(&name, &params, &patch)).await;
        changed.map(Some).or_else(gone).map(drop)
    }

    /// Tells the status of this very object. One that is gone is no error.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn tell<K: Object>(
        &self,
        api: &Api<K>,
        object: &K,
        status: &impl Serialize,
        until: Instant,
    ) -> Result<()> {
        let params = PatchParams::apply(api::CONTROLLER).force();
        let patch = Patch::Apply(json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"uid": object.uid()}, "status": status,
        }));
        let name = object.name_any();
        let told = self.tried("patch", until, || api.patch_status(&name, &params, &patch)).await;
        told.map(Some).or_else(gone).map(drop)
    }

    /// Removes this very version of an object. One that is gone is no error.
    ///
    /// # Errors
    /// It is another version, the server does not answer, or refuses.
    pub async fn remove<K: Object>(&self, api: &Api<K>, object: &K, until: Instant) -> Result<()> {
        let same = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
        let params = DeleteParams::default().preconditions(same);
        let name = object.name_any();
        let removed = self.tried("delete", until, || api.delete(&name, &params)).await;
        removed.map(|_| Some(())).or_else(gone).map(drop)
    }

    /// Whether there is a Node of a name.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn has_node(&self, name: &str, until: Instant) -> Result<bool> {
        Ok(self.tried("get", until, || self.nodes.get_metadata_opt(name)).await?.is_some())
    }

    /// Tries until there is an answer, or the time is over.
    async fn tried<T, F>(&self, verb: &'static str, until: Instant, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let mut pause = PAUSE_FIRST;
        loop {
            let limit = until.min(Instant::now() + REQUEST_MAX);
            let answer = tokio::time::timeout_at(limit, request()).await;
            let error = match answer {
                Ok(Ok(answer)) => {
                    self.requests.ended(verb, None);
                    return Ok(answer);
                }
                Ok(Err(error)) => Error::new(class(&error), client::told(&error)),
                Err(_) => Error::new(Class::Transient, "it did not answer in time"),
            };
            self.requests.ended(verb, Some(error.class));
            if error.class != Class::Transient {
                return Err(error);
            }
            if Instant::now() + pause >= until {
                return Err(Error::new(error.class, format!("the API server: {}", error.message)));
            }
            tracing::debug!(verb, "the API server is asked again: {}", error.message);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }
}

/// What is not there is no error.
fn gone<T>(error: Error) -> Result<Option<T>> {
    match error.class {
        Class::NotFound => Ok(None),
        _ => Err(error),
    }
}

/// What an answer of the API server means.
fn class(error: &kube::Error) -> Class {
    let kube::Error::Api(status) = error else { return Class::Transient };
    match status.code {
        404 => Class::NotFound,
        409 if status.reason == "AlreadyExists" => Class::Exists,
        409 => Class::InProgress,
        400 | 413 | 422 => Class::Invalid,
        401 | 403 => Class::Precondition,
        _ => Class::Transient,
    }
}
