//! Nodes and their storages: who exists, who is alive, how full they are.
//!
//! ```text
//!   StorageIndex (24 bit) ──▶ Storage ── node ──▶ Node ── rack
//!   live ──(stale_after without a heartbeat)──▶ stale ──(dead_after)──▶ dead ──(heartbeat)──▶ live
//! ```
//!
//! Indexes are given out once and never reused, so that a slot of the replica map can never come to mean
//! another disk (scar SC-71). Counting of copies goes by node, never by storage (scar SC-67).

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use proto::cluster::StorageReport;
use proto::common::StorageLocation;
use proto::ids::{NodeId, StorageId, Term};

use crate::namespace::NodeService;
pub use crate::namespace::StorageIndex;

/// A node, by order of its first appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(u32);

#[cfg(test)]
impl NodeIndex {
    pub(super) const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// Storages that a cluster may ever have had.
pub(super) const MAX_STORAGES: usize = (1 << 24) - 1;

/// Most copies that a node is believed to make at a time.
const MAX_COPY_STREAMS: u32 = 256;

/// How lately a node was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Heartbeats arrive.
    Live,
    /// None for `stale_after`: read from it last, write to it last.
    Stale,
    /// None for `dead_after`, or none since this namenode started: its copies do not count.
    Dead,
}

impl NodeState {
    /// The word in listings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Dead => "dead",
        }
    }
}

/// A datanode.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its uuid.
    pub id: NodeId,
    /// Host to dial; empty until it registers with this namenode.
    pub host: String,
    /// Port of the data plane.
    pub transfer_port: u16,
    /// Address of its HTTP page.
    pub http_address: String,
    /// Rack, `/default-rack` if it says none.
    pub rack: String,
    /// Version of its program.
    pub version: String,
    /// What its machine calls itself; empty if it does not say.
    pub machine: String,
    /// Path of its local door; empty if it has none.
    pub local_socket: String,
    /// Its storages.
    pub storages: Vec<StorageIndex>,
    /// State as of the last look at the clock.
    pub state: NodeState,
    /// Last heartbeat or registration.
    pub last_contact: Option<Moment>,
    /// When it was heard of again after a silence, or registered once more, the last time.
    pub returned_at: Option<Moment>,
    /// What its administrator wants it to be, as of the log.
    pub service: NodeService,
    /// Transfers under way, as it said last.
    pub active_transfers: u32,
    /// Copies for others that it makes at a time, as it said last; 0: it does not say.
    pub copy_streams: u32,
    /// Bytes a second that it sends for copies that are not urgent; 0: as fast as it can.
    pub copy_rate_bytes_per_s: u64,
    /// Highest term of a leader that it knows, as it said last: it obeys no order of a lower one.
    pub highest_term: Term,
}

/// A disk of a node.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Its `DS-` id.
    pub id: StorageId,
    /// Whose it is.
    pub node: NodeIndex,
    /// Kind of disk.
    pub media: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// Bytes of blocks.
    pub used_bytes: u64,
    /// Bytes that blocks may still take.
    pub available_bytes: u64,
    /// Taken out of service by its node, and why.
    pub failure: Option<String>,
    /// In service, but for no new replicas, and why.
    pub limited: Option<String>,
    /// What its node calls its state; empty if it is `working`, or the node does not say.
    pub state: String,
    /// Open blocks that were placed here and are not committed yet.
    pub open_writes: u32,
}

/// A registration that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The storage belongs to another node.
    #[error("storage {storage} is registered for node {owner}, not for {node}: was a disk copied or moved?")]
    WrongNode {
        /// The storage.
        storage: StorageId,
        /// Whose it is.
        owner: NodeId,
        /// Who claims it.
        node: NodeId,
    },
    /// No index is left.
    #[error("this cluster has had {MAX_STORAGES} storages: no more can be told apart")]
    Full,
}

/// All nodes and storages.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: Vec<Node>,
    storages: Vec<Storage>,
    node_index: BTreeMap<NodeId, NodeIndex>,
    storage_index: BTreeMap<StorageId, StorageIndex>,
}

/// Where a node can be reached, as it registered.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// Host to dial.
    pub host: String,
    /// Port of the data plane.
    pub transfer_port: u16,
    /// Address of its HTTP page.
    pub http_address: String,
    /// Its rack; empty for the default.
    pub rack: String,
    /// Version of its program.
    pub version: String,
    /// What its machine calls itself; empty if it does not say.
    pub machine: String,
    /// Path of its local door; empty if it has none.
    pub local_socket: String,
}

const DEFAULT_RACK: &str = "/default-rack";

impl Registry {
    /// Makes a storage of the replicated registry known here. Idempotent.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn add_storage(
        &mut self,
        storage: &StorageId,
        node: &NodeId,
        media: &str,
    ) -> Result<StorageIndex, RegistryError> {
        if let Some(index) = self.storage_index.get(storage) {
            let owner = self.storages[index.0 as usize].node;
            return if self.node(owner).id == *node || base::mutated!(Sc71DiskChangesItsNode) {
                Ok(*index)
            } else {
                let owner = self.node(owner).id.clone();
                Err(RegistryError::WrongNode { storage: storage.clone(), owner, node: node.clone() })
            };
        }
        if self.storages.len() >= MAX_STORAGES {
            return Err(RegistryError::Full);
        }
        let node = self.add_node(node);
        let index = StorageIndex(self.storages.len() as u32);
        self.storages.push(Storage {
            id: storage.clone(),
            node,
            media: media.to_owned(),
            capacity_bytes: 0,
            used_bytes: 0,
            available_bytes: 0,
            failure: None,
            limited: None,
            state: String::new(),
            open_writes: 0,
        });
        self.storage_index.insert(storage.clone(), index);
        self.nodes[node.0 as usize].storages.push(index);
        Ok(index)
    }

    fn add_node(&mut self, id: &NodeId) -> NodeIndex {
        if let Some(index) = self.node_index.get(id) {
            return *index;
        }
        let index = NodeIndex(self.nodes.len() as u32);
        self.nodes.push(Node {
            id: id.clone(),
            host: String::new(),
            transfer_port: 0,
            http_address: String::new(),
            rack: DEFAULT_RACK.to_owned(),
            version: String::new(),
            machine: String::new(),
            local_socket: String::new(),
            storages: Vec::new(),
            state: NodeState::Dead,
            last_contact: None,
            returned_at: None,
            service: NodeService::InService,
            active_transfers: 0,
            highest_term: Term::from_raw(0),
            copy_streams: 0,
            copy_rate_bytes_per_s: 0,
        });
        self.node_index.insert(id.clone(), index);
        index
    }

    /// Notes a registration: the node is alive and reachable there.
    pub fn registered(&mut self, id: &NodeId, address: Address, now: Moment) -> NodeIndex {
        let index = self.add_node(id);
        let node = &mut self.nodes[index.0 as usize];
        node.host = address.host;
        node.transfer_port = address.transfer_port;
        node.http_address = address.http_address;
        node.rack = if address.rack.is_empty() { DEFAULT_RACK.to_owned() } else { address.rack };
        node.version = address.version;
        node.machine = address.machine;
        node.local_socket = address.local_socket;
        if node.last_contact.is_some() {
            node.returned_at = Some(now);
        }
        node.last_contact = Some(now);
        node.state = NodeState::Live;
        index
    }

    /// Notes a heartbeat. True if the node was silent (stale or dead) until now.
    pub fn heartbeat(&mut self, index: NodeIndex, active_transfers: u32, now: Moment) -> bool {
        let node = &mut self.nodes[index.0 as usize];
        let was_silent = node.state != NodeState::Live;
        if was_silent {
            node.returned_at = Some(now);
        }
        node.last_contact = Some(now);
        node.state = NodeState::Live;
        node.active_transfers = active_transfers;
        was_silent
    }

    /// Notes how much a node copies for others.
    pub fn copies_of(&mut self, index: NodeIndex, streams: u32, rate_bytes_per_s: u64) {
        let node = &mut self.nodes[index.0 as usize];
        (node.copy_streams, node.copy_rate_bytes_per_s) = (streams.min(MAX_COPY_STREAMS), rate_bytes_per_s);
    }

    /// Notes the highest term of a leader that a node knows.
    pub fn knows_term(&mut self, index: NodeIndex, term: Term) {
        self.nodes[index.0 as usize].highest_term = term;
    }

    /// A node registered with these storages: what it had and does not name is out of service (scar SC-54).
    /// The storages of which this is news.
    pub fn brought_up(&mut self, node: NodeIndex, reports: &[StorageReport]) -> Vec<StorageIndex> {
        let mut lost = Vec::new();
        for index in self.node(node).storages.clone() {
            let storage = &mut self.storages[index.0 as usize];
            let named = reports.iter().any(|report| report.storage == storage.id.as_str());
            if !named && storage.failure.is_none() && !base::mutated!(Sc54MissingDiskCounts) {
                storage.failure = Some("its node started without it".to_owned());
                storage.state = String::new();
                lost.push(index);
            }
        }
        lost
    }

    /// Notes fullness and failures. The storages that failed just now, or are in service again.
    pub fn usage(&mut self, node: NodeIndex, reports: &[StorageReport]) -> Vec<StorageIndex> {
        let mut changed = Vec::new();
        for report in reports {
            let Some(index) = StorageId::parse(&report.storage).ok().and_then(|id| self.storage(&id)) else { continue };
            let storage = &mut self.storages[index.0 as usize];
            if storage.node != node {
                continue;
            }
            storage.capacity_bytes = report.capacity_bytes;
            storage.used_bytes = report.used_bytes;
            storage.available_bytes = report.available_bytes;
            if report.failed != storage.failure.is_some() {
                changed.push(index);
            }
            storage.failure = report.failed.then(|| report.failure.clone());
            report.state.strip_prefix("working").unwrap_or(&report.state).clone_into(&mut storage.state);
            storage.limited = (!report.failed && !storage.state.is_empty()).then(|| report.failure.clone());
        }
        changed
    }

    /// Looks at the clock. The nodes that went silent or died just now, with their new state.
    pub fn look(&mut self, now: Moment, stale_after: Duration, dead_after: Duration) -> Vec<(NodeIndex, NodeState)> {
        let mut changed = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let Some(last) = node.last_contact else { continue };
            let silent = now.since(last);
            let state = match silent {
                _ if silent >= dead_after => NodeState::Dead,
                _ if silent >= stale_after => NodeState::Stale,
                _ => NodeState::Live,
            };
            if state != node.state && state != NodeState::Live {
                changed.push((NodeIndex(number as u32), state));
            }
            node.state = state;
        }
        changed
    }

    /// The index of a storage.
    #[must_use]
    pub fn storage(&self, id: &StorageId) -> Option<StorageIndex> {
        self.storage_index.get(id).copied()
    }
    /// The index of a node.
    #[must_use]
    pub fn node_by_id(&self, id: &NodeId) -> Option<NodeIndex> {
        self.node_index.get(id).copied()
    }
    /// A node.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0 as usize]
    }
    /// A storage.
    #[must_use]
    pub fn at(&self, index: StorageIndex) -> &Storage {
        &self.storages[index.0 as usize]
    }
    /// Distinct nodes among storages.
    #[must_use]
    pub fn nodes_among(&self, storages: &[StorageIndex]) -> usize {
        let nodes: std::collections::BTreeSet<_> = storages.iter().map(|storage| self.at(*storage).node).collect();
        nodes.len()
    }
    /// The node of a storage.
    #[must_use]
    pub fn node_of(&self, index: StorageIndex) -> &Node {
        self.node(self.at(index).node)
    }
    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.nodes.iter().enumerate().map(|(number, node)| (NodeIndex(number as u32), node))
    }
    /// All storages.
    pub fn storages(&self) -> impl Iterator<Item = (StorageIndex, &Storage)> {
        self.storages.iter().enumerate().map(|(number, storage)| (StorageIndex(number as u32), storage))
    }
    /// Does a copy on this storage count: is its node not dead and the disk in service?
    #[must_use]
    pub fn counts(&self, index: StorageIndex) -> bool {
        let storage = self.at(index);
        storage.failure.is_none() && self.node(storage.node).state != NodeState::Dead
    }
    /// Notes what a node is to the cluster.
    pub(super) fn set_service(&mut self, index: NodeIndex, service: NodeService) {
        self.nodes[index.0 as usize].service = service;
    }
    /// Is the node of this storage one that takes blocks, and whose copies count towards the number wanted?
    #[must_use]
    pub fn in_service(&self, index: StorageIndex) -> bool {
        self.node_of(index).service.is_in_service()
    }
    /// Notes that an open block was placed here, or that it is open no more.
    pub fn open_write(&mut self, index: StorageIndex, opened: bool) {
        let count = &mut self.storages[index.0 as usize].open_writes;
        *count = if opened { *count + 1 } else { count.saturating_sub(1) };
    }
    /// No open block is known any more.
    pub(super) fn forget_open_writes(&mut self) {
        self.storages.iter_mut().for_each(|storage| storage.open_writes = 0);
    }
    /// A storage with its node's addresses, for clients.
    #[must_use]
    pub fn location(&self, index: StorageIndex) -> StorageLocation {
        let node = self.node_of(index);
        StorageLocation {
            node: node.id.as_str().to_owned(),
            storage: self.at(index).id.as_str().to_owned(),
            host: node.host.clone(),
            transfer_port: u32::from(node.transfer_port),
            rack: node.rack.clone(),
            // Only readers on the node's machine are told: see `BlockManager::locate`.
            local_socket: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn silence_makes_stale_then_dead_and_a_heartbeat_brings_back() {
        let mut registry = Registry::default();
        let node = NodeId::new("n1");
        registry.add_storage(&StorageId::new("a"), &node, "DISK").unwrap();
        let index = registry.registered(&node, Address::default(), at(0));
        let (stale, dead) = (Duration::from_secs(10), Duration::from_secs(300));
        assert!(registry.look(at(9), stale, dead).is_empty());
        assert_eq!(registry.node(index).state, NodeState::Live);
        assert_eq!(registry.look(at(10), stale, dead), vec![(index, NodeState::Stale)]);
        assert_eq!(registry.node(index).state, NodeState::Stale);
        assert_eq!(registry.look(at(300), stale, dead), vec![(index, NodeState::Dead)]);
        assert!(registry.look(at(301), stale, dead).is_empty(), "a death is told once");
        assert!(registry.heartbeat(index, 0, at(302)));
        assert_eq!(registry.node(index).state, NodeState::Live);
    }

    #[test]
    fn sc_71_a_storage_never_changes_its_node() {
        let mut registry = Registry::default();
        let storage = StorageId::new("a");
        registry.add_storage(&storage, &NodeId::new("n1"), "DISK").unwrap();
        let refused = registry.add_storage(&storage, &NodeId::new("n2"), "DISK");
        assert!(matches!(refused, Err(RegistryError::WrongNode { .. })));
        assert!(registry.add_storage(&storage, &NodeId::new("n1"), "DISK").is_ok());
    }
}
