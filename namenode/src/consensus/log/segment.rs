//! A segment file: a header page, then records, then zeros that are set aside for further ones.
//!
//! ```text
//!   0     magic(8) version(4) 0(4) cluster hash(8) sequence(8) salt(8) 0(20) crc(4)
//!   4096  records…  zeros up to the segment's size
//! ```
//!
//! A segment gets its name only when its header and its room are durable: a half-made one is never seen.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{Disk, DiskFile, OpenMode};
use base::two_slot::crc32c;

use super::record::Seed;

/// Offset of the first record: the header has a page of its own, so that no torn record reaches it.
pub(crate) const RECORDS_AT: u64 = 4096;
/// Version of segments that this program writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"BYLOGSEG";
const HEADER_BYTES: usize = 64;
const PREFIX: &str = "log-";
const UNFINISHED: &str = "log.new";

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) seed: Seed,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) len_bytes: u64,
    /// Highest index of an entry in it, 0 if none.
    pub(crate) max_index: u64,
}

/// What the header page of a segment says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFound {
    Valid { sequence: u64, cluster: u64, salt: u64 },
    Newer(u32),
    Damaged,
}

/// Path of a segment.
pub(crate) fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{sequence:016}"))
}

/// Sequence number of a segment, from its file's name.
pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    if digits.len() != 16 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl Segment {
    /// Makes an empty segment of `len_bytes`, durable with its name.
    ///
    /// # Errors
    /// The disk's; what was begun is removed again, as far as the disk lets us.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        sequence: u64,
        seed: Seed,
        len_bytes: u64,
    ) -> Result<Self, (&'static str, io::Error)> {
        let unfinished = dir.join(UNFINISHED);
        remove_unfinished(disk, dir).map_err(|e| ("remove an unfinished segment in", e))?;
        let point = CrashPoint::SegmentCreate;
        let file = disk.create_new(&unfinished, point).map_err(|e| ("create a segment in", e))?;
        let path = path(dir, sequence);
        let made = file
            .allocate(0, len_bytes, point)
            .and_then(|()| file.write_at(&encode_header(sequence, seed), 0))
            .and_then(|()| file.sync(point))
            .and_then(|()| disk.rename(&unfinished, &path, point))
            .and_then(|()| disk.sync_dir(dir, CrashPoint::NamenodeDirSync));
        match made {
            Ok(()) => Ok(Self { sequence, path, seed, file, len_bytes, max_index: 0 }),
            Err(error) => {
                drop(file);
                if let Err(second) = remove_unfinished(disk, dir) {
                    tracing::warn!(%second, "an unfinished log segment stays behind; it is removed at the next start");
                }
                Err(("set room aside for a segment in", error))
            }
        }
    }

    /// Cuts everything from `offset_bytes` on and sets the room aside again; durable.
    pub(crate) fn cut(&self, offset_bytes: u64) -> io::Result<()> {
        let point = CrashPoint::LogTruncate;
        self.file.set_len(offset_bytes, point)?;
        self.file.allocate(0, self.len_bytes.max(offset_bytes), point)?;
        self.file.sync(point)
    }

    /// Writes a range again as it is read. After a sync that failed the kernel takes its pages for clean, and another
    /// sync would do nothing (scar SC-48). Durable only after a sync.
    pub(crate) fn rewrite(&self, from_bytes: u64, to_bytes: u64) -> io::Result<()> {
        let len = usize::try_from(to_bytes.saturating_sub(from_bytes)).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, from_bytes)?;
        self.file.write_at(&bytes, from_bytes)
    }

    /// Sets more room aside behind what there is.
    pub(crate) fn grow(&mut self, len_bytes: u64) -> io::Result<()> {
        self.file.allocate(0, len_bytes, CrashPoint::SegmentCreate)?;
        self.len_bytes = len_bytes;
        Ok(())
    }

    /// Opens an existing segment whose header was read before.
    pub(crate) fn open(disk: &dyn Disk, path: PathBuf, sequence: u64, seed: Seed, max_index: u64) -> io::Result<Self> {
        let file = disk.open(&path, OpenMode::ReadWrite)?;
        let len_bytes = file.len_bytes()?;
        Ok(Self { sequence, path, seed, file, len_bytes, max_index })
    }
}

/// Removes what an interrupted [`Segment::create`] left.
pub(crate) fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let unfinished = dir.join(UNFINISHED);
    match disk.info(&unfinished)? {
        Some(_) => disk.remove_file(&unfinished, CrashPoint::SegmentRemove),
        None => Ok(()),
    }
}

fn encode_header(sequence: u64, seed: Seed) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&seed.cluster.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&seed.salt.to_le_bytes());
    bytes.resize(HEADER_BYTES - 4, 0);
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the header page at the start of `bytes`.
pub(crate) fn decode_header(bytes: &[u8]) -> HeaderFound {
    try_decode_header(bytes).unwrap_or(HeaderFound::Damaged)
}

fn try_decode_header(bytes: &[u8]) -> Option<HeaderFound> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let crc = u32::from_le_bytes(bytes.get(HEADER_BYTES - 4..HEADER_BYTES)?.try_into().ok()?);
    if bytes.get(..8)? != MAGIC || crc != crc32c(bytes.get(..HEADER_BYTES - 4)?) {
        return None;
    }
    let version = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    if version != VERSION {
        return Some(HeaderFound::Newer(version));
    }
    Some(HeaderFound::Valid { cluster: number(16)?, sequence: number(24)?, salt: number(32)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_sequence() {
        let made = path(Path::new("d"), 17);
        assert_eq!(made.file_name().and_then(|n| n.to_str()).and_then(sequence_of), Some(17));
        for other in ["log.new", "log-17", "log-00000000000000017", "log-000000000000001x", "vote"] {
            assert_eq!(sequence_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_has_the_bytes_of_the_format_page() {
        let bytes = encode_header(3, Seed { salt: 5, cluster: 6 });
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let words = "42594c4f47534547 01000000 00000000 0600000000000000 0300000000000000 0500000000000000";
        assert_eq!(hex, format!("{}{}aa724afb", words.replace(' ', ""), "00".repeat(20)));
    }

    #[test]
    fn u_2_a_header_of_another_version_is_named() {
        let mut bytes = encode_header(3, Seed { salt: 5, cluster: 6 });
        bytes[8] = 2;
        let crc = crc32c(&bytes[..60]).to_le_bytes();
        bytes[60..].copy_from_slice(&crc);
        assert_eq!(decode_header(&bytes), HeaderFound::Newer(2));
    }

    #[test]
    fn sc_60_every_flip_of_a_header_is_seen() {
        let bytes = encode_header(3, Seed { salt: 5, cluster: 6 });
        assert_eq!(decode_header(&bytes), HeaderFound::Valid { sequence: 3, cluster: 6, salt: 5 });
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&damaged), HeaderFound::Damaged, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(decode_header(&bytes[..cut]), HeaderFound::Damaged, "cut {cut}");
        }
    }
}
