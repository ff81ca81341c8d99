//! Us next to LVM2's own tools, inside one guest: `cargo xtask bench`.

// Block numbers of small test disks are cast in what the guest tests share.
#![allow(clippy::cast_lossless, clippy::cast_possible_truncation)]

#[path = "../guest/aligned.rs"]
mod aligned;
mod groups;
mod guest;
#[allow(dead_code)]
#[path = "../guest/lab.rs"]
mod lab;
mod pauses;
mod rows;
mod split;
mod stopwatch;
#[allow(dead_code)]
#[path = "../guest/writer.rs"]
mod writer;

fn main() -> std::process::ExitCode {
    guest::main("split", "disks=3 size=400M timeout=600 alone", split::run)
}
