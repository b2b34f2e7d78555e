//! Where a block can be read: nearest first, stale nodes last.

use std::collections::BTreeSet;

use proto::cluster::ReplicaState;
use proto::common::StorageLocation;
use proto::ids::{BlockId, GenerationStamp, NodeId};

use super::BlockManager;
use super::facts::Names;
use super::registry::{Node, NodeState, StorageIndex};
use super::replicas::{Class, Odd, classify};

/// Where to read a block.
#[derive(Clone, Debug, Default)]
pub struct Located {
    /// Storages with addresses, nearest first.
    pub locations: Vec<StorageLocation>,
    /// Their nodes, for the token.
    pub nodes: Vec<NodeId>,
    /// Every replica that is known is damaged.
    pub corrupt: bool,
    /// Of an open block: storages of its pipeline that are not named.
    pub left_out: u32,
}

/// Copies of a committed block, as people who ask what is lost are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Nodes with one that can be read.
    pub good: usize,
    /// Is there a damaged one?
    pub damaged: bool,
}

/// Where a reader is, as it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// Its host; empty if it does not say.
    pub host: &'a str,
    /// What its machine calls itself; empty if it does not say.
    pub machine: &'a str,
}

impl Place<'_> {
    fn shares_machine(&self, node: &Node) -> bool {
        !self.machine.is_empty() && node.machine == self.machine
    }
    fn is_near(&self, node: &Node) -> bool {
        self.shares_machine(node) || (!self.host.is_empty() && node.host == self.host)
    }
}

impl BlockManager {
    /// Locations of a block for a reader. Those on its own machine come with the node's local door. Storages whose receipts were logged serve before their
    /// reports arrive; they never count for anything else. Damaged replicas are named only if there are no
    /// others.
    #[must_use]
    pub fn locate(
        &self,
        (block, stamp, len_bytes): (BlockId, GenerationStamp, u64),
        logged: &[StorageIndex],
        wanted: u32,
        reader: Place<'_>,
    ) -> Located {
        let mut storages = self.replicas.good(block);
        storages.retain(|storage| !self.removal.is_sent(*storage, block));
        let odd = self.replicas.odd_of(block);
        if storages.len() < wanted as usize {
            let fresh = |s: &&StorageIndex| {
                (s.0 as usize) < self.streams.len()
                    && !speaks_against(&odd, **s, (stamp, len_bytes))
                    && !storages.contains(s)
            };
            let more: Vec<_> = logged.iter().filter(fresh).copied().collect();
            storages.extend(more);
        }
        storages.retain(|storage| self.reachable(*storage));
        let corrupt = storages.is_empty() && !odd.is_empty();
        if corrupt {
            storages.extend(odd.iter().map(|(storage, _)| *storage).filter(|s| self.reachable(*s)));
        }
        // Readers of different blocks begin at different nodes.
        let turn = storages.len().max(1);
        let first = block.raw().unsigned_abs() as usize % turn;
        storages.rotate_left(first);
        storages.sort_by_key(|storage| {
            let node = self.registry.node_of(*storage);
            (node.state != NodeState::Live, !reader.is_near(node), !node.service.is_in_service())
        });
        Located {
            nodes: storages.iter().map(|storage| self.registry.node_of(*storage).id.clone()).collect(),
            locations: storages.into_iter().map(|storage| self.location_for(storage, reader)).collect(),
            corrupt,
            left_out: 0,
        }
    }

    /// Locations of an open block: its pipeline, first node first, then whoever else has reported a replica that counts.
    /// Which of them knows how much of it there is, they are asked.
    #[must_use]
    pub fn locate_open(
        &self,
        (block, stamp): (BlockId, GenerationStamp),
        pipeline: &[StorageIndex],
        reader: Place<'_>,
    ) -> Located {
        let odd = self.replicas.odd_of(block);
        let useless = |storage: &StorageIndex| {
            let odd = odd.iter().find(|(other, _)| other == storage);
            odd.is_some_and(|(_, odd)| odd.marked || odd.state == ReplicaState::Corrupt || odd.stamp < stamp)
        };
        let reported = odd.iter().map(|(storage, _)| *storage).filter(|storage| !pipeline.contains(storage));
        let mut storages: Vec<_> = pipeline.iter().copied().chain(reported).collect();
        storages.retain(|storage| {
            (storage.0 as usize) < self.streams.len() && self.reachable(*storage) && !useless(storage)
        });
        storages.sort_by_key(|storage| self.registry.node_of(*storage).state != NodeState::Live);
        let left_out = pipeline.iter().filter(|storage| !storages.contains(storage)).count();
        Located {
            nodes: storages.iter().map(|storage| self.registry.node_of(*storage).id.clone()).collect(),
            locations: storages.into_iter().map(|storage| self.location_for(storage, reader)).collect(),
            corrupt: false,
            left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
        }
    }

    /// Storages whose replica of a block is whole at this stamp and length, as far as is known: one of each node, the
    /// writer's own first, silent ones last. `logged`: of the log, which are believed until their node says otherwise.
    #[must_use]
    pub fn known_good(
        &self,
        (block, stamp, len_bytes): (BlockId, GenerationStamp, u64),
        logged: &[StorageIndex],
        writer_host: &str,
    ) -> Vec<StorageIndex> {
        let odd = self.replicas.odd_of(block);
        let believed = |storage: &StorageIndex| !speaks_against(&odd, *storage, (stamp, len_bytes));
        let mut storages = self.proven(block, stamp, len_bytes);
        storages.extend(logged.iter().copied().filter(believed));
        storages.retain(|storage| {
            (storage.0 as usize) < self.streams.len()
                && self.reachable(*storage)
                && !self.removal.is_sent(*storage, block)
        });
        let mut nodes = BTreeSet::new();
        storages.retain(|storage| nodes.insert(self.registry.at(*storage).node));
        storages.sort_by_key(|storage| {
            let node = self.registry.node_of(*storage);
            (node.state != NodeState::Live, writer_host.is_empty() || node.host != writer_host)
        });
        storages
    }

    /// What there is of a committed block. Copies on dead nodes and failed disks are remembered, but nobody can read them.
    /// A block that was just closed has copies where the log has proof of them: their reports are on their way, and it
    /// would be called lost for a moment.
    #[must_use]
    pub fn copies_to_read(&self, block: BlockId, names: &dyn Names) -> Copies {
        let mut good = self.replicas.good(block);
        good.retain(|storage| self.registry.counts(*storage));
        if let Some(facts) = names.facts(block).filter(|_| self.repair.settles(block)) {
            good.extend(self.known_good((block, facts.stamp, facts.len_bytes), &names.logged(block), ""));
        }
        let odd = self.replicas.odd_of(block);
        let damaged = odd.iter().any(|(_, odd)| classify(odd, block, names) == Class::Corrupt);
        Copies { good: self.registry.nodes_among(&good), damaged }
    }

    fn location_for(&self, storage: StorageIndex, reader: Place<'_>) -> StorageLocation {
        let mut location = self.registry.location(storage);
        let node = self.registry.node_of(storage);
        if reader.shares_machine(node) {
            location.local_socket.clone_from(&node.local_socket);
        }
        location
    }

    /// Can a client dial the node of this storage, as far as is known?
    fn reachable(&self, storage: StorageIndex) -> bool {
        let node = self.registry.node_of(storage);
        self.registry.at(storage).failure.is_none() && !node.host.is_empty() && node.state != NodeState::Dead
    }
}

/// Does what a storage reported say that it has not what the log has proof of, whole at this stamp and length? Not if that
/// is of before the proof: after an append the log has the new stamp, with proofs, some time before the nodes' reports
/// bring it. What they told last may be the stamp before, or that the replica is being written at the new one: it was
/// until it was finished and proven, and a finished one is written on at further stamps only.
fn speaks_against(
    odd: &[(StorageIndex, Odd)],
    storage: StorageIndex,
    (stamp, len_bytes): (GenerationStamp, u64),
) -> bool {
    let Some((_, told)) = odd.iter().find(|(other, _)| *other == storage) else { return false };
    told.marked
        || told.state == ReplicaState::Corrupt
        || told.stamp > stamp
        || (told.stamp == stamp && is_another(told, len_bytes))
}

/// Is a replica at the stamp of the proof another one than what was proven, which had this length?
const fn is_another(told: &Odd, len_bytes: u64) -> bool {
    match told.state {
        ReplicaState::BeingWritten => false,
        ReplicaState::Finalized => told.len_bytes != len_bytes,
        // It was finished, and came back from a power cut as if it was not.
        _ => true,
    }
}
