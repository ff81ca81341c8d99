//! Plain scenarios: several in one boot; one that takes the guest down costs the others only a new boot.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::boots::{Said, blamed, console, describe, listen};
use super::level::Stage;
use crate::contract::{Message, Outcome, Scenario};
use crate::kernel::Kernel;

/// How long a guest may take until its binary names the first scenario, and between two.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The scenario that runs.
#[derive(Debug)]
struct Current {
    name: String,
    deadline: Instant,
    trouble: Option<String>,
}

impl Stage<'_> {
    /// Runs all of them, booting again for the rest when one ends the guest.
    pub fn batch(&self, kernel: &Kernel, mut pending: Vec<Scenario>) -> Result<()> {
        while let Some(first) = pending.first().cloned() {
            self.boot_for(kernel, &first, &mut pending)?;
        }
        Ok(())
    }

    /// One boot. At least one scenario is off the list afterwards.
    fn boot_for(&self, kernel: &Kernel, first: &Scenario, pending: &mut Vec<Scenario>) -> Result<()> {
        let disks = self.lab.disks(first.disks, first.bytes)?;
        let names: Vec<String> = pending.iter().map(|scenario| scenario.name.clone()).collect();
        let mut running = self.boot(kernel, first, &disks, &names)?;
        let mut current: Option<Current> = None;
        let mut idle_until = Instant::now() + PATIENCE;
        let reason = loop {
            let deadline = current.as_ref().map_or(idle_until, |current| current.deadline);
            match listen(&mut running, deadline) {
                Said::Message(Message::Run(name)) => {
                    let timeout =
                        pending.iter().find(|s| s.name == name).map_or(first.timeout, |s| s.timeout);
                    let deadline = Instant::now() + Duration::from_secs(timeout);
                    current = Some(Current { name, deadline, trouble: None });
                }
                Said::Message(Message::Result(name, outcome)) => {
                    let trouble = current.as_ref().and_then(|current| current.trouble.clone());
                    let outcome = worse(outcome, trouble);
                    self.report.result(&self.id(kernel, &name), &outcome, &console(running.lines()));
                    // Else a part of what runs, or a name of the binary's own.
                    if let Some(at) = pending.iter().position(|scenario| scenario.name == name) {
                        pending.remove(at);
                        current = None;
                        idle_until = Instant::now() + PATIENCE;
                    }
                    if pending.is_empty() {
                        break String::new();
                    }
                }
                Said::Trouble(line) => match &mut current {
                    Some(current) => {
                        current.trouble.get_or_insert(line);
                    }
                    None => {
                        let outcome = Outcome::Failed(format!("guest kernel, between scenarios: {line}"));
                        self.report.result(&self.id(kernel, "console"), &outcome, &console(running.lines()));
                    }
                },
                Said::Message(_) => {}
                Said::Ended(end) => break describe(end),
                Said::TimedOut => break "no end in the time it may take".to_owned(),
            }
        };
        let report = running.power_cut();
        self.spent(&report);
        if !reason.is_empty() && !pending.is_empty() {
            let name = current.as_ref().map_or_else(|| first.name.clone(), |current| current.name.clone());
            let trouble = current.and_then(|current| current.trouble);
            let reason = trouble.map_or(reason.clone(), |line| format!("{reason}; guest kernel: {line}"));
            let outcome = blamed(&kernel.release, reason, &report.lines);
            self.report.result(&self.id(kernel, &name), &outcome, &console(&report.lines));
            // A name that was never asked for must not keep us here for ever.
            let at = pending.iter().position(|scenario| scenario.name == name).unwrap_or(0);
            pending.remove(at);
        }
        Ok(())
    }
}

/// A result together with what the guest kernel said meanwhile.
pub fn worse(outcome: Outcome, trouble: Option<String>) -> Outcome {
    match (outcome, trouble) {
        (Outcome::Failed(reason), Some(line)) => Outcome::Failed(format!("{reason}; guest kernel: {line}")),
        (_, Some(line)) => Outcome::Failed(format!("guest kernel: {line}")),
        (outcome, None) => outcome,
    }
}
