//! splitmirror: mirrored node-local volumes whose snapshots are tracked splits of one raid1 image.
//!
//! Layers, each using only those above it:
//!
//! ```text
//! units, ids, report        words and quantities
//! lvm2, alloc, raid         pure: bytes and strings <-> values
//! volume                    pure: what is observed -> what to do next
//! host                      ports to the machine: linux | sim
//! engine                    does it
//! csi, pool, standalone, cli   front ends
//! ```

pub mod alloc;
#[cfg(feature = "kubernetes")]
pub mod api;
pub mod cli;
#[cfg(feature = "kubernetes")]
pub mod controller;
pub mod csi;
pub mod engine;
pub mod host;
pub mod http;
pub mod ids;
pub mod lvm2;
pub mod metrics;
#[cfg(feature = "kubernetes")]
pub mod node;
pub mod pool;
pub mod raid;
pub mod report;
pub mod serve;
pub mod standalone;
pub mod telemetry;
pub mod units;
pub mod volume;
