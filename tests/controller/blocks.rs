//! The blocks of snapshots, which the controller has from their nodes' agents.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use splitmirror::csi::backend::{BlocksWish, ChangedBlocks, Deadline, Error, Part, Parts, Result};
use splitmirror::csi::calls::Calls;
use splitmirror::csi::proto::plugin_capability::Type;
use splitmirror::csi::proto::plugin_capability::service::Type as Service;
use splitmirror::csi::proto::{
    GetMetadataAllocatedRequest, GetMetadataDeltaRequest, GetPluginCapabilitiesRequest,
};
use splitmirror::csi::remote::{self, Admission, AgentAddress, Doorkeeper, Listener};
use splitmirror::metrics::Operations;
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use crate::harness::{Cluster, Driver, refused};

const BLOCK: Bytes = Bytes::kib(4);
/// Parts of the snapshot that is told, each of this many blocks.
const PARTS: u64 = 3;
const BLOCKS: u64 = 5;

/// What an agent was asked.
type Asked = Arc<Mutex<Vec<(String, BlocksWish, Deadline)>>>;

/// An agent that lets everybody in, and tells the same blocks of each snapshot; or fails.
struct Agent {
    asked: Asked,
    token: Arc<Mutex<String>>,
    error: Option<Error>,
    /// It tells blocks without end, and then that nobody listens any more.
    endless: Option<UnboundedSender<()>>,
}

struct Door(Arc<Mutex<String>>);

impl Doorkeeper for Door {
    async fn admit(&self, token: &str) -> Result<Admission> {
        *self.0.lock().expect("no panic") = token.to_owned();
        Ok(if token == "stale" { Admission::Nobody } else { Admission::Admitted })
    }
}

struct Told {
    next: u64,
    end: u64,
    ended: Option<UnboundedSender<()>>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(ended) = &self.ended {
            ended.send(()).ok();
        }
    }
}

impl Parts for Told {
    async fn next(&mut self) -> Result<Option<Part>> {
        let part = self.next;
        self.next += 1;
        let at = |n: u64| BLOCK * (2 * (BLOCKS * part + n));
        let ranges = (0..BLOCKS).map(|n| at(n)..at(n) + BLOCK).collect();
        Ok((part < self.end).then_some(Part { size: Bytes::mib(64), ranges }))
    }
}

impl ChangedBlocks for Agent {
    type Parts = Told;

    async fn blocks(&self, wish: &BlocksWish, deadline: Deadline) -> Result<Told> {
        let token = self.token.lock().expect("no panic").clone();
        self.asked.lock().expect("no panic").push((token, wish.clone(), deadline));
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let end = if self.endless.is_some() { u64::MAX } else { PARTS };
        Ok(Told { next: 0, end, ended: self.endless.clone() })
    }
}

/// Starts an agent; where it is, and what it is asked.
async fn agent(error: Option<Error>, endless: Option<UnboundedSender<()>>) -> (AgentAddress, Asked) {
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let (address, asked, token) = (listener.address(), Asked::default(), Arc::default());
    let agent = Agent { asked: Arc::clone(&asked), token: Arc::clone(&token), error, endless };
    let calls = Calls::new(Operations::default());
    tokio::spawn(remote::serve(listener, Arc::new(agent), calls, Door(token), CancellationToken::new()));
    (address, asked)
}

/// Node `b`, where there is most room, tells where its agent is.
async fn told(driver: &Driver<'_>, agent: &AgentAddress) {
    let status = json!({"agent": {"address": agent.address.to_string(), "certificate": agent.certificate}});
    driver.cluster.server.merge("mirrorpools", "b.fast", &json!({"status": status}));
    // The watch has told of it when it has told of what came later.
    driver.cluster.server.until("rest", |_| Some(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn two_snapshots(driver: &mut Driver<'_>) {
    std::fs::write(driver.cluster.token(), "fresh\n").expect("room");
    driver.volume("pvc-1").await;
    driver.snapshot("snap-1", "pvc-1").await;
    driver.snapshot("snap-2", "pvc-1").await;
}

fn delta(from: i64, most: i32) -> GetMetadataDeltaRequest {
    GetMetadataDeltaRequest {
        base_snapshot_id: "snap-1".into(),
        target_snapshot_id: "snap-2".into(),
        starting_offset: from,
        max_results: most,
        ..GetMetadataDeltaRequest::default()
    }
}

fn allocated(snapshot: &str) -> GetMetadataAllocatedRequest {
    GetMetadataAllocatedRequest { snapshot_id: snapshot.into(), ..GetMetadataAllocatedRequest::default() }
}

#[test]
fn what_the_agent_tells_is_passed_on_in_messages_of_the_callers_size() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        two_snapshots(driver).await;
        let (address, asked) = agent(None, None).await;
        told(driver, &address).await;
        let mut request = Request::new(delta(4096, 2));
        request.set_timeout(Duration::from_secs(300));
        let mut stream = driver.metadata.get_metadata_delta(request).await.expect("it begins").into_inner();
        let mut tuples = Vec::new();
        while let Some(message) = stream.message().await.expect("it goes on") {
            assert!(message.block_metadata.len() <= 2);
            assert_eq!(message.volume_capacity_bytes, 64 << 20);
            tuples.extend(message.block_metadata.iter().map(|tuple| (tuple.byte_offset, tuple.size_bytes)));
        }
        let expected: Vec<(i64, i64)> = (0..15).map(|n| (n * 8192, 4096)).collect();
        assert_eq!(tuples, expected);
        let asked = asked.lock().expect("no panic").clone();
        let [(token, wish, deadline)] = asked.as_slice() else { panic!("asked once: {asked:?}") };
        assert_eq!(token, "fresh");
        let expected =
            BlocksWish { snapshot: "snap-2".into(), base: Some("snap-1".into()), from: Bytes::kib(4) };
        assert_eq!(*wish, expected);
        let left = deadline.at().expect("it is passed on").saturating_duration_since(Instant::now());
        assert!(left <= Duration::from_secs(300), "{left:?}");
    });
}

#[test]
fn the_service_is_told_of_and_each_call_has_the_token_of_its_time() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        let answer = driver.identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await;
        let capabilities = answer.expect("told").into_inner().capabilities;
        let is_it =
            |of: &Type| matches!(of, Type::Service(of) if of.r#type() == Service::SnapshotMetadataService);
        assert!(capabilities.iter().filter_map(|capability| capability.r#type.as_ref()).any(is_it));
        two_snapshots(driver).await;
        let (address, asked) = agent(None, None).await;
        told(driver, &address).await;
        for token in ["fresh", "newer"] {
            std::fs::write(cluster.token(), token).expect("room");
            driver.metadata.get_metadata_allocated(allocated("snap-1")).await.expect("told");
            assert_eq!(asked.lock().expect("no panic").last().expect("asked").0, token);
        }
        std::fs::write(cluster.token(), "stale").expect("room");
        let stale = driver.metadata.get_metadata_allocated(allocated("snap-1")).await;
        refused(stale.map(drop), Code::Internal, "node b: a token of the controller is needed");
        std::fs::remove_file(cluster.token()).expect("it is there");
        let none = driver.metadata.get_metadata_allocated(allocated("snap-1")).await;
        refused(none.map(drop), Code::Internal, "read the token for agents");
    });
}

#[test]
fn the_agents_refusals_arrive_as_they_are() {
    for (class, code) in [
        (Class::NotFound, Code::NotFound),
        (Class::OutOfRange, Code::OutOfRange),
        (Class::Precondition, Code::FailedPrecondition),
        (Class::Exhausted, Code::ResourceExhausted),
        (Class::Transient, Code::Internal),
    ] {
        let cluster = Cluster::new();
        cluster.life(async |driver| {
            two_snapshots(driver).await;
            let (address, _) = agent(Some(Error::new(class, "because")), None).await;
            told(driver, &address).await;
            let answer = driver.metadata.get_metadata_delta(delta(0, 0)).await;
            refused(answer.map(drop), code, "because");
        });
    }
}

#[test]
fn what_the_controller_knows_better_no_agent_is_asked() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        two_snapshots(driver).await;
        let unknown = driver.metadata.get_metadata_allocated(allocated("snap-1")).await;
        refused(unknown.map(drop), Code::FailedPrecondition, "node b does not tell");
        let (address, asked) = agent(None, None).await;
        told(driver, &address).await;
        let unknown = driver.metadata.get_metadata_allocated(allocated("snap-9")).await;
        refused(unknown.map(drop), Code::NotFound, "snap-9");
        driver.volume("pvc-2").await;
        driver.snapshot("other", "pvc-2").await;
        let other = GetMetadataDeltaRequest { base_snapshot_id: "other".into(), ..delta(0, 0) };
        let answer = driver.metadata.get_metadata_delta(other).await;
        refused(answer.map(drop), Code::InvalidArgument, "not of one volume");
        assert!(asked.lock().expect("no panic").is_empty());
    });
}

#[test]
fn somebody_else_at_the_agents_address_is_not_shown_the_token() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        two_snapshots(driver).await;
        let ((address, asked), (other, _)) = (agent(None, None).await, agent(None, None).await);
        told(driver, &AgentAddress { certificate: other.certificate, ..address }).await;
        let answer = driver.metadata.get_metadata_allocated(allocated("snap-1")).await;
        refused(answer.map(drop), Code::Internal, "certificate");
        assert!(asked.lock().expect("no panic").is_empty());
    });
}

#[test]
fn an_agent_reads_no_further_when_the_caller_hangs_up() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        two_snapshots(driver).await;
        let (ended, mut has_ended): (_, UnboundedReceiver<()>) = unbounded_channel();
        let (address, _) = agent(None, Some(ended)).await;
        told(driver, &address).await;
        let stream = driver.metadata.get_metadata_allocated(allocated("snap-1")).await.expect("it begins");
        let mut stream = stream.into_inner();
        for _ in 0..3 {
            stream.message().await.expect("it goes on").expect("there is more");
        }
        assert!(has_ended.try_recv().is_err(), "it is not done");
        drop(stream);
        has_ended.recv().await.expect("the reading ended");
    });
}
