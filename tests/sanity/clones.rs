//! Clones as an orchestrator asks for them: mounted while they are filled, and grown to the size asked for.

use std::time::Instant;

use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_content_source::{SnapshotSource, Type as Source, VolumeSource};
use splitmirror::volume::info::VolumeInfo;
use tonic::Code;

use crate::Outcome;
use crate::driver::{Driver, mount, patiently, refused, request, said};
use crate::guest::{POOL, Standalone, create_pool};
use crate::journeys::{holds, json, that, write};

/// Clones with ext4.
pub fn ext4(_: &str) -> Outcome {
    cloned("ext4", 128, true)
}

/// Clones with XFS, mounted beside their source, whose id they have.
pub fn xfs(_: &str) -> Outcome {
    cloned("xfs", 320, true)
}

/// A clone with Btrfs is refused as a file system: the kernel would take it and its source for two disks of one.
pub fn btrfs(_: &str) -> Outcome {
    cloned("btrfs", 192, false)
}

fn cloned(fs: &str, mib: i64, mounts: bool) -> Outcome {
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
    let images = |name: &str, mib| {
        let mut request = request(name, mib, &writer);
        request.parameters.insert("splitmirror.io/images".to_owned(), "2".to_owned());
        request
    };
    refused("smaller", driver.clone_of(source(), images("copy", mib / 2)), Code::OutOfRange)?;
    let begun = Instant::now();
    let copy = driver.clone_of(source(), images("copy", mib + 64)).map_err(said)?;
    println!("{fs}: a clone of {mib} MiB after {:?}", begun.elapsed());
    that("it is as large as asked for", copy.capacity_bytes >> 20 == mib + 64)?;
    let again = patiently(|| driver.clone_of(source(), images("copy", mib + 64)))?;
    that("it is the same again", again == copy)?;
    if !mounts {
        refused("mount it", driver.open(&copy, &writer), Code::FailedPrecondition)?;
        driver.close(&copy.volume_id).map_err(said)?;
        driver.delete(&copy.volume_id).map_err(said)?;
        patiently(|| driver.delete_snapshot(&snapshot))?;
        return standalone.stop();
    }
    let shown = driver.open(&copy, &writer).map_err(said)?;
    holds("the clone holds what was there", &shown.join("before"), &data)?;
    that("and nothing newer", !shown.join("after").exists())?;
    write(&shown.join("own"), &data[..1_000_000])?;
    let (own, of_source) = (driver.total(&copy.volume_id).map_err(said)?, driver.total(&id).map_err(said)?);
    that("its file system has grown", own > of_source + (32 << 20))?;

    // A clone of the volume as it is now, which has no image to lend until the snapshot is gone.
    patiently(|| driver.delete_snapshot(&snapshot))?;
    let filled = || -> Result<bool, String> {
        let volumes: Vec<VolumeInfo> = json(&["volume", "list", "--pool", POOL])?;
        Ok(volumes.iter().all(|volume| volume.filling.is_none()))
    };
    that("what its snapshot was needed for is there", filled()?)?;
    holds("filled, it holds the same", &shown.join("before"), &data)?;
    holds("and what was written to it", &shown.join("own"), &data[..1_000_000])?;
    let source = Source::Volume(VolumeSource { volume_id: id.clone() });
    let twin = patiently(|| driver.clone_of(source.clone(), images("twin", mib)))?;
    let twin_at = driver.open(&twin, &writer).map_err(said)?;
    holds("the twin holds what is there", &twin_at.join("after"), b"later")?;
    holds("all of it", &twin_at.join("before"), &data)?;
    for volume in [&twin.volume_id, &copy.volume_id, &id] {
        driver.close(volume).map_err(said)?;
        patiently(|| driver.delete(volume))?;
    }
    let left: Vec<VolumeInfo> = json(&["volume", "list", "--pool", POOL])?;
    that("nothing is left", left.is_empty())?;
    standalone.stop()
}
