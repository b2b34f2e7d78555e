//! Writing a file: a machine that cuts data into packets and blocks, and what it needs.
//!
//! ```text
//!   data ─▶ cut (packets of 256 KiB, a CRC-32C per 512 bytes) ─▶ window (bounded in bytes) ─▶ pipeline
//!                                                                   ▲
//!   block finished ◀── ack of its last packet, with receipts ───────┘── acks
//!        └─▶ next block (commits the one before) … ─▶ complete (commits the last, publishes the file)
//!
//!   a node fails ─▶ blame ─▶ a higher stamp, further nodes ─▶ what was acknowledged is copied to them ─▶ the rest again
//! ```
//!
//! `machine` decides (its parts: `open`, `repair`, `blame`, `flush`), `driver` does it, `writer` is what applications hold.

mod async_writer;
mod cut;
mod driver;
mod machine;
#[cfg(test)]
mod machine_tests;
mod pipeline;
mod window;
mod writer;

pub use async_writer::AsyncWriter;
pub(crate) use driver::sleep_until;
pub use machine::{
    Blamed, FileWriter, Known, PipelineBegin, ProbeAnswer, Reopened, ReplicaAt, WriteConfig, WriteEffect, WriteEvent,
    blame,
};
pub use writer::Writer;

/// Attempt at a pipeline, from 1. Events of an older attempt are ignored by the machine.
pub type Attempt = u32;
