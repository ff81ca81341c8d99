//! The SnapshotMetadata service between two of our own: a node's agent, which can read its disks, serves it to the controller,
//! which passes on what it is told.
//!
//! ```text
//! sidecar ─ unix socket ─ controller ─ client ──── TLS, a token ────► server ─ agent ─ disks
//!                                        └── address, certificate ── MirrorPool ◄──┘
//! ```
//!
//! Invariants:
//! - The agent is known by its certificate, which it makes at its start and tells in an object that only it can write; its key
//!   is in no file. The controller trusts that one certificate and no authority.
//! - The controller is known by a token of its service account, made for this purpose only. The agent tells nothing to
//!   whoever has none, not even whether a snapshot exists.
//! - A stream that is cut short is an error, never an end.

mod client;
mod identity;
mod server;

use std::net::SocketAddr;
use std::time::Duration;

pub use client::{Remote, RemoteParts};
pub use server::{Admission, Doorkeeper, Error, Listener, serve};

/// The only audience of the controller's tokens.
pub const AUDIENCE: &str = "splitmirror.io/agent";

/// The name in all certificates: which node it is, is said by the object that it was told in.
const NAME: &str = "agent.splitmirror.io";
/// The field of a request with the token.
const TOKEN_FIELD: &str = "authorization";
/// What is before the token there.
const TOKEN_KIND: &str = "Bearer ";

/// How long it may take until both know each other.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// How often it is asked whether the other end is still there, and how long that may take: a machine that has lost its power
/// says nothing any more.
const ALIVE_EVERY: Duration = Duration::from_secs(20);
const ALIVE_MAX: Duration = Duration::from_secs(20);

/// Where an agent is, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentAddress {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its certificate, as PEM.
    pub certificate: String,
}
