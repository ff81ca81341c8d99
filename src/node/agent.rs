//! Does what the agenda says, and tells it what comes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as WallInstant};

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::api::{self, MirrorPool, MirrorSnapshot, MirrorVolume};
use crate::csi::backend;
use crate::csi::node::mounts::Mounts;
use crate::engine::Settings;
use crate::host::Host;
use crate::ids::VgName;
use crate::metrics::Operations;
use crate::node::agenda::{Agenda, Input, Job, Key, Object, Write, Written};
use crate::node::decide::{Refused, Work};
use crate::node::look::{self, Focus, Glance, PoolSeen};
use crate::node::open;
use crate::node::pools::Pools;
use crate::node::records::Records;
use crate::node::tell::{self, Note};
use crate::node::wish::PoolWish;
use crate::node::work;
use crate::pool::{Pool, background};
use crate::report::Class;

/// Work that goes on by itself, and what ends it.
type Background = (CancellationToken, JoinHandle<()>);

/// What all parts of an agent share.
pub struct Shared<H, M> {
    /// The node's name.
    pub node: String,
    /// The machine.
    pub host: H,
    /// Its mounts.
    pub mounts: Arc<M>,
    /// Of the engines.
    pub settings: Settings,
    /// Pools are opened one at a time: of two that name one disk the first gets it.
    pub opening: tokio::sync::Mutex<()>,
    /// Open pools.
    pub pools: Arc<Pools<H, M>>,
    /// What is counted.
    pub operations: Operations,
    /// Something was mounted or unmounted.
    pub mounted: Arc<Notify>,
    /// Background work of the open pools.
    pub background: Mutex<BTreeMap<VgName, Background>>,
    /// When the agent last came round.
    pub alive: Mutex<WallInstant>,
}

impl<H: Host + Clone + 'static, M: Mounts> Shared<H, M> {
    /// Opens a pool, or adds to one that is open; its background work is begun.
    ///
    /// # Errors
    /// It is not open, or is and is not all that it should be.
    pub async fn open(&self, wish: &PoolWish, stop: &CancellationToken) -> backend::Result<()> {
        let name = &wish.volume_group;
        let _alone = self.opening.lock().await;
        if let Some(pool) = self.pools.get(name) {
            return open::grow(&pool, &self.settings, wish).await;
        }
        let (host, mounts) = (self.host.clone(), Arc::clone(&self.mounts));
        match open::open(host, mounts, self.settings.clone(), wish.clone()).await {
            Ok((pool, grown)) => {
                let pool = Arc::new(pool);
                let stop = stop.child_token();
                let task = tokio::spawn(background::run(Arc::clone(&pool), stop.clone()));
                self.background().insert(name.clone(), (stop, task));
                self.pools.opened(pool);
                grown
            }
            Err(error) => {
                self.pools.not_opened(name.clone());
                Err(error)
            }
        }
    }

    fn close(&self, name: &VgName) {
        self.pools.closed(name);
        if let Some((stop, _)) = self.background().remove(name) {
            stop.cancel();
        }
    }

    fn background(&self) -> MutexGuard<'_, BTreeMap<VgName, Background>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the background work has ended; it was told to.
    pub async fn background_ended(&self) {
        let tasks = std::mem::take(&mut *self.background());
        for (pool, (stop, task)) in tasks {
            stop.cancel();
            if let Err(error) = task.await {
                tracing::error!(%pool, "background work stopped: {error}");
            }
        }
    }

    /// The agent has come round.
    pub fn beat(&self) {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = WallInstant::now();
    }

    /// How long ago the agent came round.
    pub fn silent_for(&self) -> Duration {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// An agent that may write to its node's objects.
struct Agent<H, M> {
    shared: Arc<Shared<H, M>>,
    records: Records,
    recorder: Recorder,
    client: Client,
    /// Stops the background work of pools that are opened.
    background: CancellationToken,
    inputs: mpsc::UnboundedSender<Input>,
    /// Looks, work and writes that run.
    tasks: TaskTracker,
    /// Whoever holds a permit may write.
    writers: Semaphore,
}

/// How many writes run at a time. Each has a connection of its own with tens of KiB of buffers, which stays for a while: an
/// import of hundreds of volumes would open as many.
const WRITES_MAX: usize = 8;

/// How often it is shown that the agent is alive, though nothing happens.
pub const PULSE: Duration = Duration::from_secs(30);

/// Reconciles until `stop` is cancelled; work and writes that have begun are ended.
pub async fn run<H: Host + Clone + 'static, M: Mounts>(
    shared: Arc<Shared<H, M>>,
    client: Client,
    mut agenda: Agenda,
    stop: CancellationToken,
    background: CancellationToken,
) {
    let (inputs, mut happened) = mpsc::unbounded_channel();
    let reporter =
        Reporter { controller: "splitmirror.io/node".to_owned(), instance: Some(shared.node.clone()) };
    let agent = Arc::new(Agent {
        records: Records::new(&client),
        recorder: Recorder::new(client.clone(), reporter),
        client,
        background,
        inputs,
        tasks: TaskTracker::new(),
        writers: Semaphore::new(WRITES_MAX),
        shared,
    });
    let watches = [
        agent.watch::<MirrorPool>(Input::Pools),
        agent.watch::<MirrorVolume>(Input::Volumes),
        agent.watch::<MirrorSnapshot>(Input::Snapshots),
        agent.watch_mounts(),
    ];
    for pool in agent.shared.pools.all() {
        agent.follow(&pool);
    }
    loop {
        agent.shared.beat();
        let now = Instant::now();
        for job in agenda.plan(now, &Time(Timestamp::now())) {
            agent.start(job);
        }
        let wake = agenda.wake().map_or(now + PULSE, |at| at.min(now + PULSE));
        let input = tokio::select! {
            () = stop.cancelled() => break,
            input = happened.recv() => input,
            () = tokio::time::sleep_until(wake) => None,
        };
        let now = Instant::now();
        input.into_iter().for_each(|input| agenda.take(input, now));
        while let Ok(input) = happened.try_recv() {
            agenda.take(input, now);
        }
    }
    watches.into_iter().for_each(|watch| watch.abort());
    agent.tasks.close();
    agent.tasks.wait().await;
}

impl<H: Host + Clone + 'static, M: Mounts> Agent<H, M> {
    /// Tells the agenda. Nobody listens only when the agent stops.
    fn tell(&self, input: Input) {
        is_heard(&self.inputs, input);
    }

    /// Watches this node's objects of one kind.
    fn watch<K>(&self, input: fn(Event<K>) -> Input) -> JoinHandle<()>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let config = watcher::Config::default().fields(&format!("{}={}", api::NODE_FIELD, self.shared.node));
        let mut events = api::watch::objects::<K>(&self.client, config).boxed();
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if !is_heard(&inputs, input(event)) {
                    return;
                }
            }
        })
    }

    fn watch_mounts(&self) -> JoinHandle<()> {
        let (mounted, inputs) = (Arc::clone(&self.shared.mounted), self.inputs.clone());
        tokio::spawn(async move {
            loop {
                mounted.notified().await;
                if !is_heard(&inputs, Input::Mounted) {
                    return;
                }
            }
        })
    }

    /// Passes on when a merge of this pool has come further, until nobody listens.
    fn follow(&self, pool: &Arc<Pool<H, M>>) {
        let (name, mut progress, inputs) =
            (pool.engine().pool().clone(), pool.progress(), self.inputs.clone());
        tokio::spawn(async move {
            while progress.changed().await.is_ok() {
                if !is_heard(&inputs, Input::Progress(name.clone())) {
                    return;
                }
            }
        });
    }

    fn start(self: &Arc<Self>, job: Job) {
        match job {
            Job::Objects(objects) => self.shared.pools.set_objects(objects),
            Job::Look { pool, focus, before } => {
                let agent = Arc::clone(self);
                self.tasks.spawn(async move {
                    let glance = agent.look(&pool, focus.clone(), before).await;
                    agent.tell(Input::Looked { pool, focus, glance });
                });
            }
            Job::Work { key, pool, work } => {
                let span =
                    tracing::info_span!("work", op.kind = work::name(&work), op.on = key.name, pool = %pool);
                let agent = Arc::clone(self);
                let task = async move {
                    let (result, glance) = agent.work(&pool, &work).await;
                    agent.tell(Input::Worked { key, pool, work, result, glance });
                };
                self.tasks.spawn(task.instrument(span));
            }
            Job::Write { key, write, notes } => {
                let agent = Arc::clone(self);
                self.tasks.spawn(async move { agent.write(key, write, notes).await });
            }
        }
    }

    async fn look(
        &self,
        pool: &VgName,
        focus: Focus,
        before: Option<Arc<PoolSeen>>,
    ) -> Result<Glance, Refused> {
        let open = self.shared.pools.get(pool).ok_or_else(|| not_open(pool))?;
        let mounts = Arc::clone(&self.shared.mounts);
        let seen = open.run(move |engine| look::look(engine, &*mounts, before.as_deref(), &focus)).await;
        seen.map_err(refused)
    }

    /// Does one piece of work; how its pool is seen afterwards.
    async fn work(&self, pool: &VgName, work: &Work) -> (Result<(), Refused>, Option<Glance>) {
        let began = WallInstant::now();
        let (result, glance) = match work {
            Work::OpenPool(wish) => {
                let known = self.shared.pools.get(pool).is_some();
                let opened = self.shared.open(wish, &self.background).await;
                if let Some(open) = self.shared.pools.get(pool).filter(|_| !known) {
                    self.follow(&open);
                }
                (opened.map_err(refused), self.look(pool, Focus::all(), None).await.ok())
            }
            Work::ClosePool(name) => {
                self.shared.close(name);
                (Ok(()), None)
            }
            Work::CreateVolume(_)
            | Work::Clone { .. }
            | Work::CreateView { .. }
            | Work::Expand { .. }
            | Work::Modify { .. }
            | Work::Activate(_)
            | Work::DeleteVolume(_)
            | Work::Split(_)
            | Work::RollBack(_)
            | Work::SplitGroup(_)
            | Work::MergeGroup { .. }
            | Work::Merge { .. } => match self.shared.pools.get(pool) {
                None => (Err(not_open(pool)), None),
                Some(open) => {
                    let result = work::run(&open, work.clone()).await.map_err(refused);
                    (result, work::seen(&open, work).await)
                }
            },
        };
        let (time, error) = (began.elapsed(), result.as_ref().err());
        self.shared.operations.ended(work::name(work), error.map(|error| error.class), time);
        let seconds = time.as_secs_f64();
        match error {
            None => tracing::info!(op.seconds = seconds, "done"),
            Some(Refused { class: Class::InProgress, message }) => {
                tracing::debug!(op.seconds = seconds, "not yet: {message}");
            }
            Some(Refused { class, message }) => {
                tracing::warn!(op.seconds = seconds, error.class = class.as_str(), "not done: {message}");
            }
        }
        (result, glance)
    }

    async fn write(&self, key: Key, write: Write, mut notes: Vec<Note>) {
        let _permit = self.writers.acquire().await.expect("nobody closes it");
        let import = matches!(write, Write::Create(_));
        let result = self.records.write(&key, write).await;
        match &result {
            Ok(Written::Stored(object)) if import => notes.extend(imported(object)),
            Ok(_) => {}
            Err(_) => notes.clear(),
        }
        self.tell(Input::Wrote { key, result });
        for note in notes {
            if let Err(error) = self.recorder.publish(&note.event(), &note.about).await {
                tracing::warn!(event = note.reason, "an event is not told: {error}");
            }
        }
    }
}

/// Whether somebody listens.
fn is_heard(inputs: &mpsc::UnboundedSender<Input>, input: Input) -> bool {
    inputs.send(input).is_ok()
}

fn imported(object: &Object) -> Vec<Note> {
    match object {
        Object::Pool(_) => Vec::new(),
        Object::Volume(object) => tell::imported(&**object, "VolumeImported"),
        Object::Snapshot(object) => tell::imported(&**object, "SnapshotImported"),
    }
}

fn not_open(pool: &VgName) -> Refused {
    Refused { class: Class::Transient, message: format!("pool {pool} is not open") }
}

fn refused(error: backend::Error) -> Refused {
    Refused { class: error.class, message: error.message }
}
