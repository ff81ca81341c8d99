//! A level that runs in guests: which scenarios, on which kernels, how many guests at a time.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use super::boots::Effort;
use super::report::Report;
use crate::cache::Cache;
use crate::cargo::{GuestBuild, Metadata, build_for_guest};
use crate::cmd;
use crate::contract::{Outcome, Scenario, parse_list};
use crate::guest::{Guest, Lab, Running};
use crate::kernel::{Found, Kernel, Origin, select};

/// How many scenarios share a boot at most: few enough that one which takes the guest down costs little.
const BATCH: usize = 6;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct GuestLevel {
    /// Of the level, and of its test target.
    pub name: String,
    /// Kernels unless asked otherwise.
    pub kernels: Vec<Origin>,
    /// Kernels asked for.
    pub asked: Vec<String>,
    /// Cut points of each power-cut scenario.
    pub cuts: u64,
    /// What random choices start from.
    pub seed: u64,
    /// Guests at the same time.
    pub jobs: usize,
    /// Parts of the names of scenarios.
    pub filters: Vec<String>,
    /// More for the environment of the binary.
    pub env: Vec<(String, String)>,
}

/// Something that one worker does from beginning to end.
#[derive(Clone, Debug)]
pub enum Job {
    /// Plain scenarios that share a boot.
    Batch(Kernel, Vec<Scenario>),
    /// Run a power-cut scenario without a cut.
    Count(Kernel, Scenario),
    /// Cut the power at these points.
    Cuts(Kernel, Scenario, Vec<u64>),
}

/// What all jobs of a level share.
#[derive(Debug)]
pub struct Stage<'a> {
    /// What was asked for.
    pub level: &'a GuestLevel,
    /// Where disks come from.
    pub lab: &'a Lab,
    /// Where results go.
    pub report: &'a Report,
    build: GuestBuild,
    effort: Mutex<Effort>,
}

impl GuestLevel {
    /// Whether somebody has written its test target.
    pub fn is_there(&self, metadata: &Metadata) -> bool {
        metadata.has_test(&self.name)
    }

    /// Runs the level.
    pub fn run(&self, metadata: &Metadata, report: &Report) -> Result<()> {
        if !self.is_there(metadata) {
            report.failed(&self.name, &format!("not there yet: there is no test target `{}`", self.name));
            return Ok(());
        }
        let build = build_for_guest(&self.name)?;
        let scenarios = self.scenarios(&build)?;
        println!("{} scenarios, seed {}", scenarios.len(), self.seed);
        let cache = Cache::open()?;
        let kernels = self.kernels(&cache, report)?;
        let lab = Lab::open(&cache)?;
        let stage = Stage { level: self, lab: &lab, report, build, effort: Mutex::default() };
        work(plan(&kernels, &scenarios), self.jobs, |job| stage.perform(job));
        let effort = *lock(&stage.effort);
        println!(
            "{} boots, {:.2} s each until the binary runs, {:.1} s in guests",
            effort.boots,
            effort.booting.as_secs_f64() / f64::from(effort.boots.max(1)),
            effort.running.as_secs_f64()
        );
        Ok(())
    }

    /// What the binary lists, filtered.
    fn scenarios(&self, build: &GuestBuild) -> Result<Vec<Scenario>> {
        let list = cmd::stdout(Command::new(&build.test).arg("--list"))?;
        let mut scenarios = parse_list(&list).with_context(|| format!("{} --list", build.test.display()))?;
        if !self.filters.is_empty() {
            scenarios.retain(|scenario| self.filters.iter().any(|part| scenario.name.contains(part)));
        }
        Ok(scenarios)
    }

    /// The kernels; those that can't be had are reported as skipped. Without any, Debian's is tried.
    fn kernels(&self, cache: &Cache, report: &Report) -> Result<Vec<Kernel>> {
        let mut kernels = Vec::new();
        let mut found: VecDeque<Found> = select(cache, &self.asked, &self.kernels)?.into();
        while let Some(one) = found.pop_front() {
            match one {
                Ok(kernel) => kernels.push(kernel),
                Err(missing) => {
                    let id = format!("{}[{}]", self.name, missing.id);
                    report.result(&id, &Outcome::Skipped(missing.reason), &[]);
                }
            }
            if found.is_empty() && kernels.is_empty() && self.asked.is_empty() {
                let debian = Origin::Debian.find(cache);
                let debian =
                    debian.map_err(|missing| anyhow::anyhow!("no guest kernel: {}", missing.reason))?;
                kernels.push(debian);
            }
        }
        Ok(kernels)
    }
}

impl Stage<'_> {
    /// Does one job and returns what follows from it.
    fn perform(&self, job: Job) -> Vec<Job> {
        let (kernel, what) = match &job {
            Job::Batch(kernel, scenarios) => (kernel, scenarios.first().map(|s| s.name.clone())),
            Job::Count(kernel, scenario) | Job::Cuts(kernel, scenario, _) => {
                (kernel, Some(scenario.name.clone()))
            }
        };
        let id = self.id(kernel, &what.unwrap_or_default());
        let followed = match job {
            Job::Batch(kernel, scenarios) => self.batch(&kernel, scenarios).map(|()| Vec::new()),
            Job::Count(kernel, scenario) => self.count(&kernel, &scenario),
            Job::Cuts(kernel, scenario, points) => {
                self.cut_at(&kernel, &scenario, points).map(|()| Vec::new())
            }
        };
        followed.unwrap_or_else(|error| {
            self.report.failed(&id, &format!("{error:#}"));
            Vec::new()
        })
    }

    /// The name of a result.
    pub fn id(&self, kernel: &Kernel, name: &str) -> String {
        format!("{}[{}]::{name}", self.level.name, kernel.id)
    }

    /// Boots the binary with these arguments behind `--guest`.
    pub fn boot(
        &self,
        kernel: &Kernel,
        scenario: &Scenario,
        disks: &crate::guest::Disks,
        args: &[String],
    ) -> Result<Running> {
        let mut command = vec![path(&self.build.test)?, "--guest".to_owned()];
        command.extend_from_slice(args);
        let mut guest = Guest::new(self.lab, kernel, command)
            .inherit_env()
            .mem(scenario.mem_mib)
            .disks(disks)
            .env("SPLITMIRROR_BIN", &path(&self.build.program)?)
            .env("SPLITMIRROR_SEED", &self.level.seed.to_string());
        for (key, value) in &self.level.env {
            guest = guest.env(key, value);
        }
        guest.boot()
    }

    /// Counts a boot that is over.
    pub fn spent(&self, report: &crate::guest::ExitReport) {
        lock(&self.effort).add(report);
    }
}

/// All first jobs. Power cuts come first: they take longest and bring more jobs.
fn plan(kernels: &[Kernel], scenarios: &[Scenario]) -> VecDeque<Job> {
    let mut jobs = VecDeque::new();
    for scenario in scenarios.iter().filter(|scenario| scenario.cuts) {
        jobs.extend(kernels.iter().map(|kernel| Job::Count(kernel.clone(), scenario.clone())));
    }
    for batch in batches(scenarios.iter().filter(|scenario| !scenario.cuts)) {
        jobs.extend(kernels.iter().map(|kernel| Job::Batch(kernel.clone(), batch.clone())));
    }
    jobs
}

/// Puts scenarios together that may share a boot.
fn batches<'a>(scenarios: impl Iterator<Item = &'a Scenario>) -> Vec<Vec<Scenario>> {
    let mut batches: Vec<Vec<Scenario>> = Vec::new();
    for scenario in scenarios {
        let fitting = batches
            .iter_mut()
            .find(|batch| batch.len() < BATCH && batch.first().is_some_and(|first| first.fits(scenario)));
        match fitting {
            Some(batch) => batch.push(scenario.clone()),
            None => batches.push(vec![scenario.clone()]),
        }
    }
    batches
}

/// Jobs that wait, and how many are being done.
#[derive(Debug)]
struct Queue {
    jobs: VecDeque<Job>,
    busy: usize,
}

/// Does all jobs, and those that follow from them, some at a time.
fn work(jobs: VecDeque<Job>, workers: usize, perform: impl Fn(Job) -> Vec<Job> + Sync) {
    let queue = Mutex::new(Queue { jobs, busy: 0 });
    let changed = Condvar::new();
    let worker = || {
        let mut waiting = lock(&queue);
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                waiting.busy += 1;
                drop(waiting);
                let follow = perform(job);
                waiting = lock(&queue);
                waiting.busy -= 1;
                waiting.jobs.extend(follow);
                changed.notify_all();
            } else if waiting.busy == 0 {
                return;
            } else {
                waiting = changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
}

/// A path as an argument.
fn path(path: &std::path::Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}

/// A worker that panicked has been seen; the others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_shares_a_boot() {
        let list = "a\nb\nc disks=3\nd alone\ne disks=3\nf\ng\nh\ni\nj\n";
        let scenarios = parse_list(list).unwrap();
        let batches: Vec<String> = batches(scenarios.iter())
            .iter()
            .map(|batch| batch.iter().map(|scenario| scenario.name.as_str()).collect())
            .collect();
        assert_eq!(batches, ["abfghi", "ce", "d", "j"]);
    }

    #[test]
    fn what_follows_from_a_job_is_done_too() {
        let done = Mutex::new(0);
        let scenario = parse_list("a cuts\n").unwrap().remove(0);
        let kernel = Kernel {
            id: String::new(),
            release: String::new(),
            image: "".into(),
            modules: "".into(),
            preload: None,
            args: Vec::new(),
        };
        let first = [Job::Count(kernel.clone(), scenario.clone())].into();
        work(first, 3, |job| {
            *done.lock().unwrap() += 1;
            match job {
                Job::Count(..) => vec![Job::Cuts(kernel.clone(), scenario.clone(), vec![]); 5],
                _ => Vec::new(),
            }
        });
        assert_eq!(*done.lock().unwrap(), 6);
    }
}
