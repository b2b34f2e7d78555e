//! Meta files: HDFS's header and checksums, then our trailer when the replica is finalised.
//! The bytes are laid out in docs/formats/block-files.md.
//!
//! ```text
//!   0     version 1 (2 BE) · checksum type (1) · bytes per chunk (4 BE)        as HDFS has it
//!   7     one CRC (4 BE) for every chunk                                       as HDFS has it
//!   …     trailer: magic, version, id, stamp, length, CRC of CRCs, marks, pool, digest leaves, length, CRC
//! ```
//!
//! No valid trailer: the replica is being written, or was when the node died. A trailer is written only
//! after the data have been synced, so a valid one proves that the data were durable.

#![deny(clippy::indexing_slicing)]

use base::two_slot::crc32c;
use proto::ids::{BlockId, GenerationStamp, PoolId};
use transfer::digest::{LEAF_BYTES, Leaf};
use transfer::{ChecksumKind, ChunkFormat};

/// Bytes before the first checksum.
pub(crate) const HEADER_BYTES: u64 = 7;
const HEADER_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"BYBLKEND";
/// Trailers without marks are of version 1, as ever.
const UNMARKED: u32 = 1;
const VERSION: u32 = 2;
/// Everything before the pool's text.
const FIXED_BYTES: usize = 52;
/// Length and CRC, which end the trailer so that it can be found from the end of the file.
const END_BYTES: usize = 8;
/// A mark of the trailer: its leaves are what a scrubber found.
const OBSERVED: u32 = 1;
/// Blocks are at most 1 TiB: 2^20 leaves of 1 MiB would be 32 MiB. Nothing longer is believed.
const MAX_TRAILER_BYTES: usize = 32 * 1024 * 1024 + 4096;

/// The header of a meta file.
pub(crate) fn encode_header(chunks: ChunkFormat) -> [u8; HEADER_BYTES as usize] {
    let [v0, v1] = HEADER_VERSION.to_be_bytes();
    let [b0, b1, b2, b3] = (chunks.chunk_bytes() as u32).to_be_bytes();
    [v0, v1, chunks.kind().number(), b0, b1, b2, b3]
}

/// The chunk format in a header; `None` if it is damaged or of another version.
pub(crate) fn decode_header(bytes: &[u8]) -> Option<ChunkFormat> {
    let &[v0, v1, kind, b0, b1, b2, b3] = bytes.first_chunk::<7>()?;
    if u16::from_be_bytes([v0, v1]) != HEADER_VERSION {
        return None;
    }
    ChunkFormat::new(ChecksumKind::from_number(kind)?, u32::from_be_bytes([b0, b1, b2, b3]))
}

/// What a finalised replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) pool: PoolId,
    pub(crate) id: BlockId,
    pub(crate) stamp: GenerationStamp,
    pub(crate) len_bytes: u64,
    /// CRC-32C of the checksums, as they lie in the file.
    pub(crate) crc_of_crcs: u32,
    /// SHA-256 of each 1 MiB segment; empty if nobody computed them.
    pub(crate) leaves: Vec<Leaf>,
    /// The leaves were computed from what a scrubber found, not by the block's writer.
    pub(crate) observed: bool,
}

/// What the end of a meta file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A whole trailer and its length in bytes.
    Trailer(Trailer, usize),
    /// A trailer that starts before the bytes given: that many bytes from the end are needed.
    Needs(usize),
    /// A trailer of a newer version.
    Newer(u32),
    /// A trailer with marks that this program does not know.
    Marked(u32),
    /// None, or a damaged one.
    None,
}

impl Trailer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let pool = self.pool.as_str().as_bytes();
        let total = FIXED_BYTES + pool.len() + self.leaves.len() * LEAF_BYTES + END_BYTES;
        let mut out = Vec::with_capacity(total);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&(if self.observed { VERSION } else { UNMARKED }).to_le_bytes());
        out.extend_from_slice(&self.id.raw().to_le_bytes());
        out.extend_from_slice(&self.stamp.raw().to_le_bytes());
        out.extend_from_slice(&self.len_bytes.to_le_bytes());
        out.extend_from_slice(&self.crc_of_crcs.to_le_bytes());
        out.extend_from_slice(&(self.leaves.len() as u32).to_le_bytes());
        out.extend_from_slice(&(pool.len() as u32).to_le_bytes());
        out.extend_from_slice(&(u32::from(self.observed) * OBSERVED).to_le_bytes());
        out.extend_from_slice(pool);
        self.leaves.iter().for_each(|leaf| out.extend_from_slice(leaf));
        out.extend_from_slice(&(total as u32).to_le_bytes());
        out.extend_from_slice(&crc32c(&out).to_le_bytes());
        out
    }

    /// Reads the trailer at the end of `tail`, the last bytes of a meta file.
    pub(crate) fn decode_end(tail: &[u8]) -> End {
        let Some((_, end)) = tail.split_last_chunk::<END_BYTES>() else { return End::None };
        let &[l0, l1, l2, l3, c0, c1, c2, c3] = end;
        let total = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if !(FIXED_BYTES + END_BYTES..=MAX_TRAILER_BYTES).contains(&total) {
            return End::None;
        }
        let Some(start) = tail.len().checked_sub(total) else { return End::Needs(total) };
        let bytes = tail.get(start..).unwrap_or_default();
        let (body, _) = bytes.split_at_checked(total - 4).unwrap_or_default();
        if crc32c(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return End::None;
        }
        match decode_body(body) {
            Some(Ok(trailer)) => End::Trailer(trailer, total),
            Some(Err(Unknown::Version(newer))) => End::Newer(newer),
            Some(Err(Unknown::Marks(marks))) => End::Marked(marks),
            None => End::None,
        }
    }
}

/// What a newer program has written.
enum Unknown {
    Version(u32),
    Marks(u32),
}

/// `None`: not a trailer; `Some(Err)`: one of a newer program.
fn decode_body(body: &[u8]) -> Option<Result<Trailer, Unknown>> {
    let mut fields = Fields(body);
    if fields.take::<8>()? != MAGIC {
        return None;
    }
    let version = u32::from_le_bytes(fields.take()?);
    if version > VERSION {
        return Some(Err(Unknown::Version(version)));
    }
    let id = BlockId::from_raw(i64::from_le_bytes(fields.take()?));
    let stamp = GenerationStamp::from_raw(u64::from_le_bytes(fields.take()?));
    let len_bytes = u64::from_le_bytes(fields.take()?);
    let crc_of_crcs = u32::from_le_bytes(fields.take()?);
    let leaf_count = u32::from_le_bytes(fields.take()?) as usize;
    let pool_bytes = u32::from_le_bytes(fields.take()?) as usize;
    let marks = u32::from_le_bytes(fields.take()?);
    if marks & !(if version > UNMARKED { OBSERVED } else { 0 }) != 0 {
        return Some(Err(Unknown::Marks(marks)));
    }
    let observed = marks & OBSERVED != 0;
    let pool = std::str::from_utf8(fields.slice(pool_bytes)?).ok()?;
    let pool = PoolId::parse(pool).ok()?;
    let (leaves, odd) = fields.slice(leaf_count.checked_mul(LEAF_BYTES)?)?.as_chunks::<LEAF_BYTES>();
    // What is left is the trailer's length.
    if !odd.is_empty() || fields.0.len() != 4 {
        return None;
    }
    Some(Ok(Trailer { pool, id, stamp, len_bytes, crc_of_crcs, leaves: leaves.to_vec(), observed }))
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
    fn slice(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_trailer() -> impl Strategy<Value = Trailer> {
        let leaves = (0..4_usize, any::<bool>());
        let parts = (any::<i64>(), any::<u64>(), any::<u64>(), any::<u32>(), leaves, "[a-z0-9-]{1,40}");
        parts.prop_map(|(id, stamp, len_bytes, crc_of_crcs, (leaves, observed), pool)| Trailer {
            pool: PoolId::new(&pool),
            id: BlockId::from_raw(id),
            stamp: GenerationStamp::from_raw(stamp),
            len_bytes,
            crc_of_crcs,
            leaves: vec![[7; LEAF_BYTES]; leaves],
            observed,
        })
    }

    #[test]
    fn the_header_is_hadoops() {
        let header = encode_header(ChunkFormat::CRC32C_512);
        assert_eq!(header, [0, 1, 2, 0, 0, 2, 0]);
        assert_eq!(decode_header(&header), Some(ChunkFormat::CRC32C_512));
        assert_eq!(decode_header(&header[..6]), None);
        assert_eq!(decode_header(&[0, 2, 2, 0, 0, 2, 0]), None);
        assert_eq!(decode_header(&[0, 1, 9, 0, 0, 2, 0]), None);
    }

    #[test]
    fn a_trailer_has_the_bytes_of_the_format_page() {
        let hex: String = any_fixed().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let page = "4259424c4b454e44 01000000 0100004000000000 e903000000000000 0300000000000000 09000000 \
                    00000000 04000000 00000000 42502d31 40000000 24c16e70";
        assert_eq!(hex, page.replace(' ', ""));
        // A leaf and the mark are where the page says.
        let observed = Trailer { leaves: vec![[7; LEAF_BYTES]], observed: true, ..any_fixed() }.encode();
        assert_eq!((observed[8], observed[40], observed[48], &observed[56..88]), (2, 1, 1, &[7; LEAF_BYTES][..]));
    }

    #[test]
    fn a_claimed_length_or_count_is_not_believed() {
        for claim in [u32::MAX, MAX_TRAILER_BYTES as u32 + 1, 59, 0] {
            let mut bytes = any_fixed().encode();
            let at = bytes.len() - 8;
            bytes[at..at + 4].copy_from_slice(&claim.to_le_bytes());
            assert_eq!(Trailer::decode_end(&bytes), End::None, "{claim}");
        }
        // Leaves and pool, under a right checksum.
        for at in [40, 44] {
            let mut bytes = any_fixed().encode();
            bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            let end = bytes.len() - 4;
            let crc = crc32c(&bytes[..end]).to_le_bytes();
            bytes[end..].copy_from_slice(&crc);
            assert_eq!(Trailer::decode_end(&bytes), End::None, "at {at}");
        }
    }

    #[test]
    fn a_newer_trailer_is_named() {
        let changed = |trailer: &Trailer, offset: usize, value: u8| {
            let mut bytes = trailer.encode();
            bytes[offset] = value;
            let at = bytes.len() - 4;
            let crc = crc32c(&bytes[..at]).to_le_bytes();
            bytes[at..].copy_from_slice(&crc);
            Trailer::decode_end(&bytes)
        };
        assert_eq!(changed(&any_fixed(), 8, 3), End::Newer(3));
        // What was reserved in version 1 means nothing there, and nothing unknown is skipped.
        assert_eq!(changed(&any_fixed(), 48, 1), End::Marked(1));
        let observed = Trailer { observed: true, ..any_fixed() };
        assert_eq!(changed(&observed, 48, 2), End::Marked(2));
    }

    fn any_fixed() -> Trailer {
        Trailer {
            pool: PoolId::new("1"),
            id: BlockId::FIRST,
            stamp: GenerationStamp::FIRST,
            len_bytes: 3,
            crc_of_crcs: 9,
            leaves: Vec::new(),
            observed: false,
        }
    }

    proptest! {
        #[test]
        fn trailers_round_trip_behind_anything(trailer in any_trailer(), before in proptest::collection::vec(any::<u8>(), 0..100)) {
            let encoded = trailer.encode();
            let mut file = before;
            file.extend_from_slice(&encoded);
            prop_assert_eq!(Trailer::decode_end(&file), End::Trailer(trailer, encoded.len()));
            prop_assert_eq!(Trailer::decode_end(&file[file.len() - 20..]), End::Needs(encoded.len()));
        }

        #[test]
        fn sc_60_a_trailer_cut_at_any_byte_is_no_trailer(trailer in any_trailer(), cut in any::<usize>()) {
            let encoded = trailer.encode();
            let whole = matches!(Trailer::decode_end(&encoded[..cut % encoded.len()]), End::Trailer(..) | End::Newer(_));
            prop_assert!(!whole);
        }

        #[test]
        fn a_flipped_bit_is_no_trailer(trailer in any_trailer(), bit in any::<usize>()) {
            let mut encoded = trailer.encode();
            let at = bit % (encoded.len() * 8);
            encoded[at / 8] ^= 1 << (at % 8);
            let whole = matches!(Trailer::decode_end(&encoded), End::Trailer(..) | End::Newer(_));
            prop_assert!(!whole);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let whole = matches!(Trailer::decode_end(&bytes), End::Trailer(..));
            prop_assert!(!whole);
            let _format = decode_header(&bytes).is_some();
        }
    }
}
