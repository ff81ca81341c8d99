//! What the schema of the values refuses, what lint says, what names come out, and what a user is told.

use std::collections::BTreeSet;

use crate::helm::{ALL, BLOCKS, EVERYTHING, MINIMAL, chart, notes, read, refusal, render, run};
use crate::objects::text;

#[test]
fn lint_finds_nothing() {
    let chart = chart();
    for values in ALL {
        let output = run(&["lint", "--strict", chart.to_str().expect("UTF-8"), "--values", "-"], values);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(!text.contains("[WARNING]"), "{text}");
    }
}

#[test]
fn a_mistyped_value_is_refused_by_its_name() {
    for (values, place, name) in [
        ("nodes: {}", "''", "nodes"),
        ("node: {drivr: {}}", "'/node'", "drivr"),
        ("node: {driver: {image: {}}}", "'/node/driver'", "image"),
        ("controller: {replica: 2}", "'/controller'", "replica"),
        ("controller: {resizer: {image: {tags: v1}}}", "'/controller/resizer/image'", "tags"),
        ("csiDriver: {attachRequired: true}", "'/csiDriver'", "attachRequired"),
        ("pools: [{volumeGroup: a, device: []}]", "'/pools/0'", "device"),
        ("storageClasses: [{name: a, parameter: {}}]", "'/storageClasses/0'", "parameter"),
        ("volumeSnapshotClasses: [{name: a, driver: b}]", "'/volumeSnapshotClasses/0'", "driver"),
        ("prometheusRule: {alerts: {SplitmirrorUp: {}}}", "'/prometheusRule/alerts'", "SplitmirrorUp"),
        (
            "prometheusRule: {alerts: {SplitmirrorDown: {threshold: 1}}}",
            "'/prometheusRule/alerts/SplitmirrorDown'",
            "threshold",
        ),
    ] {
        let error = refusal(values);
        let expected = format!("- at {place}: additional properties '{name}' not allowed");
        assert!(error.contains(&expected), "{values}: {error}");
    }
}

#[test]
fn blocks_are_not_told_without_a_certificate() {
    for (values, says) in [
        ("snapshotMetadata: {enabled: true, tlsSecret: a}", "snapshotMetadata.caCert"),
        (
            "snapshotMetadata: {enabled: true, caCert: '-----BEGIN CERTIFICATE-----'}",
            "snapshotMetadata.tlsSecret",
        ),
        (format!("{BLOCKS}\nsnapshots: {{enabled: false}}").as_str(), "snapshots.enabled"),
        ("snapshotMetadata: {caCert: LS0t}", "/snapshotMetadata/caCert"),
    ] {
        let error = refusal(values);
        assert!(error.contains(says), "{values}: {error}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_where_it_is() {
    for (values, place) in [
        ("controller: {replicas: two}", "/controller/replicas"),
        ("controller: {timeoutSeconds: 0}", "/controller/timeoutSeconds"),
        ("controller: {provisioner: {image: {tag: latest}}}", "/controller/provisioner/image/tag"),
        ("image: {tag: latest}", "/image/tag"),
        ("image: {digest: abc}", "/image/digest"),
        ("kubeletDir: var/lib/kubelet", "/kubeletDir"),
        ("kubeletDir: /var/lib/kubelet/", "/kubeletDir"),
        ("lvm: {hiddenUuid: none}", "/lvm/hiddenUuid"),
        ("csiDriver: {fsGroupPolicy: Never}", "/csiDriver/fsGroupPolicy"),
        ("metrics: {address: localhost}", "/metrics/address"),
        ("metrics: {port: 80}", "/metrics/port"),
        ("pools: [{volumeGroup: a/b}]", "/pools/0/volumeGroup"),
        ("pools: [{volumeGroup: a, devices: [sdb]}]", "/pools/0/devices/0"),
        ("pools: [{volumeGroup: a, devices: [/dev/sdb, /dev/sdb]}]", "/pools/0/devices"),
        ("pools: [{devices: [/dev/sdb]}]", "/pools/0"),
        ("storageClasses: [{parameters: {}}]", "/storageClasses/0"),
        ("storageClasses: [{name: Fast}]", "/storageClasses/0/name"),
        ("storageClasses: [{name: a, volumeBindingMode: Later}]", "/storageClasses/0/volumeBindingMode"),
        (
            "prometheusRule: {alerts: {SplitmirrorDown: {for: soon}}}",
            "/prometheusRule/alerts/SplitmirrorDown/for",
        ),
        (
            "prometheusRule: {alerts: {SplitmirrorPoolAlmostFull: {threshold: 10}}}",
            "/prometheusRule/alerts/SplitmirrorPoolAlmostFull/threshold",
        ),
    ] {
        let error = refusal(values);
        assert!(error.contains(&format!("- at '{place}':")), "{values}: {error}");
    }
}

/// The schema must be closed at every level at which the defaults say what there is.
#[test]
fn every_level_of_the_values_is_closed() {
    let values = read(&chart().join("values.yaml")).remove(0);
    let mut paths = vec![Vec::new()];
    let mut open = Vec::new();
    while let Some(path) = paths.pop() {
        let at = path.iter().fold(&values, |value, key: &String| &value[key]);
        // Maps that are the user's: labels, resources, a strategy.
        let free = ["labels", "requests", "limits", "rollingUpdate", "updateStrategy"];
        let Some(map) = at.as_object().filter(|map| !map.is_empty()) else { continue };
        if path.last().is_some_and(|key| free.contains(&key.as_str())) {
            continue;
        }
        paths.extend(map.keys().map(|key| [path.as_slice(), std::slice::from_ref(key)].concat()));
        let unknown =
            path.iter().rev().fold("{notThere: 1}".to_owned(), |inner, key| format!("{{{key}: {inner}}}"));
        if !refusal_or_nothing(&unknown).contains("'notThere' not allowed") {
            open.push(path.join("."));
        }
    }
    assert!(open.is_empty(), "unknown values are accepted in {open:?}");
}

fn refusal_or_nothing(values: &str) -> String {
    let chart = chart();
    let args = [
        "template",
        "a",
        chart.to_str().expect("UTF-8"),
        "--values",
        "-",
        "--show-only",
        "templates/csidriver.yaml",
    ];
    String::from_utf8_lossy(&run(&args, values).stderr).into_owned()
}

#[test]
fn names_of_objects_are_legal_however_long_the_release_is() {
    let release = "r".repeat(53);
    let chart = chart();
    let output = run(
        &["template", &release, chart.to_str().expect("UTF-8"), "--values", "-"],
        "{dashboard: {enabled: true}, serviceMonitor: {enabled: true}}",
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for object in crate::helm::parse(&String::from_utf8_lossy(&output.stdout)) {
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let policy = kind.starts_with("Validating");
        assert!(name.len() <= if policy { 253 } else { 63 }, "{kind} {name}");
    }
}

#[test]
fn no_two_objects_have_one_name() {
    for values in ALL {
        let mut seen = BTreeSet::new();
        for object in render(values) {
            let id = (text(&object["kind"]).to_owned(), text(&object["metadata"]["name"]).to_owned());
            assert!(seen.insert(id.clone()), "{id:?}");
        }
    }
}

#[test]
fn names_can_be_chosen() {
    for (values, name) in [
        ("fullnameOverride: mirror", "mirror-controller"),
        ("nameOverride: raid", "splitmirror-raid-controller"),
    ] {
        let objects = render(values);
        assert!(objects.iter().any(|object| object["metadata"]["name"] == name), "{name}");
    }
}

#[test]
fn who_has_no_pools_is_told_how_to_make_one() {
    let told = notes("");
    assert!(told.contains("NO POOLS YET") && told.contains("kind: MirrorPool"), "{told}");
    let told = notes(EVERYTHING);
    assert!(told.contains("fast on db-*") && told.contains("old on all nodes"), "{told}");
    assert!(!told.contains("NO POOLS"), "{told}");
}

#[test]
fn who_installs_is_told_what_is_off() {
    let told = notes(MINIMAL);
    assert!(
        told.contains("Snapshots are switched off") && told.contains("WARNING: admissionPolicy"),
        "{told}"
    );
    let told = notes("");
    assert!(told.contains("snapshot-controller") && !told.contains("WARNING"), "{told}");
    assert!(told.contains("deletes neither volumes nor data"), "{told}");
}
