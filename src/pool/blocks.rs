//! The blocks of a snapshot, read a part at a time while nobody waits for the group's lock.

use std::sync::Arc;

use crate::csi::backend::{BlocksWish, Part, Parts, Result};
use crate::csi::node::mounts::Mounts;
use crate::host::Host;
use crate::pool::Pool;
use crate::units::Bytes;
use crate::volume::changes::Blocks;

/// The blocks of a snapshot of a pool. Ids are the engine's.
pub struct Reading<H, M> {
    pool: Arc<Pool<H, M>>,
    wish: BlocksWish,
    /// Where the next part begins.
    next: Option<Bytes>,
}

impl<H: Host + 'static, M: Mounts> Reading<H, M> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(pool: Arc<Pool<H, M>>, wish: BlocksWish) -> Self {
        Self { pool, next: Some(wish.from), wish }
    }
}

impl<H: Host + 'static, M: Mounts> Parts for Reading<H, M> {
    async fn next(&mut self) -> Result<Option<Part>> {
        let Some(from) = self.next else { return Ok(None) };
        let BlocksWish { snapshot, base, .. } = self.wish.clone();
        let read = self.pool.run(move |engine| engine.blocks(&snapshot, base.as_deref(), from)).await?;
        let Blocks { size, ranges, next } = read;
        self.next = next;
        Ok(Some(Part { size, ranges }))
    }
}
