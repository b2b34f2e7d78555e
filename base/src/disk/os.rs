//! The machine's file system behind the [`Disk`] seam.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, FallocateFlags, FlockOperation};

use super::{DirEntry, Disk, DiskFile, DiskLock, FileInfo, OpenMode, Space, dir_of};
use crate::crash::{self, CrashPoint, Side};
use crate::moved::{Move, note};

/// Files of the machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsDisk;

impl OsDisk {
    /// Shared handle.
    #[must_use]
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

/// How often this process has waited until something was durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Contents of a file.
    pub data: u64,
    /// Names in a directory.
    pub names: u64,
    /// Everything on a file system.
    pub everything: u64,
}

static DATA: AtomicU64 = AtomicU64::new(0);
static NAMES: AtomicU64 = AtomicU64::new(0);
static EVERYTHING: AtomicU64 = AtomicU64::new(0);

/// The counts so far, of all disks and roles in this process.
#[must_use]
pub fn sync_counts() -> SyncCounts {
    let [data, names, everything] = [&DATA, &NAMES, &EVERYTHING].map(|count| count.load(Ordering::Relaxed));
    SyncCounts { data, names, everything }
}

/// Counts a sync, good or bad: the disk worked for it.
fn counted<T>(count: &AtomicU64, sync: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    count.fetch_add(1, Ordering::Relaxed);
    sync()
}

/// Runs a durable step with its crash point on both sides.
fn step<T>(point: CrashPoint, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    crash::reach(point, Side::Before);
    let done = run()?;
    crash::reach(point, Side::After);
    Ok(done)
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let write = mode == OpenMode::ReadWrite;
        let file = OpenOptions::new().read(true).write(write).open(path)?;
        note(Move::Open, 0);
        Ok(Arc::new(OsFile(file)))
    }

    fn create_new(&self, path: &Path, point: CrashPoint) -> io::Result<Arc<dyn DiskFile>> {
        step(point, || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            let file = options.open(path)?;
            note(Move::Open, 0);
            Ok(Arc::new(OsFile(file)) as Arc<dyn DiskFile>)
        })
    }

    fn create_dir_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        step(point, || {
            let missing: Vec<PathBuf> = path
                .ancestors()
                .filter(|p| !p.as_os_str().is_empty())
                .take_while(|p| !p.is_dir())
                .map(Path::to_path_buf)
                .collect();
            missing.iter().rev().try_for_each(|missing| create_dir(missing))
        })
    }

    fn rename(&self, from: &Path, to: &Path, point: CrashPoint) -> io::Result<()> {
        step(point, || fs::rename(from, to))
    }

    fn remove_file(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        step(point, || fs::remove_file(path))
    }

    fn sync_dir(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        step(point, || counted(&NAMES, || File::open(path)?.sync_all()))
    }

    fn sync_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        step(point, || counted(&EVERYTHING, || Ok(rustix::fs::syncfs(File::open(path)?)?)))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Removed between the listing and the look: as if it had not been listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(DirEntry { name, info: info_of(&meta) });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(info_of(&meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            capacity_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(OsLock(file)))
    }
}

/// Creates a directory in one that is there, durably. The descriptor is there first: if none is left, nothing was made that
/// the next call would take for durable. What could not be synced is no matter of room, whatever the system says.
fn create_dir(path: &Path) -> io::Result<()> {
    let parent = File::open(dir_of(path))?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    let lost = |error| io::Error::other(format!("the new name {} is not durable: {error}", path.display()));
    counted(&NAMES, || parent.sync_all()).map_err(lost)
}

fn info_of(meta: &fs::Metadata) -> FileInfo {
    let is_dir = meta.is_dir();
    FileInfo { len_bytes: if is_dir { 0 } else { meta.len() }, is_dir }
}

#[derive(Debug)]
struct OsLock(#[allow(dead_code, reason = "the lock lives as long as the open file")] File);
impl DiskLock for OsLock {}

#[derive(Debug)]
struct OsFile(File);

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset_bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.inspect(|read| note(Move::Read, *read)),
            }
        }
    }
    fn write_at(&self, mut bytes: &[u8], mut offset_bytes: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write_at(bytes, offset_bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    note(Move::Write, written);
                    offset_bytes += written as u64;
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    fn sync(&self, point: CrashPoint) -> io::Result<()> {
        step(point, || counted(&DATA, || self.0.sync_data()))
    }
    fn set_len(&self, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        step(point, || self.0.set_len(len_bytes))
    }
    fn allocate(&self, offset_bytes: u64, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        step(point, || {
            match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), offset_bytes, len_bytes) {
                Ok(()) => Ok(()),
                // File systems without fallocate: grow instead; room is then found when it is written.
                Err(rustix::io::Errno::OPNOTSUPP) => {
                    let end = offset_bytes.saturating_add(len_bytes);
                    if self.0.metadata()?.len() < end { self.0.set_len(end) } else { Ok(()) }
                }
                Err(error) => Err(error.into()),
            }
        })
    }
    fn start_writeback(&self, offset_bytes: u64, len_bytes: u64) {
        start_writeback(&self.0, offset_bytes, len_bytes);
    }
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
    fn no_readahead(&self) {
        advise(&self.0, 0, None, Advice::Random);
    }
    fn is_cached(&self, offset_bytes: u64, len_bytes: u64) -> bool {
        let last_bytes = offset_bytes.saturating_add(len_bytes.saturating_sub(1));
        len_bytes > 0 && [offset_bytes, last_bytes].into_iter().all(|at| is_byte_cached(&self.0, at))
    }
    fn drop_cached(&self, offset_bytes: u64, len_bytes: u64) {
        let start_bytes = offset_bytes - offset_bytes % PAGE_BYTES;
        let end_bytes = offset_bytes.saturating_add(len_bytes).div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES);
        let len_bytes = NonZeroU64::new(end_bytes.saturating_sub(start_bytes));
        if len_bytes.is_some() {
            advise(&self.0, start_bytes, len_bytes, Advice::DontNeed);
        }
    }
}

/// Pages of the kernel's cache, or a multiple of what it uses: for rounding only.
const PAGE_BYTES: u64 = 4096;

/// Advice is never needed: where it is not taken, more memory is used.
fn advise(file: &File, offset_bytes: u64, len_bytes: Option<NonZeroU64>, advice: Advice) {
    if let Err(error) = rustix::fs::fadvise(file, offset_bytes, len_bytes, advice) {
        tracing::trace!(%error, ?advice, "the kernel takes no advice about a file");
    }
}

/// A read that may not wait for the disk tells. File systems without such reads say no.
#[cfg(target_os = "linux")]
fn is_byte_cached(file: &File, offset_bytes: u64) -> bool {
    let mut byte = [0];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    let read = rustix::io::preadv2(file, &mut parts, offset_bytes, rustix::io::ReadWriteFlags::NOWAIT);
    matches!(read, Ok(1))
}
#[cfg(not(target_os = "linux"))]
fn is_byte_cached(_file: &File, _offset_bytes: u64) -> bool {
    false
}

/// Starts write-back of a range without waiting for it, so that the sync at the end has little left to do.
/// A hint: errors show at the sync, which is what counts.
#[allow(unsafe_code, reason = "rustix has no sync_file_range")]
pub(crate) fn start_writeback(file: &File, offset_bytes: u64, len_bytes: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len)) = (i64::try_from(offset_bytes), i64::try_from(len_bytes)) else { return };
    // SAFETY: plain integers and a descriptor that `file` keeps open during the call; no memory is passed.
    let _hint_only = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_of_the_medium_leaves_memory_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = OsDisk.create_new(&path, CrashPoint::BlockCreate).unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 7) as u8).collect();
        file.write_at(&bytes, 0).unwrap();
        file.sync(CrashPoint::BlockSync).unwrap();
        file.no_readahead();
        let (start, len) = (10_007, 300_000);
        let medium = || {
            let mut read = vec![0; len];
            file.read_medium_at(&mut read, start).unwrap();
            assert_eq!(read, bytes[start as usize..start as usize + len]);
        };
        // In memory, where it was written: it stays there.
        let tells = file.is_cached(start, len as u64);
        medium();
        assert_eq!(file.is_cached(start, len as u64), tells);
        file.drop_cached(start, len as u64);
        if tells && !file.is_cached(start, len as u64) {
            medium();
            assert!(!file.is_cached(start, len as u64), "it was not in memory, and is not now");
            // What lies beside was not touched.
            assert!(file.is_cached(500_000, 100_000));
        } else {
            println!("this file system does not tell what is in memory, or keeps it there");
        }
        assert!(!file.is_cached(2_000_000, 1), "nothing is behind the end");
    }
}
