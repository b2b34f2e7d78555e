//! The namenode's service functions: what every door calls.
//!
//! ```text
//!   request   the closed lists of requests and answers
//!   admit     is this request well-formed, of our version, from someone?      refuse before anything else
//!   read      answers from namespace and block map, changing nothing
//!   walk      the same where it may take more than one hold of the locks
//!   write     a client's change ─▶ a command for the log (placement, receipts), or a refusal, or "wait"
//!   pipeline  stamps, pipelines and appends: what of the two above concerns files that are written on
//!   leases    who writes what
//!   answer    the outcome of apply ─▶ the client's answer (locations, tokens)
//! ```
//!
//! These are functions of the state; [`core`](crate::core) decides when they run.

pub mod admit;
pub mod answer;
mod attributes;
mod fsck;
pub(crate) mod jobs;
mod leases;
mod pipeline;
pub mod read;
pub mod request;
#[cfg(test)]
mod tests;
pub mod walk;
pub mod write;

pub(crate) use attributes::paths;
use auth::{Caller, MasterKey, token};
use bytes::Bytes;
use parking_lot::RwLock;
use proto::ids::{BlockId, GenerationStamp, NodeId, Term};
use proto::log::CallerRecord;

use crate::blocks::{BlockManager, Facts, Names, StorageIndex};
use crate::core::Leases;
use crate::namespace::Namespace;

/// What service functions look at: one consistent moment of the state.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The namespace.
    pub namespace: &'a Namespace,
    /// The block map.
    pub blocks: &'a BlockManager,
    /// Facts of the member.
    pub member: MemberStatus,
    /// When sessions were heard of; locked by whoever asks, last of all.
    pub leases: &'a RwLock<Leases>,
    /// Wall time, ns since the Unix epoch; for token expiry.
    pub wall_ns: i64,
    /// Life of a block token, in ms.
    pub token_life_ms: i64,
}

/// Facts of the member that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// Current term.
    pub term: Term,
    /// Does it lead, with everything of earlier terms applied?
    pub serving: bool,
    /// Is it the only voter? Then it may answer reads by itself.
    pub alone: bool,
    /// Time since it started, in ms.
    pub uptime_ms: u64,
    /// Its log's disk does not answer.
    pub log_stalled: bool,
}

impl View<'_> {
    /// The caller as the log records it: its groups, and the superuser's group if it is the superuser.
    #[must_use]
    pub fn record(&self, caller: &Caller) -> CallerRecord {
        let mut groups = caller.groups.clone();
        let superuser = self.namespace.identity().is_some_and(|identity| identity.superuser == caller.user);
        let group = &self.namespace.settings().superuser_group;
        if superuser && !groups.contains(group) {
            groups.push(group.clone());
        }
        CallerRecord { user: caller.user.clone(), groups }
    }

    /// The pool's name; empty before format.
    #[must_use]
    pub fn pool(&self) -> &str {
        self.namespace.identity().map_or("", |identity| identity.pool.as_str())
    }

    /// A token for one block at one stamp on these nodes; empty before there is a key.
    #[must_use]
    pub fn mint(
        &self,
        user: &str,
        modes: &[token::Mode],
        block: (BlockId, GenerationStamp),
        nodes: &[NodeId],
    ) -> Bytes {
        let (block, stamp) = block;
        self.mint_range(user, modes, block, (stamp, stamp), nodes)
    }

    /// As [`View::mint`], for replicas from one stamp on, and for writing up to another one.
    #[must_use]
    pub fn mint_range(
        &self,
        user: &str,
        modes: &[token::Mode],
        block: BlockId,
        stamps: (GenerationStamp, GenerationStamp),
        nodes: &[NodeId],
    ) -> Bytes {
        mint(self.namespace, (self.wall_ns, self.token_life_ms), (user, modes), (block, stamps), nodes)
    }
}

/// A token for one block on these nodes, for replicas from one stamp on, and for writing up to another one. With the newest
/// key; empty before there is one.
#[must_use]
pub fn mint(
    namespace: &Namespace,
    (wall_ns, life_ms): (i64, i64),
    (user, modes): (&str, &[token::Mode]),
    (block, (floor, ceiling)): (BlockId, (GenerationStamp, GenerationStamp)),
    nodes: &[NodeId],
) -> Bytes {
    let (Some(key), Some(identity)) = (namespace.block_keys().last(), namespace.identity()) else {
        return Bytes::new();
    };
    let Some(master) = MasterKey::from_slice(&key.key) else { return Bytes::new() };
    let claims = token::Claims {
        pool: identity.pool.clone(),
        block,
        floor,
        ceiling,
        modes: modes.to_vec(),
        user: user.to_owned(),
        expires_ms: (wall_ns / 1_000_000).saturating_add(life_ms),
    };
    token::mint(&master, key.number, &claims, nodes)
}

impl Names for Namespace {
    fn facts(&self, block: BlockId) -> Option<Facts> {
        self.block(block).map(|view| Facts {
            stamp: view.stamp,
            len_bytes: view.len_bytes,
            committed: view.committed,
            replication: view.replication,
            untouched: view.untouched,
        })
    }
    fn next_block(&self) -> BlockId {
        self.next_block_id()
    }
    fn committed_blocks(&self) -> u64 {
        Self::committed_blocks(self)
    }
    fn minimum_copies(&self, replication: u32) -> u32 {
        Self::minimum_copies(self, replication)
    }
    fn logged(&self, block: BlockId) -> Vec<StorageIndex> {
        self.storages_of_block(block)
    }
    fn blocks_after(&self, after: Option<BlockId>, limit: usize) -> Vec<BlockId> {
        Self::blocks_after(self, after, limit)
    }
}
