//! Which calls of a disk have not come back: a disk that hangs says nothing, so somebody else has to look.
//!
//! ```text
//!   thread ─▶ Watched ─ enters the call ─▶ disk … comes back ─▶ leaves
//!                  │
//!                Calls ◀── look(now), from a timer that touches no disk: the call that is out for longest
//!                      └── cut(older than): what waits for such calls is told to give up
//! ```
//!
//! There is no clock here. A call counts from the first look that finds it, so that a call costs one short lock.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::faults::DiskCall;
use super::{DirEntry, Disk, DiskFile, DiskLock, FileInfo, OpenMode, Space};
use crate::clock::Moment;
use crate::crash::CrashPoint;

/// Tells whoever waits for the work of a thread that it does not get on: called at most once for each call of the disk.
#[derive(Clone)]
pub struct Cut(Arc<dyn Fn() + Send + Sync>);

impl Cut {
    /// What is done then. It must wait for nothing.
    #[must_use]
    pub fn new(run: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(run))
    }
    /// Does it.
    pub fn run(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cut")
    }
}

thread_local! {
    static CUT: RefCell<Option<Cut>> = const { RefCell::new(None) };
}

/// Runs something on this thread whose calls of watched disks are cut by `cut` if they do not come back.
pub fn with_cut<T>(cut: Cut, run: impl FnOnce() -> T) -> T {
    struct Restore(Option<Cut>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CUT.set(self.0.take());
        }
    }
    let _restore = Restore(CUT.replace(Some(cut)));
    run()
}

/// A call that has not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// What was asked for: a name of [`DiskCall`], or in words.
    pub what: &'static str,
    /// On which file or folder.
    pub path: String,
    /// How long ago it was first seen under way.
    pub for_time: Duration,
}

/// Calls under way.
#[derive(Debug, Default)]
pub struct Calls {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Option<Call>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Call {
    what: &'static str,
    path: Arc<Path>,
    seen: Option<Moment>,
    cut: Option<Cut>,
}

/// A call under way; it ends when this is dropped.
#[derive(Debug)]
pub struct UnderWay<'a> {
    calls: &'a Calls,
    slot: usize,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.calls.leave(self.slot);
    }
}

/// As [`UnderWay`], for whoever stands in for a disk that hangs and has no thread to wait for it.
#[derive(Debug)]
pub struct Stay {
    calls: Arc<Calls>,
    slot: usize,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.calls.leave(self.slot);
    }
}

impl Calls {
    /// Enters something that may wait for the disk, in words: a lock that is held across calls, for one.
    #[must_use]
    pub fn enter(&self, what: &'static str, path: Arc<Path>) -> UnderWay<'_> {
        UnderWay { calls: self, slot: self.take_slot(what, path) }
    }
    /// Enters a call that does not come back before its guard is dropped, wherever that is kept.
    #[must_use]
    pub fn stay(self: &Arc<Self>, what: &'static str, path: Arc<Path>) -> Stay {
        Stay { calls: Arc::clone(self), slot: self.take_slot(what, path) }
    }
    fn take_slot(&self, what: &'static str, path: Arc<Path>) -> usize {
        let cut = CUT.with_borrow(Clone::clone);
        let call = Call { what, path, seen: None, cut };
        let mut table = self.table.lock();
        let slot = table.free.pop().unwrap_or_else(|| {
            table.slots.push(None);
            table.slots.len() - 1
        });
        if let Some(place) = table.slots.get_mut(slot) {
            *place = Some(call);
        }
        slot
    }
    fn leave(&self, slot: usize) {
        let mut table = self.table.lock();
        if let Some(slot) = table.slots.get_mut(slot) {
            *slot = None;
        }
        table.free.push(slot);
    }
    /// Looks at the clock: the call that is out for longest, if one is.
    pub fn look(&self, now: Moment) -> Option<Stuck> {
        let mut table = self.table.lock();
        let under_way = table.slots.iter_mut().flatten();
        let oldest = under_way.map(|call| (*call.seen.get_or_insert(now), call)).min_by_key(|(seen, _)| *seen)?;
        let (seen, call) = oldest;
        Some(Stuck { what: call.what, path: call.path.display().to_string(), for_time: now.since(seen) })
    }
    /// Takes what is to be told of calls that are out for `limit` or longer: to be run by the caller, without a lock.
    #[must_use]
    pub fn take_cuts(&self, now: Moment, limit: Duration) -> Vec<Cut> {
        let mut table = self.table.lock();
        let old = table.slots.iter_mut().flatten().filter(|call| call.seen.is_some_and(|at| now.since(at) >= limit));
        old.filter_map(|call| call.cut.take()).collect()
    }
    /// Number of calls under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.table.lock().slots.iter().flatten().count()
    }
}

/// A disk whose calls are noted.
#[derive(Clone, Debug)]
pub struct Watched {
    inner: Arc<dyn Disk>,
    calls: Arc<Calls>,
}

impl Watched {
    /// Watches a disk, or the part of it that is used through this handle.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, calls: Arc::default() }
    }
    /// Its calls.
    #[must_use]
    pub fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }
    fn enter(&self, call: DiskCall, path: &Path) -> UnderWay<'_> {
        self.calls.enter(call.name(), Arc::from(path))
    }
    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(WatchedFile { inner: file, path: Arc::from(path), calls: Arc::clone(&self.calls) })
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let _call = self.enter(DiskCall::Open, path);
        Ok(self.wrap(path, self.inner.open(path, mode)?))
    }
    fn create_new(&self, path: &Path, point: CrashPoint) -> io::Result<Arc<dyn DiskFile>> {
        let _call = self.enter(DiskCall::Create, path);
        Ok(self.wrap(path, self.inner.create_new(path, point)?))
    }
    fn create_dir_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        let _call = self.enter(DiskCall::CreateDir, path);
        self.inner.create_dir_all(path, point)
    }
    fn rename(&self, from: &Path, to: &Path, point: CrashPoint) -> io::Result<()> {
        let _call = self.enter(DiskCall::Rename, to);
        self.inner.rename(from, to, point)
    }
    fn remove_file(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        let _call = self.enter(DiskCall::Remove, path);
        self.inner.remove_file(path, point)
    }
    fn sync_dir(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        let _call = self.enter(DiskCall::SyncDir, path);
        self.inner.sync_dir(path, point)
    }
    fn sync_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        let _call = self.enter(DiskCall::SyncAll, path);
        self.inner.sync_all(path, point)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let _call = self.enter(DiskCall::List, path);
        self.inner.read_dir(path)
    }
    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        let _call = self.enter(DiskCall::Info, path);
        self.inner.info(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        let _call = self.enter(DiskCall::Space, path);
        self.inner.space(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let _call = self.enter(DiskCall::Lock, path);
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn DiskFile>,
    path: Arc<Path>,
    calls: Arc<Calls>,
}

impl WatchedFile {
    fn enter(&self, call: DiskCall) -> UnderWay<'_> {
        self.calls.enter(call.name(), Arc::clone(&self.path))
    }
}

impl DiskFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        let _call = self.enter(DiskCall::Read);
        self.inner.read_at(buffer, offset_bytes)
    }
    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        let _call = self.enter(DiskCall::Write);
        self.inner.write_at(bytes, offset_bytes)
    }
    fn sync(&self, point: CrashPoint) -> io::Result<()> {
        let _call = self.enter(DiskCall::Sync);
        self.inner.sync(point)
    }
    fn set_len(&self, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        let _call = self.enter(DiskCall::SetLen);
        self.inner.set_len(len_bytes, point)
    }
    fn allocate(&self, offset_bytes: u64, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        let _call = self.enter(DiskCall::Allocate);
        self.inner.allocate(offset_bytes, len_bytes, point)
    }
    fn start_writeback(&self, offset_bytes: u64, len_bytes: u64) {
        let _call = self.enter(DiskCall::Write);
        self.inner.start_writeback(offset_bytes, len_bytes);
    }
    fn len_bytes(&self) -> io::Result<u64> {
        let _call = self.enter(DiskCall::Info);
        self.inner.len_bytes()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }
    fn no_readahead(&self) {
        self.inner.no_readahead();
    }
    fn is_cached(&self, offset_bytes: u64, len_bytes: u64) -> bool {
        self.inner.is_cached(offset_bytes, len_bytes)
    }
    fn drop_cached(&self, offset_bytes: u64, len_bytes: u64) {
        self.inner.drop_cached(offset_bytes, len_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::disk::{DiskFault, DiskFaultKind, MemDisk};

    fn at(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn sc_53_a_call_that_does_not_come_back_is_named_and_cut_once_and_forgotten_when_it_does() {
        let disk = MemDisk::new();
        let watched = Watched::new(disk.shared());
        watched.create_dir_all(Path::new("/d"), CrashPoint::VolumeDirCreate).unwrap();
        let file = watched.create_new(Path::new("/d/f"), CrashPoint::BlockCreate).unwrap();
        let calls = watched.calls();
        assert_eq!(calls.look(at(0)), None);
        disk.inject(DiskFault::once(DiskFaultKind::Hang));
        let cuts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&cuts);
        let hung = crate::task::thread("hung", move || {
            let cut = Cut::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            });
            with_cut(cut, || file.sync(CrashPoint::BlockSync))
        })
        .unwrap();
        while calls.under_way() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(calls.look(at(10)).unwrap().for_time, Duration::ZERO, "it counts from the first look");
        let stuck = calls.look(at(13)).unwrap();
        let expected = Stuck { what: "sync", path: "/d/f".to_owned(), for_time: Duration::from_secs(3) };
        assert_eq!(stuck, expected);
        assert!(calls.take_cuts(at(13), Duration::from_secs(4)).is_empty(), "not old enough");
        calls.take_cuts(at(13), Duration::from_secs(3)).iter().for_each(Cut::run);
        assert!(calls.take_cuts(at(14), Duration::from_secs(3)).is_empty(), "told once");
        assert_eq!(cuts.load(Ordering::SeqCst), 1);
        // Other calls of the same disk go on.
        assert!(watched.info(Path::new("/d/f")).unwrap().is_some());
        disk.clear_faults();
        hung.join().unwrap().unwrap();
        assert_eq!((calls.look(at(20)), calls.under_way()), (None, 0));
    }

    #[test]
    fn a_stay_is_a_call_until_it_is_dropped_and_its_slot_is_used_again() {
        let calls = Arc::new(Calls::default());
        let cuts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&cuts);
        let cut = Cut::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let stay = with_cut(cut, || calls.stay("hang", Arc::from(Path::new("/d"))));
        assert_eq!(calls.look(at(1)).unwrap().what, "hang");
        calls.take_cuts(at(9), Duration::from_secs(5)).iter().for_each(Cut::run);
        assert_eq!((cuts.load(Ordering::SeqCst), calls.under_way()), (1, 1));
        drop(stay);
        assert_eq!((calls.look(at(10)), calls.under_way()), (None, 0));
        let other = calls.stay("other", Arc::from(Path::new("/d")));
        assert_eq!((calls.look(at(11)).unwrap().for_time, calls.table.lock().slots.len()), (Duration::ZERO, 1));
        drop(other);
    }

    #[test]
    fn a_watched_disk_is_the_disk() {
        let disk = MemDisk::new();
        let watched = Watched::new(disk.shared());
        let (dir, name) = (Path::new("/d"), Path::new("/d/f"));
        watched.create_dir_all(dir, CrashPoint::VolumeDirCreate).unwrap();
        let file = watched.create_new(name, CrashPoint::BlockCreate).unwrap();
        file.write_at(b"bytes", 0).unwrap();
        file.allocate(5, 5, CrashPoint::BlockCreate).unwrap();
        file.set_len(4, CrashPoint::BlockCreate).unwrap();
        file.sync(CrashPoint::BlockSync).unwrap();
        let mut read = [0; 4];
        assert_eq!((file.read_at(&mut read, 0).unwrap(), &read, file.len_bytes().unwrap()), (4, b"byte", 4));
        watched.rename(name, Path::new("/d/g"), CrashPoint::BlockCreate).unwrap();
        watched.sync_dir(dir, CrashPoint::BlockDirSync).unwrap();
        watched.sync_all(dir, CrashPoint::VolumeSync).unwrap();
        assert_eq!(watched.read_dir(dir).unwrap().len(), 1);
        assert!(watched.space(dir).unwrap().capacity_bytes > 0);
        let lock = watched.lock(Path::new("/d/lock")).unwrap();
        assert!(disk.lock(Path::new("/d/lock")).is_err());
        drop(lock);
        watched.remove_file(Path::new("/d/g"), CrashPoint::BlockRemove).unwrap();
        assert_eq!(disk.files(), ["/d/lock"]);
        assert_eq!(watched.calls().under_way(), 0);
    }
}
