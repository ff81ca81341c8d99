//! Compiles `proto/csi.proto` to Rust: messages, the servers, and the clients that tests use.
//!
//! protox compiles in pure Rust, so that a build needs no `protoc`. RPCs that are not built answer
//! UNIMPLEMENTED through the generated default stubs.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/csi.proto");
    let descriptors = protox::compile(["proto/csi.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        // No `connect` in the clients: that would pull the client transport into the driver.
        .build_transport(false)
        // Its comments are written for readers of the specification, not as rustdoc: they break doc tests.
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
