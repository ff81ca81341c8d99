//! The guest: its disks, programs in it, and the driver as a process.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Everything of a test is below this; it is memory, new in every boot.
const RUN: &str = "/run/splitmirror";

/// The volume group of every test.
pub const POOL: &str = "sanity";

/// How long a process of ours may take to do what is asked of it.
const PATIENCE: Duration = Duration::from_secs(20);

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: this runs in a guest only"))
}

/// The disks of the guest.
pub fn disks() -> Result<Vec<PathBuf>, String> {
    Ok(variable("SPLITMIRROR_DISKS")?.split(',').map(PathBuf::from).collect())
}

/// Upstream's csi-sanity.
pub fn sanity() -> Result<PathBuf, String> {
    variable("SPLITMIRROR_SANITY").map(PathBuf::from)
}

/// A path for files of this test.
pub fn path(name: &str) -> PathBuf {
    Path::new(RUN).join(name)
}

/// Removes what an earlier test left: mounts, device-mapper devices, and the first and last MiB of each disk.
pub fn wipe() -> Result<(), String> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let below = |line: &&str| line.split(' ').nth(4).is_some_and(|at| at.starts_with(&format!("{RUN}/")));
    for line in table.lines().rev().filter(below) {
        run(Command::new("umount").args(line.split(' ').nth(4)))?;
    }
    run(Command::new("dmsetup").args(["remove_all", "--force"]))?;
    // It may not be there.
    drop(fs::remove_dir_all(RUN));
    fs::create_dir_all(RUN).map_err(|error| format!("make {RUN}: {error}"))?;
    for disk in disks()? {
        wipe_disk(&disk).map_err(|error| format!("wipe {}: {error}", disk.display()))?;
    }
    Ok(())
}

fn wipe_disk(disk: &Path) -> std::io::Result<()> {
    const MIB: usize = 1 << 20;
    let mut file = OpenOptions::new().write(true).open(disk)?;
    file.write_all(&vec![0; 2 * MIB])?;
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(1 << 20)))?;
    file.write_all(&vec![0; MIB])?;
    file.sync_all()
}

/// Runs a program; what it prints on standard output, or what went wrong.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{command:?}: {}: {}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// `splitmirror` with these arguments.
pub fn splitmirror(args: &[&str]) -> Result<Command, String> {
    let mut command = Command::new(variable("SPLITMIRROR_BIN")?);
    command.args(args);
    Ok(command)
}

/// Makes the pool of all disks.
pub fn create_pool() -> Result<(), String> {
    let mut command = splitmirror(&["pool", "create", POOL])?;
    run(command.args(disks()?)).map(|_| ())
}

/// `splitmirror standalone`, running. It is killed when this is dropped.
pub struct Standalone {
    child: Child,
    log: PathBuf,
}

impl Standalone {
    /// Where it serves.
    pub fn socket() -> PathBuf {
        path("csi.sock")
    }

    /// Starts it and waits until it answers.
    pub fn start() -> Result<Self, String> {
        let log = path("standalone.log");
        let file =
            OpenOptions::new().create(true).append(true).open(&log).map_err(|error| error.to_string())?;
        let endpoint = format!("unix://{}", Self::socket().display());
        let child =
            splitmirror(&["standalone", "--endpoint", &endpoint, "--pool", POOL, "--node-id", "guest"])?
                .args(["--metrics", "127.0.0.1:9809"])
                .env("SPLITMIRROR_LOG", "info,splitmirror=debug")
                .stdin(Stdio::null())
                .stderr(file)
                .spawn()
                .map_err(|error| format!("start splitmirror standalone: {error}"))?;
        let mut standalone = Self { child, log };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(Self::socket()).is_err() {
            if let Some(status) = standalone.child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("splitmirror standalone ended, {status}: {}", standalone.log()));
            }
            if Instant::now() > deadline {
                return Err(format!("splitmirror standalone does not answer: {}", standalone.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(standalone)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it after a while, in the middle of whatever it does then.
    pub fn kill_after(self, delay: Duration) -> JoinHandle<Result<(), String>> {
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            self.kill()
        })
    }

    /// Kills it in the middle of whatever it does.
    pub fn kill(mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> Result<(), String> {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let deadline = Instant::now() + PATIENCE;
        let status: ExitStatus = loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if Instant::now() > deadline => return Err("it does not end".to_owned()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        if !status.success() {
            return Err(format!("splitmirror standalone ended, {status}: {}", self.log()));
        }
        if Self::socket().exists() {
            return Err("it left its socket".to_owned());
        }
        Ok(())
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
