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
mod load;
mod lvm2;
mod pauses;
mod restore;
mod rows;
mod sparse;
mod split;
mod stopwatch;
#[allow(dead_code)]
#[path = "../guest/writer.rs"]
mod writer;

fn main() -> std::process::ExitCode {
    let show = |name, needs, run| guest::Show { name, needs, run };
    guest::main(&[
        show("split", "disks=3 size=400M timeout=600 alone", split::run),
        show("restore", "disks=4 size=2G mem=768 timeout=1800 alone", restore::run),
    ])
}
