//! Datanodes that hold records instead of bytes, and a clock that only tests move.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::clock::Moment;
use base::random::SeededRandom;
use proto::cluster::node_command::Kind;
use proto::cluster::{
    Bucket, CommandResult, CopyReplica, HeartbeatRequest, IncrementalReportRequest, IncrementalReportResponse,
    NodeCommand, RegisterRequest, ReplicaRecord, ReplicaState, ReportBucketsRequest, ReportHashesRequest,
    StorageReport, VerifyReplicas,
};
use proto::ids::{BlockId, GenerationStamp, NodeId, StorageId, Term};
use proto::report::{BUCKETS, replica_hash};

use super::super::{BlockManager, BlocksConfig, Facts, Names, NodeBusiness, NodeIndex, StorageIndex};
use crate::namespace::BlockEffect;

pub(super) const LEN: u64 = 4096;
pub(super) const STAMP: GenerationStamp = GenerationStamp::FIRST;

pub(super) fn block(n: i64) -> BlockId {
    BlockId::from_raw(BlockId::FIRST.raw() + n)
}

/// What a node says of a replica of this length.
pub(super) fn record(id: BlockId, stamp: GenerationStamp, len_bytes: u64, state: ReplicaState) -> ReplicaRecord {
    ReplicaRecord { id: id.raw(), stamp: stamp.raw(), len_bytes, state: state as i32, verified: false }
}
pub(super) fn whole(n: i64) -> ReplicaRecord {
    record(block(n), STAMP, LEN, ReplicaState::Finalized)
}

/// A namespace that is a table.
pub(super) struct World {
    pub(super) blocks: BTreeMap<BlockId, Facts>,
    pub(super) next: BlockId,
    pub(super) nodes: u32,
    /// Blocks that were asked for.
    pub(super) asked: Cell<u64>,
    /// Storages that proved a block when it was committed.
    pub(super) logged: BTreeMap<BlockId, Vec<StorageIndex>>,
}

impl Names for World {
    fn facts(&self, block: BlockId) -> Option<Facts> {
        self.asked.set(self.asked.get() + 1);
        self.blocks.get(&block).copied()
    }
    fn next_block(&self) -> BlockId {
        self.next
    }
    fn committed_blocks(&self) -> u64 {
        self.blocks.values().filter(|facts| facts.committed).count() as u64
    }
    fn minimum_copies(&self, replication: u32) -> u32 {
        replication.min(self.nodes).clamp(1, 2)
    }
    fn logged(&self, block: BlockId) -> Vec<StorageIndex> {
        self.logged.get(&block).cloned().unwrap_or_default()
    }
    fn blocks_after(&self, after: Option<BlockId>, limit: usize) -> Vec<BlockId> {
        let from = after.map_or(BlockId::from_raw(i64::MIN), BlockId::next);
        self.blocks.range(from..).map(|(block, _)| *block).take(limit).collect()
    }
}

pub(super) struct Disk {
    pub(super) name: String,
    pub(super) incarnation: u64,
    /// Change k of this incarnation is number k + 1.
    pub(super) changes: Vec<ReplicaRecord>,
    pub(super) told: u64,
    pub(super) held: BTreeMap<BlockId, ReplicaRecord>,
    pub(super) failed: bool,
    pub(super) available_bytes: u64,
}

pub(super) struct Fake {
    pub(super) name: String,
    pub(super) rack: String,
    pub(super) disks: Vec<Disk>,
    /// Does it take part in [`Bench::run`]?
    pub(super) up: bool,
}

pub(super) struct Bench {
    pub(super) map: BlockManager,
    pub(super) world: World,
    pub(super) now: Moment,
    pub(super) nodes: Vec<Fake>,
    pub(super) random: SeededRandom,
    /// The highest term that all nodes know, as they say.
    pub(super) known_term: u64,
}

pub(super) fn config() -> BlocksConfig {
    BlocksConfig::default()
}

impl Bench {
    /// Registered nodes with one disk each, reported in full; this member leads in term 1 and knows its quorum.
    pub(super) fn new(count: usize) -> Self {
        Self::with(config(), &vec![1; count])
    }
    /// As [`Bench::new`], with so many disks on each node.
    pub(super) fn with(config: BlocksConfig, disks: &[usize]) -> Self {
        let mut bench = Self::empty(config, disks);
        bench.lead(1);
        for node in 0..disks.len() {
            bench.register(node);
            bench.full_report(node);
        }
        bench
    }
    /// Known storages, nobody registered, not leading.
    pub(super) fn empty(config: BlocksConfig, disks: &[usize]) -> Self {
        let now = Moment::after_start(Duration::from_secs(1000));
        let mut bench = Self {
            map: BlockManager::new(config, now),
            world: World {
                blocks: BTreeMap::new(),
                next: BlockId::FIRST,
                nodes: disks.len() as u32,
                asked: Cell::new(0),
                logged: BTreeMap::new(),
            },
            now,
            nodes: Vec::new(),
            random: SeededRandom::new(11),
            known_term: 0,
        };
        disks.iter().for_each(|disks| bench.add_node(*disks));
        bench
    }
    /// A further node, known and not registered.
    pub(super) fn add_node(&mut self, disks: usize) {
        let number = self.nodes.len();
        let disk = |disk| Disk {
            name: StorageId::new(&format!("n{number}-{disk}")).as_str().to_owned(),
            incarnation: 1,
            changes: Vec::new(),
            told: 0,
            held: BTreeMap::new(),
            failed: false,
            available_bytes: 1 << 40,
        };
        let name = NodeId::new(&format!("n{number}")).as_str().to_owned();
        let disks: Vec<_> = (0..disks).map(disk).collect();
        for disk in &disks {
            let (storage, node) = (StorageId::parse(&disk.name).unwrap(), NodeId::parse(&name).unwrap());
            self.map.add_storage(&storage, &node, "DISK").unwrap();
        }
        self.nodes.push(Fake { name, rack: "/r".into(), disks, up: true });
        self.world.nodes = self.nodes.len() as u32;
    }
    /// Leads from now on, and every node knows.
    pub(super) fn lead(&mut self, term: u64) {
        self.known_term = term;
        self.map.lead(Term::from_raw(term), self.now);
        self.map.quorum_confirmed(self.now);
        (0..2).for_each(|_| self.map.looked_at_open_files());
        self.tick();
    }

    pub(super) fn index(&self, node: usize) -> NodeIndex {
        self.map.registry().node_by_id(&NodeId::parse(&self.nodes[node].name).unwrap()).unwrap()
    }
    pub(super) fn storage(&self, node: usize, disk: usize) -> StorageIndex {
        let name = &self.nodes[node].disks[disk].name;
        self.map.registry().storage(&StorageId::parse(name).unwrap()).unwrap()
    }
    fn storage_reports(&self, node: usize) -> Vec<StorageReport> {
        let used = |disk: &Disk| disk.held.values().map(|record| record.len_bytes).sum::<u64>();
        let report = |disk: &Disk| StorageReport {
            storage: disk.name.clone(),
            capacity_bytes: 1 << 40,
            used_bytes: used(disk),
            available_bytes: disk.available_bytes.saturating_sub(used(disk)),
            failed: disk.failed,
            failure: if disk.failed { "broken".into() } else { String::new() },
            incarnation: disk.incarnation,
            sequence: disk.changes.len() as u64,
            ..StorageReport::default()
        };
        self.nodes[node].disks.iter().map(report).collect()
    }
    pub(super) fn register(&mut self, node: usize) {
        let fake = &self.nodes[node];
        let request = RegisterRequest {
            node: fake.name.clone(),
            host: format!("host{node}"),
            transfer_port: 9866,
            rack: fake.rack.clone(),
            storages: self.storage_reports(node),
            machine: format!("machine{node}"),
            local_socket: format!("/run/node{node}.sock"),
            highest_term: self.known_term,
            ..RegisterRequest::default()
        };
        self.map.registered(&NodeId::parse(&fake.name).unwrap(), &request, self.now);
    }
    /// The node's process dies and starts again: what is half-written is told as changes.
    pub(super) fn restart(&mut self, node: usize) {
        self.begin_life(node);
        self.report(node);
        self.full_report(node);
    }
    /// The node's process has started again and registers.
    pub(super) fn begin_life(&mut self, node: usize) {
        for disk in &mut self.nodes[node].disks {
            disk.incarnation += 1;
            disk.told = 0;
            let odd = disk.held.values().filter(|record| record.state != ReplicaState::Finalized as i32);
            disk.changes = odd.cloned().collect();
        }
        self.register(node);
    }
    pub(super) fn beat_with(&mut self, node: usize, results: Vec<CommandResult>) -> Option<NodeBusiness> {
        let request = self.heartbeat_request(node, results);
        self.map.heartbeat(&request, &self.world, self.now, &self.random)
    }
    fn heartbeat_request(&self, node: usize, results: Vec<CommandResult>) -> HeartbeatRequest {
        let (name, storages) = (self.nodes[node].name.clone(), self.storage_reports(node));
        HeartbeatRequest { node: name, storages, results, highest_term: self.known_term, ..HeartbeatRequest::default() }
    }
    /// A heartbeat, a few blocks at a time. The most questions to the namespace that were asked at a time, how often it
    /// went on, and the deletes of the reply.
    pub(super) fn beat_in_slices(&mut self, node: usize, most: usize) -> (u64, usize, usize) {
        let request = self.heartbeat_request(node, Vec::new());
        let mut turn = self.map.begin_heartbeat(&request, self.now).expect("it is registered");
        let (mut slices, mut most_asked) = (0, 0);
        loop {
            self.world.asked.set(0);
            let more = self.map.go_on_with(&mut turn, most, &self.world, self.now, &self.random);
            (slices, most_asked) = (slices + 1, self.world.asked.get().max(most_asked));
            if !more {
                break;
            }
        }
        (most_asked, slices, deletes(&self.map.end_heartbeat(turn).commands).len())
    }
    pub(super) fn beat(&mut self, node: usize) -> Vec<NodeCommand> {
        self.beat_with(node, Vec::new()).expect("a registered node").commands
    }

    /// The node's disk changes; it is not told yet.
    pub(super) fn put(&mut self, node: usize, disk: usize, record: ReplicaRecord) {
        let disk = &mut self.nodes[node].disks[disk];
        let id = BlockId::from_raw(record.id);
        if record.state == ReplicaState::Deleted as i32 {
            disk.held.remove(&id);
        } else {
            disk.held.insert(id, ReplicaRecord { verified: false, ..record });
        }
        disk.changes.push(record);
    }
    /// Puts and tells.
    pub(super) fn hold(&mut self, node: usize, record: ReplicaRecord) {
        self.put(node, 0, record);
        self.report(node);
    }
    pub(super) fn erase(&mut self, node: usize, disk: usize, n: i64) {
        self.put(node, disk, record(block(n), STAMP, LEN, ReplicaState::Deleted));
    }
    /// Tells changes from a number on.
    pub(super) fn report_from(&mut self, node: usize, disk: usize, first: u64) -> IncrementalReportResponse {
        let at = &self.nodes[node].disks[disk];
        let request = IncrementalReportRequest {
            node: self.nodes[node].name.clone(),
            storage: at.name.clone(),
            incarnation: at.incarnation,
            first_sequence: first,
            changes: at.changes.iter().skip(first as usize - 1).cloned().collect(),
        };
        self.map.incremental(&request, &self.world, self.now).unwrap()
    }
    /// Tells every change that was not told.
    pub(super) fn report(&mut self, node: usize) {
        for disk in 0..self.nodes[node].disks.len() {
            let at = &self.nodes[node].disks[disk];
            if at.told < at.changes.len() as u64 {
                let answer = self.report_from(node, disk, at.told + 1);
                self.nodes[node].disks[disk].told = answer.next_sequence - 1;
            }
        }
    }
    pub(super) fn hashes_request(&self, node: usize, disk: usize) -> ReportHashesRequest {
        let at = &self.nodes[node].disks[disk];
        let mut hashes = vec![0_u64; BUCKETS];
        for (id, record) in at.held.iter().filter(|(_, r)| r.state == ReplicaState::Finalized as i32) {
            let hash = replica_hash(*id, GenerationStamp::from_raw(record.stamp), record.len_bytes);
            let bucket = &mut hashes[id.bucket() as usize];
            *bucket = bucket.wrapping_add(hash);
        }
        ReportHashesRequest {
            node: self.nodes[node].name.clone(),
            storage: at.name.clone(),
            incarnation: at.incarnation,
            sequence: at.changes.len() as u64,
            hashes,
            replicas: at.held.len() as u64,
        }
    }
    pub(super) fn buckets_request(
        &self,
        (node, disk): (usize, usize),
        report: u64,
        wanted: &[u32],
        last: bool,
    ) -> ReportBucketsRequest {
        let at = &self.nodes[node].disks[disk];
        let of = |bucket: &u32| Bucket {
            bucket: *bucket,
            replicas: at.held.iter().filter(|(id, _)| id.bucket() == *bucket).map(|(_, r)| *r).collect(),
        };
        ReportBucketsRequest {
            node: self.nodes[node].name.clone(),
            storage: at.name.clone(),
            incarnation: at.incarnation,
            sequence: at.changes.len() as u64,
            report,
            buckets: wanted.iter().map(of).collect(),
            last,
        }
    }
    /// A full report of every disk; the number of buckets that differed.
    pub(super) fn full_report(&mut self, node: usize) -> usize {
        let mut count = 0;
        for disk in 0..self.nodes[node].disks.len() {
            let asked = self.hashes_request(node, disk);
            let answer = self.map.hashes(&asked, &self.world, self.now).unwrap();
            assert!(!answer.reregister, "registered in this incarnation");
            count += answer.differing.len();
            if !answer.differing.is_empty() {
                let request = self.buckets_request((node, disk), answer.report, &answer.differing, true);
                let answer = self.map.buckets(&request, &self.world, self.now).unwrap();
                assert!(!answer.restart && !answer.reregister);
            }
        }
        count
    }

    /// A block is allocated; nothing is committed.
    pub(super) fn allocate(&mut self, n: i64, replication: u32, storages: Vec<StorageIndex>) {
        let facts = Facts { stamp: STAMP, len_bytes: 0, committed: false, replication, untouched: false };
        self.world.blocks.insert(block(n), facts);
        self.world.next = self.world.next.max(block(n).next());
        let effect = BlockEffect::Allocated { block: block(n), stamp: STAMP, replication, storages };
        self.map.effect(&effect, &self.world, self.now);
    }
    pub(super) fn commit(&mut self, n: i64) {
        let Some(facts) = self.world.blocks.get_mut(&block(n)) else { panic!("allocate it first") };
        facts.committed = true;
        facts.len_bytes = LEN;
        let (stamp, replication) = (facts.stamp, facts.replication);
        let effect =
            BlockEffect::Committed { block: block(n), stamp, len_bytes: LEN, replication, storages: Vec::new() };
        self.map.effect(&effect, &self.world, self.now);
    }
    pub(super) fn free(&mut self, n: i64) {
        let Some(facts) = self.world.blocks.remove(&block(n)) else { panic!("no such block") };
        let effect = BlockEffect::Freed {
            block: block(n),
            stamp: facts.stamp,
            len_bytes: facts.len_bytes,
            committed: facts.committed,
        };
        self.map.effect(&effect, &self.world, self.now);
    }
    /// A committed block, whole on the first disk of these nodes and told.
    pub(super) fn file(&mut self, n: i64, replication: u32, nodes: &[usize]) {
        self.allocate(n, replication, Vec::new());
        nodes.iter().for_each(|node| self.hold(*node, whole(n)));
        self.commit(n);
    }

    pub(super) fn tick(&mut self) {
        self.map.tick(&self.world, self.now, &self.random);
    }
    /// Time passes; the quorum answers all the while. Nobody says anything.
    pub(super) fn pass(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
        self.map.quorum_confirmed(self.now);
        self.tick();
    }
    /// Time passes and every registered node that is up gives signs of life, without fetching a command.
    pub(super) fn wait(&mut self, secs: u64) {
        let mut left = secs;
        while left > 0 {
            let step = left.min(5);
            left -= step;
            self.now = self.now.plus(Duration::from_secs(step));
            for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].up) {
                let index = self.index(node);
                if self.map.registry.node(index).last_contact.is_some() {
                    self.map.registry.heartbeat(index, 0, self.now);
                }
            }
            self.pass(0);
        }
    }
    /// As long as time passes, nodes that are up send heartbeats, obey and report.
    pub(super) fn run(&mut self, secs: u64) {
        for _ in 0..secs {
            self.pass(1);
            for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].up).collect::<Vec<_>>() {
                let business = self.beat_with(node, Vec::new());
                let Some(business) = business else {
                    self.register(node);
                    self.full_report(node);
                    continue;
                };
                if business.full_report {
                    self.full_report(node);
                }
                self.carry(node, &business.commands);
                self.report(node);
            }
        }
    }
    /// The node carries commands out; what changes is not told yet.
    pub(super) fn carry(&mut self, node: usize, commands: &[NodeCommand]) {
        for command in commands {
            match &command.kind {
                Some(Kind::Delete(delete)) => {
                    let disk = self.nodes[node].disks.iter().position(|d| d.name == delete.storage).unwrap();
                    for gone in &delete.blocks {
                        let id = BlockId::from_raw(gone.id);
                        let held = self.nodes[node].disks[disk].held.get(&id).copied();
                        if let Some(held) = held.filter(|held| held.stamp == gone.stamp) {
                            self.put(node, disk, ReplicaRecord { state: ReplicaState::Deleted as i32, ..held });
                        }
                    }
                }
                Some(Kind::Copy(copy)) => self.copy(copy),
                Some(Kind::Verify(verify)) => self.verify(node, verify),
                Some(Kind::PrepareRecovery(_) | Kind::FinishReplica(_)) | None => {
                    panic!("a command of no kind that is known here")
                }
            }
        }
    }
    /// Every whole replica is sound; what the node called damaged is.
    fn verify(&mut self, node: usize, verify: &VerifyReplicas) {
        let disk = self.nodes[node].disks.iter().position(|d| d.name == verify.storage).unwrap();
        for what in &verify.blocks {
            let held = self.nodes[node].disks[disk].held.get(&BlockId::from_raw(what.id)).copied();
            let whole = |held: &ReplicaRecord| held.state == ReplicaState::Finalized as i32 && held.stamp == what.stamp;
            if let Some(held) = held.filter(whole) {
                self.put(node, disk, ReplicaRecord { verified: true, ..held });
            }
        }
    }
    fn copy(&mut self, copy: &CopyReplica) {
        let what = copy.block.as_ref().unwrap();
        let [target] = copy.targets.as_slice() else { panic!("one target") };
        let node = self.nodes.iter().position(|node| node.name == target.node).unwrap();
        let disk = self.nodes[node].disks.iter().position(|disk| disk.name == target.storage).unwrap();
        let id = BlockId::from_raw(what.id);
        let there = self.nodes[node].disks.iter().find_map(|disk| disk.held.get(&id).copied());
        let is_stale =
            |there: &ReplicaRecord| there.state != ReplicaState::Finalized as i32 || there.stamp < what.stamp;
        if let Some(there) = there.filter(is_stale) {
            let at = self.nodes[node].disks.iter().position(|disk| disk.held.contains_key(&id)).unwrap();
            self.put(node, at, ReplicaRecord { state: ReplicaState::Deleted as i32, ..there });
        }
        if self.nodes[node].disks.iter().all(|disk| !disk.held.contains_key(&id)) && self.nodes[node].up {
            let stamp = GenerationStamp::from_raw(what.stamp);
            self.put(node, disk, record(id, stamp, what.len_bytes, ReplicaState::Finalized));
            self.report(node);
        }
    }

    /// Nodes whose disks hold a whole replica, whatever the map believes.
    pub(super) fn holders(&self, n: i64) -> BTreeSet<usize> {
        let whole =
            |disk: &Disk| disk.held.get(&block(n)).is_some_and(|record| record.state == ReplicaState::Finalized as i32);
        let has = |node: &usize| self.nodes[*node].disks.iter().any(whole);
        (0..self.nodes.len()).filter(has).collect()
    }
}

/// Blocks that commands delete, with the reason.
pub(super) fn deletes(commands: &[NodeCommand]) -> Vec<(BlockId, String)> {
    let of = |command: &NodeCommand| match &command.kind {
        Some(Kind::Delete(delete)) => {
            delete.blocks.iter().map(|b| (BlockId::from_raw(b.id), delete.reason.clone())).collect()
        }
        _ => Vec::new(),
    };
    commands.iter().flat_map(of).collect()
}
/// Blocks that commands have read again.
pub(super) fn verifies(commands: &[NodeCommand]) -> Vec<BlockId> {
    let of = |command: &NodeCommand| match &command.kind {
        Some(Kind::Verify(verify)) => verify.blocks.iter().map(|b| BlockId::from_raw(b.id)).collect(),
        _ => Vec::new(),
    };
    commands.iter().flat_map(of).collect()
}
/// Blocks that commands copy, in order.
pub(super) fn copies(commands: &[NodeCommand]) -> Vec<BlockId> {
    let of = |command: &NodeCommand| match &command.kind {
        Some(Kind::Copy(copy)) => copy.block.as_ref().map(|block| BlockId::from_raw(block.id)),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}
