//! Another tool that activates the group before we do, as `vgchange -ay` does it.

use splitmirror::engine::Settings;
use splitmirror::engine::group::Group;
use splitmirror::host::sim::SimHost;
use splitmirror::host::{DeviceMapper, Freeze, TargetLine, Udev};
use splitmirror::ids::{DmId, HiddenUuid};
use splitmirror::lvm2::edit;
use splitmirror::lvm2::model::{LogicalVolume, SegmentKind};
use splitmirror::units::{Bytes, Sectors};

use crate::machine::{pieces, vg};

/// Activates every volume and every visible image that it may activate. Does nothing when the group cannot be read.
pub fn activate(host: &SimHost) {
    let Ok(group) = Group::read(host, &vg(), &Settings::default(), None) else { return };
    for lv in &group.vg().lvs {
        let skip = lv.flags.iter().any(|flag| flag == "ACTIVATION_SKIP");
        if lv.raid1().is_some() && !skip {
            activate_volume(host, &group, lv);
        }
    }
}

/// Has the kernel compare the images of every volume that runs, as a careful administrator does after a power cut.
pub fn compare(host: &SimHost) {
    let Ok(group) = Group::read(host, &vg(), &Settings::default(), None) else { return };
    for lv in group.vg().lvs.iter().filter(|lv| lv.raid1().is_some()) {
        let id = DmId::visible(&group.vg().name, &group.vg().id, &lv.name, &lv.id);
        if host.dm_info(&id.name).expect("looked").is_some() {
            // An array that copies already refuses.
            drop(host.dm_message(&id.name, "repair"));
        }
    }
}

/// Dies in the middle of a change: the array and its legs are left held back, as by a killed `lvconvert`.
pub fn die_in_a_change(host: &SimHost) {
    let (legs, arrays): (Vec<String>, Vec<String>) =
        host.devices().into_iter().partition(|name| name.contains("_rimage_") || name.contains("_rmeta_"));
    // From the top, so that nothing is in flight below.
    for name in arrays.iter().chain(&legs) {
        host.dm_suspend(name, Freeze::IoOnly).expect("suspended");
    }
}

/// Takes our tags from an image: it is a split that another tool made then.
pub fn disown(host: &SimHost, image: &str) {
    let mut group = Group::read(host, &vg(), &Settings::default(), None).expect("a group");
    let mut next = group.vg().clone();
    let image = next.lv_mut(&image.parse().expect("legal")).expect("an image");
    image.tags.retain(|tag| !tag.starts_with("splitmirror.io/"));
    group.commit(host, next, "by another tool").expect("committed");
}

/// Gives a volume other regions in the metadata, and dies.
pub fn set_region_size(host: &SimHost, volume: &str, size: Bytes) {
    let mut group = Group::read(host, &vg(), &Settings::default(), None).expect("a group");
    let volume = volume.parse().expect("legal");
    let next = edit::set_region_size(group.vg(), &volume, size.sectors_floor()).expect("possible");
    group.commit(host, next, "by another tool").expect("committed");
}

/// Merges an image in the metadata and starts the array anew, as `lvconvert --merge` of a volume that is not active.
pub fn merge(host: &SimHost, volume: &str, slot: usize) {
    let mut group = Group::read(host, &vg(), &Settings::default(), None).expect("a group");
    let next = edit::mark_merged(group.vg(), &volume.parse().expect("legal"), slot).expect("it is split off");
    group.commit(host, next, "by another tool").expect("committed");
    host.reboot();
    activate(host);
}

fn linear(host: &SimHost, group: &Group, lv: &LogicalVolume) {
    let vg = group.vg();
    let id = if lv.is_tracked_image() {
        DmId::visible(&vg.name, &vg.id, &lv.name, &lv.id)
    } else {
        DmId::hidden(&vg.name, &vg.id, &lv.name, &lv.id, HiddenUuid::Bare)
    };
    let mut start = Sectors(0);
    let mut table = Vec::new();
    if lv.segments.iter().all(|segment| segment.kind == SegmentKind::Error) {
        let len = lv.extents().sectors(vg.extent_size);
        table.push(TargetLine { start, len, target: "error".to_owned(), params: String::new() });
    } else {
        for (disk, first, len) in pieces(group, lv) {
            let line =
                TargetLine { start, len, target: "linear".to_owned(), params: format!("{disk} {}", first.0) };
            table.push(line);
            start += len;
        }
    }
    host.dm_create(&id).expect("created");
    host.dm_load(&id.name, &table, false).expect("loaded");
    host.dm_resume(&id.name, Udev::Hidden).expect("resumed");
}

fn activate_volume(host: &SimHost, group: &Group, lv: &LogicalVolume) {
    let vg = group.vg();
    let raid = lv.raid1().expect("a volume");
    let mut pairs = Vec::new();
    let mut options = String::new();
    let mut words = 3;
    for (number, slot) in raid.slots.iter().enumerate() {
        let (image, meta) = (vg.lv(&slot.image).expect("checked"), vg.lv(&slot.meta).expect("checked"));
        linear(host, group, image);
        if image.is_tracked_image() {
            pairs.push("- -".to_owned());
            continue;
        }
        linear(host, group, meta);
        let path = |lv: &LogicalVolume| {
            format!("/dev/mapper/{}", DmId::visible(&vg.name, &vg.id, &lv.name, &lv.id).name)
        };
        pairs.push(format!("{} {}", path(meta), path(image)));
        if image.has("REBUILD") {
            options.push_str(&format!("rebuild {number} "));
            words += 2;
        }
    }
    let len = lv.extents().sectors(vg.extent_size);
    let region = raid.region_size.0;
    let params = format!("raid1 {words} 0 {options}region_size {region} {} {}", pairs.len(), pairs.join(" "));
    let id = DmId::visible(&vg.name, &vg.id, &lv.name, &lv.id);
    let line = TargetLine { start: Sectors(0), len, target: "raid".to_owned(), params };
    host.dm_create(&id).expect("created");
    if host.dm_load(&id.name, &[line], false).is_err() {
        host.dm_remove(&id.name).expect("removed"); // the kernel refuses it: it stays inactive, its legs stay
        return;
    }
    host.dm_resume(&id.name, Udev::Volume).expect("resumed");
}
