//! Packets: the unit in which block data travel, in both directions.
//!
//! ```text
//!   PLEN 4 BE     4 + bytes of checksums + bytes of data
//!   HLEN 2 BE     bytes of the header
//!   header        protobuf PacketHeader: offset, number, last?, data length, sync?, leaves of the digest
//!   checksums     4 bytes BE for every chunk
//!   data
//! ```

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::transfer::PacketHeader;

use crate::digest::{LEAF_BYTES, MAX_PACKET_LEAVES};
use crate::{ChunkFormat, WireError};

/// Longest packet accepted, as in Hadoop: PLEN and HLEN together.
pub const MAX_PACKET_BYTES: usize = 16 * 1024 * 1024;

/// Number of a heartbeat packet, which keeps an idle pipeline alive.
pub const HEARTBEAT_SEQNO: i64 = -1;

const LENGTHS_BYTES: usize = 6;
/// PLEN counts itself.
const PLEN_BYTES: usize = 4;
/// A packet header is 25 or 27 bytes, and with leaves of the digest and their checksum up to 487; what a later version adds has to fit here.
const MAX_HEADER_BYTES: usize = 512;
/// A buffer starts at this size and doubles with the bytes that arrive.
const FIRST_READ_BYTES: usize = 64 * 1024;

/// What a packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHead {
    /// Position in the block of the first data byte.
    pub offset_bytes: u64,
    /// Number of the packet, by which it is acknowledged.
    pub seqno: i64,
    /// Nothing follows: the block ends here.
    pub last: bool,
    /// Make everything so far durable before acknowledging.
    pub sync: bool,
}

impl PacketHead {
    /// The bytes of a packet before its checksums.
    #[must_use]
    pub fn encode(&self, checksums_bytes: usize, data_bytes: usize) -> Vec<u8> {
        self.encode_with(&Bytes::new(), checksums_bytes, data_bytes)
    }
    /// The same with leaves of the digest, [`MAX_PACKET_LEAVES`] at most.
    #[must_use]
    pub fn encode_with(&self, leaves: &Bytes, checksums_bytes: usize, data_bytes: usize) -> Vec<u8> {
        let header = PacketHeader {
            offset_in_block: self.offset_bytes as i64,
            seqno: self.seqno,
            last_packet_in_block: self.last,
            data_len: data_bytes as i32,
            sync_block: self.sync.then_some(true),
            leaves: (!leaves.is_empty()).then(|| leaves.clone()),
            leaves_crc: leaves_crc(leaves),
        };
        let mut out = Vec::with_capacity(LENGTHS_BYTES + 44 + leaves.len());
        out.extend_from_slice(&((PLEN_BYTES + checksums_bytes + data_bytes) as u32).to_be_bytes());
        out.extend_from_slice(&(header.encoded_len() as u16).to_be_bytes());
        out.extend_from_slice(&header.encode_to_vec());
        out
    }
}

/// The checksum that travels with leaves; without any there is none.
fn leaves_crc(leaves: &[u8]) -> Option<u32> {
    (!leaves.is_empty()).then(|| ChunkFormat::CRC32C_512.checksum(leaves))
}

/// A packet that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it says of itself.
    pub head: PacketHead,
    /// Leaves of the digest that travel with it; see [`crate::digest`].
    pub leaves: Bytes,
    /// One checksum for every chunk of the data; empty if the sender made none.
    pub checksums: Bytes,
    /// The data.
    pub data: Bytes,
}

impl Packet {
    /// A packet of data that starts at a chunk border, with its checksums computed.
    #[must_use]
    pub fn with_data(format: ChunkFormat, seqno: i64, offset_bytes: u64, data: Bytes) -> Self {
        let head = PacketHead { offset_bytes, seqno, last: false, sync: false };
        Self { head, leaves: Bytes::new(), checksums: format.compute(&data), data }
    }
    /// The empty packet that ends a block of `len_bytes`.
    #[must_use]
    pub const fn last(seqno: i64, len_bytes: u64, sync: bool) -> Self {
        let head = PacketHead { offset_bytes: len_bytes, seqno, last: true, sync };
        Self { head, leaves: Bytes::new(), checksums: Bytes::new(), data: Bytes::new() }
    }
    /// A heartbeat.
    #[must_use]
    pub const fn heartbeat() -> Self {
        let head = PacketHead { offset_bytes: 0, seqno: HEARTBEAT_SEQNO, last: false, sync: false };
        Self { head, leaves: Bytes::new(), checksums: Bytes::new(), data: Bytes::new() }
    }
    /// The same without its bytes owned.
    #[must_use]
    pub fn view(&self) -> PacketView<'_> {
        let leaves_crc = leaves_crc(&self.leaves);
        PacketView { head: self.head, leaves: &self.leaves, leaves_crc, checksums: &self.checksums, data: &self.data }
    }
    /// Bytes before the checksums; the rest of the packet on the wire is `checksums`, then `data`.
    #[must_use]
    pub fn head_bytes(&self) -> Vec<u8> {
        self.head.encode_with(&self.leaves, self.checksums.len(), self.data.len())
    }
    /// Appends the packet as it travels.
    pub fn encode_into(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.head_bytes());
        out.extend_from_slice(&self.checksums);
        out.extend_from_slice(&self.data);
    }
    /// Takes one packet from the front of `bytes` without copying; `None` if it is not whole yet, and then
    /// nothing is taken.
    ///
    /// # Errors
    /// [`WireError::TooLong`], [`WireError::Malformed`], also for leaves that are not what was sent.
    pub fn decode(bytes: &mut BytesMut) -> Result<Option<Self>, WireError> {
        let Shape::Whole(layout) = parse(bytes)? else { return Ok(None) };
        if layout.leaves_crc != leaves_crc(&layout.leaves) {
            return Err(WireError::malformed("packet header", "its leaves and their checksum do not belong together"));
        }
        let mut rest = bytes.split_to(layout.total_bytes).freeze();
        let body = rest.split_off(layout.body_at);
        let checksums = body.slice(..layout.checksums_bytes);
        let data = body.slice(layout.checksums_bytes..);
        Ok(Some(Self { head: layout.head, leaves: layout.leaves, checksums, data }))
    }
}

/// A packet that borrows its bytes from the buffer that it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketView<'a> {
    /// What it says of itself.
    pub head: PacketHead,
    /// Leaves of the digest that travel with it: whole ones, one behind the other. Not to be used before
    /// [`PacketView::leaves_intact`] was asked.
    pub leaves: &'a [u8],
    /// CRC-32C of the leaves, as their sender made it.
    pub leaves_crc: Option<u32>,
    /// One checksum for every chunk of the data; empty if the sender made none.
    pub checksums: &'a [u8],
    /// The data.
    pub data: &'a [u8],
}

impl PacketView<'_> {
    /// Is this only a sign of life?
    #[must_use]
    pub const fn is_heartbeat(&self) -> bool {
        self.head.seqno == HEARTBEAT_SEQNO
    }
    /// Are the leaves what their sender sent? Leaves without a checksum are not: every sender of leaves makes one.
    #[must_use]
    pub fn leaves_intact(&self) -> bool {
        self.leaves_crc == leaves_crc(self.leaves)
    }
    /// A copy that owns its bytes.
    #[must_use]
    pub fn to_owned(&self) -> Packet {
        let (checksums, data) = (Bytes::copy_from_slice(self.checksums), Bytes::copy_from_slice(self.data));
        Packet { head: self.head, leaves: Bytes::copy_from_slice(self.leaves), checksums, data }
    }
}

/// A buffer that is read into again and again: one connection, one packet at a time.
#[derive(Debug, Default)]
pub struct PacketBuffer {
    bytes: Vec<u8>,
    layout: Option<Layout>,
}

impl PacketBuffer {
    /// An empty buffer; it grows with the packets that arrive.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), layout: None }
    }

    /// Reads one packet from a blocking reader, and not a byte more.
    ///
    /// # Errors
    /// [`WireError::Closed`] if the peer ends between packets, [`WireError::TooLong`],
    /// [`WireError::Malformed`], [`WireError::Io`].
    pub fn read(&mut self, reader: &mut impl Read) -> Result<PacketView<'_>, WireError> {
        self.layout = None;
        let mut have = 0;
        loop {
            let shape = parse(self.bytes.get(..have).unwrap_or_default())?;
            let wanted = match shape {
                Shape::Whole(layout) => {
                    self.layout = Some(layout);
                    return self.packet().ok_or_else(|| WireError::malformed("packet", "its parts do not fit"));
                }
                Shape::Needs(total_bytes) => total_bytes,
            };
            have = self.fill(reader, have, wanted)?;
        }
    }

    /// The packet last read whole.
    #[must_use]
    pub fn packet(&self) -> Option<PacketView<'_>> {
        let layout = self.layout.as_ref()?;
        let body = self.bytes.get(layout.body_at..layout.total_bytes)?;
        let (checksums, data) = body.split_at_checked(layout.checksums_bytes)?;
        let (head, leaves, leaves_crc) = (layout.head, &layout.leaves, layout.leaves_crc);
        Some(PacketView { head, leaves, leaves_crc, checksums, data })
    }
    /// The packet last read whole, as it travelled: what a node sends on to the next.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        self.layout.as_ref().and_then(|layout| self.bytes.get(..layout.total_bytes)).unwrap_or_default()
    }

    /// Reads on until `wanted` bytes are there, or as many as the buffer takes in this step.
    fn fill(&mut self, reader: &mut impl Read, have: usize, wanted: usize) -> Result<usize, WireError> {
        let step_end = wanted.min((have * 2).max(FIRST_READ_BYTES).max(self.bytes.len()));
        if self.bytes.len() < step_end {
            self.bytes.resize(step_end, 0);
        }
        let room = self.bytes.get_mut(have..step_end).unwrap_or_default();
        match reader.read_exact(room) {
            Ok(()) => Ok(step_end),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && have == 0 => Err(WireError::Closed),
            Err(error) => Err(WireError::Io(error)),
        }
    }
}

#[derive(Clone, Debug)]
struct Layout {
    head: PacketHead,
    leaves: Bytes,
    leaves_crc: Option<u32>,
    body_at: usize,
    checksums_bytes: usize,
    total_bytes: usize,
}

enum Shape {
    /// Not whole: that many bytes from the start are needed to go on.
    Needs(usize),
    Whole(Layout),
}

fn parse(bytes: &[u8]) -> Result<Shape, WireError> {
    let Some((lengths, rest)) = bytes.split_at_checked(LENGTHS_BYTES) else { return Ok(Shape::Needs(LENGTHS_BYTES)) };
    let &[a, b, c, d, e, f] = lengths else { return Ok(Shape::Needs(LENGTHS_BYTES)) };
    let payload_bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    let header_bytes = usize::from(u16::from_be_bytes([e, f]));
    if payload_bytes < PLEN_BYTES {
        return Err(WireError::malformed("packet", format!("its length is {payload_bytes}")));
    }
    if payload_bytes + header_bytes > MAX_PACKET_BYTES {
        let claimed = (payload_bytes + header_bytes) as u64;
        return Err(WireError::TooLong { what: "packet", claimed, limit: MAX_PACKET_BYTES as u64 });
    }
    if header_bytes > MAX_HEADER_BYTES {
        let (claimed, limit) = (header_bytes as u64, MAX_HEADER_BYTES as u64);
        return Err(WireError::TooLong { what: "packet header", claimed, limit });
    }
    let body_bytes = payload_bytes - PLEN_BYTES;
    let body_at = LENGTHS_BYTES + header_bytes;
    // Header first: a malformed one is refused before the body is waited for.
    let Some(header) = rest.get(..header_bytes) else { return Ok(Shape::Needs(body_at)) };
    let header =
        PacketHeader::decode(header).map_err(|error| WireError::malformed("packet header", error.to_string()))?;
    let (head, data_bytes) = check_header(&header)?;
    let Some(checksums_bytes) = body_bytes.checked_sub(data_bytes) else {
        return Err(WireError::malformed("packet", format!("{data_bytes} data bytes in a body of {body_bytes}")));
    };
    let total_bytes = body_at + body_bytes;
    if bytes.len() < total_bytes {
        return Ok(Shape::Needs(total_bytes));
    }
    let leaves = header.leaves.unwrap_or_default();
    Ok(Shape::Whole(Layout { head, leaves, leaves_crc: header.leaves_crc, body_at, checksums_bytes, total_bytes }))
}

fn check_header(header: &PacketHeader) -> Result<(PacketHead, usize), WireError> {
    let negative = |what: &str, value: i64| WireError::malformed("packet header", format!("{what} {value}"));
    let offset_bytes =
        u64::try_from(header.offset_in_block).map_err(|_range| negative("offset", header.offset_in_block))?;
    let data_bytes =
        usize::try_from(header.data_len).map_err(|_range| negative("data length", i64::from(header.data_len)))?;
    let leaves_bytes = header.leaves.as_ref().map_or(0, Bytes::len);
    if !leaves_bytes.is_multiple_of(LEAF_BYTES) || leaves_bytes > MAX_PACKET_LEAVES * LEAF_BYTES {
        return Err(WireError::malformed("packet header", format!("{leaves_bytes} bytes of leaves")));
    }
    let head = PacketHead {
        offset_bytes,
        seqno: header.seqno,
        last: header.last_packet_in_block,
        sync: header.sync_block.unwrap_or(false),
    };
    Ok((head, data_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| c.is_ascii_hexdigit()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
    }

    fn encoded(packet: &Packet) -> Vec<u8> {
        let mut out = BytesMut::new();
        packet.encode_into(&mut out);
        out.to_vec()
    }

    #[test]
    fn packets_are_hadoops_bytes() {
        let data = Packet::with_data(ChunkFormat::CRC32C_512, 0, 0, Bytes::from_static(b"abc"));
        let vector = "0000000b 0019 09 0000000000000000 11 0000000000000000 1800 25 03000000 364b3fb7 616263";
        assert_eq!(encoded(&data), hex(vector));
        let last = "00000004 0019 09 0300000000000000 11 0100000000000000 1801 25 00000000";
        assert_eq!(encoded(&Packet::last(1, 3, false)), hex(last));
        let heartbeat = "00000004 0019 09 0000000000000000 11 ffffffffffffffff 1800 25 00000000";
        assert_eq!(encoded(&Packet::heartbeat()), hex(heartbeat));
        assert_eq!(Packet::last(1, 3, true).head_bytes().len(), 33, "six bytes and a header with its sync flag");
    }

    #[test]
    fn leaves_are_whole_and_few() {
        for (leaves_bytes, good) in [(32, true), (MAX_PACKET_LEAVES * LEAF_BYTES, true), (31, false), (480, false)] {
            let leaves = Bytes::from(vec![7; leaves_bytes]);
            let packet = Packet { leaves, ..Packet::last(1, 3, true) };
            let mut bytes = BytesMut::new();
            packet.encode_into(&mut bytes);
            match Packet::decode(&mut bytes) {
                Ok(decoded) => assert_eq!((decoded, good), (Some(packet), true)),
                Err(error) => assert!(!good, "{error}"),
            }
        }
        // A header without leaves is Hadoop's, byte for byte.
        assert_eq!(Packet::last(1, 3, false).head_bytes().len(), 31);
    }

    #[test]
    fn sc_37_leaves_that_changed_on_the_way_are_found_at_every_bit() {
        let packet = Packet { leaves: Bytes::from(vec![7; 2 * LEAF_BYTES]), ..Packet::last(1, 3, true) };
        let whole = encoded(&packet);
        let start = whole.windows(LEAF_BYTES).position(|bytes| bytes == [7; LEAF_BYTES]).unwrap();
        for bit in 8 * start..8 * (start + 2 * LEAF_BYTES) {
            let mut wire = whole.clone();
            wire[bit / 8] ^= 1 << (bit % 8);
            let mut buffer = PacketBuffer::new();
            assert!(!buffer.read(&mut &wire[..]).unwrap().leaves_intact(), "bit {bit}");
            assert!(Packet::decode(&mut BytesMut::from(&wire[..])).is_err(), "bit {bit}");
        }
        let mut buffer = PacketBuffer::new();
        assert!(buffer.read(&mut &whole[..]).unwrap().leaves_intact());
        let without = PacketView { leaves_crc: None, ..packet.view() };
        assert!(!without.leaves_intact(), "no sender leaves the checksum out");
        assert!(Packet::heartbeat().view().leaves_intact());
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused_before_anything_is_read() {
        for claim in ["7fffffff 0019", "ffffffff 0019", "01000000 0019", "00000004 ffff", "00000003 0019"] {
            assert!(Packet::decode(&mut BytesMut::from(&hex(claim)[..])).is_err(), "{claim}");
            let mut buffer = PacketBuffer::new();
            assert!(buffer.read(&mut &hex(claim)[..]).is_err(), "{claim}");
            assert!(buffer.bytes.capacity() <= FIRST_READ_BYTES, "{claim}");
        }
    }

    #[test]
    fn a_long_claim_with_few_bytes_allocates_little() {
        let mut head = PacketHead { offset_bytes: 0, seqno: 0, last: false, sync: false }.encode(0, 15 << 20);
        head.extend_from_slice(&[0; 1000]);
        let mut buffer = PacketBuffer::new();
        assert!(matches!(buffer.read(&mut &head[..]), Err(WireError::Io(_))));
        assert!(buffer.bytes.capacity() <= 2 * FIRST_READ_BYTES);
    }

    #[test]
    fn negative_numbers_in_the_header_are_refused() {
        for (offset, len) in [(-1, 0), (0, -1)] {
            let header = PacketHeader {
                offset_in_block: offset,
                seqno: 0,
                last_packet_in_block: false,
                data_len: len,
                sync_block: None,
                leaves: None,
                leaves_crc: None,
            };
            let mut bytes = BytesMut::from(&hex("00000004 0019")[..]);
            bytes.extend_from_slice(&header.encode_to_vec());
            assert!(matches!(Packet::decode(&mut bytes), Err(WireError::Malformed { .. })));
        }
    }

    fn any_packet() -> impl Strategy<Value = Packet> {
        let flags = (any::<bool>(), any::<bool>(), 0..=MAX_PACKET_LEAVES);
        let parts = (any::<u32>(), any::<i64>(), flags, 0..200_000_usize, any::<u8>());
        parts.prop_map(|(offset, seqno, (last, sync, leaves), len, fill)| {
            let data = Bytes::from(vec![fill; len]);
            let head = PacketHead { offset_bytes: u64::from(offset), seqno, last, sync };
            let leaves = Bytes::from(vec![fill; leaves * LEAF_BYTES]);
            Packet { head, leaves, checksums: ChunkFormat::CRC32C_512.compute(&data), data }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn packets_survive_the_wire_whole_and_in_pieces(packets in proptest::collection::vec(any_packet(), 1..4), piece in 1..70_000_usize) {
            let mut wire = BytesMut::new();
            packets.iter().for_each(|packet| packet.encode_into(&mut wire));
            let (mut arrived, mut decoded) = (BytesMut::new(), Vec::new());
            for part in wire.chunks(piece) {
                arrived.extend_from_slice(part);
                while let Some(packet) = Packet::decode(&mut arrived).unwrap() {
                    decoded.push(packet);
                }
            }
            prop_assert_eq!(&decoded, &packets);
            let (mut reader, mut buffer) = (&wire[..], PacketBuffer::new());
            for packet in &packets {
                prop_assert_eq!(buffer.read(&mut reader).unwrap(), packet.view());
                prop_assert_eq!(buffer.raw(), &encoded(packet)[..]);
            }
            prop_assert!(matches!(buffer.read(&mut reader), Err(WireError::Closed)));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Packet::decode(&mut buffer) {}
            let (mut reader, mut packets) = (&bytes[..], PacketBuffer::new());
            while packets.read(&mut reader).is_ok() {}
        }

        #[test]
        fn damaged_packets_never_panic(packet in any_packet(), at in any::<usize>(), value in any::<u8>()) {
            let mut wire = BytesMut::from(&encoded(&packet)[..]);
            let at = at % wire.len().min(40);
            wire[at] = value;
            let mut reader = &wire[..];
            let _whole_or_refused = PacketBuffer::new().read(&mut reader).is_ok();
            while let Ok(Some(_)) = Packet::decode(&mut wire) {}
        }
    }
}
