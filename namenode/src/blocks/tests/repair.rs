//! Copies again: most endangered first, never held up, never forgotten.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::cluster::node_command::Kind;
use proto::cluster::{CommandResult, NodeCommand, ReplicaState};
use proto::ids::GenerationStamp;

use super::super::BlocksConfig;
use super::harness::*;

fn lively(bench: &mut Bench, nodes: &[usize], secs: u64) {
    for _ in 0..secs.div_ceil(5) {
        bench.pass(5);
        nodes.iter().for_each(|node| drop(bench.beat_with(*node, Vec::new())));
    }
}

#[test]
fn a_dead_nodes_blocks_are_copied_and_its_return_leaves_nothing_too_much() {
    let mut bench = Bench::new(5);
    (0..40).for_each(|n| bench.file(n, 3, &[(n % 5) as usize, ((n + 1) % 5) as usize, ((n + 2) % 5) as usize]));
    bench.run(20);
    bench.nodes[2].up = false;
    bench.run(350);
    for n in 0..40 {
        let alive = bench.holders(n).into_iter().filter(|node| *node != 2).count();
        assert!(alive >= 3, "block {n}: {alive}");
    }
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
    bench.nodes[2].up = true;
    bench.run(700);
    (0..40).for_each(|n| assert_eq!(bench.holders(n).len(), 3, "block {n}"));
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
}

#[test]
fn what_settles_is_judged_as_fast_as_more_of_it_comes() {
    let mut bench = Bench::new(3);
    let (each_second, settle_secs) = (300, config().settle.as_secs());
    for second in 0..60 {
        (0..each_second).for_each(|n| {
            bench.file(second * each_second + n, 3, &[0, 1, 2]);
            bench.map.judge_due(&bench.world, bench.now, 2);
        });
        let waiting = bench.map.blocks_to_judge();
        assert!(
            waiting <= (settle_secs + 1) * each_second as u64,
            "{waiting} wait after {second} seconds without a tick"
        );
        bench.now = bench.now.plus(Duration::from_secs(1));
    }
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
}

#[test]
fn l_4_the_block_with_one_copy_left_goes_first() {
    let config = BlocksConfig { copies_per_node: 1, copies_ahead: 0, ..config() };
    let mut bench = Bench::with(config, &[1; 4]);
    bench.file(1, 3, &[0, 1]);
    bench.file(2, 3, &[0, 1]);
    bench.file(3, 3, &[0]);
    bench.wait(11);
    assert_eq!(copies(&bench.beat(0)), [block(3); 2], "node 0 may read for one block at a time");
    assert_eq!(bench.map.counts().under_replicated, 3);
}

#[test]
fn l_4_one_copy_left_is_not_waited_for_until_the_silent_node_is_dead() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0, 1]);
    bench.file(2, 3, &[0, 1, 2]);
    bench.run(20);
    bench.nodes[0].up = false;
    bench.run(30);
    assert!(bench.holders(1).contains(&2), "ten seconds of silence are enough");
    bench.nodes[0].up = true;
    bench.run(700);
    assert_eq!(bench.holders(1).len(), 2);
    assert_eq!(bench.holders(2).len(), 3);
}

#[test]
fn two_copies_left_are_waited_for_until_the_node_is_dead() {
    let mut bench = Bench::new(4);
    bench.file(1, 3, &[0, 1, 2]);
    bench.run(20);
    bench.nodes[0].up = false;
    bench.run(290);
    assert!(!bench.holders(1).contains(&3));
    bench.run(30);
    assert!(bench.holders(1).contains(&3));
}

#[test]
fn sc_85_new_blocks_wait_for_their_reports() {
    let mut bench = Bench::new(4);
    bench.file(1, 3, &[0]);
    for _ in 0..9 {
        bench.wait(1);
        assert_eq!(copies(&bench.beat(0)), []);
        assert_eq!(bench.map.counts().under_replicated, 0);
    }
    bench.hold(1, whole(1));
    bench.wait(1);
    assert_eq!(copies(&bench.beat(0)).len() + copies(&bench.beat(1)).len(), 1, "only what did not come");
}

#[test]
fn sc_69_a_copy_of_an_old_stamp_does_not_hold_up_the_new_one() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0]);
    bench.wait(11);
    let old = bench.beat(0);
    assert_eq!(copies(&old), [block(1)]);
    // The stamp rises while the copy is under way.
    bench.world.blocks.get_mut(&block(1)).unwrap().stamp = STAMP.next();
    bench.hold(0, record(block(1), STAMP.next(), LEN, ReplicaState::Finalized));
    bench.tick();
    let new = bench.beat(0);
    let stamp = |command: &NodeCommand| match &command.kind {
        Some(Kind::Copy(copy)) => copy.block.as_ref().unwrap().stamp,
        _ => 0,
    };
    assert_eq!(new.iter().map(stamp).collect::<Vec<_>>(), [STAMP.next().raw()]);
    // The old one arrives nevertheless and counts for nothing.
    bench.hold(1, whole(1));
    assert_eq!(bench.map.counts().under_replicated, 1);
}

#[test]
fn a_copy_that_fails_is_tried_again_and_one_without_an_answer_after_two_minutes() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0]);
    bench.wait(11);
    let first = bench.beat(0);
    let failed = CommandResult { number: first[0].number, ok: false, error: "no route".into(), replica: None };
    bench.beat_with(0, vec![failed]);
    assert_eq!(bench.map.counts().pending_copy, 0);
    bench.pass(1);
    assert_eq!(copies(&bench.beat(0)), [], "not at once");
    bench.pass(3);
    assert_eq!(copies(&bench.beat(0)), [block(1)]);
    lively(&mut bench, &[0, 1], 115);
    assert_eq!(bench.map.counts().pending_copy, 1);
    bench.pass(5);
    assert_eq!(copies(&bench.beat(0)), [block(1)]);
    let someone_elses = CommandResult { number: 1, ok: false, error: String::new(), replica: None };
    bench.beat_with(1, vec![someone_elses]);
    assert_eq!(bench.map.counts().pending_copy, 1);
}

#[test]
fn a_copy_that_fails_at_one_node_is_tried_at_all_others_before_it_comes_back() {
    let mut bench = Bench::new(5);
    bench.file(1, 2, &[0]);
    bench.wait(11);
    for round in 0..3 {
        let mut targets = BTreeSet::new();
        for _ in 0..4 {
            let commands = bench.beat(0);
            let [NodeCommand { number, kind: Some(Kind::Copy(copy)) }] = &commands[..] else { panic!("{commands:?}") };
            targets.insert(copy.targets[0].node.clone());
            let failed =
                CommandResult { number: *number, ok: false, error: "it holds something else".into(), replica: None };
            bench.beat_with(0, vec![failed]);
            (1..5).for_each(|node| drop(bench.beat(node)));
            bench.pass(4);
        }
        assert_eq!(targets.len(), 4, "round {round}: {targets:?}");
    }
}

#[test]
fn a_command_that_is_not_fetched_in_ten_seconds_is_not_sent() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0]);
    bench.wait(11);
    bench.beat(0);
    bench.file(2, 2, &[0]);
    bench.wait(10);
    assert_eq!(bench.map.counts().pending_copy, 2);
    bench.wait(10);
    assert_eq!(copies(&bench.beat(0)), []);
    bench.wait(1);
    assert_eq!(copies(&bench.beat(0)), [block(2)], "ordered again");
}

#[test]
fn a_dead_source_is_replaced_at_once() {
    let mut bench = Bench::with(BlocksConfig { dead_after: std::time::Duration::from_secs(30), ..config() }, &[1; 3]);
    bench.file(1, 3, &[0, 1]);
    bench.wait(11);
    bench.beat(1);
    let from_first = copies(&bench.beat(0)).len();
    let (dead, other) = if from_first == 1 { (0, 1) } else { (1, 0) };
    assert_eq!(bench.map.counts().pending_copy, 1);
    lively(&mut bench, &[other, 2], 25);
    bench.pass(5);
    assert!(bench.map.registry().node(bench.index(dead)).state == super::super::NodeState::Dead);
    assert_eq!(copies(&bench.beat(other)).len(), 1);
}

#[test]
fn busy_sources_hold_up_nobody() {
    let config = BlocksConfig { copies_per_node: 1, copies_ahead: 0, ..config() };
    let mut bench = Bench::with(config, &[1; 3]);
    (0..700).for_each(|n| bench.file(n, 2, &[0]));
    bench.file(900, 2, &[1]);
    bench.wait(11);
    let mut ordered = BTreeSet::new();
    for _ in 0..4 {
        bench.tick();
        ordered.extend(copies(&bench.beat(1)));
    }
    assert_eq!(ordered, BTreeSet::from([block(900)]), "node 1 is idle and not made to wait for node 0");
}

#[test]
fn a_half_written_copy_in_the_only_other_place_makes_room() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0]);
    bench.hold(1, record(block(1), STAMP, 100, ReplicaState::WaitingRecovery));
    bench.run(20);
    assert_eq!(bench.holders(1).len(), 2);
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
    // As long as there is another place, it goes there.
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0]);
    bench.hold(1, record(block(1), STAMP, 100, ReplicaState::Corrupt));
    bench.run(20);
    assert_eq!(bench.holders(1), BTreeSet::from([0, 2]));
}

#[test]
fn where_every_other_node_has_an_old_copy_they_are_replaced_one_by_one() {
    let mut bench = Bench::new(3);
    bench.file(1, 3, &[0]);
    for node in [1, 2] {
        bench.hold(node, record(block(1), GenerationStamp::from_raw(STAMP.raw() - 1), 90, ReplicaState::Finalized));
    }
    bench.wait(11);
    bench.wait(51);
    assert_eq!(bench.map.counts().pending_copy, 1, "not both at a time");
    bench.run(300);
    assert_eq!(bench.holders(1), BTreeSet::from([0, 1, 2]));
    assert_eq!(bench.map.counts(), super::super::BlockCounts::default());
}

#[test]
fn no_delete_is_sent_to_where_a_copy_is_being_made() {
    let mut bench = Bench::new(3);
    bench.file(1, 3, &[0, 1]);
    bench.hold(2, record(block(1), STAMP, 100, ReplicaState::WaitingRecovery));
    bench.wait(11);
    bench.wait(51);
    // Two good copies: the half-written one could go, but a new one is on its way to the same place.
    assert_eq!(bench.map.counts().pending_copy, 1);
    assert_eq!(deletes(&bench.beat(2)), []);
}

#[test]
fn no_copy_is_ordered_to_where_a_delete_is_under_way() {
    let mut bench = Bench::new(3);
    bench.allocate(1, 2, Vec::new());
    bench.hold(2, record(block(1), STAMP, 100, ReplicaState::WaitingRecovery));
    bench.hold(0, whole(1));
    bench.hold(1, whole(1));
    bench.commit(1);
    bench.wait(61);
    assert_eq!(deletes(&bench.beat(2)).len(), 1);
    // Now a copy is lost: node 2 would be the place for it, but not while the delete may still be carried out.
    bench.erase(1, 0, 1);
    bench.put(1, 0, record(block(1), STAMP, 5, ReplicaState::WaitingRecovery));
    bench.report(1);
    bench.tick();
    let orders = bench.beat(0);
    let target = |command: &NodeCommand| match &command.kind {
        Some(Kind::Copy(copy)) => copy.targets[0].node.clone(),
        _ => String::new(),
    };
    assert_eq!(orders.iter().map(target).collect::<Vec<_>>(), [bench.nodes[1].name.clone()]);
}

#[test]
fn sc_84_a_file_deleted_in_mid_repair_ends_the_repair() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0]);
    bench.wait(11);
    let orders = bench.beat(0);
    bench.free(1);
    assert_eq!((bench.map.counts().pending_copy, bench.map.counts().under_replicated), (0, 0));
    bench.carry(0, &orders);
    bench.run(100);
    assert_eq!(bench.holders(1), BTreeSet::new(), "the late copy goes as well");
}

#[test]
fn a_block_without_a_place_waits_for_a_node() {
    let mut bench = Bench::new(2);
    bench.file(1, 3, &[0, 1]);
    bench.run(60);
    assert_eq!(bench.map.counts().under_replicated, 1);
    bench.add_node(1);
    bench.register(2);
    bench.full_report(2);
    bench.run(10);
    assert_eq!(bench.holders(1).len(), 3);
    assert_eq!(bench.map.counts().under_replicated, 0);
}

#[test]
fn sc_73_a_node_that_returns_after_an_hour_with_the_only_copy_is_asked_for_it() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0]);
    bench.nodes[0].up = false;
    bench.run(400);
    assert_eq!(bench.map.counts().missing, 1);
    assert_eq!(bench.map.locate((block(1), STAMP, LEN), &[], 2, crate::blocks::Place::default()).locations, []);
    bench.pass(3600);
    bench.nodes[0].up = true;
    bench.run(10);
    assert_eq!(bench.holders(1).len(), 2);
    assert_eq!(bench.map.counts().missing, 0);
}
