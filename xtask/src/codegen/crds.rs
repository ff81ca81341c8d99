//! The definitions of the custom resources, one file each, from the types in `src/api/`: what `splitmirror crds` prints.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{CHART, Made};
use crate::cargo::{PACKAGE, cargo};
use crate::cmd;

const HEAD: &str = "# Made of the types in src/api/ by `cargo xtask codegen`.\n";

/// Makes them.
pub fn make() -> Result<Vec<Made>> {
    let printed =
        cmd::stdout(cargo().args(["run", "--quiet", "--package", PACKAGE, "--bin", PACKAGE, "--", "crds"]))?;
    files(&printed)
}

/// One file for each document.
fn files(printed: &str) -> Result<Vec<Made>> {
    let documents = printed.split("---\n").filter(|document| !document.trim().is_empty());
    let made = documents.map(|document| {
        let value: Value = serde_saphyr::from_str(document).context("a definition is no YAML")?;
        let name = value["spec"]["names"]["plural"].as_str().context("a definition has no plural")?;
        let path = Path::new(CHART).join("files/crds").join(format!("{name}.yaml"));
        Ok(Made { path, text: format!("{HEAD}{document}") })
    });
    let made = made.collect::<Result<Vec<_>>>()?;
    if made.is_empty() {
        bail!("`splitmirror crds` printed nothing");
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_definition_has_a_file_of_its_own() {
        let printed = "---\nspec: {names: {plural: as}}\n---\nspec: {names: {plural: bs}}\n";
        let made = files(printed).unwrap();
        let names: Vec<_> = made.iter().map(|made| made.path.file_name().unwrap()).collect();
        assert_eq!(names, ["as.yaml", "bs.yaml"]);
        assert_eq!(made[0].text, format!("{HEAD}spec: {{names: {{plural: as}}}}\n"));
        assert!(files("").is_err());
    }
}
