//! Volumes and mounts in memory, as strict as the real ones about what their callers must not do.

mod kernel;
mod volumes;

pub use kernel::Kernel;
pub use volumes::{CHANGED, DISK, PART, Volumes};
