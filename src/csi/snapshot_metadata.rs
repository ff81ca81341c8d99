//! The SnapshotMetadata service: which blocks of a snapshot a backup must read, in a stream that can be taken up again
//! anywhere.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::csi::backend::{ChangedBlocks, Error, Result};
use crate::csi::calls::Calls;
use crate::csi::controller::volumes::signed;
use crate::csi::limits;
use crate::csi::proto::snapshot_metadata_server::SnapshotMetadata;
use crate::csi::proto::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse,
};
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::changes::Blocks;

/// Tuples in a message, unless the caller asks for fewer.
const RESULTS_MAX: usize = 4096;

/// The SnapshotMetadata service over a backend.
#[derive(Debug)]
pub struct SnapshotMetadataService<B> {
    backend: Arc<B>,
    calls: Arc<Calls>,
}

impl<B: ChangedBlocks> SnapshotMetadataService<B> {
    /// Over this backend, with the calls it shares with the other services.
    #[must_use]
    pub fn new(backend: Arc<B>, calls: Arc<Calls>) -> Self {
        Self { backend, calls }
    }

    /// The stream of an answer. What is wrong with the request is told at once; its first part is the first message, so that
    /// the size is told even of a snapshot without such blocks.
    async fn stream<T: Send + 'static>(
        &self,
        op: &'static str,
        wanted: Result<Wanted>,
        message: fn(i64, Vec<BlockMetadata>) -> T,
    ) -> std::result::Result<Response<BoxStream<T>>, Status> {
        let backend = Arc::clone(&self.backend);
        let begun = async {
            let wanted = wanted?;
            let first = wanted.part(&*backend, wanted.from).await?;
            Ok((wanted, first))
        };
        let (wanted, mut part) = self.calls.look(op, begun).await?.into_inner();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut first = true;
            loop {
                let size = signed(part.size);
                let mut messages: Vec<T> =
                    part.ranges.chunks(wanted.most).map(|ranges| message(size, tuples(ranges))).collect();
                if first && messages.is_empty() {
                    messages.push(message(size, Vec::new()));
                }
                first = false;
                for message in messages {
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                let Some(from) = part.next else { return };
                part = match wanted.part(&*backend, from).await {
                    Ok(part) => part,
                    // A caller that has gone needs no answer.
                    Err(error) => return drop(sender.send(Err(error.into())).await),
                };
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// What is asked for.
struct Wanted {
    snapshot: String,
    base: Option<String>,
    from: Bytes,
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
            snapshot: snapshot.to_owned(),
            base: base.map(str::to_owned),
            from: Bytes(from),
            most: if most == 0 { RESULTS_MAX } else { most.min(RESULTS_MAX) },
        })
    }

    async fn part(&self, backend: &impl ChangedBlocks, from: Bytes) -> Result<Blocks> {
        backend.blocks(&self.snapshot, self.base.as_deref(), from).await
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
        let request = request.into_inner();
        let wanted = limits::required("snapshot_id", &request.snapshot_id)
            .and_then(|id| Wanted::new(id, None, request.starting_offset, request.max_results));
        self.stream("GetMetadataAllocated", wanted, |volume_capacity_bytes, block_metadata| {
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
        let request = request.into_inner();
        let wanted = limits::required("base_snapshot_id", &request.base_snapshot_id).and_then(|base| {
            let target = limits::required("target_snapshot_id", &request.target_snapshot_id)?;
            Wanted::new(target, Some(base), request.starting_offset, request.max_results)
        });
        self.stream("GetMetadataDelta", wanted, |volume_capacity_bytes, block_metadata| {
            GetMetadataDeltaResponse {
                block_metadata_type: BlockMetadataType::VariableLength.into(),
                volume_capacity_bytes,
                block_metadata,
            }
        })
        .await
    }
}
