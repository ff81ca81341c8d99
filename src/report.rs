//! What an error means to the caller, and how its whole chain is printed.

use std::error::Error;
use std::fmt;

/// What a caller can do about an error. The class alone decides the gRPC code, whether to retry, the metric
/// label and the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request itself is wrong.
    Invalid,
    /// A size outside what is possible.
    OutOfRange,
    /// The thing named does not exist.
    NotFound,
    /// The name is taken by something incompatible.
    Exists,
    /// Another operation on the same thing is running: try again.
    InProgress,
    /// No space.
    Exhausted,
    /// The state of the thing forbids it: change that first.
    Precondition,
    /// Not built, or not possible for this kind of thing.
    Unimplemented,
    /// The machine failed; a retry may succeed.
    Transient,
    /// What is on the disks contradicts itself: nothing is changed until a person has looked.
    Corrupt,
    /// A bug.
    Internal,
}

impl Class {
    /// All of them, a passing failure before a bug: where both are told alike it is taken for the first.
    pub const ALL: [Self; 11] = [
        Self::Invalid,
        Self::OutOfRange,
        Self::NotFound,
        Self::Exists,
        Self::InProgress,
        Self::Exhausted,
        Self::Precondition,
        Self::Unimplemented,
        Self::Transient,
        Self::Corrupt,
        Self::Internal,
    ];

    /// A stable word for logs and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::OutOfRange => "out-of-range",
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::InProgress => "in-progress",
            Self::Exhausted => "exhausted",
            Self::Precondition => "precondition",
            Self::Unimplemented => "unimplemented",
            Self::Transient => "transient",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }
}

/// Prints an error and all its sources: `outer: middle: inner`.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    struct Chain<'a>(&'a (dyn Error + 'static));
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)?;
            let mut source = self.0.source();
            while let Some(error) = source {
                write!(f, ": {error}")?;
                source = error.source();
            }
            Ok(())
        }
    }
    Chain(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn the_whole_chain_is_printed_once() {
        let inner = "x".parse::<u8>().expect_err("not a number");
        assert_eq!(chain(&Outer(inner)), "outer: invalid digit found in string");
    }
}
