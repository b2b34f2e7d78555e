//! The agent against a namenode of a few lines.

use std::path::{Path, PathBuf};

use base::disk::{DiskFault, DiskFaultKind, MemDisk};
use base::random::SeededRandom;
use proto::cluster::ReplicaState as WireState;
use proto::common::Block;
use proto::error::{ErrorCode, FsError};
use proto::ids::{BlockId, GenerationStamp, PoolId, StorageId};
use transfer::{BlockRef, ChunkFormat};

use super::*;
use crate::commands;
use crate::store::{Store, StoreError, StoreOptions};

const SECOND: Duration = Duration::from_secs(1);

fn open(disk: &MemDisk) -> Node {
    let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
    let dirs = [PathBuf::from("/dn")];
    Node::new(Store::open(&disk.shared(), &dirs, options, &SeededRandom::new(1), Moment::START).unwrap().0)
}

fn config() -> AgentConfig {
    AgentConfig {
        namenodes: 1,
        host: "127.0.0.1".into(),
        transfer_port: 9866,
        http_address: String::new(),
        rack: "/default".into(),
        machine: "m".into(),
        local_socket: "/run/m.sock".into(),
        heartbeat: SECOND * 3,
        full_report: SECOND * 3600,
        copy_streams: 4,
        copy_rate_bytes_per_s: 1 << 20,
    }
}

fn store_block(node: &Node, n: i64) -> StorageId {
    let block = BlockRef {
        pool: PoolId::new("1"),
        id: BlockId::from_raw(BlockId::FIRST.raw() + n),
        stamp: GenerationStamp::FIRST,
        len_bytes: 10,
    };
    let mut writer = node.store().create(&block, None, ChunkFormat::CRC32C_512).unwrap();
    writer.write(0, b"0123456789", &ChunkFormat::CRC32C_512.compute(b"0123456789")).unwrap();
    writer.finalise().unwrap().storage
}

/// A node, its agent and a clock; calls are answered by hand.
struct Bench {
    node: Node,
    agent: Agent,
    now: Moment,
    /// What registrations are answered with.
    next_stamp: u64,
    effects: Vec<AgentEffect>,
}

impl Bench {
    fn new(node: Node) -> Self {
        let agent = Agent::new(config(), &node);
        Self { agent, node, now: Moment::START.plus(SECOND), next_stamp: 0, effects: Vec::new() }
    }
    fn tick(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.event(AgentEvent::Tick);
    }
    fn event(&mut self, event: AgentEvent) {
        self.agent.handle(&self.node, event, self.now, &mut self.effects);
    }
    /// Takes the oldest call that `pick` likes.
    fn call<T>(&mut self, pick: impl Fn(&Call) -> Option<T>) -> Option<(CallNumber, T)> {
        let found = self.effects.iter().enumerate().find_map(|(at, effect)| match effect {
            AgentEffect::Call { call, request, .. } => pick(request).map(|picked| (at, *call, picked)),
            _ => None,
        });
        let (at, call, picked) = found?;
        self.effects.remove(at);
        Some((call, picked))
    }
    fn answer(&mut self, call: CallNumber, answer: Answer) {
        self.event(AgentEvent::Answer { namenode: 0, call, answer: Ok(answer) });
    }
    fn register(&mut self) -> RegisterRequest {
        self.event(AgentEvent::Tick);
        self.register_again()
    }
    /// Answers the registration that is under way.
    fn register_again(&mut self) -> RegisterRequest {
        let (call, request) = self.call(register).unwrap();
        let answer = RegisterResponse {
            cluster: "CID-1".into(),
            pool: "BP-1".into(),
            term: 1,
            key_number: 1,
            node_key: vec![1; 32].into(),
            full_report: true,
            next_stamp: self.next_stamp,
            ..RegisterResponse::default()
        };
        self.answer(call, Answer::Register(answer));
        request
    }
    fn heartbeat(&mut self, answer: HeartbeatResponse) -> HeartbeatRequest {
        if !self.effects.iter().any(|e| matches!(e, AgentEffect::Call { request, .. } if heartbeat(request).is_some()))
        {
            self.tick(SECOND * 3);
        }
        let (call, request) = self.call(heartbeat).unwrap();
        self.answer(call, Answer::Heartbeat(HeartbeatResponse { key_number: 1, ..answer }));
        request
    }
    fn carried(&mut self) -> Vec<Command> {
        let mut carried = Vec::new();
        self.effects.retain(|effect| match effect {
            AgentEffect::Carry { command, .. } => {
                carried.push(command.clone());
                false
            }
            _ => true,
        });
        carried
    }
}

fn register(call: &Call) -> Option<RegisterRequest> {
    if let Call::Register(request) = call { Some(request.clone()) } else { None }
}
fn heartbeat(call: &Call) -> Option<HeartbeatRequest> {
    if let Call::Heartbeat(request) = call { Some(request.clone()) } else { None }
}
fn incremental(call: &Call) -> Option<IncrementalReportRequest> {
    if let Call::Incremental(request) = call { Some(request.clone()) } else { None }
}
fn hashes(call: &Call) -> Option<ReportHashesRequest> {
    if let Call::Hashes(request) = call { Some(request.clone()) } else { None }
}
fn buckets(call: &Call) -> Option<ReportBucketsRequest> {
    if let Call::Buckets(request) = call { Some(request.clone()) } else { None }
}

fn delete(number: u64, storage: &StorageId, n: i64) -> NodeCommand {
    let block =
        Block { pool: "BP-1".into(), id: BlockId::FIRST.raw() + n, stamp: GenerationStamp::FIRST.raw(), len_bytes: 10 };
    let delete = DeleteReplicas { storage: storage.to_string(), blocks: vec![block], reason: "deleted".into() };
    NodeCommand { number, kind: Some(node_command::Kind::Delete(delete)) }
}

fn leader(term: u64, commands: Vec<NodeCommand>) -> HeartbeatResponse {
    HeartbeatResponse { term, leader: true, commands, ..HeartbeatResponse::default() }
}

/// Who leads from now on, as this node's first heartbeats hear and tell.
fn led_by(bench: &mut Bench, term: u64) {
    bench.heartbeat(leader(term, vec![]));
    bench.event(AgentEvent::TermKept { term: Term::from_raw(term), kept: true });
    bench.heartbeat(leader(term, vec![]));
}

/// Registers, reports nothing in full, and has blocks 0..count.
fn bench(disk: &MemDisk, count: i64) -> (Bench, Option<StorageId>) {
    let mut bench = Bench::new(open(disk));
    bench.register();
    let (call, _) = bench.call(hashes).unwrap();
    bench.answer(call, Answer::Hashes(ReportHashesResponse::default()));
    assert!(bench.agent.ready());
    let storage = (0..count).map(|n| store_block(&bench.node, n)).last();
    (bench, storage)
}

#[test]
fn a_new_node_joins_registers_and_reports() {
    let disk = MemDisk::new();
    let mut bench = Bench::new(open(&disk));
    let request = bench.register();
    assert_eq!((request.cluster.as_str(), request.storages.len()), ("", 1));
    assert_eq!(bench.node.key_number(), Some(1));
    store_block(&bench.node, 0);
    assert!(!bench.agent.ready());
    let (call, report) = bench.call(hashes).unwrap();
    assert_eq!((report.hashes.len(), report.replicas), (1024, 0));
    let differing = vec![BlockId::FIRST.bucket()];
    bench.answer(call, Answer::Hashes(ReportHashesResponse { differing, report: 9, reregister: false }));
    let (call, report) = bench.call(buckets).unwrap();
    assert_eq!((report.report, report.last, report.buckets[0].replicas.len(), report.sequence), (9, true, 1, 1));
    bench.answer(call, Answer::Buckets(ReportBucketsResponse::default()));
    assert!(bench.agent.ready());
    let (call, changes) = bench.call(incremental).unwrap();
    assert_eq!((changes.first_sequence, changes.changes.len()), (1, 1));
    let answer = IncrementalReportResponse { next_sequence: 2, ..IncrementalReportResponse::default() };
    bench.answer(call, Answer::Incremental(answer));
    assert!(bench.call(incremental).is_none(), "nothing is said twice");
    // The second start knows its cluster.
    disk.process_died();
    let mut again = Bench::new(open(&disk));
    assert_eq!(again.register().cluster, "CID-1");
}

#[test]
fn sc_70_commands_of_a_lower_term_are_refused_also_after_a_restart() {
    let disk = MemDisk::new();
    let (mut bench, storage) = bench(&disk, 1);
    let storage = storage.unwrap();
    bench.heartbeat(leader(5, vec![]));
    assert!(bench.effects.contains(&AgentEffect::KeepTerm(Term::from_raw(5))));
    bench.node.store().raise_term(Term::from_raw(5)).unwrap();
    bench.event(AgentEvent::TermKept { term: Term::from_raw(5), kept: true });
    bench.heartbeat(leader(4, vec![delete(1, &storage, 0)]));
    assert_eq!(bench.carried(), []);
    let told = bench.heartbeat(leader(5, vec![]));
    assert_eq!((told.results.len(), told.results[0].ok, told.highest_term), (1, false, 5));
    drop(bench);
    disk.process_died();
    let mut again = Bench::new(open(&disk));
    again.register();
    again.heartbeat(leader(4, vec![delete(1, &storage, 0)]));
    assert_eq!(again.carried(), []);
}

#[test]
fn sc_70_a_new_leader_hears_at_once_that_its_term_is_known() {
    let disk = MemDisk::new();
    let (mut bench, _) = bench(&disk, 1);
    assert_eq!(bench.heartbeat(leader(5, vec![])).highest_term, 0);
    bench.tick(Duration::ZERO);
    assert!(bench.call(heartbeat).is_none(), "a restart would forget it");
    bench.event(AgentEvent::TermKept { term: Term::from_raw(5), kept: true });
    let (call, told) = bench.call(heartbeat).expect("not after three seconds only");
    assert_eq!(told.highest_term, 5);
    bench.answer(call, Answer::Heartbeat(leader(5, vec![])));
    bench.tick(Duration::from_secs(1));
    assert!(bench.call(heartbeat).is_none(), "it is told once");
}

#[test]
fn sc_26_a_node_that_was_restarted_takes_no_new_block_of_a_stamp_that_may_have_been_fenced() {
    let disk = MemDisk::new();
    let mut bench = Bench::new(open(&disk));
    bench.next_stamp = GenerationStamp::FIRST.raw() + 7;
    bench.register();
    let begin = |bench: &Bench, stamp: u64| {
        let (pool, id) = (PoolId::new("1"), BlockId::from_raw(BlockId::FIRST.raw() + stamp as i64));
        let stamp = GenerationStamp::from_raw(GenerationStamp::FIRST.raw() + stamp);
        let block = BlockRef { pool, id, stamp, len_bytes: 0 };
        bench.node.store().create_new(&block, None, ChunkFormat::CRC32C_512).err()
    };
    for old in [0, 6] {
        assert!(matches!(begin(&bench, old), Some(StoreError::Fenced { .. })), "it was given before the start");
    }
    let refused = begin(&bench, 7);
    assert!(refused.is_none(), "it is given after the start: {refused:?}");
    // A node that only registers again has forgotten nothing.
    bench.next_stamp += 100;
    bench.heartbeat(HeartbeatResponse { reregister: true, ..leader(1, vec![]) });
    bench.event(AgentEvent::Tick);
    bench.register_again();
    assert!(begin(&bench, 8).is_none());
}

#[test]
fn a_command_waits_until_its_term_is_durable() {
    let disk = MemDisk::new();
    let (mut bench, storage) = bench(&disk, 1);
    let storage = storage.unwrap();
    bench.heartbeat(leader(7, vec![delete(1, &storage, 0)]));
    assert_eq!(bench.carried(), []);
    bench.event(AgentEvent::TermKept { term: Term::from_raw(7), kept: true });
    let carried = bench.carried();
    assert_eq!((carried.len(), carried[0].number, carried[0].term), (1, 1, Term::from_raw(7)));
    // Sent again while it runs: not begun twice.
    bench.heartbeat(leader(7, vec![delete(1, &storage, 0)]));
    assert_eq!(bench.carried(), []);
    let now = bench.now;
    let Task::Delete(what) = &carried[0].task else { panic!("a delete") };
    let result = commands::delete(&bench.node, &carried[0], what, || now);
    assert!(result.ok, "{result:?}");
    assert!(bench.node.store().replica(BlockId::FIRST).is_none());
    bench.event(AgentEvent::CommandDone { namenode: 0, result });
    let told = bench.heartbeat(leader(7, vec![]));
    assert_eq!((told.results.len(), told.results[0].ok), (1, true));
    assert_eq!(bench.heartbeat(leader(7, vec![])).results, []);
}

fn copy(number: u64) -> NodeCommand {
    NodeCommand { number, kind: Some(node_command::Kind::Copy(CopyReplica::default())) }
}

fn done(number: u64) -> AgentEvent {
    let result = CommandResult { number, ok: true, error: String::new(), replica: None };
    AgentEvent::CommandDone { namenode: 0, result }
}

#[test]
fn the_leader_hears_of_results_when_half_of_the_work_is_done_or_after_a_moment() {
    let disk = MemDisk::new();
    let (mut bench, _) = bench(&disk, 0);
    led_by(&mut bench, 1);
    let told = bench.heartbeat(leader(1, (1..=8).map(copy).collect()));
    assert_eq!((told.copy_streams, told.copy_rate_bytes_per_s), (4, 1 << 20));
    bench.event(AgentEvent::TermKept { term: Term::from_raw(1), kept: true });
    assert_eq!(bench.carried().len(), 8);
    (1..=3).for_each(|number| bench.event(done(number)));
    assert!(bench.call(heartbeat).is_none(), "five are under way");
    bench.event(done(4));
    let (lost, told) = bench.call(heartbeat).unwrap();
    assert_eq!(told.results.len(), 4);
    // The namenode cannot be reached: the same news are not told again and again.
    bench.event(AgentEvent::Answer { namenode: 0, call: lost, answer: Err(FsError::new(ErrorCode::Unavailable, "")) });
    bench.tick(SECOND);
    assert!(bench.call(heartbeat).is_none());
    bench.event(done(5));
    assert!(bench.call(heartbeat).is_none());
    bench.tick(Duration::from_millis(60));
    let (_, told) = bench.call(heartbeat).unwrap();
    assert_eq!(told.results.len(), 5, "one result alone waits for a moment only, and takes the others along");
}

#[test]
fn commands_are_void_after_ten_seconds_and_only_from_leaders() {
    let disk = MemDisk::new();
    let (mut bench, storage) = bench(&disk, 1);
    let storage = storage.unwrap();
    let follower = HeartbeatResponse { leader: false, ..leader(1, vec![delete(1, &storage, 0)]) };
    bench.heartbeat(follower);
    bench.event(AgentEvent::TermKept { term: Term::from_raw(1), kept: true });
    assert_eq!(bench.carried(), []);
    bench.heartbeat(leader(1, vec![delete(2, &storage, 0)]));
    bench.event(AgentEvent::TermKept { term: Term::from_raw(1), kept: true });
    let carried = bench.carried();
    let Task::Delete(what) = &carried[0].task else { panic!("a delete") };
    let late = bench.now.plus(COMMAND_LIFE);
    assert!(!commands::delete(&bench.node, &carried[0], what, || late).ok);
    assert!(bench.node.store().replica(BlockId::FIRST).is_some());
}

#[test]
fn lost_answers_are_made_up_for() {
    let disk = MemDisk::new();
    let (mut bench, _) = bench(&disk, 3);
    bench.tick(Duration::ZERO);
    let (lost, first) = bench.call(incremental).unwrap();
    assert_eq!(first.changes.len(), 3);
    bench.tick(CALL_LIFE);
    let (call, again) = bench.call(incremental).unwrap();
    assert_eq!(again.changes, first.changes);
    let answer = IncrementalReportResponse { next_sequence: 4, ..IncrementalReportResponse::default() };
    bench.answer(lost, Answer::Incremental(IncrementalReportResponse::default()));
    bench.answer(call, Answer::Incremental(answer));
    assert!(bench.call(incremental).is_none(), "a late answer of a lost call counts for nothing");
    // The namenode wants some again.
    store_block(&bench.node, 3);
    bench.tick(Duration::ZERO);
    let (call, one) = bench.call(incremental).unwrap();
    assert_eq!(one.first_sequence, 4);
    let behind = IncrementalReportResponse { next_sequence: 4, ..IncrementalReportResponse::default() };
    bench.answer(call, Answer::Incremental(behind));
    assert_eq!(bench.call(incremental).unwrap().1.first_sequence, 4);
}

#[test]
fn a_namenode_that_forgot_the_node_gets_a_registration() {
    let disk = MemDisk::new();
    let (mut bench, _) = bench(&disk, 0);
    bench.heartbeat(HeartbeatResponse { reregister: true, ..leader(1, vec![]) });
    let (call, _) = bench.call(register).unwrap();
    let refused = FsError::new(ErrorCode::WrongCluster, "another cluster");
    bench.event(AgentEvent::Answer { namenode: 0, call, answer: Err(refused) });
    assert!(!bench.agent.registered());
    bench.tick(SECOND);
    assert!(bench.call(register).is_some(), "it goes on trying");
}

#[test]
fn another_cluster_is_not_joined() {
    let disk = MemDisk::new();
    let (mut bench, _) = bench(&disk, 0);
    bench.heartbeat(HeartbeatResponse { reregister: true, ..leader(1, vec![]) });
    let (call, _) = bench.call(register).unwrap();
    let other = RegisterResponse { cluster: "CID-2".into(), pool: "BP-2".into(), ..RegisterResponse::default() };
    bench.answer(call, Answer::Register(other));
    assert!(!bench.agent.registered());
    assert_eq!(bench.node.store().membership().unwrap().1, PoolId::new("1"));
}

#[test]
fn a_failed_volume_is_told_and_its_replicas_are_not_reported_on() {
    let disk = MemDisk::new();
    let (mut bench, _) = bench(&disk, 0);
    led_by(&mut bench, 1);
    store_block(&bench.node, 0);
    disk.inject(DiskFault::once(DiskFaultKind::SyncError).on("current"));
    let block =
        BlockRef { pool: PoolId::new("1"), id: BlockId::from_raw(5), stamp: GenerationStamp::FIRST, len_bytes: 1 };
    let mut writer = bench.node.store().create(&block, None, ChunkFormat::CRC32C_512).unwrap();
    assert!(writer.finalise().is_err());
    let told = bench.heartbeat(leader(1, vec![]));
    assert!(told.storages[0].failed && !told.storages[0].failure.is_empty());
    bench.tick(SECOND);
    assert!(bench.call(incremental).is_none());
}

#[test]
fn half_written_replicas_are_told_before_the_first_full_report() {
    let disk = MemDisk::new();
    let (bench_before, _) = bench(&disk, 0);
    let block = BlockRef { pool: PoolId::new("1"), id: BlockId::FIRST, stamp: GenerationStamp::FIRST, len_bytes: 10 };
    let mut writer = bench_before.node.store().create(&block, None, ChunkFormat::CRC32C_512).unwrap();
    writer.write(0, b"x", &ChunkFormat::CRC32C_512.compute(b"x")).unwrap();
    disk.process_died();
    drop(writer);
    drop(bench_before);
    assert!(disk.shared().info(Path::new("/dn/current")).unwrap().is_some());
    let mut again = Bench::new(open(&disk));
    again.register();
    assert!(again.call(hashes).is_none());
    let (call, changes) = again.call(incremental).unwrap();
    assert_eq!(changes.changes[0].state, WireState::WaitingRecovery as i32);
    let answer = IncrementalReportResponse { next_sequence: 2, ..IncrementalReportResponse::default() };
    again.answer(call, Answer::Incremental(answer));
    assert!(again.call(hashes).is_some());
}

#[test]
fn a_term_that_could_not_be_kept_is_tried_again_and_its_commands_are_refused() {
    let disk = MemDisk::new();
    let (mut bench, storage) = bench(&disk, 1);
    let storage = storage.unwrap();
    let keep = AgentEffect::KeepTerm(Term::from_raw(7));
    bench.heartbeat(leader(7, vec![delete(1, &storage, 0)]));
    assert!(bench.effects.contains(&keep));
    bench.effects.clear();
    bench.heartbeat(leader(7, vec![]));
    assert!(!bench.effects.contains(&keep), "it is under way");
    bench.event(AgentEvent::TermKept { term: Term::from_raw(7), kept: false });
    assert_eq!(bench.carried(), []);
    let told = bench.heartbeat(leader(7, vec![delete(1, &storage, 0)]));
    assert_eq!((told.results.len(), told.results[0].ok), (1, false), "the leader hears of it");
    assert!(bench.effects.contains(&keep), "tried again");
    bench.event(AgentEvent::TermKept { term: Term::from_raw(7), kept: true });
    assert_eq!(bench.carried().len(), 1, "the same command is not taken for one that runs");
}

#[test]
fn a_namenode_that_forgot_is_told_of_half_written_replicas_again() {
    let disk = MemDisk::new();
    let (mut bench, _) = bench(&disk, 0);
    let block = BlockRef { pool: PoolId::new("1"), id: BlockId::FIRST, stamp: GenerationStamp::FIRST, len_bytes: 10 };
    let mut writer = bench.node.store().create(&block, None, ChunkFormat::CRC32C_512).unwrap();
    writer.write(0, b"x", &ChunkFormat::CRC32C_512.compute(b"x")).unwrap();
    drop(writer);
    bench.tick(Duration::ZERO);
    let (call, told) = bench.call(incremental).unwrap();
    assert_eq!(told.changes[0].state, WireState::WaitingRecovery as i32);
    let next = IncrementalReportResponse { next_sequence: 2, ..IncrementalReportResponse::default() };
    bench.answer(call, Answer::Incremental(next));
    // The namenode restarts: its hashes of this bucket are equal, because nothing in it is whole.
    bench.heartbeat(HeartbeatResponse { reregister: true, ..leader(1, vec![]) });
    bench.effects.retain(|effect| !matches!(effect, AgentEffect::KeepTerm(_)));
    bench.register_again();
    let (call, again) = bench.call(incremental).unwrap();
    assert_eq!((again.first_sequence, again.changes), (2, told.changes));
    let next = IncrementalReportResponse { next_sequence: 3, ..IncrementalReportResponse::default() };
    bench.answer(call, Answer::Incremental(next));
    assert!(bench.call(hashes).is_some(), "and only then asks for hashes");
}

#[test]
fn a_leader_that_has_more_to_say_hears_of_the_node_soon() {
    let disk = MemDisk::new();
    let (mut bench, _) = bench(&disk, 0);
    led_by(&mut bench, 1);
    let soon = |again_in_ms| HeartbeatResponse { again_in_ms, ..leader(1, vec![]) };
    let beats_within = |bench: &mut Bench, millis: u64| {
        bench.tick(Duration::from_millis(millis));
        bench.effects.iter().any(|e| matches!(e, AgentEffect::Call { request, .. } if heartbeat(request).is_some()))
    };
    bench.heartbeat(soon(250));
    assert!(!beats_within(&mut bench, 200));
    assert!(beats_within(&mut bench, 60));
    // Not as often as it would be asked for, and not because of one that does not lead.
    bench.heartbeat(soon(1));
    assert!(!beats_within(&mut bench, 90));
    assert!(beats_within(&mut bench, 20));
    bench.heartbeat(HeartbeatResponse { leader: false, ..soon(250) });
    assert!(!beats_within(&mut bench, 2900));
    assert!(beats_within(&mut bench, 200));
}
