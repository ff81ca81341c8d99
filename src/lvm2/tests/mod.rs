//! Tests of the parts together.

mod checks;
mod commits;
pub(crate) mod samples;
mod surveys;
mod texts;
