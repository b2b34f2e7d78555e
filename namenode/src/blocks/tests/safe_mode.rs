//! The first minutes of a namenode.

use super::harness::*;

/// Two nodes with a block each, of which the namenode knows from its log only.
fn starting() -> Bench {
    let mut bench = Bench::empty(config(), &[1, 1]);
    for n in 0..2 {
        bench.put(n as usize, 0, whole(n));
        let facts =
            super::super::Facts { stamp: STAMP, len_bytes: LEN, committed: true, replication: 1, untouched: false };
        bench.world.blocks.insert(block(n), facts);
        bench.world.next = block(n).next();
    }
    bench.lead(1);
    bench
}

#[test]
fn an_empty_cluster_leaves_at_once() {
    let mut bench = Bench::empty(config(), &[]);
    assert!(bench.map.safe_mode().is_some());
    bench.lead(1);
    assert_eq!(bench.map.safe_mode(), None);
}

#[test]
fn sc_72_it_ends_with_the_report_that_shows_the_last_block() {
    let mut bench = starting();
    assert!(bench.map.safe_mode().is_some_and(|reason| reason.contains("0 of 2")));
    bench.register(0);
    bench.full_report(0);
    bench.pass(1);
    assert!(bench.map.safe_mode().is_some_and(|reason| reason.contains("1 of 2")), "one block is still missing");
    bench.register(1);
    bench.full_report(1);
    assert!(bench.map.look_at_safe_mode(&bench.world, bench.now));
    assert_eq!(bench.map.safe_mode(), None);
    assert!(!bench.map.look_at_safe_mode(&bench.world, bench.now), "it ends once");
}

#[test]
fn sc_72_open_blocks_and_half_written_ones_are_not_waited_for() {
    let mut bench = starting();
    bench.allocate(7, 3, Vec::new());
    for node in 0..2 {
        bench.register(node);
        bench.full_report(node);
    }
    bench.pass(1);
    assert_eq!(bench.map.safe_mode(), None);
}

#[test]
fn a_lost_node_holds_it_up_for_five_minutes_and_not_for_ever() {
    let mut bench = starting();
    bench.register(0);
    bench.full_report(0);
    bench.wait(298);
    assert!(bench.map.safe_mode().is_some());
    bench.wait(2);
    assert_eq!(bench.map.safe_mode(), None);
    assert_eq!(bench.map.counts().missing, 1);
}

#[test]
fn all_nodes_reported_and_a_block_is_missing_nevertheless() {
    let mut bench = starting();
    bench.nodes[1].disks[0].held.clear();
    for node in 0..2 {
        bench.register(node);
        bench.full_report(node);
    }
    bench.pass(1);
    assert_eq!(bench.map.safe_mode(), None, "nothing more can come");
    bench.pass(1);
    assert_eq!(bench.map.counts().missing, 1);
}

#[test]
fn nothing_is_copied_or_removed_in_safe_mode() {
    let mut bench = starting();
    bench.world.blocks.get_mut(&block(0)).unwrap().replication = 2;
    bench.put(0, 0, whole(-1));
    bench.register(0);
    bench.full_report(0);
    for _ in 0..100 {
        bench.pass(2);
        assert_eq!(bench.beat(0), []);
    }
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
}
