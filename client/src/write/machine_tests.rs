//! The writer against a model of namenode and datanodes (`world`) in which everything fails, at every point.

mod appends;
mod copies;
mod flushes;
mod rejoins;
mod repairs;
mod stalls;
mod world;

use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proptest::prelude::*;
use proto::error::{ErrorCode, FsError};
use proto::namespace::{FileStatus, FinishedBlock};
use transfer::digest;
use transfer::{Ack, BlockDigest, Packet, Status};

use super::{FileWriter, Reopened, WriteConfig, WriteEffect, WriteEvent};
use world::{BLOCK_BYTES, COPIES, World, block, tree};

fn located(id: i64) -> proto::common::LocatedBlock {
    block(id, 1001, 0, &[0, 1, 2])
}

fn config() -> WriteConfig {
    WriteConfig { packet_bytes: 1024, window_bytes: 3000, ..WriteConfig::default() }
}

struct Run {
    writer: FileWriter,
    world: World,
    now: Moment,
}

impl Run {
    /// A new file in a cluster of so many nodes.
    fn of(nodes: usize) -> Self {
        let writer = FileWriter::new(config(), BLOCK_BYTES, None, Moment::START);
        Self { writer, world: World::new(nodes), now: Moment::START }
    }
    fn new(first: bool) -> Self {
        let writer = FileWriter::new(config(), BLOCK_BYTES, first.then(|| located(1)), Moment::START);
        Self { writer, world: World::new(3), now: Moment::START }
    }
    /// A file of one block with room, that is appended to.
    fn appending(nodes: usize, bytes: &[u8]) -> Self {
        let located = block(1, 1001, bytes.len() as u64, &[0, 1, 2]);
        let last = Reopened { located, new_stamp: 1002, replication: 3 };
        let writer = FileWriter::appending(config(), BLOCK_BYTES, Some(last), Moment::START);
        let mut world = World::new(nodes).with_block(bytes);
        world.visible = true;
        Self { writer, world, now: Moment::START }
    }
    fn event(&mut self, event: WriteEvent) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.writer.handle(event, self.now, &mut effects);
            events.extend(self.world.perform(effects));
        }
    }
    fn write(&mut self, bytes: &[u8]) {
        self.event(WriteEvent::Data(Bytes::copy_from_slice(bytes)));
    }
    /// Gives all bytes, as there is room, and delivers what is on the way.
    fn write_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.world.done.is_none() {
            let room = self.writer.room_bytes().min(bytes.len());
            if room == 0 {
                assert!(self.step(), "no room, and nothing on the way");
                continue;
            }
            self.write(&bytes[..room]);
            bytes = &bytes[room..];
        }
    }
    /// Delivers one packet to all; false: there is none.
    fn step(&mut self) -> bool {
        match self.world.deliver(usize::MAX) {
            Some(ack) => {
                self.world.heard_of.extend(self.world.line.as_ref().map(|line| line.id));
                self.event(ack);
                true
            }
            None => false,
        }
    }
    fn settle(&mut self) {
        while self.step() {}
    }
    fn attempt(&self) -> u32 {
        self.world.line.as_ref().map_or(1, |line| line.attempt)
    }
    /// Delivers what is on the way, and lets time pass where nothing is, until the writer is over.
    fn end(&mut self) {
        while self.world.done.is_none() {
            if !self.step() {
                self.wait();
            }
        }
    }
    fn fail(&mut self, bad: Option<usize>) {
        let attempt = self.attempt();
        self.event(WriteEvent::PipelineFailed { attempt, bad, why: "it died".into() });
    }
    /// Lets time pass until something is to be done.
    fn wait(&mut self) {
        self.now = self.writer.next_deadline().expect("something is to be done some time");
        self.event(WriteEvent::Tick);
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 253) as u8).collect()
}

#[test]
fn a_small_file_is_one_packet_and_no_second_block() {
    let mut run = Run::new(true);
    run.write(b"hello");
    run.event(WriteEvent::Close);
    assert_eq!(run.world.wire.len(), 1, "the last packet carries the data");
    run.settle();
    assert_eq!(run.world.published.as_deref(), Some(&b"hello"[..]));
    assert_eq!(run.world.blocks_given(), 1);
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
                    let ack =
                        Ack { seqno: packet.head.seqno, replies: vec![Status::Success; COPIES], receipts: vec![] };
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
    let mut run = Run::new(true);
    run.event(WriteEvent::Close);
    assert_eq!(run.world.published.as_deref(), Some(&b""[..]));
    assert!(run.world.committed.is_empty());
}

#[test]
fn a_node_that_fails_before_any_ack_is_excluded_and_the_block_sent_again() {
    let mut run = Run::new(false);
    run.write(&[7; 1500]);
    run.fail(Some(1));
    assert_eq!(run.world.excluded, ["node-1"]);
    run.event(WriteEvent::Close);
    run.settle();
    assert_eq!(run.world.published, Some(vec![7; 1500]));
}

#[test]
fn silence_ends_within_thirty_seconds() {
    let mut run = Run::new(false);
    run.write(&[7; 100]);
    run.event(WriteEvent::Close);
    while run.world.done.is_none() {
        // Whatever is asked is not answered: acks do not come, and nobody can be blamed.
        run.wait();
    }
    assert!(run.now.since(Moment::START) <= Duration::from_secs(30), "{:?}", run.now);
    assert!(run.world.discarded && run.world.published.is_none());
}

#[test]
fn an_idle_pipeline_is_kept_alive() {
    let mut run = Run::new(false);
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
    let mut run = Run::new(false);
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
        1 => (0..COPIES).prop_map(Step::BadAck),
        1 => Just(Step::OutOfTurn),
        1 => proptest::option::of(0..COPIES).prop_map(Step::Fail),
        1 => (0..25_u64).prop_map(Step::Wait),
        1 => Just(Step::Stale),
    ]
}

fn apply(run: &mut Run, step: &Step, given: &mut Vec<u8>) {
    let attempt = run.attempt();
    match step {
        Step::Write(n) => {
            let n = (*n).min(run.writer.room_bytes());
            let bytes: Vec<u8> = (0..n).map(|i| (given.len() + i) as u8).collect();
            given.extend_from_slice(&bytes);
            run.write(&bytes);
        }
        Step::Ack => {
            run.step();
        }
        Step::BadAck(bad) => {
            let mut replies = vec![Status::Success; COPIES];
            replies[*bad] = Status::ErrorChecksum;
            run.event(WriteEvent::Ack { attempt, ack: Ack { seqno: 0, replies, receipts: vec![] } });
        }
        Step::OutOfTurn => {
            let ack = Ack { seqno: 1_000_000, replies: vec![Status::Success; COPIES], receipts: vec![] };
            run.event(WriteEvent::Ack { attempt, ack });
        }
        Step::Fail(bad) => run.fail(*bad),
        Step::Wait(seconds) => {
            run.now = run.now.plus(Duration::from_secs(*seconds));
            run.event(WriteEvent::Tick);
        }
        Step::Stale => {
            let ack = Ack { seqno: 0, replies: vec![Status::Success; COPIES], receipts: vec![] };
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
        let mut run = Run::new(with_first);
        let mut given = Vec::new();
        for step in &steps {
            apply(&mut run, step, &mut given);
            prop_assert!(run.world.published.is_none(), "published before it was closed");
        }
        run.event(if close { WriteEvent::Close } else { WriteEvent::Abort });
        run.settle();
        // Nodes that refused are asked again after a moment, if there are no others.
        for _ in 0..60 {
            if run.world.done.is_none() {
                run.wait();
                run.settle();
            }
        }
        let done = run.world.done.clone().expect("a settled writer is over");
        match done {
            Ok(()) => prop_assert_eq!(run.world.published.clone(), Some(given)),
            Err(_) => prop_assert!(run.world.published.is_none() && run.world.discarded),
        }
        prop_assert!(close || run.world.published.is_none());
        prop_assert!(run.writer.is_over());
    }
}
