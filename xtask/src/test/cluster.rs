//! Level `cluster`: scenarios on a real Kubernetes. The bed is brought up once; the test binary runs on the host, in the bed's
//! network (`crate::cluster::protocol` is the contract).

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use super::report::Report;
use super::scenarios::{PATIENCE, worse};
use crate::cache::Cache;
use crate::cargo::{GuestBuild, Metadata, build_for_guest};
use crate::cluster::{self, Client, Held, NODES, Parts, Request, product};
use crate::cmd;
use crate::contract::{Message, Outcome, Scenario, parse_list};
use crate::guest::Lab;

const NAME: &str = "cluster";

/// What was asked for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The nodes' kernel.
    pub kernel: Option<&'a str>,
    /// Parts of the names of scenarios.
    pub filters: &'a [String],
    /// Use the bed that `cargo xtask cluster up` keeps.
    pub running: bool,
}

/// Runs the level.
pub fn run(asked: &Asked, metadata: &Metadata, report: &Report) -> Result<()> {
    if !metadata.has_test(NAME) {
        report.failed(NAME, &format!("not there yet: there is no test target `{NAME}`"));
        return Ok(());
    }
    let build = build_for_guest(NAME)?;
    let scenarios = scenarios(&build, asked.filters)?;
    println!("{} scenarios", scenarios.len());
    if scenarios.is_empty() {
        return Ok(());
    }
    if let Some(obstacle) = cluster::obstacle() {
        for scenario in &scenarios {
            report.result(&id("", &scenario.name), &Outcome::Skipped(obstacle.clone()), &[]);
        }
        return Ok(());
    }
    if asked.running {
        let bed = cluster::running()?.context("there is no bed (cargo xtask cluster up)")?;
        cluster::load(&bed)?;
        return Stage { bed: &bed, build: &build, report }.batch(scenarios);
    }
    let cache = Cache::open()?;
    let parts = Parts::find(&cache, asked.kernel)?;
    // Only after the parts: what makes them has a lab of its own.
    let lab = Lab::open(&cache)?;
    let image = product::build(&cache, &build.program, lab.seen())?;
    let logs = metadata.target_directory.join("guest-logs/cluster");
    let bed = Held::start(&parts.spec(NODES, &[image], logs, false))?;
    Stage { bed: &bed.client, build: &build, report }.batch(scenarios)
}

/// What the binary lists, filtered.
fn scenarios(build: &GuestBuild, filters: &[String]) -> Result<Vec<Scenario>> {
    let list = cmd::stdout(Command::new(&build.test).arg("--list"))?;
    let mut scenarios = parse_list(&list).with_context(|| format!("{} --list", build.test.display()))?;
    if !filters.is_empty() {
        scenarios.retain(|scenario| filters.iter().any(|part| scenario.name.contains(part)));
    }
    Ok(scenarios)
}

/// The name of a result.
fn id(kernel: &str, name: &str) -> String {
    if kernel.is_empty() { format!("{NAME}::{name}") } else { format!("{NAME}[{kernel}]::{name}") }
}

/// What all runs of the binary share.
struct Stage<'a> {
    bed: &'a Client,
    build: &'a GuestBuild,
    report: &'a Report,
}

/// A running test binary. Dropping it kills all its processes.
struct Binary {
    child: Child,
    lines: Receiver<String>,
}

/// What a running binary says, or what became of it.
enum Said {
    Message(Message),
    Ended(String),
    TimedOut,
}

impl Stage<'_> {
    /// Runs all of them; a binary that dies or hangs is started again for the rest.
    fn batch(&self, mut pending: Vec<Scenario>) -> Result<()> {
        while !pending.is_empty() {
            self.run(&mut pending)?;
        }
        Ok(())
    }

    /// One run of the binary. At least one scenario is off the list afterwards.
    fn run(&self, pending: &mut Vec<Scenario>) -> Result<()> {
        let mut binary = self.start(pending)?;
        let mut current = pending.first().map(|first| first.name.clone()).unwrap_or_default();
        let mut console = Vec::new();
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let reason = match binary.next(deadline, &mut console) {
                Said::Message(Message::Run(name)) => {
                    let timeout =
                        pending.iter().find(|s| s.name == name).map_or(PATIENCE.as_secs(), |s| s.timeout);
                    deadline = Instant::now() + Duration::from_secs(timeout);
                    current = name;
                    continue;
                }
                Said::Message(Message::Result(name, outcome)) => {
                    self.judge(&name, outcome, &mut console);
                    // Else a part of what runs.
                    if let Some(at) = pending.iter().position(|scenario| scenario.name == name) {
                        pending.remove(at);
                        deadline = Instant::now() + PATIENCE;
                    }
                    if pending.is_empty() {
                        return Ok(());
                    }
                    continue;
                }
                Said::Message(_) => continue,
                Said::Ended(how) => how,
                Said::TimedOut => "no end in the time it may take".to_owned(),
            };
            self.judge(&current, Outcome::Failed(reason), &mut console);
            // A name that was never asked for must not keep us here for ever.
            pending.remove(pending.iter().position(|scenario| scenario.name == current).unwrap_or(0));
            return Ok(());
        }
    }

    fn start(&self, pending: &[Scenario]) -> Result<Binary> {
        let (output, input) = std::io::pipe().context("making a pipe")?;
        let mut command = self.bed.inside(&self.build.test)?;
        let child = command
            .arg("--cluster")
            .args(pending.iter().map(|scenario| &scenario.name))
            .env("SPLITMIRROR_BIN", &self.build.program)
            .stdin(Stdio::null())
            .stdout(input.try_clone().context("copying a pipe")?)
            .stderr(input)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting `{}`", cmd::line(&command)))?;
        // It holds the pipe open on our side.
        drop(command);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Whoever was to hear it may be gone.
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        Ok(Binary { child, lines })
    }

    /// Reports a result together with what the guests' kernels said meanwhile.
    fn judge(&self, name: &str, outcome: Outcome, console: &mut Vec<String>) {
        let (guests, trouble) = match self.bed.ask(&Request::Console) {
            Ok(reply) => (reply.lines, reply.trouble.into_iter().next()),
            Err(error) => (vec![format!("{error:#}")], None),
        };
        // The end is what is shown: that is where the scenario says what it saw.
        let whole = [guests, std::mem::take(console)].concat();
        let id = id(&self.bed.description.kernel, name);
        self.report.result(&id, &worse(outcome, trouble), &whole);
    }
}

impl Binary {
    /// The next thing of interest; everything that is printed goes to the console.
    fn next(&mut self, deadline: Instant, console: &mut Vec<String>) -> Said {
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let message = Message::parse(&line);
                    console.push(line);
                    if let Some(message) = message {
                        return Said::Message(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Said::TimedOut,
                Err(RecvTimeoutError::Disconnected) => {
                    return Said::Ended(match self.child.wait() {
                        Ok(status) => format!("the binary ended without a result: {status}"),
                        Err(error) => format!("the binary ended without a result: {error}"),
                    });
                }
            }
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Gone already is as good.
            kill_process_group(group, Signal::KILL).ok();
        }
        if let Err(error) = self.child.wait() {
            eprintln!("xtask: waiting for a test binary: {error}");
        }
    }
}
