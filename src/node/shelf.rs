//! The objects of one kind, as the watch tells of them and as our own writes come back.
//!
//! A write's answer is taken in at once, and what the watch still tells of older versions is passed over: so a change is
//! never written twice. Versions of one resource are numbers that grow.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};

/// Objects by name.
#[derive(Debug)]
pub struct Shelf<K> {
    objects: BTreeMap<String, Arc<K>>,
    /// Those of a list that is being read.
    incoming: Option<BTreeMap<String, Arc<K>>>,
    listed: bool,
    /// Uids of objects that we have removed, by name, until the watch has told of it.
    removed: BTreeMap<String, String>,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), incoming: None, listed: false, removed: BTreeMap::new() }
    }
}

fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(u64::MAX)
}

impl<K: Resource> Shelf<K> {
    /// All objects.
    pub fn objects(&self) -> &BTreeMap<String, Arc<K>> {
        &self.objects
    }

    /// Whether a whole list was read since the start.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// What the watch tells.
    pub fn watched(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.incoming = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                if let Some(incoming) = &mut self.incoming {
                    incoming.insert(object.name_any(), lean(object));
                }
            }
            Event::InitDone => {
                let incoming = self.incoming.take().unwrap_or_default();
                let before = std::mem::take(&mut self.objects);
                self.removed.retain(|name, uid| {
                    incoming.get(name).is_some_and(|object| object.uid().as_ref() == Some(uid))
                });
                for object in incoming.into_values() {
                    self.keep(object);
                }
                for (name, object) in before {
                    if self.objects.get(&name).is_some_and(|listed| listed.uid() == object.uid()) {
                        self.keep(object);
                    }
                }
                self.listed = true;
            }
            Event::Apply(object) => self.keep(lean(object)),
            Event::Delete(object) => {
                let (name, uid) = (object.name_any(), object.uid());
                if self.objects.get(&name).is_some_and(|known| known.uid() == uid) {
                    self.objects.remove(&name);
                }
                if self.removed.get(&name) == uid.as_ref() {
                    self.removed.remove(&name);
                }
            }
        }
    }

    /// A write of ours came back.
    pub fn stored(&mut self, object: K) {
        self.keep(lean(object));
    }

    /// We have removed an object.
    pub fn removed(&mut self, name: &str, uid: &str) {
        self.objects.remove(name);
        self.removed.insert(name.to_owned(), uid.to_owned());
    }

    fn keep(&mut self, object: Arc<K>) {
        let (name, uid) = (object.name_any(), object.uid());
        let gone = uid.is_some() && self.removed.get(&name) == uid.as_ref();
        let old = self.objects.get(&name).is_some_and(|known| version(&**known) > version(&*object));
        if !gone && !old {
            self.objects.insert(name, object);
        }
    }
}

/// Without what nobody here reads.
fn lean<K: Resource>(mut object: K) -> Arc<K> {
    object.meta_mut().managed_fields = None;
    Arc::new(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn object(name: &str, uid: &str, version: u64) -> ConfigMap {
        let meta = json!({"name": name, "uid": uid, "resourceVersion": version.to_string()});
        serde_json::from_value(json!({"metadata": meta})).expect("an object")
    }

    fn versions(shelf: &Shelf<ConfigMap>) -> Vec<(String, u64)> {
        shelf.objects().iter().map(|(name, object)| (name.clone(), version(&**object))).collect()
    }

    #[test]
    fn what_the_watch_tells_late_does_not_undo_a_write() {
        let mut shelf = Shelf::default();
        shelf.stored(object("a", "1", 5));
        shelf.watched(Event::Apply(object("a", "1", 4)));
        assert_eq!(versions(&shelf), [("a".to_owned(), 5)]);
        shelf.watched(Event::Apply(object("a", "1", 6)));
        assert_eq!(versions(&shelf), [("a".to_owned(), 6)]);
    }

    #[test]
    fn what_we_removed_stays_away_until_another_one_of_that_name_comes() {
        let mut shelf = Shelf::default();
        shelf.stored(object("a", "1", 5));
        shelf.removed("a", "1");
        shelf.watched(Event::Apply(object("a", "1", 6)));
        assert!(shelf.objects().is_empty());
        shelf.watched(Event::Delete(object("a", "1", 7)));
        shelf.watched(Event::Apply(object("a", "2", 8)));
        assert_eq!(versions(&shelf), [("a".to_owned(), 8)]);
    }

    #[test]
    fn a_list_takes_the_place_of_what_was_known_but_for_what_is_newer() {
        let mut shelf = Shelf::default();
        shelf.stored(object("gone", "1", 1));
        shelf.stored(object("newer", "2", 9));
        shelf.watched(Event::Init);
        shelf.watched(Event::InitApply(object("newer", "2", 8)));
        shelf.watched(Event::InitApply(object("other", "3", 3)));
        assert!(!shelf.is_listed());
        shelf.watched(Event::InitDone);
        assert!(shelf.is_listed());
        assert_eq!(versions(&shelf), [("newer".to_owned(), 9), ("other".to_owned(), 3)]);
    }
}
