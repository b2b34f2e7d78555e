//! Small files that are always whole: two checksummed slots, written in turn.
//!
//! ```text
//!   0      slot A   magic(8) version(4) counter(8) len(4) body… crc32c(4), padded to SLOT_BYTES
//!   4096   slot B   the same
//! ```
//!
//! A new value goes into the slot with the lower counter and is synced; the other slot is not touched, so
//! a torn write costs at most the value that was never acknowledged. Used for votes, identities and terms.
//! See docs/formats/two-slot.md.

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
        made.write(body).map_err(io("write"))?;
        disk.rename(&temporary, path, point).map_err(io("rename"))?;
        disk.sync_dir(&dir_of(path), point).map_err(io("sync the folder of"))?;
        Ok(made)
    }

    /// Opens the file and returns its newest valid value; `None` if there is no file.
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
        let mut newest: Option<(u64, Vec<u8>)> = None;
        for index in 0..2_u64 {
            match read_slot(file.as_ref(), index, magic).map_err(io("read"))? {
                Slot::Valid { counter, body } if newest.as_ref().is_none_or(|(c, _)| counter > *c) => {
                    newest = Some((counter, body));
                }
                Slot::Newer(found) => {
                    return Err(TwoSlotError::Newer { path: name(), found, known: VERSION });
                }
                Slot::Valid { .. } | Slot::Invalid => {}
            }
        }
        match newest {
            Some((counter, body)) => Ok(Some((Self { file, magic, counter, point }, body))),
            None => Err(TwoSlotError::Damaged { path: name() }),
        }
    }

    /// Writes a new value durably.
    ///
    /// # Errors
    /// The disk's. After a failed sync the file must not be used again.
    ///
    /// # Panics
    /// In debug builds, if the body is longer than [`MAX_BODY_BYTES`].
    pub fn write(&mut self, body: &[u8]) -> io::Result<()> {
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
        self.file.write_at(&slot, (counter % 2) * SLOT_BYTES as u64)?;
        self.file.sync(self.point)?;
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
    Ok(decode_slot(&bytes, magic).unwrap_or(Slot::Invalid))
}

fn decode_slot(bytes: &[u8], magic: [u8; 8]) -> Option<Slot> {
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
    if version > VERSION {
        return Some(Slot::Newer(version));
    }
    Some(Slot::Valid { counter, body: bytes.get(HEADER_BYTES..end)?.to_vec() })
}

/// CRC-32C (Castagnoli), as everything durable here uses it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
