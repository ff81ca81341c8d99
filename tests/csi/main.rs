//! The CSI services over a real socket, with volumes and mounts in memory: what each RPC answers, that each can be
//! repeated, and the code of each error. The same services run over real volumes in `tests/sanity`.

mod controller;
mod fake;
mod groups;
mod harness;
mod modification;
mod node;
mod node_refusals;
mod snapshot_metadata;
mod snapshots;
