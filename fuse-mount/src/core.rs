//! What all requests share: clients, tables, deadlines.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use base::clock::{Clock, SystemClock};
use client::{Client, ErrorCode, FsError, FsResult};
use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;
use tokio::sync::MutexGuard;

use crate::behind::Behind;
use crate::config::MountConfig;
use crate::dirs::OpenDirectory;
use crate::draft::Room;
use crate::errno::Errno;
use crate::figures::Figures;
use crate::inodes::Inodes;
use crate::open_file::{Handle, OpenFile, State};
use crate::people::People;

/// Most users of one mount whose clients are kept; one more takes the place of another.
const MAX_CLIENTS: usize = 64;

/// A result as programs see it.
pub(crate) type Answer<T> = Result<T, Errno>;

/// A mount without its kernel side.
pub(crate) struct Core {
    pub(crate) config: MountConfig,
    pub(crate) people: People,
    /// Held for reading by whoever moves a directory, from before the cluster does until the inodes here say so.
    pub(crate) moves: tokio::sync::RwLock<()>,
    /// On the mount's own account.
    pub(crate) own: Client,
    clients: Mutex<BTreeMap<u32, Client>>,
    pub(crate) inodes: Mutex<Inodes>,
    /// Open files by number, and how many handles each has.
    files: Mutex<BTreeMap<u64, (Arc<OpenFile>, u64)>>,
    handles: Mutex<BTreeMap<u64, Arc<Handle>>>,
    directories: Mutex<BTreeMap<u64, Arc<OpenDirectory>>>,
    next_handle: AtomicU64,
    pub(crate) room: Arc<Room>,
    pub(crate) behind: Behind,
    pub(crate) figures: Figures,
    pub(crate) clock: SystemClock,
    /// To the kernel, once it is there.
    pub(crate) notifier: OnceLock<Notifier>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(config: MountConfig) -> FsResult<Self> {
        let own = (config.connect)(&config.user)?;
        Ok(Self {
            moves: tokio::sync::RwLock::default(),
            people: People::of_this_machine(&config.users),
            own,
            clients: Mutex::default(),
            inodes: Mutex::default(),
            files: Mutex::default(),
            handles: Mutex::default(),
            directories: Mutex::default(),
            next_handle: AtomicU64::new(1),
            room: Arc::new(Room::new(config.cache_bytes)),
            behind: Behind::default(),
            figures: Figures::default(),
            clock: SystemClock::new(),
            notifier: OnceLock::new(),
            config,
        })
    }

    /// The client of whoever made a request.
    pub(crate) fn client(&self, uid: u32) -> Answer<Client> {
        if let Some(client) = self.clients.lock().get(&uid) {
            return Ok(client.clone());
        }
        let user = self.people.user(uid);
        let client = if user == self.config.user { self.own.clone() } else { (self.config.connect)(&user)? };
        let mut clients = self.clients.lock();
        if clients.len() >= MAX_CLIENTS {
            clients.pop_first();
        }
        clients.insert(uid, client.clone());
        Ok(client)
    }

    /// A call that changes nothing, within the deadline.
    pub(crate) async fn ask<T>(&self, call: impl Future<Output = FsResult<T>>) -> FsResult<T> {
        let waited = tokio::time::timeout(self.config.deadline, call).await;
        waited.unwrap_or_else(|_elapsed| Err(FsError::new(ErrorCode::Timeout, "the cluster did not answer in time")))
    }

    /// A call that changes something, within the deadline: what is not answered by then may have happened.
    pub(crate) async fn change<T>(&self, call: impl Future<Output = FsResult<T>>) -> FsResult<T> {
        let waited = tokio::time::timeout(self.config.deadline, call).await;
        let unknown = || FsError::new(ErrorCode::OutcomeUnknown, "the cluster did not answer in time");
        waited.unwrap_or_else(|_elapsed| Err(unknown()))
    }

    /// A file's lock, within the deadline: see [`OpenFile::lock_within`].
    pub(crate) async fn lock<'a>(&self, file: &'a OpenFile) -> Answer<MutexGuard<'a, State>> {
        file.lock_within(self.config.deadline).await
    }

    /// As [`Core::lock`], of a file that may not be open: while it is held, nothing of it is committed, and a change of its
    /// name or its attributes is not lost in the middle of that.
    pub(crate) async fn hold_still<'a>(&self, file: Option<&'a OpenFile>) -> Answer<Option<MutexGuard<'a, State>>> {
        match file {
            Some(file) => self.lock(file).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits until the inodes here say where directories are that were being moved.
    pub(crate) async fn moves_are_known(&self) {
        drop(self.moves.write().await);
    }

    /// By which the namespace finds a file.
    pub(crate) fn path(&self, number: u64) -> Answer<String> {
        self.inodes.lock().path(number).ok_or(Errno::ESTALE)
    }
    /// The same of a name in a directory.
    pub(crate) fn path_in(&self, directory: u64, name: &str) -> Answer<String> {
        self.inodes.lock().path_in(directory, name).ok_or(Errno::ESTALE)
    }

    /// The kernel asks for a file's attributes when they are wanted next. It is not told anything else inside of a request: it
    /// could be waiting for that request with what it needs (SC-93).
    pub(crate) fn forget_attributes(&self, number: u64) {
        let told = self.notifier.get().map(|notifier| notifier.inval_inode(INodeNo(number), -1, 0));
        if let Some(Err(error)) = told {
            tracing::debug!("the kernel keeps the attributes of {number}: {error}");
        }
    }

    /// Wall time in ns since the Unix epoch.
    pub(crate) fn now_ns(&self) -> i64 {
        self.clock.wall_ns()
    }

    /// The open file of a number.
    pub(crate) fn file(&self, number: u64) -> Option<Arc<OpenFile>> {
        self.files.lock().get(&number).map(|(file, _)| Arc::clone(file))
    }
    /// All open files.
    pub(crate) fn files(&self) -> Vec<Arc<OpenFile>> {
        self.files.lock().values().map(|(file, _)| Arc::clone(file)).collect()
    }
    /// The open file of a number, with one more handle; `new` if nobody has it open.
    pub(crate) fn hold(&self, number: u64, new: impl FnOnce() -> OpenFile) -> Arc<OpenFile> {
        let mut files = self.files.lock();
        let (file, handles) = files.entry(number).or_insert_with(|| {
            self.inodes.lock().pin(number);
            (Arc::new(new()), 0)
        });
        *handles += 1;
        Arc::clone(file)
    }
    /// One handle less; true if it was the last.
    pub(crate) fn let_go(&self, number: u64) -> bool {
        let mut files = self.files.lock();
        let Some((_, handles)) = files.get_mut(&number) else { return true };
        *handles -= 1;
        let was_last = *handles == 0;
        if was_last {
            files.remove(&number);
            self.inodes.lock().unpin(number);
        }
        was_last
    }
    /// One handle less, unless it is the last: false then.
    pub(crate) fn let_go_of_one_of_many(&self, number: u64) -> bool {
        let mut files = self.files.lock();
        let Some((_, handles)) = files.get_mut(&number).filter(|(_, handles)| *handles > 1) else { return false };
        *handles -= 1;
        true
    }
    /// A piece of a file's content has come or gone.
    pub(crate) fn goes_on(&self, file: &OpenFile) {
        file.goes_on();
        self.behind.step();
    }

    pub(crate) fn add_handle(&self, handle: Handle) -> u64 {
        let id = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.handles.lock().insert(id, Arc::new(handle));
        id
    }
    pub(crate) fn handle(&self, id: u64) -> Answer<Arc<Handle>> {
        self.handles.lock().get(&id).cloned().ok_or(Errno::EBADF)
    }
    pub(crate) fn remove_handle(&self, id: u64) -> Option<Arc<Handle>> {
        self.handles.lock().remove(&id)
    }

    pub(crate) fn add_directory(&self, directory: OpenDirectory) -> u64 {
        let id = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.directories.lock().insert(id, Arc::new(directory));
        id
    }
    pub(crate) fn directory(&self, id: u64) -> Answer<Arc<OpenDirectory>> {
        self.directories.lock().get(&id).cloned().ok_or(Errno::EBADF)
    }
    pub(crate) fn remove_directory(&self, id: u64) {
        self.directories.lock().remove(&id);
    }
}
