//! Small files that are always whole: two checksummed slots, written in turn.
//!
//! ```text
//!   0      slot 0   magic(8) version(4) counter(8) len(4) body… crc32c(4), padded to SLOT_BYTES
//!   4096   slot 1   the same; counters are even in slot 0 and odd in slot 1
//! ```
//!
//! A new value goes into the slot with the lower counter and is synced, then into the other one. A torn write
//! costs at most the value that was never acknowledged; a slot that rots later has a twin with the same value, so
//! that an old vote or term never comes back. Used for votes, identities and terms. See docs/formats/identity.md.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::crash::CrashPoint;
use crate::disk::{Disk, DiskFile, OpenMode, dir_of};

/// Bytes of a slot: one page, so that the slots never share a sector.
pub const SLOT_BYTES: usize = 4096;
const HEADER_BYTES: usize = 24;
const VERSION: u32 = 1;

/// Longest body of a slot.
pub const MAX_BODY_BYTES: usize = SLOT_BYTES - HEADER_BYTES - 4;

/// An open two-slot file.
#[derive(Debug)]
pub struct TwoSlotFile {
    file: Arc<dyn DiskFile>,
    magic: [u8; 8],
    counter: u64,
    point: CrashPoint,
}

/// Why a two-slot file cannot be used. Nothing is ever erased because of it.
#[derive(Debug, thiserror::Error)]
pub enum TwoSlotError {
    /// The disk refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// The disk's answer.
        source: io::Error,
    },
    /// Neither slot verifies.
    #[error(
        "{path}: neither slot holds a valid record; the file is damaged. Restore it from a copy, or rebuild this server from its peers; nothing was erased"
    )]
    Damaged {
        /// The file.
        path: String,
    },
    /// A newer program wrote it.
    #[error("{path}: format version {found} is newer than this program's {known}; use the newer program")]
    Newer {
        /// The file.
        path: String,
        /// Version found.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
}

/// Why a value was not made durable.
#[derive(Debug, thiserror::Error)]
pub enum SlotFailure {
    /// It was not written: the value before is what there is.
    #[error("write")]
    Write(#[source] io::Error),
    /// It was not synced: nobody knows what the medium holds, and a second sync proves nothing (scar SC-48).
    #[error("sync")]
    Sync(#[source] io::Error),
}

impl From<SlotFailure> for io::Error {
    fn from(failure: SlotFailure) -> Self {
        match failure {
            SlotFailure::Write(source) | SlotFailure::Sync(source) => source,
        }
    }
}

impl SlotFailure {
    fn about(self, path: &Path) -> TwoSlotError {
        let operation = match self {
            Self::Write(_) => "write",
            Self::Sync(_) => "sync",
        };
        TwoSlotError::Io { operation, path: path.display().to_string(), source: self.into() }
    }
}

enum Slot {
    Valid { counter: u64, body: Vec<u8> },
    Newer(u32),
    Invalid,
}

impl TwoSlotFile {
    /// Creates the file with a first value, durable with its name. Fails if the name is taken.
    ///
    /// # Errors
    /// [`TwoSlotError::Io`].
    ///
    /// # Panics
    /// In debug builds, if the body is longer than [`MAX_BODY_BYTES`].
    pub fn create(
        disk: &dyn Disk,
        path: &Path,
        magic: [u8; 8],
        body: &[u8],
        point: CrashPoint,
    ) -> Result<Self, TwoSlotError> {
        let io = |operation| move |source| TwoSlotError::Io { operation, path: path.display().to_string(), source };
        // Written under another name first: a crash leaves either no identity or a whole one.
        let temporary = path.with_extension("new");
        if disk.info(&temporary).map_err(io("look at"))?.is_some() {
            disk.remove_file(&temporary, point).map_err(io("remove"))?;
        }
        let file = disk.create_new(&temporary, point).map_err(io("create"))?;
        let mut made = Self { file, magic, counter: 0, point };
        made.put(body).map_err(|failure| failure.about(path))?;
        disk.rename(&temporary, path, point).map_err(io("rename"))?;
        disk.sync_dir(&dir_of(path), point).map_err(io("sync the folder of"))?;
        Ok(made)
    }

    /// Opens the file and returns its newest valid value, which is durable then, in both slots; `None` if there
    /// is no file.
    ///
    /// # Errors
    /// [`TwoSlotError::Damaged`] if no slot verifies, [`TwoSlotError::Newer`], [`TwoSlotError::Io`].
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        magic: [u8; 8],
        point: CrashPoint,
    ) -> Result<Option<(Self, Vec<u8>)>, TwoSlotError> {
        let name = || path.display().to_string();
        let io = |operation| move |source| TwoSlotError::Io { operation, path: path.display().to_string(), source };
        if disk.info(path).map_err(io("look at"))?.is_none() {
            return Ok(None);
        }
        let file = disk.open(path, OpenMode::ReadWrite).map_err(io("open"))?;
        let mut values: Vec<(u64, Vec<u8>)> = Vec::new();
        for index in 0..2_u64 {
            match read_slot(file.as_ref(), index, magic).map_err(io("read"))? {
                Slot::Valid { counter, body } => values.push((counter, body)),
                Slot::Newer(found) => {
                    return Err(TwoSlotError::Newer { path: name(), found, known: VERSION });
                }
                Slot::Invalid => {}
            }
        }
        values.sort_unstable();
        let twins = matches!(values.as_slice(), [(_, one), (_, other)] if one == other);
        let (counter, body) = values.pop().ok_or_else(|| TwoSlotError::Damaged { path: name() })?;
        let mut opened = Self { file, magic, counter, point };
        // What a killed process wrote last may be in the page cache only, and is relied on from now on.
        opened.file.sync(point).map_err(io("sync"))?;
        if !twins {
            opened.write_slot(&body).map_err(|failure| failure.about(path))?;
        }
        Ok(Some((opened, body)))
    }

    /// Writes a new value durably.
    ///
    /// # Errors
    /// The disk's. After a failed sync the file must not be used again.
    ///
    /// # Panics
    /// In debug builds, if the body is longer than [`MAX_BODY_BYTES`].
    pub fn write(&mut self, body: &[u8]) -> io::Result<()> {
        self.put(body).map_err(io::Error::from)
    }
    /// As [`TwoSlotFile::write`], and tells a write that failed from a sync that did.
    ///
    /// # Errors
    /// As [`TwoSlotFile::write`].
    ///
    /// # Panics
    /// As [`TwoSlotFile::write`].
    pub fn put(&mut self, body: &[u8]) -> Result<(), SlotFailure> {
        self.write_slot(body)?;
        if crate::mutated!(Sc19VoteHasNoTwin) {
            return Ok(());
        }
        // Durable already. The twin is for the day on which the first slot rots.
        self.write_slot(body)
    }

    /// Writes a value into the slot whose turn it is.
    fn write_slot(&mut self, body: &[u8]) -> Result<(), SlotFailure> {
        debug_assert!(body.len() <= MAX_BODY_BYTES, "two-slot bodies are small");
        let counter = self.counter + 1;
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&self.magic);
        slot.extend_from_slice(&VERSION.to_le_bytes());
        slot.extend_from_slice(&counter.to_le_bytes());
        slot.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        slot.extend_from_slice(body);
        slot.extend_from_slice(&crc32c(&slot).to_le_bytes());
        slot.resize(SLOT_BYTES, 0);
        self.file.write_at(&slot, (counter % 2) * SLOT_BYTES as u64).map_err(SlotFailure::Write)?;
        if !crate::mutated!(Sc18VoteIsNotSynced) {
            self.file.sync(self.point).map_err(SlotFailure::Sync)?;
        }
        self.counter = counter;
        Ok(())
    }
}

fn read_slot(file: &dyn DiskFile, index: u64, magic: [u8; 8]) -> io::Result<Slot> {
    let mut bytes = vec![0; SLOT_BYTES];
    let mut have = 0;
    while have < SLOT_BYTES {
        match file.read_at(&mut bytes[have..], index * SLOT_BYTES as u64 + have as u64)? {
            0 => break,
            n => have += n,
        }
    }
    bytes.truncate(have);
    Ok(decode_slot(&bytes, index, magic).unwrap_or(Slot::Invalid))
}

fn decode_slot(bytes: &[u8], index: u64, magic: [u8; 8]) -> Option<Slot> {
    if bytes.get(..8)? != magic {
        return None;
    }
    let counter = u64::from_le_bytes(bytes.get(12..20)?.try_into().ok()?);
    let len = u32::from_le_bytes(bytes.get(20..24)?.try_into().ok()?) as usize;
    let end = HEADER_BYTES.checked_add(len)?;
    let stored = u32::from_le_bytes(bytes.get(end..end.checked_add(4)?)?.try_into().ok()?);
    if stored != crc32c(bytes.get(..end)?) {
        return None;
    }
    let version = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    if version != VERSION {
        return Some(Slot::Newer(version));
    }
    if counter % 2 != index {
        // Written to the wrong place by the disk.
        return None;
    }
    Some(Slot::Valid { counter, body: bytes.get(HEADER_BYTES..end)?.to_vec() })
}

/// CRC-32C (Castagnoli), as everything durable here uses it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::crash::Side;
    use crate::disk::{DiskFault, DiskFaultKind, MemDisk, read_file};
    use crate::random::{Randomness, SeededRandom};

    const MAGIC: [u8; 8] = *b"BYTESTED";
    const POINT: CrashPoint = CrashPoint::VoteSync;

    #[test]
    fn sc_48_a_failed_sync_is_told_from_a_failed_write() {
        let (disk, mut file) = disk_with(b"one");
        disk.inject(DiskFault::once(DiskFaultKind::NoSpace));
        assert!(matches!(file.put(b"two"), Err(SlotFailure::Write(_))));
        disk.inject(DiskFault::once(DiskFaultKind::Full).at(crate::disk::DiskCall::Sync));
        let failed = file.put(b"three").unwrap_err();
        assert!(matches!(failed, SlotFailure::Sync(_)), "{failed:?}");
        assert_eq!(io::Error::from(failed).kind(), io::ErrorKind::StorageFull, "and says why");
    }

    fn path() -> PathBuf {
        PathBuf::from("/d/vote")
    }

    /// A disk with a file that holds `body`.
    fn disk_with(body: &[u8]) -> (MemDisk, TwoSlotFile) {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d"), POINT).unwrap();
        let file = TwoSlotFile::create(&disk, &path(), MAGIC, body, POINT).unwrap();
        (disk, file)
    }

    fn value(disk: &MemDisk) -> Result<Vec<u8>, TwoSlotError> {
        Ok(TwoSlotFile::open(disk, &path(), MAGIC, POINT)?.expect("the file is there").1)
    }

    fn overwrite(disk: &MemDisk, offset_bytes: u64, bytes: &[u8]) {
        let file = disk.open(&path(), OpenMode::ReadWrite).unwrap();
        file.write_at(bytes, offset_bytes).unwrap();
        file.sync(POINT).unwrap();
    }

    // Made by another program than this one.
    const SLOT_1_CRC: [u8; 4] = [0xa9, 0x7d, 0xa0, 0xa9];
    const SLOT_2_CRC: [u8; 4] = [0xaa, 0x7a, 0x33, 0x01];

    #[test]
    fn a_slot_has_the_bytes_of_the_format_page() {
        let (disk, _file) = disk_with(b"abc");
        let bytes = read_file(&disk, &path(), 1 << 20).unwrap();
        assert_eq!(bytes.len(), 2 * SLOT_BYTES);
        let slot = |counter: u8, crc: [u8; 4]| {
            let mut slot = b"BYTESTED".to_vec();
            slot.extend_from_slice(&[1, 0, 0, 0, counter, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
            slot.extend_from_slice(b"abc");
            slot.extend_from_slice(&crc);
            slot
        };
        assert_eq!(bytes[4096..4096 + 31], slot(1, SLOT_1_CRC));
        assert_eq!(bytes[..31], slot(2, SLOT_2_CRC));
        assert!(bytes[31..4096].iter().chain(&bytes[4127..]).all(|byte| *byte == 0));
    }

    #[test]
    fn sc_19_a_flipped_bit_in_one_slot_brings_no_older_value_back() {
        for offset in (0..2 * SLOT_BYTES as u64).filter(|offset| offset % 4096 < 34) {
            let (disk, mut file) = disk_with(b"first");
            file.write(b"newest").unwrap();
            disk.process_died();
            disk.flip_bit(&path(), offset, (offset % 8) as u8).unwrap();
            assert_eq!(value(&disk).unwrap(), b"newest", "offset {offset}");
            disk.process_died();
            // Opening wrote the twin anew: the other slot may rot next.
            let other = (offset + 4096) % 8192 / 4096 * 4096;
            disk.flip_bit(&path(), other, 0).unwrap();
            assert_eq!(value(&disk).unwrap(), b"newest", "offset {offset}, then {other}");
        }
    }

    #[test]
    fn f_5_a_write_torn_at_any_byte_leaves_the_old_or_the_new_value() {
        let (mut old, mut new) = (0, 0);
        for cut in 0..40_usize {
            let (disk, _file) = disk_with(b"old");
            let before = read_file(&disk, &path(), 1 << 20).unwrap();
            let mut file = TwoSlotFile::open(&disk, &path(), MAGIC, POINT).unwrap().unwrap().0;
            file.write(b"new!").unwrap();
            let after = read_file(&disk, &path(), 1 << 20).unwrap();
            // Counter 3 went into the second slot first: tear that write, as if the next had not begun.
            overwrite(&disk, 0, &before);
            overwrite(&disk, 4096, &after[4096..4096 + cut]);
            disk.process_died();
            match value(&disk).unwrap().as_slice() {
                b"old" => old += 1,
                b"new!" => new += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(old > 20 && new > 5, "old {old} new {new}");
    }

    #[test]
    fn sc_18_power_cuts_keep_what_was_acknowledged() {
        for seed in 0..64 {
            let random = SeededRandom::new(seed);
            let (disk, mut file) = disk_with(&[0]);
            let mut acknowledged = 0;
            let side = if seed % 2 == 0 { Side::Before } else { Side::After };
            disk.stop_at(POINT, side, 1 + random.below(12));
            for number in 1..9 {
                if file.write(&[number]).is_ok() {
                    acknowledged = number;
                }
            }
            disk.power_cut(&random);
            let found = value(&disk).unwrap();
            assert!(found == [acknowledged] || found == [acknowledged + 1], "seed {seed}: {found:?}");
            // What was seen once must not change by the next power cut: the vote was cast with it.
            disk.power_cut(&random);
            assert_eq!(value(&disk).unwrap(), found, "seed {seed}");
        }
    }

    #[test]
    fn sc_18_a_value_that_only_the_page_cache_held_is_durable_once_it_was_read() {
        let (disk, mut file) = disk_with(b"old");
        disk.stop_at(POINT, Side::Before, 1);
        assert!(file.write(b"new").is_err());
        disk.process_died();
        assert_eq!(value(&disk).unwrap(), b"new", "a kill keeps the page cache");
        // A generator whose first draw is a multiple of four loses everything unsynced.
        let seed = (0..).find(|seed| SeededRandom::new(*seed).below(4) == 0).unwrap();
        disk.power_cut(&SeededRandom::new(seed));
        assert_eq!(value(&disk).unwrap(), b"new");
    }

    #[test]
    fn sc_50_two_damaged_slots_are_refused_and_nothing_is_erased() {
        let (disk, _file) = disk_with(b"vote");
        for slot in [0, 4096] {
            disk.flip_bit(&path(), slot + 25, 3).unwrap();
        }
        let before = read_file(&disk, &path(), 1 << 20).unwrap();
        disk.process_died();
        let refused = value(&disk).unwrap_err();
        assert!(matches!(refused, TwoSlotError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains("/d/vote") && refused.to_string().contains("nothing was erased"));
        assert_eq!(read_file(&disk, &path(), 1 << 20).unwrap(), before);
    }

    #[test]
    fn u_2_other_versions_and_other_kinds_of_files_stop_the_reader() {
        for version in [0_u8, 2] {
            let (disk, _file) = disk_with(b"abc");
            let mut slot = read_file(&disk, &path(), 1 << 20).unwrap()[..31].to_vec();
            slot[8] = version;
            let crc = crc32c(&slot[..27]).to_le_bytes();
            slot[27..].copy_from_slice(&crc);
            overwrite(&disk, 0, &slot);
            let refused = value(&disk).unwrap_err();
            let named = matches!(refused, TwoSlotError::Newer { found, .. } if found == u32::from(version));
            assert!(named, "{refused}");
        }
        let (disk, _file) = disk_with(b"abc");
        let other = TwoSlotFile::open(&disk, &path(), *b"BYANOTHR", POINT);
        assert!(matches!(other, Err(TwoSlotError::Damaged { .. })));
    }

    #[test]
    fn f_8_a_slot_in_the_wrong_place_does_not_count() {
        let (disk, mut file) = disk_with(b"old");
        file.write(b"new").unwrap();
        let bytes = read_file(&disk, &path(), 1 << 20).unwrap();
        overwrite(&disk, 0, &bytes[4096..]);
        assert_eq!(value(&disk).unwrap(), b"new");
        overwrite(&disk, 4096, &bytes[..4096]);
        overwrite(&disk, 0, &bytes[4096..]);
        assert!(value(&disk).is_err(), "both stand where the other belongs");
    }

    #[test]
    fn a_full_or_failing_disk_is_reported() {
        let (disk, mut file) = disk_with(b"old");
        disk.inject(DiskFault::once(DiskFaultKind::SyncError));
        assert!(file.write(b"new").is_err());
        disk.inject(DiskFault::lasting(DiskFaultKind::ReadOnly));
        assert!(TwoSlotFile::create(&disk, Path::new("/d/other"), MAGIC, b"x", POINT).is_err());
    }

    proptest! {
        #[test]
        fn values_round_trip(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..MAX_BODY_BYTES), 1..4)) {
            let (disk, mut file) = disk_with(b"");
            for body in &bodies {
                file.write(body).unwrap();
                prop_assert_eq!(&value(&disk).unwrap(), body);
            }
        }

        #[test]
        fn garbage_is_damaged(bytes in proptest::collection::vec(any::<u8>(), 0..64), claim in any::<u32>()) {
            let (disk, _file) = disk_with(b"abc");
            overwrite(&disk, 0, &[0; 2 * SLOT_BYTES]);
            overwrite(&disk, 0, &bytes);
            let mut claimed = MAGIC.to_vec();
            claimed.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
            claimed.extend_from_slice(&claim.to_le_bytes());
            overwrite(&disk, 4096, &claimed);
            let damaged = matches!(value(&disk), Err(TwoSlotError::Damaged { .. }));
            prop_assert!(damaged);
        }
    }
}
