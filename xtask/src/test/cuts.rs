//! Power-cut scenarios: count the cut points, then cut the power at some of them and see what is left.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::boots::{Said, blamed, console, describe, listen};
use super::level::{Job, Stage};
use super::scenarios::{PATIENCE, worse};
use crate::contract::{Message, Outcome, Scenario, spread};
use crate::guest::{Disks, End};
use crate::kernel::Kernel;

/// How many points one job does: with more, two guests would not share the work evenly.
const POINTS_PER_JOB: usize = 8;

/// How often the power may be cut in the recovery from one cut.
const MAX_NESTED: u32 = 8;

/// Where a chain of boots stands.
#[derive(Debug)]
struct Chain {
    /// The point the next boot heads for.
    heading: Option<u64>,
    /// Those after it.
    points: std::vec::IntoIter<u64>,
    /// What the last power cut said, until it is judged.
    resuming: Option<String>,
    /// Power cuts since the last judgement.
    nested: u32,
    /// The console of the boots since then.
    console: Vec<String>,
}

/// How one boot of a chain ended.
#[derive(Debug)]
enum Step {
    /// It asked for a power cut.
    Cut(String),
    /// It says that there are no more points.
    NoMore,
    /// It did what it was asked and ended.
    Ended,
    /// Something else, and what the test comes to.
    Broken(Outcome),
}

impl Stage<'_> {
    /// Runs a scenario without a cut; its result counts, and its cut points become jobs.
    pub fn count(&self, kernel: &Kernel, scenario: &Scenario) -> Result<Vec<Job>> {
        let disks = self.lab.disks(scenario.disks, scenario.bytes)?;
        let args = [scenario.name.clone(), "--count-cuts".to_owned()];
        let mut running = self.boot(kernel, scenario, &disks, &args)?;
        let deadline = Instant::now() + Duration::from_secs(scenario.timeout);
        let (mut cuts, mut trouble) = (None, None);
        let outcome = loop {
            match listen(&mut running, deadline) {
                Said::Message(Message::Cuts(count)) => cuts = Some(count),
                Said::Message(Message::Result(name, outcome)) if name == scenario.name => break outcome,
                Said::Message(_) => {}
                Said::Trouble(line) => {
                    trouble.get_or_insert(line);
                }
                Said::Ended(end) => break Outcome::Failed(describe(end)),
                Said::TimedOut => break Outcome::Failed("no end in the time it may take".to_owned()),
            }
        };
        let report = running.power_cut();
        self.spent(&report);
        let mut outcome = match worse(outcome, trouble) {
            Outcome::Failed(reason) => blamed(&kernel.release, reason, &report.lines),
            outcome => outcome,
        };
        if outcome == Outcome::Passed && cuts.is_none() {
            outcome = Outcome::Failed("it did not say how many cut points there are".to_owned());
        }
        self.report.result(&self.id(kernel, &scenario.name), &outcome, &console(&report.lines));
        let points = match outcome {
            Outcome::Passed => spread(cuts.unwrap_or(0), self.level.cuts),
            // Without a run that holds, power cuts would tell nothing.
            Outcome::Failed(_) | Outcome::Skipped(_) => Vec::new(),
        };
        Ok(points
            .chunks(POINTS_PER_JOB)
            .map(|points| Job::Cuts(kernel.clone(), scenario.clone(), points.to_vec()))
            .collect())
    }

    /// Cuts the power at each of these points in turn.
    pub fn cut_at(&self, kernel: &Kernel, scenario: &Scenario, points: Vec<u64>) -> Result<()> {
        let mut points = points.into_iter();
        let heading = points.next();
        let mut chain = Chain { heading, points, resuming: None, nested: 0, console: Vec::new() };
        let mut disks = self.lab.disks(scenario.disks, scenario.bytes)?;
        while chain.heading.is_some() || chain.resuming.is_some() {
            match self.link(kernel, scenario, &disks, &mut chain)? {
                Step::Cut(label) => {
                    if chain.resuming.is_none() {
                        chain.heading = chain.points.next();
                        chain.nested = 0;
                    }
                    chain.nested += 1;
                    chain.console.push(format!("--- power cut at {label}"));
                    if chain.nested > MAX_NESTED {
                        let outcome = Outcome::Failed(format!("more than {MAX_NESTED} power cuts in a row"));
                        self.judge(kernel, scenario, &mut chain, &label, &outcome);
                        chain.resuming = None;
                    } else {
                        chain.resuming = Some(label);
                    }
                }
                Step::NoMore => {
                    // This run had fewer points than the one that counted them.
                    for point in chain.heading.take().into_iter().chain(&mut chain.points) {
                        let outcome = Outcome::Skipped("this run had fewer cut points".to_owned());
                        let id = self.id(kernel, &format!("{}@{point}", scenario.name));
                        self.report.result(&id, &outcome, &[]);
                    }
                }
                Step::Ended => {}
                Step::Broken(outcome) => {
                    let label = match chain.resuming.take() {
                        Some(label) => label,
                        None => {
                            let point = chain.heading.unwrap_or_default();
                            chain.heading = chain.points.next();
                            point.to_string()
                        }
                    };
                    self.judge(kernel, scenario, &mut chain, &label, &outcome);
                    disks = self.lab.disks(scenario.disks, scenario.bytes)?;
                }
            }
        }
        Ok(())
    }

    /// One boot: judge the last power cut, if there was one, and go on to the next point.
    fn link(&self, kernel: &Kernel, scenario: &Scenario, disks: &Disks, chain: &mut Chain) -> Result<Step> {
        let mut args = vec![scenario.name.clone()];
        if let Some(label) = &chain.resuming {
            args.extend(["--resume".to_owned(), label.clone()]);
        }
        if let Some(point) = chain.heading {
            args.extend(["--cut".to_owned(), point.to_string()]);
        }
        let mut running = self.boot(kernel, scenario, disks, &args)?;
        let patience = || Instant::now() + Duration::from_secs(scenario.timeout).max(PATIENCE);
        let broken = |reason: &str| Step::Broken(Outcome::Failed(reason.to_owned()));
        let (mut deadline, mut shown, mut trouble) = (patience(), 0, None);
        let step = loop {
            match listen(&mut running, deadline) {
                Said::Message(Message::Cut(label)) => break Step::Cut(label),
                Said::Message(Message::Done) => break Step::NoMore,
                Said::Message(Message::Result(name, outcome)) if name == scenario.name => {
                    let outcome = worse(outcome, trouble.take());
                    chain.console.extend(console(running.lines().get(shown..).unwrap_or_default()));
                    shown = running.lines().len();
                    match (chain.resuming.take(), outcome) {
                        (Some(label), outcome) => self.judge(kernel, scenario, chain, &label, &outcome),
                        (None, outcome @ Outcome::Failed(_)) => break Step::Broken(outcome),
                        (None, _) => break broken("a result, but no power cut"),
                    }
                    if chain.heading.is_none() {
                        break Step::Ended;
                    }
                    deadline = patience();
                }
                Said::Message(_) => {}
                Said::Trouble(line) => {
                    trouble.get_or_insert(line);
                }
                Said::Ended(End::Exited(0)) if chain.resuming.is_none() && chain.heading.is_none() => {
                    break Step::Ended;
                }
                Said::Ended(end) => break broken(&describe(end)),
                Said::TimedOut => break broken("no end in the time it may take"),
            }
        };
        let report = running.power_cut();
        self.spent(&report);
        chain.console.extend(console(report.lines.get(shown..).unwrap_or_default()));
        // A fault of the kernel before a cut would be lost with the boot.
        match (step, trouble) {
            (Step::Ended, _) => Ok(Step::Ended),
            (_, Some(line)) => {
                Ok(Step::Broken(blamed(&kernel.release, format!("guest kernel: {line}"), &report.lines)))
            }
            (step, None) => Ok(step),
        }
    }

    /// Reports what became of one cut point.
    fn judge(&self, kernel: &Kernel, scenario: &Scenario, chain: &mut Chain, label: &str, outcome: &Outcome) {
        let id = self.id(kernel, &format!("{}@{label}", scenario.name));
        self.report.result(&id, outcome, &chain.console);
        chain.console.clear();
        chain.nested = 0;
    }
}
