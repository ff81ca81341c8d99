//! Blocks of snapshots, in streams.

use splitmirror::csi::proto::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataDeltaRequest,
    GetMetadataDeltaResponse,
};
use tonic::Code;

use crate::fake::{CHANGED, PART};
use crate::harness::{Driver, code};

fn delta(base: &str, target: &str, from: i64, most: i32) -> GetMetadataDeltaRequest {
    GetMetadataDeltaRequest {
        base_snapshot_id: base.to_owned(),
        target_snapshot_id: target.to_owned(),
        starting_offset: from,
        max_results: most,
        ..GetMetadataDeltaRequest::default()
    }
}

/// All messages of a stream.
async fn all(driver: &mut Driver, request: GetMetadataDeltaRequest) -> Vec<GetMetadataDeltaResponse> {
    let mut stream = driver.metadata.get_metadata_delta(request).await.expect("it begins").into_inner();
    let mut all = Vec::new();
    while let Some(message) = stream.message().await.expect("it goes on") {
        all.push(message);
    }
    all
}

fn tuples(messages: &[GetMetadataDeltaResponse]) -> Vec<BlockMetadata> {
    messages.iter().flat_map(|message| message.block_metadata.iter().cloned()).collect()
}

#[tokio::test]
async fn a_stream_tells_all_blocks_in_order_and_can_be_taken_up_anywhere() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await;
    let one = driver.snapshot("one", &volume.volume_id).await.snapshot_id;
    let two = driver.snapshot("two", &volume.volume_id).await.snapshot_id;
    let whole = all(&mut driver, delta(&one, &two, 0, 0)).await;
    let parts = u64::try_from(volume.capacity_bytes).expect("positive").div_ceil(PART.0);
    let told = tuples(&whole);
    assert_eq!(told.len(), usize::try_from(parts * CHANGED).expect("few"));
    assert!(told.windows(2).all(|two| two[0].byte_offset + two[0].size_bytes <= two[1].byte_offset));
    for message in &whole {
        assert_eq!(message.block_metadata_type(), BlockMetadataType::VariableLength);
        assert_eq!(message.volume_capacity_bytes, volume.capacity_bytes);
    }
    let by_two = all(&mut driver, delta(&one, &two, 0, 2)).await;
    assert!(by_two.iter().all(|message| message.block_metadata.len() <= 2));
    assert_eq!(tuples(&by_two), told);
    for (at, last) in told.iter().enumerate() {
        let rest = all(&mut driver, delta(&one, &two, last.byte_offset + last.size_bytes, 0)).await;
        assert_eq!(tuples(&rest), told[at + 1..], "from the end of {last:?}");
    }
    let end = all(&mut driver, delta(&one, &two, volume.capacity_bytes, 0)).await;
    assert_eq!(end.len(), 1, "the size is told though there is nothing: {end:?}");

    let request = GetMetadataAllocatedRequest { snapshot_id: two, ..GetMetadataAllocatedRequest::default() };
    let mut stream = driver.metadata.get_metadata_allocated(request).await.expect("it begins").into_inner();
    let first = stream.message().await.expect("it goes on").expect("a message");
    assert_eq!(first.volume_capacity_bytes, volume.capacity_bytes);
}

#[tokio::test]
async fn each_bad_request_for_blocks_has_its_code() {
    let mut driver = Driver::start().await;
    let (first, second) = (driver.volume("pvc-1").await, driver.volume("pvc-2").await);
    let one = driver.snapshot("one", &first.volume_id).await.snapshot_id;
    let other = driver.snapshot("other", &second.volume_id).await.snapshot_id;
    for (request, expected) in [
        (delta("", &one, 0, 0), Code::InvalidArgument),
        (delta(&one, "", 0, 0), Code::InvalidArgument),
        (delta(&one, &one, 0, -1), Code::InvalidArgument),
        (delta(&one, &one, -1, 0), Code::OutOfRange),
        (delta(&one, &one, first.capacity_bytes + 1, 0), Code::OutOfRange),
        (delta(&one, &other, 0, 0), Code::InvalidArgument),
        (delta("none", &one, 0, 0), Code::NotFound),
        (delta(&one, "none", 0, 0), Code::NotFound),
    ] {
        let context = format!("{request:?}");
        let answer = driver.metadata.get_metadata_delta(request).await;
        assert_eq!(code(&answer), expected, "{context}");
    }
    let request = GetMetadataAllocatedRequest::default();
    let answer = driver.metadata.get_metadata_allocated(request).await;
    assert_eq!(code(&answer), Code::InvalidArgument);
}
