//! The CustomResourceDefinitions, as the API server takes them.

use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::{MirrorPool, MirrorSnapshot, MirrorVolume, VolumeRollback};

/// All definitions, in the order of their names.
#[must_use]
pub fn all() -> Vec<Value> {
    vec![
        definition::<MirrorPool>(),
        definition::<MirrorSnapshot>(),
        definition::<MirrorVolume>(),
        definition::<VolumeRollback>(),
    ]
}

/// Comes before each definition.
const HEAD: &str = "# Made from src/api by `cargo xtask codegen`.\n";
/// Longest line of a text that is folded.
const WIDTH: usize = 110;

/// All definitions as YAML documents, as [`all`], each led in by `---`. The same each time.
#[must_use]
pub fn yaml() -> String {
    let options = || {
        let mut options = serde_saphyr::SerializerOptions::default();
        options.folded_wrap_chars = WIDTH;
        options
    };
    let document = |crd: &Value| {
        let text = serde_saphyr::to_string_with_options(crd, options()).expect("plain data");
        format!("---\n{HEAD}{}\n", text.trim_end())
    };
    all().iter().map(document).collect()
}

fn definition<K: CustomResourceExt>() -> Value {
    let mut crd = serde_json::to_value(K::crd()).expect("a definition is plain data");
    tidy(&mut crd);
    crd
}

/// Says what is meant in the API server's words: it warns of number formats that it does not know, writes whole numbers
/// without a fraction, and an absent field is left out, never `null`. Lines of a description are those of the source.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("type") == Some(&Value::from("integer")) && map.contains_key("format") {
                map.insert("format".to_owned(), Value::from("int64"));
            }
            map.retain(|key, value| !(key == "nullable" || (key == "title" && value.is_string())));
            if let Some(Value::String(text)) = map.get_mut("description") {
                let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
                *text = paragraphs.collect::<Vec<_>>().join("\n\n");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            let text = number.to_string();
            if let Some(whole) = text.strip_suffix(".0").and_then(|whole| whole.parse::<i64>().ok()) {
                *number = whole.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
