//! Holding the processes of one program together, whatever becomes of us.
//!
//! A guest kernel is several host processes, and killing the first leaves the others (seen with 6.1: they keep the disks
//! open and locked). So a holder puts the program into a process group of its own, adopts every orphan (subreaper), and
//! ends only when the last process is gone: who has waited for the holder knows that nobody writes to the disks any more.
//!
//! Its standard input is the life line: end of file there, whether because xtask closed it or because xtask
//! itself was killed, means `SIGKILL` to the whole group at once.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, set_child_subreaper, setsid, wait};

/// Starts a program that writes to our own standard output and error, and returns when all its processes are gone.
pub fn main(program: &OsString, args: &[OsString]) -> Result<()> {
    hold(Command::new(program).args(args).stdin(Stdio::null()))
}

/// Starts the command, and returns when all its processes are gone.
pub fn hold(command: &mut Command) -> Result<()> {
    setsid().context("leaving the terminal")?;
    set_child_subreaper(Some(rustix::process::getpid())).context("becoming subreaper")?;
    let child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let main = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a pid out of range")?;
    // Or who reads what it prints would never see end of file.
    let null = OpenOptions::new().write(true).open("/dev/null").context("opening /dev/null")?;
    rustix::stdio::dup2_stdout(&null).context("closing standard output")?;
    rustix::stdio::dup2_stderr(&null).context("closing standard error")?;

    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        // Gone already is as good.
        kill_process_group(main, Signal::KILL).ok();
    });
    loop {
        match wait(WaitOptions::empty()) {
            // The program has ended; its helpers must go too.
            Ok(Some((pid, _))) if pid == main => {
                kill_process_group(main, Signal::KILL).ok();
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error).context("waiting for the processes"),
        }
    }
}
