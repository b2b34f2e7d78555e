//! The user's own files, as the command line reads and writes them. Servers use [`crate::disk`].
//!
//! Nothing here is durable before the kernel says so, as with `cp`. What is written gets its final name only
//! when it is whole: a reader of the folder never sees half a file. Calls block.

mod change;
mod part;
mod scratch;
mod shared;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use rustix::fs::{CWD, RenameFlags};

use crate::disk::dir_of;
use crate::random::{OsRandom, Randomness};

pub use change::{create_link, folds_case, is_temporary, read_link, remove, temporary_name};
pub use part::{LocalPart, MAX_NOTE_BYTES};
pub use scratch::ScratchFile;
pub use shared::SharedFile;

/// What a local name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, not followed.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// Times of a local name, in ns since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalTimes {
    /// Of the last change of the data.
    pub mtime_ns: i64,
    /// Of the last access.
    pub atime_ns: i64,
}

impl LocalTimes {
    fn of(meta: &fs::Metadata) -> Self {
        let ns = |seconds: i64, below: i64| seconds.saturating_mul(1_000_000_000).saturating_add(below);
        Self { mtime_ns: ns(meta.mtime(), meta.mtime_nsec()), atime_ns: ns(meta.atime(), meta.atime_nsec()) }
    }
    fn as_std(self) -> FileTimes {
        FileTimes::new().set_modified(system_time(self.mtime_ns)).set_accessed(system_time(self.atime_ns))
    }
}

fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let time = if ns < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// What is known of a local name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalInfo {
    /// What it is.
    pub kind: LocalKind,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Times of the last change and the last access.
    pub times: LocalTimes,
    /// Device and inode: the same for two names of one file.
    pub identity: (u64, u64),
}

impl LocalInfo {
    fn of(meta: &fs::Metadata) -> Self {
        let kind = match meta.file_type() {
            kind if kind.is_file() => LocalKind::File,
            kind if kind.is_dir() => LocalKind::Directory,
            kind if kind.is_symlink() => LocalKind::Symlink,
            _ => LocalKind::Other,
        };
        let (mode, identity) = (meta.mode() & 0o7777, (meta.dev(), meta.ino()));
        Self { kind, len_bytes: meta.len(), mode, times: LocalTimes::of(meta), identity }
    }
    /// Is it a directory?
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == LocalKind::Directory
    }
}

/// What a name is, links followed; `None` if there is nothing.
///
/// # Errors
/// The system's; a link to nothing counts as nothing.
pub fn info(path: &Path) -> io::Result<Option<LocalInfo>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(LocalInfo::of(&meta))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a name is itself, links not followed; `None` if there is nothing.
///
/// # Errors
/// The system's.
pub fn link_info(path: &Path) -> io::Result<Option<LocalInfo>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(LocalInfo::of(&meta))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names in a directory, in byte order, links not followed.
///
/// # Errors
/// The system's.
pub fn read_dir(path: &Path) -> io::Result<Vec<(OsString, LocalInfo)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(meta) => entries.push((entry.file_name(), LocalInfo::of(&meta))),
            // Removed between the listing and the look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// Makes one directory. `Ok(false)`: a directory was there already.
///
/// # Errors
/// The system's.
pub fn create_dir(path: &Path, mode: u32) -> io::Result<bool> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a file or directory a mode and times.
///
/// # Errors
/// The system's.
pub fn set_attributes(path: &Path, mode: u32, times: LocalTimes) -> io::Result<()> {
    give(&File::open(path)?, Some(mode), Some(times))
}

fn give(file: &File, mode: Option<u32>, times: Option<LocalTimes>) -> io::Result<()> {
    if let Some(times) = times {
        file.set_times(times.as_std())?;
    }
    match mode {
        Some(mode) => file.set_permissions(fs::Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

/// Gives a file or directory another name. Without `replace` a name that is taken is an error (`AlreadyExists`).
///
/// # Errors
/// The system's.
pub fn rename(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return fs::rename(from, to);
    }
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without the flag: a link fails if the name is taken, too.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

/// A path without `.`, `..` and links.
///
/// # Errors
/// The system's.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// The process's file mode creation mask. Reading it sets it for a moment: call it before threads start.
#[must_use]
pub fn umask() -> u32 {
    let all = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(all);
    all.bits()
}

/// Something that is read from start to end: a file, or standard input.
#[derive(Debug)]
pub struct LocalReader {
    file: Source,
}

#[derive(Debug)]
enum Source {
    File(File),
    Stdin(io::Stdin),
}

impl LocalReader {
    /// Opens a file.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Source::File(File::open(path)?) })
    }
    /// Standard input.
    #[must_use]
    pub fn stdin() -> Self {
        Self { file: Source::Stdin(io::stdin()) }
    }
    /// What is known of the open file; `None` for standard input.
    ///
    /// # Errors
    /// The system's.
    pub fn info(&self) -> io::Result<Option<LocalInfo>> {
        match &self.file {
            Source::File(file) => Ok(Some(LocalInfo::of(&file.metadata()?))),
            Source::Stdin(_) => Ok(None),
        }
    }
    /// What comes next, `most_bytes` at most, without waiting for more than there is; nothing only at the end.
    ///
    /// # Errors
    /// The system's.
    pub fn read_some(&mut self, most_bytes: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(most_bytes);
        loop {
            let read = match &mut self.file {
                Source::File(file) => file.read(&mut buffer),
                Source::Stdin(stdin) => stdin.read(&mut buffer),
            };
            match read {
                Ok(have) => {
                    buffer.truncate(have);
                    return Ok(buffer.freeze());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    /// The next `want_bytes`; fewer only at the end.
    ///
    /// # Errors
    /// The system's.
    pub fn read_chunk(&mut self, want_bytes: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(want_bytes);
        let mut have = 0;
        while have < want_bytes {
            let read = match &mut self.file {
                Source::File(file) => file.read(&mut buffer[have..]),
                Source::Stdin(stdin) => stdin.read(&mut buffer[have..]),
            };
            match read {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(have);
        Ok(buffer.freeze())
    }
}

/// A file under a temporary name, which it loses if it is dropped before [`LocalWriter::finish`].
#[derive(Debug)]
pub struct LocalWriter {
    file: File,
    temporary: PathBuf,
    finished: bool,
}

impl LocalWriter {
    /// Creates the temporary file in the folder of `path`. `mode` is masked by the process's umask.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let temporary = dir_of(path).join(format!(".blockyard-{:016x}.part", OsRandom.next_u64()));
        // Writable for us while it is written, whatever its final mode.
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&temporary)?;
        Ok(Self { file, temporary, finished: false })
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
    /// Reads what was written; fewer than `buffer` only at the end.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        part::read_at(&self.file, buffer, offset_bytes)
    }
    /// Gives the file its name. Without `replace` a name that is taken is an error (`AlreadyExists`).
    ///
    /// # Errors
    /// The system's; the temporary file is gone then.
    pub fn finish(mut self, path: &Path, replace: bool) -> io::Result<()> {
        rename(&self.temporary, path, replace)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if !self.finished && fs::remove_file(&self.temporary).is_err() {
            tracing::debug!("{} could not be removed", self.temporary.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_times_are_set_and_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let times = LocalTimes { mtime_ns: 1_795_339_719_515_000_001, atime_ns: -1_500_000_000 };
        let writer = LocalWriter::create(&path, 0o600).unwrap();
        writer.give(Some(0o6775), Some(times)).unwrap();
        writer.finish(&path, false).unwrap();
        let found = info(&path).unwrap().unwrap();
        assert_eq!((found.mode, found.times), (0o6775, times));
        let folder = LocalTimes { mtime_ns: 5, atime_ns: 6 };
        set_attributes(dir.path(), 0o750, folder).unwrap();
        let found = info(dir.path()).unwrap().unwrap();
        assert_eq!((found.mode, found.times.mtime_ns), (0o750, 5));
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut writer = LocalWriter::create(&path, 0o644).unwrap();
        writer.write(b"half").unwrap();
        assert_eq!(info(&path).unwrap(), None);
        drop(writer);
        assert!(read_dir(dir.path()).unwrap().is_empty(), "nothing is left behind");

        let mut writer = LocalWriter::create(&path, 0o755).unwrap();
        writer.write(b"whole").unwrap();
        writer.finish(&path, false).unwrap();
        assert_eq!(LocalReader::open(&path).unwrap().read_chunk(100).unwrap(), "whole");

        let other = LocalWriter::create(&path, 0o644).unwrap();
        assert_eq!(other.finish(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read_dir(dir.path()).unwrap().len(), 1, "a refused file is removed");
    }
}
