//! The Helm chart, rendered by the real `helm`: what each component may do, how its pods run, what the schema of its values
//! refuses, and that names in it which the driver knows are the driver's.
//!
//! `cargo xtask test chart` brings helm; `SPLITMIRROR_HELM` or the `PATH` name another. That the API server takes what is
//! rendered is shown in a real cluster.

mod classes;
mod examples;
mod helm;
mod monitoring;
mod objects;
mod pods;
mod policies;
mod rights;
mod values;
