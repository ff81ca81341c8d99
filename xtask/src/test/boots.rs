//! One boot of a test binary: its messages, and the console that is shown when something fails.

use std::time::{Duration, Instant};

use crate::contract::{Message, Outcome, is_kernel_trouble};
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

/// What a test comes to that failed, where the guest kernel may be to blame.
///
/// Before 6.7 `__md_stop_writes` (`drivers/md/md.c`) waits for the work that starts a resync only while that is queued, not
/// while it runs: an array that is removed in that instant is gone when the resync begins, and `md_do_sync` calls through its
/// null `pers`. On a machine with several CPUs `mddev_suspend` comes between and waits for an RCU grace period; with the one
/// CPU of a guest that is no wait at all. What the test would have shown is not known then.
pub fn blamed(release: &str, reason: String, lines: &[Line]) -> Outcome {
    let said = |part: &str| lines.iter().any(|l| l.source == Source::Kernel && l.text.contains(part));
    let known = release.starts_with("6.1.")
        && said("Kernel panic - not syncing: Segfault with no mm")
        && said("Comm: mdX_resync")
        && said("] md_thread+0x");
    if known {
        Outcome::Skipped(format!(
            "{reason}: its md began a resync of an array that is gone, a fault of kernels before 6.7"
        ))
    } else {
        Outcome::Failed(reason)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn console_of(lines: &[&str]) -> Vec<Line> {
        let kernel =
            |text: &&str| Line { at: Duration::ZERO, source: Source::Kernel, text: (*text).to_owned() };
        lines.iter().map(kernel).collect()
    }

    #[test]
    fn only_the_known_fault_of_an_old_kernel_is_no_failure() {
        const PANIC: &str = "[   69.900000] Kernel panic - not syncing: Segfault with no mm";
        const WHO: &str = "[   69.900000] CPU: 0 PID: 4735 Comm: mdX_resync Not tainted 6.1.176 #1";
        const WHERE: &str = "[   69.900000]  [<8b52a275>] md_thread+0x158/0x16e [md_mod]";
        let outcome =
            |release: &str, lines: &[&str]| blamed(release, "it ended".to_owned(), &console_of(lines));
        assert!(matches!(outcome("6.1.176", &[PANIC, WHO, WHERE]), Outcome::Skipped(_)));
        let failed = Outcome::Failed("it ended".to_owned());
        assert_eq!(outcome("7.2.1", &[PANIC, WHO, WHERE]), failed);
        assert_eq!(outcome("6.1.176", &[WHO, WHERE]), failed);
        assert_eq!(outcome("6.1.176", &[PANIC, "Comm: mdX_raid1", WHERE]), failed);
        assert_eq!(outcome("6.1.176", &[]), failed);
    }
}
