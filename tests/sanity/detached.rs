//! Snapshots and images that become volumes, as an orchestrator asks for it: mounted beside the volume that they were of.

use std::time::Instant;

use splitmirror::csi::proto::CreateVolumeRequest;
use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_content_source::{SnapshotSource, Type as Source, VolumeSource};
use splitmirror::volume::info::{SlotState, SnapshotInfo, VolumeInfo};
use tonic::Code;

use crate::Outcome;
use crate::driver::{Driver, mount, patiently, refused, request, said};
use crate::guest::{POOL, Standalone, create_pool};
use crate::journeys::{holds, json, that, write};

/// With ext4.
pub fn ext4(_: &str) -> Outcome {
    detached("ext4", 128)
}

/// With XFS, which is mounted beside the file system whose id it has.
pub fn xfs(_: &str) -> Outcome {
    detached("xfs", 320)
}

/// Two of four images of a volume that is used become another.
pub fn images(_: &str) -> Outcome {
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let writer = mount("ext4", Mode::SingleNodeWriter);
    let wanted = |name: &str, images: &str| -> CreateVolumeRequest {
        let mut request = request(name, 128, &writer);
        request.parameters.insert("splitmirror.io/images".to_owned(), images.to_owned());
        request.parameters.insert("splitmirror.io/restore".to_owned(), "detach".to_owned());
        request
    };
    let volume = driver.create(wanted("pvc-1", "4")).map_err(said)?;
    let at = driver.open(&volume, &writer).map_err(said)?;
    write(&at.join("before"), b"what all four hold")?;
    let source = || Source::Volume(VolumeSource { volume_id: volume.volume_id.clone() });
    refused("one too many", driver.clone_of(source(), wanted("own", "3")), Code::FailedPrecondition)?;
    let own = driver.clone_of(source(), wanted("own", "2")).map_err(said)?;
    let again = patiently(|| driver.clone_of(source(), wanted("own", "2")))?;
    that("it is the same again", again == own)?;
    write(&at.join("after"), b"later")?;
    let shown = driver.open(&own, &writer).map_err(said)?;
    holds("it holds what was there", &shown.join("before"), b"what all four hold")?;
    that("and nothing newer", !shown.join("after").exists())?;
    let volumes: Vec<VolumeInfo> = json(&["volume", "list", "--pool", POOL])?;
    let two = |volume: &VolumeInfo| {
        volume.slots.len() == 2 && volume.slots.iter().all(|slot| slot.state == SlotState::InSync)
    };
    that("both have two images, and nothing is copied", volumes.len() == 2 && volumes.iter().all(two))?;
    for volume in [&own.volume_id, &volume.volume_id] {
        driver.close(volume).map_err(said)?;
        patiently(|| driver.delete(volume))?;
    }
    standalone.stop()
}

fn detached(fs: &str, mib: i64) -> Outcome {
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let writer = mount(fs, Mode::SingleNodeWriter);
    let volume = driver.create(request("pvc-1", mib, &writer)).map_err(said)?;
    let id = volume.volume_id.clone();
    let at = driver.open(&volume, &writer).map_err(said)?;
    let data: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    write(&at.join("before"), &data)?;
    let snapshot = driver.snapshot("snap-1", &id).map_err(said)?.snapshot_id;
    write(&at.join("after"), b"later")?;

    let source = || Source::Snapshot(SnapshotSource { snapshot_id: snapshot.clone() });
    let wanted = |name: &str, mib| -> CreateVolumeRequest {
        let mut request = request(name, mib, &writer);
        request.parameters.insert("splitmirror.io/images".to_owned(), "2".to_owned());
        request.parameters.insert("splitmirror.io/restore".to_owned(), "detach".to_owned());
        request
    };
    refused("larger", driver.clone_of(source(), wanted("own", mib * 2)), Code::OutOfRange)?;
    let begun = Instant::now();
    let own = driver.clone_of(source(), wanted("own", mib)).map_err(said)?;
    println!("{fs}: a snapshot of {mib} MiB is a volume after {:?}", begun.elapsed());
    let again = patiently(|| driver.clone_of(source(), wanted("own", mib)))?;
    that("it is the same again", again == own)?;
    let second = driver.clone_of(source(), wanted("other", mib));
    that(
        "a second one is told why",
        second.as_ref().is_err_and(|why| why.message().contains(&own.volume_id)),
    )?;
    refused("a second one", second, Code::NotFound)?;
    let clone = driver.clone_of(source(), request("other", mib, &writer));
    that("so is a clone", clone.as_ref().is_err_and(|why| why.message().contains(&own.volume_id)))?;
    refused("a clone", clone, Code::NotFound)?;
    patiently(|| driver.delete_snapshot(&snapshot))?;
    let left: Vec<SnapshotInfo> = json(&["snapshot", "list", "--pool", POOL])?;
    that("there is no snapshot", left.is_empty())?;

    let shown = driver.open(&own, &writer).map_err(said)?;
    holds("it holds what was there", &shown.join("before"), &data)?;
    that("and nothing newer", !shown.join("after").exists())?;
    write(&shown.join("own"), &data[..1_000_000])?;
    holds("the volume that it is of holds its own", &at.join("after"), b"later")?;
    that("and nothing of the new one", !at.join("own").exists())?;
    let whole = || -> Result<(), String> {
        for _ in 0..300 {
            let volumes: Vec<VolumeInfo> = json(&["volume", "list", "--pool", POOL])?;
            let in_sync =
                |volume: &VolumeInfo| volume.slots.iter().all(|slot| slot.state == SlotState::InSync);
            if volumes.len() == 2 && volumes.iter().all(in_sync) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        Err("an image is missing".to_owned())
    };
    whole()?;

    // It is a volume like any other.
    let of_own = driver.snapshot("snap-2", &own.volume_id).map_err(said)?.snapshot_id;
    patiently(|| driver.delete_snapshot(&of_own))?;
    patiently(|| driver.expand(&own.volume_id, mib + 64))?;
    driver.node_expand(&own.volume_id).map_err(said)?;
    holds("grown, it holds the same", &shown.join("before"), &data)?;
    for volume in [&own.volume_id, &id] {
        driver.close(volume).map_err(said)?;
        patiently(|| driver.delete(volume))?;
    }
    let left: Vec<VolumeInfo> = json(&["volume", "list", "--pool", POOL])?;
    that("nothing is left", left.is_empty())?;
    standalone.stop()
}
