//! Guest runs that a person watches: the demo and the benchmarks. Their binaries follow the first half of
//! [`crate::contract`] (`--list` on the host, `--guest NAME` in the guest); the exit status says whether all went well.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::cargo::{Metadata, build_for_guest};
use crate::cmd;
use crate::contract::{Scenario, parse_list};
use crate::guest::{End, Event, Guest, Lab, Line, Source};
use crate::kernel::{Kernel, Origin, select_one};

/// A binary, and a guest kernel to run it on.
#[derive(Debug)]
pub struct Attended {
    build: crate::cargo::GuestBuild,
    kernel: Kernel,
    lab: Lab,
    /// What the binary lists.
    pub scenarios: Vec<Scenario>,
}

impl Attended {
    /// Builds the integration test `target` and finds a kernel.
    pub fn prepare(target: &str, kernel: Option<&str>) -> Result<Self> {
        if !Metadata::own()?.has_test(target) {
            bail!("not there yet: there is no test target `{target}`");
        }
        let build = build_for_guest(target)?;
        let list = cmd::stdout(Command::new(&build.test).arg("--list"))?;
        let scenarios = parse_list(&list).with_context(|| format!("{} --list", build.test.display()))?;
        let cache = Cache::open()?;
        let kernel = select_one(&cache, kernel, &[Origin::Newest, Origin::Debian])?;
        let lab = Lab::open(&cache)?;
        Ok(Self { build, kernel, lab, scenarios })
    }

    /// Runs one; `show` gets the lines of the binary as they come. What the guest kernel says is shown only if
    /// the run fails.
    pub fn run(&self, scenario: &Scenario, args: &[String], mut show: impl FnMut(&str)) -> Result<()> {
        let disks = self.lab.disks(scenario.disks, scenario.bytes)?;
        let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let mut command = vec![path(&self.build.test)?, "--guest".to_owned(), scenario.name.clone()];
        command.extend_from_slice(args);
        let mut running = Guest::new(&self.lab, &self.kernel, command)
            .inherit_env()
            .mem(scenario.mem_mib)
            // What the benchmarks measure beside us.
            .modules(&["dm-thin-pool"])
            .disks(&disks)
            .env("SPLITMIRROR_BIN", &path(&self.build.program)?)
            .boot()?;
        let deadline = Instant::now() + Duration::from_secs(scenario.timeout);
        loop {
            match running.next(deadline.saturating_duration_since(Instant::now())) {
                Event::Line(Line { source: Source::Command, text, .. }) => show(&text),
                Event::Line(_) => {}
                Event::Ended(_) | Event::TimedOut => break,
            }
        }
        let report = running.power_cut();
        let reason = match report.end {
            End::Exited(0) => return Ok(()),
            End::Exited(code) => format!("exit status {code}"),
            End::Signaled(signal) => format!("ended by signal {signal}"),
            End::PowerCut => format!("no end in {} s", scenario.timeout),
            End::Died => "the guest kernel ended".to_owned(),
        };
        for line in report.lines.iter().filter(|line| line.source == Source::Kernel) {
            eprintln!("kernel: {}", line.text);
        }
        bail!("{}[{}]: {reason}", scenario.name, self.kernel.id)
    }
}
