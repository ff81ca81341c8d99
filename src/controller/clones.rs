//! Clones as objects: what they are made from, and what must wait until they are filled.

use crate::api::volume::Source;
use crate::controller::backend::Controller;
use crate::controller::entry::PoolEntry;
use crate::csi::backend::{Error, Origin, Result, VolumeWish};
use crate::ids::VgName;
use crate::report::Class;

/// What a clone is to be made from. The clone is in the same pool.
pub(super) struct Original {
    /// As the clone's object names it.
    pub source: Source,
    node: String,
    pool: VgName,
    /// Why it cannot be copied now.
    unfit: Option<Error>,
}

impl Controller {
    /// What there is to be copied.
    pub(super) async fn original(&self, origin: &Origin) -> Result<Original> {
        match origin {
            Origin::Images(id) => Err(Error::invalid(format!(
                "`splitmirror.io/restore: detach` of a volume is not implemented in Kubernetes: no images of volume {id} can become a \
                 volume here"
            ))),
            Origin::Image(id) => Err(Error::invalid(format!(
                "`splitmirror.io/restore: detach` is not implemented in Kubernetes yet: snapshot {id} cannot become a volume here"
            ))),
            Origin::Snapshot(id) => {
                let missing = || Error::not_found(format!("there is no snapshot {id:?}"));
                let snapshot = self.known(&self.cache.snapshots, &self.cluster.snapshots, id).await?;
                let snapshot = snapshot.ok_or_else(missing)?;
                let unfit = match (snapshot.delete, snapshot.ready) {
                    (true, _) => Some(missing()),
                    (false, false) => Some(Error::precondition(format!("snapshot {id} is not ready yet"))),
                    (false, true) => None,
                };
                let (node, pool) = (snapshot.node.clone(), snapshot.pool.clone());
                Ok(Original { source: Source::Snapshot(id.clone()), node, pool, unfit })
            }
            Origin::Volume(id) => {
                let missing = || Error::not_found(format!("there is no volume {id:?}"));
                let volume = self.known(&self.cache.volumes, &self.cluster.volumes, id).await?;
                let volume = volume.ok_or_else(missing)?;
                let unfit = if volume.delete { Some(missing()) } else { volume.check_filled().err() };
                let (node, pool) = (volume.node.clone(), volume.pool.clone());
                Ok(Original { source: Source::Volume(id.clone()), node, pool, unfit })
            }
        }
    }

    /// Refuses for now to take away what a clone is filled from.
    pub(super) fn check_not_copied(&self, source: &Source) -> Result<()> {
        let Some(clone) = self.cache.volumes.first(|clone| clone.needs(source)) else { return Ok(()) };
        let far = clone.filled.map_or_else(String::new, |filled| format!(", {filled} so far"));
        let message =
            format!("{} is being copied into volume {}{far}: try again later", named(source), clone.id);
        Err(Error::new(Class::InProgress, message))
    }
}

impl Original {
    /// Whether it is in this pool.
    pub(super) fn is_in(&self, pool: &PoolEntry) -> bool {
        pool.node == self.node && pool.pool == self.pool
    }

    /// Whether a clone of it can be where it is wished.
    pub(super) fn check(&self, wish: &VolumeWish) -> Result<()> {
        self.unfit.clone().map_or(Ok(()), Err)?;
        if let Some(pool) = wish.pool.as_ref().filter(|pool| **pool != self.pool) {
            let message = format!("{} is in pool {}, not {pool}", named(&self.source), self.pool);
            return Err(Error::invalid(message));
        }
        wish.nodes.check(&self.node)
    }
}

fn named(source: &Source) -> String {
    match source {
        Source::Snapshot(id) => format!("snapshot {id}"),
        Source::Volume(id) => format!("volume {id}"),
    }
}
