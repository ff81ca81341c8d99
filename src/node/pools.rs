//! The pools of this node that are open, and the volumes in them by their CSI ids.
//!
//! A CSI id is the name of a MirrorVolume, which follows from what is on the disks ([`names`]): so volumes are found, staged
//! and published while the API server is down. What is known of the objects only narrows that down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::names;
use crate::csi::backend::{
    BlocksWish, ChangedBlocks, Deadline, Devices, Error, KnownVolume, OpenVolume, Result,
};
use crate::csi::node::mounts::Mounts;
use crate::host::Host;
use crate::ids::{LvName, VgName};
use crate::pool::Pool;
use crate::pool::blocks::Reading;
use crate::report::Class;
use crate::volume::info::NameInfo;

/// Where a volume or view is: its pool, and its id there.
pub type Place = (VgName, LvName);

/// What the objects say of volumes, as far as it matters for using them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// The MirrorVolume of each.
    pub named: BTreeMap<Place, String>,
    /// Those that are to be deleted.
    pub deleting: BTreeSet<String>,
    /// The pool of each MirrorSnapshot, and its id there; none, when nobody is told of their blocks.
    pub snapshots: BTreeMap<String, (VgName, String)>,
}

/// The open pools of a node.
pub struct Pools<H, M> {
    node: String,
    open: Mutex<BTreeMap<VgName, Arc<Pool<H, M>>>>,
    /// Pools that should be open, and are not.
    shut: Mutex<BTreeSet<VgName>>,
    objects: Mutex<Objects>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Host + 'static, M: Mounts> Pools<H, M> {
    /// None yet, on the node of this name.
    #[must_use]
    pub fn new(node: String) -> Self {
        Self { node, open: Mutex::default(), shut: Mutex::default(), objects: Mutex::default() }
    }

    /// Takes a pool in.
    pub fn opened(&self, pool: Arc<Pool<H, M>>) {
        let name = pool.engine().pool().clone();
        lock(&self.shut).remove(&name);
        lock(&self.open).insert(name, pool);
    }

    /// A pool that should be open cannot be opened.
    pub fn not_opened(&self, name: VgName) {
        lock(&self.shut).insert(name);
    }

    /// Lets a pool go.
    pub fn closed(&self, name: &VgName) {
        lock(&self.shut).remove(name);
        lock(&self.open).remove(name);
    }

    /// The pool of this name, if it is open.
    #[must_use]
    pub fn get(&self, name: &VgName) -> Option<Arc<Pool<H, M>>> {
        lock(&self.open).get(name).cloned()
    }

    /// All open pools.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pool<H, M>>> {
        lock(&self.open).values().cloned().collect()
    }

    /// Pools that should be open, and are not.
    #[must_use]
    pub fn not_open(&self) -> Vec<VgName> {
        lock(&self.shut).iter().cloned().collect()
    }

    /// What the objects say now.
    pub fn set_objects(&self, objects: Objects) {
        *lock(&self.objects) = objects;
    }

    /// Where the volume or view of a CSI id is.
    async fn place(&self, id: &str) -> Result<Option<(Arc<Pool<H, M>>, LvName)>> {
        let mut places = Vec::new();
        for pool in self.all() {
            let vg = pool.engine().pool().clone();
            let known = pool.run(|engine| engine.names()).await?;
            let objects = lock(&self.objects);
            let ours = known.into_iter().filter(|info| self.is_called(&vg, info, id)).map(|info| info.key);
            let of_another = |key: &LvName| {
                let object = objects.named.get(&(vg.clone(), key.clone()));
                object.is_some_and(|name| name != id)
            };
            places.extend(ours.filter(|key| !of_another(key)).map(|key| (Arc::clone(&pool), key)));
        }
        match places.as_slice() {
            [] | [_] => Ok(places.pop()),
            [_, _, ..] => Err(Error::precondition(format!(
                "several volumes on this node are called {id:?}: wait until their MirrorVolumes are known"
            ))),
        }
    }

    /// Whether a volume or view can have this id.
    fn is_called(&self, vg: &VgName, info: &NameInfo, id: &str) -> bool {
        info.name.as_deref().is_some_and(|name| names::of(name) == id)
            || names::found_volume(&self.node, vg, &info.key) == id
    }
}

impl<H: Host + 'static, M: Mounts> Devices for Pools<H, M> {
    async fn find(&self, id: &str) -> Result<Option<KnownVolume>> {
        let Some((pool, key)) = self.place(id).await? else { return Ok(None) };
        let found = pool.find(key.as_str()).await?;
        Ok(found.map(|found| KnownVolume { id: id.to_owned(), ..found.known() }))
    }

    async fn open(&self, id: &str) -> Result<OpenVolume> {
        if lock(&self.objects).deleting.contains(id) {
            return Err(Error::precondition(format!("volume {id} is being deleted")));
        }
        if let Some((pool, key)) = self.place(id).await? {
            return pool.open(key.as_str()).await;
        }
        let shut: Vec<String> = self.not_open().iter().map(ToString::to_string).collect();
        if shut.is_empty() {
            return Err(Error::not_found(format!("there is no volume {id:?} on this node")));
        }
        let message = format!("volume {id:?} is not found, and pools are not open yet: {}", shut.join(", "));
        Err(Error::new(Class::Transient, message))
    }

    async fn note_format(&self, id: &str, under_way: bool) -> Result<()> {
        let place = self.place(id).await?;
        let (pool, key) =
            place.ok_or_else(|| Error::not_found(format!("there is no volume {id:?} on this node")))?;
        pool.note_format(key.as_str(), under_way).await
    }
}

impl<H: Host + 'static, M: Mounts> Pools<H, M> {
    /// Where the snapshot of a CSI id is: its pool, and its id there.
    fn snapshot(&self, id: &str) -> Result<(VgName, String)> {
        let found = lock(&self.objects).snapshots.get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("there is no snapshot {id:?} on node {}", self.node)))
    }
}

impl<H: Host + 'static, M: Mounts> ChangedBlocks for Pools<H, M> {
    type Parts = Reading<H, M>;

    async fn blocks(&self, wish: &BlocksWish, _: Deadline) -> Result<Self::Parts> {
        let (vg, snapshot) = self.snapshot(&wish.snapshot)?;
        let base = match &wish.base {
            None => None,
            Some(base) => {
                let (of, id) = self.snapshot(base)?;
                if of != vg {
                    let message = format!("snapshots {base} and {} are not of one volume", wish.snapshot);
                    return Err(Error::invalid(message));
                }
                Some(id)
            }
        };
        let pool =
            self.get(&vg).ok_or_else(|| Error::new(Class::Transient, format!("pool {vg} is not open")))?;
        Ok(Reading::new(pool, BlocksWish { snapshot, base, from: wish.from }))
    }
}
