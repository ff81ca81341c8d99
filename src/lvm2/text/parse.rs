//! From tokens to nodes.

use super::lex::{Lexer, Position, Token};
use super::{Node, Value};
use crate::report::Class;

/// How deep sections and lists may be nested. A volume group needs four.
const DEPTH_MAX: usize = 32;

/// Why a text is not in LVM2's grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

impl SyntaxError {
    /// The text on the disk is damaged, or was never metadata.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Corrupt
    }
}

/// Reads a text.
///
/// # Errors
/// The text is not in the grammar; the error says where.
pub fn parse(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let mut parser = Parser { lexer: Lexer::new(text), pushed_back: None };
    parser.nodes(0)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    pushed_back: Option<(Position, Token<'a>)>,
}

type Result<T, E = SyntaxError> = std::result::Result<T, E>;

impl<'a> Parser<'a> {
    fn next(&mut self) -> (Position, Token<'a>) {
        self.pushed_back.take().unwrap_or_else(|| self.lexer.next())
    }

    /// The next token that is no comment: between a name and the end of its value comments mean nothing.
    fn next_no_comment(&mut self) -> (Position, Token<'a>) {
        loop {
            match self.next() {
                (_, Token::Comment(_)) => {}
                other => return other,
            }
        }
    }

    /// The entries of a section, up to its closing brace; at depth 0 up to the end of the text.
    fn nodes(&mut self, depth: usize) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            match self.next() {
                (_, Token::End) if depth == 0 => return Ok(nodes),
                (_, Token::Mark('}')) if depth > 0 => return Ok(nodes),
                (_, Token::Comment(text)) => nodes.push(Node::Comment(text.to_owned())),
                (at, Token::Word(name)) => nodes.push(self.entry(at, name, depth)?),
                (at, token) => return Err(unexpected(at, &token, "a name")),
            }
        }
    }

    /// What follows a name.
    fn entry(&mut self, at: Position, name: &str, depth: usize) -> Result<Node> {
        if depth >= DEPTH_MAX {
            return Err(fail(at, format!("sections are nested deeper than {DEPTH_MAX}")));
        }
        let name = name.to_owned();
        match self.next_no_comment() {
            (_, Token::Mark('{')) => Ok(Node::Section { name, nodes: self.nodes(depth + 1)? }),
            (_, Token::Mark('=')) => {
                let (at, token) = self.next_no_comment();
                Ok(Node::Value { name, value: self.value(at, token, 0)? })
            }
            (at, token) => Err(unexpected(at, &token, "`{` or `=`")),
        }
    }

    fn value(&mut self, at: Position, token: Token<'a>, depth: usize) -> Result<Value> {
        match token {
            Token::Quoted(text) => Ok(Value::Str(text)),
            Token::Word(word) => number(word)
                .ok_or_else(|| fail(at, format!("{word:?} is neither a number nor a quoted string"))),
            Token::Mark('[') if depth < DEPTH_MAX => self.list(depth),
            Token::Mark('[') => Err(fail(at, format!("lists are nested deeper than {DEPTH_MAX}"))),
            Token::Mark(_) | Token::Comment(_) | Token::Unterminated | Token::End => {
                Err(unexpected(at, &token, "a value"))
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value> {
        let mut values = Vec::new();
        loop {
            match self.next_no_comment() {
                (_, Token::Mark(']')) => return Ok(Value::List(values)),
                (at, token) => values.push(self.value(at, token, depth + 1)?),
            }
            match self.next_no_comment() {
                (_, Token::Mark(',')) => {}
                end @ (_, Token::Mark(']')) => self.pushed_back = Some(end),
                (at, token) => return Err(unexpected(at, &token, "`,` or `]`")),
            }
        }
    }
}

/// The number that a word is.
fn number(word: &str) -> Option<Value> {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let radix = if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 };
        return i64::from_str_radix(word, radix).ok().map(Value::Int);
    }
    let is_float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c))
        && word.parse::<f64>().is_ok_and(f64::is_finite);
    is_float.then(|| Value::Float(word.to_owned()))
}

fn fail(at: Position, problem: String) -> SyntaxError {
    SyntaxError { line: at.line, column: at.column, problem }
}

fn unexpected(at: Position, token: &Token<'_>, wanted: &str) -> SyntaxError {
    let found = match token {
        Token::Word(word) => format!("{word:?}"),
        Token::Quoted(text) => format!("the string {text:?}"),
        Token::Comment(_) => "a comment".to_owned(),
        Token::Mark(mark) => format!("{mark:?}"),
        Token::Unterminated => return fail(at, "this string has no end".to_owned()),
        Token::End => "the end of the text".to_owned(),
    };
    fail(at, format!("expected {wanted}, found {found}"))
}
