//! The datanode: a block store, a transfer server, and an agent that talks to the namenodes.
//!
//! ```text
//!   clients, datanodes ══packets═▶ server ─▶ receive / serve ─▶ store ─▶ disks
//!                                               │                 ▲
//!   namenodes ◀──heartbeats, reports── agent ◀──┴──── changes ────┘
//!             ───delete, copy────────▶
//! ```
//!
//! `store`, `receive`, `serve`, `scrub`, `budget` and `agent` decide without sockets and clocks of their own: the simulation runs
//! the same code. `server` is the thin shell around them. Read [`store`] first.

pub mod agent;
pub mod budget;
pub mod commands;
pub mod config;
mod metrics;
pub mod node;
pub mod receive;
pub mod scrub;
pub mod serve;
pub mod server;
pub mod store;

pub use node::{Node, Refusal};
