//! `--watch`: the same answer again and again while something is under way.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::cli::error::Result;

/// How often it is looked again.
const PERIOD: Duration = Duration::from_secs(1);

/// One look.
#[derive(Debug)]
pub struct Turn {
    /// What to print.
    pub text: String,
    /// Whether something is still under way.
    pub busy: bool,
}

/// What `print` prints.
///
/// # Errors
/// As `print`.
pub fn text(print: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<String> {
    let mut out = Vec::new();
    print(&mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Where looks are printed. On a terminal each is written over the one before; elsewhere one is printed only when it
/// differs.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    shown: Option<String>,
}

impl Screen {
    /// With nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), shown: None }
    }

    /// Whether nothing was printed yet.
    #[cfg(feature = "kubernetes")]
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.shown.is_none()
    }

    /// Prints a look.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn show(&mut self, out: &mut dyn Write, text: String) -> Result<()> {
        if self.shown.as_ref() == Some(&text) {
            return Ok(());
        }
        if let (Some(before), true) = (&self.shown, self.terminal) {
            // Up over what was printed, and clear from there.
            write!(out, "\x1b[{}A\x1b[J", before.lines().count())?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        self.shown = Some(text);
        Ok(())
    }
}

/// Prints one look, or with `watch` one after another until nothing is under way.
///
/// # Errors
/// As `look`, or it cannot be printed.
pub fn watch(watch: bool, out: &mut dyn Write, mut look: impl FnMut() -> Result<Turn>) -> Result<()> {
    let mut screen = Screen::new();
    loop {
        let Turn { text, busy } = look()?;
        screen.show(out, text)?;
        if !watch || !busy {
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}
