//! Blocks that were finished before and are open again, of which too few copies are left while somebody writes them.
//!
//! While a block is open, its writer looks after its copies: a pipeline that fails under it is made anew within
//! seconds. One that does not write notices nothing. A node that dies then takes a copy of what was finished before
//! with it, and repair cannot make another one, because the block is open. So those are counted here; and one that
//! lacks the minimum for a while is to be taken from its writer, closed by a recovery, and repaired like every other
//! block.

use std::collections::BTreeSet;
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::ReplicaState;
use proto::ids::{BlockId, GenerationStamp};

use super::BlockManager;
use super::placement::has_room;
use super::registry::{NodeIndex, NodeState, StorageIndex};
use super::replicas::Odd;

/// Time that a writer has to get a pipeline of the minimum again, from the death of the node that it lacks.
const GRACE: Duration = Duration::from_secs(30);

/// A block that was finished before and is open again.
#[derive(Clone, Copy, Debug)]
pub struct Reopened<'a> {
    /// The block.
    pub block: BlockId,
    /// Its stamp: lower ones count for nothing.
    pub stamp: GenerationStamp,
    /// What it was finished with.
    pub floor_bytes: u64,
    /// Copies wanted.
    pub replication: u32,
    /// Copies below which it is not safe.
    pub least: u32,
    /// Its storages in the log.
    pub homes: &'a [StorageIndex],
    /// No pipeline was logged since it is open again: its storages are those that proved it once.
    pub untouched: bool,
}

impl BlockManager {
    /// An open block is placed there, as the log has it: a member that started since was not told.
    pub fn is_open_at(&mut self, block: BlockId, storages: &[StorageIndex]) {
        if self.open_targets.contains_key(&block) {
            self.meet_homes(block);
        } else {
            self.open_at(block, storages);
        }
    }
    /// All open files were looked at, up to the last one.
    pub const fn looked_at_open_files(&mut self) {
        self.open_looks = self.open_looks.saturating_sub(1);
    }

    /// Looks at the copies of a block that somebody writes. True: it lacks the minimum for so long, and there is a node
    /// for another copy, that it is to be taken from its writer.
    pub fn look_at_reopened(&mut self, open: Reopened<'_>, now: Moment) -> bool {
        if !self.active() {
            return false;
        }
        let holders = self.holders_of(open, now);
        let have = holders.len() as u32;
        if have >= open.replication {
            self.short_open.remove(&open.block);
            return false;
        }
        let since = self.short_open.entry(open.block).or_default();
        if have >= open.least {
            *since = None;
            return false;
        }
        let since = *since.get_or_insert(now);
        // Where no other copy can be, or none is left to make it from, nobody is helped.
        have > 0 && now.since(since) >= GRACE && self.has_place_beside(&holders, open.floor_bytes)
    }

    /// Nodes that hold what the block was finished with, as far as is known: those of the log unless they are known to
    /// be lost, and those that reported it. Before a pipeline was logged those of the log may not have it any more (a
    /// balance moves copies, and the log does not hear of it): then they have told so. Afterwards they have, as long as
    /// they need not have told it (see [`homes`](super::homes)). What is not written any more must be long enough.
    fn holders_of(&self, open: Reopened<'_>, now: Moment) -> BTreeSet<NodeIndex> {
        let odd = self.replicas.odd_of(open.block);
        // How long a replica is that is being written was told when that began.
        let is_too_short = |odd: &Odd| {
            let is_left = odd.state != ReplicaState::BeingWritten;
            is_left && odd.stamp >= open.stamp && odd.len_bytes < open.floor_bytes
        };
        let has_it = |storage: &StorageIndex| match self.replicas.odd_at(open.block, *storage) {
            Some(odd) => !odd.marked && odd.state != ReplicaState::Corrupt && !is_too_short(&odd),
            None if open.untouched => self.is_untold(*storage),
            None => self.may_write_untold(open.block, *storage),
        };
        let reported = odd.iter().filter(|(_, odd)| odd.stamp >= open.stamp && odd.len_bytes >= open.floor_bytes);
        let storages = open.homes.iter().copied().chain(reported.map(|(storage, _)| *storage));
        let known = |storage: &StorageIndex| (storage.0 as usize) < self.streams.len();
        let holders = storages.filter(known).filter(|storage| has_it(storage) && !self.is_lost(*storage, now));
        holders.map(|storage| self.registry.at(storage).node).collect()
    }

    /// Is what this storage had lost, as far as anybody can tell? A node in maintenance is only away, and one that was
    /// not heard of since this namenode leads has the time to be.
    fn is_lost(&self, storage: StorageIndex, now: Moment) -> bool {
        let node = self.registry.node_of(storage);
        let long = self.leading.is_some_and(|leading| now.since(leading.since) >= self.config.dead_after);
        let dead = node.state == NodeState::Dead && (node.last_contact.is_some() || long);
        self.registry.at(storage).failure.is_some() || (dead && !node.service.is_maintenance())
    }

    fn has_place_beside(&self, holders: &BTreeSet<NodeIndex>, len_bytes: u64) -> bool {
        self.registry.nodes().any(|(index, node)| {
            let takes_blocks = node.state == NodeState::Live && node.service.is_in_service();
            let room = || node.storages.iter().any(|storage| has_room(&self.registry, *storage, len_bytes));
            takes_blocks && !holders.contains(&index) && room()
        })
    }
}
