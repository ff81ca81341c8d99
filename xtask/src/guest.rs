//! Guests: a user-mode-linux kernel whose root is the host's own, or a disk, and whose disks are sparse files.
//!
//! ```text
//! xtask ──spawns──> xtask guest-launch ──spawns──> guest kernel ──starts pid 1──> xtask guest-init ──> COMMAND
//!   ^ life line, kernel console, command's output
//! ```
//!
//! * [`Lab`] holds what guests of one run share and cleans it up; [`Disks`] and a [`RootDisk`] outlive a boot, so the
//!   next boot finds what the last one wrote.
//! * [`Guest`] says what to boot, [`Running`] is a booted one.
//! * A power cut ([`Running::power_cut`]) is `SIGKILL` to all the guest's processes at once. What the guest kernel
//!   had handed to its disks is kept, what sat in its page cache is lost.
//!
//! Sources: Linux `Documentation/virt/uml/user_mode_linux_howto_v2.rst`, `arch/um/drivers/ubd_kern.c`.

pub mod boot;
mod disks;
pub mod hold;
pub mod init;
mod lab;
pub mod launch;
mod modules;
mod running;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use self::boot::{Root, Shared};
pub use self::disks::{Disks, MAX_DISKS, RootDisk, parse_size};
pub use self::lab::Lab;
pub use self::running::{End, Event, ExitReport, Line, Running, Source};
use crate::kernel::Kernel;

/// Memory of a guest unless said otherwise.
pub const DEFAULT_MEM_MIB: u32 = 512;

/// Initcalls that only measure the speed of RAID6 code, at 0.85 s a boot (`raid6_select_algo` up to
/// 6.x, `raid6_init` in 7.x). Nothing here uses RAID6.
const SLOW_INITCALLS: &str = "raid6_select_algo,raid6_init";

/// A guest to be booted.
#[derive(Debug)]
pub struct Guest<'a> {
    lab: &'a Lab,
    kernel: &'a Kernel,
    root: Option<&'a RootDisk>,
    disks: Option<&'a Disks>,
    mem_mib: u32,
    kernel_args: Vec<String>,
    shared: Vec<Shared>,
    host_name: String,
    taps: Vec<String>,
    modules: &'static [&'static str],
    command: Vec<String>,
    env: Vec<(String, String)>,
}

impl<'a> Guest<'a> {
    /// A guest that runs `command` (program and arguments; files are the host's).
    pub fn new(lab: &'a Lab, kernel: &'a Kernel, command: Vec<String>) -> Self {
        let env = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("TERM", "dumb"),
            ("RUST_BACKTRACE", "1"),
            // There is no udevd in a guest: libdevmapper must make the nodes itself and not wait for one.
            ("DM_DISABLE_UDEV", "1"),
            ("LVM_SUPPRESS_FD_WARNINGS", "1"),
        ];
        let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        Self {
            lab,
            kernel,
            root: None,
            disks: None,
            mem_mib: DEFAULT_MEM_MIB,
            kernel_args: Vec::new(),
            shared: Vec::new(),
            host_name: "guest".to_owned(),
            taps: Vec::new(),
            modules: &[],
            command,
            env,
        }
        .env("SPLITMIRROR_KERNEL", &kernel.id)
    }

    /// Gives the guest these disks, named in `SPLITMIRROR_DISKS`.
    #[must_use]
    pub fn disks(mut self, disks: &'a Disks) -> Self {
        self.disks = Some(disks);
        self
    }

    /// Gives the guest a root of its own. Of the host it sees only what is shared with it.
    #[must_use]
    pub fn root(mut self, root: &'a RootDisk) -> Self {
        self.root = Some(root);
        self
    }

    /// What the guest calls itself.
    #[must_use]
    pub fn host_name(mut self, name: &str) -> Self {
        self.host_name = name.to_owned();
        self
    }

    /// One more network interface (`vec0`, `vec1`, …), whose other end is this tap device.
    #[must_use]
    pub fn tap(mut self, name: &str) -> Self {
        self.taps.push(name.to_owned());
        self
    }

    /// More kernel modules than every guest has.
    #[must_use]
    pub fn modules(mut self, names: &'static [&'static str]) -> Self {
        self.modules = names;
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn mem(mut self, mib: u32) -> Self {
        self.mem_mib = mib;
        self
    }

    /// More arguments for the kernel's command line.
    #[must_use]
    pub fn kernel_args(mut self, args: impl IntoIterator<Item = String>) -> Self {
        self.kernel_args.extend(args);
        self
    }

    /// A host directory that the guest may write to. Written back lazily: a power cut loses some.
    #[must_use]
    pub fn writable(mut self, path: PathBuf) -> Self {
        self.shared.push(Shared { path, writable: true });
        self
    }

    /// A host directory that a guest with a root of its own may read.
    #[must_use]
    pub fn readable(mut self, path: PathBuf) -> Self {
        self.shared.push(Shared { path, writable: false });
        self
    }

    /// One more variable in the command's environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Passes on our own `SPLITMIRROR_…` variables that are not about the host, and `RUST_LOG`.
    #[must_use]
    pub fn inherit_env(mut self) -> Self {
        let host_only = [crate::cache::VARIABLE, lab::SCRATCH_VARIABLE];
        for (key, value) in std::env::vars() {
            if (key.starts_with("SPLITMIRROR_") && !host_only.contains(&key.as_str())) || key == "RUST_LOG" {
                self = self.env(&key, &value);
            }
        }
        self
    }

    /// Boots it.
    pub fn boot(mut self) -> Result<Running> {
        static BOOTS: AtomicU32 = AtomicU32::new(0);
        let number = BOOTS.fetch_add(1, Ordering::Relaxed);
        let nonce = format!("{}-{number}", std::process::id());
        let modules = modules::Modules::of(self.kernel)?;
        let boot_file = self.lab.seen().join(format!("boot-{number}.json"));
        let first_disk = usize::from(self.root.is_some());
        if let Some(disks) = self.disks {
            let names = disks.guest_names(first_disk);
            self = self.env("SPLITMIRROR_DISKS", &names.join(","));
        }
        let (root, directory) = match self.root {
            None => (Root::Host, std::env::current_dir().context("the current directory")?),
            Some(_) => (Root::Disk, PathBuf::from("/")),
        };
        let wanted = [modules::WANTED, self.modules].concat();
        boot::Boot {
            nonce: nonce.clone(),
            early_modules: modules.in_order(&["overlay"])?,
            modules: modules.in_order(&wanted)?,
            modules_root: self.kernel.modules.clone(),
            root,
            shared: self.shared,
            host_name: self.host_name,
            command: self.command,
            env: self.env,
            directory,
        }
        .write(&boot_file)?;

        let umid = format!("splitmirror-{nonce}");
        let mut args: Vec<OsString> = Vec::new();
        args.push(format!("umid={umid}").into());
        args.push(join("uml_dir=", self.lab.fast().join("uml"), "/"));
        args.push(format!("mem={}M", self.mem_mib).into());
        if let Some(root) = self.root {
            args.push(join("ubd0=", root.argument().into(), ""));
        }
        if let Some(disks) = self.disks {
            // `d`: plain data, even if it looks like the header of a copy-on-write file.
            args.extend(
                (first_disk..).zip(disks.files()).map(|(n, file)| join(&format!("ubd{n}d="), file, "")),
            );
        }
        for (n, tap) in self.taps.iter().enumerate() {
            args.push(format!("vec{n}:transport=tap,ifname={tap},depth=64,gro=1").into());
        }
        args.extend(["rootfstype=hostfs", "ro", "noreboot", "panic=-1", "oops=panic"].map(Into::into));
        args.extend(["con=null", "con0=null,fd:1", "con1=null,fd:0"].map(Into::into));
        args.extend(["quiet", "loglevel=5", "printk.time=1"].map(Into::into));
        args.push(format!("initcall_blacklist={SLOW_INITCALLS}").into());
        args.extend(self.kernel.args.iter().map(Into::into));
        args.extend(self.kernel_args.iter().map(Into::into));
        args.push(join("init=", self.lab.program().to_path_buf(), ""));
        args.extend(["--", "guest-init"].map(Into::into));
        args.push(boot_file.into());

        let mut launcher = Command::new(self.lab.program());
        launcher
            .arg("guest-launch")
            .arg(&self.kernel.image)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The guest's memory is a deleted file in TMPDIR.
            .env("TMPDIR", self.lab.fast());
        if let Some(preload) = &self.kernel.preload {
            launcher.env("LD_PRELOAD", preload);
        }
        let child = launcher.spawn().with_context(|| format!("starting a guest of {}", self.kernel.id))?;
        Running::new(child, nonce)
    }
}

/// `prefix` + path + `suffix`, without a detour through UTF-8.
fn join(prefix: &str, path: PathBuf, suffix: &str) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text.push(suffix);
    text
}
