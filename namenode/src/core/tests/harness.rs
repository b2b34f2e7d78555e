//! A core with its committer and its image thread, driven by hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::{Caller, NodeKey, NodeKeys, receipt};
use base::clock::Moment;
use base::disk::{Disk, MemDisk};
use base::random::{Randomness, SeededRandom};
use bytes::Bytes;
use proto::PROTOCOL_VERSION;
use proto::cluster::node_command::Kind;
use proto::cluster::{
    CommandResult, FinishReplica, HeartbeatRequest, IncrementalReportRequest, NodeCommand, PrepareRecovery,
    RegisterRequest, RegisterResponse, ReplicaFound, ReplicaRecord, ReplicaState, ReportBucketsRequest,
    ReportHashesRequest, StorageReport,
};
use proto::common::{Block, Receipt, RequestHeader};
use proto::error::FsResult;
use proto::ids::{BlockId, ClusterId, GenerationStamp, MemberId, NodeId, PoolId, StorageId};
use proto::log::Settings;
use proto::namespace as n;
use proto::report::{BUCKETS, replica_hash};

use super::super::{Bootstrap, CoreConfig, Effect, Event, ImageJob, InitialDirectory, NamenodeCore};
use crate::consensus::{Consensus, ConsensusConfig, Identity, ImageStore, LogWriter, PersistBatch};
use crate::service::request::{Request, Response, Ticket};

pub(super) const DIR: &str = "/nn";
/// A wall clock that stands still: nothing may depend on it.
const WALL_NS: i64 = 1_700_000_000_000_000_000;

pub(super) fn config() -> CoreConfig {
    let directory = |path: &str, mode, owner: &str| InitialDirectory { path: path.into(), mode, owner: owner.into() };
    CoreConfig {
        consensus: ConsensusConfig { segment_bytes: 256 << 10, image_reserve_bytes: 64 << 10, ..Default::default() },
        max_batch_bytes: 32 << 10,
        bootstrap: Some(Bootstrap {
            superuser: "root".into(),
            settings: Settings {
                superuser_group: "supergroup".into(),
                default_replication: 3,
                default_block_size_bytes: 1 << 20,
                max_replication: 16,
                min_block_size_bytes: 1024,
                max_block_size_bytes: 1 << 40,
                lease_hard_limit_ms: 60_000,
                feature_level: 1,
                max_blocks_per_file: 1000,
                max_directory_entries: 1 << 20,
                ..Default::default()
            },
            directories: vec![directory("/tmp", 0o1777, "root"), directory("/user/ana", 0o755, "ana")],
        }),
        ..CoreConfig::default()
    }
}

pub(super) struct Bench {
    pub(super) disk: MemDisk,
    pub(super) config: CoreConfig,
    pub(super) core: NamenodeCore,
    writer: LogWriter,
    images: ImageStore,
    pub(super) now: Moment,
    /// Held back while true.
    pub(super) disk_is_slow: bool,
    /// A step of long work is asked for.
    go_on: bool,
    /// No step of long work is made while true.
    pub(super) held_up: bool,
    /// Steps of long work that were made, and the most records that one of them looked at.
    pub(super) steps: u64,
    pub(super) most_looks: u64,
    batches: VecDeque<PersistBatch>,
    /// Images are left to the test.
    pub(super) image_jobs: VecDeque<ImageJob>,
    pub(super) replies: BTreeMap<Ticket, FsResult<Response>>,
    asked: BTreeSet<Ticket>,
    next_ticket: u64,
    pub(super) stopped: Option<String>,
    out: Vec<Effect>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(config(), MemDisk::new())
    }
    /// A fresh cluster that leads and is formatted.
    pub(super) fn with(config: CoreConfig, disk: MemDisk) -> Self {
        let identity = Identity {
            cluster: ClusterId::new("1"),
            pool: PoolId::new("1"),
            member: MemberId::from_raw(1),
            initial_voters: vec![MemberId::from_raw(1)],
        };
        let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(3));
        Consensus::format(&disk.shared(), Path::new(DIR), &identity, &config.consensus, &random).unwrap();
        let mut bench = Self::open(config, disk, Moment::after_start(Duration::from_secs(1000)));
        bench.settle();
        bench
    }
    /// Opens what is on the disk; nothing was driven yet.
    pub(super) fn open(config: CoreConfig, disk: MemDisk, now: Moment) -> Self {
        let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(5));
        let shared: Arc<dyn Disk> = disk.shared();
        let opened = NamenodeCore::open(&shared, Path::new(DIR), None, config.clone(), random, now).unwrap();
        Self {
            disk,
            config,
            core: opened.core,
            writer: opened.writer,
            images: opened.images,
            now,
            disk_is_slow: false,
            go_on: false,
            held_up: false,
            steps: 0,
            most_looks: 0,
            batches: VecDeque::new(),
            image_jobs: VecDeque::new(),
            replies: BTreeMap::new(),
            asked: BTreeSet::new(),
            next_ticket: 1,
            stopped: None,
            out: Vec::new(),
        }
    }
    /// The process is killed and started again.
    pub(super) fn restart(self) -> Self {
        let Self { disk, config, now, core, writer, images, .. } = self;
        disk.process_died();
        drop((core, writer, images));
        let mut bench = Self::open(config, disk, now);
        bench.settle();
        bench
    }

    pub(super) fn event(&mut self, event: Event) {
        self.core.take(event, self.now, WALL_NS, &mut self.out);
    }
    /// Does everything that is to be done.
    pub(super) fn settle(&mut self) {
        loop {
            self.core.pump(self.now, WALL_NS, &mut self.out);
            for effect in std::mem::take(&mut self.out) {
                match effect {
                    Effect::Reply { ticket, response } => {
                        assert!(self.asked.contains(&ticket), "nobody asked {ticket:?}");
                        let before = self.replies.insert(ticket, response);
                        assert!(before.is_none(), "{ticket:?} is answered twice: {before:?}");
                    }
                    Effect::Persist(batch) => self.batches.push_back(batch),
                    Effect::WriteImage(job) => self.image_jobs.push_back(*job),
                    Effect::GoOn => self.go_on = true,
                    Effect::Stop(reason) => self.stopped = Some(reason),
                    other @ (Effect::SendRaft(_) | Effect::SendImage(_)) => panic!("it is alone: {other:?}"),
                }
            }
            if self.go_on && !self.held_up {
                self.make_step();
                continue;
            }
            if self.disk_is_slow || self.batches.is_empty() {
                return;
            }
            let done = self.writer.write(self.batches.drain(..).collect()).unwrap();
            self.event(Event::Persisted(done));
        }
    }
    fn make_step(&mut self) {
        self.go_on = false;
        let ((), looks) = crate::namespace::looks::during(|| self.event(Event::GoOn));
        (self.steps, self.most_looks) = (self.steps + 1, self.most_looks.max(looks));
    }
    /// Makes one step of long work, while it is held up otherwise. False: there was none to make.
    pub(super) fn step(&mut self) -> bool {
        let wanted = self.go_on;
        if wanted {
            self.make_step();
            self.settle();
        }
        wanted
    }
    pub(super) fn write_image(&mut self) {
        let job = self.image_jobs.pop_front().expect("an image is due");
        let mut body = |out: &mut dyn io::Write| job.frozen.write_to(out).map_err(io::Error::other);
        let result = self.images.write(job.meta, &mut body).map_err(|error| error.to_string());
        self.event(Event::ImageWritten(result));
        self.settle();
    }
    /// Time passes in ticks of half a second.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.now = self.now.plus(Duration::from_millis(500).min(end.since(self.now)));
            self.event(Event::Tick);
            self.settle();
        }
    }

    pub(super) fn send(&mut self, user: &str, request: impl Into<Request>) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.asked.insert(ticket);
        let caller = Caller::simple(user, "127.0.0.1:1", "r").unwrap();
        self.event(Event::Request { ticket, caller, request: request.into() });
        ticket
    }
    /// Asks and expects the answer without time passing.
    pub(super) fn ask<T: TryFrom<Response>>(&mut self, request: impl Into<Request>) -> FsResult<T> {
        self.ask_as("ana", request)
    }
    pub(super) fn ask_as<T: TryFrom<Response>>(&mut self, user: &str, request: impl Into<Request>) -> FsResult<T> {
        let ticket = self.send(user, request);
        self.settle();
        let response = self.replies.get(&ticket).cloned().expect("an answer");
        response.map(|response| T::try_from(response).ok().expect("the answer to this request"))
    }
    pub(super) fn unanswered(&self) -> usize {
        self.asked.len() - self.replies.len()
    }
    /// Everything that can be seen, and how much there is of the rest. (The state hash also covers the entry
    /// that opens a term, of which every start adds one.)
    pub(super) fn contents(&mut self) -> (Vec<n::FileStatus>, crate::namespace::Counts) {
        let mut all = Vec::new();
        let mut waiting = vec!["/".to_owned()];
        while let Some(path) = waiting.pop() {
            let request = n::ListRequest { header: header(), path: path.clone(), limit: 10_000, ..Default::default() };
            let listed: n::ListResponse = self.ask_as("root", request).unwrap();
            let below = |entry: &n::FileStatus| format!("{}/{}", path.trim_end_matches('/'), entry.path);
            waiting.extend(listed.entries.iter().filter(|e| e.kind() == n::FileKind::Directory).map(below));
            all.extend(listed.entries);
        }
        (all, self.core.shared().namespace.read().counts())
    }
    pub(super) fn status(&mut self) -> n::ClusterStatusResponse {
        self.ask(n::ClusterStatusRequest { header: header() }).unwrap()
    }

    pub(super) fn mkdir(&mut self, path: &str) -> FsResult<n::MkdirResponse> {
        self.ask(mkdir(path))
    }
    pub(super) fn stat(&mut self, path: &str) -> FsResult<n::FileStatus> {
        let answer: n::StatResponse =
            self.ask(n::StatRequest { header: header(), path: path.into(), no_follow: false })?;
        Ok(answer.status.unwrap())
    }
    pub(super) fn delete(&mut self, path: &str) -> FsResult<n::DeleteResponse> {
        self.ask(n::DeleteRequest { header: header(), path: path.into(), recursive: true })
    }
    pub(super) fn create(&mut self, path: &str, session: u8, publish: n::Publish) -> FsResult<n::CreateResponse> {
        self.ask(n::CreateRequest { publish: publish as i32, ..create(path, session) })
    }
    /// A closed file of one block on every node; its first receipts prove it.
    pub(super) fn file(&mut self, path: &str, session: u8, nodes: &mut [Datanode]) -> FsResult<n::FileStatus> {
        let created = self.create(path, session, n::Publish::OnClose)?;
        let block = created.first_block.clone().unwrap().block.unwrap();
        let finished = finish(&block, 100, nodes);
        let request = n::CompleteRequest {
            header: call(session, 2),
            inode: created.inode,
            lease_epoch: created.lease_epoch,
            last: Some(finished),
        };
        let answer: n::CompleteResponse = self.ask(request)?;
        Ok(answer.status.unwrap())
    }
    /// Registered nodes that have reported in full.
    pub(super) fn nodes(&mut self, count: usize) -> Vec<Datanode> {
        let mut nodes: Vec<_> = (0..count).map(Datanode::new).collect();
        nodes.iter_mut().for_each(|node| node.register(self));
        nodes
    }
    /// Time passes; nodes heartbeat, obey and report each second.
    pub(super) fn run(&mut self, secs: u64, nodes: &mut [Datanode]) {
        for _ in 0..secs {
            self.pass(Duration::from_secs(1));
            for at in 0..nodes.len() {
                let commands = nodes[at].heartbeat(self);
                for command in commands {
                    carry(&command, at, nodes);
                }
                nodes.iter_mut().for_each(|node| node.report(self));
            }
        }
    }
}

pub(super) fn header() -> Option<RequestHeader> {
    Some(RequestHeader { protocol_version: PROTOCOL_VERSION, user: "ana".into(), ..Default::default() })
}
/// The header of a numbered call of a session.
pub(super) fn call(session: u8, call: u64) -> Option<RequestHeader> {
    let session = Bytes::from(vec![session; 16]);
    header().map(|header| RequestHeader { session, call, lowest_unanswered: 1, ..header })
}
pub(super) fn mkdir(path: &str) -> n::MkdirRequest {
    n::MkdirRequest { header: header(), path: path.into(), mode: 0o755, parents: false, unmasked_mode: None }
}
pub(super) fn create(path: &str, session: u8) -> n::CreateRequest {
    n::CreateRequest {
        header: call(session, 1),
        path: path.into(),
        mode: 0o644,
        overwrite: true,
        publish: n::Publish::OnClose as i32,
        with_first_block: true,
        ..Default::default()
    }
}

/// A datanode that holds records instead of bytes.
pub(super) struct Datanode {
    pub(super) name: String,
    pub(super) storage: String,
    pub(super) incarnation: u64,
    pub(super) held: BTreeMap<i64, ReplicaRecord>,
    changes: Vec<ReplicaRecord>,
    told: u64,
    keys: NodeKeys,
    pub(super) up: bool,
    /// It carries out no command of a recovery, and says nothing.
    pub(super) hangs: bool,
    /// What was acknowledged of what is being written.
    pub(super) acked: BTreeMap<i64, u64>,
    /// Replicas that were found at a start.
    pub(super) found: BTreeSet<i64>,
    /// Stamps of the recoveries that it takes part in.
    pub(super) prepared: BTreeMap<i64, u64>,
    /// The highest term of a leader that it heard of.
    pub(super) highest_term: u64,
    results: Vec<CommandResult>,
}

impl Datanode {
    pub(super) fn new(number: usize) -> Self {
        Self {
            name: NodeId::new(&format!("n{number}")).as_str().to_owned(),
            storage: StorageId::new(&format!("n{number}")).as_str().to_owned(),
            incarnation: 1,
            held: BTreeMap::new(),
            changes: Vec::new(),
            told: 0,
            keys: NodeKeys::default(),
            up: true,
            hangs: false,
            acked: BTreeMap::new(),
            found: BTreeSet::new(),
            prepared: BTreeMap::new(),
            highest_term: 0,
            results: Vec::new(),
        }
    }
    fn storages(&self) -> Vec<StorageReport> {
        vec![StorageReport {
            storage: self.storage.clone(),
            media: "DISK".into(),
            capacity_bytes: 1 << 40,
            available_bytes: 1 << 40,
            incarnation: self.incarnation,
            sequence: self.changes.len() as u64,
            ..Default::default()
        }]
    }
    pub(super) fn registration(&self) -> RegisterRequest {
        RegisterRequest {
            protocol_version: PROTOCOL_VERSION,
            node: self.name.clone(),
            host: format!("host-{}", self.name),
            transfer_port: 9866,
            rack: "/r".into(),
            storages: self.storages(),
            ..Default::default()
        }
    }
    pub(super) fn register(&mut self, bench: &mut Bench) {
        let answer: RegisterResponse = bench.ask(self.registration()).unwrap();
        assert_eq!((answer.cluster.as_str(), answer.pool.as_str()), ("CID-1", "BP-1"));
        let key = NodeKey::from_slice(&answer.node_key).unwrap();
        self.keys = NodeKeys::new(vec![(answer.key_number, key)]);
        self.full_report(bench);
    }
    /// The process of the node starts again.
    pub(super) fn restart(&mut self, bench: &mut Bench) {
        self.incarnation += 1;
        (self.changes, self.told) = (Vec::new(), 0);
        self.prepared.clear();
        self.found = self.held.keys().copied().collect();
        self.register(bench);
    }
    pub(super) fn full_report(&mut self, bench: &mut Bench) {
        let mut hashes = vec![0_u64; BUCKETS];
        let mut buckets: BTreeMap<u32, Vec<ReplicaRecord>> = BTreeMap::new();
        for (raw, record) in &self.held {
            let (id, stamp) = (BlockId::from_raw(*raw), GenerationStamp::from_raw(record.stamp));
            let sum = &mut hashes[id.bucket() as usize];
            *sum = sum.wrapping_add(replica_hash(id, stamp, record.len_bytes));
            buckets.entry(id.bucket()).or_default().push(*record);
        }
        let request = ReportHashesRequest {
            node: self.name.clone(),
            storage: self.storage.clone(),
            incarnation: self.incarnation,
            sequence: self.changes.len() as u64,
            hashes,
            replicas: self.held.len() as u64,
        };
        let answer: proto::cluster::ReportHashesResponse = bench.ask(request).unwrap();
        if answer.differing.is_empty() {
            return;
        }
        let of = |bucket: &u32| proto::cluster::Bucket {
            bucket: *bucket,
            replicas: buckets.get(bucket).cloned().unwrap_or_default(),
        };
        let request = ReportBucketsRequest {
            node: self.name.clone(),
            storage: self.storage.clone(),
            incarnation: self.incarnation,
            sequence: self.changes.len() as u64,
            report: answer.report,
            buckets: answer.differing.iter().map(of).collect(),
            last: true,
        };
        let answer: proto::cluster::ReportBucketsResponse = bench.ask(request).unwrap();
        assert!(!answer.restart && !answer.reregister);
    }
    /// Commands that came with the reply.
    pub(super) fn heartbeat(&mut self, bench: &mut Bench) -> Vec<NodeCommand> {
        if !self.up {
            return Vec::new();
        }
        let request = HeartbeatRequest {
            node: self.name.clone(),
            cluster: "CID-1".into(),
            storages: self.storages(),
            results: std::mem::take(&mut self.results),
            highest_term: self.highest_term,
            ..Default::default()
        };
        let answer: proto::cluster::HeartbeatResponse = bench.ask(request).unwrap();
        if answer.leader {
            self.highest_term = self.highest_term.max(answer.term);
        }
        if answer.reregister {
            self.register(bench);
        } else if answer.full_report {
            self.full_report(bench);
        }
        answer.commands
    }
    pub(super) fn put(&mut self, block: &Block, state: ReplicaState) {
        let (id, stamp, len_bytes) = (block.id, block.stamp, block.len_bytes);
        let record = ReplicaRecord { id, stamp, len_bytes, state: state as i32, verified: false };
        if state == ReplicaState::Deleted {
            self.held.remove(&id);
        } else {
            self.held.insert(id, record);
        }
        self.changes.push(record);
    }
    fn prepare(&mut self, number: u64, prepare: &PrepareRecovery) {
        if self.hangs {
            return;
        }
        let id = prepare.block.as_ref().unwrap().id;
        let there = self.held.get(&id).copied();
        let stamp = there.map_or(0, |there| there.stamp).max(self.prepared.get(&id).copied().unwrap_or(0));
        if prepare.recovery_stamp < stamp {
            self.results.push(CommandResult { number, ok: false, error: "overtaken".into(), replica: None });
            return;
        }
        self.prepared.insert(id, prepare.recovery_stamp);
        let none = ReplicaFound { state: ReplicaState::Deleted as i32, ..Default::default() };
        let found = there.map_or(none, |there| ReplicaFound {
            state: there.state,
            stamp: there.stamp,
            len_bytes: there.len_bytes,
            acked_bytes: self.acked.get(&id).copied().unwrap_or(0),
            restarted: self.found.contains(&id),
        });
        self.results.push(CommandResult { number, ok: true, error: String::new(), replica: Some(found) });
    }
    fn finish(&mut self, number: u64, finish: &FinishReplica) {
        if self.hangs {
            return;
        }
        let block = finish.block.clone().unwrap();
        let ok = self.prepared.get(&block.id) == Some(&finish.recovery_stamp)
            && self.held.get(&block.id).is_some_and(|held| held.len_bytes >= block.len_bytes);
        if ok {
            self.put(&Block { stamp: finish.recovery_stamp, ..block }, ReplicaState::Finalized);
        }
        let error = if ok { String::new() } else { "not prepared".to_owned() };
        self.results.push(CommandResult { number, ok, error, replica: None });
    }
    /// Part of a block arrives, which is told.
    pub(super) fn write(&mut self, block: &Block, len_bytes: u64, acked_bytes: u64) {
        self.put(&Block { len_bytes, ..block.clone() }, ReplicaState::BeingWritten);
        self.acked.insert(block.id, acked_bytes);
    }
    /// Tells what was not told.
    pub(super) fn report(&mut self, bench: &mut Bench) {
        if !self.up || self.told == self.changes.len() as u64 {
            return;
        }
        let request = IncrementalReportRequest {
            node: self.name.clone(),
            storage: self.storage.clone(),
            incarnation: self.incarnation,
            first_sequence: self.told + 1,
            changes: self.changes[self.told as usize..].to_vec(),
        };
        let answer: proto::cluster::IncrementalReportResponse = bench.ask(request).unwrap();
        self.told = answer.next_sequence.saturating_sub(1);
    }
    pub(super) fn receipt(&self, block: &Block) -> Receipt {
        let storage = StorageId::parse(&self.storage).unwrap();
        let pool = PoolId::parse(&block.pool).unwrap();
        let what = receipt::Finalised {
            pool: &pool,
            block: BlockId::from_raw(block.id),
            stamp: GenerationStamp::from_raw(block.stamp),
            len_bytes: block.len_bytes,
            storage: &storage,
        };
        Receipt {
            storage: self.storage.clone(),
            node: self.name.clone(),
            stamp: block.stamp,
            len_bytes: block.len_bytes,
            mac: receipt::make(&self.keys, &what).unwrap().into(),
        }
    }
}

/// The block becomes whole on these nodes, which is not told yet; their receipts.
pub(super) fn finish(block: &Block, len_bytes: u64, nodes: &mut [Datanode]) -> n::FinishedBlock {
    let block = Block { len_bytes, ..block.clone() };
    nodes.iter_mut().for_each(|node| node.put(&block, ReplicaState::Finalized));
    let receipts = nodes.iter().map(|node| node.receipt(&block)).collect();
    let digest = Bytes::from(vec![block.id as u8; 16]);
    n::FinishedBlock { block: Some(block), receipts, digest }
}

/// A node carries a command out.
fn carry(command: &NodeCommand, at: usize, nodes: &mut [Datanode]) {
    match &command.kind {
        Some(Kind::Delete(delete)) => {
            assert_eq!(delete.storage, nodes[at].storage);
            for block in &delete.blocks {
                assert_eq!(block.pool, "BP-1", "commands name the pool");
                if nodes[at].held.contains_key(&block.id) {
                    nodes[at].put(block, ReplicaState::Deleted);
                }
            }
        }
        // What is to be read again turns out to be damaged.
        Some(Kind::Verify(verify)) => {
            assert_eq!(verify.storage, nodes[at].storage);
            let digests = verify.blocks.iter().map(|block| Bytes::from(vec![block.id as u8; 16]));
            assert_eq!(verify.digests, digests.collect::<Vec<_>>(), "commands name the digests of the namespace");
            for block in &verify.blocks {
                assert_eq!(block.pool, "BP-1", "commands name the pool");
                if nodes[at].held.contains_key(&block.id) {
                    nodes[at].put(block, ReplicaState::Corrupt);
                }
            }
        }
        Some(Kind::Copy(copy)) => {
            assert!(!copy.token.is_empty(), "a copy comes with a token");
            let block = copy.block.clone().unwrap();
            assert!(nodes[at].held.contains_key(&block.id), "a source has what it copies");
            let target = nodes.iter_mut().find(|node| node.name == copy.targets[0].node).unwrap();
            if target.up {
                target.put(&block, ReplicaState::Finalized);
            }
        }
        Some(Kind::PrepareRecovery(prepare)) => {
            assert_eq!(prepare.storage, nodes[at].storage);
            nodes[at].prepare(command.number, prepare);
        }
        Some(Kind::FinishReplica(finish)) => {
            assert_eq!(finish.storage, nodes[at].storage);
            nodes[at].finish(command.number, finish);
        }
        None => panic!("a command of no kind that is known here"),
    }
}
