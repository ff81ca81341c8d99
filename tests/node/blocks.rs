//! The controller, and nobody else, is told the blocks of snapshots.

use serde_json::json;
use splitmirror::csi::backend::{BlocksWish, Deadline, Error, Parts as _};
use splitmirror::csi::remote::{AUDIENCE, AgentAddress, Listener, Remote};
use splitmirror::report::Class;
use splitmirror::units::Bytes;

use crate::harness::{Agent, CONTROLLER, Machine, NODE, VG};

const BLOCK: Bytes = Bytes::kib(4);
const POOL: &str = "node-a.vg";

fn machine() -> Machine {
    Machine { tells_blocks: true, ..Machine::with_pool() }
}

fn write(machine: &Machine, block: u64) {
    let sector = (BLOCK * block).sectors_floor();
    machine.host.write_volume("vg-pvc--1", sector, 7).expect("writable");
}

/// A volume with two snapshots: block 3 was written before the first, blocks 1, 10 and 11 between the two.
async fn two_snapshots(machine: &Machine, agent: &Agent<'_>) {
    machine.ask_for_volume("pvc-1");
    agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
    write(machine, 3);
    machine.ask_for_snapshot("pvc-1", "snap-1");
    agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
    for block in [1, 10, 11] {
        write(machine, block);
    }
    machine.ask_for_snapshot("pvc-1", "snap-2");
    agent.phase("mirrorsnapshots", "snap-2", "Ready").await;
}

/// Where the pool's object says that the agent is.
async fn address(machine: &Machine) -> AgentAddress {
    machine
        .server
        .until("an agent's address", |server| {
            let agent = server.get("mirrorpools", POOL)?["status"]["agent"].clone();
            let address = agent["address"].as_str()?.parse().expect("an address");
            Some(AgentAddress { address, certificate: agent["certificate"].as_str()?.to_owned() })
        })
        .await
}

fn token(user: &str, audience: &str) -> String {
    format!("{user} for {audience}")
}

fn wish(snapshot: &str, base: Option<&str>, from: Bytes) -> BlocksWish {
    BlocksWish { snapshot: snapshot.to_owned(), base: base.map(str::to_owned), from }
}

/// All blocks that somebody with this token is told: from and to which.
async fn asked(agent: &AgentAddress, token: &str, wish: &BlocksWish) -> Result<Vec<(u64, u64)>, Error> {
    let mut parts = Remote::connect(NODE, agent, token).await?.blocks(wish, Deadline::default()).await?;
    let mut all = Vec::new();
    while let Some(part) = parts.next().await? {
        assert_eq!(part.size, Bytes::mib(2));
        all.extend(part.ranges.iter().map(|range| (range.start.0 / BLOCK.0, range.end.0 / BLOCK.0)));
    }
    Ok(all)
}

#[test]
fn the_controller_is_told_what_differs_and_what_holds_anything_from_any_place_on() {
    let machine = machine();
    machine.life(async |agent| {
        two_snapshots(&machine, agent).await;
        let (at, token) = (address(&machine).await, token(CONTROLLER, AUDIENCE));
        let told = async |base, from| asked(&at, &token, &wish("snap-2", base, from)).await.expect("told");
        assert_eq!(told(Some("snap-1"), Bytes::ZERO).await, [(1, 2), (10, 12)]);
        assert_eq!(told(Some("snap-1"), BLOCK * 2).await, [(10, 12)]);
        assert_eq!(told(None, Bytes::ZERO).await, [(1, 2), (3, 4), (10, 12)]);
        assert_eq!(told(None, Bytes::mib(2)).await, []);
    });
    machine.check();
}

#[test]
fn what_is_wrong_with_a_request_keeps_its_class_on_the_way() {
    let machine = machine();
    machine.life(async |agent| {
        two_snapshots(&machine, agent).await;
        let (at, token) = (address(&machine).await, token(CONTROLLER, AUDIENCE));
        let refused = async |wish| asked(&at, &token, &wish).await.expect_err("refused");
        let error = refused(wish("other", None, Bytes::ZERO)).await;
        assert_eq!(error.class, Class::NotFound, "{error}");
        assert!(error.message.contains("other"), "{error}");
        let error = refused(wish("snap-2", Some("other"), Bytes::ZERO)).await;
        assert_eq!(error.class, Class::NotFound, "{error}");
        let error = refused(wish("snap-2", None, Bytes::mib(3))).await;
        assert_eq!(error.class, Class::OutOfRange, "{error}");
    });
}

#[test]
fn whoever_is_not_the_controller_learns_nothing() {
    let machine = machine();
    machine.life(async |agent| {
        two_snapshots(&machine, agent).await;
        let at = address(&machine).await;
        for (token, says) in [
            (token("system:serviceaccount:ns:other", AUDIENCE), "only the controller is told"),
            (token(CONTROLLER, "https://kubernetes.default.svc"), "a token of the controller is needed"),
            ("forged".to_owned(), "a token of the controller is needed"),
        ] {
            let mut told = Vec::new();
            for snapshot in ["snap-1", "there is no such"] {
                let error =
                    asked(&at, &token, &wish(snapshot, None, Bytes::ZERO)).await.expect_err("refused");
                assert!(error.message.ends_with(says), "{token}: {error}");
                told.push(error);
            }
            assert_eq!(told[0], told[1], "it is not told whether there is such a snapshot");
        }
        machine.server.down(true);
        let token = token(CONTROLLER, AUDIENCE);
        let error = asked(&at, &token, &wish("snap-1", None, Bytes::ZERO)).await.expect_err("unknown");
        assert!(error.message.contains("cannot be known now"), "{error}");
    });
}

#[test]
fn an_agent_with_another_certificate_is_not_asked() {
    let machine = machine();
    machine.life(async |agent| {
        two_snapshots(&machine, agent).await;
        let at = address(&machine).await;
        let other = Listener::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
        let forged = AgentAddress { certificate: other.address().certificate, ..at };
        machine.server.clear_log();
        let token = token(CONTROLLER, AUDIENCE);
        let error = asked(&forged, &token, &wish("snap-1", None, Bytes::ZERO)).await.expect_err("refused");
        assert_eq!(error.class, Class::Transient);
        assert!(error.message.contains("certificate"), "{error}");
        let reviews = machine.server.requests();
        assert!(reviews.iter().all(|request| request.resource != "tokenreviews"), "no token was shown");
    });
}

#[test]
fn an_agent_tells_its_new_certificate_after_a_restart_and_none_when_it_tells_no_blocks() {
    let mut machine = machine();
    machine.server.put(
        "mirrorpools",
        &json!({"apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorPool", "metadata": {"name": POOL},
                "spec": {"node": NODE, "volumeGroup": VG}}),
    );
    let first = machine.life(async |_| address(&machine).await);
    machine.killed();
    let second = machine.life(async |_| {
        let is_new = |server: &crate::api::ApiServer| {
            let agent = server.get("mirrorpools", POOL)?["status"]["agent"]["certificate"].clone();
            (agent != first.certificate.as_str()).then_some(agent)
        };
        machine.server.until("a new certificate", is_new).await
    });
    assert!(second.is_string());
    machine.killed();
    machine.tells_blocks = false;
    machine.life(async |_| {
        let is_gone = |server: &crate::api::ApiServer| {
            server.get("mirrorpools", POOL)?["status"]["agent"].is_null().then_some(())
        };
        machine.server.until("no address", is_gone).await;
    });
}
