//! What the block map adds to placement: load, room promised to open blocks, silent nodes.

use std::collections::BTreeSet;

use base::random::SeededRandom;

use super::super::placement::{Wanted, choose};
use super::harness::*;

fn wanted(copies: usize) -> Wanted {
    Wanted { copies, block_size_bytes: 128 << 20, ..Wanted::default() }
}

fn chosen(bench: &Bench, wanted: &Wanted, seed: u64) -> Vec<usize> {
    let storages = choose(bench.map.registry(), wanted, &SeededRandom::new(seed));
    let node = |s| (0..bench.nodes.len()).find(|n| bench.index(*n) == bench.map.registry().at(s).node).unwrap();
    storages.into_iter().map(node).collect()
}

#[test]
fn fewer_nodes_than_copies_give_as_many_as_there_are() {
    let bench = Bench::new(2);
    for seed in 0..20 {
        assert_eq!(chosen(&bench, &wanted(5), seed).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
    }
    assert!(chosen(&Bench::empty(config(), &[1, 1]), &wanted(3), 1).is_empty(), "nobody has registered");
}

#[test]
fn silent_nodes_are_written_to_only_if_nobody_else_is_left() {
    let mut bench = Bench::new(3);
    bench.pass(9);
    bench.beat(1);
    bench.beat(2);
    bench.pass(1);
    for seed in 0..20 {
        assert!(!chosen(&bench, &wanted(2), seed).contains(&0), "L-3: not chosen after ten seconds of silence");
    }
    assert_eq!(chosen(&bench, &wanted(3), 1).len(), 3);
}

#[test]
fn the_writers_own_node_comes_first_unless_it_is_excluded() {
    let bench = Bench::new(4);
    for seed in 0..20 {
        let local = Wanted { writer_host: "host2".into(), ..wanted(2) };
        assert_eq!(chosen(&bench, &local, seed)[0], 2);
        let excluded = Wanted { exclude: BTreeSet::from([bench.index(2)]), ..local };
        assert!(!chosen(&bench, &excluded, seed).contains(&2));
    }
}

#[test]
fn copies_of_a_block_go_beside_its_holders_racks() {
    let mut bench = Bench::empty(config(), &[1; 4]);
    for node in 0..4 {
        bench.nodes[node].rack = if node < 2 { "/a".into() } else { "/b".into() };
        bench.register(node);
    }
    for seed in 0..20 {
        let copy = Wanted { holders: vec![bench.index(0)], ..wanted(1) };
        assert!(chosen(&bench, &copy, seed)[0] >= 2, "the second copy is on another rack");
        let third = Wanted { holders: vec![bench.index(0), bench.index(1)], ..wanted(1) };
        assert!(chosen(&bench, &third, seed)[0] >= 2, "two copies of one rack want a third elsewhere");
    }
}

#[test]
fn open_blocks_have_promised_room_until_they_are_closed() {
    let mut bench = Bench::new(1);
    bench.nodes[0].disks[0].available_bytes = (128 << 20) + (16 << 20);
    bench.beat(0);
    let storage = bench.storage(0, 0);
    bench.allocate(1, 1, vec![storage]);
    assert_eq!(chosen(&bench, &wanted(1), 1), [0]);
    bench.allocate(2, 1, vec![storage]);
    assert!(chosen(&bench, &wanted(1), 1).is_empty(), "two open blocks count an eighth each");
    bench.commit(1);
    assert_eq!(chosen(&bench, &wanted(1), 1), [0]);
    bench.allocate(3, 1, vec![storage]);
    assert!(chosen(&bench, &wanted(1), 1).is_empty());
    bench.free(3);
    assert_eq!(chosen(&bench, &wanted(1), 1), [0], "what is given up promises nothing any more");
    assert_eq!(bench.map.registry().at(storage).open_writes, 1);
}

#[test]
fn disks_that_failed_or_were_not_brought_up_get_nothing() {
    let mut bench = Bench::with(config(), &[2]);
    bench.nodes[0].disks[1].failed = true;
    bench.beat(0);
    for seed in 0..20 {
        let storages = choose(bench.map.registry(), &wanted(1), &SeededRandom::new(seed));
        assert_eq!(storages, [bench.storage(0, 0)]);
    }
}
