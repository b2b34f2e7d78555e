//! Images on disk: written beside the old ones, verified before they are used, sent to followers in parts.
//!
//! ```text
//!   write ─▶ image.new ──sync──▶ image-<index>-<term> ──sync folder──▶ older than the last two removed
//!   parts from the leader ─▶ image.incoming ──whole? digest, index, term?──▶ the same way
//! ```
//!
//! Two images are kept, and the log since the older one, so that a damaged newest image costs nothing.
//! `image.reserve` holds room for the next one: a full disk can still be relieved of its log.

mod format;
mod incoming;
mod reserve;
mod store;
#[cfg(test)]
mod tests;

pub use store::{ImageReader, ImageStore};
