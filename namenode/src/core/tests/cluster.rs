//! Datanodes through the core: registration, repair end to end, damage.

use std::time::Duration;

use proto::cluster as c;
use proto::error::ErrorCode;
use proto::namespace as n;

use super::harness::*;

#[test]
fn f_17_registrations_that_cannot_be_right_are_refused() {
    let mut bench = Bench::new();
    bench.nodes(1);
    let base = Datanode::new(5).registration();
    let code = |bench: &mut Bench, request: c::RegisterRequest| {
        let answer = bench.ask::<c::RegisterResponse>(request);
        answer.map_err(|error| error.code).err()
    };
    let other_cluster = c::RegisterRequest { cluster: "CID-2".into(), ..base.clone() };
    assert_eq!(code(&mut bench, other_cluster), Some(ErrorCode::WrongCluster));
    let copied_disk = c::RegisterRequest { storages: Datanode::new(0).registration().storages, ..base.clone() };
    assert_eq!(code(&mut bench, copied_disk), Some(ErrorCode::WrongCluster));
    for bad in [
        c::RegisterRequest { storages: Vec::new(), ..base.clone() },
        c::RegisterRequest { host: String::new(), ..base.clone() },
        c::RegisterRequest { transfer_port: 70_000, ..base.clone() },
        c::RegisterRequest { node: "a/b".into(), ..base.clone() },
        c::RegisterRequest { local_socket: "x".repeat(108), ..base.clone() },
        c::RegisterRequest { machine: "x".repeat(65), ..base.clone() },
        c::RegisterRequest { storages: vec![base.storages[0].clone(); 1025], ..base.clone() },
    ] {
        assert_eq!(code(&mut bench, bad), Some(ErrorCode::InvalidArgument));
    }
    let nodes: n::ListNodesResponse = bench.ask(n::ListNodesRequest { header: header() }).unwrap();
    assert_eq!(nodes.nodes.len(), 1, "nothing of it is remembered");
    assert_eq!(code(&mut bench, base), None);
}

#[test]
fn new_storages_are_logged_and_the_registration_is_answered_once() {
    let mut bench = Bench::new();
    let mut request = Datanode::new(0).registration();
    for more in 1..40 {
        request.storages.push(Datanode::new(100 + more).registration().storages[0].clone());
    }
    // Two at once, as after a lost answer.
    let tickets = [bench.send("ana", request.clone()), bench.send("ana", request)];
    bench.settle();
    assert!(tickets.iter().all(|ticket| bench.replies[ticket].is_ok()));
    let mut bench = bench.restart();
    let nodes: n::ListNodesResponse = bench.ask(n::ListNodesRequest { header: header() }).unwrap();
    assert_eq!((nodes.nodes.len(), nodes.nodes[0].storages.len()), (1, 40));
    assert_eq!(nodes.nodes[0].state, "dead", "known, not heard of");
}

#[test]
fn a_dead_nodes_blocks_are_copied_and_its_return_trims_what_is_too_much() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(4);
    for n in 0..12 {
        let at = n % 4;
        let mut three: Vec<_> = Vec::new();
        for offset in 0..3 {
            three.push((at + offset) % 4);
        }
        let created = bench.create(&format!("/tmp/{n}"), n as u8 + 1, n::Publish::OnClose).unwrap();
        let block = created.first_block.clone().unwrap().block.unwrap();
        let mut receipts = Vec::new();
        let mut last = None;
        for node in three {
            let finished = finish(&block, 100, &mut nodes[node..=node]);
            receipts.extend(finished.receipts.clone());
            last = Some(finished);
        }
        let last = last.map(|finished| n::FinishedBlock { receipts, ..finished });
        let (inode, lease_epoch) = (created.inode, created.lease_epoch);
        let request = n::CompleteRequest { header: call(n as u8 + 1, 2), inode, lease_epoch, last };
        bench.ask::<n::CompleteResponse>(request).unwrap();
    }
    bench.run(15, &mut nodes);
    assert_eq!(bench.status().under_replicated, 0);
    nodes[1].up = false;
    bench.run(330, &mut nodes);
    let copies = |nodes: &[Datanode], up: bool| {
        let mut counts = std::collections::BTreeMap::new();
        for node in nodes.iter().filter(|node| node.up || !up) {
            node.held.keys().for_each(|block| *counts.entry(*block).or_insert(0) += 1);
        }
        counts
    };
    assert!(copies(&nodes, true).values().all(|count| *count == 3), "{:?}", copies(&nodes, true));
    let status = bench.status();
    assert_eq!((status.under_replicated, status.dead_nodes, status.live_nodes), (0, 1, 3));
    nodes[1].up = true;
    bench.run(60, &mut nodes);
    assert!(copies(&nodes, false).values().all(|count| *count == 3), "{:?}", copies(&nodes, false));
    assert_eq!(copies(&nodes, false).len(), 12);
    assert_eq!(bench.status().pending_delete, 0);
}

#[test]
fn a_damaged_replica_that_a_reader_names_is_replaced() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(4);
    let file = bench.create("/tmp/f", 1, n::Publish::OnClose).unwrap();
    let block = file.first_block.clone().unwrap().block.unwrap();
    let last = finish(&block, 100, &mut nodes[..3]);
    let named = last.block.clone();
    let (inode, lease_epoch) = (file.inode, file.lease_epoch);
    let request = n::CompleteRequest { header: call(1, 2), inode, lease_epoch, last: Some(last) };
    bench.ask::<n::CompleteResponse>(request).unwrap();
    bench.run(70, &mut nodes);
    let storages = vec![nodes[0].storage.clone(), "DS-unknown".into(), "nonsense".into()];
    let report = n::ReportBadReplicaRequest { header: header(), block: named.clone(), storages };
    bench.ask::<n::ReportBadReplicaResponse>(report.clone()).unwrap();
    assert_eq!(bench.status().corrupt, 1);
    bench.run(40, &mut nodes);
    assert_eq!(bench.status().corrupt, 0);
    assert!(nodes[3].held.contains_key(&block.id));
    let whole = nodes.iter().filter(|node| node.held.contains_key(&block.id)).count();
    assert_eq!(whole, 3);
    // One of another stamp is not believed.
    let stale = named.map(|block| proto::common::Block { stamp: block.stamp + 1, ..block });
    let storages = vec![nodes[1].storage.clone()];
    bench.ask::<n::ReportBadReplicaResponse>(n::ReportBadReplicaRequest { block: stale, storages, ..report }).unwrap();
    assert_eq!(bench.status().corrupt, 0);
}

#[test]
fn a_deleted_tree_gives_its_blocks_back_on_every_node() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(2);
    bench.mkdir("/tmp/d").unwrap();
    for n in 0..20 {
        bench.file(&format!("/tmp/d/{n}"), n + 1, &mut nodes).unwrap();
    }
    bench.run(65, &mut nodes);
    assert_eq!(nodes[0].held.len(), 20);
    assert_eq!(bench.delete("/tmp/d").unwrap().files, 20);
    bench.run(35, &mut nodes);
    assert!(nodes.iter().all(|node| node.held.is_empty()));
    let status = bench.status();
    assert_eq!((status.blocks, status.pending_delete), (0, 0));
    bench.pass(Duration::from_secs(1));
}
