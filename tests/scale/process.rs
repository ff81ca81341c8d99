//! Programs that run beside this one, and end with it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use splitmirror::telemetry::FILTER_VARIABLE;

use crate::Outcome;

/// Agents' machines are there; after it, how many KiB of memory they take.
pub const MADE: &str = "made";
/// Agents have been started.
pub const STARTED: &str = "started";
/// An echo knows all objects.
pub const LISTED: &str = "listed";

const DOCKERFILE: &str = include_str!("../../deploy/Dockerfile");

/// The environment that the image gives.
fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let set = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("ENV "));
    set.flat_map(str::split_whitespace).filter_map(|word| word.split_once('='))
}

/// Says something to who started this program.
pub fn say(what: &str) {
    println!("{what}");
    // Who does not listen any more ends us anyway.
    std::io::stdout().flush().ok();
}

/// A program that runs. It is killed with this value.
pub struct Program {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Program {
    /// Starts a program. It is killed when we end, however that is: a controller would go on for ever.
    pub fn start(program: &Path, args: &[&str]) -> Outcome<Self> {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL").arg("--").arg(program);
        if std::env::var_os(FILTER_VARIABLE).is_none() {
            // Hundreds of calls are nothing to be told of.
            command.env(FILTER_VARIABLE, "warn");
        }
        let mut child = command
            .args(args)
            .envs(environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let said = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, said })
    }

    /// Starts this program again, as something else.
    pub fn start_own(args: &[&str]) -> Outcome<Self> {
        Self::start(&std::env::current_exe().map_err(|error| error.to_string())?, args)
    }

    /// Waits until it says something that begins like this.
    pub fn until(&mut self, what: &str) -> Outcome<String> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.said.read_line(&mut line).map_err(|error| error.to_string())?;
            if read == 0 {
                return Err(format!("it ended before it said {what:?}"));
            }
            if let Some(rest) = line.strip_prefix(what) {
                return Ok(rest.trim().to_owned());
            }
        }
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Outcome {
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("it failed: {status}")) }
    }

    /// Fails when it has ended.
    pub fn check(&mut self, what: &str) -> Outcome {
        match self.child.try_wait().map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(status) => Err(format!("{what} ended: {status}")),
        }
    }

    /// Its memory.
    pub fn memory(&self) -> Outcome<Memory> {
        Memory::of(&self.child.id().to_string())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Gone already is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// KiB of memory that a program has, and has had at most; and how much of it is not its own file's or a library's.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: u64,
    pub most: u64,
    pub heap: u64,
}

impl Memory {
    /// Of the program of this pid, or of `self`.
    pub fn of(pid: &str) -> Outcome<Self> {
        let path = format!("/proc/{pid}/status");
        let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let kib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let number = line.and_then(|line| line.trim().strip_suffix("kB"));
            number.and_then(|number| number.trim().parse().ok()).ok_or(format!("no {field} in {path}"))
        };
        Ok(Self { now: kib("VmRSS:")?, most: kib("VmHWM:")?, heap: kib("RssAnon:")? })
    }
}
