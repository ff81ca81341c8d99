//! Real LVM2, as an admin runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use splitmirror::units::Bytes;

use crate::lab::{self, Outcome, ensure};
use crate::writer::{BLOCK, Plan};

/// What a command of LVM2 came to.
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

/// Runs `lvm` with these words.
fn say_to(words: &str) -> Outcome<Said> {
    let output = Command::new("lvm")
        .args(words.split_whitespace())
        .env("LC_ALL", "C")
        .env("DM_DISABLE_UDEV", "1")
        .env("LVM_SUPPRESS_FD_WARNINGS", "1")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("lvm: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok(Said { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) })
}

/// Runs a command that must succeed; what it printed.
pub fn lvm(words: &str) -> Outcome<String> {
    let said = say_to(words)?;
    if said.ok { Ok(said.out) } else { Err(format!("lvm {words}: {}{}", said.out, said.err)) }
}

/// Runs a command that must fail; what it complained about.
pub fn lvm_refuses(words: &str) -> Outcome<String> {
    let said = say_to(words)?;
    if said.ok { Err(format!("lvm {words} succeeded: {}", said.out)) } else { Ok(said.err) }
}

/// Runs a command that must succeed without a word of complaint.
pub fn calm(words: &str) -> Outcome<String> {
    let said = say_to(words)?;
    let complains = !said.err.is_empty() || said.out.contains("WARNING") || said.out.contains("CHECK:");
    if said.ok && !complains {
        return Ok(said.out);
    }
    Err(format!("lvm {words}: {}\n{}", said.err, said.out))
}

/// LVM2 checks and shows all there is of the pool, and finds nothing to complain about.
pub fn is_content(disks: &[PathBuf]) -> Outcome {
    calm("vgck pool")?;
    calm("pvs -o +pv_all")?;
    calm("vgs -o +vg_all")?;
    calm("lvs -a -o +lv_all,seg_all,devices")?;
    for disk in disks {
        let disk = disk.display();
        calm(&format!("pvck {disk}"))?;
        for what in ["headers", "metadata", "metadata_all", "metadata_search"] {
            calm(&format!("pvck --dump {what} {disk}"))?;
        }
    }
    Ok(())
}

/// Rows of a report, columns separated by `|`.
pub fn rows(words: &str) -> Outcome<Vec<String>> {
    let out = calm(&format!(
        "{words} --noheadings --separator | --units b --nosuffix --config report/compact_output=0"
    ))?;
    Ok(out.lines().map(|line| line.trim().to_owned()).collect())
}

/// One field of an LV.
pub fn field(lv: &str, name: &str) -> Outcome<String> {
    Ok(rows(&format!("lvs -a -o {name} pool/{lv}"))?.join(","))
}

/// Checks fields of an LV.
pub fn shows(lv: &str, wanted: &[(&str, &str)]) -> Outcome {
    for (name, value) in wanted {
        let found = field(lv, name)?;
        ensure(found == *value, || format!("lvs shows {name} of {lv} as {found:?} instead of {value:?}"))?;
    }
    Ok(())
}

/// Names of the LVs that `lvs` shows by itself.
pub fn visible() -> Outcome<Vec<String>> {
    let mut names = rows("lvs -o lv_name pool")?;
    names.sort();
    Ok(names)
}

/// Makes a group of LVM2 on all of these disks.
pub fn new_group(disks: &[PathBuf]) -> Outcome {
    lvm(&format!("vgcreate pool {}", paths(disks))).map(|_| ())
}

pub fn paths(disks: &[PathBuf]) -> String {
    disks.iter().map(|disk| disk.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// Zeroes an LV of the lab's size, so that nothing of an earlier scenario is on it.
pub fn blank(lv: &str) -> Outcome {
    use splitmirror::host::Blocks;
    lab::host().zero(&node(lv), Bytes::ZERO, lab::SIZE).map_err(lab::say)
}

/// Makes a raid1 LV like the lab's volumes.
pub fn new_raid1(name: &str, images: usize, more: &str) -> Outcome {
    let mirrors = images - 1;
    lvm(&format!("lvcreate -y --type raid1 -m{mirrors} -L 16M -R 512K -n {name} pool {more}"))?;
    blank(name)
}

/// The device of an LV as LVM2 made it.
pub fn node(lv: &str) -> PathBuf {
    PathBuf::from(format!("/dev/mapper/{}", lab::top_name(lv)))
}

/// What the writers do, on LVs of the lab's size.
pub fn plan(seed: u64) -> Plan {
    Plan { seed, threads: 4, blocks: lab::SIZE.0 / BLOCK }
}

/// Bounds for an instant that is not known any better.
pub const ANY: ([u64; 4], [u64; 4]) = ([0; 4], [u64::MAX; 4]);

/// Waits until LVM2 shows that an LV is in sync.
pub fn wait_for_sync(lv: &str) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let shown = field(lv, "sync_percent,raid_sync_action")?;
        if shown == "100.00|idle" {
            return Ok(());
        }
        ensure(Instant::now() < deadline, || format!("{lv} is not in sync: {shown}"))?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Long enough without writes for the kernel to note in the superblocks which slots are missing.
pub fn quiet() {
    std::thread::sleep(Duration::from_millis(800));
}

/// What LVM2 remembers of a scenario before this one, and links without a device, are gone.
pub fn forget() -> Outcome {
    for path in ["/run/lvm/hints", "/dev/pool", "/dev/data", "/dev/other"] {
        let path = Path::new(path);
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        if let Err(error) = removed {
            ensure(error.kind() == std::io::ErrorKind::NotFound, || format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// What is at the start of a disk: label and metadata.
pub fn head(disk: &Path) -> Outcome<Vec<u8>> {
    use splitmirror::host::Blocks;
    lab::host().read(disk, Bytes::ZERO, Bytes::mib(1)).map_err(lab::say)
}

pub fn put_head(disk: &Path, head: &[u8]) -> Outcome {
    use splitmirror::host::Blocks;
    lab::host().write(disk, Bytes::ZERO, head).map_err(lab::say)
}
