//! Replicas that may go, and the one rule by which they do.
//!
//! ```text
//!   judged superfluous ─▶ wanted ──heartbeat of that node, rule holds──▶ sent ──▶ node reports "deleted"
//!                            ▲                                            │
//!                            └─ 30 s later, with every change heard that ─┘
//!                               the node had made by then: it is still there
//! ```
//!
//! The deletion rule: by the leader, in its own term, not in the first minute of it, with its quorum just
//! confirmed; after a full report of that storage in that term; only in the reply to a heartbeat; and while
//! enough *other* copies on distinct nodes are known: the full number for a surplus one, the minimum for a
//! stale or damaged one, none only when a committed entry removed the block's last owner.
//! Other copies are on nodes that were heard of lately: a silent one may be gone (scar SC-76); and of which everything was
//! heard that they had changed by their last heartbeat: it may be that the copy was found damaged. A copy that was
//! told to go counts for nothing from then on, until its node's changes say what became of it; the result of
//! the command is not enough, because it overtakes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
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

/// A command is void 10 s after its heartbeat was sent; nothing is concluded, and nothing sent again, before
/// this time.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Moment,
    /// The command is void by now, and what came of it is told by the changes up to this one.
    told_by: Option<u64>,
}

/// What is to be removed. A replica is in at most one of the three tables.
#[derive(Debug, Default)]
pub(super) struct Removal {
    asked: BTreeSet<(StorageIndex, BlockId)>,
    unasked: BTreeMap<(StorageIndex, BlockId), Reason>,
    sent: BTreeMap<(StorageIndex, BlockId), Sent>,
}

const fn all_of(storage: StorageIndex) -> RangeInclusive<(StorageIndex, BlockId)> {
    (storage, BlockId::from_raw(i64::MIN))..=(storage, BlockId::from_raw(i64::MAX))
}

impl Removal {
    /// Wants a replica gone. One that was told to go is left alone until its node has said what became of it.
    pub(super) fn want(&mut self, storage: StorageIndex, block: BlockId, reason: Reason) {
        if self.is_sent(storage, block) {
            return;
        }
        self.retract(storage, block);
        if reason.asked() {
            self.asked.insert((storage, block));
        } else {
            self.unasked.insert((storage, block), reason);
        }
    }
    /// The replica is gone.
    pub(super) fn drop(&mut self, storage: StorageIndex, block: BlockId) {
        self.retract(storage, block);
        self.sent.remove(&(storage, block));
    }
    /// Takes back a wish that was not sent yet.
    pub(super) fn retract(&mut self, storage: StorageIndex, block: BlockId) {
        self.asked.remove(&(storage, block));
        self.unasked.remove(&(storage, block));
    }
    /// Was this replica told to go, and is it not known yet what became of it?
    pub(super) fn is_sent(&self, storage: StorageIndex, block: BlockId) -> bool {
        self.sent.contains_key(&(storage, block))
    }
    /// Up to `limit` replicas of a storage whose deletion a user asked for.
    pub(super) fn asked_of(&self, storage: StorageIndex, limit: usize) -> Vec<(BlockId, Reason)> {
        self.asked.range(all_of(storage)).take(limit).map(|(_, block)| (*block, Reason::Deleted)).collect()
    }
    /// Up to `limit` replicas of a storage that are to go for another reason.
    pub(super) fn unasked_of(&self, storage: StorageIndex, limit: usize) -> Vec<(BlockId, Reason)> {
        self.unasked.range(all_of(storage)).take(limit).map(|((_, block), reason)| (*block, *reason)).collect()
    }
    pub(super) fn mark_sent(&mut self, storage: StorageIndex, block: BlockId, now: Moment) {
        self.retract(storage, block);
        self.sent.insert((storage, block), Sent { at: now, told_by: None });
    }
    /// A heartbeat says how many changes the storage has made: commands that are void by now were carried out
    /// as of this change, or never will be.
    pub(super) fn heartbeat(&mut self, storage: StorageIndex, sequence: u64, now: Moment) {
        for (_, sent) in self.sent.range_mut(all_of(storage)) {
            if sent.told_by.is_none() && now.since(sent.at) >= SILENCE {
                sent.told_by = Some(sequence);
            }
        }
    }
    /// The storage begins new numbers.
    pub(super) fn restarted(&mut self, storage: StorageIndex) {
        self.sent.range_mut(all_of(storage)).for_each(|(_, sent)| sent.told_by = None);
    }
    /// Every change up to `heard` was taken in, and these replicas are still there: they count again.
    pub(super) fn outlived(&mut self, storage: StorageIndex, heard: u64) -> Vec<BlockId> {
        let over = |sent: &mut Sent| sent.told_by.is_some_and(|change| change <= heard);
        self.sent.extract_if(all_of(storage), |_, sent| over(sent)).map(|((_, block), _)| block).collect()
    }
    /// Replicas of a storage that were told to go and of which nothing was heard since.
    pub(super) fn sent_to(&self, storage: StorageIndex) -> u64 {
        self.sent.range(all_of(storage)).count() as u64
    }
    pub(super) fn count(&self) -> u64 {
        (self.asked.len() + self.unasked.len() + self.sent.len()) as u64
    }
}
