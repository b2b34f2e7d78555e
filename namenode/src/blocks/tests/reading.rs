//! Where readers are sent, and what proves a block.

use proto::cluster::ReplicaState;
use proto::ids::GenerationStamp;

use super::harness::*;
use crate::blocks::{Copies, Place};

fn order(bench: &Bench, n: i64, host: &str) -> Vec<usize> {
    let found = bench.map.locate((block(n), STAMP, LEN), &[], 3, Place { host, machine: "" });
    assert_eq!(found.nodes.len(), found.locations.len());
    let node = |name: &str| bench.nodes.iter().position(|node| node.name == name).unwrap();
    found.locations.iter().map(|location| node(&location.node)).collect()
}

#[test]
fn the_readers_host_comes_first_and_readers_of_different_blocks_begin_at_different_nodes() {
    let mut bench = Bench::new(3);
    (0..9).for_each(|n| bench.file(n, 3, &[0, 1, 2]));
    for n in 0..9 {
        assert_eq!(order(&bench, n, "host1")[0], 1);
        assert_eq!(order(&bench, n, "").len(), 3);
    }
    let first: std::collections::BTreeSet<usize> = (0..9).map(|n| order(&bench, n, "")[0]).collect();
    assert_eq!(first.len(), 3);
}

#[test]
fn a_reader_on_a_nodes_machine_gets_its_local_door_and_no_other() {
    let mut bench = Bench::new(3);
    bench.file(1, 3, &[0, 1, 2]);
    let doors = |machine: &str| {
        let found = bench.map.locate((block(1), STAMP, LEN), &[], 3, Place { host: "elsewhere", machine });
        found.locations.into_iter().map(|at| at.local_socket).collect::<Vec<_>>()
    };
    assert_eq!(doors("machine1"), ["/run/node1.sock", "", ""], "and it comes first");
    assert_eq!(doors(""), ["", "", ""], "nobody knows where this reader is");
    assert_eq!(doors("machine7"), ["", "", ""]);
}

#[test]
fn silent_nodes_come_last_and_dead_ones_not_at_all() {
    let mut bench = Bench::new(3);
    bench.file(1, 3, &[0, 1, 2]);
    bench.pass(9);
    bench.beat(1);
    bench.beat(2);
    bench.pass(5);
    assert_eq!(order(&bench, 1, "host0")[2], 0, "near or not");
    bench.pass(290);
    bench.beat(1);
    assert_eq!(order(&bench, 1, "host0"), [1, 2], "node 0 is dead, node 2 silent");
}

#[test]
fn sc_88_nodes_of_an_open_block_that_cannot_be_asked_are_counted() {
    let mut bench = Bench::new(3);
    bench.allocate(1, 3, Vec::new());
    let pipeline: Vec<_> = (0..3).map(|node| bench.storage(node, 0)).collect();
    let left_out = |bench: &Bench| {
        let found = bench.map.locate_open((block(1), STAMP), &pipeline, Place::default());
        (found.locations.len(), found.left_out)
    };
    assert_eq!(left_out(&bench), (3, 0));
    bench.pass(290);
    bench.beat(1);
    bench.beat(2);
    bench.pass(15);
    assert_eq!(left_out(&bench), (2, 1), "node 0 is dead, and may have acknowledged something");
}

#[test]
fn logged_storages_serve_before_their_reports_and_count_for_nothing_else() {
    let mut bench = Bench::new(2);
    bench.allocate(1, 2, Vec::new());
    bench.commit(1);
    let logged = [bench.storage(0, 0), bench.storage(1, 0)];
    bench.world.logged.insert(block(1), logged.to_vec());
    assert_eq!(bench.map.locate((block(1), STAMP, LEN), &logged, 2, Place::default()).locations.len(), 2);
    assert!(bench.map.replicas().good(block(1)).is_empty());
    let to_read = |bench: &Bench| bench.map.copies_to_read(block(1), &bench.world);
    assert_eq!(to_read(&bench), Copies { good: 2, damaged: false }, "it was closed a moment ago");
    bench.hold(0, record(block(1), STAMP, LEN / 2, ReplicaState::BeingWritten));
    assert_eq!(to_read(&bench), Copies { good: 2, damaged: false }, "told before it was finished");
    bench.pass(11);
    assert_eq!(bench.map.counts().missing, 1, "a receipt is not a report");
    assert_eq!(to_read(&bench), Copies { good: 0, damaged: false }, "and its time is over");
    // A report that says otherwise is believed.
    bench.hold(0, record(block(1), STAMP, LEN - 1, ReplicaState::Finalized));
    assert_eq!(bench.map.locate((block(1), STAMP, LEN), &logged, 2, Place::default()).locations.len(), 1);
    // One of before the proof is not: the node's next report is still on its way.
    bench.hold(1, record(block(1), GenerationStamp::from_raw(STAMP.raw() - 1), LEN / 2, ReplicaState::Finalized));
    assert_eq!(bench.map.locate((block(1), STAMP, LEN), &logged, 2, Place::default()).locations.len(), 1);
    assert_eq!(bench.map.known_good((block(1), STAMP, LEN), &logged, ""), [bench.storage(1, 0)]);
}

#[test]
fn what_was_being_written_before_the_proof_does_not_speak_against_it() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0, 1]);
    // An append: its nodes told while it was under way, and their next reports are on their way.
    let later = STAMP.next();
    super::recovery::reopen(&mut bench, 1, LEN, &[0, 1]);
    super::recovery::restamp(&mut bench, 1, later, &[0, 1]);
    [0, 1].into_iter().for_each(|node| bench.hold(node, record(block(1), later, LEN, ReplicaState::BeingWritten)));
    let len_bytes = LEN + 100;
    super::recovery::commit_at(&mut bench, 1, len_bytes);
    let logged = [bench.storage(0, 0), bench.storage(1, 0)];
    let serves = |bench: &Bench| {
        let found = bench.map.locate((block(1), later, len_bytes), &logged, 2, Place::default());
        let good = bench.map.known_good((block(1), later, len_bytes), &logged, "");
        (found.corrupt, found.locations.len(), good.len())
    };
    assert_eq!(serves(&bench), (false, 2, 2));
    // What came back from a power cut, and what has another length or a further stamp, is believed.
    for (state, stamp, len_bytes) in [
        (ReplicaState::WaitingRecovery, later, len_bytes),
        (ReplicaState::Finalized, later, len_bytes - 1),
        (ReplicaState::Corrupt, later, len_bytes),
        (ReplicaState::BeingWritten, later.next(), len_bytes),
    ] {
        bench.hold(0, record(block(1), stamp, len_bytes, state));
        assert_eq!(serves(&bench), (false, 1, 1), "{state:?} at {stamp} with {len_bytes} bytes");
    }
    // And so is the report that was on its way.
    bench.hold(0, record(block(1), later, len_bytes, ReplicaState::Finalized));
    assert_eq!(serves(&bench), (false, 2, 2));
}

#[test]
fn damaged_replicas_are_named_only_if_there_is_nothing_else() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0, 1]);
    let storages = [bench.storage(0, 0), bench.storage(1, 0)];
    bench.map.mark_corrupt(block(1), &storages[..1], &bench.world, bench.now);
    assert_eq!(order(&bench, 1, "host0"), [1]);
    bench.map.mark_corrupt(block(1), &storages[1..], &bench.world, bench.now);
    let found = bench.map.locate((block(1), STAMP, LEN), &storages, 2, Place::default());
    assert!(found.corrupt);
    assert_eq!(found.locations.len(), 2);
}

#[test]
fn sc_65_only_replicas_of_this_stamp_and_length_prove_a_block() {
    let mut bench = Bench::new(3);
    bench.allocate(1, 3, Vec::new());
    bench.hold(0, whole(1));
    bench.hold(1, record(block(1), STAMP.next(), LEN, ReplicaState::Finalized));
    bench.hold(2, record(block(1), STAMP, LEN - 512, ReplicaState::Finalized));
    assert_eq!(bench.map.proven(block(1), STAMP, LEN), [bench.storage(0, 0)]);
    bench.hold(2, record(block(1), STAMP, LEN, ReplicaState::WaitingRecovery));
    assert_eq!(bench.map.proven(block(1), STAMP, LEN), [bench.storage(0, 0)]);
}
