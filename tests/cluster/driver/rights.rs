//! What the token of a node's agent is good for.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::user::{claim, class, give_up, volume_of};
use super::{NAMESPACE, POOL, agent_on, ours, pool_of, ready, that};
use crate::Outcome;
use crate::kubectl::{Kubectl, Namespace, cluster, output};

/// Somebody with a token, and nothing else.
struct Somebody<'b> {
    kubectl: &'b Kubectl,
    config: PathBuf,
}

impl<'b> Somebody<'b> {
    /// With a token of a service account, perhaps bound to a pod.
    fn new(bed: &'b Namespace, dir: &Path, account: &str, pod: Option<&str>) -> Outcome<Self> {
        let mut create = vec!["create", "token", account, "--namespace", NAMESPACE];
        create.extend(pod.iter().flat_map(|pod| ["--bound-object-kind=Pod", "--bound-object-name", pod]));
        let token = bed.kubectl().run(&create)?;
        let ours =
            bed.kubectl().run(&["config", "view", "--raw", "--minify", "--flatten", "--output=json"])?;
        let mut config: Value = serde_json::from_str(&ours).map_err(|error| error.to_string())?;
        let user = config["contexts"][0]["context"]["user"].clone();
        config["users"] = json!([{ "name": user, "user": { "token": token.trim() } }]);
        let path = dir.join(format!("{account}-{}", pod.unwrap_or("unbound")));
        std::fs::write(&path, config.to_string()).map_err(|error| error.to_string())?;
        Ok(Self { kubectl: bed.kubectl(), config: path })
    }

    fn run(&self, args: &[&str], input: Option<&Value>) -> Outcome<String> {
        let mut command = self.kubectl.program("kubectl");
        command.arg("--kubeconfig").arg(&self.config).args(args);
        output(&mut command, input.map(Value::to_string).as_deref())
    }

    /// That it is refused, for this reason.
    fn cannot(&self, args: &[&str], input: Option<&Value>, words: &str) -> Outcome {
        match self.run(args, input) {
            Ok(seen) => Err(format!("`{}` is allowed: {seen}", args.join(" "))),
            Err(why) => that("it is forbidden", why.contains(words), &why),
        }
    }
}

pub fn cheating(bed: &Namespace) -> Outcome {
    ready(bed)?;
    class(bed, "immediate", "Immediate", &json!({ "splitmirror.io/images": "3" }))?;
    claim(bed, "data", "immediate", "64Mi")?;
    let volume = volume_of(bed, "data")?;
    let object = bed.kubectl().get(cluster("mirrorvolume", &volume))?;
    let at = super::text(&object["spec"]["node"])?;
    let other = bed.nodes().iter().find(|node| node.name() != at).ok_or("there is one node only")?;
    let dir = std::env::temp_dir().join(format!("splitmirror-rights-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let own = Somebody::new(bed, &dir, "splitmirror-node", Some(&agent_on(bed, &at)?))?;
    let stranger = Somebody::new(bed, &dir, "splitmirror-node", Some(&agent_on(bed, other.name())?))?;
    let unbound = Somebody::new(bed, &dir, "splitmirror-node", None)?;

    const ELSEWHERE: &str = "may not write objects of node";
    let dry = "--dry-run=server";
    // As the agents do: what somebody says of a volume is applied.
    let status = json!({
        "apiVersion": "splitmirror.io/v1alpha1",
        "kind": "MirrorVolume",
        "metadata": { "name": volume },
        "status": { "phase": "Ready", "inSync": 1 },
    });
    let manager = "--field-manager=splitmirror-node";
    let tell =
        ["apply", "--server-side", "--subresource=status", manager, "--force-conflicts", dry, "--filename=-"];
    own.run(&tell, Some(&status))?;
    stranger.cannot(&tell, Some(&status), ELSEWHERE)?;
    unbound.cannot(&tell, Some(&status), "must be bound to a pod on a node")?;
    stranger.cannot(&["delete", "mirrorvolume", &volume, dry], None, ELSEWHERE)?;
    stranger.cannot(&["delete", "mirrorpool", &format!("{at}.{POOL}"), dry], None, ELSEWHERE)?;

    // An object of its own, and one that would have a volume of another made.
    let of = |node: &str| {
        let mut made = object.clone();
        made["metadata"] = json!({ "name": "made-up" });
        made["spec"]["node"] = json!(node);
        made["status"] = Value::Null;
        made
    };
    let create = ["create", dry, "--filename=-"];
    own.run(&create, Some(&of(&at)))?;
    own.cannot(&create, Some(&of(other.name())), ELSEWHERE)?;
    stranger.cannot(&create, Some(&of(&at)), ELSEWHERE)?;
    let mut doomed = of(&at);
    doomed["spec"]["delete"] = json!(true);
    own.cannot(&create, Some(&doomed), "only the controller sets spec.delete")?;

    // What an object should be is not for an agent to say; of a pool it is, for the file of pools is on the node.
    let change = |kind: &str, name: &str, spec: &Value| {
        let patch = json!({ "spec": spec }).to_string();
        ["patch", kind, name, "--type=merge", "--patch", &patch, dry].map(str::to_owned)
    };
    let args = change("mirrorvolume", &volume, &json!({ "size": "1Gi" }));
    own.cannot(&args.each_ref().map(String::as_str), None, "may not change what an object should be")?;
    let delete = change("mirrorvolume", &volume, &json!({ "delete": true }));
    own.cannot(&delete.each_ref().map(String::as_str), None, "forbidden")?;
    stranger.cannot(&delete.each_ref().map(String::as_str), None, "forbidden")?;
    let wipe = change(
        "mirrorpool",
        &pool_of(bed.node(1)),
        &json!({ "devices": ["/dev/ubda"], "wipe": ["/dev/ubda"] }),
    );
    for node in bed.nodes().iter().skip(1) {
        let agent = Somebody::new(bed, &dir, "splitmirror-node", Some(&agent_on(bed, node.name())?))?;
        agent.cannot(&wipe.each_ref().map(String::as_str), None, ELSEWHERE)?;
    }

    // Leases: its own node's only, and none of the sidecars'.
    let taken = |name: &str| -> Outcome<Value> {
        let lease = ours("lease", name);
        let mut lease = bed.kubectl().get(lease)?;
        lease["spec"]["holderIdentity"] = json!("me");
        Ok(lease)
    };
    let replace = ["replace", dry, "--namespace", NAMESPACE, "--filename=-"];
    let lease = taken(&format!("splitmirror-node-{at}"))?;
    own.run(&replace, Some(&lease))?;
    stranger.cannot(&replace, Some(&lease), "the lease of its own node only")?;
    let lease = taken("splitmirror-io")?;
    own.cannot(&replace, Some(&lease), "the lease of its own node only")?;

    // And nothing that is none of its business.
    for args in [
        vec!["get", "secrets", "--all-namespaces"],
        vec!["get", "pods", "--namespace", NAMESPACE],
        vec!["get", "persistentvolumes"],
        vec!["delete", "persistentvolumeclaim", "data", "--namespace", bed.name(), dry],
    ] {
        own.cannot(&args, None, "orbidden")?;
    }
    let controller = Somebody::new(bed, &dir, "splitmirror-controller", None)?;
    for args in
        [["get", "pods", "--all-namespaces"], ["get", "secrets", "--all-namespaces"], ["delete", "node", &at]]
    {
        controller.cannot(&args, None, "orbidden")?;
    }
    controller.cannot(&tell, Some(&status), "orbidden")?;
    std::fs::remove_dir_all(&dir).map_err(|error| error.to_string())?;
    give_up(bed, "data", &volume)
}
