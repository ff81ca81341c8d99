//! Watches end, answers are lost, the API server is away.

use http::Method;
use splitmirror::csi::proto::{GetPluginInfoRequest, ListVolumesRequest, ProbeRequest};
use tonic::Code;

use crate::api::{ApiServer, Failure};
use crate::harness::{Cluster, refused, volume};
use crate::nodes::Act;

#[test]
fn a_watch_that_ends_is_taken_up_again_and_what_is_waited_for_is_seen() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        for n in 0..3 {
            let name = format!("pvc-{n}");
            cluster.nodes.act(Act::Ignore);
            let (created, ()) = tokio::join!(driver.create(volume(&name)), async {
                cluster.server.until("the object", |server| server.get("mirrorvolumes", &name)).await;
                match n {
                    0 => cluster.server.forget(),
                    1 => {
                        cluster.server.down(true);
                        cluster.server.down(false);
                    }
                    _ => {}
                }
                cluster.nodes.act(Act::Obey);
            });
            created.expect("it was made");
        }
    });
}

#[test]
fn what_went_unseen_while_the_watch_was_away_is_found_out() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        cluster.server.hold_watches(&["mirrorvolumes"]);
        let (deleted, ()) = tokio::join!(driver.delete("pvc-1"), async {
            let gone = |server: &ApiServer| server.get("mirrorvolumes", "pvc-1").is_none().then_some(());
            cluster.server.until("the removal", gone).await;
            cluster.server.forget();
            cluster.server.hold_watches(&[]);
        });
        deleted.expect("it is gone");
        // Made and removed again, and no watch ever told.
        cluster.nodes.act(Act::Ignore);
        cluster.server.hold_watches(&["mirrorvolumes"]);
        let (created, ()) = tokio::join!(driver.create(volume("pvc-2")), async {
            cluster.server.until("the object", |server| server.get("mirrorvolumes", "pvc-2")).await;
            cluster.server.remove("mirrorvolumes", "pvc-2");
            cluster.nodes.act(Act::Obey);
            cluster.server.forget();
            cluster.server.hold_watches(&[]);
        });
        created.expect("it is made anew");
    });
}

#[test]
fn a_lost_answer_does_not_make_two_of_one() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        cluster.server.fail(Failure::AnswerLost, 1, |request| request.method == Method::POST);
        driver.volume("pvc-1").await;
        cluster.server.fail(Failure::AnswerLost, 1, |request| request.method == Method::PATCH);
        driver.delete("pvc-1").await.expect("nobody uses it");
    });
    assert!(cluster.server.list("mirrorvolumes").is_empty());
}

#[test]
fn a_server_that_fails_for_a_moment_is_asked_again() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        cluster.server.fail(Failure::Status(503), 3, |request| request.method == Method::POST);
        cluster.server.fail(Failure::Refused, 2, |request| request.method == Method::PATCH);
        driver.volume("pvc-1").await;
        driver.delete("pvc-1").await.expect("nobody uses it");
    });
}

#[test]
fn while_the_server_is_away_a_creation_is_not_called_failed() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        cluster.server.down(true);
        refused(driver.create(volume("pvc-1")).await, Code::Aborted, "connection refused");
        cluster.server.down(false);
        driver.volume("pvc-1").await;
        cluster.server.down(true);
        let deleting = driver.delete("pvc-1");
        let (deleted, ()) = tokio::join!(deleting, async {
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
            cluster.server.down(false);
        });
        deleted.expect("the server came back");
    });
}

#[test]
fn a_controller_that_does_not_reach_the_server_at_its_start_tells_its_callers_to_wait() {
    let cluster = Cluster::new();
    cluster.life(async |_| {
        cluster.server.down(true);
        let mut late = cluster.started("late.sock").await;
        late.identity.get_plugin_info(GetPluginInfoRequest {}).await.expect("who it is, it knows");
        let mut ready = async || {
            let probe = late.identity.probe(ProbeRequest {}).await.expect("an answer");
            probe.into_inner().ready.expect("told")
        };
        assert!(!ready().await);
        let mut client = late.controller.clone();
        let unknown = "has not told of all objects yet: try again";
        refused(client.create_volume(volume("pvc-1")).await, Code::Aborted, unknown);
        refused(client.list_volumes(ListVolumesRequest::default()).await, Code::Aborted, unknown);
        cluster.server.down(false);
        client.create_volume(volume("pvc-1")).await.expect("there is room");
        assert!(ready().await);
        late.stop().await;
    });
}

#[test]
fn a_refusal_of_the_server_is_told_as_it_is() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        cluster.server.fail(Failure::Status(403), 1, |request| request.method == Method::POST);
        refused(driver.create(volume("pvc-1")).await, Code::FailedPrecondition, "a fault of the test");
        cluster.server.fail(Failure::Status(422), 1, |request| request.method == Method::POST);
        refused(driver.create(volume("pvc-1")).await, Code::InvalidArgument, "a fault of the test");
    });
}

#[test]
fn an_object_that_cannot_be_read_does_not_hide_the_others() {
    let cluster = Cluster::new();
    let odd = serde_json::json!({"apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorVolume",
        "metadata": {"name": "odd"}, "spec": {"node": "a", "pool": "not/a/name", "size": "much"}});
    cluster.nodes.act_on("odd", Act::Ignore);
    cluster.server.put("mirrorvolumes", &odd);
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.delete("pvc-1").await.expect("nobody uses it");
    });
}
