//! What can go wrong in the engine, and what a caller can do about it.

use crate::alloc::AllocError;
use crate::engine::group::GroupError;
use crate::host::HostError;
use crate::lvm2::edit::EditError;
use crate::report::Class;
use crate::volume::step::Refusal;

/// An operation of the engine that was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine failed.
    #[error("the machine did not do what it was asked")]
    Host(#[from] HostError),
    /// The volume group cannot be read or written.
    #[error("volume group")]
    Group(#[from] GroupError),
    /// The metadata does not allow the change.
    #[error("the metadata does not allow this change")]
    Edit(#[from] EditError),
    /// There is no room.
    #[error("no room")]
    Alloc(#[from] AllocError),
    /// It is refused, and the message says why.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

impl Error {
    /// A refusal with a message for the caller.
    pub(crate) fn refused(class: Class, message: impl Into<String>) -> Self {
        Self::Refused(Refusal { class, message: message.into() })
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Host(error) => error.class(),
            Self::Group(error) => error.class(),
            Self::Edit(_) => Class::Internal,
            Self::Alloc(error) => error.class(),
            Self::Refused(refusal) => refusal.class,
        }
    }
}

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;
