//! `cargo xtask guest`: any command in a guest, for development.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;

use crate::cache::Cache;
use crate::guest::{DEFAULT_MEM_MIB, End, Event, Guest, Lab, Source, parse_size};
use crate::kernel::{Origin, select_one};

/// Run any command in a guest.
///
/// The guest sees the host's files and may change them in private only. Its disks are blank and named in
/// the environment variable SPLITMIRROR_DISKS (/dev/ubda,/dev/ubdb,…).
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Kernel: debian, newest, or a version like 6.1 [default: newest, else debian]
    #[arg(long)]
    kernel: Option<String>,
    /// How many disks (up to 8)
    #[arg(long, default_value_t = 4)]
    disks: usize,
    /// Size of each disk
    #[arg(long, default_value = "256M")]
    size: String,
    /// Memory in MiB
    #[arg(long, default_value_t = DEFAULT_MEM_MIB)]
    mem: u32,
    /// Seconds after which the power is cut
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
    /// A variable for the command's environment: KEY=VALUE (may be repeated)
    #[arg(long)]
    env: Vec<String>,
    /// Directory that the guest may write to (may be repeated)
    #[arg(long)]
    writable: Vec<std::path::PathBuf>,
    /// More words for the kernel's command line (may be repeated)
    #[arg(long)]
    kernel_arg: Vec<String>,
    /// Say when it booted and how long it ran
    #[arg(long)]
    times: bool,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Runs the command; its exit status becomes ours.
pub fn main(args: &Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let kernel = select_one(&cache, args.kernel.as_deref(), &[Origin::Newest, Origin::Debian])?;
    let lab = Lab::open(&cache)?;
    let disks = lab.disks(args.disks, parse_size(&args.size)?)?;
    let mut guest = Guest::new(&lab, &kernel, args.command.clone())
        .inherit_env()
        .disks(&disks)
        .mem(args.mem)
        .kernel_args(args.kernel_arg.iter().cloned());
    for pair in &args.env {
        let Some((key, value)) = pair.split_once('=') else { bail!("`{pair}` is not KEY=VALUE") };
        guest = guest.env(key, value);
    }
    for dir in &args.writable {
        guest = guest.writable(dir.canonicalize()?);
    }
    let mut running = guest.boot()?;
    let deadline = std::time::Instant::now() + Duration::from_secs(args.timeout);
    loop {
        match running.next(deadline.saturating_duration_since(std::time::Instant::now())) {
            Event::Line(line) if line.source == Source::Command => println!("{}", line.text),
            Event::Line(line) => eprintln!("{}", line.text),
            Event::Ended(_) => break,
            Event::TimedOut => {
                eprintln!("xtask: no end after {} s, power cut", args.timeout);
                break;
            }
        }
    }
    let report = running.power_cut();
    if args.times {
        let boot = report.boot_time.unwrap_or_default();
        eprintln!("xtask: {} booted in {boot:.2?}, ran {:.2?}", kernel.id, report.run_time);
    }
    match report.end {
        End::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        // As a shell would answer.
        End::Signaled(signal) => Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))),
        End::PowerCut => Ok(ExitCode::from(124)),
        End::Died => bail!("the guest ended before the command did"),
    }
}
