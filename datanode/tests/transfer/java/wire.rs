//! A client of a few lines, of nothing but `transfer`.

use std::ops::Range;

use transfer::{PACKET_DATA_BYTES, PacketHead};

use super::*;

/// A range of a block as a node served it.
pub(super) struct Served {
    /// Checksums that came with it.
    pub(super) format: ChunkFormat,
    /// The bytes asked for, verified.
    pub(super) data: Vec<u8>,
}

/// Reads a range and says that it was good; or the refusal.
pub(super) fn read(
    stream: &mut TcpStream,
    block: &BlockRef,
    token: &Bytes,
    range: Range<u64>,
    send_checksums: bool,
) -> Result<Served, Box<BlockOpResponse>> {
    let len_bytes = range.end - range.start;
    let (block, token, offset_bytes) = (block.clone(), token.clone(), range.start);
    let setup = ReadSetup { block, token, client_name: "test".into(), offset_bytes, len_bytes, send_checksums };
    stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
    let answer = reply::read(stream).unwrap();
    if reply::status_of(&answer) != Status::Success {
        return Err(Box::new(answer));
    }
    let info = answer.read_op_checksum_info.unwrap();
    let format = ChunkFormat::from_wire(&info.checksum).unwrap();
    assert_eq!(info.chunk_offset, range.start - range.start % format.chunk_bytes(), "{range:?} of {format:?}");
    let data = take_packets(stream, format, info.chunk_offset);
    stream.write_all(&reply::read_status(if send_checksums { Status::ChecksumOk } else { Status::Success })).unwrap();
    let skip = (range.start - info.chunk_offset) as usize;
    Ok(Served { format, data: data[skip..skip + len_bytes as usize].to_vec() })
}

/// Packets in order, verified, until the last one.
fn take_packets(stream: &mut TcpStream, format: ChunkFormat, start_bytes: u64) -> Vec<u8> {
    let (mut data, mut buffer) = (Vec::new(), PacketBuffer::new());
    for seqno in 0.. {
        let packet = buffer.read(stream).unwrap();
        assert_eq!((packet.head.seqno, packet.head.offset_bytes), (seqno, start_bytes + data.len() as u64));
        format.verify(packet.data, packet.checksums).unwrap();
        data.extend_from_slice(packet.data);
        if packet.head.last {
            break;
        }
    }
    data
}

/// Sends a set-up; socket and answer.
pub(super) fn open_write(
    block: &BlockRef,
    token: &Bytes,
    targets: &[Target],
    format: ChunkFormat,
) -> (TcpStream, BlockOpResponse) {
    let setup = WriteSetup::create(block.clone(), token.clone(), "test".into(), targets, format).unwrap();
    let mut stream = connect(targets[0].transfer_port);
    stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
    let answer = reply::read(&mut stream).unwrap();
    (stream, answer)
}

/// Writes a block as a client does that flushes in the middle of a chunk, is silent for a while, and syncs at the end.
/// The last ack; every one is checked.
pub(super) fn write(block: &BlockRef, token: &Bytes, targets: &[Target], format: ChunkFormat, data: &[u8]) -> Ack {
    let (mut stream, answer) = open_write(block, token, targets, format);
    assert_eq!(reply::status_of(&answer), Status::Success, "{answer:?}");
    let mut last = None;
    for packet in packets(format, data) {
        send(&mut stream, &packet);
        let ack = Ack::read(&mut stream).unwrap();
        assert_eq!((ack.seqno, &ack.replies), (packet.head.seqno, &vec![Status::Success; targets.len()]));
        last = Some(ack);
    }
    last.unwrap()
}

fn packets(format: ChunkFormat, data: &[u8]) -> Vec<Packet> {
    let chunk_bytes = format.chunk_bytes() as usize;
    let flushed_bytes = (chunk_bytes + chunk_bytes / 2).min(data.len());
    let packet = |seqno, from: usize, to: usize| {
        Packet::with_data(format, seqno, from as u64, Bytes::copy_from_slice(&data[from..to]))
    };
    let first = packet(0, 0, flushed_bytes);
    let first = Packet { head: PacketHead { sync: true, ..first.head }, ..first };
    let mut packets = vec![first, Packet::heartbeat()];
    // On from the start of the chunk that was not whole.
    let (mut seqno, mut from) = (1, flushed_bytes - flushed_bytes % chunk_bytes);
    let most_bytes = (PACKET_DATA_BYTES / chunk_bytes).max(1) * chunk_bytes;
    while from < data.len() {
        let to = data.len().min(from + most_bytes);
        packets.push(packet(seqno, from, to));
        (seqno, from) = (seqno + 1, to);
    }
    packets.push(Packet::last(seqno, data.len() as u64, true));
    packets
}

/// Ranges around the borders of chunks and at both ends.
pub(super) fn ranges(format: ChunkFormat, len_bytes: u64) -> Vec<Range<u64>> {
    let chunk_bytes = format.chunk_bytes();
    let starts =
        [0, 1, 511, 512, chunk_bytes - 1, chunk_bytes, chunk_bytes + 1, 2 * chunk_bytes, len_bytes / 2, len_bytes - 1];
    let lens = [1, 2, 513, chunk_bytes, len_bytes];
    let cut = |start: u64| lens.map(|len| start..(start + len).min(len_bytes));
    starts.into_iter().filter(|start| *start < len_bytes).flat_map(cut).collect()
}
