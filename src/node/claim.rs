//! Which of several agents with one node's name may write to its objects: the one that holds the node's Lease.
//!
//! Two machines with one name are a mistake in their configuration. The disks are safe anyway (each works on its own, and
//! on a shared machine LVM2's lock is held); but two agents would overwrite what the other says of the node. The second
//! one serves its volumes and says what is wrong, and does nothing else.
//!
//! ```text
//! acquire: no lease, ours, let go, or expired -> write it          another's, and alive -> wait, look again
//! keep:    every 10 s write it                                     another's -> it is lost
//! ```
//!
//! The identity is that of this boot of this machine and of the socket: an agent that is started again goes on at once,
//! one whose machine was cut off waits until the lease has run out. While the API server is down nobody's lease runs out
//! to anybody.
//!
//! **Sources**: `coordination.k8s.io/v1` Lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};

use crate::api::client;

/// How long a lease counts after it was last written.
const LASTS_SECONDS: i32 = 40;
/// How often it is written, and looked at while another has it.
const ROUND: Duration = Duration::from_secs(10);
/// How soon to try again when the API server does not answer.
const SOON: Duration = Duration::from_secs(2);

/// The lease of a node, as one agent wants it.
#[derive(Clone, Debug)]
pub struct Claim {
    leases: Api<Lease>,
    name: String,
    identity: String,
}

/// What was last told of an API server that refuses, or does not answer: that is told once.
#[derive(Debug, Default)]
struct Asked(Option<String>);

impl Asked {
    fn told(&mut self, lease: &str, error: Option<&Error>) {
        let why = error.map(client::told);
        if let Some(why) = why.as_ref().filter(|why| self.0.as_ref() != Some(*why)) {
            tracing::warn!(lease, "the lease is not to be had, which is tried again: {why}");
        }
        self.0 = why;
    }
}

/// What a look at the lease comes to.
#[derive(Debug, PartialEq)]
enum Judgement {
    /// It may be written.
    Ours,
    /// Another agent has it.
    Theirs {
        /// Who.
        holder: String,
    },
}

fn judge(lease: &Lease, identity: &str, now: Timestamp) -> Judgement {
    let Some(LeaseSpec { holder_identity: Some(holder), renew_time, lease_duration_seconds, .. }) =
        &lease.spec
    else {
        return Judgement::Ours;
    };
    let lasts = SignedDuration::from_secs(lease_duration_seconds.unwrap_or(LASTS_SECONDS).into());
    let alive = renew_time.as_ref().is_some_and(|MicroTime(renewed)| *renewed + lasts > now);
    if holder.is_empty() || holder == identity || !alive {
        return Judgement::Ours;
    }
    Judgement::Theirs { holder: holder.clone() }
}

impl Claim {
    /// To `node`, for the agent with this identity; in the client's own namespace.
    #[must_use]
    pub fn new(client: Client, node: &str, identity: String) -> Self {
        let name = format!("splitmirror-node-{}", node.to_ascii_lowercase().replace('_', "-"));
        Self { leases: Api::default_namespaced(client), name, identity }
    }

    /// Waits until the lease is held.
    pub async fn acquire(&self) {
        let mut told = None;
        let mut asked = Asked::default();
        loop {
            let round = self.round().await;
            asked.told(&self.name, round.as_ref().err());
            match round {
                Ok(Judgement::Ours) => return,
                Ok(Judgement::Theirs { holder }) => {
                    if told.as_ref() != Some(&holder) {
                        tracing::error!(
                            lease = self.name,
                            holder,
                            identity = self.identity,
                            "another agent serves a node of this name: volumes are served, objects are left alone; give each \
                             node a name of its own"
                        );
                    }
                    told = Some(holder);
                    tokio::time::sleep(ROUND).await;
                }
                Err(_) => tokio::time::sleep(SOON).await,
            }
        }
    }

    /// Keeps the lease; done when another agent has it.
    pub async fn keep(&self) {
        let mut asked = Asked::default();
        loop {
            let round = self.round().await;
            asked.told(&self.name, round.as_ref().err());
            let pause = match round {
                Ok(Judgement::Ours) => ROUND,
                Ok(Judgement::Theirs { holder }) => {
                    tracing::error!(
                        lease = self.name,
                        holder,
                        "another agent has taken this node's objects over"
                    );
                    return;
                }
                Err(_) => SOON,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Lets go of the lease, so that another agent need not wait. Best effort: it runs out by itself.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(&self.name).await else { return };
        let Some(spec) =
            lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = Some(String::new());
        if let Err(error) = self.leases.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::debug!(lease = self.name, "the lease is not let go: {error}");
        }
    }

    /// Looks at the lease, and writes it if it may be written. The version that was seen must still be the one there.
    async fn round(&self) -> Result<Judgement, Error> {
        let now = Timestamp::now();
        let params = PostParams::default();
        match self.leases.get_opt(&self.name).await? {
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.held(None, now)) };
                self.leases.create(&params, &lease).await?;
            }
            Some(mut lease) => {
                if let theirs @ Judgement::Theirs { .. } = judge(&lease, &self.identity, now) {
                    return Ok(theirs);
                }
                lease.spec = Some(self.held(lease.spec, now));
                self.leases.replace(&self.name, &params, &lease).await?;
            }
        }
        Ok(Judgement::Ours)
    }

    fn held(&self, old: Option<LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let old = old.filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        LeaseSpec {
            acquire_time: old.and_then(|spec| spec.acquire_time).or(Some(MicroTime(now))),
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LASTS_SECONDS),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>, renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).expect("in range"))),
            lease_duration_seconds: Some(40),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn a_lease_is_taken_when_nobody_else_keeps_it() {
        let now = Timestamp::from_second(1000).expect("in range");
        for (lease, ours) in [
            (Lease::default(), true),
            (lease(None, 999), true),
            (lease(Some(""), 999), true),
            (lease(Some("me"), 0), true),
            (lease(Some("other"), 950), true),
            (lease(Some("other"), 970), false),
        ] {
            assert_eq!(judge(&lease, "me", now) == Judgement::Ours, ours, "{lease:?}");
        }
    }
}
