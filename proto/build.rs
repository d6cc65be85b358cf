//! Compiles the `.proto` files with protox, so that no `protoc` binary is needed, and generates the Rust types with prost.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;

/// What is compiled; imports are found by themselves.
const AGENTS: [&str; 6] = [
    "agp/v1/gateway.proto",
    "agp/neighbour/v1/neighbour.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
    "grpc/testing/test.proto",
];

/// What the control process serves.
const CONTROL: [&str; 8] = [
    "ringgate/control/v1/audit.proto",
    "ringgate/control/v1/config.proto",
    "ringgate/control/v1/groups.proto",
    "ringgate/control/v1/identity.proto",
    "ringgate/control/v1/key_packages.proto",
    "ringgate/control/v1/nodes.proto",
    "ringgate/control/v1/policy.proto",
    "ringgate/control/v1/registry.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for folder in ["build.rs", "agp", "grpc", "ringgate"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }

    let agents = protox::compile(AGENTS, [&root])?;
    config(&out).compile_fds(agents.clone())?;
    save(agents, &out.join("descriptors.bin"))?;

    let stubs = env::var_os("CARGO_FEATURE_CONTROL").is_some();
    let control = protox::compile(CONTROL, [&root])?;
    tonic_prost_build::configure()
        .build_server(stubs)
        .build_client(stubs)
        .compile_fds_with_config(control.clone(), config(&out))?;
    save(control, &out.join("control_descriptors.bin"))?;
    Ok(())
}

fn config(out: &Path) -> prost_build::Config {
    let mut config = prost_build::Config::new();
    config
        // A payload decoded from a `Bytes` is a slice of it, not a copy.
        .bytes(["."])
        // Encoded maps come out in one order: the same message is the same bytes, run after run.
        .btree_map(["."])
        .out_dir(out);
    config
}

/// Without comments: they are for the types; clients that ask by reflection do without them.
fn save(mut descriptors: prost_types::FileDescriptorSet, path: &Path) -> Result<(), Box<dyn Error>> {
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(path, descriptors.encode_to_vec())?;
    Ok(())
}
