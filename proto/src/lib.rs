//! The contract of Blockyard: messages, ids, path rules, error codes. No I/O, no decisions.
//!
//! ```text
//!   schema/*.proto ──protox──▶ v1 message modules ┐
//!   ids.rs      newtypes of every id              ├──▶ everyone
//!   path.rs     the one place for path rules      │
//!   methods.rs  the client's service as a table   │
//!   framing.rs  that service as frames of bytes    │
//!   error.rs    stable codes, hints, retryability ┘
//! ```
//!
//! Read [`ids`] first, then [`path`], then the schemas.

pub mod error;
pub mod framing;
pub mod ids;
pub mod methods;
pub mod path;
pub mod report;
#[cfg(test)]
mod tests;

/// Includes a generated module under the two-level name that generated code expects, and lifts its contents.
macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $version:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $name {
            #[allow(
                missing_docs,
                unreachable_pub,
                clippy::all,
                clippy::allow_attributes_without_reason,
                reason = "generated; the schema carries the words"
            )]
            /// This version of the messages.
            pub mod $version {
                tonic::include_proto!($package);
            }
            pub use $version::*;
        }
    };
}

generated!(
    /// From `schema/common.proto`: words that every part uses.
    common, v1, "blockyard.common.v1");
generated!(
    /// From `schema/namespace.proto`: the client's service.
    namespace, v1, "blockyard.namespace.v1");
generated!(
    /// From `schema/cluster.proto`: registration, heartbeats, reports, Raft streams.
    cluster, v1, "blockyard.cluster.v1");
generated!(
    /// From `schema/log.proto`: commands in the log.
    log, v1, "blockyard.log.v1");
generated!(
    /// From `schema/raft.proto`: Raft on the wire and on disk.
    raft, v1, "blockyard.raft.v1");
generated!(
    /// From `schema/store.proto`: identity files.
    store, v1, "blockyard.store.v1");
generated!(
    /// From `schema/transfer.proto`: Hadoop's data transfer messages.
    transfer, v28, "blockyard.transfer.v28");

/// Version of the contract that this build speaks. Servers refuse every other one by name.
pub const PROTOCOL_VERSION: u32 = 1;

/// Descriptors of the client's and the datanodes' services, as an encoded `FileDescriptorSet`: for reflection.
pub const SERVICES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/services.bin"));
