//! Datanodes that did not serve well lately: they are asked last, by all readers of a client. Those of them that could not
//! be reached at all get no new blocks from its writers either, if there are others.
//!
//! A node that fails again and again is avoided for longer each time; one that serves is trusted at once. Avoided nodes
//! are still asked when no other has the data: those that failed longest ago first.

use std::collections::BTreeMap;
use std::time::Duration;

use base::clock::Moment;
use parking_lot::Mutex;
use proto::common::StorageLocation;

/// How long a node is avoided after its first fault; it doubles with each further one.
const AVOID_FOR: Duration = Duration::from_secs(10);
/// Longest time of it.
const AVOID_AT_MOST: Duration = Duration::from_secs(160);
/// How long a node that does not fail any more is remembered as one that failed.
const REMEMBER_FOR: Duration = Duration::from_secs(600);
/// Nodes that are remembered; beyond it those go that are avoided for the shortest time.
const MAX_NODES: usize = 1024;

/// Nodes with the moment until which they go last.
#[derive(Debug, Default)]
pub(crate) struct Avoided {
    nodes: Mutex<BTreeMap<String, Fault>>,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    until: Moment,
    /// How long it was avoided for last.
    for_how_long: Duration,
    /// Nobody answered there. One that is slow, or has a damaged replica, takes new blocks as well as any.
    unreachable: bool,
}

impl Avoided {
    /// A node did not serve well.
    pub(crate) fn add(&self, node: String, now: Moment) {
        self.note(node, now, false);
    }

    /// Nobody answered at a node's address.
    pub(crate) fn add_unreachable(&self, node: String, now: Moment) {
        tracing::warn!(node, "a datanode cannot be reached: for a while readers ask it last, and writers none of it");
        self.note(node, now, true);
    }

    fn note(&self, node: String, now: Moment, unreachable: bool) {
        let mut nodes = self.nodes.lock();
        nodes.retain(|_, fault| now.since(fault.until) < REMEMBER_FOR);
        let (for_how_long, was_unreachable) = match nodes.get(&node) {
            // Several reads that fail at the same time are one fault.
            Some(fault) if fault.until > now => (fault.for_how_long, fault.unreachable),
            Some(fault) => ((fault.for_how_long * 2).min(AVOID_AT_MOST), false),
            None => (AVOID_FOR, false),
        };
        if nodes.len() >= MAX_NODES
            && !nodes.contains_key(&node)
            && let Some(first) = nodes.iter().min_by_key(|(_, fault)| fault.until).map(|(node, _)| node.clone())
        {
            nodes.remove(&first);
        }
        let (until, unreachable) = (now.plus(for_how_long), unreachable || was_unreachable);
        nodes.insert(node, Fault { until, for_how_long, unreachable });
    }

    /// The nodes that could not be reached lately.
    pub(crate) fn unreachable(&self, now: Moment) -> Vec<String> {
        let nodes = self.nodes.lock();
        let gone = nodes.iter().filter(|(_, fault)| fault.unreachable && fault.until > now);
        gone.map(|(node, _)| node.clone()).collect()
    }

    /// A node answered, whatever it said.
    pub(crate) fn reached(&self, node: &str) {
        if let Some(fault) = self.nodes.lock().get_mut(node) {
            fault.unreachable = false;
        }
    }

    /// A node served a whole read.
    pub(crate) fn served(&self, node: &str) {
        let mut nodes = self.nodes.lock();
        if !nodes.is_empty() {
            nodes.remove(node);
        }
    }

    /// Is any node remembered? If not, [`Avoided::order`] changes nothing.
    pub(crate) fn is_any(&self) -> bool {
        !self.nodes.lock().is_empty()
    }

    /// Puts avoided nodes last, and keeps the order otherwise: it is that of distance.
    pub(crate) fn order(&self, locations: &mut [StorageLocation], now: Moment) {
        let nodes = self.nodes.lock();
        if !nodes.is_empty() {
            locations.sort_by_key(|at| nodes.get(&at.node).map(|fault| fault.until).filter(|until| *until > now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(avoided: &Avoided, now: Moment) -> String {
        let at = |node: &str| StorageLocation { node: node.into(), ..StorageLocation::default() };
        let mut locations = [at("a"), at("b"), at("c")];
        avoided.order(&mut locations, now);
        locations.map(|at| at.node).concat()
    }

    fn secs(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn avoided_nodes_go_last_for_a_while() {
        let avoided = Avoided::default();
        avoided.add("a".into(), secs(0));
        assert_eq!(order(&avoided, secs(0)), "bca");
        avoided.add("b".into(), secs(1));
        assert_eq!(order(&avoided, secs(1)), "cab", "the one that failed longest ago goes first among them");
        assert_eq!(order(&avoided, secs(10)), "acb");
        assert_eq!(order(&avoided, secs(11)), "abc");
    }

    #[test]
    fn who_fails_again_is_avoided_longer_until_it_serves() {
        let avoided = Avoided::default();
        let mut now = secs(0);
        for lasts in [10, 20, 40, 80, 160, 160] {
            avoided.add("a".into(), now);
            avoided.add("a".into(), now);
            let last = now.plus(Duration::from_secs(lasts - 1));
            assert_eq!(order(&avoided, last), "bca", "{lasts}");
            now = last.plus(Duration::from_secs(1));
            assert_eq!(order(&avoided, now), "abc", "{lasts}");
        }
        avoided.served("a");
        avoided.add("a".into(), now);
        assert_eq!(order(&avoided, now.plus(AVOID_FOR)), "abc", "what was before it served does not count");
        let late = now.plus(AVOID_FOR).plus(REMEMBER_FOR);
        avoided.add("a".into(), late);
        assert_eq!(order(&avoided, late.plus(AVOID_FOR)), "abc", "nor what was long ago");
    }

    #[test]
    fn only_who_did_not_answer_is_unreachable_and_only_for_a_while() {
        let avoided = Avoided::default();
        avoided.add("slow".into(), secs(0));
        for node in ["gone", "back", "serves"] {
            avoided.add_unreachable(node.into(), secs(0));
            avoided.add(node.into(), secs(0));
        }
        avoided.reached("back");
        avoided.reached("unknown");
        avoided.served("serves");
        assert_eq!(avoided.unreachable(secs(9)), ["gone"], "what is said of it besides changes nothing");
        assert!(avoided.unreachable(secs(10)).is_empty());
        avoided.add("gone".into(), secs(11));
        assert!(avoided.unreachable(secs(11)).is_empty(), "another fault is another one");
    }

    #[test]
    fn i_15_the_memory_is_bounded() {
        let avoided = Avoided::default();
        for number in 0..3 * MAX_NODES {
            avoided.add(format!("node-{number}"), secs(0));
        }
        avoided.add("a".into(), secs(1));
        assert_eq!(avoided.nodes.lock().len(), MAX_NODES);
        assert_eq!(order(&avoided, secs(1)), "bca", "the newest is among them");
    }
}
