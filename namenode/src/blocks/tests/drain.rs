//! Nodes leave, or are away for a while: nothing goes below its number of copies, and what is in the way is named.

use std::collections::{BTreeMap, BTreeSet};

use base::random::SeededRandom;
use proptest::prelude::*;
use proto::cluster::ReplicaState;
use proto::ids::{GenerationStamp, InodeId, LeaseEpoch, Term};

use super::super::{Facts, JobState, JobView, Place, ToRecover, Why};
use super::harness::*;
use super::recovery::reopen;
use super::services::{AWAY, LEAVES};
use crate::namespace::NodeService;

pub(super) fn job(bench: &Bench, node: usize) -> JobView {
    let name = &bench.nodes[node].name;
    let is_its = |job: &JobView| job.subject.as_ref().is_some_and(|id| id.as_str() == name);
    bench.map.jobs(bench.now).into_iter().find(is_its).expect("a job")
}
pub(super) fn reasons(bench: &Bench, node: usize) -> Vec<Why> {
    job(bench, node).blockers.into_iter().map(|blocker| blocker.why).collect()
}

#[test]
fn l_7_a_node_that_leaves_is_done_when_every_block_has_its_copies_elsewhere() {
    let mut bench = Bench::new(5);
    (0..40).for_each(|n| bench.file(n, 3, &[(n % 5) as usize, ((n + 1) % 5) as usize, ((n + 2) % 5) as usize]));
    bench.run(20);
    bench.services(&[(2, LEAVES)]);
    assert_eq!(job(&bench, 2).state, JobState::Running);
    bench.tick();
    let mut moving = bench.map.counts().moving;
    for second in 0..60 {
        bench.run(1);
        let counts = bench.map.counts();
        assert_eq!((counts.under_replicated, counts.endangered, counts.missing), (0, 0, 0), "nothing is lost by it");
        moving = moving.max(counts.moving);
        if job(&bench, 2).state == JobState::Done {
            println!("done after {second} s");
            break;
        }
    }
    assert!(moving > 0, "its blocks are told apart from those that lost a copy");
    let done = job(&bench, 2);
    assert_eq!((done.state, done.done_blocks, done.total_blocks), (JobState::Done, 24, 24));
    assert_eq!((done.done_bytes, done.blocked), (24 * LEN, 0));
    for n in 0..40 {
        assert!(bench.holders_beside(n, &[2]) >= 3, "block {n}");
    }
    assert_eq!(bench.nodes[2].disks[0].held.len(), 24, "its replicas stay: it may come back");
    // It goes, and nobody misses it.
    bench.nodes[2].up = false;
    bench.run(400);
    assert_eq!(job(&bench, 2).state, JobState::Done);
    assert_eq!((bench.map.counts().under_replicated, bench.map.node_counts().2), (0, 0));
    // It comes back after all: what is too much goes, by the rule for all deletions.
    bench.nodes[2].up = true;
    bench.services(&[]);
    bench.run(700);
    (0..40).for_each(|n| assert_eq!(bench.holders(n).len(), 3, "block {n}"));
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
    assert!(bench.map.jobs(bench.now).is_empty());
}

#[test]
fn l_7_a_node_does_not_go_while_a_failed_disk_that_never_reported_may_hold_a_last_copy() {
    let mut bench = Bench::empty(config(), &[1; 3]);
    bench.put(0, 0, whole(1));
    bench.nodes[0].disks[0].failed = true;
    bench.services(&[(0, LEAVES)]);
    bench.lead(1);
    (0..3).for_each(|node| bench.register(node));
    (1..3).for_each(|node| assert_eq!(bench.full_report(node), 0));
    bench.allocate(1, 1, Vec::new());
    bench.commit(1);
    for _ in 0..60 {
        bench.pass(1);
        (0..3).for_each(|node| drop(bench.beat(node)));
        bench.tick();
    }
    assert_eq!(reasons(&bench, 0), [Why::FailedDisk { lacking: 1 }]);
    assert_eq!(job(&bench, 0).state, JobState::Blocked);
    // The next start of the node finds the disk working.
    bench.nodes[0].disks[0].failed = false;
    bench.restart(0);
    bench.run(60);
    assert_eq!((job(&bench, 0).state, bench.holders_beside(1, &[0])), (JobState::Done, 1));
}

#[test]
fn l_7_a_node_that_may_go_is_no_reason_to_remove_a_damaged_copy() {
    let mut bench = Bench::new(4);
    bench.file(1, 2, &[0, 1]);
    bench.run(70);
    bench.services(&[(1, LEAVES)]);
    while job(&bench, 1).state != JobState::Done {
        bench.run(1);
    }
    // It has gone, and is not missed yet. Of two other copies one turns out to be damaged.
    bench.nodes[1].up = false;
    bench.hold(0, record(block(1), STAMP, LEN, ReplicaState::Corrupt));
    assert_eq!(deletes(&bench.beat(0)), [], "one good copy is less than the minimum");
    bench.run(40);
    assert_eq!(
        (bench.map.counts().corrupt, bench.holders_beside(1, &[1])),
        (0, 2),
        "when there is another one it goes"
    );
}

#[test]
fn sc_74_the_only_copy_on_a_node_that_leaves_is_read_and_copied_from() {
    let mut bench = Bench::new(3);
    (0..10).for_each(|n| bench.file(n, 1, &[0]));
    bench.run(20);
    bench.services(&[(0, LEAVES)]);
    bench.tick();
    assert_eq!(bench.map.counts().moving, 10);
    assert_eq!(
        bench.map.locate((block(1), STAMP, LEN), &[], 1, Place::default()).nodes.len(),
        1,
        "it is read from there"
    );
    assert_eq!((bench.map.counts().endangered, bench.map.counts().missing), (0, 0));
    bench.run(60);
    assert_eq!(job(&bench, 0).state, JobState::Done);
    (0..10).for_each(|n| assert_eq!(bench.holders_beside(n, &[0]), 1));
}

#[test]
fn sc_74_dead_nodes_that_leave_are_waited_for_and_one_that_comes_back_is_a_source() {
    let mut bench = Bench::new(5);
    bench.file(1, 2, &[0, 1]);
    bench.file(2, 2, &[0, 1]);
    bench.file(3, 3, &[0, 2, 3]);
    bench.run(20);
    [0, 1].into_iter().for_each(|node| bench.nodes[node].up = false);
    bench.run(310);
    bench.services(&[(0, LEAVES), (1, LEAVES)]);
    bench.run(60);
    let blocked = job(&bench, 1);
    assert_eq!((blocked.state, blocked.blocked), (JobState::Blocked, 2));
    let named: BTreeSet<_> =
        blocked.blockers.iter().map(|blocker| (blocker.block, &blocker.why)).map(|(b, _)| b).collect();
    assert_eq!(named, BTreeSet::from([Some(block(1)), Some(block(2))]));
    assert!(reasons(&bench, 1).iter().all(|why| *why == Why::NoCopy));
    assert_eq!(bench.map.counts().missing, 2);
    // Only one of them comes back.
    bench.nodes[0].up = true;
    bench.run(60);
    assert_eq!((job(&bench, 0).state, job(&bench, 1).state), (JobState::Done, JobState::Done));
    [1, 2].into_iter().for_each(|n| assert_eq!(bench.holders_beside(n, &[0, 1]), 2));
    assert_eq!(bench.map.counts().missing, 0);
}

#[test]
fn sc_74_a_leader_that_never_heard_of_a_dead_node_does_not_let_it_go_while_blocks_lack_copies() {
    let mut bench = Bench::empty(config(), &[1; 4]);
    bench.nodes[0].up = false;
    for n in 0..4 {
        bench.put(0, 0, whole(n));
        bench.put(1, 0, whole(n));
    }
    bench.services(&[(0, LEAVES)]);
    bench.lead(1);
    for node in 1..4 {
        bench.register(node);
        bench.full_report(node);
    }
    for n in 0..5 {
        bench.allocate(n, 2, Vec::new());
        bench.commit(n);
    }
    bench.run(400);
    // Block 4 is nowhere: the node that was never heard of may have it.
    assert_eq!(reasons(&bench, 0), [Why::Silent { lacking: 1 }]);
    assert_eq!(job(&bench, 0).state, JobState::Blocked);
    bench.put(0, 0, whole(4));
    bench.nodes[0].up = true;
    bench.run(60);
    assert_eq!((job(&bench, 0).state, bench.holders_beside(4, &[0])), (JobState::Done, 2));
}

#[test]
fn sc_75_a_block_that_is_being_written_keeps_its_node_until_it_is_closed() {
    let mut bench = Bench::new(4);
    let pipeline: Vec<_> = (0..3).map(|node| bench.storage(node, 0)).collect();
    bench.allocate(1, 3, pipeline);
    for node in 0..3 {
        bench.hold(node, record(block(1), STAMP, 100, ReplicaState::BeingWritten));
    }
    bench.services(&[(0, LEAVES)]);
    bench.run(60);
    let blocked = job(&bench, 0);
    assert_eq!((blocked.state, blocked.total_blocks, blocked.blocked), (JobState::Blocked, 1, 1));
    assert_eq!(blocked.blockers[0].block, Some(block(1)));
    assert_eq!(reasons(&bench, 0), [Why::Open { have: 2, wanted: 3 }]);
    // Not placed there as far as is known, but there: the same.
    let mut late = Bench::new(4);
    late.allocate(1, 3, Vec::new());
    (0..2).for_each(|node| late.hold(node, record(block(1), STAMP, 100, ReplicaState::BeingWritten)));
    late.services(&[(0, LEAVES)]);
    late.run(10);
    assert_eq!(reasons(&late, 0), [Why::Open { have: 1, wanted: 3 }]);
    // Closed: a copy goes elsewhere, then the node may go.
    (0..3).for_each(|node| bench.hold(node, whole(1)));
    bench.commit(1);
    bench.run(40);
    assert_eq!((job(&bench, 0).state, bench.holders_beside(1, &[0])), (JobState::Done, 3));
}

#[test]
fn l_7_a_node_whose_report_of_a_new_block_is_on_its_way_does_not_go() {
    let mut bench = Bench::new(3);
    let pipeline: Vec<_> = (0..2).map(|node| bench.storage(node, 0)).collect();
    bench.allocate(1, 2, pipeline);
    // Its heartbeats come through, and say that there is more; its reports do not.
    bench.put(0, 0, whole(1));
    bench.hold(1, whole(1));
    bench.commit(1);
    bench.services(&[(0, LEAVES)]);
    for _ in 0..20 {
        bench.pass(1);
        (0..3).for_each(|node| drop(bench.beat_with(node, Vec::new())));
    }
    assert_eq!(reasons(&bench, 0), [Why::NotReported]);
    bench.report(0);
    bench.run(150);
    assert_eq!((job(&bench, 0).state, bench.holders_beside(1, &[0])), (JobState::Done, 2));
}

#[test]
fn sc_75_a_block_that_is_open_again_is_elsewhere_only_where_nodes_say_that_it_is() {
    let mut bench = Bench::new(4);
    // The log names nodes 0 and 1; a balance has moved the copy of node 1 to node 2 since.
    bench.file(1, 2, &[0, 2]);
    bench.run(15);
    reopen(&mut bench, 1, LEN, &[0, 1]);
    bench.services(&[(0, LEAVES)]);
    bench.run(10);
    assert_eq!(reasons(&bench, 0), [Why::Open { have: 1, wanted: 2 }], "node 1 has nothing of it");
    // What is shorter than it was, or damaged, or of an older pipeline is no copy either.
    let stale = GenerationStamp::from_raw(STAMP.raw() - 1);
    for bad in [
        record(block(1), STAMP, LEN - 1, ReplicaState::WaitingRecovery),
        record(block(1), STAMP, LEN, ReplicaState::Corrupt),
        record(block(1), stale, LEN, ReplicaState::Finalized),
    ] {
        bench.hold(3, bad);
        bench.run(5);
        assert_eq!(reasons(&bench, 0), [Why::Open { have: 1, wanted: 2 }], "{bad:?}");
    }
    bench.erase(3, 0, 1);
    bench.hold(1, record(block(1), STAMP, LEN, ReplicaState::BeingWritten));
    bench.run(5);
    assert_eq!(job(&bench, 0).state, JobState::Done);
}

/// What it has may be all that is left when the recovery is over, whatever others have of a stamp below.
#[test]
fn sc_75_a_node_whose_replica_a_recovery_may_end_on_does_not_go() {
    let mut bench = Bench::new(4);
    bench.file(1, 2, &[0, 1, 2]);
    reopen(&mut bench, 1, LEN, &[0, 1]);
    let newer = GenerationStamp::from_raw(STAMP.raw() + 5);
    bench.hold(0, record(block(1), newer, LEN, ReplicaState::Finalized));
    bench.services(&[(0, LEAVES)]);
    bench.run(10);
    assert_eq!(reasons(&bench, 0), [Why::Open { have: 0, wanted: 2 }]);
    bench.hold(1, record(block(1), newer, LEN, ReplicaState::Finalized));
    bench.run(5);
    assert_eq!(reasons(&bench, 0), [Why::Open { have: 1, wanted: 2 }]);
    // While its end is on the way into the log, too: who finished may not have reported it yet.
    let mut bench = Bench::new(4);
    bench.file(1, 2, &[0, 1, 2]);
    reopen(&mut bench, 1, LEN, &[0, 1]);
    let what = ToRecover {
        inode: InodeId::from_raw(17),
        lease_epoch: LeaseEpoch::from_raw(1),
        block: block(1),
        stamp: STAMP,
        recovery_stamp: newer,
        floor_bytes: LEN,
        target_bytes: None,
        homes: vec![bench.storage(0, 0), bench.storage(1, 0)],
        untouched: true,
        accept_loss: false,
    };
    bench.map.recover(what, bench.now);
    bench.map.recovery_is_logged(InodeId::from_raw(17));
    bench.services(&[(0, LEAVES)]);
    bench.run(3);
    assert_eq!(reasons(&bench, 0), [Why::Open { have: 0, wanted: 2 }]);
    bench.map.recovery_is_over(InodeId::from_raw(17));
    bench.run(10);
    assert_eq!(job(&bench, 0).state, JobState::Done);
}

#[test]
fn sc_75_a_leader_that_started_in_mid_write_lets_no_silent_node_go_before_it_knows_where_open_blocks_are() {
    let mut bench = Bench::empty(config(), &[1; 4]);
    bench.nodes[0].up = false;
    bench.services(&[(0, LEAVES)]);
    bench.map.lead(Term::from_raw(1), bench.now);
    bench.map.quorum_confirmed(bench.now);
    for node in 1..4 {
        bench.register(node);
        bench.full_report(node);
    }
    let facts = Facts { stamp: STAMP, len_bytes: LEN, committed: false, replication: 3, untouched: true };
    bench.world.blocks.insert(block(1), facts);
    bench.world.next = block(2);
    let homes: Vec<_> = (0..3).map(|node| bench.storage(node, 0)).collect();
    [1, 2].into_iter().for_each(|node| bench.hold(node, record(block(1), STAMP, LEN, ReplicaState::BeingWritten)));
    // A look that began before it led may end first, and all passes over what it knows.
    bench.map.looked_at_open_files();
    bench.run(40);
    assert!(bench.map.passes.is_empty());
    assert_eq!(reasons(&bench, 0), [Why::NotReported]);
    bench.map.is_open_at(block(1), &homes);
    bench.map.looked_at_open_files();
    bench.run(10);
    assert_eq!(reasons(&bench, 0), [Why::Open { have: 2, wanted: 3 }]);
    [1, 2, 3].into_iter().for_each(|node| bench.hold(node, whole(1)));
    bench.commit(1);
    bench.run(10);
    assert_eq!(job(&bench, 0).state, JobState::Done);
}

#[test]
fn room_that_an_open_block_was_promised_is_counted_once_whoever_tells_of_it_first() {
    let mut bench = Bench::new(2);
    let homes = vec![bench.storage(0, 0)];
    let promised = |bench: &Bench| bench.map.registry().at(bench.storage(0, 0)).open_writes;
    // The entry was applied, and a look at open files comes before its effects.
    bench.map.is_open_at(block(1), &homes);
    bench.allocate(1, 1, homes.clone());
    bench.map.is_open_at(block(1), &homes);
    assert_eq!(promised(&bench), 1);
    bench.commit(1);
    assert_eq!(promised(&bench), 0);
}

#[test]
fn l_7_what_an_emptied_node_took_along_is_not_waited_for_and_goes_when_it_comes_back() {
    let mut bench = Bench::new(4);
    (1..=2).for_each(|n| bench.file(n, 2, &[0, 1]));
    bench.run(65);
    bench.services(&[(0, LEAVES)]);
    bench.run(30);
    assert_eq!(job(&bench, 0).state, JobState::Done);
    // It is told to remove one, does not do it, and is gone; the other one is removed later.
    bench.free(1);
    assert_eq!(deletes(&bench.beat(0)), [(block(1), "deleted".to_owned())]);
    bench.nodes[0].up = false;
    bench.free(2);
    bench.run(100);
    assert_eq!(bench.map.counts().pending_delete, 2, "it may be back any moment");
    bench.run(210);
    assert_eq!(job(&bench, 0).state, JobState::Done);
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
    bench.nodes[0].up = true;
    bench.run(60);
    assert!(bench.nodes[0].disks[0].held.is_empty(), "it may not be believed again later: {:?}", bench.holders(1));
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
}

#[test]
fn sc_75_damaged_copies_are_cleaned_although_only_leaving_ones_are_good() {
    let mut bench = Bench::new(4);
    bench.file(1, 2, &[0, 1]);
    bench.hold(2, record(block(1), STAMP, LEN, ReplicaState::Corrupt));
    bench.hold(3, record(block(1), STAMP, LEN, ReplicaState::Corrupt));
    bench.run(15);
    bench.services(&[(0, LEAVES), (1, LEAVES)]);
    bench.run(200);
    assert_eq!((job(&bench, 0).state, job(&bench, 1).state), (JobState::Done, JobState::Done));
    assert_eq!((bench.holders_beside(1, &[0, 1]), bench.map.counts().corrupt), (2, 0));
}

#[test]
fn l_7_what_is_in_the_way_is_named() {
    // Too few nodes, until there is one more.
    let mut bench = Bench::new(3);
    bench.file(1, 3, &[0, 1, 2]);
    bench.run(15);
    bench.services(&[(0, LEAVES)]);
    bench.run(30);
    assert_eq!(job(&bench, 0).state, JobState::Blocked);
    assert_eq!(reasons(&bench, 0), [Why::NotEnoughNodes { have: 2, wanted: 3 }]);
    bench.add_node(1);
    bench.register(3);
    bench.full_report(3);
    bench.run(30);
    assert_eq!(job(&bench, 0).state, JobState::Done);
    // No room.
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0, 1]);
    bench.nodes[2].disks[0].available_bytes = LEN - 1;
    bench.run(15);
    bench.services(&[(0, LEAVES)]);
    bench.run(30);
    assert_eq!(reasons(&bench, 0), [Why::NoRoom { len_bytes: LEN }]);
    bench.nodes[2].disks[0].available_bytes = 10 * LEN;
    bench.run(30);
    assert_eq!(job(&bench, 0).state, JobState::Done);
    // Its only copy is damaged.
    let mut bench = Bench::new(3);
    bench.file(1, 1, &[0]);
    bench.hold(0, record(block(1), STAMP, LEN, ReplicaState::Corrupt));
    bench.services(&[(0, LEAVES)]);
    bench.run(30);
    assert_eq!(reasons(&bench, 0), [Why::OnlyDamaged]);
    // Many: the first are named, all are counted.
    let mut bench = Bench::new(2);
    (0..30).for_each(|n| bench.file(n, 2, &[0, 1]));
    bench.run(15);
    bench.services(&[(0, LEAVES)]);
    bench.run(10);
    assert_eq!((job(&bench, 0).blocked, job(&bench, 0).blockers.len()), (30, 10));
    // A file that is removed is in nobody's way.
    (0..30).for_each(|n| bench.free(n));
    bench.run(10);
    assert_eq!(job(&bench, 0).state, JobState::Done);
}

#[test]
fn maintenance_is_granted_with_one_copy_elsewhere_and_nothing_is_copied_while_it_lasts() {
    let mut bench = Bench::new(5);
    (0..20).for_each(|n| bench.file(n, 3, &[0, 1, 2]));
    bench.file(90, 1, &[0]);
    bench.run(20);
    bench.services(&[(0, AWAY)]);
    bench.run(30);
    assert_eq!(job(&bench, 0).state, JobState::Done);
    assert_eq!(bench.holders_beside(90, &[0]), 1, "of what it alone had there is another copy now");
    assert!((0..20).all(|n| bench.holders(n) == BTreeSet::from([0, 1, 2])), "nothing else was copied");
    // Down for an hour, beyond the time after which it would be dead.
    bench.nodes[0].up = false;
    for _ in 0..60 {
        bench.run(60);
        let counts = bench.map.counts();
        assert_eq!((counts.under_replicated, counts.pending_copy, counts.missing), (0, 0, 0), "no storm");
    }
    assert_eq!(bench.map.node_counts(), (4, 0, 0), "it is not missed");
    assert!((0..20).all(|n| bench.holders(n) == BTreeSet::from([0, 1, 2])));
    // A second loss leaves one copy in service: enough as long as the first one is expected back.
    bench.nodes[1].up = false;
    bench.run(400);
    assert!((0..20).all(|n| bench.holders_beside(n, &[0, 1]) == 2), "the dead one is made good");
    // Its time is over and it is not there: dead like any other.
    bench.services(&[]);
    bench.run(60);
    assert!((0..20).all(|n| bench.holders_beside(n, &[0, 1]) == 3));
    assert_eq!(bench.map.node_counts().2, 2);
}

#[test]
fn a_block_without_a_copy_in_service_gets_one_before_its_nodes_are_away() {
    let mut bench = Bench::new(5);
    bench.file(1, 3, &[0, 1, 2]);
    bench.run(15);
    bench.services(&[(0, AWAY), (1, AWAY), (2, AWAY)]);
    bench.run(3);
    bench.run(40);
    assert_eq!(bench.holders_beside(1, &[0, 1, 2]), 1, "one is enough");
    assert!((0..3).all(|node| job(&bench, node).state == JobState::Done));
    // An open block with one node that stays is enough as well.
    let pipeline: Vec<_> = [0, 3].iter().map(|node| bench.storage(*node, 0)).collect();
    bench.allocate(2, 2, pipeline);
    bench.run(10);
    assert_eq!(job(&bench, 0).state, JobState::Done);
    let alone = vec![bench.storage(0, 0)];
    bench.allocate(3, 1, alone);
    bench.run(10);
    assert_eq!(reasons(&bench, 0), [Why::Open { have: 0, wanted: 1 }]);
}

#[test]
fn a_new_leader_looks_for_itself_and_believes_only_what_was_reported_to_it() {
    let mut bench = Bench::new(4);
    (0..10).for_each(|n| bench.file(n, 2, &[0, 1]));
    bench.run(15);
    bench.services(&[(0, LEAVES)]);
    bench.run(40);
    assert_eq!(job(&bench, 0).state, JobState::Done);
    bench.map.follow();
    bench.lead(2);
    bench.tick();
    assert_ne!(job(&bench, 0).state, JobState::Done, "nobody has reported to this leader");
    bench.run(30);
    assert_eq!(job(&bench, 0).state, JobState::Done);
}

/// A step of the model.
#[derive(Clone, Debug)]
enum Step {
    File(u32, u64),
    Leave(usize),
    Away(usize),
    Back(usize),
    Kill(usize),
    Revive(usize),
    Run(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u32..4, any::<u64>()).prop_map(|(copies, seed)| Step::File(copies, seed)),
        2 => (0_usize..6).prop_map(Step::Leave),
        1 => (0_usize..6).prop_map(Step::Away),
        1 => (0_usize..6).prop_map(Step::Back),
        1 => (0_usize..6).prop_map(Step::Kill),
        2 => (0_usize..6).prop_map(Step::Revive),
        4 => (1_u64..60).prop_map(Step::Run),
        1 => Just(Step::Run(330)),
    ]
}

struct Model {
    bench: Bench,
    services: BTreeMap<usize, NodeService>,
    files: BTreeMap<i64, u32>,
}

impl Model {
    fn new(racks: &[u8], seed: u64) -> Self {
        let mut bench = Bench::empty(config(), &vec![1; racks.len()]);
        bench.random = SeededRandom::new(seed);
        for (node, rack) in racks.iter().enumerate() {
            bench.nodes[node].rack = format!("/r{rack}");
        }
        bench.lead(1);
        for node in 0..racks.len() {
            bench.register(node);
            bench.full_report(node);
        }
        Self { bench, services: BTreeMap::new(), files: BTreeMap::new() }
    }
    fn tell(&mut self) {
        let services: Vec<_> = self.services.iter().map(|(node, service)| (*node, *service)).collect();
        self.bench.services(&services);
    }
    /// Copies on disks of nodes in service, whether these are up or not: that a node died just now nobody can know.
    fn staying(&self, n: i64) -> usize {
        self.bench.holders(n).into_iter().filter(|node| !self.services.contains_key(node)).count()
    }
    fn run(&mut self, secs: u64) {
        for _ in 0..secs {
            let before: BTreeMap<_, _> =
                self.files.keys().map(|n| (*n, (self.staying(*n), self.bench.holders(*n).len()))).collect();
            self.bench.run(1);
            for (n, (staying, all)) in before {
                let copies = self.files[&n] as usize;
                assert!(self.staying(n) >= staying.min(copies), "L-7: block {n} lost a copy that was needed");
                assert!(self.bench.holders(n).len() >= all.min(copies), "L-7: block {n} lost a copy that was needed");
            }
        }
    }
    fn step(&mut self, step: &Step) {
        let count = self.bench.nodes.len();
        match step {
            Step::File(copies, seed) => {
                let n = self.files.len() as i64;
                let up: Vec<usize> =
                    (0..count).filter(|node| self.bench.nodes[*node].up && !self.services.contains_key(node)).collect();
                if up.is_empty() {
                    return;
                }
                let first = *seed as usize % up.len();
                let holders: Vec<usize> =
                    (0..up.len().min(*copies as usize)).map(|more| up[(first + more) % up.len()]).collect();
                self.bench.file(n, *copies, &holders);
                self.files.insert(n, *copies);
            }
            Step::Leave(node) => drop(self.services.insert(node % count, LEAVES)),
            Step::Away(node) => drop(self.services.insert(node % count, AWAY)),
            Step::Back(node) => drop(self.services.remove(&(node % count))),
            Step::Kill(node) => self.bench.nodes[node % count].up = false,
            Step::Revive(node) => self.bench.nodes[node % count].up = true,
            Step::Run(secs) => self.run(*secs),
        }
        self.tell();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Random nodes, drains, maintenance and deaths: no deletion takes a copy that is needed, and every drain ends or names
    /// what is in its way.
    #[test]
    fn l_7_sc_74_sc_76_drains_finish_or_name_their_blockers_and_nothing_goes_below_its_copies(
        racks in prop::collection::vec(0_u8..3, 3..7), steps in prop::collection::vec(step(), 1..25), seed in any::<u64>(),
    ) {
        let mut model = Model::new(&racks, seed);
        steps.iter().for_each(|step| model.step(step));
        (0..racks.len()).for_each(|node| model.bench.nodes[node].up = true);
        model.run(120);
        let leaving: Vec<usize> =
            model.services.iter().filter(|(_, service)| **service == LEAVES).map(|(node, _)| *node).collect();
        for node in leaving {
            let found = job(&model.bench, node);
            let safe = |n: &i64| {
                !model.bench.holders(*n).contains(&node) || model.staying(*n) >= model.files[n] as usize
            };
            match found.state {
                JobState::Done => prop_assert!(
                    model.files.keys().all(|n| safe(n) || model.services.values().any(|s| s.is_maintenance())),
                    "node {node} was let go too early"
                ),
                JobState::Blocked => prop_assert!(!found.blockers.is_empty() && found.blocked > 0),
                state => prop_assert!(false, "node {node} is {state:?} after two quiet minutes: {found:?}"),
            }
        }
    }
}
