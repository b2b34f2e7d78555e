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

/// A set-up that goes on with the block at stamp `new`.
fn resumed(nodes: &[&Node], stage: WriteStage, new: u64, (min_bytes, max_bytes): (u64, u64)) -> WriteSetup {
    let ceiling = GenerationStamp::from_raw(GenerationStamp::FIRST.raw() + 9);
    let claims = Claims {
        pool: PoolId::new("1"),
        block: BlockId::FIRST,
        floor: GenerationStamp::FIRST,
        ceiling,
        modes: vec![Mode::Write],
        user: "ana".into(),
        expires_ms: 1000,
    };
    let ids: Vec<_> = nodes.iter().map(|node| node.id().clone()).collect();
    let token = token::mint(&master(), 1, &claims, &ids);
    let new_stamp = GenerationStamp::from_raw(GenerationStamp::FIRST.raw() + new);
    WriteSetup { token, stage, new_stamp, min_bytes, max_bytes, ..write_setup(nodes) }
}

fn resumed_pipeline(nodes: &[&Node], stage: WriteStage, new: u64, lengths: (u64, u64)) -> Vec<BlockReceiver> {
    let last = nodes.len() - 1;
    let begin = |(n, node): (usize, &&Node)| {
        BlockReceiver::new(node.begin_write(&resumed(nodes, stage, new, lengths), 0).unwrap(), n != last)
    };
    nodes.iter().enumerate().map(begin).collect()
}

#[test]
fn sc_44_a_sync_is_durable_on_every_node_before_its_ack_and_survives_a_common_power_cut() {
    for seed in 0..60 {
        let disks = [MemDisk::new(), MemDisk::new(), MemDisk::new()];
        let owned: Vec<Node> = disks.iter().zip(1..).map(|(disk, name)| node(disk, name)).collect();
        let nodes: Vec<&Node> = owned.iter().collect();
        let whole = data(3000);
        let mut receivers = pipeline(&nodes);
        let mut synced = Packet::with_data(FORMAT, 0, 0, whole.slice(..700));
        synced.head.sync = true;
        // What comes after it, inside the same chunk, was not asked to be durable.
        let later = Packet::with_data(FORMAT, 1, 512, whole.slice(512..1000 + seed as usize));
        let acks = run(&nodes, &mut receivers, &[synced, later]);
        assert!(acks.iter().all(|ack| ack.replies == [Status::Success; 3]));
        drop((receivers, owned));
        for (disk, name) in disks.iter().zip(1..) {
            disk.power_cut(&base::random::SeededRandom::new(seed * 3 + name));
            let node = node(disk, name);
            let (storage, _) = node.store().replica(BlockId::FIRST).unwrap();
            let recovery = GenerationStamp::from_raw(2000);
            let found = node.store().prepare_recovery(&storage, BlockId::FIRST, recovery).unwrap().unwrap();
            assert!(found.len_bytes >= 700, "seed {seed} node {name}: {}", found.len_bytes);
        }
    }
}

#[test]
fn sc_37_leaves_that_changed_on_the_way_are_refused_before_anything_is_used() {
    let disk = MemDisk::new();
    let node = node(&disk, 1);
    let packet = Packet { leaves: Bytes::from(vec![7; 32]), ..Packet::with_data(FORMAT, 0, 0, data(700)) };
    for crc in [None, Some(5)] {
        let mut receivers = pipeline(&[&node]);
        let damaged = PacketView { leaves_crc: crc, ..packet.view() };
        let mut effects = Vec::new();
        receivers[0].on_packet(&node, &damaged, &mut effects);
        let told = effects.iter().find_map(|effect| match effect {
            ReceiveEffect::Ack(ack) => Some(ack.replies.clone()),
            _ => None,
        });
        assert_eq!(told, Some(vec![Status::ErrorChecksum]), "{crc:?}");
        assert!(!effects.contains(&ReceiveEffect::Forward), "{crc:?}");
        assert_eq!(receivers[0].sink().writer().len_bytes(), 0, "{crc:?}");
    }
}

#[test]
fn sc_41_the_mark_that_readers_see_moves_with_acks_of_all_behind_and_with_no_other() {
    let disks = [MemDisk::new(), MemDisk::new()];
    let owned: Vec<Node> = disks.iter().zip(1..).map(|(disk, name)| node(disk, name)).collect();
    let nodes: Vec<&Node> = owned.iter().collect();
    let mut receivers = pipeline(&nodes);
    let whole = data(1500);
    let mut effects = Vec::new();
    let acked = |node: &Node| node.store().progress(&block()).unwrap().acked_bytes;
    for (seqno, end) in [(0, 700), (1, 1024)] {
        let packet = Packet::with_data(FORMAT, seqno, seqno as u64 * 512, whole.slice(seqno as usize * 512..end));
        receivers[0].on_packet(nodes[0], &packet.view(), &mut effects);
    }
    assert_eq!(acked(nodes[0]), 0, "the next node has said nothing");
    receivers[0].on_downstream_ack(Ack::single(0, Status::Success), &mut effects);
    assert_eq!(acked(nodes[0]), 700);
    receivers[0].on_downstream_ack(Ack::single(7, Status::Success), &mut effects);
    assert_eq!(acked(nodes[0]), 700, "an ack of another packet is no ack of this one");
    assert_eq!(nodes[0].store().progress(&block()).unwrap().stored_bytes, 1024);
}

#[test]
fn sc_35_the_receiver_of_the_old_pipeline_says_no_more_when_the_new_one_stands() {
    let disks = [MemDisk::new(), MemDisk::new()];
    let owned: Vec<Node> = disks.iter().zip(1..).map(|(disk, name)| node(disk, name)).collect();
    let nodes: Vec<&Node> = owned.iter().collect();
    let whole = data(3000);
    let sent = packets(&whole, 1024);
    let mut old = pipeline(&nodes);
    run(&nodes, &mut old, &sent[..1]);
    let mut new = resumed_pipeline(&nodes, WriteStage::PipelineSetupStreamingRecovery, 1, (1024, 3000));
    let late = run(&nodes, &mut old, &sent[1..]);
    assert_eq!(late.len(), 1, "{late:?}");
    assert_eq!(late[0].first_bad(), Some(0));
    let acks = run(&nodes, &mut new, &sent[1..]);
    let last = acks.last().unwrap();
    assert_eq!((last.first_bad(), last.receipts.len()), (None, 2));
    drop(old);
    nodes.iter().for_each(|node| assert_eq!(read_all(node, 0, 3000).1, whole));
    // Nobody heard of the end: it is told again, with receipts of the new stamp.
    let mut closing = resumed_pipeline(&nodes, WriteStage::PipelineCloseRecovery, 2, (3000, 3000));
    let (mut below, mut above) = (Vec::new(), Vec::new());
    closing[1].on_close(nodes[1], &mut below);
    closing[0].on_close(nodes[0], &mut above);
    assert_eq!(above, [], "the next node has not closed yet");
    let Some(ReceiveEffect::Ack(ack)) = below.first().cloned() else { panic!("{below:?}") };
    closing[0].on_downstream_ack(ack, &mut above);
    let Some(ReceiveEffect::Ack(ack)) = above.first() else { panic!("{above:?}") };
    assert_eq!((ack.seqno, ack.first_bad(), ack.receipts.len()), (CLOSE_RECOVERY_SEQNO, None, 2));
    assert!(ack.receipts.iter().all(|receipt| receipt.stamp == 1003));
    assert_eq!(above.last(), Some(&ReceiveEffect::Finished));
}
