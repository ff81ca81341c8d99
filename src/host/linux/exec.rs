//! Other programs: found through `PATH`, given a time, never left behind.
//!
//! A program runs in a process group of its own with an empty input and `LC_ALL=C`. Past its deadline the whole
//! group is killed. One that cannot be killed, for the kernel holds it in an I/O that does not end, is waited for by a
//! thread of its own, so that it is no zombie when it goes at last.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// How much of what a program prints is kept.
const OUTPUT_MAX: u64 = 1 << 20;

/// How long a killed program and its pipes are waited for.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A program that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It is not installed, or the machine has no process to spare.
    #[error("could not run {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("{command} did not end within {seconds} seconds")]
    Timeout {
        /// The command line.
        command: String,
        /// The time it had.
        seconds: u64,
    },
    /// It ended with a status that says it failed.
    #[error("{command} {}: {}", ended(*.status), said(.output))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said on its error output, or else on its output.
        output: String,
    },
}

impl ExecError {
    /// Whether the program is not installed.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What a program that ended by itself left.
#[derive(Debug)]
pub(super) struct Ended {
    command: String,
    status: ExitStatus,
    /// Its output.
    pub(super) stdout: String,
    stderr: String,
}

impl Ended {
    /// Its exit status; `None` when a signal ended it.
    pub(super) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// As an error.
    pub(super) fn failed(self) -> ExecError {
        let output = if self.stderr.trim().is_empty() { self.stdout } else { self.stderr };
        ExecError::Failed { command: self.command, status: self.status, output: output.trim().to_owned() }
    }

    /// An error unless the exit status is one of these.
    pub(super) fn expect_code(self, good: &[i32]) -> Result<Self, ExecError> {
        match self.code() {
            Some(code) if good.contains(&code) => Ok(self),
            _ => Err(self.failed()),
        }
    }
}

/// Runs a program to its end.
pub(super) fn run<S: AsRef<OsStr>>(program: &str, args: &[S], time: Duration) -> Result<Ended, ExecError> {
    let text = command_text(program, args);
    let start = |source| ExecError::Start { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = match wait(&mut child, time) {
        Ok(Some(status)) => status,
        ended => {
            kill(child);
            return Err(match ended {
                Err(source) => start(source),
                Ok(_) => ExecError::Timeout { command: text, seconds: time.as_secs() },
            });
        }
    };
    // A grandchild may hold the pipes open; its output is not worth a wait.
    let said = |output: mpsc::Receiver<String>| output.recv_timeout(KILL_PATIENCE).unwrap_or_default();
    Ok(Ended { command: text, status, stdout: said(stdout), stderr: said(stderr) })
}

/// Reads a pipe to its end on a thread of its own, so that the program never waits for us to read.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut pipe) = pipe {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let kept = pipe.by_ref().take(OUTPUT_MAX).read_to_end(&mut bytes);
            let rest = io::copy(&mut pipe, &mut io::sink());
            // A pipe that breaks ends the output; nobody listens any more after a timeout.
            drop((kept, rest));
            drop(sender.send(String::from_utf8_lossy(&bytes).into_owned()));
        });
    }
    receiver
}

/// Waits for a program; `None` when the time is up.
fn wait(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + time;
    let process = pidfd_open(pid(child)?, PidfdFlags::empty())?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills a program and all it started, and sees to it that it is no zombie.
fn kill(mut child: Child) {
    // It may have ended just now.
    drop(pid(&child).and_then(|group| Ok(kill_process_group(group, Signal::KILL)?)));
    if !matches!(wait(&mut child, KILL_PATIENCE), Ok(Some(_))) {
        std::thread::spawn(move || drop(child.wait()));
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?)
        .ok_or_else(|| io::Error::other("process 0"))
}

fn command_text<S: AsRef<OsStr>>(program: &str, args: &[S]) -> String {
    let mut text = OsString::from(program);
    for arg in args {
        text.push(" ");
        text.push(arg);
    }
    text.to_string_lossy().into_owned()
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn said(output: &str) -> &str {
    if output.is_empty() { "it said nothing" } else { output }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    fn sh(script: &str, time: Duration) -> Result<Ended, ExecError> {
        run("sh", &["-c", script], time)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn output_and_status_are_kept() {
        let ended = sh("echo out; echo err >&2; exit 3", LONG).expect("runs");
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(3), "out\n"));
        let error = ended.expect_code(&[0, 2]).expect_err("3 is not expected");
        assert_eq!(error.to_string(), "sh -c echo out; echo err >&2; exit 3 exited with 3: err");
        assert!(sh("exit 2", LONG).expect("runs").expect_code(&[0, 2]).is_ok());
    }

    #[test]
    fn a_lot_of_output_does_not_block_the_program() {
        let ended = sh("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2", LONG).expect("runs");
        assert_eq!(ended.code(), Some(0));
        assert_eq!(ended.stdout.len(), 1 << 20);
    }

    #[test]
    fn a_program_past_its_time_is_killed_with_its_children() {
        let dir = tempfile::TempDir::new().expect("temporary directory");
        let file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let error = sh(&script, Duration::from_millis(300)).expect_err("too long");
        assert!(matches!(error, ExecError::Timeout { .. }), "{error}");
        let pid = std::fs::read_to_string(&file).expect("the child had started");
        let stat = Path::new("/proc").join(pid.trim()).join("stat");
        let deadline = Instant::now() + KILL_PATIENCE;
        // Its new parent may take a moment to reap it.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "the child lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_told_apart() {
        let error = run::<&str>("no-such-program", &[], LONG).expect_err("missing");
        assert!(error.is_missing());
    }
}
