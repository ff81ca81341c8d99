//! An API server in memory, for the tests of the controller and of the node agents: a real `kube::Client` talks to it.
//!
//! | of the real one | here |
//! |---|---|
//! | get, list, create, replace, delete with preconditions | yes |
//! | server-side apply, merge patch | yes; lists are replaced whole, but for sets; managers never conflict |
//! | status subresource, generation, resourceVersion, uid | yes; what changes nothing is no new version |
//! | watch, field selectors `metadata.name` and `spec.*` | yes; what has happened is never forgotten |
//! | token reviews | of tokens that say `USER for AUDIENCE` |
//! | schemas, CEL, defaults, finalizers, RBAC | no: those are tested against the real one |
//!
//! It counts requests, and fails them when a test asks for it.

mod patch;
mod request;
mod store;
mod watch;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use serde_json::{Value, json};
use tower::BoxError;

pub use request::Request;
use store::{Refusal, Store};

type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is answered with this status, and not done.
    Status(u16),
    /// The connection is lost before it is done.
    Refused,
    /// It is done, and the connection is lost before the answer.
    AnswerLost,
}

/// Requests that are to fail.
struct Fault {
    hits: Box<dyn Fn(&Request) -> bool + Send>,
    failure: Failure,
    times: usize,
}

#[derive(Default)]
struct State {
    store: Store,
    log: Vec<Request>,
    faults: VecDeque<Fault>,
    down: bool,
    /// Bumped when the server goes down: watches that were open end.
    epoch: u64,
    /// Watches cannot begin before this version.
    forgotten: u64,
    /// Watches of these resources tell nothing.
    held: Vec<String>,
    freeze: Option<Freeze>,
}

/// From one request on none is answered any more, as if whoever asks were dead.
#[derive(Clone, Copy)]
struct Freeze {
    /// The one so many from now is the first that is not answered; none is at zero.
    left: u64,
    /// The first that is not answered is done all the same.
    done: bool,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    /// Bumped with every change, so that watches and tests can wait for one.
    changes: tokio::sync::watch::Sender<u64>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self { state: Arc::default(), changes: tokio::sync::watch::Sender::new(0) }
    }
}

impl ApiServer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// A client of it.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move { server.serve(request).await }
        });
        kube::Client::new(service, "splitmirror")
    }

    /// All requests since the log was last cleared.
    pub fn requests(&self) -> Vec<Request> {
        self.state().log.clone()
    }

    /// Requests that change something, events and leases not counted.
    pub fn writes(&self) -> Vec<Request> {
        let counts = |request: &Request| {
            request.is_write() && !["events", "leases", "tokenreviews"].contains(&request.resource.as_str())
        };
        self.state().log.iter().filter(|request| counts(request)).cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.state().log.clear();
    }

    /// Lets the next `times` requests that `hits` picks fail.
    pub fn fail(&self, failure: Failure, times: usize, hits: impl Fn(&Request) -> bool + Send + 'static) {
        self.state().faults.push_back(Fault { hits: Box::new(hits), failure, times });
    }

    /// Takes the server down, or up again. Watches that are open end.
    pub fn down(&self, down: bool) {
        let mut state = self.state();
        state.down = down;
        state.epoch += 1;
        drop(state);
        self.changed();
    }

    /// Forgets what has happened: watches that are open end, and cannot be taken up again.
    pub fn forget(&self) {
        let mut state = self.state();
        state.forgotten = state.store.version();
        state.epoch += 1;
        drop(state);
        self.changed();
    }

    /// Holds back what watches of these resources have to tell; those of others tell it.
    pub fn hold_watches(&self, resources: &[&str]) {
        self.state().held = resources.iter().map(|resource| (*resource).to_owned()).collect();
        self.changed();
    }

    /// Bumped with every change.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Answers so many requests (watches not counted) and then none, until it is thawed. The first that is not answered is
    /// done or not.
    pub fn freeze(&self, after: u64, done: bool) {
        self.state().freeze = Some(Freeze { left: after + 1, done });
    }

    /// Answers again; whether it had stopped to.
    pub fn thaw(&self) -> bool {
        self.state().freeze.take().is_some_and(|freeze| freeze.left == 0)
    }

    /// Whether it has stopped answering.
    pub fn is_frozen(&self) -> bool {
        self.state().freeze.is_some_and(|freeze| freeze.left == 0)
    }

    /// An object, as JSON.
    pub fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.state().store.find(resource, name).cloned()
    }

    /// All objects of a resource, as JSON.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        self.state().store.all(resource).cloned().collect()
    }

    /// Makes or replaces an object, as somebody who is not counted.
    pub fn put(&self, resource: &str, object: &impl serde::Serialize) -> Value {
        let object = serde_json::to_value(object).expect("plain data");
        let stored = self.state().store.put(resource, object);
        self.changed();
        stored
    }

    /// Merges a patch into an object, as somebody who is not counted.
    pub fn merge(&self, resource: &str, name: &str, patch: &Value) {
        let mut state = self.state();
        let mut object = state.store.find(resource, name).expect("an object").clone();
        patch::merge(&mut object, patch);
        state.store.put(resource, object);
        drop(state);
        self.changed();
    }

    /// Removes an object, as somebody who is not counted.
    pub fn remove(&self, resource: &str, name: &str) {
        self.state().store.remove(resource, name);
        self.changed();
    }

    /// Loses all objects of all kinds, and tells the watches.
    pub fn wipe(&self) {
        self.state().store.wipe();
        self.changed();
    }

    /// Waits until `ready` is content.
    ///
    /// # Panics
    /// When it is not after a long time.
    pub async fn until<T>(&self, what: &str, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = ready(self) {
                    return found;
                }
                changes.changed().await.expect("the server holds the sender");
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(600), wait).await {
            Ok(found) => found,
            Err(_) => panic!("{what} does not come; the objects are {:#}", self.dump()),
        }
    }

    fn dump(&self) -> Value {
        self.state().store.dump()
    }

    async fn serve(&self, request: http::Request<Body>) -> Result<Response<AnyBody>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let request = Request::read(&parts, &body)?;
        // Every answer takes a turn, as over a network.
        tokio::task::yield_now().await;
        if request.watch {
            let (refused, epoch) = {
                let mut state = self.state();
                state.log.push(request.clone());
                (state.down, state.epoch)
            };
            if refused {
                return Err("connection refused".into());
            }
            return Ok(Response::new(watch::body(self.clone(), &request, epoch)));
        }
        if self.freezes(&request) {
            self.changed();
            return std::future::pending().await;
        }
        let (failure, answer) = {
            let mut state = self.state();
            if state.down {
                return Err("connection refused".into());
            }
            let failure = state.failure(&request);
            if failure == Some(Failure::Refused) {
                return Err("connection reset by peer".into());
            }
            state.log.push(request.clone());
            let answer = match failure {
                Some(Failure::Status(code)) => Err(Refusal::new(code, "Injected", "a fault of the test")),
                Some(Failure::Refused | Failure::AnswerLost) | None => state.store.answer(&request),
            };
            (failure, answer)
        };
        if request.is_write() {
            self.changed();
        }
        if failure == Some(Failure::AnswerLost) {
            return Err("connection reset by peer".into());
        }
        Ok(match answer {
            Ok(object) => response(StatusCode::OK, &object),
            Err(refusal) => response(refusal.code, &refusal.status()),
        })
    }
}

impl ApiServer {
    /// Whether a request is not answered; the first of them may be done.
    fn freezes(&self, request: &Request) -> bool {
        let mut state = self.state();
        let Some(freeze) = &mut state.freeze else { return false };
        match freeze.left {
            0 => true,
            1 => {
                freeze.left = 0;
                if freeze.done {
                    drop(state.store.answer(request));
                }
                true
            }
            _ => {
                freeze.left -= 1;
                false
            }
        }
    }
}

impl State {
    fn failure(&mut self, request: &Request) -> Option<Failure> {
        let fault = self.faults.iter_mut().find(|fault| fault.times > 0 && (fault.hits)(request))?;
        fault.times -= 1;
        Some(fault.failure)
    }
}

fn response(code: StatusCode, object: &Value) -> Response<AnyBody> {
    let body = Full::new(Bytes::from(object.to_string()));
    let body = body.map_err(|never: Infallible| match never {}).boxed_unsync();
    let built = Response::builder().status(code).header("content-type", "application/json").body(body);
    built.expect("a status and a header")
}

/// The object that an answer to a deletion is.
fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200})
}

/// Whether a method changes something.
fn changes(method: &Method) -> bool {
    *method != Method::GET
}
