//! The hosts: shells of a few hundred lines around the machines that ship.
//!
//! ```text
//!   Event ──▶ host ──event──▶ machine ──effects──▶ host ──▶ Scene (messages, timers), MemDisk
//! ```
//!
//! A host has lives. When it dies, everything it held in memory is gone; its disk keeps what a killed process or a
//! power cut leaves. Timers of an earlier life are void.

pub mod client;
pub mod datanode;
pub mod namenode;

use std::time::Duration;

pub use client::ClientHost;
pub use datanode::DatanodeHost;
pub use namenode::NamenodeHost;

/// How a host dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process is killed: the page cache stays.
    Kill,
    /// The power fails: what was not synced may be gone, in part or as a whole.
    PowerCut,
}

/// Wall time of a host: ns since the epoch at a moment of the simulation, with its own error.
pub(crate) fn wall_ns(now: base::clock::Moment, error_ns: i64) -> i64 {
    const BEGIN_NS: i64 = 1_800_000_000_000_000_000;
    let elapsed = i64::try_from(now.elapsed_from_start().as_nanos()).unwrap_or(i64::MAX);
    BEGIN_NS.saturating_add(elapsed).saturating_add(error_ns)
}

pub(crate) const fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}
pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
