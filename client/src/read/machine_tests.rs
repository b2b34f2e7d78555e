//! The reader against replicas that lie, break and fall silent at random.

use base::clock::Moment;
use bytes::Bytes;
use proptest::prelude::*;
use proto::common::{Block, LocatedBlock, StorageLocation};
use proto::error::{ErrorCode, FsError};
use transfer::{ChunkFormat, Packet, PacketHead, Status, reply};

use super::{BlockReadMachine, ReadConfig, ReadEffect, ReadEvent};

const CHUNK: u64 = 512;

fn located(nodes: usize) -> LocatedBlock {
    let location = |n: usize| StorageLocation {
        node: format!("node-{n}"),
        storage: format!("DS-{n}"),
        host: "127.0.0.1".into(),
        transfer_port: 9000 + n as u32,
        ..StorageLocation::default()
    };
    let block = Block { pool: "BP-1".into(), id: 1, stamp: 1001, len_bytes: 0 };
    LocatedBlock { block: Some(block), locations: (0..nodes).map(location).collect(), ..LocatedBlock::default() }
}

/// How a replica behaves.
#[derive(Clone, Copy, Debug)]
enum Replica {
    Good,
    /// Refuses the request.
    Refuses,
    /// Breaks after so many packets.
    Breaks(usize),
    /// Has a flipped bit in this packet.
    Rotten(usize),
    /// Falls silent after so many packets.
    Silent(usize),
    /// Ends early, politely.
    Short(usize),
    /// Leaves this packet out.
    Skips(usize),
}

fn replica() -> impl Strategy<Value = Replica> {
    prop_oneof![
        3 => Just(Replica::Good),
        1 => Just(Replica::Refuses),
        1 => (0..4_usize).prop_map(Replica::Breaks),
        1 => (0..4_usize).prop_map(Replica::Rotten),
        1 => (0..4_usize).prop_map(Replica::Silent),
        1 => (0..4_usize).prop_map(Replica::Short),
        1 => (0..4_usize).prop_map(Replica::Skips),
    ]
}

/// Packets that a datanode sends for a range, end packet included.
fn packets(content: &[u8], from: u64, len: u64, packet_bytes: usize) -> Vec<Packet> {
    let start = (from / CHUNK * CHUNK) as usize;
    let end = ((from + len).div_ceil(CHUNK) * CHUNK).min(content.len() as u64) as usize;
    let mut out = Vec::new();
    let mut at = start;
    while at < end {
        let stop = (at + packet_bytes).min(end);
        let data = Bytes::copy_from_slice(&content[at..stop]);
        out.push(Packet::with_data(ChunkFormat::CRC32C_512, out.len() as i64, at as u64, data));
        at = stop;
    }
    out.push(Packet::last(out.len() as i64, end as u64, false));
    out
}

struct Outcome {
    delivered: Vec<u8>,
    reported: Vec<String>,
    relocations: u32,
    result: Result<(), FsError>,
}

fn serve(kind: Replica, sent: Vec<Packet>, attempt: u32) -> Vec<ReadEvent> {
    let mut events = Vec::new();
    let broken = || ReadEvent::Failed { attempt, why: "reset".into() };
    for (i, mut packet) in sent.into_iter().enumerate() {
        match kind {
            Replica::Breaks(n) if n == i => {
                events.push(broken());
                return events;
            }
            Replica::Silent(n) if n == i => {
                events.push(ReadEvent::Tick);
                return events;
            }
            Replica::Rotten(n) if n == i && !packet.data.is_empty() => {
                let mut bytes = packet.data.to_vec();
                bytes[0] ^= 1;
                packet.data = bytes.into();
            }
            Replica::Short(n) if n == i && !packet.head.last => {
                packet = Packet::last(i as i64, packet.head.offset_bytes, false);
                events.push(ReadEvent::Packet { attempt, packet });
                return events;
            }
            Replica::Skips(n) if n == i && !packet.head.last => continue,
            _ => {}
        }
        events.push(ReadEvent::Packet { attempt, packet });
    }
    events.push(broken());
    events
}

fn read(content: &[u8], from: u64, len: u64, replicas: &[Replica], packet_bytes: usize) -> Outcome {
    let mut machine = BlockReadMachine::new(ReadConfig::default(), located(replicas.len()), from, len);
    let mut outcome = Outcome { delivered: vec![], reported: vec![], relocations: 0, result: Ok(()) };
    let mut now = Moment::START;
    let mut queue = vec![ReadEvent::Start];
    while !machine.is_over() {
        assert!(!queue.is_empty(), "the machine waits for nothing that comes");
        let event = queue.remove(0);
        if matches!(event, ReadEvent::Tick) {
            now = machine.next_deadline().unwrap_or(now);
        }
        let mut effects = Vec::new();
        machine.handle(event, now, &mut effects);
        for effect in effects {
            match effect {
                ReadEffect::Connect { attempt, location, offset_bytes, len_bytes, .. } => {
                    let kind = replicas[location.transfer_port as usize - 9000];
                    if matches!(kind, Replica::Refuses) {
                        let response = reply::refused(Status::Error, "no such replica", "");
                        queue.push(ReadEvent::Opened { attempt, response });
                        continue;
                    }
                    let response = reply::reading(ChunkFormat::CRC32C_512, offset_bytes / CHUNK * CHUNK);
                    queue.push(ReadEvent::Opened { attempt, response });
                    queue.extend(serve(kind, packets(content, offset_bytes, len_bytes, packet_bytes), attempt));
                }
                ReadEffect::Deliver(bytes) => outcome.delivered.extend_from_slice(&bytes),
                ReadEffect::Close { .. } | ReadEffect::Finish { .. } | ReadEffect::AvoidNode { .. } => {}
                ReadEffect::ReportBad { storage, .. } => outcome.reported.push(storage),
                ReadEffect::Relocate { .. } => {
                    outcome.relocations += 1;
                    assert!(outcome.relocations < 100, "sc-89: it asks for ever");
                    queue.push(ReadEvent::Relocated(Ok(located(replicas.len()))));
                }
                ReadEffect::Done(result) => outcome.result = result,
            }
        }
    }
    outcome
}

#[test]
fn a_rotten_replica_is_reported_and_not_noticed() {
    let content: Vec<u8> = (0..5000_u32).map(|i| i as u8).collect();
    let out = read(&content, 0, 5000, &[Replica::Rotten(1), Replica::Good], 1024);
    assert_eq!(out.delivered, content);
    assert_eq!(out.reported, ["DS-0"]);
    assert!(out.result.is_ok());
}

#[test]
fn without_a_good_replica_the_error_names_what_was_tried() {
    let out = read(&[1; 100], 0, 100, &[Replica::Refuses, Replica::Breaks(0)], 1024);
    let error = out.result.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoReplica);
    assert!(error.message.contains("127.0.0.1:9000: ERROR no such replica"), "{error}");
    assert_eq!(out.relocations, 2);
}

#[test]
fn a_block_that_was_replaced_ends_the_read() {
    let mut machine = BlockReadMachine::new(ReadConfig::default(), located(0), 0, 10);
    let mut effects = Vec::new();
    machine.handle(ReadEvent::Start, Moment::START, &mut effects);
    assert!(matches!(effects[..], [ReadEffect::Relocate { .. }]));
    let other = LocatedBlock { block: Some(Block { id: 2, ..Block::default() }), ..located(1) };
    machine.handle(ReadEvent::Relocated(Ok(other)), Moment::START, &mut effects);
    assert!(matches!(effects.last(), Some(ReadEffect::Done(Err(_)))));
}

/// What a machine does in the middle of its first replica's packets, after these events.
fn after_one_packet(events: Vec<(u64, ReadEvent)>) -> Vec<ReadEffect> {
    let content = [7; 4096];
    let mut machine = BlockReadMachine::new(ReadConfig::default(), located(2), 0, 4096);
    let sent = packets(&content, 0, 4096, 1024);
    let begin = [
        ReadEvent::Start,
        ReadEvent::Opened { attempt: 1, response: reply::reading(ChunkFormat::CRC32C_512, 0) },
        ReadEvent::Packet { attempt: 1, packet: sent[0].clone() },
    ];
    let events = events.into_iter().map(|(secs, event)| match event {
        // The packet that follows.
        ReadEvent::Packet { attempt, .. } => (secs, ReadEvent::Packet { attempt, packet: sent[1].clone() }),
        other => (secs, other),
    });
    begin.into_iter().for_each(|event| machine.handle(event, Moment::START, &mut vec![]));
    let mut out = Vec::new();
    for (secs, event) in events {
        machine.handle(event, Moment::after_start(std::time::Duration::from_secs(secs)), &mut out);
    }
    out
}

#[test]
fn an_application_that_rests_is_not_the_nodes_fault() {
    let gone = || ReadEvent::Failed { attempt: 1, why: "reset".into() };
    let out = after_one_packet(vec![(60, ReadEvent::Rested), (60, ReadEvent::Tick), (61, gone())]);
    let [ReadEffect::Close { attempt: 1 }, ReadEffect::Connect { attempt: 2, location, offset_bytes: 1024, .. }] =
        &out[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!(location.node, "node-0", "the same replica is asked for the rest");
    let out = after_one_packet(vec![
        (60, ReadEvent::Rested),
        (61, gone()),
        (62, ReadEvent::Failed { attempt: 2, why: "reset".into() }),
    ]);
    assert!(matches!(&out[3], ReadEffect::AvoidNode { node } if node == "node-0"), "a second time it is: {out:?}");
    let next = Packet {
        head: PacketHead { offset_bytes: 0, seqno: 0, last: false, sync: false },
        leaves: Bytes::new(),
        checksums: Bytes::new(),
        data: Bytes::new(),
    };
    let held = ReadEvent::Packet { attempt: 1, packet: next };
    let out = after_one_packet(vec![(60, ReadEvent::Rested), (60, held), (60, gone())]);
    let avoided = out.iter().any(|effect| matches!(effect, ReadEffect::AvoidNode { .. }));
    let goes_on =
        matches!(out.last(), Some(ReadEffect::Connect { attempt: 2, location, .. }) if location.node == "node-0");
    assert!(goes_on && !avoided, "what was on its way came whole before the end: {out:?}");
    let out = after_one_packet(vec![(60, ReadEvent::Tick)]);
    assert!(matches!(&out[1], ReadEffect::AvoidNode { .. }), "{out:?}");
}

proptest! {
    #[test]
    fn only_right_bytes_in_order(
        size in 1..6000_usize,
        range in (any::<u32>(), any::<u32>()),
        replicas in proptest::collection::vec(replica(), 1..4),
        packet_chunks in 1..5_usize,
    ) {
        let content: Vec<u8> = (0..size).map(|i| (i * 7 + i / 256) as u8).collect();
        let from = u64::from(range.0) % size as u64;
        let len = 1 + u64::from(range.1) % (size as u64 - from);
        let out = read(&content, from, len, &replicas, packet_chunks * 512);
        let wanted = &content[from as usize..(from + len) as usize];
        prop_assert!(wanted.starts_with(&out.delivered), "wrong bytes were delivered");
        prop_assert_eq!(out.result.is_ok(), out.delivered.len() == wanted.len());
        if replicas.iter().any(|kind| matches!(kind, Replica::Good)) {
            prop_assert!(out.result.is_ok());
        }
    }
}
