//! Who is calling, and what proves it: callers, block tokens, receipts.
//!
//! ```text
//!   namenode   MasterKey (logged) ──HMAC(node id)──▶ NodeKey ──given at registration──▶ datanode
//!       │ mint: one MAC per target node                                                  │
//!       └──────────▶ Token ──client carries it──────────────────────────────────────────▶ check
//!                                                                                        │
//!       verify ◀────────────────── client carries it ◀──────────────── Receipt (finalised) ┘
//! ```
//!
//! A stolen node key opens only what that node may serve: the other MACs of a token are made with other
//! keys, and no node can make a MAC for another one. Transport security joins this crate with the security
//! doors; until then servers accept plain callers from loopback only.

mod caller;
mod key;
pub mod receipt;
pub mod token;

pub use caller::{AuthMethod, Caller};
pub use key::{KEY_BYTES, MasterKey, NodeKey, NodeKeys};
