//! The SnapshotMetadata service: which blocks of a snapshot a backup must read, in a stream that can be taken up again
//! anywhere.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::csi::backend::{BlocksWish, ChangedBlocks, Deadline, Error, Part, Parts, Result};
use crate::csi::calls::Calls;
use crate::csi::controller::volumes::signed;
use crate::csi::proto::snapshot_metadata_server::SnapshotMetadata;
use crate::csi::proto::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse,
};
use crate::csi::{deadline, limits};
use crate::report::Class;
use crate::units::Bytes;

/// Tuples in a message, unless the caller asks for fewer.
const RESULTS_MAX: usize = 4096;

/// Streams at a time. Each holds a part and some messages, half a MiB at most, for as long as its caller takes.
const STREAMS_MAX: usize = 16;

/// The SnapshotMetadata service over a backend.
#[derive(Debug)]
pub struct SnapshotMetadataService<B> {
    backend: Arc<B>,
    calls: Arc<Calls>,
    streams: Arc<Semaphore>,
}

impl<B: ChangedBlocks> SnapshotMetadataService<B> {
    /// Over this backend, with the calls it shares with the other services.
    #[must_use]
    pub fn new(backend: Arc<B>, calls: Arc<Calls>) -> Self {
        Self { backend, calls, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }

    /// The stream of an answer. What is wrong with the request is told at once; its first part is the first message, so that
    /// the size is told even of a snapshot without such blocks.
    async fn stream<T: Send + 'static>(
        &self,
        op: &'static str,
        wanted: Result<Wanted>,
        deadline: Deadline,
        message: fn(i64, Vec<BlockMetadata>) -> T,
    ) -> std::result::Result<Response<BoxStream<T>>, Status> {
        let begun = async {
            let Wanted { wish, most } = wanted?;
            let permit = self.permit()?;
            let mut parts = self.backend.blocks(&wish, deadline).await?;
            let first = parts.next().await?;
            Ok((most, permit, parts, first))
        };
        let (most, permit, parts, first) = self.calls.look(op, begun).await?.into_inner();
        let (sender, receiver) = mpsc::channel(1);
        let messages = move |part: &Part| -> Vec<T> {
            part.ranges.chunks(most).map(|ranges| message(signed(part.size), tuples(ranges))).collect()
        };
        tokio::spawn(async move {
            let _permit = permit;
            let told = tell(first, parts, messages, move |size| message(signed(size), Vec::new()), &sender);
            let ended = tokio::select! {
                // A caller that has gone needs no answer, and nothing more is read for it.
                () = sender.closed() => return,
                () = passed(deadline) => Err(Status::deadline_exceeded("not all blocks could be told in time")),
                told = told => told,
            };
            if let Err(status) = ended {
                drop(sender.send(Err(status)).await);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    /// For one more stream.
    fn permit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let message = format!("{STREAMS_MAX} streams of blocks are told already: try again later");
            Error::new(Class::Exhausted, message)
        })
    }
}

/// Tells all parts; as fast as the caller takes them.
async fn tell<T>(
    first: Option<Part>,
    mut parts: impl Parts,
    messages: impl Fn(&Part) -> Vec<T>,
    none: impl Fn(Bytes) -> T,
    sender: &Sender<std::result::Result<T, Status>>,
) -> std::result::Result<(), Status> {
    let mut next = first;
    let mut begun = false;
    while let Some(part) = next {
        let mut messages = messages(&part);
        if messages.is_empty() && !begun {
            messages.push(none(part.size));
        }
        begun = true;
        for message in messages {
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        next = parts.next().await?;
    }
    Ok(())
}

/// Done when a deadline has passed.
async fn passed(deadline: Deadline) {
    match deadline.at() {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// What is asked for.
struct Wanted {
    wish: BlocksWish,
    /// Tuples in a message.
    most: usize,
}

impl Wanted {
    fn new(snapshot: &str, base: Option<&str>, from: i64, most: i32) -> Result<Self> {
        let from = u64::try_from(from)
            .map_err(|_| Error::new(Class::OutOfRange, format!("starting_offset {from} is negative")))?;
        let most =
            usize::try_from(most).map_err(|_| Error::invalid(format!("max_results {most} is negative")))?;
        Ok(Self {
            wish: BlocksWish {
                snapshot: snapshot.to_owned(),
                base: base.map(str::to_owned),
                from: Bytes(from),
            },
            most: if most == 0 { RESULTS_MAX } else { most.min(RESULTS_MAX) },
        })
    }
}

fn tuples(ranges: &[Range<Bytes>]) -> Vec<BlockMetadata> {
    let tuple = |range: &Range<Bytes>| BlockMetadata {
        byte_offset: signed(range.start),
        size_bytes: signed(range.end - range.start),
    };
    ranges.iter().map(tuple).collect()
}

#[tonic::async_trait]
impl<B: ChangedBlocks> SnapshotMetadata for SnapshotMetadataService<B> {
    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> std::result::Result<Response<BoxStream<GetMetadataAllocatedResponse>>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let wanted = limits::required("snapshot_id", &request.snapshot_id)
            .and_then(|id| Wanted::new(id, None, request.starting_offset, request.max_results));
        self.stream("GetMetadataAllocated", wanted, deadline, |volume_capacity_bytes, block_metadata| {
            GetMetadataAllocatedResponse {
                block_metadata_type: BlockMetadataType::VariableLength.into(),
                volume_capacity_bytes,
                block_metadata,
            }
        })
        .await
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> std::result::Result<Response<BoxStream<GetMetadataDeltaResponse>>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let wanted = limits::required("base_snapshot_id", &request.base_snapshot_id).and_then(|base| {
            let target = limits::required("target_snapshot_id", &request.target_snapshot_id)?;
            Wanted::new(target, Some(base), request.starting_offset, request.max_results)
        });
        self.stream("GetMetadataDelta", wanted, deadline, |volume_capacity_bytes, block_metadata| {
            GetMetadataDeltaResponse {
                block_metadata_type: BlockMetadataType::VariableLength.into(),
                volume_capacity_bytes,
                block_metadata,
            }
        })
        .await
    }
}
