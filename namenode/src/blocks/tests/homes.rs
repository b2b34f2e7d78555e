//! Nodes of open blocks that told nothing, and those that should have.

use proto::cluster::ReplicaState;

use super::super::{JobState, Reopened, Why};
use super::drain::{job, reasons};
use super::harness::*;
use super::recovery::{reopen, restamp};
use super::services::AWAY;
use crate::blocks::StorageIndex;

/// A block that is being written on the first nodes, of which nobody told; node 1 is to be away for a while.
fn writing(replication: u32, nodes: &[usize]) -> Bench {
    let mut bench = Bench::new(4);
    let homes: Vec<StorageIndex> = nodes.iter().map(|node| bench.storage(*node, 0)).collect();
    bench.allocate(1, replication, homes);
    bench.services(&[(1, AWAY)]);
    bench.run(5);
    bench
}

#[test]
fn sc_75_a_home_that_started_again_without_the_replica_has_it_no_more() {
    let mut bench = writing(2, &[0, 1]);
    assert_eq!(job(&bench, 1).state, JobState::Done, "node 0 writes it, as far as anybody knows");
    bench.begin_life(0);
    bench.pass(3);
    bench.beat(1);
    bench.pass(3);
    assert_eq!(job(&bench, 1).state, JobState::Done, "node 0 has not told yet what it found");
    bench.run(5);
    assert_eq!(reasons(&bench, 1), [Why::Open { have: 0, wanted: 1 }], "it found nothing: the data were not synced");
    // Another life with what was written.
    bench.hold(0, record(block(1), STAMP, 100, ReplicaState::WaitingRecovery));
    bench.run(5);
    assert_eq!(job(&bench, 1).state, JobState::Done);
}

#[test]
fn sc_75_a_home_that_told_that_it_has_nothing_is_believed() {
    let mut bench = writing(2, &[0, 1]);
    let before = proto::ids::GenerationStamp::from_raw(STAMP.raw() - 1);
    bench.hold(0, record(block(1), before, 0, ReplicaState::Deleted));
    bench.run(5);
    assert_eq!(job(&bench, 1).state, JobState::Done, "a replica of before was in the way of this one");
    bench.hold(0, record(block(1), STAMP, 0, ReplicaState::Deleted));
    bench.run(5);
    assert_eq!(reasons(&bench, 1), [Why::Open { have: 0, wanted: 1 }]);
    // A pipeline that is made anew is another beginning.
    restamp(&mut bench, 1, STAMP.next(), &[0, 1]);
    bench.run(5);
    assert_eq!(job(&bench, 1).state, JobState::Done);
}

#[test]
fn sc_75_a_leader_that_did_not_know_a_home_when_it_was_placed_notices_that_it_starts_again() {
    let mut bench = Bench::empty(config(), &[1; 3]);
    bench.lead(1);
    let homes = vec![bench.storage(0, 0), bench.storage(1, 0)];
    bench.allocate(1, 2, homes.clone());
    (0..3).for_each(|node| bench.register(node));
    for node in 0..3 {
        bench.full_report(node);
    }
    bench.services(&[(1, AWAY)]);
    bench.run(5);
    assert_eq!(job(&bench, 1).state, JobState::Done);
    bench.map.is_open_at(block(1), &homes);
    bench.restart(0);
    bench.run(5);
    assert_eq!(reasons(&bench, 1), [Why::Open { have: 0, wanted: 1 }]);
}

#[test]
fn d_7_homes_that_lost_what_was_written_are_no_copies_of_a_block_that_is_open_again() {
    let mut bench = Bench::new(4);
    bench.file(1, 3, &[0, 1, 2]);
    bench.wait(20);
    reopen(&mut bench, 1, LEN, &[0, 1, 2]);
    let later = STAMP.next();
    restamp(&mut bench, 1, later, &[0, 1, 2]);
    (0..3).for_each(|node| bench.hold(node, record(block(1), later, LEN, ReplicaState::BeingWritten)));
    let homes: Vec<_> = (0..3).map(|node| bench.storage(node, 0)).collect();
    let look = |bench: &mut Bench| {
        let (block, stamp, homes) = (block(1), later, &homes);
        let open = Reopened { block, stamp, floor_bytes: LEN, replication: 3, least: 2, homes, untouched: false };
        (bench.map.look_at_reopened(open, bench.now), bench.map.counts().under_replicated)
    };
    assert_eq!(look(&mut bench), (false, 0));
    // One comes back without it, a catch-up of the other one failed.
    bench.nodes[0].disks[0].held.remove(&block(1));
    bench.restart(0);
    assert_eq!(look(&mut bench), (false, 1), "two are left");
    bench.wait(60);
    assert_eq!(look(&mut bench), (false, 1), "which is enough for its writer to keep it");
    bench.hold(1, record(block(1), later, LEN - 1, ReplicaState::WaitingRecovery));
    assert_eq!(look(&mut bench), (false, 1));
    bench.wait(35);
    assert_eq!(look(&mut bench), (true, 1), "one is left");
}
