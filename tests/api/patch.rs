//! Patches of JSON values.

use serde_json::{Map, Value};

/// A merge patch (RFC 7386): null removes.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { unreachable!("made an object") };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Lists that are sets: each manager has its own members.
const SETS: [&str; 3] = ["devices", "wipe", "consumers"];

/// Server-side apply: what is in `new` is so; what was in `old`, the same manager's last, and is not in `new`, goes.
pub fn apply(target: &mut Value, old: &Value, new: &Value) {
    let (Value::Object(fields), Value::Object(new)) = (&mut *target, new) else {
        *target = new.clone();
        return;
    };
    let none = Value::Null;
    if let Value::Object(old) = old {
        for (key, was) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
            match fields.get_mut(key) {
                Some(Value::Array(members)) if SETS.contains(&key.as_str()) => apply_set(members, was, &none),
                _ => drop(fields.remove(key)),
            }
        }
    }
    for (key, value) in new {
        let old = old.get(key).unwrap_or(&none);
        match fields.get_mut(key) {
            Some(Value::Array(members)) if SETS.contains(&key.as_str()) => apply_set(members, old, value),
            Some(field) => apply(field, old, value),
            None => {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
}

fn apply_set(members: &mut Vec<Value>, old: &Value, new: &Value) {
    let of = |set: &Value| set.as_array().cloned().unwrap_or_default();
    let (old, new) = (of(old), of(new));
    members.retain(|member| !old.contains(member) || new.contains(member));
    for member in new {
        if !members.contains(&member) {
            members.push(member);
        }
    }
}
