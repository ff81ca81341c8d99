//! A node's agent on a simulated machine, with an API server in memory. The test plays the controller.
//!
//! | module | what it holds |
//! |---|---|
//! | [`harness`] | a machine, the lives of an agent on it, what the controller writes |
//! | [`server`] | that the API server in memory is what the others take it for |
//! | [`life`] | volumes, snapshots and views from the wish to the end; what is told meanwhile |
//! | [`refusals`] | wishes that cannot be met, and objects that do not fit the disks |
//! | [`clones`] | volumes that hold something from the start |
//! | [`detached`] | snapshots that become volumes |
//! | [`groups`] | snapshots that are cut and merged together |
//! | [`blocks`] | the controller, and nobody else, is told the blocks of snapshots |
//! | [`rollbacks`] | volumes are put back to snapshots |
//! | [`import`] | objects that are gone come back |
//! | [`outages`] | the API server fails, the agent dies, the machine loses power |
//! | [`pools`] | groups made, extended, adopted, refused; two agents of one name |

// The controller's tests use other parts of it.
#[allow(dead_code)]
#[path = "../api/mod.rs"]
mod api;
mod blocks;
mod clones;
mod detached;
mod groups;
mod harness;
// The tests of the CSI services use other parts of it.
mod import;
#[allow(dead_code)]
#[path = "../csi/fake/kernel.rs"]
mod kernel;
mod life;
mod modification;
mod outages;
mod pools;
mod refusals;
mod rollbacks;
mod server;
