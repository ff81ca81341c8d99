//! The run: what is measured in which order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{Api, Client};
use splitmirror::api::snapshot::SnapshotPhase;
use splitmirror::api::{MirrorSnapshot, MirrorVolume};
use tokio::time::Instant;

use crate::driver::Controller;
use crate::echo::{self, Caller};
use crate::figures::{Figure, percentile, row};
use crate::meter::Counted;
use crate::process::{LISTED, MADE, Memory, Program, STARTED};
use crate::{Outcome, cluster, machine, told};

/// Snapshots that are made one after the other, and each of which is counted.
const ONE_BY_ONE: usize = 100;
/// Snapshots that are made several at a time.
const TOGETHER: usize = 300;
/// So many of those at a time.
const AT_ONCE: usize = 10;
/// Starts that are measured.
const STARTS: usize = 3;
/// How long agents may take to bring objects and disks together.
const PATIENCE: Duration = Duration::from_secs(900);
/// Bars.
const CONTROLLER_KIB: u64 = 64 << 10;
const AGENT_KIB: u64 = 24 << 10;
const WRITES: f64 = 6.0;

/// Measures with so many volumes, and as many snapshots, over so many nodes.
pub fn run(objects: usize, nodes: usize) -> Outcome {
    let each = objects / nodes.max(1);
    if each == 0 || each * nodes != objects {
        return Err(format!("{objects} objects cannot be shared alike by {nodes} nodes"));
    }
    let program = std::env::var_os("SPLITMIRROR_BIN").ok_or("SPLITMIRROR_BIN is not set")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let dir = tempfile::tempdir().map_err(|error| told(&error))?;
        let admin = cluster::admin().await?;
        let scene =
            Scene { admin, program: program.into(), dir: dir.path(), nodes, each, began: Instant::now() };
        scene.play().await
    })
}

struct Scene<'a> {
    admin: Client,
    program: PathBuf,
    dir: &'a Path,
    nodes: usize,
    /// Volumes of each node, and as many snapshots.
    each: usize,
    began: Instant,
}

/// What a run of calls comes to.
struct Calls {
    create: Vec<Duration>,
    delete: Vec<Duration>,
    /// Requests while they were made, and while they were removed.
    creating: Counted,
    deleting: Counted,
}

impl Scene<'_> {
    fn say(&self, what: &str) {
        println!("{:6.1} s: {what}", self.began.elapsed().as_secs_f64());
    }

    async fn play(&self) -> Outcome {
        cluster::prepare(&self.admin, self.nodes).await?;
        self.say("definitions, roles, policies and nodes are there");
        let file = self.dir.join("machine");
        let path = file.to_str().ok_or("a path that is not UTF-8")?;
        Program::start_own(&["--machine", path, &self.each.to_string()])?.ended()?;
        self.say("a machine is made");
        // One alone, for its memory; all others beside it.
        let others = (self.nodes - 1).to_string();
        let mut alone = Program::start_own(&["--agents", "0", "1", path])?;
        let mut others = Program::start_own(&["--agents", "1", &others, path])?;
        let machine = alone.until(MADE)?;
        let machine = machine.parse().map_err(|error| format!("{machine:?}: {error}"))?;
        others.until(MADE)?;
        self.say("all machines are made");
        for agents in [&mut alone, &mut others] {
            agents.until(STARTED)?;
        }
        self.all_told().await?;
        self.say("all objects are there, and their agents have told of them");
        let settled = alone.memory()?;
        echo::fill(&self.admin, 2 * self.each * self.nodes).await?;
        self.say("so are as many without meaning");

        let (controller, starts) = self.controller().await?;
        let (echo, echo_starts) = self.echo().await?;
        let fresh = (controller.process.memory()?, echo.memory()?);
        self.say("controller and echo were started, and are ready");
        row("controller: start to ready", Figure::Time(starts), Some(Figure::Time(echo_starts)), None);
        self.memory(("controller: memory when ready", fresh.0), Some(fresh.1), Some(CONTROLLER_KIB));
        self.agents_memory("when all is told", settled, machine);

        let caller = Caller::new(&self.admin).await?;
        let one = self.calls(&controller, "one", ONE_BY_ONE, 1).await?;
        let echo_one = self.echoes(&caller, "one", ONE_BY_ONE, 1).await?;
        self.say("calls one by one are done");
        times("CreateSnapshot", "1 at a time", &one.create, &echo_one.create);
        times("DeleteSnapshot", "1 at a time", &one.delete, &echo_one.delete);
        requests(&one, &echo_one);
        let many = self.calls(&controller, "many", TOGETHER, AT_ONCE).await?;
        let echo_many = self.echoes(&caller, "many", TOGETHER, AT_ONCE).await?;
        self.say("calls together are done");
        times("CreateSnapshot", &format!("{AT_ONCE} at a time"), &many.create, &echo_many.create);
        let after = (controller.process.memory()?, echo.memory()?);
        self.memory(("controller: memory after the calls", after.0), Some(after.1), Some(CONTROLLER_KIB));
        self.agents_memory("after the calls", alone.memory()?, machine);
        Ok(())
    }

    fn memory(&self, (name, ours): (&str, Memory), theirs: Option<Memory>, most: Option<u64>) {
        row(name, Figure::Kib(ours.now), theirs.map(|theirs| Figure::Kib(theirs.now)), most.map(Figure::Kib));
        let peak = theirs.map(|theirs| Figure::Kib(theirs.most));
        row(&format!("{name}, peak"), Figure::Kib(ours.most), peak, None);
    }

    /// An agent's memory. What its simulated machine took before it was started is no part of it; what that takes more
    /// since then, for its arrays, is.
    fn agents_memory(&self, when: &str, memory: Memory, machine: u64) {
        let own = |kib: u64| Figure::Kib(kib.saturating_sub(machine));
        row(&format!("agent: memory {when}"), own(memory.now), None, Some(Figure::Kib(AGENT_KIB)));
        row(&format!("agent: memory {when}, peak"), own(memory.most), None, None);
        let whole = format!("agent: memory {when}, with its simulated machine");
        row(&whole, Figure::Kib(memory.now), None, None);
    }

    /// Waits until every volume and every snapshot has an object that says that it is ready.
    async fn all_told(&self) -> Outcome {
        let wanted = self.each * self.nodes;
        let volumes = Api::<MirrorVolume>::all(self.admin.clone());
        let snapshots = Api::<MirrorSnapshot>::all(self.admin.clone());
        let began = Instant::now();
        loop {
            Counted::at_rest(&self.admin).await?;
            let list = kube::api::ListParams::default();
            let made = volumes.list(&list).await.map_err(|error| told(&error))?;
            let split = snapshots.list(&list).await.map_err(|error| told(&error))?;
            let made = made
                .items
                .iter()
                .filter(|volume| volume.status.as_ref().is_some_and(|status| status.size.is_some()));
            let split = split.items.iter().filter(|snapshot| {
                snapshot.status.as_ref().is_some_and(|status| status.phase == SnapshotPhase::Ready)
            });
            let (made, split) = (made.count(), split.count());
            if (made, split) == (wanted, wanted) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!(
                    "of {wanted} each, agents have told of {made} volumes and {split} snapshots"
                ));
            }
        }
    }

    /// Starts the controller several times; the last one, and the time that the start usually takes.
    async fn controller(&self) -> Outcome<(Controller, Duration)> {
        let kubeconfig = cluster::controller(&self.admin, self.dir).await?;
        let mut times = Vec::new();
        loop {
            let controller = Controller::start(&self.program, &kubeconfig, self.dir).await?;
            times.push(controller.started_in);
            if times.len() == STARTS {
                return Ok((controller, percentile(&times, 50)));
            }
        }
    }

    /// The same of the echo.
    async fn echo(&self) -> Outcome<(Program, Duration)> {
        let mut times = Vec::new();
        loop {
            let began = Instant::now();
            let mut echo = Program::start_own(&["--echo"])?;
            echo.until(LISTED)?;
            times.push(began.elapsed());
            if times.len() == STARTS {
                return Ok((echo, percentile(&times, 50)));
            }
        }
    }

    /// The volumes, those of different nodes next to each other.
    fn volume(&self, number: usize) -> String {
        machine::volume(number % self.nodes, number / self.nodes % self.each)
    }

    async fn calls(
        &self,
        controller: &Controller,
        what: &str,
        count: usize,
        at_once: usize,
    ) -> Outcome<Calls> {
        // A volume has one image to spare.
        let count = count.min(self.each * self.nodes);
        let before = Counted::at_rest(&self.admin).await?;
        let create = (0..count).map(|number| {
            let (name, volume) = (format!("bench-{what}-{number:05}"), self.volume(number));
            async move { controller.split(&name, &volume).await }
        });
        let (create, ids): (Vec<_>, Vec<_>) = all(create, at_once).await?.into_iter().unzip();
        let created = Counted::at_rest(&self.admin).await?;
        let delete = all(ids.iter().map(|id| controller.merge(id)), at_once).await?;
        let deleted = Counted::at_rest(&self.admin).await?;
        let (creating, deleting) = (created.since(&before), deleted.since(&created));
        println!("{count} snapshots made, {at_once} at a time: {creating}");
        println!("{count} snapshots deleted, {at_once} at a time: {deleting}");
        Ok(Calls { create, delete, creating, deleting })
    }

    async fn echoes(&self, caller: &Caller, what: &str, count: usize, at_once: usize) -> Outcome<Calls> {
        let names: Vec<String> = (0..count).map(|number| format!("{what}-{number:05}")).collect();
        let before = Counted::at_rest(&self.admin).await?;
        let create = all(names.iter().map(|name| caller.round_trip(name)), at_once).await?;
        let created = Counted::at_rest(&self.admin).await?;
        let delete = names.iter().map(|name| async move {
            let began = Instant::now();
            caller.remove(name).await.map(|()| began.elapsed())
        });
        let delete = all(delete, at_once).await?;
        let deleted = Counted::at_rest(&self.admin).await?;
        Ok(Calls { create, delete, creating: created.since(&before), deleting: deleted.since(&created) })
    }
}

/// Rows of how long calls take.
fn times(what: &str, how: &str, ours: &[Duration], theirs: &[Duration]) {
    for percent in [50, 99] {
        let of = |times: &[Duration]| Figure::Time(percentile(times, percent));
        row(&format!("{what} p{percent}, {how}"), of(ours), Some(of(theirs)), None);
    }
}

/// Rows of requests.
fn requests(ours: &Calls, theirs: &Calls) {
    let each = |calls: &Calls, sum: f64| {
        let count = u32::try_from(calls.create.len()).map_or(f64::NAN, f64::from);
        Figure::Count(sum / count)
    };
    for (name, of) in [
        ("API requests of a CreateSnapshot", (|calls| calls.creating.all()) as fn(&Calls) -> f64),
        ("API requests of a DeleteSnapshot", |calls| calls.deleting.all()),
    ] {
        row(name, each(ours, of(ours)), Some(each(theirs, of(theirs))), None);
    }
    let events = |calls: &Calls| calls.creating.events() + calls.deleting.events();
    let writes = |calls: &Calls| calls.creating.writes() + calls.deleting.writes() - events(calls);
    let (ours_writes, theirs_writes) = (each(ours, writes(ours)), each(theirs, writes(theirs)));
    row(
        "API writes of a snapshot's life, to objects",
        ours_writes,
        Some(theirs_writes),
        Some(Figure::Count(WRITES)),
    );
    row("API writes of a snapshot's life, events besides", each(ours, events(ours)), None, None);
}

/// What all of them come to, so many at a time.
async fn all<T>(
    calls: impl Iterator<Item = impl Future<Output = Outcome<T>>>,
    at_once: usize,
) -> Outcome<Vec<T>> {
    futures::stream::iter(calls).buffered(at_once).try_collect().await
}
