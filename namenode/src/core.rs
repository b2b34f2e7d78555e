//! The namenode without threads, sockets, files or clocks: events in, effects out.
//!
//! ```text
//!                    ┌───────────────────────────── NamenodeCore ─────────────────────────────┐
//!   Request ─────────▶ leadership, session, placement, receipts ─▶ waiting ─▶ one log entry ──┐ │
//!   Raft, Persisted ─▶ consensus ─▶ committed entry ─▶ namespace.apply ─▶ blocks ─▶ Reply     │ │
//!   Tick ────────────▶ heartbeats of Raft, dead nodes, leases, reclaiming, images    ◀────────┘ │
//!                    └──────────────────────────────────────────────────────────────────────────┘
//!   Effect: Reply · Persist (committer) · SendRaft (peers) · WriteImage (image thread) · Stop
//! ```
//!
//! The server puts threads around it, the simulation an event queue: both run this very thing. All waiting
//! operations go into one log entry; they are answered after the entry is applied.

mod config;
mod event;

pub use config::{Bootstrap, CoreConfig, InitialDirectory};
pub use event::{Effect, Event, ImageJob};
