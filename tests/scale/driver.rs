//! Calls of the controller, as the sidecars make them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use splitmirror::csi::proto::controller_client::ControllerClient;
use splitmirror::csi::proto::identity_client::IdentityClient;
use splitmirror::csi::proto::{CreateSnapshotRequest, DeleteSnapshotRequest, ProbeRequest};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Outcome;
use crate::process::Program;

/// How often it is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(5);
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A controller that runs.
pub struct Controller {
    /// Its process.
    pub process: Program,
    /// From its start until it was ready.
    pub started_in: Duration,
    channel: Channel,
}

impl Controller {
    /// Starts it, and waits until it is ready.
    pub async fn start(program: &Path, kubeconfig: &Path, dir: &Path) -> Outcome<Self> {
        let socket = dir.join("controller.sock");
        // A process that was killed leaves its socket.
        std::fs::remove_file(&socket).ok();
        let endpoint = format!("--endpoint=unix://{}", socket.display());
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let began = Instant::now();
        let mut process = Program::start(program, &["controller", &endpoint, &kubeconfig])?;
        let channel = connect(socket);
        loop {
            let mut identity = IdentityClient::new(channel.clone());
            let probed = identity.probe(ProbeRequest::default()).await;
            if probed.is_ok_and(|probed| probed.into_inner().ready.unwrap_or(true)) {
                return Ok(Self { process, started_in: began.elapsed(), channel });
            }
            process.check("the controller")?;
            if began.elapsed() > PATIENCE {
                return Err("the controller is not ready".to_owned());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// CreateSnapshot; how long it takes, and the snapshot's id.
    pub async fn split(&self, name: &str, volume: &str) -> Outcome<(Duration, String)> {
        let request = CreateSnapshotRequest {
            name: name.to_owned(),
            source_volume_id: volume.to_owned(),
            ..CreateSnapshotRequest::default()
        };
        let began = Instant::now();
        let created = ControllerClient::new(self.channel.clone()).create_snapshot(request).await;
        let created = created.map_err(|status| format!("CreateSnapshot of {volume}: {status}"))?.into_inner();
        let snapshot = created.snapshot.ok_or("a snapshot is not told")?;
        if !snapshot.ready_to_use {
            return Err(format!("snapshot {name} is not ready"));
        }
        Ok((began.elapsed(), snapshot.snapshot_id))
    }

    /// DeleteSnapshot; how long it takes.
    pub async fn merge(&self, id: &str) -> Outcome<Duration> {
        let began = Instant::now();
        loop {
            let request =
                DeleteSnapshotRequest { snapshot_id: id.to_owned(), ..DeleteSnapshotRequest::default() };
            let deleted = ControllerClient::new(self.channel.clone()).delete_snapshot(request).await;
            match deleted {
                Ok(_) => return Ok(began.elapsed()),
                // It is asked again, as the sidecar does.
                Err(status) if status.code() == Code::Aborted && began.elapsed() < PATIENCE => {}
                Err(status) => return Err(format!("DeleteSnapshot of {id}: {status}")),
            }
        }
    }
}

fn connect(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}
