//! What the bed can do to a cluster, and how the cluster takes it: here without the driver.

use serde_json::{Value, json};

use crate::Outcome;
use crate::bed::until;
use crate::kubectl::{Namespace, PATIENCE, cluster, is_ready, restarts, shell};

/// Counts in a file on the node, where it can be read although nobody reaches the pod.
fn counter(bed: &Namespace, node: &str) -> Outcome {
    let mut count = shell("n=0; while true; do n=$((n + 1)); echo $n >/count/$HOSTNAME; sleep 0.2; done");
    count["volumeMounts"] = json!([{ "name": "count", "mountPath": "/count" }]);
    bed.pod(
        "counter",
        json!({
            "nodeName": node,
            "containers": [count],
            "volumes": [{
                "name": "count",
                "hostPath": { "path": "/var/lib/count", "type": "DirectoryOrCreate" },
            }],
        }),
    )
}

pub fn power_cut(bed: &Namespace) -> Outcome {
    let node = bed.node(2);
    counter(bed, node.name())?;
    bed.wait_until_ready("counter")?;
    node.sh("echo kept >/var/lib/kept; sync; echo lost >/var/lib/lost")?;
    let before = node.boot_id()?;
    node.power_cut()?;
    if let Ok(id) = node.boot_id() {
        return Err(format!("boot {id} still takes orders"));
    }
    bed.kubectl().wait(cluster("node", node.name()), "not Ready", |node| !is_ready(node))?;
    node.boot()?;
    bed.restore()?;
    let after = node.boot_id()?;
    if before == after {
        return Err(format!("it is still boot {before}"));
    }
    if node.run(&["cat", "/var/lib/kept"])? != "kept\n" {
        return Err("what was synced is lost".to_owned());
    }
    let again = |pod: &Value| restarts(pod) >= Some(1) && is_ready(pod);
    bed.kubectl().wait(bed.object("pod", "counter"), "running again", again).map(drop)
}

pub fn no_api_server(bed: &Namespace) -> Outcome {
    let node = bed.node(1);
    counter(bed, node.name())?;
    bed.wait_until_ready("counter")?;
    let count = || -> Outcome<u64> {
        let text = node.run(&["cat", "/var/lib/count/counter"])?;
        text.trim().parse().map_err(|error| format!("`{text}`: {error}"))
    };
    bed.stop_api()?;
    if bed.kubectl().run(&["get", "--raw", "/readyz"]).is_ok() {
        return Err("the API server still answers".to_owned());
    }
    let before = count()?;
    until("the pod goes on", PATIENCE, || Ok((count()? > before + 10).then_some(())))?;
    bed.start_api()?;
    let pod = bed.kubectl().get(bed.object("pod", "counter"))?;
    match restarts(&pod) {
        Some(0) => Ok(()),
        restarts => Err(format!("the pod was started again: {restarts:?}")),
    }
}

pub fn cut_off(bed: &Namespace) -> Outcome {
    let node = bed.node(3);
    node.cut()?;
    bed.kubectl().wait(cluster("node", node.name()), "not Ready", |node| !is_ready(node))?;
    // Orders still reach it.
    node.boot_id()?;
    node.heal()?;
    bed.kubectl().wait(cluster("node", node.name()), "Ready", is_ready).map(drop)
}

pub fn wiped_etcd(bed: &Namespace) -> Outcome {
    bed.apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "note" } }))?;
    let id = |bed: &Namespace| -> Outcome<Value> {
        Ok(bed.kubectl().get(cluster("namespace", "default"))?["metadata"]["uid"].clone())
    };
    let before = id(bed)?;
    bed.wipe_etcd()?;
    if id(bed)? == before {
        return Err("it is the same cluster as before".to_owned());
    }
    if bed.kubectl().find(bed.object("configmap", "note"))?.is_some() {
        return Err("the note is still there".to_owned());
    }
    let again = Namespace::create(bed, bed.name())?;
    again.pod("after", json!({ "containers": [shell("exec sleep 1000")] }))?;
    again.wait_until_ready("after").map(drop)
}
