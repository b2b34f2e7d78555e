//! What this machine can do at best, for benchmarks to print beside what the product does.
//!
//! ```text
//!   syncs      a write and its sync, over and over: what a log can do
//!   files      page cache and disk: long files in and out, small files made durable
//!   loopback   two threads and a socket: a stream from memory or by sendfile, and questions with short answers
//! ```
//!
//! Each call blocks: not for async threads. What it makes on disk is gone when it returns.

mod files;
mod loopback;
mod syncs;

use std::time::Duration;

pub use files::{read_cached, small_files, write_file};
pub use loopback::{StreamSource, exchange, stream};
pub use syncs::sync_times;

/// What was done, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Bytes moved, or things done.
    pub count: u64,
    /// Time from begin to end.
    pub took: Duration,
    /// Processor time of this process meanwhile, all threads.
    pub cpu: Duration,
}
