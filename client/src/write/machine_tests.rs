//! The writer against a model of namenode and datanodes that fails at random.

use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proptest::prelude::*;
use proto::common::{Block, LocatedBlock, Receipt, StorageLocation};
use proto::error::{ErrorCode, FsError};
use proto::namespace::{FileStatus, FinishedBlock};
use transfer::digest::{self, LeafHasher};
use transfer::{Ack, BlockDigest, Packet, Status};

use super::{FileWriter, WriteConfig, WriteEffect, WriteEvent};

const BLOCK_BYTES: u64 = 4096;
const NODES: usize = 3;

fn located(id: i64) -> LocatedBlock {
    let locations = (0..NODES)
        .map(|n| StorageLocation {
            node: format!("node-{n}"),
            storage: format!("DS-{n}"),
            host: "127.0.0.1".into(),
            transfer_port: 9000 + n as u32,
            ..StorageLocation::default()
        })
        .collect();
    let block = Block { pool: "BP-1".into(), id, stamp: 1001, len_bytes: 0 };
    LocatedBlock { block: Some(block), locations, ..LocatedBlock::default() }
}

fn config() -> WriteConfig {
    WriteConfig { packet_bytes: 1024, window_bytes: 3000, ..WriteConfig::default() }
}

/// What the namenode and the datanodes hold.
#[derive(Default)]
struct World {
    next_block: i64,
    /// Bytes of the open replica of the current attempt.
    open: Option<(u32, i64, Vec<u8>)>,
    /// Leaves that came with them.
    leaves: Vec<digest::Leaf>,
    /// Packets on their way in the current attempt.
    wire: Vec<(u32, Packet)>,
    finished: Vec<(i64, Vec<u8>)>,
    committed: Vec<FinishedBlock>,
    published: Option<Vec<u8>>,
    discarded: bool,
    done: Option<Result<(), FsError>>,
    excluded: Vec<String>,
}

impl World {
    fn commit(&mut self, finished: Option<FinishedBlock>) {
        if let Some(finished) = finished {
            let id = finished.block.as_ref().unwrap().id;
            if self.committed.iter().all(|other| other.block.as_ref().unwrap().id != id) {
                self.committed.push(finished);
            }
        }
    }
    fn content(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for finished in &self.committed {
            let block = finished.block.as_ref().unwrap();
            let (_, bytes) = self.finished.iter().find(|(id, _)| *id == block.id).expect("finished at the nodes");
            assert_eq!(bytes.len() as u64, block.len_bytes, "a committed length is what the nodes have");
            assert_eq!(finished.receipts.len(), NODES);
            assert_eq!(&finished.digest[..], tree(bytes).prefix());
            all.extend_from_slice(bytes);
        }
        all
    }
    /// Delivers the oldest packet and acknowledges it for all nodes.
    fn take_packet(&mut self) -> Option<WriteEvent> {
        let (attempt, packet) = (!self.wire.is_empty()).then(|| self.wire.remove(0))?;
        let (open_attempt, id, bytes) = self.open.as_mut().expect("a pipeline");
        assert_eq!(*open_attempt, attempt);
        assert_eq!(packet.head.offset_bytes as usize, bytes.len(), "no hole, no repetition");
        bytes.extend_from_slice(&packet.data);
        self.leaves.extend_from_slice(digest::parse_leaves(&packet.leaves).expect("whole leaves"));
        assert!(self.leaves.len() as u64 <= digest::leaf_count(bytes.len() as u64), "no leaf before its data");
        let mut ack = Ack { seqno: packet.head.seqno, replies: vec![Status::Success; NODES], receipts: vec![] };
        if packet.head.last {
            let receipt = Receipt { len_bytes: bytes.len() as u64, ..Receipt::default() };
            ack.receipts = vec![receipt; NODES];
            assert_eq!(self.leaves, tree(bytes).leaves(), "the nodes have every leaf, on whichever pipeline");
            self.finished.push((*id, bytes.clone()));
        }
        Some(WriteEvent::Ack { attempt, ack })
    }
    /// Does the effects and returns the answers that are certain.
    fn perform(&mut self, effects: Vec<WriteEffect>) -> Vec<WriteEvent> {
        let mut answers = Vec::new();
        for effect in effects {
            match effect {
                WriteEffect::AddBlock { previous, exclude_nodes, .. } => {
                    self.commit(previous);
                    self.excluded = exclude_nodes;
                    self.next_block += 1;
                    answers.push(WriteEvent::BlockAdded(Ok(located(self.next_block))));
                }
                WriteEffect::AbandonBlock { .. } => answers.push(WriteEvent::BlockAbandoned(Ok(()))),
                WriteEffect::Complete { last } => {
                    assert!(!self.discarded);
                    self.commit(last);
                    self.published = Some(self.content());
                    answers.push(WriteEvent::Completed(Ok(FileStatus::default())));
                }
                WriteEffect::Discard => self.discarded = true,
                WriteEffect::OpenPipeline { attempt, block } => {
                    self.open = Some((attempt, block.block.unwrap().id, Vec::new()));
                    self.leaves.clear();
                    self.wire.clear();
                    answers.push(WriteEvent::PipelineOpened { attempt });
                }
                WriteEffect::SendPacket { attempt, packet } if packet.head.seqno >= 0 => {
                    self.wire.push((attempt, packet));
                }
                WriteEffect::SendPacket { .. } => {}
                WriteEffect::ClosePipeline { .. } => self.wire.clear(),
                WriteEffect::Done(result) => self.done = Some(result.map(|_| ())),
            }
        }
        answers
    }
}

fn tree(bytes: &[u8]) -> LeafHasher {
    let mut tree = LeafHasher::default();
    tree.update(bytes);
    tree.finish();
    tree
}

struct Run {
    writer: FileWriter,
    world: World,
    now: Moment,
}

impl Run {
    fn new(first: Option<LocatedBlock>) -> Self {
        let writer = FileWriter::new(config(), BLOCK_BYTES, first, Moment::START);
        Self { writer, world: World { next_block: 1, ..World::default() }, now: Moment::START }
    }
    fn event(&mut self, event: WriteEvent) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut effects = Vec::new();
            self.writer.handle(event, self.now, &mut effects);
            events.extend(self.world.perform(effects));
        }
    }
    fn write(&mut self, bytes: &[u8]) {
        self.event(WriteEvent::Data(Bytes::copy_from_slice(bytes)));
    }
    fn settle(&mut self) {
        while let Some(ack) = self.world.take_packet() {
            self.event(ack);
        }
    }
    fn fail(&mut self, bad: Option<usize>) {
        let attempt = self.world.open.as_ref().map_or(1, |(attempt, ..)| *attempt);
        self.event(WriteEvent::PipelineFailed { attempt, bad, why: "it died".into() });
    }
}

#[test]
fn a_small_file_is_one_packet_and_no_second_block() {
    let mut run = Run::new(Some(located(1)));
    run.write(b"hello");
    run.event(WriteEvent::Close);
    assert_eq!(run.world.wire.len(), 1, "the last packet carries the data");
    run.settle();
    assert_eq!(run.world.published.as_deref(), Some(&b"hello"[..]));
    assert_eq!(run.world.next_block, 1);
}

/// Writes `bytes` into one block and collects its packets and what is committed.
fn write_block(bytes: &[u8], config: WriteConfig) -> (Vec<Packet>, FinishedBlock) {
    let mut writer = FileWriter::new(config, 64 << 20, Some(located(1)), Moment::START);
    let (mut packets, mut committed) = (Vec::new(), None);
    let mut events = std::collections::VecDeque::from([WriteEvent::Data(bytes.to_vec().into()), WriteEvent::Close]);
    while let Some(event) = events.pop_front() {
        let mut effects = Vec::new();
        writer.handle(event, Moment::START, &mut effects);
        for effect in effects {
            match effect {
                WriteEffect::OpenPipeline { attempt, .. } => events.push_back(WriteEvent::PipelineOpened { attempt }),
                WriteEffect::SendPacket { attempt, packet } => {
                    let ack = Ack { seqno: packet.head.seqno, replies: vec![Status::Success; NODES], receipts: vec![] };
                    packets.push(packet);
                    events.push_back(WriteEvent::Ack { attempt, ack });
                }
                WriteEffect::Complete { last } => {
                    committed = last;
                    events.push_back(WriteEvent::Completed(Ok(FileStatus::default())));
                }
                _ => {}
            }
        }
    }
    (packets, committed.expect("a block"))
}

#[test]
fn leaves_travel_with_the_packets_that_end_their_segments_whatever_the_length_of_a_packet() {
    let bytes: Vec<u8> = (0..(5 << 20) + 7).map(|i| (i * 31) as u8).collect();
    for packet_bytes in [256 << 10, 384 << 10, 1 << 20, 7 << 20, 1 << 30] {
        let (packets, committed) = write_block(&bytes, WriteConfig { packet_bytes, ..WriteConfig::default() });
        let mut leaves = Vec::new();
        for packet in &packets {
            leaves.extend_from_slice(digest::parse_leaves(&packet.leaves).unwrap());
            let end_bytes = packet.head.offset_bytes + packet.data.len() as u64;
            let due = if packet.head.last { 6 } else { end_bytes / digest::SEGMENT_BYTES };
            assert_eq!(leaves.len() as u64, due, "after {end_bytes} bytes in packets of {packet_bytes}");
        }
        assert_eq!(leaves, tree(&bytes).leaves());
        assert_eq!(&committed.digest[..], tree(&bytes).prefix());
    }
    let (packets, committed) = write_block(&bytes, WriteConfig { digest: BlockDigest::None, ..WriteConfig::default() });
    assert!(packets.iter().all(|packet| packet.leaves.is_empty()) && committed.digest.is_empty());
}

#[test]
fn an_empty_file_gives_its_unused_block_back() {
    let mut run = Run::new(Some(located(1)));
    run.event(WriteEvent::Close);
    assert_eq!(run.world.published.as_deref(), Some(&b""[..]));
    assert!(run.world.committed.is_empty());
}

#[test]
fn a_node_that_fails_before_any_ack_is_excluded_and_the_block_sent_again() {
    let mut run = Run::new(None);
    run.write(&[7; 1500]);
    run.fail(Some(1));
    assert_eq!(run.world.excluded, ["node-1"]);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(vec![7; 1500]));
}

#[test]
fn after_an_ack_a_failure_ends_the_write_and_publishes_nothing() {
    let mut run = Run::new(None);
    run.write(&[7; 2500]);
    let ack = run.world.take_packet().unwrap();
    run.event(ack);
    run.fail(None);
    assert!(matches!(&run.world.done, Some(Err(error)) if error.code == ErrorCode::WriteFailed));
    assert!(run.world.discarded && run.world.published.is_none());
}

#[test]
fn silence_ends_within_thirty_seconds() {
    let mut run = Run::new(None);
    run.write(&[7; 100]);
    run.event(WriteEvent::Close);
    while run.world.done.is_none() {
        run.now = run.writer.next_deadline().expect("a silent pipeline has a deadline");
        run.event(WriteEvent::Tick);
    }
    assert!(run.now.since(Moment::START) <= Duration::from_secs(30), "{:?}", run.now);
    assert!(run.world.discarded && run.world.published.is_none());
}

#[test]
fn an_idle_pipeline_is_kept_alive() {
    let mut run = Run::new(None);
    run.write(&[7; 1024]);
    run.settle();
    for _ in 0..10 {
        run.now = run.writer.next_deadline().unwrap();
        run.event(WriteEvent::Tick);
    }
    assert!(run.world.done.is_none());
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(vec![7; 1024]));
}

#[test]
fn sc_98_an_unknown_outcome_is_not_discarded() {
    let mut run = Run::new(None);
    let mut effects = Vec::new();
    run.writer.handle(WriteEvent::Close, run.now, &mut effects);
    let unknown = FsError::new(ErrorCode::OutcomeUnknown, "the answer was lost");
    run.event(WriteEvent::Completed(Err(unknown)));
    assert!(!run.world.discarded);
    assert!(matches!(&run.world.done, Some(Err(error)) if error.code == ErrorCode::OutcomeUnknown));
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Ack,
    BadAck(usize),
    OutOfTurn,
    Fail(Option<usize>),
    Wait(u64),
    Stale,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..2000_usize).prop_map(Step::Write),
        12 => Just(Step::Ack),
        1 => (0..NODES).prop_map(Step::BadAck),
        1 => Just(Step::OutOfTurn),
        1 => proptest::option::of(0..NODES).prop_map(Step::Fail),
        1 => (0..25_u64).prop_map(Step::Wait),
        1 => Just(Step::Stale),
    ]
}

fn apply(run: &mut Run, step: &Step, given: &mut Vec<u8>) {
    let attempt = run.world.open.as_ref().map_or(1, |(attempt, ..)| *attempt);
    match step {
        Step::Write(n) => {
            let n = (*n).min(run.writer.room_bytes());
            let bytes: Vec<u8> = (0..n).map(|i| (given.len() + i) as u8).collect();
            given.extend_from_slice(&bytes);
            run.write(&bytes);
        }
        Step::Ack => {
            if let Some(ack) = run.world.take_packet() {
                run.event(ack);
            }
        }
        Step::BadAck(bad) => {
            let mut replies = vec![Status::Success; NODES];
            replies[*bad] = Status::ErrorChecksum;
            run.event(WriteEvent::Ack { attempt, ack: Ack { seqno: 0, replies, receipts: vec![] } });
        }
        Step::OutOfTurn => {
            let ack = Ack { seqno: 1_000_000, replies: vec![Status::Success; NODES], receipts: vec![] };
            run.event(WriteEvent::Ack { attempt, ack });
        }
        Step::Fail(bad) => run.fail(*bad),
        Step::Wait(seconds) => {
            run.now = run.now.plus(Duration::from_secs(*seconds));
            run.event(WriteEvent::Tick);
        }
        Step::Stale => {
            let ack = Ack { seqno: 0, replies: vec![Status::Success; NODES], receipts: vec![] };
            run.event(WriteEvent::Ack { attempt: attempt.wrapping_sub(1), ack });
        }
    }
}

proptest! {
    #[test]
    fn what_is_published_is_all_that_was_given(
        with_first in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..60),
        close in any::<bool>(),
    ) {
        let mut run = Run::new(with_first.then(|| located(1)));
        let mut given = Vec::new();
        for step in &steps {
            apply(&mut run, step, &mut given);
            prop_assert!(run.world.published.is_none(), "published before it was closed");
        }
        run.event(if close { WriteEvent::Close } else { WriteEvent::Abort });
        run.settle();
        let done = run.world.done.clone().expect("a settled writer is over");
        match done {
            Ok(()) => prop_assert_eq!(run.world.published.clone(), Some(given)),
            Err(_) => prop_assert!(run.world.published.is_none() && run.world.discarded),
        }
        prop_assert!(close || run.world.published.is_none());
        prop_assert!(run.writer.is_over());
    }
}
