//! Writers: blocks, proofs, leases.

use std::time::Duration;

use proto::cluster::ReplicaState;
use proto::common::Block;
use proto::error::ErrorCode;
use proto::namespace as n;

use super::super::CoreConfig;
use super::harness::*;

fn completion(created: &n::CreateResponse, session: u8, last: n::FinishedBlock) -> n::CompleteRequest {
    n::CompleteRequest {
        header: call(session, 2),
        inode: created.inode,
        lease_epoch: created.lease_epoch,
        last: Some(last),
    }
}
fn first_block(created: &n::CreateResponse) -> Block {
    created.first_block.clone().unwrap().block.unwrap()
}

#[test]
fn a_file_is_published_by_receipts_and_read_at_once() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let created = bench.create("/tmp/f", 1, n::Publish::OnClose).unwrap();
    let located = created.first_block.clone().unwrap();
    assert_eq!(located.locations.len(), 3);
    assert!(!located.token.is_empty());
    assert_eq!(bench.stat("/tmp/f").unwrap_err().code, ErrorCode::NotFound, "not before it is whole");
    let last = finish(&first_block(&created), 100, &mut nodes);
    bench.ask::<n::CompleteResponse>(completion(&created, 1, last)).unwrap();
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 100);
    let opened: n::OpenResponse =
        bench.ask(n::OpenRequest { header: header(), path: "/tmp/f".into(), ..Default::default() }).unwrap();
    assert_eq!(opened.blocks[0].locations.len(), 3, "before any report");
    let id = first_block(&created).id as u8;
    assert_eq!(opened.blocks[0].digest, vec![id; 16], "with the digest that its writer made");
}

#[test]
fn sc_65_forged_foreign_and_too_few_receipts_prove_nothing() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let created = bench.create("/tmp/f", 1, n::Publish::OnClose).unwrap();
    let block = first_block(&created);
    let good = finish(&block, 100, &mut nodes);
    let refused = |bench: &mut Bench, last: n::FinishedBlock| {
        let ticket = bench.send("ana", completion(&created, 1, last));
        bench.settle();
        bench.pass(Duration::from_secs(1));
        bench.replies[&ticket].clone().unwrap_err().code
    };
    let one = n::FinishedBlock { receipts: good.receipts[..1].to_vec(), ..good.clone() };
    assert_eq!(refused(&mut bench, one.clone()), ErrorCode::NotReplicatedYet);
    let mut doubled = one.clone();
    doubled.receipts.push(one.receipts[0].clone());
    assert_eq!(refused(&mut bench, doubled), ErrorCode::NotReplicatedYet, "one node is one copy");
    let mut forged = good.clone();
    forged.receipts[0].mac = vec![7; 36].into();
    forged.receipts[1].node.clone_from(&nodes[2].name);
    assert_eq!(refused(&mut bench, forged), ErrorCode::BadToken);
    let longer = Block { len_bytes: 101, ..good.block.clone().unwrap() };
    assert_eq!(refused(&mut bench, n::FinishedBlock { block: Some(longer), ..good.clone() }), ErrorCode::BadToken);
    let stamped = Block { stamp: block.stamp + 1, ..good.block.clone().unwrap() };
    assert_eq!(refused(&mut bench, n::FinishedBlock { block: Some(stamped), ..good.clone() }), ErrorCode::StaleStamp);
    assert_eq!(refused(&mut bench, n::FinishedBlock::default()), ErrorCode::InvalidArgument);
    assert_eq!(bench.stat("/tmp/f").unwrap_err().code, ErrorCode::NotFound, "never half a file");
    bench.ask::<n::CompleteResponse>(completion(&created, 1, good)).unwrap();
}

#[test]
fn a_completion_without_receipts_waits_for_reports_and_not_for_ever() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let created = bench.create("/tmp/f", 1, n::Publish::OnClose).unwrap();
    let last = n::FinishedBlock { receipts: Vec::new(), ..finish(&first_block(&created), 100, &mut nodes) };
    let ticket = bench.send("ana", completion(&created, 1, last.clone()));
    bench.settle();
    assert_eq!(bench.unanswered(), 1);
    bench.pass(Duration::from_millis(500));
    assert_eq!(bench.replies[&ticket].as_ref().unwrap_err().code, ErrorCode::NotReplicatedYet);
    let ticket = bench.send("ana", completion(&created, 1, last));
    bench.settle();
    nodes[0].report(&mut bench);
    assert_eq!(bench.unanswered(), 1, "one report is too little");
    nodes[1].report(&mut bench);
    assert!(bench.replies[&ticket].is_ok(), "with the second it is answered at once");
}

#[test]
fn completions_that_wait_for_reports_are_bounded() {
    let config = CoreConfig { max_waiting: 8, ..config() };
    let mut bench = Bench::with(config, base::disk::MemDisk::new());
    let mut nodes = bench.nodes(2);
    let created = bench.create("/tmp/f", 1, n::Publish::OnClose).unwrap();
    let last = n::FinishedBlock { receipts: Vec::new(), ..finish(&first_block(&created), 100, &mut nodes) };
    let tickets: Vec<_> = (0..20).map(|_| bench.send("ana", completion(&created, 1, last.clone()))).collect();
    bench.settle();
    let overloaded = |bench: &Bench| {
        bench.replies.values().filter(|r| r.as_ref().is_err_and(|e| e.code == ErrorCode::Overloaded)).count()
    };
    assert_eq!((bench.unanswered(), overloaded(&bench)), (8, 12));
    nodes.iter_mut().for_each(|node| node.report(&mut bench));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.unanswered(), 0);
    assert_eq!(tickets.iter().filter(|ticket| bench.replies[ticket].is_ok()).count(), 8, "the same call, once");
}

#[test]
fn v_4_a_silent_writers_unpublished_file_vanishes_and_its_blocks_go() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    bench.file("/tmp/f", 1, &mut nodes).unwrap();
    let draft = bench.create("/tmp/f", 2, n::Publish::OnClose).unwrap();
    let block = Block { len_bytes: 10, ..first_block(&draft) };
    nodes[0].put(&block, ReplicaState::WaitingRecovery);
    assert_eq!(bench.status().open_files, 1);
    bench.run(50, &mut nodes);
    let renewed: n::RenewLeaseResponse = bench.ask(n::RenewLeaseRequest { header: call(2, 2) }).unwrap();
    assert_eq!(renewed.lease_ms, 60_000);
    bench.run(55, &mut nodes);
    assert_eq!(bench.status().open_files, 1, "renewed after fifty seconds");
    bench.run(20, &mut nodes);
    assert_eq!(bench.status().open_files, 0);
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 100, "what it would have replaced stays");
    bench.run(60, &mut nodes);
    assert!(!nodes[0].held.contains_key(&block.id));
    let late = completion(&draft, 2, finish(&block, 10, &mut nodes[1..]));
    assert!(bench.ask::<n::CompleteResponse>(late).is_err(), "the writer has lost its lease");
}

#[test]
fn a_visible_file_can_be_deleted_or_overwritten_while_it_is_open_and_is_closed_when_its_writer_is_gone() {
    for end in ["delete", "overwrite", "rename over", "nothing"] {
        let mut bench = Bench::new();
        let mut nodes = bench.nodes(3);
        bench.create("/tmp/f", 1, n::Publish::AtOnce).unwrap();
        bench.run(50, &mut nodes);
        let left = bench.stat("/tmp/f").unwrap();
        assert!(left.open_for_write, "it is listed as open");
        assert_eq!(bench.status().open_files, 1);
        match end {
            "nothing" => bench.run(20, &mut nodes),
            "delete" => {
                bench.delete("/tmp/f").unwrap();
                assert_eq!(bench.stat("/tmp/f").unwrap_err().code, ErrorCode::NotFound);
            }
            "overwrite" => assert!(!bench.file("/tmp/f", 2, &mut nodes).unwrap().open_for_write),
            _ => {
                bench.file("/tmp/g", 2, &mut nodes).unwrap();
                let (from, to) = ("/tmp/g".into(), "/tmp/f".into());
                let rename = n::RenameRequest { header: header(), from, to, replace: true, exchange: false };
                bench.ask::<n::RenameResponse>(rename).unwrap();
                assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 100);
            }
        }
        bench.pass(Duration::from_secs(2));
        assert_eq!(bench.status().open_files, 0, "{end}");
        let mut bench = bench.restart();
        assert_eq!(bench.status().open_files, 0, "{end}");
    }
}

#[test]
fn too_few_nodes_with_room_are_named_in_the_refusal() {
    let mut bench = Bench::new();
    let refused = bench.create("/tmp/f", 1, n::Publish::OnClose).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotEnoughNodes);
    assert!(refused.message.contains("0 of 3") && !refused.hint.is_empty(), "{refused}");
    assert_eq!(bench.status().open_files, 0);
    let mut nodes = bench.nodes(1);
    bench.file("/tmp/f", 2, &mut nodes).unwrap();
}

#[test]
fn r_1_files_that_are_taken_from_a_session_that_lives_are_not_kept_with_it() {
    let mut bench = Bench::new();
    for n in 1..=300 {
        let path = format!("/tmp/f{n}");
        let header = call(5, n);
        let create = n::CreateRequest {
            header,
            with_first_block: false,
            publish: n::Publish::AtOnce as i32,
            ..create(&path, 5)
        };
        bench.ask::<n::CreateResponse>(create).unwrap();
        bench.delete(&path).unwrap();
    }
    let count = bench.core.shared().leases.read().count();
    assert!(count < 5, "{count} files of a session that writes none");
}
