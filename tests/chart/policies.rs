//! What the cluster is asked to see to: admission, disruption, the network, and the CSIDriver object.

use serde_json::{Value, json};

use crate::helm::{EVERYTHING, MINIMAL, render};
use crate::objects::{list, object, of_kind, text, texts};

const NODE: &str = "splitmirror-node.splitmirror.io";
const LEASE: &str = "splitmirror-lease.splitmirror.io";
const DELETE: &str = "splitmirror-delete.splitmirror.io";

#[test]
fn policies_of_admission_are_bound_and_deny() {
    let objects = render("");
    for name in [NODE, LEASE, DELETE] {
        let policy = object(&objects, "ValidatingAdmissionPolicy", name);
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let binding = object(&objects, "ValidatingAdmissionPolicyBinding", name);
        assert_eq!(binding["spec"]["policyName"], name);
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
    }
    assert_eq!(of_kind(&objects, "ValidatingAdmissionPolicy").len(), 3);
    assert_eq!(of_kind(&objects, "ValidatingAdmissionPolicyBinding").len(), 3);
    assert_eq!(of_kind(&render(MINIMAL), "ValidatingAdmissionPolicy").len(), 0);
}

fn matched(policy: &Value) -> (Vec<&str>, Vec<&str>) {
    let [rule] = list(&policy["spec"]["matchConstraints"]["resourceRules"]) else { panic!("one rule") };
    (texts(&rule["operations"]), texts(&rule["resources"]))
}

#[test]
fn nothing_that_an_agent_may_write_escapes_the_policy() {
    let objects = render("");
    let matched: Vec<_> =
        [NODE, LEASE].map(|name| object(&objects, "ValidatingAdmissionPolicy", name)).into();
    let looked_at: Vec<&str> = matched.iter().flat_map(|policy| self::matched(policy).1).collect();
    for policy in matched {
        assert_eq!(self::matched(policy).0, ["CREATE", "UPDATE", "DELETE"]);
    }
    for kind in ["ClusterRole", "Role"] {
        // Events are told, not asked.
        let writes = |rule: &&Value| texts(&rule["resources"]) != ["events"];
        for rule in list(&object(&objects, kind, "splitmirror-node")["rules"]).iter().filter(writes) {
            for resource in texts(&rule["resources"]) {
                assert!(looked_at.contains(&resource), "{resource} may be written, but is not looked at");
            }
        }
    }
}

#[test]
fn policies_name_the_accounts_that_the_pods_have() {
    for (values, prefix) in [("", "splitmirror"), ("fullnameOverride: other", "other")] {
        let objects = render(values);
        for (kind, component, operator, policy) in [
            ("DaemonSet", "node", "==", "node"),
            ("DaemonSet", "node", "==", "lease"),
            ("Deployment", "controller", "!=", "delete"),
        ] {
            let pods = object(&objects, kind, &format!("{prefix}-{component}"));
            let account = text(&pods["spec"]["template"]["spec"]["serviceAccountName"]);
            let policy =
                object(&objects, "ValidatingAdmissionPolicy", &format!("{prefix}-{policy}.splitmirror.io"));
            let condition = &list(&policy["spec"]["matchConditions"])[0]["expression"];
            let user = format!("system:serviceaccount:splitmirror:{account}");
            assert_eq!(*condition, format!("request.userInfo.username {operator} '{user}'"));
        }
    }
}

#[test]
fn the_node_of_a_token_is_asked_of_both_versions_of_an_object() {
    let objects = render("");
    let policy = object(&objects, "ValidatingAdmissionPolicy", NODE);
    let node = text(&policy["spec"]["variables"][0]["expression"]);
    assert!(node.contains("authentication.kubernetes.io/node-name"), "{node}");
    let expressions: Vec<&str> = list(&policy["spec"]["validations"])
        .iter()
        .map(|validation| text(&validation["expression"]))
        .collect();
    let expected = [
        "variables.node != ''",
        "object == null || object.spec.node == variables.node",
        "oldObject == null || oldObject.spec.node == variables.node",
        "object == null || oldObject == null || object.spec == oldObject.spec || request.resource.resource == 'mirrorpools'",
    ];
    assert_eq!(expressions, expected);
}

#[test]
fn the_deletion_of_data_is_looked_at_wherever_it_can_be_asked_for() {
    let objects = render("");
    let (operations, resources) = matched(object(&objects, "ValidatingAdmissionPolicy", DELETE));
    assert_eq!(operations, ["CREATE", "UPDATE"]);
    assert_eq!(resources, ["mirrorvolumes", "mirrorsnapshots"]);
}

#[test]
fn a_disruption_budget_is_made_for_several_replicas_only() {
    for (values, budgets) in [("", 1), ("controller: {replicas: 1}", 0), ("controller: {replicas: 0}", 0)] {
        assert_eq!(of_kind(&render(values), "PodDisruptionBudget").len(), budgets, "{values}");
    }
    let objects = render("");
    let budget = object(&objects, "PodDisruptionBudget", "splitmirror-controller");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let deployment = object(&objects, "Deployment", "splitmirror-controller");
    assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
}

#[test]
fn the_network_policy_lets_in_who_scrapes_and_nobody_else() {
    assert_eq!(of_kind(&render(""), "NetworkPolicy").len(), 0);
    let objects = render(EVERYTHING);
    let policy = &object(&objects, "NetworkPolicy", "splitmirror")["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress"]));
    let [rule, agents, backups] = list(&policy["ingress"]) else { panic!("three rules") };
    assert_eq!(agents["ports"], json!([{"port": "blocks", "protocol": "TCP"}]));
    let controller = json!({
        "app.kubernetes.io/name": "splitmirror",
        "app.kubernetes.io/instance": "splitmirror",
        "app.kubernetes.io/component": "controller",
    });
    assert_eq!(agents["from"], json!([{"podSelector": {"matchLabels": controller}}]));
    assert_eq!(*backups, json!({"ports": [{"port": "backups", "protocol": "TCP"}]}));
    assert_eq!(rule["from"], json!([{"namespaceSelector": {}}]));
    let ports: Vec<&str> = list(&rule["ports"]).iter().map(|port| text(&port["port"])).collect();
    assert_eq!(ports, ["metrics", "provisioner", "resizer", "snapshotter"]);
    let open = render("networkPolicy: {enabled: true}");
    let open = object(&open, "NetworkPolicy", "splitmirror");
    assert_eq!(open["spec"]["ingress"][0].get("from"), None);
    assert_eq!(list(&open["spec"]["ingress"]).len(), 1);
}

#[test]
fn the_cluster_is_told_what_the_driver_can() {
    let objects = render("");
    let driver = object(&objects, "CSIDriver", splitmirror::csi::DRIVER);
    let expected = json!({
        "attachRequired": false,
        "podInfoOnMount": false,
        "storageCapacity": true,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "seLinuxMount": true,
        "volumeLifecycleModes": ["Persistent"],
    });
    assert_eq!(driver["spec"], expected);
}

#[test]
fn definitions_stay_when_the_chart_goes() {
    let objects = render("");
    let definitions = of_kind(&objects, "CustomResourceDefinition");
    assert_eq!(definitions.len(), 4);
    for definition in definitions {
        let policy = &definition["metadata"]["annotations"]["helm.sh/resource-policy"];
        assert_eq!(policy, "keep", "{}", definition["metadata"]["name"]);
    }
    assert_eq!(of_kind(&render(MINIMAL), "CustomResourceDefinition").len(), 0);
}
