//! A cluster as a directory of this machine.
//!
//! ```text
//!   programs ─▶ the kernel ─▶ fuser ─▶ kernel   each request a task, an answer in any case
//!                                        │
//!                      names ◀───────────┼──────────▶ files ─▶ open_file   Clean, Stream or Draft
//!                        │            dirs              │         │
//!                        │                              │      draft, ranges   a changed copy on this machine
//!                        ▼                              ▼         │
//!                     inodes   numbers ↔ paths       publish ◀────┘ commit   decides how changes get into the cluster
//!                        └──────────── client: the library, a client for each user ────────────┘
//! ```
//!
//! `kernel` and `requests` translate, `core` has the tables and the deadline, `names`, `opening` and `files` are the requests.
//! `commit`, `ranges`, `inodes`, `changes`, `errno` and `people` decide and touch nothing. Every call of the client is made
//! within one deadline, and whoever holds a file holds it for such calls only: nothing hangs.
//!
//! Names are the namespace's, and nothing of them is kept here beyond what the kernel remembers, for a second. What another
//! mount sees of a file's content, and when, is in ARCHITECTURE.md.

mod acl;
mod attr;
mod behind;
mod changes;
mod commit;
pub mod config;
mod core;
mod dirs;
mod draft;
pub mod errno;
mod figures;
mod files;
mod inodes;
mod kernel;
pub mod mount;
mod names;
mod open_file;
mod opening;
mod people;
mod publish;
mod ranges;
mod requests;
mod spelling;
mod xattrs;

pub use config::{Connect, MountConfig, SyncAt};
pub use errno::Errno;
pub use mount::{KIND, MountError, Mounted, unmount};
