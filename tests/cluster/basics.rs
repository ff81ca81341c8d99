//! The bed is a Kubernetes: what any cluster does, this one does.

use serde_json::json;

use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster, condition, shell};

/// How a driver is called in these tests.
const DRIVER: &str = "splitmirror.io";

pub fn all_nodes_are_ready(bed: &Namespace) -> Outcome {
    for node in bed.nodes() {
        let seen = bed.kubectl().get(cluster("node", node.name()))?;
        if condition(&seen, "Ready") != Some("True") {
            return Err(format!("{}: {}", node.name(), seen["status"]["conditions"]));
        }
        let addresses = seen["status"]["addresses"].to_string();
        if !addresses.contains(node.address()) {
            return Err(format!("{} is at {addresses} and not at {}", node.name(), node.address()));
        }
    }
    Ok(())
}

pub fn a_scheduled_pod_runs(bed: &Namespace) -> Outcome {
    bed.pod("greeter", json!({ "containers": [shell("echo hello from $HOSTNAME; exec sleep 1000")] }))?;
    let pod = bed.wait_until_ready("greeter")?;
    if condition(&pod, "PodScheduled") != Some("True") {
        return Err(format!("nobody scheduled it: {}", pod["status"]));
    }
    bed.wait_for_log("greeter", "hello from greeter")?;
    let name = bed.exec("greeter", &["hostname"])?;
    if name.trim() == "greeter" { Ok(()) } else { Err(format!("it calls itself {name}")) }
}

pub fn pods_reach_each_other(bed: &Namespace) -> Outcome {
    let serve = "while true; do echo hello across | nc -l -p 8080; done";
    bed.pod("server", json!({ "nodeName": bed.node(1).name(), "containers": [shell(serve)] }))?;
    let server = bed.wait_until_ready("server")?;
    let address = server["status"]["podIP"].as_str().ok_or("the server has no address")?;
    // The second address is the API server's, as every pod knows it.
    let call = format!(
        "until nc {address} 8080 </dev/null | grep across; do sleep 1; done
         printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT | grep HTTPS
         echo the API server too; exec sleep 1000"
    );
    bed.pod("client", json!({ "nodeName": bed.node(2).name(), "containers": [shell(&call)] }))?;
    bed.wait_for_log("client", "the API server too").map(drop)
}

pub fn a_node_has_dm_raid(bed: &Namespace) -> Outcome {
    let node = bed.node(3);
    let [first, second, ..] = node.disks() else { return Err(format!("disks: {:?}", node.disks())) };
    node.sh(&format!(
        "export DM_DISABLE_UDEV=1
         vgcreate -qq raidtest {first} {second}
         lvcreate -qq -y --type raid1 -m1 -L 32M -n lv raidtest"
    ))?;
    let synced = until("the array is in sync", PATIENCE, || {
        let status = node.run(&["dmsetup", "status", "raidtest-lv"])?;
        if status.contains(" AA 65536/65536 ") { Ok(Some(())) } else { Err(status) }
    });
    node.sh(&format!("vgremove -qq -y raidtest && wipefs -qa {first} {second}"))?;
    synced
}

pub fn helm_installs_a_chart(bed: &Namespace) -> Outcome {
    let chart = tempfile::tempdir().map_err(|error| format!("a directory for the chart: {error}"))?;
    let write = |name: &str, text: &str| {
        std::fs::write(chart.path().join(name), text).map_err(|error| format!("writing {name}: {error}"))
    };
    write("Chart.yaml", "apiVersion: v2\nname: note\nversion: 1.0.0\nkubeVersion: \">=1.30.0-0\"\n")?;
    std::fs::create_dir(chart.path().join("templates")).map_err(|error| format!("templates: {error}"))?;
    write(
        "templates/note.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: note}\ndata: {text: {{ .Values.text | quote }}}\n",
    )?;
    let path = chart.path().to_str().ok_or("a path that is not UTF-8")?;
    bed.helm(&["install", "note", path, "--set", "text=hello", "--wait"])?;
    let note = bed.kubectl().get(bed.object("configmap", "note"))?;
    if note["data"]["text"] != "hello" {
        return Err(format!("the note says {}", note["data"]));
    }
    bed.helm(&["uninstall", "note", "--wait"])?;
    match bed.kubectl().find(bed.object("configmap", "note"))? {
        None => Ok(()),
        Some(_) => Err("the note is still there".to_owned()),
    }
}

pub fn our_image_runs_unprivileged(bed: &Namespace) -> Outcome {
    bed.pod(
        "version",
        json!({
            "restartPolicy": "Never",
            "containers": [{
                "name": "main",
                "image": bed.image("splitmirror")?,
                "imagePullPolicy": "IfNotPresent",
                "args": ["--version"],
                "securityContext": {
                    "runAsNonRoot": true,
                    "readOnlyRootFilesystem": true,
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
        }),
    )?;
    let ended = |pod: &serde_json::Value| pod["status"]["phase"] == "Succeeded";
    bed.kubectl().wait(bed.object("pod", "version"), "done", ended)?;
    let said = bed.logs("version")?;
    let expected = format!("splitmirror {}", env!("CARGO_PKG_VERSION"));
    if said.trim() == expected { Ok(()) } else { Err(format!("it says `{said}` and not `{expected}`")) }
}

pub fn the_sidecars_run(bed: &Namespace) -> Outcome {
    let mut containers = Vec::new();
    let mut expected = Vec::new();
    for name in ["csi-provisioner", "csi-resizer", "csi-snapshotter", "csi-snapshot-metadata"] {
        let image = bed.image(name)?;
        expected.extend(image.rsplit_once(':').map(|(_, version)| version.to_owned()));
        containers.push(json!({ "name": name, "image": image, "args": ["--version"] }));
    }
    bed.pod("versions", json!({ "restartPolicy": "Never", "containers": containers }))?;
    let ended = |pod: &serde_json::Value| pod["status"]["phase"] == "Succeeded";
    bed.kubectl().wait(bed.object("pod", "versions"), "done", ended)?;
    let said = bed.logs("versions")?;
    match expected.iter().find(|version| !said.contains(version.as_str())) {
        None => Ok(()),
        Some(version) => Err(format!("none of them says {version}: {said}")),
    }
}

/// The driver without Kubernetes of its own, beside the registrar and the liveness probe.
pub fn a_kubelet_takes_a_driver(bed: &Namespace) -> Outcome {
    let node = bed.node(1);
    let socket = "/var/lib/kubelet/plugins/bed-test/csi.sock";
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
    let host = |name: &str, path: &str| json!({ "name": name, "hostPath": { "path": path, "type": "DirectoryOrCreate" } });
    let (plugin, dev) = (mount("plugin", "/var/lib/kubelet/plugins/bed-test"), mount("dev", "/dev"));
    let as_root = json!({ "runAsUser": 0, "privileged": true });
    let driver = bed.image("splitmirror")?;
    let mut create = vec!["pool", "create", "bedtest"];
    create.extend(node.disks().iter().map(String::as_str));
    bed.pod(
        "driver",
        json!({
            "nodeName": node.name(),
            "hostNetwork": true,
            "initContainers": [{
                "name": "pool", "image": driver, "securityContext": as_root, "volumeMounts": [dev],
                "args": create,
            }],
            "containers": [
                {
                    "name": "driver", "image": driver, "securityContext": as_root,
                    "args": ["standalone", "--endpoint", format!("unix://{socket}"), "--pool", "bedtest",
                        "--node-id", node.name()],
                    "volumeMounts": [plugin, dev],
                    "livenessProbe": { "httpGet": { "path": "/healthz", "port": 9808 }, "periodSeconds": 2 },
                    "readinessProbe": { "httpGet": { "path": "/healthz", "port": 9808 }, "periodSeconds": 2 },
                },
                {
                    "name": "registrar", "image": bed.image("csi-node-driver-registrar")?,
                    "args": [format!("--csi-address={socket}"),
                        format!("--kubelet-registration-path={socket}"), "--timeout=10s"],
                    "volumeMounts": [plugin, mount("registry", "/registration")],
                },
                {
                    "name": "liveness", "image": bed.image("livenessprobe")?,
                    "args": [format!("--csi-address={socket}"), "--health-port=9808"],
                    "volumeMounts": [plugin],
                },
            ],
            "volumes": [
                host("plugin", "/var/lib/kubelet/plugins/bed-test"),
                host("registry", "/var/lib/kubelet/plugins_registry"),
                host("dev", "/dev"),
            ],
        }),
    )?;
    let registered = |csinode: &serde_json::Value| {
        let drivers = csinode["spec"]["drivers"].as_array().into_iter().flatten();
        drivers.into_iter().any(|driver| driver["name"] == DRIVER)
    };
    let seen = bed.kubectl().wait(cluster("csinode", node.name()), "with the driver", registered);
    let ready = bed.wait_until_ready("driver");
    bed.kubectl().delete(bed.object("pod", "driver"))?;
    let disks = node.disks().join(" ");
    node.sh(&format!("DM_DISABLE_UDEV=1 vgremove -qq -y bedtest && wipefs -qa {disks}"))?;
    ready.and(seen).map(drop)
}
