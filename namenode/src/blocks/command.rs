//! Commands to datanodes: handed out in replies to heartbeats, settled by results.

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::node_command::Kind;
use proto::cluster::{CommandResult, DeleteReplicas, NodeCommand, ReplicaState, VerifyReplicas};
use proto::common::Block;
use proto::ids::{BlockId, GenerationStamp, StorageId};

use super::facts::Names;
use super::registry::{Node, NodeIndex, NodeState, StorageIndex};
use super::removal::Reason;
use super::repair::RETRY;
use super::replicas::{Class, classify};
use super::verify::is_suspect;
use super::{BlockManager, Leading};

/// What the deletion rule says of one replica.
enum Go {
    /// It goes: the replica as its node knows it.
    Now(Block),
    /// Perhaps when others have told what they are known to have changed.
    NotYet,
    /// It stays.
    No,
}

/// What the reply to a heartbeat carries.
#[derive(Debug, Default)]
pub struct NodeBusiness {
    /// Commands; empty unless this member leads.
    pub commands: Vec<NodeCommand>,
    /// Report every storage in full.
    pub full_report: bool,
    /// More commands may come soon, which a heartbeat at its time would only make wait.
    pub again: bool,
}

/// Deletes of one storage: a command for each reason, with its number.
#[derive(Debug)]
pub(super) struct Deletes {
    storage: StorageIndex,
    by_reason: BTreeMap<Reason, (u64, Vec<Block>)>,
}

impl Deletes {
    pub(super) const fn of(storage: StorageIndex) -> Self {
        Self { storage, by_reason: BTreeMap::new() }
    }
}

/// A command that was not fetched is not sent later than this.
const FRESH: Duration = Duration::from_secs(10);
/// A quorum that answered longer ago than this proves nothing.
const QUORUM_FRESH: Duration = Duration::from_secs(5);

impl BlockManager {
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn refill(&mut self, now: Moment) {
        if now.since(self.unasked_refill) >= Duration::from_secs(60) {
            self.unasked_refill = now;
            self.unasked_left = self.config.unasked_deletes_per_minute;
            self.alarmed = false;
        }
    }

    /// What a node did with commands.
    pub(super) fn results(&mut self, node: NodeIndex, results: &[CommandResult], names: &dyn Names, now: Moment) {
        for result in results {
            if self.recovery_result(node, result, now) {
                continue;
            }
            if result.ok {
                self.repair.source_is_done(result.number, node);
                continue;
            }
            if let Some(block) = self.repair.by_number(result.number) {
                tracing::warn!(%block, error = %result.error, "a copy failed");
                self.repair.failed(result.number, node);
                self.repair.prune(block, |copy| copy.number == result.number && copy.source == node);
                self.judge(block, names, now);
                self.repair.later(block, now.plus(RETRY));
                continue;
            }
            // What became of each replica is told by changes; see `Removal` and `Suspects`.
            let node = &self.registry.node(node).id;
            tracing::warn!(%node, command = result.number, error = %result.error, "a command was not carried out whole");
        }
    }

    /// Copies that a node was to make: those that it may still hear of.
    pub(super) fn copies_for(&mut self, node: NodeIndex, names: &dyn Names, now: Moment) -> Vec<NodeCommand> {
        let mut commands = Vec::new();
        for (ordered, command) in self.outboxes.remove(&node).unwrap_or_default() {
            // Taken back meanwhile: a node returned, or the block was removed.
            let Some(block) = self.repair.by_number(command.number) else { continue };
            if now.since(ordered) < FRESH {
                self.repair.sent(command.number);
                commands.push(command);
            } else {
                self.repair.prune(block, |copy| copy.number == command.number);
                self.judge(block, names, now);
            }
        }
        commands
    }

    /// Has the node read again what somebody called damaged. What came of it is told by changes.
    pub(super) fn verify_some_of(
        &mut self,
        storage: StorageIndex,
        names: &dyn Names,
        now: Moment,
    ) -> Option<NodeCommand> {
        let mut blocks = Vec::new();
        for block in self.suspects.due_of(storage, now) {
            let any_good = !self.replicas.good(block).is_empty();
            let odd = self.replicas.odd_at(block, storage);
            let suspect = odd.zip(names.facts(block)).filter(|(odd, facts)| is_suspect(odd, facts, any_good));
            let Some((odd, _)) = suspect else {
                self.suspects.drop(storage, block);
                continue;
            };
            self.suspects.asked(storage, block, now);
            let (stamp, len_bytes) = (odd.stamp.raw(), odd.len_bytes);
            blocks.push(Block { pool: String::new(), id: block.raw(), stamp, len_bytes });
        }
        if blocks.is_empty() {
            return None;
        }
        let storage = self.registry.at(storage).id.as_str().to_owned();
        // The digests are the namespace's: the core adds them.
        let verify = VerifyReplicas { storage, blocks, digests: Vec::new() };
        Some(NodeCommand { number: self.number(), kind: Some(Kind::Verify(verify)) })
    }

    /// Replicas of a storage that are to go, if this may be said now; each is looked at again before it is told.
    pub(super) fn deletes_wanted_of(&self, storage: StorageIndex, now: Moment) -> Vec<(BlockId, Reason)> {
        let may = self.leading.is_some_and(|leading| {
            now.since(leading.since) >= self.config.delete_delay
                && leading.quorum_at.is_some_and(|at| now.since(at) <= QUORUM_FRESH)
                && (self.streams[storage.0 as usize].full_in(leading.term) || base::mutated!(Sc70DeletesBeforeAReport))
        });
        if !may {
            return Vec::new();
        }
        let mut wanted = self.removal.asked_of(storage, self.config.deletes_per_heartbeat);
        wanted.extend(self.removal.unasked_of(storage, self.config.deletes_per_heartbeat - wanted.len()));
        wanted
    }

    /// Tells a replica to go, if the rule allows it now.
    pub(super) fn delete_one(
        &mut self,
        (block, reason): (BlockId, Reason),
        batches: &mut Deletes,
        names: &dyn Names,
        now: Moment,
    ) {
        let (Some(leading), storage) = (self.leading, batches.storage) else { return };
        let replica = match self.may_go(block, storage, reason, leading, names) {
            Go::Now(replica) => replica,
            Go::NotYet => return,
            Go::No => return self.removal.retract(storage, block),
        };
        if !reason.asked() && !self.spend() {
            return;
        }
        let number = match batches.by_reason.get(&reason) {
            Some((number, _)) => *number,
            None => self.number(),
        };
        self.removal.mark_sent(storage, block, now);
        batches.by_reason.entry(reason).or_insert((number, Vec::new())).1.push(replica);
    }

    /// The commands of a storage's deletes.
    pub(super) fn delete_commands(&self, batches: Deletes) -> impl Iterator<Item = NodeCommand> + use<> {
        let storage = self.registry.at(batches.storage).id.as_str().to_owned();
        batches.by_reason.into_iter().map(move |(reason, (number, blocks))| {
            let delete = DeleteReplicas { storage: storage.clone(), blocks, reason: reason.as_str().into() };
            NodeCommand { number, kind: Some(Kind::Delete(delete)) }
        })
    }

    fn spend(&mut self) -> bool {
        if self.unasked_left > 0 {
            self.unasked_left -= 1;
            return true;
        }
        if !self.alarmed {
            self.alarmed = true;
            self.delete_alarms += 1;
            tracing::error!(
                limit = self.config.unasked_deletes_per_minute,
                "more replicas than the limit were to be removed in a minute without a user asking: removal pauses"
            );
        }
        false
    }

    /// The deletion rule, for one replica, as things are now.
    fn may_go(&self, block: BlockId, storage: StorageIndex, reason: Reason, leading: Leading, names: &dyn Names) -> Go {
        let node = self.registry.at(storage).node;
        if self.repair.targets_of(block).any(|target| self.registry.at(target).node == node) {
            return Go::No;
        }
        let facts = names.facts(block);
        let odd = self.replicas.odd_at(block, storage);
        let class = odd.map(|odd| classify(&odd, block, names));
        // Copies that the others must amount to.
        let needed = match (reason, class, facts) {
            (Reason::Deleted, Some(Class::Removed), None) => 0,
            (Reason::Stale, Some(Class::Stale), Some(f)) | (Reason::Corrupt, Some(Class::Corrupt), Some(f))
                if f.committed =>
            {
                self.least_beside(f.replication, names)
            }
            (Reason::Surplus, None, Some(f)) if f.committed && self.replicas.is_good(block, storage) => {
                f.replication.max(1)
            }
            _ => return Go::No,
        };
        let mut others = self.others(block, storage, leading);
        if reason == Reason::Surplus {
            // What is about to leave, or to be away, is no reason to remove what stays.
            others.retain(|other| self.registry.in_service(*other));
        }
        let is_heard_out = |other: &StorageIndex| {
            // Who does not know of this leader yet may obey one before it, and remove what is counted here.
            self.registry.node_of(*other).highest_term >= leading.term
                && (self.streams[other.0 as usize].is_heard_out() || base::mutated!(Sc77NewsIsNotWaitedFor))
        };
        let heard_out: Vec<_> = others.iter().copied().filter(is_heard_out).collect();
        if (self.nodes_of(&heard_out).len() as u32) < needed {
            // News of the others is on its way: it may be that one of them is damaged.
            return if (self.nodes_of(&others).len() as u32) < needed { Go::No } else { Go::NotYet };
        }
        let (stamp, len_bytes) = match (odd, facts) {
            (Some(odd), _) => (odd.stamp, odd.len_bytes),
            (None, Some(facts)) => (facts.stamp, facts.len_bytes),
            (None, None) => return Go::No,
        };
        Go::Now(Block { pool: String::new(), id: block.raw(), stamp: stamp.raw(), len_bytes })
    }

    /// Copies that there must be beside a replica that is stale or damaged: as many as a write needs, but where hardly a node
    /// stays, those that leave count as long as they are there. Their copies do as well.
    fn least_beside(&self, replication: u32, names: &dyn Names) -> u32 {
        let there = self.registry.nodes().filter(|(_, node)| node.state != NodeState::Dead).count() as u32;
        names.minimum_copies(replication).max(replication.min(there).min(2))
    }

    /// Copies that are known beside this one: on nodes heard of lately, which have reported in full in this term, and were not
    /// told that they may go for ever where enough others stay.
    fn others(&self, block: BlockId, storage: StorageIndex, leading: Leading) -> Vec<StorageIndex> {
        let mut others = self.counting(block);
        others.retain(|other| {
            *other != storage
                && (self.registry.node_of(*other).state == NodeState::Live || base::mutated!(Sc76SilentCopiesCount))
                && self.streams[other.0 as usize].full_in(leading.term)
                && !self.is_said_to_go(self.registry.at(*other).node)
        });
        others
    }

    /// Was it said of a node that it may go for ever, while others stay that copies can be on?
    fn is_said_to_go(&self, node: NodeIndex) -> bool {
        let stays = |node: &Node| node.state == NodeState::Live && node.service.is_in_service();
        self.drains.may_have_gone(node) && self.registry.nodes().filter(|(_, node)| stays(node)).count() >= 2
    }

    /// Storages whose receipts or reports prove a finalised replica of this stamp and length.
    #[must_use]
    pub fn proven(&self, block: BlockId, stamp: GenerationStamp, len_bytes: u64) -> Vec<StorageIndex> {
        let odd = self.replicas.odd_of(block).into_iter().filter(|(_, odd)| {
            (odd.stamp == stamp || base::mutated!(Sc65OldStampProves))
                && odd.len_bytes == len_bytes
                && odd.state == ReplicaState::Finalized
                && !odd.marked
        });
        odd.map(|(storage, _)| storage).chain(self.replicas.good(block)).collect()
    }

    /// Indexes of storages by name; names that are not registered are left out.
    #[must_use]
    pub fn storages_named(&self, names: &[String]) -> Vec<StorageIndex> {
        names.iter().filter_map(|name| self.registry.storage(&StorageId::parse(name).ok()?)).collect()
    }
}
