//! Finding one's way in objects.

use serde_json::Value;

/// The object of a kind and name.
pub fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind).into_iter().find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// All objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The pods of the Deployment and the DaemonSet: the object's kind, and the pod's template.
pub fn pods(objects: &[Value]) -> Vec<(&str, &Value)> {
    let pods = objects.iter().filter_map(|object| {
        let template = object["spec"].get("template")?;
        Some((text(&object["kind"]), template))
    });
    pods.collect()
}

/// All containers of the pods.
pub fn containers(objects: &[Value]) -> Vec<Container<'_>> {
    let mut found = Vec::new();
    for (of, pod) in pods(objects) {
        for container in list(&pod["spec"]["containers"]) {
            found.push(Container { of, name: text(&container["name"]), spec: container });
        }
    }
    found
}

/// A container.
pub struct Container<'a> {
    /// The kind of object that its pod is of.
    pub of: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What is said of it.
    pub spec: &'a Value,
}

impl Container<'_> {
    /// Its arguments.
    pub fn args(&self) -> Vec<&str> {
        texts(&self.spec["args"])
    }
}

/// A container of the pods.
pub fn container<'a>(objects: &'a [Value], of: &str, name: &str) -> Container<'a> {
    let found =
        containers(objects).into_iter().find(|container| container.of == of && container.name == name);
    found.unwrap_or_else(|| panic!("the {of} has no container {name}"))
}

/// A list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// A text.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A list of texts; none when it is not there.
pub fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(text).collect()
}
