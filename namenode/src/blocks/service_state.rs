//! Nodes that are out of service, and what their copies are worth.
//!
//! ```text
//!   copy on a node that …      is read, and a source   counts towards the number wanted
//!   is in service              yes                     yes, unless it is dead
//!   leaves (decommissioned)    yes, even the only one  no
//!   is in maintenance          while it is there       yes, there or not, as long as another one is in service
//! ```
//!
//! A copy in maintenance whose node is silent is not lost and is not made again: the node is expected to be away. Only of a
//! block that has no copy in service is one made. What a node in maintenance holds that has not told it since this
//! namenode started, the log says: it named the storages of each block when it was committed.

use std::collections::BTreeSet;
use std::time::Duration;

use base::clock::Moment;
use proto::ids::{BlockId, NodeId};

use super::BlockManager;
use super::drain::Drain;
use super::facts::Names;
use super::registry::{Node, NodeIndex, NodeState, StorageIndex};
use super::repair::ENDANGERED;
use crate::namespace::NodeService;

/// Time for which a node that came back must stay before its copies are as good as others.
const STEADY: Duration = Duration::from_secs(600);

/// How far the copies of a block go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Copies towards the number wanted.
    pub(super) towards: u32,
    /// How endangered it is: copies that can be read, and more than that is never said of a block that lost none.
    pub(super) level: u32,
    /// Nothing was lost: what it lacks is to take the place of copies that leave.
    pub(super) moves_only: bool,
}

impl BlockManager {
    /// How far the copies of a block on these nodes go.
    pub(super) fn standing(
        &self,
        block: BlockId,
        holders: &BTreeSet<NodeIndex>,
        replication: u32,
        names: &dyn Names,
    ) -> Standing {
        let reachable = self.copies_that_count(holders);
        if self.drains.services.is_empty() {
            return Standing { towards: reachable, level: reachable, moves_only: false };
        }
        let node = |index: &NodeIndex| self.registry.node(*index);
        let staying: BTreeSet<_> =
            holders.iter().copied().filter(|index| node(index).service.is_in_service()).collect();
        let with_those_away = self.copies_that_count(&staying) + self.away(block, names);
        let heard = staying.iter().any(|index| node(index).state == NodeState::Live);
        let towards = if heard { with_those_away } else { with_those_away.min(replication.saturating_sub(1)) };
        let moves_only = reachable >= replication;
        Standing { towards, level: if moves_only { reachable.max(ENDANGERED + 1) } else { reachable }, moves_only }
    }

    /// Nodes in maintenance with a good copy, heard of or not.
    fn away(&self, block: BlockId, names: &dyn Names) -> u32 {
        let away = |storage: &StorageIndex| {
            self.registry.node_of(*storage).service.is_maintenance()
                && self.registry.at(*storage).failure.is_none()
                && !self.removal.is_sent(*storage, block)
        };
        let node = |storage: StorageIndex| self.registry.at(storage).node;
        let mut nodes: BTreeSet<_> = self.replicas.each_good(block).filter(away).map(node).collect();
        if self.any_untold_in_maintenance() {
            let untold = |storage: &StorageIndex| self.is_untold(*storage);
            nodes.extend(names.logged(block).into_iter().filter(untold).filter(away).map(node));
        }
        nodes.len() as u32
    }
    /// Has this storage not told what it holds since this namenode started?
    pub(super) fn is_untold(&self, storage: StorageIndex) -> bool {
        self.streams.get(storage.0 as usize).is_some_and(|stream| !stream.complete())
    }
    fn any_untold_in_maintenance(&self) -> bool {
        let untold = |node: &NodeId| {
            let node = self.registry.node_by_id(node).map(|index| self.registry.node(index));
            node.is_some_and(|node| node.storages.iter().any(|storage| self.is_untold(*storage)))
        };
        self.drains.services.iter().any(|(node, service)| service.is_maintenance() && untold(node))
    }

    /// Nodes out of service, as they were told last.
    #[must_use]
    pub fn services(&self) -> &[(NodeId, NodeService)] {
        &self.drains.services
    }

    /// Takes over which nodes are out of service. Blocks on nodes of which that is news are looked at again.
    pub fn set_services(&mut self, services: Vec<(NodeId, NodeService)>, now: Moment) {
        if services == self.drains.services {
            return;
        }
        let wanted =
            |id: &NodeId| services.iter().find(|(node, _)| node == id).map_or(NodeService::InService, |(_, s)| *s);
        let news = self.registry.nodes().filter(|(_, node)| node.service != wanted(&node.id));
        for (index, service) in news.map(|(index, node)| (index, wanted(&node.id))).collect::<Vec<_>>() {
            self.registry.set_service(index, service);
            self.drains.changed(index, service, now);
            let node = &self.registry.node(index).id;
            tracing::info!(%node, ?service, "a datanode has another service");
            if self.registry.node(index).state == NodeState::Live {
                self.rescan_node(index);
            } else {
                self.lost_node(index);
            }
            self.rescan_odd();
            // Only the log knows which blocks may be on it.
            if self.registry.node(index).storages.iter().any(|storage| self.is_untold(*storage)) {
                self.rescan_all();
            }
        }
        self.drains.services = services;
    }

    /// Is this copy on a node that was away not long ago (scar SC-76)? Nodes that come and go every minute do not keep the
    /// copies of nodes that stay from being the ones that are kept.
    pub(super) fn was_gone_lately(&self, storage: StorageIndex, now: Moment) -> bool {
        self.registry.node_of(storage).returned_at.is_some_and(|at| now.since(at) < STEADY)
    }

    /// Was this storage's node emptied, and is it gone? Nothing that it is to remove is waited for: it may never come back,
    /// and if it does, it is judged again.
    pub(super) fn is_gone(&self, storage: StorageIndex) -> bool {
        self.is_node_gone(self.registry.at(storage).node)
    }
    fn is_node_gone(&self, index: NodeIndex) -> bool {
        let node = self.registry.node(index);
        node.state == NodeState::Dead
            && node.service == NodeService::Decommissioned
            && self.drains.get(index).is_some_and(Drain::is_done)
    }
    /// A node died, or was found to be empty: if that is the end of it, what it was to remove is looked at again.
    pub(super) fn wait_no_more_if_gone(&mut self, index: NodeIndex) {
        if self.is_node_gone(index) {
            self.rescan_odd();
        }
    }
    /// Replicas that gone nodes were told to remove while they were there.
    pub(super) fn told_to_the_gone(&self) -> u64 {
        let gone = self.drains.iter().filter(|(index, _)| self.is_node_gone(*index));
        let storages = gone.flat_map(|(index, _)| &self.registry.node(index).storages);
        storages.map(|storage| self.removal.sent_to(*storage)).sum()
    }

    /// Is a node dead that should not be? One in maintenance is away, and one that was emptied is gone.
    pub(super) fn is_missed(&self, index: NodeIndex, node: &Node) -> bool {
        node.state == NodeState::Dead && !node.service.is_maintenance() && !self.is_node_gone(index)
    }

    /// Nodes by service: that leave or have left, that are in maintenance.
    #[must_use]
    pub fn nodes_out_of_service(&self) -> (u64, u64) {
        let count = |wanted: fn(NodeService) -> bool| {
            self.drains.services.iter().filter(|(_, service)| wanted(*service)).count() as u64
        };
        (count(|service| service == NodeService::Decommissioned), count(NodeService::is_maintenance))
    }
}
