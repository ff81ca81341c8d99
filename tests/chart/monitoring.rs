//! Alerts, dashboard and what is scraped: about metrics that there are.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use splitmirror::metrics::{self, Observation, Operations};
use splitmirror::report::Class;
use splitmirror::units::Bytes;
use splitmirror::volume::info::{DiskInfo, PoolInfo, SlotInfo, SlotState, SnapshotInfo, VolumeInfo};

use crate::helm::{EVERYTHING, chart, read, refusal, render};
use crate::objects::{container, list, object, of_kind, text};

/// The text of a scrape in which every metric has a value.
fn scrape() -> String {
    let operations = Operations::default();
    operations.ended("CreateVolume", Some(Class::Corrupt), Duration::from_millis(1));
    metrics::render(&operations, &[("vg".parse().expect("legal"), Some(observation()))])
}

fn observation() -> Observation {
    let pool = PoolInfo {
        name: "vg".parse().expect("legal"),
        id: "id".into(),
        seqno: 1,
        extent_size: Bytes::mib(4),
        disks: vec![DiskInfo {
            device: "/dev/sda".into(),
            id: "id".into(),
            size: Bytes::gib(1),
            free: Bytes::gib(1),
            missing: false,
        }],
        volumes: 1,
        largest: Vec::new(),
        problems: Vec::new(),
    };
    let snapshot = SnapshotInfo {
        id: "vol@s".into(),
        name: None,
        volume: "vol".parse().expect("legal"),
        slot: 0,
        cut_unix_nanos: None,
        size: Bytes::mib(64),
        min_in_sync: 1,
        ready: true,
        changed: Bytes::ZERO,
        group: None,
        full_merge: None,
        views: Vec::new(),
        device: None,
    };
    let volume = VolumeInfo {
        id: "vol".parse().expect("legal"),
        name: None,
        pool: "vg".parse().expect("legal"),
        size: Bytes::mib(64),
        region_size: Bytes::mib(2),
        min_recovery_rate: None,
        max_recovery_rate: None,
        device: None,
        slots: vec![SlotInfo {
            index: 0,
            state: SlotState::Split,
            device: "/dev/sda".into(),
            write_mostly: false,
            rotational: false,
            grown: None,
            snapshot: None,
            lent: None,
            lost: false,
        }],
        sync_percent: 100.0,
        to_resync: Bytes::ZERO,
        snapshots: vec![snapshot],
        rollback: None,
        rolled_back_for: None,
        creating: false,
        clone_of: None,
        detached: None,
        filling: None,
        problems: Vec::new(),
    };
    Observation { pool, volumes: vec![volume] }
}

/// The names of all series of a scrape.
fn known() -> BTreeSet<String> {
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    scrape().lines().filter(|line| !line.starts_with('#')).map(name).collect()
}

/// The names of our metrics in an expression.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("splitmirror_")).map(str::to_owned).collect()
}

/// What stands in quotation marks behind a label.
fn label_values(expression: &str, label: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices(label) {
        let behind = expression[at + label.len()..].trim_start_matches(['=', '~']);
        let value = behind.strip_prefix('"').and_then(|value| value.split_once('"'));
        found.extend(value.into_iter().flat_map(|(value, _)| value.split('|').map(str::to_owned)));
    }
    found
}

fn rules(values: &str) -> Vec<Value> {
    let objects = render(values);
    let rule = object(&objects, "PrometheusRule", "splitmirror");
    list(&rule["spec"]["groups"][0]["rules"]).to_vec()
}

const ON: &str = "prometheusRule: {enabled: true";

#[test]
fn alerts_are_about_metrics_labels_and_states_that_there_are() {
    let (known, scrape) = (known(), scrape());
    for rule in rules(&format!("{ON}}}")) {
        let expression = text(&rule["expr"]);
        let named = named(expression);
        assert!(!named.is_empty() || expression.starts_with("up{"), "{expression}");
        for name in named {
            assert!(known.contains(&name), "{}: there is no metric {name}", rule["alert"]);
        }
        for state in label_values(expression, "state") {
            assert!(scrape.contains(&format!("state=\"{state}\"")), "{}: no state {state}", rule["alert"]);
        }
        for class in label_values(expression, "class") {
            let classes = [Class::Corrupt, Class::Internal, Class::Transient];
            assert!(
                classes.iter().any(|known| known.as_str() == class),
                "{}: no class {class}",
                rule["alert"]
            );
        }
    }
}

#[test]
fn every_alert_says_what_is_wrong_and_what_to_do() {
    for rule in rules(&format!("{ON}}}")) {
        for annotation in ["summary", "description", "runbook"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.len() > 10, "{}: {annotation}", rule["alert"]);
            assert!(!text.contains("THRESHOLD"), "{}: {text}", rule["alert"]);
        }
        assert!(["warning", "critical"].contains(&text(&rule["labels"]["severity"])), "{}", rule["alert"]);
    }
}

#[test]
fn alerts_and_values_have_the_same_names() {
    let written: BTreeSet<String> = read(&chart().join("files/alerts.yaml"))
        .iter()
        .flat_map(list)
        .map(|rule| text(&rule["alert"]).to_owned())
        .collect();
    let values = read(&chart().join("values.yaml")).remove(0);
    let alerts = values["prometheusRule"]["alerts"].as_object().expect("there are alerts");
    assert_eq!(written, alerts.keys().cloned().collect());
    assert_eq!(rules(&format!("{ON}}}")).len(), written.len());
}

#[test]
fn an_alert_can_be_changed_and_switched_off() {
    let changed = rules(&format!(
        "{ON}, alerts: {{SplitmirrorDown: {{enabled: false}}, \
         SplitmirrorPoolAlmostFull: {{severity: critical, for: 1h, threshold: 0.25}}, \
         SplitmirrorSnapshotOld: {{threshold: 36h}}}}, alertLabels: {{team: storage}}}}"
    ));
    assert!(!changed.iter().any(|rule| rule["alert"] == "SplitmirrorDown"));
    let alert = |name: &str| changed.iter().find(|rule| rule["alert"] == name).expect("it is there");
    let full = alert("SplitmirrorPoolAlmostFull");
    assert_eq!(full["labels"], json!({"severity": "critical", "team": "storage"}));
    assert_eq!(full["for"], "1h");
    assert!(text(&full["expr"]).ends_with("< 0.25"), "{full}");
    let old = alert("SplitmirrorSnapshotOld");
    assert!(text(&old["expr"]).ends_with("offset 36h)"), "{old}");
    assert!(text(&old["annotations"]["summary"]).ends_with("than 36h"), "{old}");
}

#[test]
fn the_dashboard_shows_metrics_that_there_are() {
    let objects = render(EVERYTHING);
    let config = object(&objects, "ConfigMap", "splitmirror-dashboard");
    assert_eq!(config["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(config["metadata"]["annotations"], json!({"folder": "storage"}));
    let dashboard: Value =
        serde_json::from_str(text(&config["data"]["splitmirror.json"])).expect("it is JSON");
    let known = known();
    let mut shown = 0;
    for target in list(&dashboard["panels"]).iter().filter_map(|panel| panel["targets"].as_array()).flatten()
    {
        let named = named(text(&target["expr"]));
        assert!(!named.is_empty(), "{target}");
        for name in named {
            assert!(known.contains(&name), "there is no metric {name}");
            shown += 1;
        }
    }
    assert!(shown > 10, "{shown}");
}

#[test]
fn panels_of_the_dashboard_do_not_overlap() {
    let dashboard = read(&chart().join("files/dashboard.json")).remove(0);
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("it has a place");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "{} overlaps at {x}, {y}", panel["title"]);
            }
        }
    }
}

#[test]
fn a_monitor_scrapes_every_port_and_tells_the_node() {
    let ports = ["metrics", "provisioner", "resizer", "snapshotter"];
    for (values, kind, endpoints) in [
        ("podMonitor: {enabled: true}", "PodMonitor", "podMetricsEndpoints"),
        ("serviceMonitor: {enabled: true}", "ServiceMonitor", "endpoints"),
    ] {
        let objects = render(values);
        let monitor = object(&objects, kind, "splitmirror");
        let endpoints = list(&monitor["spec"][endpoints]);
        let scraped: Vec<&str> = endpoints.iter().map(|endpoint| text(&endpoint["port"])).collect();
        assert_eq!(scraped, ports);
        for endpoint in endpoints {
            let labels: Vec<&str> =
                list(&endpoint["relabelings"]).iter().map(|label| text(&label["targetLabel"])).collect();
            assert_eq!(labels, ["node", "component"]);
        }
    }
}

#[test]
fn the_metrics_service_has_the_ports_of_the_pods() {
    let objects = render("serviceMonitor: {enabled: true}");
    let service = object(&objects, "Service", "splitmirror-metrics");
    for port in list(&service["spec"]["ports"]) {
        let name = text(&port["name"]);
        let of = if name == "metrics" { "driver".to_owned() } else { format!("csi-{name}") };
        let container = container(&objects, "Deployment", &of);
        let own = list(&container.spec["ports"]).iter().find(|own| own["name"] == port["targetPort"]);
        assert_eq!(own.expect("it is a port of a pod")["containerPort"], port["port"], "{name}");
    }
}

#[test]
fn nothing_is_scraped_twice() {
    let error = refusal("{podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}");
    assert!(error.contains("would be scraped twice"), "{error}");
}

#[test]
fn monitoring_is_off_by_default() {
    let objects = render("");
    for kind in ["PodMonitor", "ServiceMonitor", "Service", "PrometheusRule"] {
        assert_eq!(of_kind(&objects, kind).len(), 0, "{kind}");
    }
    assert_eq!(of_kind(&objects, "ConfigMap").len(), 1);
}
