//! The life of a snapshot, as a person would like to read it: `cargo xtask demo`.

// Block numbers of small test disks are cast in what the guest tests share.
#![allow(clippy::cast_lossless, clippy::cast_possible_truncation)]

#[path = "../guest/aligned.rs"]
mod aligned;
mod database;
#[path = "../bench/guest.rs"]
mod guest;
#[allow(dead_code)]
#[path = "../guest/lab.rs"]
mod lab;
#[allow(dead_code)]
#[path = "../bench/pauses.rs"]
mod pauses;
#[allow(dead_code)]
#[path = "../bench/stopwatch.rs"]
mod stopwatch;
mod story;
#[allow(dead_code)]
#[path = "../guest/writer.rs"]
mod writer;

fn main() -> std::process::ExitCode {
    guest::main(&[guest::Show {
        name: "snapshot",
        needs: "disks=3 size=400M timeout=240 alone",
        run: story::tell,
    }])
}
