//! The disk seam: what the servers may ask of a file system, and nothing else.
//!
//! ```text
//!   consensus, block store ──▶ Disk, DiskFile ──┬── OsDisk   the machine's files
//!                                               └── MemDisk  the simulation's: tears, loses, fills, fails
//!         around any of them:  Watched     knows which calls have not come back
//!                              FaultyDisk  does wrong what a plan says; not in release builds
//! ```
//!
//! Servers get theirs from [`machine`].
//!
//! Every call that makes something durable takes a [`CrashPoint`]. Calls block: on a server they run on
//! threads of their own, never on the async ones.

mod faults;
#[cfg(test)]
mod faults_tests;
#[cfg(any(test, debug_assertions))]
mod faulty;
mod mem;
mod os;
mod watched;

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use faults::{DiskCall, DiskFault, DiskFaultKind};
#[cfg(any(test, debug_assertions))]
pub use faulty::{FAULTS_VARIABLE, FaultyDisk};
pub use mem::{HANG, MemDisk, SECTOR_BYTES};
pub(crate) use os::start_writeback;
pub use os::{OsDisk, SyncCounts, sync_counts};
pub use watched::{Calls, Cut, Stay, Stuck, UnderWay, Watched, with_cut};

use crate::crash::CrashPoint;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, for reading.
    Read,
    /// Existing file, for reading and writing.
    ReadWrite,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Length in bytes; 0 for directories.
    pub len_bytes: u64,
    /// Is it a directory?
    pub is_dir: bool,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without its directory. Names that are not UTF-8 are left out of listings.
    pub name: String,
    /// What it is.
    pub info: FileInfo,
}

/// Room on the file system of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Space {
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// What an unprivileged process may still write.
    pub available_bytes: u64,
}

/// A file system. Paths are absolute or relative to the process; implementations are shared by `Arc`.
///
/// # Errors
/// Every method reports the operating system's error unchanged; `ErrorKind::StorageFull` means no room.
pub trait Disk: Send + Sync + Debug {
    /// Opens an existing file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file for reading and writing; fails with `AlreadyExists` if the name is taken. The *name*
    /// is durable only after [`Disk::sync_dir`] of its directory.
    fn create_new(&self, path: &Path, point: CrashPoint) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a directory and what is missing above it (mode 0700), and makes the new names durable.
    fn create_dir_all(&self, path: &Path, point: CrashPoint) -> io::Result<()>;
    /// Renames within a file system, replacing the target. Durable only after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path, point: CrashPoint) -> io::Result<()>;
    /// Removes a file. Durable only after `sync_dir`.
    fn remove_file(&self, path: &Path, point: CrashPoint) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path, point: CrashPoint) -> io::Result<()>;
    /// Makes everything on the file system of a directory durable, contents and names, whoever wrote them: after
    /// a kill, what an earlier process left in the page cache.
    fn sync_all(&self, path: &Path, point: CrashPoint) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// What a name is; `None` if there is nothing.
    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>>;
    /// Room on the file system of `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Takes an exclusive advisory lock on a file (created if missing) until the guard is dropped.
    /// `ErrorKind::WouldBlock`: another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// Held lock of [`Disk::lock`].
pub trait DiskLock: Send + Sync + Debug {}

/// An open file. Positional: there is no cursor, so one file can be used from several threads.
///
/// # Errors
/// As [`Disk`]. After a failed sync the file's contents are unknown: condemn the volume or the log,
/// never sync again (scar SC-48).
pub trait DiskFile: Send + Sync + Debug {
    /// Reads up to `buffer.len()` bytes at `offset_bytes`; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset_bytes`. Durable only after a sync.
    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()>;
    /// Makes contents and length durable (`fdatasync`).
    fn sync(&self, point: CrashPoint) -> io::Result<()>;
    /// Cuts or extends (with zeros). Durable only after a sync.
    fn set_len(&self, len_bytes: u64, point: CrashPoint) -> io::Result<()>;
    /// Sets room aside from `offset_bytes` on, reading as zeros, growing the file.
    fn allocate(&self, offset_bytes: u64, len_bytes: u64, point: CrashPoint) -> io::Result<()>;
    /// Asks the kernel to start writing a range back. A hint: never a promise of durability.
    fn start_writeback(&self, offset_bytes: u64, len_bytes: u64);
    /// Length in bytes.
    fn len_bytes(&self) -> io::Result<u64>;
    /// The descriptor, for sendfile; `None` where there is none (simulation): then copy.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
    /// Says that a read does not foretell the next one: nothing is read ahead for this handle. A hint.
    fn no_readahead(&self) {}
    /// Are the ends of a range in memory? A guess; false where nobody can tell.
    fn is_cached(&self, _offset_bytes: u64, _len_bytes: u64) -> bool {
        false
    }
    /// Lets the kernel forget its copy of a range, rounded out to pages, so that the next read comes from the medium. A
    /// hint: what is not written back yet stays.
    fn drop_cached(&self, _offset_bytes: u64, _len_bytes: u64) {}

    /// Reads exactly, from the medium rather than from memory, and leaves in memory what was there before: whoever checks a
    /// disk is not content with a copy of it, and does not push out what others use. Where nobody can tell what was there,
    /// nothing is left. After [`DiskFile::no_readahead`].
    ///
    /// # Errors
    /// As [`DiskFile::read_exact_at`].
    fn read_medium_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<()> {
        let len_bytes = buffer.len() as u64;
        let cached = self.is_cached(offset_bytes, len_bytes);
        // In any case: "not cached" may mean that only the ends are not, or that the system does not say.
        self.drop_cached(offset_bytes, len_bytes);
        let read = self.read_exact_at(buffer, offset_bytes);
        if !cached {
            self.drop_cached(offset_bytes, len_bytes);
        }
        read
    }
    /// Reads exactly `buffer.len()` bytes.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset_bytes + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

/// The disk of this machine as servers use it. In builds with debug assertions it does wrong what the plan says that
/// `BLOCKYARD_DISK_FAULTS` names (see `FaultyDisk`); release builds know nothing of such plans.
#[must_use]
pub fn machine() -> Arc<dyn Disk> {
    #[cfg(debug_assertions)]
    if let Some(plan) = std::env::var_os(FAULTS_VARIABLE) {
        return FaultyDisk::with_plan(OsDisk::shared(), PathBuf::from(plan)).shared();
    }
    OsDisk::shared()
}

/// Reads a whole file of at most `limit_bytes`.
///
/// # Errors
/// As [`Disk::open`]; `InvalidData` if the file is longer than the limit.
pub fn read_file(disk: &dyn Disk, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len_bytes = file.len_bytes()?;
    if len_bytes > limit_bytes {
        let text = format!("{} holds {len_bytes} bytes, expected at most {limit_bytes}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; usize::try_from(len_bytes).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Directory of a path, `.` if it has none.
#[must_use]
pub fn dir_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
