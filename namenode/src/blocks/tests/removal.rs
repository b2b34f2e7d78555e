//! The deletion rule, clause by clause: guarantees, section 5.

use std::collections::BTreeSet;

use proto::cluster::{CommandResult, ReplicaState};
use proto::ids::GenerationStamp;

use super::super::BlocksConfig;
use super::harness::*;
use super::services::LEAVES;

/// A block of which every node has a copy, asked for `replication` times; told, settled, sixty seconds old.
fn surplus(nodes: usize, replication: u32) -> Bench {
    let mut bench = Bench::new(nodes);
    bench.file(1, replication, &(0..nodes).collect::<Vec<_>>());
    bench.wait(59);
    bench
}

/// What one heartbeat of every node is told to delete, as (node, block).
fn told(bench: &mut Bench) -> BTreeSet<(usize, i64)> {
    let mut all = BTreeSet::new();
    for node in 0..bench.nodes.len() {
        let deletes = deletes(&bench.beat(node));
        all.extend(deletes.into_iter().map(|(id, _)| (node, id.raw() - block(0).raw())));
    }
    all
}

#[test]
fn f_14_nothing_is_removed_in_the_first_sixty_seconds_of_a_term() {
    let mut bench = surplus(3, 2);
    assert_eq!(bench.map.counts().pending_delete, 1);
    assert_eq!(told(&mut bench), BTreeSet::new(), "59 s");
    bench.wait(1);
    assert_eq!(told(&mut bench).len(), 1, "60 s");
    // A new term begins the time anew.
    let mut bench = surplus(3, 2);
    bench.lead(2);
    (0..3).for_each(|node| assert_eq!(bench.full_report(node), 0));
    bench.wait(59);
    assert_eq!(told(&mut bench), BTreeSet::new());
    bench.wait(1);
    assert_eq!(told(&mut bench).len(), 1);
}

#[test]
fn sc_70_nothing_is_removed_from_a_node_before_its_full_report_in_this_term() {
    let mut bench = surplus(3, 2);
    bench.lead(2);
    bench.wait(61);
    assert_eq!(told(&mut bench), BTreeSet::new());
    (0..3).for_each(|node| assert_eq!(bench.full_report(node), 0));
    assert_eq!(told(&mut bench).len(), 1);
}

#[test]
fn sc_70_copies_that_did_not_report_in_this_term_are_no_others() {
    let mut bench = surplus(3, 2);
    bench.lead(2);
    bench.wait(61);
    bench.full_report(2);
    bench.full_report(1);
    // Two nodes are known to hold it; each of them is needed, and the wish is dropped.
    assert_eq!(told(&mut bench), BTreeSet::new());
    bench.full_report(0);
    bench.wait(1);
    assert_eq!(told(&mut bench).len(), 1, "with the last report it is allowed");
}

#[test]
fn sc_70_copies_of_nodes_that_may_obey_the_leader_before_are_waited_for() {
    let mut bench = surplus(3, 2);
    bench.lead(2);
    bench.known_term = 1;
    (0..3).for_each(|node| assert_eq!(bench.full_report(node), 0));
    bench.wait(61);
    assert_eq!(told(&mut bench), BTreeSet::new(), "an order of term 1 may still be carried out");
    assert_eq!(bench.map.counts().pending_delete, 1, "it is not given up");
    bench.known_term = 2;
    let mut gone = told(&mut bench);
    gone.extend(told(&mut bench));
    assert_eq!(gone.len(), 1, "every node has said that it knows");
}

#[test]
fn f_13_nothing_is_removed_while_the_quorum_is_silent() {
    let mut bench = surplus(3, 2);
    bench.now = bench.now.plus(std::time::Duration::from_secs(6));
    bench.tick();
    assert_eq!(told(&mut bench), BTreeSet::new());
    assert_eq!(bench.map.quorum_age(bench.now), Some(std::time::Duration::from_secs(6)));
    bench.map.quorum_confirmed(bench.now);
    assert_eq!(told(&mut bench).len(), 1);
}

#[test]
fn a_follower_commands_nothing_and_forgets_what_it_meant_to() {
    let mut bench = surplus(3, 2);
    bench.wait(1);
    bench.map.follow();
    assert_eq!(bench.map.counts().pending_delete, 0);
    for _ in 0..100 {
        bench.wait(5);
        assert_eq!(told(&mut bench), BTreeSet::new());
    }
}

#[test]
fn a_surplus_copy_goes_only_while_all_the_others_are_known_on_distinct_nodes() {
    let mut bench = surplus(4, 3);
    bench.wait(1);
    let gone = told(&mut bench);
    assert_eq!(gone.len(), 1, "one of four");
    assert_eq!(told(&mut bench), BTreeSet::new(), "what was told to go does not count among the others");
    // SC-67: two disks of one node are one copy.
    let mut bench = Bench::with(config(), &[2, 1]);
    bench.put(0, 1, whole(1));
    bench.report(0);
    bench.file(1, 3, &[0, 1]);
    bench.wait(70);
    assert_eq!(told(&mut bench), BTreeSet::new(), "two nodes of three: nothing is too much");
    let mut bench = Bench::with(config(), &[2, 1]);
    bench.put(0, 1, whole(1));
    bench.report(0);
    bench.file(1, 2, &[0, 1]);
    bench.run(70);
    assert_eq!(bench.holders(1).len(), 2);
    let disks = bench.nodes[0].disks.iter().filter(|disk| disk.held.contains_key(&block(1))).count();
    assert_eq!(disks, 1, "the second copy on a node is surplus");
}

#[test]
fn sc_76_copies_on_silent_nodes_are_no_others_and_go_first() {
    let mut bench = surplus(3, 2);
    // A node that is to keep its copy is silent from now on: the copies of the others are both needed until it is known to
    // live, also that of the node which was to lose it.
    let wanted = |node: &usize| !bench.map.removal.unasked_of(bench.storage(*node, 0), 1).is_empty();
    let victim = (0..3).find(wanted).expect("one copy is too many");
    let (silent, other) = ((victim + 1) % 3, (victim + 2) % 3);
    // By now nothing was heard of any of them for so long that it may be gone.
    bench.pass(11);
    for _ in 0..10 {
        for node in [other, victim] {
            assert_eq!(deletes(&bench.beat(node)), [], "{silent} is silent");
        }
        bench.pass(3);
    }
    // Its return makes its own copy the one too many.
    bench.run(601);
    assert_eq!(bench.holders(1).len(), 2);
}

#[test]
fn copies_whose_nodes_have_more_to_tell_are_no_others() {
    let damaged = record(block(1), STAMP, LEN, ReplicaState::Corrupt);
    for (news, needed) in [(damaged, true), (whole(77), false)] {
        let mut bench = surplus(3, 2);
        bench.wait(1);
        let wanted = |node: &usize| !bench.map.removal.unasked_of(bench.storage(*node, 0), 1).is_empty();
        let victim = (0..3).find(wanted).expect("one copy is too many");
        let other = (victim + 1) % 3;
        // Its heartbeat says that something changed; the report is on its way.
        bench.put(other, 0, news);
        bench.beat(other);
        assert_eq!(deletes(&bench.beat(victim)), []);
        bench.report(other);
        assert_eq!(deletes(&bench.beat(victim)).is_empty(), needed, "looked at again at once");
    }
}

#[test]
fn a_wish_that_the_rule_refused_comes_back_with_the_next_look_at_every_block() {
    let mut bench = surplus(3, 2);
    bench.pass(1);
    bench.now = bench.now.plus(std::time::Duration::from_secs(5));
    bench.map.quorum_confirmed(bench.now);
    // All fall silent, the one that is to lose its copy speaks first: the others may be gone.
    let wanted = |node: &usize| !bench.map.removal.unasked_of(bench.storage(*node, 0), 1).is_empty();
    let victim = (0..3).find(wanted).expect("one copy is too many");
    bench.map.registry.look(bench.now, std::time::Duration::ZERO, std::time::Duration::from_secs(300));
    assert_eq!(deletes(&bench.beat(victim)), []);
    assert_eq!(bench.map.counts().pending_delete, 0);
    bench.wait(605);
    assert_eq!(told(&mut bench).len(), 1);
}

#[test]
fn sc_70_a_lost_reply_takes_nothing_from_the_others() {
    let mut bench = surplus(2, 1);
    bench.wait(1);
    let first = told(&mut bench);
    let victim = first.iter().next().copied().unwrap().0;
    // The reply was lost. The other copy stays whatever happens, and the victim is told again in the end.
    for _ in 0..14 {
        bench.wait(2);
        assert_eq!(told(&mut bench), BTreeSet::new(), "nothing is concluded in less than thirty seconds");
    }
    bench.wait(3);
    let mut again = told(&mut bench);
    again.extend(told(&mut bench));
    assert_eq!(again.len(), 1);
    let (survivor, _) = again.iter().next().copied().unwrap();
    bench.run(40);
    assert_eq!(bench.holders(1).len(), 1, "{victim} {survivor}");
}

#[test]
fn sc_73_the_result_of_a_command_that_overtakes_its_changes_proves_nothing() {
    // A delete of two replicas, of which one fails: the result says "not done", the change is still on its way.
    let mut bench = Bench::new(2);
    bench.file(1, 1, &[0, 1]);
    bench.wait(61);
    let sent: Vec<_> = (0..2).map(|node| bench.beat(node)).collect();
    let victim = (0..2).find(|node| !deletes(&sent[*node]).is_empty()).unwrap();
    bench.carry(victim, &sent[victim]);
    let refused =
        CommandResult { number: sent[victim][0].number, ok: false, error: "one of them failed".into(), replica: None };
    bench.beat_with(victim, vec![refused]);
    for _ in 0..20 {
        bench.wait(5);
        let other = 1 - victim;
        assert_eq!(deletes(&bench.beat(other)), [], "it is the last copy");
        bench.beat(victim);
    }
    bench.report(victim);
    assert_eq!(bench.holders(1).len(), 1);
    assert_eq!(bench.map.replicas().good(block(1)), [bench.storage(1 - victim, 0)]);
}

#[test]
fn a_copy_that_outlived_its_command_counts_again() {
    let mut bench = surplus(3, 2);
    bench.pass(1);
    let gone = told(&mut bench);
    let (victim, _) = gone.iter().next().copied().unwrap();
    // Void at its node; meanwhile another copy dies for good.
    let dead = (victim + 1) % 3;
    for _ in 0..62 {
        bench.pass(5);
        for node in (0..3).filter(|node| *node != dead) {
            assert_eq!(deletes(&bench.beat(node)), [], "now it is needed");
        }
    }
    assert_eq!(bench.map.counts().under_replicated, 0, "two copies are alive");
    assert_eq!(
        bench.map.locate((block(1), STAMP, LEN), &[], 2, crate::blocks::Place::default()).locations.len(),
        2,
        "and both are read"
    );
}

#[test]
fn a_stale_replica_goes_while_the_minimum_of_good_ones_is_known() {
    let old = record(block(1), STAMP, LEN, ReplicaState::Finalized);
    for good in 1..3_usize {
        let mut bench = Bench::new(4);
        bench.allocate(1, 3, Vec::new());
        bench.world.blocks.get_mut(&block(1)).unwrap().stamp = STAMP.next();
        bench.hold(0, old);
        for node in 1..=good {
            bench.hold(node, record(block(1), STAMP.next(), LEN, ReplicaState::Finalized));
        }
        bench.commit(1);
        bench.wait(61);
        let stale = deletes(&bench.beat(0));
        let expected = if good >= 2 { vec![(block(1), "stale".to_owned())] } else { vec![] };
        assert_eq!(stale, expected, "{good} good copies");
    }
}

#[test]
fn i_2_nodes_that_were_told_to_go_are_no_reason_to_leave_a_block_with_one_copy() {
    let mut bench = Bench::new(3);
    bench.allocate(1, 2, Vec::new());
    bench.world.blocks.get_mut(&block(1)).unwrap().stamp = STAMP.next();
    bench.hold(0, record(block(1), STAMP, LEN, ReplicaState::Finalized));
    let good = record(block(1), STAMP.next(), LEN, ReplicaState::Finalized);
    bench.hold(1, good);
    bench.commit(1);
    // Two of the three were told to go, and are still there: of new blocks one copy is asked.
    bench.world.nodes = 1;
    bench.wait(61);
    assert_eq!(deletes(&bench.beat(0)), [], "one good copy would be left");
    bench.hold(2, good);
    bench.wait(61);
    assert_eq!(deletes(&bench.beat(0)), [(block(1), "stale".to_owned())]);
}

#[test]
fn half_written_replicas_of_open_blocks_are_kept_and_of_committed_ones_removed() {
    let mut bench = Bench::new(3);
    let half = record(block(1), STAMP, 100, ReplicaState::WaitingRecovery);
    bench.allocate(1, 2, Vec::new());
    bench.hold(0, half);
    bench.wait(70);
    assert_eq!(deletes(&bench.beat(0)), []);
    bench.hold(1, whole(1));
    bench.hold(2, whole(1));
    bench.commit(1);
    bench.wait(11);
    assert_eq!(deletes(&bench.beat(0)), [(block(1), "stale".to_owned())]);
}

#[test]
fn a_damaged_replica_is_copied_before_it_is_removed() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0, 1]);
    bench.wait(61);
    let damaged = bench.storage(0, 0);
    bench.map.mark_corrupt(block(1), &[damaged], &bench.world, bench.now);
    assert_eq!(bench.map.counts().corrupt, 1);
    assert_eq!(deletes(&bench.beat(0)), [], "one good copy is less than the minimum");
    bench.tick();
    let orders = bench.beat(1);
    assert_eq!(copies(&orders), [block(1)], "from the good one");
    assert_eq!(copies(&bench.beat(0)), []);
    bench.carry(1, &orders);
    assert_eq!(deletes(&bench.beat(0)), [(block(1), "corrupt".to_owned())]);
    bench.run(40);
    assert_eq!(bench.map.counts().corrupt, 0);
    assert_eq!(bench.holders(1), BTreeSet::from([1, 2]));
}

#[test]
fn sc_66_a_damaged_replica_is_no_better_for_a_restart_of_its_node() {
    let mut bench = Bench::new(2);
    bench.file(1, 2, &[0, 1]);
    bench.hold(0, record(block(1), STAMP, LEN, ReplicaState::Corrupt));
    assert_eq!(bench.map.counts().corrupt, 1);
    // The node has forgotten what it found, and finds the replica whole by its length.
    bench.put(0, 0, whole(1));
    bench.restart(0);
    assert_eq!(bench.map.counts().corrupt, 1);
    assert!(!bench.map.replicas().is_good(block(1), bench.storage(0, 0)));
    assert_eq!(bench.full_report(0), 0, "hashes agree about it");
}

#[test]
fn a_freed_block_goes_everywhere_however_few_copies_there_are() {
    let mut bench = Bench::new(3);
    bench.file(1, 3, &[0, 1]);
    bench.allocate(2, 3, Vec::new());
    bench.hold(2, record(block(2), STAMP, 10, ReplicaState::WaitingRecovery));
    bench.wait(61);
    assert_eq!(told(&mut bench), BTreeSet::new());
    bench.free(1);
    bench.free(2);
    assert_eq!(told(&mut bench), BTreeSet::from([(0, 1), (1, 1), (2, 2)]));
    bench.run(40);
    assert_eq!(bench.map.counts().pending_delete, 0);
}

#[test]
fn sc_73_what_is_unknown_is_kept() {
    let mut bench = Bench::new(1);
    bench.hold(0, whole(5));
    bench.hold(0, whole(-3));
    bench.file(1, 1, &[0]);
    bench.hold(0, record(block(1), STAMP.next(), LEN, ReplicaState::Finalized));
    for _ in 0..30 {
        bench.wait(60);
        assert_eq!(deletes(&bench.beat(0)), [], "a block of the future, one that never was, a stamp of the future");
    }
}

#[test]
fn deletes_that_no_user_asked_for_stop_at_the_rate_and_raise_one_alarm() {
    let config = BlocksConfig { unasked_deletes_per_minute: 3, ..config() };
    let mut bench = Bench::with(config, &[1, 1]);
    (0..8).for_each(|n| bench.file(n, 1, &[0, 1]));
    (8..12).for_each(|n| bench.file(n, 1, &[0]));
    bench.wait(61);
    (8..12).for_each(|n| bench.free(n));
    let asked: BTreeSet<_> = (8..12).map(|n| (0, n)).collect();
    let first = told(&mut bench);
    assert_eq!(first.len(), 3 + 4, "{first:?}");
    assert!(first.is_superset(&asked), "what users deleted is not held up");
    assert_eq!(bench.map.counts().delete_alarms, 1);
    assert_eq!(told(&mut bench), BTreeSet::new());
    assert_eq!(bench.map.counts().delete_alarms, 1, "once a minute");
    bench.wait(60);
    (0..2).for_each(|node| drop(bench.beat(node)));
    bench.run(200);
    (0..8).for_each(|n| assert_eq!(bench.holders(n).len(), 1, "block {n}"));
}

#[test]
fn one_heartbeat_carries_a_bounded_number_of_deletes() {
    let config = BlocksConfig { deletes_per_heartbeat: 5, ..config() };
    let mut bench = Bench::with(config, &[1]);
    (0..12).for_each(|n| bench.file(n, 1, &[0]));
    bench.wait(61);
    (0..12).for_each(|n| bench.free(n));
    let counts: Vec<usize> = (0..4).map(|_| deletes(&bench.beat(0)).len()).collect();
    assert_eq!(counts, [5, 5, 2, 0]);
}

#[test]
fn a_heartbeat_is_answered_a_few_blocks_at_a_time() {
    let mut bench = Bench::with(config(), &[1]);
    (0..300).for_each(|n| bench.file(n, 1, &[0]));
    bench.wait(61);
    (0..300).for_each(|n| bench.free(n));
    let (most_asked, slices, deletes) = bench.beat_in_slices(0, 16);
    assert_eq!(deletes, 300);
    assert!(slices >= 300 / 16 && most_asked <= 4 * 16, "{most_asked} questions at a time, {slices} times");
}

#[test]
fn numbers_of_commands_are_not_used_again_by_the_next_leader() {
    let mut seen = BTreeSet::new();
    for term in 1..4 {
        let mut bench = Bench::new(1);
        bench.lead(term);
        bench.full_report(0);
        bench.file(1, 1, &[0]);
        bench.wait(61);
        bench.free(1);
        let commands = bench.beat(0);
        assert!(commands.iter().all(|command| seen.insert(command.number)));
        assert_eq!(commands.len(), 1);
    }
}

#[test]
fn sc_76_what_is_stale_stays_beside_a_single_copy_although_no_node_stays() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[1]);
    bench.hold(0, record(block(1), GenerationStamp::from_raw(STAMP.raw() - 1), LEN, ReplicaState::Finalized));
    bench.services(&[(0, LEAVES), (1, LEAVES), (2, LEAVES)]);
    // The log counts none that was told to go.
    bench.world.nodes = 0;
    bench.run(120);
    assert!(bench.nodes[0].disks[0].held.contains_key(&block(1)), "of the block there is one copy");
    bench.hold(2, whole(1));
    bench.run(30);
    assert!(!bench.nodes[0].disks[0].held.contains_key(&block(1)));
    assert_eq!(bench.holders(1), BTreeSet::from([1, 2]));
}
