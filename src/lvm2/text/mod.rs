//! The text that LVM2 keeps its metadata in: sections, values and comments.
//!
//! ```text
//! config     := { section | assignment | comment }
//! section    := name '{' config '}'
//! assignment := name '=' value
//! value      := integer | float | "string" | 'string' | '[' [ value { ',' value } [ ',' ] ] ']'
//! comment    := '#' … end of line
//! ```
//!
//! White space only separates. In a double-quoted string a backslash before `"` or `\` takes that character as it
//! is, and stays itself before any other; in a single-quoted one nothing is special. An integer that starts with a
//! zero is octal.
//!
//! Invariants: [`parse()`] never panics, whatever it is given, and its recursion is bounded; [`print()`] of what was
//! parsed parses to the same nodes.
//!
//! Sources: LVM2 `libdm/libdm-config.c`, `lib/format_text/export.c`.

mod lex;
mod parse;
mod print;
#[cfg(test)]
mod tests;

pub use parse::{SyntaxError, parse};
pub use print::print;

/// One entry of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `name { … }`
    Section {
        /// Its name.
        name: String,
        /// What is in it, in order.
        nodes: Vec<Node>,
    },
    /// `name = value`
    Value {
        /// Its name.
        name: String,
        /// Its value.
        value: Value,
    },
    /// `# …`: what follows the `#`, up to the end of the line.
    Comment(String),
}

/// The value of an assignment.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// A number with a point or an exponent, as it was written: metadata has none, and nothing may be rounded.
    Float(String),
    /// A text, without quotes and escapes.
    Str(String),
    /// Values in brackets.
    List(Vec<Value>),
}

impl Node {
    /// `name = value`.
    #[must_use]
    pub fn value(name: &str, value: Value) -> Self {
        Self::Value { name: name.to_owned(), value }
    }

    /// `name { nodes }`.
    #[must_use]
    pub fn section(name: &str, nodes: Vec<Node>) -> Self {
        Self::Section { name: name.to_owned(), nodes }
    }

    /// Its name; comments have none.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Section { name, .. } | Self::Value { name, .. } => Some(name),
            Self::Comment(_) => None,
        }
    }

    /// Its value, when it is an assignment to `wanted`.
    #[must_use]
    pub fn value_of(&self, wanted: &str) -> Option<&Value> {
        match self {
            Self::Value { name, value } if name == wanted => Some(value),
            Self::Value { .. } | Self::Section { .. } | Self::Comment(_) => None,
        }
    }
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }

    /// A list of texts.
    #[must_use]
    pub fn texts(texts: &[String]) -> Self {
        Self::List(texts.iter().cloned().map(Self::Str).collect())
    }

    /// A whole number that counts something.
    #[must_use]
    pub fn count(number: u64) -> Self {
        Self::Int(i64::try_from(number).expect("what is counted on real disks fits 63 bits"))
    }

    /// The number, when it counts something.
    #[must_use]
    pub fn as_count(&self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(*number).ok(),
            Self::Float(_) | Self::Str(_) | Self::List(_) => None,
        }
    }

    /// The text, when it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            Self::Int(_) | Self::Float(_) | Self::List(_) => None,
        }
    }

    /// The values, when it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(values) => Some(values),
            Self::Int(_) | Self::Float(_) | Self::Str(_) => None,
        }
    }

    /// The texts, when it is a list of nothing else.
    #[must_use]
    pub fn as_texts(&self) -> Option<Vec<String>> {
        self.as_list()?.iter().map(|value| value.as_text().map(str::to_owned)).collect()
    }
}
