//! A whole cluster as it is shown, from `tests/golden/kubectl`.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::volume::SlotState;
use crate::cli::kubectl::model::{self, Scope};
use crate::cli::kubectl::objects::Objects;
use crate::cli::kubectl::render;
use crate::cli::output::json;
use crate::cli::watch;

const CLUSTER: &str = include_str!("../../../tests/golden/kubectl/cluster.json");

fn objects() -> Objects {
    fn read<T: DeserializeOwned>(cluster: &Value, key: &str) -> Vec<T> {
        serde_json::from_value(cluster[key].clone()).expect("objects")
    }
    let cluster: Value = serde_json::from_str(CLUSTER).expect("JSON");
    Objects {
        claims: read(&cluster, "claims"),
        persistent_volumes: read(&cluster, "persistentVolumes"),
        snapshots: read(&cluster, "snapshots"),
        contents: read(&cluster, "contents"),
        mirror_volumes: read(&cluster, "mirrorVolumes"),
        mirror_snapshots: read(&cluster, "mirrorSnapshots"),
    }
}

/// As the watches of one namespace would tell it.
fn of_namespace(namespace: &str) -> (Objects, Scope) {
    let mut objects = objects();
    objects.claims.retain(|claim| claim.metadata.namespace.as_deref() == Some(namespace));
    objects.snapshots.retain(|snapshot| snapshot.metadata.namespace.as_deref() == Some(namespace));
    (objects, Scope { namespace: Some(namespace.to_owned()), claims: Vec::new() })
}

#[test]
fn all_namespaces_are_a_tree_of_claims_volumes_slots_and_snapshots() {
    let claims = model::claims(&objects(), &Scope::default());
    assert_eq!(render::text(&claims), include_str!("../../../tests/golden/kubectl/all.txt"));
}

#[test]
fn a_program_reads_the_same_as_json() {
    let claims = model::claims(&objects(), &Scope::default());
    let text = watch::text(|out| json(out, &claims)).expect("memory");
    assert_eq!(text, include_str!("../../../tests/golden/kubectl/all.json"));
}

#[test]
fn an_image_that_is_there_for_a_snapshot_only_is_told_as_that() {
    let mut objects = objects();
    let statuses = objects.mirror_volumes.iter_mut().filter_map(|volume| volume.status.as_mut());
    let mut slots = statuses.flat_map(|status| &mut status.slots);
    slots.find(|slot| slot.state == SlotState::Split).expect("a snapshot").grown = true;
    let text = render::text(&model::claims(&objects, &Scope::default()));
    let told: Vec<&str> = text.lines().filter(|line| line.ends_with("there for a snapshot only")).collect();
    assert!(matches!(told[..], [line] if line.contains("split off")), "{text}");
}

#[test]
fn one_namespace_shows_its_own_claims_only() {
    let (objects, scope) = of_namespace("web");
    let names: Vec<String> = model::claims(&objects, &scope)
        .iter()
        .map(|claim| claim.claim.as_ref().expect("no volume without a claim").to_string())
        .collect();
    assert_eq!(names, ["web/cache"]);
}

#[test]
fn one_claim_is_shown_by_its_name() {
    let (objects, scope) = of_namespace("db");
    let claims = model::claims(&objects, &Scope { claims: vec!["new".to_owned()], ..scope });
    assert_eq!(render::text(&claims), "db/new: Pending, it has no volume\n");
}

#[test]
fn nothing_to_show_is_said() {
    assert!(render::text(&[]).starts_with("There are no volumes"));
}
