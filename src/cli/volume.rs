//! `splitmirror volume`.

use std::io::Write;
use std::sync::Arc;

use serde::Serialize;

use crate::cli::args::{
    DetachImagesArgs, Format, HostArgs, NewVolumeArgs, RollbackArgs, SetArgs, VolumeCommand,
};
use crate::cli::error::{Error, Result};
use crate::cli::open;
use crate::cli::output::{Table, details, json, or_dash};
use crate::cli::watch::{Turn, watch};
use crate::cli::{snapshot, threads, watch};
use crate::csi::node::linux::LinuxMounts;
use crate::pool::Pool;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::info::{SlotInfo, SlotState, VolumeInfo};
use crate::volume::region;
use crate::volume::spec::{RollbackSpec, VolumeSpec};
use crate::volume::tune::Change;

pub(super) fn run(command: VolumeCommand, args: &HostArgs, out: &mut dyn Write) -> Result<()> {
    match command {
        VolumeCommand::List(list) => {
            let engine = open(args, &list.pool)?;
            watch(list.watch, out, || {
                let volumes = engine.volumes()?;
                let text = watch::text(|out| print_list(&volumes, list.output.output, out))?;
                Ok(Turn { text, busy: volumes.iter().any(is_busy) })
            })
        }
        VolumeCommand::Show(show) => {
            let engine = open(args, &show.list.pool)?;
            watch(show.list.watch, out, || {
                let volume = find(engine.volumes()?, &show.id)?;
                let text = watch::text(|out| print(&volume, show.list.output.output, out))?;
                Ok(Turn { text, busy: is_busy(&volume) })
            })
        }
        VolumeCommand::Rollback(rollback) => roll_back(&rollback, args, out),
        VolumeCommand::Set(set) => change(&set, args, out),
        VolumeCommand::Detach(detach) => part(&detach, args, out),
    }
}

/// What came of a rollback.
#[derive(Serialize)]
struct RolledBack {
    volume: String,
    snapshot: String,
    copied: Bytes,
}

fn roll_back(args: &RollbackArgs, host: &HostArgs, out: &mut dyn Write) -> Result<()> {
    let engine = open(host, &args.pool)?;
    let volume = find(engine.volumes()?, &args.volume)?;
    let snapshot = snapshot::find(volume.snapshots.clone(), &args.to)?;
    let pool = Pool::new(engine, Arc::new(LinuxMounts::default()));
    let copied = threads::serve(async {
        let copied = pool.roll_back(RollbackSpec { snapshot: snapshot.id.clone(), request: None }).await;
        copied.map_err(|error| Error::refused(error.class, error.message))
    })?;
    let done = RolledBack { volume: volume.id.to_string(), snapshot: snapshot.id, copied };
    match args.output.output {
        Format::Json => json(out, &done),
        Format::Table => {
            let RolledBack { volume, snapshot, copied } = done;
            Ok(writeln!(out, "volume {volume} is as it was in snapshot {snapshot}: {copied} copied back")?)
        }
    }
}

fn change(args: &SetArgs, host: &HostArgs, out: &mut dyn Write) -> Result<()> {
    let engine = open(host, &args.pool)?;
    let volume = find(engine.volumes()?, &args.volume)?;
    let change = Change {
        images: args.images,
        min_recovery_rate: args.min_recovery_rate,
        max_recovery_rate: args.max_recovery_rate,
        write_mostly: args.write_mostly.clone(),
        region_size: args.region_size,
    };
    print(&engine.modify_volume(&volume.id, &change)?, args.output.output, out)
}

fn part(args: &DetachImagesArgs, host: &HostArgs, out: &mut dyn Write) -> Result<()> {
    let engine = open(host, &args.new.pool)?;
    let volume = find(engine.volumes()?, &args.volume)?;
    print(&engine.detach_images(&spec_of(&args.new), &volume.id)?, args.new.output.output, out)
}

/// Size and regions are those of the images that it is made of.
pub(super) fn spec_of(args: &NewVolumeArgs) -> VolumeSpec {
    VolumeSpec {
        name: args.name.clone(),
        size: Bytes::ZERO,
        limit: None,
        images: args.images,
        region_size: region::default_size(Bytes::ZERO),
        min_recovery_rate: None,
        max_recovery_rate: None,
    }
}

fn find(volumes: Vec<VolumeInfo>, id: &str) -> Result<VolumeInfo> {
    let is = |volume: &VolumeInfo| volume.id.as_str() == id || volume.name.as_deref() == Some(id);
    let missing = || Error::refused(Class::NotFound, format!("there is no volume {id:?}"));
    volumes.into_iter().find(is).ok_or_else(missing)
}

/// Whether an image is being copied.
pub(super) fn is_busy(volume: &VolumeInfo) -> bool {
    volume.filling.is_some()
        || volume.slots.iter().any(|slot| matches!(slot.state, SlotState::Merging | SlotState::Rebuilding))
}

/// `●` for each image in sync, and a letter for each that is not.
fn picture(slots: &[SlotInfo]) -> String {
    let letter = |slot: &SlotInfo| match slot.state {
        SlotState::InSync => '●',
        SlotState::Split => 'S',
        SlotState::Merging => 'M',
        SlotState::Rebuilding => 'R',
        SlotState::Failed => 'F',
        SlotState::Missing => 'X',
        SlotState::Inactive => '-',
    };
    slots.iter().map(letter).collect()
}

fn sync(volume: &VolumeInfo) -> String {
    if let Some(filling) = volume.filling {
        return format!("filled {} of {}", filling.done, filling.total);
    }
    if volume.to_resync.0 == 0 {
        return format!("{:.0}%", volume.sync_percent);
    }
    format!("{:.1}%, {} to copy", volume.sync_percent, volume.to_resync)
}

fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::InSync => "in sync",
        SlotState::Split => "split off",
        SlotState::Merging => "merging",
        SlotState::Rebuilding => "rebuilding",
        SlotState::Failed => "FAILED",
        SlotState::Missing => "MISSING",
        SlotState::Inactive => "inactive",
    }
}

fn print_list(volumes: &[VolumeInfo], format: Format, out: &mut dyn Write) -> Result<()> {
    if format == Format::Json {
        return json(out, &volumes);
    }
    let mut table = Table::new(&["VOLUME", "SIZE", "SLOTS", "SYNC", "SNAPSHOTS", "PROBLEMS"]);
    for volume in volumes {
        table.row(vec![
            volume.id.to_string(),
            volume.size.to_string(),
            picture(&volume.slots),
            sync(volume),
            volume.snapshots.len().to_string(),
            or_dash(volume.problems.join("; ")),
        ]);
    }
    table.print(out, "")?;
    if !volumes.is_empty() {
        writeln!(
            out,
            "\nSlots: ● in sync, S split off, M merging, R rebuilding, F failed, X missing, - inactive"
        )?;
    }
    Ok(())
}

pub(super) fn print(volume: &VolumeInfo, format: Format, out: &mut dyn Write) -> Result<()> {
    if format == Format::Json {
        return json(out, volume);
    }
    let named = volume.name.as_deref().filter(|name| *name != volume.id.as_str());
    details(
        out,
        &[
            ("volume", volume.id.to_string()),
            ("asked for as", named.unwrap_or_default().to_owned()),
            ("pool", volume.pool.to_string()),
            ("size", format!("{}, tracked in regions of {}", volume.size, volume.region_size)),
            ("device", volume.device.clone().unwrap_or_else(|| "not active".to_owned())),
            ("sync", sync(volume)),
            ("made from", volume.clone_of.clone().unwrap_or_default()),
            ("problems", volume.problems.join("\n                ")),
        ],
    )?;
    let mut slots = Table::new(&["SLOT", "STATE", "DISK", "SNAPSHOT"]);
    for slot in &volume.slots {
        let note = match (&slot.grown, slot.write_mostly) {
            (Some(_), _) => ", there for a snapshot only",
            (None, true) => ", write-mostly",
            (None, false) => "",
        };
        slots.row(vec![
            slot.index.to_string(),
            format!("{}{note}", state(slot.state)),
            slot.device.clone(),
            or_dash(slot.snapshot.clone().or_else(|| slot.grown.clone()).unwrap_or_default()),
        ]);
    }
    writeln!(out)?;
    slots.print(out, "")?;
    if !volume.snapshots.is_empty() {
        writeln!(out)?;
        snapshot::table(&volume.snapshots).print(out, "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use crate::volume::info::SnapshotInfo;

    fn volume() -> VolumeInfo {
        let slot = |index: usize, state, snapshot: Option<&str>| SlotInfo {
            index,
            state,
            device: format!("/dev/sd{index}"),
            write_mostly: index == 2,
            rotational: false,
            grown: None,
            snapshot: snapshot.map(str::to_owned),
            lent: None,
            lost: false,
        };
        let snapshot = SnapshotInfo {
            id: "pvc-1@nightly".to_owned(),
            name: Some("nightly".to_owned()),
            volume: "pvc-1".parse().expect("legal"),
            slot: 2,
            cut_unix_nanos: Some(1_709_251_199_000_000_000),
            size: Bytes::gib(1),
            min_in_sync: 1,
            ready: true,
            changed: Bytes::mib(6),
            group: None,
            full_merge: None,
            views: Vec::new(),
            device: Some("/dev/dm-7".to_owned()),
        };
        VolumeInfo {
            id: "pvc-1".parse().expect("legal"),
            name: Some("pvc-1".to_owned()),
            pool: "fast".parse().expect("legal"),
            size: Bytes::gib(1),
            region_size: Bytes::mib(2),
            min_recovery_rate: None,
            max_recovery_rate: None,
            device: Some("/dev/dm-6".to_owned()),
            slots: vec![
                slot(0, SlotState::InSync, None),
                slot(1, SlotState::Merging, None),
                slot(2, SlotState::Split, Some("pvc-1@nightly")),
            ],
            sync_percent: 42.25,
            to_resync: Bytes::mib(12),
            snapshots: vec![snapshot],
            rollback: None,
            rolled_back_for: None,
            creating: false,
            clone_of: None,
            detached: None,
            filling: None,
            problems: Vec::new(),
        }
    }

    fn printed(print: impl FnOnce(&mut dyn Write) -> Result<()>) -> String {
        watch::text(print).expect("memory")
    }

    #[test]
    fn a_list_tells_the_state_of_each_slot_at_a_glance() {
        assert_eq!(
            printed(|out| print_list(&[volume()], Format::Table, out)),
            "\
VOLUME   SIZE   SLOTS   SYNC                   SNAPSHOTS   PROBLEMS
pvc-1    1GiB   ●MS     42.2%, 12MiB to copy   1           -

Slots: ● in sync, S split off, M merging, R rebuilding, F failed, X missing, - inactive
"
        );
    }

    #[test]
    fn a_volume_is_shown_with_slots_and_snapshots() {
        assert_eq!(
            printed(|out| print(&volume(), Format::Table, out)),
            "\
volume:   pvc-1
pool:     fast
size:     1GiB, tracked in regions of 2MiB
device:   /dev/dm-6
sync:     42.2%, 12MiB to copy

SLOT   STATE                     DISK       SNAPSHOT
0      in sync                   /dev/sd0   -
1      merging                   /dev/sd1   -
2      split off, write-mostly   /dev/sd2   pvc-1@nightly

SNAPSHOT        CUT                    SIZE   CHANGED     STATE   GROUP   VIEWS
pvc-1@nightly   2024-02-29T23:59:59Z   1GiB   6MiB 0.5%   ready   -       -
"
        );
    }

    #[test]
    fn volumes_are_found_by_id_and_by_name() {
        let named = VolumeInfo { name: Some("odd name".to_owned()), ..volume() };
        assert!(find(vec![named.clone()], "odd name").is_ok());
        assert!(find(vec![named.clone()], "pvc-1").is_ok());
        assert_eq!(find(vec![named], "x").expect_err("none").class(), Class::NotFound);
    }
}
