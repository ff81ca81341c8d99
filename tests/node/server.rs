//! The API server in memory is what the other tests take it for.

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher;
use serde_json::json;

use crate::api::{ApiServer, Failure};

fn lease(name: &str, holder: &str) -> Lease {
    let lease = json!({"metadata": {"name": name}, "spec": {"holderIdentity": holder}});
    serde_json::from_value(lease).expect("a lease")
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

#[tokio::test]
async fn objects_are_made_applied_and_removed_with_preconditions() {
    let server = ApiServer::default();
    let leases: Api<Lease> = Api::namespaced(server.client(), "ns");
    let made = leases.create(&PostParams::default(), &lease("a", "me")).await.expect("made");
    let again = leases.create(&PostParams::default(), &lease("a", "me")).await;
    assert!(matches!(again, Err(kube::Error::Api(status)) if status.code == 409));
    let apply =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"holderIdentity": "you"}});
    let applied =
        leases.patch("a", &PatchParams::apply("test"), &Patch::Apply(&apply)).await.expect("applied");
    assert_eq!(holder(&applied), Some("you"));
    assert_eq!((made.metadata.generation, applied.metadata.generation), (Some(1), Some(2)));
    let same = leases.patch("a", &PatchParams::apply("test"), &Patch::Apply(&apply)).await.expect("applied");
    assert_eq!(same.metadata.resource_version, applied.metadata.resource_version, "nothing has changed");
    let old = Preconditions { resource_version: made.metadata.resource_version, uid: None };
    let refused = leases.delete("a", &DeleteParams::default().preconditions(old)).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 409));
    let right = Preconditions { uid: made.metadata.uid, resource_version: None };
    leases.delete("a", &DeleteParams::default().preconditions(right)).await.expect("the same object");
    assert!(matches!(leases.get("a").await, Err(kube::Error::Api(status)) if status.code == 404));
    let lines: Vec<String> = server.requests().iter().map(|request| request.line()).collect();
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert_eq!(lines[2], "PATCH leases/a");
}

#[tokio::test]
async fn a_watch_tells_what_happens_and_comes_back_after_an_outage() {
    let server = ApiServer::default();
    server.put("leases", &lease("a", "me"));
    let config = watcher::Config::default().fields("spec.holderIdentity=me");
    let mut events = watcher(Api::<Lease>::all(server.client()), config).boxed();
    let mut next = async || loop {
        match events.next().await.expect("it never ends") {
            Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => {
                return lease.metadata.name.expect("named");
            }
            Ok(watcher::Event::Delete(lease)) => {
                return format!("no {}", lease.metadata.name.expect("named"));
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(_) => server.down(false),
        }
    };
    assert_eq!(next().await, "a");
    server.put("leases", &lease("x", "you"));
    server.put("leases", &lease("b", "me"));
    assert_eq!(next().await, "b", "what another one holds is not selected");
    server.down(true);
    server.put("leases", &lease("c", "me"));
    assert_eq!(next().await, "c", "what happened meanwhile is told");
    server.remove("leases", "b");
    assert_eq!(next().await, "no b");
}

#[tokio::test]
async fn faults_hit_what_they_are_meant_for_and_are_told_apart() {
    let server = ApiServer::default();
    let leases: Api<Lease> = Api::namespaced(server.client(), "ns");
    server.fail(Failure::Status(500), 1, |request| request.method == http::Method::POST);
    let make = |name: &'static str| {
        let leases = leases.clone();
        async move { leases.create(&PostParams::default(), &lease(name, "me")).await }
    };
    assert!(matches!(make("a").await, Err(kube::Error::Api(status)) if status.code == 500));
    assert!(server.get("leases", "a").is_none());
    server.fail(Failure::AnswerLost, 1, |request| request.is_write());
    assert!(matches!(make("a").await, Err(kube::Error::Service(_))));
    assert!(server.get("leases", "a").is_some());
    make("b").await.expect("the faults are used up");
    server.down(true);
    assert!(leases.get("a").await.is_err());
}
