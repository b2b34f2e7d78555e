//! Bugs that are planted on purpose, to see that the simulation catches them. None of them is in shipping code: each
//! sits in a shell or a disk of the simulation.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{DirEntry, Disk, DiskFile, DiskLock, FileInfo, OpenMode, Space};
use parking_lot::Mutex;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The committer says "durable" before the log is synced; the sync follows a little later.
    AckBeforeSync,
    /// Datanodes report and serve replicas without regard to their generation stamps.
    StampIgnored,
    /// What lies behind damage in the log is silently cut, as if it were a torn tail.
    RotReadAsEnd,
    /// Writers do not tell the namenode the digests of their blocks.
    DigestNotTold,
}

/// Files whose sync was promised and not done yet.
type Promised = Arc<Mutex<Vec<Arc<dyn DiskFile>>>>;

/// Puts off the sync of the log: [`Planted::AckBeforeSync`].
#[derive(Clone, Debug, Default)]
pub struct LateDisk {
    promised: Promised,
}

impl LateDisk {
    /// A disk whose syncs of the log say yes at once.
    pub(crate) fn around(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(Late { disk, promised: Arc::clone(&self.promised) })
    }
    /// Does what was promised.
    pub(crate) fn flush(&self) {
        for file in std::mem::take(&mut *self.promised.lock()) {
            if let Err(error) = file.sync(CrashPoint::LogSync) {
                tracing_free(&error);
            }
        }
    }
    /// The process died: what was promised is not done any more.
    pub(crate) fn forget(&self) {
        self.promised.lock().clear();
    }
}

/// A late sync that fails is not told to anyone: that is the bug.
const fn tracing_free(_error: &io::Error) {}

#[derive(Debug)]
struct Late {
    disk: Arc<dyn Disk>,
    promised: Promised,
}

#[derive(Debug)]
struct LateFile {
    file: Arc<dyn DiskFile>,
    promised: Promised,
}

impl Late {
    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(LateFile { file, promised: Arc::clone(&self.promised) })
    }
}

impl Disk for Late {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path, mode).map(|file| self.wrap(file))
    }
    fn create_new(&self, path: &Path, point: CrashPoint) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create_new(path, point).map(|file| self.wrap(file))
    }
    fn create_dir_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        self.disk.create_dir_all(path, point)
    }
    fn rename(&self, from: &Path, to: &Path, point: CrashPoint) -> io::Result<()> {
        self.disk.rename(from, to, point)
    }
    fn remove_file(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        self.disk.remove_file(path, point)
    }
    fn sync_dir(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        self.disk.sync_dir(path, point)
    }
    fn sync_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        self.disk.sync_all(path, point)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path)
    }
    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        self.disk.info(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
}

impl DiskFile for LateFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset_bytes)
    }
    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset_bytes)
    }
    fn sync(&self, point: CrashPoint) -> io::Result<()> {
        if point != CrashPoint::LogSync {
            return self.file.sync(point);
        }
        self.promised.lock().push(Arc::clone(&self.file));
        Ok(())
    }
    fn set_len(&self, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        self.file.set_len(len_bytes, point)
    }
    fn allocate(&self, offset_bytes: u64, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        self.file.allocate(offset_bytes, len_bytes, point)
    }
    fn start_writeback(&self, offset_bytes: u64, len_bytes: u64) {
        self.file.start_writeback(offset_bytes, len_bytes);
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
