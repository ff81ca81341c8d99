//! What is seen of a pool: looked at as a whole once a minute, and in parts when a part has changed.
//!
//! A look blocks.

use std::collections::{BTreeMap, BTreeSet};

use crate::csi::node::active;
use crate::csi::node::mounts::Mounts;
use crate::engine::{Engine, Result};
use crate::host::Host;
use crate::ids::LvName;
use crate::pool::Found;
use crate::volume::info::{PoolInfo, SlotInfo, SlotState, ViewInfo, VolumeInfo};

/// What is seen of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSeen {
    /// The group.
    pub info: PoolInfo,
    /// Its mirrored volumes, by LV.
    pub volumes: BTreeMap<LvName, VolumeInfo>,
    /// Its views, by key.
    pub views: BTreeMap<LvName, ViewInfo>,
    /// Which of both are mounted somewhere.
    pub staged: BTreeSet<LvName>,
}

/// What to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Focus {
    /// Everything.
    pub all: bool,
    /// These volumes, and what the group has free.
    pub volumes: BTreeSet<LvName>,
    /// What is mounted.
    pub mounts: bool,
}

impl Focus {
    /// At everything.
    #[must_use]
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// At one volume, and at the views.
    #[must_use]
    pub fn volume(lv: LvName) -> Self {
        Self { volumes: BTreeSet::from([lv]), ..Self::default() }
    }

    /// At what is mounted.
    #[must_use]
    pub fn mounts() -> Self {
        Self { mounts: true, ..Self::default() }
    }

    /// Nothing is to be looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && !self.mounts && self.volumes.is_empty()
    }

    /// And at that too.
    pub fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.mounts |= other.mounts;
        self.volumes.extend(other.volumes);
    }
}

/// What a look came to: the parts that were looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Glance {
    info: Option<PoolInfo>,
    /// Those that are gone are `None`.
    volumes: BTreeMap<LvName, Option<VolumeInfo>>,
    /// Volumes that are not among these are gone too.
    all: bool,
    views: Option<BTreeMap<LvName, ViewInfo>>,
    staged: Option<BTreeSet<LvName>>,
    /// Volumes that have changed since: of them, and of what they are part of, nothing is told.
    stale: BTreeSet<LvName>,
}

impl Glance {
    /// Without what these volumes are part of: they were worked on meanwhile, and seen after that.
    #[must_use]
    pub fn but(mut self, changed: &BTreeSet<LvName>) -> Self {
        if !changed.is_empty() {
            (self.info, self.views, self.staged) = (None, None, None);
            self.volumes.retain(|lv, _| !changed.contains(lv));
            self.stale.clone_from(changed);
        }
        self
    }
}

/// Looks at parts of a pool, and at what is mounted; `before` is how it was seen last.
///
/// # Errors
/// It cannot be read.
pub fn look<H: Host>(
    engine: &Engine<H>,
    mounts: &dyn Mounts,
    before: Option<&PoolSeen>,
    focus: &Focus,
) -> Result<Glance> {
    let mut glance = glance(engine, focus)?;
    let mut after = before.cloned();
    update(&mut after, glance.clone());
    glance.staged = after.and_then(|seen| staged(mounts, &seen));
    Ok(glance)
}

/// Looks at parts of a pool.
///
/// # Errors
/// It cannot be read.
pub fn glance<H: Host>(engine: &Engine<H>, focus: &Focus) -> Result<Glance> {
    let mut glance = Glance { all: focus.all, ..Glance::default() };
    if focus.all {
        glance.volumes.extend(engine.volumes()?.into_iter().map(|volume| (volume.id.clone(), Some(volume))));
    } else {
        for lv in &focus.volumes {
            glance.volumes.insert(lv.clone(), engine.volume(lv.as_str())?);
        }
    }
    if focus.all || !focus.volumes.is_empty() {
        let views = engine.views()?.into_iter();
        glance.views = Some(views.filter_map(|view| Some((view.id.parse().ok()?, view))).collect());
        glance.info = Some(engine.info()?);
    }
    Ok(glance)
}

/// Which volumes and views are mounted; `None` when that cannot be told.
fn staged(mounts: &dyn Mounts, seen: &PoolSeen) -> Option<BTreeSet<LvName>> {
    let unknown = |error| tracing::warn!("whether volumes are in use is not known: {error}");
    let table = mounts.table().map_err(unknown).ok()?;
    let volumes = seen.volumes.values().map(|volume| Found::Mirror(Box::new(volume.clone())));
    let found = volumes.chain(seen.views.values().map(|view| Found::View(view.clone())));
    let shown = |found: Found| {
        let known = found.known();
        let open = active(mounts, &known).map_err(unknown).ok()??;
        table.iter().any(|mount| mount.shows(&open)).then(|| known.id.parse().ok())?
    };
    Some(found.filter_map(shown).collect())
}

/// Takes a look into account.
pub fn update(seen: &mut Option<PoolSeen>, glance: Glance) {
    let Glance { info, volumes, all, views, staged, stale } = glance;
    if seen.is_none()
        && let Some(info) = info.clone()
    {
        let (volumes, views, staged) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        *seen = Some(PoolSeen { info, volumes, views, staged });
    }
    let Some(seen) = seen else { return };
    seen.info = info.unwrap_or_else(|| seen.info.clone());
    if all {
        seen.volumes.retain(|lv, _| stale.contains(lv));
    }
    for (lv, volume) in volumes {
        match volume {
            Some(volume) => seen.volumes.insert(lv, volume),
            None => seen.volumes.remove(&lv),
        };
    }
    if let Some(views) = views {
        // A view that has come or gone was looked at alone, and not the volume of the snapshot that it shows.
        for snapshot in seen.volumes.values_mut().flat_map(|volume| &mut volume.snapshots) {
            let shown = views.values().filter(|view| view.snapshot == snapshot.id);
            snapshot.views = shown.map(|view| view.id.clone()).collect();
        }
        seen.views = views;
    }
    seen.staged = staged.unwrap_or_else(|| std::mem::take(&mut seen.staged));
}

/// Whether something is being copied, or will be as soon as something else is: an image that is lent comes back then, and
/// one that is lost is replaced when there is room.
#[must_use]
pub fn is_moving(volume: &VolumeInfo) -> bool {
    let moves = |slot: &SlotInfo| {
        matches!(slot.state, SlotState::Merging | SlotState::Rebuilding) || slot.lent.is_some() || slot.lost
    };
    volume.rollback.is_some() || volume.filling.is_some() || volume.slots.iter().any(moves)
}
