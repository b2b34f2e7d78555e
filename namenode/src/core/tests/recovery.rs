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
    bench.ask(n::RecoverLeaseRequest { header: call(session, number), path: "/tmp/f".into() }).unwrap()
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
    assert!(secs <= 60, "{secs}");
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
    let recover = n::RecoverLeaseRequest { header: call(2, 2), path: "/tmp/f".into() };
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
        n::TruncateRequest { header: call(6, 1), path: "/tmp/f".into(), len_bytes: 40, expected_len_bytes: None };
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
