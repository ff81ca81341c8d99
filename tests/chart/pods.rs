//! How the pods run.

use clap::Parser as _;
use serde_json::{Value, json};
use splitmirror::cli::args::{Cli, Command};

use crate::helm::{ALL, BLOCKS, EVERYTHING, MINIMAL, chart, parse, read, render};
use crate::objects::{container, containers, list, object, of_kind, pods, text, texts};

#[test]
fn each_pod_has_its_containers() {
    let names = |objects: &[Value], kind: &str| -> Vec<String> {
        let of_kind = |container: &&crate::objects::Container<'_>| container.of == kind;
        containers(objects).iter().filter(of_kind).map(|container| container.name.to_owned()).collect()
    };
    let objects = render("");
    let sidecars = ["driver", "csi-provisioner", "csi-snapshotter", "csi-resizer", "livenessprobe"];
    assert_eq!(names(&objects, "Deployment"), sidecars);
    assert_eq!(names(&objects, "DaemonSet"), ["driver", "node-driver-registrar", "livenessprobe"]);
    let without = ["driver", "csi-provisioner", "csi-resizer", "livenessprobe"];
    assert_eq!(names(&render(MINIMAL), "Deployment"), without);
}

#[test]
fn images_are_pinned() {
    for values in ALL {
        for container in containers(&render(values)) {
            let image = text(&container.spec["image"]);
            let (repository, version) = image.rsplit_once(['@', ':']).expect("it has a version");
            assert!(!repository.is_empty() && !version.is_empty() && version != "latest", "{image}");
        }
    }
}

#[test]
fn a_digest_comes_before_a_tag() {
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let objects = render(EVERYTHING);
    for kind in ["Deployment", "DaemonSet"] {
        let image = &container(&objects, kind, "driver").spec["image"];
        assert_eq!(*image, format!("localhost/splitmirror@{digest}"));
    }
    let objects = render(&format!("controller: {{resizer: {{image: {{digest: '{digest}'}}}}}}"));
    let image = &container(&objects, "Deployment", "csi-resizer").spec["image"];
    assert_eq!(*image, format!("registry.k8s.io/sig-storage/csi-resizer@{digest}"));
}

#[test]
fn the_images_that_scanners_are_told_of_are_those_that_run() {
    let chart = read(&chart().join("Chart.yaml")).remove(0);
    let told = parse(text(&chart["annotations"]["artifacthub.io/images"])).remove(0);
    let mut told: Vec<&str> = list(&told).iter().map(|image| text(&image["image"])).collect();
    let objects = render(BLOCKS);
    let mut run: Vec<&str> =
        containers(&objects).iter().map(|container| text(&container.spec["image"])).collect();
    told.sort_unstable();
    run.sort_unstable();
    run.dedup();
    assert_eq!(told, run);
}

#[test]
fn the_version_of_the_chart_is_the_programs() {
    let chart = read(&chart().join("Chart.yaml")).remove(0);
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_container_says_what_it_needs() {
    for values in ALL {
        for container in containers(&render(values)) {
            let resources = &container.spec["resources"];
            assert!(resources["requests"]["cpu"].is_string(), "{}: {resources}", container.name);
            assert!(resources["requests"]["memory"].is_string(), "{}: {resources}", container.name);
            // A check of a large file system must not be killed for its memory.
            let runs_fsck = container.of == "DaemonSet" && container.name == "driver";
            assert_eq!(resources["limits"]["memory"].is_string(), !runs_fsck, "{}", container.name);
        }
    }
}

#[test]
fn only_the_agent_is_privileged() {
    for values in ALL {
        let objects = render(values);
        for container in containers(&objects) {
            let security = &container.spec["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{}", container.name);
            if container.of == "DaemonSet" && container.name == "driver" {
                assert_eq!(security["privileged"], true);
                continue;
            }
            assert_eq!(security["privileged"], Value::Null, "{}", container.name);
            assert_eq!(security["allowPrivilegeEscalation"], false, "{}", container.name);
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{}", container.name);
        }
        for (kind, pod) in pods(&objects) {
            let security = &pod["spec"]["securityContext"];
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{kind}");
            if kind == "Deployment" {
                assert_eq!(security["runAsNonRoot"], true);
                assert!(list(&pod["spec"]["volumes"]).iter().all(|volume| volume.get("hostPath").is_none()));
                assert_eq!(pod["spec"].get("hostPID"), None);
            }
            assert_eq!(pod["spec"].get("hostNetwork"), None, "{kind}");
        }
    }
}

#[test]
fn every_container_is_watched() {
    for values in ALL {
        for container in containers(&render(values)) {
            let probes: Vec<&str> = ["startupProbe", "livenessProbe", "readinessProbe"]
                .into_iter()
                .filter(|probe| container.spec.get(probe).is_some())
                .collect();
            let expected: &[&str] = match container.name {
                "driver" => &["startupProbe", "livenessProbe", "readinessProbe"],
                // It is the probe.
                "livenessprobe" => &[],
                "node-driver-registrar" => &["livenessProbe"],
                _ => &["startupProbe", "livenessProbe"],
            };
            assert_eq!(probes, expected, "{}", container.name);
            for probe in expected {
                let port = &container.spec[probe]["httpGet"]["port"];
                let own = list(&container.spec["ports"]).iter().any(|own| own["name"] == *port);
                assert!(own, "{}: {probe} is at {port}, which is no port of it", container.name);
            }
        }
    }
}

#[test]
fn ports_of_a_pod_differ_and_are_those_that_are_listened_on() {
    for values in ALL {
        let objects = render(values);
        for (kind, pod) in pods(&objects) {
            let mut numbers = Vec::new();
            for container in list(&pod["spec"]["containers"]) {
                for port in container["ports"].as_array().into_iter().flatten() {
                    let number = port["containerPort"].as_u64().expect("a number");
                    numbers.push(number);
                    // livenessprobe listens for the driver.
                    let listener =
                        if port["name"] == "healthz" { "livenessprobe" } else { text(&container["name"]) };
                    let args = container_args(&objects, kind, listener);
                    assert!(
                        args.iter().any(|arg| {
                            arg.ends_with(&format!(":{number}")) || arg.ends_with(&format!("port={number}"))
                        }),
                        "{number}: {args:?}"
                    );
                }
            }
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{kind}: {numbers:?}");
        }
    }
}

fn container_args(objects: &[Value], of: &str, name: &str) -> Vec<String> {
    container(objects, of, name).args().into_iter().map(str::to_owned).collect()
}

#[test]
fn the_program_takes_the_arguments_that_it_is_given() {
    for values in ALL {
        let objects = render(values);
        for of in ["DaemonSet", "Deployment"] {
            let driver = container(&objects, of, "driver");
            let mut line = texts(&driver.spec["command"]);
            line.extend(driver.args().into_iter().filter(|arg| *arg != "--extra"));
            let line = line.into_iter().map(|arg| arg.replace("$(NODE_NAME)", "node-1"));
            let line = line.map(|arg| arg.replace("$(POD_IP)", "10.0.0.1"));
            let parsed = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
            let role = match parsed.command {
                Command::Node(_) => "DaemonSet",
                Command::Controller(_) => "Deployment",
                other => panic!("{other:?}"),
            };
            assert_eq!(role, of);
        }
    }
}

#[test]
fn what_is_added_to_a_container_comes_last() {
    for container in containers(&render(EVERYTHING)) {
        assert_eq!(container.args().last(), Some(&"--extra"), "{}", container.name);
        let last = list(&container.spec["env"]).last().expect("it has an environment");
        assert_eq!(last["name"], "EXTRA", "{}", container.name);
    }
}

#[test]
fn sidecars_elect_a_leader_and_wait_longer_than_the_driver() {
    let objects = render("controller: {timeoutSeconds: 77}");
    for name in ["csi-provisioner", "csi-snapshotter", "csi-resizer"] {
        let container = container(&objects, "Deployment", name);
        for arg in ["--leader-election", "--timeout=87s", "--leader-election-namespace=$(NAMESPACE)"] {
            assert!(container.args().contains(&arg), "{name}: {:?}", container.args());
        }
    }
    assert!(container(&objects, "Deployment", "driver").args().contains(&"--timeout=77"));
}

#[test]
fn the_driver_is_told_of_claims_and_snapshots() {
    let objects = render("");
    for name in ["csi-provisioner", "csi-snapshotter"] {
        assert!(
            container(&objects, "Deployment", name).args().contains(&"--extra-create-metadata"),
            "{name}"
        );
    }
}

#[test]
fn a_deletion_that_a_dead_snapshotter_has_left_is_found_within_a_minute() {
    let objects = render("");
    let snapshotter = container(&objects, "Deployment", "csi-snapshotter");
    assert!(snapshotter.args().contains(&"--resync-period=1m"), "{:?}", snapshotter.args());
}

#[test]
fn the_snapshotter_serves_groups_where_they_are_asked_for() {
    let gate = "--feature-gates=CSIVolumeGroupSnapshot=true";
    for (values, served) in [("", false), ("snapshots: {groups: true}", true)] {
        let objects = render(values);
        assert_eq!(container(&objects, "Deployment", "csi-snapshotter").args().contains(&gate), served);
    }
}

#[test]
fn blocks_are_told_where_it_is_asked_for() {
    let objects = render(BLOCKS);
    let agent = container(&objects, "DaemonSet", "driver");
    for arg in [
        "--blocks-ip=$(POD_IP)",
        "--blocks-port=9814",
        "--controller-user=system:serviceaccount:splitmirror:splitmirror-controller",
    ] {
        assert!(agent.args().contains(&arg), "{:?}", agent.args());
    }
    let token = "/var/run/secrets/splitmirror.io/agent";
    let driver = container(&objects, "Deployment", "driver");
    assert!(driver.args().contains(&format!("--agent-token={token}/token").as_str()));
    let pod = &object(&objects, "Deployment", "splitmirror-controller")["spec"]["template"]["spec"];
    let volume = list(&pod["volumes"]).iter().find(|volume| volume["name"] == "agent-token");
    let source = &volume.expect("it is a volume")["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(source["audience"], splitmirror::csi::remote::AUDIENCE);
    let holders: Vec<&str> = list(&pod["containers"])
        .iter()
        .filter(|container| list(&container["volumeMounts"]).iter().any(|mount| mount["mountPath"] == token))
        .map(|container| text(&container["name"]))
        .collect();
    assert_eq!(holders, ["driver"], "nobody else has the token");

    let service = object(&objects, "Service", "splitmirror-snapshot-metadata");
    assert_eq!(service["spec"]["ports"], json!([{"name": "backups", "port": 6443, "targetPort": "backups"}]));
    let told = &object(&objects, "SnapshotMetadataService", splitmirror::csi::DRIVER)["spec"];
    let expected = json!({
        "address": "splitmirror-snapshot-metadata.splitmirror.svc:6443",
        "audience": "snapshot-metadata.splitmirror.io",
        "caCert": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t",
    });
    assert_eq!(*told, expected);
    let off = render("");
    assert!(of_kind(&off, "SnapshotMetadataService").is_empty() && of_kind(&off, "Service").is_empty());
}

#[test]
fn mounts_of_the_agent_are_seen_by_kubelet() {
    let objects = render("kubeletDir: /var/lib/k0s/kubelet");
    let driver = container(&objects, "DaemonSet", "driver");
    let propagated: Vec<(&str, &str)> = list(&driver.spec["volumeMounts"])
        .iter()
        .filter(|mount| mount["mountPropagation"] == "Bidirectional")
        .map(|mount| (text(&mount["name"]), text(&mount["mountPath"])))
        .collect();
    let expected =
        [("kubelet-plugins", "/var/lib/k0s/kubelet/plugins"), ("kubelet-pods", "/var/lib/k0s/kubelet/pods")];
    assert_eq!(propagated, expected);
    let daemonset = object(&objects, "DaemonSet", "splitmirror-node");
    for (name, path) in expected {
        let volumes = list(&daemonset["spec"]["template"]["spec"]["volumes"]);
        let volume = volumes.iter().find(|volume| volume["name"] == name).expect("it is a volume");
        assert_eq!(volume["hostPath"]["path"], path, "kubelet and the agent must call it by one name");
    }
    let registrar = container(&objects, "DaemonSet", "node-driver-registrar");
    let socket = "--kubelet-registration-path=/var/lib/k0s/kubelet/plugins/splitmirror.io/csi.sock";
    assert!(registrar.args().contains(&socket), "{:?}", registrar.args());
}

#[test]
fn a_mount_has_a_volume_and_a_volume_a_mount() {
    for values in ALL {
        for (kind, pod) in pods(&render(values)) {
            let mut mounted: Vec<&str> = list(&pod["spec"]["containers"])
                .iter()
                .flat_map(|container| list(&container["volumeMounts"]))
                .map(|mount| text(&mount["name"]))
                .collect();
            let mut volumes: Vec<&str> =
                list(&pod["spec"]["volumes"]).iter().map(|volume| text(&volume["name"])).collect();
            mounted.sort_unstable();
            mounted.dedup();
            volumes.sort_unstable();
            assert_eq!(mounted, volumes, "{kind}");
        }
    }
}

#[test]
fn other_pools_start_the_agents_again() {
    let checksum = |values: &str| {
        let objects = render(values);
        let template = &object(&objects, "DaemonSet", "splitmirror-node")["spec"]["template"];
        text(&template["metadata"]["annotations"]["checksum/pools"]).to_owned()
    };
    assert_ne!(checksum(""), checksum("pools: [{volumeGroup: a}]"));
    assert_ne!(checksum("pools: [{volumeGroup: b}]"), checksum("pools: [{volumeGroup: a}]"));
}

#[test]
fn the_agent_reads_the_pools_as_they_are_in_the_values() {
    let objects = render(EVERYTHING);
    let config = object(&objects, "ConfigMap", "splitmirror-pools");
    let pools: Value = serde_json::from_str(text(&config["data"]["pools.json"])).expect("it is JSON");
    let devices = ["/dev/disk/by-id/a", "/dev/disk/by-id/b"];
    let first = json!({"volumeGroup": "fast", "nodes": ["db-*"], "devices": devices, "wipe": [devices[1]]});
    assert_eq!(pools, json!([first, {"volumeGroup": "old"}]));
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("pools.json");
    std::fs::write(&path, text(&config["data"]["pools.json"])).expect("it can be written");
    for (node, groups) in [("db-1", 2), ("web-1", 1)] {
        let read = splitmirror::node::file::read(&path, node).expect("the agent understands it");
        assert_eq!(read.len(), groups, "{node}");
    }
    assert!(
        container(&objects, "DaemonSet", "driver").args().contains(&"--pools=/etc/splitmirror/pools.json")
    );
}

#[test]
fn replicas_prefer_different_nodes_unless_told_otherwise() {
    let spec = |values: &str| {
        let objects = render(values);
        object(&objects, "Deployment", "splitmirror-controller")["spec"]["template"]["spec"].clone()
    };
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let default = spec("");
    let term = &default["affinity"]["podAntiAffinity"][preferred][0]["podAffinityTerm"];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(spec(EVERYTHING)["affinity"], json!({"nodeAffinity": {}}));
}

#[test]
fn the_agents_run_on_any_node_unless_told_otherwise() {
    let spec = |values: &str| {
        let objects = render(values);
        object(&objects, "DaemonSet", "splitmirror-node")["spec"]["template"]["spec"].clone()
    };
    assert_eq!(spec("")["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(spec("node: {tolerateAllTaints: false}").get("tolerations"), None);
    let chosen = spec(EVERYTHING);
    assert_eq!(chosen["tolerations"], json!([{"key": "db", "operator": "Exists"}]));
    assert_eq!(chosen["nodeSelector"], json!({"disk": "nvme", "kubernetes.io/os": "linux"}));
}

#[test]
fn pods_come_before_those_that_use_their_volumes() {
    let objects = render("");
    let class = |kind: &str, name: &str| {
        object(&objects, kind, name)["spec"]["template"]["spec"]["priorityClassName"].clone()
    };
    assert_eq!(class("DaemonSet", "splitmirror-node"), "system-node-critical");
    assert_eq!(class("Deployment", "splitmirror-controller"), "system-cluster-critical");
}

#[test]
fn labels_by_which_pods_are_found_cannot_be_replaced() {
    let objects = render(
        "
commonLabels: {app.kubernetes.io/name: other, team: storage}
controller: {podLabels: {app.kubernetes.io/component: other}}
node: {podLabels: {app.kubernetes.io/component: other}}
",
    );
    for (kind, pod) in pods(&objects) {
        let selector = objects.iter().find(|object| object["kind"] == kind).expect("it is there");
        let wanted = selector["spec"]["selector"]["matchLabels"].as_object().expect("it has labels");
        for (label, value) in wanted {
            assert_eq!(pod["metadata"]["labels"][label], *value, "{kind}");
        }
        assert_eq!(pod["metadata"]["labels"]["team"], "storage", "{kind}");
    }
    for kind in ["ServiceAccount", "CSIDriver", "StorageClass"] {
        for object in of_kind(&objects, kind) {
            assert_eq!(object["metadata"]["labels"]["team"], "storage", "{object}");
        }
    }
}

#[test]
fn the_lvm_of_the_hosts_is_told_to_the_agents() {
    let objects = render(EVERYTHING);
    let driver = container(&objects, "DaemonSet", "driver");
    for arg in
        ["--hidden-uuid=real", "--system-id=host-1", "--lock-dir=/var/lock/lvm", "--metrics=[::]:10000"]
    {
        assert!(driver.args().contains(&arg), "{:?}", driver.args());
    }
    let mounts = list(&driver.spec["volumeMounts"]);
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/var/lock/lvm"));
    assert!(
        !texts(&container(&render(""), "DaemonSet", "driver").spec["args"])
            .iter()
            .any(|arg| arg.starts_with("--system-id"))
    );
}
