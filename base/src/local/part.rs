//! A local file that is received in several runs: what came is kept under a temporary name until it is whole.
//!
//! ```text
//!   .blockyard-HASH.part     the bytes that came so far, and perhaps more that nothing is known of
//!   .blockyard-HASH.state    what its owner notes of them: which source, how many bytes
//! ```
//!
//! HASH is that of the target's name, so that the next run finds them. Both are gone when the file has its name. Calls
//! block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::{LocalTimes, give, rename};
use crate::disk::dir_of;

/// Longest note.
pub const MAX_NOTE_BYTES: usize = 4096;

/// A file that is being received. It belongs to one process at a time.
///
/// Dropped before [`LocalPart::finish`] it stays if something was noted of it, and is removed if not.
#[derive(Debug)]
pub struct LocalPart {
    file: File,
    part: PathBuf,
    state: PathBuf,
    note: Option<File>,
    keep: bool,
}

impl LocalPart {
    /// Opens what an earlier run left for `path`, or begins. `mode` is masked by the process's umask.
    ///
    /// # Errors
    /// `WouldBlock` if another process is receiving it; the system's.
    pub fn open(path: &Path, mode: u32) -> io::Result<Self> {
        let hash = name_hash(path);
        let at = |kind: &str| dir_of(path).join(format!(".blockyard-{hash:016x}.{kind}"));
        let (part, state) = (at("part"), at("state"));
        // Readable and writable for us while it is written, whatever its final mode.
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(mode | 0o600).open(&part)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(in_use()),
            other => other?,
        }
        // Of two that began at the same time one may have finished, and taken the name away, meanwhile.
        if !same_file(&file, &part)? {
            return Err(in_use());
        }
        let note = match OpenOptions::new().read(true).write(true).open(&state) {
            Ok(note) => Some(note),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let keep = note.is_some();
        Ok(Self { file, part, state, note, keep })
    }

    /// The last note; `None` if there is none.
    ///
    /// # Errors
    /// The system's.
    pub fn noted(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(note) = &self.note else { return Ok(None) };
        let mut bytes = vec![0; MAX_NOTE_BYTES];
        let have = read_at(note, &mut bytes, 0)?;
        bytes.truncate(have);
        Ok(Some(bytes))
    }

    /// Notes something of the bytes that are there. Not atomic: its owner must see that a note is whole. All notes of
    /// a file have one length.
    ///
    /// # Errors
    /// The system's.
    pub fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.note.is_none() {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            self.note = Some(options.open(&self.state)?);
        }
        if let Some(note) = &self.note {
            note.write_all_at(bytes, 0)?;
            self.keep = true;
        }
        Ok(())
    }

    /// Reads bytes that are there; fewer than `buffer` only at the end.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        read_at(&self.file, buffer, offset_bytes)
    }

    /// Forgets what is behind the first bytes; the next write goes there.
    ///
    /// # Errors
    /// The system's.
    pub fn cut(&mut self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)?;
        rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Start(len_bytes))?;
        Ok(())
    }

    /// Appends.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives the file a mode, whatever the umask is, and times; what is `None` stays.
    ///
    /// # Errors
    /// The system's.
    pub fn give(&self, mode: Option<u32>, times: Option<LocalTimes>) -> io::Result<()> {
        give(&self.file, mode, times)
    }

    /// Gives the file its name. Without `replace` a name that is taken is an error (`AlreadyExists`); what was
    /// received is gone then.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self, path: &Path, replace: bool) -> io::Result<()> {
        // First: a note without its bytes would be left otherwise. Bytes without a note are received anew.
        self.forget_note()?;
        rename(&self.part, path, replace)?;
        self.keep = true;
        Ok(())
    }

    /// Forgets everything that was received.
    ///
    /// # Errors
    /// The system's.
    pub fn start_over(&mut self) -> io::Result<()> {
        self.forget_note()?;
        self.cut(0)
    }

    fn forget_note(&mut self) -> io::Result<()> {
        if self.note.take().is_some() {
            self.keep = false;
            fs::remove_file(&self.state)?;
        }
        Ok(())
    }
}

impl Drop for LocalPart {
    fn drop(&mut self) {
        if !self.keep && fs::remove_file(&self.part).is_err() {
            tracing::debug!("{} could not be removed", self.part.display());
        }
    }
}

pub(super) fn read_at(file: &File, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset_bytes + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "another process is receiving it")
}

/// Does the name still lead to this file?
fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((open.dev(), open.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// FNV-1a of the last name: of fixed length, whatever the name's.
fn name_hash(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::super::{LocalReader, info, read_dir};
    use super::*;

    fn names(dir: &Path) -> usize {
        read_dir(dir).unwrap().len()
    }

    #[test]
    fn what_was_noted_of_is_found_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut part = LocalPart::open(&path, 0o640).unwrap();
        part.write(b"0123456789").unwrap();
        part.note(b"first 4").unwrap();
        drop(part);
        assert_eq!((info(&path).unwrap(), names(dir.path())), (None, 2));

        let mut part = LocalPart::open(&path, 0o640).unwrap();
        assert_eq!(part.noted().unwrap().unwrap(), b"first 4");
        let mut buffer = [0; 20];
        assert_eq!((part.read_at(&mut buffer, 8).unwrap(), &buffer[..2]), (2, &b"89"[..]));
        part.cut(4).unwrap();
        part.write(b"abc").unwrap();
        part.finish(&path, false).unwrap();
        assert_eq!(LocalReader::open(&path).unwrap().read_chunk(100).unwrap(), "0123abc");
        assert_eq!(names(dir.path()), 1, "nothing else is left");
    }

    #[test]
    fn without_a_note_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut part = LocalPart::open(&path, 0o644).unwrap();
        part.write(b"0123").unwrap();
        drop(part);
        assert_eq!(names(dir.path()), 0);
        let mut part = LocalPart::open(&path, 0o644).unwrap();
        part.note(b"n").unwrap();
        part.start_over().unwrap();
        assert_eq!(part.noted().unwrap(), None);
        drop(part);
        assert_eq!(names(dir.path()), 0);
    }

    #[test]
    fn a_taken_name_is_refused_and_one_process_receives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let first = LocalPart::open(&path, 0o644).unwrap();
        assert_eq!(LocalPart::open(&path, 0o644).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        first.finish(&path, false).unwrap();
        let second = LocalPart::open(&path, 0o644).unwrap();
        assert_eq!(second.finish(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(dir.path()), 1);
    }
}
