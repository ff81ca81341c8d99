//! Writes to the API server, one request each.

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Error, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{self, MirrorPool, MirrorSnapshot, MirrorVolume};
use crate::node::agenda::lane::Trouble;
use crate::node::agenda::{Key, Kind, Object, Status, Write, Written};
use crate::report;

/// The objects of this node, for writing.
#[derive(Clone)]
pub struct Records {
    pools: Api<MirrorPool>,
    volumes: Api<MirrorVolume>,
    snapshots: Api<MirrorSnapshot>,
}

impl Records {
    /// Through this client.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self {
            pools: Api::all(client.clone()),
            volumes: Api::all(client.clone()),
            snapshots: Api::all(client.clone()),
        }
    }

    /// Makes a write.
    ///
    /// # Errors
    /// It was not done, or nobody knows.
    pub async fn write(&self, key: &Key, write: Write) -> Result<Written, Trouble> {
        let done = match write {
            Write::Status { uid, status } => self.status(&key.name, &uid, status).await.map(Written::Stored),
            Write::Remove { uid } => self.remove(key, uid).await,
            Write::Create(object) => self.create(object).await,
        };
        done.map_err(|error| {
            let trouble = trouble(&error);
            let told = report::chain(&error);
            match trouble {
                Trouble::Refused => tracing::error!(object = key.name, "the API server refuses: {told}"),
                Trouble::Gone | Trouble::Conflict | Trouble::Passing => {
                    tracing::debug!(object = key.name, "not written yet: {told}");
                }
            }
            trouble
        })
    }

    async fn status(&self, name: &str, uid: &str, status: Status) -> Result<Object, Error> {
        match status {
            Status::Pool(status) => {
                Ok(Object::Pool(Box::new(apply_status(&self.pools, name, uid, &status).await?)))
            }
            Status::Volume(status) => {
                Ok(Object::Volume(Box::new(apply_status(&self.volumes, name, uid, &status).await?)))
            }
            Status::Snapshot(status) => {
                Ok(Object::Snapshot(Box::new(apply_status(&self.snapshots, name, uid, &status).await?)))
            }
        }
    }

    async fn remove(&self, key: &Key, uid: String) -> Result<Written, Error> {
        let same = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let params = DeleteParams::default().preconditions(same);
        let removed = match key.kind {
            Kind::Pool => self.pools.delete(&key.name, &params).await.map(drop),
            Kind::Volume => self.volumes.delete(&key.name, &params).await.map(drop),
            Kind::Snapshot => self.snapshots.delete(&key.name, &params).await.map(drop),
        };
        match removed {
            // Somebody else, or an attempt whose answer was lost, was faster.
            Err(error) if trouble(&error) != Trouble::Gone => Err(error),
            Ok(()) | Err(_) => Ok(Written::Removed { uid }),
        }
    }

    async fn create(&self, object: Object) -> Result<Written, Error> {
        match object {
            Object::Pool(pool) => {
                let fields = json!({"spec": pool.spec});
                let body = body::<MirrorPool>(&pool.name_any(), None, &fields);
                let params = PatchParams::apply(api::NODE);
                let stored = self.pools.patch(&pool.name_any(), &params, &Patch::Apply(&body)).await?;
                Ok(Written::Stored(Object::Pool(Box::new(stored))))
            }
            Object::Volume(volume) => {
                let (object, ours) = create(&self.volumes, &volume).await?;
                Ok(written(Object::Volume(Box::new(object)), ours))
            }
            Object::Snapshot(snapshot) => {
                let (object, ours) = create(&self.snapshots, &snapshot).await?;
                Ok(written(Object::Snapshot(Box::new(object)), ours))
            }
        }
    }
}

fn written(object: Object, ours: bool) -> Written {
    if ours { Written::Stored(object) } else { Written::Taken(object) }
}

/// Makes an object; when there is one of that name already, that one, and `false`.
async fn create<K>(api: &Api<K>, object: &K) -> Result<(K, bool), Error>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let params = PostParams { field_manager: Some(api::NODE.to_owned()), ..PostParams::default() };
    match api.create(&params, object).await {
        Ok(made) => Ok((made, true)),
        Err(error) if trouble(&error) == Trouble::Conflict => Ok((api.get(&object.name_any()).await?, false)),
        Err(error) => Err(error),
    }
}

/// Applies a whole status: nobody else writes any of it. The uid keeps it off an object that has taken the place of
/// another one.
async fn apply_status<K>(api: &Api<K>, name: &str, uid: &str, status: &impl Serialize) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let body = body::<K>(name, Some(uid), &json!({"status": status}));
    api.patch_status(name, &PatchParams::apply(api::NODE).force(), &Patch::Apply(&body)).await
}

fn body<K: Resource<DynamicType = ()>>(name: &str, uid: Option<&str>, fields: &Value) -> Value {
    let mut body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name},
    });
    if let Some(uid) = uid {
        body["metadata"]["uid"] = json!(uid);
    }
    for (field, value) in fields.as_object().into_iter().flatten() {
        body[field] = value.clone();
    }
    body
}

fn trouble(error: &Error) -> Trouble {
    let Error::Api(status) = error else { return Trouble::Passing };
    match status.code {
        404 => Trouble::Gone,
        409 => Trouble::Conflict,
        400 | 403 | 413 | 422 => Trouble::Refused,
        _ => Trouble::Passing,
    }
}
