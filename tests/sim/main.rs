//! The engine on a machine that loses power, processes and calls at every step, while applications write.
//!
//! | module | what it holds |
//! |---|---|
//! | [`machine`] | a machine with a pool, and what the test knows of its volumes |
//! | [`history`] | which contents of a volume or a snapshot the applications can have seen |
//! | [`check`] | the end state: metadata, legs, snapshots, devices, extents |
//! | [`crash`] | one operation, cut at every step in every way |
//! | [`operations`] | the operations |
//! | [`detached`] | what must not become a volume, and slots without room for an image |
//! | [`foreign`] | another tool that activates the group first |
//! | [`grow`] | snapshots of images that are added for them |
//! | [`model`] | random operations and faults against a small model |

mod check;
mod crash;
mod detached;
mod foreign;
mod grow;
mod history;
mod machine;
mod model;
mod operations;
mod regions;
mod troubles;
