//! The replicated log: tikv's Raft over our own files. Knows nothing of namespaces; payloads are bytes.
//!
//! ```text
//!   apply thread                           committer thread              image thread
//!   ────────────                           ────────────────              ────────────
//!   propose / step / tick ─▶ Consensus
//!                            ready() ──PersistBatch──▶ LogWriter
//!                               ▲                        vote file, segments, one fdatasync
//!                               └──────PersistDone───────┘
//!   committed entries ◀─ ready()                                       ImageStore::write
//!   image_written() ──▶ ready() ──PersistBatch (release)──▶ LogWriter removes segments
//! ```
//!
//! No call of [`Consensus`] touches a disk or a clock: it is driven by messages and ticks and answers with
//! effects, so that the simulation runs the very thing that is shipped. [`LogWriter`] and [`ImageStore`] are
//! the two places that write. Types of the `raft` crate do not leave this module, and its protobuf code
//! never parses anything: wire and disk are the messages of `proto::raft` (see `wire`).
//!
//! The files of a member, all in one folder (formats: docs/formats/):
//!
//! ```text
//!   lock  identity  vote  log-<sequence>  image-<index>-<term>  image.reserve  formatting (while formatting)
//! ```
//!
//! Read `types`, then `member`, then `log`, `image` and `open`.

mod error;
mod files;
mod image;
mod log;
mod member;
mod open;
mod tail;
#[cfg(test)]
mod tests;
mod timeout;
mod types;
mod wire;

pub use error::{ConsensusError, ImageError, LogError, ProposeError, StepError};
pub use image::{ImageReader, ImageStore};
pub use log::LogWriter;
pub use member::Consensus;
pub use open::{ImageBody, Opened, Recovered};
pub use types::{
    CommittedEntry, ConsensusConfig, Identity, ImageInfo, ImageMeta, PersistBatch, PersistDone, Proposed, ReadState,
    Ready, Role, Room, SendImage,
};
