//! From characters to tokens.

/// Where something is in a text; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The smallest parts of a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A name or a number.
    Word(&'a str),
    /// A string, without its quotes and escapes.
    Quoted(String),
    /// A comment, without its `#`.
    Comment(&'a str),
    /// One of `{ } [ ] = ,`.
    Mark(char),
    /// A string that has no end.
    Unterminated,
    /// Nothing is left.
    End,
}

/// What ends a word.
fn ends_word(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "#={}[],\"'".contains(c)
}

/// Walks over a text.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, at: Position { line: 1, column: 1 } }
    }

    /// The next token, and where it starts.
    pub(super) fn next(&mut self) -> (Position, Token<'a>) {
        let space = self.rest.find(|c: char| !c.is_whitespace()).unwrap_or(self.rest.len());
        self.take(space);
        let at = self.at;
        let token = match self.rest.chars().next() {
            None => Token::End,
            Some('#') => {
                let line = self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
                Token::Comment(line.strip_prefix('#').unwrap_or(line))
            }
            Some('"') => self.double_quoted(),
            Some('\'') => self.single_quoted(),
            Some(mark) if ends_word(mark) => {
                self.take(mark.len_utf8());
                Token::Mark(mark)
            }
            Some(_) => Token::Word(self.take(self.rest.find(ends_word).unwrap_or(self.rest.len()))),
        };
        (at, token)
    }

    fn double_quoted(&mut self) -> Token<'a> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((index, c)) = chars.next() {
            match c {
                '"' => {
                    self.take(index + 1);
                    return Token::Quoted(text);
                }
                '\\' => match chars.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                    Some((_, escaped)) => text.push(escaped),
                    None => text.push('\\'),
                },
                _ => text.push(c),
            }
        }
        self.take(self.rest.len());
        Token::Unterminated
    }

    fn single_quoted(&mut self) -> Token<'a> {
        match self.rest.char_indices().skip(1).find(|(_, c)| *c == '\'') {
            Some((end, _)) => {
                let quoted = self.take(end + 1);
                Token::Quoted(quoted.trim_start_matches('\'').trim_end_matches('\'').to_owned())
            }
            None => {
                self.take(self.rest.len());
                Token::Unterminated
            }
        }
    }

    /// Takes the next `len` bytes and keeps count of lines.
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        for c in taken.chars() {
            if c == '\n' {
                self.at = Position { line: self.at.line + 1, column: 1 };
            } else {
                self.at.column += 1;
            }
        }
        self.rest = rest;
        taken
    }
}
