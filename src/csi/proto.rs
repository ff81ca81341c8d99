//! What `build.rs` makes of `proto/csi.proto`.

#![allow(missing_docs, clippy::all)]

tonic::include_proto!("csi.v1");
