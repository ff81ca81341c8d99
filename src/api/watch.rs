//! Watches of objects, as every long-lived process here wants them.
//!
//! - An API server that does not answer is asked more and more seldom, up to every 30 s, and that is logged once.
//! - An object that cannot be read is told of and left out: it must not blind its reader for the others.

use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::api::client;

/// All objects of a kind of ours that `config` selects.
pub fn objects<K>(client: &Client, config: watcher::Config) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let objects = Api::<DeserializeGuard<K>>::all(client.clone());
    let events = watcher(objects, config);
    steady(K::kind(&()).into_owned(), events).filter_map(async |event| readable(event))
}

/// The events of a watch, without its interruptions.
pub fn steady<K>(
    kind: String,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + Debug + DeserializeOwned + Send,
{
    let mut away = false;
    events.backoff(Pauses::default()).filter_map(move |event| {
        let event = match event {
            Ok(event) => {
                // A list that begins has not been answered yet.
                if !matches!(event, Event::Init) && std::mem::take(&mut away) {
                    tracing::info!(kind, "objects are watched again");
                }
                Some(event)
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    let why = client::told_of_watch(&error);
                    tracing::warn!(kind, "objects cannot be watched, which is tried again: {why}");
                }
                None
            }
        };
        std::future::ready(event)
    })
}

/// [`DefaultBackoff`] that starts anew only after two minutes without an error. A watch whose list fails begins another one
/// each time, and that beginning would count as a success.
#[derive(Default)]
struct Pauses(DefaultBackoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {}
}

/// Objects that can be read; of one that cannot, the log tells.
fn readable<K: Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let read = |DeserializeGuard(object): DeserializeGuard<K>| match object {
        Ok(object) => Some(object),
        Err(bad) => {
            let name = bad.metadata.name.unwrap_or_default();
            tracing::error!(kind = %K::kind(&()), name, "an object cannot be read: {}", bad.error);
            None
        }
    };
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::Apply(object) => read(object).map(Event::Apply),
        Event::InitApply(object) => read(object).map(Event::InitApply),
        Event::Delete(object) => read(object).map(Event::Delete),
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_asked_more_and_more_seldom() {
        // What a watch says whose list fails: it begins another one, each time.
        let failing = stream::iter(0..40).map(|n| match n % 2 {
            0 => Ok(Event::<ConfigMap>::Init),
            _ => Err(watcher::Error::NoResourceVersion),
        });
        let began = Instant::now();
        let begun: Vec<Duration> =
            steady("ConfigMap".to_owned(), failing).map(|_| began.elapsed()).collect().await;
        assert_eq!(begun.len(), 20);
        let pauses: Vec<Duration> = begun.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses[0] < Duration::from_secs(3), "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| *pause > Duration::from_secs(20)), "{pauses:?}");
    }
}
