//! The verdict on one block, from the tables as they are now; and the ticks that bring blocks before it.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use base::clock::Moment;
use base::random::Randomness;
use proto::ids::BlockId;

use super::facts::{Facts, Names};
use super::registry::{NodeIndex, NodeState, StorageIndex};
use super::removal::Reason;
use super::replicas::{Class, classify};
use super::scan::Over;
use super::verify::is_suspect;
use super::{BlockManager, LOOK, STEP};
use crate::namespace::BlockEffect;

impl BlockManager {
    /// Copies that count: reported, on nodes that are not dead, not told to go. One node may appear twice.
    pub(super) fn counting(&self, block: BlockId) -> Vec<StorageIndex> {
        let mut good = self.replicas.good(block);
        good.retain(|storage| self.registry.counts(*storage) && !self.removal.is_sent(*storage, block));
        good
    }

    /// Nodes of storages: what redundancy counts (scar SC-67).
    pub(super) fn nodes_of(&self, storages: &[StorageIndex]) -> BTreeSet<NodeIndex> {
        storages.iter().map(|storage| self.registry.at(*storage).node).collect()
    }

    /// Puts a block where it belongs: too few, too many, missing, damaged, removed, or nothing at all.
    pub(super) fn judge(&mut self, block: BlockId, names: &dyn Names, now: Moment) {
        self.repair.forget(block);
        if !self.active() {
            return;
        }
        self.judged += 1;
        self.judge_odd(block, names);
        // Nothing is copied of a block that is gone, or open: a copy under way belongs to a stamp that will not count.
        let Some(facts) = names.facts(block).filter(|facts| facts.committed) else {
            self.repair.prune(block, |_| !base::mutated!(Sc84DeletedBlockIsRepaired));
            self.repair.forgive(block);
            return;
        };
        let good = self.counting(block);
        let arrived = |target: StorageIndex| good.contains(&target);
        let lost = |target: StorageIndex| !self.registry.counts(target) || !self.registry.in_service(target);
        let dead = |source: NodeIndex| self.registry.node(source).state == NodeState::Dead;
        let pending = self.repair.prune(block, |copy| {
            (copy.stamp != facts.stamp && !base::mutated!(Sc69CopyOfAnOldStampCounts))
                || arrived(copy.target)
                || lost(copy.target)
                || dead(copy.source)
                || copy.deadline <= now
        });
        let holders = self.nodes_of(&good);
        let live = holders.len() as u32;
        let standing = self.standing(block, &holders, facts.replication, names);
        let lacking = facts.replication.saturating_sub(standing.towards);
        let needed = (lacking as usize).max(self.balance.copies_of(block));
        let pending = self.repair.keep(block, &pending, needed) as u32;
        if lacking == 0 {
            self.repair.forgive(block);
        }
        if lacking > 0 && !self.repair.is_settling(block, now) {
            let heard = holders.iter().any(|node| self.registry.node(*node).state == NodeState::Live);
            let ready = heard && pending < lacking;
            self.repair.set_under(block, standing.level, ready);
            if live == 0 {
                self.repair.set_missing(block);
            } else if standing.moves_only {
                self.repair.set_moving(block);
            }
        }
        self.judge_surplus(block, &good, facts, now);
    }

    /// Copies, as repair counts them: a silent node's copy counts until the node is dead, unless it would leave
    /// only one other (promise L-4: one copy left is not waited for).
    pub(super) fn copies_that_count(&self, holders: &BTreeSet<NodeIndex>) -> u32 {
        let heard = holders.iter().filter(|node| self.registry.node(**node).state == NodeState::Live).count();
        if heard <= 1 { heard as u32 } else { holders.len() as u32 }
    }

    /// Has a block at most one copy on nodes that are heard of? A look at the slots only, for passes over very many.
    fn is_endangered(&self, block: BlockId) -> bool {
        let heard = |storage: &StorageIndex| {
            self.registry.counts(*storage)
                && self.registry.node_of(*storage).state == NodeState::Live
                && !self.removal.is_sent(*storage, block)
        };
        let mut nodes = self.replicas.each_good(block).filter(heard).map(|storage| self.registry.at(storage).node);
        let first = nodes.next();
        nodes.all(|node| Some(node) == first)
    }

    fn judge_odd(&mut self, block: BlockId, names: &dyn Names) {
        let (facts, any_good) = (names.facts(block), !self.replicas.good(block).is_empty());
        for (storage, odd) in self.replicas.odd_of(block) {
            if self.is_gone(storage) {
                self.suspects.drop(storage, block);
                self.removal.retract(storage, block);
                continue;
            }
            if facts.is_some_and(|facts| is_suspect(&odd, &facts, any_good)) {
                self.suspects.want(storage, block, &odd);
            } else {
                self.suspects.drop(storage, block);
            }
            match classify(&odd, block, names) {
                Class::Removed => self.removal.want(storage, block, Reason::Deleted),
                Class::Stale => self.removal.want(storage, block, Reason::Stale),
                Class::Corrupt => {
                    self.removal.want(storage, block, Reason::Corrupt);
                    self.repair.set_corrupt(block);
                }
                Class::Unknown | Class::Open | Class::Good => self.removal.retract(storage, block),
            }
        }
    }

    /// Wishes the copies away that are more than asked for, those on nodes that leave or are in maintenance left alone: a
    /// second one on a node first, then the one that is being moved, then one on a silent node (scar SC-76: it may be gone
    /// soon), then, as long as no rack loses its last copy, one on a node that was gone lately, then from the rack with most
    /// copies, then from the fullest disk.
    fn judge_surplus(&mut self, block: BlockId, good: &[StorageIndex], facts: Facts, now: Moment) {
        let mut left: Vec<StorageIndex> = good.iter().copied().filter(|s| self.registry.in_service(*s)).collect();
        let mut victims = Vec::new();
        let mut nodes = BTreeSet::new();
        for storage in &left {
            if !nodes.insert(self.registry.at(*storage).node) {
                victims.push(*storage);
            }
        }
        left.retain(|storage| !victims.contains(storage));
        let moved = self.balance.leaves(block).filter(|_| self.arrived(block));
        for _ in facts.replication.max(1)..nodes.len() as u32 {
            let crowd = |storage: &StorageIndex| {
                let rack = &self.registry.node_of(*storage).rack;
                left.iter().filter(|other| self.registry.node_of(**other).rack == *rack).count()
            };
            let free = |storage: &StorageIndex| self.registry.at(*storage).available_bytes;
            let silent = |storage: &StorageIndex| self.registry.node_of(*storage).state != NodeState::Live;
            let returned = |storage: &StorageIndex| self.was_gone_lately(*storage, now);
            let goes_first = |s: &StorageIndex| silent(s) != base::mutated!(Sc76SilentCopiesCount);
            let order = |s: &StorageIndex| {
                let crowd = crowd(s);
                (moved == Some(*s), goes_first(s), crowd > 1, returned(s), crowd, Reverse(free(s)), Reverse(*s))
            };
            let Some(victim) = left.iter().copied().max_by_key(order) else { break };
            left.retain(|storage| *storage != victim);
            victims.push(victim);
        }
        for storage in left {
            self.removal.retract(storage, block);
        }
        for storage in good.iter().filter(|storage| !self.registry.in_service(**storage)) {
            self.removal.retract(*storage, block);
        }
        for storage in victims {
            self.removal.want(storage, block, Reason::Surplus);
        }
    }

    /// Takes over what apply did to a block. `names` shows the state after the whole entry.
    pub fn effect(&mut self, effect: &BlockEffect, names: &dyn Names, now: Moment) {
        match effect {
            BlockEffect::Allocated { block, storages, .. } => {
                self.replicas.reconsider(*block, None, names);
                self.open_at(*block, storages);
            }
            BlockEffect::Committed { block, storages, .. } => {
                self.closes(*block, storages, names);
                self.close(*block);
                self.replicas.reconsider(*block, None, names);
                // Others look at every block when they begin to lead.
                if self.active() {
                    let settle =
                        if base::mutated!(Sc85NewBlockIsRepaired) { Duration::ZERO } else { self.config.settle };
                    self.repair.settle(*block, now.plus(settle));
                }
            }
            BlockEffect::Restamped { block, storages, .. } => {
                self.close(*block);
                self.open_at(*block, storages);
                self.judge(*block, names, now);
            }
            // Until it is whole again its copies are neither too few nor too many: they are about to change.
            BlockEffect::Reopened { block, stamp, finished_bytes, replication, storages, .. } => {
                let (stamp, len_bytes, replication) = (*stamp, *finished_bytes, *replication);
                let before = Facts { stamp, len_bytes, committed: true, replication, untouched: false };
                self.replicas.reconsider(*block, Some(before), names);
                self.close(*block);
                self.open_at(*block, storages);
                self.judge(*block, names, now);
            }
            BlockEffect::Replicated { block, .. } => self.judge(*block, names, now),
            BlockEffect::Freed { block, stamp, len_bytes, committed, .. } => {
                self.close(*block);
                let (stamp, len_bytes, committed) = (*stamp, *len_bytes, *committed);
                let before = Facts { stamp, len_bytes, committed, replication: 0, untouched: false };
                self.replicas.reconsider(*block, Some(before), names);
                self.judge(*block, names, now);
            }
        }
    }

    /// Notes where an open block was placed: its storages have promised room.
    pub fn open_at(&mut self, block: BlockId, storages: &[StorageIndex]) {
        let homes = self.homes_at(storages);
        for home in &homes {
            self.registry.open_write(home.storage, true);
        }
        // A look at open files may have been here before the effect that says it.
        for home in self.open_targets.insert(block, homes).unwrap_or_default() {
            self.registry.open_write(home.storage, false);
        }
    }
    fn close(&mut self, block: BlockId) {
        self.short_open.remove(&block);
        for home in self.open_targets.remove(&block).unwrap_or_default() {
            self.registry.open_write(home.storage, false);
        }
    }

    /// Time passes: nodes die, safe mode ends, blocks come up for judgement, copies are ordered.
    pub fn tick(&mut self, names: &dyn Names, now: Moment, random: &dyn Randomness) -> bool {
        for (node, state) in self.registry.look(now, self.config.stale_after, self.config.dead_after) {
            let id = &self.registry.node(node).id;
            let service = self.registry.node(node).service;
            if state == NodeState::Dead && service.is_maintenance() {
                tracing::info!(node = %id, "a datanode in maintenance is away: its blocks wait for it");
                self.outboxes.remove(&node);
            } else if state == NodeState::Dead {
                tracing::warn!(node = %id, "a datanode is dead: its blocks are copied again");
                self.outboxes.remove(&node);
                self.wait_no_more_if_gone(node);
            } else {
                tracing::info!(node = %id, "a datanode is silent: read from and written to last");
            }
            self.lost_node(node);
        }
        if self.look_at_safe_mode(names, now) {
            tracing::info!("safe mode is over");
        }
        if !self.active() {
            return false;
        }
        self.look_at_recoveries(now);
        let more = self.step(names, now);
        self.refill(now);
        self.order_copies(names, now, random);
        self.balance_step(names, now);
        more
    }

    /// A bounded step of what goes over many blocks: what became due, and scans. True if there may be more.
    pub fn step(&mut self, names: &dyn Names, now: Moment) -> bool {
        if !self.active() {
            return false;
        }
        let due = self.judge_due(names, now, STEP);
        self.scan_step(names, now);
        let looking = self.drain_step(names, now);
        due == STEP || !self.passes.is_empty() || looking
    }

    /// Blocks that settle or wait for another look.
    #[must_use]
    pub fn blocks_to_judge(&self) -> u64 {
        self.repair.due_count()
    }

    /// Judges blocks whose time has come, at most `limit`; how many there were. Whoever takes over commits calls it for
    /// twice as many blocks as it took over: what settles is then judged faster than more of it comes, at any rate of
    /// writing, and what waits here does not grow (a table of 70 bytes a block).
    pub fn judge_due(&mut self, names: &dyn Names, now: Moment, limit: usize) -> usize {
        if !self.active() {
            return 0;
        }
        let due = self.repair.take_due(now, limit);
        for block in &due {
            self.judge(*block, names, now);
        }
        due.len()
    }

    /// Blocks that were judged since the start.
    #[must_use]
    pub const fn judged(&self) -> u64 {
        self.judged
    }

    fn scan_step(&mut self, names: &dyn Names, now: Moment) {
        // Other passes may be under way all the time, so they neither count as this one nor put it off.
        if now.since(self.scanned_at) >= self.config.rescan_every {
            self.scanned_at = now;
            [Over::All, Over::Odd].into_iter().for_each(|over| self.passes.begin_if_none(over));
        }
        let Some(pass) = self.passes.next() else { return };
        // Of a storage that fails and comes back, nothing is to wait for a step that finds nothing.
        let last = match pass.over {
            Over::All => self.judge_all(&names.blocks_after(pass.after, STEP), STEP, names, now),
            // A block may have several odd replicas, and is listed once.
            Over::Odd => self.judge_all(&self.replicas.odd_blocks_after(pass.after, STEP), 1, names, now),
            Over::Storage(storage) => {
                self.judge_all(&self.replicas.blocks_on(storage, pass.after, STEP), STEP, names, now)
            }
            Over::Endangered(storage) => self.judge_endangered(storage, pass.after, names, now),
        };
        self.passes.stepped(pass, last);
    }

    /// Judges some blocks. The last one; `None` if they are fewer than `least`: then there are no more behind them.
    fn judge_all(&mut self, blocks: &[BlockId], least: usize, names: &dyn Names, now: Moment) -> Option<BlockId> {
        for block in blocks {
            self.judge(*block, names, now);
        }
        blocks.last().copied().filter(|_| blocks.len() >= least)
    }

    /// Judges the endangered ones of the next blocks of a storage that was lost, before all its others: of a million
    /// blocks the last one may be the one that has a single copy left. The last block that was looked at; `None`: there are
    /// no more.
    fn judge_endangered(
        &mut self,
        storage: StorageIndex,
        after: Option<BlockId>,
        names: &dyn Names,
        now: Moment,
    ) -> Option<BlockId> {
        let (blocks, mut judged) = (self.replicas.blocks_on(storage, after, LOOK), 0);
        for block in &blocks {
            if self.is_endangered(*block) {
                self.judge(*block, names, now);
                judged += 1;
                if judged == STEP {
                    return Some(*block);
                }
            }
        }
        blocks.last().copied().filter(|_| blocks.len() == LOOK)
    }

    /// Nodes by state: live, stale, dead. Those that may be away are not counted as dead.
    #[must_use]
    pub fn node_counts(&self) -> (u64, u64, u64) {
        let count = |state| self.registry.nodes().filter(|(_, node)| node.state == state).count() as u64;
        let dead = |(index, node): &(NodeIndex, &_)| self.is_missed(*index, node);
        let dead = self.registry.nodes().filter(dead).count() as u64;
        (count(NodeState::Live), count(NodeState::Stale), dead)
    }
}
