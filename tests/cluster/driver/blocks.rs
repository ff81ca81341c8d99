//! What a backup is told of snapshots, through upstream's sidecar and by upstream's client.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use splitmirror::csi::backend::{BlocksWish, Deadline, Error, Parts as _};
use splitmirror::csi::remote::{AUDIENCE, AgentAddress, Remote};
use splitmirror::report::Class;
use splitmirror::units::Bytes;

use super::user::{CLASS, VIEWS, give_up, leave, sh, snapshot, volume_of};
use super::{NAMESPACE, POOL, equal, ours, text, that};
use crate::Outcome;
use crate::bed::{BUSYBOX, Bed};
use crate::kubectl::{Namespace, cluster, output, shell};

/// The Secret with the service's certificate.
pub const SECRET: &str = "snapshot-metadata-certificate";
/// The service's name, which the certificate is for.
const SERVICE: &str = "splitmirror-snapshot-metadata.splitmirror.svc";
/// Upstream's client.
const CLIENT: &str = "localhost/snapshot-metadata-client:1";
/// A backup's account.
const ACCOUNT: &str = "backup";

const SIZE: &str = "64Mi";
const MIB: u64 = 1 << 20;
/// What is written before the first snapshot, and between the two: offset and length.
const BEFORE: [(u64, u64); 2] = [(MIB, 8192), (33 * MIB, 4096)];
const BETWEEN: [(u64, u64); 2] = [(10 * MIB, 4096), (40 * MIB, 12288)];

/// Makes the service's certificate and its Secret; the file that the certificate is in.
pub fn certificate(bed: &Bed) -> Outcome<PathBuf> {
    let dir = std::env::temp_dir().join(format!("splitmirror-certificate-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=snapshot-metadata", "-addext", &format!("subjectAltName=DNS:{SERVICE}")]);
    openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key);
    output(&mut openssl, None)?;
    let read = |file: &PathBuf| std::fs::read_to_string(file).map_err(|error| error.to_string());
    bed.kubectl()
        .apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
    bed.kubectl().apply(&json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": { "name": SECRET, "namespace": NAMESPACE },
        "stringData": { "tls.crt": read(&certificate)?, "tls.key": read(&key)? },
    }))?;
    Ok(certificate)
}

/// A claim of a raw device.
fn device(bed: &Namespace, name: &str, class: &str, snapshot: Option<&str>) -> Outcome {
    let mode = if snapshot.is_some() { "ReadOnlyMany" } else { "ReadWriteOnce" };
    let mut spec = json!({
        "storageClassName": class,
        "volumeMode": "Block",
        "accessModes": [mode],
        "resources": { "requests": { "storage": SIZE } },
    });
    if let Some(name) = snapshot {
        spec["dataSource"] =
            json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name });
    }
    bed.apply(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name }, "spec": spec,
    }))
}

/// Volumes of a pod, and the devices `/dev/NAME` of its containers.
fn devices(claims: &[&str]) -> (Value, Value) {
    let volume = |claim: &&str| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } });
    let device = |claim: &&str| json!({ "name": claim, "devicePath": format!("/dev/{claim}") });
    (claims.iter().map(volume).collect(), claims.iter().map(device).collect())
}

fn write(bed: &Namespace, places: &[(u64, u64)]) -> Outcome {
    for (offset, len) in places {
        let (block, count) = (offset / 4096, len / 4096);
        let script =
            format!("dd if=/dev/urandom of=/dev/data bs=4096 seek={block} count={count} conv=notrunc,fsync");
        sh(bed, "app", &script)?;
    }
    Ok(())
}

/// A backup's account: what upstream's `external-snapshot-metadata-client-runner` may.
fn account(bed: &Namespace) -> Outcome {
    bed.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT } }))?;
    bed.kubectl().apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": ACCOUNT },
        "rules": [
            { "apiGroups": ["snapshot.storage.k8s.io"], "verbs": ["get", "list", "watch"],
              "resources": ["volumesnapshots", "volumesnapshotcontents"] },
            { "apiGroups": ["cbt.storage.k8s.io"], "verbs": ["get", "list"],
              "resources": ["snapshotmetadataservices"] },
            { "apiGroups": [""], "verbs": ["create", "get"], "resources": ["serviceaccounts/token"] },
        ],
    }))?;
    bed.kubectl().apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": ACCOUNT },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT },
        "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": bed.name() }],
    }))
}

/// Where the service is: there is no kube-proxy in a bed, and no DNS.
fn service_address(bed: &Namespace) -> Outcome<String> {
    let selector = "--selector=app.kubernetes.io/name=splitmirror,app.kubernetes.io/component=controller";
    let pods = bed.kubectl().list(&["pods", "--namespace", NAMESPACE, selector])?;
    text(&pods.first().ok_or("there is no controller")?["status"]["podIP"])
}

/// Runs `first`, then upstream's client once for each of `runs`, a name and arguments, until all have ended well.
fn backup(bed: &Namespace, pod: &str, claims: &[&str], first: &str, runs: &[(&str, &[&str])]) -> Outcome {
    let (volumes, devices) = devices(claims);
    let mut copy = shell(first);
    copy["name"] = json!("first");
    copy["image"] = json!(BUSYBOX);
    copy["volumeDevices"] = devices.clone();
    let client = |(name, args): &(&str, &[&str])| {
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.push(format!("-namespace={}", bed.name()));
        json!({
            "name": name, "image": CLIENT, "args": args, "volumeDevices": devices,
            // Its resolver asks DNS for more than the address.
            "env": [{ "name": "GRPC_ENABLE_TXT_SERVICE_CONFIG", "value": "false" }],
        })
    };
    let containers: Vec<Value> = runs.iter().map(client).collect();
    bed.pod(
        pod,
        json!({
            "serviceAccountName": ACCOUNT, "restartPolicy": "Never",
            "hostAliases": [{ "ip": service_address(bed)?, "hostnames": [SERVICE] }],
            "initContainers": [copy], "containers": containers, "volumes": volumes,
        }),
    )?;
    let over = |seen: &Value| ["Succeeded", "Failed"].iter().any(|phase| seen["status"]["phase"] == *phase);
    let ended = bed.kubectl().wait(bed.object("pod", pod), "over", over)?;
    if ended["status"]["phase"] == "Succeeded" {
        return Ok(());
    }
    Err(format!("a client has failed: {}", bed.logs(pod)?))
}

/// The blocks that a client has listed.
fn listed(bed: &Namespace, pod: &str, container: &str) -> Outcome<Vec<(u64, u64)>> {
    let log = bed.kubectl().run(&["logs", pod, "--container", container, "--namespace", bed.name()])?;
    let records: Vec<Value> = serde_json::from_str(&log).map_err(|error| format!("{error}: {log}"))?;
    let mut all = Vec::new();
    for record in records {
        equal("the size", &record["volume_capacity_bytes"], &json!(64 * MIB))?;
        for block in record["block_metadata"].as_array().into_iter().flatten() {
            // What is zero is left out.
            all.push((block["byte_offset"].as_u64().unwrap_or(0), block["size_bytes"].as_u64().unwrap_or(0)));
        }
    }
    Ok(all)
}

pub fn a_backup_copies_what_has_changed_and_no_more(bed: &Namespace) -> Outcome {
    super::ready(bed)?;
    device(bed, "data", CLASS, None)?;
    let (volumes, devices) = devices(&["data"]);
    let mut container = shell("exec sleep 1000000");
    container["volumeDevices"] = devices;
    bed.pod("app", json!({ "containers": [container], "volumes": volumes }))?;
    bed.wait_until_ready("app")?;
    let volume = volume_of(bed, "data")?;
    write(bed, &BEFORE)?;
    let one = snapshot(bed, "one", "data")?;
    write(bed, &BETWEEN)?;
    let two = snapshot(bed, "two", "data")?;
    account(bed)?;

    // Upstream's verifier copies the blocks, and compares the whole devices then: a full backup onto a blank one, and
    // an incremental one onto a copy of the first snapshot.
    device(bed, "one", VIEWS, Some("one"))?;
    device(bed, "two", VIEWS, Some("two"))?;
    device(bed, "full", CLASS, None)?;
    device(bed, "incremental", CLASS, None)?;
    let claims = ["one", "two", "full", "incremental"];
    let from = format!("-starting-offset={}", 20 * MIB);
    backup(
        bed,
        "backup",
        &claims,
        "dd if=/dev/one of=/dev/incremental bs=1M conv=fsync",
        &[
            ("full", &["-snapshot=two", "-source-device-path=/dev/two", "-target-device-path=/dev/full"]),
            (
                "incremental",
                &[
                    "-snapshot=two",
                    "-previous-snapshot=one",
                    "-source-device-path=/dev/two",
                    "-target-device-path=/dev/incremental",
                ],
            ),
            ("allocated", &["-snapshot=two"]),
            ("changed", &["-snapshot=two", "-previous-snapshot=one", "-max-results=1"]),
            ("resumed", &["-snapshot=two", "-previous-snapshot=one", &from]),
        ],
    )?;
    let mut all: Vec<(u64, u64)> = BEFORE.into_iter().chain(BETWEEN).collect();
    all.sort_unstable();
    equal("what holds anything", listed(bed, "backup", "allocated")?, all)?;
    equal("what differs", listed(bed, "backup", "changed")?, BETWEEN.to_vec())?;
    equal("what differs from there on", listed(bed, "backup", "resumed")?, BETWEEN[1..].to_vec())?;

    refusals(bed, &one, &two)?;

    let copies = ["full", "incremental"].map(|claim| volume_of(bed, claim));
    bed.kubectl().delete(bed.object("pod", "backup"))?;
    for claim in ["one", "two"] {
        bed.kubectl().delete(bed.object("pvc", claim))?;
    }
    for (claim, copy) in ["full", "incremental"].into_iter().zip(copies) {
        give_up(bed, claim, &copy?)?;
    }
    for name in ["one", "two"] {
        bed.kubectl().delete(bed.object("volumesnapshot", name))?;
    }
    leave(bed, "app", "data")?;
    super::user::gone(bed, cluster("mirrorvolume", &volume))
}

/// The agent itself tells the controller only.
fn refusals(bed: &Namespace, one: &str, two: &str) -> Outcome {
    let snapshot = bed.kubectl().get(cluster("mirrorsnapshot", two))?;
    let node = text(&snapshot["spec"]["node"])?;
    let pool = bed.kubectl().get(cluster("mirrorpool", &format!("{node}.{POOL}")))?;
    let told = &pool["status"]["agent"];
    let agent = AgentAddress {
        address: text(&told["address"])?.parse().map_err(|error| format!("{told}: {error}"))?,
        certificate: text(&told["certificate"])?,
    };
    let ask = |account: &str, audience: Option<&str>| -> Outcome<Result<u64, Error>> {
        let mut create = vec!["create", "token", account, "--namespace", NAMESPACE];
        create.extend(audience.iter().flat_map(|audience| ["--audience", audience]));
        let token = bed.kubectl().run(&create)?;
        let wish = BlocksWish { snapshot: two.to_owned(), base: Some(one.to_owned()), from: Bytes::ZERO };
        Ok(changed(&node, &agent, &token, &wish))
    };
    let (controller, other) = ("splitmirror-controller", "splitmirror-node");
    for (account, audience, says) in [
        (other, Some(AUDIENCE), "only the controller is told"),
        // Good for the API server, as the sidecars have one.
        (controller, None, "a token of the controller is needed"),
        (controller, Some("splitmirror.io/other"), "a token of the controller is needed"),
    ] {
        match ask(account, audience)? {
            Ok(bytes) => return Err(format!("{account} for {audience:?} is told of {bytes} bytes")),
            Err(error) => that("it is refused", error.message.contains(says), &error)?,
        }
    }
    let expected = BETWEEN.iter().map(|(_, len)| len).sum();
    equal("what the controller is told", ask(controller, Some(AUDIENCE))?, Ok(expected))?;
    // The agent is the only one with its key.
    let log = bed.kubectl().get(ours("daemonset", "splitmirror-node"))?;
    that("no key is in its pod's description", !log.to_string().contains("PRIVATE KEY"), "a key")
}

/// Bytes in the blocks that an agent tells.
fn changed(node: &str, agent: &AgentAddress, token: &str, wish: &BlocksWish) -> Result<u64, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(Class::Internal, error.to_string()))?;
    runtime.block_on(async {
        let mut parts = Remote::connect(node, agent, token).await?.blocks(wish, Deadline::default()).await?;
        let mut bytes = 0;
        while let Some(part) = parts.next().await? {
            bytes += part.ranges.iter().map(|range| (range.end - range.start).0).sum::<u64>();
        }
        Ok(bytes)
    })
}
