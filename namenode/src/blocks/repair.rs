//! What has too few copies: the most endangered blocks first, one bounded step at a time.
//!
//! ```text
//!   judged "too few" ─▶ under ─┬▶ ready (by copies left, then by id) ─▶ copy under way ─▶ reported: done
//!                              └▶ due (no node with room: later) ─────────┘ time-out, refusal: again
//!   no copy left ─▶ missing
//! ```
//!
//! A copy under way belongs to one (block, stamp, target): only that target's report of that stamp ends it
//! well, so a block whose stamp rises meanwhile is not forgotten (scar SC-69). Its source has its hand free as soon as it
//! says that it is done; its target has when its report is here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use base::clock::Moment;
use proto::ids::{BlockId, GenerationStamp};

use super::hand::Load;
use super::registry::{NodeIndex, StorageIndex};

/// A copy that a node was told to make, or will be with its next heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copying {
    pub(super) number: u64,
    pub(super) source: NodeIndex,
    pub(super) target: StorageIndex,
    /// The target's node.
    pub(super) receiver: NodeIndex,
    pub(super) stamp: GenerationStamp,
    pub(super) len_bytes: u64,
    pub(super) deadline: Moment,
    pub(super) at: At,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The source was not told yet.
    Ordered,
    /// The source has it in hand.
    Source,
    /// The source is done with it; the target has not reported it yet.
    Target,
}

/// What nodes have in hand; who has nothing is not in it.
type Loads = BTreeMap<NodeIndex, Load>;

fn lay_down(loads: &mut Loads, node: NodeIndex, len_bytes: u64) {
    if let Some(load) = loads.get_mut(&node) {
        load.remove(len_bytes);
        if load.is_nothing() {
            loads.remove(&node);
        }
    }
}

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Repair {
    under: BTreeMap<BlockId, u32>,
    ready: BTreeSet<(u32, BlockId)>,
    missing: BTreeSet<BlockId>,
    /// Blocks of `under` that lack nothing but copies in place of those on nodes that leave.
    moving: BTreeSet<BlockId>,
    corrupt: BTreeSet<BlockId>,
    due: BTreeSet<(Moment, BlockId)>,
    settling: BTreeMap<BlockId, Moment>,
    copies: BTreeMap<BlockId, Vec<Copying>>,
    numbers: BTreeMap<u64, BlockId>,
    /// Blocks of `under` with one copy or none.
    endangered: u64,
    reading: Loads,
    coming: Loads,
    /// Nodes at which copies of a block failed since it had enough: others are tried first.
    refused: BTreeMap<BlockId, Vec<NodeIndex>>,
    /// Where the turn through the blocks behind the head of the queue stands.
    turn: Option<(u32, BlockId)>,
}

impl Repair {
    /// Takes a block out of every verdict, before it is judged anew. Copies under way stay.
    pub(super) fn forget(&mut self, block: BlockId) {
        if let Some(level) = self.under.remove(&block) {
            self.ready.remove(&(level, block));
            self.endangered -= u64::from(level <= ENDANGERED);
        }
        self.missing.remove(&block);
        self.moving.remove(&block);
        self.corrupt.remove(&block);
    }

    pub(super) fn set_under(&mut self, block: BlockId, live: u32, ready: bool) {
        if let Some(before) = self.under.insert(block, live) {
            self.endangered -= u64::from(before <= ENDANGERED);
        }
        self.endangered += u64::from(live <= ENDANGERED);
        if ready {
            self.ready.insert((live, block));
        }
    }
    pub(super) fn set_missing(&mut self, block: BlockId) {
        self.missing.insert(block);
    }
    /// What the block lacks it has on nodes that leave: nothing was lost.
    pub(super) fn set_moving(&mut self, block: BlockId) {
        self.moving.insert(block);
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

    /// As [`Repair::is_settling`], as of the last time that what is due was taken.
    pub(super) fn settles(&self, block: BlockId) -> bool {
        self.settling.contains_key(&block)
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

    /// Notes that a copy is under way.
    pub(super) fn started(&mut self, block: BlockId, copy: Copying) {
        self.reading.entry(copy.source).or_default().add(copy.len_bytes);
        self.coming.entry(copy.receiver).or_default().add(copy.len_bytes);
        self.numbers.insert(copy.number, block);
        self.due.insert((copy.deadline, block));
        self.copies.entry(block).or_default().push(copy);
    }
    fn change(&mut self, number: u64, change: impl FnOnce(&mut Copying)) {
        let Some(copies) = self.numbers.get(&number).and_then(|block| self.copies.get_mut(block)) else { return };
        if let Some(copy) = copies.iter_mut().find(|copy| copy.number == number) {
            change(copy);
        }
    }
    /// The source was told.
    pub(super) fn sent(&mut self, number: u64) {
        self.change(number, |copy| copy.at = At::Source);
    }
    /// The source says that it has copied: it has its hand free. What became of it is told by the target's report.
    pub(super) fn source_is_done(&mut self, number: u64, source: NodeIndex) {
        let mut done = None;
        self.change(number, |copy| {
            if copy.source == source && copy.at == At::Source {
                copy.at = At::Target;
                done = Some(copy.len_bytes);
            }
        });
        if let Some(len_bytes) = done {
            lay_down(&mut self.reading, source, len_bytes);
        }
    }
    /// Ends the copies that are not wanted any more; those that are still under way.
    pub(super) fn prune(&mut self, block: BlockId, ended: impl Fn(&Copying) -> bool) -> Vec<Copying> {
        let Some(copies) = self.copies.get_mut(&block) else { return Vec::new() };
        for copy in copies.extract_if(.., |copy| ended(copy)) {
            self.numbers.remove(&copy.number);
            if copy.at != At::Target {
                lay_down(&mut self.reading, copy.source, copy.len_bytes);
            }
            lay_down(&mut self.coming, copy.receiver, copy.len_bytes);
        }
        let left = copies.clone();
        if left.is_empty() {
            self.copies.remove(&block);
        }
        left
    }
    /// A source says that a copy failed: perhaps its target does not take the block, for as long as it holds something
    /// else of it, or its disk is worn.
    pub(super) fn failed(&mut self, number: u64, source: NodeIndex) {
        let mut at = None;
        self.change(number, |copy| at = (copy.source == source).then_some(copy.receiver));
        if let (Some(receiver), Some(block)) = (at, self.by_number(number)) {
            let refused = self.refused.entry(block).or_default();
            if !refused.contains(&receiver) {
                refused.push(receiver);
            }
        }
    }
    /// Nodes at which copies of this block failed.
    pub(super) fn refused_by(&self, block: BlockId) -> &[NodeIndex] {
        self.refused.get(&block).map_or(&[], Vec::as_slice)
    }
    /// Every node may be tried again.
    pub(super) fn forgive(&mut self, block: BlockId) {
        self.refused.remove(&block);
    }

    /// Takes orders back of which the sources were not told, until no more than `needed` copies are under way; their
    /// number.
    pub(super) fn keep(&mut self, block: BlockId, under_way: &[Copying], needed: usize) -> usize {
        let surplus = under_way.len().saturating_sub(needed);
        let unsent = under_way.iter().rev().filter(|copy| copy.at == At::Ordered);
        let back: BTreeSet<u64> = unsent.take(surplus).map(|copy| copy.number).collect();
        if back.is_empty() {
            return under_way.len();
        }
        self.prune(block, |copy| back.contains(&copy.number)).len()
    }
    /// Where copies of a block are being written.
    pub(super) fn targets_of(&self, block: BlockId) -> impl Iterator<Item = StorageIndex> {
        self.copies.get(&block).into_iter().flatten().map(|copy| copy.target)
    }
    /// The block of a copy command, if it is still under way.
    pub(super) fn by_number(&self, number: u64) -> Option<BlockId> {
        self.numbers.get(&number).copied()
    }
    /// Copies that a node makes for others.
    pub(super) fn reading(&self, node: NodeIndex) -> Load {
        self.reading.get(&node).copied().unwrap_or_default()
    }
    /// Nodes to which copies are on their way.
    pub(super) fn coming(&self) -> impl Iterator<Item = (NodeIndex, Load)> {
        self.coming.iter().map(|(node, load)| (*node, *load))
    }

    /// Blocks with fewer copies than wanted, wherever these are.
    pub(super) fn under_count(&self) -> u64 {
        (self.under.len() - self.moving.len()) as u64
    }
    pub(super) fn moving_count(&self) -> u64 {
        self.moving.len() as u64
    }
    /// Is a block waiting for a copy that could be made?
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
    pub(super) const fn endangered_count(&self) -> u64 {
        self.endangered
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

/// Copies at which a block is in danger: its next loss is for ever.
pub(super) const ENDANGERED: u32 = 1;
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
        assert_eq!(repair.endangered_count(), 2);
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
    fn a_source_has_its_hand_free_before_the_target_reports_and_unsent_orders_are_taken_back() {
        let (mut repair, at) = (Repair::default(), Moment::after_start(Duration::from_secs(100)));
        let block = BlockId::from_raw(1);
        let [source, other] = [0, 1].map(NodeIndex::from_number);
        let copy = |number, receiver: u32| Copying {
            number,
            source,
            target: StorageIndex(receiver),
            receiver: NodeIndex::from_number(receiver),
            stamp: GenerationStamp::FIRST,
            len_bytes: 10,
            deadline: at,
            at: At::Ordered,
        };
        (1..=3).for_each(|number| repair.started(block, copy(number, number as u32 + 5)));
        repair.sent(1);
        repair.source_is_done(1, other);
        assert_eq!(repair.reading(source).copies(), 3, "somebody else's word");
        repair.source_is_done(1, source);
        repair.source_is_done(1, source);
        assert_eq!((repair.reading(source).copies(), repair.coming().count()), (2, 3));
        let under_way = repair.prune(block, |_| false);
        assert_eq!(repair.keep(block, &under_way, 0), 1, "what has left cannot be taken back");
        assert_eq!((repair.by_number(1), repair.by_number(2)), (Some(block), None));
        assert_eq!((repair.reading(source).copies(), repair.coming().count()), (0, 1));
        assert!(repair.prune(block, |_| true).is_empty());
        assert_eq!((repair.coming().count(), repair.copies_count()), (0, 0));
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
