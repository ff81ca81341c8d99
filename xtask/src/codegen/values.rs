//! The table of values in the chart's README, from the comments in `values.yaml`.
//!
//! ```yaml
//! # == A section
//! driver:
//!   # -- What the key below is for,
//!   # in as many lines as it takes.
//!   extraArgs: []
//! ```
//!
//! Every default is described exactly once, by a comment at its key or at one above it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{CHART, Made};

const BEGIN: &str = "<!-- values: made from values.yaml by `cargo xtask codegen` -->\n";
const END: &str = "<!-- end of values -->\n";

/// Makes the README with its table.
pub fn make() -> Result<Vec<Made>> {
    let read = |name: &str| {
        let path = Path::new(CHART).join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let table = table(&read("values.yaml")?).context("values.yaml")?;
    let text = replace(&read("README.md")?, &table).context("README.md")?;
    Ok(vec![Made { path: Path::new(CHART).join("README.md"), text }])
}

/// Puts the table between its marks.
fn replace(readme: &str, table: &str) -> Result<String> {
    let (head, rest) = readme.split_once(BEGIN).with_context(|| format!("there is no line {BEGIN}"))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("there is no line {END}"))?;
    Ok(format!("{head}{BEGIN}\n{table}\n{END}{tail}"))
}

/// What a comment says of a key.
#[derive(Debug, Eq, PartialEq)]
struct Described {
    section: String,
    key: Vec<String>,
    text: String,
}

/// One table for each section.
fn table(yaml: &str) -> Result<String> {
    let values: Value = serde_saphyr::from_str(yaml).context("it is no YAML")?;
    let described = described(yaml)?;
    every_default_is_described_once(&values, &described)?;
    let mut text = String::new();
    let mut section = "";
    for Described { section: its, key, text: what } in &described {
        if its != section {
            let space = if section.is_empty() { "" } else { "\n" };
            section = its;
            writeln!(text, "{space}### {section}\n\n| value | what it is | default |\n|---|---|---|")?;
        }
        let default = key.iter().try_fold(&values, |value, name| value.get(name)).unwrap_or(&Value::Null);
        let cell = |text: &str| text.replace('|', "\\|");
        writeln!(text, "| `{}` | {} | `{}` |", key.join("."), cell(what), cell(&default.to_string()))?;
    }
    Ok(text)
}

/// What all comments say, in their order.
fn described(yaml: &str) -> Result<Vec<Described>> {
    let mut found = Vec::new();
    let mut section = String::new();
    // Keys that the current line is below of, with their indentation.
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut comment: Option<String> = None;
    for line in yaml.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(said) = text.strip_prefix('#') {
            let said = said.trim();
            if let Some(title) = said.strip_prefix("== ") {
                title.clone_into(&mut section);
            } else if let Some(first) = said.strip_prefix("-- ") {
                comment = Some(first.to_owned());
            } else if let Some(comment) = &mut comment {
                comment.push(' ');
                comment.push_str(said);
            }
            continue;
        }
        let key = text.split_once(':').map(|(key, _)| key).filter(|key| !key.starts_with('-'));
        let Some(key) = key else {
            if let Some(comment) = comment.take() {
                bail!("there is no key below the comment \"{comment}\"");
            }
            continue;
        };
        above.retain(|(outer, _)| *outer < indent);
        above.push((indent, key.to_owned()));
        if let Some(text) = comment.take() {
            let key = above.iter().map(|(_, key)| key.clone()).collect();
            found.push(Described { section: section.clone(), key, text });
        }
    }
    Ok(found)
}

fn every_default_is_described_once(values: &Value, described: &[Described]) -> Result<()> {
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    walk(values, &mut Vec::new(), described, &mut seen, &mut wrong);
    for Described { key, .. } in described.iter().filter(|described| !seen.contains(&&described.key)) {
        wrong.push(format!("{} is described, but is below another that is, or is not there", key.join(".")));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

fn walk<'a>(
    value: &Value,
    at: &mut Vec<String>,
    described: &'a [Described],
    seen: &mut Vec<&'a Vec<String>>,
    wrong: &mut Vec<String>,
) {
    if let Some(described) = described.iter().find(|described| described.key == *at) {
        seen.push(&described.key);
        return;
    }
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                at.push(key.clone());
                walk(value, at, described, seen, wrong);
                at.pop();
            }
        }
        _ => wrong.push(format!("{} is not described: put a comment `# -- …` above it", at.join("."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "\
# For who reads this.
# == First

# -- The a|b,
# in two lines.
a: []
# a:
#   - b: c
b:
  c:
    # -- Deep.
    d: {e: 1}
# == Second
# -- A list.
list:
  - name: x
    more: z
";

    #[test]
    fn a_section_is_a_table() {
        let expected = "\
### First

| value | what it is | default |
|---|---|---|
| `a` | The a\\|b, in two lines. | `[]` |
| `b.c.d` | Deep. | `{\"e\":1}` |

### Second

| value | what it is | default |
|---|---|---|
| `list` | A list. | `[{\"more\":\"z\",\"name\":\"x\"}]` |
";
        assert_eq!(table(YAML).unwrap(), expected);
    }

    #[test]
    fn a_default_without_description_is_named() {
        let error = format!("{:#}", table(&YAML.replace("# -- Deep.", "# Deep.")).unwrap_err());
        assert!(error.contains("b.c.d.e is not described"), "{error}");
    }

    #[test]
    fn a_default_is_not_described_twice() {
        let error = format!("{:#}", table(&YAML.replace("b:\n  c:", "# -- All.\nb:\n  c:")).unwrap_err());
        assert!(error.contains("b.c.d is described, but"), "{error}");
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let readme = format!("head\n{BEGIN}old\n{END}tail\n");
        assert_eq!(replace(&readme, "new\n").unwrap(), format!("head\n{BEGIN}\nnew\n\n{END}tail\n"));
        assert!(replace("head\n", "new\n").is_err());
    }
}
