//! Replicas that may go, and the one rule by which they do.
//!
//! ```text
//!   judged superfluous ─▶ wanted ──heartbeat of that node, rule holds──▶ sent ──▶ node reports "deleted"
//!                            ▲                                            │
//!                            └────────── refused, or no word for 30 s ────┘
//! ```
//!
//! The deletion rule: by the leader, in its own term, not in the first minute of it, with its quorum just
//! confirmed; after a full report of that storage in that term; only in the reply to a heartbeat; and while
//! enough *other* copies on distinct nodes are known: the full number for a surplus one, the minimum for a
//! stale or damaged one, none only when a committed entry removed the block's last owner.
//! A copy that was told to go counts for nothing from then on, until its node says what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use proto::ids::BlockId;

use super::registry::StorageIndex;

/// Why a replica goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A committed entry removed the block.
    Deleted,
    /// More copies than asked for.
    Surplus,
    /// Of an older stamp, or half-written.
    Stale,
    /// Damaged.
    Corrupt,
}

impl Reason {
    /// The word in the command.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Surplus => "surplus",
            Self::Stale => "stale",
            Self::Corrupt => "corrupt",
        }
    }
    /// Did a user ask for it? Everything else is limited in its rate.
    #[must_use]
    pub const fn asked(self) -> bool {
        matches!(self, Self::Deleted)
    }
}

/// A command is void 10 s after it was received; nothing is concluded, and nothing sent again, before this.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Want {
    reason: Reason,
    sent: Option<(Moment, u64)>,
}

/// What is to be removed.
#[derive(Debug, Default)]
pub(super) struct Removal {
    wants: BTreeMap<(StorageIndex, BlockId), Want>,
}

impl Removal {
    pub(super) fn want(&mut self, storage: StorageIndex, block: BlockId, reason: Reason) {
        self.wants
            .entry((storage, block))
            .and_modify(|want| want.reason = reason)
            .or_insert(Want { reason, sent: None });
    }
    /// The replica is gone, or wanted again.
    pub(super) fn drop(&mut self, storage: StorageIndex, block: BlockId) {
        self.wants.remove(&(storage, block));
    }
    /// Takes back a wish that was not sent yet.
    pub(super) fn retract(&mut self, storage: StorageIndex, block: BlockId) {
        if self.wants.get(&(storage, block)).is_some_and(|want| want.sent.is_none()) {
            self.drop(storage, block);
        }
    }
    /// Was this replica told to go?
    pub(super) fn is_sent(&self, storage: StorageIndex, block: BlockId) -> bool {
        self.wants.get(&(storage, block)).is_some_and(|want| want.sent.is_some())
    }
    /// Up to `limit` wishes for a storage that were not sent within [`SILENCE`].
    pub(super) fn sendable(&self, storage: StorageIndex, now: Moment, limit: usize) -> Vec<(BlockId, Reason)> {
        let from = (storage, BlockId::from_raw(i64::MIN));
        self.wants
            .range(from..)
            .take_while(|((s, _), _)| *s == storage)
            .filter(|(_, want)| want.sent.is_none_or(|(at, _)| now.since(at) >= SILENCE))
            .take(limit)
            .map(|((_, block), want)| (*block, want.reason))
            .collect()
    }
    pub(super) fn mark_sent(&mut self, storage: StorageIndex, block: BlockId, now: Moment, number: u64) {
        if let Some(want) = self.wants.get_mut(&(storage, block)) {
            want.sent = Some((now, number));
        }
    }
    /// The wishes that a command carried, which its node refused: they are dropped, to be judged again.
    pub(super) fn refused(&mut self, storages: &[StorageIndex], number: u64) -> Vec<BlockId> {
        let carried = |((storage, _), want): (&(StorageIndex, BlockId), &mut Want)| {
            want.sent.is_some_and(|(_, n)| n == number) && storages.contains(storage)
        };
        self.wants.extract_if(.., |at, want| carried((at, want))).map(|((_, block), _)| block).collect()
    }
    /// A full report shows what is there: wishes sent long ago were not carried out.
    pub(super) fn reported_in_full(&mut self, storage: StorageIndex, now: Moment) -> Vec<BlockId> {
        let range = (storage, BlockId::from_raw(i64::MIN))..=(storage, BlockId::from_raw(i64::MAX));
        let old = |want: &mut Want| want.sent.is_some_and(|(at, _)| now.since(at) >= SILENCE);
        self.wants.extract_if(range, |_, want| old(want)).map(|((_, block), _)| block).collect()
    }
    pub(super) fn clear(&mut self) {
        self.wants.clear();
    }
    pub(super) fn count(&self) -> u64 {
        self.wants.len() as u64
    }
}
