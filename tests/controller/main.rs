//! The controller over an API server in memory, asked through its socket. The test plays the nodes.
//!
//! | module | what it holds |
//! |---|---|
//! | [`harness`] | a cluster, the lives of a controller in it, requests |
//! | [`nodes`] | node agents that do as a script says |
//! | [`volumes`] | volumes and views from the call to the answer |
//! | [`clones`] | volumes that hold something from the start |
//! | [`detached`] | snapshots that become volumes |
//! | [`deletion`] | what is deleted, what is refused, what waits |
//! | [`snapshots`] | splits, and their refusals |
//! | [`blocks`] | blocks of snapshots, which agents tell |
//! | [`groups`] | snapshots that are asked for and deleted together |
//! | [`expansion`] | volumes that grow |
//! | [`crashes`] | the controller is killed at each of its requests, or there are two of it |
//! | [`outages`] | watches end, answers are lost, the API server is away |
//! | [`lost_nodes`] | nodes that do not exist any more |
//! | [`lists`] | pages, capacity |
//! | [`rollbacks`] | claims are put back to snapshots |

// The node agents' tests use other parts of it.
#[allow(dead_code)]
#[path = "../api/mod.rs"]
mod api;
mod blocks;
mod clones;
mod crashes;
mod deletion;
mod detached;
mod expansion;
mod groups;
mod harness;
mod lists;
mod lost_nodes;
mod modification;
mod nodes;
mod outages;
mod rollbacks;
mod snapshots;
mod volumes;
