//! The client library: namespace calls, writers and readers, with deadlines, retries and failover.
//!
//! ```text
//!   Client ── builder, namespace calls ──────▶ rpc      deadlines, retries, several namenodes
//!     │                                         ├─ framed, grpc   carriers
//!     │                                         └─ session   numbered calls that take effect once
//!     ├─ create() ─▶ Writer (shell) ─▶ write::FileWriter        (machine: event, now → effects)
//!     │                 └─ pipeline    one socket to the first datanode
//!     ├─ create_in_parts() ─▶ parts: a writer for each part of a file; they are joined
//!     └─ open()   ─▶ Reader ── goes ahead, merges ranges, reads blocks in parallel
//!                       └─ read::Hedge, read::BlockReadMachine  (machines), one or two for each range of a block
//!                            └─ replica     one socket to one replica, kept for the next read
//!   AsyncReader, AsyncWriter      the same with tokio's traits
//!   blocking                      the same without async
//! ```
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let cluster = minicluster::MiniCluster::start(1).await?;
//! # let address = cluster.uri();
//! use client::{Client, CreateOptions, SplitOptions};
//!
//! let client = Client::builder().connect(address).user("root").build()?;
//! let mut writer = client.create("/data", CreateOptions::default()).await?;
//! writer.write_all(b"0123456789").await?;
//! writer.close().await?;
//!
//! let reader = client.open("/data").await?;
//! let parts = reader.read_ranges(&[8..10, 0..3]).await?;
//! assert_eq!((&parts[0][..], &parts[1][..]), (&b"89"[..], &b"012"[..]));
//! assert_eq!(client.splits("/data", &SplitOptions::default()).await?.len(), 1);
//! # cluster.shutdown().await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! The machines decide and touch nothing; the shells do what they say. The simulation drives the same
//! machines. Read [`write::FileWriter`] and [`read::BlockReadMachine`] first.

pub mod address;
mod attributes;
mod avoid;
pub mod blocking;
mod client;
mod datanode;
pub mod io;
mod leases;
mod list;
mod operations;
pub mod parts;
pub mod read;
pub mod retry;
mod rpc;
pub mod session;
mod splits;
mod tail;
mod verify;
pub mod write;

pub use attributes::{Attributes, Quota, Time};
pub use client::{AppendOptions, Client, ClientBuilder, CreateOptions, Replace};
pub use leases::{RecoveredLease, Truncated};
pub use list::Listing;
pub use parts::PartedFile;
pub use proto::common::{LocatedBlock, StorageLocation};
pub use proto::error::{ErrorCode, FsError, FsResult};
pub use proto::namespace::{
    AclChange, AclEntry, AclScope, AclTag, ClusterStatusResponse, ContentSummaryResponse, DeleteResponse, DiffEntry,
    DiffKind, FileKind, FileStatus, FsckFile, FsckResponse, GetAclResponse, JobStatus, LeaseStatus, NodeService,
    NodeStatus, SnapshotStatus, Xattr,
};
pub use read::{AsyncReader, LocalFigures, LocalReads, Reader, ReplicaReader};
pub use rpc::Carrier;
pub use splits::{BlockLocation, FileLayout, Split, SplitOptions, splits};
pub use transfer::BlockDigest;
pub use transfer::digest::Prefix as DigestPrefix;
pub use verify::{ReplicaCheck, digest_of, file_digest};
pub use write::{AsyncWriter, Writer};
