//! What has too few copies: the most endangered blocks first, one bounded step at a time.
//!
//! ```text
//!   judged "too few" ─▶ under ─┬▶ ready (by copies left, then by id) ─▶ copy under way ─▶ reported: done
//!                              └▶ due (no node with room: later) ─────────┘ time-out, refusal: again
//!   no copy left ─▶ missing
//! ```
//!
//! A copy under way belongs to one (block, stamp, target): only that target's report of that stamp ends it
//! well, so a block whose stamp rises meanwhile is not forgotten (scar SC-69).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::clock::Moment;
use proto::ids::{BlockId, GenerationStamp};

use super::registry::{NodeIndex, StorageIndex};

/// A copy that a node was told to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copying {
    pub(super) number: u64,
    pub(super) source: NodeIndex,
    pub(super) target: StorageIndex,
    pub(super) stamp: GenerationStamp,
    pub(super) deadline: Moment,
}

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Repair {
    under: BTreeMap<BlockId, u32>,
    ready: BTreeSet<(u32, BlockId)>,
    missing: BTreeSet<BlockId>,
    corrupt: BTreeSet<BlockId>,
    due: BTreeSet<(Moment, BlockId)>,
    settling: BTreeMap<BlockId, Moment>,
    copies: BTreeMap<BlockId, Vec<Copying>>,
    numbers: BTreeMap<u64, BlockId>,
    busy: BTreeMap<NodeIndex, u32>,
}

impl Repair {
    /// Takes a block out of every verdict, before it is judged anew. Copies under way stay.
    pub(super) fn forget(&mut self, block: BlockId) {
        if let Some(level) = self.under.remove(&block) {
            self.ready.remove(&(level, block));
        }
        self.missing.remove(&block);
        self.corrupt.remove(&block);
    }

    pub(super) fn set_under(&mut self, block: BlockId, live: u32, ready: bool) {
        self.under.insert(block, live);
        if ready {
            self.ready.insert((live, block));
        }
    }
    pub(super) fn set_missing(&mut self, block: BlockId) {
        self.missing.insert(block);
    }
    pub(super) fn set_corrupt(&mut self, block: BlockId) {
        self.corrupt.insert(block);
    }

    /// A block was just committed: its last reports are on their way, so it is looked at later.
    pub(super) fn settle(&mut self, block: BlockId, until: Moment) {
        self.settling.insert(block, until);
        self.due.insert((until, block));
    }
    pub(super) fn is_settling(&mut self, block: BlockId, now: Moment) -> bool {
        match self.settling.get(&block) {
            Some(until) if now < *until => true,
            Some(_) => {
                self.settling.remove(&block);
                false
            }
            None => false,
        }
    }

    /// Looks at a block again later; it is not tried before.
    pub(super) fn later(&mut self, block: BlockId, at: Moment) {
        if let Some(level) = self.under.get(&block) {
            self.ready.remove(&(*level, block));
        }
        self.due.insert((at, block));
    }
    /// Blocks whose time has come, at most `limit`.
    pub(super) fn take_due(&mut self, now: Moment, limit: usize) -> Vec<BlockId> {
        let mut blocks = Vec::new();
        while blocks.len() < limit {
            let Some(first) = self.due.first().copied().filter(|(at, _)| *at <= now) else { break };
            self.due.remove(&first);
            blocks.push(first.1);
        }
        blocks
    }
    /// The most endangered blocks, at most `limit`.
    pub(super) fn next_ready(&self, limit: usize) -> Vec<BlockId> {
        self.ready.iter().take(limit).map(|(_, block)| *block).collect()
    }

    /// Notes that copies are under way.
    pub(super) fn started(&mut self, block: BlockId, copy: Copying) {
        *self.busy.entry(copy.source).or_default() += 1;
        self.numbers.insert(copy.number, block);
        self.due.insert((copy.deadline, block));
        self.copies.entry(block).or_default().push(copy);
    }
    /// Ends the copies that are not wanted any more; how many are still under way.
    pub(super) fn prune(&mut self, block: BlockId, ended: impl Fn(&Copying) -> bool) -> Vec<Copying> {
        let Some(copies) = self.copies.get_mut(&block) else { return Vec::new() };
        for copy in copies.extract_if(.., |copy| ended(copy)) {
            self.numbers.remove(&copy.number);
            if let Some(count) = self.busy.get_mut(&copy.source) {
                *count = count.saturating_sub(1);
            }
        }
        let left = copies.clone();
        if left.is_empty() {
            self.copies.remove(&block);
        }
        left
    }
    /// The block of a copy command, if it is still under way.
    pub(super) fn by_number(&self, number: u64) -> Option<BlockId> {
        self.numbers.get(&number).copied()
    }
    /// Copies that a node is reading for others.
    pub(super) fn load(&self, node: NodeIndex) -> u32 {
        self.busy.get(&node).copied().unwrap_or(0)
    }
    /// Gives everything up: another member leads.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn under_count(&self) -> u64 {
        self.under.len() as u64
    }
    pub(super) fn missing_count(&self) -> u64 {
        self.missing.len() as u64
    }
    pub(super) fn corrupt_count(&self) -> u64 {
        self.corrupt.len() as u64
    }
    pub(super) fn copies_count(&self) -> u64 {
        self.copies.values().map(|copies| copies.len() as u64).sum()
    }
}

/// When a block that could not be repaired is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_with_one_copy_left_goes_first() {
        let mut repair = Repair::default();
        for (id, live) in [(1, 2), (2, 1), (3, 2), (4, 1)] {
            repair.set_under(BlockId::from_raw(id), live, true);
        }
        let order: Vec<i64> = repair.next_ready(10).iter().map(|b| b.raw()).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        repair.later(BlockId::from_raw(2), Moment::after_start(Duration::from_secs(1)));
        assert_eq!(repair.next_ready(1), [BlockId::from_raw(4)]);
        assert_eq!(repair.under_count(), 4, "a block that waits still has too few copies");
        assert!(repair.take_due(Moment::START, 9).is_empty());
        assert_eq!(repair.take_due(Moment::after_start(Duration::from_secs(1)), 9), [BlockId::from_raw(2)]);
    }
}
