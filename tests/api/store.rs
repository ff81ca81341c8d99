//! The objects, and everything that ever happened to them.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::request::Request;
use super::{patch, success};

/// Why a request is not done.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let code = StatusCode::from_u16(code).expect("a status code");
        Self { code, reason, message: message.into() }
    }

    fn not_found(at: &At) -> Self {
        Self::new(404, "NotFound", format!("{} {:?} not found", at.resource, at.name))
    }

    fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }

    pub fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        })
    }
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    resource: String,
    namespace: Option<String>,
    name: String,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Happened {
    /// At which version.
    pub version: u64,
    /// To an object of which resource.
    pub resource: String,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub what: &'static str,
    /// The object.
    pub object: Value,
}

#[derive(Default)]
pub struct Store {
    objects: BTreeMap<At, Value>,
    /// What each manager last applied to each object and subresource.
    applied: BTreeMap<(At, String, Option<String>), Value>,
    /// In the order of versions.
    pub history: Vec<Happened>,
    version: u64,
    uids: u64,
}

type Answer = Result<Value, Refusal>;

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn all<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |(at, _)| at.resource == resource).map(|(_, object)| object)
    }

    pub fn find(&self, resource: &str, name: &str) -> Option<&Value> {
        self.objects
            .iter()
            .find(|(at, _)| at.resource == resource && at.name == name)
            .map(|(_, object)| object)
    }

    fn at_of(&self, resource: &str, name: &str) -> Option<At> {
        self.objects.keys().find(|at| at.resource == resource && at.name == name).cloned()
    }

    pub fn put(&mut self, resource: &str, object: Value) -> Value {
        let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
        let name = text("name").expect("an object has a name");
        let namespace = text("namespace");
        let at = At { resource: resource.to_owned(), namespace, name };
        self.write(&at, object)
    }

    pub fn remove(&mut self, resource: &str, name: &str) {
        let at = self.at_of(resource, name).expect("an object");
        self.delete(&at);
    }

    pub fn wipe(&mut self) {
        for at in self.objects.keys().cloned().collect::<Vec<_>>() {
            self.delete(&at);
        }
    }

    pub fn dump(&self) -> Value {
        self.objects.values().cloned().collect()
    }

    pub fn answer(&mut self, request: &Request) -> Answer {
        if request.resource == "tokenreviews" {
            return Ok(reviewed(&request.body));
        }
        let Some(name) = request.name.clone() else {
            return match request.method {
                Method::GET => Ok(self.listed(request)),
                Method::POST => self.create(request),
                _ => Err(Refusal::new(405, "MethodNotAllowed", "on a list")),
            };
        };
        let at = At { resource: request.resource.clone(), namespace: request.namespace.clone(), name };
        match request.method {
            Method::GET => self.objects.get(&at).cloned().ok_or_else(|| Refusal::not_found(&at)),
            Method::PUT => self.replace(&at, request),
            Method::PATCH => self.patch(&at, request),
            Method::DELETE => {
                let object = self.objects.get(&at).ok_or_else(|| Refusal::not_found(&at))?;
                check(object, &request.body["preconditions"])?;
                self.delete(&at);
                Ok(success())
            }
            _ => Err(Refusal::new(405, "MethodNotAllowed", "on an object")),
        }
    }

    fn listed(&self, request: &Request) -> Value {
        let items: Vec<&Value> =
            self.all(&request.resource).filter(|object| selected(object, request)).collect();
        json!({
            "kind": "List", "apiVersion": request.api_version,
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items,
        })
    }

    fn create(&mut self, request: &Request) -> Answer {
        let object = request.body.clone();
        let name = object["metadata"]["name"].as_str();
        let name = name.ok_or_else(|| Refusal::new(422, "Invalid", "metadata.name is missing"))?.to_owned();
        let at = At { resource: request.resource.clone(), namespace: request.namespace.clone(), name };
        if self.objects.contains_key(&at) {
            return Err(Refusal::new(409, "AlreadyExists", format!("{:?} already exists", at.name)));
        }
        Ok(self.write(&at, without_status(object, request)))
    }

    fn replace(&mut self, at: &At, request: &Request) -> Answer {
        let old = self.objects.get(at).ok_or_else(|| Refusal::not_found(at))?;
        check(old, &request.body["metadata"])?;
        let new = only_part(old, request.body.clone(), request);
        Ok(self.write(at, new))
    }

    fn patch(&mut self, at: &At, request: &Request) -> Answer {
        let apply = request.patch.as_deref() == Some("application/apply-patch+yaml");
        let old = match self.objects.get(at) {
            Some(old) => old.clone(),
            None if apply && request.subresource.is_none() && request.body["metadata"]["uid"].is_null() => {
                json!({"apiVersion": request.body["apiVersion"], "kind": request.body["kind"],
                       "metadata": {"name": at.name}})
            }
            None => return Err(Refusal::not_found(at)),
        };
        check(&old, &request.body["metadata"])?;
        let mut new = old.clone();
        if apply {
            let manager = request.manager.clone();
            let manager = manager.ok_or_else(|| Refusal::new(400, "BadRequest", "no fieldManager"))?;
            let key = (at.clone(), manager, request.subresource.clone());
            let last = self.applied.insert(key, request.body.clone()).unwrap_or(Value::Null);
            for part in ["spec", "status", "data"] {
                if let Some(wanted) = request.body.get(part) {
                    let object = new.as_object_mut().expect("an object");
                    patch::apply(object.entry(part).or_insert(json!({})), &last[part], wanted);
                }
            }
        } else {
            patch::merge(&mut new, &request.body);
        }
        let new = only_part(&old, new, request);
        Ok(self.write(at, new))
    }

    /// Stores an object; nothing happens when nothing changes.
    fn write(&mut self, at: &At, mut object: Value) -> Value {
        let old = self.objects.get(at);
        let meta = |object: &Value, field: &str| object["metadata"][field].clone();
        let fresh = json!({"uid": format!("uid-{}", self.uids + 1), "generation": 1,
                           "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": ""});
        let kept = old.map_or(&fresh, |old| &old["metadata"]).clone();
        for field in ["uid", "generation", "creationTimestamp", "resourceVersion"] {
            if old.is_none() && field == "creationTimestamp" && object["metadata"][field].is_string() {
                continue;
            }
            object["metadata"][field] = kept[field].clone();
        }
        if let Some(namespace) = &at.namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if let Some(old) = old {
            if *old == object {
                return object;
            }
            if old["spec"] != object["spec"] {
                let generation = meta(old, "generation").as_u64().expect("a number");
                object["metadata"]["generation"] = json!(generation + 1);
            }
        } else {
            self.uids += 1;
        }
        let what = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(at.clone(), object.clone());
        self.happened(at, what, object.clone());
        object
    }

    fn delete(&mut self, at: &At) {
        if let Some(mut object) = self.objects.remove(at) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.applied.retain(|(of, ..), _| of != at);
            self.happened(at, "DELETED", object);
        }
    }

    fn happened(&mut self, at: &At, what: &'static str, object: Value) {
        let (version, resource) = (self.version, at.resource.clone());
        self.history.push(Happened { version, resource, what, object });
    }
}

/// Whether uid and version are those that the caller means, where it says so.
fn check(object: &Value, meant: &Value) -> Result<(), Refusal> {
    for field in ["uid", "resourceVersion"] {
        let (has, meant) = (&object["metadata"][field], &meant[field]);
        if meant.as_str().is_some_and(|meant| !meant.is_empty() && has.as_str() != Some(meant)) {
            return Err(Refusal::conflict(format!("{field} is {has}, not {meant}")));
        }
    }
    Ok(())
}

/// Of our own resources the status is a part of its own.
fn has_status_part(request: &Request) -> bool {
    request.api_version.starts_with("splitmirror.io/") || request.subresource.is_some()
}

fn without_status(mut object: Value, request: &Request) -> Value {
    if has_status_part(request)
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    object
}

/// Only the status, or all but the status, as the request says.
fn only_part(old: &Value, new: Value, request: &Request) -> Value {
    if !has_status_part(request) {
        return new;
    }
    let (mut kept, from) =
        if request.subresource.is_some() { (old.clone(), new) } else { (new, old.clone()) };
    let fields = kept.as_object_mut().expect("an object");
    match from.get("status") {
        Some(status) => {
            fields.insert("status".to_owned(), status.clone());
        }
        None => {
            fields.remove("status");
        }
    }
    kept
}

/// Whether an object is one that the request selects.
pub fn selected(object: &Value, request: &Request) -> bool {
    let pointer = |path: &str| format!("/{}", path.replace('.', "/"));
    let right = |(path, value): &(String, String)| {
        object.pointer(&pointer(path)).and_then(Value::as_str) == Some(value)
    };
    let namespace = object["metadata"]["namespace"].as_str();
    request.fields.iter().all(right)
        && request.namespace.as_deref().is_none_or(|wanted| namespace == Some(wanted))
}

/// Whose token it is, when it was made for one of the audiences that are asked for.
fn reviewed(review: &Value) -> Value {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let asked = |audience: &str| {
        review["spec"]["audiences"].as_array().is_some_and(|all| all.iter().any(|one| one == audience))
    };
    let status = match token.split_once(" for ").filter(|(_, audience)| asked(audience)) {
        Some((user, audience)) => {
            json!({"authenticated": true, "audiences": [audience], "user": {"username": user}})
        }
        None => json!({"error": "it is no token"}),
    };
    json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "metadata": {},
           "spec": review["spec"], "status": status})
}
