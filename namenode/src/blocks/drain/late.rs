//! Blocks that closed while a node of theirs was being emptied, until they are safe elsewhere.
//!
//! ```text
//!   look:  good ──▶ odd ──▶ open ──▶ closed lately
//!            │                ▲          ▲
//!            └─ passes B by   └─ B has   └─ B is here since the entry that closed it
//!               while it is      closed
//!               open             by now
//! ```
//!
//! A look goes over one table after the other while entries are applied, so a block that closes is found in none of them
//! (scar SC-75): when the good replicas were gone over it was open, and it is not among the open ones any more. One that
//! closes while these here are gone over, where that is past already, is looked at in the end: no look ends before. And a
//! node that is silent since a block closed has perhaps not told that it holds it. The entry that closes a block names
//! those who were to hold it, so nothing depends on their reports. Every member keeps it: a leader begins with what closed
//! before it led.

use std::collections::BTreeSet;

use proto::ids::BlockId;

use super::super::BlockManager;
use super::super::facts::Names;
use super::super::registry::{NodeIndex, StorageIndex};
use super::{Look, Stage};
use crate::namespace::NodeService;

/// Blocks that are looked at again for each one that closes: members that do not lead forget them faster than they come.
const SWEPT: usize = 2;

/// Such blocks of one node.
#[derive(Debug, Default)]
pub(in crate::blocks) struct Late {
    blocks: BTreeSet<BlockId>,
    /// The last one that was looked at because another one came.
    swept: Option<BlockId>,
}

impl Late {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
    pub(super) fn contains(&self, block: BlockId) -> bool {
        self.blocks.contains(&block)
    }
    pub(super) fn remove(&mut self, block: BlockId) {
        self.blocks.remove(&block);
    }
    /// Up to `limit` of them behind a block.
    pub(super) fn after(&self, after: Option<BlockId>, limit: usize) -> Vec<BlockId> {
        let from = after.map_or(BlockId::from_raw(i64::MIN), BlockId::next);
        self.blocks.range(from..).take(limit).copied().collect()
    }
    /// One more. Those whose turn it is to be looked at.
    fn insert(&mut self, block: BlockId) -> Vec<BlockId> {
        self.blocks.insert(block);
        let turn = self.after(self.swept, SWEPT);
        self.swept = turn.last().copied().filter(|_| turn.len() == SWEPT);
        turn
    }
    /// How many there are.
    #[cfg(test)]
    pub(in crate::blocks) fn len(&self) -> usize {
        self.blocks.len()
    }
}

impl BlockManager {
    /// An entry closes a block: it was open on its targets, and `proven` by others perhaps.
    pub(in crate::blocks) fn closes(&mut self, block: BlockId, proven: &[StorageIndex], names: &dyn Names) {
        if self.drains.by_node.is_empty() {
            return;
        }
        let known = |storage: &StorageIndex| (storage.0 as usize) < self.streams.len();
        let targets = self.open_targets.get(&block).into_iter().flatten().map(|home| home.storage);
        let homes = targets.chain(proven.iter().copied()).filter(known);
        let nodes: BTreeSet<NodeIndex> = homes.map(|storage| self.registry.at(storage).node).collect();
        for node in nodes {
            let Some(mut drain) = self.drains.by_node.remove(&node) else { continue };
            if let Some(look) = &mut drain.look {
                look.closes(block);
            }
            for other in drain.late.insert(block) {
                if self.is_late_no_more(other, drain.service, names) {
                    drain.late.remove(other);
                }
            }
            self.drains.by_node.insert(node, drain);
        }
    }

    /// Is this block gone, or safe elsewhere?
    fn is_late_no_more(&self, block: BlockId, service: NodeService, names: &dyn Names) -> bool {
        names
            .facts(block)
            .is_none_or(|facts| facts.committed && self.in_the_way(block, facts, service, names).is_none())
    }

    /// Looks at up to `limit` such blocks behind a block, then at those that closed meanwhile where this is past already.
    /// How many there were.
    pub(super) fn look_at_some_late(
        &self,
        after: Option<BlockId>,
        limit: usize,
        (service, late): (NodeService, &mut Late),
        look: &mut Look,
        names: &dyn Names,
    ) -> usize {
        let mut some = late.after(after, limit);
        match some.last() {
            Some(last) => look.stage = Stage::Late(Some(*last)),
            None => some = look.take_behind(limit),
        }
        for block in &some {
            if self.look_at_late(*block, service, look, names) {
                late.remove(*block);
            }
        }
        some.len()
    }

    /// Looks at such a block. True: it is one no more. One that is open again is counted with the open ones, which may have
    /// been gone over before it was; one that closed during this look may be counted twice in it.
    fn look_at_late(&self, block: BlockId, service: NodeService, look: &mut Look, names: &dyn Names) -> bool {
        let Some(facts) = names.facts(block) else { return true };
        if facts.committed {
            return self.count_closed(block, facts, service, look, names);
        }
        self.look_at_open(block, service, look, names);
        false
    }
}

impl Look {
    /// A block of the node closes meanwhile.
    fn closes(&mut self, block: BlockId) {
        if matches!(self.stage, Stage::Late(Some(last)) if block <= last) {
            self.behind.insert(block);
        }
    }
    fn take_behind(&mut self, limit: usize) -> Vec<BlockId> {
        (0..limit).map_while(|_| self.behind.pop_first()).collect()
    }
}
