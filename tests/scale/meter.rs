//! What the API server has counted.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use crate::{Outcome, told};

/// The groups of what is counted: our objects, the echo's, and events.
const GROUPS: &[&str] = &["splitmirror.io", crate::echo::GROUP, "events.k8s.io"];
/// Verbs that change something.
const WRITES: &[&str] = &["POST", "PUT", "PATCH", "APPLY", "DELETE"];
/// Nothing was written for so long: all is done.
const QUIET: Duration = Duration::from_secs(4);
/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_secs(1);

/// Requests that were answered since the API server started, by verb and resource.
#[derive(Clone, Debug, Default)]
pub struct Counted(BTreeMap<(String, String), f64>);

impl Counted {
    /// As it is now.
    pub async fn now(admin: &Client) -> Outcome<Self> {
        let request = http::Request::get("/metrics").body(Vec::new()).map_err(|error| told(&error))?;
        let text = admin.request_text(request).await.map_err(|error| told(&error))?;
        let mut counted = BTreeMap::<_, f64>::new();
        let samples = text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{"));
        for sample in samples {
            let (labels, value) = sample.rsplit_once("} ").ok_or("a sample without a value")?;
            let label = |name: &str| {
                let at = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
                at.and_then(|value| value.strip_suffix('"')).unwrap_or_default()
            };
            if !GROUPS.contains(&label("group")) {
                continue;
            }
            let mut resource = label("resource").to_owned();
            if !label("subresource").is_empty() {
                resource = format!("{resource}/{}", label("subresource"));
            }
            let value: f64 = value.parse().map_err(|error| format!("{value:?}: {error}"))?;
            *counted.entry((label("verb").to_owned(), resource)).or_default() += value;
        }
        Ok(Self(counted))
    }

    /// When nothing has been written for a while.
    pub async fn at_rest(admin: &Client) -> Outcome<Self> {
        let mut counted = Self::now(admin).await?;
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            tokio::time::sleep(LOOK).await;
            let now = Self::now(admin).await?;
            if now.writes() > counted.writes() {
                since = Instant::now();
            }
            counted = now;
        }
        Ok(counted)
    }

    /// All requests but watches, which end by themselves now and then.
    pub fn all(&self) -> f64 {
        self.sum(|verb, _| verb != "WATCH")
    }

    /// Those that change something.
    pub fn writes(&self) -> f64 {
        self.sum(|verb, _| WRITES.contains(&verb))
    }

    /// Those of the writes that tell events.
    pub fn events(&self) -> f64 {
        self.sum(|verb, resource| WRITES.contains(&verb) && resource == "events")
    }

    fn sum(&self, wanted: impl Fn(&str, &str) -> bool) -> f64 {
        let wanted = self.0.iter().filter(|((verb, resource), _)| wanted(verb, resource));
        wanted.fold(0.0, |sum, (_, count)| sum + count)
    }

    /// What has come since then.
    pub fn since(&self, before: &Self) -> Self {
        let more = |(key, count): (&(String, String), &f64)| {
            let more = count - before.0.get(key).copied().unwrap_or_default();
            (more > 0.0).then(|| (key.clone(), more))
        };
        Self(self.0.iter().filter_map(more).collect())
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> =
            self.0.iter().map(|((verb, resource), count)| format!("{count} {verb} {resource}")).collect();
        f.write_str(&lines.join(", "))
    }
}
