//! Compiles the schemas in `schema/` with protox: no protoc is needed on any machine.

use std::error::Error;

const SCHEMAS: [&str; 7] = [
    "schema/common.proto",
    "schema/namespace.proto",
    "schema/cluster.proto",
    "schema/log.proto",
    "schema/raft.proto",
    "schema/transfer.proto",
    "schema/store.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=schema");
    let descriptors = protox::compile(SCHEMAS, ["schema"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
