//! A snapshot for which an image is added, as an orchestrator asks for it.

use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::volume::info::{SlotState, VolumeInfo};
use tonic::Code;

use crate::Outcome;
use crate::driver::{Driver, mount, patiently, refused, request, said};
use crate::guest::{POOL, Standalone, create_pool};
use crate::journeys::{io, json, that, write};

/// The volume of two images keeps both, however often the snapshot is asked for.
pub fn grown(_: &str) -> Outcome {
    create_pool()?;
    let standalone = Standalone::start()?;
    let mut driver = Driver::connect()?;
    let writer = mount("ext4", Mode::SingleNodeWriter);
    let mut two = request("pvc-1", 128, &writer);
    two.parameters.insert("splitmirror.io/images".to_owned(), "2".to_owned());
    let volume = driver.create(two.clone()).map_err(said)?;
    let id = volume.volume_id.clone();
    let at = driver.open(&volume, &writer).map_err(said)?;
    write(&at.join("before"), b"then")?;

    let policy = |value| [("splitmirror.io/snapshotPolicy", value)];
    refused(
        "a policy that there is not",
        driver.snapshot_with("s", &id, &policy("give")),
        Code::InvalidArgument,
    )?;
    let snapshot = patiently(|| driver.snapshot_with("s", &id, &policy("grow")))?;
    that("it is ready", snapshot.ready_to_use)?;
    let again = driver.snapshot_with("s", &id, &policy("grow")).map_err(said)?;
    that("it is the same again", again == snapshot)?;
    let of = || -> Result<VolumeInfo, String> {
        let volumes: Vec<VolumeInfo> = json(&["volume", "list", "--pool", POOL])?;
        volumes.into_iter().next().ok_or_else(|| "no volume".to_owned())
    };
    let states = |volume: &VolumeInfo| volume.slots.iter().map(|slot| slot.state).collect::<Vec<_>>();
    let info = of()?;
    that("both are in sync", states(&info) == [SlotState::InSync, SlotState::InSync, SlotState::Split])?;
    that("it has two images", info.images() == 2)?;
    that("also by its name", driver.create(two).map_err(said)? == volume)?;

    write(&at.join("after"), b"now")?;
    let read_only = mount("ext4", Mode::MultiNodeReaderOnly);
    let view = driver.view("look", &snapshot.snapshot_id, &read_only).map_err(said)?;
    let shown = driver.open(&view, &read_only).map_err(said)?;
    let held = std::fs::read(shown.join("before")).map_err(|error| io("read", &error))?;
    that("it holds what was there", held == b"then")?;
    that("and nothing newer", !shown.join("after").exists())?;
    driver.close(&view.volume_id).map_err(said)?;
    driver.delete(&view.volume_id).map_err(said)?;
    patiently(|| driver.delete_snapshot(&snapshot.snapshot_id))?;
    driver.close(&id).map_err(said)?;
    patiently(|| driver.delete(&id))?;
    standalone.stop()
}
