//! The examples in `deploy/`: they fit to each other, to the driver and to the classes that the chart makes.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use splitmirror::csi::params::{self, SnapshotParams, VolumeParams};

use crate::classes::parameters;
use crate::helm::{read, render};
use crate::objects::{of_kind, text};

/// All objects of all examples.
fn examples() -> Vec<Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .expect("the directory is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().flat_map(|file| read(file)).collect()
}

fn names(objects: &[Value], kind: &str) -> BTreeSet<String> {
    of_kind(objects, kind).iter().map(|object| text(&object["metadata"]["name"]).to_owned()).collect()
}

#[test]
fn the_driver_takes_the_parameters_of_the_examples() {
    let examples = examples();
    for class in of_kind(&examples, "StorageClass") {
        VolumeParams::read(&parameters(class)).unwrap_or_else(|error| panic!("{class}: {error}"));
    }
    for class in of_kind(&examples, "VolumeSnapshotClass") {
        SnapshotParams::read(&parameters(class)).unwrap_or_else(|error| panic!("{class}: {error}"));
    }
    for class in of_kind(&examples, "VolumeAttributesClass") {
        params::change(&parameters(class)).unwrap_or_else(|error| panic!("{class}: {error}"));
    }
}

#[test]
fn classes_that_examples_use_are_made_by_the_chart_or_an_example() {
    let (chart, examples) = (render(""), examples());
    let mut classes = names(&chart, "StorageClass");
    classes.extend(names(&examples, "StorageClass"));
    for claim in of_kind(&examples, "PersistentVolumeClaim") {
        assert!(classes.contains(text(&claim["spec"]["storageClassName"])), "{claim}");
    }
    let classes = names(&chart, "VolumeSnapshotClass");
    for snapshot in of_kind(&examples, "VolumeSnapshot") {
        assert!(classes.contains(text(&snapshot["spec"]["volumeSnapshotClassName"])), "{snapshot}");
    }
}

#[test]
fn examples_do_not_take_the_names_of_what_the_chart_makes() {
    let (chart, examples) = (render(""), examples());
    for kind in ["StorageClass", "VolumeSnapshotClass"] {
        assert!(names(&chart, kind).is_disjoint(&names(&examples, kind)), "{kind}");
    }
}

#[test]
fn examples_name_each_other() {
    let examples = examples();
    let claims = names(&examples, "PersistentVolumeClaim");
    for snapshot in of_kind(&examples, "VolumeSnapshot") {
        assert!(claims.contains(text(&snapshot["spec"]["source"]["persistentVolumeClaimName"])));
    }
    let snapshots = names(&examples, "VolumeSnapshot");
    let sources = of_kind(&examples, "PersistentVolumeClaim").into_iter().filter_map(|claim| {
        let source = claim["spec"].get("dataSource")?;
        Some((text(&source["kind"]), text(&source["name"]), text(&claim["spec"]["accessModes"][0])))
    });
    let mut seen = BTreeSet::new();
    for (kind, name, mode) in sources {
        let there = if kind == "VolumeSnapshot" { &snapshots } else { &claims };
        assert!(there.contains(name), "{kind} {name}");
        seen.insert((kind, mode));
    }
    let expected = [
        ("PersistentVolumeClaim", "ReadWriteOnce"),
        ("VolumeSnapshot", "ReadOnlyMany"),
        ("VolumeSnapshot", "ReadWriteOnce"),
    ];
    assert_eq!(seen, BTreeSet::from(expected));
    for rollback in of_kind(&examples, "VolumeRollback") {
        assert!(claims.contains(text(&rollback["spec"]["claim"])), "{rollback}");
        assert!(snapshots.contains(text(&rollback["spec"]["snapshot"])), "{rollback}");
    }
    let pods = of_kind(&examples, "Pod").into_iter().map(|pod| &pod["spec"]);
    let jobs = of_kind(&examples, "Job").into_iter().map(|job| &job["spec"]["template"]["spec"]);
    let mut mounted = 0;
    for volume in pods.chain(jobs).filter_map(|pod| pod["volumes"].as_array()).flatten() {
        assert!(claims.contains(text(&volume["persistentVolumeClaim"]["claimName"])), "{volume}");
        mounted += 1;
    }
    assert_eq!(mounted, 2);
}
