//! The chart with its default values as plain manifests, for `kubectl apply`.

use std::process::Command;

use anyhow::Result;

use super::{CHART, Made};
use crate::cache::Cache;
use crate::{cluster, cmd};

const PATH: &str = "deploy/splitmirror.yaml";

/// Release and namespace.
const NAME: &str = "splitmirror";

const HEAD: &str = "\
# splitmirror as plain manifests: the chart charts/splitmirror with its default values, rendered by `cargo xtask codegen`.
# The CRDs of snapshot.storage.k8s.io must be there before. Pools: edit the ConfigMap, or make MirrorPool objects.
apiVersion: v1
kind: Namespace
metadata:
  name: splitmirror
  labels:
    # The agents work on devices of the host.
    pod-security.kubernetes.io/enforce: privileged
";

/// Labels that would say something untrue: Helm does not look after these objects.
const OF_HELM: [&str; 2] = ["helm.sh/chart: ", "app.kubernetes.io/managed-by: Helm"];

/// Makes it.
pub fn make() -> Result<Vec<Made>> {
    let helm = cluster::clients(&Cache::open()?)?.join("helm");
    let rendered = cmd::stdout(Command::new(helm).args(["template", NAME, CHART, "--namespace", NAME]))?;
    Ok(vec![Made { path: PATH.into(), text: plain(&rendered) }])
}

fn plain(rendered: &str) -> String {
    let mut text = HEAD.to_owned();
    let lines = rendered.lines().map(str::trim_end);
    for line in lines.filter(|line| !OF_HELM.iter().any(|label| line.trim_start().starts_with(label))) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_helm_are_left_out() {
        let rendered = "---\nmetadata:\n  labels:\n    app.kubernetes.io/managed-by: Helm\n    helm.sh/chart: splitmirror-1\n    a: b \n";
        let text = plain(rendered);
        assert_eq!(text.strip_prefix(HEAD), Some("---\nmetadata:\n  labels:\n    a: b\n"));
    }
}
