//! Pipelines that are repaired, and files that are written on.

use auth::token;
use proto::cluster::ReplicaState;
use proto::common::{Block, LocatedBlock};
use proto::error::{ErrorCode, FsResult};
use proto::namespace as n;

use super::harness::*;

/// What this test looks at of a token's claims.
#[derive(Clone, PartialEq, prost::Message)]
struct Claims {
    #[prost(uint64, tag = "3")]
    floor: u64,
    #[prost(uint64, tag = "4")]
    ceiling: u64,
}
/// Stamps that a token is good for.
fn stamps(located: &LocatedBlock) -> (u64, u64) {
    let token = token::decode(&located.token).unwrap();
    let claims = <Claims as prost::Message>::decode(token.identifier).unwrap();
    (claims.floor, claims.ceiling)
}
fn names(located: &LocatedBlock) -> Vec<&str> {
    located.locations.iter().map(|location| location.storage.as_str()).collect()
}

struct Writing {
    created: n::CreateResponse,
    block: Block,
    storages: Vec<String>,
}

fn writing(bench: &mut Bench, nodes: &mut [Datanode]) -> Writing {
    let created = bench.create("/tmp/f", 1, n::Publish::AtOnce).unwrap();
    let located = created.first_block.clone().unwrap();
    let block = located.block.clone().unwrap();
    let storages: Vec<String> = names(&located).into_iter().map(ToOwned::to_owned).collect();
    for node in nodes.iter_mut().filter(|node| storages.contains(&node.storage)) {
        node.write(&block, 100, 80);
        node.report(bench);
    }
    Writing { created, block, storages }
}
impl Writing {
    fn new_stamp(&self, number: u64, keep: &[String], more: u32) -> n::NewStampRequest {
        n::NewStampRequest {
            header: call(1, number),
            inode: self.created.inode,
            lease_epoch: self.created.lease_epoch,
            block: Some(self.block.clone()),
            keep: keep.to_vec(),
            more,
            ..Default::default()
        }
    }
    fn update(&self, number: u64, new_stamp: u64, storages: &[String]) -> n::UpdatePipelineRequest {
        n::UpdatePipelineRequest {
            header: call(1, number),
            inode: self.created.inode,
            lease_epoch: self.created.lease_epoch,
            block: Some(Block { len_bytes: 80, ..self.block.clone() }),
            new_stamp,
            storages: storages.to_vec(),
        }
    }
    fn complete(&self, number: u64, last: n::FinishedBlock) -> n::CompleteRequest {
        let (inode, lease_epoch) = (self.created.inode, self.created.lease_epoch);
        n::CompleteRequest { header: call(1, number), inode, lease_epoch, last: Some(last) }
    }
}
fn node_of<'n>(nodes: &'n mut [Datanode], storage: &str) -> &'n mut Datanode {
    nodes.iter_mut().find(|node| node.storage == storage).unwrap()
}
/// Receipts of these storages for a block.
fn finish_on(nodes: &mut [Datanode], block: &Block, len_bytes: u64, storages: &[String]) -> n::FinishedBlock {
    let mut last = n::FinishedBlock::default();
    for storage in storages {
        let node = std::slice::from_mut(node_of(nodes, storage));
        let finished = finish(block, len_bytes, node);
        last.receipts.extend(finished.receipts.clone());
        (last.block, last.digest) = (finished.block, finished.digest);
    }
    last
}
fn open(bench: &mut Bench) -> n::OpenResponse {
    bench.ask(n::OpenRequest { header: header(), path: "/tmp/f".into(), ..Default::default() }).unwrap()
}

#[test]
fn a_pipeline_is_repaired_with_a_new_stamp_and_another_node() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(5);
    let file = writing(&mut bench, &mut nodes);
    let (failed, keep) = (file.storages[0].clone(), file.storages[1..].to_vec());
    node_of(&mut nodes, &failed).up = false;
    let failed_node = node_of(&mut nodes, &failed).name.clone();
    let request = n::NewStampRequest { exclude_nodes: vec![failed_node.clone()], ..file.new_stamp(2, &keep, 1) };
    let answer: n::NewStampResponse = bench.ask(request.clone()).unwrap();
    let located = answer.block.clone().unwrap();
    let new_stamp = located.block.as_ref().unwrap().stamp;
    assert!(new_stamp > file.block.stamp);
    assert_eq!(stamps(&located), (file.block.stamp, new_stamp), "for replicas of both stamps");
    assert_eq!(names(&located)[..2], [keep[0].as_str(), keep[1].as_str()], "in the order of the pipeline");
    assert_eq!(located.locations.len(), 3);
    let third = located.locations[2].storage.clone();
    assert!(!file.storages.contains(&third) && located.locations[2].node != failed_node);
    // The same call again is answered the same, whatever became of the nodes meanwhile.
    node_of(&mut nodes, &third).up = false;
    bench.run(15, &mut nodes);
    let again: n::NewStampResponse = bench.ask(request).unwrap();
    assert_eq!(again.block.unwrap().locations, located.locations);
    node_of(&mut nodes, &third).up = true;

    // A reader sees the pipeline that is in force.
    let seen = open(&mut bench).blocks.remove(0);
    assert!(seen.open && seen.block.as_ref().unwrap().len_bytes == 0);
    assert_eq!(stamps(&seen), (file.block.stamp, new_stamp), "its replicas may have either stamp");
    let pipeline: Vec<String> = [keep.as_slice(), std::slice::from_ref(&third)].concat();
    bench.ask::<n::UpdatePipelineResponse>(file.update(3, new_stamp, &pipeline)).unwrap();
    let seen = open(&mut bench).blocks.remove(0);
    assert_eq!(seen.block.as_ref().unwrap().stamp, new_stamp);
    assert!(
        names(&seen).iter().all(|storage| pipeline.iter().any(|other| other == storage)),
        "the old one counts no more"
    );

    // What was finished at the old stamp is no proof (SC-65), also with receipts.
    let stale = finish_on(&mut nodes, &file.block, 100, &file.storages);
    let refused = bench.ask::<n::CompleteResponse>(file.complete(4, stale)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::StaleStamp);
    let block = Block { stamp: new_stamp, ..file.block.clone() };
    let last = finish_on(&mut nodes, &block, 120, &pipeline);
    let done: n::CompleteResponse = bench.ask(file.complete(5, last)).unwrap();
    assert_eq!(done.status.unwrap().len_bytes, 120);
    // The replica of the node that failed goes once it is back and the others are proven.
    node_of(&mut nodes, &failed).up = true;
    bench.run(90, &mut nodes);
    assert!(!node_of(&mut nodes, &failed).held.contains_key(&block.id));
    assert_eq!(nodes.iter().filter(|node| node.held.contains_key(&block.id)).count(), 3);
}

#[test]
fn a_repeated_call_with_another_block_gets_no_token_for_it() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let file = writing(&mut bench, &mut nodes);
    let request = file.new_stamp(2, &file.storages, 0);
    let answer: n::NewStampResponse = bench.ask(request.clone()).unwrap();
    let new_stamp = answer.block.unwrap().block.unwrap().stamp;
    // Somebody else's block, of which he knows the id and the storages.
    let other = bench.create("/tmp/other", 5, n::Publish::AtOnce).unwrap();
    let theirs = other.first_block.clone().unwrap().block.unwrap();
    let older = Block { stamp: file.block.stamp - 1, ..file.block.clone() };
    for block in [theirs.clone(), older] {
        let forged = n::NewStampRequest { block: Some(block), ..request.clone() };
        let refused = bench.ask::<n::NewStampResponse>(forged).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{refused}");
    }
    let (inode, lease_epoch) = (other.inode, other.lease_epoch);
    let forged = n::NewStampRequest { inode, lease_epoch, block: Some(theirs), ..request.clone() };
    bench.ask::<n::NewStampResponse>(forged).unwrap_err();
    bench.ask::<n::NewStampResponse>(request.clone()).unwrap();
    // Once the pipeline stands, the answer of before is good for nothing.
    bench.ask::<n::UpdatePipelineResponse>(file.update(3, new_stamp, &file.storages)).unwrap();
    let refused = bench.ask::<n::NewStampResponse>(request).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument, "{refused}");
}

#[test]
fn d_7_a_pipeline_below_the_minimum_is_refused() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let file = writing(&mut bench, &mut nodes);
    let keep = file.storages[..1].to_vec();
    let exclude_nodes = file.storages[1..].iter().map(|storage| node_of(&mut nodes, storage).name.clone()).collect();
    let request = n::NewStampRequest { exclude_nodes, ..file.new_stamp(2, &keep, 2) };
    let answer: n::NewStampResponse = bench.ask(request).unwrap();
    let located = answer.block.unwrap();
    assert_eq!(located.locations.len(), 1, "no further node is an answer as well");
    let new_stamp = located.block.unwrap().stamp;
    let refused = bench.ask::<n::UpdatePipelineResponse>(file.update(3, new_stamp, &keep)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::WriteFailed);
    let unknown = n::NewStampRequest { keep: vec!["DS-unknown".into()], ..file.new_stamp(4, &[], 0) };
    assert_eq!(bench.ask::<n::NewStampResponse>(unknown).unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn sc_42_a_node_that_restarts_between_new_stamp_and_update_stays_in_the_pipeline() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let file = writing(&mut bench, &mut nodes);
    let answer: n::NewStampResponse = bench.ask(file.new_stamp(2, &file.storages, 0)).unwrap();
    let new_stamp = answer.block.unwrap().block.unwrap().stamp;
    nodes[1].restart(&mut bench);
    bench.ask::<n::UpdatePipelineResponse>(file.update(3, new_stamp, &file.storages)).unwrap();
    let block = Block { stamp: new_stamp, ..file.block.clone() };
    nodes[1].restart(&mut bench);
    let last = finish_on(&mut nodes, &block, 100, &file.storages);
    bench.ask::<n::CompleteResponse>(file.complete(4, last)).unwrap();
    bench.run(5, &mut nodes);
    let seen = open(&mut bench).blocks.remove(0);
    assert_eq!((seen.locations.len(), seen.open), (3, false));
}

#[test]
fn the_first_flush_publishes_a_file_that_is_written_on() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let created = bench.create("/tmp/f", 1, n::Publish::OnClose).unwrap();
    let block = created.first_block.clone().unwrap().block.unwrap();
    assert_eq!(bench.stat("/tmp/f").unwrap_err().code, ErrorCode::NotFound);
    let (inode, lease_epoch) = (created.inode, created.lease_epoch);
    for number in [2, 3] {
        let published: n::PublishResponse =
            bench.ask(n::PublishRequest { header: call(1, number), inode, lease_epoch }).unwrap();
        assert!(published.status.unwrap().open_for_write);
    }
    assert!(bench.stat("/tmp/f").unwrap().open_for_write);
    let last = finish(&block, 50, &mut nodes);
    let complete = n::CompleteRequest { header: call(1, 4), inode, lease_epoch, last: Some(last) };
    bench.ask::<n::CompleteResponse>(complete).unwrap();
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 50);
}

fn append(bench: &mut Bench, number: u64) -> FsResult<n::AppendResponse> {
    let client_host = "host-n1".to_owned();
    bench.ask(n::AppendRequest { header: call(2, number), path: "/tmp/f".into(), client_host, new_block: false })
}

#[test]
fn d_6_an_append_goes_on_with_the_good_replicas_and_nothing_is_copied_or_removed_meanwhile() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(4);
    let created = bench.create("/tmp/f", 1, n::Publish::OnClose).unwrap();
    let block = created.first_block.clone().unwrap().block.unwrap();
    // Whole on three nodes and damaged on the fourth, which the append must not be sent to.
    let last = finish(&block, 100, &mut nodes[..3]);
    let (inode, lease_epoch) = (created.inode, created.lease_epoch);
    bench
        .ask::<n::CompleteResponse>(n::CompleteRequest { header: call(1, 2), inode, lease_epoch, last: Some(last) })
        .unwrap();
    nodes[3].put(&Block { len_bytes: 100, ..block.clone() }, ReplicaState::Corrupt);
    bench.run(5, &mut nodes);
    let appending = append(&mut bench, 1).unwrap();
    assert_eq!(appending.status.as_ref().unwrap().len_bytes, 100, "the length comes with the lease (SC-29)");
    let last = appending.last.clone().unwrap();
    assert_eq!(stamps(&last), (block.stamp, appending.new_stamp));
    assert_eq!((last.block.as_ref().unwrap().len_bytes, last.locations.len()), (100, 3));
    assert_eq!(last.locations[0].storage, nodes[1].storage, "the writer's own node first");
    assert!(!names(&last).contains(&nodes[3].storage.as_str()));
    assert_eq!(bench.stat("/tmp/f").unwrap().len_bytes, 100, "what was there can be seen all the time");

    // Only two nodes take part; nothing is made of it while it is open.
    let pipeline: Vec<String> = nodes[..2].iter().map(|node| node.storage.clone()).collect();
    let update = n::UpdatePipelineRequest {
        header: call(2, 2),
        inode: appending.inode,
        lease_epoch: appending.lease_epoch,
        block: Some(Block { len_bytes: 100, ..block.clone() }),
        new_stamp: appending.new_stamp,
        storages: pipeline.clone(),
    };
    bench.ask::<n::UpdatePipelineResponse>(update).unwrap();
    let appended = Block { stamp: appending.new_stamp, ..block.clone() };
    nodes[..2].iter_mut().for_each(|node| node.write(&appended, 150, 150));
    let keep_alive = |bench: &mut Bench| {
        bench.ask::<n::RenewLeaseResponse>(n::RenewLeaseRequest { header: call(2, 3) }).unwrap();
    };
    for _ in 0..5 {
        keep_alive(&mut bench);
        bench.run(20, &mut nodes);
    }
    let status = bench.status();
    // That it lacks one of what was committed shows all the same.
    assert_eq!((status.pending_copy, status.pending_delete, status.under_replicated), (0, 0, 1));
    assert!(nodes.iter().all(|node| node.held.contains_key(&block.id)), "the replicas of before are kept as well");
    let seen = open(&mut bench).blocks.remove(0);
    assert!(seen.open && names(&seen).len() == 2);

    let last = finish_on(&mut nodes, &appended, 150, &pipeline);
    let (inode, lease_epoch) = (appending.inode, appending.lease_epoch);
    let complete = n::CompleteRequest { header: call(2, 4), inode, lease_epoch, last: Some(last) };
    bench.ask::<n::CompleteResponse>(complete).unwrap();
    bench.run(90, &mut nodes);
    let whole = |node: &&Datanode| node.held.get(&block.id).is_some_and(|held| held.len_bytes == 150);
    assert_eq!(nodes.iter().filter(whole).count(), 3, "made up to three, over what was left of before");
    assert!(nodes.iter().all(|node| node.held.get(&block.id).is_none_or(|held| held.len_bytes == 150)));
}

#[test]
fn d_6_an_appender_that_dies_leaves_what_was_committed_and_what_it_flushed() {
    for flushed in [0, 40] {
        let mut bench = Bench::new();
        let mut nodes = bench.nodes(3);
        bench.file("/tmp/f", 1, &mut nodes).unwrap();
        bench.run(3, &mut nodes);
        let appending = append(&mut bench, 1).unwrap();
        let last = appending.last.clone().unwrap();
        let block = last.block.clone().unwrap();
        if flushed > 0 {
            let update = n::UpdatePipelineRequest {
                header: call(2, 2),
                inode: appending.inode,
                lease_epoch: appending.lease_epoch,
                block: Some(block.clone()),
                new_stamp: appending.new_stamp,
                storages: names(&last).into_iter().map(ToOwned::to_owned).collect(),
            };
            bench.ask::<n::UpdatePipelineResponse>(update).unwrap();
            let appended = Block { stamp: appending.new_stamp, ..block.clone() };
            nodes.iter_mut().for_each(|node| node.write(&appended, 100 + flushed + 10, 100 + flushed));
            // One of them never heard of it.
            nodes[2].put(&block, ReplicaState::Finalized);
        }
        bench.run(65, &mut nodes);
        bench.run(20, &mut nodes);
        let stat = bench.stat("/tmp/f").unwrap();
        assert!(!stat.open_for_write);
        assert!(stat.len_bytes >= 100 + flushed, "{} of {flushed}", stat.len_bytes);
        bench.run(60, &mut nodes);
        assert_eq!(bench.status().under_replicated, 0);
    }
}

#[test]
fn sc_38_a_writer_whose_nodes_all_restart_gets_those_back_that_are_up_again() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(3);
    let file = writing(&mut bench, &mut nodes);
    let [a, b, c] = [0, 1, 2].map(|at| file.storages[at].clone());
    let [node_a, node_b] = [&a, &b].map(|storage| node_of(&mut nodes, storage).name.clone());
    let more = |bench: &mut Bench, number, keep: &[&String], exclude_nodes: &[&String]| {
        let keep: Vec<String> = keep.iter().map(|storage| (*storage).clone()).collect();
        let exclude_nodes = exclude_nodes.iter().map(|node| (*node).clone()).collect();
        let wanted = 3 - keep.len() as u32;
        let request = n::NewStampRequest { exclude_nodes, ..file.new_stamp(number, &keep, wanted) };
        let answer: n::NewStampResponse = bench.ask(request).unwrap();
        answer.block.unwrap().locations[keep.len()..].iter().map(|at| at.storage.clone()).collect::<Vec<_>>()
    };
    // The first one restarts: two are enough to go on, and nobody waits for it.
    node_of(&mut nodes, &a).restart(&mut bench);
    assert_eq!(more(&mut bench, 2, &[&b, &c], &[&node_a]), Vec::<String>::new());
    // Then the second one: without another node the write would end, and the first one is up again.
    assert_eq!(more(&mut bench, 3, &[&c], &[&node_a, &node_b]), std::slice::from_ref(&a));
    // One that only failed its writer, and never went away, is not offered.
    assert_eq!(more(&mut bench, 4, &[&a], &[&node_b, &node_of(&mut nodes, &c).name]), Vec::<String>::new());
}

#[test]
fn a_writer_keeps_and_names_only_storages_that_it_was_given() {
    let mut bench = Bench::new();
    let mut nodes = bench.nodes(6);
    let file = writing(&mut bench, &mut nodes);
    let strangers: Vec<String> =
        nodes.iter().map(|node| node.storage.clone()).filter(|storage| !file.storages.contains(storage)).collect();
    let keep = [file.storages[..2].to_vec(), strangers[..1].to_vec()].concat();
    let refused = bench.ask::<n::NewStampResponse>(file.new_stamp(2, &keep, 0)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument, "no token for a node that nobody gave it: {refused}");
    let answer: n::NewStampResponse = bench.ask(file.new_stamp(3, &file.storages[..2], 1)).unwrap();
    let located = answer.block.unwrap();
    let new_stamp = located.block.as_ref().unwrap().stamp;
    let other = strangers.iter().find(|storage| !names(&located).contains(&storage.as_str())).unwrap();
    let pipeline = [file.storages[..2].to_vec(), vec![other.clone()]].concat();
    let refused = bench.ask::<n::UpdatePipelineResponse>(file.update(4, new_stamp, &pipeline)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert!(refused.message.contains(other.as_str()), "{refused}");
    let pipeline: Vec<String> = names(&located).into_iter().map(ToOwned::to_owned).collect();
    bench.ask::<n::UpdatePipelineResponse>(file.update(5, new_stamp, &pipeline)).unwrap();
}
