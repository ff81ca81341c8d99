//! Pid 1 of a guest: xtask itself, started by the guest kernel as `xtask guest-init BOOTFILE`.
//!
//! A shell script would do the same, but every fork in a user-mode-linux guest costs tens of
//! milliseconds and a power-cut test boots hundreds of times; this program forks twice.
//!
//! The guest's first root is the host's own root, mounted read-only by hostfs. Either a disk of the guest takes its place
//! ([`Root::Disk`]), or on top of it comes an
//! overlay whose upper layer is a tmpfs, so the guest may write wherever it likes and the host's files
//! cannot be damaged. `/proc /sys /dev /run /dev/shm` are the guest's own; so is LVM2's archive of
//! old metadata, which would otherwise tell of the host's volume groups.
//!
//! When the command has ended, the end marker is printed and the host kills the guest. Powering off is only
//! the fallback: the kernel's reboot path sleeps a second when a raid array is active.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{WaitOptions, pivot_root, wait};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname};

use super::boot::{Boot, Root, Shared};

/// The terminal that carries the command's output; the kernel's own messages go to another.
const COMMAND_TTY: &str = "/dev/tty1";

/// The disk with the root, where it is not the host's.
const ROOT_DISK: &str = "/dev/ubda";

/// Runs as pid 1. Never returns while all is well.
pub fn main(boot_file: &Path) -> Result<()> {
    let boot = Boot::read(boot_file)?;
    for module in &boot.early_modules {
        load(module)?;
    }
    // While the host's root is there: their files are its.
    for module in &boot.modules {
        if let Err(error) = load(module) {
            eprintln!("guest-init: {error:#}");
        }
    }
    match boot.root {
        Root::Host => private_root().context("building the private root")?,
        Root::Disk => disk_root().context("entering the disk's root")?,
    }
    mounts(&boot).context("mounting")?;
    sethostname(boot.host_name.as_bytes()).context("setting the host name")?;
    // Not waited for: it is there long before the first connection, and reaped below.
    Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .stdin(Stdio::null())
        .spawn()
        .context("starting ip")?;
    let status = command(&boot)?;
    finish(&boot, status)
}

/// Loads one module; one that is there already is fine.
fn load(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    match finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("loading {}", path.display())),
    }
}

/// Puts a writable overlay over the host's root and makes it the root.
fn private_root() -> Result<()> {
    // `/tmp` is a directory on every host; the tmpfs hides it only until the overlay, whose lower
    // layer is the bare hostfs, is the root.
    mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), c"mode=0755,size=75%").context("tmpfs on /tmp")?;
    for dir in ["/tmp/upper", "/tmp/work", "/tmp/root"] {
        fs::create_dir(dir).with_context(|| format!("creating {dir}"))?;
    }
    mount(
        "overlay",
        "/tmp/root",
        "overlay",
        MountFlags::empty(),
        c"lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work",
    )
    .context("overlay")?;
    std::env::set_current_dir("/tmp/root").context("entering the new root")?;
    for dir in ["proc", "sys", "dev"] {
        fs::create_dir_all(dir).with_context(|| format!("creating /{dir}"))?;
    }
    enter()
}

/// Mounts the root disk and makes it the root.
fn disk_root() -> Result<()> {
    // Its own name in the mount table: who looks for the disk behind `/` must find it.
    match mount("devtmpfs", "/dev", "devtmpfs", MountFlags::empty(), c"mode=0755") {
        // Some kernels have done so.
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => return Err(error).context("/dev"),
    }
    mount(ROOT_DISK, "/tmp", "ext4", MountFlags::empty(), None).with_context(|| ROOT_DISK.to_owned())?;
    std::env::set_current_dir("/tmp").context("entering the new root")?;
    enter()
}

/// Makes the current directory the root.
fn enter() -> Result<()> {
    // `.` twice stacks the old root upon the new one, so no directory for it is needed.
    pivot_root(".", ".").context("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).context("letting go of the old root")?;
    std::env::set_current_dir("/").context("entering /")
}

/// The guest's own kernel filesystems and the host directories it may write to.
fn mounts(boot: &Boot) -> Result<()> {
    let plain = MountFlags::empty();
    mount("proc", "/proc", "proc", plain, None).context("/proc")?;
    mount("sysfs", "/sys", "sysfs", plain, None).context("/sys")?;
    mount("devtmpfs", "/dev", "devtmpfs", plain, c"mode=0755").context("/dev")?;
    for dir in ["/dev/pts", "/dev/shm", "/run", "/etc/lvm/archive", "/etc/lvm/backup", "/lib/modules"] {
        fs::create_dir_all(dir).with_context(|| format!("creating {dir}"))?;
    }
    mount("devpts", "/dev/pts", "devpts", plain, c"mode=0620,ptmxmode=0666").context("/dev/pts")?;
    for dir in ["/dev/shm", "/run", "/etc/lvm/archive", "/etc/lvm/backup"] {
        mount("tmpfs", dir, "tmpfs", plain, c"mode=0755").with_context(|| format!("tmpfs on {dir}"))?;
    }
    fs::create_dir_all("/run/lock/lvm").context("creating /run/lock/lvm")?;
    host_directory(&boot.modules_root, Path::new("/lib/modules"), MountFlags::RDONLY)?;
    for Shared { path, writable } in &boot.shared {
        fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        host_directory(path, path, if *writable { plain } else { MountFlags::RDONLY })?;
    }
    // As on any node: a mount made in one place is seen in its copies.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).context("sharing mounts")
}

/// Mounts a directory of the host.
fn host_directory(source: &Path, target: &Path, flags: MountFlags) -> Result<()> {
    let name = std::ffi::CString::new(source.as_os_str().as_encoded_bytes())
        .with_context(|| format!("{} holds a NUL byte", source.display()))?;
    mount("none", target, "hostfs", flags, name.as_c_str())
        .with_context(|| format!("host directory {}", source.display()))
}

/// Opens the command's terminal so that it does not become pid 1's controlling terminal.
fn terminal() -> Result<File> {
    let tty = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(COMMAND_TTY)
        .with_context(|| format!("opening {COMMAND_TTY}"))?;
    let mut settings = rustix::termios::tcgetattr(&tty).context("reading the terminal's settings")?;
    settings.make_raw();
    rustix::termios::tcsetattr(&tty, rustix::termios::OptionalActions::Now, &settings)
        .context("making the terminal raw")?;
    Ok(tty)
}

/// Starts the command, then reaps whatever ends until the command itself has.
fn command(boot: &Boot) -> Result<ExitStatus> {
    let tty = terminal()?;
    say(&tty, &Boot::start_marker(&boot.nonce))?;
    let (program, args) = boot.command.split_first().context("no command given")?;
    let spawned = Command::new(program)
        .args(args)
        .env_clear()
        .envs(boot.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&boot.directory)
        .stdin(Stdio::null())
        .stdout(tty.try_clone().context("copying the terminal")?)
        .stderr(tty.try_clone().context("copying the terminal")?)
        .spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(error) => {
            say(&tty, &format!("guest-init: cannot start {program}: {error}"))?;
            // As a shell would answer.
            return Ok(ExitStatus::from_raw(127 << 8));
        }
    };
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if u32::try_from(pid.as_raw_nonzero().get()) == Ok(child.id()) => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for the command"),
        }
    }
}

/// Prints the end marker and powers off.
fn finish(boot: &Boot, status: ExitStatus) -> Result<()> {
    let tty = terminal()?;
    let ending = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown 0".to_owned(),
    };
    say(&tty, &format!("{}{ending}", Boot::end_marker(&boot.nonce)))?;
    rustix::termios::tcdrain(&tty).context("waiting for the terminal")?;
    reboot(RebootCommand::PowerOff).context("powering off")
}

/// One whole line in one write.
fn say(mut tty: &File, text: &str) -> Result<()> {
    use std::io::Write;
    tty.write_all(format!("{text}\n").as_bytes()).context("writing to the terminal")
}
