//! A pool that is served: its engine on threads that may block, this machine's mounts, and what goes on by itself.
//!
//! Standalone has one of these, a node's agent one for each volume group. Ids are the engine's.

pub mod background;
pub mod blocks;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::csi::backend::{Error, KnownVolume, OpenVolume, Result};
use crate::csi::node::active;
use crate::csi::node::mounts::Mounts;
use crate::engine::{self, Engine};
use crate::host::Host;
use crate::ids::LvName;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::info::{ViewInfo, VolumeInfo};
use crate::volume::key;
use crate::volume::spec::RollbackSpec;

/// What an engine has under an id.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A mirrored volume.
    Mirror(Box<VolumeInfo>),
    /// A read-only volume that shows a snapshot's image.
    View(ViewInfo),
}

impl Found {
    /// What a node must know of it to show it to pods.
    #[must_use]
    pub fn known(&self) -> KnownVolume {
        let (id, device, view) = match self {
            Self::Mirror(volume) => (volume.id.to_string(), &volume.device, false),
            Self::View(view) => (view.id.clone(), &view.device, true),
        };
        KnownVolume { id, device: device.as_ref().map(PathBuf::from), view }
    }
}

/// A pool that is served.
pub struct Pool<H, M> {
    engine: Arc<Engine<H>>,
    mounts: Arc<M>,
    /// Something has changed: there may be a merge to take further.
    changed: Notify,
    /// Bumped when a merge has come further.
    progress: watch::Sender<u64>,
    /// When the background work last came round.
    alive: Mutex<Instant>,
}

impl<H: Host + 'static, M: Mounts> Pool<H, M> {
    /// Over an engine and mounts.
    #[must_use]
    pub fn new(engine: Engine<H>, mounts: Arc<M>) -> Self {
        Self {
            engine: Arc::new(engine),
            mounts,
            changed: Notify::new(),
            progress: watch::Sender::default(),
            alive: Mutex::new(Instant::now()),
        }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine<H> {
        &self.engine
    }

    /// Finishes or undoes what a crash left, and activates the volumes. How many could not be brought up: the log
    /// tells which and why.
    ///
    /// # Errors
    /// The pool could not be read or written.
    pub async fn recover(&self) -> Result<usize> {
        Ok(self.run(Engine::recover).await?.len())
    }

    /// Told when a merge has come further.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// How long ago the background work came round.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Runs what blocks on a thread that may.
    ///
    /// # Errors
    /// The engine's, with its whole chain.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine<H>) -> engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = Arc::clone(&self.engine);
        let span = tracing::Span::current();
        match tokio::task::spawn_blocking(move || span.in_scope(|| work(&engine))).await {
            Ok(result) => result.map_err(|error| Error::of(error.class(), &error)),
            Err(panic) => Err(Error::new(Class::Internal, format!("the engine stopped: {panic}"))),
        }
    }

    /// As [`Self::run`], for what may leave work to the background.
    ///
    /// # Errors
    /// The engine's, with its whole chain.
    pub async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine<H>) -> engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        let result = self.run(work).await;
        self.changed.notify_one();
        result
    }

    /// The volume or view of this id.
    ///
    /// # Errors
    /// The pool could not be read.
    pub async fn find(&self, id: &str) -> Result<Option<Found>> {
        let id = id.to_owned();
        self.run(move |engine| {
            if let Some(volume) = engine.volume(&id)? {
                return Ok(Some(Found::Mirror(Box::new(volume))));
            }
            Ok(engine.views()?.into_iter().find(|view| view.id == id).map(Found::View))
        })
        .await
    }

    /// The device of a volume or view, activated when it was not.
    ///
    /// # Errors
    /// There is none of this id, or it cannot be brought up.
    pub async fn open(&self, id: &str) -> Result<OpenVolume> {
        let id = id.to_owned();
        let open = self.run(move |engine| engine.open_device(&id)).await?;
        Ok(OpenVolume {
            device: open.path,
            devno: open.devno,
            read_only: open.read_only,
            view: open.read_only,
            formatting: open.formatting,
            clone: open.clone,
        })
    }

    /// Notes durably that a file system is being made on a volume, or that it is made and may hold data.
    ///
    /// # Errors
    /// There is no such volume, or the note could not be written.
    pub async fn note_format(&self, id: &str, under_way: bool) -> Result<()> {
        let volume = lv(id)?;
        self.run(move |engine| engine.note_format(&volume, under_way)).await
    }

    /// Removes a volume or view; an unknown one is removed already.
    ///
    /// It is refused while a mount shows it: a file system in use keeps its device open, which the engine sees, but a raw
    /// block volume that is staged or published is a bind mount of its node, which nobody has open.
    ///
    /// # Errors
    /// It is in use or has snapshots.
    pub async fn delete_volume(&self, id: &str) -> Result<()> {
        let Some(found) = self.find(id).await? else { return Ok(()) };
        self.unmounted(&found).await?;
        let id = id.to_owned();
        self.change(move |engine| engine.delete_volume(&id)).await
    }

    /// Puts a volume back to a snapshot of it, in place; what was written since is lost, and the snapshot stays. How much was
    /// copied.
    ///
    /// # Errors
    /// It is in use (see [`Self::delete_volume`]), there is no such snapshot of it, or the engine's.
    pub async fn roll_back(&self, wanted: RollbackSpec) -> Result<Bytes> {
        self.unused_for(&wanted).await?;
        self.change(move |engine| {
            let mut copied = Bytes(0);
            engine.roll_back(&wanted, |progress| copied = progress.done)?;
            Ok(copied)
        })
        .await
    }

    /// Begins that, and leaves the copying to the background.
    ///
    /// # Errors
    /// As [`Self::roll_back`].
    pub async fn begin_rollback(&self, wanted: RollbackSpec) -> Result<()> {
        self.unused_for(&wanted).await?;
        self.change(move |engine| engine.begin_rollback(&wanted)).await
    }

    /// That no mount shows the volume of a rollback's snapshot.
    async fn unused_for(&self, wanted: &RollbackSpec) -> Result<()> {
        let volume = key::parse_snapshot_id(&wanted.snapshot).map(|(volume, _)| volume.to_string());
        let found = match volume {
            Some(volume) => self.find(&volume).await?,
            None => None,
        };
        let missing = || Error::not_found(format!("there is no snapshot {}", wanted.snapshot));
        self.unmounted(&found.ok_or_else(missing)?).await
    }

    /// That no mount shows it.
    async fn unmounted(&self, found: &Found) -> Result<()> {
        let (mounts, known) = (Arc::clone(&self.mounts), found.known());
        let check = tokio::task::spawn_blocking(move || check_unmounted(&*mounts, &known));
        check.await.unwrap_or_else(|panic| {
            Err(Error::new(Class::Internal, format!("the mount table was not read: {panic}")))
        })
    }
}

fn check_unmounted(mounts: &dyn Mounts, volume: &KnownVolume) -> Result<()> {
    let Some(open) = active(mounts, volume)? else { return Ok(()) };
    let table = mounts.table()?;
    let Some(mount) = table.iter().find(|mount| mount.shows(&open)) else { return Ok(()) };
    let (id, target) = (&volume.id, mount.target.display());
    Err(Error::precondition(format!("volume {id} is in use: it is mounted at {target}")))
}

/// The name of a volume's LV. What cannot be one is no volume's id.
///
/// # Errors
/// It cannot be one.
pub fn lv(id: &str) -> Result<LvName> {
    id.parse().map_err(|_| Error::not_found(format!("there is no volume {id:?}")))
}
