//! The controller's end.

use std::ops::Range;
use std::time::Instant;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::csi::backend::{BlocksWish, Deadline, Error, Part, Parts, Result};
use crate::csi::controller::volumes::signed;
use crate::csi::proto::snapshot_metadata_client::SnapshotMetadataClient;
use crate::csi::proto::{
    BlockMetadata, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse, GetMetadataDeltaRequest,
    GetMetadataDeltaResponse,
};
use crate::csi::remote::{ALIVE_EVERY, ALIVE_MAX, AgentAddress, GREETING_MAX, NAME, TOKEN_FIELD, TOKEN_KIND};
use crate::csi::status;
use crate::report::{self, Class};
use crate::units::Bytes;

/// An agent that can be asked.
#[derive(Clone, Debug)]
pub struct Remote {
    client: SnapshotMetadataClient<Channel>,
    token: MetadataValue<Ascii>,
    /// Of the agent, for people.
    node: String,
}

impl Remote {
    /// Connects to the agent of a node, which is known by its certificate, to be asked with a token.
    ///
    /// # Errors
    /// It is not reached in time, or somebody else is: `Transient`.
    pub async fn connect(node: &str, agent: &AgentAddress, token: &str) -> Result<Self> {
        let failed = |why: String| {
            let message = format!("the agent on node {node} cannot be asked at {}: {why}", agent.address);
            Error::new(Class::Transient, message)
        };
        let told = |error: tonic::transport::Error| failed(report::chain(&error));
        let mut token: MetadataValue<Ascii> = format!("{TOKEN_KIND}{}", token.trim())
            .parse()
            .map_err(|_| failed("the controller's token is none".to_owned()))?;
        token.set_sensitive(true);
        let certificate = Certificate::from_pem(&agent.certificate);
        let tls = ClientTlsConfig::new().ca_certificate(certificate).domain_name(NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", agent.address))
            .map_err(told)?
            .tls_config(tls)
            .map_err(told)?
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_MAX);
        let channel = tokio::time::timeout(GREETING_MAX, endpoint.connect())
            .await
            .map_err(|_| failed("it does not answer".to_owned()))?
            .map_err(told)?;
        Ok(Self { client: SnapshotMetadataClient::new(channel), token, node: node.to_owned() })
    }

    /// Begins to tell blocks. The agent is told when the caller hangs up.
    ///
    /// # Errors
    /// The agent's, with its class.
    pub async fn blocks(mut self, wish: &BlocksWish, deadline: Deadline) -> Result<RemoteParts> {
        let BlocksWish { snapshot, base, from } = wish.clone();
        let starting_offset = signed(from);
        let stream = match base {
            None => {
                let request = GetMetadataAllocatedRequest {
                    snapshot_id: snapshot,
                    starting_offset,
                    ..GetMetadataAllocatedRequest::default()
                };
                let request = self.request(request, deadline);
                self.client
                    .get_metadata_allocated(request)
                    .await
                    .map(Response::into_inner)
                    .map(Told::Allocated)
            }
            Some(base) => {
                let request = GetMetadataDeltaRequest {
                    base_snapshot_id: base,
                    target_snapshot_id: snapshot,
                    starting_offset,
                    ..GetMetadataDeltaRequest::default()
                };
                let request = self.request(request, deadline);
                self.client.get_metadata_delta(request).await.map(Response::into_inner).map(Told::Delta)
            }
        };
        let stream = stream.map_err(|status| error(&self.node, &status))?;
        Ok(RemoteParts { stream, node: self.node })
    }

    fn request<T>(&self, message: T, deadline: Deadline) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(TOKEN_FIELD, self.token.clone());
        if let Some(at) = deadline.at() {
            request.set_timeout(at.saturating_duration_since(Instant::now()));
        }
        request
    }
}

/// Two streams whose messages have the same fields.
enum Told {
    Allocated(Streaming<GetMetadataAllocatedResponse>),
    Delta(Streaming<GetMetadataDeltaResponse>),
}

/// The blocks that an agent tells: no more of them than its connection holds are on their way before they are asked for.
pub struct RemoteParts {
    stream: Told,
    node: String,
}

impl Parts for RemoteParts {
    async fn next(&mut self) -> Result<Option<Part>> {
        let message = match &mut self.stream {
            Told::Allocated(stream) => {
                let message = stream.message().await;
                message.map(|message| message.map(|told| (told.volume_capacity_bytes, told.block_metadata)))
            }
            Told::Delta(stream) => {
                let message = stream.message().await;
                message.map(|message| message.map(|told| (told.volume_capacity_bytes, told.block_metadata)))
            }
        };
        let message = message.map_err(|status| error(&self.node, &status))?;
        message.map(|(size, tuples)| self.part(size, &tuples)).transpose()
    }
}

impl RemoteParts {
    fn part(&self, size: i64, tuples: &[BlockMetadata]) -> Result<Part> {
        let ranges = tuples.iter().map(range).collect::<Option<Vec<_>>>();
        match (u64::try_from(size), ranges) {
            (Ok(size), Some(ranges)) => Ok(Part { size: Bytes(size), ranges }),
            _ => {
                let message = format!("the agent on node {} tells blocks that cannot be", self.node);
                Err(Error::new(Class::Internal, message))
            }
        }
    }
}

fn range(tuple: &BlockMetadata) -> Option<Range<Bytes>> {
    let (start, len) = (u64::try_from(tuple.byte_offset).ok()?, u64::try_from(tuple.size_bytes).ok()?);
    Some(Bytes(start)..Bytes(start.checked_add(len)?))
}

/// An agent's refusal, in its own words; of what else can go wrong it is told where.
fn error(node: &str, status: &Status) -> Error {
    let class = status::class(status.code());
    let message = match class {
        Class::Transient => format!("the agent on node {node}: {}", status.message()),
        _ => status.message().to_owned(),
    };
    Error::new(class, message)
}
