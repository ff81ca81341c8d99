//! `cargo xtask test`: all levels of tests, each by name.
//!
//! | level | runs | where |
//! |---|---|---|
//! | `style` | formatting, clippy, licences | host |
//! | `unit` | the tests beside the code, of xtask, and the golden and architecture tests | host |
//! | `sim` | the engine on the simulated machine | host |
//! | `chart` | the Helm chart, rendered by the real helm; files that are made from others | host |
//! | `kernel` | the engine on real kernels, with power cuts | guest |
//! | `interop` | against real LVM2 | guest |
//! | `sanity` | upstream's csi-sanity | guest |
//! | `cluster` | a real Kubernetes | host, its nodes are guests |
//!
//! A failing level does not stop the next. The last line is always `N passed, N failed, N skipped`.

mod boots;
mod chart;
mod cluster;
mod cuts;
mod level;
mod libtest;
mod licences;
mod report;
mod sanity;
mod scenarios;
mod style;

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};

use self::level::GuestLevel;
use self::report::Report;
use crate::cargo::Metadata;
use crate::kernel::Origin;

/// A level of tests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Level {
    /// Formatting, clippy, licences
    Style,
    /// Tests beside the code; golden and architecture tests
    Unit,
    /// The engine on the simulated machine
    Sim,
    /// The Helm chart, and files that are made from others
    Chart,
    /// The engine on real kernels, with power cuts
    Kernel,
    /// Against real LVM2
    Interop,
    /// Upstream's csi-sanity
    Sanity,
    /// A real Kubernetes
    Cluster,
}

/// Run the tests
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Levels to run [default: all]
    levels: Vec<Level>,
    /// Guest kernel: debian, newest, or a version like 6.1 (may be repeated)
    /// [default: both for level kernel, else the newest]
    #[arg(long)]
    kernel: Vec<String>,
    /// How many cut points of each power-cut scenario: a number, or `all`
    #[arg(long, default_value = "8", value_parser = parse_cuts)]
    cuts: u64,
    /// What random choices in guests start from [default: the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// How many guests at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Level cluster: in the bed that `cargo xtask cluster up` keeps, with the image built anew
    #[arg(long)]
    running: bool,
    /// Run only tests whose name contains one of these
    #[arg(last = true)]
    filters: Vec<String>,
}

/// `all` or a number.
fn parse_cuts(text: &str) -> Result<u64, std::num::ParseIntError> {
    if text == "all" { Ok(u64::MAX) } else { text.parse() }
}

/// Runs the levels asked for.
pub fn main(args: &Args) -> Result<ExitCode> {
    let metadata = Metadata::own()?;
    let report = Report::new(metadata.target_directory.join("guest-logs"));
    let all = if args.levels.is_empty() { Level::value_variants() } else { &args.levels };
    for level in all {
        let started = Instant::now();
        let name = level.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        println!("\n== {name}");
        if let Err(error) = run(*level, &name, args, &metadata, &report) {
            report.failed(&name, &format!("{error:#}"));
        }
        println!("== {name}: {:.1} s", started.elapsed().as_secs_f64());
    }
    Ok(report.close())
}

fn run(level: Level, name: &str, args: &Args, metadata: &Metadata, report: &Report) -> Result<()> {
    let guest = |kernels: &[Origin]| GuestLevel {
        name: name.to_owned(),
        kernels: kernels.to_vec(),
        asked: args.kernel.clone(),
        cuts: args.cuts,
        seed: args.seed.unwrap_or_else(clock),
        jobs: args.jobs.max(1),
        filters: args.filters.clone(),
        env: Vec::new(),
    };
    match level {
        Level::Style => style::run(report),
        Level::Unit => libtest::unit(metadata, &args.filters, report),
        Level::Sim => libtest::sim(metadata, &args.filters, report),
        Level::Chart => chart::run(&args.filters, report),
        Level::Kernel => guest(&Origin::ALL).run(metadata, report),
        Level::Interop => guest(&[Origin::Newest]).run(metadata, report),
        Level::Sanity => {
            let mut level = guest(&[Origin::Newest]);
            if level.is_there(metadata) {
                level.env = vec![("SPLITMIRROR_SANITY".to_owned(), sanity::program()?)];
            }
            level.run(metadata, report)
        }
        Level::Cluster => {
            let kernel = args.kernel.first().map(String::as_str);
            let asked = cluster::Asked { kernel, filters: &args.filters, running: args.running };
            cluster::run(&asked, metadata, report)
        }
    }
}

/// A seed nobody asked for.
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
