//! What a watch has told of one kind of objects, and waiting for what it will tell.
//!
//! A watch that is interrupted is taken up again, or all objects are listed again; until then what is here is old. Whoever
//! waits asks the API server when a list leaves it in doubt whether an object is not there yet or is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use crate::controller::entry::Entry;

/// How many removed objects are remembered: more than can be waited for at a time.
const GONE_MAX: usize = 1024;

/// All objects of a kind.
#[derive(Debug)]
pub struct Shelf<E> {
    state: RwLock<State<E>>,
    /// Bumped with every change.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State<E> {
    objects: BTreeMap<String, Arc<E>>,
    /// Names of those that are to be deleted.
    doomed: BTreeSet<String>,
    /// Uids of objects that were removed last.
    gone: VecDeque<String>,
    /// Names in the list that is being read.
    listed: Option<BTreeSet<String>>,
    /// How many lists have been read.
    lists: u64,
}

/// What is known of the object of a name and uid.
#[derive(Clone, Debug, PartialEq)]
pub enum Known<E> {
    /// It is there.
    Here(Arc<E>),
    /// It was removed.
    Gone,
    /// It is not here. It may come, or may have gone unseen if that was long ago.
    NotHere,
}

impl<E> Default for Shelf<E> {
    fn default() -> Self {
        let state = State {
            objects: BTreeMap::new(),
            doomed: BTreeSet::new(),
            gone: VecDeque::new(),
            listed: None,
            lists: 0,
        };
        Self { state: RwLock::new(state), changes: watch::Sender::new(0) }
    }
}

impl<E: Entry> Shelf<E> {
    fn read(&self) -> RwLockReadGuard<'_, State<E>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<E>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the watch tells.
    pub fn told(&self, event: Event<E::Object>) {
        let mut state = self.write();
        match event {
            Event::Init => {
                state.listed = Some(BTreeSet::new());
                return;
            }
            Event::InitApply(object) => {
                let name = object.name_any();
                if let Some(listed) = &mut state.listed {
                    listed.insert(name.clone());
                }
                if !state.put(name, &object) {
                    return;
                }
            }
            Event::Apply(object) => {
                if !state.put(object.name_any(), &object) {
                    return;
                }
            }
            Event::Delete(object) => state.remove(&object.name_any(), Some(object.uid().unwrap_or_default())),
            Event::InitDone => {
                let listed = state.listed.take().unwrap_or_default();
                let missing = state.objects.keys().filter(|name| !listed.contains(*name));
                for name in missing.cloned().collect::<Vec<_>>() {
                    state.remove(&name, None);
                }
                state.lists += 1;
            }
        }
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Bumped with every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Done when a list has been read.
    pub async fn listed(&self) {
        let mut changes = self.changes();
        while self.lists() == 0 {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// How many lists have been read: the first, and one for each time that the watch could not be taken up again.
    #[must_use]
    pub fn lists(&self) -> u64 {
        self.read().lists
    }

    /// The object of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<E>> {
        self.read().objects.get(name).map(Arc::clone)
    }

    /// What is known of the object of this name and uid.
    #[must_use]
    pub fn find(&self, name: &str, uid: &str) -> Known<E> {
        let state = self.read();
        match state.objects.get(name) {
            Some(entry) if entry.uid() == uid => Known::Here(Arc::clone(entry)),
            Some(_) | None if state.gone.iter().any(|gone| gone == uid) => Known::Gone,
            Some(_) | None => Known::NotHere,
        }
    }

    /// All of them, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<E>> {
        self.read().objects.values().map(Arc::clone).collect()
    }

    /// Those that `is` picks, in the order of their names.
    #[must_use]
    pub fn picked(&self, is: impl Fn(&E) -> bool) -> Vec<Arc<E>> {
        self.read().objects.values().filter(|entry| is(entry)).map(Arc::clone).collect()
    }

    /// The first, in the order of their names, that `is` picks.
    #[must_use]
    pub fn first(&self, is: impl Fn(&E) -> bool) -> Option<Arc<E>> {
        self.read().objects.values().find(|entry| is(entry)).map(Arc::clone)
    }

    /// Names of those that are to be deleted.
    #[must_use]
    pub fn doomed(&self) -> Vec<String> {
        self.read().doomed.iter().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<E: Entry> State<E> {
    /// Whether that changes anything.
    fn put(&mut self, name: String, object: &E::Object) -> bool {
        let entry = E::of(object);
        let old = self.objects.get(&name);
        if old.is_some_and(|old| **old == entry) {
            return false;
        }
        if let Some(old) = old.filter(|old| old.uid() != entry.uid()) {
            let uid = old.uid().to_owned();
            self.forget(uid);
        }
        if entry.doomed() {
            self.doomed.insert(name.clone());
        } else {
            self.doomed.remove(&name);
        }
        self.objects.insert(name, Arc::new(entry));
        true
    }

    /// The object of a name, if it is the one of this uid.
    fn remove(&mut self, name: &str, uid: Option<String>) {
        let held = self.objects.get(name).map(|entry| entry.uid().to_owned());
        if uid.is_none() || uid == held {
            self.objects.remove(name);
            self.doomed.remove(name);
        }
        if let Some(uid) = uid.or(held) {
            self.forget(uid);
        }
    }

    fn forget(&mut self, uid: String) {
        if self.gone.len() == GONE_MAX {
            self.gone.pop_front();
        }
        self.gone.push_back(uid);
    }
}

#[cfg(test)]
mod tests {
    use kube::core::PartialObjectMeta;
    use kube::core::metadata::PartialObjectMetaExt as _;

    use super::*;
    use crate::controller::entry::NodeEntry;

    type Node = PartialObjectMeta<k8s_openapi::api::core::v1::Node>;

    fn node(name: &str, uid: &str) -> Node {
        let meta = kube::core::ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..kube::core::ObjectMeta::default()
        };
        meta.into_request_partial()
    }

    fn shelf(events: impl IntoIterator<Item = Event<Node>>) -> Shelf<NodeEntry> {
        let shelf = Shelf::default();
        events.into_iter().for_each(|event| shelf.told(event));
        shelf
    }

    #[test]
    fn what_a_list_leaves_out_is_gone() {
        let shelf = shelf([
            Event::Init,
            Event::InitApply(node("a", "1")),
            Event::InitApply(node("b", "2")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(node("b", "2")),
            Event::InitDone,
        ]);
        assert_eq!(shelf.find("a", "1"), Known::Gone);
        assert!(matches!(shelf.find("b", "2"), Known::Here(_)));
        assert_eq!((shelf.len(), shelf.lists()), (1, 2));
    }

    #[test]
    fn an_object_in_the_place_of_another_is_not_that_one() {
        let shelf = shelf([Event::Apply(node("a", "1"))]);
        assert_eq!(shelf.find("a", "2"), Known::NotHere, "it may still come");
        shelf.told(Event::Apply(node("a", "2")));
        assert_eq!(shelf.find("a", "1"), Known::Gone);
        shelf.told(Event::Delete(node("a", "1")));
        assert!(matches!(shelf.find("a", "2"), Known::Here(_)), "a late word of the old one");
    }

    #[test]
    fn who_waits_is_woken_by_changes_only() {
        let shelf = shelf([Event::Init, Event::InitApply(node("a", "1")), Event::InitDone]);
        let changes = shelf.changes();
        shelf.told(Event::Apply(node("a", "1")));
        assert!(!changes.has_changed().expect("open"));
        shelf.told(Event::Delete(node("a", "1")));
        assert!(changes.has_changed().expect("open"));
    }

    #[test]
    fn removed_objects_are_not_remembered_for_ever() {
        let shelf = Shelf::<NodeEntry>::default();
        for n in 0..2 * GONE_MAX {
            shelf.told(Event::Apply(node("a", &n.to_string())));
        }
        assert_eq!(shelf.read().gone.len(), GONE_MAX);
        assert_eq!(shelf.find("a", "0"), Known::NotHere);
    }
}
