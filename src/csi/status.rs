//! The one place where an error class becomes a gRPC code.

use tonic::{Code, Status};

use crate::csi::backend::Error;
use crate::report::Class;

/// The code that tells an orchestrator what to do.
///
/// ABORTED is the only code that says "something is still running"; the other ones that sidecars read that way
/// (UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED) are never answered, so that the provisioner does not wait for a volume
/// that nobody is making. A passing failure of the machine is INTERNAL: sidecars try that again with a growing delay.
#[must_use]
pub fn code(class: Class) -> Code {
    match class {
        Class::Invalid => Code::InvalidArgument,
        Class::OutOfRange => Code::OutOfRange,
        Class::NotFound => Code::NotFound,
        Class::Exists => Code::AlreadyExists,
        Class::InProgress => Code::Aborted,
        Class::Exhausted => Code::ResourceExhausted,
        Class::Precondition => Code::FailedPrecondition,
        Class::Unimplemented => Code::Unimplemented,
        Class::Corrupt => Code::DataLoss,
        Class::Transient | Class::Internal => Code::Internal,
    }
}

/// What a code of one of our own agents means. One that no class has tells of the connection, not of the call.
#[cfg(feature = "kubernetes")]
#[must_use]
pub fn class(told: Code) -> Class {
    Class::ALL.into_iter().find(|class| code(*class) == told).unwrap_or(Class::Transient)
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(code(error.class), error.message)
    }
}

#[cfg(all(test, feature = "kubernetes"))]
mod tests {
    use super::*;

    #[test]
    fn a_class_survives_the_way_from_an_agent() {
        for class in [
            Class::Invalid,
            Class::OutOfRange,
            Class::NotFound,
            Class::Exists,
            Class::InProgress,
            Class::Exhausted,
            Class::Precondition,
            Class::Unimplemented,
            Class::Corrupt,
            Class::Transient,
        ] {
            assert_eq!(super::class(code(class)), class);
        }
    }
}
