//! Compiles the `.proto` files with protox, so that no `protoc` binary is needed, and generates the Rust types with prost.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// What is compiled; imports are found by themselves.
const FILES: [&str; 5] = [
    "agp/v1/gateway.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
    "grpc/testing/test.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for folder in ["build.rs", "agp", "grpc"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }

    let mut descriptors = protox::compile(FILES, [&root])?;
    prost_build::Config::new()
        // A payload decoded from a `Bytes` is a slice of it, not a copy.
        .bytes(["."])
        // Encoded maps come out in one order: the same message is the same bytes, run after run.
        .btree_map(["."])
        .out_dir(&out)
        .compile_fds(descriptors.clone())?;

    // The comments are for the types above; clients that ask by reflection do without them.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
