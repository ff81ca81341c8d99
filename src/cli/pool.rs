//! `splitmirror pool`.

use std::io::Write;

use crate::cli::args::{Format, HostArgs, OutputArgs, PoolChoice, PoolCommand};
use crate::cli::error::Result;
use crate::cli::output::{Table, details, json, or_dash};
use crate::cli::{choose, host, settings};
use crate::engine::pool::{self, Options};
use crate::units::Bytes;
use crate::volume::info::PoolInfo;

pub(super) fn run(command: PoolCommand, args: &HostArgs, out: &mut dyn Write) -> Result<()> {
    let host = host(args)?;
    let settings = settings(args);
    let options = |wipe_signatures| Options {
        wipe_signatures,
        system_id: args.system_id.clone(),
        ..Options::default()
    };
    match command {
        PoolCommand::Create { name, devices, extent_size, wipe_signatures, output } => {
            let options = Options { extent_size, ..options(wipe_signatures) };
            show(&pool::create(&host, &name, &devices, &options)?, output, out)
        }
        PoolCommand::Extend { name, devices, wipe_signatures, output } => {
            show(&pool::extend(&host, &name, &devices, &options(wipe_signatures))?, output, out)
        }
        PoolCommand::Reduce { name, devices, output } => {
            show(&pool::reduce(&host, &name, &devices, &options(Vec::new()))?, output, out)
        }
        PoolCommand::List { output } => list(&pool::list(&host, &settings)?, output, out),
        PoolCommand::Show { name, output } => {
            let name = choose(&host, &PoolChoice { pool: name }, &settings)?;
            show(&pool::show(&host, &name, &settings)?, output, out)
        }
    }
}

fn free(pool: &PoolInfo) -> Bytes {
    pool.disks.iter().map(|disk| disk.free).sum()
}

fn size(pool: &PoolInfo) -> Bytes {
    pool.disks.iter().map(|disk| disk.size).sum()
}

fn list(pools: &[PoolInfo], output: OutputArgs, out: &mut dyn Write) -> Result<()> {
    match output.output {
        Format::Json => json(out, &pools),
        Format::Table => {
            let mut table = Table::new(&["POOL", "DISKS", "SIZE", "FREE", "VOLUMES", "PROBLEMS"]);
            for pool in pools {
                table.row(vec![
                    pool.name.to_string(),
                    pool.disks.len().to_string(),
                    size(pool).to_string(),
                    free(pool).to_string(),
                    pool.volumes.to_string(),
                    or_dash(pool.problems.join("; ")),
                ]);
            }
            table.print(out, "")
        }
    }
}

fn show(pool: &PoolInfo, output: OutputArgs, out: &mut dyn Write) -> Result<()> {
    if output.output == Format::Json {
        return json(out, pool);
    }
    details(
        out,
        &[
            ("pool", pool.name.to_string()),
            ("id", pool.id.clone()),
            ("size", format!("{} in extents of {}", size(pool), pool.extent_size)),
            ("free", free(pool).to_string()),
            ("volumes", pool.volumes.to_string()),
            ("metadata", format!("version {}", pool.seqno)),
            ("problems", pool.problems.join("\n            ")),
        ],
    )?;
    let mut disks = Table::new(&["DISK", "SIZE", "FREE", "ID"]);
    for disk in &pool.disks {
        let device = if disk.missing { format!("{} (missing)", disk.device) } else { disk.device.clone() };
        disks.row(vec![device, disk.size.to_string(), disk.free.to_string(), disk.id.clone()]);
    }
    writeln!(out)?;
    disks.print(out, "")?;
    if !pool.largest.is_empty() {
        let mut largest = Table::new(&["IMAGES", "LARGEST VOLUME"]);
        for fits in &pool.largest {
            largest.row(vec![fits.images.to_string(), fits.size.to_string()]);
        }
        writeln!(out)?;
        largest.print(out, "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::info::{DiskInfo, Largest};

    fn pool() -> PoolInfo {
        let disk = |device: &str, missing| DiskInfo {
            device: device.to_owned(),
            id: "aaaaaa".to_owned(),
            size: Bytes::gib(10),
            free: Bytes::gib(4),
            missing,
        };
        PoolInfo {
            name: "fast".parse().expect("legal"),
            id: "bbbbbb".to_owned(),
            seqno: 7,
            extent_size: Bytes::mib(4),
            disks: vec![disk("/dev/sdb", false), disk("/dev/sdc", true)],
            volumes: 3,
            largest: vec![Largest { images: 2, size: Bytes::gib(4), available: Bytes::gib(4) }],
            problems: vec!["a disk is missing".to_owned()],
        }
    }

    #[test]
    fn a_pool_is_shown_with_its_disks_and_what_fits() {
        let mut out = Vec::new();
        show(&pool(), OutputArgs { output: Format::Table }, &mut out).expect("memory");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "\
pool:       fast
id:         bbbbbb
size:       20GiB in extents of 4MiB
free:       8GiB
volumes:    3
metadata:   version 7
problems:   a disk is missing

DISK                 SIZE    FREE   ID
/dev/sdb             10GiB   4GiB   aaaaaa
/dev/sdc (missing)   10GiB   4GiB   aaaaaa

IMAGES   LARGEST VOLUME
2        4GiB
"
        );
    }

    #[test]
    fn json_is_what_programs_read() {
        let mut out = Vec::new();
        list(&[pool()], OutputArgs { output: Format::Json }, &mut out).expect("memory");
        let read: Vec<PoolInfo> = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(read, [pool()]);
    }
}
