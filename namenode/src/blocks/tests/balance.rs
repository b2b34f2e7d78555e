//! Balancing: even in the end, and never a copy or a rack less on the way, whatever happens to the blocks meanwhile.

use std::collections::BTreeSet;

use proto::cluster::ReplicaState;

use super::super::{Facts, JobState, JobView, Why};
use super::harness::*;
use super::services::LEAVES;
use crate::namespace::BlockEffect;

/// Nodes whose disks take 100 blocks, and files of two copies on the first ones, round and round.
fn uneven(racks: &[&str], files: i64, holders: usize) -> Bench {
    let mut bench = Bench::empty(config(), &vec![1; racks.len()]);
    for (node, rack) in racks.iter().enumerate() {
        bench.nodes[node].rack = format!("/{rack}");
        bench.nodes[node].disks[0].available_bytes = 100 * LEN;
    }
    bench.lead(1);
    for node in 0..racks.len() {
        bench.register(node);
        bench.full_report(node);
    }
    (0..files).for_each(|n| bench.file(n, 2, &[n as usize % holders, (n as usize + 1) % holders]));
    bench.run(70);
    bench
}
fn held(bench: &Bench) -> Vec<usize> {
    bench.nodes.iter().map(|node| node.disks[0].held.len()).collect()
}
fn job(bench: &Bench) -> JobView {
    bench.map.jobs(bench.now).pop().expect("a balance")
}
fn racks(bench: &Bench, n: i64) -> BTreeSet<String> {
    bench.holders(n).into_iter().map(|node| bench.nodes[node].rack.clone()).collect()
}

#[test]
fn l_7_an_empty_node_is_filled_and_no_block_is_ever_below_its_copies() {
    let mut bench = uneven(&["r", "r", "r", "r"], 60, 3);
    assert_eq!(held(&bench), [40, 40, 40, 0]);
    let name = bench.map.begin_balance(3, 0, bench.now).unwrap();
    assert_eq!(bench.map.begin_balance(3, 0, bench.now), Ok(name.clone()), "a retry is the same balance");
    assert_eq!(bench.map.begin_balance(4, 0, bench.now), Err(name.clone()));
    let mut most = 0;
    for _ in 0..300 {
        bench.run(1);
        assert!((0..60).all(|n| bench.holders(n).len() >= 2), "a copy is there before another one goes");
        most = most.max(bench.map.balance_figures().0);
        assert_eq!((bench.map.counts().under_replicated, bench.map.counts().missing), (0, 0));
        if job(&bench).state != JobState::Running {
            break;
        }
    }
    let done = job(&bench);
    assert_eq!((done.name, done.state), (name.clone(), JobState::Done));
    assert!(held(&bench).iter().all(|blocks| (27..=33).contains(blocks)), "{:?}", held(&bench));
    assert_eq!(held(&bench).iter().sum::<usize>(), 120);
    assert!((1..=8).contains(&most), "at most so many are under way at a node: {most}");
    assert!(
        (27..=33).contains(&done.done_blocks) && done.done_bytes == done.done_blocks * LEN,
        "{done_blocks}",
        done_blocks = done.done_blocks
    );
    assert!(!bench.map.cancel_balance(&name, bench.now) && bench.map.had_balance(&name));
    // It is even: the next one has nothing to do.
    bench.map.begin_balance(3, 0, bench.now).unwrap();
    bench.run(2);
    assert_eq!((job(&bench).state, job(&bench).done_blocks), (JobState::Done, 0));
}

#[test]
fn l_7_racks_are_kept() {
    let mut bench = uneven(&["a", "b", "a", "b", "a"], 0, 1);
    (0..40).for_each(|n| bench.file(n, 2, &[(n % 2 * 2) as usize, 1]));
    bench.run(20);
    bench.map.begin_balance(5, 0, bench.now).unwrap();
    for _ in 0..300 {
        bench.run(1);
        assert!((0..40).all(|n| racks(&bench, n).len() == 2), "each block stays on two racks");
    }
    // The rack /b is two nodes and has every second copy: it cannot be as empty as the mean.
    assert_eq!(job(&bench).state, JobState::Blocked);
    assert!(held(&bench).iter().all(|blocks| (6..=26).contains(blocks)), "{:?}", held(&bench));
}

#[test]
fn a_balance_that_cannot_get_further_says_so() {
    // Every block is on every node but the third, which is the one whose rack would be lost.
    let mut bench = uneven(&["a", "b", "a"], 0, 1);
    (0..40).for_each(|n| bench.file(n, 2, &[0, 1]));
    bench.nodes[0].disks[0].available_bytes = 1 << 30;
    bench.run(20);
    bench.map.begin_balance(1, 0, bench.now).unwrap();
    bench.run(120);
    let stuck = job(&bench);
    assert_eq!(stuck.state, JobState::Blocked, "{:?}", held(&bench));
    assert_eq!(stuck.blockers.into_iter().map(|blocker| blocker.why).collect::<Vec<_>>(), [Why::NothingFits]);
    assert!((0..40).all(|n| racks(&bench, n).len() == 2 && bench.holders(n).len() == 2));
}

/// 42 copies on four nodes are ten and a half each, and half a block is more than one percent of a disk.
#[test]
fn l_7_a_rest_that_is_shorter_than_any_block_is_no_fault() {
    let mut bench = uneven(&["r", "r", "r", "r"], 21, 2);
    bench.nodes.iter_mut().for_each(|node| node.disks[0].available_bytes = 40 * LEN);
    bench.run(20);
    bench.map.begin_balance(1, 0, bench.now).unwrap();
    bench.run(120);
    let done = job(&bench);
    assert_eq!((done.state, done.blocked), (JobState::Done, 0), "{:?}", held(&bench));
    assert!(held(&bench).iter().all(|blocks| (10..=11).contains(blocks)), "{:?}", held(&bench));
}

#[test]
fn the_rate_is_kept_and_blocks_that_lack_copies_go_first() {
    let mut bench = uneven(&["r", "r", "r", "r"], 60, 3);
    bench.map.begin_balance(3, 2 * LEN, bench.now).unwrap();
    bench.run(10);
    let (_, moved, bytes) = bench.map.balance_figures();
    assert!((10..=22).contains(&moved) && bytes == moved * LEN, "two blocks a second for ten seconds: {moved}");
    let rate = job(&bench).rate_bytes_per_s;
    assert!((LEN..=3 * LEN).contains(&rate), "{rate}");
    assert!(job(&bench).eta.is_some() && job(&bench).total_bytes > job(&bench).done_bytes);
    // A node leaves: what is to be copied for it is copied first.
    bench.services(&[(0, LEAVES)]);
    let before = bench.map.balance_figures().1;
    bench.run(3);
    assert!(bench.map.balance_figures().1 <= before + 8, "what was under way ended, and little else was begun");
    bench.run(200);
    assert!((0..60).all(|n| bench.holders_beside(n, &[0]) >= 2));
}

/// Runs until so many moves are under way, at least one of them with its copy in place or not, as wished.
fn in_mid_move(bench: &mut Bench) -> Vec<i64> {
    bench.map.begin_balance(3, 0, bench.now).unwrap();
    bench.tick();
    let moving =
        |bench: &Bench| (0..60).filter(|n| bench.map.balance.leaves(block(*n)).is_some()).collect::<Vec<i64>>();
    let blocks = moving(bench);
    assert!(!blocks.is_empty());
    blocks
}

#[test]
fn sc_77_a_block_that_is_written_to_in_mid_move_loses_nothing() {
    // Before its copy was made, and after.
    for arrived in [false, true] {
        let mut bench = uneven(&["r", "r", "r", "r"], 60, 3);
        let blocks = in_mid_move(&mut bench);
        if arrived {
            // The copies are made; nobody who is to remove an old one has asked yet.
            for node in 0..3 {
                let commands = bench.beat(node);
                assert!(deletes(&commands).is_empty());
                bench.carry(node, &commands);
            }
            bench.report(3);
            assert!(blocks.iter().all(|n| bench.holders(*n).len() == 3));
        }
        // Appended: the two old replicas have a new stamp, and a new length when it is closed.
        let newer = STAMP.next();
        for n in &blocks {
            let before: Vec<usize> = bench.holders(*n).into_iter().filter(|node| *node != 3).collect();
            let facts = bench.world.blocks.get_mut(&block(*n)).unwrap();
            let closed = *facts;
            *facts = Facts { stamp: newer, len_bytes: 2 * LEN, committed: false, ..*facts };
            bench.map.replicas.reconsider(block(*n), Some(closed), &bench.world);
            for node in before {
                bench.hold(node, record(block(*n), newer, 2 * LEN, ReplicaState::Finalized));
            }
        }
        let whole = |bench: &Bench, n: i64| {
            let is_new = |node: &usize| bench.nodes[*node].disks[0].held[&block(n)].stamp == newer.raw();
            bench.holders(n).into_iter().filter(is_new).count()
        };
        for second in 0..200 {
            if second == 5 {
                for n in &blocks {
                    let facts = bench.world.blocks.get_mut(&block(*n)).unwrap();
                    facts.committed = true;
                    let (replication, storages) = (facts.replication, Vec::new());
                    let effect = BlockEffect::Committed {
                        block: block(*n),
                        stamp: newer,
                        len_bytes: 2 * LEN,
                        replication,
                        storages,
                    };
                    bench.map.effect(&effect, &bench.world, bench.now);
                }
            }
            bench.run(1);
            assert!(blocks.iter().all(|n| whole(&bench, *n) >= 2), "{arrived}: what was appended to is never touched");
        }
        assert_eq!(bench.map.counts().under_replicated, 0);
        assert_ne!(job(&bench).state, JobState::Running);
        let old = bench.nodes.iter().flat_map(|node| node.disks[0].held.values());
        let old = old.filter(|held| blocks.contains(&(held.id - block(0).raw())) && held.stamp == STAMP.raw());
        assert_eq!(old.count(), 0, "copies of the old stamp are stale and go");
    }
}

#[test]
fn sc_77_a_block_that_is_removed_in_mid_move_is_gone_everywhere() {
    let mut bench = uneven(&["r", "r", "r", "r"], 60, 3);
    let blocks = in_mid_move(&mut bench);
    blocks.iter().for_each(|n| bench.free(*n));
    bench.run(100);
    assert!(blocks.iter().all(|n| bench.holders(*n).is_empty()));
    assert_eq!(job(&bench).state, JobState::Done);
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
}

#[test]
fn sc_77_the_old_copy_stays_while_the_new_one_is_damaged_or_its_node_is_silent() {
    let mut bench = uneven(&["r", "r", "r", "r"], 60, 3);
    let blocks = in_mid_move(&mut bench);
    for node in 0..3 {
        let commands = bench.beat(node);
        bench.carry(node, &commands);
    }
    bench.report(3);
    bench.nodes[3].up = false;
    for n in &blocks[1..] {
        let damaged = record(block(*n), STAMP, LEN, ReplicaState::Corrupt);
        bench.hold(3, damaged);
    }
    // Nodes 0 to 2 speak; node 3 is not heard of any more.
    bench.now = bench.now.plus(std::time::Duration::from_secs(11));
    bench.map.quorum_confirmed(bench.now);
    for _ in 0..3 {
        bench.tick();
        for node in 0..3 {
            let told: Vec<_> = deletes(&bench.beat(node)).into_iter().map(|(block, _)| block).collect();
            assert!(blocks.iter().all(|n| !told.contains(&block(*n))), "node {node} is told {told:?}");
        }
    }
    assert!(blocks.iter().all(|n| bench.holders_beside(*n, &[3]) == 2));
}

#[test]
fn a_balance_ends_with_its_leader_and_leaves_nothing_too_much() {
    let mut bench = uneven(&["r", "r", "r", "r"], 60, 3);
    let name = bench.map.begin_balance(3, 0, bench.now).unwrap();
    bench.run(3);
    assert!(bench.map.balance_figures().0 > 0);
    bench.map.follow();
    assert!(bench.map.jobs(bench.now).is_empty());
    bench.lead(2);
    bench.run(200);
    assert!((0..60).all(|n| bench.holders(n).len() == 2));
    assert!(bench.map.jobs(bench.now).is_empty() && !bench.map.had_balance(&name));
    let other = bench.map.begin_balance(3, 0, bench.now).unwrap();
    assert_ne!(name, other, "names are not used twice");
    assert!(bench.map.cancel_balance(&other, bench.now));
    assert_eq!(job(&bench).state, JobState::Cancelled);
    bench.run(60);
    assert!((0..60).all(|n| bench.holders(n).len() == 2));
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
}

#[test]
fn a_node_that_is_silent_for_a_while_ends_no_balance() {
    let mut bench = uneven(&["r", "r", "r", "r"], 40, 2);
    assert_eq!(held(&bench), [40, 40, 0, 0]);
    bench.nodes[1].up = false;
    bench.run(15);
    // Every block has a copy on the silent node: none may move now, and all may when it speaks again.
    bench.map.begin_balance(3, 0, bench.now).unwrap();
    bench.run(10);
    assert_eq!((job(&bench).state, job(&bench).done_blocks), (JobState::Running, 0));
    bench.nodes[1].up = true;
    bench.run(300);
    assert_eq!(job(&bench).state, JobState::Done, "{:?}", held(&bench));
    // If it stays away, that is said in the end.
    let mut bench = uneven(&["r", "r", "r", "r"], 40, 2);
    bench.nodes[1].up = false;
    bench.run(15);
    bench.map.begin_balance(3, 0, bench.now).unwrap();
    bench.run(60);
    assert_eq!(job(&bench).state, JobState::Blocked);
}

#[test]
fn copies_that_fail_do_not_keep_a_balance_going_for_ever() {
    let mut bench = uneven(&["r", "r", "r", "r"], 60, 3);
    // Node 3 speaks and takes nothing.
    bench.nodes[3].disks[0].available_bytes = 0;
    bench.beat(3);
    bench.map.begin_balance(3, 0, bench.now).unwrap();
    bench.run(60);
    assert_ne!(job(&bench).state, JobState::Running, "it has no room: nothing is to be evened out, or nothing fits");
    assert_eq!(held(&bench), [40, 40, 40, 0]);
}
