//! Generates the client of etcd's API. The file is compiled with protox, so that no `protoc` binary is needed.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let files = protox::compile(["etcd.proto"], [&folder])?;
    let mut config = prost_build::Config::new();
    // A value is a slice of the message it came in, not a copy.
    config.bytes(["."]);
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds_with_config(files, config)?;
    Ok(())
}
