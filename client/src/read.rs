//! Reading a file: a machine that reads a range of one block from whichever replica answers well.
//!
//! ```text
//!   range of a block ─▶ replica 1 ─ packets ─▶ chunks verified ─▶ bytes for the application
//!                          │ error, bad checksum, silence
//!                          ▼
//!                       replica 2, from the first byte that was not delivered … then ask where the block is
//! ```
//!
//! A replica on this machine is read through descriptors that its node lends (`local`); the machine does not know.

pub(crate) mod idle;
pub(crate) mod local;
mod machine;
#[cfg(test)]
mod machine_tests;
pub(crate) mod pages;
mod reader;
mod replica;
mod stream;

pub use local::{LocalFigures, LocalReads};
pub use machine::{BlockReadMachine, ReadConfig, ReadEffect, ReadEvent};
pub use reader::Reader;

/// Attempt at a replica, from 1. Events of an older attempt are ignored by the machine.
pub type Attempt = u32;
