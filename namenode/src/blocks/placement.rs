//! Where new replicas go: on distinct nodes with room, near the writer first, then across racks.
//!
//! ```text
//!   1st  the writer's own node, else any        2nd  another rack than the first
//!   3rd  the rack of the second                 more  any
//! ```
//!
//! Among the candidates of a step one is drawn with its free space, divided by its load, as weight. The
//! draw comes from a [`Randomness`] that the caller passes, so that the simulation repeats itself.

use std::collections::BTreeSet;

use base::random::Randomness;

use super::registry::{NodeIndex, NodeState, Registry, StorageIndex};

/// What is to be placed.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Copies.
    pub copies: usize,
    /// Most bytes of the block.
    pub block_size_bytes: u64,
    /// Host of the writer; empty if it runs elsewhere.
    pub writer_host: String,
    /// Nodes that must not get one.
    pub exclude: BTreeSet<NodeIndex>,
    /// Nodes that hold a copy already: they count for the racks and get none.
    pub holders: Vec<NodeIndex>,
}

/// Does a storage take another block of this size? An open block elsewhere in the queue counts an eighth:
/// most blocks end far below the block size, and a full volume refuses cleanly by itself.
fn has_room(registry: &Registry, index: StorageIndex, block_size_bytes: u64) -> bool {
    let storage = registry.at(index);
    let promised = u64::from(storage.open_writes).saturating_mul(block_size_bytes / 8);
    let in_service = storage.failure.is_none() && storage.limited.is_none();
    in_service && storage.available_bytes >= block_size_bytes.saturating_add(promised)
}

/// Free bytes per unit of load: the weight of a draw.
fn weight(registry: &Registry, index: StorageIndex) -> u64 {
    let storage = registry.at(index);
    let load = u64::from(registry.node(storage.node).active_transfers) + u64::from(storage.open_writes);
    (storage.available_bytes >> 20).max(1) / (1 + load) + 1
}

fn draw(registry: &Registry, candidates: &[StorageIndex], random: &dyn Randomness) -> Option<StorageIndex> {
    let total: u64 = candidates.iter().map(|index| weight(registry, *index)).sum();
    let mut ticket = random.below(total);
    for index in candidates {
        let share = weight(registry, *index);
        if ticket < share {
            return Some(*index);
        }
        ticket -= share;
    }
    None
}

struct Choice<'a> {
    registry: &'a Registry,
    wanted: &'a Wanted,
    random: &'a dyn Randomness,
    taken: Vec<NodeIndex>,
    chosen: Vec<StorageIndex>,
}

impl Choice<'_> {
    fn rack(&self, node: NodeIndex) -> &str {
        &self.registry.node(node).rack
    }

    /// Draws one storage on a node that passes `fits`, live nodes before stale ones.
    fn take(&mut self, fits: impl Fn(&Self, NodeIndex) -> bool) -> bool {
        for state in [NodeState::Live, NodeState::Stale] {
            let nodes = self.registry.nodes().filter(|(index, node)| {
                node.state == state
                    && !self.wanted.exclude.contains(index)
                    && !self.wanted.holders.contains(index)
                    && !self.taken.contains(index)
                    && fits(self, *index)
            });
            let candidates: Vec<_> = nodes
                .flat_map(|(_, node)| node.storages.iter().copied())
                .filter(|storage| has_room(self.registry, *storage, self.wanted.block_size_bytes))
                .collect();
            if let Some(storage) = draw(self.registry, &candidates, self.random) {
                self.taken.push(self.registry.at(storage).node);
                self.chosen.push(storage);
                return true;
            }
        }
        false
    }
}

/// Chooses at most `wanted.copies` storages, on as many nodes. Fewer if there are not enough nodes with room.
#[must_use]
pub fn choose(registry: &Registry, wanted: &Wanted, random: &dyn Randomness) -> Vec<StorageIndex> {
    let mut choice = Choice { registry, wanted, random, taken: Vec::new(), chosen: Vec::new() };
    while choice.chosen.len() < wanted.copies {
        let placed: Vec<NodeIndex> = wanted.holders.iter().chain(&choice.taken).copied().collect();
        let found = match placed.as_slice() {
            [] => {
                let local = |c: &Choice<'_>, node| {
                    let host = &c.registry.node(node).host;
                    !host.is_empty() && *host == c.wanted.writer_host
                };
                choice.take(local) || choice.take(|_, _| true)
            }
            [first] => {
                let first = *first;
                choice.take(|c, node| c.rack(node) != c.rack(first)) || choice.take(|_, _| true)
            }
            [first, second] => {
                let (first, second) = (*first, *second);
                let one_rack = registry.node(first).rack == registry.node(second).rack;
                let fits = |c: &Choice<'_>, node| (c.rack(node) == c.rack(second)) != one_rack;
                choice.take(fits) || choice.take(|_, _| true)
            }
            _ => choice.take(|_, _| true),
        };
        if !found {
            break;
        }
    }
    choice.chosen
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::clock::Moment;
    use base::random::SeededRandom;
    use proptest::prelude::*;
    use proto::cluster::StorageReport;
    use proto::ids::{NodeId, StorageId};

    use super::super::registry::Address;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn cluster(nodes: &[(&str, &str, u64, usize)]) -> Registry {
        let mut registry = Registry::default();
        for (name, rack, free_mib, disks) in nodes {
            let id = NodeId::new(name);
            let ids: Vec<_> = (0..*disks).map(|disk| StorageId::new(&format!("{name}-{disk}"))).collect();
            for storage in &ids {
                registry.add_storage(storage, &id, "DISK").unwrap();
            }
            let address = Address { host: (*name).into(), rack: (*rack).into(), ..Address::default() };
            let index = registry.registered(&id, address, Moment::START);
            let reports: Vec<_> = ids
                .iter()
                .map(|storage| StorageReport {
                    storage: storage.as_str().into(),
                    available_bytes: free_mib * MIB,
                    ..StorageReport::default()
                })
                .collect();
            registry.usage(index, &reports);
        }
        registry
    }

    fn names(registry: &Registry, chosen: &[StorageIndex]) -> Vec<String> {
        chosen.iter().map(|s| registry.node_of(*s).id.as_str().to_owned()).collect()
    }

    fn wanted(copies: usize, host: &str) -> Wanted {
        Wanted { copies, block_size_bytes: MIB, writer_host: host.into(), ..Wanted::default() }
    }

    #[test]
    fn first_on_the_writer_then_another_rack_then_the_same_as_the_second() {
        let registry =
            cluster(&[("a1", "/a", 100, 1), ("a2", "/a", 100, 1), ("b1", "/b", 100, 1), ("b2", "/b", 100, 1)]);
        for seed in 0..50 {
            let chosen = choose(&registry, &wanted(3, "a2"), &SeededRandom::new(seed));
            let names = names(&registry, &chosen);
            assert_eq!(names[0], "a2");
            assert!(names[1].starts_with('b') && names[2].starts_with('b'), "{names:?}");
        }
    }

    #[test]
    fn full_failed_and_dead_nodes_get_nothing() {
        let mut registry = cluster(&[("a", "", 100, 1), ("b", "", 0, 1), ("c", "", 100, 1)]);
        registry.look(Moment::START, Duration::from_secs(1), Duration::from_secs(2));
        let chosen = choose(&registry, &wanted(3, ""), &SeededRandom::new(1));
        assert_eq!(chosen.len(), 2);
        registry.look(Moment::after_start(Duration::from_secs(5)), Duration::from_secs(1), Duration::from_secs(2));
        assert!(choose(&registry, &wanted(3, ""), &SeededRandom::new(1)).is_empty());
    }

    proptest! {
        #[test]
        fn nodes_are_distinct_have_room_and_are_not_excluded(
            shape in prop::collection::vec((0_u64..4, 1_usize..3, 0_u8..3), 1..8),
            copies in 1_usize..6, seed in any::<u64>(), excluded in 0_usize..8,
        ) {
            let names: Vec<String> = (0..shape.len()).map(|i| format!("n{i}")).collect();
            let racks: Vec<String> = shape.iter().map(|s| format!("/r{}", s.2)).collect();
            let nodes: Vec<_> = shape.iter().zip(&names).zip(&racks)
                .map(|((s, n), r)| (n.as_str(), r.as_str(), s.0, s.1)).collect();
            let registry = cluster(&nodes);
            let mut want = wanted(copies, "");
            want.exclude = registry.nodes().map(|(i, _)| i).skip(excluded).take(1).collect();
            let chosen = choose(&registry, &want, &SeededRandom::new(seed));
            let hosts: BTreeSet<_> = chosen.iter().map(|s| registry.at(*s).node).collect();
            prop_assert_eq!(hosts.len(), chosen.len(), "SC-67: copies are on distinct nodes");
            let able = shape.iter().enumerate().filter(|(i, s)| s.0 >= 1 && *i != excluded).count();
            prop_assert_eq!(chosen.len(), copies.min(able));
            prop_assert!(hosts.iter().all(|h| !want.exclude.contains(h)));
        }
    }
}
