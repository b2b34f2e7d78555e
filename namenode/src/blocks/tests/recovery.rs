//! Recoveries in the block map, and blocks that are opened again.

use proto::cluster::node_command::Kind;
use proto::cluster::{CommandResult, NodeCommand, ReplicaFound, ReplicaState};
use proto::ids::{GenerationStamp, InodeId, LeaseEpoch};

use super::super::{Facts, Recovered, Reopened, ToRecover};
use super::harness::*;
use crate::namespace::{BlockEffect, NodeService};

const LATER: GenerationStamp = GenerationStamp::from_raw(STAMP.raw() + 7);

fn inode(n: u64) -> InodeId {
    InodeId::from_raw(20_000 + n)
}
fn what(bench: &Bench, n: u64, homes: &[usize]) -> ToRecover {
    ToRecover {
        inode: inode(n),
        lease_epoch: LeaseEpoch::from_raw(3),
        block: block(n as i64),
        stamp: STAMP,
        recovery_stamp: LATER,
        floor_bytes: 0,
        target_bytes: None,
        homes: homes.iter().map(|node| bench.storage(*node, 0)).collect(),
        untouched: false,
        accept_loss: false,
    }
}
fn begin(bench: &mut Bench, n: u64, homes: &[usize]) {
    bench.allocate(n as i64, 3, homes.iter().map(|node| bench.storage(*node, 0)).collect());
    bench.map.recovery_is_due(inode(n), LATER, true);
    let due = bench.map.recoveries_due(bench.now);
    assert!(due.iter().any(|due| due.inode == inode(n) && due.fresh));
    let what = what(bench, n, homes);
    bench.map.recover(what, bench.now);
}
fn found(number: u64, state: ReplicaState, len_bytes: u64, acked_bytes: u64) -> CommandResult {
    let stamp = if state == ReplicaState::Deleted { 0 } else { STAMP.raw() };
    let replica = ReplicaFound { state: state as i32, stamp, len_bytes, acked_bytes, restarted: false };
    CommandResult { number, ok: true, error: String::new(), replica: Some(replica) }
}
fn done(number: u64, ok: bool) -> CommandResult {
    CommandResult { number, ok, error: if ok { String::new() } else { "no".into() }, replica: None }
}
fn prepares(commands: &[NodeCommand]) -> Vec<u64> {
    commands.iter().filter(|c| matches!(c.kind, Some(Kind::PrepareRecovery(_)))).map(|c| c.number).collect()
}
/// Numbers and lengths.
fn finishes(commands: &[NodeCommand]) -> Vec<(u64, u64)> {
    let of = |command: &NodeCommand| match &command.kind {
        Some(Kind::FinishReplica(finish)) => {
            assert_eq!(finish.recovery_stamp, LATER.raw());
            Some((command.number, finish.block.as_ref().unwrap().len_bytes))
        }
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

#[test]
fn a_round_asks_finishes_and_ends_with_those_that_did() {
    let mut bench = Bench::new(4);
    begin(&mut bench, 1, &[0, 1, 2]);
    let asked: Vec<u64> = (0..3).map(|node| prepares(&bench.beat(node))[0]).collect();
    assert!(prepares(&bench.beat(3)).is_empty());
    assert!(prepares(&bench.beat(0)).is_empty(), "the answer is on its way");
    bench.wait(3);
    assert_eq!(prepares(&bench.beat(0)), [asked[0]], "or the command was lost");
    // Somebody else's word counts for nothing.
    bench.beat_with(1, vec![found(asked[0], ReplicaState::BeingWritten, 5, 0)]);
    bench.beat_with(0, vec![found(asked[0], ReplicaState::BeingWritten, 100, 80)]);
    bench.beat_with(1, vec![found(asked[1], ReplicaState::BeingWritten, 90, 90)]);
    assert!(bench.map.recovery_waits_for(inode(1), bench.now).contains("host2:9866"));
    let reply = bench.beat_with(2, vec![found(asked[2], ReplicaState::Deleted, 0, 0)]).unwrap().commands;
    assert_eq!(finishes(&reply), [], "it has nothing to finish");
    let finishing: Vec<(u64, u64)> = (0..2).flat_map(|node| finishes(&bench.beat(node))).collect();
    assert!(finishing.iter().all(|(_, len)| *len == 90));
    bench.beat_with(0, vec![done(finishing[0].0, true)]);
    assert_eq!(bench.map.take_recovered(), []);
    bench.beat_with(1, vec![done(finishing[1].0, true)]);
    let storages = vec![bench.storage(0, 0), bench.storage(1, 0)];
    let ended = bench.map.take_recovered();
    assert_eq!(ended, [Recovered { what: what(&bench, 1, &[0, 1, 2]), len_bytes: 90, storages }]);
    assert!(bench.map.recoveries_due(bench.now).is_empty(), "its end is in the log");
    bench.map.recovery_is_over(inode(1));
    assert_eq!(bench.map.recoveries(), 0);
    bench.beat_with(0, vec![done(finishing[0].0, true)]);
}

#[test]
fn the_last_answer_brings_its_node_the_next_command_at_once() {
    let mut bench = Bench::new(1);
    begin(&mut bench, 1, &[0]);
    let asked = prepares(&bench.beat(0))[0];
    let reply = bench.beat_with(0, vec![found(asked, ReplicaState::BeingWritten, 10, 0)]).unwrap().commands;
    assert_eq!(finishes(&reply).len(), 1);
}

#[test]
fn who_reports_a_replica_in_the_middle_is_asked_too() {
    let mut bench = Bench::new(3);
    begin(&mut bench, 1, &[0, 1]);
    bench.hold(2, record(block(1), LATER, 10, ReplicaState::BeingWritten));
    bench.hold(1, record(block(1), GenerationStamp::from_raw(STAMP.raw() - 1), 10, ReplicaState::BeingWritten));
    bench.pass(1);
    assert_eq!(prepares(&bench.beat(2)).len(), 1);
}

#[test]
fn l_6_f_1_after_five_seconds_two_that_have_finished_are_enough_and_one_after_twelve() {
    for second in [true, false] {
        let mut bench = Bench::new(3);
        begin(&mut bench, 1, &[0, 1, 2]);
        for node in 0..3 {
            let asked = prepares(&bench.beat(node))[0];
            bench.beat_with(node, vec![found(asked, ReplicaState::BeingWritten, 10, 10)]);
        }
        // One is done, one is done or refuses, one hangs.
        let numbers: Vec<u64> = (0..3).flat_map(|node| finishes(&bench.beat(node))).map(|(number, _)| number).collect();
        // The last of them had its command with its answer, which was thrown away here: it gets it again.
        bench.wait(3);
        let last = finishes(&bench.beat(2));
        assert_eq!((numbers.len(), last.len()), (2, 1));
        bench.beat_with(0, vec![done(numbers[0], true)]);
        bench.beat_with(1, vec![done(numbers[1], second)]);
        bench.wait(if second { 1 } else { 8 });
        assert_eq!(bench.map.take_recovered(), []);
        bench.wait(1);
        let ended: Vec<_> = bench.map.take_recovered().into_iter().map(|ended| ended.storages).collect();
        let wanted = if second { vec![bench.storage(0, 0), bench.storage(1, 0)] } else { vec![bench.storage(0, 0)] };
        assert_eq!(ended, [wanted]);
    }
}

#[test]
fn sc_28_sc_94_what_comes_to_nothing_rests_longer_each_time() {
    let mut bench = Bench::new(2);
    begin(&mut bench, 1, &[0, 1]);
    let mut rests = Vec::new();
    for _ in 0..5 {
        let mut secs = 0;
        while bench.map.recoveries_due(bench.now).is_empty() {
            bench.wait(1);
            secs += 1;
            assert!(secs < 100);
        }
        rests.push(secs);
        assert!(bench.map.recoveries_due(bench.now).iter().all(|due| !due.fresh), "it needs a higher stamp");
        let what = what(&bench, 1, &[0, 1]);
        bench.map.recover(what, bench.now);
    }
    assert!(rests[0] >= 20 && rests.is_sorted() && rests[4] > rests[0] + 10, "{rests:?}");
}

#[test]
fn r_1_so_many_are_worked_on_at_a_time_and_the_others_wait() {
    let mut bench = Bench::new(1);
    for n in 0..1000 {
        bench.map.recovery_is_due(inode(n), LATER, true);
    }
    let due = bench.map.recoveries_due(bench.now);
    assert_eq!(due.len(), 256);
    for next in &due {
        let what = ToRecover { inode: next.inode, ..what(&bench, 1, &[0]) };
        bench.map.recover(what, bench.now);
    }
    assert!(bench.map.recoveries_due(bench.now).is_empty());
    assert!(bench.map.recovery_waits_for(inode(999), bench.now).contains("256 others"));
    assert_eq!(prepares(&bench.beat(0)).len(), 256);
    bench.map.recovery_is_over(due[0].inode);
    assert_eq!(bench.map.recoveries_due(bench.now).len(), 1);
    bench.map.follow();
    assert_eq!((bench.map.recoveries(), prepares(&bench.beat(0)).len()), (0, 0), "another member leads");
}

#[test]
fn r_1_files_that_come_to_nothing_are_not_in_the_way_of_others() {
    let mut bench = Bench::new(1);
    for n in 0..300 {
        bench.map.recovery_is_due(inode(n), LATER, true);
    }
    for next in bench.map.recoveries_due(bench.now) {
        let what = ToRecover { inode: next.inode, ..what(&bench, 1, &[0]) };
        bench.map.recover(what, bench.now);
    }
    // Nobody answers, and all of them wait again.
    bench.wait(30);
    let due = bench.map.recoveries_due(bench.now);
    assert_eq!(due.len(), 44 + 128, "half of the places are kept for those that had none");
    assert!(due.iter().take(44).all(|next| next.inode >= inode(256)), "first those that had no try");
    for next in due {
        let what = ToRecover { inode: next.inode, ..what(&bench, 1, &[0]) };
        bench.map.recover(what, bench.now);
    }
    assert!(bench.map.recoveries_due(bench.now).is_empty(), "what is hopeless waits for its own half");
    (1000..1200).for_each(|n| bench.map.recovery_is_due(inode(n), LATER, true));
    assert_eq!(bench.map.recoveries_due(bench.now).len(), 256 - 44 - 128, "others begin at once");
}

#[test]
fn sc_26_who_asks_again_begins_no_second_round_at_the_same_stamp() {
    let mut bench = Bench::new(2);
    begin(&mut bench, 1, &[0, 1]);
    let again = |bench: &mut Bench| {
        bench.map.recovery_is_due(inode(1), LATER, true);
        bench.map.recoveries_due(bench.now).len()
    };
    assert_eq!(again(&mut bench), 0, "while it goes on");
    bench.wait(20);
    assert!(bench.map.recovery_waits_for(inode(1), bench.now).contains("next try in"));
    assert_eq!(again(&mut bench), 0, "while it rests");
    bench.wait(2);
    assert!(bench.map.recoveries_due(bench.now).iter().all(|due| !due.fresh), "it needs a higher stamp");

    // Its end is in the log: nothing may be asked at its stamp any more.
    let higher = GenerationStamp::from_raw(LATER.raw() + 1);
    bench.map.recovery_is_due(inode(1), higher, true);
    let what = ToRecover { recovery_stamp: higher, ..what(&bench, 1, &[0, 1]) };
    bench.map.recover(what, bench.now);
    for node in 0..2 {
        let asked = prepares(&bench.beat(node))[0];
        bench.beat_with(node, vec![found(asked, ReplicaState::Deleted, 0, 0)]);
    }
    assert_eq!(bench.map.take_recovered().len(), 1);
    bench.map.recovery_is_due(inode(1), higher, true);
    assert_eq!(again(&mut bench), 0, "while its end is in the log");
    // The namespace gave it another one meanwhile.
    bench.map.recovery_is_due(inode(1), GenerationStamp::from_raw(LATER.raw() + 2), true);
    assert!(bench.map.recoveries_due(bench.now).iter().any(|due| due.fresh));
}

#[test]
fn d_2_a_silent_home_is_waited_for_until_its_node_is_decommissioned() {
    let mut bench = Bench::new(2);
    begin(&mut bench, 1, &[0, 1]);
    let asked = prepares(&bench.beat(1))[0];
    let replica = ReplicaFound {
        state: ReplicaState::WaitingRecovery as i32,
        stamp: STAMP.raw(),
        len_bytes: 60,
        acked_bytes: 0,
        restarted: true,
    };
    let restarted = |number| CommandResult { number, ok: true, error: String::new(), replica: Some(replica) };
    bench.beat_with(1, vec![restarted(asked)]);
    // A refusal says as little, be it the last word that is heard of it.
    let refused = prepares(&bench.beat(0))[0];
    assert_eq!(finishes(&bench.beat_with(0, vec![done(refused, false)]).unwrap().commands), []);
    bench.nodes[0].up = false;
    bench.wait(60);
    let waits_for = bench.map.recovery_waits_for(inode(1), bench.now);
    assert!(waits_for.contains("may hold more: ") && waits_for.contains("host0:9866"), "{waits_for}");
    assert!(waits_for.contains("--accept-loss") && waits_for.contains("decommission"), "{waits_for}");
    // Dead is no more than silent for long.
    bench.wait(400);
    bench.map.recover(what(&bench, 1, &[0, 1]), bench.now);
    let asked = prepares(&bench.beat(1))[0];
    assert_eq!(finishes(&bench.beat_with(1, vec![restarted(asked)]).unwrap().commands), []);
    bench.wait(35);
    assert_eq!(finishes(&bench.beat(1)), []);
    bench.map.recover(what(&bench, 1, &[0, 1]), bench.now);
    bench.services(&[(0, NodeService::Decommissioned)]);
    let asked = prepares(&bench.beat(1))[0];
    let finishing = finishes(&bench.beat_with(1, vec![restarted(asked)]).unwrap().commands);
    assert_eq!(finishing.len(), 1);
    assert_eq!(finishing[0].1, 60);
}

#[test]
fn nodes_of_a_round_are_asked_to_come_again_soon_while_it_is_young() {
    let mut bench = Bench::new(3);
    let again = |bench: &mut Bench, node: usize| bench.beat_with(node, Vec::new()).unwrap().again;
    assert!(!again(&mut bench, 0));
    begin(&mut bench, 1, &[0, 1]);
    assert!(again(&mut bench, 0) && again(&mut bench, 1) && !again(&mut bench, 2));
    bench.wait(11);
    assert!(!again(&mut bench, 0), "whoever is away is not waited for in a hurry");
    bench.map.recovery_is_over(inode(1));
    begin(&mut bench, 2, &[0]);
    let asked = prepares(&bench.beat(0))[0];
    let numbers = finishes(&bench.beat_with(0, vec![found(asked, ReplicaState::BeingWritten, 9, 9)]).unwrap().commands);
    assert!(!bench.beat_with(0, vec![done(numbers[0].0, true)]).unwrap().again, "it is over");
}

#[test]
fn what_an_idle_writer_has_open_is_counted_as_short_and_taken_from_it_below_the_minimum() {
    let mut bench = Bench::new(4);
    bench.file(1, 3, &[0, 1, 2]);
    bench.wait(20);
    reopen(&mut bench, 1, LEN, &[0, 1, 2]);
    let homes: Vec<_> = (0..3).map(|node| bench.storage(node, 0)).collect();
    let look = |bench: &mut Bench| {
        let open = Reopened {
            block: block(1),
            stamp: STAMP,
            floor_bytes: LEN,
            replication: 3,
            least: 2,
            homes: &homes,
            untouched: true,
        };
        (bench.map.look_at_reopened(open, bench.now), bench.map.counts().under_replicated)
    };
    assert_eq!(look(&mut bench), (false, 0));
    bench.nodes[2].up = false;
    bench.wait(310);
    assert_eq!(look(&mut bench), (false, 1), "one is lost: it is counted, and its writer keeps it");
    bench.wait(60);
    assert_eq!(look(&mut bench), (false, 1));
    bench.nodes[1].up = false;
    bench.wait(310);
    assert_eq!(look(&mut bench), (false, 1), "a writer has some time to find out by itself");
    bench.wait(30);
    assert_eq!(look(&mut bench), (true, 1));
    // Where no other node is, nobody is helped.
    bench.nodes[3].disks[0].available_bytes = 0;
    bench.beat(3);
    assert_eq!(look(&mut bench), (false, 1));
    bench.nodes[3].disks[0].available_bytes = 1 << 40;
    // A pipeline that was made anew is another beginning.
    restamp(&mut bench, 1, LATER, &[0, 3]);
    assert_eq!(bench.map.counts().under_replicated, 0);
    // A node in maintenance is only away.
    bench.services(&[(1, NodeService::Maintenance { until_ms: 0 })]);
    assert_eq!(look(&mut bench), (false, 1));
    bench.wait(60);
    assert_eq!(look(&mut bench), (false, 1));
}

#[test]
fn d_7_a_home_in_the_log_whose_copy_was_moved_away_is_no_copy_of_a_block_that_is_open_again() {
    let mut bench = Bench::new(4);
    // A balance has moved a copy from node 1 to node 2: the log does not hear of that.
    bench.file(1, 2, &[0, 2]);
    bench.wait(20);
    reopen(&mut bench, 1, LEN, &[0, 1]);
    let homes = [bench.storage(0, 0), bench.storage(1, 0)];
    let look = |bench: &mut Bench| {
        let open = Reopened {
            block: block(1),
            stamp: STAMP,
            floor_bytes: LEN,
            replication: 2,
            least: 2,
            homes: &homes,
            untouched: true,
        };
        (bench.map.look_at_reopened(open, bench.now), bench.map.counts().under_replicated)
    };
    assert_eq!(look(&mut bench), (false, 0));
    bench.nodes[2].up = false;
    bench.wait(310);
    assert_eq!(look(&mut bench), (false, 1), "node 0 alone has it");
    bench.wait(30);
    assert_eq!(look(&mut bench), (true, 1));
}

#[test]
fn d_7_a_pipeline_that_was_logged_is_believed_though_full_reports_do_not_list_what_is_being_written() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0, 1]);
    bench.wait(20);
    reopen(&mut bench, 1, LEN, &[0, 1]);
    restamp(&mut bench, 1, LATER, &[0, 1]);
    let homes = [bench.storage(0, 0), bench.storage(1, 0)];
    // Nobody tells of it: a writer that goes on is in no report.
    [0, 1].into_iter().for_each(|node| {
        bench.nodes[node].disks[0].held.remove(&block(1));
        bench.full_report(node);
    });
    assert!(homes.iter().all(|home| bench.map.replicas.odd_at(block(1), *home).is_none()));
    let look = |bench: &mut Bench, untouched: bool| {
        let (block, stamp, homes) = (block(1), LATER, &homes);
        let open = Reopened { block, stamp, floor_bytes: LEN, replication: 2, least: 2, homes, untouched };
        (bench.map.look_at_reopened(open, bench.now), bench.map.counts().under_replicated)
    };
    for _ in 0..3 {
        assert_eq!(look(&mut bench, false), (false, 0), "its writer keeps it");
        bench.wait(60);
    }
    assert_eq!(look(&mut bench, true), (false, 1), "that of a block of which no pipeline was logged would be gone");
}

/// The block is open again at its stamp, with what it had.
pub(super) fn reopen(bench: &mut Bench, n: i64, floor_bytes: u64, nodes: &[usize]) {
    let facts = bench.world.blocks.get_mut(&block(n)).unwrap();
    let finished_bytes = facts.len_bytes;
    (facts.committed, facts.len_bytes, facts.untouched) = (false, floor_bytes, true);
    let (stamp, replication) = (facts.stamp, facts.replication);
    let storages = nodes.iter().map(|node| bench.storage(*node, 0)).collect();
    let (block, len_bytes) = (block(n), floor_bytes);
    let effect = BlockEffect::Reopened { block, stamp, len_bytes, finished_bytes, replication, storages };
    bench.map.effect(&effect, &bench.world, bench.now);
}
pub(super) fn restamp(bench: &mut Bench, n: i64, stamp: GenerationStamp, nodes: &[usize]) {
    let facts = bench.world.blocks.get_mut(&block(n)).unwrap();
    (facts.stamp, facts.untouched) = (stamp, false);
    let replication = facts.replication;
    let storages = nodes.iter().map(|node| bench.storage(*node, 0)).collect();
    let effect = BlockEffect::Restamped { block: block(n), stamp, replication, storages };
    bench.map.effect(&effect, &bench.world, bench.now);
}
pub(super) fn commit_at(bench: &mut Bench, n: i64, len_bytes: u64) {
    let facts = bench.world.blocks.get_mut(&block(n)).unwrap();
    (facts.committed, facts.len_bytes, facts.untouched) = (true, len_bytes, false);
    let Facts { stamp, replication, .. } = *facts;
    let effect = BlockEffect::Committed { block: block(n), stamp, len_bytes, replication, storages: Vec::new() };
    bench.map.effect(&effect, &bench.world, bench.now);
}

#[test]
fn a_block_that_is_open_again_is_neither_copied_nor_trimmed_and_its_hashes_stay() {
    // For an append, and for a truncate, which gives it another length at once.
    for floor_bytes in [LEN, 10] {
        let mut bench = Bench::new(4);
        bench.file(1, 2, &[0, 1, 2]);
        bench.file(2, 3, &[0, 1]);
        bench.wait(70);
        assert_eq!((bench.map.counts().pending_delete, bench.map.counts().pending_copy), (1, 1));
        reopen(&mut bench, 1, floor_bytes, &[0, 1, 2]);
        reopen(&mut bench, 2, floor_bytes, &[0, 1]);
        let counts = bench.map.counts();
        assert_eq!((counts.pending_delete, counts.pending_copy, counts.under_replicated), (0, 0, 0));
        bench.run(100);
        assert_eq!([bench.holders(1).len(), bench.holders(2).len()], [3, 2]);
        (0..4).for_each(|node| assert_eq!(bench.full_report(node), 0, "what is believed is what there is"));
        assert_eq!(bench.map.known_good((block(1), STAMP, LEN), &[], "host1")[0], bench.storage(1, 0));

        // It goes on at a new stamp on two nodes: what the others have counts for nothing once it is whole.
        restamp(&mut bench, 1, LATER, &[0, 1]);
        assert!(bench.map.known_good((block(1), LATER, LEN), &[], "").is_empty());
        let proved = [bench.storage(0, 0), bench.storage(1, 0)];
        let good = bench.map.known_good((block(1), LATER, LEN), &proved, "");
        assert_eq!(good.len(), 2, "an append that follows at once finds what the log has proof of: {good:?}");
        bench.hold(0, record(block(1), LATER, 50, ReplicaState::BeingWritten));
        bench.hold(1, record(block(1), LATER, 50, ReplicaState::BeingWritten));
        bench.run(70);
        assert_eq!(bench.map.counts().pending_delete, 0, "the one that is left of before may still be needed");
        bench.hold(0, record(block(1), LATER, 60, ReplicaState::Finalized));
        bench.hold(1, record(block(1), LATER, 60, ReplicaState::Finalized));
        commit_at(&mut bench, 1, 60);
        bench.run(30);
        assert_eq!(bench.holders(1).into_iter().collect::<Vec<_>>(), [0, 1]);
        (0..4).for_each(|node| assert_eq!(bench.full_report(node), 0));
    }
}

#[test]
fn sc_64_a_report_from_before_the_append_condemns_nothing() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0, 1]);
    bench.wait(70);
    reopen(&mut bench, 1, LEN, &[0, 1]);
    restamp(&mut bench, 1, LATER, &[0, 1]);
    for node in 0..2 {
        // The node is further than what it has told.
        bench.put(node, 0, record(block(1), LATER, LEN + 1, ReplicaState::Finalized));
    }
    commit_at(&mut bench, 1, LEN + 1);
    bench.run(1);
    assert_eq!(bench.holders(1).len(), 2);
    // An old report once more: it is of an older number, and changes nothing.
    let before = bench.map.counts();
    bench.report_from(0, 0, 1);
    assert_eq!(bench.map.counts(), before);
    assert_eq!(bench.map.replicas().good(block(1)).len(), 2);
}

#[test]
fn sc_85_what_was_appended_to_settles_before_it_is_copied() {
    let mut bench = Bench::new(4);
    bench.file(1, 3, &[0, 1, 2]);
    bench.wait(20);
    reopen(&mut bench, 1, LEN, &[0, 1, 2]);
    restamp(&mut bench, 1, LATER, &[0, 1, 2]);
    commit_at(&mut bench, 1, LEN + 1);
    bench.pass(1);
    assert_eq!(bench.map.counts().pending_copy, 0, "its reports are on their way");
    (0..3).for_each(|node| bench.hold(node, record(block(1), LATER, LEN + 1, ReplicaState::Finalized)));
    bench.wait(15);
    let counts = bench.map.counts();
    assert_eq!((counts.pending_copy, counts.under_replicated, counts.missing), (0, 0, 0));
}

#[test]
fn half_of_an_old_pipeline_that_says_it_is_still_written_goes_when_the_block_is_whole() {
    let mut bench = Bench::new(3);
    bench.allocate(1, 2, Vec::new());
    bench.hold(2, record(block(1), STAMP, 10, ReplicaState::BeingWritten));
    restamp(&mut bench, 1, LATER, &[0, 1]);
    (0..2).for_each(|node| bench.hold(node, record(block(1), LATER, 60, ReplicaState::Finalized)));
    bench.run(70);
    assert!(bench.nodes[2].disks[0].held.contains_key(&block(1)));
    commit_at(&mut bench, 1, 60);
    bench.run(10);
    assert!(!bench.nodes[2].disks[0].held.contains_key(&block(1)));
}

#[test]
fn everything_is_looked_at_again_however_many_other_looks_there_are() {
    let mut bench = Bench::new(3);
    bench.file(1, 2, &[0, 1]);
    bench.wait(20);
    // What no event tells: the block lacks a copy that nobody reported as gone, and its verdict is lost.
    bench.world.blocks.get_mut(&block(1)).unwrap().replication = 3;
    let storage = bench.storage(2, 0);
    for secs in (0..1300).step_by(5) {
        assert!(secs < 700, "a full look in ten minutes");
        // A storage that holds nothing of it comes and goes: there is always some pass under way.
        bench.map.rescan(storage);
        bench.wait(5);
        bench.map.rescan(storage);
        if bench.map.counts().under_replicated == 1 {
            return;
        }
    }
}

#[test]
fn a_long_copy_gets_time_by_its_bytes() {
    let mut bench = Bench::new(2);
    bench.allocate(1, 2, Vec::new());
    let long = 1 << 30;
    bench.hold(0, record(block(1), STAMP, long, ReplicaState::Finalized));
    commit_at(&mut bench, 1, long);
    bench.wait(11);
    // At four MiB a second it takes 256 seconds beyond the two minutes.
    assert_eq!(copies(&bench.beat(0)), [block(1)]);
    let beats = |bench: &mut Bench, secs: u64| {
        let mut ordered = 0;
        for _ in 0..secs / 5 {
            bench.wait(5);
            ordered += copies(&bench.beat(0)).len();
        }
        ordered
    };
    assert_eq!(beats(&mut bench, 365), 0);
    assert_eq!(beats(&mut bench, 30), 1, "and not for ever");
}
