//! How much of a half-written replica is good: read from its first byte, as long as data and checksums agree.
//!
//! ```text
//!   whole chunks that agree …  │ last chunk: the longest part of it that has the stored checksum, or a side record's
//! ```
//!
//! After a kill the last chunk may have more data than its checksum is of: data are written first. The checksum tells how
//! much. After a power cut the two may belong to different moments: then a side record says what was made durable.

use std::sync::Arc;

use base::disk::{DiskFile, OpenMode};
use proto::ids::{BlockId, GenerationStamp, PoolId};
use transfer::ChunkFormat;

use super::error::StoreError;
use super::meta;
use super::open::Mark;
use super::side::{self, SideRecord};
use super::volume::Volume;

/// Data that are read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Finds the length up to which a half-written replica is good. Reads all of it.
///
/// # Errors
/// The disk's. Checksums without a valid header prove nothing: the length is 0 then.
pub(crate) fn good_length(
    volume: &Volume,
    pool: &PoolId,
    id: BlockId,
    stamp: GenerationStamp,
) -> Result<Mark, StoreError> {
    let meta_path = volume.meta_path(pool, id, stamp);
    let data_path = volume.data_path(pool, id);
    let open = |path: &std::path::Path| volume.disk.open(path, OpenMode::Read).map_err(StoreError::io("open", path));
    let (data, meta) = (open(&data_path)?, open(&meta_path)?);
    let io = |path| StoreError::io("read", path);
    let (data_bytes, meta_bytes) =
        (data.len_bytes().map_err(io(&data_path))?, meta.len_bytes().map_err(io(&meta_path))?);
    let mut header = [0; meta::HEADER_BYTES as usize];
    if meta_bytes < meta::HEADER_BYTES {
        return Ok(Mark::default());
    }
    meta.read_exact_at(&mut header, 0).map_err(io(&meta_path))?;
    let Some(chunks) = meta::decode_header(&header).filter(|chunks| chunks.kind().checksum_bytes() == 4) else {
        return Ok(Mark::default());
    };
    let sides = side::read(volume.disk.as_ref(), &side::path(volume, pool, id), id);
    let sides = sides.into_iter().filter(|record| record.stamp <= stamp).collect();
    let proof = Proof { chunks, data, meta, data_bytes, sums: (meta_bytes - meta::HEADER_BYTES) / 4, sides };
    proof.run().map_err(|source| StoreError::Io { operation: "read", path: id.to_string(), source })
}

struct Proof {
    chunks: ChunkFormat,
    data: Arc<dyn DiskFile>,
    meta: Arc<dyn DiskFile>,
    data_bytes: u64,
    /// Checksums in the meta file; what is behind the last one may be the rest of a trailer.
    sums: u64,
    sides: Vec<SideRecord>,
}

impl Proof {
    fn run(&self) -> std::io::Result<Mark> {
        let chunk_bytes = self.chunks.chunk_bytes();
        let piece_bytes = (PIECE_BYTES / chunk_bytes).max(1) * chunk_bytes;
        let mut at_bytes = 0;
        while at_bytes < self.data_bytes {
            let mut data = vec![0; piece_bytes.min(self.data_bytes - at_bytes) as usize];
            self.data.read_exact_at(&mut data, at_bytes)?;
            let first = at_bytes / chunk_bytes;
            let count = self.chunks.chunk_count(data.len() as u64).min(self.sums.saturating_sub(first));
            let mut sums = vec![0; count as usize * 4];
            self.meta.read_exact_at(&mut sums, meta::HEADER_BYTES + first * 4)?;
            let (sums, _) = sums.as_chunks::<4>();
            for (number, chunk) in data.chunks(chunk_bytes as usize).enumerate() {
                let start = at_bytes + number as u64 * chunk_bytes;
                let stored = sums.get(number);
                let whole = chunk.len() as u64 == chunk_bytes;
                if !(whole && stored.is_some_and(|sum| u32::from_be_bytes(*sum) == self.chunks.checksum(chunk))) {
                    return Ok(self.last_chunk(start, chunk, stored));
                }
            }
            at_bytes += data.len() as u64;
        }
        Ok(Mark { len_bytes: self.data_bytes, tail: None })
    }

    /// The longest part of a chunk that somebody vouches for.
    fn last_chunk(&self, start: u64, chunk: &[u8], stored: Option<&[u8; 4]>) -> Mark {
        let mut best = Mark { len_bytes: start, tail: None };
        let mut sum = self.chunks.checksum(&[]);
        for (number, byte) in chunk.iter().enumerate() {
            sum = self.chunks.extend(sum, std::slice::from_ref(byte));
            let (len_bytes, tail) = (start + number as u64 + 1, sum.to_be_bytes());
            let side = self.sides.iter().any(|record| (record.len_bytes, record.tail) == (len_bytes, tail));
            if side || stored == Some(&tail) {
                best = Mark { len_bytes, tail: Some(tail) };
            }
        }
        if best.len_bytes.is_multiple_of(self.chunks.chunk_bytes()) {
            best.tail = None;
        }
        best
    }
}
