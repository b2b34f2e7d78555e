//! Datanodes that did not serve well lately: they are asked last, by all readers of a client.

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use parking_lot::Mutex;
use proto::common::StorageLocation;

/// How long a node is avoided after a fault.
const AVOID_FOR: Duration = Duration::from_secs(10);

/// Nodes with the moment until which they go last.
#[derive(Debug, Default)]
pub(crate) struct Avoided {
    nodes: Mutex<BTreeMap<String, Moment>>,
}

impl Avoided {
    /// A node did not serve well.
    pub(crate) fn add(&self, node: String, now: Moment) {
        let mut nodes = self.nodes.lock();
        nodes.retain(|_, until| *until > now);
        nodes.insert(node, now.plus(AVOID_FOR));
    }
    /// Puts avoided nodes last and keeps the order otherwise.
    pub(crate) fn order(&self, locations: &mut [StorageLocation], now: Moment) {
        let nodes = self.nodes.lock();
        if !nodes.is_empty() {
            locations.sort_by_key(|at| nodes.get(&at.node).is_some_and(|until| *until > now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn avoided_nodes_go_last_for_a_while() {
        let avoided = Avoided::default();
        let at = |node: &str| StorageLocation { node: node.into(), ..StorageLocation::default() };
        let order = |now: Moment| {
            let mut locations = [at("a"), at("b"), at("c")];
            avoided.order(&mut locations, now);
            locations.map(|at| at.node).concat()
        };
        avoided.add("a".into(), Moment::START);
        assert_eq!(order(Moment::START), "bca");
        assert_eq!(order(Moment::START.plus(AVOID_FOR)), "abc");
    }
}
