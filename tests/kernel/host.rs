//! The ports of `host::linux` against a real kernel, real disks and LVM2's own tools.

mod files;

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use splitmirror::host::linux::{Config, LinuxHost};
use splitmirror::host::{Blocks, DevNo, DeviceMapper, DmInfo, Freeze, Locks, TargetLine, Udev};
use splitmirror::ids::{DmId, VgName};
use splitmirror::report::chain;
use splitmirror::units::{Bytes, Sectors};

type Outcome = Result<(), String>;

/// A name and what is checked.
pub type Scenario = (&'static str, fn(&[PathBuf]) -> Outcome);

/// What is checked; each is given at least three blank disks of at least 256 MiB and leaves them blank.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        ("a_linear_device_lives_and_dies", a_linear_device_lives_and_dies),
        ("a_device_that_is_open_is_not_removed", a_device_that_is_open_is_not_removed),
        ("a_raid1_loses_a_leg_by_a_table_swap", a_raid1_loses_a_leg_by_a_table_swap),
        ("bytes_are_written_read_and_zeroed", bytes_are_written_read_and_zeroed),
        ("disks_with_4_kib_blocks_take_512_bytes", disks_with_4_kib_blocks_take_512_bytes),
        ("a_disk_that_carries_anything_is_not_blank", a_disk_that_carries_anything_is_not_blank),
        ("file_systems_are_made_mounted_and_grown", files::file_systems_are_made_mounted_and_grown),
        ("what_is_not_blank_is_not_formatted", files::what_is_not_blank_is_not_formatted),
        ("a_damaged_file_system_is_told_apart", files::a_damaged_file_system_is_told_apart),
        ("locks_exclude_the_tools_of_lvm2", locks_exclude_the_tools_of_lvm2),
    ]
}

fn a_linear_device_lives_and_dies(disks: &[PathBuf]) -> Outcome {
    let host = host()?;
    let id = id("smoke-linear");
    let line = linear(&host, &disks[0], 0, 8192)?;
    that("it is not there yet", host.dm_info(&id.name).map_err(said)?.is_none())?;
    host.dm_create(&id).map_err(said)?;
    that("its name is taken", host.dm_create(&id).is_err())?;
    let info = info(&host, &id.name)?;
    that("it has no table yet", !info.live_table && !info.inactive_table && info.uuid == id.uuid)?;
    host.dm_load(&id.name, std::slice::from_ref(&line), false).map_err(said)?;
    host.dm_clear(&id.name).map_err(said)?;
    that("the table was dropped", !self::info(&host, &id.name)?.inactive_table)?;
    host.dm_load(&id.name, std::slice::from_ref(&line), false).map_err(said)?;
    host.dm_resume(&id.name, Udev::Hidden).map_err(said)?;
    let node = host.node(info.devno).map_err(said)?;
    equal("its node", node, PathBuf::from(format!("/dev/dm-{}", info.devno.minor)))?;
    let looked = host.dm_look(&id.name).map_err(said)?.ok_or("it is gone")?;
    equal("its table", looked.1, vec![line.clone()])?;
    equal("its status", host.dm_status(&id.name).map_err(said)?.len(), 1)?;
    that(
        "it is listed",
        host.dm_list().map_err(said)?.iter().any(|e| e.name == id.name && e.uuid == id.uuid),
    )?;
    let listed = host.scan().map_err(said)?;
    that("its disk is found by a scan", listed.iter().any(|d| d.path == disks[0]))?;
    that("an LV is no disk", !listed.iter().any(|d| d.devno == info.devno))?;

    for freeze in [Freeze::FileSystem, Freeze::IoOnly] {
        host.dm_suspend(&id.name, freeze).map_err(said)?;
        that("it is suspended", self::info(&host, &id.name)?.suspended)?;
        host.dm_resume(&id.name, Udev::Hidden).map_err(said)?;
        that("it runs", !self::info(&host, &id.name)?.suspended)?;
    }
    let before = host.dm_sectors_written(info.devno).map_err(said)?;
    host.write(&dm_node(&info), Bytes(0), &[1; 4096]).map_err(said)?;
    equal("sectors written", host.dm_sectors_written(info.devno).map_err(said)?, before + Sectors(8))?;

    host.dm_suspend(&id.name, Freeze::IoOnly).map_err(said)?;
    host.dm_load(&id.name, std::slice::from_ref(&line), true).map_err(said)?;
    host.dm_resume(&id.name, Udev::Image).map_err(said)?;
    that("it is read-only", self::info(&host, &id.name)?.read_only)?;
    that("it refuses writes", host.write(&dm_node(&info), Bytes(0), &[1; 512]).is_err())?;
    host.dm_load(&id.name, &[line], false).map_err(said)?;
    host.dm_resume(&id.name, Udev::Volume).map_err(said)?;
    that("it takes writes again", host.write(&dm_node(&info), Bytes(0), &[0; 4096]).is_ok())?;

    host.dm_rename(&id.name, "smoke-other", Udev::Volume).map_err(said)?;
    that("the old name is free", host.dm_info(&id.name).map_err(said)?.is_none())?;
    equal("the device is the same", self::info(&host, "smoke-other")?.devno, info.devno)?;
    host.dm_remove("smoke-other").map_err(said)?;
    that("its node is gone", !dm_node(&info).exists())?;
    that("there is nothing to remove", host.dm_remove("smoke-other").is_err())
}

fn a_device_that_is_open_is_not_removed(disks: &[PathBuf]) -> Outcome {
    let host = host()?;
    let below = id("smoke-below");
    let top = id("smoke-top");
    let node = up(&host, &below, linear(&host, &disks[0], 0, 8192)?)?;
    up(&host, &top, linear(&host, &node, 0, 8192)?)?;
    let start = Instant::now();
    let error = host.dm_remove(&below.name).err().ok_or("a device under another was removed")?;
    that("the device on top is named", said(error).contains("under dm-"))?;
    that("who stays is not waited for", start.elapsed() < Duration::from_secs(1))?;
    host.dm_remove(&top.name).map_err(said)?;

    let open = std::fs::File::open(&node).map_err(|e| e.to_string())?;
    let closer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(open);
    });
    host.dm_remove(&below.name).map_err(said)?;
    closer.join().map_err(|_| "the closing thread panicked".to_owned())
}

fn a_raid1_loses_a_leg_by_a_table_swap(disks: &[PathBuf]) -> Outcome {
    const LEN: u64 = 65536;
    let host = host()?;
    let mut legs = Vec::new();
    for (slot, disk) in disks.iter().take(3).enumerate() {
        host.zero(disk, Bytes(0), Bytes::mib(1)).map_err(said)?;
        let meta = up(&host, &id(&format!("smoke_rmeta_{slot}")), linear(&host, disk, 0, 2048)?)?;
        let image = up(&host, &id(&format!("smoke_rimage_{slot}")), linear(&host, disk, 2048, LEN)?)?;
        legs.push((meta.display().to_string(), image.display().to_string()));
    }
    let table = |missing: Option<usize>, sync: &str| {
        let legs = legs.iter().enumerate().map(|(slot, (meta, image))| {
            if missing == Some(slot) { "- -".to_owned() } else { format!("{meta} {image}") }
        });
        // The first number counts the words up to the number of legs.
        let words = if sync.is_empty() { 3 } else { 4 };
        let legs: Vec<_> = legs.collect();
        let params = format!("raid1 {words} 0 {sync} region_size 1024 3 {}", legs.join(" "));
        vec![TargetLine { start: Sectors::ZERO, len: Sectors(LEN), target: "raid".to_owned(), params }]
    };
    let top = id("smoke-raid");
    host.dm_create(&top).map_err(said)?;
    host.dm_load(&top.name, &table(None, "nosync"), false).map_err(said)?;
    host.dm_resume(&top.name, Udev::Volume).map_err(said)?;
    let node = dm_node(&info(&host, &top.name)?);
    host.write(&node, Bytes(0), &[7; 65536]).map_err(said)?;
    for round in 0..5 {
        let text = |after: Duration| format!("{:.1} ms", after.as_secs_f64() * 1e3);
        let (bare_suspend, bare_resume) = (
            timed(|| host.dm_suspend(&top.name, Freeze::FileSystem))?,
            timed(|| host.dm_resume(&top.name, Udev::Volume))?,
        );
        let missing = (round % 2 == 0).then_some(2);
        let suspend = timed(|| host.dm_suspend(&top.name, Freeze::FileSystem))?;
        let load = timed(|| host.dm_load(&top.name, &table(missing, ""), false))?;
        let resume = timed(|| host.dm_resume(&top.name, Udev::Volume))?;
        println!(
            "  suspend {} resume {}; swap: suspend {} load {} resume {}",
            text(bare_suspend),
            text(bare_resume),
            text(suspend),
            text(load),
            text(resume)
        );
    }
    let status = host.dm_status(&top.name).map_err(said)?;
    that("the third leg is missing", status[0].params.starts_with("raid1 3 AA-"))?;
    that("nonsense is no message", host.dm_message(&top.name, "nonsense").is_err())?;
    let error =
        host.dm_load(&top.name, &table(None, "no_such_word"), false).err().ok_or("nonsense was loaded")?;
    that("the error shows the table", said(error).contains("no_such_word"))?;
    host.dm_remove(&top.name).map_err(said)?;
    for slot in 0..3 {
        host.dm_remove(&format!("smoke_rimage_{slot}")).map_err(said)?;
        host.dm_remove(&format!("smoke_rmeta_{slot}")).map_err(said)?;
    }
    wipe(&host, disks)
}

fn bytes_are_written_read_and_zeroed(disks: &[PathBuf]) -> Outcome {
    let host = host()?;
    let disk = &disks[0];
    let data: Vec<u8> = (0..Bytes::mib(3).0).map(|i| (i % 251).to_le_bytes()[0]).collect();
    host.write(disk, Bytes(512), &data).map_err(said)?;
    that("what was written is read", host.read(disk, Bytes(512), Bytes::mib(3)).map_err(said)? == data)?;
    let cached = read_cached(disk)?;
    that("the page cache agrees", cached[512..512 + data.len()] == data)?;
    let (from, len) = (Bytes(1536), Bytes(Bytes::mib(2).0 + 512));
    host.zero(disk, from, len).map_err(said)?;
    let mut expected = [vec![0; 512], data].concat();
    expected[1536..1536 + 512 + (2 << 20)].fill(0);
    that(
        "only the range is zeroed",
        host.read(disk, Bytes(0), Bytes::mib(3)).map_err(said)? == expected[..3 << 20],
    )?;
    let cached = read_cached(disk)?;
    that("the page cache has forgotten", cached[..3 << 20] == expected[..3 << 20])?;
    that("odd ranges are refused", host.read(disk, Bytes(1), Bytes(512)).is_err())?;
    let size = size(&host, disk)?.bytes().0;
    that("nothing is beyond the end", host.zero(disk, Bytes(size), Bytes(512)).is_err())?;
    that("a file is no disk", host.read(Path::new("/etc/passwd"), Bytes(0), Bytes(512)).is_err())?;
    let start = Instant::now();
    host.zero(disk, Bytes(0), Bytes(size)).map_err(said)?;
    println!("  zeroed {} in {:.1} ms", Bytes(size), start.elapsed().as_secs_f64() * 1e3);
    wipe(&host, &disks[..1])
}

fn disks_with_4_kib_blocks_take_512_bytes(_: &[PathBuf]) -> Outcome {
    let host = host()?;
    let file = PathBuf::from("/run/smoke-4k");
    std::fs::File::create(&file).and_then(|f| f.set_len(8 << 20)).map_err(|e| e.to_string())?;
    let text = tool("losetup", &["-f", "--show", "-b", "4096", "/run/smoke-4k"])?;
    let disk = PathBuf::from(text.trim());
    let check = || -> Outcome {
        host.write(&disk, Bytes(0), &[1; 16384]).map_err(said)?;
        host.write(&disk, Bytes(4608), &[2; 512]).map_err(said)?;
        host.zero(&disk, Bytes(7680), Bytes(5632)).map_err(said)?;
        let mut expected = vec![1; 16384];
        expected[4608..5120].fill(2);
        expected[7680..7680 + 5632].fill(0);
        that("neighbours are kept", host.read(&disk, Bytes(0), Bytes(16384)).map_err(said)? == expected)?;
        equal("a part is read", host.read(&disk, Bytes(4608), Bytes(512)).map_err(said)?, vec![2; 512])
    };
    let outcome = check();
    tool("losetup", &["-d", text.trim()])?;
    std::fs::remove_file(&file).map_err(|e| e.to_string())?;
    outcome
}

fn a_disk_that_carries_anything_is_not_blank(disks: &[PathBuf]) -> Outcome {
    let host = host()?;
    let disk = &disks[0];
    let path = disk.display().to_string();
    let found = || host.probe(disk).map(|probe| probe.signatures).map_err(said);
    that("a blank disk is blank", host.probe(disk).map_err(said)?.is_blank())?;
    let wipe = || host.zero(disk, Bytes(0), Bytes::mib(64)).map_err(said);
    tool("pvcreate", &["-qq", &path])?;
    equal("a PV", found()?, vec!["LVM2_member".to_owned()])?;
    wipe()?;
    tool("mkfs.ext4", &["-q", "-F", "-L", "mine", &path])?;
    equal("ext4", found()?, vec!["ext4 labelled \"mine\"".to_owned()])?;
    wipe()?;
    tool("mkswap", &["-q", &path])?;
    equal("swap", found()?, vec!["swap".to_owned()])?;
    wipe()?;
    let last = (size(&host, disk)? - Sectors(1)).bytes();
    host.write(disk, last, &[9; 512]).map_err(said)?;
    equal("odd bytes at the end", found()?, vec![format!("unrecognised data at byte {}", last.0)])?;
    host.zero(disk, last, Bytes(512)).map_err(said)?;

    let under = id("smoke-under");
    up(&host, &under, linear(&host, disk, 0, 8192)?)?;
    let user = host.probe(disk).map_err(said)?.in_use;
    that("the device on top is seen", user.is_some_and(|user| user.starts_with("under dm-")))?;
    host.dm_remove(&under.name).map_err(said)?;
    let exclusive = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::EXCL.bits().cast_signed())
        .open(disk)
        .map_err(|e| e.to_string())?;
    that("an exclusive user is seen", host.probe(disk).map_err(said)?.in_use.is_some())?;
    drop(exclusive);
    that("it is blank again", host.probe(disk).map_err(said)?.is_blank())
}

fn locks_exclude_the_tools_of_lvm2(disks: &[PathBuf]) -> Outcome {
    let host = host()?;
    let path = disks[0].display().to_string();
    tool("vgcreate", &["-qq", "smokevg", &path])?;
    let vg: VgName = "smokevg".parse().map_err(|e| format!("{e}"))?;
    let lock = host.lock_vg(&vg).map_err(said)?;
    let waits = |args: &[&str]| -> Result<bool, String> {
        let status = Command::new("timeout").arg("1").args(args).status().map_err(|e| e.to_string())?;
        Ok(status.code() == Some(124))
    };
    that("lvs waits for the lock", waits(&["lvs", "smokevg"])?)?;
    drop(lock);
    tool("lvs", &["smokevg"])?;
    let global = host.lock_global().map_err(said)?;
    that(
        "pvcreate waits for the global lock",
        waits(&["pvcreate", "-qq", &disks[1].display().to_string()])?,
    )?;
    drop(global);

    let mut holder = Command::new("flock")
        .args(["/run/lock/lvm/V_smokevg", "sleep", "1"])
        .spawn()
        .map_err(|e| e.to_string())?;
    while !Path::new("/run/lock/lvm/V_smokevg").exists() {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(200));
    let config = Config { lock_wait: Duration::from_millis(100), ..Config::default() };
    let hasty = LinuxHost::new(config).map_err(said)?;
    let error = hasty.lock_vg(&vg).err().ok_or("a held lock was taken")?;
    let text = said(error);
    that(&format!("the holder is named in {text:?}"), text.contains("(flock)") || text.contains("(sleep)"))?;
    drop(host.lock_vg(&vg).map_err(said)?);
    holder.wait().map_err(|e| e.to_string())?;

    // Where systemd-tmpfiles has not made the directory, LVM2 keeps no hints.
    std::fs::create_dir_all("/run/lvm").map_err(|e| e.to_string())?;
    tool("lvs", &["-a"])?;
    that("there are hints", Path::new("/run/lvm/hints").exists())?;
    host.invalidate_hints().map_err(said)?;
    tool("vgs", &["smokevg"])?;
    that("the tools have seen that hints are void", !Path::new("/run/lvm/newhints").exists())?;
    tool("vgremove", &["-qq", "-f", "smokevg"])?;
    tool("pvremove", &["-qq", &path])?;
    wipe(&host, &disks[..1])
}

fn host() -> Result<LinuxHost, String> {
    LinuxHost::new(Config::default()).map_err(said)
}

fn id(name: &str) -> DmId {
    // With a second hyphen blkid would take the device for a hidden one, and say nothing of it.
    DmId { name: name.to_owned(), uuid: format!("LVM-{}", name.replace('-', "")) }
}

fn linear(host: &LinuxHost, disk: &Path, start: u64, len: u64) -> Result<TargetLine, String> {
    let meta = std::fs::metadata(disk).map_err(|e| e.to_string())?;
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    equal("the node", host.node(DevNo { major, minor }).map_err(said)?, disk.to_path_buf())?;
    Ok(TargetLine {
        start: Sectors::ZERO,
        len: Sectors(len),
        target: "linear".to_owned(),
        params: format!("{major}:{minor} {start}"),
    })
}

fn size(host: &LinuxHost, disk: &Path) -> Result<Sectors, String> {
    let found = host.scan().map_err(said)?.into_iter().find(|d| d.path == *disk);
    found.map(|d| d.size).ok_or_else(|| format!("{} is not in the scan", disk.display()))
}

/// The first 4 MiB as other programs see them.
fn read_cached(disk: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; 4 << 20];
    let mut file = std::fs::File::open(disk).map_err(|e| e.to_string())?;
    file.read_exact(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Brings up a device of one line and gives its node.
fn up(host: &LinuxHost, id: &DmId, line: TargetLine) -> Result<PathBuf, String> {
    host.dm_create(id).map_err(said)?;
    host.dm_load(&id.name, &[line], false).map_err(said)?;
    host.dm_resume(&id.name, Udev::Hidden).map_err(said)?;
    Ok(dm_node(&info(host, &id.name)?))
}

fn info(host: &LinuxHost, name: &str) -> Result<DmInfo, String> {
    host.dm_info(name).map_err(said)?.ok_or_else(|| format!("{name} is not there"))
}

fn dm_node(info: &DmInfo) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{}", info.devno.minor))
}

/// Leaves disks as they were found.
fn wipe(host: &LinuxHost, disks: &[PathBuf]) -> Outcome {
    for disk in disks {
        let size = size(host, disk)?;
        host.zero(disk, Bytes(0), size.bytes()).map_err(said)?;
    }
    Ok(())
}

fn tool(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn timed<T>(call: impl FnOnce() -> splitmirror::host::Result<T>) -> Result<Duration, String> {
    let start = Instant::now();
    call().map_err(said)?;
    Ok(start.elapsed())
}

fn that(what: &str, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(format!("not so: {what}")) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}")) }
}

fn said(error: impl std::error::Error + 'static) -> String {
    chain(&error)
}
