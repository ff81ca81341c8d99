//! Why a command failed, and with which status the process ends.

use crate::report::Class;
use crate::{engine, host, standalone};

/// For `--help`.
pub const EXIT_CODES: &str = "\
Exit status:
  0   done
  1   a bug
  2   the command line or the request is wrong
  3   it does not exist
  4   it exists already, and is another
  5   its state forbids it: change that first
  6   no space
  7   another operation is running: try again
  8   the machine failed: a retry may succeed
  9   what is on the disks contradicts itself: nothing was changed
  10  not implemented";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine.
    #[error(transparent)]
    Engine(Box<engine::Error>),
    /// The machine.
    #[error(transparent)]
    Host(#[from] host::HostError),
    /// The server.
    #[error(transparent)]
    Standalone(Box<standalone::Error>),
    /// The controller.
    #[cfg(feature = "kubernetes")]
    #[error(transparent)]
    Controller(#[from] crate::serve::Error),
    /// The API server.
    #[cfg(feature = "kubernetes")]
    #[error(transparent)]
    Client(#[from] crate::api::client::Error),
    /// The agent of a node.
    #[cfg(feature = "kubernetes")]
    #[error(transparent)]
    Node(Box<crate::node::Error>),
    /// Printing.
    #[error("print the answer")]
    Output(#[from] std::io::Error),
    /// Printing as JSON.
    #[error("print the answer as JSON")]
    Json(#[from] serde_json::Error),
    /// The command itself.
    #[error("{message}")]
    Refused {
        /// What can be done.
        class: Class,
        /// For a person.
        message: String,
    },
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl From<standalone::Error> for Error {
    fn from(error: standalone::Error) -> Self {
        Self::Standalone(Box::new(error))
    }
}

#[cfg(feature = "kubernetes")]
impl From<crate::node::Error> for Error {
    fn from(error: crate::node::Error) -> Self {
        Self::Node(Box::new(error))
    }
}

/// Result of a command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal with a message.
    pub fn refused(class: Class, message: impl Into<String>) -> Self {
        Self::Refused { class, message: message.into() }
    }

    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Engine(error) => error.class(),
            Self::Host(error) => error.class(),
            Self::Standalone(error) => error.class(),
            #[cfg(feature = "kubernetes")]
            Self::Controller(error) => error.class(),
            #[cfg(feature = "kubernetes")]
            Self::Client(error) => error.class(),
            #[cfg(feature = "kubernetes")]
            Self::Node(error) => error.class(),
            Self::Output(_) => Class::Transient,
            Self::Json(_) => Class::Internal,
            Self::Refused { class, .. } => *class,
        }
    }

    /// The status that the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.class() {
            Class::Internal => 1,
            Class::Invalid | Class::OutOfRange => 2,
            Class::NotFound => 3,
            Class::Exists => 4,
            Class::Precondition => 5,
            Class::Exhausted => 6,
            Class::InProgress => 7,
            Class::Transient => 8,
            Class::Corrupt => 9,
            Class::Unimplemented => 10,
        }
    }

    /// Whether nobody reads the answer any more, as in `splitmirror … | head`.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
            Self::Json(error) => error.io_error_kind() == Some(std::io::ErrorKind::BrokenPipe),
            #[cfg(feature = "kubernetes")]
            Self::Controller(_) | Self::Client(_) | Self::Node(_) => false,
            Self::Engine(_) | Self::Host(_) | Self::Standalone(_) | Self::Refused { .. } => false,
        }
    }
}
