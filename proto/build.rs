//! Compiles the schemas in `schema/` with protox: no protoc is needed on any machine.

use std::error::Error;
use std::path::PathBuf;

const SCHEMAS: [&str; 7] = [
    "schema/common.proto",
    "schema/namespace.proto",
    "schema/cluster.proto",
    "schema/log.proto",
    "schema/raft.proto",
    "schema/transfer.proto",
    "schema/store.proto",
];

/// Schemas of the services behind the gRPC door.
const SERVICES: [&str; 2] = ["schema/namespace.proto", "schema/cluster.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=schema");
    let descriptors = protox::compile(SCHEMAS, ["schema"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    // What reflection shows of the gRPC door: its services and their messages, nothing of the log or the disks.
    let mut open = protox::Compiler::new(["schema"])?;
    open.include_imports(true).open_files(SERVICES)?;
    #[allow(clippy::disallowed_methods, reason = "a build script's output; no disk of a server is meant")]
    std::fs::write(out_dir()?.join("services.bin"), open.encode_file_descriptor_set())?;
    Ok(())
}

fn out_dir() -> Result<PathBuf, Box<dyn Error>> {
    Ok(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?.into())
}
