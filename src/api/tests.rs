//! What the definitions must have so that an API server takes them, and what their rules admit.

use kube_cel::Validator;
use serde_json::{Value, json};

use crate::api::conditions::{self, Judgement, Type};
use crate::api::{MirrorPool, MirrorSnapshot, MirrorVolume, crd};

fn definition(kind: &str) -> Value {
    crd::all().into_iter().find(|crd| crd["spec"]["names"]["kind"] == kind).expect("it is one of ours")
}

fn schema(kind: &str) -> Value {
    definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `check` with each schema below `schema`, itself first, and with its path.
fn walk(path: &str, schema: &Value, check: &mut dyn FnMut(&str, &Value)) {
    check(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, check);
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, check);
    }
}

fn walk_all(check: &mut dyn FnMut(&str, &Value)) {
    for kind in ["MirrorPool", "MirrorSnapshot", "MirrorVolume"] {
        walk(kind, &schema(kind), check);
    }
}

#[test]
fn schemas_are_structural() {
    walk_all(&mut |path, schema| {
        assert!(schema["type"].is_string(), "{path} has no type");
        for keyword in [
            "$ref",
            "anyOf",
            "oneOf",
            "allOf",
            "not",
            "nullable",
            "additionalProperties",
            "uniqueItems",
            "definitions",
        ] {
            assert!(schema.get(keyword).is_none(), "{path} has {keyword}");
        }
    });
}

#[test]
fn every_field_is_described_in_a_sentence() {
    walk_all(&mut |path, schema| {
        // What is in a list is described with the list.
        if path.ends_with("[]") || path.ends_with(".status") || path.ends_with(".spec") {
            return;
        }
        let text = schema["description"].as_str().unwrap_or_default();
        assert!(text.ends_with('.') && !text.contains('\n') && text.len() < 240, "{path}: {text:?}");
    });
}

#[test]
fn lists_say_how_they_are_merged() {
    let mut lists = 0;
    walk_all(&mut |path, schema| {
        if schema["type"] != "array" || path.ends_with(".problems") {
            return;
        }
        lists += 1;
        let kind = schema["x-kubernetes-list-type"].as_str();
        match kind {
            Some("set") => assert_eq!(schema["items"]["type"], "string", "{path}"),
            Some("map") => {
                let key = schema["x-kubernetes-list-map-keys"][0].as_str().expect("a map has keys");
                let required = schema["items"]["required"].as_array().expect("a key is required");
                assert!(required.contains(&json!(key)), "{path}: {key} can be absent");
            }
            other => panic!("{path} is merged as {other:?}"),
        }
    });
    assert_eq!(lists, 10);
}

#[test]
fn optional_fields_are_optional() {
    let required = |kind: &str, part: &str| schema(kind)["properties"][part]["required"].clone();
    assert_eq!(required("MirrorPool", "spec"), json!(["node", "volumeGroup"]));
    assert_eq!(required("MirrorPool", "status"), Value::Null);
    assert_eq!(required("MirrorVolume", "spec"), json!(["node", "pool", "size"]));
    assert_eq!(required("MirrorVolume", "status"), json!(["phase"]));
    assert_eq!(required("MirrorSnapshot", "spec"), json!(["key", "minInSync", "node", "pool", "volume"]));
    assert_eq!(required("MirrorSnapshot", "status"), json!(["phase"]));
}

#[test]
fn objects_are_cluster_scoped_and_found_by_node_and_by_short_names() {
    for (kind, short) in [("MirrorPool", "smp"), ("MirrorSnapshot", "sms"), ("MirrorVolume", "smv")] {
        let crd = definition(kind);
        let (spec, version) = (&crd["spec"], &crd["spec"]["versions"][0]);
        assert_eq!(spec["scope"], "Cluster");
        assert_eq!(spec["names"]["shortNames"], json!([short]));
        assert_eq!(spec["names"]["categories"], json!(["splitmirror"]));
        assert_eq!(version["selectableFields"], json!([{"jsonPath": ".spec.node"}]));
        assert_eq!(version["subresources"], json!({"status": {}}));
    }
}

#[test]
fn columns_tell_the_story() {
    let columns = |kind: &str| -> Vec<String> {
        let columns = &definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"];
        let shown = columns
            .as_array()
            .expect("there are some")
            .iter()
            .filter(|column| column.get("priority").is_none());
        shown.map(|column| column["name"].as_str().expect("named").to_uppercase()).collect()
    };
    assert_eq!(
        columns("MirrorPool"),
        ["NODE", "VG", "SIZE", "FREE", "DISKS", "MISSING", "VOLUMES", "READY", "AGE"]
    );
    assert_eq!(columns("MirrorSnapshot"), ["VOLUME", "SLOT", "PHASE", "CHANGED", "MERGE", "CUT", "AGE"]);
    assert_eq!(
        columns("MirrorVolume"),
        ["NODE", "POOL", "SIZE", "IMAGES", "IN-SYNC", "SPLIT", "SYNC", "PHASE", "AGE"]
    );
}

#[test]
fn definitions_are_written_and_read_back_as_yaml() {
    let text = crd::yaml();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    assert_eq!(documents, crd::all());
    assert!(text.lines().all(|line| line.trim_end() == line));
}

fn volume() -> Value {
    json!({"metadata": {"name": "pvc-1"}, "spec": {
        "node": "a", "pool": "fast", "lv": "pvc-1", "name": "pvc-1", "size": "10Gi", "images": 3, "regionSize": "2Mi",
    }})
}

fn view() -> Value {
    json!({"metadata": {"name": "pvc-2"}, "spec": {
        "node": "a", "pool": "fast", "name": "pvc-2", "size": "10Gi", "source": {"snapshot": "s"},
    }})
}

fn clone() -> Value {
    with(volume(), &[("/spec/source", json!({"volume": "pvc-2"}))])
}

fn snapshot() -> Value {
    json!({"metadata": {"name": "s"}, "spec": {
        "node": "a", "pool": "fast", "volume": "pvc-1", "key": "s", "minInSync": 1,
    }})
}

fn pool() -> Value {
    json!({"metadata": {"name": "a.fast"}, "spec": {
        "node": "a", "volumeGroup": "fast", "devices": ["/dev/sdb"], "extentSize": "4Mi",
    }})
}

fn with(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = object.pointer_mut(parent).expect("it is there").as_object_mut().expect("an object");
        match value {
            Value::Null => parent.remove(key),
            value => parent.insert(key.to_owned(), value.clone()),
        };
    }
    object
}

fn admits(kind: &str, new: &Value, old: Option<&Value>) -> Result<(), String> {
    Validator::new().validate(&schema(kind), new, old).map_err(|errors| errors.to_string())
}

/// Whether an update that makes these changes is admitted.
fn allows(kind: &str, old: &Value, changes: &[(&str, Value)]) -> Result<(), String> {
    admits(kind, &with(old.clone(), changes), Some(old))
}

#[test]
fn what_is_decided_once_is_immutable() {
    let volume_fields = [
        ("/spec/node", json!("b")),
        ("/spec/pool", json!("slow")),
        ("/spec/lv", json!("x")),
        ("/spec/name", json!("x")),
        ("/spec/name", Value::Null),
        ("/spec/images", Value::Null),
        ("/spec/regionSize", Value::Null),
    ];
    for change in volume_fields {
        assert!(allows("MirrorVolume", &volume(), std::slice::from_ref(&change)).is_err(), "{change:?}");
    }
    for object in [view(), clone()] {
        assert!(allows("MirrorVolume", &object, &[("/spec/source", json!({"snapshot": "t"}))]).is_err());
        assert!(allows("MirrorVolume", &object, &[("/spec/source", Value::Null)]).is_err());
    }
    assert!(allows("MirrorVolume", &volume(), &[("/spec/source", json!({"snapshot": "t"}))]).is_err());
    for (field, value) in [
        ("node", json!("b")),
        ("pool", json!("x")),
        ("volume", json!("x")),
        ("key", json!("x")),
        ("minInSync", json!(2)),
        ("policy", json!("grow")),
    ] {
        assert!(
            allows("MirrorSnapshot", &snapshot(), &[(&format!("/spec/{field}"), value)]).is_err(),
            "{field}"
        );
    }
    assert!(allows("MirrorSnapshot", &snapshot(), &[("/spec/name", json!("x"))]).is_err());
    for (field, value) in [("node", json!("b")), ("volumeGroup", json!("x")), ("extentSize", Value::Null)] {
        assert!(allows("MirrorPool", &pool(), &[(&format!("/spec/{field}"), value)]).is_err(), "{field}");
    }
    assert_eq!(allows("MirrorVolume", &volume(), &[("/spec/regionSize", json!("4Mi"))]), Ok(()));
    assert_eq!(allows("MirrorPool", &pool(), &[("/spec/devices", json!(["/dev/sdb", "/dev/sdc"]))]), Ok(()));
    assert_eq!(
        allows("MirrorVolume", &volume(), &[("/spec/claim", json!({"namespace": "n", "name": "c"}))]),
        Ok(())
    );
}

#[test]
fn images_rates_and_what_reads_avoid_can_be_changed() {
    for (field, value) in [
        ("images", json!(2)),
        ("minRecoveryRate", json!(1)),
        ("maxRecoveryRate", json!(1)),
        ("writeMostly", json!("rotational")),
    ] {
        let change = [(&*format!("/spec/{field}"), value)];
        assert_eq!(allows("MirrorVolume", &volume(), &change), Ok(()), "{field}");
    }
    assert!(allows("MirrorVolume", &view(), &[("/spec/writeMostly", json!("none"))]).is_err());
}

#[test]
fn a_volume_grows_and_shrinks_only_back_to_what_it_has() {
    let size = |size: &str| [("/spec/size", json!(size))];
    assert_eq!(allows("MirrorVolume", &volume(), &size("11Gi")), Ok(()));
    assert!(allows("MirrorVolume", &volume(), &size("9Gi")).is_err());
    let grown = with(volume(), &[("/status", json!({"phase": "Ready", "size": "8Gi"}))]);
    assert_eq!(allows("MirrorVolume", &grown, &size("8Gi")), Ok(()));
    assert!(allows("MirrorVolume", &grown, &size("8191Mi")).is_err());
    assert!(allows("MirrorVolume", &volume(), &size("2Ei")).is_err());
    assert!(allows("MirrorVolume", &volume(), &[("/spec/limit", json!("9Gi"))]).is_err());
}

#[test]
fn a_volume_is_mirrored_or_a_view_and_a_mirrored_one_may_have_one_source() {
    let of = |source: Value| with(volume(), &[("/spec/source", source)]);
    for volume in [
        volume(),
        view(),
        clone(),
        of(json!({"snapshot": "s"})),
        of(json!({"detached": "s"})),
        of(json!({"images": "pvc-1"})),
    ] {
        assert_eq!(admits("MirrorVolume", &volume, None), Ok(()), "{volume}");
        let read: MirrorVolume = serde_json::from_value(volume.clone()).expect("readable");
        assert_eq!(serde_json::to_value(&read.spec).expect("plain data"), volume["spec"]);
    }
    for source in [json!({"volume": "pvc-1"}), json!({"detached": "s"}), json!({"images": "pvc-1"})] {
        let other = with(view(), &[("/spec/source", source)]);
        assert!(admits("MirrorVolume", &other, None).is_err(), "a view shows a snapshot: {other}");
    }
    for changes in [
        ("/spec/source", json!({"snapshot": "s", "volume": "pvc-2"})),
        ("/spec/source", json!({"snapshot": "s", "detached": "s"})),
        ("/spec/source", json!({"volume": "pvc-2", "images": "pvc-2"})),
        ("/spec/source", json!({})),
        ("/spec/images", Value::Null),
        ("/spec/regionSize", Value::Null),
        ("/spec/lv", Value::Null),
    ] {
        assert!(
            admits("MirrorVolume", &with(volume(), std::slice::from_ref(&changes)), None).is_err(),
            "{changes:?}"
        );
    }
    let rates = with(volume(), &[("/spec/minRecoveryRate", json!(2)), ("/spec/maxRecoveryRate", json!(1))]);
    assert!(admits("MirrorVolume", &rates, None).is_err());
}

#[test]
fn deletion_is_never_taken_back() {
    for (kind, object) in [("MirrorVolume", volume()), ("MirrorSnapshot", snapshot())] {
        assert_eq!(allows(kind, &object, &[("/spec/delete", json!(true))]), Ok(()));
        let doomed = with(object, &[("/spec/delete", json!(true))]);
        assert!(allows(kind, &doomed, &[("/spec/delete", json!(false))]).is_err(), "{kind}");
        assert!(allows(kind, &doomed, &[("/spec/delete", Value::Null)]).is_err(), "{kind}");
    }
}

#[test]
fn a_merge_and_a_deletion_go_one_way() {
    let status = |phase: &str| [("/status", json!({"phase": phase, "cutTime": "2026-01-01T00:00:00Z"}))];
    let merging = with(snapshot(), &status("Merging"));
    assert!(allows("MirrorSnapshot", &merging, &status("Ready")).is_err());
    assert_eq!(allows("MirrorSnapshot", &with(snapshot(), &status("Ready")), &status("Merging")), Ok(()));
    let cut = [("/status/cutTime", json!("2026-01-01T00:00:01Z"))];
    assert!(allows("MirrorSnapshot", &merging, &cut).is_err());
    let deleting = with(volume(), &status("Deleting"));
    assert!(allows("MirrorVolume", &deleting, &status("Ready")).is_err());
}

#[test]
fn what_is_detached_tells_for_good_what_it_has_become() {
    let status = |status: Value| [("/status", status)];
    let detached = |to: &str| status(json!({"phase": "Detached", "detachedTo": to}));
    let ready = with(snapshot(), &status(json!({"phase": "Ready"})));
    assert_eq!(allows("MirrorSnapshot", &ready, &detached("pvc-2")), Ok(()));
    for half in [json!({"phase": "Detached"}), json!({"phase": "Ready", "detachedTo": "pvc-2"})] {
        assert!(allows("MirrorSnapshot", &ready, &status(half.clone())).is_err(), "{half}");
    }
    let over = with(snapshot(), &detached("pvc-2"));
    assert_eq!(allows("MirrorSnapshot", &over, &[("/spec/delete", json!(true))]), Ok(()));
    for other in [detached("pvc-3"), status(json!({"phase": "Ready"})), status(json!({"phase": "Failed"}))] {
        assert!(allows("MirrorSnapshot", &over, &other).is_err(), "{other:?}");
    }
}

#[test]
fn only_disks_of_the_pool_are_wiped() {
    assert_eq!(admits("MirrorPool", &with(pool(), &[("/spec/wipe", json!(["/dev/sdb"]))]), None), Ok(()));
    assert!(admits("MirrorPool", &with(pool(), &[("/spec/wipe", json!(["/dev/sda"]))]), None).is_err());
}

#[test]
fn objects_are_written_without_what_is_not_there() {
    let volume: MirrorVolume = serde_json::from_value(volume()).expect("readable");
    let written = serde_json::to_value(&volume.spec).expect("plain data");
    assert!(written.get("delete").is_none() && written.get("limit").is_none(), "{written}");
    let snapshot: MirrorSnapshot = serde_json::from_value(snapshot()).expect("readable");
    assert!(!snapshot.spec.delete);
    let pool: MirrorPool = serde_json::from_value(pool()).expect("readable");
    assert!(pool.spec.wipe.is_empty());
}

#[test]
fn conditions_are_written_as_the_schema_wants_them() {
    let mut conditions = Vec::new();
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Default::default());
    for of in [Type::Ready, Type::Degraded, Type::Resized, Type::Modified, Type::Deleted] {
        conditions::set(&mut conditions, Judgement::yes(of, "Reason", ""), Some(1), now.clone());
    }
    let schema = &schema("MirrorVolume")["properties"]["status"]["properties"]["conditions"]["items"];
    for condition in serde_json::to_value(&conditions).expect("plain data").as_array().expect("a list") {
        let names: Vec<&String> = condition.as_object().expect("an object").keys().collect();
        assert!(names.iter().all(|name| schema["properties"].get(name.as_str()).is_some()), "{names:?}");
        assert_eq!(schema["required"].as_array().map(Vec::len), Some(names.len() - 1));
    }
}
