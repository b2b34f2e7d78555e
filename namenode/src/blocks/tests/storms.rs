//! Very many blocks a node: what a loss, a return, a restart and a report cost in one step is bounded, whatever they mean.
//!
//! Counts, not seconds. A hundred thousand replicas a node here, a million in the heavy suite.

use std::collections::BTreeSet;
use std::time::Duration;

use base::clock::Moment;
use base::random::SeededRandom;
use prost::Message;
use proto::cluster::node_command::Kind;
use proto::cluster::{
    Bucket, CommandResult, HeartbeatRequest, IncrementalReportRequest, NodeCommand, RegisterRequest, ReplicaState,
    ReportBucketsRequest, ReportHashesRequest, StorageReport,
};
use proto::ids::{BlockId, NodeId, StorageId, Term};
use proto::report::{BUCKETS, replica_hash};

use super::super::{BlockManager, BlocksConfig, Facts, LOOK, Names, STEP, StorageIndex};
use super::harness::{STAMP, block, copies, deletes, record};

/// One more than the copies of a block: every node holds all but a quarter of the blocks.
const NODES: usize = 4;
/// Length of a block.
const LEN: u64 = 1 << 20;
/// Steps of a tick, as the core takes them.
const STEPS: usize = 16;
/// Judgements of a tick beside those of its step: one for each block for which copies are ordered.
const ORDERS: u64 = 64;
/// Buckets in a part of a full report, as datanodes send them.
const BUCKETS_OF_PART: usize = 32;

/// A namespace of equal blocks, without a table of them. The last one has two copies, the others three.
struct Wide {
    count: i64,
}

impl Names for Wide {
    fn facts(&self, id: BlockId) -> Option<Facts> {
        let n = id.raw() - block(0).raw();
        let replication = if n + 1 == self.count { 2 } else { 3 };
        (0..self.count).contains(&n).then_some(Facts {
            stamp: STAMP,
            len_bytes: LEN,
            committed: true,
            replication,
            untouched: false,
        })
    }
    fn next_block(&self) -> BlockId {
        block(self.count)
    }
    fn committed_blocks(&self) -> u64 {
        self.count as u64
    }
    fn minimum_copies(&self, replication: u32) -> u32 {
        replication.min(2)
    }
    fn logged(&self, _: BlockId) -> Vec<StorageIndex> {
        Vec::new()
    }
    fn blocks_after(&self, after: Option<BlockId>, limit: usize) -> Vec<BlockId> {
        let from = after.map_or(0, |after| after.raw() - block(0).raw() + 1);
        (from..self.count).take(limit).map(block).collect()
    }
}

struct Storm {
    map: BlockManager,
    names: Wide,
    now: Moment,
    random: SeededRandom,
    up: [bool; NODES],
    incarnations: [u64; NODES],
    /// Changes told by each node since its start.
    told: [u64; NODES],
    largest_message_bytes: usize,
}

fn node_id(node: usize) -> NodeId {
    NodeId::new(&format!("n{node}"))
}
fn storage_id(node: usize) -> StorageId {
    StorageId::new(&format!("n{node}-0"))
}

impl Storm {
    /// All nodes have reported; this member leads. `each`: replicas of a node.
    fn new(each: i64) -> Self {
        let now = Moment::after_start(Duration::from_secs(1000));
        let mut storm = Self {
            map: BlockManager::new(BlocksConfig::default(), now),
            names: Wide { count: each * NODES as i64 / 3 },
            now,
            random: SeededRandom::new(3),
            up: [true; NODES],
            incarnations: [1; NODES],
            told: [0; NODES],
            largest_message_bytes: 0,
        };
        for node in 0..NODES {
            storm.map.add_storage(&storage_id(node), &node_id(node), "DISK").unwrap();
        }
        storm.map.lead(Term::from_raw(1), now);
        (0..NODES).for_each(|node| storm.register(node));
        (0..NODES).for_each(|node| assert!(storm.full_report(node) > 0));
        storm.pass(1);
        storm.settle();
        assert_eq!(storm.map.counts(), Default::default());
        storm
    }

    /// Does a node hold a block? The last one is on nodes 0 and 1.
    fn holds(&self, node: usize, n: i64) -> bool {
        if n + 1 == self.names.count { node < 2 } else { !(n as usize + node).is_multiple_of(NODES) }
    }
    fn held(&self, node: usize) -> u64 {
        (0..self.names.count).filter(|n| self.holds(node, *n)).count() as u64
    }
    fn storages(&self, node: usize) -> Vec<StorageReport> {
        vec![StorageReport {
            storage: storage_id(node).as_str().to_owned(),
            capacity_bytes: 1 << 50,
            available_bytes: 1 << 49,
            incarnation: self.incarnations[node],
            sequence: self.told[node],
            ..StorageReport::default()
        }]
    }
    fn register(&mut self, node: usize) {
        let request = RegisterRequest {
            node: node_id(node).as_str().to_owned(),
            host: format!("host{node}"),
            transfer_port: 9866,
            storages: self.storages(node),
            highest_term: 1,
            ..RegisterRequest::default()
        };
        self.map.registered(&node_id(node), &request, self.now);
    }
    fn beat(&mut self, node: usize, results: Vec<CommandResult>) -> Vec<NodeCommand> {
        let request = HeartbeatRequest {
            node: node_id(node).as_str().to_owned(),
            storages: self.storages(node),
            copy_streams: 4,
            results,
            highest_term: 1,
            ..HeartbeatRequest::default()
        };
        let before = self.map.judged();
        let commands = self.map.heartbeat(&request, &self.names, self.now, &self.random).unwrap().commands;
        assert!(self.map.judged() - before <= 2 * ORDERS, "a heartbeat is short");
        commands
    }
    /// A full report as a datanode sends it, part by part; the number of parts.
    fn full_report(&mut self, node: usize) -> usize {
        let mut buckets: Vec<Vec<i64>> = vec![Vec::new(); BUCKETS];
        let mut hashes = vec![0_u64; BUCKETS];
        for n in (0..self.names.count).filter(|n| self.holds(node, *n)) {
            let bucket = block(n).bucket() as usize;
            hashes[bucket] = hashes[bucket].wrapping_add(replica_hash(block(n), STAMP, LEN));
            buckets[bucket].push(n);
        }
        let (name, storage) = (node_id(node).as_str().to_owned(), storage_id(node).as_str().to_owned());
        let (incarnation, sequence) = (self.incarnations[node], self.told[node]);
        let request = ReportHashesRequest {
            node: name.clone(),
            storage: storage.clone(),
            incarnation,
            sequence,
            hashes,
            replicas: self.held(node),
        };
        self.note(request.encoded_len());
        let before = self.map.judged();
        let answer = self.map.hashes(&request, &self.names, self.now).unwrap();
        assert!(!answer.reregister && self.map.judged() == before);
        let parts: Vec<&[u32]> = answer.differing.chunks(BUCKETS_OF_PART).collect();
        for (number, part) in parts.iter().enumerate() {
            let whole = |n: &i64| record(block(*n), STAMP, LEN, ReplicaState::Finalized);
            let of = |bucket: &u32| Bucket {
                bucket: *bucket,
                replicas: buckets[*bucket as usize].iter().map(whole).collect(),
            };
            let request = ReportBucketsRequest {
                node: name.clone(),
                storage: storage.clone(),
                incarnation,
                sequence,
                report: answer.report,
                buckets: part.iter().map(of).collect(),
                last: number + 1 == parts.len(),
            };
            self.note(request.encoded_len());
            self.take_part(&request);
        }
        parts.len()
    }
    /// As the core takes a part in: so many changes while the lock is held once.
    fn take_part(&mut self, request: &ReportBucketsRequest) {
        let storage = self.map.begin_part(request, self.now).unwrap();
        let mut plan = self.map.plan_part(storage, request).unwrap().unwrap();
        while !plan.is_done() {
            let before = self.map.judged();
            assert!(self.map.take_some(&mut plan, STEP, &self.names, self.now));
            assert!(self.map.judged() - before <= STEP as u64);
        }
        let answer = self.map.end_part(plan, &self.names, self.now);
        assert!(!answer.restart && !answer.reregister);
    }
    fn note(&mut self, bytes: usize) {
        self.largest_message_bytes = self.largest_message_bytes.max(bytes);
    }

    /// A tick of the core: its steps. False if nothing is left to look at.
    fn tick(&mut self) -> bool {
        let before = self.map.judged();
        let mut more = self.map.tick(&self.names, self.now, &self.random);
        assert!(self.map.judged() - before <= 2 * STEP as u64 + ORDERS, "{}", self.map.judged() - before);
        for _ in 1..STEPS {
            if !more {
                break;
            }
            let before = self.map.judged();
            more = self.map.step(&self.names, self.now);
            assert!(self.map.judged() - before <= 2 * STEP as u64);
        }
        more
    }
    /// Ticks until nothing is left to look at; how many.
    fn settle(&mut self) -> usize {
        (1..).find(|_| !self.tick()).unwrap()
    }
    /// Nodes that are up are heard of, without fetching a command; time passes.
    fn pass(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
        self.map.quorum_confirmed(self.now);
        for node in (0..NODES).filter(|node| self.up[*node]) {
            let index = self.map.registry().node_by_id(&node_id(node)).unwrap();
            self.map.registry.heartbeat(index, 0, self.now);
        }
    }
    /// A node tells that it received copies.
    fn received(&mut self, node: usize, blocks: &[BlockId]) {
        let changes = blocks.iter().map(|id| record(*id, STAMP, LEN, ReplicaState::Finalized)).collect();
        let request = IncrementalReportRequest {
            node: node_id(node).as_str().to_owned(),
            storage: storage_id(node).as_str().to_owned(),
            incarnation: self.incarnations[node],
            first_sequence: self.told[node] + 1,
            changes,
        };
        let answer = self.map.incremental(&request, &self.names, self.now).unwrap();
        self.told[node] = answer.next_sequence - 1;
    }
}

/// The four events, with `each` replicas a node.
fn storm(each: i64) {
    let mut storm = Storm::new(each);
    let of_a_step = (each as usize).div_ceil(STEP);
    // A record is two dozen bytes: a part is a thirty-second of a storage, not a storage.
    let most_bytes = (each as usize / BUCKETS + 64) * BUCKETS_OF_PART * 32;
    assert!(storm.largest_message_bytes <= most_bytes, "{} bytes", storm.largest_message_bytes);

    silent(&mut storm, of_a_step);
    dead(&mut storm, of_a_step);
    let made = back(&mut storm, of_a_step);
    surplus(&mut storm, &made);
    restarted(&mut storm, of_a_step);
}

/// L-4: the one block of which a single copy is left is the last of them all, and is found before the others are looked at.
fn silent(storm: &mut Storm, of_a_step: usize) {
    storm.up[0] = false;
    storm.map.scan_everything();
    (0..2).for_each(|_| storm.pass(5));
    storm.map.tick(&storm.names, storm.now, &storm.random);
    let mut steps = 0;
    while storm.map.counts().endangered == 0 {
        storm.map.step(&storm.names, storm.now);
        steps += 1;
    }
    let to_the_end = storm.held(0) as usize / LOOK + 1;
    assert!(steps <= 4 * to_the_end, "{steps} steps: four passes take turns");
    assert!(steps < of_a_step, "not after all the others");
    let commands = storm.beat(1, Vec::new());
    assert_eq!(copies(&commands), [block(storm.names.count - 1)]);
    assert_eq!(storm.map.counts().under_replicated, 1, "the others are waited for");
    let Some(Kind::Copy(copy)) = &commands[0].kind else { panic!("{commands:?}") };
    let target = (2..NODES).find(|node| node_id(*node).as_str() == copy.targets[0].node).unwrap();
    storm.received(target, &[block(storm.names.count - 1)]);
    storm.settle();
    let counts = storm.map.counts();
    assert_eq!((counts.under_replicated, counts.endangered, counts.pending_copy), (0, 0, 0));
}

/// All blocks of a node lack a copy; what is ordered at a time is what the others have hands for.
fn dead(storm: &mut Storm, of_a_step: usize) {
    (0..58).for_each(|_| storm.pass(5));
    let ticks = storm.settle();
    assert!(ticks <= 4 * of_a_step / STEPS + 2, "{ticks} ticks");
    assert_eq!(storm.map.counts().under_replicated, storm.held(0) - 1);
    let in_hand = u64::from(BlocksConfig::default().copies_ahead) * (NODES as u64 - 1);
    for _ in 0..20 {
        storm.pass(0);
        storm.tick();
        assert!(storm.map.counts().pending_copy <= in_hand, "{:?}", storm.map.counts());
    }
    assert!(storm.map.counts().pending_copy > in_hand / 2, "everybody has something to do");
}

/// The node is back after some copies were made. What was not begun is not made. The copies that were.
fn back(storm: &mut Storm, of_a_step: usize) -> Vec<Vec<BlockId>> {
    let mut made = vec![Vec::new(); NODES];
    let mut numbers: Vec<Vec<u64>> = vec![Vec::new(); NODES];
    for (node, number) in numbers.iter_mut().enumerate().skip(1) {
        let commands = storm.beat(node, Vec::new());
        assert!(commands.len() <= BlocksConfig::default().copies_ahead as usize);
        *number = commands.iter().map(|command| command.number).collect();
        for id in copies(&commands) {
            // Exactly one node that lives has none.
            let n = id.raw() - block(0).raw();
            let to = (1..NODES).find(|node| !storm.holds(*node, n)).unwrap();
            made[to].push(id);
        }
    }
    for node in 1..NODES {
        storm.received(node, &made[node]);
        let done = numbers[node].iter().map(|number| CommandResult { number: *number, ok: true, ..Default::default() });
        // What is fetched with this heartbeat is lost with its reply: nobody carries it out.
        storm.beat(node, done.collect());
    }
    let under_way = storm.map.counts().pending_copy;
    storm.tick();
    storm.up[0] = true;
    let before = storm.map.judged();
    storm.beat(0, Vec::new());
    assert!(storm.map.judged() - before <= 2 * ORDERS, "its blocks are looked at by and by");
    storm.pass(0);
    let ticks = storm.settle();
    assert!(ticks <= 2 * of_a_step / STEPS + 2, "{ticks} ticks");
    let counts = storm.map.counts();
    assert_eq!((counts.under_replicated, counts.missing), (0, 0));
    assert!(counts.pending_copy <= under_way, "orders that nobody fetched are taken back: {counts:?}");
    for node in 1..NODES {
        assert_eq!(copies(&storm.beat(node, Vec::new())), [], "and nothing new is ordered");
    }
    made
}

/// Surplus copies go under the deletion rule, so many with a heartbeat and so many a minute.
fn surplus(storm: &mut Storm, made: &[Vec<BlockId>]) {
    let count: usize = made.iter().map(Vec::len).sum();
    // One for each copy made, and the copy of the last block.
    assert_eq!(storm.map.counts().pending_delete, count as u64 + 1);
    for node in 0..NODES {
        let at_once = deletes(&storm.beat(node, Vec::new())).len();
        assert!(at_once <= BlocksConfig::default().deletes_per_heartbeat);
    }
}

/// A restart with all replicas: hashes are enough, and every block is looked at once, by and by.
fn restarted(storm: &mut Storm, of_a_step: usize) {
    storm.incarnations[3] += 1;
    storm.told[3] = 0;
    storm.largest_message_bytes = 0;
    let before = storm.map.judged();
    storm.register(3);
    assert_eq!(storm.map.judged(), before);
    // What it received since is in few buckets.
    let parts = storm.full_report(3);
    assert!(parts <= 3, "{parts} parts");
    let ticks = storm.settle();
    assert!(ticks <= 4 * of_a_step / STEPS + 2, "{ticks} ticks");
    assert_eq!(storm.map.counts().missing, 0);
}

#[test]
fn a_hundred_thousand_blocks_a_node_cause_bounded_work_in_every_step() {
    storm(100_000);
}

#[test]
fn heavy_a_million_blocks_a_node_cause_bounded_work_in_every_step() {
    let asked = std::env::var("BLOCKYARD_HEAVY").unwrap_or_default();
    if asked == "million-blocks" || asked == "all" {
        return storm(1_000_000);
    }
    println!("skipped: heavy suite million-blocks; set BLOCKYARD_HEAVY=million-blocks to run it");
}

#[test]
fn surplus_beyond_the_limit_of_a_minute_waits_and_raises_one_alarm() {
    let mut storm = Storm::new(30_000);
    // Every node has all blocks: a quarter of the replicas is too much.
    for node in 0..NODES {
        let more: Vec<BlockId> = (0..storm.names.count).filter(|n| !storm.holds(node, *n)).map(block).collect();
        more.chunks(1000).for_each(|some| storm.received(node, some));
    }
    (0..13).for_each(|_| storm.pass(5));
    storm.settle();
    let limit = BlocksConfig::default().unasked_deletes_per_minute as usize;
    let mut gone = BTreeSet::new();
    for _ in 0..10 {
        for node in 0..NODES {
            gone.extend(deletes(&storm.beat(node, Vec::new())).into_iter().map(|(id, _)| id));
        }
    }
    assert_eq!(gone.len(), limit, "each block is told to go once");
    assert_eq!(storm.map.counts().delete_alarms, 1);
}
