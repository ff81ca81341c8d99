//! What the project's chart must be told in a bed: which images there are, and which disks.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The volume group that the disks of every node make.
const POOL: &str = "fast";

/// Values of the chart, and the names of their images.
const IMAGES: [(&[&str], &str); 8] = [
    (&["image"], "splitmirror"),
    (&["controller", "provisioner", "image"], "csi-provisioner"),
    (&["controller", "snapshotter", "image"], "csi-snapshotter"),
    (&["controller", "resizer", "image"], "csi-resizer"),
    (&["controller", "snapshotMetadata", "image"], "csi-snapshot-metadata"),
    (&["controller", "livenessProbe", "image"], "livenessprobe"),
    (&["node", "registrar", "image"], "csi-node-driver-registrar"),
    (&["node", "livenessProbe", "image"], "livenessprobe"),
];

/// The values, for nodes with these images and disks. Snapshots may leave one image: users want to have two at once.
pub fn values(images: &[String], disks: &[String]) -> Result<Value> {
    let mut values = json!({
        "pools": [{ "volumeGroup": POOL, "devices": disks }],
        "volumeSnapshotClasses": [{ "name": "splitmirror", "parameters": { "splitmirror.io/minInSync": "1" } }],
        "snapshots": { "groups": true },
        "controller": { "replicas": 1 },
    });
    for (path, name) in IMAGES {
        let named = |image: &&String| {
            let rest = image.rsplit('/').next().and_then(|last| last.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with(':'))
        };
        let image = images.iter().find(named).with_context(|| format!("the bed has no image {name}"))?;
        let Some((repository, tag)) = image.rsplit_once(':') else { bail!("{image} has no tag") };
        let value = path.iter().fold(&mut values, |value, key| &mut value[*key]);
        *value = json!({ "repository": repository, "tag": tag });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_of_the_chart_is_one_of_the_bed() {
        let images: Vec<String> =
            IMAGES.iter().map(|(_, name)| format!("registry.example/{name}:1")).collect();
        let values = values(&images, &["/dev/a".to_owned()]).unwrap();
        assert_eq!(values["controller"]["replicas"], 1);
        assert_eq!(values["controller"]["resizer"]["image"]["repository"], "registry.example/csi-resizer");
        assert_eq!(values["image"], json!({ "repository": "registry.example/splitmirror", "tag": "1" }));
        assert_eq!(values["pools"][0]["devices"], json!(["/dev/a"]));
    }

    #[test]
    fn an_image_that_is_missing_is_named() {
        let error = values(&["localhost/splitmirror:1".to_owned()], &[]).unwrap_err();
        assert!(error.to_string().contains("csi-provisioner"), "{error}");
    }
}
