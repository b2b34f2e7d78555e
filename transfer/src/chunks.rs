//! Chunk checksums: one 4-byte big-endian CRC for every chunk of a packet or a block.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use proto::transfer::{Checksum, ChecksumType};

use crate::WireError;

/// Which CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumKind {
    /// None: packets carry data only.
    Null,
    /// CRC-32 as zlib has it.
    Crc32,
    /// CRC-32C (Castagnoli), the default.
    Crc32c,
}

impl ChecksumKind {
    /// Hadoop's number of this kind, on the wire and in meta files.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Crc32 => 1,
            Self::Crc32c => 2,
        }
    }
    /// The kind of a number; `None` for numbers that no version of ours writes.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Null),
            1 => Some(Self::Crc32),
            2 => Some(Self::Crc32c),
            _ => None,
        }
    }
    /// Bytes of one checksum.
    #[must_use]
    pub const fn checksum_bytes(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Crc32 | Self::Crc32c => 4,
        }
    }
    const fn algorithm(self) -> CrcAlgorithm {
        match self {
            Self::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
            Self::Null | Self::Crc32c => CrcAlgorithm::Crc32Iscsi,
        }
    }
}

/// A chunk whose bytes and checksum disagree, or a wrong number of checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkMismatch {
    /// The bytes of a chunk are not those that the checksum was made from.
    #[error("chunk {index}: checksum {stored:08x}, its bytes give {computed:08x}")]
    Chunk {
        /// Number of the chunk in this run of chunks, from 0.
        index: usize,
        /// Checksum that came with the bytes.
        stored: u32,
        /// Checksum of the bytes.
        computed: u32,
    },
    /// There are too few or too many checksums for the data.
    #[error("{found} bytes of checksums for data that need {expected}")]
    Count {
        /// Bytes of checksums that the data need.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

/// Longest chunk accepted. Hadoop clients use 512 to 64 Ki; beyond 1 MiB a flipped bit costs too much.
pub const MAX_CHUNK_BYTES: u32 = 1024 * 1024;

/// How data are cut into chunks and which CRC each gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkFormat {
    kind: ChecksumKind,
    chunk_bytes: u32,
}

impl Default for ChunkFormat {
    fn default() -> Self {
        Self::CRC32C_512
    }
}

impl ChunkFormat {
    /// CRC-32C over chunks of 512 bytes: what every client of ours and Hadoop's writes.
    pub const CRC32C_512: Self = Self { kind: ChecksumKind::Crc32c, chunk_bytes: 512 };
    /// No checksums, in steps of 512 bytes: what a reader is sent that wants none.
    pub const BARE_512: Self = Self { kind: ChecksumKind::Null, chunk_bytes: 512 };

    /// A format from the wire or from disk; `None` unless 1 ≤ `chunk_bytes` ≤ [`MAX_CHUNK_BYTES`].
    #[must_use]
    pub const fn new(kind: ChecksumKind, chunk_bytes: u32) -> Option<Self> {
        if chunk_bytes == 0 || chunk_bytes > MAX_CHUNK_BYTES { None } else { Some(Self { kind, chunk_bytes }) }
    }
    /// Which CRC.
    #[must_use]
    pub const fn kind(self) -> ChecksumKind {
        self.kind
    }
    /// Bytes of a whole chunk, never 0.
    #[must_use]
    pub const fn chunk_bytes(self) -> u64 {
        self.chunk_bytes as u64
    }
    /// As carried in set-up messages.
    #[must_use]
    pub fn to_wire(self) -> Checksum {
        let kind = match self.kind {
            ChecksumKind::Null => ChecksumType::ChecksumNull,
            ChecksumKind::Crc32 => ChecksumType::ChecksumCrc32,
            ChecksumKind::Crc32c => ChecksumType::ChecksumCrc32c,
        };
        Checksum { r#type: kind as i32, bytes_per_checksum: self.chunk_bytes }
    }
    /// From a set-up message.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for unknown kinds and chunk lengths out of range.
    pub fn from_wire(wire: &Checksum) -> Result<Self, WireError> {
        u8::try_from(wire.r#type)
            .ok()
            .and_then(ChecksumKind::from_number)
            .and_then(|kind| Self::new(kind, wire.bytes_per_checksum))
            .ok_or_else(|| {
                let why = format!("type {}, {} bytes per checksum", wire.r#type, wire.bytes_per_checksum);
                WireError::malformed("checksum format", why)
            })
    }

    /// Number of chunks of `data_bytes`.
    #[must_use]
    pub const fn chunk_count(self, data_bytes: u64) -> u64 {
        data_bytes.div_ceil(self.chunk_bytes as u64)
    }
    /// Bytes of the checksums of `data_bytes`.
    #[must_use]
    pub const fn checksums_bytes(self, data_bytes: u64) -> u64 {
        self.chunk_count(data_bytes) * self.kind.checksum_bytes() as u64
    }
    /// Checksum of one chunk.
    #[must_use]
    pub fn checksum(self, chunk: &[u8]) -> u32 {
        match self.kind {
            ChecksumKind::Null => 0,
            ChecksumKind::Crc32 => crc_fast::crc32_iso_hdlc(chunk),
            ChecksumKind::Crc32c => crc_fast::crc32_iscsi(chunk),
        }
    }
    /// Checksum of a chunk that continues: `before` is the checksum of what came before `more`.
    #[must_use]
    pub fn extend(self, before: u32, more: &[u8]) -> u32 {
        // Both CRCs are inverted at the end, so the state that gave `before` is its complement.
        let mut digest = Digest::new_with_init_state(self.kind.algorithm(), u64::from(!before));
        digest.update(more);
        digest.finalize() as u32
    }
    /// Appends the checksums of `data`, whose first byte starts a chunk.
    pub fn compute_into(self, data: &[u8], out: &mut Vec<u8>) {
        if self.kind == ChecksumKind::Null {
            return;
        }
        out.reserve(self.checksums_bytes(data.len() as u64) as usize);
        for chunk in data.chunks(self.chunk_bytes as usize) {
            out.extend_from_slice(&self.checksum(chunk).to_be_bytes());
        }
    }
    /// The checksums of `data`, whose first byte starts a chunk.
    #[must_use]
    pub fn compute(self, data: &[u8]) -> Bytes {
        let mut out = Vec::new();
        self.compute_into(data, &mut out);
        Bytes::from(out)
    }
    /// Checks `data`, whose first byte starts a chunk, against its checksums.
    ///
    /// # Errors
    /// [`ChunkMismatch`], naming the first chunk that disagrees.
    pub fn verify(self, data: &[u8], checksums: &[u8]) -> Result<(), ChunkMismatch> {
        let expected = self.checksums_bytes(data.len() as u64) as usize;
        if checksums.len() != expected {
            return Err(ChunkMismatch::Count { expected, found: checksums.len() });
        }
        if self.kind == ChecksumKind::Null {
            return Ok(());
        }
        let (stored, _) = checksums.as_chunks::<4>();
        for (index, (chunk, stored)) in data.chunks(self.chunk_bytes as usize).zip(stored).enumerate() {
            let stored = u32::from_be_bytes(*stored);
            let computed = self.checksum(chunk);
            if stored != computed {
                return Err(ChunkMismatch::Chunk { index, stored, computed });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_answers() {
        let format = ChunkFormat::CRC32C_512;
        assert_eq!(format.checksum(b"123456789"), 0xe306_9283);
        assert_eq!(format.checksum(b"abc"), 0x364b_3fb7);
        let zlib = ChunkFormat::new(ChecksumKind::Crc32, 512).unwrap();
        assert_eq!(zlib.checksum(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn formats_out_of_range_are_refused() {
        assert_eq!(ChunkFormat::new(ChecksumKind::Crc32c, 0), None);
        assert_eq!(ChunkFormat::new(ChecksumKind::Crc32c, MAX_CHUNK_BYTES + 1), None);
        for (kind, bytes) in [(3, 512), (-1, 512), (2, 0), (2, u32::MAX)] {
            assert!(ChunkFormat::from_wire(&Checksum { r#type: kind, bytes_per_checksum: bytes }).is_err());
        }
    }

    proptest! {
        #[test]
        fn formats_round_trip_and_garbage_is_refused(kind in any::<i32>(), chunk_bytes in any::<u32>(), sums in proptest::collection::vec(any::<u8>(), 0..40)) {
            let wire = Checksum { r#type: kind, bytes_per_checksum: chunk_bytes };
            prop_assert_eq!(ChunkFormat::from_wire(&wire).is_ok(), (0..3).contains(&kind) && (1..=MAX_CHUNK_BYTES).contains(&chunk_bytes));
            let chunk_bytes = chunk_bytes % MAX_CHUNK_BYTES + 1;
            for kind in [ChecksumKind::Null, ChecksumKind::Crc32, ChecksumKind::Crc32c] {
                let format = ChunkFormat::new(kind, chunk_bytes).unwrap();
                prop_assert_eq!(ChunkFormat::from_wire(&format.to_wire()).unwrap(), format);
                let accepted = format.verify(b"some data", &sums).is_ok();
                prop_assert_eq!(accepted, format.compute(b"some data") == sums);
            }
        }

        #[test]
        fn every_flipped_bit_is_found(data in proptest::collection::vec(any::<u8>(), 1..2000), bit in any::<usize>(), chunk in 1_u32..700) {
            let format = ChunkFormat::new(ChecksumKind::Crc32c, chunk).unwrap();
            let sums = format.compute(&data);
            prop_assert_eq!(format.verify(&data, &sums), Ok(()));
            let mut bad = data.clone();
            let at = bit % (data.len() * 8);
            bad[at / 8] ^= 1 << (at % 8);
            let found = format.verify(&bad, &sums);
            let index = at / 8 / chunk as usize;
            let named = matches!(found, Err(ChunkMismatch::Chunk { index: i, .. }) if i == index);
            prop_assert!(named, "{:?}", found);
            prop_assert!(format.verify(&data, &sums[1..]).is_err(), "a missing byte of checksums");
        }

        #[test]
        fn extending_equals_computing_at_once(data in proptest::collection::vec(any::<u8>(), 0..600), cut in any::<usize>()) {
            for kind in [ChecksumKind::Crc32, ChecksumKind::Crc32c] {
                let format = ChunkFormat::new(kind, 512).unwrap();
                let (a, b) = data.split_at(cut % (data.len() + 1));
                prop_assert_eq!(format.extend(format.checksum(a), b), format.checksum(&data));
            }
        }
    }
}
