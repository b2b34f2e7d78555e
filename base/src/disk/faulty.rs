//! A disk around another one that does wrong what a plan says: the faults of [`DiskFault`] under whole processes.
//!
//! ```text
//!   BLOCKYARD_DISK_FAULTS=/tmp/plan blockyard …       debug assertions only
//!   /tmp/plan: a fault a line; read anew within 20 ms of a change; '#' begins a comment
//! ```
//!
//! A line that stays keeps its count. Taking a line away ends its hangs: those calls go on, and go well. Where a fault may
//! strike reads of a file, the file shows no descriptor: so nobody reads past this disk.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::faults::{DiskCall, DiskFault, Faults, Verdict, torn};
use super::{DirEntry, Disk, DiskFile, DiskLock, FileInfo, OpenMode, Space};
use crate::crash::CrashPoint;

/// Name of the environment variable that names a plan.
pub const FAULTS_VARIABLE: &str = "BLOCKYARD_DISK_FAULTS";
/// The plan is looked at once in this time, when calls are made, and while calls hang.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where a misplaced write lands: the neighbour of its page.
const PAGE_BYTES: u64 = 4096;

/// A disk with faults. Clones are handles of the same disk.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    planned: Vec<DiskFault>,
    looked: Option<Instant>,
    seen: Option<(u64, i64, i64, u64)>,
}

impl FaultyDisk {
    /// A disk whose faults are [injected](Self::inject).
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, plan: Arc::new(Plan { file: None, state: Mutex::default() }) }
    }
    /// A disk whose faults are in a file, which need not be there.
    #[must_use]
    pub fn with_plan(inner: Arc<dyn Disk>, file: PathBuf) -> Self {
        Self { inner, plan: Arc::new(Plan { file: Some(file), state: Mutex::default() }) }
    }
    /// The disk behind the seam.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
    /// Adds a fault.
    pub fn inject(&self, fault: DiskFault) {
        self.plan.state.lock().faults.push(fault);
    }
    /// Takes all faults away. Calls that hang go on, and go well.
    pub fn clear_faults(&self) {
        self.plan.state.lock().faults.clear();
    }
    /// How many times faults took effect.
    #[must_use]
    pub fn faults_fired(&self) -> u64 {
        self.plan.state.lock().faults.fired()
    }

    fn meet(&self, call: DiskCall, path: &Path) -> io::Result<Verdict> {
        self.plan.meet(call, &path.to_string_lossy())
    }
    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { inner: file, path: path.to_string_lossy().into_owned(), plan: Arc::clone(&self.plan) })
    }
}

impl Plan {
    /// Lets the faults strike that wait for this call. Those that take time do it here.
    fn meet(&self, call: DiskCall, path: &str) -> io::Result<Verdict> {
        let verdict = {
            let mut state = self.state.lock();
            self.look(&mut state);
            state.faults.judge(call, path)
        };
        match verdict {
            Verdict::Fail(error) => Err(error),
            Verdict::Delay(delay) => {
                std::thread::sleep(delay);
                Ok(Verdict::Proceed)
            }
            Verdict::Hang(number) => {
                tracing::warn!(?call, path, "a call of the disk hangs, as planned");
                while self.hangs(number) {
                    std::thread::sleep(LOOK_EVERY);
                }
                Ok(Verdict::Proceed)
            }
            other => Ok(other),
        }
    }
    fn hangs(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        self.look(&mut state);
        state.faults.is_there(number)
    }

    /// Reads the plan anew if its file is another one than before.
    fn look(&self, state: &mut State) {
        let Some(file) = &self.file else { return };
        if state.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        state.looked = Some(Instant::now());
        let seen = std::fs::metadata(file).ok().map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()));
        if seen == state.seen {
            return;
        }
        let text = match seen {
            Some(_) => std::fs::read_to_string(file),
            None => Ok(String::new()),
        };
        let plan = text.map_err(|error| error.to_string()).and_then(|text| parse(&text));
        match plan {
            Ok(plan) => {
                tracing::warn!(file = %file.display(), faults = plan.len(), "the disk's faults are these from now on");
                state.faults.replace(&plan, &state.planned);
                state.planned = plan;
                state.seen = seen;
            }
            // Perhaps it is being written: the next look reads it again.
            Err(error) => tracing::error!(file = %file.display(), error, "a plan of faults cannot be used"),
        }
    }
}

/// The faults of a plan.
fn parse(text: &str) -> Result<Vec<DiskFault>, String> {
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(before, _)| before).trim());
    lines.filter(|line| !line.is_empty()).map(DiskFault::parse).collect()
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let call = if mode == OpenMode::ReadWrite { DiskCall::OpenForWriting } else { DiskCall::Open };
        self.meet(call, path)?;
        Ok(self.wrap(path, self.inner.open(path, mode)?))
    }
    fn create_new(&self, path: &Path, point: CrashPoint) -> io::Result<Arc<dyn DiskFile>> {
        self.meet(DiskCall::Create, path)?;
        Ok(self.wrap(path, self.inner.create_new(path, point)?))
    }
    fn create_dir_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        if self.inner.info(path)?.is_some_and(|info| info.is_dir) {
            return Ok(());
        }
        self.meet(DiskCall::CreateDir, path)?;
        self.inner.create_dir_all(path, point)
    }
    fn rename(&self, from: &Path, to: &Path, point: CrashPoint) -> io::Result<()> {
        self.meet(DiskCall::Rename, to)?;
        self.inner.rename(from, to, point)
    }
    fn remove_file(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        self.meet(DiskCall::Remove, path)?;
        self.inner.remove_file(path, point)
    }
    fn sync_dir(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        match self.meet(DiskCall::SyncDir, path)? {
            Verdict::Lose => Ok(()),
            _ => self.inner.sync_dir(path, point),
        }
    }
    fn sync_all(&self, path: &Path, point: CrashPoint) -> io::Result<()> {
        match self.meet(DiskCall::SyncAll, path)? {
            Verdict::Lose => Ok(()),
            _ => self.inner.sync_all(path, point),
        }
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.meet(DiskCall::List, path)?;
        self.inner.read_dir(path)
    }
    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        self.meet(DiskCall::Info, path)?;
        self.inner.info(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.meet(DiskCall::Space, path)?;
        self.inner.space(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.meet(DiskCall::Lock, path)?;
        self.inner.lock(path)
    }
}

/// A file whose path is the one under which it was opened.
#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    path: String,
    plan: Arc<Plan>,
}

impl FaultyFile {
    fn meet(&self, call: DiskCall) -> io::Result<Verdict> {
        self.plan.meet(call, &self.path)
    }
    /// Notes what a write replaces, if a fault wants to serve that.
    fn note_before(&self, len: usize, offset_bytes: u64) -> io::Result<()> {
        if !self.plan.state.lock().faults.keep_before(&self.path) {
            return Ok(());
        }
        let mut old = vec![0; len];
        let mut have = 0;
        while have < len {
            match self.inner.read_at(&mut old[have..], offset_bytes + have as u64)? {
                0 => break,
                read => have += read,
            }
        }
        self.plan.state.lock().faults.note_before(&self.path, offset_bytes, old);
        Ok(())
    }
    /// Lets the file be as long as if everything had been written.
    fn extend_to(&self, end_bytes: u64) -> io::Result<()> {
        if end_bytes > 0 && self.inner.len_bytes()? < end_bytes {
            self.inner.write_at(&[0], end_bytes - 1)?;
        }
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        let verdict = self.meet(DiskCall::Read)?;
        let read = self.inner.read_at(buffer, offset_bytes)?;
        let bytes = buffer.get_mut(..read).unwrap_or_default();
        match verdict {
            Verdict::Flip => {
                if let Some(byte) = bytes.get_mut(read / 2) {
                    *byte ^= 1;
                }
            }
            Verdict::Stale => self.plan.state.lock().faults.make_stale(&self.path, offset_bytes, bytes),
            _ => {}
        }
        Ok(read)
    }
    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        let verdict = self.meet(DiskCall::Write)?;
        self.note_before(bytes.len(), offset_bytes)?;
        let (at_bytes, stored) = match verdict {
            Verdict::Lose => (offset_bytes, &[][..]),
            Verdict::Tear(unit) => {
                (offset_bytes, bytes.get(..torn(offset_bytes, bytes.len(), unit)).unwrap_or_default())
            }
            Verdict::Misdirect => (offset_bytes ^ PAGE_BYTES, bytes),
            _ => return self.inner.write_at(bytes, offset_bytes),
        };
        self.inner.write_at(stored, at_bytes)?;
        self.extend_to(offset_bytes + bytes.len() as u64)
    }
    fn sync(&self, point: CrashPoint) -> io::Result<()> {
        match self.meet(DiskCall::Sync)? {
            Verdict::Lose => Ok(()),
            _ => self.inner.sync(point),
        }
    }
    fn set_len(&self, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        self.meet(DiskCall::SetLen)?;
        self.inner.set_len(len_bytes, point)
    }
    fn allocate(&self, offset_bytes: u64, len_bytes: u64, point: CrashPoint) -> io::Result<()> {
        self.meet(DiskCall::Allocate)?;
        self.inner.allocate(offset_bytes, len_bytes, point)
    }
    fn start_writeback(&self, offset_bytes: u64, len_bytes: u64) {
        self.inner.start_writeback(offset_bytes, len_bytes);
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.meet(DiskCall::Info)?;
        self.inner.len_bytes()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let spoiled = {
            let mut state = self.plan.state.lock();
            self.plan.look(&mut state);
            state.faults.spoil_reads_of(&self.path)
        };
        if spoiled { None } else { self.inner.descriptor() }
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
