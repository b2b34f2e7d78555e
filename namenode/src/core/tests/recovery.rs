//! Files whose writers are gone: closed at what was flushed, whatever one node does.

use std::time::Duration;

use base::disk::MemDisk;
use proto::cluster::ReplicaState;
use proto::common::Block;
use proto::error::ErrorCode;
use proto::namespace as n;

use super::super::CoreConfig;
use super::harness::*;

/// Seconds in which everything must be over that one fault holds up.
const TWO_MINUTES: u64 = 120;
/// The hard limit of the harness, in seconds.
const LIMIT: u64 = 60;

/// A visible file with a block that is being written: how much each node has received, and passed acknowledgements of.
fn half_written(bench: &mut Bench, nodes: &mut [Datanode], session: u8) -> (n::CreateResponse, Block) {
    let created = bench.create("/tmp/f", session, n::Publish::AtOnce).unwrap();
    let block = created.first_block.clone().unwrap().block.unwrap();
    for (node, (received, acked)) in nodes.iter_mut().zip([(100, 80), (95, 85), (90, 90)]) {
        node.write(&block, received, acked);
        node.report(bench);
    }
    (created, block)
}
/// What the client was told: the acknowledgements of the first node.
const FLUSHED: u64 = 80;

fn recover(bench: &mut Bench, session: u8, number: u64) -> n::RecoverLeaseResponse {
    let (header, path) = (call(session, number), "/tmp/f".into());
    bench.ask(n::RecoverLeaseRequest { header, path, accept_loss: false }).unwrap()
}
fn leases(bench: &mut Bench, user: &str) -> Vec<n::LeaseStatus> {
    let answer: n::ListLeasesResponse =
        bench.ask_as(user, n::ListLeasesRequest { header: header(), ..Default::default() }).unwrap();
    answer.leases
}
/// Runs until the file is closed. The seconds that it took.
fn run_until_closed(bench: &mut Bench, nodes: &mut [Datanode]) -> u64 {
    for secs in 0..600 {
        if !bench.stat("/tmp/f").unwrap().open_for_write {
            return secs;
        }
        bench.run(1, nodes);
    }
    panic!("the file stays open: {:?}", leases(bench, "root"));
}
fn whole(nodes: &[Datanode], block: &Block) -> Vec<(u64, u64)> {
    let held = nodes.iter().filter_map(|node| node.held.get(&block.id));
    let whole = held.filter(|record| record.state == ReplicaState::Finalized as i32);
    whole.map(|record| (record.stamp, record.len_bytes)).collect()
}

#[test]
fn l_6_v_4_f_15_a_dead_clients_file_is_closed_at_what_it_flushed_with_one_node_dead_slow_or_corrupt() {
    type Fault = fn(&mut Datanode, &Block);
    let faults: [(&str, Fault); 5] = [
        ("none", |_, _| {}),
        ("dead", |node, _| node.up = false),
        ("slow", |node, _| node.hangs = true),
        ("corrupt", |node, block| node.put(block, ReplicaState::Corrupt)),
        ("empty", |node, block| node.put(block, ReplicaState::Deleted)),
    ];
    for (fault, spoil) in faults {
        for at in 0..3 {
            let mut bench = Bench::new();
            let mut nodes = bench.nodes(3);
            let (_, block) = half_written(&mut bench, &mut nodes, 1);
            spoil(&mut nodes[at], &block);
            bench.run(LIMIT - 5, &mut nodes);
            assert!(
                leases(&mut bench, "root").iter().all(|lease| !lease.recovering),
                "{fault} {at}: its writer may live"
            );
            bench.run(6, &mut nodes);
            let secs = run_until_closed(&mut bench, &mut nodes);
            assert!(secs <= TWO_MINUTES, "{fault} {at}: {secs}");
            let len_bytes = bench.stat("/tmp/f").unwrap().len_bytes;
            assert!((FLUSHED..=100).contains(&len_bytes), "{fault} {at}: {len_bytes}");
            let whole = whole(&nodes, &block);
            assert!(whole.len() >= 2 && whole.iter().all(|(stamp, len)| *stamp > block.stamp && *len == len_bytes));
            assert_eq!(bench.status().open_files, 0);
            let opened: n::OpenResponse =
                bench.ask(n::OpenRequest { header: header(), path: "/tmp/f".into(), ..Default::default() }).unwrap();
            assert!(!opened.blocks[0].open && opened.blocks[0].locations.len() >= 2, "{fault} {at}");
        }
    }
}

#[test]
fn f_1_one_node_that_is_left_is_enough_and_its_copy_is_made_more() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(5);
    let (_, block) = half_written(&mut bench, &mut nodes[..3], 1);
    (nodes[0].up, nodes[1].up) = (false, false);
    let at = bench.core.shared().blocks.read().replicas().odd_of(proto::ids::BlockId::from_raw(block.id)).len();
    assert_eq!(at, 3, "what nodes report of an open block is kept");
    assert!(!recover(&mut bench, 2, 1).closed);
    let secs = run_until_closed(&mut bench, &mut nodes);
    // The two that are silent, and have whole replicas perhaps, had a minute.
    assert!((60..=75).contains(&secs), "{secs}");
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 90);
    bench.run(60, &mut nodes);
    let copies = whole(&nodes, &block).len();
    assert!(copies >= 3, "a block with one copy is repaired before its nodes are dead: {copies}");
}

#[test]
fn sc_33_a_file_of_which_nothing_was_written_is_closed_empty() {
    for dead in [false, true] {
        let mut bench = Bench::new();
        let mut nodes = bench.nodes(3);
        bench.create("/tmp/f", 1, n::Publish::AtOnce).unwrap();
        nodes[1].up = !dead;
        assert!(!recover(&mut bench, 2, 1).closed);
        let secs = run_until_closed(&mut bench, &mut nodes);
        assert!(secs <= if dead { TWO_MINUTES } else { 10 }, "{secs}");
        assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 0);
        assert_eq!(bench.status().blocks, 0);
    }
}

#[test]
fn sc_25_a_close_that_comes_after_the_recovery_began_commits_nothing() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let (created, block) = half_written(&mut bench, &mut nodes, 1);
    assert!(!recover(&mut bench, 2, 1).closed);
    let last = finish(&block, 100, &mut nodes);
    let (inode, lease_epoch) = (created.inode, created.lease_epoch);
    let complete = n::CompleteRequest { header: call(1, 2), inode, lease_epoch, last: Some(last) };
    let refused = bench.ask::<n::CompleteResponse>(complete).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LeaseLost);
    run_until_closed(&mut bench, &mut nodes);
    // Its replicas were finalised, and their receipts were out: nothing of them is cut.
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 100);
    assert_eq!(whole(&nodes, &block).len(), 3);
}

#[test]
fn sc_25_a_close_that_comes_first_leaves_nothing_to_recover() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let (created, block) = half_written(&mut bench, &mut nodes, 1);
    let last = finish(&block, 100, &mut nodes);
    let (inode, lease_epoch) = (created.inode, created.lease_epoch);
    let complete = n::CompleteRequest { header: call(1, 2), inode, lease_epoch, last: Some(last) };
    bench.ask::<n::CompleteResponse>(complete).unwrap();
    assert!(recover(&mut bench, 2, 1).closed);
    bench.run(5, &mut nodes);
    assert!(whole(&nodes, &block).iter().all(|replica| *replica == (block.stamp, 100)));
}

#[test]
fn sc_26_a_new_leader_in_the_middle_begins_again_at_a_higher_stamp() {
    // At each second of a recovery.
    for at in 0..6 {
        let mut bench = Bench::new();
        let mut nodes = bench.nodes(3);
        let (_, block) = half_written(&mut bench, &mut nodes, 1);
        assert!(!recover(&mut bench, 2, 1).closed);
        bench.run(at, &mut nodes);
        let before: Vec<u64> = nodes.iter().filter_map(|node| node.prepared.get(&block.id).copied()).collect();
        let mut bench = bench.restart();
        nodes.iter_mut().for_each(|node| node.register(&mut bench));
        let secs = run_until_closed(&mut bench, &mut nodes);
        assert!(secs <= 30, "{at}: {secs}");
        let stat = bench.stat("/tmp/f").unwrap();
        assert!((FLUSHED..=100).contains(&stat.len_bytes));
        let whole = whole(&nodes, &block);
        assert!(whole.len() >= 2 && whole.windows(2).all(|pair| pair[0] == pair[1]), "{at}: {whole:?}");
        let after = nodes.iter().filter_map(|node| node.prepared.get(&block.id).copied()).max();
        if secs > 0 {
            assert!(before.iter().all(|stamp| Some(*stamp) < after), "{at}: {before:?} {after:?}");
        }
        assert_eq!(bench.status().open_files, 0);
    }
}

#[test]
fn sc_28_a_recovery_that_comes_to_nothing_is_tried_again_and_says_what_it_waits_for() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    half_written(&mut bench, &mut nodes, 1);
    nodes.iter_mut().for_each(|node| node.hangs = true);
    assert!(!recover(&mut bench, 2, 1).closed);
    bench.run(3, &mut nodes);
    let lease = leases(&mut bench, "root").remove(0);
    assert!(lease.recovering && lease.holder.is_empty(), "{lease:?}");
    assert!(lease.waits_for.contains("to say what it holds of"), "{}", lease.waits_for);
    assert!(!recover(&mut bench, 2, 2).closed, "asking again does not begin it again");
    let mut words = std::collections::BTreeSet::new();
    for _ in 0..60 {
        bench.run(1, &mut nodes);
        words.extend(leases(&mut bench, "root").into_iter().map(|lease| lease.waits_for));
    }
    assert!(words.iter().any(|text| text.contains("the next try in") && text.contains("answers")), "{words:?}");
    let refused = bench
        .ask::<n::AppendResponse>(n::AppendRequest { header: call(3, 1), path: "/tmp/f".into(), ..Default::default() })
        .unwrap_err();
    assert!(refused.retryable() && refused.message.contains("being recovered"), "{refused}");
    nodes.iter_mut().for_each(|node| node.hangs = false);
    let secs = run_until_closed(&mut bench, &mut nodes);
    assert!(secs <= 70, "{secs}");
    assert!(leases(&mut bench, "root").is_empty());
}

#[test]
fn sc_43_a_writer_that_gives_up_frees_its_file_at_once() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let (created, block) = half_written(&mut bench, &mut nodes, 1);
    let (inode, lease_epoch) = (created.inode, created.lease_epoch);
    // Its close failed: no datanode has finished its replica.
    let last = n::FinishedBlock { block: Some(Block { len_bytes: 100, ..block.clone() }), ..Default::default() };
    let complete = n::CompleteRequest { header: call(1, 2), inode, lease_epoch, last: Some(last) };
    bench.send("ana", complete);
    bench.pass(Duration::from_secs(1));
    bench.ask::<n::DiscardResponse>(n::DiscardRequest { header: call(1, 3), inode, lease_epoch }).unwrap();
    // The session lives on, and renews whatever else it writes.
    for _ in 0..10 {
        bench.ask::<n::RenewLeaseResponse>(n::RenewLeaseRequest { header: call(1, 4) }).unwrap();
        bench.run(1, &mut nodes);
    }
    assert!(!bench.stat("/tmp/f").unwrap().open_for_write);
    let append = n::AppendRequest { header: call(2, 1), path: "/tmp/f".into(), ..Default::default() };
    let appending: n::AppendResponse = bench.ask(append).unwrap();
    assert!(appending.status.unwrap().len_bytes >= FLUSHED);
}

#[test]
fn v_4_after_the_soft_limit_others_may_have_a_silent_writers_file() {
    let config = CoreConfig { lease_soft_limit: Duration::from_secs(10), ..config() };
    let mut bench = Bench::with(config, MemDisk::new());
    let mut nodes = bench.nodes(3);
    half_written(&mut bench, &mut nodes, 1);
    let append = |number| n::AppendRequest { header: call(2, number), path: "/tmp/f".into(), ..Default::default() };
    bench.run(8, &mut nodes);
    let refused = bench.ask::<n::AppendResponse>(append(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::FileOpen);
    assert!(refused.hint.contains("8 s ago"), "{}", refused.hint);
    bench.ask::<n::RenewLeaseResponse>(n::RenewLeaseRequest { header: call(1, 2) }).unwrap();
    bench.run(9, &mut nodes);
    bench.ask::<n::AppendResponse>(append(2)).unwrap_err();
    bench.run(2, &mut nodes);
    assert!(leases(&mut bench, "root").iter().all(|lease| !lease.recovering), "nobody asked for it");
    let refused = bench.ask::<n::AppendResponse>(append(3)).unwrap_err();
    assert!(refused.code == ErrorCode::FileOpen && refused.retryable(), "{refused}");
    assert!(refused.message.contains("silent for 11 s") && !refused.hint.is_empty(), "{refused}");
    // Who only wants to read takes nothing away, and whoever asks twice does not begin it twice.
    bench.ask::<n::AppendResponse>(append(4)).unwrap_err();
    let secs = run_until_closed(&mut bench, &mut nodes);
    assert!(secs <= 10, "{secs}");
    bench.ask::<n::AppendResponse>(append(5)).unwrap();
}

#[test]
fn v_4_a_stranger_cannot_take_a_file_that_he_may_not_write() {
    let config = CoreConfig { lease_soft_limit: Duration::from_secs(10), ..config() };
    let mut bench = Bench::with(config, MemDisk::new());
    let mut nodes = bench.nodes(3);
    half_written(&mut bench, &mut nodes, 1);
    bench.run(20, &mut nodes);
    let append = n::AppendRequest { header: call(2, 1), path: "/tmp/f".into(), ..Default::default() };
    let refused = bench.ask_as::<n::AppendResponse>("bob", append).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    let recover = n::RecoverLeaseRequest { header: call(2, 2), path: "/tmp/f".into(), accept_loss: false };
    let refused = bench.ask_as::<n::RecoverLeaseResponse>("bob", recover).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    assert!(leases(&mut bench, "root").iter().all(|lease| !lease.recovering));
    assert_eq!((leases(&mut bench, "bob").len(), leases(&mut bench, "ana").len()), (0, 1), "everybody sees his own");
}

#[test]
fn leases_are_listed_by_tree_and_page() {
    let mut bench = Bench::new();
    bench.nodes(3);
    bench.mkdir("/user/ana/d").unwrap();
    for at in 0..5 {
        bench.create(&format!("/user/ana/d/{at}"), 10 + at, n::Publish::OnClose).unwrap();
    }
    bench.create("/user/ana/dd", 20, n::Publish::AtOnce).unwrap();
    bench.pass(Duration::from_secs(7));
    let ask = |bench: &mut Bench, path: &str, start_after, limit| -> n::ListLeasesResponse {
        let (header, path) = (header(), path.into());
        bench.ask_as("root", n::ListLeasesRequest { header, path, start_after, limit }).unwrap()
    };
    let mut found = Vec::new();
    loop {
        let page = ask(&mut bench, "/user/ana/d", found.last().map_or(0, |lease: &n::LeaseStatus| lease.inode), 2);
        found.extend(page.leases);
        if !page.more {
            break;
        }
    }
    let paths: Vec<String> = found.iter().map(|lease| lease.path.clone()).collect();
    assert_eq!(paths, (0..5).map(|at| format!("/user/ana/d/{at}")).collect::<Vec<_>>());
    let first = &found[0];
    assert_eq!((first.owner.as_str(), first.published, first.silent_ms), ("ana", false, 7000));
    assert!(first.holder.len() == 12 && !first.holder.contains("0a0a"), "{}: a session is a secret", first.holder);
    assert_ne!(first.holder, found[1].holder, "but one can be told from another");
    let all = ask(&mut bench, "", 0, 0);
    assert_eq!((all.leases.len(), all.more), (6, false));
    assert_eq!(ask(&mut bench, "/", 0, 0).leases.len(), 6);
    assert!(all.leases.iter().any(|lease| lease.path == "/user/ana/dd" && lease.published));
}

#[test]
fn sc_72_safe_mode_ends_while_files_are_open_and_being_recovered() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    bench.file("/tmp/g", 5, &mut nodes).unwrap();
    half_written(&mut bench, &mut nodes, 1);
    let append = n::AppendRequest { header: call(6, 1), path: "/tmp/g".into(), ..Default::default() };
    bench.ask::<n::AppendResponse>(append).unwrap();
    bench.run(15, &mut nodes);
    let mut bench = bench.restart();
    nodes.iter_mut().for_each(|node| node.register(&mut bench));
    bench.run(2, &mut nodes);
    assert!(!bench.status().safe_mode);
    // Neither writer comes back.
    bench.run(LIMIT + 1, &mut nodes);
    run_until_closed(&mut bench, &mut nodes);
    bench.run(10, &mut nodes);
    assert_eq!(bench.status().open_files, 0);
    assert_eq!(bench.stat("/tmp/g").unwrap().len_bytes, 100, "what was committed stays");
}

#[test]
fn d_6_a_truncate_inside_a_block_cuts_its_replicas_and_closes_the_file() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    bench.file("/tmp/f", 5, &mut nodes).unwrap();
    bench.run(5, &mut nodes);
    let truncate =
        n::TruncateRequest { header: call(6, 1), path: "/tmp/f".into(), len_bytes: 40, ..Default::default() };
    let answer: n::TruncateResponse = bench.ask(truncate).unwrap();
    assert!(!answer.done);
    nodes[0].up = false;
    let secs = run_until_closed(&mut bench, &mut nodes);
    assert!(secs <= 30, "{secs}");
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 40);
    let cut: Vec<u64> = nodes[1..].iter().flat_map(|node| node.held.values().map(|record| record.len_bytes)).collect();
    assert_eq!(cut, [40, 40]);
    // The one that was away has the whole block at the old stamp: it counts for nothing, and goes when it is back.
    nodes[0].up = true;
    bench.run(90, &mut nodes);
    assert!(nodes.iter().all(|node| node.held.values().all(|record| record.len_bytes == 40)));
    assert_eq!(bench.status().under_replicated, 0);
}

#[test]
fn d_2_a_pipeline_of_which_one_is_silent_and_one_was_restarted_is_not_closed_shorter() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(2);
    let (_, block) = half_written(&mut bench, &mut nodes, 1);
    // The second one lost what was not synced; the first one has everything, and is away for ten minutes.
    nodes[0].up = false;
    nodes[1].held.get_mut(&block.id).unwrap().len_bytes = 20;
    nodes[1].held.get_mut(&block.id).unwrap().state = ReplicaState::WaitingRecovery as i32;
    nodes[1].restart(&mut bench);
    assert!(!recover(&mut bench, 2, 1).closed);
    bench.run(600, &mut nodes);
    assert!(bench.stat("/tmp/f").unwrap().open_for_write);
    nodes[0].up = true;
    let secs = run_until_closed(&mut bench, &mut nodes);
    assert!(secs <= 100, "{secs}");
    assert!(bench.stat("/tmp/f").unwrap().len_bytes >= FLUSHED);
}

#[test]
fn i_9_a_superuser_ends_a_recovery_whose_replicas_are_gone_for_good() {
    // One is left that was restarted; or none at all.
    for left in [true, false] {
        let mut bench = Bench::new();
        let mut nodes = bench.nodes(3);
        let (_, block) = half_written(&mut bench, &mut nodes, 1);
        (nodes[0].up, nodes[1].up, nodes[2].up) = (false, false, left);
        if left {
            nodes[2].held.get_mut(&block.id).unwrap().state = ReplicaState::WaitingRecovery as i32;
            nodes[2].restart(&mut bench);
        }
        assert!(!recover(&mut bench, 2, 1).closed);
        bench.run(400, &mut nodes);
        let lease = leases(&mut bench, "root").remove(0);
        assert!(lease.recovering, "{lease:?}");
        let mut words = std::collections::BTreeSet::new();
        for _ in 0..100 {
            bench.run(1, &mut nodes);
            words.extend(leases(&mut bench, "root").into_iter().map(|lease| lease.waits_for));
        }
        assert!(words.iter().any(|text| text.contains("lease recover --accept-loss")), "{words:?}");
        let accept = |number| {
            let (header, path) = (call(3, number), "/tmp/f".into());
            n::RecoverLeaseRequest { header, path, accept_loss: true }
        };
        let refused = bench.ask_as::<n::RecoverLeaseResponse>("ana", accept(1)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::PermissionDenied);
        bench.ask_as::<n::RecoverLeaseResponse>("root", accept(2)).unwrap();
        let secs = run_until_closed(&mut bench, &mut nodes);
        assert!(secs <= 40, "{secs}");
        assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, if left { 90 } else { 0 });
        assert_eq!(bench.status().open_files, 0);
    }
}

#[test]
fn i_9_a_block_that_readers_saw_is_missing_when_its_loss_is_accepted_and_the_rest_of_the_file_stays() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    bench.file("/tmp/f", 1, &mut nodes).unwrap();
    bench.run(5, &mut nodes);
    let append = n::AppendRequest { header: call(2, 1), path: "/tmp/f".into(), ..Default::default() };
    bench.ask::<n::AppendResponse>(append).unwrap();
    nodes.iter_mut().for_each(|node| node.up = false);
    bench.run(310, &mut nodes);
    let accept = n::RecoverLeaseRequest { header: call(3, 1), path: "/tmp/f".into(), accept_loss: true };
    bench.ask_as::<n::RecoverLeaseResponse>("root", accept).unwrap();
    let secs = run_until_closed(&mut bench, &mut nodes);
    assert!(secs <= 40, "{secs}");
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 100, "it shows as long as it was");
    bench.run(15, &mut nodes);
    assert_eq!(bench.status().missing, 1);
}

#[test]
fn l_6_an_appender_that_dies_early_keeps_nothing_open_after_its_copies_were_moved() {
    for truncated in [false, true] {
        let mut bench = Bench::new();
        let mut nodes = bench.nodes(6);
        bench.file("/tmp/f", 1, &mut nodes[..3]).unwrap();
        bench.run(15, &mut nodes);
        // The homes that the log names die, and the block is copied to the other nodes.
        nodes[..3].iter_mut().for_each(|node| node.up = false);
        nodes[2].up = true;
        bench.run(330, &mut nodes);
        let moved: Vec<usize> = (3..6).filter(|at| !nodes[*at].held.is_empty()).collect();
        assert!(moved.len() >= 2, "{moved:?}");
        nodes[2].up = false;
        bench.run(330, &mut nodes);
        let mut held: Vec<_> = (3..6).filter_map(|at| nodes[at].held.values().next().copied()).collect();
        assert_eq!(held.len(), 3);
        let record = held.remove(0);
        if truncated {
            let truncate =
                n::TruncateRequest { header: call(6, 1), path: "/tmp/f".into(), len_bytes: 40, ..Default::default() };
            bench.ask::<n::TruncateResponse>(truncate).unwrap();
        } else {
            let append = n::AppendRequest { header: call(2, 1), path: "/tmp/f".into(), ..Default::default() };
            let appending: n::AppendResponse = bench.ask(append).unwrap();
            assert_eq!(appending.last.as_ref().unwrap().locations.len(), 3, "where the copies are");
            // They are opened for the append, and its client dies before it tells.
            let block = appending.last.unwrap().block.unwrap();
            let begun = Block { stamp: appending.new_stamp, ..block };
            nodes[3..].iter_mut().for_each(|node| node.write(&begun, record.len_bytes + 5, record.len_bytes));
            bench.run(62, &mut nodes);
        }
        let secs = run_until_closed(&mut bench, &mut nodes);
        assert!(secs <= 40, "{truncated}: {secs}");
        let len_bytes = bench.stat("/tmp/f").unwrap().len_bytes;
        assert_eq!(
            len_bytes,
            if truncated { 40 } else { 100 },
            "the log knows of no pipeline through which more was sent"
        );
    }
}

#[test]
fn d_7_an_idle_appender_does_not_keep_what_was_committed_at_one_copy() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(5);
    bench.file("/tmp/f", 1, &mut nodes[..3]).unwrap();
    bench.run(15, &mut nodes);
    let append = n::AppendRequest { header: call(2, 1), path: "/tmp/f".into(), ..Default::default() };
    let appending: n::AppendResponse = bench.ask(append).unwrap();
    let block = appending.last.unwrap().block.unwrap();
    let renew = |bench: &mut Bench, nodes: &mut [Datanode], secs: u64| {
        for _ in 0..secs / 10 {
            bench.ask::<n::RenewLeaseResponse>(n::RenewLeaseRequest { header: call(2, 1) }).unwrap();
            bench.run(10, nodes);
        }
    };
    nodes[1].up = false;
    renew(&mut bench, &mut nodes, 400);
    assert_eq!(bench.status().under_replicated, 1, "it is counted");
    assert!(bench.stat("/tmp/f").unwrap().open_for_write, "two are enough for its writer");
    nodes[2].up = false;
    renew(&mut bench, &mut nodes, 290);
    assert!(bench.stat("/tmp/f").unwrap().open_for_write, "a silent node may come back");
    renew(&mut bench, &mut nodes, 60);
    let stat = bench.stat("/tmp/f").unwrap();
    assert_eq!((stat.open_for_write, stat.len_bytes), (false, 100));
    renew(&mut bench, &mut nodes, 60);
    assert_eq!(whole(&nodes, &block).iter().filter(|(stamp, _)| *stamp > block.stamp).count(), 3);
    assert_eq!(bench.status().under_replicated, 0);
    let late = n::UpdatePipelineRequest {
        header: call(2, 2),
        inode: appending.inode,
        lease_epoch: appending.lease_epoch,
        block: Some(block),
        new_stamp: appending.new_stamp,
        storages: Vec::new(),
    };
    assert_eq!(bench.ask::<n::UpdatePipelineResponse>(late).unwrap_err().code, ErrorCode::LeaseLost);
}

#[test]
fn r_1_recoveries_that_are_known_are_not_in_the_way_of_others_that_nobody_asked_for() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    // More than one look takes up, of which none ends: of files that were deleted, and that a snapshot sees.
    bench.mkdir("/user/ana/d").unwrap();
    let path = || "/user/ana/d".to_owned();
    let allow = n::AllowSnapshotsRequest { header: header(), path: path(), allow: true };
    bench.ask_as::<n::AllowSnapshotsResponse>("root", allow).unwrap();
    for at in 0..40 {
        bench.file(&format!("/user/ana/d/{at}"), at + 1, &mut nodes).unwrap();
    }
    bench.run(2, &mut nodes);
    let create = n::CreateSnapshotRequest { header: header(), path: path(), name: "s".into() };
    bench.ask::<n::CreateSnapshotResponse>(create).unwrap();
    for at in 0..40 {
        let path = format!("/user/ana/d/{at}");
        let append = n::AppendRequest { header: call(50 + at, 1), path: path.clone(), ..Default::default() };
        bench.ask::<n::AppendResponse>(append).unwrap();
        bench.delete(&path).unwrap();
    }
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.core.shared().namespace.read().recovering().count(), 40);
    assert_eq!(bench.core.shared().blocks.read().recoveries(), 40);
}
