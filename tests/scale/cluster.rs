//! What the API server must have before agents and controller come: what the chart installs, nodes, tokens.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;

use crate::{Outcome, machine, told};

/// Where the chart puts its accounts and leases.
const NAMESPACE: &str = "splitmirror";
/// The chart, rendered.
const CHART: &str = include_str!("../../deploy/splitmirror.yaml");
/// What of it is needed where there is no kubelet.
const KINDS: &[&str] = &[
    "Namespace",
    "ServiceAccount",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];
/// How long a token lasts: longer than a run.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// The administrator's client.
pub async fn admin() -> Outcome<Client> {
    splitmirror::api::client::connect(None, None).await.map_err(|error| told(&error))
}

/// Installs all of it, for so many nodes.
pub async fn prepare(admin: &Client, nodes: usize) -> Outcome {
    let wanted = |document: &&str| {
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
        kind.is_some_and(|kind| KINDS.contains(&kind))
    };
    let documents: Vec<&str> = CHART.split("\n---\n").filter(wanted).collect();
    kubectl(&["apply", "--server-side", "--filename=-"], &documents.join("\n---\n"))?;
    kubectl(&["apply", "--server-side", "--filename=-"], &crate::echo::definition().to_string())?;
    kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "")?;
    let api = Api::<Node>::all(admin.clone());
    for number in 0..nodes {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": machine::node(number)}});
        let node: Node = serde_json::from_value(node).map_err(|error| told(&error))?;
        api.create(&kube::api::PostParams::default(), &node).await.map_err(|error| told(&error))?;
    }
    Ok(())
}

fn kubectl(args: &[&str], input: &str) -> Outcome {
    let mut kubectl = Command::new("kubectl");
    let child = kubectl.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.map_err(|error| format!("kubectl: {error}"))?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    stdin.write_all(input.as_bytes()).map_err(|error| format!("kubectl: {error}"))?;
    drop(stdin);
    let status = child.wait().map_err(|error| format!("kubectl: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("kubectl {}: {status}", args.join(" "))) }
}

/// The client of a node's agent.
pub async fn agent(admin: &Client, node: &str) -> Outcome<Client> {
    let found = Api::<Node>::all(admin.clone()).get(node).await.map_err(|error| told(&error))?;
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        uid: found.uid(),
    };
    let token = token(admin, "splitmirror-node", Some(bound)).await?;
    let config = Config::from_custom_kubeconfig(kubeconfig(token)?, &KubeConfigOptions::default()).await;
    let config = config.map_err(|error| told(&error))?;
    Client::try_from(config).map_err(|error| told(&error))
}

/// Writes the controller's kubeconfig.
pub async fn controller(admin: &Client, dir: &Path) -> Outcome<PathBuf> {
    let kubeconfig = kubeconfig(token(admin, "splitmirror-controller", None).await?)?;
    let text = serde_json::to_string(&kubeconfig).map_err(|error| told(&error))?;
    let path = dir.join("controller.kubeconfig");
    std::fs::write(&path, text).map_err(|error| told(&error))?;
    Ok(path)
}

async fn token(admin: &Client, account: &str, bound: Option<BoundObjectReference>) -> Outcome<String> {
    let spec = TokenRequestSpec {
        expiration_seconds: Some(TOKEN_SECONDS),
        bound_object_ref: bound,
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts = Api::<ServiceAccount>::namespaced(admin.clone(), NAMESPACE);
    let answer = accounts.create_token_request(account, &kube::api::PostParams::default(), &request).await;
    let answer = answer.map_err(|error| told(&error))?;
    Ok(answer.status.ok_or("no token")?.token)
}

/// The administrator's kubeconfig with another user.
fn kubeconfig(token: String) -> Outcome<Kubeconfig> {
    let path = std::env::var_os("KUBECONFIG").ok_or("KUBECONFIG is not set")?;
    let mut kubeconfig = Kubeconfig::read_from(PathBuf::from(path)).map_err(|error| told(&error))?;
    let user = json!({"token": token});
    let user: AuthInfo = serde_json::from_value(user).map_err(|error| told(&error))?;
    for named in &mut kubeconfig.auth_infos {
        named.auth_info = Some(user.clone());
    }
    for named in &mut kubeconfig.contexts {
        if let Some(context) = &mut named.context {
            context.namespace = Some(NAMESPACE.to_owned());
        }
    }
    Ok(kubeconfig)
}
