//! Writing a file: a machine that cuts data into packets and blocks, and what it needs.
//!
//! ```text
//!   data ─▶ cut (packets of 256 KiB, a CRC-32C per 512 bytes) ─▶ window (bounded in bytes) ─▶ pipeline
//!                                                                   ▲
//!   block finished ◀── ack of its last packet, with receipts ───────┘── acks
//!        └─▶ next block (commits the one before) … ─▶ complete (commits the last, publishes the file)
//! ```

mod async_writer;
mod cut;
mod machine;
#[cfg(test)]
mod machine_tests;
mod pipeline;
mod window;
mod writer;

pub use async_writer::AsyncWriter;
pub use machine::{FileWriter, WriteConfig, WriteEffect, WriteEvent};
pub use writer::Writer;
pub(crate) use writer::sleep_until;

/// Attempt at a pipeline, from 1. Events of an older attempt are ignored by the machine.
pub type Attempt = u32;
