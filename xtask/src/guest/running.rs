//! A booted guest: its lines as they come, and its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::boot::Boot;

/// How long the last lines may take to arrive after a guest's processes are gone.
const DRAIN: Duration = Duration::from_secs(5);

/// Who printed a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The guest kernel, or pid 1 before the command starts.
    Kernel,
    /// The command.
    Command,
}

/// One line of a guest's console.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the guest was started.
    pub at: Duration,
    /// Who printed it.
    pub source: Source,
    /// Without the line end.
    pub text: String,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The command exited with this status.
    Exited(i32),
    /// The command was ended by this signal.
    Signaled(i32),
    /// We cut the power.
    PowerCut,
    /// The guest ended by itself before the command did: a kernel panic, or pid 1 gave up.
    Died,
}

/// What [`Running::next`] saw.
#[derive(Clone, Debug)]
pub enum Event {
    /// A line.
    Line(Line),
    /// The guest is gone.
    Ended(End),
    /// Neither, in the time given.
    TimedOut,
}

/// All that is left of a guest.
#[derive(Clone, Debug)]
pub struct ExitReport {
    /// How it ended.
    pub end: End,
    /// The whole console.
    pub lines: Vec<Line>,
    /// From start to the first instruction of the command, if it came so far.
    pub boot_time: Option<Duration>,
    /// From start to end.
    pub run_time: Duration,
}

/// A booted guest. Dropping it cuts the power.
#[derive(Debug)]
pub struct Running {
    launcher: Child,
    life_line: Option<ChildStdin>,
    from_guest: Receiver<Option<Line>>,
    open_streams: u32,
    started: Instant,
    nonce: String,
    lines: Vec<Line>,
    boot_time: Option<Duration>,
    end: Option<End>,
}

impl Running {
    /// Takes over a launcher that was just started.
    pub(super) fn new(mut launcher: Child, nonce: String) -> Result<Self> {
        let started = Instant::now();
        let (sender, from_guest) = channel();
        let kernel = launcher.stdout.take().context("the launcher has no standard output")?;
        let command = launcher.stderr.take().context("the launcher has no standard error")?;
        read(kernel, Source::Kernel, started, sender.clone());
        read(command, Source::Command, started, sender);
        Ok(Self {
            life_line: launcher.stdin.take(),
            launcher,
            from_guest,
            open_streams: 2,
            started,
            nonce,
            lines: Vec::new(),
            boot_time: None,
            end: None,
        })
    }

    /// The next thing that happens. Markers of start and end are not shown.
    pub fn next(&mut self, timeout: Duration) -> Event {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(end) = self.end {
                return Event::Ended(end);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.from_guest.recv_timeout(left) {
                Ok(Some(line)) => {
                    if let Some(line) = self.take(line) {
                        return Event::Line(line);
                    }
                }
                Ok(None) => {
                    self.open_streams -= 1;
                    if self.open_streams == 0 {
                        self.end = Some(End::Died);
                        self.power_off();
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Event::TimedOut,
                Err(RecvTimeoutError::Disconnected) => self.end = Some(End::Died),
            }
        }
    }

    /// Records a line, unless it is a marker.
    fn take(&mut self, line: Line) -> Option<Line> {
        if line.source == Source::Command {
            if line.text == Boot::start_marker(&self.nonce) {
                self.boot_time = Some(line.at);
                return None;
            }
            // Not `strip_prefix`: a command may have left a line without its end.
            if let Some((before, ending)) = line.text.split_once(&Boot::end_marker(&self.nonce)) {
                self.end = Some(parse_end(ending));
                let rest = Line { text: before.to_owned(), ..line };
                let rest = (!rest.text.is_empty()).then_some(rest);
                self.lines.extend(rest.clone());
                self.power_off();
                return rest;
            }
        }
        self.lines.push(line.clone());
        Some(line)
    }

    /// Cuts the power now. When this returns, no process of the guest is left and nobody has its disks open.
    pub fn power_cut(mut self) -> ExitReport {
        self.end.get_or_insert(End::PowerCut);
        self.power_off();
        self.report()
    }

    /// The console so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Kills the guest, waits until all of it is gone and takes the last lines. Harmless when repeated.
    fn power_off(&mut self) {
        if self.life_line.take().is_none() {
            return;
        }
        if let Err(error) = self.launcher.wait() {
            eprintln!("xtask: waiting for a guest's launcher: {error}");
        }
        let deadline = Instant::now() + DRAIN;
        while self.open_streams > 0 {
            match self.from_guest.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Some(line)) => {
                    self.take(line);
                }
                Ok(None) => self.open_streams -= 1,
                Err(_) => break,
            }
        }
    }

    fn report(mut self) -> ExitReport {
        ExitReport {
            end: self.end.unwrap_or(End::Died),
            lines: std::mem::take(&mut self.lines),
            boot_time: self.boot_time,
            run_time: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// Reads `exit 3` or `signal 9`.
fn parse_end(text: &str) -> End {
    match text.trim_end().split_once(' ').map(|(kind, number)| (kind, number.parse())) {
        Some(("exit", Ok(code))) => End::Exited(code),
        Some(("signal", Ok(signal))) => End::Signaled(signal),
        _ => End::Died,
    }
}

/// Sends the lines of one stream, then `None`. A thread of its own, so that a guest never waits for us.
fn read(stream: impl Read + Send + 'static, source: Source, started: Instant, to: Sender<Option<Line>>) {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while matches!(stream.read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            bytes.clear();
            if to.send(Some(Line { at: started.elapsed(), source, text })).is_err() {
                return;
            }
        }
        // The receiver may be gone already.
        to.send(None).ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_marker_tells_how_the_command_ended() {
        assert_eq!(parse_end("exit 0"), End::Exited(0));
        assert_eq!(parse_end("exit 3\r"), End::Exited(3));
        assert_eq!(parse_end("signal 9"), End::Signaled(9));
        assert_eq!(parse_end("exit"), End::Died);
    }
}
