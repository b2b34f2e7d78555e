//! Reading a file: a machine that reads a range of one block from whichever replica answers well.
//!
//! ```text
//!   Reader ─┬ next         sequence (when to go ahead) ─▶ ahead: a task a block, bounded by buffers ─┐
//!           └ read_at,     ranges (merge, cut) ─▶ parallel: some at a time ──────────────────────────┤
//!             read_ranges                                                                            ▼
//!                                          race (hedge: a second attempt) ─▶ stream ─▶ the machine
//!
//!   range of a block ─▶ replica 1 ─ packets ─▶ chunks verified ─▶ bytes for the application
//!                          │ error, bad checksum, silence
//!                          ▼
//!                       replica 2, from the first byte that was not delivered … then ask where the block is
//! ```
//!
//! `examine` reads one replica alone, for those who check it. `visible` says how long a file is that is being written, and
//! `shown` that it is no shorter than it was.
//!
//! A replica on this machine is read through descriptors that its node lends (`local`); the machine does not know.

mod ahead;
mod async_reader;
pub(crate) mod buffers;
mod examine;
mod hedge;
#[cfg(test)]
mod hedge_tests;
pub(crate) mod idle;
pub(crate) mod local;
mod machine;
#[cfg(test)]
mod machine_tests;
pub(crate) mod pages;
mod parallel;
pub(crate) mod race;
mod ranges;
mod reader;
mod replica;
mod sequence;
mod shell;
mod shown;
mod stream;
mod visible;

pub use async_reader::AsyncReader;
pub use examine::ReplicaReader;
pub use hedge::{FirstPackets, Hedge, HedgeBudget, HedgeConfig, HedgeEffect, HedgeEvent, Lane};
pub use local::{LocalFigures, LocalReads};
pub use machine::{BlockReadMachine, ReadConfig, ReadEffect, ReadEvent};
pub use ranges::Coalesce;
pub use reader::Reader;
pub use sequence::ReadAhead;
pub use shown::{Opening, Shown};
pub use visible::{Asked, visible_bytes};

/// Attempt at a replica, from 1. Events of an older attempt are ignored by the machine.
pub type Attempt = u32;
