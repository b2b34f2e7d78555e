//! The log on disk: segments of records, written by one thread, read back at the start.
//!
//! ```text
//!   log-…17 (closed)   log-…18 (active)        log-…19 (spare, set aside)
//!   ████████████ End   ████████ next ▸ 0 0 0   0 0 0 0 0 0 0 0
//! ```
//!
//! Read `record`, then `writer`, then `scan` (how damage is judged). Format: docs/formats/log.md.

mod record;
mod scan;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use record::cluster_hash;
pub(super) use scan::{Scan, rot_error, scan};
pub use writer::LogWriter;
pub(super) use writer::{WriterParts, create_first};
