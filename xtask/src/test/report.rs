//! Result lines, and their count.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::contract::Outcome;

/// How much of a guest's console is shown when something fails.
const TAIL_LINES: usize = 60;

/// Prints results as they come, from several threads, and counts them.
#[derive(Debug)]
pub struct Report {
    counts: Mutex<Counts>,
    logs: PathBuf,
}

#[derive(Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Repeated at the end: the console of a failure is long.
    failures: Vec<String>,
}

impl Report {
    /// Whole consoles of failures are kept in `logs`.
    pub fn new(logs: PathBuf) -> Self {
        Self { counts: Mutex::default(), logs }
    }

    /// One result. `console` is shown (its end) and kept (whole) when it is a failure.
    pub fn result(&self, id: &str, outcome: &Outcome, console: &[String]) {
        let mut counts = self.lock();
        // One line per result, whatever some tool has said.
        let one_line = |reason: &str| reason.split('\n').map(str::trim).collect::<Vec<_>>().join(" / ");
        match outcome {
            Outcome::Passed => {
                counts.passed += 1;
                println!("test {id} ... ok");
            }
            Outcome::Skipped(reason) => {
                counts.skipped += 1;
                println!("test {id} ... skipped: {}", one_line(reason));
            }
            Outcome::Failed(reason) => {
                counts.failed += 1;
                let reason = one_line(reason);
                println!("test {id} ... FAILED: {reason}");
                counts.failures.push(format!("{id}: {reason}"));
                self.show(id, console);
            }
        }
    }

    /// A failure with nothing to show.
    pub fn failed(&self, id: &str, reason: &str) {
        self.result(id, &Outcome::Failed(reason.to_owned()), &[]);
    }

    /// Results that another test runner has printed itself.
    pub fn add(&self, passed: u64, failed: u64, skipped: u64, what: &str) {
        let mut counts = self.lock();
        counts.passed += passed;
        counts.failed += failed;
        counts.skipped += skipped;
        if failed > 0 {
            counts.failures.push(format!("{what}: {failed} of its tests"));
        }
    }

    /// Prints the closing line; it must be the last.
    pub fn close(&self) -> ExitCode {
        let counts = self.lock();
        println!();
        for failure in &counts.failures {
            println!("failed: {failure}");
        }
        println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
        if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Prints the end of a console and keeps the whole.
    fn show(&self, id: &str, console: &[String]) {
        if console.is_empty() {
            return;
        }
        let from = console.len().saturating_sub(TAIL_LINES);
        for line in console.get(from..).unwrap_or_default() {
            println!("    | {line}");
        }
        let name: String = id
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '_' })
            .collect();
        let path = self.logs.join(format!("{name}.log"));
        let kept = fs::create_dir_all(&self.logs).and_then(|()| fs::write(&path, console.join("\n") + "\n"));
        match kept {
            Ok(()) => println!("    = whole console: {}", path.display()),
            Err(error) => println!("    = console not kept in {}: {error}", path.display()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole even if a thread panicked while printing.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
