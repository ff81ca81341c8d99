//! What each component may do: exactly this, by function.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::helm::{ALL, BLOCKS, MINIMAL, NAME, render};
use crate::objects::{list, object, of_kind, text, texts};

/// Resource in its group (and, behind a blank, the only object) → verbs.
type Rules = BTreeMap<String, Vec<String>>;

fn rules(role: &Value) -> Rules {
    let mut rules = Rules::new();
    for rule in list(&role["rules"]) {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let mut names = texts(&rule["resourceNames"]);
                if names.is_empty() {
                    names.push("");
                }
                for name in names {
                    let key = format!("{resource}.{group} {name}");
                    let verbs = texts(&rule["verbs"]).into_iter().map(str::to_owned).collect();
                    let twice = rules.insert(key.trim_end_matches([' ', '.']).to_owned(), verbs);
                    assert_eq!(twice, None, "{key} has two rules");
                }
            }
        }
    }
    rules
}

fn expected(rules: &[(&str, &str)]) -> Rules {
    let verbs = |verbs: &str| verbs.split(' ').map(str::to_owned).collect();
    rules.iter().map(|(what, may)| ((*what).to_owned(), verbs(may))).collect()
}

fn cluster_rules(function: &str) -> Rules {
    rules(object(&render(""), "ClusterRole", &format!("{NAME}-{function}")))
}

fn own_rules(function: &str) -> Rules {
    rules(object(&render(""), "Role", &format!("{NAME}-{function}")))
}

#[test]
fn no_rule_has_a_wildcard() {
    for values in ALL {
        let objects = render(values);
        for role in of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role")) {
            for rule in list(&role["rules"]) {
                assert!(!rule.to_string().contains('*'), "{rule}");
            }
        }
    }
}

#[test]
fn the_controller_asks_and_the_nodes_answer() {
    let controller = expected(&[
        ("mirrorpools.splitmirror.io", "get list watch"),
        ("mirrorvolumes.splitmirror.io", "get list watch create patch delete"),
        ("mirrorsnapshots.splitmirror.io", "get list watch create patch delete"),
        ("volumerollbacks.splitmirror.io", "get list watch"),
        ("volumerollbacks/status.splitmirror.io", "patch"),
        ("persistentvolumeclaims", "get"),
        ("persistentvolumes", "get"),
        ("volumesnapshots.snapshot.storage.k8s.io", "get"),
        ("volumesnapshotcontents.snapshot.storage.k8s.io", "get"),
        ("nodes", "get list watch"),
        ("events.events.k8s.io", "create patch"),
    ]);
    assert_eq!(cluster_rules("controller"), controller);
    let node = expected(&[
        ("mirrorpools.splitmirror.io", "get list watch create patch delete"),
        ("mirrorvolumes.splitmirror.io", "get list watch create patch delete"),
        ("mirrorsnapshots.splitmirror.io", "get list watch create patch delete"),
        ("mirrorpools/status.splitmirror.io", "patch"),
        ("mirrorvolumes/status.splitmirror.io", "patch"),
        ("mirrorsnapshots/status.splitmirror.io", "patch"),
        ("events.events.k8s.io", "create patch"),
    ]);
    assert_eq!(cluster_rules("node"), node);
    assert_eq!(own_rules("node"), expected(&[("leases.coordination.k8s.io", "get create update")]));
}

#[test]
fn the_provisioner_has_what_it_needs() {
    let cluster = expected(&[
        ("persistentvolumes", "get list watch create patch delete"),
        ("persistentvolumeclaims", "get list watch update"),
        ("storageclasses.storage.k8s.io", "get list watch"),
        ("csinodes.storage.k8s.io", "get list watch"),
        ("volumeattributesclasses.storage.k8s.io", "get list watch"),
        ("nodes", "get list watch"),
        ("events", "create patch"),
        ("volumesnapshots.snapshot.storage.k8s.io", "get list watch update"),
        ("volumesnapshotcontents.snapshot.storage.k8s.io", "get list"),
    ]);
    assert_eq!(cluster_rules("provisioner"), cluster);
    let own = expected(&[
        ("leases.coordination.k8s.io", "create"),
        ("leases.coordination.k8s.io splitmirror-io", "get update"),
        ("csistoragecapacities.storage.k8s.io", "get list watch create update delete"),
        ("pods", "get"),
        ("replicasets.apps", "get"),
    ]);
    assert_eq!(own_rules("provisioner"), own);
}

#[test]
fn the_snapshotter_has_what_it_needs() {
    let cluster = expected(&[
        ("volumesnapshotclasses.snapshot.storage.k8s.io", "get list watch"),
        ("volumesnapshotcontents.snapshot.storage.k8s.io", "get list watch update patch"),
        ("volumesnapshotcontents/status.snapshot.storage.k8s.io", "update patch"),
        ("events", "create patch"),
    ]);
    assert_eq!(cluster_rules("snapshotter"), cluster);
    let own = expected(&[
        ("leases.coordination.k8s.io", "create"),
        ("leases.coordination.k8s.io external-snapshotter-leader-splitmirror-io", "get update"),
    ]);
    assert_eq!(own_rules("snapshotter"), own);
}

#[test]
fn the_snapshotter_has_what_it_needs_for_groups_where_they_are_asked_for() {
    let objects = render("snapshots: {groups: true}");
    let rules = rules(object(&objects, "ClusterRole", "splitmirror-snapshotter"));
    for (what, verbs) in expected(&[
        ("volumegroupsnapshotclasses.groupsnapshot.storage.k8s.io", "get list watch"),
        ("volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io", "get list watch update patch"),
        ("volumegroupsnapshotcontents/status.groupsnapshot.storage.k8s.io", "update patch"),
    ]) {
        assert_eq!(rules.get(&what), Some(&verbs), "{what}");
    }
}

#[test]
fn whoever_tells_blocks_may_know_who_asks() {
    let objects = render(BLOCKS);
    let sidecar = expected(&[
        ("snapshotmetadataservices.cbt.storage.k8s.io", "get"),
        ("tokenreviews.authentication.k8s.io", "create"),
        ("subjectaccessreviews.authorization.k8s.io", "create"),
        ("volumesnapshots.snapshot.storage.k8s.io", "get"),
        ("volumesnapshotcontents.snapshot.storage.k8s.io", "get"),
        ("volumesnapshotclasses.snapshot.storage.k8s.io", "get list"),
    ]);
    assert_eq!(rules(object(&objects, "ClusterRole", "splitmirror-snapshot-metadata")), sidecar);
    let node = rules(object(&objects, "ClusterRole", "splitmirror-node"));
    assert_eq!(node["tokenreviews.authentication.k8s.io"], ["create"]);
}

#[test]
fn the_resizer_has_what_it_needs() {
    let cluster = expected(&[
        ("persistentvolumes", "get list watch patch"),
        ("persistentvolumeclaims", "get list watch"),
        ("persistentvolumeclaims/status", "patch"),
        ("volumeattributesclasses.storage.k8s.io", "get list watch"),
        ("events", "create patch"),
    ]);
    assert_eq!(cluster_rules("resizer"), cluster);
    let own = expected(&[
        ("leases.coordination.k8s.io", "create"),
        ("leases.coordination.k8s.io external-resizer-splitmirror-io", "get update"),
    ]);
    assert_eq!(own_rules("resizer"), own);
}

#[test]
fn what_is_switched_off_has_no_rights() {
    let objects = render(MINIMAL);
    assert!(!objects.iter().any(|object| object["metadata"]["name"] == "splitmirror-snapshotter"));
    let provisioner = rules(object(&objects, "ClusterRole", "splitmirror-provisioner"));
    assert!(!provisioner.keys().any(|what| what.contains("snapshot")), "{provisioner:?}");
    let own = rules(object(&objects, "Role", "splitmirror-provisioner"));
    assert!(own.keys().all(|what| what.starts_with("leases")), "{own:?}");
}

/// Whether a role is part of those that a cluster gives its users, and so bound by them.
fn is_of_users(role: &Value) -> bool {
    role["metadata"]["labels"].to_string().contains("rbac.authorization.k8s.io/aggregate-to-")
}

#[test]
fn users_put_back_what_they_may_change_and_see_what_they_may_see() {
    let verbs = |verbs| expected(&[("volumerollbacks.splitmirror.io", verbs)]);
    assert_eq!(cluster_rules("rollbacks"), verbs("get list watch create delete deletecollection"));
    assert_eq!(cluster_rules("rollbacks-view"), verbs("get list watch"));
    let objects = render("");
    for (role, of) in [("rollbacks", "edit"), ("rollbacks", "admin"), ("rollbacks-view", "view")] {
        let role = object(&objects, "ClusterRole", &format!("{NAME}-{role}"));
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{of}");
        assert_eq!(role["metadata"]["labels"][label], "true");
    }
    assert!(!of_kind(&render(MINIMAL), "ClusterRole").into_iter().any(is_of_users));
}

#[test]
fn every_role_is_bound_to_the_account_of_its_component_only() {
    for values in ALL {
        let objects = render(values);
        let accounts = of_kind(&objects, "ServiceAccount");
        for (role, binding) in [("ClusterRole", "ClusterRoleBinding"), ("Role", "RoleBinding")] {
            let (mut roles, bindings) = (of_kind(&objects, role), of_kind(&objects, binding));
            roles.retain(|role| !is_of_users(role));
            assert_eq!(roles.len(), bindings.len());
            for role in roles {
                let name = &role["metadata"]["name"];
                let component = &role["metadata"]["labels"]["app.kubernetes.io/component"];
                let bound = object(&objects, binding, text(name));
                assert_eq!(bound["roleRef"]["name"], *name);
                let [subject] = list(&bound["subjects"]) else { panic!("{bound} binds several") };
                assert_eq!(subject["name"], format!("{NAME}-{}", text(component)));
                assert_eq!(subject["namespace"], NAME);
                assert!(accounts.iter().any(|account| account["metadata"]["name"] == subject["name"]));
            }
        }
    }
}
