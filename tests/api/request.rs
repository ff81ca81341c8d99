//! What a request asks for.

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use serde_json::Value;
use tower::BoxError;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Group and version: `v1`, `splitmirror.io/v1alpha1`.
    pub api_version: String,
    /// Of what, in the plural.
    pub resource: String,
    /// In which namespace.
    pub namespace: Option<String>,
    /// Which; none: all.
    pub name: Option<String>,
    /// Which part: `status`.
    pub subresource: Option<String>,
    /// With what.
    pub body: Value,
    /// Who applies.
    pub manager: Option<String>,
    /// Kind of a patch.
    pub patch: Option<String>,
    /// It is a watch.
    pub watch: bool,
    /// A watch begins after this version.
    pub since: u64,
    /// Only objects with these values at these paths.
    pub fields: Vec<(String, String)>,
}

impl Request {
    pub(super) fn read(parts: &Parts, body: &Bytes) -> Result<Self, BoxError> {
        let mut path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let api_version = match path.first() {
            Some(&"api") => path.drain(..2).nth(1).ok_or("no version")?.to_owned(),
            Some(&"apis") => path.drain(..3).skip(1).collect::<Vec<_>>().join("/"),
            _ => return Err(format!("{} is not served here", parts.uri).into()),
        };
        let namespace = (path.first() == Some(&"namespaces") && path.len() > 2)
            .then(|| path.drain(..2).nth(1).map(str::to_owned))
            .flatten();
        let mut path = path.into_iter().map(str::to_owned);
        let query: Vec<(String, String)> =
            parts.uri.query().unwrap_or_default().split('&').filter_map(pair).collect();
        let value = |key: &str| query.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        let fields = value("fieldSelector").unwrap_or_default();
        let content = parts.headers.get("content-type").and_then(|value| value.to_str().ok());
        Ok(Self {
            method: parts.method.clone(),
            api_version,
            resource: path.next().ok_or("no resource")?,
            namespace,
            name: path.next(),
            subresource: path.next(),
            body: if body.is_empty() { Value::Null } else { serde_json::from_slice(body)? },
            manager: value("fieldManager"),
            patch: (parts.method == Method::PATCH).then(|| content.unwrap_or_default().to_owned()),
            watch: value("watch").is_some_and(|value| value == "true"),
            since: value("resourceVersion").and_then(|value| value.parse().ok()).unwrap_or(0),
            fields: fields.split(',').filter_map(pair).collect(),
        })
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        super::changes(&self.method)
    }

    /// What it does in one line: `PATCH mirrorvolumes/pvc-1/status`.
    pub fn line(&self) -> String {
        let parts = [Some(&self.resource), self.name.as_ref(), self.subresource.as_ref()];
        let path: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        format!("{} {}", self.method, path.join("/"))
    }
}

/// `key=value`, escaped as in a query or not.
fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    Some((unescape(key), unescape(value)))
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).expect("a query is UTF-8")
}
