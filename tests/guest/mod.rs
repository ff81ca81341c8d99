//! What the tests that run inside a guest share: scenarios and the command line that runs them, the lab, the writers.
//!
//! `cargo xtask test` starts such a test in a guest with blank disks; its `contract` module says what the command line and
//! the printed lines mean.

use std::path::PathBuf;
use std::process::ExitCode;

/// What a scenario comes to.
pub type Outcome<T = ()> = Result<T, String>;

type Run = Box<dyn Fn(&[PathBuf]) -> Outcome>;

/// One thing to be shown.
pub struct Scenario {
    name: String,
    disks: usize,
    size: &'static str,
    timeout: u64,
    kind: Kind,
}

enum Kind {
    Plain(Run),
    Cut(Box<dyn Cuttable>),
}

/// A scenario that loses power in the middle.
pub trait Cuttable {
    /// Runs without a cut; how many calls could have been the last.
    fn count(&self, disks: &[PathBuf]) -> Outcome<u64>;
    /// Runs into the cut at call `k`; returns only when there are fewer.
    fn run_into(&self, disks: &[PathBuf], k: u64) -> Outcome;
    /// Looks at what the cut at call `k` has left.
    fn resume(&self, disks: &[PathBuf], k: u64) -> Outcome;
}

impl Scenario {
    /// A scenario that runs in one go.
    pub fn new(name: &str, disks: usize, run: impl Fn(&[PathBuf]) -> Outcome + 'static) -> Self {
        Self { name: name.to_owned(), disks, size: "128M", timeout: 240, kind: Kind::Plain(Box::new(run)) }
    }

    /// A scenario that loses power.
    pub fn cut(name: &str, disks: usize, cuttable: impl Cuttable + 'static) -> Self {
        Self { name: name.to_owned(), disks, size: "128M", timeout: 120, kind: Kind::Cut(Box::new(cuttable)) }
    }

    /// With disks of this size.
    pub fn on(self, size: &'static str) -> Self {
        Self { size, ..self }
    }
}

/// Does what the command line says.
pub fn main(scenarios: &[Scenario]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--list") => {
            for s in scenarios {
                let cuts = if matches!(s.kind, Kind::Cut(_)) { " cuts" } else { "" };
                println!("{} disks={} size={} timeout={}{cuts}", s.name, s.disks, s.size, s.timeout);
            }
            ExitCode::SUCCESS
        }
        Some("--guest") => {
            start_log();
            guest(scenarios, &args[1..])
        }
        _ => {
            eprintln!("this test runs in a guest: cargo xtask test");
            ExitCode::FAILURE
        }
    }
}

/// The program's own log goes to the console, which is shown when something fails.
fn start_log() {
    let level = if std::env::var("RUST_LOG").is_ok_and(|l| l == "debug") {
        tracing::Level::DEBUG
    } else {
        tracing::Level::INFO
    };
    tracing_subscriber::fmt().with_max_level(level).with_ansi(false).without_time().init();
}

fn guest(scenarios: &[Scenario], args: &[String]) -> ExitCode {
    let value = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1)).cloned();
    let names = args.iter().take_while(|a| !a.starts_with("--"));
    let disks: Vec<PathBuf> = std::env::var("SPLITMIRROR_DISKS")
        .unwrap_or_default()
        .split(',')
        .filter(|d| !d.is_empty())
        .map(PathBuf::from)
        .collect();
    for name in names {
        let Some(scenario) = scenarios.iter().find(|s| &s.name == name) else {
            println!("@@FAIL {name} there is no such scenario");
            continue;
        };
        let disks = &disks[..scenario.disks.min(disks.len())];
        println!("@@RUN {name}");
        match &scenario.kind {
            Kind::Plain(run) => report(name, lab::wipe(disks).and_then(|()| run(disks))),
            Kind::Cut(cut) if args.iter().any(|a| a == "--count-cuts") => {
                let counted = lab::wipe(disks).and_then(|()| cut.count(disks));
                if let Ok(n) = counted {
                    println!("@@CUTS {n}");
                }
                report(name, counted.map(|_| ()));
            }
            Kind::Cut(cut) => {
                if let Some(k) = value("--resume") {
                    let resumed = k.parse().map_err(lab::say).and_then(|k| cut.resume(disks, k));
                    report(name, resumed);
                }
                if let Some(k) = value("--cut") {
                    let run = k.parse().map_err(lab::say).and_then(|k| {
                        lab::wipe(disks)?;
                        cut.run_into(disks, k)
                    });
                    match run {
                        Ok(()) => println!("@@DONE"),
                        Err(why) => println!("@@FAIL {name} {}", one_line(&why)),
                    }
                }
            }
        }
    }
    ExitCode::SUCCESS
}

fn report(name: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => println!("@@PASS {name}"),
        Err(why) => println!("@@FAIL {name} {}", one_line(&why)),
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " | ")
}

use crate::lab;
