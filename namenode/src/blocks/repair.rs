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
use std::ops::Bound;
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
    /// Where the turn through the blocks behind the head of the queue stands.
    turn: Option<(u32, BlockId)>,
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
    pub(super) fn is_settling(&self, block: BlockId, now: Moment) -> bool {
        self.settling.get(&block).is_some_and(|until| now < *until)
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
            if self.settling.get(&first.1).is_some_and(|until| *until <= now) {
                self.settling.remove(&first.1);
            }
            blocks.push(first.1);
        }
        blocks
    }
    /// The `head` most endangered blocks, then up to `turn` of the others by turns, so that blocks whose
    /// sources are busy hold up nobody.
    pub(super) fn candidates(&mut self, head: usize, turn: usize) -> Vec<BlockId> {
        let mut blocks: Vec<BlockId> = self.ready.iter().take(head).map(|(_, block)| *block).collect();
        if self.ready.len() > head {
            let from = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
            let others: Vec<_> = self.ready.range((from, Bound::Unbounded)).take(turn).copied().collect();
            self.turn = others.last().copied().filter(|_| others.len() == turn);
            blocks.extend(others.into_iter().map(|(_, block)| block));
        }
        blocks
    }
    /// Is this block to be copied as soon as a source is free?
    pub(super) fn is_ready(&self, block: BlockId) -> bool {
        self.under.get(&block).is_some_and(|level| self.ready.contains(&(*level, block)))
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
    /// Where copies of a block are being written.
    pub(super) fn targets_of(&self, block: BlockId) -> impl Iterator<Item = StorageIndex> {
        self.copies.get(&block).into_iter().flatten().map(|copy| copy.target)
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
    /// Blocks that are looked at when their time has come.
    pub(super) fn due_count(&self) -> u64 {
        self.due.len() as u64
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
        let order: Vec<i64> = repair.candidates(10, 10).iter().map(|b| b.raw()).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        repair.later(BlockId::from_raw(2), Moment::after_start(Duration::from_secs(1)));
        assert_eq!(repair.candidates(1, 0), [BlockId::from_raw(4)]);
        assert_eq!(repair.under_count(), 4, "a block that waits still has too few copies");
        assert!(repair.take_due(Moment::START, 9).is_empty());
        assert_eq!(repair.take_due(Moment::after_start(Duration::from_secs(1)), 9), [BlockId::from_raw(2)]);
    }

    #[test]
    fn everybody_has_a_turn_behind_the_head_of_the_queue() {
        let mut repair = Repair::default();
        (0..10).for_each(|id| repair.set_under(BlockId::from_raw(id), 1, true));
        let mut seen = BTreeSet::new();
        for _ in 0..5 {
            let looked = repair.candidates(2, 3);
            assert_eq!(looked[..2], [BlockId::from_raw(0), BlockId::from_raw(1)]);
            seen.extend(looked);
        }
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn what_settles_is_forgotten_when_its_time_has_come() {
        let mut repair = Repair::default();
        let at = |secs| Moment::after_start(Duration::from_secs(secs));
        for id in 0..100 {
            repair.settle(BlockId::from_raw(id), at(10));
        }
        assert!(repair.is_settling(BlockId::from_raw(5), at(9)));
        assert_eq!(repair.take_due(at(10), 1000).len(), 100);
        assert!(repair.settling.is_empty() && repair.due.is_empty(), "nothing of finished blocks stays");
    }
}
