//! One record of the log: a checksummed header, then a checksummed body, padded to eight bytes.
//!
//! ```text
//!   0  magic(4) version(1) kind(1) flags(1) 0(1)     16  term(8)     32  batch(8)      48  0(4)
//!   8  cluster hash(8)                               24  index(8)    40  length(4)     52  header crc(4)
//!                                                                    44  body crc(4)   56  body…
//! ```
//!
//! The header's checksum is seeded with the segment's salt: bytes that a client could store in a payload can
//! never pass for a record, and neither can a record of another segment. See docs/formats/log.md.
#![deny(clippy::indexing_slicing)]

use base::two_slot::crc32c;
use proto::ids::ClusterId;

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 56;
/// Records start at multiples of this.
pub(crate) const ALIGN_BYTES: usize = 8;
/// Version of records that this program writes, and the newest that it reads.
pub(crate) const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"BYRC";
const LAST_OF_BATCH: u8 = 1;
const HEADER_CRC_AT: usize = 52;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A Raft entry: the body is a `proto::raft::RaftEntry`.
    Entry,
    /// Nothing but the proof that the batch before it was synced.
    Seal,
    /// An image was installed: what came before is void, the log goes on after this index and term.
    Restart,
    /// The log goes on in the next segment.
    End,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Seal => 2,
            Self::Restart => 3,
            Self::End => 4,
        }
    }
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Entry,
            2 => Self::Seal,
            3 => Self::Restart,
            4 => Self::End,
            _ => return None,
        })
    }
}

/// A header, without its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// The batch ends with this record: only then do its records count.
    pub(crate) last_of_batch: bool,
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) batch: u64,
}

/// What makes the checksums of a segment its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) salt: u64,
    pub(crate) cluster: u64,
}

/// What was found at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A whole record.
    Record { header: Header, body: &'a [u8], size_bytes: usize },
    /// A header that verifies, of a version, kind or with flags that this program does not know.
    Unknown { version: u8, kind: u8, flags: u8 },
    /// A header that verifies, with a body that does not.
    BadBody(Header),
    /// Nothing that verifies.
    Nothing,
}

/// FNV-1a over the cluster's id: tells logs of different clusters apart.
pub(crate) fn cluster_hash(cluster: &ClusterId) -> u64 {
    cluster
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Bytes that a record with a body of this length takes.
pub(crate) const fn size_bytes(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGN_BYTES)
}

/// Appends a record.
pub(crate) fn encode(out: &mut Vec<u8>, seed: Seed, header: Header, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, header.kind.number(), u8::from(header.last_of_batch) * LAST_OF_BATCH, 0]);
    out.extend_from_slice(&seed.cluster.to_le_bytes());
    out.extend_from_slice(&header.term.to_le_bytes());
    out.extend_from_slice(&header.index.to_le_bytes());
    out.extend_from_slice(&header.batch.to_le_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&crc32c(body).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let crc = out.get(start..).map_or(0, |bytes| header_crc(seed.salt, bytes));
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(start + size_bytes(body.len()), 0);
}

fn header_crc(salt: u64, bytes: &[u8]) -> u32 {
    let mut salted = [0_u8; 8 + HEADER_CRC_AT];
    let (seed, rest) = salted.split_at_mut(8);
    seed.copy_from_slice(&salt.to_le_bytes());
    rest.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    crc32c(&salted)
}

/// Does a record header start here, judging by the magic alone?
pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Reads the record at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Found<'_> {
    try_decode(bytes, seed).unwrap_or(Found::Nothing)
}

fn try_decode(bytes: &[u8], seed: Seed) -> Option<Found<'_>> {
    if !has_magic(bytes) || u32_at(bytes, HEADER_CRC_AT)? != header_crc(seed.salt, bytes.get(..HEADER_CRC_AT)?) {
        return None;
    }
    let (version, kind, flags) = (*bytes.get(4)?, *bytes.get(5)?, *bytes.get(6)?);
    if u64_at(bytes, 8)? != seed.cluster {
        return None;
    }
    let unused = u32_at(bytes, 48)? | u32::from(*bytes.get(7)?);
    let plain = version == VERSION && flags & !LAST_OF_BATCH == 0 && unused == 0;
    let Some(known) = Kind::from_number(kind).filter(|_| plain) else {
        return Some(Found::Unknown { version, kind, flags });
    };
    let header = Header {
        kind: known,
        last_of_batch: flags & LAST_OF_BATCH != 0,
        term: u64_at(bytes, 16)?,
        index: u64_at(bytes, 24)?,
        batch: u64_at(bytes, 32)?,
    };
    let body_bytes = u32_at(bytes, 40)? as usize;
    let end = HEADER_BYTES.checked_add(body_bytes)?;
    match bytes.get(HEADER_BYTES..end) {
        Some(body) if crc32c(body) == u32_at(bytes, 44)? => {
            Some(Found::Record { header, body, size_bytes: size_bytes(body_bytes) })
        }
        _ => Some(Found::BadBody(header)),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: Seed = Seed { salt: 7, cluster: 9 };

    fn header(index: u64) -> Header {
        Header { kind: Kind::Entry, last_of_batch: true, term: 3, index, batch: 5 }
    }

    #[test]
    fn a_record_of_another_salt_or_cluster_is_nothing() {
        let mut bytes = Vec::new();
        encode(&mut bytes, SEED, header(4), b"body");
        assert_eq!(bytes.len() % ALIGN_BYTES, 0);
        assert!(matches!(decode(&bytes, SEED), Found::Record { .. }));
        assert_eq!(decode(&bytes, Seed { salt: 8, ..SEED }), Found::Nothing);
        assert_eq!(decode(&bytes, Seed { cluster: 8, ..SEED }), Found::Nothing);
    }

    proptest! {
        #[test]
        fn records_round_trip(body in proptest::collection::vec(any::<u8>(), 0..300), index: u64, term: u64, batch: u64) {
            let wrote = Header { kind: Kind::Restart, last_of_batch: false, term, index, batch };
            let mut bytes = Vec::new();
            encode(&mut bytes, SEED, wrote, &body);
            bytes.extend_from_slice(&[0xff; 16]);
            let size = size_bytes(body.len());
            prop_assert_eq!(decode(&bytes, SEED), Found::Record { header: wrote, body: &body, size_bytes: size });
        }

        #[test]
        fn sc_60_every_flip_and_every_cut_is_seen(body in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = Vec::new();
            encode(&mut bytes, SEED, header(1), &body);
            let meant = HEADER_BYTES + body.len();
            for bit in 0..meant * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let whole = matches!(decode(&damaged, SEED), Found::Record { .. });
                prop_assert!(!whole, "bit {}", bit);
            }
            for cut in 0..meant {
                let whole = matches!(decode(&bytes[..cut], SEED), Found::Record { .. });
                prop_assert!(!whole, "cut {}", cut);
            }
        }

        #[test]
        fn garbage_is_not_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend_from_slice(&bytes);
            prop_assert_eq!(decode(&bytes, SEED), Found::Nothing);
            prop_assert_eq!(decode(&with_magic, SEED), Found::Nothing);
        }
    }
}
