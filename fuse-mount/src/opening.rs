//! Requests that open files and close them, and make durable what was written.

use std::sync::Arc;

use base::clock::Clock;
use client::{CreateOptions, ErrorCode, FileStatus, Reader};
use fuser::FileAttr;

use crate::attr::attr;
use crate::config::SyncAt;
use crate::core::{Answer, Core};
use crate::errno::Errno;
use crate::files::lose;
use crate::inodes::Version;
use crate::open_file::{Handle, How, OpenFile, State, Stream};

/// Rights of `check_access`.
const READ: u32 = 4;
const WRITE: u32 = 2;

/// What opening made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) handle: u64,
    /// The kernel's pages of the file are what the file is.
    pub(crate) keep_pages: bool,
}

impl Core {
    /// Makes a file and opens it. Without `O_EXCL` one that somebody else made meanwhile is opened.
    pub(crate) async fn create(
        &self,
        uid: u32,
        (directory, name): (u64, &str),
        (mode, umask): (u32, u32),
        flags: i32,
    ) -> Answer<(FileAttr, Opened)> {
        let (path, client) = (self.path_in(directory, name)?, self.client(uid)?);
        let mode = mode & 0o7777;
        let options = CreateOptions {
            mode: Some(mode & !umask),
            unmasked_mode: Some(mode),
            empty: true,
            publish_at_once: true,
            ..CreateOptions::default()
        };
        let writer = match self.change(client.create(&path, options)).await {
            Ok(writer) => writer,
            Err(error) if error.code == ErrorCode::AlreadyExists && flags & libc::O_EXCL == 0 => {
                let attr = self.lookup(uid, directory, name).await?;
                let opened = self.open(uid, attr.ino.0, flags).await?;
                return Ok((attr, opened));
            }
            Err(error) => return Err(error.into()),
        };
        let status = writer.status().clone();
        let number = self.inodes.lock().told(directory, name, status.inode);
        let attr = attr(number, &status, &self.people);
        let file = self.hold(number, || OpenFile::new(number, status, How::Stream(Box::new(Stream::new(writer)))));
        let handle = self.add_handle(Handle::new(file, flags));
        Ok((attr, Opened { handle, keep_pages: false }))
    }

    /// Makes an empty file.
    pub(crate) async fn make(&self, uid: u32, at: (u64, &str), modes: (u32, u32)) -> Answer<FileAttr> {
        let (attr, opened) = self.create(uid, at, modes, libc::O_WRONLY | libc::O_EXCL).await?;
        let flushed = self.flush(opened.handle).await;
        self.release(opened.handle, false).await;
        flushed.map(|()| attr)
    }

    pub(crate) async fn open(&self, uid: u32, number: u64, flags: i32) -> Answer<Opened> {
        let client = self.client(uid)?;
        let reads = flags & libc::O_ACCMODE != libc::O_WRONLY;
        // Whoever only reads may still ask for an empty file.
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        if let Some(file) = self.file(number).filter(|file| file.seen.lock().unlinked) {
            let rights = if reads { READ } else { 0 } | if writes { WRITE } else { 0 };
            if !self.permits(uid, &file.seen.lock().status, rights) {
                return Err(Errno::EACCES);
            }
            return self.open_unlinked(&file, flags).await;
        }
        // What was closed a moment ago may be on its way into the cluster, under another inode.
        drop(self.hold_still(self.file(number).as_deref()).await?);
        let path = self.path(number)?;
        if writes && !self.ask(client.check_access(&path, WRITE)).await? {
            return Err(Errno::EACCES);
        }
        let commits = self.file(number).map_or(0, |file| file.seen.lock().commits);
        let (status, reader) = if reads {
            let reader = Arc::new(self.ask(client.open(&path)).await?);
            (reader.status().clone(), Some(reader))
        } else {
            (self.ask(client.stat(&path)).await?, None)
        };
        let inode = self.inodes.lock().inode(number);
        if status.inode != inode {
            return Err(Errno::ESTALE);
        }
        let version = Version::of(&status);
        let (keep_pages, shows_another) = {
            let mut inodes = self.inodes.lock();
            (inodes.keeps_pages(number, version) && !status.open_for_write, inodes.shows_another(number, version))
        };
        if shows_another {
            self.forget_attributes(number);
        }
        let file = self.hold(number, || OpenFile::new(number, status.clone(), How::Clean(reader.clone())));
        if let Err(error) = self.renew(&file, commits, status, reader).await {
            self.let_go(number);
            return Err(error);
        }
        if flags & libc::O_TRUNC != 0
            && let Err(error) = self.set_len_of(&file, 0).await
        {
            self.let_go(number);
            return Err(error);
        }
        // Who only reads hears of nothing at close.
        if writes && let Some(lost) = self.behind.take_lost(inode) {
            file.seen.lock().late = Some(lost);
        }
        Ok(Opened { handle: self.add_handle(Handle::new(file, flags)), keep_pages })
    }

    /// By its descriptor, through /proc: it has no name.
    async fn open_unlinked(&self, file: &OpenFile, flags: i32) -> Answer<Opened> {
        let number = file.number;
        let file = self.hold(number, || OpenFile::new(number, file.seen.lock().status.clone(), How::Clean(None)));
        if flags & libc::O_TRUNC != 0
            && let Err(error) = self.set_len_of(&file, 0).await
        {
            self.let_go(number);
            return Err(error);
        }
        Ok(Opened { handle: self.add_handle(Handle::new(file, flags)), keep_pages: true })
    }

    /// A file that is opened shows what the cluster has, unless this mount has something newer.
    async fn renew(
        &self,
        file: &OpenFile,
        commits: u64,
        status: FileStatus,
        reader: Option<Arc<Reader>>,
    ) -> Answer<()> {
        let mut state = self.lock(file).await?;
        let clean = match &state.how {
            How::Clean(_) => true,
            How::Stream(_) => false,
            How::Draft(draft) => !draft.is_changed(),
        };
        if clean && !state.unlinked {
            let mut seen = file.seen.lock();
            // Committed since the cluster was asked: what it said is old.
            let old = seen.commits != commits;
            state.how = How::Clean(reader.filter(|_| !old));
            if !old {
                (seen.status, seen.local) = (status, None);
            }
        }
        Ok(())
    }

    /// A descriptor is closed.
    pub(crate) async fn flush(&self, handle: u64) -> Answer<()> {
        let handle = self.handle(handle)?;
        if !handle.writes {
            return Ok(());
        }
        if self.config.sync == SyncAt::Fsync {
            return self.flush_behind(&handle.file).await;
        }
        let mut state = self.lock(&handle.file).await?;
        // A shell that gives its descriptor to a child closes its own before anything is written.
        if let How::Stream(stream) = &state.how
            && stream.writer.written_bytes() == 0
            && state.failed.is_none()
        {
            return Ok(());
        }
        let ended = self.commit(&handle.file, &mut state).await;
        state.tell(ended)?;
        told_late(&handle.file)
    }

    /// The same where a close promises nothing: what is known to be lost is told, the rest is committed at the last close.
    async fn flush_behind(&self, file: &OpenFile) -> Answer<()> {
        // Else it is being committed.
        if let Ok(mut state) = file.state.try_lock()
            && let Some(failed) = state.failed
        {
            return state.tell(Err(failed));
        }
        told_late(file)?;
        // Where nothing goes on, it is not the close that helps.
        drop(tokio::time::timeout(self.config.deadline, self.behind.room()).await);
        Ok(())
    }

    /// What was written is durable when this returns.
    pub(crate) async fn fsync(&self, handle: u64) -> Answer<()> {
        let handle = self.handle(handle)?;
        let mut state = self.lock(&handle.file).await?;
        let ended = self.sync(&handle.file, &mut state).await;
        state.tell(ended)?;
        told_late(&handle.file)
    }

    async fn sync(&self, file: &OpenFile, state: &mut State) -> Answer<()> {
        if let Some(failed) = state.failed {
            return Err(failed);
        }
        if let How::Stream(stream) = &mut state.how {
            let synced = self.change(stream.writer.sync_data()).await;
            return synced.map_err(|error| lose(state, &error));
        }
        // The kernel lets one after the other sync a file: those who waited for one that failed are told the same.
        let begun = self.clock.now();
        if let Some((until, errno)) = state.tried
            && begun < until
        {
            return Err(errno);
        }
        let ended = self.commit(file, state).await;
        let now = self.clock.now();
        let slow = now.since(begun) >= self.config.deadline / 2;
        state.tried = ended.err().filter(|_| slow).map(|errno| (now.plus(self.config.deadline / 100), errno));
        ended
    }

    /// The last descriptor of an `open` is gone, and nobody waits for what becomes of it; `behind`: nor did its close. Errors
    /// are logged, and those that no program was told of are kept for who opens the file next.
    pub(crate) async fn release(&self, handle: u64, behind: bool) {
        let Some(handle) = self.remove_handle(handle) else { return };
        let file = &handle.file;
        file.closed();
        // Only for what is to be brought to the cluster; who waits for another's commit of the same file takes no turn.
        let waits = behind && file.state.try_lock().is_ok_and(|state| state.has_changes());
        let _turn = if waits { self.behind.turn().await } else { None };
        let mut state = file.state.lock().await;
        let changes = state.has_changes();
        let mut ended = Ok(());
        // A file that was mapped is written after its descriptor was closed.
        if handle.writes || self.is_last_handle(file.number) {
            if behind {
                Self::keep_shown_time(file, &mut state);
            }
            let known = state.failed.is_some();
            ended = self.commit(file, &mut state).await;
            if let Err(error) = ended
                && !known
            {
                let errno = self.figures.failed("release", error);
                let path = self.path(file.number).unwrap_or_default();
                tracing::error!("{path} was not committed behind its close: error {}", errno.number());
            }
        }
        if self.is_last_handle(file.number) && !state.unlinked {
            let untold = ended.err().filter(|_| !state.told).or_else(|| file.seen.lock().late.take());
            if let Some(errno) = untold {
                self.behind.lose(self.inodes.lock().inode(file.number), errno);
            }
        }
        // Before the lock is let go: who waits for it sees whether anybody has the file.
        self.let_go(file.number);
        drop(state);
        if changes {
            self.behind.end();
        }
    }
}

/// Whoever opened a file after bytes of it were lost is told once.
fn told_late(file: &OpenFile) -> Answer<()> {
    file.seen.lock().late.take().map_or(Ok(()), Err)
}
