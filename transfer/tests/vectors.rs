//! The bytes of Hadoop's data transfer protocol, written and read: the same vectors in both directions.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use bytes::{Bytes, BytesMut};
use proto::ids::{BlockId, GenerationStamp, PoolId};
use transfer::{
    Ack, BlockRef, ChecksumKind, ChunkFormat, Op, Packet, PacketBuffer, ReadSetup, Status, WriteSetup, WriteStage,
    encode_delimited, reply,
};

const FORMAT: ChunkFormat = ChunkFormat::CRC32C_512;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
}

#[test]
fn checksums() {
    let zlib = ChunkFormat::new(ChecksumKind::Crc32, 512).unwrap();
    assert_eq!(FORMAT.checksum(b"123456789"), 0xe306_9283);
    assert_eq!(FORMAT.compute(b"abc")[..], hex("364b3fb7"));
    assert_eq!(zlib.checksum(b"123456789"), 0xcbf4_3926);
}

#[test]
fn packets() {
    let vectors = [
        (
            "0000000b 0019 09 0000000000000000 11 0000000000000000 1800 25 03000000 364b3fb7 616263",
            Packet::with_data(FORMAT, 0, 0, Bytes::from_static(b"abc")),
        ),
        ("00000004 0019 09 0300000000000000 11 0100000000000000 1801 25 00000000", Packet::last(1, 3, false)),
        ("00000004 0019 09 0000000000000000 11 ffffffffffffffff 1800 25 00000000", Packet::heartbeat()),
        ("00000004 001b 09 0300000000000000 11 0100000000000000 1801 25 00000000 2801", Packet::last(1, 3, true)),
    ];
    for (vector, packet) in vectors {
        let bytes = hex(vector);
        let mut encoded = BytesMut::new();
        packet.encode_into(&mut encoded);
        assert_eq!(encoded[..], bytes[..], "{vector}");
        assert_eq!(Packet::decode(&mut encoded).unwrap().as_ref(), Some(&packet), "{vector}");
        assert_eq!(PacketBuffer::new().read(&mut &bytes[..]).unwrap(), packet.view(), "{vector}");
    }
}

#[test]
fn answers() {
    let acknowledged = hex("07 0800 1000 220100");
    assert_eq!(Ack::single(0, Status::Success).encode(), acknowledged);
    assert_eq!(Ack::read(&mut &acknowledged[..]).unwrap(), Ack::single(0, Status::Success));
    let ready = hex("04 0800 1200");
    assert_eq!(encode_delimited(&reply::pipeline_ready()), ready);
    assert_eq!(reply::read(&mut &ready[..]).unwrap(), reply::pipeline_ready());
}

/// A failure further down, with a congestion mark and a time, as Java's `PipelineAck` writes it.
#[test]
fn an_ack_of_java_with_marks_that_ours_do_not_set() {
    let ack = Ack::read(&mut &hex("0c 0806 1000 1001 1811 22020021")[..]).unwrap();
    assert_eq!(ack, Ack { seqno: 3, replies: vec![Status::Success, Status::Error], receipts: Vec::new() });
}

#[test]
fn a_receipt_is_a_field_that_hadoop_skips() {
    let receipt = proto::common::Receipt { storage: "DS-1".into(), ..proto::common::Receipt::default() };
    let ack = Ack { receipts: vec![receipt], ..Ack::single(0, Status::Success) }.encode();
    // After Hadoop's fields, number 1000 with its length: c2 3e.
    assert_eq!(ack[1..8], hex("0800 1000 220100"));
    assert_eq!(ack[8..10], hex("c23e"));
}

/// What both operations of Java's client say of the block: `BP-1`, the first id and stamp, 1 MiB, with a token.
const HEADER: &str = "0a420a330a130a0442502d3110818080800418e90720808040121c0a026964120270771a10484446535f424c4f434b5f544f\
                      4b454e2200120b444653436c69656e745f31";

fn block() -> BlockRef {
    let (id, stamp) = (BlockId::FIRST, GenerationStamp::FIRST);
    BlockRef { pool: PoolId::new("1"), id, stamp, len_bytes: 1 << 20 }
}

/// A read-block operation as Java's `Sender` writes it.
#[test]
fn javas_read() {
    let mut bytes = hex("001c 51 4d");
    bytes.extend(hex(HEADER));
    bytes.extend(hex("10e807 1818 2001 2a00"));
    let Op::Read(op) = Op::read(&mut &bytes[..]).unwrap() else { panic!("a read") };
    let setup = ReadSetup::from_op(&op).unwrap();
    let known = ReadSetup { offset_bytes: 1000, len_bytes: 24, send_checksums: true, ..setup.clone() };
    assert_eq!((&setup, &setup.block, setup.client_name.as_str()), (&known, &block(), "DFSClient_1"));
    // Ours has the same bytes but for the caching strategy, which it does not send.
    let ours = setup.to_op().unwrap().encode();
    assert_eq!(ours[4..], bytes[4..bytes.len() - 2]);
}

/// A write-block operation as Java's `Sender` writes it, for the first of two nodes.
#[test]
fn javas_write() {
    let mut bytes = hex("001c 50 ae01");
    bytes.extend(hex(HEADER));
    bytes.extend(hex("124b 0a26 0a093132372e302e302e32 1206686f73742d33 1a066e6f64652d33 208a4d 28884d 308b4d 3800
                      1000 1800 2000 2800 3000 3800 420d2f64656661756c742d7261636b 5000 5800 6000 6800
                      2006 2802 3000 3800 4000 4a0508021080 04 5200 5801 6002 6800 7000 7800"));
    let Op::Write(op) = Op::read(&mut &bytes[..]).unwrap() else { panic!("a write") };
    let setup = WriteSetup::from_op(&op).unwrap();
    assert_eq!((&setup.block, setup.stage, setup.chunks), (&block(), WriteStage::PipelineSetupCreate, FORMAT));
    assert_eq!((setup.new_stamp, setup.pipeline_size, &setup.storage), (GenerationStamp::FIRST, 2, &None));
    let [next] = &setup.targets[..] else { panic!("one more node") };
    assert_eq!((next.node.as_str(), next.link()), ("node-3", "127.0.0.2:9866".to_owned()));
    assert_eq!(next.storage.as_str(), transfer::op::ANY_STORAGE);
}
