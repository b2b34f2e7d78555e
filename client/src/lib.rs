//! The client library: namespace calls, writers and readers, with deadlines, retries and failover.
//!
//! ```text
//!   Client ── builder, namespace calls ──────▶ rpc      deadlines, retries, several namenodes
//!     │                                         ├─ framed, grpc   carriers
//!     │                                         └─ session   numbered calls that take effect once
//!     ├─ create() ─▶ Writer (shell) ─▶ write::FileWriter        (machine: event, now → effects)
//!     │                 └─ pipeline    one socket to the first datanode
//!     └─ open()   ─▶ Reader (shell) ─▶ read::BlockReadMachine   (machine)
//!                       └─ replica     one socket to one replica, kept for the next read
//! ```
//!
//! The machines decide and touch nothing; the shells do what they say. The simulation drives the same
//! machines. Read [`write::FileWriter`] and [`read::BlockReadMachine`] first.

pub mod address;
mod attributes;
mod avoid;
mod client;
mod list;
pub mod read;
pub mod retry;
mod rpc;
pub mod session;
pub mod write;

pub use attributes::{Attributes, Quota, Time};
pub use client::{Client, ClientBuilder, CreateOptions, Replace};
pub use list::Listing;
pub use proto::error::{ErrorCode, FsError, FsResult};
pub use proto::namespace::{
    AclChange, AclEntry, AclScope, AclTag, ContentSummaryResponse, DeleteResponse, DiffEntry, DiffKind, FileKind,
    FileStatus, FsckFile, FsckResponse, GetAclResponse, NodeStatus, SnapshotStatus, Xattr,
};
pub use read::{LocalFigures, LocalReads, Reader};
pub use rpc::Carrier;
pub use write::Writer;
