//! A section whose entries are taken out one by one, with errors that name the place.

use std::collections::BTreeSet;

use crate::ids::LvmUuid;
use crate::lvm2::parse::{ParseError, Result};
use crate::lvm2::render;
use crate::lvm2::text::{Node, Value};

/// A section whose entries are taken out one by one.
pub(super) struct Section {
    /// Where it is: `vg/lv/segment1`.
    pub(super) path: String,
    nodes: Vec<Option<Node>>,
}

impl Section {
    pub(super) fn new(path: &str, nodes: Vec<Node>) -> Result<Self> {
        let mut names = BTreeSet::new();
        if let Some(name) = nodes.iter().filter_map(Node::name).find(|name| !names.insert(*name)) {
            return Err(ParseError::Twice { section: path.to_owned(), key: name.to_owned() });
        }
        Ok(Self { path: path.to_owned(), nodes: nodes.into_iter().map(Some).collect() })
    }

    pub(super) fn missing(&self, key: &str) -> ParseError {
        ParseError::Missing { section: self.path.clone(), key: key.to_owned() }
    }

    pub(super) fn wrong(&self, key: &str, wanted: &'static str) -> ParseError {
        ParseError::Wrong { section: self.path.clone(), key: key.to_owned(), wanted }
    }

    pub(super) fn peek(&self, key: &str) -> Option<&Value> {
        self.nodes.iter().flatten().find_map(|node| node.value_of(key))
    }

    pub(super) fn peek_count(&self, key: &str) -> Result<Option<u64>> {
        self.peek(key).map(|value| value.as_count().ok_or_else(|| self.wrong(key, "a number"))).transpose()
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Node> {
        self.nodes
            .iter_mut()
            .find(|node| node.as_ref().and_then(Node::name) == Some(key))
            .and_then(Option::take)
    }

    pub(super) fn take_value(&mut self, key: &str) -> Result<Option<Value>> {
        match self.take(key) {
            None => Ok(None),
            Some(Node::Value { value, .. }) => Ok(Some(value)),
            Some(Node::Section { .. } | Node::Comment(_)) => Err(self.wrong(key, "a value")),
        }
    }

    pub(super) fn take_text(&mut self, key: &str) -> Result<Option<String>> {
        match self.take_value(key)? {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    pub(super) fn take_count(&mut self, key: &str) -> Result<Option<u64>> {
        let value = self.take_value(key)?;
        value.map(|value| value.as_count().ok_or_else(|| self.wrong(key, "a number"))).transpose()
    }

    /// A list of texts; none is an empty one. LVM2 also reads a single text as a list of one.
    pub(super) fn take_texts(&mut self, key: &str) -> Result<Vec<String>> {
        match self.take_value(key)? {
            None => Ok(Vec::new()),
            Some(Value::Str(text)) => Ok(vec![text]),
            Some(value) => value.as_texts().ok_or_else(|| self.wrong(key, "a list of texts")),
        }
    }

    pub(super) fn require_text(&mut self, key: &str) -> Result<String> {
        self.take_text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn require_count(&mut self, key: &str) -> Result<u64> {
        self.take_count(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn require_id(&mut self) -> Result<LvmUuid> {
        let id = self.require_text("id")?;
        LvmUuid::try_from(id)
            .map_err(|error| ParseError::Id { section: self.path.clone(), why: error.to_string() })
    }

    pub(super) fn require_status(&mut self, known: &[&str]) -> Result<Vec<String>> {
        if self.peek("status").is_none() {
            return Err(self.missing("status"));
        }
        let words = self.take_texts("status")?;
        match words.iter().find(|word| !known.contains(&word.as_str())) {
            None => Ok(words),
            Some(word) => Err(ParseError::UnknownStatus { section: self.path.clone(), word: word.clone() }),
        }
    }

    pub(super) fn take_section(&mut self, key: &str) -> Result<Option<Vec<Node>>> {
        match self.take(key) {
            None => Ok(None),
            Some(Node::Section { nodes, .. }) => Ok(Some(nodes)),
            Some(Node::Value { .. } | Node::Comment(_)) => Err(self.wrong(key, "a section")),
        }
    }

    /// The sections in a section. Comments between them are dropped, as LVM2 drops them; values make no sense there.
    pub(super) fn take_sections(&mut self, key: &str) -> Result<Vec<(String, Vec<Node>)>> {
        let nodes = self.take_section(key)?.unwrap_or_default();
        let inner = Section::new(&format!("{}/{key}", self.path), nodes)?;
        let mut sections = Vec::new();
        for node in inner.nodes.into_iter().flatten() {
            match node {
                Node::Section { name, nodes } => sections.push((name, nodes)),
                Node::Comment(_) => {}
                Node::Value { name, .. } => {
                    return Err(ParseError::Wrong { section: inner.path, key: name, wanted: "a section" });
                }
            }
        }
        Ok(sections)
    }

    /// What is left, in the order in which it is printed.
    pub(super) fn rest_sorted(&mut self, order: &[&str]) -> Vec<Node> {
        let mut rest = self.rest();
        render::sort(&mut rest, order);
        rest
    }

    pub(super) fn rest(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.nodes).into_iter().flatten().collect()
    }
}
