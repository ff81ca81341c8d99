//! Node agents that do as a script says: at once, not at all, or with a refusal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use splitmirror::api::conditions;
use splitmirror::api::{Percent, Size};
use splitmirror::report::Class;
use splitmirror::units::Bytes;

use crate::api::ApiServer;

/// When snapshots are cut.
pub const CUT: &str = "2026-03-01T12:00:00.000001Z";
/// Sizes are rounded up to this.
const EXTENT: u64 = 4 << 20;

/// What is done with an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Act {
    /// What it asks for.
    #[default]
    Obey,
    /// Nothing: its node is silent.
    Ignore,
    /// It is refused.
    Refuse(Class),
    /// As asked for, but merges do not end.
    MergeSlowly,
}

/// The nodes; clones are the same.
#[derive(Clone, Default)]
pub struct Nodes {
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    all: Act,
    of: BTreeMap<String, Act>,
    changed: tokio::sync::watch::Sender<u64>,
}

impl Nodes {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no test panics while it holds this")
    }

    /// From now on this is done with all objects.
    pub fn act(&self, act: Act) {
        let mut script = self.script();
        script.all = act;
        script.of.clear();
        script.changed.send_modify(|changes| *changes += 1);
    }

    /// From now on this is done with the object of a name.
    pub fn act_on(&self, name: &str, act: Act) {
        let mut script = self.script();
        script.of.insert(name.to_owned(), act);
        script.changed.send_modify(|changes| *changes += 1);
    }

    fn act_for(&self, name: &str) -> Act {
        let script = self.script();
        script.of.get(name).copied().unwrap_or(script.all)
    }

    /// Plays the nodes for ever.
    pub async fn play(self, server: ApiServer) {
        let mut changes = server.changes();
        let mut scripted = self.script().changed.subscribe();
        loop {
            changes.mark_unchanged();
            scripted.mark_unchanged();
            for resource in ["mirrorvolumes", "mirrorsnapshots"] {
                for object in server.list(resource) {
                    let name = object["metadata"]["name"].as_str().expect("named");
                    let act = self.act_for(name);
                    carry_out(&server, resource, name, &object, act);
                }
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = scripted.changed() => {}
            }
        }
    }
}

/// Does what an object asks for, if that is not done.
fn carry_out(server: &ApiServer, resource: &str, name: &str, object: &Value, act: Act) {
    let (spec, status) = (&object["spec"], &object["status"]);
    let tell = |status: Value| server.merge(resource, name, &json!({"status": status}));
    let refuse = |of: &str, class| {
        let condition = condition(of, "False", conditions::reason(class), object);
        if status["conditions"] != json!([condition]) {
            let phase = if status["size"].is_string() { status["phase"].clone() } else { json!("Pending") };
            tell(json!({"phase": phase, "conditions": [condition]}));
        }
    };
    let made = status["size"].is_string();
    match act {
        Act::Ignore => {}
        Act::Refuse(class) if spec["delete"] == true && made => refuse("Deleted", class),
        Act::MergeSlowly if spec["delete"] == true && resource == "mirrorsnapshots" => {
            if status["phase"] != "Merging" {
                tell(json!({"phase": "Merging"}));
            }
        }
        Act::Obey | Act::Refuse(_) | Act::MergeSlowly if spec["delete"] == true => {
            server.remove(resource, name)
        }
        Act::Refuse(class) if made && grows(object) => refuse("Resized", class),
        Act::Refuse(class) if made && changes(object) => refuse("Modified", class),
        Act::Refuse(class) if !made => refuse("Ready", class),
        Act::Obey if made && spec["rollback"]["request"] != status["rollback"]["request"] => {
            let done = json!({"request": spec["rollback"]["request"], "phase": "Done", "copied": "4Mi", "total": "4Mi"});
            tell(json!({"rollback": done}));
        }
        Act::Obey | Act::MergeSlowly if !made || grows(object) => {
            tell(as_asked(server, resource, object));
            if let Some(snapshot) = spec["source"]["detached"].as_str() {
                let detached = condition("Ready", "False", "Detached", object);
                let status =
                    json!({"phase": "Detached", "detachedTo": name, "slot": null, "conditions": [detached]});
                server.merge("mirrorsnapshots", snapshot, &json!({"status": status}));
            }
        }
        Act::Obey | Act::MergeSlowly if changes(object) => tell(as_asked(server, resource, object)),
        Act::Obey | Act::MergeSlowly | Act::Refuse(_) => {}
    }
}

fn bytes(value: &Value) -> u64 {
    let size: Size = value.as_str().expect("a size").parse().expect("a size");
    size.0.0
}

fn grows(object: &Value) -> bool {
    object["spec"]["size"].is_string() && bytes(&object["spec"]["size"]) > bytes(&object["status"]["size"])
}

/// Whether a volume is asked for something that its node has not looked at yet.
fn changes(object: &Value) -> bool {
    object["kind"] == "MirrorVolume"
        && object["status"]["observedGeneration"] != object["metadata"]["generation"]
}

fn condition(of: &str, status: &str, reason: &str, object: &Value) -> Value {
    json!({"type": of, "status": status, "reason": reason, "message": "as the script says",
           "observedGeneration": object["metadata"]["generation"], "lastTransitionTime": CUT})
}

/// The status of what is made as it is asked for.
fn as_asked(server: &ApiServer, resource: &str, object: &Value) -> Value {
    let ready = condition("Ready", "True", "Active", object);
    if resource == "mirrorvolumes" {
        let size = bytes(&object["spec"]["size"]).next_multiple_of(EXTENT);
        let generation = &object["metadata"]["generation"];
        return json!({"phase": "Ready", "size": Size(Bytes(size)), "sync": Percent::ALL, "conditions": [ready],
                      "observedGeneration": generation});
    }
    let volume = object["spec"]["volume"].as_str().expect("named");
    let volume = server.get("mirrorvolumes", volume).expect("a snapshot is of a volume");
    json!({"phase": "Ready", "size": volume["status"]["size"], "slot": 2, "cutTime": CUT, "conditions": [ready]})
}
