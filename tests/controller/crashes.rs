//! The controller is killed at each of its requests, or there are two of it.

use tonic::Code;

use crate::detached::{detached, known};
use crate::harness::{Cluster, Driver, refused, volume};

/// Kills the controller at each request of an operation in turn, before and after it is done, and repeats the operation
/// in the next life. `check` looks at what is there then.
pub fn killed_at_each_request(
    prepare: impl AsyncFn(&mut Driver<'_>),
    operation: impl AsyncFn(&mut Driver<'_>),
    check: impl Fn(&Cluster),
) {
    let mut cuts = 0;
    for at in 0.. {
        let mut reached = false;
        for done in [false, true] {
            let cluster = Cluster::new();
            cluster.life(async |driver| {
                prepare(driver).await;
                cluster.server.freeze(at, done);
                let frozen = async {
                    let frozen = |server: &crate::api::ApiServer| server.is_frozen().then_some(());
                    cluster.server.until("the cut", frozen).await;
                };
                tokio::select! { () = operation(driver) => {} () = frozen => {} }
            });
            if cluster.server.thaw() {
                (reached, cuts) = (true, cuts + 1);
            }
            cluster.life(async |driver| operation(driver).await);
            check(&cluster);
        }
        if !reached {
            break;
        }
    }
    assert!(cuts > 0, "the operation makes no request");
}

#[test]
fn a_volume_is_made_once_wherever_the_controller_dies() {
    killed_at_each_request(
        async |_| {},
        async |driver| drop(driver.volume("pvc-1").await),
        |cluster| {
            assert_eq!(cluster.server.list("mirrorvolumes").len(), 1);
            assert_eq!(cluster.get("mirrorvolumes", "pvc-1").expect("made")["status"]["size"], "64Mi");
        },
    );
}

#[test]
fn a_snapshot_is_made_once_wherever_the_controller_dies() {
    killed_at_each_request(
        async |driver| drop(driver.volume("pvc-1").await),
        async |driver| drop(driver.snapshot("s", "pvc-1").await),
        |cluster| assert_eq!(cluster.server.list("mirrorsnapshots").len(), 1),
    );
}

#[test]
fn what_is_deleted_is_gone_wherever_the_controller_dies() {
    killed_at_each_request(
        async |driver| {
            driver.volume("pvc-1").await;
            driver.snapshot("s", "pvc-1").await;
        },
        async |driver| {
            driver.merge("s").await.expect("no view shows it");
            driver.delete("pvc-1").await.expect("nobody uses it");
        },
        |cluster| {
            assert!(cluster.server.list("mirrorvolumes").is_empty());
            assert!(cluster.server.list("mirrorsnapshots").is_empty());
        },
    );
}

#[test]
fn a_volume_grows_wherever_the_controller_dies() {
    killed_at_each_request(
        async |driver| drop(driver.volume("pvc-1").await),
        async |driver| {
            assert_eq!(driver.expand("pvc-1", 128 << 20, 0).await.expect("there is room"), 128 << 20);
        },
        |cluster| {
            assert_eq!(
                cluster.get("mirrorvolumes", "pvc-1").expect("it is there")["status"]["size"],
                "128Mi"
            );
        },
    );
}

#[test]
fn a_snapshot_becomes_one_volume_wherever_the_controller_dies() {
    killed_at_each_request(
        async |driver| {
            driver.volume("pvc-1").await;
            driver.snapshot("s", "pvc-1").await;
        },
        async |driver| {
            driver.create(detached("pvc-2", "s")).await.expect("there is room");
            known(driver).await;
            driver.merge("s").await.expect("nothing is left of it");
            driver.delete("pvc-1").await.expect("it has no snapshot any more");
        },
        |cluster| {
            assert_eq!(cluster.server.list("mirrorvolumes").len(), 1);
            assert!(cluster.get("mirrorvolumes", "pvc-2").is_some());
            assert!(cluster.server.list("mirrorsnapshots").is_empty());
        },
    );
}

#[test]
fn two_controllers_that_are_asked_at_once_make_one_volume() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        let mut other = cluster.replica("other.sock").await;
        let (first, second) = tokio::join!(driver.volume("pvc-1"), other.volume("pvc-1"));
        assert_eq!(first, second);
        assert_eq!(cluster.server.list("mirrorvolumes").len(), 1);
        let (first, second) = tokio::join!(driver.snapshot("s", "pvc-1"), other.snapshot("s", "pvc-1"));
        assert_eq!(first, second);
        let (first, second) = tokio::join!(driver.merge("s"), other.merge("s"));
        assert!(first.is_ok() && second.is_ok());
        let (first, second) = tokio::join!(driver.delete("pvc-1"), other.delete("pvc-1"));
        assert!(first.is_ok() && second.is_ok());
        assert!(cluster.server.list("mirrorvolumes").is_empty());
        other.stop().await;
    });
}

#[test]
fn of_two_different_wishes_under_one_name_one_is_granted() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        let mut other = cluster.replica("other.sock").await;
        let mut two = volume("pvc-1");
        two.parameters.insert("splitmirror.io/images".to_owned(), "2".to_owned());
        let (first, second) = tokio::join!(driver.create(volume("pvc-1")), other.create(two));
        let (granted, refusals): (Vec<_>, Vec<_>) = [first, second].into_iter().partition(Result::is_ok);
        assert_eq!(granted.len(), 1);
        for refusal in refusals {
            refused(refusal, Code::AlreadyExists, "exists and has other images");
        }
    });
}

#[test]
fn what_another_controller_has_had_deleted_is_not_told_from_memory() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        let uid = || cluster.get("mirrorvolumes", "pvc-1").map(|v| v["metadata"]["uid"].clone());
        let first = uid();
        cluster.server.hold_watches(&["mirrorvolumes"]);
        cluster.server.remove("mirrorvolumes", "pvc-1");
        let (again, ()) = tokio::join!(driver.create(volume("pvc-1")), async {
            cluster.server.until("the object", |_| uid()).await;
            cluster.server.hold_watches(&[]);
        });
        again.expect("there is room");
        assert!(uid().is_some() && uid() != first);
    });
}

#[test]
fn a_controller_that_stops_answers_the_calls_that_wait() {
    let cluster = Cluster::new();
    cluster.nodes.act(crate::nodes::Act::Ignore);
    cluster.life(async |driver| {
        let other = cluster.replica("other.sock").await;
        let mut client = other.controller.clone();
        let before = tokio::time::Instant::now();
        let (answer, ()) = tokio::join!(client.create_volume(volume("pvc-1")), async {
            cluster.server.until("the object", |server| server.get("mirrorvolumes", "pvc-1")).await;
            other.ask_to_stop();
        });
        refused(answer, Code::Aborted, "try again");
        assert!(before.elapsed().as_secs() < 5, "{:?}", before.elapsed());
        other.stop().await;
        cluster.nodes.act(crate::nodes::Act::Obey);
        driver.volume("pvc-1").await;
    });
}
