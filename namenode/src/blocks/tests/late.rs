//! Blocks that close while a node of theirs is being emptied: they are met, wherever the look is and whatever is told.

use proto::ids::Term;

use super::super::drain::Drain;
use super::super::{Facts, JobState, Why};
use super::drain::{job, reasons};
use super::harness::*;
use super::recovery::reopen;
use super::services::{AWAY, LEAVES};

/// Blocks of so many files are looked at in two steps.
const MANY: i64 = 300;

fn drain_of(bench: &Bench, node: usize) -> &Drain {
    bench.map.drains.get(bench.index(node)).expect("it is being emptied")
}
fn beat_all(bench: &mut Bench) {
    (0..bench.nodes.len()).for_each(|node| drop(bench.beat(node)));
}
/// Time passes, all but node 0 beat, obey and report.
fn run_without_node_0(bench: &mut Bench, secs: u64) {
    bench.nodes[0].up = false;
    bench.run(secs);
    bench.nodes[0].up = true;
}
/// A step of a look without time: the job has not been looked at to the end before.
fn step_to_the_end(bench: &mut Bench) {
    let mut steps = 0;
    while drain_of(bench, 0).found.is_none() {
        bench.tick();
        steps += 1;
        assert!(steps < 10, "the look has an end");
    }
}

#[test]
fn sc_75_a_block_that_closes_during_the_look_is_met_by_it() {
    for append in [false, true] {
        let mut bench = Bench::new(4);
        (1..=MANY).for_each(|n| bench.file(n, 2, &[1, 2]));
        (1..=MANY).for_each(|n| bench.hold(0, whole(n)));
        let homes = vec![bench.storage(0, 0), bench.storage(1, 0)];
        if append {
            bench.file(0, 2, &[0, 1]);
            reopen(&mut bench, 0, LEN, &[0, 1]);
        } else {
            bench.allocate(0, 2, homes);
        }
        bench.services(&[(0, LEAVES)]);
        bench.now = bench.now.plus(std::time::Duration::from_secs(1));
        beat_all(&mut bench);
        // The look is past the good replicas of the first blocks.
        bench.tick();
        assert!(drain_of(&bench, 0).found.is_none(), "one step is not the whole look");
        [0, 1].into_iter().for_each(|node| bench.hold(node, whole(0)));
        bench.commit(0);
        step_to_the_end(&mut bench);
        assert_eq!(job(&bench, 0).state, JobState::Running, "block 0 has one copy elsewhere (append: {append})");
        bench.run(30);
        assert_eq!((job(&bench, 0).state, bench.holders_beside(0, &[0])), (JobState::Done, 2));
        assert_eq!(drain_of(&bench, 0).late.len(), 0);
    }
}

#[test]
fn sc_75_a_block_that_closed_keeps_its_node_although_its_report_was_lost() {
    for service in [LEAVES, AWAY] {
        let mut bench = Bench::new(3);
        let homes = vec![bench.storage(0, 0), bench.storage(1, 0)];
        bench.allocate(1, 2, homes);
        bench.services(&[(0, service)]);
        bench.pass(1);
        beat_all(&mut bench);
        // Node 0 says no more after this; the writer has its receipt. The report of node 1 takes a while.
        bench.commit(1);
        run_without_node_0(&mut bench, 3);
        assert_ne!(job(&bench, 0).state, JobState::Done, "nobody has told that it holds the block");
        bench.hold(1, whole(1));
        run_without_node_0(&mut bench, 3);
        let enough = service == AWAY;
        assert_eq!(job(&bench, 0).state == JobState::Done, enough, "one copy elsewhere is enough: {enough}");
        run_without_node_0(&mut bench, 30);
        assert_eq!(job(&bench, 0).state, JobState::Done);
        assert_eq!(bench.holders_beside(1, &[0]), 2, "what node 0 has it never told");
    }
}

#[test]
fn sc_75_a_block_that_closed_just_before_its_node_is_emptied_is_waited_for() {
    let mut bench = Bench::new(3);
    let homes = vec![bench.storage(0, 0), bench.storage(1, 0)];
    bench.allocate(1, 2, homes);
    beat_all(&mut bench);
    bench.hold(1, whole(1));
    bench.commit(1);
    bench.services(&[(0, LEAVES)]);
    run_without_node_0(&mut bench, 5);
    assert_eq!(reasons(&bench, 0), [Why::NotReported], "its last heartbeat is older");
    bench.hold(0, whole(1));
    bench.run(30);
    assert_eq!((job(&bench, 0).state, bench.holders_beside(1, &[0])), (JobState::Done, 2));
}

#[test]
fn sc_75_a_leader_knows_what_closed_before_it_led_and_a_follower_forgets_what_is_safe() {
    let mut bench = Bench::new(4);
    let homes = vec![bench.storage(0, 0), bench.storage(1, 0)];
    bench.allocate(0, 2, homes.clone());
    bench.services(&[(0, LEAVES)]);
    bench.map.follow();
    // Very many close, and are safe elsewhere.
    for n in 1..=MANY {
        bench.allocate(n, 2, homes.clone());
        (1..3).for_each(|node| bench.hold(node, whole(n)));
        bench.commit(n);
    }
    assert!(drain_of(&bench, 0).late.len() < 5, "{} are kept", drain_of(&bench, 0).late.len());
    // What the node says to the new leader is older than the close of this one.
    bench.hold(1, whole(0));
    bench.commit(0);
    [2, 3].into_iter().for_each(|node| bench.nodes[node].disks[0].available_bytes = 0);
    bench.lead(2);
    bench.pass(1);
    beat_all(&mut bench);
    for node in 0..4 {
        bench.full_report(node);
    }
    run_without_node_0(&mut bench, 5);
    assert_ne!(job(&bench, 0).state, JobState::Done);
    // It leaves for good now; nothing is forgotten by it.
    bench.services(&[(0, AWAY)]);
    bench.services(&[(0, LEAVES)]);
    assert_eq!(drain_of(&bench, 0).late.len(), 1);
    // A file that is removed is in nobody's way.
    bench.free(0);
    bench.run(5);
    assert_eq!((job(&bench, 0).state, drain_of(&bench, 0).late.len()), (JobState::Done, 0));
}

/// Node 0 leaves, very many closed on it lately and are safe elsewhere, and a look is on its way through them.
fn amid_those_that_closed() -> Bench {
    let mut bench = Bench::new(4);
    bench.services(&[(0, LEAVES)]);
    close_many(&mut bench);
    bench.now = bench.now.plus(std::time::Duration::from_secs(1));
    beat_all(&mut bench);
    bench.tick();
    assert!(drain_of(&bench, 0).found.is_none() && drain_of(&bench, 0).late.len() < 100, "it is in the midst of them");
    bench
}
/// Very many blocks close on node 0, and are known to be on others only then.
fn close_many(bench: &mut Bench) {
    let homes = vec![bench.storage(0, 0), bench.storage(1, 0)];
    for n in 1..=MANY {
        bench.allocate(n, 2, homes.clone());
        bench.commit(n);
    }
    (1..=MANY).for_each(|n| [1, 2].into_iter().for_each(|node| bench.hold(node, whole(n))));
}

#[test]
fn sc_75_a_block_that_closes_where_the_look_is_past_it_already_is_met_by_it() {
    let mut bench = amid_those_that_closed();
    let homes = vec![bench.storage(0, 0), bench.storage(1, 0)];
    bench.allocate(0, 2, homes);
    bench.hold(1, whole(0));
    bench.commit(0);
    step_to_the_end(&mut bench);
    assert_ne!(job(&bench, 0).state, JobState::Done, "block 0 has one copy elsewhere");
    bench.run(30);
    assert_eq!((job(&bench, 0).state, bench.holders_beside(0, &[0])), (JobState::Done, 2));
}

#[test]
fn sc_75_a_block_that_closed_and_is_opened_again_behind_the_look_at_open_ones_is_counted() {
    let mut bench = amid_those_that_closed();
    bench.erase(2, 0, MANY);
    bench.report(2);
    reopen(&mut bench, MANY, LEN, &[0, 1]);
    step_to_the_end(&mut bench);
    assert_eq!(reasons(&bench, 0), [Why::Open { have: 1, wanted: 2 }]);
    // Once, whether it was among the open ones as well or not.
    bench.run(5);
    let found = job(&bench, 0);
    assert_eq!((found.total_blocks, found.blocked), (1, 1));
}

#[test]
fn sc_75_a_dead_node_is_looked_at_again_when_a_block_closes_that_it_was_to_hold() {
    let mut bench = Bench::new(4);
    let homes: Vec<_> = (0..3).map(|node| bench.storage(node, 0)).collect();
    bench.allocate(1, 2, homes);
    bench.services(&[(0, LEAVES)]);
    bench.run(5);
    run_without_node_0(&mut bench, 400);
    assert_eq!((job(&bench, 0).state, bench.map.node_counts().2), (JobState::Done, 0), "two others write it");
    // One of them has lost it, as is found at the end.
    [2, 3].into_iter().for_each(|node| bench.nodes[node].disks[0].available_bytes = 0);
    bench.hold(1, whole(1));
    bench.commit(1);
    run_without_node_0(&mut bench, 5);
    assert_eq!(reasons(&bench, 0), [Why::NoRoom { len_bytes: LEN }]);
    [2, 3].into_iter().for_each(|node| bench.nodes[node].disks[0].available_bytes = 1 << 30);
    run_without_node_0(&mut bench, 60);
    assert_eq!((job(&bench, 0).state, bench.holders_beside(1, &[0])), (JobState::Done, 2));
}

#[test]
fn sc_75_a_live_node_stays_until_the_leader_knows_where_open_blocks_are() {
    for amid in [false, true] {
        let mut bench = Bench::new(4);
        let facts = Facts { stamp: STAMP, len_bytes: 0, committed: false, replication: 2, untouched: false };
        bench.world.blocks.insert(block(0), facts);
        bench.services(&[(0, LEAVES)]);
        bench.map.lead(Term::from_raw(2), bench.now);
        bench.pass(1);
        beat_all(&mut bench);
        for node in 0..4 {
            bench.full_report(node);
        }
        if amid {
            close_many(&mut bench);
            bench.pass(1);
            assert!(drain_of(&bench, 0).late.len() < 100, "a look is past the open blocks");
        } else {
            bench.run(5);
            assert_eq!(reasons(&bench, 0), [Why::NotReported]);
        }
        let homes = [bench.storage(0, 0), bench.storage(1, 0)];
        bench.map.is_open_at(block(0), &homes);
        (0..2).for_each(|_| bench.map.looked_at_open_files());
        bench.tick();
        assert_eq!(reasons(&bench, 0), [Why::NotReported], "the look began before that was known");
        bench.run(5);
        assert_eq!(reasons(&bench, 0), [Why::Open { have: 1, wanted: 2 }]);
    }
}
