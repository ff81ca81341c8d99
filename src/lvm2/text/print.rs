//! From nodes to text, in LVM2's own layout.
//!
//! No indentation; an empty line before each inner section, before the end of the group, and at a few keys, so that
//! a group printed here equals, byte for byte, what LVM2 prints of it (`tests/golden/lvm2` holds real ones).

use super::{Node, Value};

/// Lists of pairs, one pair to the line.
const PAIR_LISTS: [&str; 3] = ["stripes", "mirrors", "raids"];

/// Prints nodes.
#[must_use]
pub fn print(nodes: &[Node]) -> String {
    let mut out = String::new();
    print_nodes(&mut out, nodes, 0);
    out
}

fn print_nodes(out: &mut String, nodes: &[Node], depth: usize) {
    let mut previous = None;
    for node in nodes {
        match node {
            Node::Section { name, nodes } => {
                if depth > 0 {
                    out.push('\n');
                }
                out.push_str(name);
                out.push_str(" {\n");
                print_nodes(out, nodes, depth + 1);
                if depth == 0 {
                    print_end_of_group(out, nodes);
                }
                out.push_str("}\n");
            }
            Node::Value { name, value } => {
                if stands_apart(previous, name) {
                    out.push('\n');
                }
                out.push_str(name);
                out.push_str(" = ");
                print_value(out, value, PAIR_LISTS.contains(&name.as_str()));
                out.push('\n');
            }
            Node::Comment(text) => {
                for line in text.split('\n') {
                    out.push('#');
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        previous = node.name();
    }
}

/// LVM2 leaves an empty line before the LVs, be there any or not, and one before the end.
fn print_end_of_group(out: &mut String, nodes: &[Node]) {
    let has = |wanted: &str| nodes.iter().any(|node| node.name() == Some(wanted));
    if has("physical_volumes") {
        out.push_str(if has("logical_volumes") { "\n" } else { "\n\n" });
    }
}

/// Whether LVM2 leaves an empty line before this key.
fn stands_apart(previous: Option<&str>, name: &str) -> bool {
    match name {
        "type" | "stripes" | "mirrors" | "raids" => true,
        "status" => matches!(previous, Some("device" | "device_id_type" | "device_id")),
        "allocation_policy" => previous == Some("max_pv"),
        _ => false,
    }
}

fn print_value(out: &mut String, value: &Value, pairs: bool) {
    match value {
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(number),
        Value::Str(text) => {
            out.push('"');
            for c in text.chars() {
                if matches!(c, '"' | '\\') {
                    out.push('\\');
                }
                out.push(c);
            }
            out.push('"');
        }
        Value::List(values) if pairs => {
            out.push_str("[\n");
            for (index, value) in values.iter().enumerate() {
                print_value(out, value, false);
                let is_last = index + 1 == values.len();
                out.push_str(if is_last {
                    "\n"
                } else if index % 2 == 0 {
                    ", "
                } else {
                    ",\n"
                });
            }
            out.push(']');
        }
        Value::List(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                print_value(out, value, false);
            }
            out.push(']');
        }
    }
}
