//! The namenode: namespace, block map, consensus, and the doors that lead to them.
//!
//! ```text
//!   doors      grpc                         translate, audit, never decide
//!     │
//!   core       Event ──▶ NamenodeCore ──▶ Effect      batches, proposes, applies, answers; no I/O, no clock
//!     │            │             │
//!   namespace (pure state)   blocks (soft state: who holds what, what to repair)
//!     │
//!   consensus  Raft, log, images
//!
//!   server     threads and sockets around the core; config, metrics, audit
//! ```

pub mod audit;
pub mod blocks;
pub mod config;
pub mod consensus;
pub mod core;
pub mod doors;
pub mod metrics;
pub mod namespace;
pub mod server;
pub mod service;
