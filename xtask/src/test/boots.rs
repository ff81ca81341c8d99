//! One boot of a test binary: its messages, and the console that is shown when something fails.

use std::time::{Duration, Instant};

use crate::contract::{Message, is_kernel_trouble};
use crate::guest::{End, Event, ExitReport, Line, Running, Source};

/// What a running test binary says, or what became of it.
#[derive(Clone, Debug)]
pub enum Said {
    /// A line that begins with `@@`.
    Message(Message),
    /// A line of the guest kernel that tells of a fault in it.
    Trouble(String),
    /// The guest is gone.
    Ended(End),
    /// Nothing until the deadline.
    TimedOut,
}

/// Waits for the next thing of interest.
pub fn listen(running: &mut Running, deadline: Instant) -> Said {
    loop {
        match running.next(deadline.saturating_duration_since(Instant::now())) {
            Event::Line(Line { source: Source::Kernel, text, .. }) if is_kernel_trouble(&text) => {
                return Said::Trouble(text);
            }
            Event::Line(Line { source: Source::Command, text, .. }) => {
                if let Some(message) = Message::parse(&text) {
                    return Said::Message(message);
                }
            }
            Event::Line(_) => {}
            Event::Ended(end) => return Said::Ended(end),
            Event::TimedOut => return Said::TimedOut,
        }
    }
}

/// What every boot of a healthy guest kernel says.
const NOISE: [&str; 4] = [
    "] epollctl add err fd",
    "] SELinux: ",
    "] mmapper_init - find_iomem failed",
    "] This architecture does not have kernel memory protection.",
];

/// A guest's console as it is shown.
pub fn console(lines: &[Line]) -> Vec<String> {
    lines
        .iter()
        .filter(|line| line.source == Source::Command || !NOISE.iter().any(|noise| line.text.contains(noise)))
        .map(|line| {
            let who = match line.source {
                Source::Kernel => "kernel: ",
                Source::Command => "",
            };
            format!("{:8.3} {who}{}", line.at.as_secs_f64(), line.text)
        })
        .collect()
}

/// Why a boot came to nothing.
pub fn describe(end: End) -> String {
    match end {
        End::Exited(0) => "the binary ended without a result".to_owned(),
        End::Exited(code) => format!("the binary exited with {code}"),
        End::Signaled(signal) => format!("the binary was ended by signal {signal}"),
        End::PowerCut => "the power was cut".to_owned(),
        End::Died => "the guest kernel ended".to_owned(),
    }
}

/// How many boots a level took, and how long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Guests booted.
    pub boots: u32,
    /// From start to the first instruction of the binary, together.
    pub booting: Duration,
    /// From start to end, together.
    pub running: Duration,
}

impl Effort {
    /// Counts a boot.
    pub fn add(&mut self, report: &ExitReport) {
        self.boots += 1;
        self.booting += report.boot_time.unwrap_or_default();
        self.running += report.run_time;
    }
}
