//! The driver as a user has it: installed by its chart, used through claims, snapshots and `kubectl`.
//!
//! It is installed once, in a namespace of its own, with the same pool on every node; each scenario uses its own claims.

mod attributes;
mod blocks;
mod clones;
mod deaths;
mod detached;
mod disasters;
mod everyday;
mod groups;
mod grow;
mod refusals;
mod rights;
mod user;

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::bed::{Bed, until};
use crate::kubectl::{Namespace, Object, PATIENCE, SCENARIO, cluster, condition, is_ready};
use crate::node::Node;
use crate::{Outcome, Scenario};

/// Where it is installed.
const NAMESPACE: &str = "splitmirror";
/// The volume group on every node.
const POOL: &str = "fast";
/// Its CSI name, and its provisioner's in a StorageClass.
const DRIVER: &str = "splitmirror.io";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/splitmirror");
/// The VolumeSnapshotClass by which an image is added for a snapshot.
const GROW: &str = "splitmirror-grow";
/// What the chart's objects carry.
const LABEL: &str = "app.kubernetes.io/name=splitmirror";
/// Takes all that stands on them away from a node's disks. `wipefs` would leave most of a label.
const BLANK: &str = "
export DM_DISABLE_UDEV=1
dmsetup remove_all --force
for disk; do dd if=/dev/zero of=$disk bs=1M count=2 conv=fsync; done";

/// One of them.
const fn scenario(name: &'static str, run: fn(&Namespace) -> Outcome) -> Scenario {
    Scenario { name, timeout: 900, run }
}

/// All of them. Those that throw away much come last.
pub const SCENARIOS: [Scenario; 26] = [
    scenario("the_chart_is_taken_by_the_api_server", everyday::the_chart_is_taken_by_the_api_server),
    scenario(
        "a_claim_is_snapshotted_viewed_merged_and_grown",
        everyday::a_claim_is_snapshotted_viewed_merged_and_grown,
    ),
    scenario("a_claim_is_put_back_to_its_snapshot", everyday::a_claim_is_put_back_to_its_snapshot),
    scenario("kubectl_tells_what_becomes_of_a_claim", everyday::kubectl_tells_what_becomes_of_a_claim),
    scenario(
        "capacity_follows_what_is_left_on_each_node",
        everyday::capacity_follows_what_is_left_on_each_node,
    ),
    scenario(
        "two_snapshots_show_their_instants_and_a_third_is_refused",
        everyday::two_snapshots_show_their_instants_and_a_third_is_refused,
    ),
    scenario(
        "a_database_goes_on_while_its_volume_is_split_and_merged",
        everyday::a_database_goes_on_while_its_volume_is_split_and_merged,
    ),
    scenario(
        "claims_are_cloned_and_used_while_they_are_filled",
        clones::claims_are_cloned_and_used_while_they_are_filled,
    ),
    scenario(
        "a_claim_is_changed_by_its_attributes_class",
        attributes::a_claim_is_changed_by_its_attributes_class,
    ),
    scenario(
        "a_volume_of_two_images_keeps_both_while_its_snapshot_lives",
        grow::a_volume_of_two_images_keeps_both_while_its_snapshot_lives,
    ),
    scenario("a_snapshot_becomes_a_claim_of_its_own", detached::a_snapshot_becomes_a_claim_of_its_own),
    scenario(
        "images_of_a_volume_become_a_claim_of_their_own",
        detached::images_of_a_volume_become_a_claim_of_their_own,
    ),
    scenario("two_volumes_are_cut_at_one_instant", groups::two_volumes_are_cut_at_one_instant),
    scenario(
        "a_backup_copies_what_has_changed_and_no_more",
        blocks::a_backup_copies_what_has_changed_and_no_more,
    ),
    scenario("classes_that_ask_for_nonsense_are_told_so", refusals::classes),
    scenario("snapshots_that_cannot_be_are_told_so", refusals::snapshots),
    scenario("what_is_edited_by_hand_does_no_harm", refusals::edits),
    scenario("a_pool_leaves_disks_alone_that_are_in_use", refusals::pools),
    scenario("an_agent_of_anothers_name_gets_nowhere", refusals::impostor),
    scenario("an_agents_token_is_good_for_its_own_node_only", rights::cheating),
    scenario(
        "an_agent_killed_in_mid_split_or_merge_finishes_it",
        deaths::an_agent_killed_in_mid_split_or_merge_finishes_it,
    ),
    scenario(
        "a_controller_killed_before_its_answer_is_not_missed",
        deaths::a_controller_killed_before_its_answer_is_not_missed,
    ),
    scenario("two_controllers_are_as_good_as_one", deaths::two_controllers_are_as_good_as_one),
    scenario("a_merge_goes_on_without_an_api_server", disasters::a_merge_goes_on_without_an_api_server),
    scenario(
        "a_power_cut_and_hand_deleted_objects_lose_nothing",
        disasters::a_power_cut_and_hand_deleted_objects_lose_nothing,
    ),
    scenario(
        "a_lost_etcd_loses_no_volume_and_no_snapshot",
        disasters::a_lost_etcd_loses_no_volume_and_no_snapshot,
    ),
];

/// Whether this process has installed it.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// The driver, installed on blank disks by the first who asks, and all of it ready.
fn ready(bed: &Namespace) -> Outcome {
    let mut installed = INSTALLED.lock().map_err(|_| "a scenario before this one has panicked")?;
    if !*installed {
        uninstall(bed)?;
        for node in bed.nodes() {
            node.sh(&format!("set -- {}\n{BLANK}", node.disks().join(" ")))?;
        }
        install(bed)?;
        *installed = true;
    }
    all_ready(bed)
}

/// Installs the chart, with what is on the disks.
fn install(bed: &Bed) -> Outcome {
    let classes = json!([
        { "name": "splitmirror", "parameters": { "splitmirror.io/minInSync": "1" } },
        { "name": "splitmirror-safe", "parameters": { "splitmirror.io/minInSync": "3" } },
        { "name": GROW, "parameters": { "splitmirror.io/snapshotPolicy": "grow" } },
    ]);
    let (classes, values) = (format!("volumeSnapshotClasses={classes}"), bed.values().display().to_string());
    let certificate = blocks::certificate(bed)?;
    let known_by = format!("snapshotMetadata.caCert={}", certificate.display());
    let blocks = format!("snapshotMetadata.enabled=true,snapshotMetadata.tlsSecret={}", blocks::SECRET);
    let install = ["install", "splitmirror", CHART, "--namespace", NAMESPACE, "--create-namespace"];
    let more = ["--values", &values, "--set-json", &classes, "--wait", "--timeout=180s"];
    let told = ["--set", &blocks, "--set-file", &known_by];
    bed.kubectl().helm(&[&install[..], &more, &told].concat()).map(drop)
}

/// Removes what an earlier run has left: first who uses the driver, then the driver.
fn uninstall(bed: &Namespace) -> Outcome {
    let own = format!("--field-selector=metadata.name!={}", bed.name());
    bed.kubectl().run_long(&["delete", "namespaces", "--selector", SCENARIO, &own, "--timeout=120s"])?;
    let uninstall = ["uninstall", "splitmirror", "--namespace", NAMESPACE, "--ignore-not-found"];
    bed.kubectl().helm(&[&uninstall[..], &["--wait", "--timeout=90s"]].concat())?;
    // The agents' pods go after their DaemonSet. As long as one runs it mends what is wiped.
    until("no pod is left of it", PATIENCE, || {
        let pods = bed.kubectl().run(&["get", "pods", "--namespace", NAMESPACE, "--selector", LABEL])?;
        Ok(pods.trim().is_empty().then_some(()))
    })?;
    // With all objects. What is on the disks is blanked.
    bed.kubectl().run(&["delete", "crd", "--selector", LABEL, "--ignore-not-found"]).map(drop)
}

/// Waits until the controller answers, and every node's pool is open.
fn all_ready(bed: &Bed) -> Outcome {
    let controller = ours("deployment", "splitmirror-controller");
    bed.kubectl().wait(controller, "available", |seen| condition(seen, "Available") == Some("True"))?;
    let agents = ours("daemonset", "splitmirror-node");
    let count = bed.nodes().len();
    bed.kubectl().wait(agents, "on all nodes", |seen| seen["status"]["numberReady"] == count)?;
    for node in bed.nodes() {
        let name = pool_of(node);
        bed.kubectl().wait(cluster("mirrorpool", &name), "Ready", is_ready)?;
    }
    Ok(())
}

/// An object of the chart's.
fn ours<'a>(kind: &'a str, name: &'a str) -> Object<'a> {
    Object { kind, namespace: Some(NAMESPACE), name }
}

/// A node's MirrorPool.
fn pool_of(node: &Node) -> String {
    format!("{}.{POOL}", node.name())
}

/// The pod of the driver on a node.
fn agent_on(bed: &Bed, node: &str) -> Outcome<String> {
    let selector = format!("{LABEL},app.kubernetes.io/component=node");
    let on_node = format!("--field-selector=spec.nodeName={node},status.phase=Running");
    let name = "--output=jsonpath={.items[*].metadata.name}";
    let args = ["get", "pods", "--namespace", NAMESPACE, "--selector", &selector, &on_node, name];
    until("an agent runs there", PATIENCE, || {
        let names = bed.kubectl().run(&args)?;
        Ok(names.split_whitespace().next().map(str::to_owned))
    })
}

/// Prints what the driver has said, and what becomes of its objects.
pub fn show(bed: &Bed) {
    let logs = ["logs", "--namespace", NAMESPACE, "--selector", LABEL, "--all-containers", "--prefix"];
    for args in [
        vec!["get", "splitmirror", "--output=wide"],
        vec!["get", "volumesnapshotcontents", "--output=yaml"],
        vec!["get", "events", "--namespace=default"],
        [&logs[..], &["--tail=60"]].concat(),
        [&logs[..], &["--tail=60", "--previous"]].concat(),
    ] {
        println!("$ kubectl {}", args.join(" "));
        match bed.kubectl().run(&args) {
            Ok(text) | Err(text) => println!("{text}"),
        }
    }
}

/// Whether it is so.
fn that(what: &str, holds: bool, seen: impl std::fmt::Debug) -> Outcome {
    if holds { Ok(()) } else { Err(format!("{what}: it does not hold: {seen:?}")) }
}

/// An answer as it should be.
fn equal<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, expected: T) -> Outcome {
    if seen == expected { Ok(()) } else { Err(format!("{what}: {seen:?} instead of {expected:?}")) }
}

/// A field that is text.
fn text(value: &Value) -> Outcome<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} is no text"))
}
