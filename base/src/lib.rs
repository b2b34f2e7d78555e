//! The world behind seams: clock, randomness, disk, network, spawn; durable files and crash points;
//! configuration, metrics, logs, shutdown.
//!
//! ```text
//!   namenode  datanode  client  transfer  auth        decide, never touch the world directly
//!       │         │        │        │       │
//!       └─────────┴────────┴────────┴───────┘
//!                        base
//!   clock · random · disk (OsDisk | MemDisk) · crash · two_slot · net · passed · task · config · http · shutdown
//! ```
//!
//! This is the only crate that may name `std::fs`, `std::net`, tokio's `fs` and `net`, `Instant::now`,
//! `SystemTime`, randomness or spawn: `clippy.toml` bans them everywhere else, and the simulation can
//! therefore put its own world behind the same calls.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate is the seam: it is where the banned calls live"
)]

pub mod calendar;
pub mod clock;
pub mod config;
pub mod crash;
pub mod disk;
pub mod http;
pub mod limits;
pub mod local;
pub mod logs;
pub mod metrics;
pub mod mounts;
pub mod moved;
pub mod mutation;
pub mod net;
pub mod passed;
pub mod probe;
pub mod process;
pub mod random;
pub mod shutdown;
pub mod task;
pub mod two_slot;
