//! Heartbeats: what the node said is taken in at once; what follows for blocks, and the commands of the reply, come some
//! blocks at a time, so that whoever waits may read in between.

use std::collections::VecDeque;

use base::clock::Moment;
use base::random::Randomness;
use proto::cluster::{CommandResult, HeartbeatRequest, NodeCommand, StorageReport};
use proto::ids::{BlockId, NodeId, Term};

use super::command::Deletes;
use super::facts::Names;
use super::orders::Wishes;
use super::registry::{NodeIndex, StorageIndex};
use super::removal::Reason;
use super::{BlockManager, NodeBusiness};

/// A heartbeat that is being answered. Nobody else may change the block map meanwhile.
#[derive(Debug)]
pub struct Turn {
    node: NodeIndex,
    /// Blocks to judge: replicas that were told to go and are still there.
    judge: Vec<BlockId>,
    results: VecDeque<CommandResult>,
    /// Of which blocks the node may make copies; `None` before that was looked at.
    wishes: Option<Wishes>,
    /// Are the copies that the node is to make in the reply?
    copies: bool,
    /// Storages whose commands come next, the last one first.
    storages: Vec<StorageIndex>,
    /// Replicas of one storage that may be told to go, the last one first.
    deletes: Option<(Vec<(BlockId, Reason)>, Deletes)>,
    commands: Vec<NodeCommand>,
    /// Is more to come soon?
    again: bool,
}

impl BlockManager {
    /// A heartbeat, in one go.
    #[cfg(test)]
    pub(super) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        names: &dyn Names,
        now: Moment,
        random: &dyn Randomness,
    ) -> Option<NodeBusiness> {
        let mut turn = self.begin_heartbeat(request, now)?;
        while self.go_on_with(&mut turn, 2, names, now, random) {}
        Some(self.end_heartbeat(turn))
    }

    /// Takes a heartbeat in. `None`: the node must register first.
    pub fn begin_heartbeat(&mut self, request: &HeartbeatRequest, now: Moment) -> Option<Turn> {
        let node = self.registry.node_by_id(&NodeId::parse(&request.node).ok()?)?;
        self.registry.node(node).last_contact?;
        // An earlier life of the node, or one that this member has forgotten: it says nothing of this one.
        let of_this_life = |report: &StorageReport| {
            let storage = self.storage_of(node, &report.storage);
            storage.is_none_or(|s| self.streams[s.0 as usize].incarnation == report.incarnation)
        };
        if !request.storages.iter().all(of_this_life) && !base::mutated!(Sc71FormerLifeIsAnswered) {
            return None;
        }
        if self.registry.heartbeat(node, request.active_transfers, now) {
            self.rescan_node(node);
        }
        self.registry.knows_term(node, Term::from_raw(request.highest_term));
        self.registry.copies_of(node, request.copy_streams, request.copy_rate_bytes_per_s);
        self.usage(node, &request.storages);
        let mut judge = Vec::new();
        for report in &request.storages {
            if let Some(storage) = self.storage_of(node, &report.storage) {
                self.streams[storage.0 as usize].heartbeat(report.sequence);
                self.removal.heartbeat(storage, report.sequence, now);
                judge.extend(self.take_outlived(storage));
            }
        }
        let storages = self.registry.node(node).storages.iter().rev().copied().collect();
        let results = request.results.iter().cloned().collect();
        let (wishes, copies, deletes, commands, again) = (None, false, None, Vec::new(), false);
        Some(Turn { node, judge, results, wishes, copies, storages, deletes, commands, again })
    }

    /// Does what follows for up to `most` blocks. False: nothing is left to do.
    pub fn go_on_with(
        &mut self,
        turn: &mut Turn,
        most: usize,
        names: &dyn Names,
        now: Moment,
        random: &dyn Randomness,
    ) -> bool {
        for _ in 0..most.max(1) {
            if let Some(block) = turn.judge.pop() {
                self.judge(block, names, now);
            } else if let Some(result) = turn.results.pop_front() {
                self.results(turn.node, &[result], names, now);
            } else if !self.active() {
                return false;
            } else if turn.wishes.is_none() {
                // What the results above decided goes out with this reply.
                turn.commands.extend(self.recovery_commands(turn.node, now));
                turn.again = self.recovery_goes_on_at(turn.node, now);
                turn.wishes = Some(self.wishes_for(turn.node));
            } else if !turn.copies {
                if let Some(wishes) = &mut turn.wishes
                    && self.order_next_from(turn.node, wishes, names, now, random)
                {
                    continue;
                }
                turn.copies = true;
                turn.commands.extend(self.copies_for(turn.node, names, now));
            } else if let Some((wanted, deletes)) = &mut turn.deletes {
                match wanted.pop() {
                    Some(replica) => self.delete_one(replica, deletes, names, now),
                    None => turn
                        .commands
                        .extend(turn.deletes.take().into_iter().flat_map(|(_, deletes)| self.delete_commands(deletes))),
                }
            } else if let Some(storage) = turn.storages.pop() {
                if self.registry.counts(storage) {
                    turn.commands.extend(self.verify_some_of(storage, names, now));
                    let mut wanted = self.deletes_wanted_of(storage, now);
                    wanted.reverse();
                    turn.deletes = Some((wanted, Deletes::of(storage)));
                }
            } else {
                return false;
            }
        }
        true
    }

    /// What the reply carries.
    #[must_use]
    pub fn end_heartbeat(&self, turn: Turn) -> NodeBusiness {
        let full_report = self.wants_full_report(turn.node);
        NodeBusiness { commands: turn.commands, full_report, again: turn.again }
    }
}
