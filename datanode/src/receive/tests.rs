//! Receiving and serving over a disk in memory, three nodes in a row without sockets.

use std::path::PathBuf;

use base::clock::Moment;
use base::disk::{DiskFault, DiskFaultKind, MemDisk};
use base::random::SeededRandom;
use bytes::Bytes;
use proto::ids::{BlockId, ClusterId, GenerationStamp, PoolId};
use transfer::digest::{LeafHasher, LeafQueue};
use transfer::{BlockRef, ChecksumKind, ChunkFormat, Packet, ReadSetup, WriteSetup, WriteStage};

use auth::token::{self, Claims, Mode};
use auth::{MasterKey, NodeKeys};

use super::*;
use crate::store::{ReplicaState, Store, StoreOptions};

const FORMAT: ChunkFormat = ChunkFormat::CRC32C_512;

fn master() -> MasterKey {
    MasterKey::new([5; 32])
}

fn node(disk: &MemDisk, name: u64) -> Node {
    let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
    let dirs = [PathBuf::from(format!("/node{name}"))];
    let (store, _) = Store::open(&disk.shared(), &dirs, options, &SeededRandom::new(name), Moment::START).unwrap();
    store.join(&ClusterId::new("1"), &PoolId::new("1")).unwrap();
    let node = Node::new(store);
    node.set_keys(NodeKeys::new(vec![(1, master().node_key(node.id()))]));
    node
}

fn block() -> BlockRef {
    BlockRef { pool: PoolId::new("1"), id: BlockId::FIRST, stamp: GenerationStamp::FIRST, len_bytes: 0 }
}

fn token(modes: &[Mode], nodes: &[&Node]) -> Bytes {
    let claims = Claims {
        pool: PoolId::new("1"),
        block: BlockId::FIRST,
        floor: GenerationStamp::FIRST,
        ceiling: GenerationStamp::FIRST,
        modes: modes.to_vec(),
        user: "ana".into(),
        expires_ms: 1000,
    };
    let ids: Vec<_> = nodes.iter().map(|node| node.id().clone()).collect();
    token::mint(&master(), 1, &claims, &ids)
}

fn write_setup(nodes: &[&Node]) -> WriteSetup {
    WriteSetup {
        block: block(),
        token: token(&[Mode::Write, Mode::Read], nodes),
        client_name: "client".into(),
        storage: None,
        targets: Vec::new(),
        pipeline_size: 1,
        stage: WriteStage::PipelineSetupCreate,
        new_stamp: GenerationStamp::FIRST,
        min_bytes: 0,
        max_bytes: 0,
        chunks: FORMAT,
        digest_observed: false,
    }
}

fn read_setup(nodes: &[&Node], offset_bytes: u64, len_bytes: u64) -> ReadSetup {
    ReadSetup {
        block: block(),
        token: token(&[Mode::Read], nodes),
        client_name: "client".into(),
        offset_bytes,
        len_bytes,
        send_checksums: true,
    }
}

fn data(len: usize) -> Bytes {
    (0..len).map(|i| (i * 7) as u8).collect::<Vec<u8>>().into()
}

/// A block as packets of `packet_bytes`.
fn packets(data: &Bytes, packet_bytes: usize) -> Vec<Packet> {
    let starts = (0..data.len()).step_by(packet_bytes);
    let mut packets: Vec<Packet> = starts
        .enumerate()
        .map(|(n, start)| {
            let end = (start + packet_bytes).min(data.len());
            Packet::with_data(FORMAT, n as i64, start as u64, data.slice(start..end))
        })
        .collect();
    packets.push(Packet::last(packets.len() as i64, data.len() as u64, true));
    packets
}

/// Runs packets through a row of receivers; returns the acks that the client sees.
fn run(nodes: &[&Node], receivers: &mut [BlockReceiver], packets: &[Packet]) -> Vec<Ack> {
    let mut seen = Vec::new();
    for packet in packets {
        step(nodes, receivers, packet, &mut seen);
    }
    seen
}

fn step(nodes: &[&Node], receivers: &mut [BlockReceiver], packet: &Packet, up: &mut Vec<Ack>) {
    let Some((first, rest)) = receivers.split_first_mut() else { return };
    let mut effects = Vec::new();
    first.on_packet(nodes[0], &packet.view(), &mut effects);
    let mut below = Vec::new();
    if effects.contains(&ReceiveEffect::Forward) {
        step(&nodes[1..], rest, packet, &mut below);
    }
    below.into_iter().for_each(|ack| first.on_downstream_ack(ack, &mut effects));
    up.extend(effects.into_iter().filter_map(|effect| match effect {
        ReceiveEffect::Ack(ack) => Some(ack),
        _ => None,
    }));
}

fn pipeline(nodes: &[&Node]) -> Vec<BlockReceiver> {
    let last = nodes.len() - 1;
    let begin =
        |(n, node): (usize, &&Node)| BlockReceiver::new(node.begin_write(&write_setup(nodes), 0).unwrap(), n != last);
    nodes.iter().enumerate().map(begin).collect()
}

fn read_all(node: &Node, offset: u64, len: u64) -> (u64, Vec<u8>) {
    let mut session = node.begin_read(&read_setup(&[node], offset, len), 0).unwrap();
    let start = session.reply().read_op_checksum_info.unwrap().chunk_offset;
    let (mut bytes, mut seqno) = (Vec::new(), 0);
    while let Some(packet) = session.next_packet().unwrap() {
        assert_eq!((packet.head.seqno, packet.head.offset_bytes), (seqno, start + bytes.len() as u64));
        assert_eq!(packet.head.last, packet.data.is_empty());
        FORMAT.verify(&packet.data, &packet.checksums).unwrap();
        bytes.extend_from_slice(&packet.data);
        seqno += 1;
    }
    (start, bytes)
}

#[test]
fn a_pipeline_of_three_stores_a_block_and_proves_it() {
    let disk = MemDisk::new();
    let owned = [node(&disk, 1), node(&disk, 2), node(&disk, 3)];
    let nodes: Vec<&Node> = owned.iter().collect();
    let whole = data(700_001);
    let mut receivers = pipeline(&nodes);
    let acks = run(&nodes, &mut receivers, &packets(&whole, 256 * 1024));
    assert_eq!(acks.len(), 4);
    assert!(acks.iter().enumerate().all(|(n, ack)| ack.seqno == n as i64 && ack.replies == [Status::Success; 3]));
    let receipts = &acks.last().unwrap().receipts;
    assert_eq!(receipts.len(), 3);
    for (node, receipt) in nodes.iter().zip(receipts) {
        let storage = node.store().replica(BlockId::FIRST).unwrap().0;
        assert_eq!((receipt.node.as_str(), receipt.storage.as_str()), (node.id().as_str(), storage.as_str()));
        let pool = PoolId::new("1");
        let what = auth::receipt::Finalised {
            pool: &pool,
            block: BlockId::FIRST,
            stamp: GenerationStamp::FIRST,
            len_bytes: 700_001,
            storage: &storage,
        };
        assert!(auth::receipt::verify(&master(), node.id(), &what, &receipt.mac));
        assert_eq!(read_all(node, 0, 700_001), (0, whole.to_vec()));
    }
}

#[test]
fn every_node_of_a_pipeline_keeps_the_leaves_of_the_writer_and_refuses_wrong_ones() {
    let whole = data((2 << 20) + 9);
    let mut tree = LeafHasher::default();
    tree.update(&whole);
    tree.finish();
    let (mut sent, mut queue) = (packets(&whole, 256 * 1024), LeafQueue::default());
    for packet in &mut sent {
        let end_bytes = packet.head.offset_bytes + packet.data.len() as u64;
        let due = if packet.head.last { u64::MAX } else { end_bytes / digest::SEGMENT_BYTES };
        packet.leaves = queue.take(tree.leaves(), due);
    }
    let disk = MemDisk::new();
    let owned = [node(&disk, 1), node(&disk, 2), node(&disk, 3)];
    let nodes: Vec<&Node> = owned.iter().collect();
    let acks = run(&nodes, &mut pipeline(&nodes), &sent);
    assert_eq!(acks.last().unwrap().replies, [Status::Success; 3]);
    for node in &nodes {
        let reader = node.store().open_reader(&block()).unwrap();
        assert_eq!(reader.leaves().unwrap(), (tree.leaves().to_vec(), false));
    }
    // One is missing at the end; one comes before its data.
    let mut short = sent.clone();
    short.last_mut().unwrap().leaves = Bytes::new();
    let mut early = sent;
    early[0].leaves = Bytes::from(vec![1; 2 * digest::LEAF_BYTES]);
    for wrong in [short, early] {
        let disk = MemDisk::new();
        let node = node(&disk, 1);
        let acks = run(&[&node], &mut pipeline(&[&node]), &wrong);
        assert_eq!(acks.last().unwrap().replies, [Status::ErrorInvalid]);
        assert_ne!(
            node.store().replica(BlockId::FIRST).map(|(_, replica)| replica.state),
            Some(ReplicaState::Finalized)
        );
    }
}

#[test]
fn ranges_are_widened_to_chunks_and_no_further() {
    let disk = MemDisk::new();
    let node = node(&disk, 1);
    let whole = data(300_000);
    run(&[&node], &mut pipeline(&[&node]), &packets(&whole, 64 * 1024));
    for (offset, len) in [(0, 1), (511, 2), (512, 512), (299_999, 1), (1000, 298_000), (300_000, 0), (0, 0)] {
        let (start, bytes) = read_all(&node, offset, len);
        assert_eq!(start, offset / 512 * 512);
        let end = (offset + len).div_ceil(512) * 512;
        assert_eq!(bytes, whole[start as usize..(end.min(300_000)) as usize], "{offset}+{len}");
    }
    for (offset, len) in [(300_000, 1), (0, 300_001), (u64::MAX, 1)] {
        assert!(node.begin_read(&read_setup(&[&node], offset, len), 0).is_err());
    }
}

#[test]
fn a_read_without_checksums_is_widened_to_what_its_answer_says_whatever_the_chunks_are() {
    let disk = MemDisk::new();
    let node = node(&disk, 1);
    let chunks = ChunkFormat::new(ChecksumKind::Crc32c, 4096).unwrap();
    let setup = WriteSetup { chunks, ..write_setup(&[&node]) };
    let whole = data(10_000);
    let mut receivers = [BlockReceiver::new(node.begin_write(&setup, 0).unwrap(), false)];
    let sent = [Packet::with_data(chunks, 0, 0, whole.clone()), Packet::last(1, 10_000, false)];
    run(&[&node], &mut receivers, &sent);
    let bare = ReadSetup { send_checksums: false, ..read_setup(&[&node], 1000, 10) };
    let mut session = node.begin_read(&bare, 0).unwrap();
    let info = session.reply().read_op_checksum_info.unwrap();
    assert_eq!((info.chunk_offset, info.checksum), (512, ChunkFormat::BARE_512.to_wire()));
    let packet = session.next_packet().unwrap().unwrap();
    assert_eq!((&packet.data[..], packet.checksums.len()), (&whole[512..1024], 0));
}

#[test]
fn sc_37_a_damaged_packet_is_never_stored_and_the_right_side_is_blamed() {
    let disk = MemDisk::new();
    let owned = [node(&disk, 1), node(&disk, 2), node(&disk, 3)];
    let nodes: Vec<&Node> = owned.iter().collect();
    let mut receivers = pipeline(&nodes);
    let mut damaged = Packet::with_data(FORMAT, 0, 0, data(2000));
    damaged.data = {
        let mut bytes = damaged.data.to_vec();
        bytes[1500] ^= 4;
        bytes.into()
    };
    // The third node finds it: the wire or the second node did it.
    let mut effects = Vec::new();
    receivers[2].on_packet(nodes[2], &damaged.view(), &mut effects);
    let [ReceiveEffect::Ack(third), ReceiveEffect::Failed] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(third.replies, [Status::ErrorChecksum]);
    let intact = Packet::with_data(FORMAT, 0, 0, data(2000));
    let mut effects = Vec::new();
    receivers[1].on_packet(nodes[1], &intact.view(), &mut effects);
    receivers[1].on_downstream_ack(third.clone(), &mut effects);
    let Some(ReceiveEffect::Ack(second)) = effects.get(1) else { panic!("{effects:?}") };
    let mut effects = Vec::new();
    receivers[0].on_packet(nodes[0], &intact.view(), &mut effects);
    receivers[0].on_downstream_ack(second.clone(), &mut effects);
    let Some(ReceiveEffect::Ack(first)) = effects.get(1) else { panic!("{effects:?}") };
    assert_eq!(first.first_bad(), Some(1), "the second node, not the innocent third");
    assert_eq!(receivers[2].sink().writer().len_bytes(), 0);
}

#[test]
fn an_ack_of_the_last_packet_means_durable() {
    let disk = MemDisk::new();
    let owned = node(&disk, 1);
    let mut receivers = pipeline(&[&owned]);
    let whole = data(5000);
    run(&[&owned], &mut receivers, &packets(&whole, 1024));
    drop(receivers);
    drop(owned);
    disk.power_cut(&SeededRandom::new(0));
    assert_eq!(read_all(&node(&disk, 1), 0, 5000).1, whole.to_vec());
}

#[test]
fn a_failed_sync_is_never_acknowledged() {
    let disk = MemDisk::new();
    let node = node(&disk, 1);
    let mut receivers = pipeline(&[&node]);
    disk.inject(DiskFault::once(DiskFaultKind::SyncError));
    let acks = run(&[&node], &mut receivers, &packets(&data(5000), 1024));
    assert_eq!(acks.last().unwrap().replies, [Status::Error]);
    assert!(node.store().reports()[0].failed);
}

#[test]
fn a_flipped_bit_on_the_disk_reaches_no_reader_unseen() {
    let disk = MemDisk::new();
    let node = node(&disk, 1);
    run(&[&node], &mut pipeline(&[&node]), &packets(&data(5000), 1024));
    let file = disk.files().into_iter().find(|f| f.contains("blk_") && !f.ends_with(".meta")).unwrap();
    disk.flip_bit(std::path::Path::new(&file), 4000, 1).unwrap();
    let mut session = node.begin_read(&read_setup(&[&node], 0, 5000), 0).unwrap();
    let packet = session.next_packet().unwrap().unwrap();
    assert!(FORMAT.verify(&packet.data, &packet.checksums).is_err(), "the checksums are sent as stored");
    session.reader().mark_corrupt();
    assert_eq!(node.store().replica(BlockId::FIRST).unwrap().1.state, ReplicaState::Corrupt);
    assert!(node.begin_read(&read_setup(&[&node], 0, 1), 0).is_err());
}

#[test]
fn sc_100_nothing_is_touched_without_a_token_for_it() {
    let disk = MemDisk::new();
    let (node_a, node_b) = (node(&disk, 1), node(&disk, 2));
    let good = write_setup(&[&node_a]);
    let refused = |setup: WriteSetup, now: i64| node_a.begin_write(&setup, now).unwrap_err().status;
    assert_eq!(refused(WriteSetup { token: Bytes::new(), ..good.clone() }, 0), Status::ErrorAccessToken);
    assert_eq!(refused(write_setup(&[&node_b]), 0), Status::ErrorAccessToken);
    assert_eq!(refused(good.clone(), 1001), Status::ErrorAccessToken);
    let read_only = WriteSetup { token: token(&[Mode::Read], &[&node_a]), ..good.clone() };
    assert_eq!(refused(read_only, 0), Status::ErrorAccessToken);
    // A client's token does not pass for a copy.
    assert_eq!(refused(WriteSetup { client_name: String::new(), ..good.clone() }, 0), Status::ErrorAccessToken);
    let other = BlockRef { id: BlockId::FIRST.next(), ..block() };
    assert_eq!(refused(WriteSetup { block: other, ..good.clone() }, 0), Status::ErrorAccessToken);
    let other = WriteSetup { stage: WriteStage::DataStreaming, ..good.clone() };
    assert_eq!(refused(other, 0), Status::ErrorUnsupported);
    // Going on with a replica needs the token, too, and a writer.
    let append = WriteSetup { stage: WriteStage::PipelineSetupAppend, ..good };
    assert_eq!(refused(append.clone(), 0), Status::Error, "there is none");
    assert_eq!(refused(WriteSetup { token: Bytes::new(), ..append.clone() }, 0), Status::ErrorAccessToken);
    let above = WriteSetup { new_stamp: GenerationStamp::FIRST.next(), ..append.clone() };
    assert_eq!(refused(above, 0), Status::ErrorAccessToken, "a stamp that was not reserved for it");
    let below = BlockRef { stamp: GenerationStamp::from_raw(1000), ..block() };
    assert_eq!(refused(WriteSetup { block: below, ..append }, 0), Status::ErrorAccessToken);
    assert!(!disk.files().iter().any(|file| file.contains("blk_")));
    assert_eq!(node_a.store().counts().reserved_bytes, 0);
}

#[test]
fn an_end_that_is_not_where_the_sender_says_is_refused() {
    for (end, missing) in [(3000, 1), (2999, 0), (0, 0)] {
        let disk = MemDisk::new();
        let node = node(&disk, 1);
        let whole = data(3000);
        let mut sent = packets(&whole, 1024);
        sent.pop();
        sent.truncate(sent.len() - missing);
        sent.push(Packet::last(sent.len() as i64, end, true));
        let acks = run(&[&node], &mut pipeline(&[&node]), &sent);
        let last = acks.last().unwrap();
        assert_eq!((last.replies.as_slice(), last.receipts.len()), ([Status::ErrorInvalid].as_slice(), 0), "{end}");
        let (_, replica) = node.store().replica(BlockId::FIRST).unwrap();
        assert_ne!(replica.state, ReplicaState::Finalized);
    }
}
