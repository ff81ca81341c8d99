//! The CSI services: what an orchestrator asks for, translated to a [`backend`] and to mounts, never decided here.
//!
//! ```text
//! socket ─ server ─┬─ identity
//!                  ├─ controller (volumes, snapshots) ─┐
//!                  ├─ snapshot_metadata (blocks) ──────┤
//!                  ├─ groups (snapshots at one instant) ┤
//!                  └─ node (stage, publish, stats) ────┴─ calls: span, metric, one call per volume
//!                                                              │
//!                                       backend: Backend, ChangedBlocks, Devices; node::mounts: Mounts
//! ```
//!
//! Invariants:
//! - tonic and the generated messages are named in this module only; outside it the domain types are used.
//! - An RPC that was begun runs to its end, though the caller hangs up: until then a second one on the same volume
//!   is told ABORTED, and what it did is found by the caller's retry.
//! - Nothing is remembered between calls: all is read from the backend and from the kernel's mount table.
//!
//! **Sources**: CSI specification 1.13.0 (`proto/csi.proto`, `spec.md`), kubernetes-csi sidecars.

pub mod backend;
pub mod calls;
pub mod capability;
pub mod controller;
pub mod deadline;
pub mod groups;
pub mod identity;
pub mod limits;
pub mod node;
pub mod page;
pub mod params;
pub mod proto;
#[cfg(feature = "kubernetes")]
pub mod remote;
pub mod server;
pub mod snapshot_metadata;
pub mod status;
pub mod topology;

/// The name of the driver, as in StorageClass and CSIDriver objects.
pub const DRIVER: &str = "splitmirror.io";
