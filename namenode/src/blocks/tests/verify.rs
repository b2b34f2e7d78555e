//! What a reader or a node called damaged is read again by its node, and counts again if it is sound.

use proto::cluster::{ReplicaRecord, ReplicaState};

use super::harness::*;

fn mark(bench: &mut Bench, nodes: &[usize]) {
    let storages: Vec<_> = nodes.iter().map(|node| bench.storage(*node, 0)).collect();
    bench.map.mark_corrupt(block(1), &storages, &bench.world, bench.now);
}
fn corrupt() -> ReplicaRecord {
    record(block(1), STAMP, LEN, ReplicaState::Corrupt)
}

#[test]
fn f_6_replicas_wrongly_called_damaged_by_readers_count_again() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0, 1]);
    bench.wait(11);
    mark(&mut bench, &[0, 1]);
    assert_eq!((bench.map.counts().missing, bench.map.counts().corrupt), (1, 1));
    bench.run(5);
    assert_eq!(bench.map.replicas().good(block(1)).len(), 2);
    let counts = bench.map.counts();
    assert_eq!((counts.missing, counts.corrupt, counts.under_replicated, counts.pending_delete), (0, 0, 0, 0));
    assert_eq!(bench.holders(1).len(), 2);
}

#[test]
fn f_6_reads_that_failed_once_on_every_copy_lose_nothing() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0, 1]);
    bench.hold(0, corrupt());
    bench.hold(1, corrupt());
    bench.wait(11);
    assert_eq!(bench.map.counts().missing, 1);
    // The nodes start again, have forgotten it, and are asked to look.
    for node in [0, 1] {
        bench.put(node, 0, whole(1));
        bench.restart(node);
    }
    assert_eq!(bench.map.counts().missing, 1, "no better for a restart alone");
    bench.run(5);
    assert_eq!(bench.map.replicas().good(block(1)).len(), 2);
    assert_eq!((bench.map.counts().missing, bench.map.counts().corrupt), (0, 0));
}

#[test]
fn a_node_that_finds_the_damage_is_believed_and_the_copy_replaced() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0, 1]);
    bench.wait(61);
    mark(&mut bench, &[0]);
    assert_eq!(verifies(&bench.beat(0)), [block(1)]);
    let orders = bench.beat(1);
    assert_eq!(verifies(&orders), [], "nobody doubts that one");
    bench.carry(1, &orders);
    bench.hold(0, corrupt());
    bench.run(40);
    assert_eq!(bench.map.counts().corrupt, 0);
    assert_eq!(bench.holders(1), [1, 2].into());
}

#[test]
fn a_node_is_asked_again_when_no_answer_came() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0, 1]);
    bench.wait(11);
    mark(&mut bench, &[0, 1]);
    assert_eq!(verifies(&bench.beat(0)), [block(1)]);
    bench.wait(55);
    assert_eq!(verifies(&bench.beat(0)), [], "it may be reading");
    bench.wait(6);
    assert_eq!(verifies(&bench.beat(0)), [block(1)]);
    // The node calls it damaged as well: with no other left, it is asked seldom, and never while there is a good one.
    bench.hold(0, corrupt());
    bench.wait(100);
    assert_eq!(verifies(&bench.beat(0)), []);
    bench.wait(501);
    assert_eq!(verifies(&bench.beat(0)), [block(1)]);
    let asked = bench.beat(1);
    bench.carry(1, &asked);
    bench.report(1);
    assert_eq!(bench.map.replicas().good(block(1)), [bench.storage(1, 0)]);
    bench.wait(700);
    assert_eq!(verifies(&bench.beat(0)), []);
}

#[test]
fn one_heartbeat_has_a_bounded_number_of_replicas_read() {
    let mut bench = Bench::new(1);
    (0..10).for_each(|n| bench.file(n, 1, &[0]));
    bench.wait(11);
    let storage = bench.storage(0, 0);
    (0..10).for_each(|n| bench.map.mark_corrupt(block(n), &[storage], &bench.world, bench.now));
    let asked: Vec<usize> = (0..4).map(|_| verifies(&bench.beat(0)).len()).collect();
    assert_eq!(asked, [4, 4, 2, 0]);
}

#[test]
fn sc_73_a_look_that_a_report_overtook_brings_nothing_back() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0, 1]);
    bench.wait(11);
    mark(&mut bench, &[0]);
    // Read and sound, deleted, and all of that reported in full before the changes arrive.
    bench.put(0, 0, ReplicaRecord { verified: true, ..whole(1) });
    bench.erase(0, 0, 1);
    bench.full_report(0);
    bench.report(0);
    assert!(!bench.map.replicas().is_good(block(1), bench.storage(0, 0)));
    assert_eq!(bench.map.replicas().odd_of(block(1)), []);
    // A report that only shows the replica does not clear it; the change does, although it is older than the report.
    mark(&mut bench, &[1]);
    bench.put(1, 0, ReplicaRecord { verified: true, ..whole(1) });
    assert_eq!(bench.full_report(1), 0);
    assert!(!bench.map.replicas().is_good(block(1), bench.storage(1, 0)));
    bench.report(1);
    assert!(bench.map.replicas().is_good(block(1), bench.storage(1, 0)));
}
