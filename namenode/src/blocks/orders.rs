//! Which copies are ordered, when, from whom, and to whom.
//!
//! ```text
//!   tick ─────▶ the most endangered blocks ──────┐    a source and targets        reply to the
//!   heartbeat ▶ the same, where its node is the ─┴──▶ with a hand free    ─▶ outbox ─▶ source's heartbeat
//!               source: work for the time until the next
//! ```
//!
//! Where a copy waits: as a wish in `repair.rs`, until a source and a target have a hand free (`hand.rs`); then at its
//! source, which makes so many at a time, and sends those of blocks in no danger at a bounded rate. It waits at the
//! source and not at the target because the source knows what it has in hand of every target, holds nothing open for
//! a copy that waits, and is the node whose clients are asked for patience twice: its disk is read and its link is
//! filled. A target is guarded by number and bytes: what is on its way to it is counted here, for all sources
//! together, so that an empty new node is not overrun by a cluster that has just lost another.

use std::collections::VecDeque;
use std::time::Duration;

use base::clock::Moment;
use base::random::Randomness;
use bytes::Bytes;
use proto::cluster::node_command::Kind;
use proto::cluster::{CopyReplica, NodeCommand, ReplicaState};
use proto::common::Block;
use proto::ids::{BlockId, GenerationStamp};

use super::BlockManager;
use super::facts::{Facts, Names};
use super::hand::Hand;
use super::placement::{self, Wanted};
use super::registry::{NodeIndex, NodeState, StorageIndex};
use super::repair::{At, Copying, ENDANGERED, RETRY};
use super::replicas::Odd;
use crate::namespace::NodeService;

/// Blocks for which a tick orders copies.
const ORDERS: usize = 64;
/// Blocks behind the most endangered ones that a tick looks at.
const TURN: usize = 512;
/// Blocks for which a heartbeat orders copies.
const ORDERS_OF_HEARTBEAT: usize = 32;
/// Most endangered blocks that a heartbeat looks at, and others by turns.
const LOOKS_OF_HEARTBEAT: (usize, usize) = (64, 128);
/// When a block is tried again that found all hands full.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// Rate of a copy that is believed to go on, if its source is not held to a lower one.
const SLOWEST_BYTES_PER_S: u64 = 4 << 20;
/// Nothing is waited for longer than this beyond the time that every copy has.
const LONGEST_SEND_S: u64 = 24 * 3600;
/// A node is given no more ahead than it sends in so many seconds.
const AHEAD_S: u64 = 5;

/// What a heartbeat orders from its node, a block at a time.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    blocks: VecDeque<BlockId>,
    /// Blocks for which copies may still be ordered.
    left: usize,
}

/// Is this a whole replica of an older stamp?
fn is_stale(odd: &Odd, current: GenerationStamp) -> bool {
    odd.state == ReplicaState::Finalized && odd.stamp < current
}

impl BlockManager {
    /// Orders copies of the most endangered blocks, as many as their sources take.
    pub(super) fn order_copies(&mut self, names: &dyn Names, now: Moment, random: &dyn Randomness) {
        let mut left = ORDERS;
        for block in self.repair.candidates(ORDERS, TURN) {
            if left == 0 {
                return;
            }
            left -= usize::from(self.order_copy(block, None, names, now, random));
        }
    }

    /// Blocks of which a node whose heartbeat is being answered may make copies, as many as it takes until the next one.
    pub(super) fn wishes_for(&mut self, node: NodeIndex) -> Wishes {
        if !self.active() || !self.has_a_hand(node) {
            return Wishes::default();
        }
        let (head, turn) = LOOKS_OF_HEARTBEAT;
        Wishes { blocks: self.repair.candidates(head, turn).into(), left: ORDERS_OF_HEARTBEAT }
    }

    /// Orders copies of the next of these blocks from the node. False: nothing is left to do.
    pub(super) fn order_next_from(
        &mut self,
        node: NodeIndex,
        wishes: &mut Wishes,
        names: &dyn Names,
        now: Moment,
        random: &dyn Randomness,
    ) -> bool {
        let Some(block) = wishes.blocks.pop_front().filter(|_| wishes.left > 0 && self.has_a_hand(node)) else {
            wishes.blocks.clear();
            return false;
        };
        wishes.left -= usize::from(self.order_copy(block, Some(node), names, now, random));
        true
    }

    fn has_a_hand(&self, node: NodeIndex) -> bool {
        self.hand(node, true).takes(self.repair.reading(node), 0)
    }

    /// What a node may have in hand. Copies of endangered blocks have as many streams again for themselves, and no rate.
    pub(super) fn hand(&self, node: NodeIndex, urgent: bool) -> Hand {
        let (config, node) = (&self.config, self.registry.node(node));
        let streams = if node.copy_streams == 0 { config.copies_per_node } else { node.copy_streams };
        let ahead_bytes = match node.copy_rate_bytes_per_s {
            rate if rate > 0 && !urgent => config.copies_ahead_bytes.min(rate.saturating_mul(AHEAD_S)),
            _ => config.copies_ahead_bytes,
        };
        let streams = if urgent { streams.saturating_mul(2) } else { streams };
        Hand { streams, ahead: config.copies_ahead, ahead_bytes }
    }

    /// Orders the copies that a block lacks, if there is a source for them, or this one is. False: nothing came of it, and
    /// it was a short look.
    fn order_copy(
        &mut self,
        block: BlockId,
        only: Option<NodeIndex>,
        names: &dyn Names,
        now: Moment,
        random: &dyn Randomness,
    ) -> bool {
        if !self.repair.is_ready(block) {
            return false;
        }
        let Some(facts) = names.facts(block) else { return false };
        let mut good = self.counting(block);
        let holders = self.nodes_of(&good);
        let standing = self.standing(block, &holders, facts.replication, names);
        let (copies, urgent) = (standing.towards, standing.level <= ENDANGERED);
        // Copies on nodes that leave say nothing of the racks of those that stay.
        let (staying, leaving): (Vec<_>, Vec<_>) =
            holders.into_iter().partition(|node| self.registry.node(*node).service != NodeService::Decommissioned);
        if let Some(only) = only {
            good.retain(|storage| self.registry.at(*storage).node == only);
        }
        let Some(from) = self.source(&good, urgent, facts.len_bytes, random) else { return false };
        let pending = self.repair.prune(block, |_| false);
        let lacking = (facts.replication as usize).saturating_sub(copies as usize + pending.len());
        if lacking == 0 {
            // The verdict is older than what is known now: a node came back, and its blocks are being looked at.
            self.judge(block, names, now);
            return true;
        }
        let odd = self.replicas.odd_of(block);
        let node = |storage: StorageIndex| self.registry.at(storage).node;
        let targeted = || pending.iter().map(|copy| copy.receiver);
        let full: Vec<NodeIndex> = self
            .repair
            .coming()
            .filter(|(node, load)| !self.hand(*node, urgent).takes(*load, facts.len_bytes))
            .map(|(node, _)| node)
            .collect();
        let refused = self.repair.refused_by(block).to_vec();
        let others = || targeted().chain(full.iter().copied()).chain(leaving.iter().copied());
        let mut want = Wanted {
            copies: lacking,
            block_size_bytes: facts.len_bytes,
            writer_host: String::new(),
            exclude: odd.iter().map(|(storage, _)| node(*storage)).chain(others()).chain(refused.clone()).collect(),
            holders: staying,
        };
        let mut targets = placement::choose(&self.registry, &want, random);
        if targets.is_empty() && full.is_empty() && !refused.is_empty() {
            // All others have failed as well: from the beginning.
            self.repair.forgive(block);
            want.exclude = odd.iter().map(|(storage, _)| node(*storage)).chain(others()).collect();
            targets = placement::choose(&self.registry, &want, random);
        }
        if targets.is_empty() {
            // No other node is left: over what a node has of the block and cannot serve.
            let kept = odd.iter().filter(|(storage, odd)| !self.gives_way(block, *storage, odd, facts.stamp));
            want.exclude = kept.map(|(storage, _)| node(*storage)).chain(others()).collect();
            if odd.iter().any(|(_, odd)| is_stale(odd, facts.stamp)) {
                // Where every node has an old one, none can be removed before there is a second good copy (the deletion
                // rule), and none can be made. One at a time: the others stay until then.
                want.copies = usize::from(pending.is_empty());
            }
            targets = placement::choose(&self.registry, &want, random);
        }
        if targets.is_empty() {
            // Looking for a place is work as well: it is counted, and others come first.
            self.repair.later(block, now.plus(if full.is_empty() { RETRY } else { FULL_RETRY }));
            return true;
        }
        for target in targets {
            self.order(block, facts, (from, target), urgent, now);
        }
        self.judge(block, names, now);
        true
    }

    /// Puts the command for one copy into its source's outbox. Pool and token are added when it leaves.
    pub(super) fn order(
        &mut self,
        block: BlockId,
        facts: Facts,
        (from, target): (StorageIndex, StorageIndex),
        urgent: bool,
        now: Moment,
    ) {
        let number = self.number();
        let (source, receiver) = (self.registry.at(from).node, self.registry.at(target).node);
        let copy = CopyReplica {
            block: Some(Block {
                pool: String::new(),
                id: block.raw(),
                stamp: facts.stamp.raw(),
                len_bytes: facts.len_bytes,
            }),
            from_storage: self.registry.at(from).id.as_str().to_owned(),
            targets: vec![self.registry.location(target)],
            token: Bytes::new(),
            urgent,
        };
        let command = NodeCommand { number, kind: Some(Kind::Copy(copy)) };
        self.outboxes.entry(source).or_default().push_back((now, command));
        let copying = Copying {
            number,
            source,
            target,
            receiver,
            stamp: facts.stamp,
            len_bytes: facts.len_bytes,
            deadline: now.plus(self.config.copy_timeout).plus(self.time_to_send(source, facts.len_bytes, urgent)),
            at: At::Ordered,
        };
        self.repair.started(block, copying);
    }

    /// Time that a source needs to send a copy, behind those that it has in hand: at the rate that it is held to. One that
    /// is held to none is as slow as a bad disk.
    fn time_to_send(&self, source: NodeIndex, len_bytes: u64, urgent: bool) -> Duration {
        let rate = match self.registry.node(source).copy_rate_bytes_per_s {
            rate if rate > 0 && !urgent => rate.min(SLOWEST_BYTES_PER_S),
            _ => SLOWEST_BYTES_PER_S,
        };
        let bytes = self.repair.reading(source).bytes().saturating_add(len_bytes);
        Duration::from_secs((bytes / rate).min(LONGEST_SEND_S))
    }

    /// May a copy be written over this replica? Its node moves what is half-written, damaged or of an older stamp out of
    /// the way; not while a delete is under way, which would hit the new copy of the same stamp.
    fn gives_way(&self, block: BlockId, storage: StorageIndex, odd: &Odd, current: GenerationStamp) -> bool {
        let broken = matches!(odd.state, ReplicaState::WaitingRecovery | ReplicaState::Corrupt);
        let useless = broken && odd.stamp <= current || is_stale(odd, current);
        useless && !self.removal.is_sent(storage, block)
    }

    /// One of the least busy live holders, drawn: a source that always fails is not always chosen.
    fn source(
        &self,
        good: &[StorageIndex],
        urgent: bool,
        len_bytes: u64,
        random: &dyn Randomness,
    ) -> Option<StorageIndex> {
        let load = |storage: &StorageIndex| self.repair.reading(self.registry.at(*storage).node);
        let able = |storage: &&StorageIndex| {
            let node = self.registry.at(**storage).node;
            self.registry.node(node).state == NodeState::Live && self.hand(node, urgent).takes(load(storage), len_bytes)
        };
        let least = good.iter().filter(able).map(|storage| load(storage).copies()).min()?;
        let idle: Vec<_> = good.iter().filter(able).filter(|storage| load(storage).copies() == least).collect();
        idle.get(random.below(idle.len() as u64) as usize).map(|storage| **storage)
    }
}
