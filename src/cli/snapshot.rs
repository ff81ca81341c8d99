//! `splitmirror snapshot`.

use std::io::Write;
use std::ops::Range;

use serde::Serialize;

use crate::cli::args::{BlocksArgs, DetachArgs, Format, HostArgs, SnapshotCommand};
use crate::cli::error::{Error, Result};
use crate::cli::open;
use crate::cli::output::{Table, details, json, or_dash, utc};
use crate::cli::volume;
use crate::cli::watch::{self, Turn, watch};
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::info::{MemberOf, SnapshotInfo};

pub(super) fn run(command: SnapshotCommand, args: &HostArgs, out: &mut dyn Write) -> Result<()> {
    match command {
        SnapshotCommand::List(list) => {
            let engine = open(args, &list.pool)?;
            watch(list.watch, out, || {
                let snapshots = engine.snapshots()?;
                let text = watch::text(|out| match list.output.output {
                    Format::Json => json(out, &snapshots),
                    Format::Table => table(&snapshots).print(out, ""),
                })?;
                Ok(Turn { text, busy: snapshots.iter().any(|snapshot| !snapshot.ready) })
            })
        }
        SnapshotCommand::Show(show) => {
            let engine = open(args, &show.list.pool)?;
            watch(show.list.watch, out, || {
                let snapshot = find(engine.snapshots()?, &show.id)?;
                let text = watch::text(|out| print(&snapshot, show.list.output.output, out))?;
                Ok(Turn { text, busy: !snapshot.ready })
            })
        }
        SnapshotCommand::Blocks(blocks) => tell_blocks(&blocks, args, out),
        SnapshotCommand::Detach(detach) => make_volume(&detach, args, out),
    }
}

/// Blocks in a row.
#[derive(Serialize)]
struct Run {
    offset: u64,
    length: u64,
}

fn tell_blocks(args: &BlocksArgs, host: &HostArgs, out: &mut dyn Write) -> Result<()> {
    let engine = open(host, &args.pool)?;
    let snapshots = engine.snapshots()?;
    let base = args.since.as_ref().map(|since| find(snapshots.clone(), since)).transpose()?;
    let snapshot = find(snapshots, &args.id)?;
    let (mut runs, mut next) = (Vec::new(), Some(Bytes::ZERO));
    while let Some(from) = next {
        let part = engine.blocks(&snapshot.id, base.as_ref().map(|base| base.id.as_str()), from)?;
        let run = |range: Range<Bytes>| Run { offset: range.start.0, length: (range.end - range.start).0 };
        runs.extend(part.ranges.into_iter().map(run));
        next = part.next;
    }
    if args.output.output == Format::Json {
        return json(out, &runs);
    }
    let mut table = Table::new(&["OFFSET", "LENGTH"]);
    runs.iter().for_each(|run| table.row(vec![run.offset.to_string(), run.length.to_string()]));
    table.print(out, "no blocks")
}

fn make_volume(args: &DetachArgs, host: &HostArgs, out: &mut dyn Write) -> Result<()> {
    let engine = open(host, &args.new.pool)?;
    // A snapshot that is one no more is known by its id only.
    let known = engine.snapshots()?;
    let snapshot = find(known, &args.id).map_or_else(|_| args.id.clone(), |snapshot| snapshot.id);
    let made = engine.detach_snapshot(&volume::spec_of(&args.new), &snapshot)?;
    volume::print(&made, args.new.output.output, out)
}

pub(super) fn find(snapshots: Vec<SnapshotInfo>, id: &str) -> Result<SnapshotInfo> {
    let is = |snapshot: &SnapshotInfo| snapshot.id == id || snapshot.name.as_deref() == Some(id);
    let missing = || Error::refused(Class::NotFound, format!("there is no snapshot {id:?}"));
    snapshots.into_iter().find(is).ok_or_else(missing)
}

/// What a merge would copy, also in hundredths of the whole.
fn changed(snapshot: &SnapshotInfo) -> String {
    if snapshot.full_merge.is_some() {
        return format!("{} (all)", snapshot.size);
    }
    let Bytes(size) = snapshot.size;
    // In tenths of a hundredth, without leaving whole numbers.
    let tenths = u128::from(snapshot.changed.0) * 1000 / u128::from(size.max(1));
    format!("{} {}.{}%", snapshot.changed, tenths / 10, tenths % 10)
}

fn cut(snapshot: &SnapshotInfo) -> String {
    snapshot.cut_unix_nanos.map(utc).unwrap_or_default()
}

fn state(snapshot: &SnapshotInfo) -> &'static str {
    if snapshot.ready { "ready" } else { "being made" }
}

/// The group that it was cut with.
fn group(snapshot: &SnapshotInfo) -> String {
    let told =
        |group: &MemberOf| format!("{}, of {} snapshots that are deleted together", group.id, group.members);
    snapshot.group.as_ref().map(told).unwrap_or_default()
}

/// Snapshots as a table.
pub(super) fn table(snapshots: &[SnapshotInfo]) -> Table {
    let mut table = Table::new(&["SNAPSHOT", "CUT", "SIZE", "CHANGED", "STATE", "GROUP", "VIEWS"]);
    for snapshot in snapshots {
        table.row(vec![
            snapshot.id.clone(),
            or_dash(cut(snapshot)),
            snapshot.size.to_string(),
            changed(snapshot),
            state(snapshot).to_owned(),
            or_dash(snapshot.group.as_ref().map(|group| group.id.clone()).unwrap_or_default()),
            or_dash(snapshot.views.join(", ")),
        ]);
    }
    table
}

fn print(snapshot: &SnapshotInfo, format: Format, out: &mut dyn Write) -> Result<()> {
    if format == Format::Json {
        return json(out, snapshot);
    }
    details(
        out,
        &[
            ("snapshot", snapshot.id.clone()),
            ("asked for as", snapshot.name.clone().unwrap_or_else(|| "(another tool split it)".to_owned())),
            ("volume", format!("{}, slot {}", snapshot.volume, snapshot.slot)),
            ("cut", cut(snapshot)),
            ("size", snapshot.size.to_string()),
            ("state", state(snapshot).to_owned()),
            ("device", snapshot.device.clone().unwrap_or_else(|| "not active".to_owned())),
            ("changed since", changed(snapshot)),
            ("copied in full because", snapshot.full_merge.clone().unwrap_or_default()),
            ("group", group(snapshot)),
            ("views", snapshot.views.join(", ")),
        ],
    )
}
