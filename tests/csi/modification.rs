//! Volumes that are changed by request.

use std::collections::HashMap;

use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::{
    ControllerModifyVolumeRequest, CreateVolumeRequest, ValidateVolumeCapabilitiesRequest,
};
use tonic::Code;

use crate::harness::{Driver, block, code, volume_request};

fn mutable(entries: &[(&str, &str)]) -> HashMap<String, String> {
    let entry = |(key, value): &(&str, &str)| (format!("splitmirror.io/{key}"), (*value).to_owned());
    entries.iter().map(entry).collect()
}

fn request(volume_id: &str, entries: &[(&str, &str)]) -> ControllerModifyVolumeRequest {
    ControllerModifyVolumeRequest {
        volume_id: volume_id.to_owned(),
        mutable_parameters: mutable(entries),
        ..ControllerModifyVolumeRequest::default()
    }
}

/// Whether the volume is confirmed to have so many images.
async fn has(driver: &mut Driver, volume_id: &str, images: &str) -> bool {
    let request = ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id.to_owned(),
        volume_capabilities: vec![block(Mode::SingleNodeWriter)],
        parameters: mutable(&[("images", images)]),
        ..ValidateVolumeCapabilitiesRequest::default()
    };
    let answer = driver.controller.validate_volume_capabilities(request).await.expect("it exists");
    answer.into_inner().confirmed.is_some()
}

#[tokio::test]
async fn a_volume_is_changed_and_the_change_repeated() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await.volume_id;
    assert!(has(&mut driver, &volume, "3").await);
    for _ in 0..2 {
        let change = request(&volume, &[("images", "2"), ("maxRecoveryRate", "0")]);
        driver.controller.controller_modify_volume(change).await.expect("possible");
        assert!(has(&mut driver, &volume, "2").await);
    }
    driver.controller.controller_modify_volume(request(&volume, &[])).await.expect("nothing is asked for");
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_with_the_code_of_the_specification() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await.volume_id;
    driver.snapshot("s", &volume).await;
    for (id, entries, expected) in [
        ("", vec![("images", "3")], Code::InvalidArgument),
        ("no-such", vec![("images", "3")], Code::NotFound),
        (volume.as_str(), vec![("images", "0")], Code::InvalidArgument),
        (volume.as_str(), vec![("imges", "3")], Code::InvalidArgument),
        (volume.as_str(), vec![("regionSize", "3Mi")], Code::InvalidArgument),
        (volume.as_str(), vec![("regionSize", "4Mi")], Code::FailedPrecondition),
        (volume.as_str(), vec![("pool", "other")], Code::InvalidArgument),
        (volume.as_str(), vec![("writeMostly", "0")], Code::InvalidArgument),
        (volume.as_str(), vec![("minRecoveryRate", "2"), ("maxRecoveryRate", "1")], Code::InvalidArgument),
        (volume.as_str(), vec![("images", "4")], Code::ResourceExhausted),
        (volume.as_str(), vec![("images", "2")], Code::FailedPrecondition),
    ] {
        let answer = driver.controller.controller_modify_volume(request(id, &entries)).await;
        assert_eq!(code(&answer), expected, "{entries:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_volume_is_made_as_its_attributes_class_says() {
    let mut driver = Driver::start().await;
    let asked = CreateVolumeRequest {
        mutable_parameters: mutable(&[("images", "2"), ("writeMostly", "rotational")]),
        ..volume_request("pvc-1")
    };
    let made = driver.controller.create_volume(asked).await.expect("there is room").into_inner().volume;
    assert!(has(&mut driver, &made.expect("told").volume_id, "2").await);
}
