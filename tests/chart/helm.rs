//! Runs `helm`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Release and namespace of all that is rendered.
pub const NAME: &str = "splitmirror";

/// Everything that is off by default is on, and every list has something in it.
pub const EVERYTHING: &str = "
pools:
  - volumeGroup: fast
    nodes: [db-*]
    devices: [/dev/disk/by-id/a, /dev/disk/by-id/b]
    wipe: [/dev/disk/by-id/b]
  - volumeGroup: old
storageClasses:
  - name: three
    default: true
    labels: {own: label}
    annotations: {own: annotation}
    mountOptions: [noatime]
    allowedTopologies: [{matchLabelExpressions: [{key: topology.splitmirror.io/node, values: [n1]}]}]
    parameters:
      splitmirror.io/pool: fast
      splitmirror.io/images: '3'
      splitmirror.io/regionSize: 4Mi
      splitmirror.io/minRecoveryRate: '1000'
      splitmirror.io/maxRecoveryRate: '100000'
      splitmirror.io/mkfsOptions: -m reflink=0
      csi.storage.k8s.io/fstype: xfs
  - name: kept
    reclaimPolicy: Retain
    volumeBindingMode: Immediate
    allowVolumeExpansion: false
    parameters: {csi.storage.k8s.io/fstype: btrfs}
  - {name: plain}
volumeSnapshotClasses:
  - {name: one, default: true, deletionPolicy: Retain, labels: {own: label}, parameters: {splitmirror.io/minInSync: '1'}}
  - {name: plain}
volumeGroupSnapshotClasses:
  - {name: one, default: true, deletionPolicy: Retain, labels: {own: label}, parameters: {splitmirror.io/minInSync: '1'}}
  - {name: plain}
snapshots: {groups: true}
snapshotMetadata: {enabled: true, tlsSecret: certificate, caCert: '-----BEGIN CERTIFICATE-----'}
lvm: {hiddenUuid: real, systemId: host-1, lockDir: /var/lock/lvm}
image: {digest: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}
imagePullSecrets: [{name: registry}]
commonLabels: {team: storage}
networkPolicy: {enabled: true, metricsFrom: [{namespaceSelector: {}}]}
controller:
  podLabels: {own: label}
  podAnnotations: {own: annotation}
  nodeSelector: {disk: none}
  tolerations: [{operator: Exists}]
  affinity: {nodeAffinity: {}}
  driver: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
  provisioner: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
  snapshotter: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
  resizer: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
  snapshotMetadata: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
  livenessProbe: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
node:
  podLabels: {own: label}
  podAnnotations: {own: annotation}
  nodeSelector: {disk: nvme}
  tolerateAllTaints: false
  tolerations: [{key: db, operator: Exists}]
  affinity: {nodeAffinity: {}}
  seLinuxOptions: {type: spc_t}
  driver: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
  registrar: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
  livenessProbe: {extraArgs: [--extra], env: [{name: EXTRA, value: '1'}]}
metrics: {address: '[::]', port: 10000}
podMonitor: {enabled: true, labels: {prometheus: main}}
dashboard: {enabled: true, annotations: {folder: storage}}
prometheusRule: {enabled: true, labels: {prometheus: main}, alertLabels: {team: storage}}
";

/// Backups are told the blocks of snapshots.
pub const BLOCKS: &str =
    "snapshotMetadata: {enabled: true, tlsSecret: certificate, caCert: '-----BEGIN CERTIFICATE-----'}";

/// As little as there can be.
pub const MINIMAL: &str = "
storageClasses: []
volumeSnapshotClasses: []
snapshots: {enabled: false}
crds: {install: false}
csiDriver: {storageCapacity: false}
admissionPolicy: {enabled: false}
controller: {replicas: 1}
";

/// What is always rendered.
pub const ALL: [&str; 3] = ["", EVERYTHING, MINIMAL];

/// The chart's directory.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/splitmirror")
}

/// All objects that the chart makes of these values.
pub fn render(values: &str) -> Vec<Value> {
    let output = template(values);
    let text = String::from_utf8(output.stdout).expect("manifests are text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parse(&text)
}

/// Why the chart makes nothing of these values.
pub fn refusal(values: &str) -> String {
    let output = template(values);
    assert!(!output.status.success(), "it is rendered:\n{values}");
    String::from_utf8(output.stderr).expect("errors are text")
}

/// What a user is told after an installation with these values.
pub fn notes(values: &str) -> String {
    let chart = chart();
    let chart = chart.to_str().expect("the path is UTF-8");
    let args = ["install", NAME, chart, "--namespace", NAME, "--dry-run=client", "--values", "-"];
    let output = run(&args, values);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("notes are text");
    text.split_once("NOTES:").map(|(_, notes)| notes.to_owned()).expect("there are notes")
}

/// All documents of a YAML stream.
pub fn parse(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("it is YAML");
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// One YAML file of the project.
pub fn read(path: &Path) -> Vec<Value> {
    parse(&std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn template(values: &str) -> Output {
    let chart = chart();
    let chart = chart.to_str().expect("the path is UTF-8");
    run(&["template", NAME, chart, "--namespace", NAME, "--values", "-"], values)
}

/// `helm` with these arguments and this input.
pub fn run(args: &[&str], input: &str) -> Output {
    let helm = std::env::var_os("SPLITMIRROR_HELM").unwrap_or_else(|| "helm".into());
    let mut child = Command::new(&helm)
        .args(args)
        // No cluster is asked, whatever this machine knows of one.
        .env("KUBECONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; `cargo xtask test chart` brings helm, SPLITMIRROR_HELM names one",
                helm.display()
            )
        });
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("helm reads its input");
    child.wait_with_output().expect("helm ends")
}
