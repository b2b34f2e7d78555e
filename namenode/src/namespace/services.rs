//! Which datanodes are taken out of service, and for how long. A node that is not named here is in service.
//!
//! ```text
//!   in service ──▶ decommissioned        its copies count for reading, and not towards the number wanted
//!       ▲    └───▶ maintenance (until)   they count as long as one other copy is in service
//!       └──────────── told so, or the log's time has passed `until`
//! ```
//!
//! What is kept is what an administrator said. How far a node has come with it is soft state of the leader (`blocks/drain.rs`).
//! The end of a maintenance needs no command: whoever asks compares it with the time of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, NodeId};
use proto::log::SetNodeService;
use proto::namespace as n;

use super::registry::invalid;
use super::store::NONE;
use super::{Call, Namespace, Outcome};

/// What a datanode is to the cluster, as its administrator wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NodeService {
    /// It takes and holds blocks.
    #[default]
    InService,
    /// It is to go for good: nothing is written to it, and its blocks are copied elsewhere.
    Decommissioned,
    /// It is to be away for a while: nothing is written to it, and one copy elsewhere is enough for as long.
    Maintenance {
        /// Time of the log at which it ends by itself, in ms; 0: never.
        until_ms: u64,
    },
}

impl NodeService {
    /// Does the node take new blocks, and do its copies count towards the number wanted?
    #[must_use]
    pub const fn is_in_service(self) -> bool {
        matches!(self, Self::InService)
    }
    /// May the node be away without its copies being made again?
    #[must_use]
    pub const fn is_maintenance(self) -> bool {
        matches!(self, Self::Maintenance { .. })
    }
    /// Its number in commands and images, and the end.
    pub(crate) const fn parts(self) -> (u32, u64) {
        match self {
            Self::InService => (n::NodeService::InService as u32, 0),
            Self::Decommissioned => (n::NodeService::Decommissioned as u32, 0),
            Self::Maintenance { until_ms } => (n::NodeService::Maintenance as u32, until_ms),
        }
    }
    /// The reverse of [`NodeService::parts`]; `None` for numbers that mean nothing.
    pub(crate) fn from_parts(service: u32, until_ms: u64) -> Option<Self> {
        match n::NodeService::try_from(service.cast_signed()).ok()? {
            n::NodeService::InService if until_ms == 0 => Some(Self::InService),
            n::NodeService::Decommissioned if until_ms == 0 => Some(Self::Decommissioned),
            n::NodeService::Maintenance => Some(Self::Maintenance { until_ms }),
            _ => None,
        }
    }
    /// What it is at a time of the log.
    const fn at(self, log_time_ms: u64) -> Self {
        match self {
            Self::Maintenance { until_ms } if until_ms != 0 && until_ms <= log_time_ms => Self::InService,
            other => other,
        }
    }
}

/// Nodes that are not in service, as they were told.
#[derive(Clone, Default, Debug)]
pub(crate) struct Services(Arc<BTreeMap<NodeId, NodeService>>);

impl Services {
    pub(crate) fn get(&self, node: &NodeId) -> NodeService {
        self.0.get(node).copied().unwrap_or_default()
    }
    pub(crate) fn set(&mut self, node: NodeId, service: NodeService) {
        let services = Arc::make_mut(&mut self.0);
        if service.is_in_service() {
            services.remove(&node);
        } else {
            services.insert(node, service);
        }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// By node.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeId, NodeService)> {
        self.0.iter().map(|(node, service)| (node, *service))
    }
}

impl Namespace {
    /// Takes a datanode out of service or back. Saying the same twice changes nothing but the end of a maintenance.
    pub(super) fn set_node_service(&mut self, call: &Call<'_>, set: &SetNodeService) -> FsResult<Outcome> {
        if !self.is_superuser(call.caller()?) {
            let text = "only a superuser takes datanodes out of service";
            return Err(FsError::new(ErrorCode::PermissionDenied, text));
        }
        let node = NodeId::parse(&set.node).map_err(|bad| invalid(bad.to_string()))?;
        if !self.registry.has_node(&node) {
            let text = format!("no datanode {node} is registered");
            return Err(FsError::new(ErrorCode::NotFound, text).with_hint("see `blockyard node ls`"));
        }
        let until_ms = match set.maintenance_ms {
            0 => 0,
            ms => self.log_time_ms.saturating_add(ms),
        };
        let service = NodeService::from_parts(set.service, until_ms)
            .ok_or_else(|| invalid("there is no such state of a node, or it has no end".to_owned()))?;
        let named = node.as_str().to_owned();
        self.registry.set_service(node, service);
        Ok(Outcome::Named(named))
    }

    /// Datanodes that are out of service at the time of the log, by id.
    #[must_use]
    pub fn services_in_force(&self) -> Vec<(NodeId, NodeService)> {
        let at_present = self.registry.services().iter().map(|(node, service)| (node, service.at(self.log_time_ms)));
        at_present
            .filter(|(_, service)| !service.is_in_service())
            .map(|(node, service)| (node.clone(), service))
            .collect()
    }

    /// Time of the log at which the next maintenance ends, in ms; `None`: none does by itself.
    #[must_use]
    pub fn next_end_of_maintenance_ms(&self) -> Option<u64> {
        let ends = self.registry.services().iter().filter_map(|(_, service)| match service.at(self.log_time_ms) {
            NodeService::Maintenance { until_ms } if until_ms != 0 => Some(until_ms),
            _ => None,
        });
        ends.min()
    }

    /// A path of the file that a block belongs to, for messages; where it will appear, if it is not published. `None` for
    /// a block that no file in the tree has.
    #[must_use]
    pub fn path_of_block(&self, block: BlockId) -> Option<String> {
        let store = &self.store;
        let slot = store.block(store.block_slot(block.raw())?).inode;
        let inode = store.inode(slot);
        let pin = store.open.get(&inode.id).and_then(|open| open.pin.as_ref());
        match pin {
            Some(pin) => {
                let parent = store.path(store.slot(pin.parent)?);
                Some(format!("{}/{}", parent.trim_end_matches('/'), pin.name))
            }
            None => (inode.parent != NONE && store.hangs(slot)).then(|| store.path(slot)),
        }
    }
}
