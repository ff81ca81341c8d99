//! The round trip of an object without meaning: one process makes it, another one sees it through a watch and sets its
//! status, the first one sees that through a watch. Nothing that goes through an object can be faster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::process::{LISTED, say};
use crate::{Outcome, cluster, told};

/// The group of the objects.
pub const GROUP: &str = "scale.splitmirror.io";
const VERSION: &str = "v1";
const KIND: &str = "Echo";
const PLURAL: &str = "echoes";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many objects are made at a time.
const AT_ONCE: usize = 16;

/// The definition of the objects.
pub fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"silent": {"type": "boolean"}}},
        "status": {"type": "object", "properties": {"seen": {"type": "boolean"}}},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Cluster",
            "names": {"plural": PLURAL, "singular": "echo", "kind": KIND},
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

fn resource() -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        kind: KIND.to_owned(),
        plural: PLURAL.to_owned(),
    }
}

fn objects(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource())
}

fn object(name: &str, silent: bool) -> DynamicObject {
    DynamicObject::new(name, &resource()).data(json!({"spec": {"silent": silent}}))
}

/// The second process: answers objects until it is killed.
pub fn answer() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let api = objects(&cluster::admin().await?);
        let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
        while let Some(event) = events.next().await {
            match event.map_err(|error| told(&error))? {
                Event::InitDone => say(LISTED),
                Event::Apply(object) if wants_answer(&object) => {
                    let (api, name) = (api.clone(), object.name_any());
                    tokio::spawn(async move {
                        let seen = Patch::Merge(json!({"status": {"seen": true}}));
                        if let Err(error) = api.patch_status(&name, &PatchParams::default(), &seen).await {
                            eprintln!("scale: {name} is not answered: {error}");
                        }
                    });
                }
                Event::Init | Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
            }
        }
        Err("the watch ended".to_owned())
    })
}

fn wants_answer(object: &DynamicObject) -> bool {
    object.data["spec"]["silent"] != true && !is_answered(object)
}

fn is_answered(object: &DynamicObject) -> bool {
    object.data["status"]["seen"] == true
}

/// Makes objects that nobody answers.
pub async fn fill(client: &Client, count: usize) -> Outcome {
    let api = objects(client);
    let made = futures::stream::iter(0..count).map(|number| {
        let api = api.clone();
        async move {
            let object = object(&format!("silent-{number:05}"), true);
            api.create(&PostParams::default(), &object).await.map(drop).map_err(|error| told(&error))
        }
    });
    let mut made = std::pin::pin!(made.buffer_unordered(AT_ONCE));
    while let Some(made) = made.next().await {
        made?;
    }
    Ok(())
}

type Waiting = Arc<Mutex<BTreeMap<String, oneshot::Sender<()>>>>;

/// The first process.
#[derive(Clone)]
pub struct Caller {
    api: Api<DynamicObject>,
    waiting: Waiting,
}

impl Caller {
    /// Watches for answers.
    pub async fn new(client: &Client) -> Outcome<Self> {
        let (api, waiting) = (objects(client), Waiting::default());
        let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
        loop {
            match events.next().await.ok_or("the watch ended")?.map_err(|error| told(&error))? {
                Event::InitDone => break,
                Event::Init | Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
            }
        }
        let ours = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object)) = event
                    && is_answered(&object)
                {
                    let mut waiting = ours.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(waiter) = waiting.remove(&object.name_any()) {
                        // It may have given up.
                        waiter.send(()).ok();
                    }
                }
            }
        });
        Ok(Self { api, waiting })
    }

    /// Makes an object; how long it takes until its answer is seen.
    pub async fn round_trip(&self, name: &str) -> Outcome<Duration> {
        let (waiter, answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), waiter);
        let began = Instant::now();
        let made = self.api.create(&PostParams::default(), &object(name, false)).await;
        made.map_err(|error| told(&error))?;
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        answered.map_err(|_| format!("{name} is not answered"))?.map_err(|error| told(&error))?;
        Ok(began.elapsed())
    }

    /// Removes an object.
    pub async fn remove(&self, name: &str) -> Outcome {
        self.api.delete(name, &DeleteParams::default()).await.map(drop).map_err(|error| told(&error))
    }
}
