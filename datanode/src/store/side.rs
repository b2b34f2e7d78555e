//! Side records: what an open replica holds at least, beside its files: docs/formats/block-files.md.
//!
//! ```text
//!   blk_<id>.open    slot at 0, slot at 4096:  magic(8) version(4) counter(8) id(8) stamp(8) length(8) checksum(4) crc32c(4)
//! ```
//!
//! The checksum of a last chunk that is not whole is written over when the chunk grows. A power cut may then leave the new
//! checksum without the new data, or the other way round, and the chunk is good for nothing, although a part of it was made
//! durable before and acknowledged so. The record keeps that part's length and checksum. Slots are written in turn, so one
//! that tears leaves the other.
//!
//! A record says nothing by itself: its length counts only if the data before it have its checksum.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{Disk, DiskFile, OpenMode};
use base::two_slot::crc32c;
use proto::ids::{BlockId, GenerationStamp, PoolId};

use super::error::StoreError;
use super::layout;
use super::open::Mark;
use super::volume::Volume;

const MAGIC: [u8; 8] = *b"BYBLKOPN";
const VERSION: u32 = 1;
const RECORD_BYTES: usize = 52;
const SLOT_BYTES: u64 = 4096;

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SideRecord {
    pub(crate) counter: u64,
    pub(crate) stamp: GenerationStamp,
    pub(crate) len_bytes: u64,
    /// Checksum of the last chunk up to that length.
    pub(crate) tail: [u8; 4],
}

fn encode(id: BlockId, record: &SideRecord) -> [u8; RECORD_BYTES] {
    let mut out = [0; RECORD_BYTES];
    let fields: [&[u8]; 7] = [
        &MAGIC,
        &VERSION.to_le_bytes(),
        &record.counter.to_le_bytes(),
        &id.raw().to_le_bytes(),
        &record.stamp.raw().to_le_bytes(),
        &record.len_bytes.to_le_bytes(),
        &record.tail,
    ];
    let body = fields.concat();
    let crc = crc32c(&body).to_le_bytes();
    out.iter_mut().zip(body.iter().chain(&crc)).for_each(|(to, from)| *to = *from);
    out
}

/// A slot's record, if it is whole, of a version that is known, and this block's.
fn decode(id: BlockId, bytes: &[u8]) -> Option<SideRecord> {
    let (body, crc) = bytes.split_at_checked(RECORD_BYTES - 4)?;
    if crc32c(body).to_le_bytes() != *crc {
        return None;
    }
    let (magic, rest) = body.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (counter, rest) = rest.split_first_chunk::<8>()?;
    let (block, rest) = rest.split_first_chunk::<8>()?;
    let (stamp, rest) = rest.split_first_chunk::<8>()?;
    let (len_bytes, rest) = rest.split_first_chunk::<8>()?;
    let ours = *magic == MAGIC && u32::from_le_bytes(*version) == VERSION && i64::from_le_bytes(*block) == id.raw();
    ours.then_some(SideRecord {
        counter: u64::from_le_bytes(*counter),
        stamp: GenerationStamp::from_raw(u64::from_le_bytes(*stamp)),
        len_bytes: u64::from_le_bytes(*len_bytes),
        tail: *rest.first_chunk::<4>()?,
    })
}

pub(crate) fn path(volume: &Volume, pool: &PoolId, id: BlockId) -> PathBuf {
    volume.folder_path(pool, layout::folder_of(id)).join(layout::side_name(id))
}

/// Records of a block, as they are on the disk; none if there is no file, or it cannot be read: then nothing is known.
pub(crate) fn read(disk: &dyn Disk, path: &Path, id: BlockId) -> Vec<SideRecord> {
    match disk.open(path, OpenMode::Read) {
        Ok(file) => slots(file.as_ref(), id),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "a side record cannot be read");
            }
            Vec::new()
        }
    }
}

fn slots(file: &dyn DiskFile, id: BlockId) -> Vec<SideRecord> {
    let slot = |at: u64| {
        let mut bytes = [0; RECORD_BYTES];
        file.read_exact_at(&mut bytes, at).ok()?;
        decode(id, &bytes)
    };
    [0, SLOT_BYTES].into_iter().filter_map(slot).collect()
}

/// The side file of a replica that is being written.
#[derive(Debug)]
pub(crate) struct SideFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    counter: u64,
}

impl SideFile {
    /// Opens the file, or makes it; its name is durable when the folder was synced.
    pub(crate) fn open_or_create(volume: &Volume, pool: &PoolId, id: BlockId) -> Result<Self, StoreError> {
        let path = path(volume, pool, id);
        let opened = match volume.disk.open(&path, OpenMode::ReadWrite) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                volume.disk.create_new(&path, CrashPoint::SideCreate)
            }
            other => other,
        };
        let file = opened.map_err(StoreError::io("open", &path))?;
        let counter = slots(file.as_ref(), id).iter().map(|record| record.counter).max().unwrap_or(0);
        Ok(Self { path, file, counter })
    }
    /// Makes a length durable, with the checksum of the last chunk up to it.
    pub(crate) fn write(&mut self, id: BlockId, stamp: GenerationStamp, mark: Mark) -> Result<(), StoreError> {
        let Some(tail) = mark.tail else { return Ok(()) };
        self.counter += 1;
        let record = SideRecord { counter: self.counter, stamp, len_bytes: mark.len_bytes, tail };
        let at = (self.counter % 2) * SLOT_BYTES;
        self.file.write_at(&encode(id, &record), at).map_err(StoreError::io("write", &self.path))?;
        self.file.sync(CrashPoint::SideSync).map_err(StoreError::sync(&self.path))
    }
}

/// Removes the side file of a replica that is whole or gone. One that stays means nothing.
pub(crate) fn remove(volume: &Volume, pool: &PoolId, id: BlockId) {
    if let Err(error) = volume.remove(&path(volume, pool, id), CrashPoint::SideRemove) {
        tracing::warn!(block = %id, error = %crate::receive::chain(&error), "a side record stays on the disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> SideRecord {
        SideRecord { counter: 3, stamp: GenerationStamp::FIRST, len_bytes: 700, tail: [1, 2, 3, 4] }
    }

    #[test]
    fn a_record_has_the_bytes_of_the_format_page() {
        let hex: String = encode(BlockId::FIRST, &record()).iter().map(|byte| format!("{byte:02x}")).collect();
        let page =
            "4259424c4b4f504e 01000000 0300000000000000 0100004000000000 e903000000000000 bc02000000000000 01020304";
        assert_eq!(hex[..96], page.replace(' ', ""));
        assert_eq!(hex.len(), 2 * RECORD_BYTES);
    }

    #[test]
    fn a_record_of_another_block_or_version_is_none() {
        let bytes = encode(BlockId::FIRST, &record());
        assert_eq!(decode(BlockId::FIRST, &bytes), Some(record()));
        assert_eq!(decode(BlockId::from_raw(7), &bytes), None);
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32c(&newer[..48]).to_le_bytes();
        newer[48..].copy_from_slice(&crc);
        assert_eq!(decode(BlockId::FIRST, &newer), None);
    }

    proptest! {
        #[test]
        fn f_6_a_flipped_bit_or_garbage_is_no_record(bit in 0..8 * RECORD_BYTES, garbage in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = encode(BlockId::FIRST, &record());
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(BlockId::FIRST, &bytes), None);
            prop_assert_eq!(decode(BlockId::FIRST, &garbage), None);
        }
    }
}
