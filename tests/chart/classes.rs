//! StorageClasses and VolumeSnapshotClasses: what the driver's own parser makes of them.

use std::collections::HashMap;

use serde_json::{Value, json};
use splitmirror::csi::DRIVER;
use splitmirror::csi::params::{GroupParams, SnapshotParams, VolumeParams};

use crate::helm::{ALL, EVERYTHING, MINIMAL, chart, read, refusal, render};
use crate::objects::{object, of_kind, text};

/// The parameters of a class.
pub fn parameters(class: &Value) -> HashMap<String, String> {
    let parameters = class["parameters"].as_object().into_iter().flatten();
    parameters.map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

#[test]
fn the_driver_takes_the_parameters_of_every_class() {
    for values in ALL {
        let objects = render(values);
        for class in of_kind(&objects, "StorageClass") {
            assert_eq!(class["provisioner"], DRIVER);
            VolumeParams::read(&parameters(class)).unwrap_or_else(|error| panic!("{class}: {error}"));
        }
        for class in of_kind(&objects, "VolumeSnapshotClass") {
            assert_eq!(class["driver"], DRIVER);
            SnapshotParams::read(&parameters(class)).unwrap_or_else(|error| panic!("{class}: {error}"));
        }
        for class in of_kind(&objects, "VolumeGroupSnapshotClass") {
            assert_eq!(class["driver"], DRIVER);
            GroupParams::read(&parameters(class)).unwrap_or_else(|error| panic!("{class}: {error}"));
        }
    }
}

#[test]
fn by_default_a_snapshot_never_costs_the_redundancy() {
    let objects = render("");
    let volumes = VolumeParams::read(&parameters(object(&objects, "StorageClass", "splitmirror")));
    let snapshots = SnapshotParams::read(&parameters(object(&objects, "VolumeSnapshotClass", "splitmirror")));
    let (images, left) = (volumes.expect("known").images, snapshots.expect("known").min_in_sync);
    assert_eq!((images, left), (3, 2));
}

#[test]
fn classes_wait_for_a_pod_and_can_grow_unless_told_otherwise() {
    let default = render("");
    let default = object(&default, "StorageClass", "splitmirror");
    assert_eq!(default["volumeBindingMode"], "WaitForFirstConsumer");
    assert_eq!(default["allowVolumeExpansion"], true);
    assert_eq!(default["reclaimPolicy"], "Delete");
    assert_eq!(default["metadata"].get("annotations"), None);
    let objects = render(EVERYTHING);
    let kept = object(&objects, "StorageClass", "kept");
    assert_eq!(kept["volumeBindingMode"], "Immediate");
    assert_eq!(kept["allowVolumeExpansion"], false);
    assert_eq!(kept["reclaimPolicy"], "Retain");
    let three = object(&objects, "StorageClass", "three");
    let annotations = json!({"own": "annotation", "storageclass.kubernetes.io/is-default-class": "true"});
    assert_eq!(three["metadata"]["annotations"], annotations);
    assert_eq!(three["metadata"]["labels"]["own"], "label");
    assert_eq!(three["mountOptions"], json!(["noatime"]));
    let one = object(&objects, "VolumeSnapshotClass", "one");
    let annotations = json!({"snapshot.storage.kubernetes.io/is-default-class": "true"});
    assert_eq!(one["metadata"]["annotations"], annotations);
    assert_eq!(one["deletionPolicy"], "Retain");
}

#[test]
fn without_snapshots_there_are_no_snapshot_classes() {
    assert_eq!(of_kind(&render(MINIMAL), "VolumeSnapshotClass").len(), 0);
    assert_eq!(of_kind(&render("snapshots: {enabled: false}"), "VolumeSnapshotClass").len(), 0);
}

#[test]
fn groups_are_served_where_they_are_asked_for() {
    let class = |values: &str| of_kind(&render(values), "VolumeGroupSnapshotClass").len();
    assert_eq!(class(""), 0, "their custom resources may not be there");
    assert_eq!(class("snapshots: {groups: true}"), 1);
    assert_eq!(class("snapshots: {groups: true, enabled: false}"), 0);
    let objects = render("snapshots: {groups: true}");
    let class = object(&objects, "VolumeGroupSnapshotClass", "splitmirror");
    assert_eq!(class["apiVersion"], "groupsnapshot.storage.k8s.io/v1");
    assert_eq!(GroupParams::read(&parameters(class)).expect("known").min_in_sync, 2);
}

/// The keys that the schema of the values knows.
fn known(class: &str) -> Vec<String> {
    let schema = read(&chart().join("values.schema.json")).remove(0);
    let parameters = &schema["definitions"][class]["properties"]["parameters"]["properties"];
    parameters.as_object().expect("it has parameters").keys().cloned().collect()
}

#[test]
fn the_schema_knows_the_parameters_that_the_driver_knows() {
    // A key that the driver does not know is refused by name; a value it cannot use is another matter.
    let unknown = |message: String| message.ends_with("is not known");
    for key in known("storageClass") {
        let read = VolumeParams::read(&HashMap::from([(key.clone(), "?".to_owned())]));
        assert!(!read.is_err_and(|error| unknown(error.message)), "the driver does not know {key}");
    }
    for key in known("volumeSnapshotClass") {
        let read = SnapshotParams::read(&HashMap::from([(key.clone(), "?".to_owned())]));
        assert!(!read.is_err_and(|error| unknown(error.message)), "the driver does not know {key}");
    }
    assert_eq!(known("storageClass").len(), 8);
    assert_eq!(known("volumeSnapshotClass").len(), 2);
}

#[test]
fn parameters_that_the_driver_would_refuse_are_refused_before() {
    for (key, value) in [
        ("splitmirror.io/imges", "'3'"),
        ("splitmirror.io/images", "'0'"),
        ("splitmirror.io/images", "'11'"),
        ("splitmirror.io/images", "3"),
        ("splitmirror.io/regionSize", "2M"),
        ("splitmirror.io/minRecoveryRate", "'0'"),
        ("splitmirror.io/pool", "a/b"),
        ("csi.storage.k8s.io/fstype", "vfat"),
        ("splitmirror.io/restore", "copy"),
    ] {
        // In the pointer to the place a slash is `~1`.
        let error = refusal(&format!("storageClasses: [{{name: a, parameters: {{{key}: {value}}}}}]"))
            .replace("~1", "/");
        assert!(error.contains("/storageClasses/0/parameters"), "{key}: {value}: {error}");
        assert!(error.contains(key), "{key}: {value}: {error}");
    }
    for value in ["'0'", "'10'", "1"] {
        let parameters = format!("{{splitmirror.io/minInSync: {value}}}");
        let error = refusal(&format!("volumeSnapshotClasses: [{{name: a, parameters: {parameters}}}]"));
        assert!(error.contains("minInSync"), "{value}: {error}");
    }
    for (classes, value) in [("volumeSnapshotClasses", "shrink"), ("volumeGroupSnapshotClasses", "grow")] {
        let parameters = format!("{{splitmirror.io/snapshotPolicy: {value}}}");
        let error = refusal(&format!("{classes}: [{{name: a, parameters: {parameters}}}]"));
        assert!(error.contains("snapshotPolicy"), "{classes}: {value}: {error}");
    }
}
