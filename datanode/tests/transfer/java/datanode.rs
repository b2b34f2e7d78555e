//! A real Java datanode takes our blocks and serves them.

use super::peer::{JavaBlock, Peer};
use super::wire::{open_write, ranges, read, write};
use super::*;

/// Java's datanodes check no tokens here.
const NO_TOKEN: Bytes = Bytes::new();

/// A file of the Java cluster, of one block, written by Hadoop's client.
fn put(peer: &Peer, name: &str, format: ChunkFormat, kind: &str, data: &[u8]) -> JavaBlock {
    let chunk_bytes = format.chunk_bytes();
    let block_bytes = (data.len() as u64).next_multiple_of(chunk_bytes);
    let source = peer.source(name, data);
    let answer = peer.tell(&format!("put {name} {source} 1 {kind} {chunk_bytes} {block_bytes}"));
    JavaBlock::parse(&answer, &peer.pool)
}

#[test]
fn a_java_datanode_serves_every_range_with_every_kind_of_checksums() {
    let Some(peer) = Peer::shared() else { return };
    for (format, kind, len_bytes) in formats() {
        let data = pattern(len_bytes, format.chunk_bytes());
        let JavaBlock { block, ports } =
            put(&peer, &format!("served-{kind}-{}", format.chunk_bytes()), format, kind, &data);
        // One connection for all.
        let mut stream = connect(ports[0]);
        for range in ranges(format, len_bytes as u64) {
            let expected = &data[range.start as usize..range.end as usize];
            let served = read(&mut stream, &block, &NO_TOKEN, range.clone(), true).unwrap();
            assert!(served.format == format && served.data == expected, "{range:?} of {format:?}");
            let bare = read(&mut stream, &block, &NO_TOKEN, range.clone(), false).unwrap();
            assert!(bare.format.kind() == ChecksumKind::Null && bare.data == expected, "{range:?} of {format:?}, bare");
        }
    }
}

#[test]
fn a_java_datanodes_refusals_are_understood() {
    let Some(peer) = Peer::shared() else { return };
    let data = pattern(1000, 3);
    let JavaBlock { block, ports } = put(&peer, "refused", ChunkFormat::CRC32C_512, "CRC32C", &data);
    let unknown = BlockRef { id: BlockId::from_raw(block.id.raw() + 1_000_000), ..block.clone() };
    let newer = BlockRef { stamp: block.stamp.next(), ..block.clone() };
    for (wrong, range) in [(&unknown, 0..1000), (&newer, 0..1000), (&block, 0..1001)] {
        let answer = read(&mut connect(ports[0]), wrong, &NO_TOKEN, range, true).err().unwrap();
        assert_eq!(reply::status_of(&answer), Status::Error, "{answer:?}");
        assert!(answer.message().contains("Exception"), "{answer:?}");
    }
}

#[test]
fn java_datanodes_take_our_blocks_with_every_kind_of_checksums() {
    let Some(peer) = Peer::shared() else { return };
    for (format, kind, len_bytes) in formats() {
        for replication in [1, 2] {
            let name = format!("taken-{kind}-{}-{replication}", format.chunk_bytes());
            let data = pattern(len_bytes, format.chunk_bytes() + replication as u64);
            let block_bytes = (len_bytes as u64).next_multiple_of(format.chunk_bytes());
            let JavaBlock { block, ports } = peer.allocate(&name, replication, block_bytes);
            let targets: Vec<Target> = ports.iter().map(|port| peer.at(*port).target.clone()).collect();
            assert_eq!(targets.len(), replication);
            let last = write(&block, &NO_TOKEN, &targets, format, &data);
            assert!(last.receipts.is_empty(), "receipts are ours alone");
            peer.complete(&name, &block, len_bytes);
            peer.tell(&format!("get {name} {} stream", peer.source(&name, &data)));
            for port in ports {
                let served = read(&mut connect(port), &block, &NO_TOKEN, 0..len_bytes as u64, true).unwrap();
                assert!(served.format == format && served.data == data, "{name} at {port}");
                assert!(on_disk(&peer.at(port).dir, &block, format, &data).is_empty(), "{name} at {port}");
            }
        }
    }
}

#[test]
fn a_java_datanode_finds_damage_and_names_the_link_at_fault() {
    let Some(peer) = Peer::shared() else { return };
    let format = ChunkFormat::CRC32C_512;
    let JavaBlock { block, ports } = peer.allocate("damaged", 1, 1 << 20);
    let target = peer.at(ports[0]).target.clone();
    let (mut stream, answer) = open_write(&block, &NO_TOKEN, std::slice::from_ref(&target), format);
    assert_eq!(reply::status_of(&answer), Status::Success, "{answer:?}");
    let good = Packet::with_data(format, 0, 0, Bytes::from(vec![5; 1000]));
    send(&mut stream, &Packet { data: Bytes::from(vec![6; 1000]), ..good });
    assert_eq!(Ack::read(&mut stream).unwrap().replies, [Status::ErrorChecksum]);

    let block = peer.allocate("unreached", 1, 1 << 20).block;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Target { node: NodeId::new("nobody"), transfer_port: unused, ..target.clone() };
    let (_, answer) = open_write(&block, &NO_TOKEN, &[target, nobody], format);
    assert_eq!(reply::status_of(&answer), Status::Error);
    assert_eq!(answer.first_bad_link(), format!("127.0.0.1:{unused}"));
}
