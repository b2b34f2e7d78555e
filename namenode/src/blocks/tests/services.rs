//! What copies are worth whose nodes are out of service, and which one is the one too many.

use std::collections::BTreeSet;

use base::random::SeededRandom;
use proto::ids::NodeId;

use super::super::placement::{Wanted, choose};
use super::super::{NodeState, Place};
use super::harness::*;
use crate::namespace::NodeService;

pub(super) const LEAVES: NodeService = NodeService::Decommissioned;
pub(super) const AWAY: NodeService = NodeService::Maintenance { until_ms: 0 };

impl Bench {
    /// The log says that these nodes are out of service, and no others.
    pub(super) fn services(&mut self, services: &[(usize, NodeService)]) {
        let name = |node: &usize| NodeId::parse(&self.nodes[*node].name).unwrap();
        let services = services.iter().map(|(node, service)| (name(node), *service)).collect();
        self.map.set_services(services, self.now);
    }
    /// Holders of a block among nodes that are not in this list.
    pub(super) fn holders_beside(&self, n: i64, nodes: &[usize]) -> usize {
        self.holders(n).iter().filter(|node| !nodes.contains(node)).count()
    }
}

#[test]
fn nodes_out_of_service_get_nothing_and_are_read_behind_others() {
    let mut bench = Bench::new(4);
    bench.services(&[(1, LEAVES), (2, AWAY)]);
    let wanted = Wanted { copies: 4, block_size_bytes: LEN, writer_host: "host1".into(), ..Wanted::default() };
    for seed in 0..20 {
        let chosen = choose(bench.map.registry(), &wanted, &SeededRandom::new(seed));
        let nodes: BTreeSet<_> = chosen.iter().map(|storage| bench.map.registry().at(*storage).node).collect();
        assert_eq!(nodes, BTreeSet::from([bench.index(0), bench.index(3)]));
    }
    bench.file(1, 3, &[0, 1, 2]);
    let hosts = |bench: &Bench, reader| {
        let found = bench.map.locate((block(1), STAMP, LEN), &[], 3, reader);
        found.locations.into_iter().map(|at| at.host).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&bench, Place::default())[0], "host0");
    assert_eq!(hosts(&bench, Place::default()).len(), 3);
    let near = Place { host: "host1", machine: "" };
    assert_eq!(hosts(&bench, near)[0], "host1", "a reader on the node itself reads there");
}

#[test]
fn sc_76_what_comes_and_goes_is_trimmed_before_what_stays_and_racks_are_kept() {
    for flapper in 0..4 {
        let mut bench = Bench::new(4);
        bench.file(1, 3, &[0, 1, 2, 3]);
        // It comes and goes every minute; the moment it is back it was heard of as lately as all others.
        for _ in 0..4 {
            for _ in 0..6 {
                bench.pass(5);
                (0..4).filter(|node| *node != flapper).for_each(|node| drop(bench.beat(node)));
            }
            bench.wait(1);
        }
        assert!(bench.map.registry().nodes().all(|(_, node)| node.state == NodeState::Live));
        bench.run(60);
        let left = BTreeSet::from([0, 1, 2, 3].map(|n: usize| n));
        assert_eq!(bench.holders(1), left.into_iter().filter(|node| *node != flapper).collect());
    }
    // The only copy on its rack stays, however unsteady its node is.
    let mut bench = Bench::empty(config(), &[1; 4]);
    for node in 0..4 {
        bench.nodes[node].rack = if node == 3 { "/b".into() } else { "/a".into() };
    }
    bench.lead(1);
    for node in 0..4 {
        bench.register(node);
        bench.full_report(node);
    }
    bench.file(1, 3, &[0, 1, 2, 3]);
    for _ in 0..6 {
        bench.pass(5);
        (0..3).for_each(|node| drop(bench.beat(node)));
    }
    bench.run(90);
    assert_eq!(bench.holders(1).len(), 3);
    assert!(bench.holders(1).contains(&3), "a rack is not given up for it");
}

#[test]
fn copies_that_leave_are_no_reason_to_trim_and_are_not_trimmed() {
    let mut bench = Bench::new(5);
    bench.file(1, 2, &[0, 1]);
    bench.run(70);
    bench.services(&[(0, LEAVES)]);
    bench.run(60);
    assert_eq!((bench.holders_beside(1, &[0]), bench.holders(1).len()), (2, 3));
    bench.services(&[(0, LEAVES), (1, AWAY)]);
    bench.run(900);
    assert_eq!(
        bench.holders(1).len(),
        3,
        "two are in service or will be again, and the third one is there to be copied"
    );
    bench.services(&[]);
    bench.run(60);
    assert_eq!(bench.holders(1).len(), 2, "what is too much goes when all are back");
}

#[test]
fn a_copy_in_place_of_one_that_leaves_keeps_the_racks() {
    for seed in 0..10 {
        let mut bench = Bench::empty(config(), &[1; 6]);
        bench.random = SeededRandom::new(seed);
        for node in 0..6 {
            bench.nodes[node].rack = if node % 3 == 0 { "/a".into() } else { "/b".into() };
        }
        bench.lead(1);
        for node in 0..6 {
            bench.register(node);
            bench.full_report(node);
        }
        // Nodes 0 and 3 are the rack /a: when 0 leaves, its copy must go to 3.
        bench.file(1, 3, &[0, 1, 2]);
        bench.run(15);
        bench.services(&[(0, LEAVES)]);
        bench.run(60);
        assert!(bench.holders(1).contains(&3), "seed {seed}: {:?}", bench.holders(1));
    }
}

#[test]
fn f_3_copies_on_a_node_in_maintenance_that_this_namenode_never_heard_of_are_not_made_again() {
    // The namenode was started while the node was away. What the log names is believed; what was moved there since is
    // not known, and what was never there is made.
    let mut bench = Bench::empty(config(), &[1, 1, 1, 1]);
    bench.services(&[(2, AWAY)]);
    bench.lead(1);
    for node in [0, 1, 3] {
        bench.register(node);
        bench.full_report(node);
    }
    bench.nodes[2].up = false;
    let [at_home, elsewhere] = [[0, 1, 2], [0, 1, 3]].map(|nodes| nodes.map(|node| bench.storage(node, 0)).to_vec());
    bench.world.logged.insert(block(1), at_home.clone());
    bench.world.logged.insert(block(2), elsewhere);
    bench.world.logged.insert(block(3), at_home);
    bench.file(1, 3, &[0, 1]);
    bench.file(2, 3, &[0, 1]);
    // Nothing of it is in service: it lacks one, as every block of which all copies are in maintenance.
    bench.file(3, 3, &[]);
    bench.run(60);
    assert_eq!(bench.holders(1), BTreeSet::from([0, 1]), "its third copy is away");
    assert_eq!(bench.holders(2), BTreeSet::from([0, 1, 3]));
    assert_eq!(bench.map.counts().under_replicated, 1, "only the one without any copy at all");
    // The maintenance is over, and the node does not come.
    bench.services(&[]);
    bench.run(60);
    assert_eq!(bench.holders(1), BTreeSet::from([0, 1, 3]));
}
